import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.capture.lookups import Transaction
from kmsdiag.evidence.connections.findings import Gathered, Pass
from kmsdiag.evidence.connections.judged import Connection, judge
from kmsdiag.evidence.connections.suricata import EveLog
from kmsdiag.model.outcome import DnsOutcome
from tests import logsamples as logs
from tests.logsamples import KMS1, SRV, START, TARGETS, Row, asked, bound, ends, event, flow_of, json_lines, srv

ONE = ends("192.0.2.11", 49200, *KMS1)
LATER = int(START + 3600) * 1_000_000_000


def read(rows: Sequence[Row] | bytes, which: Pass = Pass.ALL) -> tuple[Gathered, EveLog]:
    gathered = Gathered()
    reader = EveLog(gathered, 0, which)
    data = rows if isinstance(rows, bytes) else json_lines(rows).encode()
    reader.feed(1, data.split(b"\n"))
    return gathered, reader


def only(*rows: Row) -> Connection:
    (link,) = read(rows)[0].connections.values()
    return link


def transactions(*rows: Row) -> list[Transaction]:
    return list(read(rows)[0].lookups.transactions(LATER))


FLOW = flow_of(1, 0, ONE, (0x1B, 0x1B), app_proto="dcerpc")


class TestConnections:
    @pytest.mark.parametrize(
        ("rows", "outcome"),
        [
            ((bound(1, 0, ONE), asked(1, 0.01, ONE, 20), FLOW), "host_refused"),
            ((bound(1, 0, ONE), asked(1, 0.01, ONE, 12), FLOW), "host_refused"),
            ((bound(1, 0, ONE), asked(1, 0.01, ONE, 284), FLOW), "not_known"),
            ((asked(1, 0.01, ONE, 20),), "host_refused"),
            # A fault, a bind_nak and silence look the same.
            ((bound(1, 0, ONE), asked(1, 0.01, ONE, None), FLOW), "not_known"),
            ((bound(1, 0, ONE, (0, 0), "UNREPLIED"), FLOW), "not_known"),
            ((bound(1, 0, ONE, (0, 0), "UNREPLIED"),), "not_known"),
            ((bound(1, 0, ONE, (0, 0), "UNREPLIED"), flow_of(1, 0, ONE, (0x1B, 0x13), lasted=9)), "bind_unanswered"),
            ((bound(1, 0, ONE, (0, 0), "UNREPLIED"), flow_of(1, 0, ONE, (0x1A, 0x16))), "bind_reset"),
            ((bound(1, 0, ONE, (0, 0), "UNREPLIED"), flow_of(1, 0, ONE, (0x1A, 0x13))), "bind_closed"),
            ((bound(1, 0, ONE, (0, 0), "UNREPLIED"), flow_of(1, 0, ONE, (0x1A, 0x13), tc_gap=True)), "not_known"),
            ((bound(1, 0, ONE), asked(1, 0.01, ONE, None), flow_of(1, 0, ONE, (0x1A, 0x1E))), "request_reset"),
            ((bound(1, 0, ONE, (2, 2, 2)), FLOW), "bind_rejected"),
            ((bound(1, 0, ONE, (2, 0, 3)), FLOW), "not_known"),
            ((bound(1, 0, ONE, (0, 0), "BINDNAK"), FLOW), "bind_nak"),
            ((flow_of(1, 0, ONE, (0x02, 0x00), lasted=7, packets=4),), "unanswered"),
            ((flow_of(1, 0, ONE, (0x02, 0x00), lasted=0, packets=1),), "unanswered"),
            ((flow_of(1, 0, ONE, (0x02, 0x14)),), "refused"),
            ((flow_of(1, 0, ONE, (0x13, 0x13)),), "not_known"),
            ((flow_of(1, 0, ONE, (0x13, 0x12)),), "connect_only"),
            ((flow_of(1, 0, ONE, (0x12, 0x13)),), "closed_early"),
            ((flow_of(1, 0, ONE, (0x1B, 0x1B), app_proto="ssh", app_proto_ts="dcerpc"),), "other_protocol"),
            ((flow_of(1, 0, ONE, (0x1B, 0x1B), app_proto="http"),), "not_kms"),
            ((flow_of(1, 0, ONE, (0x1B, 0x1B), app_proto="failed"),), "not_known"),
            ((flow_of(1, 0, ONE, (0x18, 0x18), app_proto="dcerpc"),), "not_known"),
        ],
    )
    def test_what_became_of_them(self, rows: Sequence[Row], outcome: str) -> None:
        assert judge(only(*rows), LATER, "Suricata").how.outcome == outcome
        assert judge(only(*rows[::-1]), LATER, "Suricata").how.outcome == outcome

    def test_other_interfaces_and_ports(self) -> None:
        four = ends("192.0.2.11", 49200, "198.51.100.20", 1800)
        other = json.loads(json.dumps(bound(2, 0, ONE)))
        other["dcerpc"]["interfaces"][0]["uuid"] = "e1af8308-5d1f-11c9-91a4-08002b14a0fa"
        del other["dcerpc"]["interfaces"][1:]
        rows = [
            bound(1, 0, four),
            asked(1, 0, four, 20),
            other,
            asked(3, 0, ends("192.0.2.1", 1, "192.0.2.2", 135), 20),
        ]
        gathered, _reader = read([*rows, flow_of(1, 0, four, (0x1B, 0x1B)), flow_of(4, 0, four, (0x1B, 0x1B))])
        assert set(gathered.connections) == {1}
        assert judge(gathered.connections[1], LATER, "Suricata").how.outcome == "host_refused"

    def test_one_that_was_turned_around(self) -> None:
        turned = ends(*KMS1, "192.0.2.11", 49200)
        link = only(flow_of(1, 0, turned, (0x1A, 0x1B), app_proto="dcerpc"))
        assert (link.client, link.host, link.host_port) == ("192.0.2.11", *KMS1)
        assert link.life is not None
        assert link.life.closer == "client"


def third(kind: str, answers: Sequence[Row] = (), **more: Any) -> Row:
    """A message in the format of version 3."""
    body: dict[str, Any] = {
        "version": 3,
        "type": kind,
        "id": 7,
        "rcode": "NOERROR",
        "queries": [{"rrname": SRV, "rrtype": "SRV"}],
    }
    at = 0.0 if kind == "request" else 0.003
    return event(
        "dns", 9, at, ends("192.0.2.11", 53_000, "192.0.2.53", 53), "UDP", dns={**body, "answers": answers, **more}
    )


class TestLookups:
    def test_version_2(self) -> None:
        (found,) = transactions(*logs.looked_up(9, 0, "192.0.2.11", SRV, "SRV", "NOERROR", [srv(TARGETS[0], 10, 5)]))
        assert (found.outcome, found.elapsed, found.questions) == (DnsOutcome.ANSWERED, 2_000_000, 1)
        assert [(one.priority, one.weight, one.port, one.ttl) for one in found.records] == [(10, 5, 1688, 3600)]

    def test_version_3(self) -> None:
        came_along = [{"rrname": TARGETS[0], "rrtype": "A", "ttl": 60, "rdata": KMS1[0]}]
        answer = {"rrname": SRV, "rrtype": "SRV", "ttl": 60, **srv(TARGETS[0])}
        (found,) = transactions(third("request"), third("response", [answer], additionals=came_along))
        assert (found.outcome, found.elapsed) == (DnsOutcome.ANSWERED, 3_000_000)
        assert found.addresses == ((TARGETS[0], KMS1[0]),)

    def test_grouped(self) -> None:
        (found,) = transactions(third("request"), third("response", grouped={"SRV": [srv(TARGETS[0])["srv"]]}))
        assert [one.target for one in found.records] == [TARGETS[0]]

    @pytest.mark.parametrize(
        ("facts", "outcome"),
        [
            ({}, "nodata"),
            ({"rcode": "NXDOMAIN"}, "nxdomain"),
            ({"tc": True}, "truncated"),
            ({"rcode": "X"}, "error_rcode"),
        ],
    )
    def test_no_answer(self, facts: dict[str, Any], outcome: str) -> None:
        (found,) = transactions(third("request"), third("response", **facts))
        assert found.outcome == outcome

    def test_silence(self) -> None:
        (found,) = transactions(third("request"))
        assert (found.outcome, found.answered) == (DnsOutcome.TIMEOUT, None)

    def test_an_alias_has_the_address_too(self) -> None:
        answers = [
            {"rrname": "kms.example", "rrtype": "CNAME", "rdata": "a.example"},
            {"rrname": "a.example", "rdata": KMS1[0]},
        ]
        (found,) = transactions(*logs.looked_up(9, 0, "192.0.2.11", "kms.example", "A", "NOERROR", answers))
        assert found.addresses == (("a.example", KMS1[0]), ("kms.example", KMS1[0]))

    def test_an_answer_in_the_direction_of_its_packet(self) -> None:
        answer = dict(third("response", [{"rrname": SRV, "rrtype": "SRV", **srv(TARGETS[0])}]))
        for one, other in (("src_ip", "dest_ip"), ("src_port", "dest_port")):
            answer[one], answer[other] = answer[other], answer[one]
        (found,) = transactions(third("request"), answer)
        assert (found.key.client, found.outcome) == ("192.0.2.11", DnsOutcome.ANSWERED)

    def test_a_record_a_line(self) -> None:
        body = {"type": "answer", "id": 7, "rcode": "NOERROR", "rrname": "kms.example", "rrtype": "A", "rdata": KMS1[0]}
        (found,) = transactions(event("dns", 9, 0, ends("192.0.2.53", 53, "192.0.2.11", 53_000), "UDP", dns=body))
        assert (found.key.client, found.addresses) == ("192.0.2.11", (("kms.example", KMS1[0]),))


VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


class TestBadLines:
    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ('{"timestamp":"2026-05-28T20:26:40+0000","event_type":"alert"', "line 2: it is cut or damaged"),
            (json.dumps({**FLOW, "flow": 7}), "line 2: it is cut or damaged"),
            (json.dumps({**FLOW, "src_port": 70_000}), "line 2: it is cut or damaged"),
            (json.dumps({**FLOW, "src_ip": "\x1b[2J"}), r"line 2: '\x1b[2J' is no address"),
            (json.dumps({**FLOW, "tcp": {"tcp_flags_ts": "zz"}}), "line 2: 'zz' are no TCP flags"),
            (json.dumps({**bound(1, 0, ONE), "timestamp": "now"}), "line 2: 'now' is no time"),
            ('{"event_type":"dns","dns":' + '{"a":' * 5000, "line 2: it is cut or damaged"),
        ],
    )
    def test_are_noted_and_the_others_count(self, line: str, why: str) -> None:
        good = json.dumps(bound(2, 0, ONE))
        gathered, reader = read(f"{good}\n{line}\n{good}\n".encode())
        assert reader.troubles.count == 1
        assert reader.troubles.note.startswith(why)
        assert set(gathered.connections) == {2}

    @settings(max_examples=300)
    @given(st.data())
    def test_any_change_of_a_line(self, data: st.DataObject) -> None:
        text = bytearray(json_lines(data.draw(st.lists(st.sampled_from(logs.EVE), min_size=1, max_size=6))).encode())
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(text) - 1))
            text[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        gathered, reader = read(bytes(text), data.draw(st.sampled_from(Pass)))
        for link in gathered.connections.values():
            judge(link, LATER, "Suricata")
        list(gathered.lookups.transactions(LATER))
        assert reader.used <= len(logs.EVE) * 2

    @settings(max_examples=60)
    @given(VALUES)
    def test_any_value_of_a_part(self, value: Any) -> None:
        for row in (FLOW, bound(1, 0, ONE), third("response")):
            kind = str(row["event_type"])
            read([{**row, kind: value}])
            for field in row[kind]:
                read([{**row, kind: {**row[kind], field: value}}])
