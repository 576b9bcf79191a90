import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.capture.lookups import OVER_TCP, Key, Transaction
from kmsdiag.evidence.connections.findings import (
    EVERYTHING,
    Gathered,
    LineError,
    LoggedDiscovery,
    address,
    moment_of,
    name_of,
    plain,
    ports_used,
    question_of,
    said_of,
    tag_of,
)
from kmsdiag.evidence.connections.judged import Call, Reply
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.capture import Channel, FoundBy
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.wire import dns

AT = 1_780_000_000_123_456_000


class TestTexts:
    @pytest.mark.parametrize(
        "value",
        [
            1_780_000_000.123456,
            "1780000000.123456",
            "2026-05-28T20:26:40.123456Z",
            "2026-05-28T20:26:40.123456+0000",
            "2026-05-28T22:26:40.123456+02:00",
            "2026-05-28T20:26:40.123456",
        ],
    )
    def test_times(self, value: float | str) -> None:
        assert moment_of(value) == AT

    def test_milliseconds(self) -> None:
        assert moment_of(1_780_000_000_123) == 1_780_000_000_123_000_000

    @pytest.mark.parametrize(
        "value", [-1.0, "nan", "inf", 1e300, "yesterday", "", "9999-12-31T23:59:59-14:00", "1" * 40]
    )
    def test_what_is_no_time(self, value: float | str) -> None:
        with pytest.raises(LineError, match="is no time"):
            moment_of(value)

    def test_addresses(self) -> None:
        assert address("2001:0DB8:0:0:0:0:0:1") == "2001:db8::1"
        with pytest.raises(LineError, match=r"'\\x1b\[31m' is no address"):
            address("\x1b[31m")

    @given(st.text())
    def test_plain_is_printable_ascii(self, text: str) -> None:
        assert plain(text).isascii()
        assert plain(text).isprintable()
        if text.isascii() and text.isprintable():
            assert plain(text) == text

    def test_names(self) -> None:
        assert [name_of(one) for one in ("_VLMCS._TCP.Corp.Example.", ".", "")] == [
            "_vlmcs._tcp.corp.example",
            ".",
            ".",
        ]


class TestDns:
    def test_questions_that_count(self) -> None:
        asked = ("192.0.2.1", "192.0.2.53")
        key = question_of(*asked, 53, "_VLMCS._tcp.corp.example", "SRV")
        assert key == Key(Channel.DNS, *asked, "_vlmcs._tcp.corp.example", "SRV")
        multicast = question_of("192.0.2.1", "224.0.0.251", 5353, "kms.local", "A")
        assert multicast is not None
        assert (multicast.channel, multicast.server) == (Channel.MDNS, "multicast")
        assert question_of(*asked, 53, "_ldap._tcp.corp.example", "SRV") is None
        assert question_of(*asked, 53, "x", "TXT") is None
        assert question_of(*asked, 137, "x", "A") is None

    def test_tags(self) -> None:
        assert tag_of(53_000, 7, tcp=False) == 53_000 << 16 | 7
        assert tag_of(53_000, 7, tcp=True) & OVER_TCP

    @pytest.mark.parametrize(
        ("rcode", "kind", "addresses", "truncated", "outcome"),
        [
            ("NOERROR", "A", [("x", "192.0.2.1")], False, DnsOutcome.ANSWERED),
            ("NOERROR", "AAAA", [("x", "192.0.2.1")], False, DnsOutcome.NODATA),
            ("NOERROR", "SRV", [("x", "192.0.2.1")], False, DnsOutcome.NODATA),
            ("NOERROR", "A", [], True, DnsOutcome.TRUNCATED),
            ("NXDOMAIN", "A", [], False, DnsOutcome.NXDOMAIN),
            ("SERVFAIL", "A", [], False, DnsOutcome.SERVFAIL),
            ("REFUSED", "A", [], False, DnsOutcome.REFUSED),
            ("NOTIMP", "A", [], False, DnsOutcome.ERROR_RCODE),
        ],
    )
    def test_outcomes(
        self, rcode: str, kind: str, addresses: list[tuple[str, str]], truncated: bool, outcome: DnsOutcome
    ) -> None:
        said = said_of(rcode, kind, [], addresses, truncated=truncated)
        assert (said.outcome, said.rcode) == (outcome, rcode)

    def test_a_record_is_an_answer(self) -> None:
        record = dns.SrvData(0, 0, 1688, "kms.example")
        assert said_of("NOERROR", "SRV", [record, record], []).records == (record,)


def told(client: str, at: int, *records: SrvRecord, addresses: tuple[tuple[str, str], ...] = ()) -> Transaction:
    key = Key(Channel.DNS, client, "192.0.2.53", "_vlmcs._tcp.example", "SRV")
    return Transaction(
        key, (1, at), (2, at + 1_000_000), 1, 0, False, DnsOutcome.ANSWERED, "NOERROR", records, addresses
    )


def discovery(transactions: list[Transaction], flows: bool = True) -> LoggedDiscovery:
    return LoggedDiscovery(transactions, 0, has_dns=True, chosen=transactions, flows=flows)


KMS = SrvRecord(0, 0, 1688, "kms.example", 60)
HOST = "198.51.100.20"
SECONDS = 1_000_000


class TestDiscovery:
    def test_a_target_without_a_logged_address_may_be_the_host(self) -> None:
        unresolved = discovery([told("192.0.2.1", 5_000_000_000, KMS)])
        assert unresolved.found_by("192.0.2.1", HOST, 1688, 6 * SECONDS) is FoundBy.NOT_KNOWN
        assert unresolved.found_by("192.0.2.1", HOST, 1688, 4 * SECONDS) is FoundBy.NOTHING
        assert unresolved.found_by("192.0.2.2", HOST, 1688, 6 * SECONDS) is FoundBy.NOTHING
        assert unresolved.ignored("192.0.2.1", [(HOST, 1688)], 600 * SECONDS) == ()
        resolved = discovery([told("192.0.2.1", 5_000_000_000, KMS, addresses=(("kms.example", HOST),))])
        assert resolved.found_by("192.0.2.1", HOST, 1688, 6 * SECONDS) is FoundBy.SRV

    def test_without_connections_nobody_ignores_a_host(self) -> None:
        transactions = [told("192.0.2.1", 5_000_000_000, KMS, addresses=(("kms.example", HOST),))]
        assert discovery(transactions).ignored("192.0.2.1", [], 600 * SECONDS) == ("kms.example:1688",)
        assert discovery(transactions, flows=False).ignored("192.0.2.1", [], 600 * SECONDS) == ()


class TestPorts:
    @pytest.mark.parametrize(("used", "port"), [({1800}, 1800), ({1800, 1688}, 1688), (set(), 1688)])
    def test_an_unknown_port_is_the_one_in_use(self, used: set[int], port: int) -> None:
        unknown = SrvRecord(0, 0, 0, "kms.example", 60)
        filled = ports_used([told("192.0.2.1", 0, unknown, addresses=(("kms.example", HOST),))], {HOST: used})
        assert [record.port for one in filled for record in one.records] == [port]

    def test_a_known_one_stays(self) -> None:
        filled = ports_used([told("192.0.2.1", 0, KMS, SrvRecord(0, 0, 0, "other.example", 60))], {HOST: {1800}})
        assert filled[0].records[0] == KMS


class TestWanted:
    def test_names_and_hosts(self) -> None:
        gathered = Gathered()
        assert not gathered.wanted(()).may_be(b"kms.example")
        answer = Call(1, 0, bind=False, reply=Reply.GIVEN)
        gathered.add("a", ("192.0.2.1", 1), ("2001:db8::1", 1688), answer)
        gathered.add("b", ("192.0.2.1", 1), ("198.51.100.9", 445), answer)
        wanted = gathered.wanted(["Kms.example"])
        for line, counts in (
            (b"x kms.EXAMPLE x", True),
            (b"kmsxexample", False),
            (b"2001:0db8:0000:0000:0000:0000:0000:0001", True),
            (b"2001:DB8::1", True),
            (b"198.51.100.9", False),
        ):
            assert wanted.may_be(line) is counts

    def test_many_are_not_looked_for(self) -> None:
        assert Gathered().wanted([f"h{number}" for number in range(500)]) is EVERYTHING
        assert EVERYTHING.may_be(b"")
