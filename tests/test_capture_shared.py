"""Captures beside the project, where there are any: recordings of a lab, what was derived from them, public ones.

They were made by other programs than the project's own. What each must show was written down when it was made.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kmsdiag.capture.scan import Want, analyse
from kmsdiag.model.capture import Exchange
from tests.netlab import require_tools
from tests.samples import SAMPLES

PUBLIC = SAMPLES / "public"

beside = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no captures beside the project")

OK4, OK5, OK6 = "4.0 0x00000000", "5.0 0x00000000", "6.0 0x00000000"
ACTIVATED = ("activated", OK6)

LIVE: dict[str, tuple[int, list[tuple[str, ...]]]] = {
    "bind-unknown-transfer-syntax-rejected": (10, [("bind_rejected",)]),
    "bind-wrong-interface-rejected": (10, [("not_kms",)]),
    "client-rst-mid-request": (9, [("request_aborted", "4.0")]),
    "dns-srv-no-answer": (2, []),
    "dns-srv-nodata": (2, []),
    "dns-srv-nxdomain": (2, []),
    "dns-srv-refused": (4, []),
    "dns-srv-servfail": (4, []),
    "dns-srv-then-v6-activation": (20, [ACTIVATED]),
    "fault-unbound-context": (12, [("request_fault", "4.0 0x1C010003")]),
    "fragmented-request-2frags": (14, [("host_refused", "4.0 0x8007000D")]),
    "garbage-to-1688-closed": (6, [("not_kms",)]),
    "port-scan-connect-close": (6, [("connect_only",)]),
    "request-without-bind-fault": (10, [("request_fault", "4.0 0x1C010003")]),
    "server-idle-timeout-after-bind": (11, [("bound",)]),
    "stub-bind-ack-all-rejected-abstract-syntax": (11, [("bind_rejected",)]),
    "stub-bind-nak-local-limit-2": (8, [("bind_nak",)]),
    "stub-bind-nak-not-specified-0": (9, [("bind_nak",)]),
    "stub-bind-nak-protocol-version-4": (9, [("bind_nak",)]),
    "stub-fault-op-range-1c010002": (10, [("request_fault", "6.0 0x1C010002")]),
    "stub-fault-unk-if-1c010003": (10, [("request_fault", "6.0 0x1C010003")]),
    "stub-fin-after-accept": (6, [("bind_reset",)]),
    "stub-fin-after-request": (11, [("request_closed", "6.0")]),
    "stub-no-answer-to-bind": (7, [("bind_unanswered",)]),
    "stub-no-answer-to-request": (11, [("request_unanswered", "6.0")]),
    "stub-other-service-on-1688-http": (9, [("other_protocol",)]),
    "stub-rst-after-bind": (6, [("bind_reset",)]),
    "stub-rst-after-request": (9, [("request_reset", "6.0")]),
    "tcp-icmp-port-unreachable": (4, [("unreachable",)]),
    "tcp-refused": (2, [("refused",)]),
    "tcp-syn-dropped": (7, [("unanswered",)]),
    # The last five were never answered: the host hung.
    "v4-300requests-1connection": (611, [("request_unanswered", *[OK4] * 295, *["4.0"] * 5)]),
    "v4-client-1byte-writes": (864, [("activated", OK4)]),
    "v4-clock-skew-3h-accepted": (14, [("activated", OK4)]),
    "v4-count-below-threshold": (18, [("below_threshold", OK4, OK4, OK4)]),
    "v4-err-clock-skew-C004F06C": (14, [("host_refused", "4.0 0xC004F06C")]),
    "v4-err-unknown-kmsid-C004F042": (14, [("host_refused", "4.0 0xC004F042")]),
    "v4-err-wrong-appid-C004F042": (14, [("host_refused", "4.0 0xC004F042")]),
    "v4-ipv6": (16, [("activated", OK4, OK4)]),
    "v4-ndr32only-both": (12, [("activated", OK4)]),
    "v4-office2010": (14, [("activated", OK4)]),
    "v4-old-host-build6002": (12, [("activated", OK4)]),
    "v4-server-ndr32only": (12, [("activated", OK4)]),
    "v4-win7": (14, [("activated", OK4)]),
    "v5-office2013": (14, [("activated", OK5)]),
    "v5-win8": (14, [("activated", OK5)]),
    "v6-3requests-3connections": (42, [ACTIVATED] * 3),
    "v6-5requests-1connection": (22, [("activated", *[OK6] * 5)]),
    "v6-err-clock-skew-C004F06C": (14, [("host_refused", "6.0 0xC004F06C")]),
    "v6-ipv6": (16, [("activated", OK6, OK6)]),
    "v6-mtu240-segmented": (24, [("activated", OK6, OK6)]),
    "v6-office2016": (14, [ACTIVATED]),
    "v6-server-disconnects-after-each": (42, [ACTIVATED] * 3),
    "v6-server-ndr32only": (12, [ACTIVATED]),
    "v6-server-no-btfn": (14, [ACTIVATED]),
    "v6-server-no-ndr64": (12, [ACTIVATED]),
    "v6-win10": (14, [ACTIVATED]),
}
"""By name: frames, and each conversation's outcome with version and HRESULT (or fault) of each exchange."""

SRV_OUTCOMES = {
    "no-answer": "timeout",
    "nodata": "nodata",
    "nxdomain": "nxdomain",
    "refused": "refused",
    "servfail": "servfail",
}

DERIVED_FRAMES = {
    "caplen-gt-len": 5,
    "cut-mid-record": 19,
    "ipv4-fragment-missing": 18,
    "ipv6-atomic-fragment": 16,
    "ipv6-fragments": 26,
    "ipv6-hopbyhop-dstopt": 16,
    "ipv6": 16,
    "ng-interface-id-out-of-range": 19,
    "ng-unsupported-linktype-mixed": 40,
    "tcp-7byte-segments": 150,
    "tcp-fast-open-data-in-syn": 12,
    "tcp-midstream-no-syn": 9,
    "tcp-out-of-order-40": 40,
    "tcp-plain": 13,
    "tcp-request-never-acked": 13,
    "tcp-rpc-response-2-fragments": 13,
    "tcp-rst-instead-of-response": 9,
    "tcp-seq-wraparound": 13,
    "tso-total-length-0": 14,
    "usec-overflow": 5,
    "zero-length-packet": 21,
}
"""Frames where they are not 20."""

DERIVED: dict[str, tuple[list[tuple[str, ...]], list[str]]] = {
    "caplen-gt-len": ([], []),
    "usec-overflow": ([], []),
    "snaplen68": ([("not_known",)], ["cut"]),
    "ipv4-fragment-missing": ([ACTIVATED], ["bind", "bytes"]),
    "tcp-midstream-no-syn": ([ACTIVATED], ["start", "bind"]),
    "tcp-request-never-acked": ([("request_unanswered", "6.0")], []),
    "tcp-rst-instead-of-response": ([("request_reset", "6.0")], []),
    **dict.fromkeys(
        ("ipv6-atomic-fragment", "ipv6-fragments", "ipv6-hopbyhop-dstopt", "ipv6"), ([("activated", OK6, OK6)], [])
    ),
}
"""Conversations where there is more or less than one that was activated in version 6, and what is lacking."""

NOTES = {
    "cut-mid-record": r"byte 28\d\d: .*cut",
    "garbage-record-at-end": "byte 2914: .*4294967280",
    "ng-interface-id-out-of-range": "interface 7",
}


def names(prefix: str) -> list[str]:
    return sorted(path.name for path in SAMPLES.glob(f"{prefix}-*"))


def short(name: str) -> str:
    return name.partition("-")[2].partition(".pcap")[0]


def told(exchange: Exchange) -> str:
    return f"{exchange.version} {exchange.hresult or exchange.fault}".strip()


def seen(path: Path) -> Any:
    analysis = analyse([str(path)], want=Want.CONVERSATIONS)
    assert analysis.unusable == ()
    found = [(one.outcome.value, *map(told, one.exchanges)) for one in analysis.conversations]
    return analysis, found


@beside
@pytest.mark.parametrize("name", names("live"))
def test_recordings(name: str) -> None:
    frames, expected = LIVE[short(name)]
    analysis, found = seen(SAMPLES / name)
    assert found == expected
    assert analysis.answer.files[0].packets == frames
    assert not analysis.answer.files[0].notes
    assert [one.lacks for one in analysis.conversations] == [()] * len(expected)
    if name.startswith("live-dns"):
        lookup = next(one for one in analysis.answer.lookups if one.kind == "SRV")
        assert set(lookup.outcomes) == {SRV_OUTCOMES.get(short(name).removeprefix("dns-srv-"), "answered")}


@beside
def test_fields_in_clear() -> None:
    def first(name: str) -> Exchange:
        analysis, _ = seen(SAMPLES / f"live-{name}.pcap")
        exchange: Exchange = analysis.conversations[0].exchanges[0]
        return exchange

    usual = first("v4-win7")
    assert (usual.machine, usual.required, usual.count) == ("client01.corp.example", 25, 50)
    assert (first("v4-office2010").required, first("v4-office2010").count) == (5, 10)
    assert first("v4-count-below-threshold").count == 1
    assert first("v4-300requests-1connection").required == 150
    assert abs(abs(first("v4-clock-skew-3h-accepted").skew_s or 0) - 10_800) < 60


@beside
@pytest.mark.parametrize("name", names("derived"))
def test_what_was_derived(name: str) -> None:
    expected, lacks = DERIVED.get(short(name), ([ACTIVATED], []))
    analysis, found = seen(SAMPLES / name)
    assert found == expected
    assert [[lack.value for lack in one.lacks] for one in analysis.conversations] == [lacks] * len(expected)
    facts = analysis.answer.files[0]
    assert facts.packets == DERIVED_FRAMES.get(short(name), 20)
    pattern = NOTES.get(short(name))
    assert bool(facts.notes) == bool(pattern)
    assert pattern is None or re.search(pattern, facts.notes[0])


@beside
def test_no_public_capture_holds_kms() -> None:
    """A port scan with two SYNs to the port is the only one that has to do with it."""
    require_tools("capinfos", "tshark")
    paths = sorted(path for path in PUBLIC.rglob("*") if path.is_file())
    # For one that is damaged, it prints the number or nothing, and fails.
    listed = subprocess.run(
        ["capinfos", "-TmrcM", *map(str, paths)], capture_output=True, text=True, check=False
    ).stdout
    counts = {name: int(count) for name, count in (line.rsplit(",", 1) for line in listed.splitlines())}
    assert len(counts) >= len(paths) - 1
    for path in paths:
        analysis, found = seen(path)
        assert found == ([("unanswered",), ("unanswered",)] if "synscan" in path.name else []), path.name
        count = counts.get(str(path))
        if path.suffix == ".pcapng":
            # Wireshark numbers some blocks that capinfos does not count.
            run = subprocess.run(["tshark", "-n", "-r", str(path)], capture_output=True, check=False)
            count = len(run.stdout.splitlines())
        assert count is None or analysis.answer.files[0].packets == count, path.name
