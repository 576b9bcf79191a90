"""What became of requests, by the logs of both sides.

What it looks at: the last request of each product of a client (12288, 12289), and what the hosts logged of the same
one (12290), found by client machine ID and the client's own time, which both events carry. A client without a log of
its own is followed by the ID in its slmgr output.
Why it matters: one log alone can't tell a request that was lost on the way from an answer that was lost on the way
back, and these have different causes.
What to do: collect both logs of the same time; then look where the two stop to agree.
"""

from collections.abc import Iterator

from kmsdiag import captured, collected, correlation
from kmsdiag.captured import who
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, event_logs, say
from kmsdiag.knowledge import codes
from kmsdiag.model.correlation import Correlation, Fate
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding, Scalar
from kmsdiag.model.outcome import State
from kmsdiag.model.request import Request
from kmsdiag.model.target import KMS_PORT, Subject, TargetError, parse_host

_PORT = Fix(Where.CLIENT, "test the path from a client", "Test-NetConnection {target} -Port {port}")
_HOST_LOG = Fix(
    Where.KMS_HOST,
    "collect the host's log as well",
    "wevtutil epl 'Key Management Service' kms.evtx",
)

META = CheckMeta(
    title="Client and host side by side",
    codes={
        "succeeded": Code(Severity.OK, "Activated: {clients}."),
        "since": Code(
            Severity.INFO,
            "{clients}: in the logs the last attempt failed ({ends}); by their own files they were activated after it.",
        ),
        "lost_there": Code(
            Severity.ERROR,
            "Requests of {clients} to {hosts} are not in the host's log of that time.",
            "They are lost on the way: it is blocked or leads to a stale address, something takes the connection and"
            " passes nothing on, or another machine answers there.",
            (_PORT,),
        ),
        "lost_back": Code(
            Severity.ERROR,
            "{hosts} processed the requests of {clients}, and no answer is in their logs.",
            "The answer is lost on the way back, or the client did not accept it.",
            (_PORT,),
        ),
        "refused": Code(
            Severity.ERROR,
            "{hosts} refused {clients} with {code}: {meaning}.",
            "The way is fine; the host's key, its clock or its state is the reason.",
            (Fix(Where.KMS_HOST, "see its keys and counts", "slmgr /dlv all"),),
        ),
        "count_too_low": Code(
            Severity.ERROR,
            "{hosts} answered {clients} with a count that is too low.",
            "Both sides did their part; more machines have to ask that host.",
            (Fix(Where.KMS_HOST, "see the count", "slmgr /dlv"),),
        ),
        "not_activated": Code(
            Severity.ERROR, "{hosts} answered {clients}, and they are not activated: {code} ({meaning})."
        ),
        "no_host": Code(Severity.ERROR, "{clients} found no host to ask: {code} ({meaning})."),
        "one_sided": Code(
            Severity.WARNING,
            "{clients} got no answer from {hosts}; which way it was lost, the host's log of that time would tell.",
            "That log was not given, or does not surely hold that time.",
            (_HOST_LOG,),
        ),
        "answered": Code(
            Severity.NOT_ASSESSED, "{hosts} answered {clients} with success; whether it arrived, only their logs tell."
        ),
        "open": Code(Severity.NOT_ASSESSED, "The logs of {clients} end right after the last request."),
        "nothing": Code(
            Severity.NOT_ASSESSED, "No request can be followed: there is no log of a client, and no ID that a host saw."
        ),
    },
    tags=frozenset({"events", "client", "host", "path"}),
    since="0.1",
    references=("Microsoft: Guidelines for troubleshooting KMS", "Microsoft: Windows event log, table 11"),
)

_CODES = {
    Fate.SUCCEEDED: "succeeded",
    Fate.LOST_THERE: "lost_there",
    Fate.LOST_BACK: "lost_back",
    Fate.REFUSED: "refused",
    Fate.COUNT_TOO_LOW: "count_too_low",
    Fate.NOT_ACTIVATED: "not_activated",
    Fate.NO_HOST: "no_host",
    Fate.NOT_REACHED: "one_sided",
    Fate.ANSWERED: "answered",
    Fate.OPEN: "open",
}
_WITH_CODE = (Fate.REFUSED, Fate.NOT_ACTIVATED, Fate.NO_HOST)
_WITHOUT_HOST = (Fate.SUCCEEDED, Fate.NO_HOST, Fate.OPEN)

subjects = event_logs


def ask(_subject: Subject, seen: Evidence) -> Iterator[Request]:  # type: ignore[type-arg]
    """The logs; status files for clients without one; captures for how the same clients ended there."""
    yield collected.logs(seen.target)
    yield from collected.questions(seen.target)
    if seen.target.captures:
        yield captured.request(seen.target)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a fate and code."""
    question = collected.logs(seen.target)
    answer = seen[question]
    machines = collected.machines(seen)
    captures = seen[captured.request(seen.target)] if seen.target.captures else None
    rows = correlation.rows(machines, answer, captures)
    because: tuple[Request, ...] = (question, *collected.questions(seen.target))  # type: ignore[type-arg]
    groups: dict[tuple[Fate, str], list[Correlation]] = {}
    later = [row for row in rows if _is_overtaken(row)]
    if later:
        ends = tuple(sorted({row.fate.words for row in later}))
        yield say("since", because, clients=who(list(dict.fromkeys(row.client for row in later))), ends=ends)
    for row in rows:
        if _is_overtaken(row):
            continue
        code = (row.hresult if codes.is_failure(row.hresult) else row.host_hresult) if row.fate in _WITH_CODE else ""
        groups.setdefault((row.fate, code), []).append(row)
    for (fate, code), own in sorted(groups.items()):
        clients = list(dict.fromkeys(row.client or "a client without a name" for row in own))
        args: dict[str, Scalar | tuple[str, ...]] = {"clients": who(clients)}
        if fate not in _WITHOUT_HOST:
            hosts = sorted({row.host for row in own if row.host})
            args["hosts"] = tuple(hosts) or ("a host",)
            if fate in (Fate.LOST_THERE, Fate.LOST_BACK):
                args.update(_target(hosts[0]))
        if fate in _WITH_CODE:
            args.update(code=code or "no code", meaning=codes.meaning(code) if code else "the event has none")
        yield say(_CODES[fate], because, **args)
    if not rows:
        yield say("nothing", because)


def _target(host: str) -> dict[str, str | int]:
    """A host of a log, ``name:port``, as a command takes it."""
    try:
        spec = parse_host(host)
    except TargetError:
        return {"target": host, "port": KMS_PORT}
    return {"target": spec.host, "port": spec.port}


def _is_overtaken(row: Correlation) -> bool:
    """Whether a client's last attempt in the logs failed, and a file of its own shows a success after that."""
    return row.since is not None and row.fate.state is State.FAIL
