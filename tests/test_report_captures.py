"""Reports about captures: the first screen, the tables, and that nothing captured can act."""

import unicodedata

import msgspec
import pytest
from markdown_it import MarkdownIt

from kmsdiag.model.capture import CaptureAnswer, FileFacts, Frame
from kmsdiag.model.report import Report
from kmsdiag.registry import Registry, discover
from kmsdiag.report import captures, json, markdown, text
from kmsdiag.report.lines import plain
from tests.conftest import World, icmp, record
from tests.labruns import NASTY
from tests.traffic import AT, Traffic

K1, K2, K3 = "10.1.0.8", "10.1.0.9", "10.1.0.10"
CLIENTS = [f"10.2.0.{number}" for number in range(11, 131)]
CONTOSO = "contoso.example"


def published(*clients: str, seconds: float = 600) -> Traffic:
    traffic = Traffic(seconds=seconds).srv(CONTOSO, record("kms1"), record("kms2", priority=10), clients=clients)
    return traffic.name("kms1.contoso.example", K1).name("kms2.contoso.example", K2)


def broken() -> Traffic:
    """Every client is refused by the first host for its clock, and the second is silent."""
    traffic = published(*CLIENTS[:3], seconds=3 * 3600)
    for at in (0, 7200):
        traffic.talks(CLIENTS[:3], K1, "host_refused", hresult="0xC004F06C", at=at, found="srv")
        traffic.talks(CLIENTS[:3], K2, "unanswered", at=at + 2, found="srv", syns=3)
    return traffic


def degraded() -> Traffic:
    """Most activate; two ask for another product, and three still turn to a retired host."""
    traffic = published(*CLIENTS[:117]).talks(CLIENTS[:115], K1, found="srv")
    traffic.talks(CLIENTS[115:117], K1, "host_refused", found="srv")
    return traffic.talks(CLIENTS[117:], "10.1.0.77", "refused", syns=5, found="nothing")


def healthy() -> Traffic:
    """Everybody activates and renews."""
    traffic = published(*CLIENTS, seconds=8 * 86_400).talks(CLIENTS, K1, found="srv")
    return traffic.talks(CLIENTS, K1, at=7 * 86_400, found="srv")


def everything() -> Traffic:
    """Many faults at once, at many hosts."""
    traffic = published(*CLIENTS[:20]).srv("corp.example", clients=CLIENTS[20:22])
    ends = ("unanswered", "refused", "unreachable", "bind_nak", "request_reset", "host_refused", "below_threshold")
    error = icmp(13, "10.1.0.1", "communication administratively prohibited")
    for number, end in enumerate(ends):
        own = CLIENTS[2 * number : 2 * number + 2]
        traffic.talks(own, f"10.1.1.{number}", end, icmp=error if end == "unreachable" else None, count=3, required=25)
    return traffic.talks(CLIENTS[14:16], K1, retransmissions=9)


WORLDS = {"broken": broken(), "degraded": degraded(), "healthy": healthy(), "everything": everything()}
NAMES = pytest.mark.parametrize("name", WORLDS)
REGISTRY = discover()


def report(name: str) -> Report:
    return World().captures(WORLDS[name].answer()).report(REGISTRY)


def lines(made: Report, verbosity: int = 0) -> list[str]:
    return plain(text.render(made, verbosity=verbosity)).splitlines()


@NAMES
def test_verdict_and_paths_fit_a_screen(name: str) -> None:
    shown = lines(report(name))
    blank = [number for number, line in enumerate(shown) if not line]
    assert blank[1] <= 25, "\n".join(shown[: blank[1]])


@NAMES
def test_every_check_speaks_and_none_crashes(name: str) -> None:
    made = report(name)
    assert {result.check for result in made.results if result.check.startswith("capture_")} == {
        check.id for check in REGISTRY.checks if check.id.startswith("capture_")
    }
    assert not [result for result in made.results if result.status == "crashed"]


def test_the_first_lines_say_who_failed_where_and_why() -> None:
    first = lines(report("degraded"))[:3]
    assert first[0] == "▲ DEGRADED  5 of 120 clients could not activate, 3 at tcp, 2 at answer."
    assert "KMS host 10.1.0.77 refuses TCP 1688" in first[1]
    assert "kms1.contoso.example (10.1.0.8) refuses (0xC004F042): its key is for other products" in first[2]


def test_a_refusal_comes_before_the_silence_of_the_next_host() -> None:
    assert lines(report("broken"))[0] == "✖ BROKEN  All 3 clients failed to activate, at answer."


def test_what_a_cause_says_is_no_remark_as_well() -> None:
    remarks = {remark.code for remark in report("broken").verdict.remarks}
    assert "capture_retries.retrying" in remarks
    assert not {code for code in remarks if code.startswith(("capture_connect", "capture_refusals", "capture_clock"))}


def test_without_a_cause_of_their_own_errors_stay_remarks() -> None:
    world = World().captures(Traffic().talk(CLIENTS[0], K1, version="4.0", skew=20_000.0).answer())
    assert "capture_clock.beyond" in {remark.code for remark in world.report(REGISTRY).verdict.remarks}


@NAMES
def test_tables_say_where_to_look_in_wireshark(name: str) -> None:
    made = report(name)
    shown = lines(made, verbosity=1)
    assert made.captures is not None
    for one in made.captures.examples:
        line = next(line for line in shown if f"#{one.number} " in line and "&&" in line)
        assert f"{one.first.number}-{one.last.number}" in line
        assert captures.display_filter(one) in line
    assert any(made.captures.filter in line for line in shown)
    assert any("--show" in line for line in shown)


def test_long_tables_are_cut_and_v_shows_them_whole() -> None:
    made = World().captures(Traffic().talks(CLIENTS, K1, "refused").answer()).report(REGISTRY)
    assert any("and 112 more (-v shows them all)" in line for line in lines(made))
    assert sum(CLIENTS[100] in line for line in lines(made)) == 0
    assert sum(CLIENTS[100] in line for line in lines(made, verbosity=1)) == 1


def test_one_example_of_each_end_comes_first() -> None:
    made = World().captures(Traffic().talks(CLIENTS[:3], K1, "refused").talks(CLIENTS[3:6], K1).answer())
    view = made.report(REGISTRY).captures
    assert view is not None
    table = next(one for one in captures.tables(view) if one.headers[-1] == "filter")
    assert [row[0] for row in table.rows] == ["#1", "#4", "#2", "#5", "#3", "#6"]


def test_an_ipv6_conversation_has_a_filter_for_ipv6() -> None:
    answer = Traffic().talk(CLIENTS[0], K1).answer()
    one = msgspec.structs.replace(answer.examples[0], client="fd00::1", host="fd00::8")
    assert captures.display_filter(one) == (
        "ipv6.addr == fd00::1 && tcp.port == 49152 && ipv6.addr == fd00::8 && tcp.port == 1688"
    )


def test_frames_of_several_files_name_the_file() -> None:
    files = tuple(FileFacts(label=label, format="pcap", size=1, first=AT, last=AT) for label in ("a.pcap", "b.pcap"))
    assert captures.frame(Frame(1, 17), files) == "b.pcap: 17"
    assert captures.frame(Frame(0, 17), files[:1]) == "17"
    assert captures.frame(Frame(9, 17), files) == "17"


def test_the_last_line_says_that_nothing_was_sent() -> None:
    assert "nothing was sent" in " ".join(lines(report("healthy"))[-2:])


def test_json_carries_the_tables() -> None:
    made = msgspec.json.decode(json.render(report("degraded")))
    assert [row["address"] for row in made["captures"]["clients"]] == CLIENTS[115:]
    assert [host["address"] for host in made["captures"]["hosts"]] == ["10.1.0.77", K1]
    assert made["counts"]["packets"] > 0


@NAMES
def test_markdown_has_the_tables(name: str) -> None:
    made = report(name)
    page = MarkdownIt("commonmark").enable("table").render(markdown.render(made))
    assert made.captures is not None
    for table in captures.tables(made.captures):
        assert f"<h2>{table.title}</h2>" in page
    assert page.count("<table>") >= len(list(captures.tables(made.captures)))


def hostile(word: str) -> CaptureAnswer:
    """A digest in which every text is a bad joke: whoever makes one escapes it, but a bundle may have been edited."""
    answer = broken().talk(CLIENTS[0], K3, "other_protocol", detail=word, machine=word, machine_id=word).answer()
    replace = msgspec.structs.replace
    host = replace(answer.hosts[0], names=(word, "x" * 300), versions={word: 1})
    lookup = replace(answer.lookups[0], name=word, rcodes={word: 1}, addresses=(word,))
    srv = replace(answer.lookups[-1], name=f"_vlmcs._tcp.{word}")
    file = replace(answer.files[0], label=word, format=word, notes=(word,), damaged=True)
    client = replace(answer.clients[0], machines=(word,), asked=(word,), told=(word,), machine_ids=(word,))
    return replace(
        answer,
        files=(file,),
        hosts=(host, *answer.hosts[1:]),
        lookups=(lookup, *answer.lookups[1:], srv),
        clients=(client, *answer.clients[1:]),
    )


@pytest.mark.parametrize("word", NASTY)
def test_nothing_captured_acts(word: str) -> None:
    made = World().captures(hostile(word)).report(REGISTRY)
    assert not [result.reason for result in made.results if result.status == "crashed"]
    shown = plain(text.render(made, verbosity=2)) + markdown.render(made) + json.render(made)
    for character in shown.replace("\n", ""):
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), repr(character)


def test_no_checks_no_findings_and_the_same_verdict() -> None:
    answer = degraded().answer()
    without = World().captures(answer).report(Registry(()))
    assert without.verdict.causes == report("degraded").verdict.causes
