"""What each failure of a path is called, what a Windows client shows for it, and what to do next.

Keys are ``stage.outcome``. Texts are templates over the args that :mod:`kmsdiag.path` and :mod:`kmsdiag.observed`
give; a fix whose template needs an arg that is not there (no DNS record behind an explicit host) does not apply and is
left out. Where ``text`` speaks of what was asked from here, ``captured`` says it of captures; else it is true of both.

Codes: *documented* where a Microsoft text ties the code to this failure ("Troubleshoot Windows activation error
codes", Table 10 of the Volume Activation guide, KB 974998); *inferred* where only the Win32 number says so.
"""

from typing import Final

from kmsdiag.knowledge.cause_fixes import CLEAR_OVERRIDE, COMPARE_IDS, SEE_COUNT, TEST_PORT
from kmsdiag.knowledge.cause_text import CauseText, documented, inferred
from kmsdiag.knowledge.codes import REFUSALS, Refusal
from kmsdiag.knowledge.reported_causes import REPORTED
from kmsdiag.model.fix import Fix, Where
from kmsdiag.model.path import Basis, ClientCode

_UMBRELLA = documented("0xC004F074")
_RPC_UNAVAILABLE = documented("0x800706BA")

_ASK_DNS = Fix(Where.HERE, "see the answer yourself", "dig {at:words} {name} SRV")
_ASK_DNS_WINDOWS = Fix(Where.CLIENT, "see what a client gets", "Resolve-DnsName -Type SRV -DnsOnly {name}")
_PUBLISH = Fix(
    Where.KMS_HOST,
    "have the KMS host publish itself (other domains: DnsDomainPublishList; event 12293: why not)",
    "slmgr /sdns; Restart-Service sppsvc",
)
_ADD_RECORD = Fix(
    Where.DNS_SERVER,
    "or create the record by hand, with the KMS host's real name",
    "Add-DnsServerResourceRecord -Srv -ZoneName {zone} -Name _vlmcs._tcp"
    " -DomainName <kms-host> -Priority 0 -Weight 0 -Port 1688",
)
_REMOVE_RECORD = Fix(
    Where.DNS_SERVER,
    "if that host is retired, delete its record",
    "Remove-DnsServerResourceRecord -ZoneName {zone} -Name _vlmcs._tcp -RRType Srv"
    " -RecordData {priority},{weight},{port},{target}",
)
_REPLACE_RECORD = Fix(
    Where.DNS_SERVER,
    "delete the wrong record; the right host publishes its own",
    "Remove-DnsServerResourceRecord -ZoneName {zone} -Name _vlmcs._tcp -RRType Srv"
    " -RecordData {priority},{weight},{port},{target}",
)
_DNS_SERVICE = Fix(Where.DNS_SERVER, "check the DNS service there", "Get-Service DNS; dcdiag /test:DNS")
_OPEN_FIREWALL = Fix(
    Where.KMS_HOST,
    "if the host is alive, let KMS through its own firewall",
    "Enable-NetFirewallRule -DisplayGroup 'Key Management Service'",
)
_START_SERVICE = Fix(
    Where.KMS_HOST,
    "start the service and see whether this is a KMS host at all (and on which port)",
    "Start-Service sppsvc; slmgr /dlv",
)
_WHO_LISTENS = Fix(
    Where.KMS_HOST,
    "see which program owns the port",
    "Get-Process -Id (Get-NetTCPConnection -State Listen -LocalPort {port}).OwningProcess",
)
_RESTART_SERVICE = Fix(Where.KMS_HOST, "restart the service", "Restart-Service sppsvc")
SEE_REQUESTS = Fix(
    Where.KMS_HOST,
    "see whether the requests arrived (event 12290)",
    "Get-WinEvent -MaxEvents 20 -FilterHashtable @{{ LogName = 'Key Management Service'; Id = 12290 }}",
)
_EXPLAIN = Fix(Where.CLIENT, "have Windows explain the code", "slui 0x2a {hresult}")
_ADDRESS = Fix(
    Where.DNS_SERVER,
    "or give the target its address record",
    "Add-DnsServerResourceRecordA -ZoneName {zone} -Name <host> -IPv4Address <address>",
)

_SILENT_DNS = "a firewall drops port 53, or the server is down"


def _refused(one: Refusal) -> CauseText:
    """The cause behind a refusal whose HRESULT is known. The client shows the umbrella code once no host is left."""
    return CauseText(
        headline="{target} ({address}) refuses ({hresult}): " + one.meaning,
        text="So it answers {clients}. " + one.cause,
        screen=_UMBRELLA,
        event=ClientCode(one.code, Basis.DOCUMENTED if one.documented else Basis.INFERRED),
        fixes=one.fixes,
    )


CAUSES: Final = {
    "srv.nxdomain": CauseText(
        headline="{domains}: DNS publishes no KMS host (NXDOMAIN)",
        text="{name} does not exist at {server}: no KMS host publishes itself there, or clients use another suffix.",
        captured="{name} does not exist at {server}, which {clients} asked: no host publishes itself there, or"
        " clients use another suffix than the host.",
        screen=documented("0x8007232B"),
        fixes=(_PUBLISH, _ADD_RECORD, _ASK_DNS, _ASK_DNS_WINDOWS),
    ),
    "srv.nodata": CauseText(
        headline="{domains}: the name _vlmcs._tcp exists but holds no SRV record",
        text="{name} has no SRV record at {server}: the record was deleted and something else keeps the name.",
        captured="{name} has no SRV record at {server}, which {clients} asked: it was deleted and something else"
        " keeps the name.",
        screen=documented("0x8007251D"),
        fixes=(_PUBLISH, _ADD_RECORD, _ASK_DNS, _ASK_DNS_WINDOWS),
    ),
    "srv.servfail": CauseText(
        headline="DNS server {server} fails (SERVFAIL) on {domains}",
        text="The server answers SERVFAIL for {name}: its zone is not loaded, or what it forwards to is broken.",
        captured="{server} answered {clients} with SERVFAIL for {name}: its zone is not loaded, or what it forwards"
        " to is broken.",
        screen=documented("0x8007232A"),
        fixes=(_DNS_SERVICE, _ASK_DNS),
    ),
    "srv.refused": CauseText(
        headline="DNS server {server} refuses to answer for {domains} (REFUSED)",
        text="The server answers REFUSED for {name}: its policy does not serve clients from here.",
        captured="{server} answered {clients} with REFUSED for {name}: its policy does not serve them.",
        screen=inferred("0x8007232D"),
        fixes=(_ASK_DNS, _ASK_DNS_WINDOWS),
    ),
    "srv.error_rcode": CauseText(
        headline="DNS server {server} answers with an error for {domains}",
        text="The server answers {detail} for {name}.",
        captured="{server} answered {clients} with {detail} for {name}.",
        fixes=(_ASK_DNS,),
    ),
    "srv.referral": CauseText(
        headline="DNS server {server} does not resolve {domains}: it only refers to other servers",
        text="The server does no recursion and does not hold the zone of {name}; clients must not use it.",
        fixes=(_ASK_DNS,),
    ),
    "srv.cname_chain": CauseText(
        headline="{domains}: the CNAME chain of _vlmcs._tcp loops or is too long",
        text="{name} leads through CNAMEs to no record (asked {server}).",
        fixes=(_ASK_DNS,),
    ),
    "srv.truncated": CauseText(
        headline="DNS answers of {server} for {domains} are cut short and TCP 53 does not work",
        text="The answer needs TCP, and that failed ({detail}): a firewall lets only UDP 53 through.",
        captured="The answer to {clients} needs TCP, and that failed ({detail}): a firewall lets only UDP 53 through.",
        fixes=(Fix(Where.HERE, "see the failure yourself", "dig +tcp {at:words} {name} SRV"),),
    ),
    "srv.malformed": CauseText(
        headline="What {server} answers for {domains} is no valid DNS message",
        text="The answer for {name} can't be read ({detail}): something other than a DNS server, or a middlebox.",
        fixes=(_ASK_DNS,),
    ),
    "srv.timeout": CauseText(
        headline="DNS server {server} does not answer ({domains})",
        text="No answer for {name} within {waited} s: " + _SILENT_DNS + ".",
        captured="No answer to {clients} asking for {name} passed the capture point: " + _SILENT_DNS + ".",
        screen=inferred("0x800705B4"),
        fixes=(_DNS_SERVICE, _ASK_DNS),
    ),
    "srv.not_listening": CauseText(
        headline="No DNS service listens on {server} ({domains})",
        text="The machine is up and says that port 53 is closed: its DNS service is stopped, or it is no DNS server.",
        captured="{clients} got word that port 53 is closed there: the DNS service is stopped, or it is no DNS server.",
        screen=inferred("0x800705B4"),
        fixes=(Fix(Where.DNS_SERVER, "start the DNS service", "Start-Service DNS"), _ASK_DNS),
    ),
    "srv.unreachable": CauseText(
        headline="DNS server {server} can't be reached ({domains})",
        text="The question for {name} did not get there: {detail}.",
        captured="The question of {clients} for {name} did not get there: {detail}.",
        screen=inferred("0x800705B4"),
        fixes=(_ASK_DNS,),
    ),
    "srv.no_server": CauseText(
        headline="This machine has no DNS server configured",
        text="Nothing could be asked about {domains}.",
        screen=documented("0x8007267C"),
        fixes=(Fix(Where.CLIENT, "see the configured servers", "Get-DnsClientServerAddress"),),
    ),
    "name.root": CauseText(
        headline='{domains}: the SRV record says that there is no KMS (target ".")',
        text='A target of "." in {name} means that the service is decidedly not offered (RFC 2782).',
        captured="{name} tells {clients} that the service is decidedly not offered (RFC 2782).",
        screen=inferred("0xC004F074"),
        fixes=(_REPLACE_RECORD, _PUBLISH),
    ),
    "name.no_address": CauseText(
        headline="{what} {target} has no address",
        text="{name} names {target}, which has neither A nor AAAA record ({outcome}): the host is gone or renamed.",
        captured="{name} sends {clients} there, and the name has no address ({outcome}): the host is gone or renamed.",
        screen=_UMBRELLA,
        event=inferred("0x80072AF9"),
        fixes=(_REMOVE_RECORD, _ADDRESS, Fix(Where.HERE, "see the answer yourself", "dig {at:words} {target} A")),
    ),
    "name.lookup_failed": CauseText(
        headline="The address of {what} {target} can't be looked up ({outcome})",
        text="{name} names {target}; asking {server} for its address ended with: {outcome}.",
        captured="{name} sends {clients} there; asking {server} for its address ended with: {outcome}.",
        screen=_UMBRELLA,
        event=inferred("0x80072AF9"),
        fixes=(Fix(Where.HERE, "see the answer yourself", "dig {at:words} {target} A"),),
    ),
    "tcp.timeout": CauseText(
        headline="KMS host {target} ({address}) is silent on TCP {port}",
        text="No answer to {attempts} in {waited} s: a firewall drops it, or the machine is gone.",
        captured="No answer to {attempts} of {clients}: a firewall behind the capture point drops it, or the machine"
        " is gone.",
        screen=_UMBRELLA,
        event=_RPC_UNAVAILABLE,
        fixes=(_REMOVE_RECORD, _OPEN_FIREWALL, CLEAR_OVERRIDE, TEST_PORT),
    ),
    "tcp.timeout_everywhere": CauseText(
        headline="All {count} KMS addresses are silent on TCP: the way there is blocked",
        text="None of {addresses} answered within {waited} s: one firewall or missing route near here is likelier"
        " than that all of them are gone.",
        captured="None of {addresses} answered a SYN in the captures: one firewall or missing route behind the capture"
        " point is likelier than that all of them are gone.",
        screen=_UMBRELLA,
        event=_RPC_UNAVAILABLE,
        fixes=(TEST_PORT, _OPEN_FIREWALL),
    ),
    "tcp.refused": CauseText(
        headline="KMS host {target} ({address}) refuses TCP {port}",
        text="The machine is up and nothing listens on port {port}: the Software Protection service is stopped,"
        " or this is no KMS host.",
        captured="RST to {attempts} of {clients}: the machine is up and nothing listens there; its service is stopped,"
        " or it is no KMS host.",
        screen=_UMBRELLA,
        event=_RPC_UNAVAILABLE,
        fixes=(_START_SERVICE, _REMOVE_RECORD, CLEAR_OVERRIDE),
    ),
    "tcp.wrong_port": CauseText(
        headline="{target} ({address}) is published with port {port}, but KMS answers on {open_port}",
        text="Port {port} of the record does not work ({outcome}); the KMS service is on {open_port}.",
        screen=_UMBRELLA,
        event=_RPC_UNAVAILABLE,
        fixes=(
            _REPLACE_RECORD,
            Fix(Where.KMS_HOST, "have the host publish the port it listens on", "slmgr /dlv; Restart-Service sppsvc"),
        ),
    ),
    "tcp.unreachable": CauseText(
        headline="KMS host {target} ({address}) can't be reached: {icmp}",
        text="{sender} says so: {meaning}.",
        captured="{sender} answered {attempts} of {clients} with an ICMP error: {meaning}.",
        screen=_UMBRELLA,
        event=_RPC_UNAVAILABLE,
        fixes=(_REMOVE_RECORD, TEST_PORT),
    ),
    "tcp.reset": CauseText(
        headline="KMS host {target} ({address}) resets connections to TCP {port}",
        text="The connection is cut before it is used: a firewall or an intrusion-prevention system on the way.",
        screen=_UMBRELLA,
        event=_RPC_UNAVAILABLE,
        fixes=(TEST_PORT,),
    ),
    "clock.beyond": CauseText(
        headline="The clock of {target} ({address}) is {offset} from that of its clients: it refuses them",
        text="KMS accepts a difference of 4 hours (UTC; the time zone does not matter) and answers 0xC004F06C beyond.",
        screen=_UMBRELLA,
        event=documented("0xC004F06C"),
        fixes=(
            Fix(Where.KMS_HOST, "set the clock, and see what it follows", "w32tm /resync; w32tm /query /status"),
            Fix(
                Where.CLIENT,
                "compare a client with the host",
                "w32tm /stripchart /computer:{target} /samples:3 /dataonly",
            ),
        ),
    ),
    "rpc.rejected": CauseText(
        headline="{target} ({address}, port {port}) is an RPC server but not a KMS host",
        text="It rejects the KMS interface ({detail}): the Software Protection service does not listen there.",
        captured="It rejects the KMS interface to {clients} ({detail}): the Software Protection service does not"
        " listen there.",
        screen=_UMBRELLA,
        event=inferred("0x800706B5"),
        fixes=(_WHO_LISTENS, _START_SERVICE, _REMOVE_RECORD),
    ),
    "rpc.bind_nak": CauseText(
        headline="{target} ({address}, port {port}) refuses the RPC bind: {detail}",
        text="The RPC server there answers with a bind_nak: it is overloaded, or an RPC-aware firewall interferes.",
        captured="So it answers {clients}: it is overloaded, or an RPC-aware firewall interferes.",
        screen=_UMBRELLA,
        event=inferred("0x800706BF"),
        fixes=(_RESTART_SERVICE, _WHO_LISTENS),
    ),
    "rpc.fault": CauseText(
        headline="{target} ({address}, port {port}) answers the RPC bind with a fault: {detail}",
        text="A fault is no answer to a bind: what listens there is no KMS host.",
        captured="So it answers {clients}, and a fault is no answer to a bind: what listens there is no KMS host.",
        screen=_UMBRELLA,
        event=inferred("0x800706BF"),
        fixes=(_WHO_LISTENS, _REMOVE_RECORD),
    ),
    "rpc.silent": CauseText(
        headline="{target} ({address}, port {port}) accepts TCP and says nothing to the RPC bind",
        text="Nothing came back within {waited} s: a proxy or firewall accepts in its place, or the service hangs.",
        captured="No answer to the bind of {clients}: a proxy or firewall accepts in its place, or the service hangs.",
        screen=_UMBRELLA,
        event=inferred("0x800706BA"),
        fixes=(_RESTART_SERVICE, _WHO_LISTENS),
    ),
    "rpc.closed": CauseText(
        headline="{target} ({address}, port {port}) accepts TCP and hangs up on the RPC bind",
        text="The connection was closed without an answer: another service, or a firewall that inspects RPC.",
        captured="The connection of {clients} was closed without an answer: another service, or a firewall that"
        " inspects RPC.",
        screen=_UMBRELLA,
        event=inferred("0x800706BE"),
        fixes=(_WHO_LISTENS, _REMOVE_RECORD),
    ),
    "rpc.reset": CauseText(
        headline="{target} ({address}, port {port}) accepts TCP and resets the connection on the RPC bind",
        text="The bind was answered by a reset: a firewall that inspects RPC, or a crashing service.",
        captured="The bind of {clients} was answered by a reset: a firewall that inspects RPC, or a crashing service.",
        screen=_UMBRELLA,
        event=inferred("0x800706BE"),
        fixes=(_WHO_LISTENS, _RESTART_SERVICE),
    ),
    "rpc.incomplete": CauseText(
        headline="{target} ({address}, port {port}) starts to answer the RPC bind and stops",
        text="Received {detail} within {waited} s: a broken path (MTU), or no RPC server.",
        screen=_UMBRELLA,
        event=inferred("0x800706BE"),
        fixes=(_WHO_LISTENS,),
    ),
    "rpc.other_protocol": CauseText(
        headline="{target} ({address}, port {port}) speaks {detail}, not KMS",
        text="Another service owns the port ({excerpt}).",
        captured="What answered {clients} is no RPC server: another service owns the port.",
        screen=_UMBRELLA,
        event=inferred("0x800706BF"),
        fixes=(_WHO_LISTENS, _REMOVE_RECORD),
    ),
    "rpc.malformed": CauseText(
        headline="{target} ({address}, port {port}) answers the RPC bind with bytes that are no RPC",
        text="What came back: {detail} ({excerpt}).",
        screen=_UMBRELLA,
        event=inferred("0x800706BF"),
        fixes=(_WHO_LISTENS, _REMOVE_RECORD),
    ),
    "rpc.no_connection": CauseText(
        headline="{target} ({address}, port {port}) took one connection and not the next",
        text="The port opened at first, and a second connection failed ({detail}): an overloaded or limited host.",
        screen=_UMBRELLA,
        event=_RPC_UNAVAILABLE,
        fixes=(TEST_PORT,),
    ),
    "tcp.handshake_failed": CauseText(
        headline="{target} ({address}) does not complete connections to TCP {port}",
        text="{attempts} of {clients} came half way: a firewall or load balancer on the way, or no room for more"
        " connections.",
        screen=_UMBRELLA,
        event=_RPC_UNAVAILABLE,
        fixes=(TEST_PORT, _WHO_LISTENS),
    ),
    "rpc.closed_early": CauseText(
        headline="{target} ({address}, port {port}) accepts TCP and hangs up at once",
        text="It hung up on {clients} before they asked: a proxy without its server, a list of allowed clients, or"
        " another service.",
        screen=_UMBRELLA,
        event=inferred("0x800706BE"),
        fixes=(_WHO_LISTENS, _REMOVE_RECORD),
    ),
    "request.unanswered": CauseText(
        headline="{target} ({address}, port {port}) does not answer activation requests",
        text="It took the bind of {clients} and was silent to the request: the service hangs, or the way loses larger"
        " packets (MTU, a firewall that inspects RPC).",
        screen=_UMBRELLA,
        event=inferred("0x800706BE"),
        fixes=(_RESTART_SERVICE, SEE_REQUESTS, TEST_PORT),
    ),
    "request.closed": CauseText(
        headline="{target} ({address}, port {port}) hangs up on activation requests",
        text="It took the bind of {clients} and hung up on the request: the service stops or crashes, or a firewall"
        " that inspects RPC cuts it.",
        screen=_UMBRELLA,
        event=inferred("0x800706BE"),
        fixes=(SEE_REQUESTS, _RESTART_SERVICE),
    ),
    "request.reset": CauseText(
        headline="{target} ({address}, port {port}) resets the connection on activation requests",
        text="A reset to the request of {clients}: a firewall or intrusion prevention that inspects RPC, or a crashing"
        " service.",
        screen=_UMBRELLA,
        event=inferred("0x800706BE"),
        fixes=(SEE_REQUESTS, _RESTART_SERVICE),
    ),
    "request.fault": CauseText(
        headline="{target} ({address}, port {port}) answers activation requests with an RPC fault: {detail}",
        text="The licensing service never saw the request of {clients}: another program has the interface, or access is"
        " restricted.",
        screen=_UMBRELLA,
        event=inferred("0x800706BF"),
        fixes=(_WHO_LISTENS, _RESTART_SERVICE),
    ),
    "request.aborted": CauseText(
        headline="Clients break off their requests to {target} ({address}, port {port})",
        text="{clients} hung up while sending or waiting: the host is too slow, or something on the client ended it.",
        screen=_UMBRELLA,
        event=inferred("0x800706BE"),
        fixes=(SEE_REQUESTS, TEST_PORT),
    ),
    "answer.malformed": CauseText(
        headline="{target} ({address}, port {port}) answers activation requests with something unreadable",
        text="What {clients} got is no KMS response: another program behind the interface, or a damaged answer.",
        screen=_UMBRELLA,
        event=inferred("0x800706BF"),
        fixes=(_WHO_LISTENS, SEE_REQUESTS),
    ),
    "answer.refused": CauseText(
        headline="{target} ({address}) refuses with {hresult} ({decoded})",
        text="It answers {clients} with a code that kmsdiag has no text for; the host's event 12290 has the request.",
        screen=_UMBRELLA,
        fixes=(SEE_REQUESTS, _EXPLAIN),
    ),
    "answer.refused_unread": CauseText(
        headline="{target} ({address}) refuses; its code was not recorded",
        text="Its answers to {clients} are no longer than an error code, and what was given does not hold that: a"
        " capture does, and so does event 12288 on these clients.",
        screen=_UMBRELLA,
        fixes=(SEE_REQUESTS,),
    ),
    "answer.below_threshold": CauseText(
        headline="{target} ({address}) has too low a count: {count} of {required}",
        text="It tells {clients} success, which does not activate below that: too few machines asked it in 30 days,"
        " clones share a machine ID, or clients are spread over hosts.",
        screen=documented("0xC004F038"),
        fixes=(SEE_COUNT, COMPARE_IDS),
    ),
    **{f"answer.{one.name}": _refused(one) for one in REFUSALS.values()},
    **REPORTED,
}
"""One text a failure; ``test_path`` holds every failing outcome to having one."""
