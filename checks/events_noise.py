"""Events that look like activation: which of them matter, and which say nothing about KMS.

What it looks at: events 8198 with their code, those that are noise (8200, 8208, 900 and their like), and events of
which something could not be read.
Why it matters: people search their logs for "activation" and find 8200 and 8208 with 0x80072EE7 first: that is the
internet validation of genuine Windows, and says nothing about KMS. An 8198 with a KMS code is the same failure as in
12288, seen by the user interface.
What to do: read 12288 and 12289; leave the noise alone, or switch online validation off by policy.
"""

from collections import Counter
from collections.abc import Iterator

from kmsdiag import check, collected
from kmsdiag.captured import who
from kmsdiag.check import CheckMeta, Code, Severity, say
from kmsdiag.knowledge import codes
from kmsdiag.knowledge.codes import Layer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.target import Subject

META = CheckMeta(
    title="What in the event logs matters",
    codes={
        "noise": Code(
            Severity.OK,
            "{number} events look like activation and say nothing about KMS: {events}.",
            "They are about genuine validation, the service's own life, or its schedule.",
        ),
        "not_kms": Code(
            Severity.INFO,
            "Event 8198 of {clients} has {code}: {meaning}. That is no failure of KMS.",
        ),
        "screen": Code(
            Severity.INFO,
            "Event 8198 of {clients} has {code}: {meaning}.",
            "It is what the user saw; the cause is in event 12288 of that time.",
        ),
        "unread": Code(
            Severity.WARNING,
            "{number} events hold values that could not be read: {examples}.",
            "They are left out of everything else that is said about the logs.",
        ),
        "clean": Code(Severity.OK, "Everything that the logs hold about activation was read."),
    },
    tags=frozenset({"events", "client"}),
    since="0.1",
    references=(
        "Microsoft: Event ID 8208, 8200, or 900 (KB 2958281)",
        "Microsoft: Event 8198, error 0xC0020017 or 0x8007139F",
    ),
)

subjects = check.event_logs
ask = collected.ask_logs


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Failures on screen by code; noise together; what was not read."""
    question = collected.logs(seen.target)
    answer = seen[question]
    because = (question,)
    clients: dict[str, list[str]] = {}
    for client in answer.clients:
        for code in client.failures:
            clients.setdefault(code, []).append(client.machine)
    for code, machines in sorted(clients.items()):
        known = codes.find(code)
        kind = "not_kms" if known is not None and known.layer is Layer.NOT_KMS else "screen"
        yield say(kind, because, clients=who(machines), code=code, meaning=codes.meaning(code))
    if answer.noise:
        ranked = Counter(answer.noise).most_common(4)
        words = tuple(f"{number} x {event}" for event, number in ranked)
        yield say("noise", because, number=sum(answer.noise.values()), events=words)
    if answer.unread:
        yield say("unread", because, number=answer.unread, examples=answer.unread_examples[:2] or ("none kept",))
    else:
        yield say("clean", because)
