"""``kmsdiag analyze``: judge what was recorded, here or elsewhere, without a network."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import (
    ChecksDirOption,
    Color,
    ColorOption,
    ExpectHostOption,
    FailLevel,
    FailOnOption,
    FormatOption,
    JobsOption,
    OnlyOption,
    OutputAllOption,
    OutputOption,
    RecordOption,
    SkipOption,
    VerboseOption,
)

if TYPE_CHECKING:
    import datetime

    from kmsdiag.bundle import Bundle
    from kmsdiag.capture.scan import Analysis, Want
    from kmsdiag.cli.bundles import Addition
    from kmsdiag.model.capture import Conversation
    from kmsdiag.model.target import Selection, Target
    from kmsdiag.registry import Registry
    from kmsdiag.sources.files import Source


class ListFormat(StrEnum):
    """How all conversations are written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE...",
            help="Any mix of: packet captures (pcap, pcapng), logs of Zeek (conn, dns, dce_rpc) or Suricata (EVE);"
            " output of slmgr, ospp, ipconfig, nslookup and their like; JSON of collect-script or of Windows' licensing"
            " classes; event logs (.evtx, XML, CSV, text); registry exports; what 'kmsdiag check --record' wrote. Also"
            " .gz, .zst, .zip, and folders of these; - is stdin. NAME= says whose machine a file is of.",
            show_default=False,
        ),
    ],
    client: Annotated[
        list[str],
        typer.Option(
            "--client",
            metavar="ADDR",
            help="Only conversations and events of this client (address, network, name or client machine ID);"
            " repeatable.",
        ),
    ] = [],  # noqa: B006  # typer copies it
    host: Annotated[
        list[str],
        typer.Option(
            "--host", metavar="H[:P]", help="Only conversations with this KMS host, and its events; repeatable."
        ),
    ] = [],  # noqa: B006
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Only from then on: 2026-11-24, 2026-11-24T08:00[Z], 08:00.")
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Only until then.")] = "",
    collected_at: Annotated[
        str,
        typer.Option(
            "--collected-at",
            metavar="TIME",
            help="When output of tools was made, for dates of expiry, where it does not say so itself.",
        ),
    ] = "",
    expect_host: ExpectHostOption = [],  # noqa: B006
    conversations: Annotated[
        ListFormat | None,
        typer.Option("--conversations", help="List all conversations instead of the report.", show_default=False),
    ] = None,
    show: Annotated[
        int | None,
        typer.Option("--show", metavar="N", min=1, help="Show conversation N frame by frame instead of the report."),
    ] = None,
    extract: Annotated[
        Path | None,
        typer.Option("--extract", metavar="FILE", help="Write the frames that matter to FILE (pcapng) as well."),
    ] = None,
    jobs: JobsOption = 2,
    scheduler: Annotated[
        str,
        typer.Option("--scheduler", metavar="URL", help="Read captures on the Dask cluster at this address."),
    ] = "",
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
    """Judge what others collected. Nothing is asked of any network; the same files give the same bytes.

    Files are known by their content and judged together: captures, state and logs of clients and hosts, a recorded run.
    Rings of captures are joined, captures of both ends of a path compared; Zeek's and Suricata's logs say less, and are
    read where no capture is given. A recorded run is judged by the checks that it was recorded for and those that are
    newer; --check chooses others.
    """
    from kmsdiag.capture.scan import Want
    from kmsdiag.cli.captured import complain_about
    from kmsdiag.cli.config import policy
    from kmsdiag.cli.live import finish, load_all, select
    from kmsdiag.cli.output import OutputPlan, require_apart, require_writable
    from kmsdiag.cli.times import moment

    if conversations is not None and show is not None:
        raise UsageProblem("--conversations and --show exclude each other: give one of them")
    plan = OutputPlan(form=format, output=output, prefix=output_all, color=color, verbosity=verbose, fail_on=fail_on)
    written = [path for path in (record, extract) if path is not None]
    for path in written:
        require_writable(path)
    require_apart([*written, *plan.paths], files)
    everything = load_all(checks_dir)
    rules = policy(everything)
    registry = select(everything, only, skip)
    target = _target(client, host, since, until, expect_host)
    want = Want.CONVERSATIONS if conversations is not None else Want.ANSWER
    if extract is not None:
        want |= Want.FRAMES
    made = moment(collected_at, "--collected-at") if collected_at else None
    found = _read(files, target.selection, _Reading(jobs, scheduler, want, show, made))
    if not found.usable:
        # The last line is the command's own, so that a single file gives a single line.
        *others, (label, why) = found.unusable or sorted(found.passed_over)
        complain_about(others)
        raise UsageProblem(f"{label}: {why}")
    complain_about(found.unusable)
    if found.left_out:
        _say_left_out(found.left_out)
    if extract is not None:
        _extract(extract, found)
    if conversations is not None or show is not None:
        plan.write_text(_listed(found.analysis, conversations, show))
        return 3 if found.unusable else 0
    bundle = _bundle(found, target, registry)
    if not only and found.bundle is not None:
        registry = registry.recorded(bundle.checks, bundle.tool)
    code = finish(bundle, registry, rules, plan, fail_on, record)
    return 3 if found.unusable and code == 0 else code


class _Found(NamedTuple):
    """What the files came to. ``refused`` are (label, reason) of inputs that are no use at all.

    ``additions`` are what files about machines and event logs show. ``left_out`` are logs of other programs that were
    not read, since there are captures. ``passed_over`` are files of folders and archives that hold nothing.
    """

    bundle: "Bundle | None"
    captures: "tuple[Source, ...]"
    analysis: "Analysis | None"
    refused: tuple[tuple[str, str], ...]
    additions: "tuple[Addition, ...]" = ()
    left_out: "tuple[Source, ...]" = ()
    passed_over: tuple[tuple[str, str], ...] = ()

    @property
    def unusable(self) -> list[tuple[str, str]]:
        """Label and reason of all that was given and could not be used."""
        return sorted({*self.refused, *(self.analysis.unusable if self.analysis is not None else ())})

    @property
    def usable(self) -> bool:
        """Whether there is anything to judge."""
        captured = self.analysis is not None and bool(self.analysis.captures)
        return self.bundle is not None or captured or bool(self.additions)


class _Reading(NamedTuple):
    """How files are read: in how many processes, where, what of captures is kept, and when texts were made."""

    jobs: int
    scheduler: str
    want: "Want"
    show: int | None
    collected_at: "datetime.datetime | None"


def _read(arguments: Sequence[str], selection: "Selection", how: _Reading) -> _Found:
    from kmsdiag.cli.captured import read_captures, read_logs
    from kmsdiag.cli.collected import named, read_collected
    from kmsdiag.sources.files import gather
    from kmsdiag.sources.recognise import Kind

    given = [named(one) for one in arguments]
    gathered = gather([path for _machine, path in given], [machine for machine, _path in given])
    refused = [(one.label, one.reason) for one in gathered.refused]
    captures = tuple(one for one in gathered.sources if one.format.kind is Kind.CAPTURE)
    logs = _logs(gathered.sources)
    bundles = []
    for source in gathered.sources:
        if source.format.kind is Kind.BUNDLE:
            bundle = _read_bundle(source)
            if isinstance(bundle, str):
                refused.append((source.label, bundle))
            else:
                bundles.append((source.label, bundle))
    if len(bundles) > 1:
        first, second = bundles[0][0], bundles[1][0]
        raise UsageProblem(f"{first} and {second} are two recorded runs: give one at a time")
    analysis = None
    if captures:
        shown = () if how.show is None else (how.show,)
        analysis = read_captures(captures, selection, jobs=how.jobs, scheduler=how.scheduler, want=how.want, show=shown)
    elif logs:
        analysis = read_logs(logs, selection, want=how.want, show=how.show is not None)
    collected = read_collected(
        [one for one in gathered.sources if one.format.kind in (Kind.TEXT, Kind.JSON)],
        [one for one in gathered.sources if one.format.kind is Kind.EVENTS],
        selection,
        collected_at=how.collected_at,
        jobs=how.jobs,
    )
    refused += collected.unusable
    return _Found(
        bundles[0][1] if bundles else None,
        captures,
        analysis,
        tuple(sorted(refused)),
        collected.additions,
        logs if captures else (),
        collected.passed_over,
    )


def _logs(sources: "Sequence[Source]") -> "tuple[Source, ...]":
    """Logs of other programs.

    Raises:
        UsageProblem: they are of several, which saw the same connections and would count them twice.
    """
    from kmsdiag.sources.recognise import Kind

    zeek = tuple(one for one in sources if one.format.kind is Kind.ZEEK)
    suricata = tuple(one for one in sources if one.format.kind is Kind.SURICATA)
    if zeek and suricata:
        raise UsageProblem(
            f"{zeek[0].label} is of Zeek and {suricata[0].label} of Suricata, and both may tell of the same"
            " connections: give the logs of one at a time"
        )
    return zeek or suricata


def _say_left_out(logs: "Sequence[Source]") -> None:
    from kmsdiag.report.words import visible

    labels = ", ".join(one.label for one in logs)
    print(
        f"kmsdiag: {visible(labels)}: left out, since captures are given, which say more of the same connections",
        file=sys.stderr,
    )


def _read_bundle(source: "Source") -> "Bundle | str":
    """A recorded run, or why it can't be used."""
    from kmsdiag.bundle import MAX_BYTES, BundleError, decode
    from kmsdiag.sources.files import read_whole
    from kmsdiag.sources.unpack import UnpackError

    try:
        data = read_whole(source, MAX_BYTES)
    except OSError as error:
        return f"it can't be read: {error.strerror or error}"
    except UnpackError as error:
        return f"it can't be used: {error}"
    if len(data) > MAX_BYTES:
        return f"it is larger than {MAX_BYTES // 1024**2} MiB: no bundle of kmsdiag"
    try:
        return decode(data)
    except BundleError as error:
        return f"it can't be used: {error}"


def _bundle(found: _Found, target: "Target", registry: "Registry") -> "Bundle":
    from kmsdiag.cli.bundles import as_bundle, files_vantage, from_captures

    additions = list(found.additions)
    if found.analysis is not None and found.analysis.captures:
        additions.append(from_captures(found.analysis, target.selection))
    if not additions:
        assert found.bundle is not None  # noqa: S101  # the caller saw to it
        return found.bundle
    return as_bundle(additions, target, registry, files_vantage(), base=found.bundle)


def _target(clients: list[str], hosts: list[str], since: str, until: str, expected: list[str]) -> "Target":
    from kmsdiag.cli.captured import expected_hosts
    from kmsdiag.cli.times import moment
    from kmsdiag.model.target import Expected, Selection, Target

    selection = Selection(
        clients=_chosen(clients, "--client"),
        hosts=_chosen(hosts, "--host"),
        since=moment(since, "--since") if since else None,
        until=moment(until, "--until") if until else None,
    )
    if selection.since and selection.until and selection.since > selection.until:
        raise UsageProblem("--since is later than --until: nothing lies between them")
    return Target(selection=selection, expected=Expected(hosts=expected_hosts(expected)))


def _chosen(texts: list[str], option: str) -> tuple[str, ...]:
    """Addresses, networks and hosts with or without port, as they were typed.

    Raises:
        UsageProblem: none of these.
    """
    import ipaddress

    from kmsdiag.model.target import TargetError, parse_host

    for text in texts:
        try:
            if "/" in text:
                ipaddress.ip_network(text, strict=False)
            else:
                parse_host(text)
        except (ValueError, TargetError) as error:
            raise UsageProblem(f"{option} {text!r}: {error}") from None
    return tuple(dict.fromkeys(texts))


def _extract(path: Path, found: _Found) -> None:
    from kmsdiag.capture.extract import Extract, extract
    from kmsdiag.cli.output import replace_from, require_apart
    from kmsdiag.sources.files import Reading

    if found.analysis is None:
        raise UsageProblem("--extract needs a packet capture")
    if not found.captures:
        raise UsageProblem("--extract needs a packet capture: logs hold no frames")
    if any(not source.again for source in found.captures):
        raise UsageProblem("--extract reads the capture a second time, and standard input can't be: give a file")
    sources = {source.path: source for source in found.captures}
    require_apart([path], sources)
    parts = (
        Extract(sources[origin.path].label, Reading(sources[origin.path]), origin.numbers)
        for origin in found.analysis.frames
    )
    try:
        replace_from(path, extract(parts))
    except OSError as error:
        raise UsageProblem(f"{path} can't be written: {error.strerror or error}") from None


def _listed(analysis: "Analysis | None", form: ListFormat | None, number: int | None) -> str:
    from kmsdiag.report import conversations

    if analysis is None:
        raise UsageProblem("--conversations and --show need a packet capture, or logs of Zeek or Suricata")
    files = analysis.answer.files
    if number is not None:
        return conversations.as_ladder(_numbered(analysis, number), files)
    render = {
        ListFormat.JSON: conversations.as_json,
        ListFormat.CSV: conversations.as_csv,
        ListFormat.TABLE: conversations.as_table,
    }[form or ListFormat.TABLE]
    return render(analysis.conversations, files)


def _numbered(analysis: "Analysis", number: int) -> "Conversation":
    for one in analysis.conversations:
        if one.number == number:
            return one
    raise UsageProblem(f"there is no conversation {number}: --conversations table lists them all")
