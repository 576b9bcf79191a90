import datetime
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.ntp import NTPHeader

from kmsdiag.lab.time import ntp_reply
from kmsdiag.wire import ntp
from kmsdiag.wire.ntp import NtpFormatError, decode_reply

COOKIE = 0x0123456789ABCDEF
NOW = datetime.datetime(2026, 1, 5, 12, tzinfo=datetime.UTC).timestamp()
ROLLOVER = datetime.datetime(2036, 2, 7, 6, 28, 16, tzinfo=datetime.UTC).timestamp()
REPLY = ntp_reply(ntp.encode_request(COOKIE), NOW)

cookies = st.integers(0, (1 << 64) - 1)
plausible = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda head, rest: head + REPLY[4:24] + struct.pack(">Q", COOKIE) + rest, *(st.binary(max_size=16),) * 2),
    st.builds(lambda at, value: REPLY[:at] + bytes([value]) + REPLY[at + 1 :], st.integers(0, 47), st.integers(0, 255)),
)


class TestRequest:
    @given(cookies)
    def test_scapy_reads_it(self, cookie: int) -> None:
        request = ntp.encode_request(cookie)
        packet = NTPHeader(request)
        assert (len(request), packet.leap, packet.version, packet.mode, packet.stratum) == (48, 0, 4, 3, 0)
        # Nothing of this machine is in it: random bits stand where its time would.
        assert request[1:40] == bytes(39)
        assert int.from_bytes(request[40:], "big") == cookie


class TestReply:
    @given(st.floats(0, 4e9), st.integers(0, 2), st.integers(1, 15))
    def test_what_scapy_writes(self, when: float, leap: int, stratum: int) -> None:
        stamp = ntp.from_unix(when)
        written = bytes(NTPHeader(leap=leap, version=4, mode=4, stratum=stratum, precision=-6))
        written = written[:24] + struct.pack(">QQQ", COOKIE, stamp, stamp)
        reply = decode_reply(written + b"\0" * 20, COOKIE)
        assert (reply.leap, reply.stratum, reply.step, reply.kiss) == (leap, stratum, 2**-6, "")
        assert reply.unsynchronised == ""
        assert ntp.to_unix(reply.received, when + 3600) == pytest.approx(when, abs=1e-5)

    def test_the_lab_writes_what_scapy_reads(self) -> None:
        packet = NTPHeader(REPLY)
        assert (packet.leap, packet.version, packet.mode, packet.stratum) == (0, 4, 4, 3)
        assert float(packet.recv) == pytest.approx(NOW + 2_208_988_800, abs=1e-3)
        silent = NTPHeader(ntp_reply(ntp.encode_request(COOKIE), NOW, synchronised=False))
        assert (silent.leap, silent.stratum) == (3, 0)

    @pytest.mark.parametrize(
        ("leap", "stratum", "refid", "says"),
        [
            (0, 1, b"LOCL", ""),
            (1, 15, b"\x0a\0\0\x01", ""),
            (3, 2, b"\x0a\0\0\x01", "leap 3"),
            (3, 0, bytes(4), "leap 3"),
            (0, 0, bytes(4), "stratum 0"),
            (0, 16, bytes(4), "stratum 16"),
            (0, 255, bytes(4), "stratum 255"),
            (3, 0, b"RATE", "kiss-o'-death RATE"),
            (0, 0, b"DENY", "kiss-o'-death DENY"),
            (3, 0, b"\x1b[2J", "kiss-o'-death 2J"),
        ],
    )
    def test_a_clock_that_is_nobodys(self, leap: int, stratum: int, refid: bytes, says: str) -> None:
        reply = decode_reply(bytes([leap << 6 | 0x24, stratum]) + REPLY[2:12] + refid + REPLY[16:], COOKIE)
        assert reply.unsynchronised == says

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"", "0 bytes, and an NTP datagram has 48"),
            (REPLY[:47], "47 bytes, and an NTP datagram has 48"),
            (b"\x23" + REPLY[1:], "no answer of an NTP server (version 4, mode 3)"),
            (b"\x25" + REPLY[1:], "no answer of an NTP server (version 4, mode 5)"),
            (b"\x04" + REPLY[1:], "no answer of an NTP server (version 0, mode 4)"),
            (b"\x2c" + REPLY[1:], "no answer of an NTP server (version 5, mode 4)"),
            (REPLY[:24] + bytes(8) + REPLY[32:], "the answer to another question (origin timestamp)"),
            (REPLY[:32] + bytes(8) + REPLY[40:], "an answer without a time"),
            (REPLY[:40] + bytes(8), "an answer without a time"),
        ],
    )
    def test_anything_else_is_named(self, data: bytes, problem: str) -> None:
        with pytest.raises(NtpFormatError) as raised:
            decode_reply(data, COOKIE)
        assert str(raised.value) == problem

    def test_older_versions_answer_too(self) -> None:
        assert decode_reply(b"\x1c" + REPLY[1:], COOKIE).stratum == 3

    @given(cookies, cookies)
    def test_only_the_own_question_is_answered(self, asked: int, other: int) -> None:
        reply = ntp_reply(ntp.encode_request(asked), NOW)
        assert decode_reply(reply, asked).stratum == 3
        if other != asked:
            with pytest.raises(NtpFormatError):
                decode_reply(reply, other)

    @given(plausible)
    def test_any_bytes_are_read_or_named(self, data: bytes) -> None:
        try:
            reply = decode_reply(data, COOKIE)
        except NtpFormatError:
            return
        assert reply.kiss.isalnum() or not reply.kiss
        assert 0 < reply.step <= ntp.COARSEST
        assert abs(ntp.to_unix(reply.sent, NOW) - NOW) <= 2**31


class TestTimestamp:
    @given(st.floats(-2e9, 2e10), st.floats(-2e9, 2e9))
    def test_the_era_is_the_one_that_is_closest(self, near: float, apart: float) -> None:
        assert ntp.to_unix(ntp.from_unix(near + apart), near) == pytest.approx(near + apart, abs=1e-4)

    @pytest.mark.parametrize("apart", [-7200.0, -0.5, 0.0, 0.5, 7200.0])
    @pytest.mark.parametrize("own", [-3600.0, 0.0, 3600.0])
    def test_across_2036(self, apart: float, own: float) -> None:
        stamp = ntp.from_unix(ROLLOVER + apart)
        assert (stamp < 1 << 63) == (apart >= 0)
        assert ntp.to_unix(stamp, ROLLOVER + own) == pytest.approx(ROLLOVER + apart, abs=1e-6)

    def test_known_moments(self) -> None:
        # RFC 5905 figure 4: first day of Unix, and the last day of era 0
        assert ntp.from_unix(0) >> 32 == 2_208_988_800
        assert ntp.from_unix(ROLLOVER) == 0
