"""The expected state against what was found: each requirement is met, failed, or not known.

A requirement about this run is decided by what a check says of it, before any policy. One about a network is decided by
the paths of reports from there: this run where it was made there, and others.
"""

import datetime
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from kmsdiag.model.audit import Audit, Requirement, RequirementState, WaiverUse, WaiverView
from kmsdiag.model.finding import Args, Severity, Status
from kmsdiag.model.path import Path, PathState
from kmsdiag.model.report import FindingView, Report, ResultView, Vantage
from kmsdiag.model.target import RUN, ExpectedHost, Network, Product, Site, Subject, SubjectKind, Target, as_address
from kmsdiag.path import NOWHERE
from kmsdiag.plan import Kind, counted
from kmsdiag.policy import Policy, Waiver, things

NETWORK: Final = "audit.network"
"""Code of the requirements that reports from a network decide; waivers may name it."""

CODES: Final = frozenset({NETWORK})

MOST: Final = 3
"""Places, ways and sayings of each kind that a reason names; JSON has all reports in ``seen_from``."""

MOST_FINDINGS: Final = 10
"""Findings whose texts are the reason of a failure; all of them are in the report."""

OLD: Final = datetime.timedelta(days=1)
"""Age of another place's report, at this run, from which on its day is told."""


class View(NamedTuple):
    """One run as an audit sees it: where it was made, what it asked, and its paths."""

    vantage: Vantage
    target: Target
    paths: Sequence[Path]
    started: datetime.datetime | None = None


def view(report: Report) -> View:
    """The view of a finished report."""
    return View(report.vantage, report.target, report.paths, report.started)


def compile_audit(
    own: View, results: Sequence[ResultView], others: Sequence[Report], policy: Policy, on: datetime.date
) -> Audit:
    """Decide every requirement of the target's plan.

    ``results`` are those that no policy changed; ``on`` is the day (UTC) on which waivers hold or have expired.
    """
    views = [own, *map(view, others)]
    networks = own.target.expected.networks
    said = {(result.check, result.subject): _Said(result) for result in results}
    decided = [
        _decide(demand, said.get((demand.check, demand.subject)), own.vantage.label, policy, on)
        for demand in _demands(own.target)
    ]
    reported = [_from_network(network, views, own.target, policy, on) for network in networks]
    # What a waiver may cover: every finding that is not mere contentment, and every network that is not well.
    waivable = [
        (finding.code, tuple(things(result.subject, finding.args)))
        for result in results
        for finding in result.findings
        if finding.severity.rank >= Severity.INFO.rank
    ]
    waivable += [
        (NETWORK, (network.name, network.address))
        for network, requirement in zip(networks, reported, strict=True)
        if requirement.state is not RequirementState.PASS
    ]
    return Audit(requirements=(*decided, *reported), waivers=tuple(_uses(policy.waivers, waivable, on)))


class _Demand(NamedTuple):
    """A requirement that a check decides: the codes that mean failure, and which findings are about it.

    ``hosts``: those that name a host name one of these (none: any).
    """

    what: str
    check: str
    subject: Subject
    fails: frozenset[str]
    concerns: Callable[[Args], bool] = lambda _args: True
    doubts: frozenset[str] = frozenset()
    hosts: tuple[str, ...] = ()


class _Said:
    """What a check says of a subject, with its findings at hand by the host that they name: there may be thousands."""

    def __init__(self, result: ResultView) -> None:
        self.result = result
        self._by_host: dict[str, list[int]] = {}
        for number, finding in enumerate(result.findings):
            self._by_host.setdefault(str(finding.args.get("host", "")), []).append(number)

    def about(self, demand: _Demand) -> list[FindingView]:
        """The findings that a demand is decided by, in their order."""
        found: Iterable[FindingView] = self.result.findings
        if demand.hosts:
            numbers = {number for name in ("", *demand.hosts) for number in self._by_host.get(name, ())}
            found = (self.result.findings[number] for number in sorted(numbers))
        return [finding for finding in found if demand.concerns(finding.args)]


def _demands(target: Target) -> Iterator[_Demand]:
    expected = target.expected
    for name in target.domains:
        domain = Subject(SubjectKind.DOMAIN, name)
        yield _Demand(
            f"{name} publishes a KMS host, at every DNS server asked",
            "plan_domains",
            domain,
            frozenset({"not_published", "not_everywhere"}),
        )
        yield _Demand(
            f"the DNS servers of {name} give the same records",
            "dns_servers_agree",
            domain,
            frozenset({"differ", "disagree", "lame"}),
            doubts=frozenset({"could_not_ask"}),
        )
        if expected.max_hosts is not None:
            most = f"{expected.max_hosts} host" + ("" if expected.max_hosts == 1 else "s")
            yield _Demand(f"{name} publishes at most {most}", "plan_hosts", domain, frozenset({"too_many"}))
        for product in Product:
            if any(counted(product, site) for site in expected.sites if site.domain == name):
                words = product.value.capitalize()
                yield _Demand(
                    f"{name} publishes a host for {words}",
                    "plan_hosts",
                    domain,
                    frozenset({"not_served", "absent"}),
                    _has("product", words),
                )
    for host in expected.hosts:
        for name in host.domains:
            yield _Demand(
                f"{_described(host)} is published in {name}",
                "hosts_expected",
                RUN,
                frozenset({"missing", "drift", "rank_drift", "address_drift"}),
                _about_host(host, name, expected.hosts),
                # One that is expected by its address may have any name.
                hosts=(host.host, str(host)) if as_address(host.host) is None else (),
            )
    if expected.hosts:
        yield _Demand("no other host is published", "hosts_expected", RUN, frozenset({"unexpected", "misplaced"}))
    for kind in Kind:
        if any(kind.planned(site) for site in expected.sites):
            yield _Demand(
                f"{kind.words} meet the {kind.threshold} that they need at every host they pick",
                "plan_thresholds",
                RUN,
                frozenset({"too_few", "never", "spread"}),
                _has("kind", kind.words),
            )


def _described(host: ExpectedHost) -> str:
    """The host with what is laid down of it."""
    ranks = (("priority", host.priority), ("weight", host.weight))
    details = [f"{word} {number}" for word, number in ranks if number is not None] + list(host.addresses)
    return f"{host} ({', '.join(details)})" if details else str(host)


def _has(key: str, value: str) -> Callable[[Args], bool]:
    """Findings with this value, and those that do not say: what is not known of all is not known of one."""
    return lambda args: args.get(key, value) == value


def _about_host(host: ExpectedHost, domain: str, hosts: Iterable[ExpectedHost]) -> Callable[[Args], bool]:
    """Findings that name the host or none, and where they name domains this one.

    One that is expected by its address may be published by any name that is not another's.
    """
    own = {host.host, str(host)}
    by_address = as_address(host.host) is not None
    taken = {text for other in hosts if other != host for text in (other.host, str(other))} if by_address else set()

    def concerns(args: Args) -> bool:
        domains = args.get("domains", args.get("domain", domain))
        here = domain in domains if isinstance(domains, tuple) else domain == domains
        named = str(args.get("host", host))
        return here and (named in own or (by_address and named not in taken))

    return concerns


def _decide(demand: _Demand, said: _Said | None, label: str, policy: Policy, on: datetime.date) -> Requirement:
    state, why, failing = _state(demand, said)
    return Requirement(
        code=demand.check,
        what=demand.what,
        state=state,
        why=why,
        seen_from=(label,),
        severity=max(
            (policy.severity.get(finding.code, Severity.ERROR) for finding in failing),
            key=lambda severity: severity.rank,
            default=Severity.ERROR,
        ),
        waived=_waived(demand.subject, failing, policy, on),
    )


def _state(demand: _Demand, said: _Said | None) -> tuple[RequirementState, str, list[FindingView]]:
    """The state, why it is so, and the findings that say so."""
    if said is None:
        return RequirementState.NOT_KNOWN, f"the check {demand.check} did not run", []
    result, concerning = said.result, said.about(demand)
    failing = [finding for finding in concerning if finding.code.partition(".")[2] in demand.fails]
    if failing:
        more = len(failing) - MOST_FINDINGS
        texts = [finding.text for finding in failing[:MOST_FINDINGS]]
        return RequirementState.FAIL, " ".join((*texts, f"And {more} more.") if more > 0 else texts), failing
    if result.status is Status.CRASHED or result.reason:
        return RequirementState.NOT_KNOWN, result.reason, []
    doubts = [
        finding
        for finding in concerning
        if finding.severity is Severity.NOT_ASSESSED or finding.code.partition(".")[2] in demand.doubts
    ]
    if doubts:
        return RequirementState.NOT_KNOWN, doubts[0].text, []
    return RequirementState.PASS, "", []


def _waived(subject: Subject, failing: Sequence[FindingView], policy: Policy, on: datetime.date) -> str:
    """Why a failure does not count; "" where any part of it does."""
    reasons = [waived(subject, finding.code, finding.args, policy, on) for finding in failing]
    return reasons[0] if reasons and all(reasons) else ""


def waived(subject: Subject, code: str, args: Args, policy: Policy, on: datetime.date) -> str:
    """Why a finding does not count, or ""."""
    if code in policy.ignore:
        return "left out by the configuration (ignore)"
    found = policy.waiver(code, things(subject, args), on)
    return "" if found is None else _reason(found)


def _reason(waiver: Waiver) -> str:
    return f"waived until {waiver.until}: {waiver.reason}"


def _from_network(
    network: Network, views: Sequence[View], target: Target, policy: Policy, on: datetime.date
) -> Requirement:
    site = next(site for site in target.expected.sites if site.name == network.site)
    sources = [one for one in views if is_from(network, one.vantage)]
    told = [(one, *_from_there(one, site, target.expected.hosts)) for one in sources]
    # A failure seen by one is one, whatever others saw; what works for one and is not known by another works.
    state = next(
        (
            state
            for state in (RequirementState.FAIL, RequirementState.PASS)
            if any(found is state for _one, found, _why in told)
        ),
        RequirementState.NOT_KNOWN,
    )
    why = _told([(one, words) for one, found, words in told if found is state], views[0].started)
    waiver = policy.waiver(NETWORK, (network.name, network.address), on)
    return Requirement(
        code=NETWORK,
        what=f"activation works from {network.name} ({network.address}, {network.site})",
        state=state,
        why=why or f"no report from there: 'kmsdiag check {site.domain} --vantage {network.name}' makes one for --from",
        seen_from=tuple(one.vantage.label for one in sources),
        severity=policy.severity.get(NETWORK, Severity.ERROR),
        waived="" if waiver is None or state is RequirementState.PASS else _reason(waiver),
    )


def _told(said: Sequence[tuple[View, str]], now: datetime.datetime | None) -> str:
    """What runs say, those that say the same together; of a run long before this one, when it was made."""
    labels: dict[str, list[str]] = {}
    for one, words in said:
        old = one.started is not None and now is not None and now - one.started > OLD
        labels.setdefault(f"{words} (as of {one.started:%Y-%m-%d})" if old else words, []).append(one.vantage.label)
    often_first = sorted(labels.items(), key=lambda item: -len(item[1]))
    return _shorten([f"{_shorten(list(dict.fromkeys(names)))}: {words}" for words, names in often_first], "; ")


def _shorten(texts: Sequence[str], joint: str = ", ") -> str:
    listed = joint.join(texts[:MOST])
    return f"{listed} and {len(texts) - MOST} more" if len(texts) > MOST else listed


def is_from(network: Network, vantage: Vantage) -> bool:
    """Whether a run was made in a network: it says so, or has an address there."""
    addresses = (ipaddress.ip_address(address) for address in vantage.addresses if as_address(address) is not None)
    return vantage.label == network.name or any(
        address in ipaddress.ip_network(network.address) for address in addresses
    )


def _from_there(one: View, site: Site, hosts: Sequence[ExpectedHost]) -> tuple[RequirementState, str]:
    """What one run says about the clients of a site."""
    paths = paths_of(one, site)
    if not paths:
        return RequirementState.NOT_KNOWN, f"the report is not about {site.domain}"
    failing = [path for path in paths if path.state in (PathState.FAIL, PathState.PARTIAL)]
    if failing:
        return RequirementState.FAIL, _shorten([*map(_failure, failing)])
    strange = [path for path in paths if hosts and not _is_expected(path, hosts)]
    if strange:
        return RequirementState.FAIL, f"clients are sent to {_shorten([*map(_host, strange)])}, which is not expected"
    if any(path.state is PathState.UNKNOWN for path in paths):
        return RequirementState.NOT_KNOWN, f"not every way in {site.domain} was tested to its end"
    return RequirementState.PASS, f"{_shorten([*map(_host, paths)])} found, reached and answering"


def paths_of(one: View, site: Site) -> list[Path]:
    """The paths of a site's domain; those that its own DNS servers gave, where the run asked them."""
    paths = [path for path in one.paths if path.domain == site.domain]
    own = [path for path in paths if set(path.servers) & set(site.servers)]
    return own or paths


def _is_expected(path: Path, hosts: Iterable[ExpectedHost]) -> bool:
    own = {path.target, *(route.address for route in path.routes)}
    return any(host.host in own for host in hosts)


def _host(path: Path) -> str:
    return f"{path.target}:{path.port}"


def _failure(path: Path) -> str:
    """A failing path, with the stage and what was seen there."""
    what = f"DNS of {path.domain}" if path.target == NOWHERE else _host(path)
    stages = [*path.stages, *(stage for route in path.routes for stage in route.stages)]
    failing = [stage for stage in stages if stage.state.value == "fail"]
    at = f" at {failing[0].stage.value}" + (f" ({failing[0].note})" if failing[0].note else "") if failing else ""
    partly = "partly " if path.state is PathState.PARTIAL else ""
    return f"{what} {partly}fails{at}"


def _uses(
    waivers: Iterable[Waiver], waivable: Sequence[tuple[str, tuple[str, ...]]], on: datetime.date
) -> Iterator[WaiverView]:
    """What became of each waiver."""
    for waiver in waivers:
        if on > waiver.until:
            use = WaiverUse.EXPIRED
        elif any(waiver.covers(code, named) for code, named in waivable):
            use = WaiverUse.USED
        else:
            use = WaiverUse.NOT_NEEDED
        yield WaiverView(code=waiver.code, reason=waiver.reason, until=waiver.until, use=use, about=waiver.about)
