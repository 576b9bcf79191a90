"""What slmgr.vbs prints (/dlv, /dli, /xpr, /ato), wherever it stands in a text.

English texts are read by their labels. Other languages have what is not translated: see
:mod:`kmsdiag.evidence.tools.slmgr_local`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from kmsdiag.evidence.escape import ascii_text, quoted
from kmsdiag.evidence.tools.accounts import Account
from kmsdiag.evidence.tools.labelled import Item, Line, lines_of
from kmsdiag.evidence.tools.session import Session
from kmsdiag.evidence.tools.slmgr_labels import SLMGR, STATES
from kmsdiag.evidence.tools.slmgr_local import read_foreign
from kmsdiag.evidence.tools.values import Setter, count, flag, host, ignored, known, lower, number, text_of
from kmsdiag.model.collected import MachineState

_SIGN: Final = re.compile(
    r"licensestatus|slmgr|partialproduct|permanentlyactivated|activationwillexpire|activationid|graceperiodends"
    r"|notification(?:mode|reason)|\(CMID|listeningon|Error:0x|KMS(?:machine|computer)|activatedsuccessfully"
    r"|activationfailed|channel",
    re.IGNORECASE,
)
"""Signs, one of which every text of slmgr has, without white space."""

_BETWEEN: Final = re.compile(r"[\s>|\x00]+")

_TELLING: Final = frozenset(
    {
        "ospp",
        "status",
        "remaining",
        "permanent",
        "will_expire",
        "grace_ends",
        "notification_mode",
        "activating",
        "error",
    }
)
"""Labels of an English text that tells about an activation."""

_COMMAND: Final = re.compile(
    r"\bslmgr(?:\.vbs)?[\"']?\s+(?:(?![/-])(?P<host>[\w.-]+)\s+(?:\S+\s+\S+\s+)?)?[/-](?P<name>[a-z-]+)", re.IGNORECASE
)
_ATTEMPT: Final = re.compile(r"(.*)\(\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?\)", re.IGNORECASE)
_BEGINS_NAME: Final = re.compile(r"(?:Windows|Microsoft|Office)\b.*:$")
_WEAK: Final = frozenset(
    {
        "name",
        "description",
        "activation_interval",
        "renewal_interval",
        "count",
        "total",
        "failed",
        "vm_host",
        "ad_object",
        "activation_id",
        "ignored",
    }
)
"""What other tools show too: alone it is no output of slmgr."""


def read(text: str) -> list[MachineState]:
    """All that slmgr.vbs says in a text, a state a machine; [] where there is nothing of it. Never raises."""
    if not _SIGN.search(_BETWEEN.sub("", text)):
        return []
    lines = lines_of(text)
    items = SLMGR.items(lines)
    found = _Output(lines).read(items, _WEAK)
    if any(item.key in _TELLING for item in items):
        return found
    # German has "Name:" too: what tells more is taken.
    return max(found, read_foreign(lines), key=_told)


def _told(machines: Sequence[MachineState]) -> int:
    return sum(len(msgspec.to_builtins(product)) for one in machines for product in one.products)


class _Output(Session):
    """Goes through a text from label to label."""

    COMMAND = _COMMAND

    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__(lines)
        self.foreign = False
        """Within the output of ospp.vbs."""

    def typed(self, command: re.Match[str]) -> None:
        """The output of slmgr follows."""
        self.foreign = False
        super().typed(command)

    def rule(self, solid: str = "") -> None:
        """What came before has ended."""
        super().rule()
        self.foreign = self.foreign and "exiting" not in solid.lower()

    # ----------------------------------------------------------------------------------------------- labels

    def labelled(self, item: Item) -> None:
        """One label and its value."""
        key = item.key
        if key == "ospp":
            self.rule()
            self.foreign = True
            return
        if key in ("name", "version", "activating", "permanent", "will_expire", "grace_ends", "notification_mode"):
            self.foreign = self.foreign and key not in ("name", "version", "activating")
        if self.foreign:
            return
        self.told(item, _HANDLERS.get(key, _Output.value))

    def current(self) -> Account:
        """The product that the next label is about; one without a name where a text begins in the middle."""
        if self.product is None:
            self.product = self.machines.product("slmgr /dli")
        elif self.pending and self.product.facts <= {"name"} and "edition" not in self.product.fields.get("name", ""):
            # A name of another tool, and then something else: not what this label is about.
            self.product = self.machines.product("slmgr /dli")
            self.pending.clear()
        self.not_understood()
        return self.product

    def value(self, item: Item) -> None:
        """A label whose value goes into a field of the product."""
        product = self.current()
        if not item.fits:
            label = self.lines[item.first]
            told = quoted(item.value) if item.value else "empty"
            odd = "a placeholder" if item.value.startswith("<") else f"not what it should be: {told}"
            if item.value or item.key not in _MAY_BE_EMPTY:
                self.machines.note(f"line {label.number}: {quoted(label.text)} is {odd}")
            product.facts.add("ignored" if item.key in _WEAK else item.key)
            return
        product.facts.add(item.key)
        if item.key in _DETAILED:
            product.source = "slmgr /dlv"
        _FIELDS[item.key](product, item.value)

    def name(self, item: Item) -> None:
        """A new product begins."""
        self.pending.clear()
        self.product = self.machines.product("slmgr /dli")
        self.product.fields["name"] = ascii_text(item.value)
        self.product.facts.add("name")

    def version(self, item: Item) -> None:
        """The head of /dlv, of a machine."""
        self.rule()
        self.machines.next_run()
        if item.fits:
            self.machines.system(item.value)
        self.machines.source("slmgr /dlv")

    def connected(self, item: Item) -> None:
        """It says which machine it asks."""
        if item.fits:
            self.rule()
            self.machines.remote(ascii_text(item.value.rstrip(".")))

    # /xpr

    def expiry(self, item: Item) -> None:
        """One product of /xpr: its name stands before."""
        line = self.lines[item.first].solid.lower()
        name = ""
        for one in reversed(self.before[-6:]):
            name = SLMGR.joined(one.text, name, full=False) if name else one.text
            if _BEGINS_NAME.match(name):
                break
        else:
            name = self.before[-1].text if self.before else ""
        # /dlv has no such line, so this is about another product.
        self.product = None
        self.pending.clear()
        product = self.machines.product("slmgr /xpr")
        if name.endswith(":"):
            product.fields["name"] = ascii_text(name[:-1].strip())
        product.facts.add(item.key)
        if item.key == "permanent":
            product.fields.update(permanent=True, status=1)
        elif item.key == "notification_mode":
            product.fields.update(status=5)
        else:
            product.fields["expires"] = ascii_text(item.value)
            product.fields["status"] = next((n for word, n in _GRACE.items() if line.startswith(word)), 1)

    # /ato

    def activating(self, item: Item) -> None:
        """An attempt begins."""
        self.pending.clear()
        self.product = self.machines.product("slmgr /ato")
        self.product.facts.add("activating")
        begun = _ATTEMPT.match(_spaced(item.value))
        if begun is not None:
            self.product.fields["name"] = ascii_text(begun[1].strip())
            self.product.fields["activation_id"] = begun[2].lower()

    def result(self, item: Item) -> None:
        """How an attempt ended."""
        if not item.fits:
            line = self.lines[item.first]
            self.machines.note(f"line {line.number}: {quoted(line.text)} has no code")
            return
        code = item.value[:10] if item.key == "error" else ""
        attempt = self.product is not None and self.product.source == "slmgr /ato"
        if item.key == "activated":
            self.attempt().fields["result"] = "0x00000000"
        elif item.key == "error" and (attempt or self.command in ("", "ato")):
            self.attempt().fields["result"] = _code(code)
        elif item.key == "error":
            self.machines.note(f"slmgr /{ascii_text(self.command, 20)} failed with {_code(code)}")
            self.machines.source(f"slmgr /{ascii_text(self.command, 20)}")
        elif item.key == "failed_activation":
            self.attempt()
            self.machines.note("slmgr /ato says that the activation failed")
        else:
            self.machines.note(f"slmgr could not connect: {quoted(self.lines[item.first].text)}")
            self.machines.source("slmgr")
        self.message = True
        self.pending.clear()

    def attempt(self) -> Account:
        """The attempt that is being told."""
        if self.product is None or self.product.source != "slmgr /ato" or self.product.fields.get("result"):
            self.product = self.machines.product("slmgr /ato")
        self.product.facts.add("result")
        return self.product

    def warning(self, item: Item) -> None:
        """It says that an override or a lookup domain is in force."""
        self.machines.note(f"slmgr warns: {quoted(self.lines[item.first].text + ' ' + item.value, 160)}")
        self.message = True


_MAY_BE_EMPTY: Final = frozenset(
    {"activation_id", "extended_pid", "installation_id", "client_machine_id", "host_pid", "host_address", "partial_key"}
)

_DETAILED: Final = frozenset(
    {
        "activation_id",
        "application_id",
        "extended_pid",
        "channel",
        "installation_id",
        "certificate",
        "windows_rearms",
        "product_rearms",
        "app_rearms",
        "trusted_time",
    }
)
"""What /dlv shows and /dli does not."""

_GRACE: Final = {"initial": 2, "additional": 3, "non-genuine": 4, "extended": 6}

_HANDLERS: Final[Mapping[str, Callable[[_Output, Item], None]]] = {
    "name": _Output.name,
    "version": _Output.version,
    "connected": _Output.connected,
    "permanent": _Output.expiry,
    "will_expire": _Output.expiry,
    "grace_ends": _Output.expiry,
    "notification_mode": _Output.expiry,
    "activating": _Output.activating,
    "activated": _Output.result,
    "failed_activation": _Output.result,
    "error": _Output.result,
    "remote_error": _Output.result,
    "override_warning": _Output.warning,
    "domain_warning": _Output.warning,
}
"""Labels that are more than the value of a field."""


def _spaced(value: str) -> str:
    """The name of a product that was read without its blanks."""
    value = re.sub(r"(?<=,)(?=\S)", " ", value)
    value = re.sub(r"(?<=\w)edition(?=\()", " edition ", value)
    return re.sub(r"(?<=[)a-z])(?=\d+,)", " ", value)


def _code(text: str) -> str:
    return f"0x{text[2:].upper()}"


# -------------------------------------------------------------------------------------------- values to fields


def _of_host(field: str) -> Setter:
    return lambda product, value: product.host.__setitem__(field, number(value))


def _request(field: str) -> Setter:
    return lambda product, value: product.requests.__setitem__(field, number(value))


def _status(product: Account, value: str) -> None:
    product.fields["status"] = STATES.get(value.lower().partition("(")[0].rstrip("."), -1)


def _reason(product: Account, value: str) -> None:
    product.fields["reason"] = _code(value[:10])


def _host_address(product: Account, value: str) -> None:
    product.fields["host_address"] = "" if value.lower() == "notavailable" else ascii_text(value.lower())


def _host(product: Account, _value: str) -> None:
    product.is_host = True


def _publishing(product: Account, value: str) -> None:
    product.is_host = True
    product.host["publishing"] = value.lower().endswith("enabled")


def _priority(product: Account, value: str) -> None:
    product.is_host = True
    product.host["low_priority"] = value.lower().endswith("low")


_FIELDS: Final[Mapping[str, Setter]] = {
    "description": text_of("description"),
    "activation_id": lower("activation_id"),
    "application_id": lower("application_id"),
    "extended_pid": text_of("extended_pid"),
    "channel": text_of("channel"),
    "partial_key": known("in_use", True),
    "not_in_use": known("in_use", False),
    "status": _status,
    "remaining": count("grace_minutes"),
    "evaluation_end": text_of("expires"),
    "reason": _reason,
    "windows_rearms": count("windows_rearms"),
    "product_rearms": count("product_rearms"),
    "trusted_time": text_of("trusted_time"),
    "activation_type": lower("activation_type"),
    "never_asked": known("never_asked", True),
    "client_machine_id": lower("client_machine_id"),
    "registered": host("override"),
    "discovered": host("discovered"),
    "no_host": known("no_host", True),
    "lookup_domain": lower("lookup_domain"),
    "host_address": _host_address,
    "host_pid": text_of("host_pid"),
    "activation_interval": count("activation_interval_min"),
    "renewal_interval": count("renewal_interval_min"),
    "caching": flag("caching", "enabled"),
    "host": _host,
    "cumulative": _host,
    "count": _of_host("count"),
    "port": _of_host("port"),
    "publishing": _publishing,
    "priority": _priority,
    "total": _request("total"),
    "failed": _request("failed"),
    "requests_unlicensed": _request("unlicensed"),
    "requests_licensed": _request("licensed"),
    "requests_initial_grace": _request("initial_grace"),
    "requests_expired": _request("expired"),
    "requests_non_genuine": _request("non_genuine"),
    "requests_notification": _request("notification"),
    "ad_object": text_of("ad_object"),
    "vm_host": lower("vm_host"),
    **dict.fromkeys(
        ("heading", "ad", "avma", "ao_detail", "avma_detail", "installation_id", "certificate", "app_rearms", "token"),
        ignored,
    ),
}
