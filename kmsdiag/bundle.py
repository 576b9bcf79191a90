"""Evidence on disk: one JSON file with a format number, from which a run can be judged again without a network."""

import datetime
import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from kmsdiag.model.answer import (
    AddressAnswer,
    Answer,
    ClockAnswer,
    LookupAnswer,
    MachineAnswer,
    NsAnswer,
    RpcAnswer,
    SoaAnswer,
    SrvAnswer,
    TcpAnswer,
    TraceAnswer,
)
from kmsdiag.model.capture import CaptureAnswer, Channel, FoundBy, Lack
from kmsdiag.model.collected import StatusAnswer
from kmsdiag.model.events import AttemptEnd, EventsAnswer
from kmsdiag.model.outcome import ConversationOutcome, DnsOutcome
from kmsdiag.model.proposal import Proposal
from kmsdiag.model.report import Vantage
from kmsdiag.model.request import (
    AddressQuery,
    AnyAnswer,
    AnyRequest,
    Captures,
    ClockQuery,
    EventLogs,
    MachineSettings,
    NsQuery,
    Request,
    RpcBind,
    SoaQuery,
    SrvQuery,
    Status,
    SystemLookup,
    TcpConnect,
    TcpTrace,
    order,
)
from kmsdiag.model.target import Target, TargetError, as_address, parse_server

BUNDLE_FORMAT: Final = 1
"""Number of the bundle format. When it grows, a converter a step keeps older files readable."""

MAX_BYTES: Final = 512 * 1024 * 1024


class BundleError(ValueError):
    """A file that is no usable bundle; the text says why and what to do."""


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question and its answer."""

    request: AnyRequest
    answer: AnyAnswer


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question without an answer, and why."""

    request: AnyRequest
    reason: str


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All that one run learned. ``checks`` are the checks that were asked; ``started`` and ``ended`` are UTC.

    ``proposed`` are records that are judged as if they were there already; the facts are those of the world as it is.
    """

    kmsdiag_bundle: int
    tool: str
    vantage: Vantage
    target: Target
    checks: tuple[str, ...]
    started: datetime.datetime
    ended: datetime.datetime
    facts: tuple[Fact, ...] = ()
    unanswered: tuple[Gap, ...] = ()
    interrupted: bool = False
    proposed: Proposal | None = None

    def answers(self) -> dict[Request[Any], Answer]:
        """Answers by question."""
        return {fact.request: fact.answer for fact in self.facts}

    def gaps(self) -> dict[Request[Any], str]:
        """Reasons by question."""
        return {gap.request: gap.reason for gap in self.unanswered}


def make_facts(answers: dict[Request[Any], Answer]) -> tuple[Fact, ...]:
    """Facts in the order in which a bundle keeps them."""
    return tuple(
        Fact(request, answer)  # type: ignore[arg-type]
        for request, answer in sorted(answers.items(), key=lambda item: order(item[0]))
    )


def make_gaps(reasons: dict[Request[Any], str]) -> tuple[Gap, ...]:
    """Gaps in the order in which a bundle keeps them."""
    return tuple(
        Gap(request, reason)  # type: ignore[arg-type]
        for request, reason in sorted(reasons.items(), key=lambda item: order(item[0]))
    )


def encode(bundle: Bundle) -> bytes:
    """A bundle as JSON, indented, so that it can be read and compared."""
    return msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n"


_ANSWERS: Final[dict[type, type]] = {
    SrvQuery: SrvAnswer,
    AddressQuery: AddressAnswer,
    SoaQuery: SoaAnswer,
    NsQuery: NsAnswer,
    SystemLookup: LookupAnswer,
    TcpConnect: TcpAnswer,
    TcpTrace: TraceAnswer,
    RpcBind: RpcAnswer,
    ClockQuery: ClockAnswer,
    MachineSettings: MachineAnswer,
    Captures: CaptureAnswer,
    Status: StatusAnswer,
    EventLogs: EventsAnswer,
}


def _require_sound(bundle: Bundle) -> None:
    """Refuse what fits the types and could not have been recorded: a check may rely on its answers.

    Raises:
        BundleError: with the path of the first such thing.
    """
    for name, when in (("started", bundle.started), ("ended", bundle.ended)):
        if when.tzinfo is None:
            raise BundleError(f"it is damaged: a time without a zone - at `$.{name}`")
    for number, fact in enumerate(bundle.facts):
        for problem in _fact_problems(fact):
            raise BundleError(f"it is damaged: {problem} - at `$.facts[{number}]`")
    for part, servers in (("servers", bundle.target.servers), ("resolvers", bundle.target.resolvers)):
        for number, server in enumerate(servers):
            try:
                parse_server(server)
            except TargetError as error:
                raise BundleError(f"it is damaged: {error} - at `$.target.{part}[{number}]`") from None
    _require_sound_plan(bundle)


def _fact_problems(fact: Fact) -> Iterator[str]:
    """What of an answer can't be: its kind, an address that is none, counts of what there is not."""
    request, answer = fact.request, fact.answer
    if type(answer) is not _ANSWERS[type(request)]:
        yield "the answer is to another kind of question"
    named = [request.address] if isinstance(request, TcpConnect | TcpTrace | RpcBind | ClockQuery) else []
    if isinstance(answer, AddressAnswer | LookupAnswer):
        named += answer.addresses
    elif isinstance(answer, TraceAnswer):
        named += (hop.address for hop in answer.hops if hop.address)
    elif isinstance(answer, CaptureAnswer):
        named += _captured_addresses(answer)
        yield from _capture_problems(answer)
    elif isinstance(answer, EventsAnswer):
        yield from _event_problems(answer)
    elif isinstance(answer, StatusAnswer):
        results = {product.result for machine in answer.machines for product in machine.products}
        yield from _no_hresults(results - {""})
    yield from (f"{address!r} is no address" for address in named if as_address(address) is None)


def _require_sound_plan(bundle: Bundle) -> None:
    sites = {site.name for site in bundle.target.expected.sites}
    for number, network in enumerate(bundle.target.expected.networks):
        at = f"`$.target.expected.networks[{number}]`"
        if network.site not in sites:
            raise BundleError(f"it is damaged: there is no site {network.site!r} - at {at}")
        try:
            ipaddress.ip_network(network.address)
        except ValueError as error:
            raise BundleError(f"it is damaged: {error} - at {at}") from None
    for number, one in enumerate(() if bundle.proposed is None else bundle.proposed.addresses):
        for address in one.addresses:
            if as_address(address) is None:
                at = f"`$.proposed.addresses[{number}]`"
                raise BundleError(f"it is damaged: {address!r} is no address - at {at}")


def _captured_addresses(answer: CaptureAnswer) -> Iterator[str]:
    for host in answer.hosts:
        yield host.address
    for client in answer.clients:
        yield client.address
        yield from (use.address for use in client.uses)
    for one in answer.examples:
        yield from (one.client, one.host)
    for lookup in answer.lookups:
        if lookup.channel is Channel.DNS:
            yield lookup.server


_HRESULT = re.compile(r"0x[0-9A-F]{8}")


def _capture_problems(answer: CaptureAnswer) -> Iterator[str]:
    """What is not as the digest of captures is made: keys of counts, and times without a zone."""
    uses = [use for client in answer.clients for use in client.uses]
    for kind, counts in (
        (ConversationOutcome, [answer.outcomes, *(host.outcomes for host in answer.hosts)]),
        (ConversationOutcome, [use.outcomes for use in uses]),
        (DnsOutcome, [lookup.outcomes for lookup in answer.lookups]),
        (FoundBy, [host.found_by for host in answer.hosts]),
        (Lack, [answer.quality.conversations_lacking]),
    ):
        known = set(kind)
        yield from (f"{name!r} is no {kind.__name__}" for count in counts for name in count if name not in known)
    yield from _no_hresults(code for host in answer.hosts for code in host.hresults)
    yield from _no_hresults(code for use in uses for code in use.hresults)
    for use in uses:
        if use.first.tzinfo is None or use.last.tzinfo is None:
            yield f"the time {use.first} has no zone"


def _no_hresults(codes: Iterable[str]) -> Iterator[str]:
    yield from (f"{code!r} is no HRESULT" for code in sorted(set(codes)) if not _HRESULT.fullmatch(code))


_UNCOUNTED: Final = {"", "unreadable", "others"}
"""Instead of a code: none, one that could not be read, and what was too much to count."""


def _event_problems(answer: EventsAnswer) -> Iterator[str]:
    """What is not as the digest of event logs is made: spelling of codes, keys of counts, order in time."""
    codes: set[str] = set()
    for client in answer.clients:
        codes.update(client.hresults, client.failures)
        codes.update(code for attempt in client.latest for code in (attempt.hresult, attempt.answer))
        yield from (f"{end!r} is no {AttemptEnd.__name__}" for end in client.ends if end not in set(AttemptEnd))
        if list(client.latest) != sorted(client.latest, key=lambda attempt: attempt.at):
            yield f"the attempts of {client.machine!r} are not in their order"
    for host in answer.hosts:
        codes.update(host.hresults, host.start_failures, (one.hresult for one in host.publishing))
    for one in answer.requesters:
        codes.update(one.hresults, [one.last_hresult], (request.hresult for request in one.requests_in_detail))
        if one.first > one.last:
            yield f"the requests of {one.client_machine_id!r} end before they begin"
    yield from _no_hresults(codes - _UNCOUNTED)


class _Envelope(msgspec.Struct):
    kmsdiag_bundle: int | None = None
    kmsdiag_report: int | None = None


def decode(data: bytes) -> Bundle:
    """Read a bundle.

    Raises:
        BundleError: no JSON, no bundle, of a newer format, or with a field that does not fit (with its path).
    """
    if not data.strip():
        raise BundleError("it is empty")
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
    except msgspec.ValidationError as error:
        raise BundleError(f"it is no bundle: {error}") from None
    except RecursionError:
        raise BundleError("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"it is no JSON ({error}); a bundle is what 'kmsdiag check --record FILE' writes") from None
    if envelope.kmsdiag_bundle is None:
        what = "a report, which holds no evidence" if envelope.kmsdiag_report is not None else "JSON, but no bundle"
        raise BundleError(f"it is {what}; a bundle is what 'kmsdiag check --record FILE' writes")
    if envelope.kmsdiag_bundle > BUNDLE_FORMAT:
        raise BundleError(
            f"it has bundle format {envelope.kmsdiag_bundle}, newer than {BUNDLE_FORMAT}, which this kmsdiag reads:"
            " update kmsdiag"
        )
    if envelope.kmsdiag_bundle < 1:
        raise BundleError(f"it has bundle format {envelope.kmsdiag_bundle}, which there never was")
    try:
        bundle = msgspec.json.decode(data, type=Bundle)
    except (msgspec.ValidationError, ValueError) as error:
        raise BundleError(f"it is damaged: {error}") from None
    except RecursionError:
        raise BundleError("it is nested too deeply") from None
    _require_sound(bundle)
    return bundle
