"""The scenarios of ``kmsdiag demo``: one world for each way in which activation breaks."""

import datetime
from typing import Final

from kmsdiag.lab.dns import DnsBehaviour
from kmsdiag.lab.rpc import Behaviour
from kmsdiag.lab.world import LabHost, LabServer, Scenario
from kmsdiag.model.answer import MachineAnswer
from kmsdiag.model.target import Expected, ExpectedHost

_DNS: Final = "10.1.0.2"
_DNS2: Final = "10.1.0.3"
_KMS1: Final = "10.1.0.8"
_KMS2: Final = "10.1.0.9"
_KMS1_SRV: Final = "_vlmcs._tcp 3600 IN SRV 0 0 1688 kms1\n"
_KMS1_A: Final = f"kms1 3600 IN A {_KMS1}\n"


def _dns(zone: str, behaviour: DnsBehaviour = DnsBehaviour.ANSWER) -> tuple[LabServer, ...]:
    return (LabServer(_DNS, {"contoso.example": zone}, behaviour),)


def _zone(serial: int, records: str) -> str:
    """A zone with two authoritative servers, of which each world makes what it needs."""
    return (
        f"@ 3600 IN SOA ns1 hostmaster {serial} 3600 600 86400 60\n@ 3600 IN NS ns1\n@ 3600 IN NS ns2\n"
        f"ns1 3600 IN A {_DNS}\nns2 3600 IN A {_DNS2}\n{records}"
    )


def _one_host(name: str, title: str, says: str, behaviour: Behaviour) -> Scenario:
    """A world with one published host that behaves in one way."""
    return Scenario(
        name=name,
        title=title,
        says=says,
        servers=_dns(_KMS1_SRV + _KMS1_A),
        hosts=(LabHost(_KMS1, behaviour),),
    )


MIXED: Final = Scenario(
    name="mixed",
    title="two domains, three hosts, two faults: a retired host still published, and the service of another stopped",
    says="kms-old.contoso.example",
    domains=("contoso.example", "fabrikam.example"),
    servers=(
        LabServer(
            _DNS,
            {
                "contoso.example": _KMS1_SRV
                + "_vlmcs._tcp 3600 IN SRV 0 0 1688 kms-old\n"
                + _KMS1_A
                + f"kms-old 3600 IN A {_KMS2}\n",
                "fabrikam.example": "_vlmcs._tcp 3600 IN SRV 0 0 1688 kms\nkms 3600 IN A 10.2.0.8\n",
            },
        ),
    ),
    hosts=(
        LabHost(_KMS1, Behaviour.KMS),
        LabHost(_KMS2, Behaviour.SILENT_TCP),
        LabHost("10.2.0.8", Behaviour.REFUSED),
    ),
)

SCENARIOS: Final = (
    MIXED,
    _one_host("healthy", "one host, published and answering", "found, reached and answering", Behaviour.KMS),
    Scenario(
        name="no_record",
        title="the domain publishes no KMS host",
        says="publishes no KMS host (NXDOMAIN)",
        servers=_dns(_KMS1_A),
    ),
    Scenario(
        name="dns_down",
        title="the DNS service is stopped",
        says=f"No DNS service listens on {_DNS}",
        servers=_dns("", DnsBehaviour.NOT_LISTENING),
    ),
    Scenario(
        name="stale_host",
        title="a retired host is still published beside a working one",
        says="kms-old.contoso.example (10.1.0.9) is silent on TCP 1688",
        servers=_dns(
            _KMS1_SRV + "_vlmcs._tcp 3600 IN SRV 0 0 1688 kms-old\n" + _KMS1_A + f"kms-old 3600 IN A {_KMS2}\n"
        ),
        hosts=(LabHost(_KMS1, Behaviour.KMS), LabHost(_KMS2, Behaviour.SILENT_TCP)),
    ),
    Scenario(
        name="two_hosts",
        title="two working hosts of equal rank share the clients",
        says="2 KMS hosts of equal rank",
        servers=_dns(_KMS1_SRV + "_vlmcs._tcp 3600 IN SRV 0 0 1688 kms2\n" + _KMS1_A + f"kms2 3600 IN A {_KMS2}\n"),
        hosts=(LabHost(_KMS1, Behaviour.KMS), LabHost(_KMS2, Behaviour.KMS)),
    ),
    Scenario(
        name="unexpected_host",
        title="a workstation with a host key has published itself",
        says="desktop-17.contoso.example:1688 is published for contoso.example and is not expected",
        servers=_dns(
            _KMS1_SRV + "_vlmcs._tcp 3600 IN SRV 0 0 1688 desktop-17\n" + _KMS1_A + f"desktop-17 3600 IN A {_KMS2}\n"
        ),
        hosts=(LabHost(_KMS1, Behaviour.KMS), LabHost(_KMS2, Behaviour.KMS)),
        expected=Expected(hosts=(ExpectedHost("kms1.contoso.example"),)),
    ),
    Scenario(
        name="cname_target",
        title="the record names an alias instead of the host",
        says="kms.contoso.example is an alias (CNAME) of kms1.contoso.example",
        servers=_dns("_vlmcs._tcp 3600 IN SRV 0 0 1688 kms\nkms 3600 IN CNAME kms1\n" + _KMS1_A),
        hosts=(LabHost(_KMS1, Behaviour.KMS),),
    ),
    Scenario(
        name="no_address",
        title="the record names a host that has no address any more",
        says="SRV target gone.contoso.example has no address",
        servers=_dns("_vlmcs._tcp 3600 IN SRV 0 0 1688 gone\n"),
    ),
    Scenario(
        name="wrong_port",
        title="the record has another port than the host listens on",
        says="is published with port 1689, but KMS answers on 1688",
        servers=_dns("_vlmcs._tcp 3600 IN SRV 0 0 1689 kms1\n" + _KMS1_A),
        hosts=(LabHost(_KMS1, Behaviour.KMS), LabHost(_KMS1, Behaviour.REFUSED, 1689)),
    ),
    _one_host("refused", "the KMS service is stopped", "refuses TCP 1688", Behaviour.REFUSED),
    _one_host("silent", "something accepts and says nothing", "says nothing to the RPC bind", Behaviour.SILENT),
    _one_host("not_kms_http", "a web server owns the port", "speaks HTTP, not KMS", Behaviour.HTTP),
    _one_host(
        "rpc_other_interface",
        "an RPC server without the KMS interface owns the port",
        "is an RPC server but not a KMS host",
        Behaviour.OTHER_INTERFACE,
    ),
    _one_host("bind_nak", "the RPC server is overloaded", "refuses the RPC bind: local_limit_exceeded", Behaviour.NAK),
    Scenario(
        name="servers_disagree",
        title="a secondary DNS server stopped copying the zone and still names a retired host",
        says="ns2.contoso.example (10.1.0.3) gives other records for contoso.example",
        asked=(_DNS,),
        servers=(
            LabServer(_DNS, {"contoso.example": _zone(2026010102, _KMS1_SRV + _KMS1_A)}),
            LabServer(
                _DNS2,
                {
                    "contoso.example": _zone(
                        2026010101,
                        f"_vlmcs._tcp 3600 IN SRV 0 0 1688 kms-old\nkms-old 3600 IN A {_KMS2}\n",
                    )
                },
            ),
        ),
        hosts=(LabHost(_KMS1, Behaviour.KMS),),
    ),
    Scenario(
        name="clock_off",
        title="the clock of the KMS host is five hours ahead",
        says="0xC004F06C",
        servers=_dns(_KMS1_SRV + _KMS1_A),
        hosts=(LabHost(_KMS1, Behaviour.KMS, clock=5 * 3600.0), LabHost(_DNS, Behaviour.REFUSED, 1689, clock=0.0)),
    ),
    Scenario(
        name="wildcard_dns",
        title="a wildcard answers for every name",
        says="a wildcard covers contoso.example",
        servers=_dns(f"* 3600 IN SRV 0 0 1688 kms1\n* 3600 IN A {_KMS1}\n" + _KMS1_A),
        hosts=(LabHost(_KMS1, Behaviour.KMS),),
    ),
    Scenario(
        name="only_in_search_list",
        title="the record is only in a later suffix of the client's search list",
        says="contoso.example",
        domains=("branch.contoso.example",),
        servers=_dns(_KMS1_SRV + _KMS1_A),
        hosts=(LabHost(_KMS1, Behaviour.KMS),),
        machine=MachineAnswer(
            at=datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC),
            system="Linux",
            name="pc-17",
            primary_suffix="branch.contoso.example",
            search=("branch.contoso.example", "contoso.example"),
            resolvers=(_DNS,),
        ),
    ),
    Scenario(
        name="misspelt_record",
        title="the record was made by hand under a misspelt name",
        says="_vmlcs._tcp.contoso.example holds an SRV record",
        servers=_dns("_vmlcs._tcp 3600 IN SRV 0 0 1688 kms1\n" + _KMS1_A),
        hosts=(LabHost(_KMS1, Behaviour.KMS),),
    ),
    Scenario(
        name="same_address",
        title="two published names are one machine",
        says="kms1.contoso.example, kms2.contoso.example",
        servers=_dns(_KMS1_SRV + "_vlmcs._tcp 3600 IN SRV 0 0 1688 kms2\n" + _KMS1_A + f"kms2 3600 IN A {_KMS1}\n"),
        hosts=(LabHost(_KMS1, Behaviour.KMS),),
    ),
    Scenario(
        name="lossy",
        title="the network loses packets on the way to the host",
        says="lost 1 of 2 connection attempts",
        servers=_dns(_KMS1_SRV + _KMS1_A),
        hosts=(LabHost(_KMS1, Behaviour.LOSSY),),
        timeout=3.0,
    ),
)


def by_name(name: str) -> Scenario | None:
    """The scenario of this name, or None."""
    return next((scenario for scenario in SCENARIOS if scenario.name == name), None)
