import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from kmsdiag.lab.dns import DnsBehaviour, DnsServer
from kmsdiag.model.answer import (
    AddressAnswer,
    Answer,
    DnsAnswer,
    NsAnswer,
    ServerTry,
    SoaAnswer,
    SrvAnswer,
    SrvRecord,
)
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.request import AddressQuery, NsQuery, Request, SoaQuery, SrvQuery, Transport
from kmsdiag.model.target import SYSTEM, Family
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings
from tests.labruns import udp_server

A = TypeVar("A", bound=Answer)

TIMEOUT = 0.45
"""Seconds, where the limit is meant to be reached."""

PATIENT = 3.0
"""Seconds, where an answer is meant to come at once, however busy the machine is."""

NAME = "_vlmcs._tcp.contoso.example"
ZONE = "_vlmcs._tcp 60 IN SRV 0 0 1688 kms1\nkms1 60 IN A 10.1.0.8\nkms1 60 IN A 10.1.0.7\nkms1 60 IN AAAA fd00::8\n"
RECORD = SrvRecord(0, 0, 1688, "kms1.contoso.example", 60)

EXPECTED: Mapping[DnsBehaviour, tuple[DnsOutcome, dict[str, Any]]] = {
    DnsBehaviour.ANSWER: (
        DnsOutcome.ANSWERED,
        {"queries": 1, "transport": "udp", "edns": True, "rcode": "NOERROR", "authoritative": True},
    ),
    DnsBehaviour.NOT_LISTENING: (DnsOutcome.NOT_LISTENING, {"rcode": ""}),
    DnsBehaviour.SILENT: (DnsOutcome.TIMEOUT, {"queries": 3, "edns": False, "rcode": ""}),
    DnsBehaviour.SERVFAIL: (DnsOutcome.SERVFAIL, {"queries": 1, "rcode": "SERVFAIL", "detail": ""}),
    DnsBehaviour.REFUSED: (DnsOutcome.REFUSED, {"queries": 1, "rcode": "REFUSED"}),
    DnsBehaviour.NOTIMP: (DnsOutcome.ERROR_RCODE, {"queries": 2, "rcode": "NOTIMP", "detail": "NOTIMP"}),
    DnsBehaviour.REFERRAL: (DnsOutcome.REFERRAL, {"queries": 1, "rcode": "NOERROR"}),
    DnsBehaviour.GARBAGE: (DnsOutcome.MALFORMED, {}),
    DnsBehaviour.WRONG_QUESTION: (DnsOutcome.MALFORMED, {"detail": "the answer is to another question"}),
    DnsBehaviour.TRUNCATED: (DnsOutcome.ANSWERED, {"queries": 2, "transport": "tcp"}),
    DnsBehaviour.TRUNCATED_NO_TCP: (
        DnsOutcome.TRUNCATED,
        {"queries": 2, "transport": "tcp", "detail": "TCP: ECONNREFUSED"},
    ),
    DnsBehaviour.NO_EDNS: (DnsOutcome.ANSWERED, {"queries": 2, "transport": "udp", "edns": False}),
}


async def ask(port: int, request: Request[A], limit: float = PATIENT) -> A:
    """Put one question to the lab's server, which stands for 10.1.0.2."""
    settings = ProbeSettings(timeout=limit, via={("10.1.0.2", 53): ("127.0.0.1", port)})
    async with LiveAnswerer(settings) as answerer:
        answer: Any = await answerer.answer(request)
    return answer  # type: ignore[no-any-return]


def srv(name: str = NAME, server: str = "10.1.0.2") -> SrvQuery:
    return SrvQuery(name=name, server=server)


def ask_lab(zone: str, request: Request[A], behaviour: DnsBehaviour = DnsBehaviour.ANSWER) -> A:
    async def put() -> A:
        timeout = TIMEOUT if behaviour is DnsBehaviour.SILENT else PATIENT
        async with DnsServer({"contoso.example": zone}, behaviour) as server:
            return await ask(server.port, request, timeout)

    return asyncio.run(put())


def ask_script(reply: Callable[[bytes], list[bytes]], request: Request[A] | None = None, timeout: float = PATIENT) -> A:
    """Put one question to a server that answers as the test says."""

    async def put() -> Any:
        async with udp_server(reply) as port:
            return await ask(port, request or srv(), timeout)

    return asyncio.run(put())  # type: ignore[no-any-return]


def good(data: bytes, *records: str, flags: int = 0, rcode: int = 0) -> bytes:
    """A proper response to a question."""
    query = dns.message.from_wire(data)
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.Flag(flags)
    response.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        name, kind, text = record.split(None, 2)
        response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, text))
    return response.to_wire()


SRV_LINE = f"{NAME}. SRV 0 0 1688 kms1.contoso.example."


def test_every_behaviour_has_an_expectation() -> None:
    assert set(EXPECTED) == set(DnsBehaviour)


@pytest.mark.parametrize("behaviour", DnsBehaviour)
def test_outcome_within_the_limit(behaviour: DnsBehaviour) -> None:
    started = time.perf_counter()
    answer = ask_lab(ZONE, srv(), behaviour)
    took = time.perf_counter() - started
    outcome, fields = EXPECTED[behaviour]
    assert answer.outcome is outcome
    assert {name: getattr(answer, name) for name in fields} == fields
    assert answer.records == ((RECORD,) if outcome is DnsOutcome.ANSWERED else ())
    assert answer.server == "10.1.0.2"
    assert answer.tried == ()
    assert took < 1.5
    assert (answer.outcome is DnsOutcome.TIMEOUT) == (behaviour is DnsBehaviour.SILENT)


def test_nobody_listening_is_known_at_once_and_silence_is_not() -> None:
    assert ask_lab(ZONE, srv(), DnsBehaviour.NOT_LISTENING).elapsed_ms < 1000
    assert ask_lab(ZONE, srv(), DnsBehaviour.SILENT).elapsed_ms > 0.9 * TIMEOUT * 1000


class TestRecords:
    def test_addresses_of_each_family(self) -> None:
        v4 = ask_lab(ZONE, AddressQuery(name="kms1.contoso.example", family=Family.IPV4, server="10.1.0.2"))
        v6 = ask_lab(ZONE, AddressQuery(name="KMS1.contoso.example", family=Family.IPV6, server="10.1.0.2"))
        assert (v4.addresses, v6.addresses) == (("10.1.0.7", "10.1.0.8"), ("fd00::8",))

    def test_srv_records_are_sorted_and_duplicates_kept(self) -> None:
        lines = [f"{NAME}. SRV {p} 5 1688 {t}.contoso.example." for p, t in ((1, "b"), (0, "c"), (1, "a"), (1, "a"))]

        def reply(data: bytes) -> list[bytes]:
            query = dns.message.from_wire(data)
            response = dns.message.make_response(query)
            for line in lines:
                name, kind, text = line.split(None, 2)
                response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, text))
            return [response.to_wire()]

        answer: SrvAnswer = ask_script(reply)
        assert [(record.priority, record.target[0]) for record in answer.records] == [
            (0, "c"),
            (1, "a"),
            (1, "a"),
            (1, "b"),
        ]

    @pytest.mark.parametrize(
        ("zone", "name", "outcome"),
        [
            ("kms1 60 IN A 10.1.0.8\n", NAME, DnsOutcome.NXDOMAIN),
            ("_vlmcs._tcp 60 IN TXT x\n", NAME, DnsOutcome.NODATA),
            ("x._vlmcs._tcp 60 IN TXT x\n", NAME, DnsOutcome.NODATA),
        ],
    )
    def test_absence_is_not_failure(self, zone: str, name: str, outcome: DnsOutcome) -> None:
        answer = ask_lab(zone, srv(name))
        assert answer.outcome is outcome
        assert answer.outcome.is_absence

    def test_records_of_other_names_do_not_count(self) -> None:
        answer: SrvAnswer = ask_script(lambda data: [good(data, "other.example. SRV 0 0 1 evil.example.")])
        assert (answer.outcome, answer.records) == (DnsOutcome.NODATA, ())

    def test_case_does_not_matter(self) -> None:
        answer: SrvAnswer = ask_script(lambda data: [good(data, SRV_LINE.upper())], srv(NAME.upper()))
        assert answer.outcome is DnsOutcome.ANSWERED
        assert answer.records == (RECORD,)

    def test_messages_are_kept(self) -> None:
        answer = ask_lab(ZONE, srv())
        (raw,) = answer.wire
        assert dns.message.from_wire(raw).answer[0].name.to_text() == f"{NAME}."


class TestChains:
    def test_inside_one_message(self) -> None:
        answer = ask_lab("_vlmcs._tcp 60 IN CNAME a\na 60 IN CNAME b\nb 60 IN SRV 0 0 1688 kms1\n", srv())
        assert answer.outcome is DnsOutcome.ANSWERED
        assert answer.chain == ("a.contoso.example", "b.contoso.example")
        assert answer.queries == 1

    def test_over_several_messages(self) -> None:
        def reply(data: bytes) -> list[bytes]:
            name = dns.message.from_wire(data).question[0].name.to_text()
            following = {f"{NAME}.": "a.example.", "a.example.": "b.example."}
            if name in following:
                return [good(data, f"{name} CNAME {following[name]}")]
            return [good(data, f"{name} SRV 0 0 1688 kms1.contoso.example.")]

        answer: SrvAnswer = ask_script(reply)
        assert (answer.outcome, answer.chain, answer.queries) == (DnsOutcome.ANSWERED, ("a.example", "b.example"), 3)
        assert len(answer.wire) == 3

    @pytest.mark.parametrize(
        "zone",
        [
            "_vlmcs._tcp 60 IN CNAME _vlmcs._tcp\n",
            "_vlmcs._tcp 60 IN CNAME a\na 60 IN CNAME _vlmcs._tcp\n",
            "_vlmcs._tcp 60 IN CNAME a\na 60 IN CNAME b\nb 60 IN CNAME a\n",
            "_vlmcs._tcp 60 IN CNAME c0\n" + "".join(f"c{n} 60 IN CNAME c{n + 1}\n" for n in range(30)),
        ],
    )
    def test_loops_and_long_chains_end(self, zone: str) -> None:
        answer = ask_lab(zone, srv())
        assert answer.outcome is DnsOutcome.CHAIN
        assert len(answer.chain) <= 9

    def test_an_endless_chain_over_many_messages_ends(self) -> None:
        count = 0

        def reply(data: bytes) -> list[bytes]:
            nonlocal count
            count += 1
            return [good(data, f"{dns.message.from_wire(data).question[0].name} CNAME n{count}.example.")]

        answer: SrvAnswer = ask_script(reply)
        assert answer.outcome is DnsOutcome.CHAIN
        assert count <= 10

    def test_a_chain_to_nothing(self) -> None:
        answer = ask_lab("_vlmcs._tcp 60 IN CNAME gone\n", srv())
        assert (answer.outcome, answer.chain) == (DnsOutcome.NXDOMAIN, ("gone.contoso.example",))

    def test_a_chain_to_a_name_without_the_record(self) -> None:
        answer = ask_lab("_vlmcs._tcp 60 IN CNAME kms1\nkms1 60 IN A 10.1.0.8\n", srv())
        assert (answer.outcome, answer.chain) == (DnsOutcome.NODATA, ("kms1.contoso.example",))


class TestUdp:
    def test_a_lost_datagram_is_sent_again(self) -> None:
        heard: list[bytes] = []

        def reply(data: bytes) -> list[bytes]:
            heard.append(data)
            return [good(data, SRV_LINE)] if len(heard) == 2 else []

        answer: SrvAnswer = ask_script(reply, timeout=0.9)
        assert (answer.outcome, answer.queries, answer.edns) == (DnsOutcome.ANSWERED, 2, True)
        # Sent again as it was: an answer to either is an answer.
        assert heard[0] == heard[1]

    def test_a_server_that_drops_edns_gets_a_question_without(self) -> None:
        def reply(data: bytes) -> list[bytes]:
            return [good(data, SRV_LINE)] if dns.message.from_wire(data).edns < 0 else []

        answer: SrvAnswer = ask_script(reply, timeout=0.9)
        assert (answer.outcome, answer.edns) == (DnsOutcome.ANSWERED, False)

    def test_a_foreign_datagram_does_not_spoil_the_answer(self) -> None:
        def reply(data: bytes) -> list[bytes]:
            other_id = bytes([data[0] ^ 0xFF]) + data[1:]
            return [b"", b"x", other_id, good(other_id, SRV_LINE), good(data, SRV_LINE)]

        answer: SrvAnswer = ask_script(reply)
        assert answer.outcome is DnsOutcome.ANSWERED

    def test_only_foreign_datagrams(self) -> None:
        answer: SrvAnswer = ask_script(lambda data: [b"\xff" * 20], timeout=TIMEOUT)
        assert answer.outcome is DnsOutcome.MALFORMED
        assert answer.wire == (b"\xff" * 20,)

    def test_our_own_question_sent_back_is_no_answer(self) -> None:
        answer: SrvAnswer = ask_script(lambda data: [data])
        assert answer.outcome is DnsOutcome.MALFORMED

    def test_an_error_without_a_question_section(self) -> None:
        answer: SrvAnswer = ask_script(lambda data: [data[:2] + b"\x81\x82" + b"\0" * 8])
        assert answer.outcome is DnsOutcome.SERVFAIL

    @pytest.mark.parametrize("rcode", [1, 4])
    def test_edns_is_left_out_where_a_server_refuses_it(self, rcode: int) -> None:
        def reply(data: bytes) -> list[bytes]:
            if dns.message.from_wire(data).edns >= 0:
                return [data[:2] + bytes([0x81, 0x80 | rcode]) + b"\0" * 8]
            return [good(data, SRV_LINE)]

        answer: SrvAnswer = ask_script(reply)
        assert (answer.outcome, answer.edns, answer.queries) == (DnsOutcome.ANSWERED, False, 2)

    def test_thousands_of_datagrams_for_one(self) -> None:
        answer: SrvAnswer = ask_script(lambda data: [b"\0" * 12] * 500 + [good(data, SRV_LINE)] * 5, timeout=TIMEOUT)
        assert answer.outcome in (DnsOutcome.ANSWERED, DnsOutcome.MALFORMED)

    def test_many_questions_at_once_get_their_own_answers(self) -> None:
        async def put() -> list[SrvAnswer]:
            zone = "".join(f"_vlmcs._tcp.d{n} 60 IN SRV 0 0 {n + 1} kms{n}\n" for n in range(300))
            async with DnsServer({"contoso.example": zone}) as server:
                settings = ProbeSettings(timeout=5, via={("10.1.0.2", 53): ("127.0.0.1", server.port)})
                async with LiveAnswerer(settings) as answerer:
                    asked = (answerer.answer(srv(f"_vlmcs._tcp.d{n}.contoso.example")) for n in range(300))
                    answers: list[Any] = await asyncio.gather(*asked)
            return answers

        answers = asyncio.run(put())
        assert [answer.records for answer in answers] == [
            (SrvRecord(0, 0, n + 1, f"kms{n}.contoso.example", 60),) for n in range(300)
        ]

    def test_a_dead_server_ends_all_its_questions_and_no_other(self) -> None:
        async def put() -> list[DnsOutcome]:
            async with (
                DnsServer({"contoso.example": ZONE}) as alive,
                DnsServer({}, DnsBehaviour.NOT_LISTENING) as dead,
            ):
                via = {
                    ("10.1.0.2", 53): ("127.0.0.1", dead.port),
                    ("10.1.0.3", 53): ("127.0.0.1", alive.port),
                }
                async with LiveAnswerer(ProbeSettings(timeout=TIMEOUT, via=via)) as answerer:
                    asked = [
                        answerer.answer(srv(server="10.1.0.2")),
                        answerer.answer(srv(f"x.{NAME}", server="10.1.0.2")),
                        answerer.answer(srv(server="10.1.0.3")),
                    ]
                    answers: list[Any] = await asyncio.gather(*asked)
            return [answer.outcome for answer in answers]

        assert asyncio.run(put()) == [
            DnsOutcome.NOT_LISTENING,
            DnsOutcome.NOT_LISTENING,
            DnsOutcome.ANSWERED,
        ]

    def test_a_name_that_no_one_can_ask_for(self) -> None:
        answer = ask_lab(ZONE, srv("a..b"))
        assert answer.outcome is DnsOutcome.MALFORMED
        assert "is no DNS name" in answer.detail

    def test_a_server_that_can_not_be_reached(self) -> None:
        """The kernel refuses to send to the broadcast address by itself."""

        async def put() -> DnsAnswer:
            async with LiveAnswerer(ProbeSettings(timeout=TIMEOUT)) as answerer:
                answer: Any = await answerer.answer(srv(server="255.255.255.255"))
            return answer  # type: ignore[no-any-return]

        answer = asyncio.run(put())
        assert answer.outcome is DnsOutcome.UNREACHABLE
        assert answer.detail in ("EACCES", "ENETUNREACH")


def cut(data: bytes) -> bytes:
    """An empty answer that asks for TCP."""
    return good(data, flags=dns.flags.TC)


@contextlib.asynccontextmanager
async def tcp_beside_udp(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], reply: Callable[[bytes], list[bytes]]
) -> AsyncIterator[int]:
    """A UDP server and a TCP server on the same port."""
    for _ in range(20):
        async with udp_server(reply) as port:
            try:
                tcp = await asyncio.start_server(serve, "127.0.0.1", port)
            except OSError:
                continue
            async with tcp:
                yield port
            return
    raise OSError("no port is free for both")


def ask_cut(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> tuple[SrvAnswer, float]:
    """What a question costs whose answer has to come over TCP, from a server that serves TCP like this."""

    async def put() -> tuple[SrvAnswer, float]:
        busy: set[asyncio.Task[Any]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            busy.add(task)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
            writer.close()

        async with tcp_beside_udp(accept, lambda data: [cut(data)]) as port:
            started = time.perf_counter()
            answer = await ask(port, srv(), TIMEOUT)
            took = time.perf_counter() - started
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
        return answer, took

    return asyncio.run(put())


class TestTcp:
    def test_a_large_answer(self) -> None:
        lines = "".join(f"_vlmcs._tcp 60 IN SRV 0 0 1688 kms{n}\n" for n in range(500))
        answer = ask_lab(lines, srv())
        assert (answer.outcome, answer.transport, len(answer.records)) == (DnsOutcome.ANSWERED, "tcp", 500)

    def test_silent(self) -> None:
        async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        answer, took = ask_cut(serve)
        assert answer.outcome is DnsOutcome.TRUNCATED
        assert took < 2 * TIMEOUT + 1

    def test_drips(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(2)
            for byte in b"\xff\xff" + b"\0" * 1000:
                writer.write(bytes([byte]))
                await asyncio.sleep(TIMEOUT / 3)

        answer, took = ask_cut(serve)
        assert answer.outcome is DnsOutcome.TRUNCATED
        assert took < 2 * TIMEOUT + 1

    def test_closes(self) -> None:
        async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(2)

        answer, took = ask_cut(serve)
        assert answer.outcome is DnsOutcome.TRUNCATED
        assert answer.detail.startswith("TCP: ")
        assert took < TIMEOUT + 1

    def test_garbage(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(2)
            writer.write(struct.pack("!H", 40) + b"\xff" * 40)
            await writer.drain()
            await reader.read()

        answer, _took = ask_cut(serve)
        assert answer.outcome is DnsOutcome.TRUNCATED

    def test_cut_again(self) -> None:
        """TC over TCP makes no sense, and must not lead into a loop."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            answer = cut(await reader.readexactly(size))
            writer.write(struct.pack("!H", len(answer)) + answer)
            await writer.drain()
            await reader.read()

        answer, took = ask_cut(serve)
        assert answer.outcome is not DnsOutcome.ANSWERED
        assert answer.queries <= 3
        assert took < 2 * TIMEOUT + 1


class TestResolvers:
    """The machine's own resolvers are used in their order, as a stub resolver does."""

    def put(self, *behaviours: DnsBehaviour, names: tuple[str, ...] = (NAME,)) -> list[SrvAnswer]:
        async def run() -> list[SrvAnswer]:
            async with contextlib.AsyncExitStack() as stack:
                via = {}
                for number, behaviour in enumerate(behaviours, 1):
                    server = await stack.enter_async_context(DnsServer({"contoso.example": ZONE}, behaviour))
                    via[f"10.1.0.{number}", 53] = ("127.0.0.1", server.port)
                settings = ProbeSettings(timeout=0.3, via=via, resolvers=tuple(address for address, _port in via))
                async with LiveAnswerer(settings) as answerer:
                    found: list[Any] = [await answerer.answer(SrvQuery(name=name)) for name in names]
            return found

        return asyncio.run(run())

    @pytest.mark.parametrize(
        ("first", "outcome"),
        [
            (DnsBehaviour.NOT_LISTENING, DnsOutcome.NOT_LISTENING),
            (DnsBehaviour.SERVFAIL, DnsOutcome.SERVFAIL),
            (DnsBehaviour.REFUSED, DnsOutcome.REFUSED),
            (DnsBehaviour.GARBAGE, DnsOutcome.MALFORMED),
        ],
    )
    def test_the_next_is_asked_where_one_fails(self, first: DnsBehaviour, outcome: DnsOutcome) -> None:
        (answer,) = self.put(first, DnsBehaviour.ANSWER)
        assert (answer.outcome, answer.server) == (DnsOutcome.ANSWERED, "10.1.0.2")
        assert answer.tried == (ServerTry("10.1.0.1", outcome),)

    def test_absence_is_an_answer_and_ends_the_search(self) -> None:
        (answer,) = self.put(DnsBehaviour.ANSWER, DnsBehaviour.ANSWER, names=("gone.contoso.example",))
        assert (answer.outcome, answer.server, answer.tried) == (DnsOutcome.NXDOMAIN, "10.1.0.1", ())

    def test_all_dead(self) -> None:
        (answer,) = self.put(DnsBehaviour.NOT_LISTENING, DnsBehaviour.SILENT)
        assert (answer.outcome, answer.server) == (DnsOutcome.TIMEOUT, "10.1.0.2")
        assert answer.tried == (ServerTry("10.1.0.1", DnsOutcome.NOT_LISTENING),)
        assert answer.records == ()

    def test_a_silent_one_does_not_hold_up_the_next(self) -> None:
        (answer,) = self.put(DnsBehaviour.SILENT, DnsBehaviour.ANSWER)
        assert (answer.outcome, answer.server) == (DnsOutcome.ANSWERED, "10.1.0.2")
        assert answer.tried == (), "nobody knows yet how the first one's question would have ended"
        assert answer.queries == 2
        assert answer.elapsed_ms < 300

    def test_a_silent_one_is_waited_for_where_no_other_tells(self) -> None:
        (answer,) = self.put(DnsBehaviour.SILENT, DnsBehaviour.SERVFAIL)
        assert answer.outcome is DnsOutcome.TIMEOUT
        assert answer.tried == (ServerTry("10.1.0.2", DnsOutcome.SERVFAIL),)
        assert answer.elapsed_ms > 300

    def test_a_dead_one_is_asked_last_from_then_on(self) -> None:
        first, second = self.put(DnsBehaviour.NOT_LISTENING, DnsBehaviour.ANSWER, names=(NAME, "kms1.contoso.example"))
        assert first.tried == (ServerTry("10.1.0.1", DnsOutcome.NOT_LISTENING),)
        assert (second.server, second.tried) == ("10.1.0.2", ())
        assert second.elapsed_ms < 250

    def test_none_configured(self) -> None:
        (answer,) = self.put()
        assert (answer.outcome, answer.server, answer.queries) == (DnsOutcome.NO_SERVER, "", 0)


HEAD = (
    "@ 3600 IN SOA NS1 hostmaster 2026010102 3600 600 86400 60\n"
    "@ 60 IN NS ns2\n@ 60 IN NS NS1\nns1 60 IN A 10.1.0.2\nns2 60 IN A 10.1.0.3\n"
)
SOA_LINE = "contoso.example. SOA ns1.contoso.example. h.contoso.example. 7 1 1 1 1"


def soa(name: str, *, recursion: bool = True, server: str = "10.1.0.2") -> SoaQuery:
    return SoaQuery(name=name, server=server, recursion=recursion)


class TestSoa:
    @pytest.mark.parametrize(
        ("name", "outcome"),
        [
            ("contoso.example", DnsOutcome.ANSWERED),
            ("Contoso.Example", DnsOutcome.ANSWERED),
            # The zone comes with "there is none here", whether the name exists or not.
            ("ns1.contoso.example", DnsOutcome.NODATA),
            (NAME, DnsOutcome.NODATA),
            ("_tcp.contoso.example", DnsOutcome.NODATA),
            ("gone.branch.contoso.example", DnsOutcome.NXDOMAIN),
        ],
    )
    def test_the_zone_of_a_name(self, name: str, outcome: DnsOutcome) -> None:
        answer = ask_lab(HEAD + ZONE, soa(name))
        assert answer.outcome is outcome
        assert (answer.zone, answer.primary, answer.serial) == ("contoso.example", "ns1.contoso.example", 2_026_010_102)
        assert answer.authoritative
        assert len(answer.wire) == answer.queries == 1

    def test_an_alias_is_followed_and_shown(self) -> None:
        answer = ask_lab(HEAD + "alias 60 IN CNAME ns1\n", soa("alias.contoso.example"))
        assert answer.chain == ("ns1.contoso.example",)
        assert (answer.outcome, answer.zone) == (DnsOutcome.NODATA, "contoso.example")

    def test_an_alias_that_leaves_has_no_zone_here(self) -> None:
        answer = ask_lab(HEAD + "alias 60 IN CNAME www.fabrikam.example.\n", soa("alias.contoso.example"))
        assert answer.chain == ("www.fabrikam.example",)
        assert (answer.outcome, answer.zone) == (DnsOutcome.REFUSED, "")

    @pytest.mark.parametrize("behaviour", [one for one in DnsBehaviour if EXPECTED[one][0] is not DnsOutcome.ANSWERED])
    def test_no_zone_where_it_could_not_be_asked(self, behaviour: DnsBehaviour) -> None:
        answer = ask_lab(HEAD, soa("contoso.example"), behaviour)
        assert answer.outcome is EXPECTED[behaviour][0]
        assert (answer.zone, answer.primary, answer.serial) == ("", "", 0)

    @pytest.mark.parametrize("rcode", [0, 3])
    def test_an_absence_without_a_zone(self, rcode: int) -> None:
        answer = ask_script(lambda data: [good(data, rcode=rcode)], soa("contoso.example"))
        assert answer.outcome is (DnsOutcome.NXDOMAIN if rcode else DnsOutcome.NODATA)
        assert answer.zone == ""

    def test_that_of_another_zone_in_the_answer_does_not_count(self) -> None:
        answer = ask_script(lambda data: [good(data, SOA_LINE)], soa("fabrikam.example"))
        assert (answer.outcome, answer.zone) == (DnsOutcome.NODATA, "")

    def test_an_error_tells_no_zone_even_if_it_names_one(self) -> None:
        def reply(data: bytes) -> list[bytes]:
            response = dns.message.from_wire(good(data, rcode=2))
            name, kind, rest = SOA_LINE.split(None, 2)
            response.authority.append(dns.rrset.from_text(name, 60, "IN", kind, rest))
            return [response.to_wire()]

        answer = ask_script(reply, soa("contoso.example"))
        assert (answer.outcome, answer.zone) == (DnsOutcome.SERVFAIL, "")

    def test_the_system_may_be_asked(self) -> None:
        async def put() -> Answer:
            async with DnsServer({"contoso.example": HEAD}) as server:
                via = {("10.1.0.2", 53): ("127.0.0.1", server.port)}
                async with LiveAnswerer(ProbeSettings(via=via, resolvers=("10.1.0.2",))) as answerer:
                    return await answerer.answer(soa("contoso.example", server=SYSTEM))

        answer = asyncio.run(put())
        assert isinstance(answer, SoaAnswer)
        assert (answer.zone, answer.server) == ("contoso.example", "10.1.0.2")


class TestNs:
    def ask(self, zone: str, name: str = "contoso.example") -> NsAnswer:
        return ask_lab(zone, NsQuery(name=name, server="10.1.0.2"))

    def test_names_are_sorted_and_folded(self) -> None:
        answer = self.ask(HEAD)
        assert answer.outcome is DnsOutcome.ANSWERED
        assert answer.names == ("ns1.contoso.example", "ns2.contoso.example")

    def test_each_once(self) -> None:
        line = "contoso.example. NS ns1.contoso.example."
        answer = ask_script(
            lambda data: [good(data, line, line.upper())], NsQuery(name="contoso.example", server="10.1.0.2")
        )
        assert answer.names == ("ns1.contoso.example",)

    @pytest.mark.parametrize(
        ("name", "outcome"),
        [("ns1.contoso.example", DnsOutcome.NODATA), ("gone.contoso.example", DnsOutcome.NXDOMAIN)],
    )
    def test_absence(self, name: str, outcome: DnsOutcome) -> None:
        answer = self.ask(HEAD, name)
        assert (answer.outcome, answer.names) == (outcome, ())

    def test_a_referral_names_servers_and_is_none_of_the_zone_asked(self) -> None:
        answer = ask_lab(HEAD, NsQuery(name="contoso.example", server="10.1.0.2"), DnsBehaviour.REFERRAL)
        assert (answer.outcome, answer.names) == (DnsOutcome.REFERRAL, ())


class TestTransportAndRecursion:
    def tcp(self, *, recursion: bool = True) -> SrvQuery:
        return SrvQuery(name=NAME, server="10.1.0.2", transport=Transport.TCP, recursion=recursion)

    def test_over_tcp_from_the_start(self) -> None:
        async def put() -> tuple[SrvAnswer, list[bool]]:
            over: list[bool] = []

            class Noting(DnsServer):
                def reply(self, data: bytes, *, tcp: bool) -> bytes | None:
                    over.append(tcp)
                    return super().reply(data, tcp=tcp)

            async with Noting({"contoso.example": ZONE}) as server:
                return await ask(server.port, self.tcp()), over

        answer, over = asyncio.run(put())
        assert over == [True]
        assert (answer.outcome, answer.transport, answer.queries) == (DnsOutcome.ANSWERED, "tcp", 1)
        assert answer.records == (RECORD,)
        assert answer.authoritative
        assert dns.message.from_wire(answer.wire[0]).answer

    def test_the_same_records_as_over_udp(self) -> None:
        assert ask_lab(ZONE, self.tcp()).records == ask_lab(ZONE, srv()).records

    @pytest.mark.parametrize(
        ("behaviour", "outcome"),
        [
            (DnsBehaviour.NOT_LISTENING, DnsOutcome.NOT_LISTENING),
            (DnsBehaviour.TRUNCATED_NO_TCP, DnsOutcome.NOT_LISTENING),
            (DnsBehaviour.SERVFAIL, DnsOutcome.SERVFAIL),
            (DnsBehaviour.REFUSED, DnsOutcome.REFUSED),
            (DnsBehaviour.TRUNCATED, DnsOutcome.ANSWERED),
            (DnsBehaviour.GARBAGE, DnsOutcome.MALFORMED),
        ],
    )
    def test_ends(self, behaviour: DnsBehaviour, outcome: DnsOutcome) -> None:
        answer = ask_lab(ZONE, self.tcp(), behaviour)
        assert (answer.outcome, answer.transport) == (outcome, "tcp")

    def test_silence_takes_the_limit_and_no_more(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async def put() -> SrvAnswer:
            async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
                answer = await ask(server.sockets[0].getsockname()[1], self.tcp(), TIMEOUT)
                await asyncio.sleep(0.05)
                return answer

        answer = asyncio.run(put())
        assert answer.outcome is DnsOutcome.TIMEOUT
        assert TIMEOUT * 1000 <= answer.elapsed_ms < (TIMEOUT + 1) * 1000

    def test_only_over_tcp_it_is_a_connection(self) -> None:
        assert self.tcp().connects
        assert not srv().connects
        assert not soa("contoso.example").connects

    @pytest.mark.parametrize("transport", Transport)
    @pytest.mark.parametrize("recursion", [True, False])
    def test_recursion_is_desired_or_not(self, transport: Transport, *, recursion: bool) -> None:
        flags: list[bool] = []

        class Noting(DnsServer):
            def reply(self, data: bytes, *, tcp: bool) -> bytes | None:
                flags.append(bool(dns.message.from_wire(data).flags & dns.flags.RD))
                return super().reply(data, tcp=tcp)

        async def put() -> None:
            async with Noting({"contoso.example": HEAD + ZONE}) as server:
                question = SrvQuery(name=NAME, server="10.1.0.2", transport=transport, recursion=recursion)
                answer = await ask(server.port, question)
                assert answer.outcome is DnsOutcome.ANSWERED
                if transport is Transport.UDP:
                    zone = await ask(server.port, soa("contoso.example", recursion=recursion))
                    assert zone.outcome is DnsOutcome.ANSWERED

        asyncio.run(put())
        assert set(flags) == {recursion}

    def test_every_datagram_of_a_question_without_recursion_is_without(self) -> None:
        """Those that are sent again too, and those behind an alias."""
        flags: list[bool] = []

        def reply(data: bytes) -> list[bytes]:
            query = dns.message.from_wire(data)
            flags.append(bool(query.flags & dns.flags.RD))
            if len(flags) < 3:
                return []
            name = query.question[0].name.to_text()
            return [good(data, f"{name} CNAME n{len(flags)}.contoso.example.")]

        answer = ask_script(reply, SrvQuery(name=NAME, server="10.1.0.2", recursion=False), TIMEOUT * 2)
        assert answer.outcome is DnsOutcome.CHAIN
        assert len(flags) > 4
        assert not any(flags)


def test_an_address_query_fails_like_an_srv_query() -> None:
    answer = ask_lab(
        ZONE,
        AddressQuery(name="kms1.contoso.example", family=Family.IPV4, server="10.1.0.2"),
        DnsBehaviour.REFUSED,
    )
    assert isinstance(answer, AddressAnswer)
    assert (answer.outcome, answer.addresses) == (DnsOutcome.REFUSED, ())


def test_an_ipv6_server() -> None:
    async def put() -> SrvAnswer:
        async with DnsServer({"contoso.example": ZONE}) as server:
            settings = ProbeSettings(timeout=TIMEOUT, via={("fd00::2", 5353): ("127.0.0.1", server.port)})
            async with LiveAnswerer(settings) as answerer:
                answer: Any = await answerer.answer(srv(server="[fd00::2]:5353"))
        return answer  # type: ignore[no-any-return]

    assert asyncio.run(put()).records == (RECORD,)
