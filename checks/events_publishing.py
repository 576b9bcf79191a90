"""Whether KMS hosts publish themselves in DNS, by their event logs.

What it looks at: events 12294 (published), 12293 (failed, with the code), and 12291 and 12292 (the service could not
start as a KMS host).
Why it matters: a host publishes itself once a day. Where that fails, its record ages or is never made, and clients that
look in that domain find no host, or another one. With secure updates the record set has one owner, and a second host
needs a permission (0x80072338).
What to do: follow the code; where records are made by hand on purpose, switch publishing off (slmgr /cdns).
"""

import datetime
from collections.abc import Iterator

from kmsdiag import check, collected
from kmsdiag.captured import count as number_of
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.knowledge import codes
from kmsdiag.model.events import HostEvents, Publishing
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import EventLogs
from kmsdiag.model.target import Subject

_AGAIN = Fix(Where.KMS_HOST, "have it publish again, and see the event", "slmgr /sdns; Restart-Service sppsvc")

META = CheckMeta(
    title="Publishing in the hosts' event logs",
    codes={
        "published": Code(Severity.OK, "{host} published itself in {domain} ({last})."),
        "failed": Code(
            Severity.ERROR,
            "{host} could not publish itself in {domain}: {code}, {meaning} ({times}, last {last}).",
            "Clients of that domain do not find this host, unless its record was made by hand.",
            (
                Fix(
                    Where.DNS_SERVER,
                    "see whose the record set is, and who may write it",
                    "Get-Acl 'AD:<distinguished name of the _vlmcs record>'",
                ),
                _AGAIN,
            ),
        ),
        "recovered": Code(
            Severity.INFO,
            "{host} published itself in {domain} ({last}) after {times}, the last with {code}.",
            "What failed before may come again at the next publication, a day later.",
        ),
        "not_started": Code(
            Severity.ERROR,
            "{host} could not start as a KMS host: {code}, {meaning} ({times}).",
            "It answers nobody until the service starts.",
            (Fix(Where.KMS_HOST, "start the service and see its state", "Start-Service sppsvc; slmgr /dlv"),),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The event logs hold nothing about publishing of a KMS host."),
    },
    tags=frozenset({"events", "host"}),
    since="0.1",
    references=(
        "Microsoft: Security event 12293 with error 0x80072338 (KB 2553863)",
        "Microsoft: Deploy KMS activation",
    ),
)

subjects = check.event_logs
ask = collected.ask_logs


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a host and domain."""
    question = collected.logs(seen.target)
    answer = seen[question]
    because = (question,)
    silent = True
    for host in answer.hosts:
        for one in host.publishing:
            silent = False
            yield _judge(host, one, because)
        for code, number in sorted(host.start_failures.items()):
            silent = False
            times = number_of(number, "time")
            yield say("not_started", because, host=host.host, code=code, meaning=codes.meaning(code), times=times)
    if silent:
        yield say("nothing", because)


def _judge(host: HostEvents, one: Publishing, because: tuple[EventLogs]) -> Finding:
    args = {"host": host.host, "domain": one.domain}
    times = number_of(one.failed, "failure")
    code = one.hresult or "a code that can't be read"
    # Where times are missing, a success counts: it is what the log holds besides.
    later = one.published and (
        one.failed_last is None or one.published_last is None or one.published_last > one.failed_last
    )
    if not one.failed:
        return say("published", because, **args, last=_when(one.published_last))
    if later:
        return say("recovered", because, **args, times=times, code=code, last=_when(one.published_last))
    meaning = codes.meaning(one.hresult) if one.hresult else "the event holds none"
    return say("failed", because, **args, times=times, code=code, meaning=meaning, last=_when(one.failed_last))


def _when(at: datetime.datetime | None) -> str:
    return "at an unknown time" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
