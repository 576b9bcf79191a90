import asyncio
import email.utils
import itertools
import socket
import struct
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.lab.time import TimeBehaviour, TimeServer, ntp_reply, smb2_reply
from kmsdiag.model.answer import ClockAnswer
from kmsdiag.model.outcome import ClockOutcome
from kmsdiag.model.request import ClockQuery, ClockSource
from kmsdiag.probes import clock
from kmsdiag.probes.clock import read_date
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.wire import ntp, smb2

SMB2, NTP, HTTP = ClockSource
HOST = "10.1.0.8"
TIMEOUT = 0.4
SLACK_MS = 350
"""What a busy machine may take on top of a time limit."""

EXPECTED = {
    TimeBehaviour.TELL: ClockOutcome.ANSWERED,
    TimeBehaviour.GARBAGE: ClockOutcome.NOT_SPOKEN,
    TimeBehaviour.SILENT: ClockOutcome.SILENT,
    TimeBehaviour.REFUSED: ClockOutcome.REFUSED,
}

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
by_source = pytest.mark.parametrize("source", list(ClockSource))
over_tcp = pytest.mark.parametrize("source", [SMB2, HTTP])


async def put(source: ClockSource, address: str, port: int, limit: float = TIMEOUT) -> ClockAnswer:
    settings = ProbeSettings(timeout=limit, via={(HOST, source.port): (address, port)})
    return await clock.ask(ClockQuery(address=HOST, source=source), settings)


def ask_lab(
    source: ClockSource,
    offset: float = 0.0,
    behaviour: TimeBehaviour = TimeBehaviour.TELL,
    family: socket.AddressFamily = socket.AF_INET,
) -> ClockAnswer:
    async def run() -> ClockAnswer:
        async with TimeServer(source, offset, behaviour, family) as server:
            return await put(source, server.address, server.port)

    return asyncio.run(run())


def ask_tcp(source: ClockSource, serve: Serve, timeout: float = TIMEOUT) -> ClockAnswer:
    """Ask a TCP server that does this with each connection."""

    async def run() -> ClockAnswer:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.abort()
                done.set()

        done = asyncio.Event()
        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            answer = await put(source, "127.0.0.1", server.sockets[0].getsockname()[1], timeout)
            await done.wait()
            return answer

    return asyncio.run(run())


def ask_udp(serve: Callable[[bytes], list[bytes]], timeout: float = TIMEOUT) -> ClockAnswer:
    """Ask an NTP server that answers a question with these datagrams."""

    class Protocol(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            for answer in serve(data):
                self.transport.sendto(answer, address)

    async def run() -> ClockAnswer:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
        try:
            return await put(NTP, "127.0.0.1", transport.get_extra_info("sockname")[1], timeout)
        finally:
            transport.abort()

    return asyncio.run(run())


def says(*chunks: bytes, pause: float = 0.0) -> Serve:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause)
        await asyncio.sleep(0.05)

    return serve


class TestReading:
    @by_source
    @pytest.mark.parametrize("offset", [0.0, 7200.0, -18_000.25, 86_400.0 * 400])
    def test_the_true_offset_lies_inside_the_error_bar(self, source: ClockSource, offset: float) -> None:
        answer = ask_lab(source, offset)
        assert (answer.outcome, answer.detail) == (ClockOutcome.ANSWERED, "")
        assert abs(answer.offset_s - offset) <= answer.error_s
        # Half of the whole exchange at most, and what the clock rounds away.
        step = {SMB2: 0.015625, NTP: 0.000001, HTTP: 1.0}[source]
        assert step <= answer.error_s <= step + answer.elapsed_ms / 2000 + 0.00001
        assert answer.stratum == (3 if source is NTP else 0)

    @by_source
    def test_ipv6(self, source: ClockSource) -> None:
        answer = ask_lab(source, 60.0, family=socket.AF_INET6)
        assert answer.outcome is ClockOutcome.ANSWERED
        assert abs(answer.offset_s - 60) <= answer.error_s

    def test_a_slow_answer_widens_the_error_bar(self) -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.2)
            writer.write(smb2_reply(smb2.filetime(time.time() + 30)))
            await asyncio.sleep(0.1)

        answer = ask_tcp(SMB2, serve)
        assert 0.1 <= answer.error_s - clock.TICK < 0.2
        # The clock was read at the very end of the wait, and the bar covers that.
        assert abs(answer.offset_s - 30) <= answer.error_s
        assert answer.offset_s > 30.05

    def test_the_time_that_an_ntp_server_takes_is_no_error(self) -> None:
        def serve(data: bytes) -> list[bytes]:
            before = time.time()
            time.sleep(0.15)
            reply = ntp_reply(data, before - 30)
            return [reply[:40] + struct.pack(">Q", ntp.from_unix(time.time() - 30))]

        answer = ask_udp(serve)
        assert answer.elapsed_ms > 150
        assert answer.error_s < 0.1
        assert abs(answer.offset_s + 30) <= answer.error_s

    def test_a_coarse_ntp_clock_says_so(self) -> None:
        answer = ask_udp(lambda data: [(reply := ntp_reply(data, time.time()))[:3] + b"\xfa" + reply[4:]])
        assert 2**-6 <= answer.error_s < 2**-6 + 0.1

    def test_a_clock_of_the_next_era(self) -> None:
        # 2036 and later: the timestamps begin again at 0.
        offset = 2_085_978_496 - time.time() + 5
        answer = ask_lab(NTP, offset)
        assert abs(answer.offset_s - offset) <= answer.error_s

    def test_other_datagrams_do_not_disturb(self) -> None:
        answer = ask_udp(lambda data: [b"", b"x" * 300, ntp_reply(bytes(48), 0), ntp_reply(data, time.time())])
        assert answer.outcome is ClockOutcome.ANSWERED
        assert abs(answer.offset_s) <= answer.error_s

    def test_the_answerer_asks(self) -> None:
        async def run() -> object:
            async with TimeServer(HTTP) as server:
                settings = ProbeSettings(via={(HOST, 80): ("127.0.0.1", server.port)})
                async with LiveAnswerer(settings) as answerer:
                    return await answerer.answer(ClockQuery(address=HOST, source=HTTP))

        answer = asyncio.run(run())
        assert isinstance(answer, ClockAnswer)
        assert answer.outcome is ClockOutcome.ANSWERED


class TestEnds:
    @by_source
    @pytest.mark.parametrize("behaviour", list(EXPECTED))
    def test_each_end_is_told_apart(self, source: ClockSource, behaviour: TimeBehaviour) -> None:
        answer = ask_lab(source, 60.0, behaviour)
        assert answer.outcome is EXPECTED[behaviour]
        if answer.outcome is not ClockOutcome.ANSWERED:
            assert (answer.offset_s, answer.error_s, answer.stratum) == (0.0, 0.0, 0)
        waits = behaviour is TimeBehaviour.SILENT or (source is NTP and behaviour is TimeBehaviour.GARBAGE)
        low = TIMEOUT * 1000 if waits else 0
        assert low <= answer.elapsed_ms < low + SLACK_MS

    @pytest.mark.parametrize(
        ("source", "outcome", "detail"),
        [
            (SMB2, ClockOutcome.NOT_SPOKEN, "the answer has no time (SystemTime)"),
            (NTP, ClockOutcome.UNSYNCHRONISED, "leap 3"),
            (HTTP, ClockOutcome.NOT_SPOKEN, "the answer has no Date"),
        ],
    )
    def test_a_server_without_a_time(self, source: ClockSource, outcome: ClockOutcome, detail: str) -> None:
        answer = ask_lab(source, 60.0, TimeBehaviour.UNSYNCHRONISED)
        assert (answer.outcome, answer.detail, answer.offset_s) == (outcome, detail, 0.0)

    @over_tcp
    def test_a_full_backlog_is_silence(self, source: ClockSource) -> None:
        with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
            sock.bind(("127.0.0.1", 0))
            sock.listen(0)
            for one in (first, second):
                one.setblocking(False)
                one.connect_ex(sock.getsockname())
            answer = asyncio.run(put(source, "127.0.0.1", sock.getsockname()[1]))
        assert (answer.outcome, answer.detail) == (ClockOutcome.SILENT, "")
        assert TIMEOUT * 1000 <= answer.elapsed_ms < TIMEOUT * 1000 + SLACK_MS

    @over_tcp
    @pytest.mark.parametrize(
        ("chunks", "detail"),
        [((), "the connection was closed"), ((b"\0\0",), "2 bytes, then the connection was closed")],
    )
    def test_a_server_that_hangs_up(self, source: ClockSource, chunks: tuple[bytes, ...], detail: str) -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for chunk in chunks:
                writer.write(chunk)
            writer.write_eof()
            await asyncio.sleep(0.05)

        answer = ask_tcp(source, serve)
        assert answer.outcome is ClockOutcome.NOT_SPOKEN
        assert answer.detail == detail or source is HTTP

    @over_tcp
    def test_a_server_that_resets(self, source: ClockSource) -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Linger 0: closing sends RST.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        answer = ask_tcp(source, serve)
        assert (answer.outcome, answer.detail) == (ClockOutcome.NOT_SPOKEN, "the connection was reset")

    @by_source
    @pytest.mark.parametrize("address", ["203.0.113.300", "fe80::1%nowhere0"])
    def test_what_this_machine_cannot_do_is_an_answer_too(self, source: ClockSource, address: str) -> None:
        answer = asyncio.run(put(source, address, 9))
        assert answer.outcome is ClockOutcome.UNREACHABLE

    def test_a_refused_smb_dialect(self) -> None:
        header = struct.pack("<4sHHIHHIIQIIQ16s", b"\xfeSMB", 64, 0, 0xC00000BB, 0, 1, 1, 0, 0, 0, 0, 0, b"")
        message = header + struct.pack("<HBBIB", 9, 0, 0, 0, 0)
        answer = ask_tcp(SMB2, says(struct.pack(">I", len(message)) + message))
        assert answer.outcome is ClockOutcome.NOT_SPOKEN
        assert answer.detail == "it refuses to negotiate: STATUS_NOT_SUPPORTED"

    @pytest.mark.parametrize(
        ("received", "sent"), [(0.0, 5.0), (0.0, -5.0), (0.0, 2.0**31), (1e9, 0.0), (-86_400.0, 0.0)]
    )
    def test_ntp_times_that_contradict_each_other(self, received: float, sent: float) -> None:
        def serve(data: bytes) -> list[bytes]:
            now = time.time()
            stamps = struct.pack(">QQ", ntp.from_unix(now + received), ntp.from_unix(now + sent))
            return [ntp_reply(data, now)[:32] + stamps]

        answer = ask_udp(serve)
        assert answer.outcome is ClockOutcome.NOT_SPOKEN
        assert answer.detail.startswith("its times contradict each other")

    def test_a_kiss_of_death(self) -> None:
        answer = ask_udp(lambda data: [bytes([0xE4, 0]) + bytes(10) + b"RATE" + ntp_reply(data, time.time())[16:]])
        assert (answer.outcome, answer.detail) == (ClockOutcome.UNSYNCHRONISED, "kiss-o'-death RATE")

    def test_a_limit_above_a_second_is_a_second(self) -> None:
        answer = ask_tcp(SMB2, says(b"", pause=1.2), timeout=5.0)
        assert answer.outcome is ClockOutcome.SILENT
        assert 1000 <= answer.elapsed_ms < 1000 + SLACK_MS


def dripping(data: bytes, seconds: float) -> Serve:
    return says(*(data[at : at + 1] for at in range(len(data))), pause=seconds / len(data))


class TestHostile:
    """Within the time limit, within little memory, whatever comes."""

    @over_tcp
    @pytest.mark.parametrize(
        "chunk",
        [
            b"\0\0\x10\0\xfeSMB" + bytes(4096),
            b"\0\xff\xff\xff\xfeSMB" + b"A" * 65_536,
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000,
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
            b"\r\n" * 50_000,
            bytes(65_536),
        ],
        ids=["zero-smb", "endless-smb", "many-headers", "long-header", "newlines", "zeros"],
    )
    def test_endless(self, source: ClockSource, chunk: bytes) -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(500):
                writer.write(chunk)
                await writer.drain()

        answer = ask_tcp(source, serve)
        assert answer.outcome is ClockOutcome.NOT_SPOKEN
        assert answer.elapsed_ms < TIMEOUT * 1000 + SLACK_MS
        assert answer.detail.isascii()
        assert len(answer.detail) < 100

    def test_little_memory_is_used(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200_000

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(head)
            await writer.drain()

        ask_tcp(HTTP, serve)
        tracemalloc.start()
        try:
            ask_tcp(HTTP, serve)
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The server's own buffer of what it could not send is in it as well.
        assert peak < len(head) * 2 + 300_000

    @pytest.mark.parametrize(
        ("source", "data"),
        [
            (SMB2, smb2_reply(smb2.filetime(1e9))),
            (HTTP, b"HTTP/1.1 200 OK\r\nDate: Mon, 05 Jan 2026 12:00:00 GMT\r\n\r\n"),
        ],
    )
    def test_dripping(self, source: ClockSource, data: bytes) -> None:
        answer = ask_tcp(source, dripping(data, 4 * TIMEOUT))
        assert answer.outcome is ClockOutcome.NOT_SPOKEN
        assert answer.detail.endswith("bytes, then nothing more")
        assert TIMEOUT * 1000 <= answer.elapsed_ms < TIMEOUT * 1000 + SLACK_MS
        # In time it is an answer, and the first byte is what counts.
        slow = ask_tcp(source, dripping(data, TIMEOUT / 3))
        assert slow.outcome is ClockOutcome.ANSWERED
        assert slow.error_s < {SMB2: clock.TICK, HTTP: 1.0}[source] + 0.06

    def test_a_flood_of_datagrams(self) -> None:
        answer = ask_udp(lambda data: [data] * 200)
        assert answer.outcome is ClockOutcome.NOT_SPOKEN
        assert answer.elapsed_ms < TIMEOUT * 1000 + SLACK_MS
        assert answer.detail == "no answer of an NTP server (version 4, mode 3)"


class TestDate:
    @given(st.integers(0, 4_000_000_000))
    def test_every_date_that_a_server_writes(self, seconds: int) -> None:
        date = email.utils.formatdate(seconds, usegmt=True)
        assert read_date(f"HTTP/1.1 200 OK\r\ndate:{date}  \r\nX: y\r\n\r\n".encode()) == seconds

    @pytest.mark.parametrize(
        "date",
        [
            "Mon, 05 Jan 2026 12:00:00 GMT",
            "Monday, 05-Jan-26 12:00:00 GMT",
            "Mon Jan  5 12:00:00 2026",
            "Mon, 05 Jan 2026 12:00:00 -0000",
            "Mon, 05 Jan 2026 14:00:00 +0200",
        ],
    )
    def test_older_forms(self, date: str) -> None:
        head = f"HTTP/1.0 301 Moved\r\nServer: x\r\nDate: {date}\r\nAge: 0\r\n\r\n"
        assert read_date(head.encode()) == 1_767_614_400

    @pytest.mark.parametrize(
        ("head", "problem"),
        [
            (b"", "the answer is no HTTP"),
            (b"SSH-2.0-x\r\n\r\n", "the answer is no HTTP"),
            (b"HTTP/1.1 200 OK\r\nDate: Mon", "26 bytes of an HTTP head without an end"),
            (b"HTTP/1.1 200 OK\r\n\r\nDate: Mon, 05 Jan 2026 12:00:00 GMT\r\n\r\n", "the answer has no Date"),
            (b"HTTP/1.1 200 OK\r\nAge: 17\r\nDate: Mon, 05 Jan 2026 12:00:00 GMT\r\n\r\n", "from a cache"),
            (b"HTTP/1.1 200 OK\r\nDate: Mon, 05 Jan 2026 12:00:00 GMT\r\nAGE: x\r\n\r\n", "from a cache"),
            (b"HTTP/1.1 200 OK\r\nDate:\r\n\r\n", "is no date"),
            (b"HTTP/1.1 200 OK\r\nDate: yesterday\r\n\r\n", "is no date"),
            (b"HTTP/1.1 200 OK\r\nDate: Mon, 35 Jan 2026 12:00:00 GMT\r\n\r\n", "is no date"),
            (b"HTTP/1.1 200 OK\r\nDate: Mon, 05 Jan 99999 12:00:00 GMT\r\n\r\n", "is no date"),
            (b"HTTP/1.1 200 OK\r\nDate: Mon, 05 Jan 2026 12:00:00 +999999\r\n\r\n", "is no date"),
            (b"HTTP/1.1 200 OK\r\nDate: \xff\r\n\r\n", "is no date"),
        ],
    )
    def test_anything_else_is_named(self, head: bytes, problem: str) -> None:
        with pytest.raises(ValueError, match=problem) as raised:
            read_date(head)
        assert str(raised.value).isascii()

    @given(
        st.one_of(
            st.binary(max_size=60),
            st.text(" 0123456789:+-,.JanMoGMTZ", max_size=40).map(str.encode),
            st.builds(
                lambda *parts: b" ".join(parts),
                *(st.sampled_from([b"Mon,", b"5", b"Jan", b"2026", b"12:00:00", b"GMT", b"99999999999", b"-2400"]),)
                * 6,
            ),
        )
    )
    def test_any_bytes_for_a_date(self, date: bytes) -> None:
        try:
            seconds = read_date(b"HTTP/1.1 200 OK\r\nDate: " + date + b"\r\n\r\n")
        except ValueError:
            return
        assert abs(seconds) < 1e12


def test_many_at_once_do_not_disturb_each_other() -> None:
    async def run() -> list[ClockAnswer]:
        async with TimeServer(SMB2, 60.0) as one, TimeServer(NTP, 60.0) as two, TimeServer(HTTP, 60.0) as three:
            servers = list(itertools.islice(itertools.cycle((one, two, three)), 90))
            return await asyncio.gather(*(put(one.source, one.address, one.port, 1.0) for one in servers))

    answers = asyncio.run(run())
    assert {answer.outcome for answer in answers} == {ClockOutcome.ANSWERED}
    assert all(abs(answer.offset_s - 60) <= answer.error_s for answer in answers)
