"""Tests of TCP ports in text: ``Test-NetConnection``, PsPing, telnet."""

import re
from collections.abc import Sequence
from typing import Final

from kmsdiag.evidence.names import addresses, suffix
from kmsdiag.evidence.powershell import network as net_json
from kmsdiag.evidence.tools.pasted import pairs
from kmsdiag.model.collected import PortTest

_COMMAND: Final = re.compile(r"\b(?:Test-NetConnection|tnc)((?:\s+[^\s|;]+)+)", re.IGNORECASE)
_FAILED: Final = re.compile(
    r"^WARNING: TCP connect to \(?([^\s():]+|[0-9a-fA-F:.]+?)\s*:\s*(\d{1,5})\)? failed", re.IGNORECASE
)
_LABELS: Final = frozenset({"computername", "remoteaddress", "remoteport", "pingsucceeded", "tcptestsucceeded"})

_PSPING: Final = re.compile(r"^Connecting to (\S+):(\d{1,5})(?: \(warmup\))?:\s*(.*)$", re.IGNORECASE)
_PSPING_OK: Final = re.compile(r"from \S+: [0-9.,]+ ?ms", re.IGNORECASE)
_TELNET: Final = re.compile(
    r"^Connecting To (\S+?)\s*\.\.\.\s*Could not open connection to the host, on port (\d{1,5})", re.IGNORECASE
)


def read(rows: Sequence[str]) -> tuple[list[PortTest], list[str]]:
    """Tests in cleaned lines (:func:`kmsdiag.evidence.pasted.lines`), each once, and notes. Never raises."""
    found = _test_net_connection(rows)
    tests, notes = found
    return list(dict.fromkeys([*tests, *_psping(rows), *_telnet(rows)])), notes


def _test_net_connection(rows: Sequence[str]) -> tuple[list[PortTest], list[str]]:
    found: list[PortTest] = []
    notes: list[str] = []
    warned: list[PortTest] = []
    block: dict[str, str] = {}
    asked: tuple[str, int] | None = None

    def end() -> None:
        if net_json.is_port_test(block):
            test = net_json.port_test(block, f"Test-NetConnection {block.get('computername', '')}".strip(), notes)
            found.extend([] if test is None else [test])
        block.clear()

    for line in rows:
        if (match := _COMMAND.search(line)) is not None:
            end()
            asked = _quiet(match[1].split())
        elif (match := _FAILED.match(line)) is not None:
            address = addresses([match[1]])
            warned += _test("Test-NetConnection", match[1], match[2], address, succeeded=False)
        elif asked is not None and line.lower() in ("true", "false"):
            found += _test("Test-NetConnection", asked[0], str(asked[1]), (), succeeded=line.lower() == "true")
            asked = None
        elif (pair := pairs(line)) is not None and (label := pair[0].replace(" ", "").lower()) in _LABELS:
            if label in block or label == "computername":
                end()
            block[label] = pair[1]
    end()
    # The warnings say the same as the list that follows them; alone they are all there is.
    known = {(place, one.port) for one in found for place in (one.target, one.address)}
    return found + [one for one in warned if (one.target, one.port) not in known], notes


def _quiet(words: Sequence[str]) -> tuple[str, int] | None:
    """Target and port of a call whose whole output is True or False; None for another call."""
    options: dict[str, str] = {}
    option, target = "", ""
    for word in words:
        if word.startswith("-"):
            option = word.lower()
        elif option:
            options[option] = word
            option = ""
        else:
            target = target or word
    target = next((value for key, value in options.items() if key.startswith("-c") and key != "-commontcpport"), target)
    port = next((value for key, value in options.items() if key in ("-port", "-remoteport")), "")
    quiet = any(key.startswith("-inf") and value.lower() == "quiet" for key, value in options.items())
    return (target, int(port)) if quiet and target and re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) else None


def _psping(rows: Sequence[str]) -> list[PortTest]:
    """One test a target: it succeeded where any of its connections did."""
    ends: dict[tuple[str, str], bool] = {}
    for number, line in enumerate(rows):
        match = _PSPING.match(line)
        if match is not None:
            told = f"{match[3]} {rows[number + 1] if not match[3] and number + 1 < len(rows) else ''}"
            place = (match[1].strip("[]"), match[2])
            ends[place] = ends.get(place, False) or _PSPING_OK.search(told) is not None
    return [
        test
        for (target, port), succeeded in ends.items()
        for test in _test("PsPing", target, port, addresses([target]), succeeded=succeeded)
    ]


def _telnet(rows: Sequence[str]) -> list[PortTest]:
    matches = (_TELNET.match(line) for line in rows)
    return [test for match in matches if match for test in _test("telnet", match[1], match[2], (), succeeded=False)]


def _test(tool: str, target: str, port: str, address: tuple[str, ...], *, succeeded: bool) -> list[PortTest]:
    number = int(port)
    if not 0 < number <= 65_535:
        return []
    return [
        PortTest(
            tool=tool, target=suffix(target), port=number, succeeded=succeeded, address=address[0] if address else ""
        )
    ]
