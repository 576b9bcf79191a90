import datetime
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from impacket import smb3structs
from scapy.layers.smb2 import SMB2_Header, SMB2_Negotiate_Protocol_Request, SMB2_Negotiate_Protocol_Response

from kmsdiag.lab.time import smb2_reply
from kmsdiag.wire import smb2
from kmsdiag.wire.smb2 import FIXED, FRAME, Negotiated, Smb2FormatError, decode_negotiate, missing

CLIENT, SALT = bytes(range(16)), bytes(range(100, 132))
NOON = datetime.datetime(2026, 1, 5, 12, 0, 0, 250_000, tzinfo=datetime.UTC).timestamp()
REPLY = smb2_reply(smb2.filetime(NOON))


def put(at: int, value: bytes, reply: bytes = REPLY) -> bytes:
    """The reply with some bytes of its message replaced."""
    return reply[: FRAME + at] + value + reply[FRAME + at + len(value) :]


def framed(message: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I", len(message) if size is None else size) + message


def error_reply(status: int) -> bytes:
    header = struct.pack("<4sHHIHHIIQIIQ16s", b"\xfeSMB", 64, 0, status, 0, 1, 1, 0, 0, 0, 0, 0, b"")
    return framed(header + struct.pack("<HBBIB", 9, 0, 0, 0, 0))


plausible = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda at, value: put(at % (len(REPLY) - FRAME), value), st.integers(0), st.binary(max_size=8)),
    st.builds(lambda size, body: framed(body, size), st.integers(0, 0xFFFFFF), st.binary(max_size=150)),
    st.builds(lambda cut: REPLY[:cut], st.integers(0, len(REPLY))),
    st.builds(lambda body: framed(b"\xfeSMB" + body), st.binary(min_size=60, max_size=200)),
)


class TestRequest:
    def test_impacket_reads_it(self) -> None:
        request = smb2.encode_negotiate(CLIENT, SALT)
        assert int.from_bytes(request[:4], "big") == len(request) - 4
        packet = smb3structs.SMB2Packet(request[4:])
        assert (packet["Command"], packet["Status"], packet["SessionID"], packet["MessageID"]) == (0, 0, 0, 0)
        body = smb3structs.SMB2Negotiate(packet["Data"])
        assert (body["StructureSize"], body["DialectCount"], body["ClientGuid"]) == (36, 5, CLIENT)
        # Signing is offered and not demanded.
        assert (body["SecurityMode"], body["Capabilities"]) == (1, 0)
        offset, count, _reserved = struct.unpack("<IHH", body["ClientStartTime"])
        assert (offset % 8, count) == (0, 1)
        context = smb3structs.SMB2NegotiateContext(request[4 + offset :])
        assert context["ContextType"] == smb3structs.SMB2_PREAUTH_INTEGRITY_CAPABILITIES
        hashes = smb3structs.SMB2PreAuthIntegrityCapabilities(context["Data"])
        assert (hashes["HashAlgorithmCount"], hashes["SaltLength"], hashes["Salt"]) == (1, 32, SALT)
        assert request[4 + offset + 8 + context["DataLength"] :] == b""

    def test_scapy_reads_it(self) -> None:
        packet = SMB2_Header(smb2.encode_negotiate(CLIENT, SALT)[FRAME:])
        assert packet.Command == 0
        request = packet[SMB2_Negotiate_Protocol_Request]
        assert tuple(request.Dialects) == smb2.DIALECTS == (0x0202, 0x0210, 0x0300, 0x0302, 0x0311)
        (context,) = request.NegotiateContexts
        assert (context.ContextType, context.HashAlgorithms, context.Salt) == (1, [1], SALT)

    def test_there_is_no_session_setup(self) -> None:
        assert [name for name in dir(smb2) if name.startswith("encode")] == ["encode_negotiate"]


class TestReply:
    @given(st.integers(1, 7000 * 365 * 86_400), st.sampled_from(smb2.DIALECTS))
    def test_the_time_that_impacket_writes(self, since: int, dialect: int) -> None:
        body = smb3structs.SMB2Negotiate_Response()
        body["SecurityMode"], body["DialectRevision"] = 1, dialect
        body["ServerGuid"] = CLIENT
        body["SystemTime"] = since * 10_000_000
        body["SecurityBufferOffset"], body["SecurityBufferLength"], body["Buffer"] = 0x80, 5, b"hello"
        packet = smb3structs.SMB2Packet()
        packet["Command"], packet["Flags"], packet["Data"] = 0, smb3structs.SMB2_FLAGS_SERVER_TO_REDIR, body
        read = decode_negotiate(framed(packet.getData()))
        assert read.dialect == dialect
        first = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
        assert read.time == first.timestamp() + since

    def test_the_time_that_scapy_writes(self) -> None:
        body = SMB2_Negotiate_Protocol_Response(
            DialectRevision=0x0311, ServerTime=smb2.filetime(NOON), ServerStartTime=0
        )
        packet = SMB2_Header(Command=0, Flags="SMB2_FLAGS_SERVER_TO_REDIR") / body
        read = decode_negotiate(framed(bytes(packet)))
        assert read == (0x0311, NOON)

    def test_the_lab_writes_what_others_read(self) -> None:
        packet = SMB2_Header(REPLY[FRAME:])
        assert packet.Flags.SMB2_FLAGS_SERVER_TO_REDIR
        assert packet[SMB2_Negotiate_Protocol_Response].DialectRevision == 0x0302
        body = smb3structs.SMB2Negotiate_Response(smb3structs.SMB2Packet(REPLY[4:])["Data"])
        assert body["SystemTime"] == smb2.filetime(NOON)

    @given(st.floats(-1e10, 1e11))
    def test_there_and_back(self, seconds: float) -> None:
        ticks = smb2.filetime(seconds)
        if ticks > 0:
            assert decode_negotiate(smb2_reply(ticks)).time == pytest.approx(seconds, abs=2e-5)

    def test_the_security_buffer_need_not_have_come(self) -> None:
        whole = framed(put(0x78, struct.pack("<HH", 128, 300))[FRAME:] + bytes(300))
        assert missing(whole[: FRAME + FIXED]) == 0
        assert decode_negotiate(whole[: FRAME + FIXED]).time == NOON

    @pytest.mark.parametrize(
        ("reply", "problem"),
        [
            (b"", "0 of 4 bytes of a frame"),
            (b"\0\0\0", "3 of 4 bytes of a frame"),
            (b"HTTP/1.1 400 Bad Request\r\n", "the answer is no SMB"),
            (b"S", "the answer is no SMB"),
            (b"\x83\0\0\x01\x8f", "it answers with a NetBIOS negative session response"),
            (b"\x82\0\0\0", "it answers with a NetBIOS positive session response"),
            (b"\x85\0\0\0", "it answers with a NetBIOS keep-alive"),
            (framed(b"\xffSMBr" + bytes(60)), "it speaks SMB 1 only"),
            (framed(b"\xffSMBr" + bytes(200)), "it speaks SMB 1 only"),
            (framed(b"\xfdSMB" + bytes(200)), "the answer is no SMB"),
            (framed(b""), "a frame of 0 bytes cannot hold an answer to NEGOTIATE"),
            (framed(REPLY[FRAME:], 72), "a frame of 72 bytes cannot hold an answer to NEGOTIATE"),
            (framed(REPLY[FRAME:], 0xFFFFFF), "a frame of 16777215 bytes cannot hold an answer to NEGOTIATE"),
            (framed(REPLY[FRAME:][:100]), "an answer to NEGOTIATE has 128 bytes or more, here are 100"),
            (REPLY[:50], "46 of 128 bytes of an answer"),
            (REPLY[:-1], "127 of 128 bytes of an answer"),
            (error_reply(0xC00000BB), "it refuses to negotiate: STATUS_NOT_SUPPORTED"),
            (error_reply(0xC0000022), "it refuses to negotiate: STATUS_ACCESS_DENIED"),
            (error_reply(0xC0DE0001), "it refuses to negotiate: status 0xC0DE0001"),
            (error_reply(0), "an answer to NEGOTIATE has 128 bytes or more, here are 73"),
            (put(4, b"\x41"), "the answer is to something else than NEGOTIATE"),
            (put(12, b"\x01"), "the answer is to something else than NEGOTIATE"),
            (put(16, b"\0"), "the answer is to something else than NEGOTIATE"),
            (put(64, b"\x24"), "the answer is to something else than NEGOTIATE"),
            (put(68, b"\xff\x02"), "it picked the dialect 0x02ff, which was not offered"),
            (put(120, b"\x10\0\x01\0"), "its security buffer lies outside the 128 bytes of the frame"),
            (put(120, b"\x80\0\x01\0"), "its security buffer lies outside the 128 bytes of the frame"),
            (put(104, bytes(8)), "the answer has no time (SystemTime)"),
            (put(104, b"\xff" * 8), "the answer has no time (SystemTime)"),
        ],
    )
    def test_anything_else_is_named(self, reply: bytes, problem: str) -> None:
        with pytest.raises(Smb2FormatError) as raised:
            decode_negotiate(reply)
        assert str(raised.value) == problem


def verdict(data: bytes) -> Negotiated | str:
    try:
        return decode_negotiate(data)
    except Smb2FormatError as error:
        return str(error)


@given(plausible)
def test_any_bytes_are_read_or_named(data: bytes) -> None:
    found = verdict(data)
    if isinstance(found, str):
        assert found.isascii()
        assert found.isprintable()
    else:
        assert found.dialect in smb2.DIALECTS
        # Every time that it gives is one that arithmetic can take.
        assert -1.2e10 < found.time < 1e12


@given(plausible)
def test_reading_ends_and_never_waits_for_more_than_the_fixed_part(data: bytes) -> None:
    received = b""
    while size := missing(received):
        assert len(received) + size <= FRAME + FIXED
        if len(received) == len(data):
            break
        received = data[: len(received) + size]
    if not missing(received):
        # What follows changes nothing of what is said now.
        assert verdict(received) == verdict(data[: max(len(received), FRAME + FIXED)])
