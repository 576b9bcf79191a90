"""To which hosts captured clients turn, by which route they found them, and whether these are the right ones.

What it looks at: every address and port to which clients connected for KMS, against the SRV answers in the captures
and the hosts given as expected; which clients were told of a host and never went there.
Why it matters: clients keep a host that once worked, and one set by hand for ever: they still turn to it when DNS has
long named another. A host that nobody expects is often a workstation with a host key, and takes clients from the
count of the right one.
What to do: clear overrides (slmgr /ckms) on clients that found their host without DNS; remove unexpected hosts.
"""

from collections.abc import Iterator

from kmsdiag import captured
from kmsdiag.captured import People
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.model.capture import CapturedHost, FoundBy
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Captures
from kmsdiag.model.target import KMS_PORT, HostSpec, Subject

_SEE = Fix(Where.CLIENT, "see whether the host is set by hand (registered) or from DNS", "slmgr /dlv")
_CLEAR = Fix(Where.CLIENT, "return to DNS discovery where it is set by hand", "slmgr /ckms")
_UNCACHE = Fix(Where.CLIENT, "have a client ask DNS every time while hosts change", "slmgr /ckhc")
_IS_HOST = Fix(Where.KMS_HOST, "on that machine: see whether it is a KMS host", "slmgr /dlv")

META = CheckMeta(
    title="Hosts that captured clients use",
    codes={
        "one": Code(Severity.OK, "{host} is the only host in use, by {clients}."),
        "several": Code(
            Severity.INFO,
            "Clients use {count} hosts: {shares}.",
            "Each host counts its own clients and activates Windows clients only from 25 on (servers and Office from"
            " 5).",
            (_SEE,),
        ),
        "by_srv": Code(Severity.OK, "{host} was found by its SRV record by all {clients}."),
        "found": Code(
            Severity.INFO,
            "How clients found {host}: {ways}.",
            "Those without an SRV answer don't notice a change of the record: their host is cached, or set by hand.",
            (_SEE, _CLEAR),
        ),
        "as_expected": Code(Severity.OK, "Clients use no other hosts than the expected ones: {hosts}."),
        "unexpected": Code(
            Severity.ERROR,
            "{host} is not expected, and used by {clients}: {ways}.",
            "Often a retired host, or a workstation with a KMS host key.",
            (_IS_HOST, _SEE, _CLEAR),
        ),
        "unused": Code(
            Severity.INFO,
            "Nobody in the captures uses the expected host {host}.",
            "It gathers no count while these clients go elsewhere.",
        ),
        "not_published": Code(
            Severity.WARNING,
            "{host} is named by no captured SRV answer, and used by {clients}: {ways}.",
            "They keep it until it fails, or for ever where slmgr /skms is set.",
            (_SEE, _CLEAR, _UNCACHE),
        ),
        "other_port": Code(
            Severity.INFO,
            "KMS is spoken on port {port} of {host} ({clients}).",
            "Firewalls and filters for port 1688 don't know of it; slmgr /sprt sets it on the host.",
            (Fix(Where.KMS_HOST, "see the port it listens on", "slmgr /dlv"),),
        ),
        "ignored": Code(
            Severity.WARNING,
            "{host} was named to {clients}, who never turned to it while the captures ran.",
            "They are stopped before they connect: look for them at another capture point.",
            (Fix(Where.CLIENT, "test the way from such a client", "Test-NetConnection {name} -Port {port}"),),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "Nobody in the captures turns to a KMS host."),
    },
    tags=frozenset({"capture", "hosts", "policy"}),
    since="0.1",
    references=(
        "Microsoft: KMS activation timing and discovery for volume activation",
        "Microsoft: How to discover KMS hosts through DNS and remove unauthorized instances",
    ),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """The hosts in all, each by its routes, against DNS and against what is expected."""
    request = captured.request(seen.target)
    answer = seen[request]
    people = captured.people_of(answer)
    because = (request,)
    hosts = [host for host in captured.tried(answer.hosts, people) if _counts(host)]
    yield from _ignored(people, because)
    if not hosts:
        yield say("nothing", because)
        return
    yield _shares(hosts, people, because)
    expected = seen.target.expected.hosts
    srv = any(lookup.records for lookup in captured.srv_lookups(answer))
    for host in hosts:
        yield from _judge_host(host, people, because, expected, srv=srv)
    if expected:
        yield from _against(expected, hosts, because)


def _counts(host: CapturedHost) -> bool:
    """An address that speaks KMS, or at which somebody tried in earnest; not what was only tested or scanned."""
    return host.speaks_kms or host.published or host.outcomes.keys() - {"connect_only", "not_kms", "not_known"} != set()


def _clients(host: CapturedHost, people: People) -> str:
    return captured.who([contact.client.address for contact in people.at(host)])


def _shares(hosts: list[CapturedHost], people: People, because: tuple[Captures]) -> Finding:
    if len(hosts) == 1:
        return say("one", because, clients=_clients(hosts[0], people), host=captured.called(hosts[0]))
    ranked = sorted(hosts, key=lambda host: -host.clients)
    shares = tuple(f"{captured.called(host)} {captured.count(host.clients, 'client')}" for host in ranked[:6])
    more = (f"{len(ranked) - 6} more",) if len(ranked) > 6 else ()
    return say("several", because, count=len(hosts), shares=shares + more)


def _judge_host(
    host: CapturedHost, people: People, because: tuple[Captures], expected: tuple[HostSpec, ...], *, srv: bool
) -> Iterator[Finding]:
    name, ways = captured.called(host), captured.found_in_words(host.found_by)
    clients = captured.who([contact.client.address for contact in people.at(host)], most=1)
    if host.found_by.keys() == {FoundBy.SRV.value}:
        yield say("by_srv", because, host=name, clients=captured.count(host.clients, "client"))
    elif host.found_by.keys() - {FoundBy.NOT_KNOWN.value}:
        yield say("found", because, host=name, ways=ways)
    if expected and not any(_is(spec, host) for spec in expected):
        yield say("unexpected", because, host=name, clients=clients, ways=ways)
    elif srv and not host.published:
        yield say("not_published", because, host=name, clients=clients, ways=ways)
    if host.speaks_kms and host.port != KMS_PORT:
        yield say("other_port", because, host=name, port=host.port, clients=clients)


def _is(spec: HostSpec, host: CapturedHost) -> bool:
    return spec.port == host.port and spec.host in (host.address, *host.names)


def _against(expected: tuple[HostSpec, ...], hosts: list[CapturedHost], because: tuple[Captures]) -> Iterator[Finding]:
    unused = [spec for spec in expected if not any(_is(spec, host) for host in hosts)]
    for spec in unused:
        yield say("unused", because, host=str(spec))
    if all(any(_is(spec, host) for spec in expected) for host in hosts):
        yield say("as_expected", because, hosts=tuple(map(str, expected)))


def _ignored(people: People, because: tuple[Captures]) -> Iterator[Finding]:
    """Hosts that clients were told of and left alone; a client that reached another one did what it should."""
    told: dict[str, list[str]] = {}
    for fate in people.fates:
        if not fate.client.uses:
            for target in fate.client.ignored:
                told.setdefault(target, []).append(fate.client.address)
    for target, clients in sorted(told.items()):
        name, _colon, port = target.rpartition(":")
        yield say("ignored", because, host=target, name=name, port=port, clients=captured.who(clients))
