"""``kmsdiag capture``: record live what passes this machine, then analyse it."""

import contextlib
import datetime
import ipaddress
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    HELP,
    ChecksDirOption,
    Color,
    ColorOption,
    ExpectHostOption,
    FailLevel,
    FailOnOption,
    FormatOption,
    InterfaceOption,
    OnlyOption,
    OutputAllOption,
    OutputOption,
    RecordOption,
    SkipOption,
    VerboseOption,
    WriteOption,
)

if TYPE_CHECKING:
    from kmsdiag.capture.arrival import FirstResponse, Network
    from kmsdiag.probes.capture import Recorded, Recorder, Ring, Seen

app = typer.Typer(
    help="Record live what passes this machine, then analyse it.", rich_markup_mode=None, invoke_without_command=True
)

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


@app.command("list", context_settings=HELP)
def list_interfaces() -> int:
    """List the interfaces of this machine; those that are recorded where -i names none are marked."""
    from tabulate import tabulate

    from kmsdiag.probes.capture import interfaces, usual
    from kmsdiag.report.words import visible

    nics = interfaces()
    chosen = set(usual(nics))
    rows = [
        ("*" if nic.name in chosen else "", visible(nic.name), "up" if nic.up else "down", ", ".join(nic.addresses))
        for nic in nics
    ]
    typer.echo(tabulate(rows, headers=("", "interface", "state", "addresses"), disable_numparse=True))
    return 0


@app.callback()
def command(
    context: typer.Context,
    interface: InterfaceOption = [],  # noqa: B006  # typer copies it
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="N", min=0.1, help="Record for so long; by default until Ctrl-C."),
    ] = None,
    until_activation: Annotated[
        bool,
        typer.Option(
            "--until-activation",
            help="Stop at the first answer of a KMS host to an activation request, whatever it says. Provokes none:"
            " type 'slmgr /ato' on a client.",
        ),
    ] = False,
    client: Annotated[
        list[str],
        typer.Option("--client", metavar="ADDR", help="Only this client, or network of clients; repeatable."),
    ] = [],  # noqa: B006
    port: Annotated[
        list[int],
        typer.Option("--port", metavar="N", min=1, max=65_535, help="KMS is on this port as well; repeatable."),
    ] = [],  # noqa: B006
    write: WriteOption = None,
    ring: Annotated[
        str,
        typer.Option(
            "--ring", metavar="COUNTxSIZE", help="Keep the newest COUNT files of at most SIZE, such as 10x100M."
        ),
    ] = "",
    print_filter: Annotated[
        bool, typer.Option("--print-filter", help="Print the capture filter and what else can record, then end.")
    ] = False,
    expect_host: ExpectHostOption = [],  # noqa: B006
    only: OnlyOption = [],  # noqa: B006
    skip: SkipOption = [],  # noqa: B006
    checks_dir: ChecksDirOption = None,
    record: RecordOption = None,
    format: FormatOption = None,  # noqa: A002
    output: OutputOption = None,
    output_all: OutputAllOption = None,
    fail_on: FailOnOption = FailLevel.ERROR,
    color: ColorOption = Color.AUTO,
    verbose: VerboseOption = 0,
) -> int | None:
    """Record DNS and KMS packets of this machine, then say what they show. Sends nothing.

    The recording is a pcapng file and is kept. Ctrl-C ends it and the analysis follows. Needs the right to record
    (Linux: root or CAP_NET_RAW); without it, kmsdiag says what to run instead.
    """
    if context.invoked_subcommand is not None:
        return None
    if print_filter:
        typer.echo("\n".join(_instead(port)))
        return 0
    from kmsdiag.cli.bundles import as_bundle, files_vantage, from_captures
    from kmsdiag.cli.captured import complain_about, expected_hosts, read_captures
    from kmsdiag.cli.config import policy
    from kmsdiag.cli.live import finish, load_all, select
    from kmsdiag.cli.output import OutputPlan, require_writable
    from kmsdiag.model.target import Expected, Selection, Target
    from kmsdiag.sources.files import gather

    plan = OutputPlan(form=format, output=output, prefix=output_all, color=color, verbosity=verbose, fail_on=fail_on)
    if record is not None:
        require_writable(record)
    everything = load_all(checks_dir)
    rules = policy(everything)
    registry = select(everything, only, skip)
    watch = _first_response(client) if until_activation else None
    expected = Expected(hosts=expected_hosts(expect_host))
    networks = _networks(client)
    with recording(interface, write, ports=port, ring=_ring(ring), on_packet=_feed(watch)) as recorder:
        _wait(recorder, seconds, watch)
        done = recorder.stop()
    say_what_was_recorded(done, recorder.problem)
    if watch is not None and watch.found is not None:
        found = watch.found
        print(f"kmsdiag: {found.host} answered {found.client}: {found.outcome.words}", file=sys.stderr)
    selection = Selection(clients=tuple(map(str, networks)))
    analysis = read_captures(gather([str(file) for file in done.files]).sources, selection, jobs=1)
    complain_about(analysis.unusable)
    target = Target(selection=selection, expected=expected)
    bundle = as_bundle([from_captures(analysis, selection)], target, registry, files_vantage(live=True))
    return finish(bundle, registry, rules, plan, fail_on, record)


@contextlib.contextmanager
def recording(
    names: Sequence[str],
    path: Path | None,
    *,
    ports: Sequence[int] = (),
    ring: "Ring | None" = None,
    on_packet: "Callable[[Seen], None] | None" = None,
) -> "Iterator[Recorder]":
    """A recording while the block runs.

    Raises:
        UsageProblem: nothing can be recorded; for lack of privilege, what to run instead is on stderr by then.
    """
    from kmsdiag.cli.output import require_writable
    from kmsdiag.knowledge.capture_filters import WIDE, with_port
    from kmsdiag.probes.capture import CaptureProblem, NotPermitted, Recorder, interfaces, usual

    if path is None:
        path = Path(datetime.datetime.now(datetime.UTC).strftime("kmsdiag-%Y%m%dT%H%M%SZ.pcapng"))
    require_writable(path)
    known = interfaces()
    chosen = list(dict.fromkeys(names)) or usual(known)
    unknown = sorted(set(chosen) - {nic.name for nic in known})
    if unknown:
        raise UsageProblem(f"there is no interface {unknown[0]!r}: see 'kmsdiag capture list'")
    if not chosen:
        raise UsageProblem("no interface is up: see 'kmsdiag capture list'")
    expression = WIDE
    for port in ports:
        expression = with_port(expression, port)
    try:
        with Recorder(chosen, path, expression=expression, ring=ring, on_packet=on_packet) as recorder:
            print(f"kmsdiag: recording on {', '.join(chosen)}", file=sys.stderr)
            yield recorder
    except NotPermitted as problem:
        print("\n".join(_instead(ports)), file=sys.stderr)
        raise UsageProblem(f"{problem}: run one of the above, then 'kmsdiag analyze FILE', or run me as root") from None
    except CaptureProblem as problem:
        raise UsageProblem(str(problem)) from None


def _instead(ports: Sequence[int]) -> list[str]:
    """What records the same without kmsdiag, ready to paste."""
    from kmsdiag.knowledge.capture_filters import TCPDUMP, WIDE, WINDOWS, WIRESHARK, with_port

    texts = [TCPDUMP, WINDOWS, WIRESHARK, WIDE]
    for port in ports:
        texts = [with_port(text, port).replace("-p 1688;", f"-p 1688; pktmon filter add -p {port};") for text in texts]
    return [
        f"Linux, macOS:  {texts[0]}",
        f"Windows:       {texts[1]}",
        f"Wireshark:     capture filter  {texts[2]}",
        f"all of it (tags, tunnels, fragments):  {texts[3]}",
    ]


def _ring(text: str) -> "Ring | None":
    """``COUNTxSIZE`` as a ring.

    Raises:
        UsageProblem: not that.
    """
    from kmsdiag.probes.capture import Ring

    if not text:
        return None
    count, _cross, size = text.lower().replace("×", "x").partition("x")
    number, unit = (size[:-1], size[-1]) if size[-1:] in ("k", "m", "g") else (size, "")
    if not (count.isdecimal() and number.isdecimal()) or int(count) < 1 or int(number) * _UNITS[unit] < 10_000:
        raise UsageProblem(f"--ring {text!r} is no ring: give COUNTxSIZE, such as 10x100M (at least 10 kB a file)")
    return Ring(int(count), int(number) * _UNITS[unit])


def _networks(clients: Sequence[str]) -> "list[Network]":
    try:
        return [ipaddress.ip_network(text, strict=False) for text in clients]
    except ValueError as error:
        raise UsageProblem(f"--client: {error}: give an address, or a network such as 10.1.0.0/16") from None


def _first_response(clients: Sequence[str]) -> "FirstResponse":
    from kmsdiag.capture.arrival import FirstResponse

    return FirstResponse(_networks(clients))


def _feed(watch: "FirstResponse | None") -> "Callable[[Seen], None] | None":
    if watch is None:
        return None

    def feed(seen: "Seen") -> None:
        watch.feed(*seen)

    return feed


def _wait(recorder: "Recorder", seconds: float | None, watch: "FirstResponse | None") -> None:
    """Wait for the end: time, a first response, Ctrl-C, or a recorder that stopped by itself."""
    ends = threading.Event()
    before = {number: signal.signal(number, lambda *_: ends.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    started = time.monotonic()
    try:
        with _counter() as show:
            while not ends.wait(0.1):
                passed = time.monotonic() - started
                show(recorder.packets, recorder.dropped(), passed)
                done = seconds is not None and passed >= seconds
                if done or not recorder.running or (watch is not None and watch.found is not None):
                    return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _counter() -> Iterator[Callable[[int, int, float], None]]:
    """A line on stderr that counts packets, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _packets, _dropped, _passed: None
        return
    from rich.console import Console

    with Console(stderr=True).status("recording …") as status:

        def show(packets: int, dropped: int, passed: float) -> None:
            lost = f", {dropped:,} dropped" if dropped else ""
            status.update(f"recording … {packets:,} packets in {passed:.0f} s{lost}; Ctrl-C ends it")

        yield show


def say_what_was_recorded(done: "Recorded", problem: str) -> None:
    """Where the packets are, how many, and what was lost, on stderr."""
    lost = "" if done.dropped is None else f", {done.dropped:,} dropped by the system"
    count = len(done.files)
    where = str(done.files[0]) if count == 1 else f"{done.files[0]} … {done.files[-1]} ({count} files)"
    print(f"kmsdiag: {done.packets:,} packets recorded in {where}{lost}", file=sys.stderr)
    if problem:
        print(f"kmsdiag: the recording ended early: {problem}", file=sys.stderr)
