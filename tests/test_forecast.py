"""``kmsdiag forecast``: the arithmetic of intervals and thresholds, the line of time, and the command."""

import datetime
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.cli import main
from kmsdiag.collected import Machine, NamedBy, Part
from kmsdiag.forecast import client, forecast, of_machine, planned, since_success, thresholds
from kmsdiag.knowledge.licences import MINUTES_OF_A_GRANT
from kmsdiag.model.collected import MachineState, ProductState
from kmsdiag.model.forecast import ClientForecast, CountState, Reading, Step, StepKind
from kmsdiag.model.request import Status
from kmsdiag.model.target import Expected, ExpectedHost, Product, Site, StatusFile
from kmsdiag.report import forecast as text
from kmsdiag.report import json as as_json
from kmsdiag.report.lines import plain

Capture = pytest.CaptureFixture[str]

SCHEMA: Any = json.loads((files("kmsdiag") / "schemas" / "forecast.schema.json").read_text(encoding="utf-8"))
NOON = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)
HOUR, DAY = 60, 24 * 60


def steps(one: ClientForecast) -> dict[StepKind, Step]:
    return {step.kind: step for step in one.steps}


def after(days: int = 0, minutes: int = 0) -> datetime.datetime:
    return NOON + datetime.timedelta(days=days, minutes=minutes)


# ------------------------------------------------------------------------------------------------------ clients


def test_a_client_right_after_its_activation() -> None:
    """180 days, renewal after 7, a warning 30 days before the end, 15 minutes of watching after a failed renewal."""
    one = client(Reading(remaining=259_200, collected_at=NOON))
    found = steps(one)
    assert (found[StepKind.RENEWAL].minutes, found[StepKind.RENEWAL].at) == (10_080, after(7))
    assert (found[StepKind.TRY].minutes, found[StepKind.TRY].at) == (10_080 + 15, after(7, 15))
    assert found[StepKind.WARNING].at == after(150)
    assert found[StepKind.END].at == after(180)
    assert (one.elapsed, one.late, one.notes) == (0, 0, ())
    assert one.tries == (259_200 - 10_080 - 15) // 120


def test_a_client_whose_renewal_is_overdue_asks_every_two_hours() -> None:
    """Ten days since the last success: three days late."""
    one = client(Reading(remaining=MINUTES_OF_A_GRANT - 10 * DAY, collected_at=NOON))
    found = steps(one)
    assert StepKind.RENEWAL not in found
    assert (found[StepKind.TRY].minutes, found[StepKind.TRY].latest) == (120, True)
    assert (one.elapsed, one.late) == (10 * DAY, 3 * DAY)
    assert found[StepKind.ACTIVATED].at == after(-10)
    assert found[StepKind.END].at == after(170)
    assert one.notes == ("a renewal is overdue: it failed, or the machine was off",)


def test_the_hosts_intervals_are_used() -> None:
    one = client(Reading(remaining=259_200 - HOUR, activation_interval=15, renewal_interval=DAY))
    found = steps(one)
    assert found[StepKind.RENEWAL].minutes == 23 * HOUR
    assert "every 15 minutes" in found[StepKind.TRY].text


@pytest.mark.parametrize("remaining", [43_201, 43_200, 43_199, 1])
def test_the_warning_comes_thirty_days_before_the_end(remaining: int) -> None:
    found = steps(client(Reading(remaining=remaining)))
    assert found[StepKind.WARNING].minutes == remaining - 43_200
    assert found[StepKind.END].minutes == remaining


def test_without_a_collection_time_nothing_has_a_date() -> None:
    told = forecast([Reading(remaining=100_000), Reading(status=2, remaining=500)], (), "1", NOON)
    assert all(step.at is None for one in told.clients for step in one.steps)
    assert any("have no date" in note for note in told.notes)


@pytest.mark.parametrize(("status", "remaining", "end"), [(2, 40_000, 40_000), (3, 500, 500), (6, 1, 1)])
def test_a_grace_period_ends_when_the_machine_says(status: int, remaining: int, end: int) -> None:
    found = steps(client(Reading(status=status, remaining=remaining)))
    assert (found[StepKind.TRY].minutes, found[StepKind.END].minutes) == (120, end)


@pytest.mark.parametrize("status", [0, 5])
def test_what_is_not_activated_asks_every_two_hours_and_has_no_end(status: int) -> None:
    one = client(Reading(status=status, remaining=None))
    assert [step.kind for step in one.steps] == [StepKind.TRY]
    assert one.tries == 0


@pytest.mark.parametrize(
    ("reading", "note"),
    [
        (Reading(remaining=None), "the minutes that are left are not told"),
        (Reading(remaining=400_000), "it is not for 180 days"),
        (Reading(status=-1, remaining=5), "its status is not told"),
        (Reading(status=7, remaining=5), "its status is not told"),
    ],
)
def test_what_is_not_known_is_said(reading: Reading, note: str) -> None:
    one = client(reading)
    assert one.steps == ()
    assert note in one.notes[0]


def test_a_client_of_active_directory_is_told_apart() -> None:
    assert "Active Directory" in client(Reading(remaining=259_000, directory=True)).notes[0]


def test_the_last_success_gives_the_rest() -> None:
    assert since_success(after(-1), NOON).remaining == 259_200 - DAY
    over = since_success(after(-181), NOON)
    assert (over.status, over.remaining) == (5, -DAY)
    found = steps(client(over, NOON))
    assert (found[StepKind.END].at, found[StepKind.END].past) == (after(-1), True)


def test_an_old_reading_may_have_been_overtaken() -> None:
    told = forecast([Reading(remaining=259_200, collected_at=NOON)], (), "1", after(10))
    one = told.clients[0]
    assert steps(one)[StepKind.RENEWAL].past
    assert not steps(one)[StepKind.END].past
    assert one.age == 10 * DAY
    assert any("up to 10 days old" in note for note in told.notes)
    assert "one of the two times is wrong" in client(Reading(remaining=9, collected_at=NOON), after(-1)).notes[-1]


def test_the_soonest_end_comes_first() -> None:
    readings = [
        Reading(name="later", remaining=200_000),
        Reading(name="unknown", remaining=None),
        Reading(name="over", status=5),
        Reading(name="soon", remaining=1_000),
    ]
    told = forecast(readings, (), "1")
    assert [one.reading.name for one in told.clients] == ["over", "soon", "later", "unknown"]


@given(
    remaining=st.integers(1, 259_200),
    often=st.integers(15, 43_200),
    renewal=st.integers(15, 43_200),
    status=st.integers(0, 6),
)
def test_steps_are_in_order_and_within_the_time(remaining: int, often: int, renewal: int, status: int) -> None:
    one = client(Reading(status=status, remaining=remaining, activation_interval=often, renewal_interval=renewal), NOON)
    assert list(one.steps) == sorted(one.steps, key=lambda step: step.minutes)
    assert any(step.kind is StepKind.TRY and step.minutes > 0 for step in one.steps)
    assert one.tries >= 0
    if status == 1:
        assert one.elapsed == 259_200 - remaining
        assert one.late == max(0, (one.elapsed or 0) - renewal)
    if any(step.kind is StepKind.END for step in one.steps):
        drawn = text.bar(one)
        assert len(drawn) <= 61
        assert drawn.count("●") == 1
        assert drawn.count("E") <= 1


def test_products_that_ask_kms_are_read_from_collected_machines() -> None:
    def product(channel: str, **more: Any) -> ProductState:
        return ProductState(name=f"product of {channel}", activation_id=channel, channel=channel, status=1, **more)

    state = MachineState(
        products=(
            product("Volume:GVLK", grace_minutes=250_000, activation_interval_min=60, renewal_interval_min=600),
            product("Volume:MAK", grace_minutes=1),
            product("Volume:GVLK unused", in_use=False),
        )
    )
    machine = Machine("pc1", NamedBy.INSIDE, (Part(Status(file=StatusFile(label="pc1.txt")), state, NOON),), ())
    assert list(of_machine(machine)) == [
        Reading(
            name="pc1",
            product="product of Volume:GVLK",
            status=1,
            remaining=250_000,
            activation_interval=60,
            renewal_interval=600,
            collected_at=NOON,
        )
    ]


# ------------------------------------------------------------------------------------------------------- counts


def rows(expected: Expected) -> list[tuple[str, float, CountState, int]]:
    return [(one.kind, one.count, one.state, len(one.hosts)) for one in thresholds(expected)]


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((25, 0, 0, 1), [("Windows clients", 25.0, CountState.MET, 1)]),
        ((24, 0, 0, 1), [("Windows clients", 24.0, CountState.TOO_FEW, 1)]),
        # Servers count for clients, and the other way round.
        ((20, 5, 0, 1), [("Windows clients", 25.0, CountState.MET, 1), ("Windows servers", 25.0, CountState.MET, 1)]),
        ((0, 4, 0, 1), [("Windows servers", 4.0, CountState.TOO_FEW, 1)]),
        ((0, 0, 5, 1), [("Office machines", 5.0, CountState.MET, 1)]),
        # Office has its own count.
        (
            (30, 0, 4, 1),
            [("Windows clients", 30.0, CountState.MET, 1), ("Office machines", 4.0, CountState.TOO_FEW, 1)],
        ),
        ((40, 0, 0, 2), [("Windows clients", 20.0, CountState.TOO_FEW, 2)]),
        ((150, 0, 0, 6), [("Windows clients", 25.0, CountState.MET, 6)]),
    ],
)
def test_thresholds_are_25_5_and_5_at_each_host(
    numbers: tuple[int, int, int, int], found: list[tuple[str, float, CountState, int]]
) -> None:
    assert rows(planned(*numbers)) == found


def test_a_plan_with_ranked_hosts_and_one_for_windows_alone() -> None:
    domain = "contoso.example"
    expected = Expected(
        hosts=(
            ExpectedHost("kms1.contoso.example", domains=(domain,), serves=(Product.WINDOWS,)),
            ExpectedHost("kms2.contoso.example", domains=(domain,), priority=10, serves=(Product.WINDOWS,)),
        ),
        planned=True,
        sites=(Site(name="a", domain=domain, client=20), Site(name="b", domain=domain, client=10, office=9)),
    )
    assert [(one.kind, one.hosts, one.count, one.state) for one in thresholds(expected)] == [
        ("Windows clients", ("kms1.contoso.example",), 30.0, CountState.MET),
        ("Windows clients", ("kms2.contoso.example",), 0.0, CountState.RESERVE),
        ("Office machines", (), 0, CountState.NO_HOST),
    ]


# ----------------------------------------------------------------------------------------------------- formats


def test_every_format_says_it() -> None:
    readings = [
        Reading(name="desk|1", product="Windows", remaining=250_000, collected_at=NOON),
        Reading(name="x" * 40, status=2, remaining=900),
        Reading(name="\x1b[2Jlap", status=5, remaining=-5, collected_at=NOON),
    ]
    told = forecast(readings, [planned(40, 0, 0, 7)], "1", after(3))
    shown = plain(text.lines(told, unicode=False))
    assert shown.isascii()
    assert "\x1b" not in shown
    assert "host 1, host 2, host 3, and 4 more" in shown
    assert "One host key can be activated on 6 hosts." in shown
    page = text.markdown(told)
    assert "desk\\|1" in page
    assert "\x1b" not in page
    data = json.loads(as_json.render(told))
    jsonschema.validate(data, SCHEMA)
    assert len(data["clients"]) == 3


def test_the_line_of_time_is_to_scale() -> None:
    """60 columns for 180 days: renewal after 7 days in column 2, the warning in 50, the end in 60."""
    drawn = text.bar(client(Reading(remaining=259_200)))
    assert (drawn.index("R"), drawn.index("W"), drawn.index("E")) == (2, 50, 60)
    half = text.bar(client(Reading(remaining=129_600)))
    assert half.index("●") == 30
    assert half[:30] == "━" * 30
    # What comes within the reading's own three days is shown beside it.
    assert text.bar(client(Reading(remaining=259_200 - 6 * DAY - HOUR))).startswith("━━●R")


def test_what_is_said_of_many_is_said_once() -> None:
    told = forecast([Reading(name=f"pc{number}", remaining=1_000) for number in range(9)], (), "1")
    assert plain(text.lines(told)).count("its renewals fail") == 1
    assert "- pc0, pc1, pc2, pc3, pc4, and 4 more: its renewals fail" in text.markdown(told)


def test_many_clients_fit_on_a_screen() -> None:
    told = forecast([Reading(name=f"pc{number}", remaining=1_000 + number) for number in range(100)], (), "1")
    shown = plain(text.lines(told))
    assert "… and 60 more" in shown
    assert "pc0 " in shown
    assert "pc99" in text.markdown(told)


# ------------------------------------------------------------------------------------------------ command line


def test_numbers_of_one_client(capsys: Capture) -> None:
    assert main(["forecast", "--remaining", "250000", "--now", "2026-11-24T12:00Z", "--format", "json"]) == 0
    one = json.loads(capsys.readouterr().out)["clients"][0]
    ends = {step["kind"]: step["at"] for step in one["steps"]}
    assert ends["renewal"] == "2026-11-25T02:40:00Z"
    assert ends["end"] == "2027-05-17T02:40:00Z"


def test_the_last_success_has_dates(capsys: Capture) -> None:
    assert main(["forecast", "--last-success", "2026-11-24T12:00Z", "--now", "2026-11-25T12:00Z"]) == 0
    assert "2027-05-23 12:00" in capsys.readouterr().out


def test_planned_numbers(capsys: Capture) -> None:
    assert main(["forecast", "--clients", "40", "--servers", "8", "--office", "12", "--hosts", "2"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"Windows clients +40 +25 +host 1, host 2 +each 24 +✖ too few", out)
    assert re.search(r"Office machines +12 +5 +host 1, host 2 +each 6 +✔ met", out)


def test_an_expected_state(tmp_path: Path, capsys: Capture) -> None:
    plan = tmp_path / "expected.toml"
    plan.write_text(
        'domains = ["contoso.example"]\n[[hosts]]\nhost = "kms1.contoso.example"\n'
        '[[sites]]\nname = "a"\nmachines = { client = 30 }\n',
        encoding="utf-8",
    )
    assert main(["forecast", str(plan)]) == 0
    assert "kms1.contoso.example" in capsys.readouterr().out
    plan.write_text('domains = ["contoso.example"]\n', encoding="utf-8")
    assert main(["forecast", str(plan)]) == 2
    assert "plans no machines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "there is nothing to forecast"),
        (["--status", "licensed"], "give --remaining"),
        (["--remaining", "300000"], "see 'kmsdiag forecast --help'"),
        (["--remaining", "5", "--renewal-interval", "14"], "see 'kmsdiag forecast --help'"),
        (["--last-success", "2026-11-24", "--remaining", "5"], "without --remaining"),
        (["--last-success", "2026-11-24", "--now", "2026-11-20"], "lies after"),
        (["--last-success", "yesterday"], "is no time"),
        (["nothing.toml"], "can't be read"),
        (["--clients", "-1"], "see 'kmsdiag forecast --help'"),
    ],
)
def test_what_can_not_be_forecast_is_one_line(words: list[str], complaint: str, capsys: Capture) -> None:
    assert main(["forecast", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert complaint in err


def test_a_format_for_pipelines_in_the_configuration_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "kmsdiag.toml").write_text('[options]\nformat = "junit"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "12288"]) == 0
    assert main(["forecast", "--clients", "9"]) == 0
    assert "Windows clients" in capsys.readouterr().out


SHOWN = """
Name: Windows(R), Enterprise edition
Description: Windows(R) Operating System, VOLUME_KMSCLIENT channel
Partial Product Key: AB12C
License Status: Licensed
Volume activation expiration: 250000 minute(s) (174 day(s))

Key Management Service client information
    Client Machine ID (CMID): 7a3b6c10-2f54-4d0f-9a76-2f8c1f0d5e11
    KMS machine name from DNS: kms1.contoso.example:1688
    Activation interval: 60 minutes
    Renewal interval: 20160 minutes
"""


def test_files_about_clients(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "dlv.txt").write_text(SHOWN, encoding="utf-8")
    words = [f"desk-17={tmp_path / 'dlv.txt'}", "--collected-at", "2026-11-24T12:00Z", "--now", "2026-11-24T13:00Z"]
    assert main(["forecast", *words, "--format", "json"]) == 0
    [one] = json.loads(capsys.readouterr().out)["clients"]
    assert one["reading"]["name"] == "desk-17"
    found = {step["kind"]: step for step in one["steps"]}
    # 9,200 minutes since the last success, 20,160 between renewals.
    assert found["renewal"]["minutes"] == 10_960
    assert found["end"]["at"] == "2027-05-17T02:40:00Z"
    assert "every 60 minutes" in found["try"]["text"]


def test_a_file_that_does_not_say_when_it_was_made_gives_no_dates(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "dlv.txt").write_text(SHOWN, encoding="utf-8")
    assert main(["forecast", str(tmp_path / "dlv.txt")]) == 0
    out = capsys.readouterr().out
    assert "in 173 d 14 h" in out
    assert re.search(r"20\d\d-", out) is None


def test_a_file_that_is_no_use_is_one_line_and_the_rest_is_told(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "dlv.txt").write_text(SHOWN, encoding="utf-8")
    (tmp_path / "run.pcap").write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    assert main(["forecast", str(tmp_path / "run.pcap"), str(tmp_path / "dlv.txt")]) == 3
    out, err = capsys.readouterr()
    assert "Enterprise" in out
    assert err.count("\n") == 1
    assert "run.pcap" in err
    assert main(["forecast", str(tmp_path / "run.pcap")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_client_of_another_kind_has_no_forecast(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "dlv.txt").write_text(SHOWN.replace("VOLUME_KMSCLIENT", "RETAIL"), encoding="utf-8")
    assert main(["forecast", str(tmp_path / "dlv.txt")]) == 2
    assert "no product in there asks a KMS host" in capsys.readouterr().err


def test_a_folder_of_a_company_with_logs_in_it(capsys: Capture) -> None:
    folder = Path(__file__).parent.parent / "fixtures" / "collected"
    assert main(["forecast", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("clients  11 clients, 1 late to renew; 5 are not activated\n")
