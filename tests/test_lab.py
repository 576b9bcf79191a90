import asyncio
import socket
import struct
import sys
import time

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from kmsdiag.lab.dns import DnsBehaviour, DnsServer
from kmsdiag.lab.rpc import ACCESS_DENIED, REQUEST, Behaviour, RpcHost
from kmsdiag.lab.scenarios import SCENARIOS, by_name
from kmsdiag.lab.world import LabHost, LabServer, Scenario, running
from kmsdiag.model.request import KMS_INTERFACE, AddressQuery, RpcBind, SrvQuery, TcpConnect
from kmsdiag.model.target import Family
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.wire import rpc
from tests.labruns import NAMES, in_thread, run_scenario, runs

ZONE = (
    "_vlmcs._tcp 60 IN SRV 0 0 1688 kms1\nkms1 60 IN A 10.1.0.8\nalias 60 IN CNAME kms1\nout 60 IN CNAME www.other.\n"
)


def ask(
    name: str, kind: str = "SRV", *, tcp: bool = False, behaviour: DnsBehaviour = DnsBehaviour.ANSWER
) -> dns.message.Message:
    """dnspython's own client asks the lab."""
    query = dns.message.make_query(name, kind)
    with in_thread(lambda: DnsServer({"contoso.example": ZONE}, behaviour)) as server:
        put = dns.query.tcp if tcp else dns.query.udp
        answer = put(query, "127.0.0.1", port=server.port, timeout=5)
        assert server.asked == [f"{name}. {kind}"]
    return answer


class TestDns:
    @pytest.mark.parametrize("tcp", [False, True])
    def test_answers(self, *, tcp: bool) -> None:
        answer = ask("_vlmcs._tcp.contoso.example", tcp=tcp)
        assert answer.answer[0].to_text() == "_vlmcs._tcp.contoso.example. 60 IN SRV 0 0 1688 kms1.contoso.example."

    def test_follows_its_own_aliases(self) -> None:
        answer = ask("alias.contoso.example", "A")
        assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.CNAME, dns.rdatatype.A]

    def test_leaves_foreign_aliases_to_the_client(self) -> None:
        answer = ask("out.contoso.example", "A")
        assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.CNAME]

    @pytest.mark.parametrize(
        ("name", "kind", "rcode"),
        [
            ("gone.contoso.example", "A", dns.rcode.NXDOMAIN),
            ("kms1.contoso.example", "AAAA", dns.rcode.NOERROR),
            ("_tcp.contoso.example", "SRV", dns.rcode.NOERROR),
            ("contoso.other", "SRV", dns.rcode.REFUSED),
        ],
    )
    def test_absence(self, name: str, kind: str, rcode: int) -> None:
        answer = ask(name, kind)
        assert answer.rcode() == rcode
        assert answer.answer == []
        assert bool(answer.authority) == (rcode != dns.rcode.REFUSED)

    def test_an_empty_non_terminal_is_found_under_deep_names(self) -> None:
        assert ask("contoso.example", "SOA").answer[0].rdtype == dns.rdatatype.SOA

    def test_udp_and_tcp_share_a_port_that_is_free_again(self) -> None:
        with in_thread(lambda: DnsServer({})) as server:
            port = server.port
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", port))


def talk(port: int, *messages: bytes) -> list[bytes]:
    """Send PDUs over one connection, and read one after each."""
    answers = []
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        file = sock.makefile("rb")
        for message in messages:
            sock.sendall(message)
            head = file.read(16)
            answers.append(head + file.read(rpc.decode_header(head).length - 16))
        file.close()
    return answers


def request_pdu(size: int = 32) -> bytes:
    """A request PDU as a client would send it after the bind, with an empty stub: made here, and only here."""
    body = struct.pack("<IHH", size, 1, 0) + b"\0" * size
    return struct.pack("<BBBB4sHHI", 5, 0, REQUEST, 3, b"\x10\0\0\0", 16 + len(body), 0, 3) + body


class TestRpc:
    @pytest.mark.parametrize("behaviour", [Behaviour.KMS, Behaviour.ANYTHING, Behaviour.OTHER_INTERFACE, Behaviour.NAK])
    def test_a_request_is_always_denied(self, behaviour: Behaviour) -> None:
        """The lab looks like a KMS host and never is one: no answer to a request holds anything."""
        with in_thread(lambda: RpcHost(behaviour)) as host:
            _bound, denied, again = talk(host.port, rpc.encode_bind(KMS_INTERFACE), request_pdu(), request_pdu(260))
        for pdu in (denied, again):
            header = rpc.decode_header(pdu)
            assert (header.type, header.length, header.call_id) == (rpc.FAULT, 32, 3)
            assert rpc.decode_fault(pdu) == ACCESS_DENIED

    def test_it_notes_what_it_hears(self) -> None:
        sent = rpc.encode_bind(KMS_INTERFACE)
        with in_thread(lambda: RpcHost(Behaviour.KMS)) as host:
            talk(host.port, sent)
            talk(host.port, sent, sent)
            assert [bytes(one) for one in host.received] == [sent, sent + sent]

    def test_garbage_ends_the_connection_and_not_the_host(self) -> None:
        with in_thread(lambda: RpcHost(Behaviour.KMS)) as host:
            with socket.create_connection(("127.0.0.1", host.port), timeout=5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert sock.recv(100) == b""
            (answer,) = talk(host.port, rpc.encode_bind(KMS_INTERFACE))
        assert rpc.decode_header(answer).type == rpc.BIND_ACK

    def test_ndr32_where_that_is_all_that_is_offered(self) -> None:
        bind = bytearray(rpc.encode_bind(KMS_INTERFACE)[: 28 + 44])
        bind[8:10] = len(bind).to_bytes(2, "little")
        bind[24] = 1
        with in_thread(lambda: RpcHost(Behaviour.KMS)) as host:
            (answer,) = talk(host.port, bytes(bind))
        (context,) = rpc.decode_bind_ack(answer).contexts
        assert (context.result, context.syntax) == (0, "NDR32")


class TestScenarios:
    def test_names_are_distinct(self) -> None:
        assert len(set(NAMES)) == len(NAMES) >= 15
        assert [by_name(name) for name in NAMES] == list(SCENARIOS)
        assert by_name("nothing") is None

    @pytest.mark.parametrize("name", NAMES)
    def test_runs_within_its_own_limit(self, name: str) -> None:
        run = runs()[name]
        assert (run.bundle.ended - run.bundle.started).total_seconds() < 3 * run.scenario.timeout + 2

    @pytest.mark.parametrize("name", NAMES)
    def test_the_report_knows_no_loopback(self, name: str) -> None:
        """What is shown is the scenario's world; that it runs on loopback is nobody's business."""
        bundle = runs()[name].bundle
        for fact in bundle.facts:
            assert "127.0.0.1" not in str(fact.request)
            assert "127.0.0.1" not in getattr(fact.answer, "addresses", ())

    def test_nothing_leaves_loopback(self) -> None:
        """An address that the world does not have refuses; it is never asked for real."""
        scenario = Scenario(
            name="lone",
            title="",
            says="",
            servers=(LabServer("10.1.0.2", {"contoso.example": ZONE}),),
            hosts=(LabHost("10.1.0.8", Behaviour.KMS),),
        )

        async def put() -> list[str]:
            async with running(scenario) as lab, LiveAnswerer(lab.settings) as answerer:
                requests = (
                    TcpConnect(address="10.1.0.8", port=1688),
                    TcpConnect(address="10.1.0.8", port=80),
                    TcpConnect(address="192.0.2.1", port=1688),
                    RpcBind(address="192.0.2.1", port=135),
                    SrvQuery(name="_vlmcs._tcp.contoso.example", server="10.1.0.2"),
                    SrvQuery(name="_vlmcs._tcp.contoso.example", server="192.0.2.53"),
                    AddressQuery(name="kms1.contoso.example", family=Family.IPV4, server="10.1.0.2"),
                )
                return [str((await answerer.answer(request)).outcome) for request in requests]  # type: ignore[attr-defined]

        assert asyncio.run(put()) == [
            "open",
            "refused",
            "refused",
            "no_connection",
            "answered",
            "not_listening",
            "answered",
        ]

    def test_ipv6(self) -> None:
        scenario = Scenario(
            name="six",
            title="",
            says="",
            servers=(
                LabServer(
                    "10.1.0.2",
                    {"contoso.example": "_vlmcs._tcp 60 IN SRV 0 0 1688 kms1\nkms1 60 IN AAAA fd00::8\n"},
                ),
            ),
            hosts=(LabHost("fd00::8", Behaviour.KMS),),
        )
        run = asyncio.run(run_scenario(scenario))
        assert run.report.verdict.state == "healthy"
        assert [route.address for path in run.report.paths for route in path.routes] == ["fd00::8"]

    def test_everything_is_closed_at_the_end(self) -> None:
        if sys.platform != "linux":
            pytest.skip("counts /proc/self/fd")
        from pathlib import Path

        def count() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        before = count()
        asyncio.run(run_scenario(SCENARIOS[0]))
        assert count() == before

    def test_closing_does_not_wait_for_hanging_connections(self) -> None:
        async def put() -> float:
            scenario = by_name("silent")
            assert scenario is not None
            async with running(scenario) as lab:
                _reader, writer = await asyncio.open_connection("127.0.0.1", lab.hosts[0].port)
                writer.write(rpc.encode_bind(KMS_INTERFACE))
                await writer.drain()
                started = time.perf_counter()
            writer.close()
            return time.perf_counter() - started

        assert asyncio.run(put()) < 2
