"""What is known so far: answers by question, and why the rest has none."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from kmsdiag.model.answer import Answer
from kmsdiag.model.request import Request
from kmsdiag.model.target import Target

A = TypeVar("A", bound=Answer)


class Missing(LookupError):
    """A check judged a question that has no answer. The engine turns this into ``not_assessed``."""

    def __init__(self, request: Request[Answer], reason: str) -> None:
        super().__init__(f"{request}: {reason}")
        self.request = request
        self.reason = reason


class Evidence:
    """Read-only view for checks and paths; the engine fills ``facts`` and ``unanswered`` from outside.

    ``seen[request]`` is the answer, typed, and raises :class:`Missing` where there is none;
    ``seen.get(request)`` is None instead.
    """

    __slots__ = ("_facts", "_unanswered", "target")

    def __init__(
        self,
        target: Target,
        facts: Mapping[Request[Any], Answer] | None = None,
        unanswered: Mapping[Request[Any], str] | None = None,
    ) -> None:
        self.target = target
        self._facts: Mapping[Request[Any], Answer] = {} if facts is None else facts
        self._unanswered: Mapping[Request[Any], str] = {} if unanswered is None else unanswered

    def __getitem__(self, request: Request[A]) -> A:
        answer = self._facts.get(request)
        if answer is None:
            raise Missing(request, self._unanswered.get(request, "never asked"))
        return cast("A", answer)

    def get(self, request: Request[A]) -> A | None:
        """The answer, or None while there is none."""
        return cast("A | None", self._facts.get(request))

    @property
    def facts(self) -> Mapping[Request[Any], Answer]:
        """All answers."""
        return self._facts

    @property
    def unanswered(self) -> Mapping[Request[Any], str]:
        """All questions that were put, or should have been, and have no answer."""
        return self._unanswered
