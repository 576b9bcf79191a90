"""Many reports in one picture: vantage × host × stage, and the smallest common cause of what fails."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kmsdiag import discovery
from kmsdiag.common_cause import ABSENCE, ABSENT, Found, Sightings, Suspect, Trouble, Way
from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.knowledge.common_causes import ASKED, TEXTS
from kmsdiag.model.audit import RequirementState
from kmsdiag.model.capture import Channel
from kmsdiag.model.finding import Args, Scalar, Severity
from kmsdiag.model.merged import (
    MERGED_FORMAT,
    CauseKind,
    CommonCause,
    Merged,
    Outcome,
    StageCell,
    VantageView,
    WayView,
)
from kmsdiag.model.outcome import ConversationOutcome, Stage, State
from kmsdiag.model.path import ClientCode, Path, PathState, VerdictState
from kmsdiag.model.report import FILES, Report
from kmsdiag.model.target import SYSTEM, TargetError, join_host_port, parse_server
from kmsdiag.observed import CODES
from kmsdiag.path import NOWHERE
from kmsdiag.report.words import fill, fill_fixes
from kmsdiag.version import VERSION

MOST_NAMES: Final = 4
"""Names in a sentence; the fields of the picture have them all."""

FAR_APART_H: Final = 24.0
"""Hours between the first and the last run from which on a note says so: records may have changed meanwhile."""

_Cells = tuple[StageCell, ...]


class Merger:
    """Takes reports one by one and keeps only what the picture needs."""

    def __init__(self) -> None:
        self._vantages: list[VantageView] = []
        self._labels: set[str] = set()
        self._notes: list[str] = []
        self._sightings = Sightings()
        self._ways: dict[Way, dict[tuple[PathState, _Cells], list[int]]] = {}
        self._seen: set[tuple[Way, int]] = set()
        self._cells: dict[_Cells, _Cells] = {}

    def add(self, report: Report, source: str) -> None:
        """One more place. ``source`` names its file."""
        number = len(self._vantages)
        severities = Counter(finding.severity for result in report.results for finding in result.findings)
        view = VantageView(
            label=self._label(_stem(source) if report.vantage.label == FILES else report.vantage.label, source),
            source=source,
            state=report.verdict.state,
            headline=report.verdict.headline,
            remark=next((one.text for one in report.verdict.remarks if one.severity == Severity.ERROR), ""),
            host=report.vantage.host,
            addresses=report.vantage.addresses,
            servers=_servers(report),
            started=report.started,
            tool=report.tool,
            errors=severities[Severity.ERROR],
            warnings=severities[Severity.WARNING],
            worst=max((*severities, *_failed(report)), key=lambda severity: severity.rank, default=Severity.OK),
        )
        self._vantages.append(view)
        if report.interrupted:
            self._notes.append(f"{view.label}: the run was interrupted; what it did not ask is not known")
        if report.verdict.state is VerdictState.UNKNOWN:
            self._notes.append(f"{view.label}: nothing was tested to its end there; that is no data, not health")
        self._sightings.add(number, report)
        grouped: dict[Way, list[Path]] = {}
        for path in report.paths:
            grouped.setdefault(path.key, []).append(path)
        for way, paths in grouped.items():
            state = min((path.state for path in paths), key=_GRAVEST.index)
            cells = tuple(cell for path in paths for cell in _cells(path))
            # Most places see the same: one copy of it is enough.
            self._see(way, state, self._cells.setdefault(cells, cells), number)

    def miss(self, source: str, problem: str) -> None:
        """A place whose file tells nothing: no data. ``problem`` is one line that says why."""
        label = self._label(_stem(source), source)
        self._vantages.append(VantageView(label=label, source=source, state=VerdictState.UNKNOWN, problem=problem))

    def picture(self) -> Merged:
        """Everything that was added, in one picture."""
        causes = tuple(self._cause(found) for found in self._sightings.causes())
        for way, vantage, servers, usable in self._sightings.absences():
            # Which server leaves out a host that works nowhere is nobody's concern.
            absent = (
                StageCell(Stage.SRV, State.FAIL, "not named", ", ".join(sorted(servers)))
                if usable
                else StageCell(Stage.SRV, State.UNKNOWN, "not named")
            )
            if (way, vantage) not in self._seen:
                self._see(way, PathState.FAIL if usable else PathState.UNKNOWN, (absent,), vantage)
        state = _state([view.state for view in self._vantages])
        return Merged(
            kmsdiag_merged=MERGED_FORMAT,
            tool=VERSION,
            state=state,
            headline=self._headline(causes),
            causes=causes,
            vantages=tuple(self._vantages),
            ways=tuple(self._way(way) for way in sorted(self._ways)),
            notes=(*self._notes, *self._differences(), *self._spread()),
        )

    def _see(self, way: Way, state: PathState, cells: _Cells, vantage: int) -> None:
        self._ways.setdefault(way, {}).setdefault((state, cells), []).append(vantage)
        self._seen.add((way, vantage))

    def _label(self, wanted: str, source: str) -> str:
        label, number = wanted, 1
        while label in self._labels:
            number += 1
            label = f"{wanted}#{number}"
        if number > 1:
            self._notes.append(f"the label {wanted} is given more than once; {label} is {source}")
        self._labels.add(label)
        return label

    def _names(self, vantages: Iterable[int]) -> tuple[str, ...]:
        return tuple(self._vantages[vantage].label for vantage in vantages)

    def _way(self, way: Way) -> WayView:
        seen = self._ways[way]
        outcomes = tuple(
            Outcome(state=state, stages=cells, vantages=self._names(sorted(numbers)))
            for (state, cells), numbers in sorted(
                seen.items(), key=lambda item: (_GRAVEST.index(item[0][0]), min(item[1]))
            )
        )
        known = {vantage for numbers in seen.values() for vantage in numbers}
        domain, target, port = way
        return WayView(
            domain=domain, target=target, port=port, outcomes=outcomes, not_known=len(self._vantages) - len(known)
        )

    def _headline(self, causes: Sequence[CommonCause]) -> str:
        states = Counter(view.state for view in self._vantages)
        total = len(self._vantages)
        words = [f"{states[VerdictState.HEALTHY]} of {total} {'place' if total == 1 else 'places'} healthy"]
        words += [
            f"{states[state]} {name}"
            for state, name in (
                (VerdictState.DEGRADED, "degraded"),
                (VerdictState.BROKEN, "broken"),
                (VerdictState.UNKNOWN, "without data"),
            )
            if states[state]
        ]
        text = ", ".join(words)
        if causes:
            text += f"; {len(causes)} common {'cause' if len(causes) == 1 else 'causes'}"
        return f"{text}."

    def _differences(self) -> list[str]:
        notes = []
        for way, lacking in sorted(self._sightings.differences().items()):
            servers = sorted(frozenset().union(*lacking.values()))
            notes.append(
                f"{way[0]}: {_host(way)} works and is not named by {_shorten(servers)}"
                f" ({_shorten(self._names(sorted(lacking)))}, where all else works)"
            )
        return notes

    def _spread(self) -> list[str]:
        times = [view.started for view in self._vantages if view.started is not None]
        if not times or (hours := (max(times) - min(times)).total_seconds() / 3600) <= FAR_APART_H:
            return []
        return [f"the runs lie {hours:.0f} h apart; what changed meanwhile looks like a difference between places"]

    def _cause(self, found: Found) -> CommonCause:
        kind = found.suspect.kind
        first = found.troubles[0]
        vantages = self._names(sorted({trouble.vantage for trouble in found.troubles}))
        works_at = self._names(found.works_at)
        text = (ASKED if kind in ASKED and _answers(found) else TEXTS)[kind]
        args = {
            "name": self._name(found.suspect),
            "place": self._place(found.suspect),
            "what": _shorten(_what(found), 3, "; "),
            "how": _how(found),
            "who": _who(len(vantages)),
            "vantages": _shorten(vantages),
            "contrast": self._contrast(found, works_at),
            **_command_args(found),
        }
        return CommonCause(
            kind=kind,
            name=self._name(found.suspect),
            stage=first.stage,
            headline=fill(text.headline, args),
            text=fill(text.text, args).rstrip(),
            vantages=vantages,
            works_at=works_at,
            instead=tuple(f"{suspect.kind} {self._name(suspect)}" for suspect in found.instead),
            screen=_screen(found.troubles),
            fixes=fill_fixes(text.fixes, args),
        )

    def _name(self, suspect: Suspect) -> str:
        return self._vantages[int(suspect.name)].label if suspect.kind is CauseKind.VANTAGE else suspect.name

    def _place(self, suspect: Suspect) -> str:
        if suspect.kind is not CauseKind.VANTAGE:
            return suspect.name
        view = self._vantages[int(suspect.name)]
        return f"{view.label} ({', '.join(view.addresses)})" if view.addresses else view.label

    def _contrast(self, found: Found, works_at: Sequence[str]) -> str:
        if not works_at:
            words = "No place is known where it works."
            if any(trouble.partly for trouble in found.troubles):
                words = "Other clients there do not have it."
            if found.suspect.kind is CauseKind.SERVER and found.troubles[0].stage is not Stage.SRV:
                words = "No other server names that host."
        elif found.suspect.kind is CauseKind.SERVER:
            words = f"Places that use another one do not have it: {_shorten(works_at)}."
        else:
            words = f"The same works from {_shorten(works_at)}."
        if found.instead:
            names = " or ".join(f"{suspect.kind} {self._name(suspect)}" for suspect in found.instead[:2])
            words += f" It may be {names} instead: what was seen fits that as well."
        return words


_GRAVEST = [PathState.FAIL, PathState.PARTIAL, PathState.UNKNOWN, PathState.OK]


def _state(states: Sequence[VerdictState]) -> VerdictState:
    """Healthy only where every place is; a place without data is never taken for a healthy one."""
    breaks = {VerdictState.BROKEN, VerdictState.DEGRADED} & set(states)
    works = {VerdictState.HEALTHY, VerdictState.DEGRADED} & set(states)
    if breaks:
        return VerdictState.DEGRADED if works else VerdictState.BROKEN
    return VerdictState.HEALTHY if works and VerdictState.UNKNOWN not in states else VerdictState.UNKNOWN


def _failed(report: Report) -> Iterator[Severity]:
    """What the failed requirements of an audit are worth."""
    for one in report.audit.requirements if report.audit is not None else ():
        if one.state is RequirementState.FAIL and not one.waived:
            yield one.severity


def _stem(source: str) -> str:
    """The name of a file without folder and ending."""
    name = source.replace("\\", "/").rpartition("/")[2]
    return name.rpartition(".")[0] or name


def _servers(report: Report) -> tuple[str, ...]:
    """The DNS servers that were asked, the machine's own in place of ``system``, then those of captured clients."""
    own = report.target.resolvers or report.vantage.resolvers
    asked = [one for server in report.target.servers for one in (own if server == SYSTEM else (server,))]
    if report.captures is not None:
        asked += [lookup.server for lookup in report.captures.lookups if lookup.channel is Channel.DNS]
    return tuple(dict.fromkeys(asked))


def _cells(path: Path) -> _Cells:
    """The stages of a path, one after the other: those of an address with it, failures of DNS with the server."""
    dns = (
        StageCell(
            stage.stage,
            stage.state,
            stage.note,
            "" if stage.state is State.OK else stage.server or ", ".join(path.servers),
        )
        for stage in path.stages
    )
    hosts = (
        StageCell(stage.stage, stage.state, stage.note, route.address)
        for route in path.routes
        for stage in route.stages
    )
    return (*dns, *hosts)


def _host(way: Way) -> str:
    _domain, target, port = way
    return join_host_port(target, port)


def _answers(found: Found) -> bool:
    """Whether all the trouble comes after the bind."""
    return all(trouble.stage in (Stage.REQUEST, Stage.ANSWER) for trouble in found.troubles)


def _how(found: Found) -> str:
    """What is wrong with a host."""
    if any(trouble.partly for trouble in found.troubles):
        return "works for some of its clients only"
    return "is reached and activates nobody" if _answers(found) else "works from nowhere"


def _who(count: int) -> str:
    return {1: "The one place", 2: "Both places"}.get(count, f"All {count} places")


def _screen(troubles: Iterable[Trouble]) -> ClientCode | None:
    """What a client there shows for the first failure that has a code of its own."""
    for trouble in troubles:
        code = f"{trouble.stage}.{trouble.outcome}"
        if trouble.stage is Stage.NAME:
            code = "name.no_address" if trouble.outcome in ABSENCE else "name.lookup_failed"
        elif code not in CAUSES and trouble.outcome in set(ConversationOutcome):
            code = CODES.get(ConversationOutcome(trouble.outcome), code)
        if code in CAUSES and CAUSES[code].screen is not None:
            return CAUSES[code].screen
    return None


def _shorten(names: Sequence[str], most: int = MOST_NAMES, joint: str = ", ") -> str:
    text = joint.join(names[:most])
    return f"{text} and {len(names) - most} more" if len(names) > most else text


def _what(found: Found) -> list[str]:
    """What fails and how, what DNS leaves out first, then the most frequent."""
    words = _of_server if found.suspect.kind is CauseKind.SERVER else _of_host
    counted = Counter((trouble.outcome != ABSENT, words(trouble)) for trouble in found.troubles)
    return [text for (_late, text), _count in sorted(counted.items(), key=lambda item: (item[0][0], -item[1], item[0]))]


def _of_host(trouble: Trouble) -> str:
    domain, target, _port = trouble.way
    how = trouble.note or trouble.outcome
    if target == NOWHERE:
        return f"the SRV question for {domain} fails ({how})"
    if trouble.outcome == ABSENT:
        return f"{_host(trouble.way)} is not named"
    if trouble.stage is Stage.NAME:
        return f"{_host(trouble.way)} has no address ({how})"
    return f"{_named(trouble)} fails at {trouble.stage} ({how})"


def _of_server(trouble: Trouble) -> str:
    domain, target, _port = trouble.way
    how = trouble.note or trouble.outcome
    if target == NOWHERE:
        return f"fails the SRV question for {domain} ({how})"
    if trouble.outcome == ABSENT:
        return f"does not name {_host(trouble.way)}, which works elsewhere"
    if trouble.stage is Stage.NAME:
        return f"has no address of {_host(trouble.way)} ({how})"
    return f"leads to {_named(trouble)}, which fails at {trouble.stage} ({how})"


def _named(trouble: Trouble) -> str:
    """A host with the address at which it was met, unless that is its name."""
    return _host(trouble.way) + (f" ({trouble.address})" if trouble.address != trouble.way[1] else "")


def _command_args(found: Found) -> Args:
    """Values for the commands; a fix that needs one that is not there is left out."""
    kind = found.suspect.kind
    args: dict[str, Scalar] = {}
    in_dns = [one for one in found.troubles if one.way[0] != NOWHERE]
    if kind is not CauseKind.SERVER:
        in_dns = [one for one in in_dns if one.stage in (Stage.SRV, Stage.NAME)]
    if in_dns:
        domain = in_dns[0].way[0]
        args["query"] = f"_vlmcs._tcp.{domain}"
        if any(one.way[1] != NOWHERE for one in in_dns):
            args["zone"] = domain
    reached = next((one.way for one in found.troubles if one.stage not in (Stage.SRV, Stage.NAME)), None)
    if reached is not None:
        args.update(target=reached[1], port=reached[2])
    if kind is CauseKind.SERVER:
        args.update(_at(found.suspect.name))
    if kind is CauseKind.DOMAIN:
        if any(one.outcome in ABSENCE for one in found.troubles):
            args["lacking"] = found.suspect.name
        failing = [server for one in found.troubles if one.outcome not in ABSENCE for server in one.servers]
        args.update(_at(min(failing, default="")))
    return args


def _at(server: str) -> dict[str, Scalar]:
    """A server as dig takes it; nothing where it is none, as in a report that was not written by kmsdiag."""
    with contextlib.suppress(TargetError):
        return {"at": discovery.at(parse_server(server))}
    return {}
