"""Causes that clients and hosts themselves report: in event logs, in the output of tools, in the registry.

Codes and fixes of a single HRESULT come from :mod:`kmsdiag.knowledge.codes`; the texts here are those around them.
"""

from typing import Final

from kmsdiag.knowledge.cause_fixes import CLEAR_OVERRIDE, COMPARE_IDS, SEE_COUNT, TEST_PORT
from kmsdiag.knowledge.cause_text import CauseText, documented
from kmsdiag.model.fix import Fix, Where

_SEE_HOST_EVENTS = Fix(
    Where.KMS_HOST,
    "see what arrived (event 12290)",
    "Get-WinEvent -MaxEvents 20 -FilterHashtable @{{ LogName = 'Key Management Service'; Id = 12290 }}",
)
_SEE_CLIENT_EVENTS = Fix(
    Where.CLIENT,
    "see the codes behind it (event 12288, 12289)",
    "Get-WinEvent -MaxEvents 10 -FilterHashtable @{{ LogName = 'Application'; Id = 12288, 12289 }}",
)

REPORTED: Final = {
    "srv.client_says": CauseText(
        headline="{clients}: {meaning} ({code})",
        text="So {where} of {clients}. {cause}",
        screen=documented("0xC004F074"),
    ),
    "name.client_says": CauseText(
        headline="{clients} can't resolve {target} ({code})",
        text="So {where} of {clients}: {meaning}. {cause}",
        screen=documented("0xC004F074"),
    ),
    "tcp.client_says": CauseText(
        headline="{target} can't be reached by {clients}: {meaning} ({code})",
        text="So {where} of {clients}. {cause}",
        screen=documented("0xC004F074"),
        fixes=(TEST_PORT,),
    ),
    "srv.tool_says": CauseText(
        headline="{clients}: DNS gave no KMS host, by the output of {tool}",
        text="The client looked and found none: no SRV record in the domains in which it looks, or DNS did not answer."
        " Its next attempt looks again, and the code of that tells which.",
        screen=documented("0xC004F074"),
        fixes=(
            Fix(Where.CLIENT, "see the domains in which it looks, and its DNS servers", "ipconfig /all"),
            Fix(
                Where.CLIENT, "try again (slmgr /ato; Office: ospp.vbs /act in its folder, by cscript) and see the code"
            ),
        ),
    ),
    "tcp.tool_says": CauseText(
        headline="{target} takes no connection from {clients} on TCP {port}",
        text="So {tool} showed on the machine itself: the host is gone or its service is stopped, or something on the"
        " way blocks it. Where it is set by hand, the client asks no other.",
        screen=documented("0xC004F074"),
        event=documented("0x800706BA"),
        fixes=(CLEAR_OVERRIDE, TEST_PORT),
    ),
    "request.lost_there": CauseText(
        headline="Requests of {clients} do not arrive at {target}",
        text="{clients} logged them (12288), and the host's log of that time has none (12290): something on the way"
        " takes the connection and passes nothing on, or another machine answers at that address.",
        screen=documented("0xC004F074"),
        fixes=(TEST_PORT, _SEE_HOST_EVENTS),
    ),
    "request.lost_back": CauseText(
        headline="Answers of {target} do not come back to {clients}",
        text="The host processed their requests (12290), and {clients} logged no answer (12289): a firewall on the way"
        " cuts the connection, or the answer was not accepted.",
        screen=documented("0xC004F074"),
        fixes=(TEST_PORT, _SEE_CLIENT_EVENTS),
    ),
    "request.not_answered": CauseText(
        headline="{target} does not answer the requests of {clients}",
        text="{clients} logged them (12288) and no answer (12289); whether they arrived, the log of that host tells"
        " (12290), and it was not given.",
        screen=documented("0xC004F074"),
        fixes=(_SEE_HOST_EVENTS, TEST_PORT),
    ),
    "answer.not_accepted": CauseText(
        headline="{target} answers {clients}, and they are not activated",
        text="The answer was processed (12289) and its flag is 0, with a count of {count} where {required} are needed:"
        " it is not the count. The flags of the event and slmgr /dlv on the client tell more.",
        screen=documented("0xC004F074"),
        fixes=(_SEE_CLIENT_EVENTS,),
    ),
    "host.not_activated": CauseText(
        headline="KMS host {target} is not activated itself ({status})",
        text="Its host key {product} is installed and not activated with Microsoft: it refuses whoever asks.",
        screen=documented("0xC004F074"),
        event=documented("0xC004F041"),
        fixes=(
            Fix(
                Where.KMS_HOST,
                "see its own licence; activate it online, or by phone with its installation ID",
                "slmgr /dlv; slmgr /dti",
            ),
        ),
    ),
    "host.count_low": CauseText(
        headline="KMS host {target} has counted {count}, and {need} are needed",
        text="It answers, and clients do not activate below that: too few machines asked it in 30 days, clones share a"
        " machine ID, or clients are spread over several hosts.",
        screen=documented("0xC004F038"),
        fixes=(SEE_COUNT, COMPARE_IDS),
    ),
    "client.contacted_none": CauseText(
        headline="{clients}: no KMS host could be contacted ({code}), and nothing given says why",
        text="{code} stands above the real reason, which is in each event 12288 of these clients. {cause}",
        fixes=(_SEE_CLIENT_EVENTS,),
    ),
    "client.key": CauseText(
        headline="{clients}: {meaning} ({code})",
        text="So {where} of {clients}: it lies in the client's own key or licence, not on the way to a host. {cause}",
    ),
    "client.not_activated": CauseText(
        headline="{clients}: not activated ({status}), and nothing given says why",
        text="No attempt to activate is in what was given: whether a host was asked, and what it answered, is in the"
        " clients' events 12288 and 12289.",
        fixes=(_SEE_CLIENT_EVENTS, Fix(Where.CLIENT, "see the state, and which host was found", "slmgr /dlv")),
    ),
    "client.other_channel": CauseText(
        headline="{clients}: the key ({channel}) never asks a KMS host, and the licence is in state {status}",
        text="{product} has {kind}: KMS hosts, DNS and firewalls have no part in it.",
        fixes=(
            Fix(
                Where.CLIENT,
                "if KMS shall activate it, install the client setup key of its edition (Microsoft publishes them)",
                "slmgr /ipk <client-setup-key>",
            ),
        ),
    ),
}
"""By ``stage.outcome``."""
