import datetime
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from kmsdiag.evidence.events.run import EventAnalysis, analyse_events
from kmsdiag.model.events import AttemptEnd, EventsAnswer
from kmsdiag.model.target import GivenFile, Selection, StatusFile
from tests.eventsamples import (
    OFFICE,
    SPP,
    START,
    WINDOWS,
    Event,
    analyse,
    answered,
    as_export,
    as_export_csv,
    as_json,
    as_list,
    as_text,
    as_viewer_csv,
    as_xml,
    asked,
    cmid,
    served,
    source,
)
from tests.evtxfiles import evtx

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"


def minutes(count: float) -> datetime.datetime:
    return START + datetime.timedelta(minutes=count)


def published(minute: float, domain: str = "corp.example", hresult: str = "") -> Event:
    ending = "failed." if hresult else "is successful."
    message = f"Publishing the Key Management Service (KMS) to DNS in the '{domain}' domain {ending}"
    message += f"\nInfo:\n{hresult}" if hresult else ""
    values = (hresult, domain) if hresult else (domain,)
    number = 12293 if hresult else 12294
    return Event(number, minute, values, "kms1.corp.example", SPP, "Key Management Service", message)


def failed(minute: float, hresult: str = "0xC004F074") -> Event:
    message = (
        f"License Activation (slui.exe) failed with the following error code:\nhr={hresult}\nCommand-line arguments:\n"
    )
    rule = f"RuleId=1;Action=AutoActivate;AppId=2;SkuId={WINDOWS};NotificationInterval=1440;Trigger=UserLogon"
    return Event(8198, minute, (f"hr={hresult}", rule), message=message + rule)


MIXED = (
    asked(0),
    answered(0.1),
    published(1, hresult="0x80072338"),
    served(2),
    served(2.5, 2, "0xC004F042", machine="pc2.corp.example"),
    published(3),
    asked(120, "0xC004F074", host="kms-old.corp.example:1688"),
    failed(121),
    Event(8200, 122, ("hr=0x80072EE7",), message="License acquisition failure details.\nhr=0x80072EE7"),
    asked(240),
    answered(240.2, activated=0, count=4),
    asked(360),
)

FORMATS: dict[str, Callable[[Sequence[Event]], str | bytes]] = {
    "evtx": evtx,
    "wevtutil xml": as_xml,
    "rendered xml": lambda events: as_xml(events, rendered=True),
    "exported xml": as_export,
    "utf-16 xml": lambda events: as_export(events).replace('"utf-8"', '"utf-16"').encode("utf-16"),
    "csv of PowerShell": as_export_csv,
    "csv with semicolons": lambda events: as_export_csv(events, separator=";"),
    "csv, month first": lambda events: as_export_csv(events, time="%m/%d/%Y %I:%M:%S %p"),
    "utf-16 csv with tabs": lambda events: as_export_csv(events, separator="\t").encode("utf-16"),
    "json 5.1": as_json,
    "json 7": lambda events: as_json(events, modern=True),
    "wevtutil text": as_text,
    "wevtutil text in utf-16": lambda events: as_text(events).encode("utf-16-le"),
    "Format-List": as_list,
    "Format-List in a wide console": lambda events: as_list(events, 200),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_tells_the_same(name: str, tmp_path: Path) -> None:
    found = analyse(tmp_path, FORMATS[name](MIXED)).answer
    (client,) = found.clients
    assert client.machine == "pc1.corp.example"
    ends = {"activated": 1, "failed": 1, "not_activated": 1, "open": 1}
    assert (client.attempts, client.ends, client.orphans) == (4, ends, 0)
    assert client.hosts == {"kms-old.corp.example:1688": 1, "kms1.corp.example:1688": 3}
    assert client.hresults == {"0x00000000": 3, "0xC004F074": 1}
    assert client.failures == {"0xC004F074": 1}
    assert [one.at.replace(second=0, microsecond=0) for one in client.latest] == [
        minutes(m) for m in (0, 120, 240, 360)
    ]
    assert client.latest[2].count == 4
    assert client.latest[2].answer_flags == "0x04000000"
    (host,) = found.hosts
    assert (host.host, host.requests, host.clients) == ("kms1.corp.example", 2, 2)
    assert host.hresults == {"0x00000000": 1, "0xC004F042": 1}
    (domain,) = host.publishing
    assert (domain.domain, domain.published, domain.failed, domain.hresult) == ("corp.example", 1, 1, "0x80072338")
    assert domain.failed_last == minutes(1)
    assert [(one.client_machine_id, one.machines) for one in found.requesters] == [
        (cmid(1), ("pc1.corp.example",)),
        (cmid(2), ("pc2.corp.example",)),
    ]
    assert [len(one.requests_in_detail) for one in found.requesters] == [1, 0]
    assert (found.noise, found.others, found.unread) == ({"8200": 1}, {}, 0)
    assert [file.records for file in found.files] == [len(MIXED)]
    assert not found.files[0].damaged


@pytest.mark.parametrize(
    ("header", "separator", "newest_first"),
    [
        ("", ",", True),
        ("", ",", False),
        ("Ebene|Datum und Uhrzeit|Quelle|Ereignis-ID|Aufgabenkategorie", ";", True),
        ("级别|日期和时间|来源|事件 ID|任务类别", ",", True),
    ],
)
def test_csv_of_event_viewer_has_no_computer_and_any_language(
    header: str, separator: str, newest_first: bool, tmp_path: Path
) -> None:
    events = [asked(0), answered(0), asked(0, host="kms2:1688"), answered(0, count=7), asked(60)]
    text = as_viewer_csv(events, header=header, separator=separator, newest_first=newest_first)
    found = analyse(tmp_path, text, names=["pc7.csv"])
    assert found.unusable == ()
    (client,) = found.answer.clients
    assert client.machine == "pc7"
    assert [(one.host, one.count) for one in client.latest] == [
        ("kms1.corp.example:1688", 50),
        ("kms2:1688", 7),
        ("kms1.corp.example:1688", None),
    ]
    assert found.answer.zone_assumed


# -------------------------------------------------------------------------------------------------- attempts


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ([asked(0), answered(1)], ["activated"]),
        ([asked(0), answered(1, activated=0, count=3)], ["not_activated"]),
        ([asked(0, "0x800706BA")], ["failed"]),
        ([asked(0)], ["open"]),
        ([asked(0), asked(120)], ["not_answered", "open"]),
        ([asked(0, "0x800706BA"), asked(1, host="kms2:1688"), answered(1)], ["failed", "activated"]),
        ([answered(0), asked(1)], ["open"]),
        ([asked(0, "0x80070005"), answered(1)], ["failed"]),
        ([asked(0), answered(1), answered(2)], ["activated"]),
    ],
)
def test_how_an_attempt_ends(events: list[Event], ends: list[str], tmp_path: Path) -> None:
    (client,) = analyse(tmp_path, as_xml(events)).answer.clients
    assert [one.end for one in client.latest] == ends
    answers = sum(event.number == 12289 for event in events)
    paired = sum(one.answered_at is not None for one in client.latest)
    assert client.orphans == answers - paired


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        (
            [asked(0), asked(0.1, product=OFFICE), answered(0.11), answered(0.12, activated=0)],
            "activated not_activated",
        ),
        ([asked(0), asked(0.1, product=OFFICE), answered(0.12)], "not_answered activated"),
        ([asked(0), asked(0.1), answered(0.11), answered(0.12)], "not_answered activated"),
        ([asked(0), asked(5, product=OFFICE), answered(5.1), answered(5.2)], "not_answered activated"),
        ([asked(0), asked(0.1, product=OFFICE), asked(9), answered(9)], "not_answered not_answered activated"),
    ],
)
def test_answers_to_two_products_at_once(events: list[Event], ends: str, tmp_path: Path) -> None:
    """An answer does not say whose it is; the order does, where both came."""
    (client,) = analyse(tmp_path, as_xml(events)).answer.clients
    assert " ".join(one.end for one in client.latest) == ends


def test_the_last_attempt_of_each_product_is_kept(tmp_path: Path) -> None:
    """Office fails every two hours; Windows was renewed days before, and that is what there is to say of it."""
    failing = [asked(120 * n, "0xC004F042", product=OFFICE) for n in range(1, 200)]
    (client,) = analyse(tmp_path, as_xml([asked(0), answered(1), *failing])).answer.clients
    assert len(client.latest) == 51
    assert (client.latest[0].at, client.latest[0].end) == (minutes(0), AttemptEnd.ACTIVATED)


def test_attempts_are_paired_machine_by_machine(tmp_path: Path) -> None:
    events = [asked(0), asked(0.1, machine="pc2", number=2), answered(0.2, machine="pc2"), answered(0.3)]
    found = analyse(tmp_path, as_xml(events)).answer
    assert [(one.machine, dict(one.ends)) for one in found.clients] == [
        ("pc1.corp.example", {"activated": 1}),
        ("pc2", {"activated": 1}),
    ]


def test_attempts_are_paired_across_files_and_counted_once(tmp_path: Path) -> None:
    events = [asked(0), answered(1), asked(120), answered(121), asked(240, "0xC004F074")]
    found = analyse(tmp_path, as_xml(events[:3]), as_xml(events[3:]), as_json(events), evtx(events))
    (client,) = found.answer.clients
    assert (client.attempts, dict(client.ends)) == (3, {"activated": 2, "failed": 1})
    assert client.orphans == 0


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_long_log_is_counted_in_full_and_kept_in_part(newest_first: bool, tmp_path: Path) -> None:
    pairs = [(asked(120 * n), answered(120 * n + 1)) for n in range(1500)]
    events = list(itertools.chain(*pairs))
    found = analyse(tmp_path, as_xml(reversed(events) if newest_first else events)).answer
    (client,) = found.clients
    assert (client.attempts, dict(client.ends), client.orphans) == (1500, {"activated": 1500}, 0)
    assert [one.at for one in client.latest] == [minutes(120 * n) for n in range(1450, 1500)]


def test_activation_by_active_directory_is_told(tmp_path: Path) -> None:
    events = [Event(12308, 5, (WINDOWS, "AO", "CN=AO,DC=corp"), message="Active Directory activation has succeeded")]
    (client,) = analyse(tmp_path, as_xml(events)).answer.clients
    assert (client.by_directory, client.by_directory_last, client.attempts) == (1, minutes(5), 0)


# ----------------------------------------------------------------------------------------------------- hosts


def test_what_a_host_logged_is_told_by_client(tmp_path: Path) -> None:
    events = [
        *(served(60 * n, n % 3) for n in range(9)),
        served(600, 0, "0xC004F06C", machine="clone.corp.example"),
        served(60 * 24 * 40, 7),
    ]
    found = analyse(tmp_path, as_xml(events)).answer
    (host,) = found.hosts
    assert (host.requests, host.clients, host.clients_30_days, host.needs) == (11, 4, 1, {"25": 4})
    first = found.requesters[0]
    assert (first.requests, first.names, first.machines) == (4, 2, ("clone.corp.example", "pc1.corp.example"))
    assert (first.first, first.last, first.last_hresult) == (minutes(0), minutes(600), "0xC004F06C")
    assert first.virtual is True


def test_requests_are_kept_one_by_one_where_a_client_is_known(tmp_path: Path) -> None:
    log = tmp_path / "kms.xml"
    log.write_text(as_xml(served(n, n % 2, status=n % 3) for n in range(1200)))
    found = analyse_events([source(log)], details=[cmid(1)]).answer
    unknown, known = found.requesters
    assert unknown.requests_in_detail == ()
    assert [one.at for one in known.requests_in_detail] == [minutes(n) for n in range(801, 1200, 2)]
    assert known.requests_in_detail[-1].license_status == 1199 % 3


def test_an_id_that_turns_up_late_is_known_all_the_same(tmp_path: Path) -> None:
    """The host's own attempts stand behind the requests that it served."""
    events = [*(served(n) for n in range(5)), asked(10, machine="kms1.corp.example")]
    found = analyse(tmp_path, as_xml(events)).answer
    assert len(found.requesters[0].requests_in_detail) == 5


def test_a_log_exported_twice_counts_once(tmp_path: Path) -> None:
    events = [served(n, n % 4) for n in range(20)]
    found = analyse(tmp_path, evtx(events), as_export_csv(events), as_xml([served(5.5, 2)])).answer
    assert found.hosts[0].requests == 21
    assert sorted(note for file in found.files for note in file.notes) == [
        "the requests to kms1.corp.example are those of log0.txt too: they count once",
        "the requests to kms1.corp.example overlap with those of log0.txt: in both, they count twice",
    ]


def test_failures_to_start_are_counted(tmp_path: Path) -> None:
    events = [Event(12291, 0, ("0x80070005",), "kms1"), Event(12292, 0, ("0x80070005",), "kms1")]
    assert analyse(tmp_path, as_xml(events)).answer.hosts[0].start_failures == {"0x80070005": 2}


# ------------------------------------------------------------------------------------------- not about KMS


def test_numbers_of_other_programs_are_not_taken_for_activation(tmp_path: Path) -> None:
    """Volume Shadow Copy has its own 12289, 12290 and 12293."""
    events = [Event(number, 0, ("0x1, 0x2, a, b",), provider="VSS") for number in (12288, 12289, 12290, 12293)]
    for text in (as_xml(events), as_export_csv(events), as_text(events)):
        found = analyse(tmp_path, text)
        assert (found.answer.clients, found.answer.hosts, found.answer.unread) == ((), (), 0)


def test_noise_is_recognised_as_noise(tmp_path: Path) -> None:
    events = [Event(number, 0, ("x",), message="x") for number in (900, 902, 903, 1003, 8196, 8200, 8208, 8209, 4711)]
    found = analyse(tmp_path, as_xml(events)).answer
    assert found.noise == {str(number): 1 for number in (900, 902, 903, 1003, 8196, 8200, 8208, 8209)}
    assert found.others == {"4711": 1}


# ------------------------------------------------------------------------------------------------ not readable


def test_what_does_not_parse_is_told_and_the_rest_counts(tmp_path: Path) -> None:
    masked = asked(0).values[0].replace(cmid(1), ".......-0000-4000").replace("43200", "<minutes>")
    events = [Event(12288, 0, (masked,)), Event(12289, 1, ("garbage",)), Event(12290, 2, ("0x0, 25, pc",), "kms1")]
    found = analyse(tmp_path, as_xml(events)).answer
    (client,) = found.clients
    assert (client.attempts, client.client_machine_ids, client.latest[0].remaining_min) == (1, (), None)
    assert found.unread == 3
    told = " ".join(found.unread_examples)
    assert ".......-0000-4000" in told
    assert "garbage" in told
    assert "0x0, 25, pc" in told


def test_requests_without_an_id_are_nobodys(tmp_path: Path) -> None:
    info = served(0).values[0].replace(cmid(1), "<masked>")
    found = analyse(tmp_path, as_xml([Event(12290, n, (info,), "kms1") for n in range(3)])).answer
    assert (found.hosts[0].requests, found.hosts[0].clients, found.requesters, found.unread) == (3, 0, (), 3)


@pytest.mark.parametrize(
    ("info", "at"),
    [
        ("0x00000000,0x0,kms1:1688,{id},2010/9/29 21:46,0,2,5,{sku},25", (2010, 9, 29, 21, 46)),
        ("0x0, 0x8, kms1:1688, {id}, 1/14/2006 2:30, 1, 2, 40123, {sku}, 25", (2006, 1, 14, 2, 30)),
        (
            "0xC004F06C, 0x00000000, <KMS Host FQDN>:1688, {id}, 2010/09/29 17:52, 0, 2, 1, {sku}, 5",
            (2010, 9, 29, 17, 52),
        ),
    ],
)
def test_pasted_lists_are_read_in_every_spelling(info: str, at: tuple[int, ...], tmp_path: Path) -> None:
    whole = info.format(id=cmid(3).upper(), sku=WINDOWS)
    for text in (f"12288: {whole}", f"> Event 12288: {whole}\n> thanks", f"{Event(12288, 0, (whole,)).text}\n"):
        found = analyse(tmp_path, text)
        assert found.unusable == ()
        (attempt,) = found.answer.clients[0].latest
        assert attempt.at == datetime.datetime(*at, tzinfo=datetime.UTC)  # type: ignore[misc, arg-type]
        assert attempt.client_machine_id == cmid(3)
        assert found.answer.unread == 0


GET_EVENTLOG = """\
PS C:\\> Get-EventLog Application -Source *SPP* | Format-List *

EventID            : 12288
MachineName        : pc1.corp.example
Data               : {{}}
Index              : 4711
Category           : (0)
CategoryNumber     : 0
EntryType          : Information
Message            : The client has sent an activation request to the key management service machine.
                     Info:
                     {info}
Source             : Microsoft-Windows-Security-SPP
ReplacementStrings : {{{info}}}
InstanceId         : 1073754112
TimeGenerated      : 11/24/2026 12:00:07 PM
TimeWritten        : 11/24/2026 12:00:07 PM
UserName           :
"""
GET_WINEVENT = """\
Message              : The client has sent an activation request to the key management service machine.
                       Info:
                       {info}
Id                   : 12288
Version              : 0
LevelDisplayName     : Information
ProviderName         : Microsoft-Windows-Security-SPP
LogName              : Application
MachineName          : pc1.corp.example
TimeCreated          : 11/24/2026 12:00:07 PM
"""


@pytest.mark.parametrize("shown", [GET_EVENTLOG, GET_WINEVENT])
def test_all_properties_of_an_event_may_stand_around_its_message(shown: str, tmp_path: Path) -> None:
    text = "\n\n".join(shown.format(info=asked(minute).values[0]) for minute in (0, 120))
    (client,) = analyse(tmp_path, text).answer.clients
    assert client.machine == "pc1.corp.example"
    assert [one.at.second for one in client.latest] == [7, 7]


def test_lists_alone_are_known_by_their_shape(tmp_path: Path) -> None:
    lines = [event.values[0] for event in (asked(0), answered(1), served(2))]
    found = analyse(tmp_path, "they say:\n" + "\n".join(lines) + "\nwhat now?").answer
    assert (found.clients[0].ends, found.hosts[0].requests, found.unread) == ({"activated": 1}, 1, 0)


@pytest.mark.parametrize("text", ["0x1, 0x2, nothing", "Id: 8200", "12288: 4 files", "Event ID: 12289", "0x0, 1, 2"])
def test_other_texts_hold_no_events(text: str, tmp_path: Path) -> None:
    assert analyse(tmp_path, text).unusable == (("log0.txt", "no event was found in it"),)


# --------------------------------------------------------------------------------------------------- selection


@pytest.mark.parametrize(
    ("selection", "attempts", "requests"),
    [
        (Selection(), 4, 2),
        (Selection(since=minutes(100)), 3, 0),
        (Selection(until=minutes(2.2)), 1, 1),
        (Selection(clients=("pc1",)), 4, 1),
        (Selection(clients=("PC2.corp.example.",)), 0, 1),
        (Selection(clients=(cmid(1),)), 4, 1),
        (Selection(clients=("somebody",)), 0, 0),
        (Selection(hosts=("kms-old",)), 1, 0),
        (Selection(hosts=("kms1.corp.example:1688",)), 3, 0),
        (Selection(hosts=("kms1.corp.example",)), 3, 2),
    ],
)
def test_a_selection_narrows(selection: Selection, attempts: int, requests: int, tmp_path: Path) -> None:
    log = tmp_path / "log.xml"
    log.write_text(as_xml(MIXED))
    found = analyse_events([source(log)], selection).answer
    assert sum(client.attempts for client in found.clients) == attempts
    assert sum(host.requests for host in found.hosts) == requests


# ---------------------------------------------------------------------------------------------- independence


def several(folder: Path) -> list[Path]:
    """Logs of two clients and two hosts, in several formats and overlapping."""
    files: dict[str, str | bytes] = {
        "pc1.xml": as_xml([asked(60 * n, host=f"kms{n % 2}:1688") for n in range(30)]),
        "pc2.csv": as_export_csv([asked(60 * n, number=2, machine="pc2") for n in range(9)]),
        "kms1.evtx": evtx([served(n, n % 5, host="kms1") for n in range(300)]),
        "kms1-again.xml": as_xml([served(n, n % 6, host="KMS1") for n in range(200, 400)]),
        "kms2.json": as_json([served(n, n % 4, "0xC004F042", host="kms2") for n in range(40)]),
        "late.txt": as_text([*(served(n, 4, host="kms3") for n in range(3)), asked(9, number=4, machine="pc4")]),
        "broken.xml": as_xml([asked(0), asked(1)])[:-40],
    }
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [folder / name for name in files]


def told(analysis: EventAnalysis) -> tuple[bytes, object, object]:
    return msgspec.json.encode(analysis.answer), analysis.files, analysis.unusable


def test_neither_order_nor_jobs_change_a_byte(tmp_path: Path) -> None:
    paths = several(tmp_path)
    whole = told(analyse_events([source(path) for path in paths], details=[cmid(3)]))
    for order in (paths[::-1], paths[3:] + paths[:3]):
        assert told(analyse_events([source(path) for path in order], details=[cmid(3)])) == whole
    assert told(analyse_events([source(path) for path in paths], details=[cmid(3)], jobs=2)) == whole


def test_progress_comes_to_the_whole_size(tmp_path: Path) -> None:
    sources = [source(path) for path in several(tmp_path)]
    seen: list[tuple[int, int]] = []
    analyse_events(sources, progress=lambda done, whole: seen.append((done, whole)))
    size = sum(one.size for one in sources)
    assert seen[-1] == (size, size)
    assert [done for done, _whole in seen] == sorted(done for done, _whole in seen)


def test_texts_count_where_they_hold_events(tmp_path: Path) -> None:
    texts = [
        (GivenFile(label="chat.txt"), "hello"),
        (StatusFile(label="out.txt", machine="pc9"), Event(12288, 0, asked(0).values).text),
    ]
    found = analyse_events([], texts=texts)
    assert [file.label for file in found.files] == ["out.txt"]
    assert found.answer.clients[0].machine == "pc9"


def test_a_machine_may_be_given(tmp_path: Path) -> None:
    log = tmp_path / "x.csv"
    log.write_text(as_viewer_csv([asked(0)]))
    found = analyse_events([source(log)._replace(machine="pc5.corp.example")])
    assert found.answer.clients[0].machine == "pc5.corp.example"


# ------------------------------------------------------------------------------------------------------ samples


def sample(name: str, tmp_path: Path) -> EventsAnswer:
    if not SAMPLES.is_dir():
        pytest.skip("no samples beside the project")
    found = analyse_events([source(SAMPLES / name)])
    assert found.unusable == ()
    return found.answer


def test_sample_of_an_activated_office(tmp_path: Path) -> None:
    found = sample("event-12288-12289-client-office2010-success.txt", tmp_path)
    (attempt,) = found.clients[0].latest
    assert (attempt.end, attempt.required, attempt.count) == (AttemptEnd.ACTIVATED, 5, 10)
    assert found.unread == 1


def test_sample_of_a_wrong_clock(tmp_path: Path) -> None:
    (attempt,) = sample("event-12288-client-c004f06c.txt", tmp_path).clients[0].latest
    assert (attempt.end, attempt.hresult, attempt.host) == ("failed", "0xC004F06C", "<KMS Host FQDN>:1688")


def test_sample_of_publishing_that_fails(tmp_path: Path) -> None:
    (domain,) = sample("event-12293-host-dns-publish-failed-80072338.txt", tmp_path).hosts[0].publishing
    assert (domain.domain, domain.failed, domain.hresult) == ("contoso.com", 1, "0x80072338")


def test_samples_of_8198(tmp_path: Path) -> None:
    (client,) = sample("event-8198-client-80072ee7.txt", tmp_path).clients
    assert (client.machine, client.failures) == ("WIN-FPV0DSIC9O6", {"0x80072EE7": 1})
    template = sample("event-8198-client-kms-template.txt", tmp_path)
    assert (template.clients[0].failures, template.unread) == ({"unreadable": 1}, 1)


def test_sample_of_noise(tmp_path: Path) -> None:
    found = sample("event-8209-8208-8196-nongenuine-2019.txt", tmp_path)
    assert (found.noise, found.clients) == ({"8196": 1, "8208": 1, "8209": 1}, ())


def test_sample_of_documented_examples(tmp_path: Path) -> None:
    found = sample("event-table11-documented-examples.txt", tmp_path)
    (attempt,) = found.clients[0].latest
    assert (attempt.end, attempt.count, attempt.required) == ("not_activated", 4, 25)
    assert found.requesters[0].machines == ("kms03.site5.contoso.com",)
    assert found.unread == 0
