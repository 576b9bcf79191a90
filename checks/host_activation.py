"""Whether the KMS hosts in the files are activated themselves, and whether their keys cover the clients.

What it looks at: products with a KMS host key, their licence status, and the group of keys that their description
names; the releases of Windows, and the Office products, of the machines in the files that use them.
Why it matters: a host that is not activated refuses everybody (0xC004F041). A host key covers its own release and older
ones: a newer client is refused (0xC004F042, 0xC004F015), the others go on to work. Office needs a host key of its own,
with the Office volume licence pack.
What to do: activate the host (slmgr /ato); install the host key of the newest release that has to be activated, and
the update that the host's Windows needs for it.
"""

from collections.abc import Iterator, Sequence

from kmsdiag import check, collected, products
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.collected import Machine, Part
from kmsdiag.grouping import Groups, some, who
from kmsdiag.knowledge import codes, host_keys, licences
from kmsdiag.knowledge.host_keys import HostKey, Release
from kmsdiag.model.collected import ProductState
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Status
from kmsdiag.model.target import Subject

_SEE = Fix(Where.KMS_HOST, "see all its keys", "slmgr /dlv all")
_NEWER = Fix(
    Where.KMS_HOST,
    "see its keys; install the host key of the newest release instead (slmgr /ipk), and activate it",
    "slmgr /dlv all",
)

META = CheckMeta(
    title="Keys of the KMS hosts in the files",
    codes={
        "activated": Code(Severity.OK, "{who}: its KMS host key is activated ({products})."),
        "not_activated": Code(
            Severity.ERROR,
            "{who}: its KMS host key is not activated: {status}{reason} ({products}).",
            "It refuses every client with 0xC004F041.",
            (
                Fix(
                    Where.KMS_HOST,
                    "see its own licence; activate it online (slmgr /ato), or by phone with its installation ID",
                    "slmgr /dlv; slmgr /dti",
                ),
            ),
        ),
        "unknown_status": Code(
            Severity.NOT_ASSESSED,
            "{who}: whether its KMS host key is activated is not told ({products}).",
            fixes=(_SEE,),
        ),
        "key_removed": Code(
            Severity.WARNING,
            "{who}: a licence for a KMS host without a key, and no other host key ({products}).",
            "Its key was removed, or never installed: it is no KMS host, whatever DNS still says.",
            (_SEE,),
        ),
        "several_keys": Code(
            Severity.INFO,
            "{who}: several KMS host keys for Windows: {keys}.",
            "One of the newest release is enough: it covers the older ones.",
            (_SEE,),
        ),
        "covers": Code(
            Severity.INFO,
            "{who}: its key is of the group {key}; it activates {covered}.",
            "A newer release needs a newer host key, and on an older Windows an update before that.",
        ),
        "unknown_key": Code(
            Severity.NOT_ASSESSED, "{who}: what its key covers is not known here ({products}).", fixes=(_SEE,)
        ),
        "not_covered": Code(
            Severity.WARNING,
            "{who}: its key is of the group {key}, which does not activate {release}: {clients}.",
            "They are refused with 0xC004F042; event 12290 on the host may say 0xC004F015.{update}",
            (_NEWER,),
        ),
        "needs_update": Code(
            Severity.INFO,
            "{who} runs {system}; to activate {release} ({clients}) it needs at least {update}.",
            "Without it they are refused, or the key can't even be installed.",
            (Fix(Where.KMS_HOST, "see whether it, or a later cumulative update, is there", "Get-HotFix"),),
        ),
        "clients_only": Code(
            Severity.WARNING,
            "{who}: its key activates Windows clients alone, and these run Windows Server: {clients}.",
            "They are refused with 0xC004F042.",
            (_NEWER,),
        ),
        "office_key": Code(Severity.OK, "{who}: it has a KMS host key for Office ({products})."),
        "no_office_key": Code(
            Severity.WARNING,
            "No KMS host in the files shows a host key for Office, and Office clients are not licensed: {clients}.",
            "A host for Windows alone refuses Office with 0xC004F042. slmgr /dlv without 'all' shows Windows only: the"
            " key may be there and not in the files.",
            (
                _SEE,
                Fix(
                    Where.KMS_HOST,
                    "where it is missing: install the Office volume licence pack of that version, then its host key",
                ),
            ),
        ),
        "no_office_version": Code(
            Severity.WARNING,
            "KMS hosts in the files have host keys for Office {present}, none for Office {version}: {clients}.",
            "Each version of Office has a host key of its own; without it they are refused with 0xC004F042.",
            (
                Fix(
                    Where.KMS_HOST,
                    "install the volume licence pack of that version, then its host key, and activate that",
                ),
                _SEE,
            ),
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "None of the machines in the files is a KMS host."),
    },
    tags=frozenset({"files", "host", "path"}),
    since="0.1",
    references=(
        "Microsoft: KMS activation planning",
        "Microsoft: Error 0xC004F015 when you activate Windows 10 (KB 3086418)",
        "Microsoft: Configure a KMS host computer for Office",
    ),
)

subjects = check.collected
ask = collected.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Each host's keys, then whom they do not cover."""
    machines = collected.machines(seen)
    hosts = [machine for machine in machines if products.hosts(machine)]
    groups = Groups()
    for machine in machines:
        own = products.hosts(machine)
        for product, part in own:
            _judge_key(product, machine, part, groups)
        _judge_several(own, machine, groups)
        if not own:
            _judge_removed(machine, groups)
    yield from groups.findings() if groups else [say("nothing", collected.questions(seen.target))]
    for machine in hosts:
        yield from _judge_covered(machine, _asking(machine, hosts, machines))
    yield from _judge_office(hosts, machines)


def _judge_key(product: ProductState, machine: Machine, part: Part, groups: Groups) -> None:
    listed, because = {"products": products.label(product)}, (part.question,)
    if product.status == licences.LICENSED:
        groups.add("activated", machine, because, listed=listed)
    elif product.status < 0:
        groups.add("unknown_status", machine, because, listed=listed)
    else:
        reason = f", {product.reason}: {codes.meaning(product.reason)}" if product.reason else ""
        status = licences.status_words(product.status)
        groups.add("not_activated", machine, because, listed=listed, status=status, reason=reason)
    key = host_keys.key_of(product.description)
    if products.is_office(product):
        groups.add("office_key", machine, because, listed=listed)
    elif key is None:
        groups.add("unknown_key", machine, because, listed=listed)
    else:
        groups.add("covers", machine, because, key=key.name, covered=key.words)


def _judge_several(own: Sequence[tuple[ProductState, Part]], machine: Machine, groups: Groups) -> None:
    windows = [(product, part) for product, part in own if not products.is_office(product)]
    if len(windows) > 1:
        known = ((host_keys.key_of(product.description), product) for product, _part in windows)
        names = some(key.name if key is not None else product.description for key, product in known)
        groups.add("several_keys", machine, [part.question for _product, part in windows], keys=names)


def _judge_removed(machine: Machine, groups: Groups) -> None:
    """A licence of a host that is not in use says something only where it stands alone: /dlv all lists dozens."""
    every = machine.products()
    unused = [(one, part) for one, part in every if products.whose(one) is licences.Channel.HOST]
    if unused and len(unused) == len(every):
        for product, part in unused:
            groups.add("key_removed", machine, (part.question,), listed={"products": products.label(product)})


def _asking(host: Machine, hosts: Sequence[Machine], machines: Sequence[Machine]) -> list[Machine]:
    """Machines that name this host, and, where the files have one host alone, those that name none (yet).

    One that is licensed shows that the host serves it, whatever the table of keys says.
    """
    named = products.asking(host, machines)
    others = [one for one in machines if len(hosts) == 1 and one is not host and not products.uses(one)]
    return [one for one in (*named, *others) if any(_waits(product) for product, _part in products.clients(one))]


def _waits(product: ProductState) -> bool:
    return not products.is_office(product) and product.status != licences.LICENSED


def _office_waits(product: ProductState) -> bool:
    """What is licensed shows that something serves it: a host whose files are not here, or Active Directory."""
    return products.is_office(product) and product.status != licences.LICENSED


def _release(machine: Machine) -> Release | None:
    """Its release of Windows, from the system's own words or the build that a Windows product's PID carries."""
    systems = [part.state.system for part in machine.parts if part.state.system]
    windows = [product for product, _part in machine.products() if not products.is_office(product)]
    server = any("server" in f"{product.name} {product.description}".lower() for product in windows)
    pids = [product.extended_pid for product in windows if product.extended_pid]
    # Windows 7 and older have their release in the product's name, too.
    named = (*systems, *(product.name for product in windows))
    releases = (host_keys.release_of(one, next(iter(pids), ""), server=server) for one in named)
    return next((release for release in releases if release is not None), None)


def _judge_covered(host: Machine, clients: Sequence[Machine]) -> Iterator[Finding]:
    """Releases of its clients that none of its keys covers, and updates that it needs for those that one does."""
    own = [product for product, _part in products.hosts(host) if not products.is_office(product)]
    keys = [key for key in (host_keys.key_of(product.description) for product in own) if key is not None]
    if not keys or len(keys) < len(own):
        return
    system = _release(host)
    by_release: dict[Release, list[Machine]] = {}
    for client in clients:
        release = _release(client)
        if release is not None:
            by_release.setdefault(release, []).append(client)
    for release, owners in sorted(by_release.items()):
        yield from _judge_release(host, system, keys, release, owners)


def _judge_release(
    host: Machine, system: Release | None, keys: Sequence[HostKey], release: Release, clients: Sequence[Machine]
) -> Iterator[Finding]:
    because = _because((host, *clients))
    update = host_keys.update_for(system, release)
    newest = max(keys, key=lambda key: (key.server, key.client))
    if any(key.covers(release) for key in keys):
        if update and system is not None:
            args = {"system": system.name, "release": release.name, "update": update}
            yield say("needs_update", because, who=host.label, clients=who(clients), **args)
    elif release.server and not any(key.server for key in keys):
        yield say("clients_only", because, who=host.label, clients=who(clients))
    else:
        words = f" On {system.name} it needs {update} before that." if update and system is not None else ""
        args = {"key": newest.name, "release": release.name, "update": words}
        yield say("not_covered", because, who=host.label, clients=who(clients), **args)


def _judge_office(hosts: Sequence[Machine], machines: Sequence[Machine]) -> Iterator[Finding]:
    office = [one for one in machines if any(products.is_office(product) for product, _part in products.clients(one))]
    served = any(products.is_office(product) for host in hosts for product, _part in products.hosts(host))
    waiting = [one for one in office if any(_office_waits(product) for product, _part in products.clients(one))]
    if hosts and waiting and not served:
        yield say("no_office_key", _because((*hosts, *waiting)), clients=who(waiting))
    elif served:
        yield from _judge_office_versions(hosts, office)


def _judge_office_versions(hosts: Sequence[Machine], office: Sequence[Machine]) -> Iterator[Finding]:
    """Office clients that wait, of a version for which no host has a key."""
    keys = {_office_version(product) for host in hosts for product, _part in products.hosts(host)}
    waiting: dict[str, list[Machine]] = {}
    for machine in office:
        for product, _part in products.clients(machine):
            if _office_waits(product):
                waiting.setdefault(_office_version(product), []).append(machine)
    for version, clients in sorted(waiting.items()):
        if version and version not in keys:
            present = tuple(sorted(key for key in keys if key)) or ("a version not known here",)
            because = _because((*hosts, *clients))
            yield say("no_office_version", because, version=version, clients=who(clients), present=present)


def _office_version(product: ProductState) -> str:
    named = f"{product.name} {product.description}" if products.is_office(product) else ""
    return host_keys.office_version(named, product.activation_id)


def _because(machines: Sequence[Machine]) -> tuple[Status, ...]:
    return tuple(dict.fromkeys(question for machine in machines for question in machine.because))
