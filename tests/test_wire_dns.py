import contextlib
import ipaddress
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.wire import dns as wire

IN = dns.rdataclass.IN

labels = st.one_of(
    st.text("abcxyzABC019-_", min_size=1, max_size=12).map(str.encode),
    st.binary(min_size=1, max_size=20),
    st.binary(min_size=63, max_size=63),
)
names = (
    st.lists(labels, max_size=5)
    .filter(lambda parts: sum(len(part) + 1 for part in parts) < 255)
    .map(lambda parts: dns.name.Name([*parts, b""]))
)


def rdata(kind: str, text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(IN, dns.rdatatype.from_text(kind), text)


rdatas = st.one_of(
    st.builds(
        lambda priority, weight, port, target: rdata("SRV", f"{priority} {weight} {port} {target}"),
        st.integers(0, 65_535),
        st.integers(0, 65_535),
        st.integers(0, 65_535),
        names,
    ),
    st.ip_addresses(v=4).map(lambda address: rdata("A", str(address))),
    st.ip_addresses(v=6).map(lambda address: rdata("AAAA", str(address))),
    names.map(lambda name: rdata("CNAME", str(name))),
    names.map(lambda name: rdata("NS", str(name))),
    st.binary(min_size=1, max_size=40).map(lambda data: rdata("TXT", '"' + data.hex() + '"')),
    st.builds(
        lambda name, person, serial: rdata("SOA", f"{name} {person} {serial} 2 3 4 5"),
        names,
        names,
        st.integers(0, 2**32 - 1),
    ),
    st.binary(max_size=20).map(lambda data: rdata("TYPE65280", rf"\# {len(data)} {data.hex()}")),
)
records = st.builds(
    lambda name, ttl, data: dns.rrset.from_rdata(name, ttl, data), names, st.integers(0, 2**31 - 1), rdatas
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    message = dns.message.QueryMessage(id=draw(st.integers(0, 65_535)))
    message.flags = dns.flags.Flag(draw(st.sampled_from([0x8000, 0x8400, 0x8180, 0x0100, 0x8000 | 0x0580])))
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["SRV", "A", "AAAA", "CNAME", "TXT"]))
        message.question.append(
            dns.rrset.RRset(draw(names), IN, dns.rdatatype.from_text(kind)),
        )
    message.answer = draw(st.lists(records, max_size=6))
    message.authority = draw(st.lists(records, max_size=2))
    message.additional = draw(st.lists(records, max_size=2))
    if draw(st.booleans()):
        message.use_edns(0, payload=draw(st.integers(512, 65_535)))
    message.set_rcode(
        dns.rcode.Rcode(draw(st.sampled_from([0, 1, 2, 3, 4, 5, 9, *([16] if message.edns >= 0 else [])])))
    )
    return message.to_wire(max_size=65_535)


def text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def expected(item: Any) -> str | wire.SrvData | wire.SoaData | None:
    if item.rdclass != IN:
        return None
    if item.rdtype == dns.rdatatype.SRV:
        return wire.SrvData(item.priority, item.weight, item.port, text(item.target))
    if item.rdtype == dns.rdatatype.SOA:
        return wire.SoaData(text(item.mname), item.serial)
    if item.rdtype in (dns.rdatatype.CNAME, dns.rdatatype.NS):
        return text(item.target)
    if item.rdtype == dns.rdatatype.A:
        return str(item.address)
    if item.rdtype == dns.rdatatype.AAAA:
        # dnspython writes ::ffff:10.1.0.8 where ipaddress writes ::ffff:a01:8.
        return str(ipaddress.ip_address(item.address))
    return None


def answer(*lines: str, kind: str = "SRV", flags: int = 0x8400) -> bytes:
    """A response of dnspython's, from records in text form."""
    query = dns.message.make_query("_vlmcs._tcp.contoso.example", kind, id=7)
    response = dns.message.make_response(query)
    response.flags = dns.flags.Flag(flags)
    for line in lines:
        name, ttl, _in, type_, data = line.split(None, 4)
        response.answer.append(dns.rrset.from_text(name, int(ttl), "IN", type_, data))
    return response.to_wire(max_size=65_535)


VALID = answer(
    "_vlmcs._tcp.contoso.example. 60 IN CNAME a.contoso.example.",
    "a.contoso.example. 60 IN SRV 1 2 1688 kms.contoso.example.",
    "kms.contoso.example. 60 IN A 10.1.0.8",
    "kms.contoso.example. 60 IN AAAA fd00::8",
)


class TestOracle:
    @given(messages())
    def test_reads_what_dnspython_reads(self, data: bytes) -> None:
        theirs = dns.message.from_wire(data, one_rr_per_rrset=True)
        ours = wire.decode(data)
        assert ours.id == theirs.id
        assert ours.rcode == theirs.rcode()
        assert ours.edns == (theirs.edns >= 0)
        assert ours.response == bool(theirs.flags & dns.flags.QR)
        assert ours.authoritative == bool(theirs.flags & dns.flags.AA)
        assert ours.truncated == bool(theirs.flags & dns.flags.TC)
        assert ours.recursion == bool(theirs.flags & dns.flags.RA)
        question = [(text(one.name), one.rdtype) for one in theirs.question]
        assert ours.question == (question[0] if question else ("", 0))
        assert ours.answers == tuple(
            wire.Record(text(rrset.name), rrset.rdtype, rrset.ttl, expected(rrset[0])) for rrset in theirs.answer
        )
        kinds = {rrset.rdtype for rrset in theirs.authority}
        assert ours.referral == (dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds)

    @given(
        name=names,
        kind=st.sampled_from([wire.A, wire.AAAA, wire.SRV, wire.SOA, wire.NS]),
        number=st.integers(0, 65_535),
        edns=st.booleans(),
        recursion=st.booleans(),
    )
    def test_dnspython_reads_our_question(
        self, name: dns.name.Name, kind: int, number: int, *, edns: bool, recursion: bool
    ) -> None:
        data = wire.encode_question(str(name), kind, number, edns=edns, recursion=recursion)
        question = dns.message.from_wire(data)
        assert question.id == number
        assert question.flags == (dns.flags.RD if recursion else 0)
        (asked,) = question.question
        assert (asked.name, asked.rdtype, asked.rdclass) == (name, kind, IN)
        assert question.edns == (0 if edns else -1)
        assert question.payload == (wire.PAYLOAD if edns else 0)

    def test_a_compressed_answer_of_many_records(self) -> None:
        lines = [f"_vlmcs._tcp.contoso.example. 60 IN SRV 0 0 1688 h{n}.contoso.example." for n in range(1000)]
        found = wire.decode(answer(*lines)).answers
        assert [record.data.target for record in found if isinstance(record.data, wire.SrvData)] == [
            f"h{n}.contoso.example" for n in range(1000)
        ]


class TestAsked:
    """The name that was asked for need not be read again; that must never change what is read."""

    @given(messages(), names)
    def test_any_name_gives_the_same(self, data: bytes, other: dns.name.Name) -> None:
        plain = wire.decode(data)
        assert wire.decode(data, text(other)) == plain
        assert wire.decode(data, plain.question[0]) == plain

    def test_names_that_point_into_the_question(self) -> None:
        data = answer("_tcp.contoso.example. 60 IN SRV 1 2 1688 contoso.example.")
        assert wire.decode(data, "_vlmcs._tcp.contoso.example") == wire.decode(data)
        (record,) = wire.decode(data, "_vlmcs._tcp.contoso.example").answers
        assert record == wire.Record("_tcp.contoso.example", wire.SRV, 60, wire.SrvData(1, 2, 1688, "contoso.example"))

    @given(messages(), st.integers(0, 10_000), st.integers(0, 255))
    def test_a_flipped_byte(self, data: bytes, at: int, value: int) -> None:
        """Where dnspython still makes something of it and so does kmsdiag, they make the same of it."""
        at %= len(data)
        data = data[:at] + bytes([value]) + data[at + 1 :]
        try:
            theirs = dns.message.from_wire(data, one_rr_per_rrset=True)
            ours = wire.decode(data)
        except (dns.exception.DNSException, wire.DnsFormatError, ValueError):
            return
        if theirs.opcode() == 0 and not theirs.flags & dns.flags.TC:
            assert [record.name for record in ours.answers] == [text(rrset.name) for rrset in theirs.answer]
            assert [record.data for record in ours.answers if record.data is not None] == [
                found for rrset in theirs.answer for item in rrset if (found := expected(item)) is not None
            ]


def with_authority(*lines: str, rcode: int = 0) -> bytes:
    """A response without an answer, and these records in its authority section."""
    response = dns.message.from_wire(answer())
    response.set_rcode(dns.rcode.Rcode(rcode))
    for line in lines:
        name, ttl, _in, type_, data = line.split(None, 4)
        response.authority.append(dns.rrset.from_text(name, int(ttl), "IN", type_, data))
    return response.to_wire()


class TestSoa:
    ZONE = "contoso.example. 60 IN SOA NS1.Contoso.example. hostmaster.contoso.example. 4294967295 3600 600 86400 60"
    READ = wire.Record("contoso.example", wire.SOA, 60, wire.SoaData("ns1.contoso.example", 4_294_967_295))

    def test_as_an_answer(self) -> None:
        message = wire.decode(answer(self.ZONE))
        assert message.answers == (self.READ,)
        assert message.soa is None

    @pytest.mark.parametrize("rcode", [0, 3])
    def test_with_an_absence(self, rcode: int) -> None:
        message = wire.decode(with_authority(self.ZONE, rcode=rcode))
        assert message.answers == ()
        assert message.soa == self.READ
        assert not message.referral

    def test_beside_name_servers_it_is_no_referral(self) -> None:
        server = "contoso.example. 60 IN NS ns1.contoso.example."
        for lines in ((server, self.ZONE), (self.ZONE, server)):
            message = wire.decode(with_authority(*lines))
            assert message.soa == self.READ
            assert not message.referral
        assert wire.decode(with_authority(server)).referral
        assert wire.decode(with_authority(server)).soa is None

    @pytest.mark.parametrize("change", [-1, 1])
    def test_that_does_not_fill_its_length(self, change: int) -> None:
        data = answer("contoso.example. 60 IN SOA . . 1 2 3 4 5")
        at = data.index(b"\0\x16\0\0\0\0\0\x01")
        bad = data[:at] + (22 + change).to_bytes(2, "big") + data[at + 2 :] + b"\0" * max(0, change)
        with pytest.raises(wire.DnsFormatError):
            wire.decode(bad)


class TestHead:
    """Header and question, of messages whose rest may be cut."""

    @given(messages())
    def test_it_is_that_of_the_whole(self, data: bytes) -> None:
        whole, head = wire.decode(data), wire.decode_head(data)
        assert (head.id, head.response, head.truncated) == (whole.id, whole.response, whole.truncated)
        assert (head.rcode, head.question, head.answers) == (whole.rcode & 15, whole.question, len(whole.answers))

    @given(messages(), st.integers(0, 300))
    def test_a_cut_gives_the_same_or_an_error(self, data: bytes, kept: int) -> None:
        try:
            head = wire.decode_head(data[:kept])
        except wire.DnsFormatError:
            return
        assert head == wire.decode_head(data)


class TestBesidesTheAnswer:
    def test_addresses_that_come_along(self) -> None:
        message = dns.message.from_wire(answer("_vlmcs._tcp.contoso.example. 60 IN SRV 1 2 1688 kms.contoso.example."))
        for line in ("A 10.1.0.8", "AAAA fd00::8", "TXT x"):
            kind, data = line.split()
            message.additional.append(dns.rrset.from_text("KMS.contoso.example.", 60, "IN", kind, data))
        assert wire.decode(message.to_wire()).additional == (
            wire.Record("kms.contoso.example", wire.A, 60, "10.1.0.8"),
            wire.Record("kms.contoso.example", wire.AAAA, 60, "fd00::8"),
        )

    def test_the_cache_flush_bit_of_multicast_dns(self) -> None:
        data = bytearray(answer("kms.local. 60 IN A 10.1.0.8"))
        at = data.index(b"\0\1\0\1\0\0\0\x3c")
        data[at + 2] = 0x80
        assert wire.decode(bytes(data)).answers[0].data is None
        assert wire.decode(bytes(data), multicast=True).answers[0].data == "10.1.0.8"


class TestOddAnswers:
    @pytest.mark.parametrize("edns", [True, False])
    def test_every_truncation_of_a_message_is_an_error(self, *, edns: bool) -> None:
        message = dns.message.from_wire(VALID)
        message.use_edns(0 if edns else -1)
        data = message.to_wire()
        wire.decode(data)
        for cut in range(len(data)):
            with pytest.raises(wire.DnsFormatError):
                wire.decode(data[:cut])

    @given(messages(), st.data())
    def test_every_truncation_gives_a_message_or_an_error(self, data: bytes, draw: st.DataObject) -> None:
        _decode(data[: draw.draw(st.integers(0, len(data)))])

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        _decode(data)

    @given(st.binary(max_size=120), st.tuples(*[st.integers(0, 3)] * 4))
    def test_any_bytes_behind_a_header(self, data: bytes, counts: tuple[int, ...]) -> None:
        head = b"\0\x07\x84\0" + b"".join(count.to_bytes(2, "big") for count in counts)
        _decode(head + data)

    @given(messages(), st.integers(0, 10_000), st.integers(0, 255))
    def test_a_flipped_byte(self, data: bytes, at: int, value: int) -> None:
        at %= len(data)
        _decode(data[:at] + bytes([value]) + data[at + 1 :])

    def test_a_compression_loop(self) -> None:
        head = b"\0\x07\x84\0\0\0\0\x01\0\0\0\0"
        with pytest.raises(wire.DnsFormatError, match="BadPointer"):
            wire.decode(head + b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x08\0\0\0\0\x06\x98\xc0\x0c")

    def test_counts_that_promise_more_than_there_is(self) -> None:
        with pytest.raises(wire.DnsFormatError):
            wire.decode(VALID[:6] + b"\xff\xff" + VALID[8:])

    def test_rdata_that_does_not_fill_its_length(self) -> None:
        srv = answer("_vlmcs._tcp.contoso.example. 60 IN SRV 1 2 1688 .")
        at = srv.index(b"\0\x07\0\x01\0\x02\x06\x98")
        with pytest.raises(wire.DnsFormatError):
            wire.decode(srv[:at] + b"\0\x08" + srv[at + 2 :] + b"\0")

    @pytest.mark.parametrize(("kind", "size"), [(1, 5), (1, 3), (28, 4), (28, 17)])
    def test_addresses_of_another_size(self, kind: int, size: int) -> None:
        head = b"\0\x07\x84\0\0\0\0\x01\0\0\0\0"
        record = b"\0" + kind.to_bytes(2, "big") + b"\0\x01\0\0\0\x3c" + size.to_bytes(2, "big") + b"\x0a" * size
        with pytest.raises(wire.DnsFormatError):
            wire.decode(head + record)

    def test_a_cut_answer_may_lack_its_end(self) -> None:
        """A server that sets TC may count records that it left out."""
        cut = bytearray(answer(flags=0x8600))
        cut[11] = 3
        assert wire.decode(bytes(cut)).truncated

    def test_an_unknown_rcode_has_a_name(self) -> None:
        assert wire.decode(VALID[:3] + b"\x0b" + VALID[4:]).rcode_name == "RCODE11"

    def test_upper_case_is_folded(self) -> None:
        found = wire.decode(answer("_VLMCS._tcp.Contoso.example. 60 IN SRV 0 0 1688 KMS.Contoso.EXAMPLE."))
        (record,) = found.answers
        assert record.name == "_vlmcs._tcp.contoso.example"
        assert isinstance(record.data, wire.SrvData)
        assert record.data.target == "kms.contoso.example"

    @given(messages())
    def test_all_text_is_printable_ascii(self, data: bytes) -> None:
        for record in wire.decode(data).answers:
            named = record.data or ""
            if isinstance(named, wire.SrvData):
                named = named.target
            elif isinstance(named, wire.SoaData):
                named = named.primary
            for one in (record.name, named):
                assert one.isascii()
                assert one.isprintable()


class TestQuestion:
    @given(st.text(max_size=80))
    def test_any_text_is_a_question_or_an_error(self, name: str) -> None:
        with contextlib.suppress(wire.DnsFormatError):
            dns.message.from_wire(wire.encode_question(name, wire.SRV, 1, edns=True))

    @pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["x" * 60] * 5)])
    def test_what_dns_can_not_carry(self, name: str) -> None:
        with pytest.raises(wire.DnsFormatError, match="no DNS name"):
            wire.encode_question(name, wire.A, 1, edns=False)


def _decode(data: bytes) -> None:
    with contextlib.suppress(wire.DnsFormatError):
        wire.decode(data)
