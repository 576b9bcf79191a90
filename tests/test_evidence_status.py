"""A file about machines as a whole: several tools in it, whose it is, what stands around it."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.evidence.status import NOTHING, joined, read_status
from kmsdiag.model.answer import EPOCH
from kmsdiag.model.collected import MachineState, NetworkState
from tests import scene
from tests.eventsamples import as_json, as_text, asked
from tests.states import client, product
from tests.test_evidence_powershell_collection import AT, collection


def machines(text: str, *, json: bool = False) -> tuple[MachineState, ...]:
    answer = read_status(text.encode(), json=json).answer
    assert answer is not None
    return answer.machines


class TestText:
    def test_tools_of_one_machine_are_one_state(self) -> None:
        text = scene.ipconfig("PC17", "192.0.2.17") + scene.dlv(rest=scene.kms_client(1))
        (found,) = machines(text)
        assert found.name.lower() == "pc17.contoso.example"
        assert found.sources == ("slmgr /dlv", "ipconfig")
        assert (len(found.products), found.network is not None) == (1, True)

    def test_what_names_nobody_is_of_nobody_where_two_are_named(self) -> None:
        text = (
            scene.ipconfig("PC17", "192.0.2.17")
            + "\nPS C:\\> ipconfig /all\n"
            + scene.ipconfig("PC18", "192.0.2.18")
            + scene.dlv(rest=scene.kms_client(1))
        )
        assert sorted(one.name.lower() for one in machines(text)) == [
            "",
            "pc17.contoso.example",
            "pc18.contoso.example",
        ]

    def test_events_in_it_come_as_text(self) -> None:
        text = scene.dlv(rest=scene.kms_client(1)) + as_text([asked(0, "0x800706BA")])
        found = read_status(text.encode(), json=False)
        assert found.answer is not None
        assert found.answer.format == "slmgr /dlv"
        assert (found.text, found.problem) == (text, "")

    def test_events_alone(self) -> None:
        found = read_status(as_text([asked(0)]).encode(), json=False)
        assert (found.answer, bool(found.text), found.problem) == (None, True, "")

    def test_nothing_of_use(self) -> None:
        assert read_status(b"Dear all, it does not work.", json=False).problem == NOTHING

    def test_its_encoding_is_noted(self) -> None:
        answer = read_status(scene.files()["pc10/slmgr-dlv.txt"], json=False).answer
        assert answer is not None
        assert answer.notes == ("not UTF-8: taken as code page 850",)
        assert answer.at == EPOCH

    def test_utf_16(self) -> None:
        text = scene.dlv(rest=scene.kms_client(1))
        for data in (b"\xff\xfe" + text.encode("utf-16-le"), b"\xfe\xff" + text.encode("utf-16-be")):
            answer = read_status(data, json=False).answer
            assert answer is not None
            assert answer.machines == machines(text)


class TestJson:
    def test_a_collection_has_its_own_events(self) -> None:
        found = read_status(json.dumps(collection()).encode(), json=True)
        assert found.answer is not None
        assert (found.answer.at, found.answer.machines[0].name) == (AT, "pc17.contoso.example")
        assert [event.id for event in found.events] == [12290]

    def test_what_a_shell_printed_before_it(self) -> None:
        products = [{"Name": "Windows", "ID": scene.cmid(1), "LicenseStatus": 1, "ApplicationID": scene.WINDOWS}]
        for text in (json.dumps(products), json.dumps(products, indent=4), json.dumps(products[0], indent=4)):
            expected = machines(text, json=True)
            assert machines("\ufeff" + text, json=True) == expected
            assert machines(f"WARNING: truncated\n{text}\n", json=False) == expected
            assert machines(f"[PC17]: PS C:\\> Get-CimInstance x\n{text}\nPS C:\\> ", json=True) == expected

    def test_text_around_it_counts_too(self) -> None:
        text = scene.ipconfig("PC17", "192.0.2.17") + json.dumps(collection(), indent=1) + "\nPS C:\\> \n"
        found = read_status(text.encode(), json=False)
        assert found.answer is not None
        (state,) = found.answer.machines
        assert state.network is not None
        assert "192.0.2.17" in state.network.addresses
        assert len(found.events) == 1

    def test_a_transcript_that_begins_with_a_bracket(self) -> None:
        (found,) = machines("[PC17]: PS C:\\> slmgr /dlv\n" + scene.dlv(rest=scene.kms_client(1)), json=True)
        assert found.products[0].status == 1

    @pytest.mark.parametrize("text", ['{"a": 1}', "[]", '["a"]', as_json([])])
    def test_json_of_something_else(self, text: str) -> None:
        assert read_status(text.encode(), json=True).problem == "it is JSON in which nothing about activation is known"

    def test_broken_json(self) -> None:
        found = read_status(b'{"Name": ', json=True)
        assert found.answer is None
        assert "JSON" in found.problem
        assert "\n" not in found.problem


class TestJoined:
    def test_the_only_name_counts_for_all(self) -> None:
        (found,) = joined([client("PC17"), MachineState(sources=("ipconfig",), network=NetworkState(search=("a",)))])
        assert (found.name, found.network) == ("PC17", NetworkState(search=("a",)))

    def test_lists_are_added_up_and_the_first_word_counts(self) -> None:
        one = MachineState(name="a", products=(product(),), caching=False, system="10.0", sources=("x",))
        two = MachineState(name="A", products=(product(), product(name="b")), system="11.0", sources=("x", "y"))
        (found,) = joined([one, two])
        assert (len(found.products), found.caching, found.system, found.sources) == (2, False, "10.0", ("x", "y"))

    def test_networks_are_joined_within(self) -> None:
        networks = (NetworkState(search=("a",), domain_joined=False), NetworkState(search=("b",), complete=True))
        (found,) = joined([MachineState(name="a", network=one) for one in networks])
        assert found.network == NetworkState(search=("a", "b"), complete=True, domain_joined=False)

    def test_nothing(self) -> None:
        assert joined([]) == []


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(
            [data for name, data in sorted(scene.files().items()) if name.endswith((".txt", ".reg", ".xml"))]
        ).flatmap(lambda data: st.integers(0, len(data)).map(lambda end: data[:end]))
        | st.binary(max_size=60),
        max_size=4,
    ),
    is_json=st.booleans(),
)
def test_no_bytes_are_too_much(parts: list[bytes], is_json: bool) -> None:
    found = read_status(b"".join(parts), json=is_json)
    assert found.answer is not None or found.text or found.events or found.problem
    assert found.problem.isprintable()
    if found.answer is not None:
        encoded = msgspec.json.encode(found.answer)
        assert all(0x20 <= byte < 0x7F for byte in encoded)
