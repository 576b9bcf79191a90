"""With which codes hosts refused captured clients.

What it looks at: the HRESULT of every response, which is in clear in all versions of the protocol.
Why it matters: it is the host's own word for why it does not activate, and the client hides it behind 0xC004F074 once
no host is left to try; only its event 12288 has it.
What to do: by code: another host key or an update (0xC004F042, 0xC004F015), the clocks (0xC004F06C), the host's own
activation (0xC004F041).
"""

from collections.abc import Iterator

from kmsdiag import captured
from kmsdiag.captured import People
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.knowledge.codes import REFUSALS, decode
from kmsdiag.model.capture import CapturedHost
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import ConversationOutcome
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

_SUCCESS = "0x00000000"

META = CheckMeta(
    title="Refusals in the captures",
    codes={
        "none": Code(Severity.OK, "{host} refused nobody: {responses} with HRESULT 0."),
        **{
            one.name: Code(
                Severity.ERROR,
                "{host} refused {times} of {clients} with " + one.code + f": {one.meaning}.",
                one.cause,
                tuple(fix for fix in one.fixes if "{" not in fix.command.replace("{{", "")),
            )
            for one in REFUSALS.values()
        },
        "other": Code(
            Severity.ERROR,
            "{host} refused {times} of {clients} with {hresult} ({decoded}).",
            "kmsdiag has no text for this code.",
            (Fix(Where.CLIENT, "have Windows explain it", "slui 0x2a {hresult}"),),
        ),
        "notice": Code(
            Severity.INFO,
            "{host} answered {times} with the notice {hresult} ({decoded}), which is no refusal.",
        ),
        "unread": Code(
            Severity.ERROR,
            "{host} refused {times} of {clients}, with a code that was not recorded.",
            "The answers are no longer than an error code. A capture holds it, and so does event 12288 on the clients.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The captures hold no response of a KMS host whose code can be read."),
    },
    tags=frozenset({"capture", "host", "path"}),
    since="0.1",
    references=(
        "Microsoft: Troubleshoot Windows activation error codes",
        "Microsoft: Guidelines for troubleshooting the Key Management Service",
    ),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a host and code."""
    request = captured.request(seen.target)
    answer = seen[request]
    people = captured.people_of(answer)
    hosts = [host for host in answer.hosts if host.hresults]
    unread = [host for host in answer.hosts if not host.hresults and ConversationOutcome.HOST_REFUSED in host.outcomes]
    if not hosts and not unread:
        yield say("nothing", (request,))
    for host in unread:
        clients = captured.who(people.of(host, ConversationOutcome.HOST_REFUSED))
        times = captured.count(captured.number_of(host, ConversationOutcome.HOST_REFUSED), "conversation")
        yield say("unread", (request,), host=captured.called(host), times=times, clients=clients)
    for host in hosts:
        yield from _judge_host(host, people, (request,))


def _judge_host(host: CapturedHost, people: People, because: tuple[Captures]) -> Iterator[Finding]:
    name = captured.called(host)
    others = {code: number for code, number in sorted(host.hresults.items()) if code != _SUCCESS}
    if not others:
        yield say("none", because, host=name, responses=captured.count(host.hresults[_SUCCESS], "response"))
    for code, number in others.items():
        if not int(code, 16) >> 31:
            times = captured.count(number, "request")
            yield say("notice", because, host=name, times=times, hresult=code, decoded=decode(code))
            continue
        hit = [contact.client.address for contact in people.at(host) if code in contact.use.hresults]
        args = {"host": name, "times": captured.count(number, "request"), "clients": captured.who(hit)}
        if code in REFUSALS:
            yield say(REFUSALS[code].name, because, **args)
        else:
            yield say("other", because, **args, hresult=code, decoded=decode(code))
