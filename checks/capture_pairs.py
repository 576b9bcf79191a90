"""What becomes of packets between two capture points of one path.

What it looks at: the same conversations in captures of two points: packets that left one and never came to the other,
that came altered, or late.
Why it matters: one capture shows that an answer is missing; two show on which side of which device it was lost. That
ends the quarrel between the teams of client, network and host.
What to do: look at what stands between the two points: firewall, load balancer, VPN, WAN optimiser.
"""

from collections.abc import Iterator

from kmsdiag import captured
from kmsdiag.check import CheckMeta, Code, Severity, captures, say
from kmsdiag.knowledge.limits import SLOW_PATH
from kmsdiag.model.capture import CaptureAnswer, PairedPath
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject, join_host_port

META = CheckMeta(
    title="Captures of both ends",
    codes={
        "same": Code(
            Severity.OK,
            "{host}: all {matched} packets of {conversations} are the same at both points (one way {delay}).",
        ),
        "lost": Code(
            Severity.WARNING,
            "{host}: of what went from {a} to {b}, {lost_ab} never arrived, and {lost_ba} of what came back,"
            " in {conversations} ({numbers}).",
            "What stands between the two points drops them. {examples}",
        ),
        "altered": Code(
            Severity.WARNING,
            "{host}: {altered} arrived at {b} with other bytes than they had at {a} ({numbers}).",
            "A device on the way rewrites the connection: a proxy, an inspecting firewall, a WAN optimiser.",
        ),
        "one_sided": Code(
            Severity.WARNING,
            "{host}: {only_a} were seen at {a} alone and {only_b} at {b} alone.",
            "They ended at something on the way, or went around one of the points.",
        ),
        "delayed": Code(
            Severity.WARNING,
            "{host}: packets take {delay} from {a} to {b} (95th percentile).",
            "The way between the two points is slow or crowded.",
        ),
        "clocks": Code(
            Severity.INFO,
            "{host}: the clock at {b} is {offset} from that at {a}; times were corrected by it.",
        ),
        "one_point": Code(Severity.OK, "The captures were taken at one point: there is nothing to compare."),
        "no_pair": Code(
            Severity.NOT_ASSESSED,
            "The captures were taken at {points} points and share no conversation: what lies between can't be judged.",
        ),
    },
    tags=frozenset({"capture", "network"}),
    since="0.1",
    references=("RFC 9293",),
)

subjects = captures
ask = captured.ask

_CLOCKS_APART = 1000.0
"""Milliseconds between the clocks of two recorders that are worth a word."""


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Each host that was seen from both points."""
    request = captured.request(seen.target)
    answer = seen[request]
    points = {file.tap for file in answer.files}
    if not answer.pairs:
        if len(points) > 1:
            yield say("no_pair", (request,), points=len(points))
        else:
            yield say("one_point", (request,))
    for pair in answer.pairs:
        yield from _judge_pair(pair, answer, (request,))


def _judge_pair(pair: PairedPath, answer: CaptureAnswer, because: tuple[Captures]) -> Iterator[Finding]:
    host = join_host_port(pair.host, pair.port)
    a, b = _point(pair.a, answer), _point(pair.b, answer)
    numbers = ", ".join(f"#{number}" for number in pair.numbers) or "no example"
    count, packets = captured.count, "packet"
    content = True
    if pair.lost_ab or pair.lost_ba:
        content = False
        yield say(
            "lost",
            because,
            host=host,
            a=a,
            b=b,
            lost_ab=count(pair.lost_ab, packets),
            lost_ba=count(pair.lost_ba, packets),
            conversations=count(pair.conversations, "conversation"),
            numbers=numbers,
            examples=f"Examples: {'; '.join(pair.examples)}." if pair.examples else "No example was kept.",
        )
    if pair.altered:
        content = False
        yield say("altered", because, host=host, a=a, b=b, altered=count(pair.altered, packets), numbers=numbers)
    if pair.only_a or pair.only_b:
        content = False
        only = {"only_a": count(pair.only_a, "conversation"), "only_b": count(pair.only_b, "conversation")}
        yield say("one_sided", because, host=host, a=a, b=b, **only)
    if pair.delay_ms is not None and pair.delay_ms.p95 > SLOW_PATH:
        content = False
        yield say("delayed", because, host=host, a=a, b=b, delay=f"{pair.delay_ms.p95:.0f} ms")
    if abs(pair.offset_ms) > _CLOCKS_APART:
        yield say("clocks", because, host=host, a=a, b=b, offset=f"{pair.offset_ms / 1000:+.1f} s")
    if content:
        delay = "not known" if pair.delay_ms is None else f"{pair.delay_ms.median:.1f} ms"
        conversations = count(pair.conversations, "conversation")
        yield say("same", because, host=host, matched=f"{pair.matched:,}", conversations=conversations, delay=delay)


def _point(tap: int, answer: CaptureAnswer) -> str:
    """A capture point, named by its first file."""
    return next((file.label for file in answer.files if file.tap == tap), f"point {tap}")
