"""Texts of slmgr.vbs in other languages than English: what is not translated, by its form and its place.

GUIDs, 0x codes, product names, channels and numbers are the same in all languages, and so is their order. Everything
else is told in notes.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from kmsdiag.evidence.escape import ascii_text, quoted
from kmsdiag.evidence.tools.accounts import Account, Machines
from kmsdiag.evidence.tools.labelled import STOP, Line
from kmsdiag.evidence.tools.slmgr_labels import CODE, GUID, HOST, PID
from kmsdiag.knowledge.licences import APPLICATIONS
from kmsdiag.model.collected import MachineState

_CHANNEL: Final = re.compile(
    r"(?:^|[,:])\s*((?:[A-Z0-9]+_)*(?:VOLUME|RETAIL|OEM|TIMEBASED|VIRTUAL)[\w()]*)\s+channel\b"
)
_LIST: Final = re.compile(r"\w+\s{2,}:")
"""PowerShell's lists: other labels, in English."""

_KIND: Final = re.compile(r"(?:Volume|Retail|OEM)(?::[\w-]+)*$")
_EXPIRY: Final = re.compile(r"(\d{1,9})\D{1,60}\((\d{1,6})\D{1,60}\)\.?$", re.ASCII)
_INTERVAL: Final = re.compile(r"(\d{1,6})\s*[^\d\s:.,]{1,30}$", re.ASCII)
_VERSION: Final = re.compile(r"\d{1,2}\.\d{1,2}\.\d{3,6}\.\d{1,6}$", re.ASCII)
_ADDRESS: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}$|[0-9a-f]*:[0-9a-f:]*:[0-9a-f.:]*$", re.IGNORECASE | re.ASCII)
_GUID: Final = re.compile(GUID, re.IGNORECASE)
_PID: Final = re.compile(PID, re.ASCII)
_CODE: Final = re.compile(rf"\b{CODE}\b", re.IGNORECASE)
_HOST: Final = re.compile(rf"(?:{HOST}):\d{{1,5}}$|[\w-]+(?:\.[\w-]+)+$", re.IGNORECASE | re.ASCII)
_PORTED: Final = re.compile(r":\d{1,5}$", re.ASCII)

_STATUS: Final = {"lizenziert": 1}
"""Words of other languages for a LicenseStatus, as far as they have been seen in a real text."""


def read_foreign(lines: Sequence[Line]) -> list[MachineState]:
    """What lines hold that does not depend on a language; [] where nothing looks like a product."""
    machines = Machines()
    found = [
        n
        for n, line in enumerate(lines)
        if n > 0 and _CHANNEL.search(line.text) and not any(_LIST.match(one.text) for one in lines[n - 1 : n + 1])
    ]
    begins = [n for before, n in zip([-2, *found], found, strict=False) if n - before > 1]
    version = ""
    for at, begin in enumerate(begins):
        end = begins[at + 1] - 1 if at + 1 < len(begins) else len(lines)
        if at == 0:
            version = next((value for n in range(begin) if _VERSION.match(value := _split(lines[n].text)[1])), "")
        product = _Product(lines[begin - 1 : end], machines)
        product.read()
    if version:
        machines.system(version)
    return machines.states(frozenset({"name"}))


def _split(text: str) -> tuple[str, str]:
    """Label and value of a line; a line without a label is a value."""
    label, colon, value = text.partition(":")
    if not colon or _GUID.fullmatch(text) or _HOST.fullmatch(text):
        return "", text.strip()
    return label.strip(), value.strip()


class _Product:
    """One product of another language."""

    def __init__(self, lines: Sequence[Line], machines: Machines) -> None:
        self.lines = lines
        self.machines = machines
        self.account = Account("", 0)
        self.fields: dict[str, Any] = {}
        self.bare: list[int] = []
        self.after_key = False
        self.ad = False

    def read(self) -> None:
        """Take every line for what its form says."""
        self.account = self.machines.product("slmgr /dli")
        self.fields = self.account.fields
        self.fields["name"] = ascii_text(_split(self.lines[0].text)[1])
        self.fields["description"] = ascii_text(_split(self.lines[1].text)[1])
        self.account.facts |= {"name", "description"}
        unread = []
        for line in self.lines[2:]:
            if STOP.match(line.solid):
                break
            label, value = _split(line.text)
            if not self._value(label, value):
                unread.append(line)
            elif value:
                self.account.facts.add("form")
        self._numbers()
        for line in unread:
            self.machines.note(f"line {line.number} is in a language that is not known here: {quoted(line.text)}")

    def _value(self, label: str, value: str) -> bool:
        """Whether the form of a value told what it is."""
        if not value and label:
            return True
        guid, pid, code = _GUID.fullmatch(value), _PID.fullmatch(value), _CODE.search(value)
        if guid is not None:
            self._guid(label, value.strip("{}").lower())
        elif pid is not None:
            self.fields["host_pid" if "extended_pid" in self.fields else "extended_pid"] = value
        elif code is not None:
            # The script tells a reason with one status only.
            self.fields.update(reason=f"0x{code[0][2:].upper()}", status=5)
        elif _KIND.match(value):
            self.fields["channel"] = ascii_text(value)
        elif value.upper().startswith("CN="):
            self.fields["ad_object"] = ascii_text(value)
            self.ad = True
        elif re.fullmatch(r"\d{40,70}", value) or value.startswith("//") or "://" in value:
            return True
        else:
            return self._words(label, value)
        return True

    def _guid(self, label: str, value: str) -> None:
        if "CMID" in label.upper():
            self.fields["client_machine_id"] = value
        elif value in APPLICATIONS:
            self.fields["application_id"] = value
        elif "activation_id" not in self.fields and not self.after_key:
            self.fields["activation_id"] = value
            self.account.source = "slmgr /dlv"
        elif not self.ad:
            self.fields.setdefault("client_machine_id", value)

    def _words(self, label: str, value: str) -> bool:
        expiry, interval = _EXPIRY.match(value), _INTERVAL.fullmatch(value)
        known = True
        if re.fullmatch(r"-?\d{1,9}", value, re.ASCII):
            self.bare.append(int(value))
        elif expiry is not None and int(expiry[1]) // 1_440 == int(expiry[2]):
            self.fields["grace_minutes"] = int(expiry[1])
        elif _ADDRESS.match(value):
            self.fields["host_address"] = value.lower()
        elif self.after_key and _HOST.match(value) and (_PORTED.search(value) or "KMS" in label):
            self._host(label, value)
        elif interval is not None and "client_machine_id" in self.fields:
            field = "renewal_interval_min" if "activation_interval_min" in self.fields else "activation_interval_min"
            self.fields[field] = int(interval[1])
        elif re.fullmatch(r"[A-Z0-9]{5}", value) and not self.after_key:
            self.fields["in_use"] = True
            self.after_key = True
        elif value.lower() in _STATUS and self.after_key:
            self.fields["status"] = _STATUS[value.lower()]
        elif value in ("All", "AD", "KMS", "Token"):
            self.fields["activation_type"] = value.lower()
        else:
            known = False
        return known

    def _host(self, label: str, value: str) -> None:
        host, colon, port = value.rpartition(":")
        name, number = (host, int(port)) if colon and port.isdigit() else (value, 0)
        kind = "discovered" if "DNS" in label.upper() else "override"
        self.fields[f"{kind}_host"] = ascii_text(name.lower().rstrip("."))
        self.fields[f"{kind}_port"] = number if number <= 65_535 else 0
        if kind == "override":
            self.machines.note(f"{quoted(value)} is taken as set by hand, since its label does not name DNS")

    def _numbers(self) -> None:
        """Numbers without a word: rearm counts, then those of a KMS host, in the order of slmgr.vbs."""
        rest = self.bare
        hosts = "VOLUME_KMS" in self.fields["description"] and "VOLUME_KMSCLIENT" not in self.fields["description"]
        if hosts and len(rest) >= 10:
            kinds = (
                "total",
                "failed",
                "unlicensed",
                "licensed",
                "initial_grace",
                "expired",
                "non_genuine",
                "notification",
            )
            self.account.requests.update(zip(kinds, rest[-8:], strict=True))
            rest = rest[:-8]
        if hosts and len(rest) >= 2 and 1_024 <= rest[-1] <= 65_535:
            self.account.host.update(count=rest[-2], port=rest[-1])
            rest = rest[:-2]
        for field, value in zip(("windows_rearms", "product_rearms"), rest, strict=False):
            self.fields[field] = value
