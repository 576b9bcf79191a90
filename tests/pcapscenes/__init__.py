"""The scenes of ``fixtures/pcap``: what was captured, as bytes, and what must be said about it, by hand.

    python -m tests.pcapscenes          # writes fixtures/pcap anew

An expectation holds the fields that a scene is about; :func:`differences` compares them with what was found. Frames are
``[file, number]`` as everywhere, and ``conversations`` are all that there are, in order.
"""

import functools
import importlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tests.pcapfiles import frames, pcap
from tests.pcapgen import CLIENT, HOST, Packet, Talk, datagram

FOLDER: Final = Path(__file__).parents[2] / "fixtures/pcap"

Expectation = dict[str, Any]


class Scene(NamedTuple):
    """What was captured, and what is to be said. ``answer`` are fields of the CaptureAnswer."""

    about: str
    files: dict[str, bytes]
    conversations: list[Expectation]
    answer: Expectation


SCENES: Final[dict[str, Callable[[], Scene]]] = {}


def scene(make: Callable[[], Scene]) -> Callable[[], Scene]:
    """Register a scene under the function's name."""
    SCENES[make.__name__.replace("_", "-")] = make
    return make


def also(name: str, make: Callable[..., Scene], *arguments: Any) -> None:
    """Register one of a family of scenes."""
    if name in SCENES:
        raise ValueError(name)
    SCENES[name] = functools.partial(make, *arguments)


# expectations


def differences(expected: Any, found: Any, place: str = "") -> list[str]:
    """How a value differs from what is expected of it: of a struct the fields that are named, of all else everything.

    ``{"matches": …}`` wants a text to hold that regular expression, ``{"about": [x, d]}`` a number within d of x.
    """
    if isinstance(expected, Mapping):
        if set(expected) == {"matches"}:
            return [] if re.search(expected["matches"], str(found)) else [f"{place}: {found!r} has no {expected}"]
        if set(expected) == {"about"}:
            value, within = expected["about"]
            near = isinstance(found, int | float) and abs(found - value) <= within
            return [] if near else [f"{place}: {found!r} is not {value} ± {within}"]
        if isinstance(found, Mapping):
            return [] if dict(found) == dict(expected) else [f"{place}: {dict(found)} instead of {dict(expected)}"]
        return [line for key in expected for line in differences(expected[key], getattr(found, key), f"{place}.{key}")]
    if isinstance(expected, list | tuple):
        values = list(msgspec.structs.astuple(found)) if isinstance(found, msgspec.Struct) else list(found or ())
        if len(values) != len(expected):
            return [f"{place}: {len(values)} instead of {len(expected)}: {values}"]
        pairs = zip(expected, values, strict=True)
        return [line for at, (one, two) in enumerate(pairs) for line in differences(one, two, f"{place}[{at}]")]
    return [] if expected == found else [f"{place}: {found!r} instead of {expected!r}"]


def saw(outcome: str, *exchanges: Expectation, **more: Any) -> Expectation:
    """A conversation between CLIENT and HOST that lacks nothing and repeats nothing, unless said otherwise."""
    usual = {"client": CLIENT, "host": HOST, "host_port": 1688, "found_by": "not_known", "syns": 1}
    return {**usual, "outcome": outcome, "retransmissions": 0, "lacks": [], **more, "exchanges": list(exchanges)}


def got(outcome: str = "activated", version: str = "6.0", hresult: str = "0x00000000", **more: Any) -> Expectation:
    """An exchange with an answer."""
    return {"outcome": outcome, "version": version, "hresult": hresult, **more}


def refused(hresult: str, version: str = "6.0", **more: Any) -> Expectation:
    """An exchange that the host refused."""
    return got("host_refused", version, hresult, **more)


def lost(outcome: str, version: str = "6.0", **more: Any) -> Expectation:
    """An exchange without an answer."""
    return {"outcome": outcome, "version": version, "hresult": "", **more}


def of(packets: Iterable[Packet], *conversations: Expectation, about: str, **answer: Any) -> Scene:
    """A scene of one plain pcap file."""
    captured = frames(packets)
    return Scene(
        about, {"pcap": pcap(captured)}, list(conversations), {"files": [{"packets": len(captured)}], **answer}
    )


def told(talk: Talk, expected: Expectation, *, about: str, later: float = 0, **answer: Any) -> Scene:
    """A scene of one connection alone, all of whose frames count; the capture runs on for ``later`` seconds."""
    packets = talk.packets()
    numbers = {"first": [0, 1], "last": [0, len(packets)], "frames": len(packets)}
    if later:
        packets.append(datagram(talk.now / 1e6 + later, CLIENT, 5004, HOST, 5004, b"later"))
    return of(packets, {**numbers, **expected}, about=about, **answer)


def scenes() -> dict[str, Callable[[], Scene]]:
    """All scenes, by name."""
    for module in ("success", "connect", "bind", "request", "rpc", "tcp", "links", "formats", "names", "runs"):
        importlib.import_module(f"tests.pcapscenes.{module}")
    return dict(sorted(SCENES.items()))


def paths(name: str, made: Scene) -> dict[str, bytes]:
    """The files of a scene by their names in the folder: a scene of several files has a folder of its own."""
    if len(made.files) == 1:
        ((ending, data),) = made.files.items()
        return {f"{name}.{ending}": data}
    return {f"{name}/{file}": data for file, data in made.files.items()}


def readme(scenes: Expectation) -> str:
    """The same for readers."""
    lines = [
        "# Captures",
        "",
        "Made up by `python -m tests.pcapscenes`: no packet of these was ever on a network, no address or name is",
        "anybody's, and bodies of KMS versions 5 and 6 are random. `scenes.json` says what must be found.",
        "",
        "| scene | what was captured |",
        "| --- | --- |",
    ]
    lines += [f"| `{name}` | {scenes[name]['about']} |" for name in scenes]
    return "\n".join(lines) + "\n"


def contents() -> dict[str, bytes]:
    """All files of the folder."""
    made = {name: make() for name, make in scenes().items()}
    described = {name: described_as(name, one) for name, one in made.items()}
    out = {file: data for name, one in made.items() for file, data in paths(name, one).items()}
    out["scenes.json"] = json.dumps(described, indent=1).encode() + b"\n"
    out["README.md"] = readme(described).encode()
    return out


def described_as(name: str, made: Scene) -> Expectation:
    """What a scene is about, its files, and what is to be said."""
    return {
        "about": made.about,
        "files": sorted(paths(name, made)),
        "conversations": made.conversations,
        "answer": made.answer,
    }


def write(folder: Path = FOLDER) -> None:
    """Write the folder anew."""
    for file, data in contents().items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
