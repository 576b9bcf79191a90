"""What the captures lack, so that one knows what the verdict can't rest on.

What it looks at: damaged files, cut frames, directions and bytes that are missing, conversations that begin before or
end after the recording, link types that are not read, packets that the recorder dropped, limits that were hit.
Why it matters: a response that was not recorded is no response that was not sent. What rests on a gap is *not known*,
and a capture with many gaps should be taken again before anybody is blamed.
What to do: record on both directions, without a snap length (tcpdump -s 0), long enough, where both sides pass.
"""

from collections.abc import Iterator

from kmsdiag import captured
from kmsdiag.check import CheckMeta, Code, Severity, captures, say
from kmsdiag.model.capture import CaptureAnswer, FileFacts, Lack
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

META = CheckMeta(
    title="Quality of the captures",
    codes={
        "complete": Code(Severity.OK, "{files}, {packets}: nothing is missing that the verdict would need."),
        "damaged": Code(
            Severity.WARNING,
            "{file} is damaged: {note}.",
            "Everything before the damage was used.",
        ),
        "note": Code(Severity.INFO, "{file}: {note}."),
        "logs": Code(
            Severity.INFO,
            "All this is known from logs of {program} ({files}, {lines}), not from packets.",
            "They hold no HRESULT: of an answer it is not known whether it was a success. ICMP errors, versions and"
            " counts are not in them either. Frames are lines of the logs.",
        ),
        "empty": Code(
            Severity.WARNING,
            "{file} holds nothing that has to do with KMS or DNS ({packets} in all).",
            "It was recorded elsewhere, at another time, or with a filter that left this traffic out.",
        ),
        "one_direction": Code(
            Severity.WARNING,
            "Of {count} only one direction was recorded ({sides}).",
            "Whether the other side answered is not known. Record where both directions pass.",
        ),
        "cut": Code(
            Severity.WARNING,
            "{packets} were cut by the snap length{snap}; {count} lack bytes for it.",
            "Fields at the end of a packet, the HRESULT among them, are lost. Record with tcpdump -s 0.",
        ),
        "gaps": Code(
            Severity.WARNING,
            "Bytes that were acknowledged were not recorded in {count}; fragments are missing of {fragments}.",
            "The recorder did not keep up, or sees only one of several ways.",
        ),
        "edges": Code(
            Severity.INFO,
            "{count} began before the recording or went on after it ({edges}).",
            "How these ended or began is not known.",
        ),
        "dropped": Code(
            Severity.WARNING,
            "The recorder dropped {packets} ({file}).",
            "Silence in this capture may be a packet that was not recorded.",
        ),
        "links": Code(
            Severity.WARNING,
            "Packets of link types that are not read were left out: {links}.",
            "If the clients' traffic is among them, record on another interface or convert the file.",
        ),
        "duplicates": Code(
            Severity.INFO,
            "{packets} came twice (a mirror port of both directions, or several interfaces) and were counted once.",
        ),
        "unordered": Code(
            Severity.INFO,
            "Time runs backwards at {count} packets: files in another order, or several sources.",
            "Logic follows the order of the files, durations the clocks.",
        ),
        "late": Code(
            Severity.INFO,
            "{count} were noticed only at their bind, since this input can't be read twice.",
            "Their handshakes are not part of the verdict. Read the capture from a file for all of them.",
        ),
        "limits": Code(
            Severity.WARNING,
            "A limit was reached: {limits}.",
            "What lies beyond it was left out.",
        ),
    },
    tags=frozenset({"capture"}),
    since="0.1",
    references=("tcpdump(1)", "pcapng specification (draft-ietf-opsawg-pcapng)"),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """One finding a thing that is missing."""
    request = captured.request(seen.target)
    answer = seen[request]
    content = True
    if answer.source != "packets":
        content = False
        yield _from_logs(answer, (request,))
    for finding in (*_files(answer, (request,)), *_conversations(answer, (request,)), *_others(answer, (request,))):
        content = content and finding.code in ("note", "duplicates")
        yield finding
    if content:
        packets = captured.count(sum(file.packets for file in answer.files), "packet")
        yield say("complete", (request,), files=captured.count(len(answer.files), "file"), packets=packets)


def _from_logs(answer: CaptureAnswer, because: tuple[Captures]) -> Finding:
    return say(
        "logs",
        because,
        program=answer.source.capitalize(),
        files=captured.count(len(answer.files), "file"),
        lines=captured.count(sum(file.packets for file in answer.files), "line"),
    )


def _files(answer: CaptureAnswer, because: tuple[Captures]) -> Iterator[Finding]:
    for file in answer.files:
        code = "damaged" if file.damaged else "note"
        for note in file.notes:
            yield say(code, because, file=file.label, note=note)
        if not file.kept:
            yield say("empty", because, file=file.label, packets=f"{file.packets:,}")
        dropped = sum(interface.dropped or 0 for interface in file.interfaces)
        if dropped:
            yield say("dropped", because, file=file.label, packets=captured.count(dropped, "packet"))


def _conversations(answer: CaptureAnswer, because: tuple[Captures]) -> Iterator[Finding]:
    quality = answer.quality
    lacks = {Lack(name): number for name, number in quality.conversations_lacking.items() if number}
    sides = {lack: lacks[lack] for lack in (Lack.CLIENT, Lack.HOST) if lack in lacks}
    if sides:
        words = tuple(f"{number:,} without the {lack}'s side" for lack, number in sides.items())
        yield say("one_direction", because, count=_conversations_of(sum(sides.values())), sides=words)
    if quality.cut_packets or Lack.CUT in lacks:
        packets = captured.count(quality.cut_packets, "packet")
        count = _conversations_of(lacks.get(Lack.CUT, 0))
        yield say("cut", because, packets=packets, snap=_snap(answer.files), count=count)
    if Lack.BYTES in lacks or quality.fragments_missing:
        fragments = captured.count(quality.fragments_missing, "packet")
        yield say("gaps", because, count=_conversations_of(lacks.get(Lack.BYTES, 0)), fragments=fragments)
    edges = {lack: lacks[lack] for lack in (Lack.START, Lack.BIND, Lack.END) if lack in lacks}
    if edges:
        named = {Lack.START: "without a start", Lack.BIND: "without a bind", Lack.END: "without an end"}
        words = tuple(f"{number:,} {named[lack]}" for lack, number in edges.items())
        yield say("edges", because, count=_conversations_of(max(edges.values())), edges=words)


def _conversations_of(number: int) -> str:
    return captured.count(number, "conversation")


def _snap(files: tuple[FileFacts, ...]) -> str:
    lengths = sorted({interface.snap for file in files for interface in file.interfaces if 0 < interface.snap < 1600})
    return f" ({', '.join(map(str, lengths))} bytes)" if lengths else ""


def _others(answer: CaptureAnswer, because: tuple[Captures]) -> Iterator[Finding]:
    quality = answer.quality
    if quality.links_not_read:
        links = tuple(f"{name} ({number:,} packets)" for name, number in sorted(quality.links_not_read.items()))
        yield say("links", because, links=links)
    if quality.duplicate_packets:
        yield say("duplicates", because, packets=captured.count(quality.duplicate_packets, "packet"))
    if quality.clock_backwards:
        yield say("unordered", because, count=f"{quality.clock_backwards:,}")
    if quality.late_flows:
        yield say("late", because, count=_conversations_of(quality.late_flows))
    if quality.limits_hit:
        yield say("limits", because, limits=quality.limits_hit)
