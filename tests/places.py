"""Places that see a world, each from its own network and by its own DNS server, for tests of what is common to them."""

import msgspec

from kmsdiag import diagnosis
from kmsdiag.model.outcome import DnsOutcome, TcpOutcome
from kmsdiag.model.report import Report, Vantage
from kmsdiag.registry import Registry
from tests.conftest import DOMAIN, World, record
from tests.traffic import Traffic

KMS1, KMS2, OLD = "10.1.0.8", "10.1.0.9", "10.1.0.99"
"""Addresses of two hosts that work, and of one that is gone."""

GOOD, STALE = "10.0.0.53", "10.0.1.53"
"""DNS servers: one that has the newest records, one that has old ones."""

HQ, BRANCH, DEPOT = "10.20.1.5", "10.30.1.5", "10.40.1.5"
"""Addresses of places, in three sites."""


def seen(world: World, label: str, *addresses: str, resolvers: tuple[str, ...] = ()) -> Report:
    """The report of one place; no checks, so that it is about ways alone."""
    where = Vantage(label=label, host=f"host-{label}", addresses=addresses, resolvers=resolvers)
    return diagnosis.judge(msgspec.structs.replace(world.bundle(), vantage=where), Registry(()))


def asking(server: str = GOOD, *hosts: str, domain: str = DOMAIN) -> World:
    """A world in which the server names these hosts."""
    return World(domain, servers=(server,)).srv(*(record(host) for host in hosts), server=server, domain=domain)


def healthy(server: str = GOOD) -> World:
    """The domain has one host, and it works."""
    return asking(server, "kms1").name("kms1", KMS1, server=server).tcp(KMS1).rpc(KMS1)


def blocked(server: str = GOOD, outcome: TcpOutcome = TcpOutcome.TIMEOUT) -> World:
    """The host is found, and a connection to it fails."""
    return asking(server, "kms1").name("kms1", KMS1, server=server).tcp(KMS1, outcome)


def stale(server: str = STALE) -> World:
    """The server still names the host that is gone, and not the one that works."""
    return asking(server, "kms-old").name("kms-old", OLD, server=server).tcp(OLD, TcpOutcome.TIMEOUT)


def no_dns(server: str = GOOD, outcome: DnsOutcome = DnsOutcome.TIMEOUT) -> World:
    """The DNS server gives no records."""
    return World(DOMAIN, servers=(server,)).srv(outcome=outcome, server=server)


CLIENTS = [f"10.2.0.{number}" for number in range(11, 21)]
"""Clients whose packets a capture holds."""


def captured(traffic: Traffic) -> World:
    """What one place captured, and nothing that was asked from there."""
    return World().captures(traffic.answer())


def many_ends() -> Traffic:
    """Clients of two hosts: some activate, and others fail in one way each; one domain has no record."""
    traffic = Traffic().srv(DOMAIN, record("kms1"), clients=CLIENTS[:9]).name(f"kms1.{DOMAIN}", KMS1)
    traffic.srv("corp.example", clients=CLIENTS[9:])
    for client, end in zip(CLIENTS, ("unanswered", "bind_nak", "request_reset", "host_refused"), strict=False):
        traffic.talk(client, KMS1, end)
    return traffic.talks(CLIENTS[4:7], KMS1).talks(CLIENTS[7:9], KMS2, "below_threshold", count=3, required=25)
