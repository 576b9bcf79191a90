"""What ospp.vbs prints (/dstatus, /dstatusall, /act, /dcmid, the frame of /dhistorykms), wherever it stands in a text.

Its own texts are English on every system; only the banner of the script host is translated. Source: the string
constants of ospp.vbs. The events that /dhistorykms lists are left to the readers of events.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from kmsdiag.evidence.escape import ascii_text, quoted
from kmsdiag.evidence.tools.accounts import Account
from kmsdiag.evidence.tools.labelled import Item, Label, Vocabulary, lines_of
from kmsdiag.evidence.tools.session import Session
from kmsdiag.evidence.tools.slmgr_labels import CODE, GUID, HOST, WORDS
from kmsdiag.evidence.tools.values import Setter, count, flag, host, ignored, known, lower, number, text_of
from kmsdiag.model.collected import MachineState

_STATES: Final = {
    "UNLICENSED": 0,
    "LICENSED": 1,
    "OOB_GRACE": 2,
    "OOT_GRACE": 3,
    "NON_GENUINE_GRACE": 4,
    "NOTIFICATIONS": 5,
    "EXTENDEDGRACE": 6,
    "UNKNOWN": -1,
}

_MACHINE: Final = r"[\w.-]+"

_LABELS: Final = (
    Label("processing", "-{3}Processing-+", ""),
    Label("exiting", "-{3}Exiting-+", ""),
    Label("attempt", r"Installedproductkeydetected-attemptingto(?:token)?activatethefollowingproduct:?", ""),
    Label("product_id", "PRODUCTID:", r"[\w*-]*"),
    Label("sku_id", "SKUID:", GUID),
    Label("masked_id", r"\*{3}ID:", r"[0-9a-f*-]+"),
    Label("name", "LICENSENAME:", ends="edition"),
    Label("description", "LICENSEDESCRIPTION:", ends="channel"),
    Label("beta", "BETAEXPIRATION:"),
    Label("status", "LICENSESTATUS:(?=-|$)", rf"-{{0,3}}(?:{'|'.join(_STATES)})-{{0,3}}", words=True),
    Label("code", "ERRORCODE:", rf"{CODE}(?:\(.*\)?)?", words=True),
    Label("error_words", "ERRORDESCRIPTION:"),
    Label("article", "(?:NOTICE:AKBarticlehasbeendetectedforactivationfailure|FORMOREINFORMATIONPLEASEVISIT):"),
    Label("grace", "REMAININGGRACE:", r"(?:\d+days?)?\(?(?:\d+minute(?:\(s\)|s)?beforeexpiring\)?)?", words=True),
    Label("partial_key", "Last5charactersofinstalledproductkey:", r"\w{5}"),
    Label("activation_type", "ActivationTypeConfiguration:", r"(?:ALL|AD|KMS|TOKEN)\w*"),
    Label("recent", "Mostrecentsuccessfulactivationclientinformation:", ""),
    Label("discovered", "KMSmachinenamefromDNS:", HOST),
    Label("no_host", "DNSauto-?discovery:KMSnamenotavailable", ""),
    Label("override", "KMSmachineregistryoverridedefined:", HOST),
    Label("lookup_domain", "KMSLookupDomain:", HOST),
    Label("activation_interval", "ActivationInterval:", r"\d+(?:minutes?)?", words=True),
    Label("renewal_interval", "RenewalInterval:", r"\d+(?:minutes?)?", words=True),
    Label("caching", "KMShostcaching:", "Enabled|Disabled"),
    Label("ad_object", "ActivationObjectname:"),
    Label("ao_detail", "AO(?:DN|extendedPID|activationID):"),
    Label("no_keys", "<Noinstalledproductkeysdetected>?", ""),
    Label("success", "<(?:Offlineproduct|Product)activationsuccessful>?", ""),
    Label("no_licences", "NoOfficeKMSlicenseswerefoundonthesystem", ""),
    Label("client_machine_id", r"ClientMachineID\(CMID\):", GUID),
    Label("events", "SearchingforKMSactivationeventsonmachine:", _MACHINE),
    Label("no_events", "NoKMSactivationeventsfoundonmachine:", _MACHINE),
    Label("service", r"Error:TheSoftwareProtectionPlatformserviceisnot(?:installed|running)\.?", ""),
    # --- slmgr.vbs has labels of the same wording
    Label("slmgr", "(?:Softwarelicensingserviceversion:|Name:)", ""),
)

_OSPP: Final = Vocabulary(_LABELS, WORDS)

_SIGN: Final = re.compile(
    r"LICENSE\s*(?:NAME|STATUS)\s*:|<\s*(?:No|Product|Offline)|-{3}\s*Processing|Installed\s*product\s*key\s*detected"
    r"|KMS\s*activation\s*events|SKU\s*ID:|installed\s*product\s*key"
)
_BETWEEN: Final = re.compile(r"[\s>|\x00]+")

_OWN: Final = frozenset(
    {
        "processing",
        "attempt",
        "sku_id",
        "masked_id",
        "name",
        "description",
        "status",
        "grace",
        "partial_key",
        "no_keys",
        "success",
        "no_licences",
        "events",
        "no_events",
        "override",
    }
)
"""Labels that no other tool has: with one of them the output of ospp.vbs begins."""

_WEAK: Final = frozenset({"ignored", "code", "activation_interval", "renewal_interval"})


def read(text: str) -> list[MachineState]:
    """All that ospp.vbs says in a text, a state a machine; [] where there is nothing of it. Never raises."""
    if not _SIGN.search(_BETWEEN.sub("", text)):
        return []
    lines = lines_of(text)
    return _Output(lines).read(_OSPP.items(lines), _WEAK)


class _Output(Session):
    """Goes through a text from label to label."""

    COMMAND = re.compile(
        r"\bospp\.vbs[\"']?\s+/(?P<name>[a-z-]+)(?::\S+)?(?:\s+(?P<host>(?!/)[\w.-]+)(?=\s|$))?", re.IGNORECASE
    )

    inside = False
    """Within the output of ospp.vbs."""

    def typed(self, command: re.Match[str]) -> None:
        """The output of ospp follows."""
        super().typed(command)
        self.inside = True

    @property
    def source(self) -> str:
        """The kind of output, as far as is known."""
        return f"ospp /{self.command}" if self.command in ("dstatus", "dstatusall", "act", "dcmid") else "ospp /dstatus"

    def labelled(self, item: Item) -> None:
        """One label and its value."""
        key = item.key
        if key in _OWN:
            self.inside = True
        if key == "slmgr" or not self.inside:
            self.rule()
            self.inside = False
            return
        self.told(item, _HANDLERS.get(key, _Output.value))

    def current(self) -> Account:
        """The product that the next label is about."""
        if self.product is None:
            self.product = self.machines.product(self.source)
        self.not_understood()
        return self.product

    def value(self, item: Item) -> None:
        """A label whose value goes into a field of the product."""
        line = self.lines[item.first]
        product = self.current()
        if item.fits:
            product.facts.add(item.key)
            _FIELDS[item.key](product, item.value)
        elif item.value:
            odd = "a placeholder" if item.value.startswith("<") else "not what it should be"
            self.machines.note(f"line {line.number}: {quoted(line.text)} is {odd}")
            product.facts.add("ignored")

    def frame(self, item: Item) -> None:
        """Output begins or ends."""
        self.rule()
        if item.key == "exiting":
            self.command = ""
            self.inside = False

    def product_begins(self, item: Item) -> None:
        """The first label of a product: which one that is depends on version and option."""
        first = self.product is None or item.key in self.product.facts or "name" in self.product.facts
        if first and not (self.product is not None and self.product.facts <= {"attempt", "product_id"}):
            self.pending.clear()
            self.product = self.machines.product(self.source)
        self.value(item)

    def attempt(self, _item: Item) -> None:
        """An attempt begins."""
        self.command = "act"
        self.pending.clear()
        self.product = self.machines.product("ospp /act")
        self.product.facts.add("attempt")

    def masked_id(self, item: Item) -> None:
        """Some versions hide the product's ID in part."""
        self.product_begins(Item("product_id", "", item.first, item.last))
        line = self.lines[item.first]
        self.machines.note(f"line {line.number}: {quoted(line.text)} is masked: the product's ID is not known")

    def code(self, item: Item) -> None:
        """The reason of a state, or how an attempt ended."""
        if item.fits:
            product = self.current()
            product.facts.add("code")
            told = f"0x{item.value[2:10].upper()}"
            product.fields["result" if product.source == "ospp /act" else "reason"] = told
        else:
            self.value(item)
        self.message = True

    def words(self, _item: Item) -> None:
        """The words of an error, which may go on in other lines."""
        self.message = True

    def success(self, _item: Item) -> None:
        """An attempt succeeded."""
        product = self.current()
        product.source = "ospp /act"
        product.facts.add("attempt")
        product.fields["result"] = "0x00000000"

    def none(self, item: Item) -> None:
        """There is nothing to tell about."""
        self.machines.source(self.source)
        what = "product key" if item.key == "no_keys" else "licence of a KMS client of Office"
        self.machines.note(f"ospp says that no {what} is installed")

    def service(self, item: Item) -> None:
        """The licensing service of Office does not work."""
        self.machines.source(self.source)
        self.machines.note(f"ospp says: {quoted(self.lines[item.first].text)}")

    def history(self, item: Item) -> None:
        """The events that follow are read elsewhere; the machine's name is here."""
        self.rule()
        if item.fits:
            self.machines.remote(ascii_text(item.value))
        self.machines.source("ospp /dhistorykms")
        found = (
            "events of activation by KMS follow" if item.key == "events" else "there are no events of activation by KMS"
        )
        self.machines.note(f"ospp says that {found}")


_HANDLERS: Final[Mapping[str, Callable[[_Output, Item], None]]] = {
    "processing": _Output.frame,
    "exiting": _Output.frame,
    "attempt": _Output.attempt,
    "product_id": _Output.product_begins,
    "sku_id": _Output.product_begins,
    "masked_id": _Output.masked_id,
    "name": _Output.product_begins,
    "code": _Output.code,
    "error_words": _Output.words,
    "article": _Output.words,
    "success": _Output.success,
    "no_keys": _Output.none,
    "no_licences": _Output.none,
    "service": _Output.service,
    "events": _Output.history,
    "no_events": _Output.history,
}
"""Labels that are more than the value of a field."""


def _status(product: Account, value: str) -> None:
    product.fields["status"] = _STATES[value.strip("-").upper()]


def _grace(product: Account, value: str) -> None:
    minutes = re.search(r"(\d{1,9})minute", value)
    if minutes is not None:
        product.fields["grace_minutes"] = int(minutes[1])
    elif (days := number(value)) > 0:
        product.fields["grace_minutes"] = days * 1_440


def _activation_type(product: Account, value: str) -> None:
    product.fields["activation_type"] = next(
        one for one in ("all", "ad", "kms", "token") if value.lower().startswith(one)
    )


_FIELDS: Final[Mapping[str, Setter]] = {
    "sku_id": lower("activation_id"),
    "name": text_of("name"),
    "description": text_of("description"),
    "status": _status,
    "grace": _grace,
    "partial_key": known("in_use", True),
    "activation_type": _activation_type,
    "discovered": host("discovered"),
    "override": host("override"),
    "no_host": known("no_host", True),
    "lookup_domain": lower("lookup_domain"),
    "activation_interval": count("activation_interval_min"),
    "renewal_interval": count("renewal_interval_min"),
    "caching": flag("caching", "enabled"),
    "ad_object": text_of("ad_object"),
    "client_machine_id": lower("client_machine_id"),
    **dict.fromkeys(("product_id", "beta", "recent", "ao_detail"), ignored),
}
