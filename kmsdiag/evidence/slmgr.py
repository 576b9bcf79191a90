"""What slmgr.vbs prints (/dlv, /dli, /xpr, /ato), wherever it stands in a text.

English texts are read by their labels. Other languages have what is not translated: see
:mod:`kmsdiag.evidence.slmgr_local`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from kmsdiag.evidence.accounts import Account, Machines
from kmsdiag.evidence.escape import ascii_text, quoted
from kmsdiag.evidence.labelled import STOP, Item, Line, lines_of
from kmsdiag.evidence.slmgr_labels import SLMGR, STATES
from kmsdiag.evidence.slmgr_local import read_foreign
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

_PROMPT: Final = re.compile(r"(?:PS\b[^>]*|[A-Za-z]:[\\/][^>]*|\[[^\]]*\]: ?PS[^>]*)>\s*(.*)$")
_COMMAND: Final = re.compile(
    r"\bslmgr(?:\.vbs)?[\"']?\s+(?:(?![/-])(?P<host>[\w.-]+)\s+(?:\S+\s+\S+\s+)?)?[/-](?P<name>[a-z-]+)", re.IGNORECASE
)
_BEGINS_NAME: Final = re.compile(r"(?:Windows|Microsoft|Office)\b.*:$")
_HOSTNAME: Final = re.compile(r"hostname(?:\.exe)?$|\$env:COMPUTERNAME$", re.IGNORECASE)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?$")
_TRANSCRIPT: Final = re.compile(r"[^:]{3,30}: ?([\w.-]+) \(Microsoft Windows NT ([\d.]+)\)?")

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
    found = _Output(lines).read(items)
    if any(item.key in _TELLING for item in items):
        return found
    # German has "Name:" too: what tells more is taken.
    return max(found, read_foreign(lines), key=_told)


def _told(machines: Sequence[MachineState]) -> int:
    return sum(len(msgspec.to_builtins(product)) for one in machines for product in one.products)


class _Output:
    """Goes through a text from label to label."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.machines = Machines()
        self.product: Account | None = None
        self.command = ""
        self.foreign = False
        """Within the output of ospp.vbs."""
        self.before: list[Line] = []
        """Lines since the last label, rule or prompt, that mean nothing."""
        self.pending: list[Line] = []
        """Lines between labels of a product that mean nothing."""
        self.message = False
        """Within the words of an error."""
        self.named = False
        """The next line is the machine's name."""

    def read(self, items: Sequence[Item]) -> list[MachineState]:
        at = 0
        for item in items:
            for line in self.lines[at : item.first]:
                self.plain(line)
            self.labelled(item)
            at = item.last + 1
        for line in self.lines[at:]:
            self.plain(line)
        return self.machines.states(_WEAK)

    # ------------------------------------------------------------------------------------- lines without a label

    def plain(self, line: Line) -> None:
        """A line that has no label of slmgr: a prompt, a head, or something else."""
        head = _TRANSCRIPT.match(line.text)
        prompt = _PROMPT.match(line.text)
        if head is not None:
            self.machines.local(ascii_text(head[1]), ascii_text(head[2]))
            self.rule()
        elif self.named and _PLAIN_NAME.match(line.text):
            self.machines.local(ascii_text(line.text))
        elif prompt is not None or STOP.match(line.solid) or line.text.lower().startswith(("cscript", "slmgr")):
            self.prompt(line.text if prompt is None else prompt[1])
            return
        elif not self.message:
            self.before.append(line)
            if self.product is not None:
                self.pending.append(line)
        self.named = False

    def rule(self) -> None:
        """What came before has ended."""
        self.before.clear()
        self.pending.clear()
        self.message = False
        self.product = None

    def prompt(self, typed: str) -> None:
        """A rule, or a prompt with a command."""
        self.rule()
        self.named = _HOSTNAME.match(typed) is not None
        command = _COMMAND.search(typed)
        if command is not None:
            self.foreign = False
            self.command = command["name"].lower()
            self.machines.remote(ascii_text(command["host"] or ""))
            self.machines.next_run()

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
        self.message = False
        handler = _HANDLERS.get(key)
        if handler is not None:
            handler(self, item)
        else:
            self.value(item)
        self.before.clear()

    def current(self) -> Account:
        """The product that the next label is about; one without a name where a text begins in the middle."""
        if self.product is None:
            self.product = self.machines.product("slmgr /dli")
        elif self.pending:
            # A name of another tool, and then something else: not what this label is about.
            if self.product.facts <= {"name"} and "edition" not in str(self.product.fields.get("name")):
                self.product = self.machines.product("slmgr /dli")
            else:
                for line in self.pending:
                    self.machines.note(f"line {line.number} is not understood: {quoted(line.text)}")
        self.pending.clear()
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
        """Slmgr says which machine it asks."""
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
        begun = re.match(r"(.*)\((.*?)\)", _spaced(item.value), re.DOTALL)
        if begun is not None:
            self.product.fields["name"] = ascii_text(begun[1].strip())
            self.product.fields["activation_id"] = begun[2].strip("{}").lower()

    def result(self, item: Item) -> None:
        """How an attempt ended."""
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
        """Slmgr says that an override or a lookup domain is in force."""
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


def host_and_port(value: str) -> tuple[str, int]:
    """A host as slmgr and ospp write it, in lower case, and its port; 0 where there is none."""
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = value, "0"
    number = int(port)
    return ascii_text(host.lower().rstrip(".").strip("[]")), number if number <= 65_535 else 0


# -------------------------------------------------------------------------------------------- values to fields

_Set = Callable[[Account, str], None]


def _text(field: str) -> _Set:
    return lambda product, value: product.fields.__setitem__(field, ascii_text(value))


def _lower(field: str) -> _Set:
    return lambda product, value: product.fields.__setitem__(field, ascii_text(value.strip("{}").lower()))


def _number(field: str) -> _Set:
    return lambda product, value: product.fields.__setitem__(field, number(value))


def _always(field: str, known: Any) -> _Set:
    return lambda product, _value: product.fields.__setitem__(field, known)


def _of_host(field: str) -> _Set:
    return lambda product, value: product.host.__setitem__(field, number(value))


def _request(field: str) -> _Set:
    return lambda product, value: product.requests.__setitem__(field, number(value))


def _ignored(_product: Account, _value: str) -> None:
    """Known, and of no use here."""


def number(value: str) -> int:
    """The number that a value begins with; one that is absurdly large is cut."""
    found = re.match(r"-?\d{1,9}", value)
    return int(found[0]) if found else 0


def _status(product: Account, value: str) -> None:
    product.fields["status"] = STATES.get(value.lower().partition("(")[0].rstrip("."), -1)


def _reason(product: Account, value: str) -> None:
    product.fields["reason"] = _code(value[:10])


def _registered(product: Account, value: str) -> None:
    product.fields["override_host"], product.fields["override_port"] = host_and_port(value)


def _discovered(product: Account, value: str) -> None:
    product.fields["discovered_host"], product.fields["discovered_port"] = host_and_port(value)


def _host_address(product: Account, value: str) -> None:
    product.fields["host_address"] = "" if value.lower() == "notavailable" else ascii_text(value.lower())


def _flag(field: str, yes: str) -> _Set:
    return lambda product, value: product.fields.__setitem__(field, value.lower().endswith(yes))


def _host(product: Account, _value: str) -> None:
    product.is_host = True


def _publishing(product: Account, value: str) -> None:
    product.is_host = True
    product.host["publishing"] = value.lower().endswith("enabled")


def _priority(product: Account, value: str) -> None:
    product.is_host = True
    product.host["low_priority"] = value.lower().endswith("low")


_FIELDS: Final[Mapping[str, _Set]] = {
    "description": _text("description"),
    "activation_id": _lower("activation_id"),
    "application_id": _lower("application_id"),
    "extended_pid": _text("extended_pid"),
    "channel": _text("channel"),
    "partial_key": _always("in_use", True),
    "not_in_use": _always("in_use", False),
    "status": _status,
    "remaining": _number("grace_minutes"),
    "evaluation_end": _text("expires"),
    "reason": _reason,
    "windows_rearms": _number("windows_rearms"),
    "product_rearms": _number("product_rearms"),
    "trusted_time": _text("trusted_time"),
    "activation_type": _lower("activation_type"),
    "never_asked": _always("never_asked", True),
    "client_machine_id": _lower("client_machine_id"),
    "registered": _registered,
    "discovered": _discovered,
    "no_host": _always("no_host", True),
    "lookup_domain": _lower("lookup_domain"),
    "host_address": _host_address,
    "host_pid": _text("host_pid"),
    "activation_interval": _number("activation_interval_min"),
    "renewal_interval": _number("renewal_interval_min"),
    "caching": _flag("caching", "enabled"),
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
    "ad_object": _text("ad_object"),
    "vm_host": _lower("vm_host"),
    **dict.fromkeys(
        ("heading", "ad", "avma", "ao_detail", "avma_detail", "installation_id", "certificate", "app_rearms", "token"),
        _ignored,
    ),
}
