import datetime
import json
import random
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag import bundle as bundles
from kmsdiag import diagnosis
from kmsdiag.bundle import BUNDLE_FORMAT, Bundle, BundleError, decode, encode, make_facts, make_gaps
from kmsdiag.model.collected import MachineState
from kmsdiag.model.outcome import DnsOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.request import AnyAnswer, AnyRequest, TcpConnect
from kmsdiag.registry import discover
from tests.conftest import AT, World, record
from tests.labruns import NAMES, runs
from tests.states import attempt, client, client_log, host_log, logs, request, requester
from tests.traffic import Traffic

FIXTURES = Path(__file__).parent.parent / "fixtures/bundles"


def edited(**changes: Any) -> bytes:
    """The bundle of scenario mixed with other fields at the top."""
    data = json.loads(encode(runs()["mixed"].bundle))
    return json.dumps({**data, **changes}).encode()


def changed(path: tuple[str | int, ...], value: Any) -> bytes:
    """The bundle of scenario mixed with one value, somewhere inside, replaced."""
    data = json.loads(encode(runs()["mixed"].bundle))
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(data).encode()


class TestRoundTrip:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_scenario(self, name: str) -> None:
        made = runs()[name].bundle
        data = encode(made)
        assert decode(data) == made
        assert encode(decode(data)) == data

    def test_every_kind_of_gap(self) -> None:
        made = World("contoso.example").gap(TcpConnect(address="10.1.0.8", port=1688), "no privilege").bundle()
        again = decode(encode(made))
        assert again.gaps() == {TcpConnect(address="10.1.0.8", port=1688): "no privilege"}

    def test_bytes_do_not_depend_on_the_order_of_asking(self) -> None:
        world = World("contoso.example").srv(record("a"), record("b")).host("a", "10.1.0.8").host("b", "10.1.0.9")
        made = world.bundle()
        for seed in range(5):
            facts, gaps = list(world.facts.items()), list(world.unanswered.items())
            random.Random(seed).shuffle(facts)
            random.Random(seed).shuffle(gaps)
            other = bundles.Bundle(
                **{
                    **{name: getattr(made, name) for name in made.__struct_fields__},
                    "facts": make_facts(dict(facts)),
                    "unanswered": make_gaps(dict(gaps)),
                }
            )
            assert encode(other) == encode(made)

    def test_messages_are_kept_byte_by_byte(self) -> None:
        made = runs()["mixed"].bundle
        kept = [wire for fact in decode(encode(made)).facts for wire in getattr(fact.answer, "wire", ())]
        assert kept
        assert kept == [wire for fact in made.facts for wire in getattr(fact.answer, "wire", ())]


class TestErrors:
    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "it is empty"),
            (b" \n\t", "it is empty"),
            (b"slmgr", "it is no JSON"),
            (b"\xff\xfe\x00", "it is no JSON"),
            (b'{"kmsdiag_bundle": 1', "it is no JSON"),
            (b"[]", "it is no bundle"),
            (b"{}", "JSON, but no bundle"),
            (b'{"kmsdiag_report": 1}', "a report, which holds no evidence"),
            (b'{"kmsdiag_bundle": "1"}', "it is no bundle: .*kmsdiag_bundle"),
            (b'{"kmsdiag_bundle": 2}', "format 2, newer than 1, .*: update kmsdiag"),
            (b'{"kmsdiag_bundle": 0}', "format 0, which there never was"),
            (b'{"kmsdiag_bundle": -1}', "format -1, which there never was"),
            (b'{"kmsdiag_bundle": 1}', "it is damaged: .*required field"),
            (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
            (b'{"kmsdiag_bundle": 1, "facts": ' + b"[" * 100_000, "."),
        ],
    )
    def test_say_what_it_is(self, data: bytes, says: str) -> None:
        with pytest.raises(BundleError, match=says):
            decode(data)

    def test_a_report_is_no_bundle(self) -> None:
        from kmsdiag.report import json as rendered

        with pytest.raises(BundleError, match="a report, which holds no evidence"):
            decode(rendered.render(runs()["healthy"].report).encode())

    def test_an_unknown_field_is_named(self) -> None:
        with pytest.raises(BundleError, match=r"damaged: .*`surprise`"):
            decode(edited(surprise=1))

    @pytest.mark.parametrize(
        ("path", "value", "says"),
        [
            (("facts", 0, "request", "surprise"), 1, r"`surprise` - at `\$\.facts\[0\]\.request`"),
            (("facts", 0, "answer", "outcome"), "odd", r"'odd' - at `\$\.facts\[0\]\.answer\.outcome`"),
            (("facts", 0, "answer", "is"), "tcp", "damaged"),
            (("started",), "yesterday", r"at `\$\.started`"),
            (("target", "tries"), 10**12, r"at `\$\.target\.tries`"),
            (("target", "tries"), 0, r"at `\$\.target\.tries`"),
            (("target", "servers", 0), "dc1", r"no DNS server.* - at `\$\.target\.servers\[0\]`"),
            (
                ("facts", 0, "answer", "addresses"),
                ["10.1.0.999"],
                r"'10\.1\.0\.999' is no address - at `\$\.facts\[0\]`",
            ),
        ],
    )
    def test_damage_is_named_with_its_path(self, path: tuple[str | int, ...], value: Any, says: str) -> None:
        with pytest.raises(BundleError, match=says):
            decode(changed(path, value))

    @pytest.mark.parametrize(
        ("path", "value", "says"),
        [
            (("outcomes",), {"odd": 1}, "'odd' is no ConversationOutcome"),
            (("hosts", 0, "outcomes"), {"odd": 1}, "'odd' is no ConversationOutcome"),
            (("clients", 0, "uses", 0, "outcomes"), {"odd": 1}, "'odd' is no ConversationOutcome"),
            (("lookups", 0, "outcomes"), {"odd": 1}, "'odd' is no DnsOutcome"),
            (("hosts", 0, "found_by"), {"odd": 1}, "'odd' is no FoundBy"),
            (("quality", "conversations_lacking"), {"odd": 1}, "'odd' is no Lack"),
            (("hosts", 0, "hresults"), {"0xc004f042": 1}, "'0xc004f042' is no HRESULT"),
            (("clients", 0, "uses", 0, "hresults"), {"odd": 1}, "'odd' is no HRESULT"),
            (("hosts", 0, "address"), "kms1", "'kms1' is no address"),
            (("clients", 0, "address"), "x", "'x' is no address"),
            (("clients", 0, "uses", 0, "address"), "x", "'x' is no address"),
            (("examples", 0, "client"), "x", "'x' is no address"),
            (("lookups", 0, "server"), "dc1", "'dc1' is no address"),
            (("clients", 0, "uses", 0, "last"), "2026-01-05T08:00:00", "has no zone"),
        ],
    )
    def test_a_capture_s_digest_is_held_to_what_checks_rely_on(
        self, path: tuple[str | int, ...], value: Any, says: str
    ) -> None:
        traffic = Traffic().srv("contoso.example", record("kms1"), clients=["10.2.0.11"]).talk("10.2.0.11", "10.1.0.8")
        whole = json.loads(encode(World().captures(traffic.answer()).bundle()))
        place = whole["facts"][0]["answer"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(BundleError, match=says):
            decode(json.dumps(whole).encode())

    @pytest.mark.parametrize(
        ("path", "value", "says"),
        [
            (("clients", 0, "ends"), {"odd": 1}, "'odd' is no AttemptEnd"),
            (("clients", 0, "hresults"), {"0xc004f042": 1}, "'0xc004f042' is no HRESULT"),
            (("clients", 0, "failures"), {"odd": 1}, "'odd' is no HRESULT"),
            (("clients", 0, "latest", 0, "hresult"), "0x0", "'0x0' is no HRESULT"),
            (("clients", 0, "latest", 0, "answer"), "odd", "'odd' is no HRESULT"),
            (("clients", 0, "latest", 0, "at"), "2026-01-05T08:00:00", r"timezone component.*latest\[0\]\.at"),
            (
                ("clients", 0, "latest", 0, "at"),
                "2027-01-05T08:00:00Z",
                "'pc17.contoso.example' are not in their order",
            ),
            (("hosts", 0, "hresults"), {"odd": 1}, "'odd' is no HRESULT"),
            (("hosts", 0, "start_failures"), {"odd": 1}, "'odd' is no HRESULT"),
            (("requesters", 0, "last_hresult"), "odd", "'odd' is no HRESULT"),
            (("requesters", 0, "requests_in_detail", 0, "hresult"), "odd", "'odd' is no HRESULT"),
            (("requesters", 0, "first"), "2027-01-05T08:00:00Z", "end before they begin"),
        ],
    )
    def test_a_digest_of_logs_is_held_to_what_checks_rely_on(
        self, path: tuple[str | int, ...], value: Any, says: str
    ) -> None:
        later = attempt(at=AT + datetime.timedelta(hours=1))
        answer = logs(client_log(attempt(), later), hosts=(host_log(),), requesters=(requester(request()),))
        whole = json.loads(encode(World().events(answer).bundle()))
        assert encode(decode(json.dumps(whole).encode()))
        place = whole["facts"][0]["answer"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(BundleError, match=says):
            decode(json.dumps(whole).encode())

    def test_the_state_of_machines_is_held_to_what_checks_rely_on(self) -> None:
        for says, made in (
            ("'0x0' is no HRESULT", client(result="0x0")),
            (r"timezone component.*machines\[1\]\.collected_at", MachineState(collected_at=AT.replace(tzinfo=None))),
        ):
            with pytest.raises(BundleError, match=says):
                decode(encode(World().status("a.txt", client(), made).bundle()))

    @pytest.mark.parametrize("field", ["priority", "weight", "port"])
    @pytest.mark.parametrize("value", [-1, 65_536])
    def test_numbers_are_held_to_their_range(self, field: str, value: int) -> None:
        facts = json.loads(encode(runs()["mixed"].bundle))["facts"]
        number = next(number for number, fact in enumerate(facts) if fact["answer"].get("records"))
        with pytest.raises(BundleError, match="damaged: Expected `int`"):
            decode(changed(("facts", number, "answer", "records", 0, field), value))

    def test_an_answer_to_another_kind_of_question(self) -> None:
        facts = json.loads(encode(runs()["mixed"].bundle))["facts"]
        srv = next(fact["answer"] for fact in facts if fact["request"]["is"] == "srv")
        number = next(number for number, fact in enumerate(facts) if fact["request"]["is"] == "tcp")
        with pytest.raises(BundleError, match=rf"another kind of question - at `\$\.facts\[{number}\]`"):
            decode(changed(("facts", number, "answer"), srv))

    def test_every_kind_of_question_has_its_answer(self) -> None:
        assert set(bundles._ANSWERS) == set(get_args(AnyRequest))
        assert set(bundles._ANSWERS.values()) == set(get_args(AnyAnswer))

    @pytest.mark.parametrize(
        ("world", "named"),
        [
            (World().clock("kms1", 0.0), "kms1"),
            (World().trace("kms1", "10.1.0.1"), "kms1"),
            (World().trace("10.1.0.8", "10.1.0.1", "", "router"), "router"),
        ],
    )
    def test_a_name_where_an_address_belongs(self, world: World, named: str) -> None:
        with pytest.raises(BundleError, match=rf"'{named}' is no address - at `\$\.facts\[0\]`"):
            decode(encode(world.bundle()))

    def test_a_resolver_that_is_none(self) -> None:
        with pytest.raises(BundleError, match=r"no DNS server.* - at `\$\.target\.resolvers\[1\]`"):
            decode(encode(World(resolvers=("10.1.0.2", "dc1")).bundle()))
        assert decode(encode(World(resolvers=("10.1.0.2", "fe80::1%eth0")).bundle()))

    @settings(max_examples=300)
    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        with pytest.raises(BundleError):
            decode(data)

    def test_every_cut(self) -> None:
        data = encode(runs()["healthy"].bundle).rstrip()
        for cut in range(0, len(data), 97):
            with pytest.raises(BundleError):
                decode(data[:cut])


class TestDamage:
    """A bundle with any one value replaced is refused, or judged without a crash."""

    ODD: tuple[Any, ...] = (
        None,
        -1,
        0,
        65_536,
        2**70,
        -1.5,
        "",
        ".",
        "a..b",
        "not:a:server",
        "\x1b[2J",
        "x" * 300,
        [],
        {},
        True,
        "é",
    )

    def test_one_value_replaced(self) -> None:
        registry = discover()
        base = json.loads(encode(runs()["mixed"].bundle))
        places = list(_places(base))
        choose = random.Random(1688)
        judged = refused = 0
        for _ in range(500):
            data = changed(choose.choice(places), choose.choice(self.ODD))
            try:
                bundle = decode(data)
            except BundleError:
                refused += 1
                continue
            judged += 1
            report = diagnosis.judge(bundle, registry)
            assert not [result for result in report.results if result.status == "crashed"], data
        assert judged > 20
        assert refused > 20


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _places(inner, (*path, key))


class TestFormat1:
    """Recorded once and kept: what an earlier kmsdiag wrote has to stay readable."""

    def load(self) -> Bundle:
        return decode((FIXTURES / "v1/mixed.json").read_bytes())

    def test_loads(self) -> None:
        bundle = self.load()
        assert bundle.kmsdiag_bundle == 1
        assert bundle.target.domains == ("contoso.example", "fabrikam.example")
        assert len(bundle.facts) > 10

    def test_is_judged(self) -> None:
        report = diagnosis.judge(self.load(), discover())
        assert report.verdict.state is VerdictState.DEGRADED
        assert {cause.code for cause in report.verdict.causes} == {"tcp.timeout", "tcp.refused"}
        assert not [result for result in report.results if result.status == "crashed"]

    def test_a_folder_for_every_format(self) -> None:
        assert {path.name for path in FIXTURES.iterdir()} == {f"v{number + 1}" for number in range(BUNDLE_FORMAT)}


def test_a_hand_made_world_can_be_recorded() -> None:
    world = World("contoso.example").srv(outcome=DnsOutcome.NXDOMAIN)
    again = decode(encode(world.bundle()))
    assert again.answers() == world.facts
