"""Whether DNS answers for names that nobody made.

What it looks at: the SRV record and the address of a random name in the domain.
Why it matters: with a wildcard, or a resolver that rewrites "does not exist" into an address of its own, a missing or
mistyped record looks present. Clients are then sent somewhere that is no KMS host.
What to do: narrow the wildcard; use resolvers that pass NXDOMAIN on.
"""

from collections.abc import Iterator
from typing import Any

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.outcome import State
from kmsdiag.model.request import AddressQuery, Request, SrvQuery
from kmsdiag.model.target import Family, Subject, join_host_port

_DIG = Fix(Where.HERE, "see it yourself", "dig {at:words} {random} {kind}")

META = CheckMeta(
    title="Wildcards and rewritten answers",
    codes={
        "honest": Code(Severity.OK, "A name that nobody made does not exist in {domain}."),
        "wildcard": Code(
            Severity.WARNING,
            "{random} has SRV records though nobody made it ({hosts}): a wildcard covers {domain}.",
            "A missing KMS record would look present; clients are sent to what the wildcard names.",
            (_DIG,),
        ),
        "rewritten": Code(
            Severity.WARNING,
            "{random} has an address though nobody made it ({addresses}): a wildcard, or NXDOMAIN rewritten.",
            "The name of a retired KMS host would still resolve, to a machine that is none.",
            (_DIG,),
        ),
        "could_not_ask": Code(Severity.NOT_ASSESSED, "A random name of {domain} could not be asked for: {outcome}."),
    },
    tags=frozenset({"dns"}),
    since="0.1",
    references=("RFC 4592", "RFC 8499 (NXDOMAIN)"),
)

subjects = domains


def _address(subject: Subject, seen: Evidence) -> AddressQuery:
    name = f"{discovery.random_label(seen)}.{subject.name}"
    return AddressQuery(name=name, family=Family.IPV4, server=seen.target.servers[0])


def ask(subject: Subject, seen: Evidence) -> Iterator[Request[Any]]:
    """SRV and A of a random name."""
    yield from discovery.random_srvs(subject, seen)
    yield _address(subject, seen)


def judge(subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a kind of wildcard."""
    srvs, address = discovery.random_srvs(subject, seen), _address(subject, seen)
    at = discovery.at(seen.target.servers[0])
    content = True
    for srv in srvs:
        answer = seen.get(srv)
        if answer is not None and answer.records:
            content = False
            hosts = tuple(join_host_port(record.target, record.port) for record in answer.records)
            yield say("wildcard", (srv,), random=srv.name, hosts=hosts, domain=subject.name, at=at, kind="SRV")
            break
    found = seen.get(address)
    if found is not None and found.addresses:
        content = False
        yield say("rewritten", (address,), random=address.name, addresses=found.addresses, at=at, kind="A")
    queries: tuple[SrvQuery | AddressQuery, ...] = (*srvs, address)
    outcomes = {query: seen[query].outcome for query in queries}
    failed = [query for query, outcome in outcomes.items() if outcome.state is State.FAIL and not outcome.is_absence]
    if failed:
        yield say("could_not_ask", tuple(failed), domain=subject.name, outcome=outcomes[failed[0]].words)
    elif content:
        yield say("honest", queries, domain=subject.name)
