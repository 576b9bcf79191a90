"""What many machines have in common, as one finding: who, which products, from when to when.

A run may have the files of thousands of machines. A check says each thing once, with the machines that it is true of.
"""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kmsdiag.collected import Machine
from kmsdiag.model.finding import Finding, Scalar
from kmsdiag.model.request import Request

_EXAMPLES = 3
_HOUR, _DAY = 60, 24 * 60


def who(machines: Sequence[Machine]) -> str:
    """Machines as a reader wants them: "pc1", "2 machines (pc1, pc2)", "90 machines (pc1, pc2, pc3 and 87 more)"."""
    if len(machines) == 1:
        return machines[0].label
    names = ", ".join(machine.name for machine in machines[:_EXAMPLES])
    more = f" and {len(machines) - _EXAMPLES:,} more" if len(machines) > _EXAMPLES else ""
    assumed = "; names assumed" if any(machine.named_by.assumed for machine in machines) else ""
    return f"{len(machines):,} machines ({names}{more}{assumed})"


def some(words: Iterable[str]) -> tuple[str, ...]:
    """The first few of a list, sorted, each once, and how many more there are."""
    found = sorted({word for word in words if word})
    more = (f"{len(found) - _EXAMPLES:,} more",) if len(found) > _EXAMPLES else ()
    return (*found[:_EXAMPLES], *more)


def span(minutes: int) -> str:
    """Minutes in the unit that matters: "90 minutes", "36 hours", "178 days"; 0 is not known."""
    if not minutes:
        return "an unknown time"
    if minutes < 2 * _HOUR:
        return f"{minutes} minute" + ("" if minutes == 1 else "s")
    return f"{minutes // _HOUR} hours" if minutes < 2 * _DAY else f"{minutes // _DAY:,} days"


def _spans(values: Iterable[int]) -> str:
    known = sorted(value for value in values if value)
    if not known:
        return span(0)
    least, most = span(known[0]), span(known[-1])
    number, _space, unit = least.partition(" ")
    if least == most:
        return least
    return f"{number if most.endswith(f' {unit}') else least} to {most}"


def _until(values: Iterable[datetime.datetime | None]) -> str:
    known = sorted({f"{value:%Y-%m-%d}" for value in values if value is not None})
    if not known:
        return ""
    return f" (until {known[0]})" if len(known) == 1 else f" (until {known[0]} to {known[-1]})"


class _Group:
    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.because: dict[Request[Any], None] = {}
        self.listed: dict[str, list[str]] = {}
        self.minutes: dict[str, list[int]] = {}
        self.until: dict[str, list[datetime.datetime | None]] = {}

    def args(self) -> dict[str, Scalar | tuple[str, ...]]:
        """The values of which each machine has its own, in words for all."""
        return {
            "who": who(tuple(self.machines.values())),
            # Names of products have commas of their own.
            **{name: "; ".join(some(words)) for name, words in self.listed.items()},
            **{name: _spans(values) for name, values in self.minutes.items()},
            **{name: _until(values) for name, values in self.until.items()},
        }


class Groups:
    """Findings in the making: machines with the same code and the same values are one finding."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, tuple[tuple[str, Scalar | tuple[str, ...]], ...]], _Group] = {}

    def add(
        self,
        code: str,
        machine: Machine,
        because: Iterable[Request[Any]],
        /,
        *,
        listed: Mapping[str, str] | None = None,
        minutes: Mapping[str, int] | None = None,
        until: Mapping[str, datetime.datetime | None] | None = None,
        **args: Scalar | tuple[str, ...],
    ) -> None:
        """Say something of one machine.

        ``args`` are the same for all of a group. Of ``listed`` texts a finding has the first few, of ``minutes`` and
        ``until`` the least and the most; a date is " (until 2026-01-05)", or "" where none is known.
        """
        group = self._groups.setdefault((code, tuple(sorted(args.items()))), _Group())
        group.machines[machine.name.lower()] = machine
        group.because.update(dict.fromkeys(because))
        for name, word in (listed or {}).items():
            group.listed.setdefault(name, []).append(word)
        for name, number in (minutes or {}).items():
            group.minutes.setdefault(name, []).append(number)
        for name, date in (until or {}).items():
            group.until.setdefault(name, []).append(date)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def findings(self) -> Iterator[Finding]:
        """One finding a group, by code and values."""
        for (code, args), group in sorted(self._groups.items(), key=lambda item: (item[0][0], str(item[0][1]))):
            yield Finding(code=code, args={**dict(args), **group.args()}, because=tuple(group.because))
