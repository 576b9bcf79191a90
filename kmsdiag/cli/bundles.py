"""From what files hold to a bundle that can be judged: what analyze, capture and check --capture have in common."""

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from kmsdiag.bundle import Bundle
    from kmsdiag.capture.scan import Analysis
    from kmsdiag.model.answer import Answer
    from kmsdiag.model.report import Vantage
    from kmsdiag.model.target import Selection, Target
    from kmsdiag.registry import Registry


class Addition(NamedTuple):
    """Evidence from files: answers, and the fields of the target that name the files."""

    answers: "Mapping[Any, Answer]"
    fields: Mapping[str, Any]
    interrupted: bool = False


def from_captures(analysis: "Analysis", selection: "Selection") -> Addition:
    """What captures, or logs of other programs about connections, show."""
    from kmsdiag.model.request import Captures

    request = Captures(files=analysis.captures, selection=selection)
    return Addition({request: analysis.answer}, {"captures": analysis.captures}, analysis.interrupted)


def as_bundle(
    additions: Sequence[Addition],
    target: "Target",
    registry: "Registry",
    vantage: "Vantage",
    *,
    base: "Bundle | None" = None,
) -> "Bundle":
    """The files as evidence of a run: of their own, or of ``base``, whose question they widen."""
    import msgspec

    from kmsdiag.bundle import BUNDLE_FORMAT, Bundle, make_facts
    from kmsdiag.model.target import SubjectKind
    from kmsdiag.version import VERSION

    answers = {request: answer for one in additions for request, answer in one.answers.items()}
    fields = {name: value for one in additions for name, value in one.fields.items()}
    interrupted = any(one.interrupted for one in additions)
    if base is None:
        started, ended = _span(list(answers.values()))
        return Bundle(
            kmsdiag_bundle=BUNDLE_FORMAT,
            tool=VERSION,
            vantage=vantage,
            target=msgspec.structs.replace(target, **fields),
            checks=tuple(check.id for check in registry.checks),
            started=started,
            ended=ended,
            facts=make_facts(answers),
            interrupted=interrupted,
        )
    widened = msgspec.structs.replace(base.target, **fields, selection=target.selection)
    about_files = (
        check.id
        for check in registry.checks
        if any(one.kind in (SubjectKind.CAPTURES, SubjectKind.FILES) for one in check.module.subjects(widened))
    )
    return msgspec.structs.replace(
        base,
        target=widened,
        checks=tuple(dict.fromkeys((*base.checks, *about_files))),
        facts=make_facts({**base.answers(), **answers}),
        interrupted=base.interrupted or interrupted,
    )


def _span(answers: "Sequence[Answer]") -> tuple[datetime.datetime, datetime.datetime]:
    """First and last time that the files know; the epoch where they know none."""
    epoch = datetime.datetime.fromtimestamp(0, datetime.UTC)
    known = [one for one in answers if one.at > epoch] or list(answers)
    started = min(one.at for one in known)
    return started, max(one.at + datetime.timedelta(milliseconds=one.elapsed_ms) for one in known)


def files_vantage(*, live: bool = False) -> "Vantage":
    """Where captures come from: this machine where it recorded them, else nobody knows."""
    from kmsdiag.model.report import FILES, Vantage

    if not live:
        return Vantage(label=FILES)
    from kmsdiag import api

    return api.here()
