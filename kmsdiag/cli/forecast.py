"""``kmsdiag forecast``: when clients ask, renew and end; whether planned machines are enough for a host."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from kmsdiag.cli.errors import UsageProblem
from kmsdiag.cli.options import Color, ColorOption, PlainFormatOption, PlainOutputOption
from kmsdiag.knowledge.licences import MINUTES_OF_A_GRANT
from kmsdiag.knowledge.limits import ACTIVATION_INTERVAL, LEAST_INTERVAL, MOST_INTERVAL, RENEWAL_INTERVAL

if TYPE_CHECKING:
    import datetime

    from kmsdiag.model.forecast import Reading
    from kmsdiag.model.target import Expected

MOST_MACHINES = 100_000_000
MOST_HOSTS = 1_000
_LEAST, _MOST = LEAST_INTERVAL // 60, MOST_INTERVAL // 60


class Status(StrEnum):
    """The licence statuses that slmgr shows, by their number in Windows."""

    UNLICENSED = "unlicensed"
    LICENSED = "licensed"
    GRACE = "grace"
    ADDITIONAL_GRACE = "additional-grace"
    NON_GENUINE = "non-genuine"
    NOTIFICATION = "notification"
    EXTENDED_GRACE = "extended-grace"


_CLIENT_OPTIONS = ("--remaining", "--last-success", "--status")


def command(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]FILE",
            help="What clients show (output of slmgr and ospp, JSON; see 'kmsdiag analyze'), and expected states"
            " (.toml), whose planned machines are counted.",
            show_default=False,
        ),
    ] = None,
    remaining: Annotated[
        int | None,
        typer.Option(
            "--remaining",
            metavar="MINUTES",
            min=1,
            max=MINUTES_OF_A_GRANT,
            help="Minutes left, as slmgr /dlv shows.",
        ),
    ] = None,
    last_success: Annotated[
        str, typer.Option("--last-success", metavar="TIME", help="When the client was last activated (event 12289).")
    ] = "",
    status: Annotated[
        Status | None, typer.Option("--status", help="Licence status of the client; by default licensed.")
    ] = None,
    activation_interval: Annotated[
        int,
        typer.Option(
            "--activation-interval", metavar="MINUTES", min=_LEAST, max=_MOST, help="As the host sets it (slmgr /sai)."
        ),
    ] = ACTIVATION_INTERVAL // 60,
    renewal_interval: Annotated[
        int,
        typer.Option(
            "--renewal-interval", metavar="MINUTES", min=_LEAST, max=_MOST, help="As the host sets it (slmgr /sri)."
        ),
    ] = RENEWAL_INTERVAL // 60,
    now: Annotated[
        str,
        typer.Option(
            "--now", metavar="TIME", help="The moment of --remaining; without it there are times, and no dates."
        ),
    ] = "",
    collected_at: Annotated[
        str,
        typer.Option(
            "--collected-at", metavar="TIME", help="When the files were made, where they do not say so themselves."
        ),
    ] = "",
    clients: Annotated[
        int, typer.Option("--clients", metavar="N", min=0, max=MOST_MACHINES, help="Planned Windows clients.")
    ] = 0,
    servers: Annotated[
        int, typer.Option("--servers", metavar="N", min=0, max=MOST_MACHINES, help="Planned Windows servers.")
    ] = 0,
    office: Annotated[
        int, typer.Option("--office", metavar="N", min=0, max=MOST_MACHINES, help="Planned machines with Office.")
    ] = 0,
    hosts: Annotated[
        int, typer.Option("--hosts", metavar="N", min=1, max=MOST_HOSTS, help="Equal KMS hosts that serve them.")
    ] = 1,
    format: PlainFormatOption = None,  # noqa: A002
    output: PlainOutputOption = None,
    color: ColorOption = Color.AUTO,
) -> int:
    """Say when a client next asks, renews, is warned and ends, and whether planned machines are enough for each host.

    Asks no network and changes nothing. The exit code is 0 whatever is to come, and 3 where a file could not be used.
    Times are UTC.
    """
    from kmsdiag import forecast
    from kmsdiag.cli.live import write
    from kmsdiag.cli.output import plain_plan
    from kmsdiag.version import VERSION

    plan = plain_plan(form=format, output=output, color=color)
    plans = [_expected(name) for name in files or () if name.endswith(".toml")]
    if clients or servers or office:
        plans.append(forecast.planned(clients, servers, office, hosts))
    moment = _moment(now, "--now")
    status_files = [name for name in files or () if not name.endswith(".toml")]
    readings, unusable = _of_files(status_files, _moment(collected_at, "--collected-at"))
    if remaining is not None or last_success or status is not None:
        success = _moment(last_success, "--last-success")
        readings.append(_reading(remaining, success, status, (activation_interval, renewal_interval), moment))
    if not plans and not readings:
        raise UsageProblem(
            "there is nothing to forecast: give files, planned machines (--clients, --servers, --office),"
            f" or what a client shows ({', '.join(_CLIENT_OPTIONS)})"
        )
    write(plan, forecast.forecast(readings, plans, VERSION, moment or _present(status_files)))
    return 3 if unusable else 0


def _moment(text: str, option: str) -> "datetime.datetime | None":
    from kmsdiag.cli.times import moment

    return moment(text, option) if text else None


def _present(status_files: list[str]) -> "datetime.datetime | None":
    """Now, where there are files: what they foresee may have passed."""
    import datetime

    return datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0) if status_files else None


def _of_files(
    names: list[str], collected_at: "datetime.datetime | None"
) -> "tuple[list[Reading], list[tuple[str, str]]]":
    """What files about machines show of products that ask KMS; label and reason of those that can't be used.

    Raises:
        UsageProblem: none of them shows any.
    """
    from kmsdiag import collected, forecast
    from kmsdiag.cli.captured import complain_about
    from kmsdiag.cli.collected import named, read_collected
    from kmsdiag.model.evidence import Evidence
    from kmsdiag.model.target import Selection, Target
    from kmsdiag.sources.files import gather
    from kmsdiag.sources.recognise import Kind

    if not names:
        return [], []
    given = [named(one) for one in names]
    gathered = gather([path for _machine, path in given], [machine for machine, _path in given])
    unusable = [(one.label, one.reason) for one in gathered.refused]
    texts = [one for one in gathered.sources if one.format.kind in (Kind.TEXT, Kind.JSON)]
    others = [one for one in gathered.sources if one not in texts and not one.found]
    unusable += [(one.label, "it does not show a client's licence") for one in others]
    read = read_collected(texts, [], Selection(), collected_at=collected_at)
    unusable += read.unusable
    answers = {request: answer for one in read.additions for request, answer in one.answers.items()}
    fields = {name: value for one in read.additions for name, value in one.fields.items()}
    machines = collected.machines(Evidence(Target(**fields), answers))
    readings = [reading for machine in machines for reading in forecast.of_machine(machine)]
    if not readings:
        *before, (label, why) = unusable or [(", ".join(names), "no product in there asks a KMS host")]
        complain_about(before)
        raise UsageProblem(f"{label}: {why}")
    complain_about(unusable)
    return readings, unusable


def _reading(
    remaining: int | None,
    success: "datetime.datetime | None",
    status: Status | None,
    intervals: tuple[int, int],
    now: "datetime.datetime | None",
) -> "Reading":
    """What the options say of one client.

    Raises:
        UsageProblem: they say two things, or not enough.
    """
    import datetime

    from kmsdiag.forecast import since_success
    from kmsdiag.model.forecast import Reading

    if success is not None:
        if remaining is not None or status not in (None, Status.LICENSED):
            raise UsageProblem(
                "--last-success says when a client was activated: give it without --remaining or --status"
            )
        present = now or datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
        if success > present:
            raise UsageProblem(f"--last-success {success:%Y-%m-%d %H:%M} UTC lies after {present:%Y-%m-%d %H:%M} UTC")
        return since_success(success, present, *intervals)
    known = status or Status.LICENSED
    if known is Status.LICENSED and remaining is None:
        raise UsageProblem("of a licensed client give --remaining (slmgr /dlv) or --last-success (event 12289)")
    return Reading(
        status=list(Status).index(known),
        remaining=remaining,
        activation_interval=intervals[0],
        renewal_interval=intervals[1],
        collected_at=now,
    )


def _expected(name: str) -> "Expected":
    from kmsdiag.cli.audit import read_expected

    found = read_expected(name).expected
    if not any(site.client or site.server or site.office for site in found.sites):
        raise UsageProblem(f"{name} plans no machines: give machines = {{ client = 40 }} in a [[sites]] table")
    return found
