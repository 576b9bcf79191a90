"""Whole bundles of anything that files and event logs could say: every check, every path, every form of the report."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kmsdiag import diagnosis
from kmsdiag.bundle import Bundle, BundleError, decode, encode, make_facts
from kmsdiag.model.collected import MachineState
from kmsdiag.model.events import AttemptEnd, ClientEvents, EventsAnswer, HostEvents, Requester
from kmsdiag.model.finding import Status
from kmsdiag.registry import discover
from kmsdiag.report import json as json_report
from kmsdiag.report import junit, lines, markdown, text
from tests.anystruct import CODES, TIMES, values
from tests.conftest import World

COUNTERS = st.dictionaries(st.sampled_from((*CODES[1:], "unreadable", "others")), st.integers(0, 5), max_size=3)
GIVEN: dict[str, st.SearchStrategy[Any]] = {
    "hresult": st.sampled_from(CODES),
    "last_hresult": st.sampled_from((*CODES, "unreadable")),
    "answer": st.sampled_from(CODES),
    "result": st.sampled_from(CODES),
    "hresults": COUNTERS,
    "failures": COUNTERS,
    "start_failures": COUNTERS,
    "ends": st.dictionaries(st.sampled_from([one.value for one in AttemptEnd]), st.integers(0, 5), max_size=3),
    "required": st.one_of(st.none(), st.sampled_from((0, 5, 25, 2**31))),
    "needs": st.dictionaries(st.sampled_from(("5", "25", "others")), st.integers(0, 9), max_size=3),
}
STATES = st.lists(values(MachineState, **{**GIVEN, "required": st.sampled_from((None, 5, 25))}), max_size=2).map(tuple)


def _sound(client: ClientEvents) -> ClientEvents:
    return msgspec.structs.replace(client, latest=tuple(sorted(client.latest, key=lambda one: one.at)))


def _requests(requester: Requester) -> Requester:
    first, last = sorted((requester.first, requester.last))
    needs = {"5": 1, "others": 2} if requester.requests else {}
    return msgspec.structs.replace(requester, first=first, last=last, required=needs)


def _requesters() -> st.SearchStrategy[Requester]:
    fields = {name: one for name, one in GIVEN.items() if name != "required"}
    return (
        values(Requester, **fields, required=st.just({})).filter(lambda one: not one.requests_in_detail).map(_requests)
    )


CLIENTS = st.lists(values(ClientEvents, **GIVEN).map(_sound), max_size=3).map(tuple)
HOSTS = st.lists(values(HostEvents, **GIVEN), max_size=2).map(tuple)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Files about machines and logs, in any mix."""
    world = World()
    for number in range(draw(st.integers(0, 2))):
        world.status(f"{number}.txt", *draw(STATES))
    if draw(st.booleans()):
        world.events(
            EventsAnswer(
                at=draw(st.sampled_from(TIMES)),
                files=(),
                clients=draw(CLIENTS),
                hosts=draw(HOSTS),
                requesters=draw(st.lists(_requesters(), max_size=3).map(tuple)),
                noise={"8200": 3},
                unread=draw(st.integers(0, 2)),
                zone_assumed=draw(st.booleans()),
            )
        )
    return world


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(worlds(), st.randoms())
def test_every_bundle_can_be_judged_and_shown(world: World, chance: Any) -> None:
    made = world.bundle()
    try:
        bundle = decode(encode(made))
    except BundleError:
        assume(False)
        return
    assert bundle == made
    report = diagnosis.judge(bundle, discover())
    assert [view for view in report.results if view.status is Status.CRASHED] == []
    facts = list(world.facts.items())
    chance.shuffle(facts)
    again: Bundle = msgspec.structs.replace(bundle, facts=make_facts(dict(facts)))
    assert json_report.render(diagnosis.judge(again, discover())) == json_report.render(report)
    assert lines.plain(text.render(report, verbosity=2))
    markdown.render(report)
    junit.render(report)
