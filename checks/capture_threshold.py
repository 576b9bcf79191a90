"""Whether hosts' counts are high enough for the clients that asked them.

What it looks at: the host's count and the client's need in requests and responses of version 4, where both are in
clear.
Why it matters: below 25 Windows clients (5 servers, 5 Office installations) a host answers with success, HRESULT 0,
and the client does not activate all the same: it shows 0xC004F038. On the wire this looks like a healthy host.
What to do: bring more machines to one host: remove superfluous hosts, give cloned machines their own machine ID.
"""

from collections.abc import Iterator

from kmsdiag import captured
from kmsdiag.captured import People
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.model.capture import CapturedHost, Spread
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import ConversationOutcome
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

_SEE = Fix(Where.KMS_HOST, "see its count now", "slmgr /dlv")
_CMID = Fix(Where.CLIENT, "compare the client machine IDs (CMID) of two clients", "slmgr /dlv")

_SUCCESS = "0x00000000"
"""HRESULT of an answer that has a count; a refusal has none."""

META = CheckMeta(
    title="Counts in the captures",
    codes={
        "enough": Code(Severity.OK, "{host} has a count of {count}; clients in the captures need {required}."),
        "below": Code(
            Severity.ERROR,
            "{host} has a count of {count}, too low for {clients}, whose need is {required} ({below} in vain).",
            "It answers with success, and the client shows 0xC004F038.",
            (_SEE, _CMID),
        ),
        "shared_id": Code(
            Severity.WARNING,
            "The client machine ID {machine_id} is shared by {clients}.",
            "The host counts them as one. They were cloned without sysprep /generalize.",
            (_CMID,),
        ),
        "spread": Code(
            Severity.WARNING,
            "No host reaches {required}, and their counts add up to {total}: {hosts}.",
            "The clients would be enough for one host; they are spread over several.",
            (_SEE,),
        ),
        "invisible": Code(
            Severity.NOT_ASSESSED,
            "{host} answered in protocol versions {versions}, whose count is encrypted: an answer with success may"
            " still be below what the client needs; slmgr /dlv on the host tells.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "No answer with success was captured whose count could be judged."),
    },
    tags=frozenset({"capture", "host", "path"}),
    since="0.1",
    references=("Microsoft: KMS activation planning", "Microsoft: Troubleshoot Windows activation error codes"),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a host; then what hosts and clients say together."""
    request = captured.request(seen.target)
    answer = seen[request]
    people = captured.people_of(answer)
    because = (request,)
    hosts = [host for host in answer.hosts if _SUCCESS in host.hresults]
    findings = [finding for host in hosts for finding in _judge_host(host, people, because)]
    yield from findings or [say("nothing", because)]
    yield from _spread(hosts, because)
    owners: dict[str, list[str]] = {}
    for client in answer.clients:
        for machine_id in client.machine_ids:
            owners.setdefault(machine_id, []).append(client.address)
    for machine_id, clients in sorted(owners.items()):
        if len(clients) > 1:
            yield say("shared_id", because, machine_id=machine_id, clients=captured.who(clients))


def _judge_host(host: CapturedHost, people: People, because: tuple[Captures]) -> Iterator[Finding]:
    if host.count is not None and host.required:
        yield _judge_count(host, host.count, people, because)
    hidden = sorted(version for version in host.versions if not version.startswith("4."))
    if hidden:
        yield say("invisible", because, host=captured.called(host), versions=tuple(hidden))


def _judge_count(host: CapturedHost, count: Spread, people: People, because: tuple[Captures]) -> Finding:
    name, required = captured.called(host), " or ".join(map(str, host.required))
    if not host.below:
        return say("enough", because, host=name, count=f"{count.greatest:.0f}", required=required)
    clients = captured.who(people.of(host, ConversationOutcome.BELOW_THRESHOLD))
    number = f"{count.greatest:.0f}"
    return say("below", because, host=name, count=number, clients=clients, required=required, below=host.below)


def _spread(hosts: list[CapturedHost], because: tuple[Captures]) -> Iterator[Finding]:
    """Several hosts, each below what its clients need, that would have enough together."""
    short = [(host, host.count.greatest) for host in hosts if host.count is not None and host.required and host.below]
    if len(short) < 2 or any(host.count is not None and not host.below for host in hosts):
        return
    required, total = min(max(host.required) for host, _count in short), sum(count for _host, count in short)
    if max(count for _host, count in short) < required <= total:
        listed = tuple(f"{captured.called(host)} {count:.0f}" for host, count in short)
        yield say("spread", because, required=required, total=f"{total:.0f}", hosts=listed)
