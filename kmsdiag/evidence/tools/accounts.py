"""Products as texts tell of them, label by label, and the machines that they belong to."""

from collections.abc import Set as AbstractSet
from typing import Any, Final

from kmsdiag.evidence.escape import notes
from kmsdiag.model.collected import HostState, MachineState, ProductState, Requests

MOST_PRODUCTS: Final = 2_000
"""Products of one machine that are kept."""

_PARTIAL: Final = ("/xpr", "/ato", "/act")
"""Outputs that tell one thing about a product."""

_IDENTITY: Final = ("description", "activation_id", "application_id", "channel", "extended_pid")


class Account:
    """What a text says about one product: ``fields`` of a ProductState, ``facts`` the labels that were found."""

    __slots__ = ("facts", "fields", "host", "is_host", "requests", "run", "source")

    def __init__(self, source: str, run: int) -> None:
        self.source = source
        self.run = run
        self.fields: dict[str, Any] = {}
        self.host: dict[str, Any] = {}
        self.requests: dict[str, int] = {}
        self.is_host = False
        self.facts: set[str] = set()

    def state(self) -> ProductState:
        """The product as a value."""
        fields = {"name": "", **self.fields, "source": self.source}
        if self.is_host or self.host or self.requests:
            fields["host"] = HostState(**self.host, requests=Requests(**self.requests))
        return ProductState(**fields)


class _Machine:
    """One machine of a text."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.system = ""
        self.sources: dict[str, None] = {}
        self.products: list[Account] = []
        self.notes: list[str] = []


class Machines:
    """The machines of a text, in its order. One without a name is the one that the text was made on."""

    def __init__(self) -> None:
        self._machines: dict[str, _Machine] = {}
        self._local = ""
        self._run = 0
        self._now = self._named("")

    def _named(self, name: str) -> _Machine:
        return self._machines.setdefault(name.lower(), _Machine(name))

    def local(self, name: str, system: str = "") -> None:
        """The text says which machine it was made on."""
        self._local = name
        nameless = self._machines.get("")
        if nameless is not None and name.lower() not in self._machines and len(self._machines) == 1:
            nameless.name = name
            self._machines = {name.lower(): nameless}
        self._now = self._named(name)
        self._now.system = self._now.system or system

    def remote(self, name: str) -> None:
        """The next output is of that machine; "" for the one that the text was made on."""
        self._now = self._named(name or self._local)

    def next_run(self) -> None:
        """Another output begins: it may be another machine's."""
        self._run += 1

    def product(self, source: str) -> Account:
        """Another product of the machine."""
        found = Account(source, self._run)
        if len(self._now.products) < MOST_PRODUCTS:
            self._now.products.append(found)
        else:
            self.note(f"more than {MOST_PRODUCTS:,} products: the others are left out")
        return found

    def note(self, text: str) -> None:
        """Something that is odd or could not be read."""
        self._now.notes.append(text)

    def source(self, kind: str) -> None:
        """A kind of output that says something without a product."""
        self._now.sources[kind] = None

    def system(self, version: str) -> None:
        """The version of the licensing service, which is that of Windows."""
        self._now.system = version

    def states(self, weak: AbstractSet[str] = frozenset()) -> list[MachineState]:
        """All machines that something is said about. A product of which only ``weak`` facts are told is none."""
        found = []
        for machine in self._machines.values():
            products = [one for one in machine.products if not one.facts <= weak]
            if not products and not (machine.notes and machine.sources):
                continue
            for number, own in enumerate(_by_machine(products, one=bool(machine.name))):
                found.append(_state(machine, own, first=number == 0))
        return found


def _state(machine: _Machine, products: list[Account], *, first: bool) -> MachineState:
    sources = dict.fromkeys([*(machine.sources if first else ()), *(one.source for one in products)])
    own = list(machine.notes) if first else []
    kept, repeated = _joined(products)
    own += repeated
    told = [one for one in kept if one.fields or one.is_host or one.host or one.requests]
    return MachineState(
        name=machine.name,
        sources=tuple(sources),
        system=machine.system if first else "",
        products=tuple(one.state() for one in told),
        notes=notes(own),
    )


def _by_machine(products: list[Account], *, one: bool) -> list[list[Account]]:
    """Products by machine: where no name tells, outputs with different client machine IDs are of different ones."""
    if one:
        return [products]
    runs: dict[int, list[Account]] = {}
    for product in products:
        runs.setdefault(product.run, []).append(product)
    groups: list[list[Account]] = [[]]
    ids: set[str] = set()
    for own in runs.values():
        mine = {found for each in own if (found := each.fields.get("client_machine_id"))}
        if mine and ids and not mine & ids:
            groups.append([])
            ids = set()
        ids |= mine
        groups[-1] += own
    return groups


def _joined(products: list[Account]) -> tuple[list[Account], list[str]]:
    """Each product once: the last account of its state, with what /xpr and /ato say about it."""
    found: dict[tuple[str, ...], Account] = {}
    told: list[str] = []
    for key, one in zip(_identities(products), products, strict=True):
        known = found.get(key)
        if known is None:
            found[key] = one
        elif one.source != known.source and (one.source.endswith(_PARTIAL) or known.source.endswith(_PARTIAL)):
            found[key] = _completed(known, one)
        else:
            kept = _IDENTITY if one.source.endswith(_PARTIAL) else (*_IDENTITY, "result", "permanent")
            for field in kept:
                if known.fields.get(field):
                    one.fields.setdefault(field, known.fields[field])
            one.source = known.source if known.source == "slmgr /dlv" else one.source
            found[key] = one
            name = one.fields.get("name") or one.fields.get("activation_id", "a product")
            told.append(f"{name} is shown more than once; the last account of it counts")
    return list(found.values()), told


def _identities(products: list[Account]) -> list[tuple[str, ...]]:
    """What tells one product from another: its ID, else name and description, as far as an output has them."""
    full = [tuple(one.fields.get(field, "") for field in ("activation_id", "name", "description")) for one in products]
    ids: dict[tuple[str, str], set[str]] = {}
    for own_id, name, description in full:
        if own_id:
            ids.setdefault((name, description), set()).add(own_id)
    keys: list[tuple[str, ...]] = []
    whole: dict[str, dict[tuple[str, ...], None]] = {}
    for number, (own_id, name, description) in enumerate(full):
        known = ids.get((name, description), set())
        if own_id or len(known) == 1:
            keys.append((own_id or next(iter(known)),))
        else:
            keys.append((name, description) if name else ("", "", str(number)))
        if name and description:
            whole.setdefault(name, {})[keys[-1]] = None
    found = []
    for key, (own_id, name, description) in zip(keys, full, strict=True):
        # /xpr has no more than a name, /ato a name and an ID: they are about the one product of that name.
        only = next(iter(whole[name])) if not description and len(whole.get(name, ())) == 1 else key
        found.append(key if own_id and len(only) == 1 else only)
    return found


def _completed(one: Account, other: Account) -> Account:
    """What two kinds of output say about a product: the one that tells its state, and more from the other."""
    first, second = (other, one) if one.source.endswith(_PARTIAL) else (one, other)
    for field, value in second.fields.items():
        first.fields.setdefault(field, value)
    first.facts |= second.facts
    return first
