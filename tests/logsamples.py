"""Logs of Zeek and Suricata, made up: the shapes are those programs', the traffic is of the documentation networks.

Five clients. .11 is told of two hosts and gets a response with a body, .12 one that is no more than a refusal, .13 gets
no answer to its SYNs from an address that nobody looked up, .14 has no record in its domain, and .15 is silently
dropped after its bind.
"""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

START = 1_780_000_000.0
UUID = "51c82175-844e-4750-b0d8-ec255555bc06"
HOME = Path(__file__).parent.parent / "fixtures/logs"

Row = Mapping[str, Any]


def ends(client: str, client_port: int, host: str, host_port: int) -> dict[str, Any]:
    """The four fields of a connection, as Zeek calls them."""
    return {"id.orig_h": client, "id.orig_p": client_port, "id.resp_h": host, "id.resp_p": host_port}


def conn(
    uid: str, four: Row, state: str, history: str, *, at: float = 0.0, lasted: float | None = 0.02, **more: Any
) -> Row:
    """A line of conn.log."""
    known = {} if lasted is None else {"duration": lasted}
    return (
        {"ts": START + at, "uid": uid, **four, "proto": "tcp", "conn_state": state, "history": history} | known | more
    )


def rpc(uid: str, four: Row, *, at: float = 0.0, rtt: float | None = 0.008, endpoint: str = "KMS") -> Row:
    """A line of dce_rpc.log."""
    known = {} if rtt is None else {"rtt": rtt}
    line = {"ts": START + at, "uid": uid, **four, **known, "named_pipe": "1688"}
    return {**line, "endpoint": endpoint, "operation": "unknown-0"}


def dns(
    uid: str, client: str, name: str, kind: str, rcode: str | None, answers: Sequence[str] = (), **more: Any
) -> Row:
    """A line of dns.log."""
    at = more.pop("at", 0.0)
    line = {"ts": START + at, "uid": uid, **ends(client, 53_000, "192.0.2.53", 53), "proto": "udp", "trans_id": 7}
    line |= {"query": name, "qtype_name": kind}
    if rcode is not None:
        line["rcode_name"] = rcode
    if answers:
        line |= {"rtt": 0.002, "answers": list(answers), "TTLs": [3600.0] * len(answers)}
    return line | more


KMS1, KMS2, OLD = ("198.51.100.20", 1688), ("198.51.100.21", 1688), ("198.51.100.99", 1688)
SRV = "_vlmcs._tcp.corp.example"
TARGETS = ("kms1.corp.example", "kms2.corp.example")

CONN: list[Row] = [
    conn("C1", ends("192.0.2.11", 49200, *KMS1), "SF", "ShADadFf", at=1, service="dce_rpc", orig_bytes=524,
         resp_bytes=464, orig_pkts=6, resp_pkts=4),
    conn("C2", ends("192.0.2.12", 49201, *KMS1), "SF", "ShADadFf", at=2, service="dce_rpc", orig_bytes=524,
         resp_bytes=200, orig_pkts=6, resp_pkts=4),
    conn("Web", ends("192.0.2.12", 49300, "203.0.113.80", 443), "SF", "ShADadFf", at=2.5, service="ssl"),
    conn("C3", ends("192.0.2.13", 49202, *OLD), "S0", "S", at=3, lasted=None, orig_pkts=4, resp_pkts=0),
    conn("C5", ends("192.0.2.15", 49203, *KMS2), "SF", "ShADFaf", at=5, lasted=10.0, service="dce_rpc",
         orig_bytes=160, resp_bytes=0, orig_pkts=5, resp_pkts=3),
]  # fmt: skip
RPC: list[Row] = [
    rpc("C1", ends("192.0.2.11", 49200, *KMS1), at=1.01),
    rpc("C2", ends("192.0.2.12", 49201, *KMS1), at=2.01),
    rpc("Files", ends("192.0.2.12", 49400, "192.0.2.2", 445), at=2.2, endpoint="srvsvc"),
]
DNS: list[Row] = [
    dns("D1", "192.0.2.11", SRV, "SRV", "NOERROR", TARGETS, at=0.5),
    dns("D2", "192.0.2.11", TARGETS[0], "A", "NOERROR", [KMS1[0]], at=0.6),
    dns("D3", "192.0.2.12", SRV.upper(), "SRV", "NOERROR", TARGETS, at=1.5),
    dns("D4", "192.0.2.12", TARGETS[0], "A", "NOERROR", [KMS1[0]], at=1.6),
    dns("D5", "192.0.2.14", "_vlmcs._tcp.lab.example", "SRV", "NXDOMAIN", at=4),
    dns("D6", "192.0.2.15", SRV, "SRV", "NOERROR", TARGETS, at=4.5),
    dns("D7", "192.0.2.15", TARGETS[1], "A", "NOERROR", [KMS2[0]], at=4.6),
    dns("D8", "192.0.2.12", "www.corp.example", "A", "NOERROR", ["203.0.113.80"], at=2.4),
]
ZEEK = {"conn": CONN, "dce_rpc": RPC, "dns": DNS}

_COLUMNS = {
    "conn": "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state"
    " local_orig local_resp missed_bytes history orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes",
    "dce_rpc": "ts uid id.orig_h id.orig_p id.resp_h id.resp_p rtt named_pipe endpoint operation",
    "dns": "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto trans_id rtt query qclass qclass_name qtype"
    " qtype_name rcode rcode_name AA TC RD RA Z answers TTLs rejected",
}
FIELDS = {log: columns.split() for log, columns in _COLUMNS.items()}
"""The columns, in the order in which Zeek writes them unless it is told otherwise."""


def table(log: str, rows: Iterable[Row], fields: Sequence[str] | None = None, separator: str = "\t") -> str:
    """A log as a table."""
    fields = fields or FIELDS[log]
    marks = {"set_separator": ",", "empty_field": "(empty)", "unset_field": "-", "path": log, "open": "2026-05-28"}
    head = ["#separator " + "".join(f"\\x{ord(one):02x}" for one in separator)]
    head += [f"#{name}{separator}{value}" for name, value in marks.items()]
    head.append(separator.join(["#fields", *fields]))
    lines = [separator.join(_cell(row.get(field)) for field in fields) for row in rows]
    return "\n".join([*head, *lines, separator.join(["#close", "2026-05-28-20-27-00"]), ""])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(map(_cell, value)) or "(empty)"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def json_lines(rows: Iterable[Row]) -> str:
    """Rows as JSON lines, as both programs write them."""
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


# ---------------------------------------------------------------------------------------------------- Suricata


def stamp(at: float) -> str:
    """A time as Suricata writes it."""
    return f"{datetime.datetime.fromtimestamp(START + at, datetime.UTC):%Y-%m-%dT%H:%M:%S.%f}+0000"


def event(kind: str, number: int, at: float, four: Row, proto: str = "TCP", **more: Any) -> Row:
    """An event of any type."""
    line = {"timestamp": stamp(at), "flow_id": number, "event_type": kind}
    line |= {"src_ip": four["id.orig_h"], "src_port": four["id.orig_p"], "dest_ip": four["id.resp_h"]}
    return {**line, "dest_port": four["id.resp_p"], "proto": proto, **more}


def bound(flow: int, at: float, four: Row, results: Sequence[int] = (2, 0, 3), response: str = "BINDACK") -> Row:
    """A bind of KMS and its answer."""
    interfaces = [{"uuid": UUID, "version": "1.0", "ack_result": result} for result in results]
    body = {"request": "BIND", "interfaces": interfaces, "response": response, "call_id": 2, "rpc_version": "5.0"}
    return event("dcerpc", flow, at, four, dcerpc=body)


def asked(flow: int, at: float, four: Row, size: int | None) -> Row:
    """A request, and the stub bytes of its response (None: none was logged)."""
    body: dict[str, Any] = {"request": "REQUEST", "req": {"opnum": 0, "frag_cnt": 1, "stub_data_size": 268}}
    body |= {"response": "UNREPLIED" if size is None else "RESPONSE", "call_id": 2, "rpc_version": "5.0"}
    if size is not None:
        body["res"] = {"frag_cnt": 1, "stub_data_size": size}
    return event("dcerpc", flow, at, four, dcerpc=body)


def flow_of(
    flow: int, at: float, four: Row, flags: tuple[int, int], *, lasted: float = 0.02, packets: int = 6, **more: Any
) -> Row:
    """How a TCP connection went: the flags of client and host."""
    state = "new" if flags == (2, 0) else "closed"
    body = {"pkts_toserver": packets, "pkts_toclient": 0 if not flags[1] else 4, "bytes_toserver": 900,
            "bytes_toclient": 700, "start": stamp(at), "end": stamp(at + lasted), "age": round(lasted),
            "state": state, "reason": "timeout", "alerted": False}  # fmt: skip
    tcp: dict[str, Any] = {"tcp_flags_ts": f"{flags[0]:02x}", "tcp_flags_tc": f"{flags[1]:02x}"}
    for gap in ("ts_gap", "tc_gap"):
        if more.pop(gap, False):
            tcp[gap] = True
    return event("flow", flow, at + lasted, four, flow=body, tcp=tcp, **more)


def name_query(flow: int, at: float, client: str, name: str, kind: str) -> Row:
    """A question in the format of version 2."""
    body = {"version": 2, "type": "query", "id": 7, "rrname": name, "rrtype": kind, "tx_id": 0, "opcode": 0}
    return event("dns", flow, at, ends(client, 53_000, "192.0.2.53", 53), "UDP", dns=body)


def name_answer(flow: int, at: float, client: str, name: str, kind: str, rcode: str, answers: Sequence[Row]) -> Row:
    """Its answer."""
    body: dict[str, Any] = {"version": 2, "type": "answer", "id": 7, "flags": "8180", "qr": True, "rrname": name}
    body |= {"rrtype": kind, "rcode": rcode}
    if answers:
        body["answers"] = [{"rrname": name, "rrtype": kind, "ttl": 3600, **one} for one in answers]
    return event("dns", flow, at, ends(client, 53_000, "192.0.2.53", 53), "UDP", dns=body)


def srv(target: str, priority: int = 0, weight: int = 0, port: int = 1688) -> Row:
    """An SRV record's data."""
    return {"srv": {"priority": priority, "weight": weight, "port": port, "name": target}}


def looked_up(flow: int, at: float, client: str, name: str, kind: str, rcode: str, answers: Sequence[Row]) -> list[Row]:
    """A question, and its answer 2 ms later."""
    return [
        name_query(flow, at, client, name, kind),
        name_answer(flow, at + 0.002, client, name, kind, rcode, answers),
    ]


BOTH = [srv(TARGETS[0]), srv(TARGETS[1], 10)]
ONE, TWO, THREE, FIVE = (
    ends("192.0.2.11", 49200, *KMS1),
    ends("192.0.2.12", 49201, *KMS1),
    ends("192.0.2.13", 49202, *OLD),
    ends("192.0.2.15", 49203, *KMS2),
)
EVE: list[Row] = [
    {"timestamp": stamp(0), "event_type": "stats", "stats": {"uptime": 8}},
    *looked_up(11, 0.5, "192.0.2.11", SRV, "SRV", "NOERROR", BOTH),
    *looked_up(12, 0.6, "192.0.2.11", TARGETS[0], "A", "NOERROR", [{"rdata": KMS1[0]}]),
    bound(1, 1.004, ONE),
    asked(1, 1.01, ONE, 284),
    flow_of(1, 1, ONE, (0x1B, 0x1B), app_proto="dcerpc"),
    *looked_up(13, 1.5, "192.0.2.12", SRV.upper(), "SRV", "NOERROR", BOTH),
    *looked_up(14, 1.6, "192.0.2.12", TARGETS[0], "A", "NOERROR", [{"rdata": KMS1[0]}]),
    bound(2, 2.004, TWO),
    asked(2, 2.01, TWO, 20),
    flow_of(2, 2, TWO, (0x1B, 0x1B), app_proto="dcerpc"),
    event("tls", 3, 2.5, ends("192.0.2.12", 49300, "203.0.113.80", 443), tls={"sni": "www.corp.example"}),
    flow_of(4, 3, THREE, (0x02, 0x00), lasted=7.0, packets=4),
    *looked_up(15, 4, "192.0.2.14", "_vlmcs._tcp.lab.example", "SRV", "NXDOMAIN", []),
    *looked_up(16, 4.5, "192.0.2.15", SRV, "SRV", "NOERROR", BOTH),
    *looked_up(17, 4.6, "192.0.2.15", TARGETS[1], "A", "NOERROR", [{"rdata": KMS2[0]}]),
    bound(5, 5.004, FIVE, (0, 0, 0), "UNREPLIED"),
    flow_of(5, 5, FIVE, (0x1B, 0x13), lasted=10.0, packets=5, app_proto="dcerpc"),
]


def samples() -> dict[str, str]:
    """The files of fixtures/logs by their names."""
    return {f"zeek/{log}.log": table(log, rows) for log, rows in ZEEK.items()} | {"eve.json": json_lines(EVE)}
