"""Under which DNS suffix of this machine KMS hosts are published.

What it looks at: the SRV record under the primary suffix, the suffixes of the search list and of the connections (DHCP
option 15), suffixes that were given, or the lookup domain alone where one is set; and, where none of them has it and
Windows may append parents of the primary suffix (devolution), those parents down to two labels.
Why it matters: a client asks for _vlmcs._tcp under its own suffixes, and nowhere else. A record under another one is
found by nslookup and not by the client; without any suffix a client asks nothing at all.
What to do: publish the KMS host in the clients' primary suffix (DnsDomainPublishList on the host, or a record by hand),
or give the clients the suffix in which it is published.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, say
from kmsdiag.model.answer import MachineAnswer, SrvAnswer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import MachineSettings, Request, SrvQuery
from kmsdiag.model.target import Subject, SubjectKind, Target, TargetError, join_host_port, parse_domain

_SEE = Fix(
    Where.CLIENT,
    "see the suffixes of a client",
    "Get-DnsClientGlobalSetting; Get-DnsClient; (Get-CimInstance Win32_ComputerSystem).Domain",
)
_COPY = Fix(
    Where.DNS_SERVER,
    "publish the KMS host under that suffix too, one record a host",
    "Add-DnsServerResourceRecord -Srv -ZoneName {suffix} -Name _vlmcs._tcp"
    " -DomainName {host} -Priority 0 -Weight 0 -Port {port}",
)
_PUBLISH = Fix(
    Where.DNS_SERVER,
    "publish the KMS host under that suffix, with its real name",
    "Add-DnsServerResourceRecord -Srv -ZoneName {suffix} -Name _vlmcs._tcp"
    " -DomainName <kms-host> -Priority 0 -Weight 0 -Port 1688",
)

META = CheckMeta(
    title="Suffixes of this machine",
    codes={
        "found": Code(Severity.OK, "KMS is published under {suffix} ({role}): {hosts}."),
        "only_later": Code(
            Severity.WARNING,
            "KMS is published under {found} ({role}, suffix {number} of {count}) and not under {suffix}: {hosts}.",
            "In which order clients go through their suffixes, and whether through all, is not documented; some may"
            " find no host.",
            (_COPY, _SEE),
        ),
        "devolution": Code(
            Severity.WARNING,
            "KMS is published only under {parent}, a parent of the primary suffix {suffix}: {hosts}.",
            "Devolution is meant for names of one label, goes only as far up as a policy allows, and is off where a"
            " search list is set: do not rely on it.",
            (_COPY, _SEE),
        ),
        "none_found": Code(
            Severity.WARNING,
            "KMS is published under none of this machine's suffixes: {suffixes}.",
            "Clients with these suffixes find no host and show 0x8007232B or 0xC004F074.",
            (_PUBLISH, _SEE),
        ),
        "two_labels": Code(
            Severity.INFO,
            "The primary suffix {suffix} has {labels}: there is no parent that devolution could ask.",
            "What is not published under it or the search list is not found.",
        ),
        "no_suffix": Code(
            Severity.WARNING,
            "This machine has no DNS suffix: no primary one, no search list, none by DHCP.",
            "A Windows client in this state asks DNS nothing and shows 0x8007007B (according to third parties; no"
            " document of Microsoft says so).",
            (
                Fix(Where.CLIENT, "set a primary DNS suffix, or hand one out by DHCP (option 15)"),
                _SEE,
            ),
        ),
        "no_name": Code(
            Severity.WARNING,
            "The suffix {suffix} ({role}) is no DNS name.",
            "Nothing can be found under it.",
            (_SEE,),
        ),
        "not_used": Code(
            Severity.INFO,
            "KMS is published under none of this machine's suffixes; the host {host} is set by hand, so none is asked.",
            "Without that setting the machine would find no host.",
        ),
        "could_not_ask": Code(
            Severity.WARNING,
            "Whether KMS is published under {suffix} ({role}) could not be asked of {server}: {outcome}.",
            "Clients of this server have the same trouble.",
            (Fix(Where.CLIENT, "see what a client gets", "Resolve-DnsName -Type SRV -DnsOnly {name}"),),
        ),
        "unknown": Code(
            Severity.NOT_ASSESSED,
            "Under which suffix KMS is published is not known: DNS did not answer for {suffixes}.",
        ),
    },
    tags=frozenset({"dns", "machine"}),
    since="0.1",
    references=(
        "Microsoft: Common troubleshooting procedures for KMS and DNS issues",
        "Microsoft: Deploy KMS Activation",
        "Microsoft policy: Primary DNS suffix devolution level",
    ),
)

_MACHINE = Subject(SubjectKind.MACHINE, "this machine")
_PREFIX = "_vlmcs._tcp."
_LONGEST_NAME = 253


class _Suffix(NamedTuple):
    name: str
    role: str
    usable: bool

    @property
    def labels(self) -> int:
        return self.name.count(".") + 1


def subjects(target: Target) -> Iterator[Subject]:
    """The machine, where its settings or suffixes are part of the question."""
    if target.machine or target.suffixes:
        yield _MACHINE


def _usable(name: str) -> bool:
    try:
        return parse_domain(name) == name and len(_PREFIX + name) <= _LONGEST_NAME
    except TargetError:
        return False


def _suffixes(settings: MachineAnswer | None, seen: Evidence) -> list[_Suffix]:
    """The suffixes, the primary one first, each once."""
    named: list[tuple[str, str]] = []
    if settings is not None:
        lookup = settings.kms.lookup_domain if settings.kms is not None else ""
        if lookup:
            # It replaces the machine's own suffixes (slmgr /skms-domain).
            named.append((lookup, "lookup domain"))
        else:
            named.append((settings.primary_suffix, "primary suffix"))
            named += [(name, "search list") for name in settings.search]
            named += [(name, "connection") for name in settings.dhcp_suffixes]
    named += [(name, "given") for name in seen.target.suffixes]
    roles: dict[str, str] = {}
    for name, role in named:
        if name:
            roles.setdefault(name, role)
    return [_Suffix(name, role, _usable(name)) for name, role in roles.items()]


def _query(name: str, seen: Evidence) -> SrvQuery:
    return SrvQuery(name=_PREFIX + name, server=seen.target.servers[0])


def _published(answer: SrvAnswer) -> list[tuple[str, int]]:
    return sorted({(record.target, record.port) for record in answer.records if record.target != discovery.ROOT})


def _hosts(answer: SrvAnswer) -> tuple[str, ...]:
    return tuple(join_host_port(target, port) for target, port in _published(answer))


def _first(answer: SrvAnswer) -> dict[str, str | int]:
    """The first host, as the command that publishes it elsewhere wants it."""
    target, port = _published(answer)[0]
    return {"host": target, "port": port}


def _parents(settings: MachineAnswer | None) -> list[str]:
    """Parents that devolution may ask, the nearest first; none where it is off."""
    if settings is None or not _may_devolve(settings):
        return []
    labels = settings.primary_suffix.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels) - 1)]


def _may_devolve(settings: MachineAnswer) -> bool:
    if settings.kms is not None and settings.kms.lookup_domain:
        return False
    if settings.devolution is not None:
        return settings.devolution
    # It is not known; a Windows client with a search list of its own would not.
    return set(settings.search) <= {settings.primary_suffix}


def ask(_subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """The settings, SRV under each suffix, and under the parents once all of those are known to have nothing."""
    settings = None
    if seen.target.machine:
        yield MachineSettings()
        settings = seen[MachineSettings()]
    queries = [_query(suffix.name, seen) for suffix in _suffixes(settings, seen) if suffix.usable]
    yield from queries
    if not queries or settings is None or _override(settings):
        return
    answers = [seen[query] for query in queries]
    if all(not _hosts(answer) and (answer.records or answer.outcome.is_absence) for answer in answers):
        yield from (_query(parent, seen) for parent in _parents(settings) if _usable(parent))


def _override(settings: MachineAnswer) -> str:
    """The host that is set for the whole machine, or ""."""
    overrides = settings.kms.overrides if settings.kms is not None else ()
    return next((one.host for one in overrides if (one.level, one.view) == ("global", "64") and one.host), "")


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """The first suffix that has KMS hosts, or why there is none."""
    basis: tuple[Request[Any], ...] = (MachineSettings(),) if seen.target.machine else ()
    settings = seen[MachineSettings()] if seen.target.machine else None
    everything = _suffixes(settings, seen)
    for suffix in everything:
        if not suffix.usable:
            yield say("no_name", basis, suffix=suffix.name, role=suffix.role)
    known = [suffix for suffix in everything if suffix.usable]
    if not everything:
        yield say("no_suffix", basis)
    if known:
        yield from _judge_suffixes(known, settings, basis, seen)


def _judge_suffixes(
    known: list[_Suffix], settings: MachineAnswer | None, basis: tuple[Request[Any], ...], seen: Evidence
) -> Iterator[Finding]:
    failed: list[_Suffix] = []
    asked: list[Request[Any]] = list(basis)
    for number, suffix in enumerate(known, 1):
        query = _query(suffix.name, seen)
        answer = seen[query]
        asked.append(query)
        hosts = _hosts(answer)
        if hosts and number == 1:
            yield say("found", tuple(asked), suffix=suffix.name, role=suffix.role, hosts=hosts)
            return
        if hosts and not failed:
            place = {"found": suffix.name, "role": suffix.role, "suffix": known[0].name}
            yield say(
                "only_later",
                tuple(asked),
                **place,
                **_first(answer),
                number=number,
                count=len(known),
                hosts=hosts,
            )
            return
        if not answer.records and not answer.outcome.is_absence:
            failed.append(suffix)
            yield _could_not_ask(suffix, query, answer)
    if failed:
        names = tuple(suffix.name for suffix in failed)
        yield say("unknown", tuple(_query(name, seen) for name in names), suffixes=names)
    elif settings is not None and (host := _override(settings)):
        yield say("not_used", tuple(asked), host=host)
    else:
        yield from _judge_parents(known, settings, asked, seen)


def _could_not_ask(suffix: _Suffix, query: SrvQuery, answer: SrvAnswer) -> Finding:
    return say(
        "could_not_ask",
        (query,),
        suffix=suffix.name,
        role=suffix.role,
        name=query.name,
        server=answer.server or query.server,
        outcome=answer.outcome.words,
    )


def _judge_parents(
    known: list[_Suffix], settings: MachineAnswer | None, asked: list[Request[Any]], seen: Evidence
) -> Iterator[Finding]:
    primary = settings.primary_suffix if settings is not None else ""
    failed: list[str] = []
    for parent in filter(_usable, _parents(settings)):
        query = _query(parent, seen)
        answer = seen[query]
        asked.append(query)
        hosts = _hosts(answer)
        if hosts and not failed:
            yield say("devolution", tuple(asked), parent=parent, suffix=primary, hosts=hosts, **_first(answer))
            return
        if not answer.records and not answer.outcome.is_absence:
            failed.append(parent)
            yield _could_not_ask(_Suffix(parent, "parent", usable=True), query, answer)
    if failed:
        yield say("unknown", tuple(_query(name, seen) for name in failed), suffixes=tuple(failed))
        return
    names = tuple(suffix.name for suffix in known)
    yield say("none_found", tuple(asked), suffixes=names, suffix=names[0])
    first = known[0]
    if settings is not None and first.role == "primary suffix" and _may_devolve(settings) and first.labels <= 2:
        labels = "one label" if first.labels == 1 else "two labels"
        yield say("two_labels", (MachineSettings(), _query(first.name, seen)), suffix=first.name, labels=labels)
