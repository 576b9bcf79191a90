"""Client and host logs side by side: what became of each client's last request."""

import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag import collected
from kmsdiag.correlation import correlate
from kmsdiag.model.correlation import Correlation, Fate
from kmsdiag.model.events import Attempt, AttemptEnd, EventsAnswer
from kmsdiag.model.outcome import ConversationOutcome, State
from tests.conftest import AT, World
from tests.states import (
    CMID,
    KMS1,
    MINUTE,
    OTHER,
    SKU,
    SUCCESS,
    attempt,
    client,
    client_log,
    host_log,
    logs,
    request,
    requester,
)
from tests.traffic import Traffic

FAILED, SENT = AttemptEnd.FAILED, AttemptEnd.NOT_ANSWERED


def one(events: EventsAnswer, world: World | None = None) -> Correlation:
    """The only row."""
    machines = () if world is None else collected.machines(world.evidence())
    (row,) = correlate(machines, events, None)
    return row


@pytest.mark.parametrize(
    ("tried", "fate"),
    [
        (attempt(), Fate.SUCCEEDED),
        (attempt(AttemptEnd.NOT_ACTIVATED, count=12), Fate.COUNT_TOO_LOW),
        (attempt(AttemptEnd.NOT_ACTIVATED, answer="0xC004F038", count=None), Fate.COUNT_TOO_LOW),
        (attempt(AttemptEnd.NOT_ACTIVATED, answer="0xC004F042"), Fate.REFUSED),
        (attempt(AttemptEnd.NOT_ACTIVATED), Fate.NOT_ACTIVATED),
        (attempt(FAILED, hresult="0xC004F06C"), Fate.REFUSED),
        (attempt(FAILED, hresult="0xC004F038"), Fate.COUNT_TOO_LOW),
        (attempt(FAILED, hresult="0x8007232B", host=""), Fate.NO_HOST),
        (attempt(FAILED, hresult="0x8007007B", host=""), Fate.NO_HOST),
        (attempt(FAILED, hresult="0x800706BA"), Fate.NOT_REACHED),
        (attempt(FAILED, hresult="0xC004F074"), Fate.NOT_REACHED),
        (attempt(FAILED, hresult="0xC004F069"), Fate.NOT_ACTIVATED),
        (attempt(FAILED, hresult="0x8ABCDEF0"), Fate.NOT_REACHED),
        (attempt(SENT), Fate.NOT_REACHED),
        (attempt(AttemptEnd.OPEN), Fate.OPEN),
    ],
)
def test_a_client_s_log_alone(tried: Attempt, fate: Fate) -> None:
    row = one(logs(client_log(tried)))
    assert (row.fate, row.client, row.client_machine_id) == (fate, "pc17.contoso.example", CMID)
    assert fate.words


@pytest.mark.parametrize("tried", [attempt(SENT), attempt(FAILED, hresult="0x800706BA"), attempt(AttemptEnd.OPEN)])
class TestBothSides:
    def test_the_host_has_it(self, tried: Attempt) -> None:
        row = one(logs(client_log(tried), hosts=(host_log(),), requesters=(requester(request()),)))
        assert (row.fate, row.host_hresult, row.requests) == (Fate.LOST_BACK, SUCCESS, 1)
        assert row.gaps == ()

    def test_the_host_refused_it(self, tried: Attempt) -> None:
        found = requester(request(hresult="0xC004F042"))
        assert one(logs(client_log(tried), hosts=(host_log(),), requesters=(found,))).fate is Fate.REFUSED


def test_the_host_s_log_of_that_time_lacks_it() -> None:
    tried = attempt(FAILED, hresult="0x800706BA")
    row = one(logs(client_log(tried), hosts=(host_log(),)))
    assert (row.fate, row.gaps) == (Fate.LOST_THERE, ())
    far = requester(request(AT - 30 * MINUTE))
    assert one(logs(client_log(tried), hosts=(host_log(),), requesters=(far,))).fate is Fate.LOST_THERE


def test_a_log_that_does_not_reach_to_that_time_tells_nothing() -> None:
    early = host_log(last=AT - MINUTE)
    row = one(logs(client_log(attempt(SENT)), hosts=(early,)))
    assert (row.fate, row.gaps) == (
        Fate.NOT_REACHED,
        ("the log of kms1.contoso.example does not surely hold that time",),
    )
    other = host_log("kms2.contoso.example")
    row = one(logs(client_log(attempt(SENT)), hosts=(other,)))
    assert (row.fate, row.gaps) == (Fate.NOT_REACHED, ("no log of that host",))


def test_clocks_that_differ_do_not_matter() -> None:
    """Both events carry the client's own time."""
    skewed = request(AT + datetime.timedelta(hours=3), client_time=AT)
    row = one(logs(client_log(attempt(SENT)), hosts=(host_log(),), requesters=(requester(skewed),)))
    assert row.fate is Fate.LOST_BACK


def test_without_the_client_s_time_the_clocks_have_to_do() -> None:
    near = requester(request(AT + 3 * MINUTE, client_time=None))
    far = requester(request(AT + 9 * MINUTE, client_time=None))
    for found, fate in ((near, Fate.LOST_BACK), (far, Fate.LOST_THERE)):
        assert one(logs(client_log(attempt(SENT)), hosts=(host_log(),), requesters=(found,))).fate is fate


def test_a_clone_s_request_is_not_this_machine_s() -> None:
    clone = requester(request(machine="pc99.contoso.example"), names=2)
    row = one(logs(client_log(attempt(SENT)), hosts=(host_log(),), requesters=(clone,)))
    assert (row.fate, row.gaps) == (Fate.LOST_THERE, ("2 machines share its ID",))


def test_a_success_that_the_host_did_not_log_is_noted() -> None:
    row = one(logs(client_log(attempt()), hosts=(host_log(),)))
    assert (row.fate, row.gaps) == (Fate.SUCCEEDED, ("the log of kms1.contoso.example lacks the request",))


def test_several_hosts_in_one_attempt_are_told_by_the_one_that_got_furthest() -> None:
    dead = attempt(FAILED, hresult="0x800706BA", host="kms2.contoso.example:1688", at=AT + MINUTE / 4)
    refusing = attempt(FAILED, hresult="0xC004F042")
    row = one(logs(client_log(refusing, dead)))
    assert (row.fate, row.host, row.hresult, row.attempts) == (
        Fate.REFUSED,
        "kms1.contoso.example:1688",
        "0xC004F042",
        2,
    )
    later = attempt(FAILED, hresult="0x800706BA", at=AT + 120 * MINUTE)
    assert one(logs(client_log(refusing, later))).fate is Fate.NOT_REACHED


OFFICE = "85dd8b5f-eaa4-4af3-a628-cce9e77c9a03"
DAY = datetime.timedelta(days=1)


def fates(events: EventsAnswer, world: World | None = None) -> dict[str, Fate]:
    """What became of each product's last request."""
    machines = () if world is None else collected.machines(world.evidence())
    return {row.activation_id: row.fate for row in correlate(machines, events, None)}


class TestProducts:
    def test_windows_and_office_each_have_their_own_end(self) -> None:
        """Both ask at start-up; neither speaks for the other."""
        office = attempt(FAILED, hresult="0xC004F042", activation_id=OFFICE, required=5, at=AT + MINUTE / 10)
        assert fates(logs(client_log(attempt(), office))) == {SKU: Fate.SUCCEEDED, OFFICE: Fate.REFUSED}

    def test_a_request_of_office_is_none_of_windows(self) -> None:
        found = requester(request(activation_id=OFFICE, hresult="0xC004F042"))
        events = logs(client_log(attempt(SENT)), hosts=(host_log(),), requesters=(found,))
        assert fates(events) == {SKU: Fate.LOST_THERE}

    def test_another_edition_of_windows_takes_the_place_of_the_first(self) -> None:
        old = attempt(FAILED, hresult="0xC004F069", activation_id=OTHER)
        assert fates(logs(client_log(old, attempt(at=AT + MINUTE)))) == {SKU: Fate.SUCCEEDED}

    def test_what_has_not_asked_for_a_day_is_gone(self) -> None:
        old = attempt(FAILED, hresult="0xC004F042", activation_id=OTHER, required=5)
        near = attempt(at=AT + DAY / 2, required=5)
        assert set(fates(logs(client_log(old, near)))) == {SKU, OTHER}
        assert fates(logs(client_log(old, attempt(at=AT + 2 * DAY, required=5)))) == {SKU: Fate.SUCCEEDED}

    def test_an_attempt_before_active_directory_activated_it_does_not_count(self) -> None:
        tried = attempt(FAILED, hresult="0x8007232B", host="")
        directory: dict[str, Any] = {"by_directory": 1, "by_directory_last": AT + MINUTE}
        assert fates(logs(client_log(tried, **directory))) == {}
        again = attempt(FAILED, hresult="0x8007232B", host="", at=AT + DAY)
        assert fates(logs(client_log(tried, again, **directory))) == {SKU: Fate.NO_HOST}

    def test_requests_of_a_client_without_log(self) -> None:
        asked = (request(activation_id=SKU), request(AT + MINUTE, "0xC004F042", activation_id=OFFICE, required=5))
        world = World().status("pc17.txt", client())
        assert fates(logs(requesters=(requester(*asked),)), world) == {SKU: Fate.SUCCEEDED, OFFICE: Fate.REFUSED}


def test_a_file_tells_that_it_was_activated_since() -> None:
    """250,000 of 259,200 minutes are left: it was activated 9,200 minutes before the file was made."""
    world, begun = World().status("pc17.txt", client()), AT - 9_200 * MINUTE
    for at, since in ((begun - MINUTE, begun), (begun, begun), (begun + MINUTE, None), (AT, None)):
        assert one(logs(client_log(attempt(FAILED, hresult="0x800706BA", at=at))), world).since == since
    assert one(logs(client_log(attempt(at=begun - MINUTE))), world).since is None
    other = World().status("pc17.txt", client(activation_id=OFFICE, description="Office 21, VOLUME_KMSCLIENT channel"))
    assert one(logs(client_log(attempt(SENT, at=begun - MINUTE))), other).since is None


def test_a_clone_s_refusal_is_not_that_of_a_client_without_log() -> None:
    clone = requester(request(), request(AT + MINUTE, "0xC004F06C", machine="pc99.contoso.example"), names=2)
    world = World().status("pc17.txt", client())
    row = one(logs(requesters=(clone,)), world)
    assert (row.fate, row.at, row.gaps[0]) == (Fate.SUCCEEDED, AT, "2 machines share its ID")
    other = requester(request(machine="pc99.contoso.example", hresult="0xC004F06C"))
    assert correlate(collected.machines(world.evidence()), logs(requesters=(other,)), None) == ()


def test_clones_in_folders_called_as_they_are() -> None:
    """Two files without a name in them, of one ID: the host's log has the name of the folder."""
    world = World().status("a.txt", client(""), folder="pc17").status("b.txt", client(""), folder="pc18")
    shared = requester(request(machine="PC17"), request(AT + MINUTE, "0xC004F06C", machine="pc18"), names=2)
    rows = correlate(collected.machines(world.evidence()), logs(requesters=(shared,)), None)
    assert [(row.client, row.fate) for row in rows] == [("pc17", Fate.SUCCEEDED), ("pc18", Fate.REFUSED)]


def test_names_that_begin_alike_are_two_machines() -> None:
    """Of two domains, or addresses."""
    for first, second in (("pc1.a.example", "pc1.b.example"), ("10.1.0.7", "10.1.0.8")):
        tried = attempt(SENT, host=f"{first}:1688")
        row = one(logs(client_log(tried), hosts=(host_log(second),)))
        assert (row.fate, row.gaps) == (Fate.NOT_REACHED, ("no log of that host",))


def test_a_log_without_names_is_of_the_machine_that_has_its_id() -> None:
    row = one(logs(client_log(attempt(), machine="")), World().status("pc17.txt", client()))
    assert row.client == "pc17.contoso.example"


def test_times_without_a_zone_do_not_show_that_a_request_is_missing() -> None:
    tried = attempt(SENT)
    near = (host_log(),)
    far = (host_log(first=AT - 2 * DAY, last=AT + 2 * DAY),)
    assert one(logs(client_log(tried), hosts=near, zone_assumed=True)).fate is Fate.NOT_REACHED
    assert one(logs(client_log(tried), hosts=far, zone_assumed=True)).fate is Fate.LOST_THERE
    tried = attempt(SENT, client_time=None)
    assert one(logs(client_log(tried), hosts=far, zone_assumed=True)).fate is Fate.NOT_REACHED


def test_a_request_older_than_those_kept_of_its_id_is_not_missing() -> None:
    """Of an ID that clones share, the newest 200 requests are kept."""
    later = msgspec.structs.replace(requester(request(AT + 30 * MINUTE, machine="pc99")), requests=5000, names=40)
    row = one(logs(client_log(attempt(SENT)), hosts=(host_log(),), requesters=(later,)))
    assert row.fate is Fate.NOT_REACHED


def test_codes_that_could_not_be_read_are_no_failures() -> None:
    found = requester(request(hresult="unreadable"), hresults={"unreadable": 1}, required={"others": 1})
    events = logs(client_log(attempt(SENT)), hosts=(host_log(),), requesters=(found,))
    assert one(events).fate is Fate.LOST_BACK
    bare = msgspec.structs.replace(found, requests_in_detail=(), last_hresult="unreadable")
    assert one(logs(requesters=(bare,)), World().status("pc17.txt", client())).required is None


def test_gaps_of_a_client_s_own_log() -> None:
    two = client_log(attempt(client_machine_id=OTHER), attempt(at=AT + MINUTE * 120), orphans=3)
    row = one(logs(two, hosts=(host_log(last=AT + MINUTE * 180),), requesters=(requester(request(AT + MINUTE * 120)),)))
    assert row.gaps == ("2 client machine IDs in its log", "3 answers without a request in its log")


class TestStatusFiles:
    def world(self, **fields: Any) -> World:
        return World().status("pc17.txt", client(**fields))

    def test_a_client_without_a_log_of_its_own(self) -> None:
        row = one(logs(hosts=(host_log(),), requesters=(requester(request()),)), self.world())
        assert (row.client, row.fate, row.gaps) == ("pc17.contoso.example", Fate.SUCCEEDED, ("no log of the client",))
        assert (row.required, row.requests, row.host) == (25, 1, KMS1)

    def test_whether_the_answer_reached_it_is_not_known(self) -> None:
        row = one(logs(requesters=(requester(request()),)), self.world(status=5))
        assert (row.fate, row.fate.state) == (Fate.ANSWERED, State.UNKNOWN)

    def test_refused(self) -> None:
        found = requester(request(hresult="0xC004F042"))
        assert one(logs(requesters=(found,)), self.world(status=5)).fate is Fate.REFUSED

    def test_its_log_says_more(self) -> None:
        events = logs(client_log(attempt(), machine="PC17"), requesters=(requester(request()),))
        row = one(events, self.world())
        assert (row.client, row.gaps) == ("PC17", ())

    def test_without_events_there_are_no_rows(self) -> None:
        assert correlate(collected.machines(self.world().evidence()), None, None) == ()


def test_captures_tell_how_the_same_client_ended() -> None:
    traffic = Traffic().talk("10.2.0.17", "10.1.0.8", ConversationOutcome.REQUEST_RESET, machine="PC17")
    (row,) = correlate((), logs(client_log(attempt(SENT))), traffic.answer())
    assert row.captured == ConversationOutcome.REQUEST_RESET.words


def test_captures_of_another_time_tell_nothing_of_it() -> None:
    traffic = Traffic().talk("10.2.0.17", "10.1.0.8", ConversationOutcome.REQUEST_RESET, machine="PC17")
    (row,) = correlate((), logs(client_log(attempt(SENT, at=AT + 30 * MINUTE))), traffic.answer())
    assert row.captured == ""


@given(st.permutations(range(6)))
def test_the_order_of_the_evidence_does_not_matter(order: list[int]) -> None:
    clients = [
        client_log(attempt(client_machine_id=f"{n:08x}-0000-0000-0000-000000000000"), machine=f"pc{n}") for n in order
    ]
    requesters = [
        requester(request(machine=f"pc{n}"), machine_id=f"{n:08x}-0000-0000-0000-000000000000") for n in order
    ]
    rows = correlate((), logs(*clients, hosts=(host_log(),), requesters=tuple(requesters)), None)
    assert [row.client for row in rows] == [f"pc{n}" for n in range(6)]
    assert {row.fate for row in rows} == {Fate.SUCCEEDED}
    assert all(not row.gaps for row in rows)
