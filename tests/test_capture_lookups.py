import random
from collections.abc import Callable
from typing import Any, Final

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture import lookups
from kmsdiag.capture.lookups import PATIENCE, WINDOW, Lookups, Transaction, summarise
from kmsdiag.model.answer import Icmp, SrvRecord
from kmsdiag.model.capture import CapturedLookup, Channel, Frame, Spread
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.wire.layers import Datagram, IcmpError, Segment
from tests.kmsbytes import NS, START, Talk, frame
from tests.samples import SAMPLES, need_samples, packets

CLIENT: Final = bytes([10, 1, 0, 5])
SERVER: Final = bytes([10, 1, 0, 2])
ROUTER: Final = bytes([10, 1, 0, 1])
MDNS_GROUP: Final = bytes([224, 0, 0, 251])
LLMNR_GROUP: Final = bytes([224, 0, 0, 252])
SRV = "_vlmcs._tcp.contoso.example"
KMS = "kms.contoso.example"
RECORD = f"{SRV}. 3600 IN SRV 0 100 1688 {KMS}."
ADDRESS = f"{KMS}. 3600 IN A 10.1.0.8"
SECOND = NS
MS = 1_000_000


def question(name: str = SRV, kind: str = "SRV", number: int = 7) -> bytes:
    return dns.message.make_query(name, kind, id=number).to_wire()


def reply(
    *records: str,
    name: str = SRV,
    kind: str = "SRV",
    number: int = 7,
    rcode: int = 0,
    flags: int = 0,
    additional: tuple[str, ...] = (),
    authority: tuple[str, ...] = (),
) -> bytes:
    response = dns.message.make_response(dns.message.make_query(name, kind, id=number))
    response.set_rcode(dns.rcode.Rcode(rcode))
    response.flags |= dns.flags.Flag(flags)
    for section, lines in (
        (response.answer, records),
        (response.additional, additional),
        (response.authority, authority),
    ):
        for line in lines:
            owner, ttl, family, type_, data = line.split(None, 4)
            section.append(dns.rrset.from_text(owner, int(ttl), family, type_, data))
    return response.to_wire(max_size=65_535)


class Net:
    """Datagrams in the order in which they pass, a millisecond apart."""

    def __init__(self) -> None:
        self.sent: list[Datagram] = []
        self.errors: list[IcmpError] = []
        self.segments: list[Segment] = []
        self.now = 0
        self.ref = 0

    def send(
        self,
        data: bytes,
        *,
        src: bytes = CLIENT,
        sport: int = 50_000,
        dst: bytes = SERVER,
        dport: int = 53,
        after: int = MS,
        kept: int | None = None,
    ) -> "Net":
        self.now += after
        self.ref += 1
        payload = data if kept is None else data[:kept]
        self.sent.append(Datagram(self.ref, self.now, src, sport, dst, dport, payload, len(data)))
        return self

    def ask(self, name: str = SRV, kind: str = "SRV", number: int = 7, **more: Any) -> "Net":
        return self.send(question(name, kind, number), **more)

    def tell(self, *records: str, port: int = 50_000, after: int = MS, kept: int | None = None, **more: Any) -> "Net":
        data = reply(*records, **more)
        return self.send(data, src=SERVER, sport=53, dst=CLIENT, dport=port, after=after, kept=kept)

    def error(self, kind: int, code: int, *, port: int = 50_000, after: int = MS) -> "Net":
        self.now += after
        self.ref += 1
        self.errors.append(IcmpError(self.ref, self.now, ROUTER, kind, code, False, 17, CLIENT, port, SERVER, 53, None))
        return self

    def fed(self, found: Lookups | None = None) -> Lookups:
        found = found or Lookups()
        for one in self.sent:
            found.feed(one)
        for error in self.errors:
            found.feed_icmp(error)
        if self.segments:
            found.feed_stream(self.segments)
        return found

    def transactions(self, *, after: int = 60 * SECOND) -> list[Transaction]:
        return list(self.fed().transactions(self.now + after))

    def one(self, *, after: int = 60 * SECOND) -> Transaction:
        (found,) = self.transactions(after=after)
        return found

    def summary(self, *hosts: str) -> tuple[CapturedLookup, ...]:
        return summarise(self.transactions(), set(hosts), frame)


ENDS: dict[str, tuple[Callable[[], Net], DnsOutcome]] = {
    "answered": (lambda: Net().ask().tell(RECORD), DnsOutcome.ANSWERED),
    "no data": (lambda: Net().ask().tell(), DnsOutcome.NODATA),
    "a referral": (
        lambda: Net().ask().tell(authority=("contoso.example. 60 IN NS ns.contoso.example.",)),
        DnsOutcome.REFERRAL,
    ),
    "no such name": (lambda: Net().ask().tell(rcode=3), DnsOutcome.NXDOMAIN),
    "server failure": (lambda: Net().ask().tell(rcode=2), DnsOutcome.SERVFAIL),
    "refused": (lambda: Net().ask().tell(rcode=5), DnsOutcome.REFUSED),
    "another error": (lambda: Net().ask().tell(rcode=4), DnsOutcome.ERROR_RCODE),
    "truncated": (lambda: Net().ask().tell(flags=0x0200), DnsOutcome.TRUNCATED),
    "malformed": (
        lambda: Net().ask().send(reply(RECORD)[:-3], src=SERVER, sport=53, dst=CLIENT, dport=50_000),
        DnsOutcome.MALFORMED,
    ),
    "no answer": (lambda: Net().ask(), DnsOutcome.TIMEOUT),
    "not listening": (lambda: Net().ask().error(3, 3), DnsOutcome.NOT_LISTENING),
    "unreachable": (lambda: Net().ask().error(3, 13), DnsOutcome.UNREACHABLE),
    "an error and then an answer": (lambda: Net().ask().error(3, 1).tell(RECORD), DnsOutcome.ANSWERED),
    "a redirect is no error": (lambda: Net().ask().error(5, 1), DnsOutcome.TIMEOUT),
    "answered in a cut frame": (lambda: Net().ask().tell(RECORD, kept=60), DnsOutcome.ANSWERED),
    "refused in a cut frame": (lambda: Net().ask().tell(RECORD, rcode=5, kept=60), DnsOutcome.REFUSED),
}


@pytest.mark.parametrize(("net", "outcome"), ENDS.values(), ids=ENDS)
def test_how_a_question_ended(net: Callable[[], Net], outcome: DnsOutcome) -> None:
    assert net().one().outcome is outcome


class TestTransaction:
    def test_it_is_timed_and_has_its_frames(self) -> None:
        one = Net().ask(after=5 * MS).tell(RECORD, after=3 * MS).one()
        assert (one.asked, one.answered, one.elapsed) == ((1, 5 * MS), (2, 8 * MS), 3 * MS)
        assert (one.questions, one.rcode, one.over_tcp) == (1, "NOERROR", False)
        assert one.records == (SrvRecord(0, 100, 1688, KMS, 3600),)
        assert one.key == (Channel.DNS, "10.1.0.5", "10.1.0.2", SRV, "SRV")

    def test_names_are_compared_without_case(self) -> None:
        one = Net().ask("_VLMCS._TCP.Contoso.Example").tell(RECORD.upper(), name="_vlmcs._TCP.contoso.example").one()
        assert (one.key.name, one.outcome, one.records[0].target) == (SRV, DnsOutcome.ANSWERED, KMS)

    def test_a_repeated_question_counts_from_the_first(self) -> None:
        one = Net().ask().ask(after=SECOND).ask(number=8, after=2 * SECOND).tell(RECORD, number=8).one()
        assert (one.questions, one.elapsed) == (3, 3 * SECOND + MS)

    def test_a_later_one_is_another(self) -> None:
        assert len(Net().ask().ask(number=8, after=WINDOW + 1).transactions()) == 2
        assert len(Net().ask().tell(RECORD).ask(number=8).tell(RECORD, number=8).transactions()) == 2

    def test_a_truncated_answer_is_followed_over_tcp(self) -> None:
        net = Net().ask().tell(flags=0x0200)
        net.segments = tcp_talk(net.ref, question(number=9), reply(RECORD, number=9), at=net.now)
        one = net.one()
        assert (one.outcome, one.over_tcp, one.questions, one.retried) == (DnsOutcome.ANSWERED, True, 2, 1)
        assert one.answered is not None
        assert one.answered[0] == net.ref + 5
        (found,) = net.summary()
        assert (found.repeated, found.over_tcp, found.outcomes) == (0, 1, {"answered": 1})

    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_tcp_in_any_segments(self, size: int) -> None:
        net = Net()
        net.segments = tcp_talk(0, question(number=9), reply(RECORD, number=9), size=size)
        assert net.one().outcome is DnsOutcome.ANSWERED

    def test_several_messages_on_one_connection(self) -> None:
        net = Net()
        asked = question(number=9), question(KMS, "A", 10)
        told = reply(RECORD, number=9), reply(ADDRESS, name=KMS, kind="A", number=10)
        net.segments = tcp_talk(0, *asked, *told)
        assert [one.outcome for one in net.transactions()] == [DnsOutcome.ANSWERED] * 2

    @pytest.mark.parametrize("foreign", [{"number": 8}, {"port": 50_001}], ids=["another id", "another port"])
    def test_a_foreign_answer_is_none(self, foreign: dict[str, Any]) -> None:
        one = Net().ask().tell("evil.example. 1 IN A 192.0.2.66", rcode=3, **foreign).tell(RECORD).one()
        assert (one.outcome, one.records[0].target) == (DnsOutcome.ANSWERED, KMS)

    def test_of_two_answers_the_first_counts(self) -> None:
        one = Net().ask().tell(RECORD).tell(rcode=3).one()
        assert one.outcome is DnsOutcome.ANSWERED

    def test_an_answer_without_a_captured_question(self) -> None:
        one = Net().tell(RECORD).one()
        assert (one.outcome, one.asked, one.elapsed, one.questions) == (DnsOutcome.ANSWERED, None, None, 0)

    def test_a_question_at_the_end_of_the_capture_has_no_end(self) -> None:
        assert Net().ask().one(after=PATIENCE - 1).outcome is None
        assert Net().ask().one(after=PATIENCE).outcome is DnsOutcome.TIMEOUT
        assert Net().ask().ask().one(after=0).outcome is DnsOutcome.TIMEOUT

    def test_an_error_that_quotes_another_port_is_another_questions(self) -> None:
        assert Net().ask().error(3, 3, port=50_001).one().outcome is DnsOutcome.TIMEOUT

    def test_times_that_run_backwards_are_no_negative_durations(self) -> None:
        assert Net().ask().tell(RECORD, after=-5 * SECOND).one().elapsed == 0

    def test_names_behind_an_alias(self) -> None:
        alias = "alias.contoso.example"
        one = Net().ask(alias, "A").tell(f"{alias}. 60 IN CNAME {KMS}.", ADDRESS, name=alias, kind="A").one()
        assert one.addresses == ((alias, "10.1.0.8"), (KMS, "10.1.0.8"))

    def test_addresses_that_come_along(self) -> None:
        assert Net().ask().tell(RECORD, additional=(ADDRESS,)).one().addresses == ((KMS, "10.1.0.8"),)

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("_ldap._tcp.contoso.example", "SRV"),
            ("_vlmcsx._tcp.contoso.example", "SRV"),
            (SRV, "TXT"),
            ("x.example", "MX"),
        ],
    )
    def test_what_is_not_about_kms_is_left_out(self, name: str, kind: str) -> None:
        net = Net().ask(name, kind).tell(name=name, kind=kind)
        assert net.transactions() == []
        assert net.fed().messages == 2

    def test_a_bare_service_name_counts(self) -> None:
        assert Net().ask("_vlmcs._tcp").one().key.name == "_vlmcs._tcp"


class TestMulticast:
    def test_mdns_answers_are_for_everybody_who_asked(self) -> None:
        data = dns.message.QueryMessage(id=0)
        data.flags = dns.flags.Flag(0x8400)
        rrset = dns.rrset.from_text("kms.local.", 120, "IN", "A", "10.1.0.8")
        data.answer.append(rrset)
        wire = bytearray(data.to_wire())
        at = wire.index(b"\0\1\0\1", 12)
        wire[at + 2 : at + 4] = b"\x80\1"  # the cache-flush bit
        net = Net()
        for src in (CLIENT, bytes([10, 1, 0, 6])):
            net.ask("kms.local", "A", 0, src=src, sport=5353, dst=MDNS_GROUP, dport=5353)
        net.send(bytes(wire), src=bytes([10, 1, 0, 8]), sport=5353, dst=MDNS_GROUP, dport=5353)
        found = net.transactions()
        assert [(one.key.channel, one.key.client, one.key.server) for one in found] == [
            (Channel.MDNS, "10.1.0.5", "multicast"),
            (Channel.MDNS, "10.1.0.6", "multicast"),
        ]
        assert [one.outcome for one in found] == [DnsOutcome.ANSWERED] * 2
        assert found[0].addresses == (("kms.local", "10.1.0.8"),)
        assert net.fed().messages == 0

    def test_llmnr_answers_come_from_the_host_itself(self) -> None:
        net = Net().ask("kms", "A", 3, dst=LLMNR_GROUP, dport=5355)
        data = reply("kms. 30 IN A 10.1.0.8", name="kms", kind="A", number=3)
        one = net.send(data, src=bytes([10, 1, 0, 8]), sport=5355, dst=CLIENT, dport=50_000).one()
        assert (one.key.channel, one.key.server, one.outcome) == (Channel.LLMNR, "multicast", DnsOutcome.ANSWERED)

    @pytest.mark.parametrize("port", [5353, 5355])
    def test_a_name_server_asked_from_such_a_port_is_unicast(self, port: int) -> None:
        one = Net().ask(sport=port).tell(RECORD, port=port).one()
        assert (one.key.channel, one.key.server, one.outcome) == (Channel.DNS, "10.1.0.2", DnsOutcome.ANSWERED)


class TestSummary:
    def test_one_question_of_several_clients(self) -> None:
        net = Net()
        for index in range(4):
            client = bytes([10, 1, 0, 10 + index])
            net.ask(src=client, after=SECOND)
            if index == 3:
                continue
            data = reply(f"{SRV}. {100 - index} IN SRV 0 100 1688 {KMS}.")
            net.send(data, src=SERVER, sport=53, dst=client, dport=50_000, after=(index + 1) * MS)
        (found,) = net.summary()
        assert found == CapturedLookup(
            name=SRV,
            kind="SRV",
            server="10.1.0.2",
            clients=4,
            questions=4,
            outcomes={"answered": 3, "timeout": 1},
            records=(SrvRecord(0, 100, 1688, KMS, 100),),
            elapsed_ms=Spread(values=3, least=1.0, median=2.0, p95=3.0, greatest=3.0),
            rcodes={"NOERROR": 3},
            frames=(Frame(0, 1), Frame(0, 2), Frame(0, 7)),
        )

    def test_only_addresses_of_kms_hosts_count(self) -> None:
        net = Net().ask().tell(RECORD)
        for number, (name, address) in enumerate(
            ((KMS, "10.1.0.8"), ("old.contoso.example", "10.1.0.9"), ("www.example", "192.0.2.1")), 20
        ):
            net.ask(name, "A", number).tell(f"{name}. 60 IN A {address}", name=name, kind="A", number=number)
        net.ask(KMS, "AAAA", 30).tell(name=KMS, kind="AAAA", number=30)
        found = net.summary("10.1.0.9")
        assert [(one.name, one.kind, one.addresses) for one in found] == [
            (SRV, "SRV", ()),
            (KMS, "A", ("10.1.0.8",)),
            (KMS, "AAAA", ()),
            ("old.contoso.example", "A", ("10.1.0.9",)),
        ]

    def test_an_icmp_error_is_attached_with_its_frame(self) -> None:
        (found,) = Net().ask().error(3, 3).summary()
        assert found.icmp == Icmp(3, 3, "10.1.0.1", "port unreachable")
        assert found.frames == (Frame(0, 1), Frame(0, 2))

    def test_repetitions_count(self) -> None:
        (found,) = Net().ask().ask(after=SECOND).ask(after=SECOND).summary()
        assert (found.questions, found.repeated, found.outcomes) == (3, 2, {"timeout": 1})


class TestPieces:
    """It does not matter in how many pieces, and in which order, messages are fed."""

    @given(st.integers(0, 2**32 - 1), st.integers(1, 5))
    @settings(max_examples=50)
    def test_any_split_gives_the_same(self, seed: int, pieces: int) -> None:
        chance = random.Random(seed)
        net = Net()
        for number in range(40):
            client = bytes([10, 1, 0, chance.randrange(3)])
            ends: dict[str, Any] = {
                "src": client,
                "sport": 50_000 + chance.randrange(2),
                "after": chance.choice((MS, SECOND, 20 * SECOND)),
            }
            if chance.random() < 0.6:
                net.ask(number=chance.randrange(3), **ends)
            else:
                data = reply(RECORD, rcode=chance.choice((0, 0, 2, 3)), number=chance.randrange(3), flags=0)
                net.send(data, src=SERVER, sport=53, dst=client, dport=ends["sport"], after=ends["after"])
            if number % 10 == 9:
                net.error(3, chance.choice((1, 3)))
        whole = net.transactions()
        parts = [Lookups() for _ in range(pieces)]
        for one in net.sent:
            chance.choice(parts).feed(one)
        for error in net.errors:
            chance.choice(parts).feed_icmp(error)
        joined = Lookups()
        for part in parts:
            joined.merge(part)
        assert list(joined.transactions(net.now + 60 * SECOND)) == whole
        assert joined.messages == len(net.sent)

    def test_frames_can_be_renamed(self) -> None:
        net = Net().ask().error(3, 3).ask(number=8, after=WINDOW + 1).tell(RECORD, number=8)
        fed = net.fed()
        first, second = fed.moved(lambda ref: ref + 100).transactions(net.now)
        assert (first.asked, first.icmp_ref) == ((101, MS), 102)
        assert second.answered is not None
        assert second.answered[0] == 104
        assert next(fed.transactions(net.now)).asked == (1, MS)

    def test_memory_has_a_limit_and_kms_questions_have_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lookups, "KEYS_MAX", 2)
        net = Net()
        for number in range(5):
            net.ask(f"host{number}.example", "A", number)
            net.ask(f"_vlmcs._tcp.d{number}.example", "SRV", number)
        found = net.fed()
        assert found.left_out == 3
        assert len(list(found.transactions(net.now))) == 7

    def test_of_one_question_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lookups, "MESSAGES_MAX", 3)
        net = Net()
        for _ in range(5):
            net.ask(KMS, "A").ask()
        found = net.fed()
        assert found.left_out == 2
        joined = Lookups()
        joined.merge(found)
        joined.merge(found)
        assert joined.left_out == 2 + 3 + 2


class TestHostile:
    @given(st.binary(max_size=80), st.sampled_from([53, 5353, 5355]), st.booleans(), st.integers(0, 100))
    def test_no_datagram_is_too_strange(self, data: bytes, port: int, back: bool, length: int) -> None:
        ports = (port, 50_000) if back else (50_000, port)
        found = Lookups()
        found.feed(Datagram(1, START, CLIENT, ports[0], SERVER, ports[1], data, length))
        summarise(list(found.transactions(START)), (), frame)

    @given(st.integers(0, 200), st.integers(0, 255), st.integers(0, 200))
    def test_no_change_and_no_cut_is_too_strange(self, at: int, value: int, kept: int) -> None:
        data = bytearray(reply(RECORD, additional=(ADDRESS,)))
        data[at % len(data)] = value
        found = Net().ask().send(bytes(data), src=SERVER, sport=53, dst=CLIENT, dport=50_000, kept=kept)
        for one in found.transactions():
            texts = [one.key.name, *(record.target for record in one.records), *(name for name, _ in one.addresses)]
            assert all(text.isascii() and text.isprintable() for text in texts)

    @given(st.binary(max_size=200), st.integers(1, 50))
    def test_no_stream_is_too_strange(self, data: bytes, size: int) -> None:
        found = Lookups()
        found.feed_stream(tcp_segments(0, data, data, size=size))
        list(found.transactions(START))

    def test_another_port_is_passed_over(self) -> None:
        found = Lookups()
        found.feed(Datagram(1, START, CLIENT, 1, SERVER, 2, question(), 40))
        assert found.messages == 0


class TestRecordings:
    @pytest.mark.parametrize(
        ("name", "outcome", "questions"),
        [
            ("no-answer", "timeout", 2),
            ("nodata", "nodata", 1),
            ("nxdomain", "nxdomain", 1),
            ("refused", "refused", 2),
            ("servfail", "servfail", 2),
        ],
    )
    def test_each_ends_as_it_is_described(self, name: str, outcome: str, questions: int) -> None:
        need_samples()
        (found,) = recorded(f"live-dns-srv-{name}.pcap")
        assert (found.name, found.kind, found.questions) == ("_vlmcs._tcp.example.test", "SRV", questions)
        assert list(found.outcomes) == [outcome]

    @pytest.mark.parametrize(
        "name", ["live-dns-srv-then-v6-activation.pcap", "derived-vxlan.pcap", "derived-unordered-frames.pcap"]
    )
    def test_the_way_to_a_host(self, name: str) -> None:
        need_samples()
        found = recorded(name)
        assert [(one.name, one.kind, one.outcomes) for one in found] == [
            ("_vlmcs._tcp.example.test", "SRV", {"answered": 1}),
            ("kms1.example.test", "A", {"answered": 1}),
            ("kms1.example.test", "AAAA", {"nodata": 1}),
        ]
        assert found[0].records == (SrvRecord(0, 100, 1688, "kms1.example.test", 60),)


def recorded(name: str) -> tuple[CapturedLookup, ...]:
    captured = packets(SAMPLES / name)
    found = Lookups()
    for one in captured.datagrams:
        found.feed(one)
    return summarise(list(found.transactions(captured.end)), (), frame)


def tcp_talk(ref: int, *messages: bytes, size: int = 1000, at: int = START) -> list[Segment]:
    """A DNS connection: the first half of the messages are questions, the others answers."""
    half = len(messages) // 2
    asked, told = (
        b"".join(len(one).to_bytes(2, "big") + one for one in part) for part in (messages[:half], messages[half:])
    )
    return tcp_segments(ref, asked, told, size=size, at=at)


def tcp_segments(ref: int, asked: bytes, told: bytes, *, size: int = 1000, at: int = START) -> list[Segment]:
    talk = Talk(CLIENT, SERVER, host_port=53, number=ref + 1, start=at).open()
    for client, data in ((True, asked), (False, told)):
        for start in range(0, len(data), size):
            talk.say(data[start : start + size], client=client)
    return talk.close().segments
