"""An ``expected.toml`` from what one run found, with remarks on what was seen and what a person has to fill in."""

from collections.abc import Iterable, Sequence
from typing import Any

import tomlkit
import tomlkit.items

from kmsdiag.expected import EXPECTED_FORMAT
from kmsdiag.model.path import Path, PathState
from kmsdiag.model.report import Report
from kmsdiag.model.target import SYSTEM, Product, TargetError, parse_host
from kmsdiag.path import NOWHERE
from kmsdiag.report.words import visible

_HEAD = """\
What 'kmsdiag baseline' found on {when} UTC from {where}.
It is not yet what should be: go through it, correct what is wrong, and fill in what can't be seen
from outside. Then: kmsdiag audit FILE. All fields: docs/expected.md"""
_SERVES = "not visible from outside: slmgr /dlv all on the host tells"
_MACHINES = "fill in; office: machines with a volume-licensed Office"
_REST = """\
Networks from which activation must work; the name is the label of reports from there (--vantage):
[[networks]]
name = "branch"
address = "10.7.0.0/16"
site = "{site}"

What a finding is worth here, and findings that do not count until a day:
[severity]
"hosts_several.equal" = "warning"

[[waivers]]
code = "hosts_public.public"
about = "kms1.contoso.example"
reason = "moves in spring"
until = 2027-03-31"""


def render(report: Report) -> str:
    """The file's text; the same report gives the same text."""
    document = tomlkit.document()
    vantage = ", ".join((report.vantage.label, *report.vantage.addresses))
    _remark(document, _HEAD.format(when=f"{report.started:%Y-%m-%d %H:%M}", where=vantage))
    document.add(tomlkit.nl())
    document.add("format", tomlkit.item(EXPECTED_FORMAT))
    document.add("domains", _strings(report.target.domains))
    if report.target.suffixes:
        document.add("suffixes", _strings(report.target.suffixes))
    paths = [path for path in report.paths if path.target not in (NOWHERE, ".")]
    most = max((len(_targets(paths, domain)) for domain in report.target.domains), default=0)
    if most:
        document.add("max_hosts", tomlkit.item(most).comment("as many as a domain publishes now"))
    _hosts(document, paths, report.target.domains)
    _sites(document, report)
    document.add(tomlkit.nl())
    _remark(document, _REST.format(site=report.target.domains[0]))
    return tomlkit.dumps(document)


def _targets(paths: Iterable[Path], domain: str) -> set[str]:
    return {path.target for path in paths if path.domain == domain and _is_host(path.target)}


def _is_host(target: str) -> bool:
    """Whether the file may name it: its reader takes addresses and names with their domain, and keeps them as is."""
    try:
        host = parse_host(target).host
    except TargetError:
        return False
    return host == target and ("." in host or ":" in host)


def _hosts(document: tomlkit.TOMLDocument, paths: Sequence[Path], domains: Sequence[str]) -> None:
    hosts: dict[tuple[str, int], list[Path]] = {}
    for path in paths:
        hosts.setdefault((path.target, path.port), []).append(path)
    tables = tomlkit.aot()
    strange = []
    for (target, port), own in sorted(hosts.items()):
        if _is_host(target) and port:
            tables.append(_host(target, port, own, domains))
        else:
            strange.append(f"A record names {target}:{port}, which is no host: it is left out.")
    document.add(tomlkit.nl())
    if tables:
        document.add("hosts", tables)
    else:
        _remark(document, "No host is published. Give each that shall be, in a table [[hosts]].")
    for text in strange:
        _remark(document, text)


def _host(target: str, port: int, paths: Sequence[Path], domains: Sequence[str]) -> tomlkit.items.Table:
    table = tomlkit.table()
    _remark(table, _seen(paths))
    table.add("host", tomlkit.item(target))
    table.add("port", tomlkit.item(port))
    table.add("serves", _strings(Product).comment(_SERVES))
    where = [domain for domain in domains if any(path.domain == domain for path in paths)]
    if len(domains) > 1:
        table.add("domains", _strings(where))
    addresses = sorted({route.address for path in paths for route in path.routes})
    if addresses:
        table.add("addresses", _strings(addresses))
    ranks = {rank for path in paths for rank in path.ranks}
    if len(ranks) == 1:
        ((priority, weight),) = ranks
        table.add("priority", tomlkit.item(priority))
        table.add("weight", tomlkit.item(weight))
    else:
        _remark(table, f"published with several ranks: {', '.join(f'{one}/{other}' for one, other in sorted(ranks))}")
    return table


def _seen(paths: Sequence[Path]) -> str:
    """What was seen of one host."""
    states = {path.state for path in paths}
    if states == {PathState.OK}:
        return "answered as KMS"
    if PathState.OK in states or PathState.PARTIAL in states:
        return "answered as KMS, but not at all of its addresses"
    failing = next((path.fails_at for path in paths if path.fails_at is not None), None)
    if failing is None:
        return "could not be tested: is it a KMS host?"
    return f"DID NOT ANSWER (stage {failing}): leave it out if it is retired"


def _sites(document: tomlkit.TOMLDocument, report: Report) -> None:
    servers = [
        server
        for asked in report.target.servers
        for server in (report.target.resolvers if asked == SYSTEM and report.target.resolvers else (asked,))
    ]
    tables = tomlkit.aot()
    for domain in report.target.domains:
        table = tomlkit.table()
        table.add("name", tomlkit.item(domain).comment("a place whose machines use the same DNS servers"))
        table.add("domain", tomlkit.item(domain))
        table.add("dns", _strings(dict.fromkeys(servers)))
        machines = tomlkit.inline_table()
        machines.update({"client": 0, "server": 0, "office": 0})
        table.add("machines", machines.comment(_MACHINES))
        tables.append(table)
    document.add(tomlkit.nl())
    document.add("sites", tables)


def _strings(texts: Iterable[str]) -> Any:
    return tomlkit.item([str(text) for text in texts])


def _remark(container: Any, text: str) -> None:
    for line in text.split("\n"):
        container.add(tomlkit.comment(visible(line)) if line else tomlkit.nl())
