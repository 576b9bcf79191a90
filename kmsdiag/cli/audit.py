"""``kmsdiag audit``: reality against the expected state, before a roll-out and whenever something changes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    ChecksDirOption,
    Color,
    ColorOption,
    ConcurrencyOption,
    DeadlineOption,
    FailLevel,
    FailOnOption,
    FormatOption,
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
)

if TYPE_CHECKING:
    from kmsdiag.bundle import Bundle
    from kmsdiag.expected import ExpectedState
    from kmsdiag.model.proposal import Proposal
    from kmsdiag.model.report import Report
    from kmsdiag.model.target import Target
    from kmsdiag.policy import Policy
    from kmsdiag.registry import Registry

MAX_BYTES = 16 * 1024 * 1024
"""Size of an expected state or a zone file at most."""


def command(
    expected: Annotated[
        str, typer.Argument(metavar="EXPECTED", help="The expected state, a TOML file; - is stdin.", show_default=False)
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="REPORT", help="With --from: more reports of other places.", show_default=False),
    ] = None,
    reports: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="REPORT",
            help="A report (or bundle) from another place: decides requirements about networks there; repeatable.",
        ),
    ] = [],  # noqa: B006  # typer copies it
    what_if: Annotated[
        str | None,
        typer.Option(
            "--what-if", metavar="ZONE", help="Judge these records, a zone file, as if they were there; - is stdin."
        ),
    ] = None,
    print_changes: Annotated[
        bool,
        typer.Option(
            "--print-changes", help="Give the commands that would bring the expected state, and their way back."
        ),
    ] = False,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Only say whether EXPECTED is sound; ask no network.")
    ] = False,
    server: ServerOption = [],  # noqa: B006
    ipv4: IPv4Option = False,
    ipv6: IPv6Option = False,
    source: SourceOption = "",
    tries: TriesOption = 1,
    timeout: TimeoutOption = 3.5,
    deadline: DeadlineOption = 60.0,
    concurrency: ConcurrencyOption = 500,
    no_clock: NoClockOption = False,
    no_trace: NoTraceOption = False,
    vantage: VantageOption = "",
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
    """Hold the network against an expected state: each requirement is met, failed, or not known from here.

    Asks the DNS servers of the file unless --server names others. A failed requirement counts as an error; one that
    is not known makes the exit code 3. Changes nothing, prompts for nothing.
    """
    from kmsdiag.cli.config import policy
    from kmsdiag.cli.live import finish, load_all, record_live, select, source_address
    from kmsdiag.cli.output import OutputPlan, require_writable
    from kmsdiag.engine import Budget
    from kmsdiag.probes.settings import ProbeSettings, connection_limit

    plan = OutputPlan(form=format, output=output, prefix=output_all, color=color, verbosity=verbose, fail_on=fail_on)
    if record is not None:
        require_writable(record)
    if more and not reports:
        raise UsageProblem(f"{more[0]!r} is one argument too many: reports of other places come after --from")
    _require_one_stdin(expected, what_if or "", *reports, *(more or ()))
    state = read_expected(expected)
    everything = load_all(checks_dir)
    rules = _policy(state, policy(everything), everything, expected)
    if check_config:
        typer.echo(_summary(state, expected))
        return 0
    registry = select(everything, only, skip)
    others = [_read_report(name, everything, rules) for name in (*reports, *(more or ()))]
    proposed = None if what_if is None else _read_zone(what_if, state)
    target = _target(state, server, tries, ipv4=ipv4, ipv6=ipv6, clock=not no_clock, trace=not no_trace)
    settings = ProbeSettings(
        timeout=timeout,
        source=source_address(source),
        foresee_traces=target.trace and any("trace" in check.module.META.tags for check in registry.checks),
        foresee_binds=any("tcp" in check.module.META.tags for check in registry.checks),
    )
    budget = Budget(seconds=deadline, concurrency=connection_limit(concurrency))
    bundle = record_live(target, registry, settings, budget, vantage, proposed)

    def judge(recorded: "Bundle") -> "Report":
        import msgspec

        from kmsdiag import diagnosis

        report = diagnosis.judge(recorded, registry, rules, others)
        if not print_changes:
            return report
        return msgspec.structs.replace(report, changes=diagnosis.changes(recorded, report, others))

    return finish(bundle, registry, rules, plan, fail_on, record, judge)


def _require_one_stdin(*names: str) -> None:
    if names.count("-") > 1:
        raise UsageProblem("- stands for stdin, which can be only one of the files")


def _read(name: str) -> bytes:
    import sys

    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageProblem(f"{name} can't be read: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        raise UsageProblem(f"{_called(name)} is larger than {MAX_BYTES // 1024**2} MiB")
    return data


def _called(name: str) -> str:
    return "stdin" if name == "-" else name


def read_expected(name: str) -> "ExpectedState":
    """An expected state from a file, or from stdin (-).

    Raises:
        UsageProblem: it can't be read, or is none.
    """
    from kmsdiag.expected import ExpectedError, read

    try:
        return read(_read(name), _called(name))
    except ExpectedError as error:
        raise UsageProblem(str(error)) from None


def _policy(state: "ExpectedState", configured: "Policy", registry: "Registry", name: str) -> "Policy":
    """The policy of the configuration files under that of the expected state.

    Raises:
        UsageProblem: an unknown code.
    """
    from kmsdiag import audit
    from kmsdiag.policy import Policy, PolicyError, parse_policy, require_known

    known = audit.CODES | {f"{check.id}.{code}" for check in registry.checks for code in check.module.META.codes}
    broken = frozenset(check.id for check in registry.broken)
    try:
        own = parse_policy({"severity": state.severity}, known, _called(name), broken)
        for number, waiver in enumerate(state.waivers):
            require_known(waiver.code, known, broken, f"{_called(name)}: waivers[{number}].code")
    except PolicyError as error:
        raise UsageProblem(str(error)) from None
    return Policy({**configured.severity, **own.severity}, configured.ignore, state.waivers)


def _summary(state: "ExpectedState", name: str) -> str:
    """What a sound file holds, in one line."""
    expected = state.expected
    parts = [
        f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
        for things, word in (
            (state.domains, "domain"),
            (expected.hosts, "host"),
            (expected.sites, "site"),
            (expected.networks, "network"),
            (state.waivers, "waiver"),
        )
    ]
    return f"{_called(name)} is sound: {', '.join(parts)}"


def _read_report(name: str, registry: "Registry", policy: "Policy") -> "Report":
    from kmsdiag.reports import ReportError, read_report

    try:
        report = read_report(name, registry, policy)
    except ReportError as error:
        raise UsageProblem(str(error)) from None
    if report.what_if is not None:
        raise UsageProblem(f"{name} can't be used: it is about proposed records (--what-if), not what is there")
    return report


def _read_zone(name: str, state: "ExpectedState") -> "Proposal":
    """Proposed records; names without a final dot are of the domain, where the file has one."""
    import sys

    from kmsdiag.encoding import as_text
    from kmsdiag.report.words import visible
    from kmsdiag.wire.zone import ZoneError, read

    called = _called(name)
    try:
        text = as_text(_read(name))
        proposed = read(text, state.domains[0] if len(state.domains) == 1 else "")
    except UnicodeDecodeError:
        raise UsageProblem(f"{called} is no zone file: it is no text in UTF-8") from None
    except ZoneError as error:
        at = f"{called}:{error.line}" if error.line else called
        hint = "" if len(state.domains) == 1 else " (names need their domain and a final dot, or an $ORIGIN before)"
        raise UsageProblem(f"{at} is no usable zone file: {error}{hint}") from None
    records = {f"_vlmcs._tcp.{domain}" for domain in state.domains}
    strange = [one.name for one in proposed.srv if one.name not in records]
    if strange and len(strange) == len(proposed.srv) and not proposed.zones:
        raise UsageProblem(f"{called} proposes {strange[0]}, and the domains are {', '.join(state.domains)}")
    for record in strange:
        print(f"kmsdiag: {called}: {visible(record)} is of no domain of the plan, and not judged", file=sys.stderr)
    return proposed


def _target(
    state: "ExpectedState", servers: list[str], tries: int, *, ipv4: bool, ipv6: bool, clock: bool, trace: bool
) -> "Target":
    import secrets

    from kmsdiag.cli.live import families
    from kmsdiag.model.target import SYSTEM, Target, TargetError, parse_server
    from kmsdiag.probes.settings import system_dns

    try:
        asked = tuple(dict.fromkeys(parse_server(text) for text in servers))
    except TargetError as error:
        raise UsageProblem(f"--server: {error}") from None
    return Target(
        domains=state.domains,
        servers=asked or state.servers or (SYSTEM,),
        families=families(ipv4=ipv4, ipv6=ipv6),
        tries=tries,
        expected=state.expected,
        nonce=secrets.token_hex(8),
        resolvers=system_dns().servers,
        suffixes=state.suffixes,
        clock=clock,
        trace=trace,
    )
