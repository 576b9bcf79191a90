import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture.lookups import Transaction
from kmsdiag.evidence.connections.findings import Gathered, Pass
from kmsdiag.evidence.connections.judged import RPC, Closer, Connection, judge
from kmsdiag.evidence.connections.zeek import ZeekLog, without_truncated
from kmsdiag.model.outcome import DnsOutcome
from tests import logsamples as logs
from tests.logsamples import KMS1, SRV, START, TARGETS, Row, conn, dns, ends, rpc, table

ONE = ends("192.0.2.11", 49200, *KMS1)
LATER = int(START + 3600) * 1_000_000_000


def read(*texts: str | bytes, which: Pass = Pass.ALL) -> tuple[Gathered, list[ZeekLog]]:
    """Logs, each as one piece."""
    gathered = Gathered()
    readers = []
    for number, text in enumerate(texts):
        reader = ZeekLog(gathered, number, which)
        data = text if isinstance(text, bytes) else text.encode()
        reader.feed(1, data.split(b"\n"))
        readers.append(reader)
    return gathered, readers


def only(*texts: str) -> Connection:
    (link,) = read(*texts)[0].connections.values()
    return link


def transactions(rows: Sequence[Row], end: int = LATER) -> list[Transaction]:
    gathered, _readers = read(table("dns", rows))
    return list(without_truncated(list(gathered.lookups.transactions(end))))


class TestTable:
    def test_the_header_says_where_fields_are(self) -> None:
        row = conn("C", ONE, "SF", "ShADadFf", service="dce_rpc")
        usual = only(table("conn", [row]))
        shuffled = ["history", "x", *reversed(logs.FIELDS["conn"][:12]), "y"]
        for other in (table("conn", [row], shuffled), table("conn", [row], separator="|"), logs.json_lines([row])):
            again = only(other)
            assert again.life is not None
            assert usual.life is not None
            assert again.life._replace(ref=0) == usual.life._replace(ref=0)
            assert (again.client, again.client_port, again.host, again.host_port) == ("192.0.2.11", 49200, *KMS1)

    def test_what_stands_for_nothing_is_up_to_the_header(self) -> None:
        text = (
            table("conn", [conn("C", ONE, "S0", "S", lasted=None)])
            .replace("\t-", "\t?")
            .replace("#unset_field\t-", "#unset_field\t?")
        )
        assert "\t?" in text
        link = only(text)
        assert link.life is not None
        assert (link.life.received, link.life.ended) == (0, link.life.started)

    def test_line_ends_of_windows(self) -> None:
        assert only(table("conn", [conn("C", ONE, "SF", "ShADadFf")]).replace("\n", "\r\n")).life is not None

    def test_two_logs_one_behind_the_other(self) -> None:
        first, second = (table("conn", [conn(f"C{n}", ONE, "SF", "ShADadFf")], fields) for n, fields in
                         enumerate((logs.FIELDS["conn"], [*reversed(logs.FIELDS["conn"])])))  # fmt: skip
        gathered, (reader,) = read(first + second)
        assert set(gathered.connections) == {"C0", "C1"}
        assert reader.troubles.note == ""

    @pytest.mark.parametrize("ts", [START, "2026-05-28T20:26:40.000000Z", START * 1000])
    def test_times_of_json(self, ts: float | str) -> None:
        link = only(json.dumps({**conn("C", ONE, "SF", "ShADadFf"), "ts": ts}))
        assert link.life is not None
        assert link.life.started == int(START) * 1_000_000_000

    def test_lines_are_frames(self) -> None:
        text = table("dce_rpc", [rpc("C", ONE)])
        assert text.splitlines()[only(text).first - 1].split("\t")[1] == "C"


class TestConnections:
    @pytest.mark.parametrize(
        ("state", "history", "facts", "outcome"),
        [
            ("S0", "S", {"lasted": None, "orig_pkts": 4}, "unanswered"),
            ("S0", "S", {"lasted": None}, "unanswered"),
            ("REJ", "Sr", {}, "refused"),
            ("REJ", "SrSrSr", {}, "refused"),
            ("RSTOS0", "SR", {}, "not_known"),
            ("SH", "SF", {}, "not_known"),
            ("OTH", "Sh", {}, "handshake_failed"),
            ("RSTO", "ShR", {}, "connect_only"),
            ("SF", "ShAFaf", {}, "connect_only"),
            ("SF", "ShAfFa", {}, "closed_early"),
            ("RSTR", "ShAr", {}, "closed_early"),
            ("SF", "ShADFaf", {"service": "dce_rpc", "lasted": 10.0}, "bind_unanswered"),
            ("SF", "ShADafF", {"service": "dce_rpc"}, "bind_closed"),
            ("RSTR", "ShADar", {"service": "dce_rpc"}, "bind_reset"),
            ("SF", "ShADGaFf", {"service": "dce_rpc", "lasted": 10.0}, "not_known"),
            ("SF", "ShADaFf", {"service": "dce_rpc", "missed_bytes": 9, "lasted": 10.0}, "not_known"),
            ("SF", "ShADaFf", {"lasted": 10.0}, "not_known"),
            ("SF", "ShADadFf", {"service": "dce_rpc"}, "not_known"),
            ("SF", "ShADadFf", {"service": "ssl"}, "not_kms"),
            ("SF", "ShADadFf", {"service": "-dce_rpc,ssh"}, "not_known"),
            ("OTH", "DadA", {"service": "dce_rpc"}, "not_known"),
            ("SHR", "hadf", {}, "not_known"),
            ("OTH", "SAD", {}, "not_known"),
            ("SF", "ShAdaFf", {}, "not_known"),
            ("SF", "ShAdaFf", {"service": "ssh"}, "other_protocol"),
            ("S1", "ShA", {}, "connect_only"),
        ],
    )
    def test_what_became_of_them(self, state: str, history: str, facts: Mapping[str, Any], outcome: str) -> None:
        link = only(table("conn", [conn("C", ONE, state, history, **facts)]))
        assert judge(link, LATER, "Zeek").how.outcome == outcome

    @pytest.mark.parametrize(
        ("state", "outcome"),
        [
            ("S0", "unanswered"),
            ("REJ", "refused"),
            ("SF", "not_known"),
            ("S1", "not_known"),
            ("RSTR", "not_known"),
            ("OTH", "not_known"),
            ("", "not_known"),
        ],
    )
    def test_without_a_history_the_state_says_little(self, state: str, outcome: str) -> None:
        row = {**conn("C", ONE, state, "", orig_bytes=0 if state == "S0" else 160), "history": None}
        assert judge(only(table("conn", [row])), LATER, "Zeek").how.outcome == outcome

    def test_one_that_was_turned_around(self) -> None:
        turned = ends(*KMS1, "192.0.2.11", 49200)
        link = only(table("conn", [conn("C", turned, "OTH", "^dDa", orig_bytes=464, resp_bytes=524)]))
        assert (link.client, link.host, link.host_port) == ("192.0.2.11", *KMS1)
        assert link.life is not None
        assert (link.life.asked, link.life.replied, link.life.received) == (True, True, 464)

    def test_joined_by_uid(self) -> None:
        link = only(
            table("dce_rpc", [rpc("C", ONE, at=0.1), rpc("C", ONE, at=0.2)]),
            table("conn", [conn("C", ONE, "SF", "ShADadFf", service="dce_rpc", resp_bytes=464)]),
        )
        verdict = judge(link, LATER, "Zeek")
        assert link.life is not None
        assert [call.elapsed for call, _how in verdict.requests] == [8_000_000] * 2
        assert (link.life.client, link.life.closer, link.life.received) == (RPC, Closer.CLIENT, 464)

    def test_kms_on_another_port_is_known_by_its_endpoint(self) -> None:
        four, web = ends("192.0.2.11", 49200, "198.51.100.20", 1800), ends("192.0.2.11", 1, "198.51.100.20", 443)
        gathered, (_rpc, reader) = read(
            table("dce_rpc", [rpc("C", four), rpc("D", web, endpoint="srvsvc")]),
            table("conn", [conn("C", four, "SF", "ShADadFf"), conn("D", web, "SF", "ShADadFf")]),
        )
        assert set(gathered.connections) == {"C"}
        assert (gathered.connections["C"].kms, reader.used) == (True, 1)

    def test_udp_is_no_connection(self) -> None:
        assert read(table("conn", [conn("C", ONE, "SF", "Dd", proto="udp")]))[0].connections == {}


class TestLookups:
    def test_a_question_and_its_answer(self) -> None:
        (found,) = transactions([dns("D", "192.0.2.11", SRV.upper(), "SRV", "NOERROR", TARGETS)])
        assert (found.key.name, found.outcome, found.elapsed) == (SRV, DnsOutcome.ANSWERED, 2_000_000)
        assert [(one.target, one.port, one.ttl) for one in found.records] == [(name, 0, 3600) for name in TARGETS]

    @pytest.mark.parametrize(
        ("rcode", "outcome"),
        [("NXDOMAIN", "nxdomain"), ("NOERROR", "nodata"), ("SERVFAIL", "servfail"), (None, "timeout")],
    )
    def test_without_records_no_time_is_known(self, rcode: str | None, outcome: str) -> None:
        (found,) = transactions([dns("D", "192.0.2.11", SRV, "SRV", rcode)])
        assert (found.outcome, found.elapsed, found.questions) == (outcome, None, 1)

    def test_a_question_at_the_end_of_the_log_may_yet_be_answered(self) -> None:
        (found,) = transactions([dns("D", "192.0.2.11", SRV, "SRV", None)], end=int(START + 1) * 1_000_000_000)
        assert found.outcome is None

    def test_aliases_are_no_addresses(self) -> None:
        (found,) = transactions([dns("D", "192.0.2.11", "kms.example", "A", "NOERROR", ["kms1.example", KMS1[0]])])
        assert found.addresses == (("kms.example", KMS1[0]),)

    def test_an_answer_without_data_that_is_asked_for_again_over_tcp_was_truncated(self) -> None:
        udp = dns("D", "192.0.2.11", SRV, "SRV", "NOERROR")
        tcp = dns("E", "192.0.2.11", SRV, "SRV", "NOERROR", TARGETS, at=0.1, proto="tcp")
        late = dns("E", "192.0.2.11", SRV, "SRV", "NOERROR", TARGETS, at=100, proto="tcp")
        (found,) = transactions([udp, tcp])
        assert (found.outcome, found.questions, found.retried, found.over_tcp) == (DnsOutcome.ANSWERED, 2, 1, True)
        assert [one.outcome for one in transactions([udp, late])] == [DnsOutcome.NODATA, DnsOutcome.ANSWERED]

    def test_two_passes_come_to_the_same(self) -> None:
        text = table("dns", logs.DNS).encode().split(b"\n")
        once, _readers = read(table("dns", logs.DNS))
        twice = Gathered()
        reader = ZeekLog(twice, 0, Pass.FIRST)
        reader.feed(1, text)
        reader.which, reader.wanted = Pass.ADDRESSES, twice.wanted(())
        reader.feed(1, text)
        names = {SRV, "_vlmcs._tcp.lab.example", *TARGETS}
        assert {one for one in once.lookups.transactions(LATER) if one.key.name in names} == set(
            twice.lookups.transactions(LATER)
        )
        assert (reader.total, twice.lookups.messages) == (len(logs.DNS), len(logs.DNS))


LINES = table("dns", logs.DNS).encode().split(b"\n")


class TestBadLines:
    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("1780000000.1\tC\t192.0.2.1", "line 8: it has 3 fields, not 10"),
            ("KMS\tC\t192.0.2.1\t1\t192.0.2.2\t1688\t-\t1688\tKMS\tx", "line 8: 'KMS' is no time"),
            ("1.0\tC\tKMS\t1\t192.0.2.2\t1688\t-\t1688\tKMS\tx", "line 8: 'KMS' is no address"),
            ("1.0\tC\t192.0.2.1\t99999\t192.0.2.2\t1688\t-\t1688\tKMS\tx", "line 8: it is cut or damaged"),
            ("1.0\tC\t192.0.2.1\t1\t192.0.2.2\t1688\t-5\t1688\tKMS\tx", "line 8: it is cut or damaged"),
            ("1.0\tC\t192.0.2.1\t1\t192.0.2.2\t-\t-\t1688\tKMS\tx", "line 8: it is cut or damaged"),
        ],
    )
    def test_are_noted_and_the_others_count(self, line: str, why: str) -> None:
        whole = table("dce_rpc", [rpc("C", ONE)]).splitlines()
        gathered, (reader,) = read("\n".join([*whole[:7], line, *whole[7:]]))
        assert reader.troubles.count == 1
        assert reader.troubles.note.startswith(why)
        assert set(gathered.connections) == {"C"}

    @pytest.mark.parametrize(
        "line", ["1.0\tC", '{"ts":1.0,"uid":"C","id.orig_h":"192.0.2.1","conn_state":"SF",', '{"ts']
    )
    def test_without_a_header_or_cut(self, line: str) -> None:
        assert read(line)[1][0].troubles.count == 1

    @settings(max_examples=300)
    @given(
        st.lists(st.binary(max_size=80) | st.sampled_from(table("dns", logs.DNS).encode().split(b"\n")), max_size=20)
    )
    def test_any_bytes(self, lines: list[bytes]) -> None:
        gathered, (reader,) = read(b"\n".join(lines))
        assert reader.troubles.count <= reader.total
        list(without_truncated(list(gathered.lookups.transactions(LATER))))

    @settings(max_examples=300)
    @given(st.data())
    def test_any_change_of_a_line(self, data: st.DataObject) -> None:
        log = data.draw(st.sampled_from(["conn", "dce_rpc", "dns"]))
        text = bytearray(
            data.draw(st.sampled_from([table, lambda log, rows: logs.json_lines(rows)]))(log, logs.ZEEK[log]).encode()
        )
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(text) - 1))
            text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        gathered, (reader,) = read(bytes(text))
        for link in gathered.connections.values():
            judge(link, LATER, "Zeek")
        assert reader.used <= reader.total
