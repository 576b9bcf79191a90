"""How activation attempts ended, by the clients' own event logs.

What it looks at: events 12288 (a request was sent, or could not be) and 12289 (an answer was processed) of each client,
joined to attempts, and activations by Active Directory (12308).
Why it matters: the screen shows one umbrella code, 0xC004F074; each 12288 has the host that was asked and the code
behind it. A 12288 without a 12289 is an answer that never came, or was not accepted. Where several hosts were asked at
once, each has an event of its own; the one that got furthest tells most.
What to do: follow the code of the last attempt.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from kmsdiag import check, collected, correlation
from kmsdiag.captured import count as number_of
from kmsdiag.captured import who
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.knowledge import codes
from kmsdiag.model.events import Attempt, AttemptEnd, ClientEvents
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.machine_name import ByName
from kmsdiag.model.request import EventLogs, Request
from kmsdiag.model.target import Subject

_LOG = Fix(
    Where.CLIENT,
    "see the events",
    "Get-WinEvent -MaxEvents 10 -FilterHashtable @{{ LogName = 'Application'; Id = 12288, 12289 }}",
)
_HOST_LOG = Fix(
    Where.KMS_HOST,
    "see whether the requests arrived",
    "Get-WinEvent -MaxEvents 20 -FilterHashtable @{{ LogName = 'Key Management Service'; Id = 12290 }}",
)
_HOST = Fix(Where.KMS_HOST, "see the count", "slmgr /dlv")

META = CheckMeta(
    title="Activation attempts in the clients' event logs",
    codes={
        "activated": Code(Severity.OK, "The last attempt of {clients} was answered and activated it."),
        "since": Code(
            Severity.INFO,
            "The last attempt of {clients} in the logs failed; by their own files they were activated after it.",
        ),
        "retried": Code(
            Severity.INFO,
            "{clients} activated after attempts that failed: {codes}.",
            "What failed before may come again: a host that is not always reached, or one of several that is dead.",
            (_LOG,),
        ),
        "failed": Code(
            Severity.ERROR,
            "The last attempt of {clients} failed with {code}: {meaning} ({attempts} so far, at {hosts}).",
            "This is the cause behind the code on the screen.",
            (_LOG,),
        ),
        "not_answered": Code(
            Severity.ERROR,
            "The last request of {clients} went to {hosts}, and no answer is logged ({attempts} so far).",
            "The answer was lost or not accepted, or the request never arrived: the host's event 12290 tells which.",
            (_HOST_LOG,),
        ),
        "below_count": Code(
            Severity.ERROR,
            "The last attempt of {clients} was answered by {hosts} with a count of {count}, and {required} are needed.",
            "The host answers and the client does not activate: 0xC004F038 on the screen.",
            (_HOST,),
        ),
        "not_accepted": Code(
            Severity.ERROR,
            "The last attempt of {clients} was answered by {hosts} and did not activate it: {code}.",
            "Its count is not the reason; the flags of event 12289 and slmgr /dlv tell more.",
            (_LOG,),
        ),
        "directory": Code(
            Severity.OK,
            "{clients}: activated by Active Directory (12308).",
            "Such a client sends nothing to a KMS host while a domain controller answers it.",
        ),
        "open": Code(Severity.NOT_ASSESSED, "The log of {clients} ends right after the last request."),
        "nothing": Code(Severity.NOT_ASSESSED, "The event logs hold no activation attempt of a client."),
    },
    tags=frozenset({"events", "client", "path"}),
    since="0.1",
    references=(
        "Microsoft: Windows event log, table 11 (volume activation)",
        "Microsoft: Guidelines for troubleshooting KMS",
    ),
)


class _Last(NamedTuple):
    """The last attempt of one product of a client."""

    client: ClientEvents
    attempt: Attempt


subjects = check.event_logs


def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The logs, and files that may tell how their clients stood later."""
    yield collected.logs(seen.target)
    yield from collected.questions(seen.target)


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Clients by how their last attempt ended; then those that needed several."""
    question = collected.logs(seen.target)
    answer = seen[question]
    because = (question,)
    told = [client for client in answer.clients if client.latest]
    groups: dict[tuple[AttemptEnd, str, int], list[_Last]] = {}
    machines = ByName((machine.name, machine) for machine in collected.machines(seen))
    since: list[str] = []
    for client in told:
        for last in correlation.last_attempts(client):
            if correlation.activated_since(last, machines.get(client.machine)) is not None:
                since.append(client.machine)
                continue
            groups.setdefault((last.end, _code(last), last.required or 0), []).append(_Last(client, last))
    for (end, code, _required), ended in sorted(groups.items()):
        yield _judge(end, code, ended, because)
    yield from _retried(told, because)
    directory = [client.machine for client in answer.clients if client.by_directory]
    if directory:
        yield say("directory", because, clients=who(directory))
    if since:
        yield say("since", because, clients=who(list(dict.fromkeys(since))))
    if not groups and not since and not directory:
        yield say("nothing", because)


def _code(attempt: Attempt) -> str:
    """The code of a failure; "" where the end has none."""
    if attempt.end is AttemptEnd.FAILED:
        return attempt.hresult
    return attempt.answer if attempt.end is AttemptEnd.NOT_ACTIVATED else ""


def _judge(end: AttemptEnd, code: str, ended: list[_Last], because: tuple[EventLogs]) -> Finding:
    last = [one.attempt for one in ended]
    clients = {one.client.machine: one.client for one in ended}
    names = who([name or "a client without a name" for name in clients])
    hosts = tuple(sorted({one.host for one in last if one.host})) or ("no host",)
    attempts = number_of(sum(client.attempts for client in clients.values()), "attempt")
    match end:
        case AttemptEnd.ACTIVATED:
            return say("activated", because, clients=names)
        case AttemptEnd.OPEN:
            return say("open", because, clients=names)
        case AttemptEnd.NOT_ANSWERED:
            return say("not_answered", because, clients=names, hosts=hosts, attempts=attempts)
        case AttemptEnd.NOT_ACTIVATED:
            counts = [one.count for one in last if one.count is not None]
            required = last[0].required
            if counts and required is not None and max(counts) < required:
                return say("below_count", because, clients=names, hosts=hosts, count=max(counts), required=required)
            return say("not_accepted", because, clients=names, hosts=hosts, code=f"{code} ({codes.meaning(code)})")
    return say("failed", because, clients=names, code=code, meaning=codes.meaning(code), attempts=attempts, hosts=hosts)


def _retried(clients: list[ClientEvents], because: tuple[EventLogs]) -> Iterator[Finding]:
    """Clients whose last attempt was a success and that failed before."""
    hit = [
        client
        for client in clients
        if {one.end for one in correlation.last_attempts(client)} == {AttemptEnd.ACTIVATED}
        and client.ends.get(AttemptEnd.FAILED.value)
    ]
    if hit:
        failed: Counter[str] = Counter()
        for client in hit:
            failed.update({code: number for code, number in client.hresults.items() if codes.is_failure(code)})
        ranked = sorted(failed.items(), key=lambda item: (-item[1], item[0]))[:3]
        words = tuple(f"{code} ({codes.meaning(code)})" for code, _number in ranked) or ("codes that were not kept",)
        yield say("retried", because, clients=who([client.machine for client in hit]), codes=words)
