"""Records that are proposed and not yet there: what DNS would answer once they are."""

import datetime
from typing import Any

import msgspec

from kmsdiag.model.answer import AddressAnswer, Answer, DnsAnswer, LookupAnswer, SrvAnswer, SrvRecord
from kmsdiag.model.outcome import DnsOutcome, LookupOutcome
from kmsdiag.model.request import AddressQuery, Request, SrvQuery, SystemLookup
from kmsdiag.model.target import Family


class ProposedSrv(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole SRV record set of one name."""

    name: str
    records: tuple[SrvRecord, ...]


class ProposedAddresses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole A or AAAA record set of one name."""

    name: str
    family: Family
    addresses: tuple[str, ...]


class Proposal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Proposed record sets; each replaces the set of the same name and type.

    ``zones`` are proposed as a whole: what is not among the records does not exist in them, save below ``cuts``, where
    they delegate.
    """

    srv: tuple[ProposedSrv, ...] = ()
    addresses: tuple[ProposedAddresses, ...] = ()
    zones: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()

    def answer(self, request: Request[Any], live: Answer | None, at: datetime.datetime) -> Answer | None:
        """What the request would be answered, at every server; None where the proposal does not say.

        ``live`` is the answer to it as things are: a server that does not serve will not serve new records either.
        """
        if isinstance(live, DnsAnswer) and live.outcome is not DnsOutcome.ANSWERED and not live.outcome.is_absence:
            return None
        match request:
            case SrvQuery():
                return self._srv(request, at)
            case AddressQuery():
                return self._address(request, at)
            case SystemLookup():
                return self._lookup(request, at)
        return None

    def _srv(self, request: SrvQuery, at: datetime.datetime) -> SrvAnswer | None:
        outcome, records = DnsOutcome.ANSWERED, self._srv_records(request.name)
        if records is None:
            if not self._covers(request.name):
                return None
            outcome, records = self._absence(request.name), ()
        return SrvAnswer(
            at=at, outcome=outcome, server=request.server, records=records, authoritative=not request.recursion
        )

    def _srv_records(self, name: str) -> tuple[SrvRecord, ...] | None:
        return next((one.records for one in self.srv if one.name == name), None)

    def _address(self, request: AddressQuery, at: datetime.datetime) -> AddressAnswer | None:
        outcome = DnsOutcome.ANSWERED
        addresses = next(
            (one.addresses for one in self.addresses if (one.name, one.family) == (request.name, request.family)), None
        )
        if addresses is None:
            if not self._covers(request.name):
                return None
            outcome, addresses = self._absence(request.name), ()
        return AddressAnswer(at=at, outcome=outcome, server=request.server, addresses=addresses)

    def _lookup(self, request: SystemLookup, at: datetime.datetime) -> LookupAnswer | None:
        addresses = tuple(address for one in self.addresses if one.name == request.name for address in one.addresses)
        if addresses:
            return LookupAnswer(at=at, outcome=LookupOutcome.FOUND, addresses=addresses)
        if self._covers(request.name):
            return LookupAnswer(at=at, outcome=LookupOutcome.NOT_FOUND)
        return None

    def _covers(self, name: str) -> bool:
        return any(_below(name, zone) for zone in self.zones) and not any(_below(name, cut) for cut in self.cuts)

    def _absence(self, name: str) -> DnsOutcome:
        owners = {*(one.name for one in self.srv), *(one.name for one in self.addresses)}
        return DnsOutcome.NODATA if any(_below(owner, name) for owner in owners) else DnsOutcome.NXDOMAIN


def _below(name: str, zone: str) -> bool:
    """Whether a name is the zone's own, or below it."""
    return f".{name}".endswith(f".{zone}")
