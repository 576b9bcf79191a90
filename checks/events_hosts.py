"""What KMS hosts logged of the requests that they processed.

What it looks at: events 12290 of each host: how many, from how many client machine IDs, with which codes, and when the
last one came.
Why it matters: a code other than 0 tells who is refused and why, for every client at once. A host whose log ends long
before the other logs do is asked by nobody any more.
What to do: for 0xC004F042 and 0xC004F015 install the host key (and update) that covers the newest client; for
0xC004F06C compare clocks; for an idle host look at what DNS tells clients.
"""

import datetime
from collections.abc import Iterator, Sequence

from kmsdiag import check, collected
from kmsdiag.captured import count as number_of
from kmsdiag.captured import who
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.knowledge import codes
from kmsdiag.model.events import EventsAnswer, HostEvents, Requester, greatest
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import EventLogs
from kmsdiag.model.target import Subject

_KEYS = Fix(Where.KMS_HOST, "see its keys and counts", "slmgr /dlv all")

IDLE = datetime.timedelta(days=7)
"""An activated client asks again after 7 days, so that a host with clients is never quiet for longer."""

META = CheckMeta(
    title="Requests in the hosts' event logs",
    codes={
        "served": Code(Severity.OK, "{host} processed {requests} of {clients} with success."),
        "refusing": Code(
            Severity.ERROR,
            "{host} refused {requests} of {clients} with {code}: {meaning}.",
            "Each of them gets the same answer until that is mended.",
            (_KEYS,),
        ),
        "refused_before": Code(
            Severity.WARNING,
            "{host} refused {requests} of {clients} with {code} ({meaning}); the last request of each ended otherwise.",
            "It was mended, or only one of the products of these clients is refused.",
            (_KEYS,),
        ),
        "idle": Code(
            Severity.WARNING,
            "{host} processed its last request at {last}, {days} days before its log or the others end.",
            "Activated clients ask again every 7 days: it has none any more, or they do not reach it.",
            (
                Fix(
                    Where.DNS_SERVER,
                    "see whether clients are sent to it",
                    "Resolve-DnsName -Type SRV _vlmcs._tcp.<domain>",
                ),
            ),
        ),
        "few": Code(
            Severity.WARNING,
            "{host} logged {clients} in the last 30 days, and {required} are needed by some of them.",
            "Unless its log begins too late to hold them all, its count is too low: 0xC004F038 on those clients.",
            (Fix(Where.KMS_HOST, "see the count itself", "slmgr /dlv"),),
        ),
        "unreadable": Code(
            Severity.NOT_ASSESSED, "{host}: whether {requests} were refused is not known; their codes can't be read."
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The event logs hold no request that a KMS host processed (12290)."),
    },
    tags=frozenset({"events", "host", "path"}),
    since="0.1",
    references=(
        "Microsoft: Guidelines for troubleshooting KMS",
        "Microsoft: Error 0xC004F015 (KB 3086418)",
    ),
)

subjects = check.event_logs
ask = collected.ask_logs


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Each host by its codes; whether it is idle; whether enough ask it."""
    question = collected.logs(seen.target)
    answer = seen[question]
    hosts = [host for host in answer.hosts if host.requests and host.hresults]
    for host in hosts:
        own = [one for one in answer.requesters if one.host == host.host]
        yield from _judge_codes(host, own, (question,))
        yield from _judge_time(host, answer, (question,))
        yield from _judge_count(host, (question,))
    if not hosts:
        yield say("nothing", (question,))


def _judge_codes(host: HostEvents, own: Sequence[Requester], because: tuple[EventLogs]) -> Iterator[Finding]:
    for code, number in sorted(host.hresults.items()):
        hit = [one for one in own if code in one.hresults]
        clients = who([one.machines[0] if one.machines else one.client_machine_id for one in hit])
        requests = number_of(number, "request")
        if codes.canonical(code) is None:
            # "unreadable", or "others" of very many.
            yield say("unreadable", because, host=host.host, requests=requests)
        elif codes.is_failure(code):
            still = not hit or any(one.last_hresult == code for one in hit)
            yield say(
                "refusing" if still else "refused_before",
                because,
                host=host.host,
                requests=requests,
                clients=clients,
                code=code,
                meaning=codes.meaning(code),
            )
        else:
            yield say("served", because, host=host.host, requests=requests, clients=number_of(len(hit), "client"))


def _judge_time(host: HostEvents, answer: EventsAnswer, because: tuple[EventLogs]) -> Iterator[Finding]:
    ends = [file.last for file in answer.files if file.last is not None]
    if host.last is None or not ends:
        return
    quiet = max(ends) - host.last
    if quiet > IDLE:
        yield say("idle", because, host=host.host, last=f"{host.last:%Y-%m-%d %H:%M} UTC", days=quiet.days)


def _judge_count(host: HostEvents, because: tuple[EventLogs]) -> Iterator[Finding]:
    required = greatest(host.needs) or 0
    if host.clients_30_days < required:
        clients = number_of(host.clients_30_days, "client machine ID")
        yield say("few", because, host=host.host, clients=clients, required=required)
