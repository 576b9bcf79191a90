import contextlib
import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from impacket.dcerpc.v5.rpcrt import MSRPCBind, MSRPCHeader
from scapy.layers.dcerpc import DceRpc5, DceRpc5Bind

from kmsdiag.lab.rpc import bind_ack
from kmsdiag.model.answer import ContextResult
from kmsdiag.model.outcome import RpcOutcome
from kmsdiag.model.request import KMS_INTERFACE
from kmsdiag.probes.rpc import classify
from kmsdiag.wire import rpc

KMS = uuid.UUID(KMS_INTERFACE)
SYNTAXES = (
    (uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860"), 2),
    (uuid.UUID("71710533-beba-4937-8319-b5dbef9ccc36"), 1),
    (uuid.UUID("6cb71c2c-9812-4540-0300-000000000000"), 1),
)


def pdu(kind: int, body: bytes, *, order: str = "<", flags: int = 3, length: int | None = None) -> bytes:
    drep = b"\x10\0\0\0" if order == "<" else b"\0\0\0\0"
    size = 16 + len(body) if length is None else length
    return struct.pack("BBBB", 5, 0, kind, flags) + drep + struct.pack(order + "HHI", size, 0, 2) + body


def ack(
    results: list[tuple[int, int, uuid.UUID, int]], *, order: str = "<", address: bytes = b"1688\0", pad: bytes = b"\0"
) -> bytes:
    body = struct.pack(order + "HHIH", 5840, 5840, 0x1234, len(address)) + address
    body += pad * (-(16 + len(body)) % 4)
    body += struct.pack("BBH", len(results), 0, 0)
    for result, reason, syntax, version in results:
        raw = syntax.bytes_le if order == "<" else syntax.bytes
        body += struct.pack(order + "HH", result, reason) + raw + struct.pack(order + "I", version)
    return pdu(rpc.BIND_ACK, body, order=order)


# A reader of foreign bytes has to be fed bytes that look right at first: pure noise ends at the first field.
plausible = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda kind, body, order, length: pdu(kind, body, order=order, length=length),
        st.sampled_from([0, 3, 11, 12, 13, 14, 19, 255]),
        st.binary(max_size=160),
        st.sampled_from("<>"),
        st.one_of(st.none(), st.integers(0, 65_535)),
    ),
    st.builds(
        lambda base, at, value: base[: at % len(base)] + bytes([value]) + base[at % len(base) + 1 :],
        st.sampled_from(
            [
                rpc.encode_bind(KMS_INTERFACE),
                bind_ack(rpc.encode_bind(KMS_INTERFACE), 1688, None),
                ack([(2, 1, uuid.UUID(int=0), 0)], order=">"),
            ]
        ),
        st.integers(0, 10_000),
        st.integers(0, 255),
    ),
    st.builds(
        lambda base, cut: base[:cut],
        st.sampled_from([rpc.encode_bind(KMS_INTERFACE), bind_ack(rpc.encode_bind(KMS_INTERFACE), 1688, None)]),
        st.integers(0, 200),
    ),
)


class TestBind:
    def test_every_field_is_what_windows_sends(self) -> None:
        sent = rpc.encode_bind(KMS_INTERFACE)
        assert len(sent) == 160
        version, minor, kind, flags, drep, length, auth, call = struct.unpack_from("<BBBB4sHHI", sent)
        assert (version, minor, kind) == (5, 0, 11)
        assert flags == 0x01 | 0x02 | 0x10  # first and last fragment, concurrent multiplexing
        assert drep == b"\x10\0\0\0"  # little-endian, ASCII, IEEE
        assert (length, auth, call) == (160, 0, 2)
        assert struct.unpack_from("<HHI", sent, 16) == (5840, 5840, 0)
        assert sent[24:28] == b"\x03\0\0\0"
        for number, (syntax, version) in enumerate(SYNTAXES):
            at = 28 + 44 * number
            assert struct.unpack_from("<HBB", sent, at) == (number, 1, 0)
            assert sent[at + 4 : at + 20] == KMS.bytes_le
            assert struct.unpack_from("<HH", sent, at + 20) == (1, 0)
            assert sent[at + 24 : at + 40] == syntax.bytes_le
            assert struct.unpack_from("<I", sent, at + 40) == (version,)
        assert 28 + 44 * len(SYNTAXES) == len(sent)

    @given(st.uuids(), st.integers(0, 2**32 - 1))
    def test_round_trip(self, interface: uuid.UUID, call: int) -> None:
        sent = rpc.encode_bind(str(interface), call)
        offers = rpc.decode_bind(sent)
        assert [offer.number for offer in offers] == [0, 1, 2]
        assert {offer.interface for offer in offers} == {str(interface)}
        assert [offer.syntaxes for offer in offers] == [(str(syntax),) for syntax, _version in SYNTAXES]
        header = rpc.decode_header(sent)
        assert (header.call_id, header.type, header.length) == (call, rpc.BIND, len(sent))

    def test_scapy_reads_the_same(self) -> None:
        packet = DceRpc5(rpc.encode_bind(KMS_INTERFACE))
        assert (packet.rpc_vers, packet.ptype, packet.frag_len) == (5, 11, 160)
        bind = packet[DceRpc5Bind]
        assert (bind.max_xmit_frag, bind.max_recv_frag, bind.assoc_group_id) == (5840, 5840, 0)
        assert bind.n_context_elem == 3
        for number, (context, (syntax, version)) in enumerate(zip(bind.context_elem, SYNTAXES, strict=True)):
            assert context.cont_id == number
            assert context.abstract_syntax.if_uuid == KMS
            assert context.abstract_syntax.if_version == 1
            (transfer,) = context.transfer_syntaxes
            assert (transfer.if_uuid, transfer.if_version) == (syntax, version)

    def test_impacket_reads_the_same(self) -> None:
        sent = rpc.encode_bind(KMS_INTERFACE)
        header = MSRPCHeader(sent)
        assert (header["ver_major"], header["type"], header["frag_len"], header["call_id"]) == (5, 11, 160, 2)
        bind = MSRPCBind(header["pduData"])
        assert (bind["max_tfrag"], bind["max_rfrag"], bind["assoc_group"]) == (5840, 5840, 0)
        assert bind["ctx_num"] == 3
        assert bind["ctx_items"] == sent[28:]

    def test_there_is_no_way_to_make_a_request(self) -> None:
        makers = [
            name
            for name, value in vars(rpc).items()
            if callable(value) and (name.startswith("encode") or "request" in name.lower())
        ]
        assert makers == ["encode_bind"]


class TestHeader:
    @pytest.mark.parametrize("length", [0, 15, 5841, 65_535])
    def test_a_length_no_fragment_can_have(self, length: int) -> None:
        with pytest.raises(rpc.RpcFormatError, match=f"length {length} is outside"):
            rpc.decode_header(pdu(12, b"", length=length))

    def test_both_byte_orders(self) -> None:
        little, big = rpc.decode_header(pdu(12, b"ab")), rpc.decode_header(pdu(12, b"ab", order=">"))
        assert little == rpc.Header(0, 12, 3, True, 18, 0, 2)
        assert big == little._replace(little=False)

    def test_another_version(self) -> None:
        with pytest.raises(rpc.RpcFormatError, match="version 4"):
            rpc.decode_header(b"\x04" + pdu(12, b"")[1:])

    def test_too_short(self) -> None:
        with pytest.raises(rpc.RpcFormatError, match="here are 15"):
            rpc.decode_header(pdu(12, b"")[:15])

    @pytest.mark.parametrize(
        ("data", "could"),
        [
            (b"", False),
            (b"\x05", True),
            (b"\x05\x00", True),
            (b"\x05\x01", True),
            (b"\x05\x02", False),
            (b"\x05\x00\x13", True),
            (b"\x05\x00\x14", False),
            (b"HTTP", False),
        ],
    )
    def test_what_may_open_a_pdu(self, data: bytes, *, could: bool) -> None:
        assert rpc.could_be_rpc(data) is could


NDR32, NDR64, NOTHING = SYNTAXES[0][0], SYNTAXES[1][0], uuid.UUID(int=0)


class TestBindAck:
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_both_byte_orders(self, order: str) -> None:
        data = ack([(2, 2, NOTHING, 0), (0, 0, NDR64, 1), (3, 3, NOTHING, 0)], order=order)
        assert rpc.decode_bind_ack(data) == rpc.BindAck(
            "1688",
            (
                ContextResult(2, 2, str(NOTHING)),
                ContextResult(0, 0, "NDR64"),
                ContextResult(3, 3, str(NOTHING)),
            ),
        )

    @pytest.mark.parametrize("address", [b"", b"1\0", b"16\0", b"168\0", b"1688\0", b"16880\0"])
    def test_pad_bytes_may_hold_anything(self, address: bytes) -> None:
        # Windows leaves what was in memory between the address and the results.
        data = ack([(0, 0, NDR32, 2)], address=address, pad=b"\xee")
        found = rpc.decode_bind_ack(data)
        assert found == rpc.BindAck(address.rstrip(b"\0").decode(), (ContextResult(0, 0, "NDR32"),))

    def test_the_address_is_printable(self) -> None:
        found = rpc.decode_bind_ack(ack([], address=b"\x1b[2J\r\n\xff1688\0"))
        assert found.secondary_address == "?[2J???1688"

    def test_a_long_address_is_cut(self) -> None:
        assert rpc.decode_bind_ack(ack([], address=b"9" * 500)).secondary_address == "9" * 64

    def test_an_address_longer_than_the_pdu(self) -> None:
        data = bytearray(ack([(0, 0, NDR32, 2)]))
        data[24:26] = b"\xff\xff"
        with pytest.raises(rpc.RpcFormatError, match="65535 bytes does not fit"):
            rpc.decode_bind_ack(bytes(data))

    def test_more_results_than_fit(self) -> None:
        data = bytearray(ack([(0, 0, NDR32, 2)]))
        data[32] = 255
        with pytest.raises(rpc.RpcFormatError, match="255 context results do not fit"):
            rpc.decode_bind_ack(bytes(data))

    def test_cut_short(self) -> None:
        whole = ack([(0, 0, NDR32, 2)])
        for cut in range(len(whole) - 4):  # the last field, the version, is not read
            with pytest.raises(rpc.RpcFormatError):
                rpc.decode_bind_ack(whole[:cut])


class TestNakAndFault:
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_reasons(self, order: str) -> None:
        nak = pdu(rpc.BIND_NAK, struct.pack(order + "HBBB3x", 4, 1, 5, 0), order=order)
        assert rpc.decode_bind_nak(nak) == 4
        fault = pdu(rpc.FAULT, struct.pack(order + "IHBBII", 0, 0, 0, 0, 0x1C010003, 0), order=order)
        assert rpc.decode_fault(fault) == 0x1C010003

    def test_too_short(self) -> None:
        with pytest.raises(rpc.RpcFormatError, match="no reason"):
            rpc.decode_bind_nak(pdu(rpc.BIND_NAK, b"\x01"))
        with pytest.raises(rpc.RpcFormatError, match="no status"):
            rpc.decode_fault(pdu(rpc.FAULT, b"\0" * 11))

    def test_the_two_tables_of_reasons_differ(self) -> None:
        assert rpc.NAK_REASONS[2] == rpc.REJECT_REASONS[3] == "local_limit_exceeded"
        assert rpc.NAK_REASONS[1] != rpc.REJECT_REASONS[1]


class TestNames:
    @pytest.mark.parametrize(
        ("data", "name"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
            (b"\x15\x03\x03\x00\x02\x02\x46", "TLS"),
            (b"<!DOCTYPE html>", "HTTP or XML"),
            (b"220 mail ESMTP", "SMTP or FTP"),
            (b"* OK IMAP4", "IMAP"),
            (b"+OK ready", "POP3"),
            (b"-ERR wrong number", "Redis or POP3"),
            (b"RFB 003.008\n", "VNC"),
            (b"\x03\x00\x00\x13", "RDP"),
            (b"\0\0\0\x45\xfeSMB\x40", "SMB"),
            (b"\x4a\0\0\0\x0a8.0.36\0", "MySQL"),
            (b"AMQP\0\0\x09\x01", "AMQP"),
            (b"\xde\xad\xbe\xef", ""),
            (b"", ""),
        ],
    )
    def test_protocols(self, data: bytes, name: str) -> None:
        assert rpc.name_protocol(data) == name

    @given(st.binary(max_size=300))
    def test_an_excerpt_is_printable_ascii(self, data: bytes) -> None:
        shown = rpc.printable(data)
        body = shown.removesuffix("…")
        assert body.isascii()
        assert body.isprintable()
        assert (len(data) > 64) == shown.endswith("…")
        # Nothing is lost: the escapes lead back to the bytes.
        assert body.encode().decode("unicode_escape").encode("latin-1") == data[:64]


class TestAnyBytes:
    """Whatever arrives is a result or an RpcFormatError."""

    @given(plausible)
    def test_decoders(self, data: bytes) -> None:
        for decode in (
            rpc.decode_header,
            rpc.decode_bind_ack,
            rpc.decode_bind_nak,
            rpc.decode_fault,
            rpc.decode_bind,
        ):
            with contextlib.suppress(rpc.RpcFormatError):
                decode(data)
        assert isinstance(rpc.name_protocol(data), str)
        assert isinstance(rpc.could_be_rpc(data), bool)

    @given(plausible, st.sampled_from([RpcOutcome.SILENT, RpcOutcome.CLOSED, RpcOutcome.RESET]))
    def test_classify(self, data: bytes, ended: RpcOutcome) -> None:
        outcome, facts = classify(data, ended)
        assert set(facts) <= {"contexts", "reason", "secondary_address", "detail"}
        detail = facts.get("detail", "")
        assert detail.isascii()
        assert detail.isprintable()
        if not data:
            assert outcome is ended
        if outcome is RpcOutcome.ACCEPTED:
            assert any(context.result == 0 for context in facts["contexts"])

    @given(st.binary(min_size=1, max_size=64).filter(lambda data: data[0] != 5))
    def test_what_is_not_rpc_is_never_accepted(self, data: bytes) -> None:
        assert classify(data, RpcOutcome.CLOSED)[0] in (RpcOutcome.OTHER_PROTOCOL, RpcOutcome.MALFORMED)
