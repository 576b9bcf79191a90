"""The parts of a report that an audit adds: requirements, proposed records, commands. Rows for text and Markdown."""

from collections import Counter
from typing import NamedTuple

from kmsdiag.model.audit import DomainShift, Effect, Requirement, RequirementState, WaiverUse, WaiverView, WhatIf
from kmsdiag.model.report import Report

MARKS = {
    RequirementState.PASS: ("✔", "pass"),
    RequirementState.FAIL: ("✖", "FAIL"),
    RequirementState.NOT_KNOWN: ("?", "not known"),
}
"""Symbol and word for each state of a requirement."""

STYLES = {RequirementState.PASS: "ok", RequirementState.FAIL: "error", RequirementState.NOT_KNOWN: "not_assessed"}

_ORDER = [RequirementState.FAIL, RequirementState.NOT_KNOWN, RequirementState.PASS]
_EFFECT = {True: "better", False: "worse", None: "changed"}


class Row(NamedTuple):
    """One requirement in the table."""

    requirement: Requirement
    mark: str
    what: str
    why: str


def requirement_rows(report: Report) -> list[Row]:
    """Requirements, failed ones first; what is waived after what counts."""
    requirements = () if report.audit is None else report.audit.requirements
    ordered = sorted(requirements, key=lambda one: (_ORDER.index(one.state), bool(one.waived)))
    rows = []
    for one in ordered:
        symbol, word = MARKS[one.state]
        why = "; ".join(part for part in (one.waived, one.why) if part)
        rows.append(Row(one, f"{symbol} {word}" + (" (waived)" if one.waived else ""), one.what, why))
    return rows


def requirement_counts(report: Report) -> str:
    """How many requirements are in which state, in words."""
    requirements = () if report.audit is None else report.audit.requirements
    counts = Counter(one.state for one in requirements)
    waived = sum(bool(one.waived) for one in requirements)
    words = f"{counts[RequirementState.PASS]} of {len(requirements)} requirements met"
    for state, text in ((RequirementState.FAIL, "failed"), (RequirementState.NOT_KNOWN, "not known")):
        if counts[state]:
            words += f", {counts[state]} {text}"
    return words + (f" ({waived} waived)" if waived else "")


def waiver_words(waiver: WaiverView) -> str:
    """A waiver and what became of it."""
    what = f"{waiver.code} about {waiver.about}" if waiver.about else waiver.code
    fate = {
        WaiverUse.USED: f"waived until {waiver.until}",
        WaiverUse.NOT_NEEDED: f"not needed (until {waiver.until}): nothing is waived by it",
        WaiverUse.EXPIRED: f"expired on {waiver.until}: it counts again",
    }[waiver.use]
    return f"{what}: {fate} ({waiver.reason})"


SHARE_HEADERS = (
    "host",
    "first picks now",
    "then",
    "Vista/2008 now",
    "then",
    "Windows now",
    "then",
    "Office now",
    "then",
)
"""Headers of the table of shares; Windows and Office are planned machines in the host's count."""


def share_rows(shift: DomainShift) -> list[list[str]]:
    """One line a host: its part of first picks by Windows generation, and planned machines, now and then."""
    before = {share.host: share for share in shift.before}
    after = {share.host: share for share in shift.after}
    rows = []
    for host in dict.fromkeys((*before, *after)):
        old, new = before.get(host), after.get(host)
        row = [host]
        for field in ("ranked", "random"):
            row += ["–" if one is None else f"{getattr(one, field):.0%}" for one in (old, new)]
        for field in ("windows", "office"):
            row += ["" if one is None or (count := getattr(one, field)) is None else str(count) for one in (old, new)]
        rows.append(row)
    return rows


def shift_lines(shift: DomainShift) -> list[tuple[str, str]]:
    """Who moves and who stays, each with its label."""
    lines = [("moves", _moves(shift))] if shift.after else []
    published = {share.host for share in shift.after}
    kept = [share.host for share in shift.before if share.host in published]
    if kept:
        lines.append(
            ("stays", f"a client that keeps a host which stays published ({', '.join(kept)}) goes on using it")
        )
    for removed in shift.removed:
        fate = {
            True: "it answers now, so they stay there until it is switched off, and then ask DNS anew",
            False: "it does not answer now, so they ask DNS anew at their next attempt (2 h, 7 days once activated)",
            None: "whether it answers is not known; they stay there while it does",
        }[removed.answers]
        lines.append(("stays", f"clients that keep {removed.host}, which is published no more: {fate}"))
    lines.append(("stays", "clients whose host is set by hand (slmgr /skms, ospp /sethst, policy) ask no DNS"))
    if not shift.after:
        lines.append(("lost", "no host is published any more: new clients find none and show 0x8007232B"))
    return lines


def _moves(shift: DomainShift) -> str:
    words = f"clients that keep no host yet: {shift.moves:.0%} of first picks go to another host"
    if abs(shift.moves - shift.moves_random) > 0.005:
        words += f" ({shift.moves_random:.0%} on Vista and Server 2008, which ignore priority and weight)"
    if not shift.before:
        return "clients that keep no host yet: all, for none is published now"
    return f"{words}, at the latest {shift.ttl} s after the change, when DNS caches let go of the old records"


def effect_words(effect: Effect) -> tuple[str, str]:
    """Whether it is better, and what it is."""
    return _EFFECT[effect.better], effect.what


def what_if_headline(what_if: WhatIf) -> str:
    """One line that says what this report is about."""
    count = f"{len(what_if.records)} proposed record" + ("" if len(what_if.records) == 1 else "s")
    return f"{count}, judged as if in place; nothing was changed"
