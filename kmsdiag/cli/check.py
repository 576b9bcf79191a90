"""``kmsdiag check``: the live diagnosis."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    ChecksDirOption,
    Color,
    ColorOption,
    ConcurrencyOption,
    ExpectHostOption,
    FailLevel,
    FailOnOption,
    FormatOption,
    InterfaceOption,
    IPv4Option,
    IPv6Option,
    NoClockOption,
    NoTraceOption,
    OnlyOption,
    OutputAllOption,
    OutputOption,
    RecordOption,
    ServerOption,
    SkipOption,
    SourceOption,
    TimeoutOption,
    TriesOption,
    VantageOption,
    VerboseOption,
    WriteOption,
)

if TYPE_CHECKING:
    from kmsdiag.bundle import Bundle
    from kmsdiag.engine import Budget
    from kmsdiag.model.target import HostSpec, Target
    from kmsdiag.policy import Policy
    from kmsdiag.probes.settings import ProbeSettings
    from kmsdiag.registry import Registry


_ONE_RUN = 60.0
_WATCHING = 3600.0
"""Seconds until the deadline, where none is given."""


def command(
    domains: Annotated[
        list[str] | None,
        typer.Argument(metavar="DOMAIN", help="DNS suffixes of clients; none: this machine's own.", show_default=False),
    ] = None,
    domains_from: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Read domains from FILE, one a line; - is stdin.")
    ] = None,
    host: Annotated[
        list[str],
        typer.Option(
            "--host", metavar="H[:P]", help="Probe this host without DNS discovery, as slmgr /skms would; repeatable."
        ),
    ] = [],  # noqa: B006  # typer copies it
    server: ServerOption = ["system"],  # noqa: B006
    expect_host: ExpectHostOption = [],  # noqa: B006
    machines: Annotated[
        int | None,
        typer.Option(
            "--machines", metavar="N", min=1, help="How many Windows clients shall activate: are 25 met on each host?"
        ),
    ] = None,
    ipv4: IPv4Option = False,
    ipv6: IPv6Option = False,
    source: SourceOption = "",
    tries: TriesOption = 1,
    timeout: TimeoutOption = 3.5,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            metavar="SECONDS",
            min=0.1,
            max=86_400,
            envvar="KMSDIAG_DEADLINE",
            help="Seconds for the whole run; by default 60, and 3600 with --until-healthy.",
            show_default=False,
        ),
    ] = None,
    concurrency: ConcurrencyOption = 500,
    suffix: Annotated[
        list[str],
        typer.Option("--suffix", metavar="SUFFIX", help="A DNS suffix that clients search besides; repeatable."),
    ] = [],  # noqa: B006
    this_machine: Annotated[
        bool,
        typer.Option(
            "--this-machine",
            help="Judge this machine's own settings as well: suffixes, hosts file, overrides (always without DOMAIN).",
        ),
    ] = False,
    no_clock: NoClockOption = False,
    no_trace: NoTraceOption = False,
    until_healthy: Annotated[
        bool,
        typer.Option(
            "--until-healthy",
            help="Ask again until the verdict is healthy; changes go to stderr, the last report stays.",
        ),
    ] = False,
    every: Annotated[
        str,
        typer.Option(
            "--every", metavar="SECONDS", help="Pause between runs with --until-healthy, such as 30, 30s or 5m."
        ),
    ] = "30s",
    vantage: VantageOption = "",
    capture: Annotated[
        bool,
        typer.Option(
            "--capture",
            help="Record this machine's DNS and KMS packets meanwhile, and judge them as well (needs root).",
        ),
    ] = False,
    interface: InterfaceOption = [],  # noqa: B006
    write: WriteOption = None,
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
) -> int:
    """Say live, from here, where activation breaks for the clients of a domain.

    Follows SRV record, target, address, TCP and RPC bind to every published host, and gives one verdict with cause,
    consequence and fix. Sends DNS queries, TCP connections and RPC binds; no activation request.
    """
    import msgspec

    from kmsdiag.cli.config import policy
    from kmsdiag.cli.live import finish, load_all, record_live, select, source_address
    from kmsdiag.cli.output import OutputPlan, require_writable
    from kmsdiag.engine import Budget
    from kmsdiag.probes.settings import ProbeSettings, connection_limit

    plan = OutputPlan(form=format, output=output, prefix=output_all, color=color, verbosity=verbose, fail_on=fail_on)
    if record is not None:
        require_writable(record)
    if (interface or write is not None) and not capture:
        raise UsageProblem("-i and -w are for --capture: give that as well")
    if capture and until_healthy:
        raise UsageProblem("--capture and --until-healthy exclude each other: give one of them")
    pause = _seconds(every)
    names = [*(domains or []), *_read_domains(domains_from)]
    target = msgspec.structs.replace(
        _target(names, host, server, expect_host, machines, tries, ipv4=ipv4, ipv6=ipv6),
        suffixes=_suffixes(suffix),
        machine=this_machine or not (names or host),
        clock=not no_clock,
        trace=not no_trace,
    )
    everything = load_all(checks_dir)
    rules = policy(everything)
    registry = select(everything, only, skip)
    settings = ProbeSettings(
        timeout=timeout,
        source=source_address(source),
        foresee_traces=target.trace and any("trace" in check.module.META.tags for check in registry.checks),
        foresee_binds=any("tcp" in check.module.META.tags for check in registry.checks),
    )
    budget = Budget(
        seconds=deadline or (_WATCHING if until_healthy else _ONE_RUN), concurrency=connection_limit(concurrency)
    )
    if until_healthy:
        bundle = _watch(target, registry, rules, settings, budget, vantage, pause)
    elif capture:
        bundle = _recorded(
            lambda: record_live(target, registry, settings, budget, vantage), registry, interface, write, target.hosts
        )
    else:
        bundle = record_live(target, registry, settings, budget, vantage)
    return finish(bundle, registry, rules, plan, fail_on, record)


def _recorded(
    run: "Callable[[], Bundle]",
    registry: "Registry",
    interfaces: list[str],
    write: Path | None,
    hosts: "Sequence[HostSpec]",
) -> "Bundle":
    """Record packets while the run lasts, and add what they show to its evidence. Without -w nothing is kept."""
    import tempfile

    from kmsdiag.cli.bundles import as_bundle, from_captures
    from kmsdiag.cli.capture import recording, say_what_was_recorded
    from kmsdiag.cli.captured import complain_about, read_captures
    from kmsdiag.model.target import KMS_PORT
    from kmsdiag.sources.files import gather

    ports = sorted({host.port for host in hosts} - {KMS_PORT})
    with tempfile.TemporaryDirectory() as folder:
        path = write or Path(folder) / "check.pcapng"
        with recording(interfaces, path, ports=ports) as recorder:
            bundle = run()
            done = recorder.stop()
        if write is not None or recorder.problem:
            say_what_was_recorded(done, recorder.problem)
        analysis = read_captures(gather([str(path)]).sources, bundle.target.selection, jobs=1)
    complain_about(analysis.unusable)
    addition = from_captures(analysis, bundle.target.selection)
    return as_bundle([addition], bundle.target, registry, bundle.vantage, base=bundle)


def _watch(
    target: "Target",
    registry: "Registry",
    rules: "Policy",
    settings: "ProbeSettings",
    budget: "Budget",
    label: str,
    pause: float,
) -> "Bundle":
    import msgspec

    from kmsdiag import diagnosis
    from kmsdiag.cli.live import record_live
    from kmsdiag.cli.watch import until_healthy

    return until_healthy(
        lambda seconds: record_live(
            target, registry, settings, msgspec.structs.replace(budget, seconds=seconds), label
        ),
        lambda bundle: diagnosis.judge(bundle, registry, rules),
        every=pause,
        deadline=budget.seconds,
    )


def _seconds(text: str) -> float:
    """A time such as 30, 30s or 5m, in seconds.

    Raises:
        UsageProblem: none of these, or nothing to wait.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise UsageProblem(f"--every {text!r} is no time: give seconds, or a number with s, m or h, such as 30s")
    return seconds


def _suffixes(texts: list[str]) -> tuple[str, ...]:
    from kmsdiag.model.target import TargetError, parse_domain

    try:
        return tuple(dict.fromkeys(parse_domain(text) for text in texts))
    except TargetError as error:
        raise UsageProblem(f"--suffix: {error}") from None


def _read_domains(name: str | None) -> list[str]:
    import sys

    if name is None:
        return []
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"{name} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageProblem(f"{name} is no text file: give domains, one a line") from None
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise UsageProblem(f"{'stdin' if name == '-' else name} holds no domain: give one a line")
    return found


def _target(
    domains: list[str],
    hosts: list[str],
    servers: list[str],
    expected: list[str],
    machines: int | None,
    tries: int,
    *,
    ipv4: bool,
    ipv6: bool,
) -> "Target":
    import secrets

    from kmsdiag.cli.live import families
    from kmsdiag.model.target import (
        Expected,
        Target,
        TargetError,
        expected_host,
        parse_domain,
        parse_host,
        parse_server,
    )
    from kmsdiag.probes.settings import system_dns

    try:
        names = tuple(dict.fromkeys(parse_domain(name) for name in domains))
        specs = tuple(dict.fromkeys(parse_host(text) for text in hosts))
        system = system_dns()
        if not names and not specs:
            # Without any suffix the run is still about something: a client without one shows 0x8007007B.
            names = system.suffixes
        return Target(
            domains=names,
            hosts=specs,
            servers=tuple(dict.fromkeys(parse_server(text) for text in servers)),
            families=families(ipv4=ipv4, ipv6=ipv6),
            tries=tries,
            expected=Expected(hosts=tuple(expected_host(text) for text in expected), machines=machines),
            nonce=secrets.token_hex(8),
            resolvers=system.servers,
        )
    except TargetError as error:
        raise UsageProblem(str(error)) from None
