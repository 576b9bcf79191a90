"""JSON that PowerShell wrote, about machines: objects of the licensing service, of DNS and of port tests.

``ConvertTo-Json`` writes one object without its list, objects of CIM with all that they know of their class, and
Windows PowerShell 5.1 some lists as ``{"value": [], "Count": n}``; below ``-Depth`` an object is a text with its type's
name. An array may hold many machines (``PSComputerName``). What the project's own collector wrote is read by
:mod:`kmsdiag.evidence.powershell.collection`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from kmsdiag.evidence.escape import ascii_text
from kmsdiag.evidence.escape import notes as bounded
from kmsdiag.evidence.powershell import collection, licensing
from kmsdiag.evidence.powershell import network as net_json
from kmsdiag.evidence.tools import records
from kmsdiag.evidence.tools.records import Row
from kmsdiag.model.collected import MachineState, NetworkState, PortTest, ProductState

MOST_CHARACTERS: Final = 256 << 20
DEEPEST: Final = 100
"""Objects and lists inside each other; ConvertTo-Json itself writes at most 100."""

MOST_OBJECTS: Final = 2_000_000
MOST_MACHINES: Final = 100_000
MOST_PRODUCTS: Final = 2000
"""Products kept of one machine; slmgr /dlv all shows some hundred."""

_NOISE: Final = frozenset(
    {"cimclass", "ciminstanceproperties", "cimsystemproperties", "properties", "systemproperties"}
)
"""What CIM and WMI objects know of their class."""

_CUT: Final = re.compile(
    r"System\.(?:Object|Collections)\S*|Microsoft\.Management\.\S.*|SoftwareLicensing\w+\b.*|@\{.*", re.DOTALL
)
_CONTAINERS: Final = frozenset({"product", "products", "service", "licenses"})
"""Names under which objects of the licensing service stand."""

_OWN_NAMES: Final = ("pscomputername", "__server", "machinename", "csname")
_LOCAL: Final = frozenset({"", ".", "localhost", "127.0.0.1", "::1"})
_GAP: Final = re.compile(r"[\s\ufeff\x00]*")


class JsonError(ValueError):
    """A text that is no JSON, or not one that is read here; the message is one line of printable ASCII."""


def decode(text: str) -> object:
    """The JSON document in a text; of several after each other (JSON lines) a list.

    Raises:
        JsonError: no JSON, too large or too deep, or an object with the same name twice.
    """
    if len(text) > MOST_CHARACTERS:
        raise JsonError(f"the JSON has {len(text):,} characters (the limit is {MOST_CHARACTERS:,})")
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
    found: list[object] = []
    position = _gap(text, 0)
    while position < len(text) or not found:
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise JsonError(
                f"line {error.lineno}, column {error.colno}: no JSON ({ascii_text(error.msg, 80)})"
            ) from None
        except RecursionError:
            raise JsonError(f"the JSON is nested more than {DEEPEST} deep") from None
        except JsonError:
            raise
        except ValueError as error:
            raise JsonError(f"no JSON that is read here: {ascii_text(str(error), 80)}") from None
        found.append(value)
        position = _gap(text, position)
    whole = found[0] if len(found) == 1 else found
    if _too_deep(whole):
        raise JsonError(f"the JSON is nested more than {DEEPEST} deep")
    return whole


def _gap(text: str, position: int) -> int:
    match = _GAP.match(text, position)
    return position if match is None else match.end()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"an object has the name {ascii_text(repr(twice), 80)} twice")
    return found


def _constant(name: str) -> object:
    raise JsonError(f"{name} is no JSON number")


def _too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _depth in range(DEEPEST):
        level = [part for one in level for part in _parts(one) if isinstance(part, dict | list)]
        if not level:
            return False
    return True


def _parts(value: object) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


# ---------------------------------------------------------------------------------------------------- machines


class _Found:
    """What is known of one machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sources: dict[str, None] = {}
        self.products: dict[ProductState, None] = {}
        self.services: list[licensing.ServiceState] = []
        self.rows: list[Row] = []
        self.ports: dict[PortTest, None] = {}
        self.notes: list[str] = []

    def add(self, other: "_Found") -> None:
        """Take what was found without a name."""
        self.sources.update(other.sources)
        self.products.update(other.products)
        self.services += other.services
        self.rows += other.rows
        self.ports.update(other.ports)
        self.notes += other.notes


class _Object(NamedTuple):
    """An object somewhere in the document, its names in lower case as well, and the machine that it speaks of.

    Of what is cut off, ``text`` is left.
    """

    data: Mapping[str, Any]
    lower: Mapping[str, Any]
    where: str
    machine: str
    text: str = ""


def read(data: object) -> list[MachineState]:
    """Everything that a decoded document says about machines; [] where it is about something else. Never raises."""
    found: dict[str, _Found] = {}
    states: list[MachineState] = []
    for number, one in enumerate(_objects(data)):
        if number >= MOST_OBJECTS or len(found) > MOST_MACHINES:
            _of(found, "").notes.append(f"only the first {number:,} objects were read")
            break
        if collection.is_collection(one.data):
            states += collection.read(one.data)
        else:
            _take(one, _of(found, one.machine))
    named = [one for one in found.values() if one.name]
    if len(named) == 1 and "" in found:
        # Objects without a machine's name beside those of one machine are about that one.
        named[0].add(found.pop(""))
    states += [_state(one) for one in found.values() if one.sources]
    lost = [note for one in found.values() if not one.sources for note in one.notes]
    if states and lost:
        states[0] = msgspec.structs.replace(states[0], notes=bounded([*states[0].notes, *lost]))
    return states


def _of(found: dict[str, _Found], name: str) -> _Found:
    return found.setdefault(name.lower(), _Found(name))


def _objects(data: object) -> Iterator[_Object]:
    """Objects in the order of the document; what is in one that was read is left out, but for what a service has."""
    pending: list[tuple[object, str, str]] = [(data, "the document", "")]
    while pending:
        value, where, machine = pending.pop()
        if isinstance(value, list):
            pending += [
                (part, f"{_short(where)} {number}", machine) for number, part in reversed([*enumerate(value, 1)])
            ]
        elif isinstance(value, dict):
            lower = {str(key).lower(): part for key, part in value.items()}
            machine = _own_name(lower) or machine
            yield _Object(value, lower, where, machine)
            if not _is_leaf(value, lower):
                inner = [(part, str(key), machine) for key, part in value.items() if str(key).lower() not in _NOISE]
                pending += [one for one in reversed(inner) if isinstance(one[0], dict | list | str)]
        elif isinstance(value, str) and len(value) < 100_000 and _CUT.fullmatch(value.strip()):
            yield _Object({}, {}, where, machine, value)


def _short(where: str) -> str:
    return ascii_text(where, 60)


def _is_leaf(data: Mapping[str, Any], lower: Mapping[str, Any]) -> bool:
    if collection.is_collection(data) or net_json.is_record(lower) or net_json.is_port_test(lower):
        return True
    return licensing.is_product(licensing.known(data))


def _own_name(lower: Mapping[str, Any]) -> str:
    """The machine's name that an object of CIM or WMI carries."""
    values = [lower.get(key) for key in _OWN_NAMES]
    if not net_json.is_port_test(lower):
        # There it is the machine that was called.
        values.append(lower.get("computername"))
    system = lower.get("cimsystemproperties")
    if isinstance(system, dict):
        values.append(system.get("ServerName"))
    for value in values:
        if isinstance(value, str) and value.strip().lower() not in _LOCAL and not _CUT.fullmatch(value.strip()):
            return ascii_text(value.strip().rstrip("."))
    return ""


def _take(one: _Object, found: _Found) -> None:
    """Read an object into what is known of its machine."""
    if one.text:
        if "SoftwareLicensing" in one.text or one.where.lower() in _CONTAINERS:
            found.sources.setdefault("CIM")
        text = ascii_text(one.text, 60)
        found.notes.append(f"{one.where} is cut off: {text}; ConvertTo-Json needs -Depth 4 or more")
    elif net_json.is_record(one.lower):
        row = net_json.row(one.lower, one.where, found.notes)
        found.sources.setdefault("Resolve-DnsName")
        found.rows += [] if row is None else [row]
    elif net_json.is_port_test(one.lower):
        test = net_json.port_test(one.lower, one.where, found.notes)
        found.sources.setdefault("Test-NetConnection")
        found.ports.update({} if test is None else {test: None})
    else:
        _take_licensing(one, found)


def _take_licensing(one: _Object, found: _Found) -> None:
    data = licensing.known(one.data)
    kind = _class_of(one.lower)
    if licensing.is_product(data):
        found.sources.setdefault("CIM" if kind or _NOISE & one.lower.keys() else _source(one.data))
        if len(found.products) >= MOST_PRODUCTS:
            found.notes.append(f"more than {MOST_PRODUCTS:,} products; the others were left out")
            return
        product = licensing.product(data, one.where, found.notes, kind or licensing.PRODUCT)
        found.products.setdefault(product)
        if product.client_machine_id:
            # OSLicense joins product and service; whose the override is it does not say.
            found.services.append(licensing.service(data, one.where, [])._replace(override=None, host=None))
    elif licensing.is_service(data):
        found.sources.setdefault("CIM" if kind or _NOISE & one.lower.keys() else _source(one.data))
        found.services.append(licensing.service(data, one.where, found.notes))


def _class_of(lower: Mapping[str, Any]) -> str:
    """The class that an object says it is of, as far as it is one of those read here; "" where it does not say."""
    system, own = lower.get("cimsystemproperties"), lower.get("cimclass")
    values = [lower.get("__class"), lower.get("creationclassname"), own]
    values += [system.get("ClassName")] if isinstance(system, dict) else []
    values += [own.get("CimClassName")] if isinstance(own, dict) else []
    for value in values:
        if isinstance(value, str):
            match = re.search(r"(?:SoftwareLicensing|OfficeSoftwareProtection)(?:Product|Service)", value)
            if match is not None:
                return match[0]
    return ""


def _source(data: Mapping[str, Any]) -> str:
    """The module's objects have no class, nor has a selection of properties from CIM; names tell them apart mostly."""
    names = {name.lower() for name in data}
    of_module = "keymanagementservicetotalrequests" in names and not {"version", "clientmachineid"} & names
    return "OSLicense" if of_module or "activationid" in names else "CIM"


def _state(found: _Found) -> MachineState:
    products = tuple(found.products)
    for service in found.services:
        products = licensing.with_service(products, service)
    lookups, notes = records.lookups(found.rows, "Resolve-DnsName")
    network = NetworkState(lookups=records.merged(lookups), ports=tuple(found.ports))
    services = found.services
    ids = dict.fromkeys(one.client_machine_id for one in services if one.client_machine_id)
    if len(ids) > 1:
        notes.append(f"several client machine IDs: {', '.join(ids)}")
    return MachineState(
        name=found.name,
        sources=tuple(found.sources),
        system=_first(one.version for one in services),
        products=products,
        overrides=tuple(dict.fromkeys(one.override for one in services if one.override is not None)),
        lookup_domain=_first(one.lookup_domain for one in services),
        caching=next((one.caching for one in services if one.caching is not None), None),
        activation_type=_first(one.activation_type for one in services),
        client_machine_id=_first(ids),
        network=network if network != NetworkState() else None,
        notes=bounded([*found.notes, *notes]),
    )


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")
