"""What is wrong where clients say that they are not activated: the cause that each end stands for, and its words."""

from collections.abc import Container, Iterator, Sequence
from typing import Final

import msgspec

from kmsdiag.client_ends import ClientEnd
from kmsdiag.fault import NOWHERE, Fault
from kmsdiag.knowledge import codes
from kmsdiag.knowledge.codes import REFUSALS, Layer
from kmsdiag.model.correlation import Fate
from kmsdiag.model.finding import Scalar
from kmsdiag.model.fix import Fix
from kmsdiag.model.outcome import Stage, State
from kmsdiag.model.path import Basis, ClientCode
from kmsdiag.model.target import KMS_PORT


def client_faults(key: tuple[str, str, int], ends: Sequence[ClientEnd], told: Container[str]) -> Iterator[Fault]:
    """One fault for each way in which clients of a path ended badly, but for what a host's own account has ``told``."""
    groups: dict[tuple[str, str, str], list[ClientEnd]] = {}
    for end in ends:
        if end.state is State.FAIL:
            code = _cause_of(end)
            if code in told:
                continue
            groups.setdefault((code, end.code, _kept_apart(code, end)), []).append(end)
    for (code, hresult, _apart), own in sorted(groups.items()):
        yield _fault(key, code, hresult, own)


def _kept_apart(code: str, end: ClientEnd) -> str:
    if code == "client.not_activated":
        return end.status
    return f"{end.channel} {end.status}" if code == "client.other_channel" else ""


def _cause_of(end: ClientEnd) -> str:
    """The cause that a client's end stands for."""
    match end.outcome:
        case "other_channel":
            return "client.other_channel"
        case "no_attempt":
            return "client.not_activated"
        case "port_closed":
            return "tcp.tool_says"
        case "no_name":
            return "srv.tool_says"
        case Fate.LOST_THERE if (known := codes.find(end.code)) is not None and known.layer is Layer.PATH:
            return "tcp.client_says"
        case Fate.LOST_THERE | Fate.LOST_BACK:
            return f"request.{end.outcome}"
        case Fate.NOT_REACHED if not end.code:
            return "request.not_answered"
        case Fate.NOT_ACTIVATED if not end.code:
            return "answer.not_accepted"
        case Fate.COUNT_TOO_LOW:
            return "answer.below_threshold"
    known = codes.find(end.code)
    layer = known.layer if known is not None else Layer.PATH if end.code else Layer.UMBRELLA
    if layer is Layer.HOST and end.code in REFUSALS:
        return f"answer.{REFUSALS[end.code].name}"
    if end.code == _NO_ADDRESS:
        return "name.client_says"
    return _BY_LAYER[layer]


_NO_ADDRESS: Final = "0x80072AF9"
_BY_LAYER: Final = {
    Layer.NAME: "srv.client_says",
    Layer.DNS: "srv.client_says",
    Layer.PATH: "tcp.client_says",
    Layer.UMBRELLA: "client.contacted_none",
    Layer.HOST: "answer.refused",
    Layer.COUNT: "answer.below_threshold",
    Layer.CLIENT_KEY: "client.key",
    Layer.HOST_KEY: "client.key",
    Layer.PUBLISHING: "srv.client_says",
    Layer.NOT_KMS: "client.key",
    Layer.INFORMATION: "client.not_activated",
}


def _fault(key: tuple[str, str, int], code: str, hresult: str, ends: Sequence[ClientEnd]) -> Fault:
    domain, target, port = key
    first = ends[0]
    known = codes.find(hresult)
    stage = Stage(code.partition(".")[0])
    args: dict[str, Scalar] = {
        "target": "the host" if target == NOWHERE else target,
        "address": "the host" if target == NOWHERE else target,
        "port": port or KMS_PORT,
        "code": hresult or "no code",
        "hresult": hresult or "no code",
        "decoded": codes.decode(hresult) or "not decoded",
        "meaning": codes.meaning(hresult) if hresult else first.words,
        "where": f"says {first.where}",
        "cause": _sentence(known.causes) if known is not None else "",
        "status": first.status,
        "channel": first.channel,
        "kind": first.kind,
        "product": first.product or "The product",
        "tool": first.tool,
    }
    if domain != NOWHERE:
        args.update(zone=domain, name=f"_vlmcs._tcp.{domain}")
    count, required = (None, None) if first.row is None else (first.row.count, first.row.required)
    args["count"] = "an unknown number" if count is None else count
    args["required"] = "25 (5 for servers and Office)" if required is None else required
    clients = tuple(dict.fromkeys(end.client for end in ends))
    # What the host logged, the client shows by what is documented.
    shown = ClientCode(hresult, Basis.OBSERVED) if hresult and first.where != "event 12290" else None
    on_screen = code.startswith("client.") or first.where == "the tool's output"
    fixes: tuple[Fix, ...] = ()
    if known is not None and not code.startswith("request."):
        fixes = tuple(_aimed(one, target) for one in known.fixes)
    if code.startswith("answer.") and hresult in REFUSALS:
        # A host that is not known can't stand in a command.
        fixes = tuple(one for one in REFUSALS[hresult].fixes if target != NOWHERE or "{target}" not in one.command)
    return Fault(
        code,
        stage,
        f"{target} {hresult} {_kept_apart(code, first)}".strip(),
        args,
        key,
        domain,
        clients=clients,
        attempts=sum(1 if end.row is None else end.row.attempts for end in ends),
        reported=True,
        screen=shown if on_screen else None,
        event=None if on_screen else shown,
        fixes=fixes,
    )


def _aimed(fix: Fix, target: str) -> Fix:
    """A command for any host as one for this host, where it is known."""
    if target == NOWHERE:
        return fix
    command = fix.command.replace("<kms-host> -Port 1688", "{target} -Port {port}").replace("<kms-host>", "{target}")
    return msgspec.structs.replace(fix, command=command)


def _sentence(causes: Sequence[str]) -> str:
    """The likeliest causes as a sentence."""
    return f"Likely: {'; or '.join(causes[:2])}." if causes else ""
