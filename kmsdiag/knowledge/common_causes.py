"""What each kind of common cause is called, what speaks for it, and what to do next.

Texts are templates over the args that :mod:`kmsdiag.merge` gives; a fix whose template needs an arg that is not there
does not apply and is left out. The cmdlets are those of the Windows modules DnsServer, DnsClient, NetTCPIP and
NetSecurity.
"""

from typing import Final

import msgspec

from kmsdiag.knowledge.causes import SEE_REQUESTS
from kmsdiag.model.fix import Fix, Where
from kmsdiag.model.merged import CauseKind


class CommonCauseText(msgspec.Struct, frozen=True, kw_only=True):
    """Headline (a clause), text (a sentence or two), and fixes in order."""

    headline: str
    text: str
    fixes: tuple[Fix, ...]


_DIG = Fix(Where.HERE, "see its answer yourself", "dig {at:words} {query} SRV")
_COPY = Fix(
    Where.DNS_SERVER,
    "on that server, if its copy of the zone is old: copy it again",
    "Start-DnsServerZoneTransfer -Name {zone} -FullTransfer",
)
_TEST = Fix(Where.CLIENT, "test it there", "Test-NetConnection {target} -Port {port}")
_PASS = Fix(Where.HERE, "let TCP {port} to {target} through, in the firewalls and routes between {name} and the host")
_RESOLVE = Fix(Where.CLIENT, "see there what a client gets", "Resolve-DnsName -Type SRV -DnsOnly {query}")

TEXTS: Final = {
    CauseKind.SERVER: CommonCauseText(
        headline="DNS server {name} {what}",
        text="{who} with this trouble asked this server: {vantages}. {contrast}",
        fixes=(_DIG, _COPY),
    ),
    CauseKind.HOST: CommonCauseText(
        headline="KMS host {name} {how}: {what}",
        text="Seen from {vantages}. {contrast}",
        fixes=(
            Fix(
                Where.KMS_HOST,
                "see whether the service runs and the firewall lets KMS through",
                "Get-Service sppsvc; Get-NetFirewallRule -DisplayGroup 'Key Management Service'",
            ),
            _TEST,
        ),
    ),
    CauseKind.DOMAIN: CommonCauseText(
        headline="No place finds a KMS host for {name}: {what}",
        text="Asked from {vantages}. {contrast}",
        fixes=(
            Fix(Where.KMS_HOST, "have the KMS host publish itself in {lacking}", "slmgr /sdns; Restart-Service sppsvc"),
            Fix(Where.HERE, "see the answer of a server that fails", "dig {at:words} {query} SRV"),
            _RESOLVE,
        ),
    ),
    CauseKind.VANTAGE: CommonCauseText(
        headline="Only from {name}: {what}",
        text="The trouble is at {place} alone, or on the way from there. {contrast}",
        fixes=(_PASS, _TEST, _RESOLVE),
    ),
    CauseKind.NETWORK: CommonCauseText(
        headline="From network {name}: {what}",
        text="{who} with this trouble are in this network: {vantages}. {contrast}",
        fixes=(_PASS, _TEST, _RESOLVE),
    ),
}
"""What to say of each kind."""

_SEE_CLIENT = Fix(Where.CLIENT, "see there what Windows says of its key and of its last attempt", "slmgr /dlv")

ASKED: Final = {
    CauseKind.HOST: CommonCauseText(
        headline="KMS host {name} {how}: {what}",
        text="Seen from {vantages}. {contrast}",
        fixes=(
            Fix(Where.KMS_HOST, "see its count, its key, and whether it is activated itself", "slmgr /dlv"),
            SEE_REQUESTS,
        ),
    ),
    CauseKind.VANTAGE: CommonCauseText(
        headline="Only from {name}: {what}",
        text="The trouble is with the clients at {place}, or on the way from there. {contrast}",
        fixes=(_SEE_CLIENT, SEE_REQUESTS),
    ),
    CauseKind.NETWORK: CommonCauseText(
        headline="From network {name}: {what}",
        text="{who} with this trouble are in this network: {vantages}. {contrast}",
        fixes=(_SEE_CLIENT, SEE_REQUESTS),
    ),
}
"""The same where hosts are reached and asked, as only captures show, and clients get no activation."""
