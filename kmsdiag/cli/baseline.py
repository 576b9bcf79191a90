"""``kmsdiag baseline``: an expected state from what is there now."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    ConcurrencyOption,
    DeadlineOption,
    IPv4Option,
    IPv6Option,
    ServerOption,
    SourceOption,
    TimeoutOption,
    TriesOption,
    VantageOption,
)

if TYPE_CHECKING:
    from kmsdiag.model.report import Report
    from kmsdiag.model.target import Target


def command(
    domains: Annotated[
        list[str], typer.Argument(metavar="DOMAIN", help="DNS suffixes of clients.", show_default=False)
    ],
    output: Annotated[
        str | None, typer.Option("-o", metavar="FILE", help="Write to FILE, replacing it as a whole; - is stdout.")
    ] = None,
    suffix: Annotated[
        list[str],
        typer.Option("--suffix", metavar="SUFFIX", help="A DNS suffix that clients search besides; repeatable."),
    ] = [],  # noqa: B006  # typer copies it
    server: ServerOption = ["system"],  # noqa: B006
    ipv4: IPv4Option = False,
    ipv6: IPv6Option = False,
    source: SourceOption = "",
    tries: TriesOption = 1,
    timeout: TimeoutOption = 3.5,
    deadline: DeadlineOption = 60.0,
    concurrency: ConcurrencyOption = 500,
    vantage: VantageOption = "",
) -> int:
    """Write an expected state (TOML) from what is published and answers now, for 'kmsdiag audit'.

    Remarks in it say what was seen and what has to be filled in. Exit code 3 where a domain could not be asked about;
    a file that is there is left as it is then.
    """
    from kmsdiag import baseline, diagnosis
    from kmsdiag.cli.live import load_all, record_live, source_address
    from kmsdiag.cli.output import drop_stdout, require_writable
    from kmsdiag.engine import Budget
    from kmsdiag.probes.settings import ProbeSettings, connection_limit

    file = None if output in (None, "-") else Path(str(output))
    if file is not None:
        require_writable(file)
    target = _target(domains, suffix, server, tries, ipv4=ipv4, ipv6=ipv6)
    registry = load_all(None)
    settings = ProbeSettings(timeout=timeout, source=source_address(source))
    budget = Budget(seconds=deadline, concurrency=connection_limit(concurrency))
    report = diagnosis.judge(record_live(target, registry, settings, budget, vantage), registry)
    if report.interrupted:
        print("kmsdiag: interrupted; nothing was written", file=sys.stderr)
        return 130
    unknown = _unasked(report)
    if unknown and file is not None and file.is_file():
        # What stands there may know more than this run.
        print(f"kmsdiag: DNS could not be asked about {', '.join(unknown)}: {file} is as it was", file=sys.stderr)
        return 3
    text = baseline.render(report)
    try:
        _write(file, text)
    except BrokenPipeError:
        drop_stdout()
    if unknown:
        print(f"kmsdiag: DNS could not be asked about {', '.join(unknown)}: the file lacks its hosts", file=sys.stderr)
    return 3 if unknown else 0


def _write(file: Path | None, text: str) -> None:
    from kmsdiag.cli.output import replace

    if file is None:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()
        return
    try:
        replace(file, text.encode())
    except OSError as error:
        raise UsageProblem(f"{file} can't be written: {error.strerror or error}") from None


def _unasked(report: "Report") -> list[str]:
    """Domains of which neither a record is known nor that there is none."""
    from kmsdiag.model.outcome import DnsOutcome, Stage

    settled = {
        path.domain
        for path in report.paths
        for stage in path.stages
        if stage.stage is Stage.SRV and stage.outcome in (DnsOutcome.ANSWERED, DnsOutcome.NXDOMAIN, DnsOutcome.NODATA)
    }
    return [domain for domain in report.target.domains if domain not in settled]


def _target(
    domains: list[str], suffixes: list[str], servers: list[str], tries: int, *, ipv4: bool, ipv6: bool
) -> "Target":
    import secrets

    from kmsdiag.cli.live import families
    from kmsdiag.model.target import Target, TargetError, parse_domain, parse_server
    from kmsdiag.probes.settings import system_dns

    try:
        return Target(
            domains=tuple(dict.fromkeys(map(parse_domain, domains))),
            servers=tuple(dict.fromkeys(map(parse_server, servers))),
            families=families(ipv4=ipv4, ipv6=ipv6),
            tries=tries,
            nonce=secrets.token_hex(8),
            resolvers=system_dns().servers,
            suffixes=tuple(dict.fromkeys(map(parse_domain, suffixes))),
            clock=False,
            trace=False,
        )
    except TargetError as error:
        raise UsageProblem(str(error)) from None
