"""Options that several commands share, declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""Context settings of every command."""


class Format(StrEnum):
    """How a report is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"
    JUNIT = "junit"

    @property
    def suffix(self) -> str:
        """Ending of a file in this format."""
        return {Format.TEXT: ".txt", Format.MARKDOWN: ".md", Format.JSON: ".json", Format.JUNIT: ".xml"}[self]


class PlainFormat(StrEnum):
    """How something that is no report of a run is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


class Color(StrEnum):
    """When the report is coloured."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class FailLevel(StrEnum):
    """Values of --fail-on; kmsdiag.policy.FailOn has the same and is not imported for --help."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    NEVER = "never"


FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        envvar="KMSDIAG_FORMAT",
        help="Format of the report; by default text, or what the ending of -o says.",
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option("-o", metavar="FILE", help="Write the report to FILE, replacing it as a whole; - is stdout."),
]
OutputAllOption = Annotated[
    str | None,
    typer.Option("-oA", metavar="PREFIX", help="Write PREFIX.txt, .md, .json and .xml as well."),
]
PlainFormatOption = Annotated[
    PlainFormat | None,
    typer.Option("--format", help="Format of the output; by default text, or what the ending of -o says."),
]
PlainOutputOption = Annotated[
    str | None,
    typer.Option("-o", metavar="FILE", help="Write to FILE, replacing it as a whole; - is stdout."),
]
ColorOption = Annotated[
    Color,
    typer.Option(
        "--color", envvar="KMSDIAG_COLOR", help="Colour of the text report; auto obeys NO_COLOR and FORCE_COLOR."
    ),
]
VerboseOption = Annotated[
    int,
    typer.Option(
        "-v", "--verbose", count=True, show_default=False, help="Show all findings; -vv also what each rests on."
    ),
]
FailOnOption = Annotated[
    FailLevel,
    typer.Option("--fail-on", envvar="KMSDIAG_FAIL_ON", help="Exit with 1 from this severity on."),
]
OnlyOption = Annotated[
    list[str],
    typer.Option("--check", metavar="ID", help="Run only this check; repeatable."),
]
SkipOption = Annotated[
    list[str],
    typer.Option("--skip", metavar="ID", help="Leave this check out; repeatable."),
]
ChecksDirOption = Annotated[
    Path | None,
    typer.Option(
        "--checks-dir",
        metavar="DIR",
        envvar="KMSDIAG_CHECKS_DIR",
        help="Take checks from this folder too, one Python file each.",
    ),
]
RecordOption = Annotated[
    Path | None,
    typer.Option(
        "--record", metavar="FILE", help="Keep all evidence in FILE, to be judged again by 'kmsdiag analyze FILE'."
    ),
]
ExpectHostOption = Annotated[
    list[str],
    typer.Option("--expect-host", metavar="H[:P]", help="A KMS host that should be published; repeatable."),
]
InterfaceOption = Annotated[
    list[str],
    typer.Option(
        "-i", "--interface", metavar="IFACE", help="Record on this interface; repeatable. By default all that are up."
    ),
]
WriteOption = Annotated[
    Path | None,
    typer.Option("-w", "--write", metavar="FILE", help="Record to FILE (pcapng), which must not exist yet."),
]
JobsOption = Annotated[
    int,
    typer.Option("--jobs", metavar="N", min=1, max=256, envvar="KMSDIAG_JOBS", help="Processes that read captures."),
]
ServerOption = Annotated[
    list[str],
    typer.Option(
        "--server",
        metavar="ADDR[:P]",
        envvar="KMSDIAG_SERVER",
        help="Ask this DNS server, or 'system' for this machine's resolvers; repeatable.",
    ),
]
IPv4Option = Annotated[bool, typer.Option("-4", help="Only IPv4 addresses of the hosts.")]
IPv6Option = Annotated[bool, typer.Option("-6", help="Only IPv6 addresses of the hosts.")]
SourceOption = Annotated[
    str, typer.Option("--source", metavar="ADDR", envvar="KMSDIAG_SOURCE", help="Ask from this local address.")
]
TriesOption = Annotated[
    int,
    typer.Option(
        "--tries", metavar="N", min=1, max=100, envvar="KMSDIAG_TRIES", help="TCP connections to each address."
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.1,
        max=120,
        envvar="KMSDIAG_TIMEOUT",
        help="Seconds to wait for one answer.",
    ),
]
ConcurrencyOption = Annotated[
    int,
    typer.Option(
        "--concurrency",
        metavar="N",
        min=1,
        max=10_000,
        envvar="KMSDIAG_CONCURRENCY",
        help="Connections open at once.",
    ),
]
NoClockOption = Annotated[bool, typer.Option("--no-clock", help="Do not compare clocks.")]
NoTraceOption = Annotated[bool, typer.Option("--no-trace", help="Do not follow the way to silent hosts.")]
VantageOption = Annotated[
    str,
    typer.Option("--vantage", metavar="LABEL", envvar="KMSDIAG_VANTAGE", help="Name of this place in the report."),
]
DeadlineOption = Annotated[
    float,
    typer.Option(
        "--deadline",
        metavar="SECONDS",
        min=0.1,
        max=86_400,
        envvar="KMSDIAG_DEADLINE",
        help="Seconds for the whole run.",
    ),
]
