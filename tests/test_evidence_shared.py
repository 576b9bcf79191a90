"""Texts that others published, where they lie beside the project: what they say, and that nothing of it is lost."""

import re

import msgspec
import pytest

from kmsdiag.evidence.tools import ospp, slmgr
from kmsdiag.model.collected import HostState, MachineState, Requests
from tests.samples import sample_text


def read(name: str) -> MachineState:
    """The one machine of a text, from all readers."""
    text = sample_text(name)
    (found,) = [*slmgr.read(text), *ospp.read(text)]
    return found


TOLD: dict[str, list[dict[str, object]]] = {
    "slmgr-dli-client-server2012-licensed.txt": [
        {"status": 1, "grace_minutes": 253_564, "activation_type": "all", "discovered_port": 1688, "caching": True}
    ],
    "slmgr-dli-client-win7-licensed.txt": [
        {"status": 1, "grace_minutes": 243_720, "activation_interval_min": 15, "renewal_interval_min": 25}
    ],
    "slmgr-dli-host-2008r2-count2.txt": [
        {
            "status": 1,
            "in_use": True,
            "host": HostState(
                count=2,
                port=1688,
                publishing=True,
                low_priority=False,
                requests=Requests(
                    total=826,
                    failed=0,
                    unlicensed=0,
                    licensed=826,
                    initial_grace=0,
                    expired=0,
                    non_genuine=0,
                    notification=0,
                ),
            ),
        }
    ],
    "slmgr-dli-host-server2003-count0.txt": [
        {"status": 1, "host": HostState(count=0, port=1688, publishing=True, low_priority=False)}
    ],
    "slmgr-dli-win10-oem-licensed.txt": [{"status": 1, "in_use": True, "host": None, "grace_minutes": 0}],
    "slmgr-dlv-client-win11-notification-c004f056.txt": [
        {"status": 5, "reason": "0xC004F056", "never_asked": True, "windows_rearms": 1001, "channel": "Volume:GVLK"}
    ],
    "slmgr-dlv-fragment-azure-cmid.txt": [],
    "slmgr-dlv-fragment-expired-grace-c004f009.txt": [{"status": 5, "reason": "0xC004F009", "windows_rearms": 5}],
    "slmgr-dlv-host-office2010-key-removed.txt": [{"status": 0, "in_use": False, "windows_rearms": 1, "host": None}],
    "slmgr-dlv-host-office2010-licensed.txt": [
        {"status": 1, "host": HostState(count=0, port=1688, publishing=True, low_priority=False)}
    ],
    "slmgr-ospp-act-office14-success-korean.txt": [{"result": "0x00000000", "status": -1, "activation_id": ""}],
    "slmgr-ospp-act-office15-error-8007000d.txt": [{"result": "0x8007000D", "status": -1, "in_use": True}],
    "slmgr-ospp-dstatus-fragments.txt": [{"status": 1, "in_use": None}, {"status": 5, "in_use": None}],
    "slmgr-xpr-fragments.txt": [{"status": 1, "permanent": False, "expires": "30/11/2024 7:36:14 AM"}],
}

_VALUES = re.compile(
    r"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{5}-\d{5}-\d{3}[\d.-]+|\b0x[0-9a-f]{8}|[\w.-]+(?=:\d{3,5}\b)|<[\w-]+>"
    r"|(?<=: )\d+(?= minute|$)"
)


@pytest.mark.parametrize("name", TOLD)
def test_facts(name: str) -> None:
    found = read(name)
    assert len(found.products) == len(TOLD[name])
    for product, told in zip(found.products, TOLD[name], strict=True):
        assert {field: getattr(product, field) for field in told} == told


@pytest.mark.parametrize("name", TOLD)
def test_nothing_is_lost(name: str) -> None:
    found = read(name)
    kept = msgspec.json.encode(found).decode().lower() + " ".join(found.notes).lower()
    for line in sample_text(name).split("\n")[1:]:
        if not re.search(r"https?:|Installation ID|Script Host|activation successful", line):
            for value in _VALUES.findall(line):
                assert value.lower() in kept, (value, line)


def test_two_expiries_of_one_name_are_told() -> None:
    assert any("more than once" in note for note in read("slmgr-xpr-fragments.txt").notes)
