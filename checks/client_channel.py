"""Who activates the products of the machines in the files: a KMS host, or somebody else.

What it looks at: the channel of each product with a key, its activation object or Hyper-V host, the activation type
that is configured, and its licence status.
Why it matters: only a product with a client setup key (GVLK, channel VOLUME_KMSCLIENT) ever asks a KMS host, and one
that Active Directory has activated does not ask either, nor is it counted. For all others DNS and TCP 1688 are
irrelevant. A KMS host key on a workstation makes it a host that nobody planned.
What to do: install the client setup key of the edition where KMS is wanted; on a workstation instead of the host key.
"""

from collections.abc import Iterator

from kmsdiag import check, collected, products
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine
from kmsdiag.grouping import Groups
from kmsdiag.knowledge import licences
from kmsdiag.knowledge.licences import Channel
from kmsdiag.model.collected import ProductState
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.target import Subject

_GVLK = Fix(
    Where.CLIENT,
    "if KMS shall activate it, install the client setup key of its edition (Microsoft publishes them)",
    "slmgr /ipk <client-setup-key>",
)
_OTHERS = "A KMS host is never asked: hosts, DNS and firewalls have no part in this activation."

META = CheckMeta(
    title="Channels in the files",
    codes={
        "kms_client": Code(Severity.OK, "{who}: KMS client ({products})."),
        "ad_activated": Code(
            Severity.OK,
            "{who}: KMS client that Active Directory activated ({products}; {objects}).",
            "Such a client sends nothing to a KMS host while a domain controller answers it, and is not counted there:"
            " that is no fault.",
        ),
        "ad_only": Code(
            Severity.INFO,
            "{who}: set to activation by Active Directory alone ({products}).",
            "A KMS host is never asked, not even when Active Directory can't activate the machine.",
            (Fix(Where.CLIENT, "allow both ways again", "slmgr /act-type 0"),),
        ),
        "token_only": Code(
            Severity.INFO,
            "{who}: set to token-based activation alone ({products}).",
            "A KMS host is never asked.",
            (Fix(Where.CLIENT, "allow KMS again, unless tokens are meant", "slmgr /act-type 0"),),
        ),
        "mak": Code(Severity.INFO, "{who}: multiple activation key, MAK ({products}).", _OTHERS, (_GVLK,)),
        "retail": Code(Severity.INFO, "{who}: retail key ({products}).", _OTHERS, (_GVLK,)),
        "oem": Code(Severity.INFO, "{who}: the manufacturer's key, OEM ({products}).", _OTHERS, (_GVLK,)),
        "evaluation": Code(
            Severity.WARNING,
            "{who}: evaluation edition ({products}).",
            "It ends for good, and no KMS host is asked; the edition has to be changed before a client setup key fits.",
            (
                Fix(
                    Where.CLIENT,
                    "see to which editions it can be changed (DISM /Set-Edition, with the new one's client setup key)",
                    "DISM /Online /Get-TargetEditions",
                ),
            ),
        ),
        "avma": Code(
            Severity.INFO, "{who}: activated by the Hyper-V host, AVMA ({products}).", "A KMS host is never asked."
        ),
        "never_asks": Code(
            Severity.WARNING,
            "{who}: not licensed ({status}), and no KMS host is ever asked: {kind} ({products}).",
            "Hosts, DNS and firewalls are not the cause.",
            (_GVLK,),
        ),
        "host_key": Code(Severity.INFO, "{who}: KMS host key ({products})."),
        "rogue_host": Code(
            Severity.WARNING,
            "{who}: KMS host key on what looks like a workstation ({products}).",
            "It publishes itself in DNS, draws clients and uses up the key; on a client edition it activates clients"
            " only. That is nearly always a mistake.",
            (
                Fix(
                    Where.CLIENT,
                    "where it is a mistake: install the client setup key instead, then delete its SRV record",
                    "slmgr /ipk <client-setup-key>",
                ),
            ),
        ),
        "unknown": Code(
            Severity.NOT_ASSESSED,
            "{who}: the files do not tell the channel ({products}).",
            fixes=(Fix(Where.CLIENT, "see it", "slmgr /dlv"),),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The files tell of no product with a key."),
    },
    tags=frozenset({"client", "files"}),
    since="0.1",
    references=(
        "Microsoft: Guidelines for troubleshooting KMS",
        "Microsoft: Activate using Active Directory-based activation",
        "Microsoft: How to discover KMS hosts through DNS and remove unauthorized instances",
    ),
)

subjects = check.collected
ask = collected.ask

_CODES = {
    Channel.MAK: "mak",
    Channel.RETAIL: "retail",
    Channel.OEM: "oem",
    Channel.EVALUATION: "evaluation",
    Channel.AVMA: "avma",
}


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a kind of key."""
    groups = Groups()
    for machine in collected.machines(seen):
        for product, part, channel in products.with_key(machine):
            listed = {"products": products.label(product)}
            because = (part.question,)
            if channel is Channel.CLIENT and product.ad_object:
                groups.add("ad_activated", machine, because, listed={**listed, "objects": product.ad_object})
            elif channel is Channel.CLIENT:
                kind = product.activation_type or _activation_type(machine)
                code = {"ad": "ad_only", "token": "token_only"}.get(kind, "kms_client")
                groups.add(code, machine, because, listed=listed)
            elif channel is Channel.HOST:
                code = "rogue_host" if _workstation(product, machine) else "host_key"
                groups.add(code, machine, because, listed=listed)
            elif channel is Channel.UNKNOWN:
                groups.add("unknown", machine, because, listed=listed)
            elif product.status in (0, licences.NOTIFICATION):
                status = licences.status_words(product.status)
                groups.add("never_asks", machine, because, listed=listed, status=status, kind=channel.value)
            else:
                groups.add(_CODES[channel], machine, because, listed=listed)
    yield from groups.findings() if groups else [say("nothing", collected.questions(seen.target))]


def _activation_type(machine: Machine) -> str:
    return next((part.state.activation_type for part in machine.parts if part.state.activation_type), "")


def _workstation(product: ProductState, machine: Machine) -> bool:
    """Whether Windows is a client edition; an Office key says nothing about the machine."""
    systems = " ".join(part.state.system for part in machine.parts)
    names = " ".join(one.name for one, _part in machine.products() if not products.is_office(one))
    told = f"{systems} {names}".lower()
    return not products.is_office(product) and bool(told.strip()) and "server" not in told
