"""What DNS in the captures says of clients and hosts: who was told of which host, and how each one came to its own."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from kmsdiag.capture.lookups import SERVICE, Transaction
from kmsdiag.model.capture import Channel, FoundBy
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.target import join_host_port

PATIENCE: Final = 60_000_000
"""µs after an SRV answer within which a client that wants to activate contacts a host."""

_MARGIN: Final = 1_000_000
"""µs of a capture's beginning in which a connection may have been looked up before it."""


class Discovery:
    """Transactions of DNS, by client and by name. Times are µs since 1970 here.

    ``begins`` is when the captures do; ``has_dns`` whether they hold unicast DNS of anybody. Of clients only those of
    the ``chosen`` transactions are spoken of (None: all); what addresses are called is known from all.
    """

    def __init__(
        self,
        transactions: Iterable[Transaction],
        begins: int,
        *,
        has_dns: bool,
        chosen: Iterable[Transaction] | None = None,
    ) -> None:
        self._chosen = None if chosen is None else {one.key.client for one in chosen if one.key.kind == "SRV"}
        self._begins = begins
        self._has_dns = has_dns
        self._names: dict[str, set[str]] = defaultdict(set)
        self._addresses: dict[str, set[str]] = defaultdict(set)
        self._targets: set[tuple[str, int]] = set()
        self._asked: dict[str, set[str]] = defaultdict(set)
        self._told: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
        self._looked_up: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for one in transactions:
            self._take(one)
        for looked_up in self._looked_up.values():
            looked_up.sort()

    def _take(self, one: Transaction) -> None:
        client = one.key.client
        for name, address in one.addresses:
            self._names[address].add(name)
            self._addresses[name].add(address)
        if one.key.kind == "SRV":
            self._asked[client].add(one.key.name.removeprefix(SERVICE).removeprefix("."))
        elif one.outcome is DnsOutcome.ANSWERED and one.answered is not None and one.key.channel is Channel.DNS:
            self._looked_up[client] += [(one.answered[1] // 1000, address) for _name, address in one.addresses]
        if one.answered is None:
            return
        at = one.answered[1] // 1000
        for record in one.records:
            target = record.target, record.port
            self._targets.add(target)
            told = self._told[client]
            told[target] = min(at, told.get(target, at))

    def names(self, address: str) -> tuple[str, ...]:
        """What answers call an address; targets of SRV records first of all where there are any."""
        names = self._names.get(address, set())
        targets = {name for name, _port in self._targets}
        return tuple(sorted(names & targets or names))

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses that answers give for a name."""
        return tuple(sorted(self._addresses.get(name, ())))

    def published(self, address: str, port: int) -> bool:
        """Whether an SRV answer named this address and port."""
        return any((name, port) in self._targets for name in (*self._names.get(address, ()), address))

    def services(self) -> tuple[tuple[str, int], ...]:
        """Addresses and ports that SRV answers named."""
        return tuple(sorted({(address, port) for name, port in self._targets for address in self.addresses(name)}))

    def found_by(self, client: str, address: str, port: int, at: int) -> FoundBy:
        """How a client came to a host that it first talked to at ``at``."""
        if told := self._told.get(client):
            names = {address, *self._names.get(address, ())}
            if any(name in names and port_told == port and when <= at for (name, port_told), when in told.items()):
                return FoundBy.SRV
        looked_up = self._looked_up.get(client, [])
        if any(found == address for _when, found in looked_up[: bisect_left(looked_up, (at + 1, ""))]):
            return FoundBy.NAME
        if not self._has_dns or at < self._begins + _MARGIN:
            return FoundBy.NOT_KNOWN
        return FoundBy.NOTHING

    def asked(self, client: str) -> tuple[str, ...]:
        """Domains whose SRV record the client asked for."""
        return tuple(sorted(self._asked.get(client, ())))

    def told(self, client: str) -> tuple[str, ...]:
        """Targets that SRV answers gave the client, as host:port."""
        return tuple(join_host_port(*target) for target in sorted(self._told.get(client, ())))

    def ignored(self, client: str, contacted: Iterable[tuple[str, int]], until: int) -> tuple[str, ...]:
        """Those of them that it never contacted, though the capture ran on for a minute."""
        told = self._told.get(client)
        if not told:
            return ()
        reached = {(name, port) for address, port in contacted for name in (*self._names.get(address, ()), address)}
        return tuple(
            join_host_port(*target)
            for target, at in sorted(told.items())
            if target not in reached and until - at >= PATIENCE
        )

    def clients(self) -> Sequence[str]:
        """All who asked for SRV records, or were told of some."""
        known = {*self._asked, *self._told}
        return sorted(known if self._chosen is None else known & self._chosen)
