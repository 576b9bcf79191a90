"""Whether the clocks of captured clients fit those of their hosts.

What it looks at: the client's own time in requests of version 4 against the time of capture, and refusals with
0xC004F06C in every version.
Why it matters: a KMS host refuses a client whose clock differs from its own by more than four hours in UTC. Versions
5 and 6 encrypt the time: there the refusal is all that can be seen.
What to do: let the clock follow the domain again (w32tm); time zones do not matter.
"""

from collections.abc import Iterator, Sequence

from kmsdiag import captured
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, captures, say
from kmsdiag.clocks import in_words
from kmsdiag.knowledge.limits import CLOCK_TOLERANCE, CLOCK_WARNING
from kmsdiag.model.capture import CaptureAnswer, CapturedClient
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import Finding
from kmsdiag.model.request import Captures
from kmsdiag.model.target import Subject

_REFUSED = "0xC004F06C"
_RESYNC = Fix(Where.CLIENT, "set the client's clock, and see what it follows", "w32tm /resync; w32tm /query /status")
_COMPARE = Fix(
    Where.CLIENT, "compare the clocks of client and host", "w32tm /stripchart /computer:{address} /samples:3 /dataonly"
)

META = CheckMeta(
    title="Clocks in the captures",
    codes={
        "within": Code(Severity.OK, "The clocks of {clients} are within five minutes of the capture's (version 4)."),
        "apart": Code(
            Severity.WARNING,
            "The clocks of {clients} are more than five minutes from the capture's ({worst} at most).",
            "Activation tolerates four hours; Kerberos by default does not tolerate this.",
            (_RESYNC,),
        ),
        "beyond": Code(
            Severity.ERROR,
            "The clocks of {clients} are more than four hours from the capture's ({worst} at most).",
            "A host with the right time answers them with 0xC004F06C, and they show 0xC004F074.",
            (_RESYNC,),
        ),
        "capture_off": Code(
            Severity.WARNING,
            "All {count} clients whose time is visible are {middle} from the capture's clock, and near each other.",
            "It is likelier that the machine that recorded has the wrong time than that all of them have.",
        ),
        "refused": Code(
            Severity.ERROR,
            "{host} refused {clients} for their time (0xC004F06C){skew}.",
            "Client and host are more than four hours apart in UTC, or an old host meets a newer client.",
            (_COMPARE, _RESYNC),
        ),
        "invisible": Code(
            Severity.NOT_ASSESSED,
            "Requests of versions 5 and 6 hide the client's time: of {clients} it is known only that no host refused"
            " it.",
        ),
        "nothing": Code(Severity.NOT_ASSESSED, "The captures hold no activation request whose answer could be read."),
    },
    tags=frozenset({"capture", "clock", "path"}),
    since="0.1",
    references=("Microsoft: Error 0xC004F074 when you activate Windows (KB 974998)",),
)

subjects = captures
ask = captured.ask


def judge(_subject: Subject, seen: Evidence) -> Iterator[Finding]:
    """Refusals by host, then what version 4 shows of each client's clock."""
    request = captured.request(seen.target)
    answer = seen[request]
    because = (request,)
    yield from _refusals(answer, because)
    known = [(client, client.skew_s) for client in answer.clients if client.skew_s is not None]
    yield from _skews(known, because)
    hidden = [client.address for client in answer.clients if client.skew_s is None and _is_answered(client)]
    if hidden:
        yield say("invisible", because, clients=captured.who(hidden))
    elif not known and not any(_REFUSED in host.hresults for host in answer.hosts):
        yield say("nothing", because)


def _is_answered(client: CapturedClient) -> bool:
    return any(code != _REFUSED for use in client.uses for code in use.hresults)


def _refusals(answer: CaptureAnswer, because: tuple[Captures]) -> Iterator[Finding]:
    people = captured.people_of(answer)
    for host in answer.hosts:
        hit = [contact.client for contact in people.at(host) if _REFUSED in contact.use.hresults]
        if not hit:
            continue
        skews = [client.skew_s for client in hit if client.skew_s is not None]
        words = f"; their clocks are up to {in_words(max(skews, key=abs))} from the capture's" if skews else ""
        clients = captured.who([client.address for client in hit])
        yield say("refused", because, host=captured.called(host), address=host.address, clients=clients, skew=words)


def _skews(known: Sequence[tuple[CapturedClient, float]], because: tuple[Captures]) -> Iterator[Finding]:
    ranked = sorted(skew for _client, skew in known)
    if len(ranked) > 2 and abs(ranked[0]) > CLOCK_WARNING and ranked[-1] - ranked[0] <= CLOCK_WARNING:
        yield say("capture_off", because, count=len(ranked), middle=in_words(ranked[(len(ranked) - 1) // 2]))
        return
    for code, least, most in (
        ("beyond", CLOCK_TOLERANCE, float("inf")),
        ("apart", CLOCK_WARNING, CLOCK_TOLERANCE),
        ("within", -1, CLOCK_WARNING),
    ):
        own = [(client, skew) for client, skew in known if least < abs(skew) <= most]
        if own:
            args = {"clients": captured.who([client.address for client, _skew in own])}
            if code != "within":
                args["worst"] = in_words(max((skew for _client, skew in own), key=abs))
            yield say(code, because, **args)
