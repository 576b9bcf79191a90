"""Zone-file text (RFC 1035 section 5) to proposed records, by dnspython's parser."""

from typing import Any, Final

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tokenizer
import dns.zonefile

from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.proposal import Proposal, ProposedAddresses, ProposedSrv
from kmsdiag.model.target import Family

DEFAULT_TTL: Final = 3600
"""TTL in seconds of a record that states none, where the text has no $TTL and no SOA."""

_SRV_PREFIX: Final = "_vlmcs._tcp."
# $INCLUDE would open files, $GENERATE may make a billion records.
_DIRECTIVES: Final = ("$ORIGIN", "$TTL")
_FAMILIES: Final = {dns.rdatatype.A: Family.IPV4, dns.rdatatype.AAAA: Family.IPV6}


class ZoneError(ValueError):
    """Text that is no usable zone file; ``line`` counts from 1, and is 0 where the fault is in no one line."""

    def __init__(self, text: str, line: int = 0) -> None:
        super().__init__(text)
        self.line = line


def read(text: str, origin: str = "") -> Proposal:
    """Read the records that matter to KMS: SRV of ``_vlmcs._tcp`` names, and all addresses.

    Names without a final dot are completed with ``origin`` until an ``$ORIGIN`` says otherwise. A text with the SOA
    record of a zone proposes that zone as a whole.

    Raises:
        ZoneError: no zone file, or nothing in it that matters.
    """
    rrsets = _rrsets(text, origin)
    of_type: dict[int, list[dns.rrset.RRset]] = {}
    for rrset in rrsets:
        of_type.setdefault(rrset.rdtype, []).append(rrset)
    zones = tuple(_name(rrset.name) for rrset in of_type.get(dns.rdatatype.SOA, ()))
    proposal = Proposal(
        srv=tuple(
            ProposedSrv(_name(rrset.name), _srv_records(rrset))
            for rrset in of_type.get(dns.rdatatype.SRV, ())
            if _name(rrset.name).startswith(_SRV_PREFIX)
        ),
        addresses=tuple(
            ProposedAddresses(_name(rrset.name), family, tuple(sorted(record.address for record in rrset)))
            for rdtype, family in _FAMILIES.items()
            for rrset in of_type.get(rdtype, ())
        ),
        zones=zones,
        cuts=tuple(
            name for rrset in of_type.get(dns.rdatatype.NS, ()) if (name := _name(rrset.name)) and name not in zones
        ),
    )
    if not (proposal.srv or proposal.addresses or proposal.zones):
        raise ZoneError(f"there is no SRV record of a name {_SRV_PREFIX}… in it, no address and no SOA")
    _refuse_aliases(proposal, of_type.get(dns.rdatatype.CNAME, []))
    return proposal


class _Collector:
    """Takes the records that dnspython's reader finds, as a transaction of its zones would.

    Those hold one zone each: a reader leaves out what lies outside of it without a word, and refuses a SOA below it.
    """

    def __init__(self) -> None:
        self.manager = self
        self.rrsets: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}

    def origin_information(self) -> tuple[dns.name.Name, bool, dns.name.Name]:
        return (dns.name.root, False, dns.name.root)

    def check_put_rdataset(self, check: object) -> None:
        """What else may stand beside a CNAME is the name server's business."""

    def _set_origin(self, origin: dns.name.Name) -> None:
        """The reader completes names by itself."""

    def add(self, name: dns.name.Name, ttl: int, rdata: Any) -> None:
        rrset = self.rrsets.setdefault((name, rdata.rdtype), dns.rrset.RRset(name, rdata.rdclass, rdata.rdtype))
        rrset.add(rdata, ttl)


def _rrsets(text: str, origin: str) -> list[dns.rrset.RRset]:
    found = _Collector()
    tokens = dns.tokenizer.Tokenizer(f"$ORIGIN {origin}.\n{text}" if origin else text)
    reader = dns.zonefile.Reader(
        tokens,
        dns.rdataclass.IN,
        found,  # type: ignore[arg-type]  # it has all that the reader uses
        allow_directives=_DIRECTIVES,
        default_ttl=DEFAULT_TTL,
    )
    try:
        reader.read()
    except (dns.exception.DNSException, ValueError) as error:
        file, line = tokens.where()
        what = str(error).removeprefix(f"{file}:{line}: ") or type(error).__name__
        line -= bool(origin)
        # The parser has often read the end of the faulty line, and counts one too many.
        if line > 1 and _is_faulty("\n".join(text.splitlines()[: line - 1]), origin):
            line -= 1
        raise ZoneError(what, line) from None
    return list(found.rrsets.values())


def _is_faulty(text: str, origin: str) -> bool:
    try:
        _rrsets(text, origin)
    except ZoneError:
        return True
    return False


def _srv_records(rrset: dns.rrset.RRset) -> tuple[SrvRecord, ...]:
    return tuple(
        sorted(
            SrvRecord(record.priority, record.weight, record.port, _name(record.target) or ".", rrset.ttl)
            for record in rrset
        )
    )


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _refuse_aliases(proposal: Proposal, aliases: list[dns.rrset.RRset]) -> None:
    """An alias of a name that matters would have to be followed; a KMS record should not lead to one anyway."""
    targets = {record.target for one in proposal.srv for record in one.records}
    for rrset in aliases:
        name = _name(rrset.name)
        if name in targets or name.startswith(_SRV_PREFIX):
            raise ZoneError(f"{name} is an alias (CNAME): name the host itself")
