"""Whose a file is: what was said, what stands in it, its folder, its client machine ID, its name."""

import itertools

import pytest

from kmsdiag.collected import Machine, NamedBy, machines
from kmsdiag.model.answer import KmsOverride
from kmsdiag.model.collected import CachedHost, MachineState, NetworkState
from tests.conftest import World
from tests.states import CMID, OTHER, client, host, product

NETWORK = MachineState(name="PC17.contoso.example", sources=("ipconfig",), network=NetworkState(search=("a",)))


def nameless(cmid: str = CMID, source: str = "slmgr /dlv") -> MachineState:
    """What slmgr tells: all but the name."""
    return MachineState(sources=(source,), products=(product(client_machine_id=cmid),))


def found(world: World) -> list[tuple[str, NamedBy, int]]:
    """Name, how it is known, number of parts."""
    return [(one.name, one.named_by, len(one.parts)) for one in machines(world.evidence())]


def only(world: World) -> Machine:
    (machine,) = machines(world.evidence())
    return machine


class TestNames:
    def test_in_the_order_of_what_is_surest(self) -> None:
        named = client("inside")
        assert found(World().status("dlv.txt", named, machine="given", folder="desk")) == [("given", NamedBy.GIVEN, 1)]
        assert found(World().status("dlv.txt", named, folder="desk")) == [("inside", NamedBy.INSIDE, 1)]
        assert found(World().status("dlv.txt", nameless(), folder="desk")) == [("desk", NamedBy.FOLDER, 1)]
        assert found(World().status("dlv.txt", nameless())) == [(CMID, NamedBy.CMID, 1)]
        assert found(World().status("dlv.txt", nameless(""))) == [("dlv.txt", NamedBy.FILE, 1)]

    @pytest.mark.parametrize("by", list(NamedBy))
    def test_what_is_a_guess_is_marked(self, by: NamedBy) -> None:
        label = Machine("pc17", by, (), ()).label
        assert (label != "pc17") is by.assumed
        assert by.assumed is (by in (NamedBy.FOLDER, NamedBy.CMID, NamedBy.FILE))

    def test_given_and_inside_are_one(self) -> None:
        world = World().status("a.txt", nameless(), machine="pc17").status("b.txt", NETWORK)
        assert found(world) == [("pc17", NamedBy.GIVEN, 2)]

    def test_case_and_a_last_dot_are_nothing(self) -> None:
        world = World().status("a.txt", client("PC17.Contoso.Example.")).status("b.txt", NETWORK)
        assert found(world) == [("PC17.Contoso.Example.", NamedBy.INSIDE, 2)]

    def test_a_short_name_is_the_full_one(self) -> None:
        world = World().status("a.txt", client("pc17")).status("b.txt", NETWORK)
        assert found(world) == [("PC17.contoso.example", NamedBy.INSIDE, 2)]

    def test_of_two_full_names_a_short_one_is_neither(self) -> None:
        world = World()
        for label, name in (("a", "pc17"), ("b", "pc17.contoso.example"), ("c", "pc17.fabrikam.example")):
            world.status(label, client(name))
        assert [name for name, _by, _parts in found(world)] == [
            "pc17",
            "pc17.contoso.example",
            "pc17.fabrikam.example",
        ]


class TestFolders:
    def test_files_of_one_folder_are_of_one_machine(self) -> None:
        world = World().status("a.txt", nameless(), folder="desk")
        world.status("b.txt", nameless(source="slmgr /xpr"), folder="desk")
        assert found(world) == [("desk", NamedBy.FOLDER, 2)]

    def test_a_folder_of_two_machines_names_none(self) -> None:
        world = (
            World().status("a.txt", nameless(), folder="evidence").status("b.txt", nameless(OTHER), folder="evidence")
        )
        assert {(name, by) for name, by, _parts in found(world)} == {(CMID, NamedBy.CMID), (OTHER, NamedBy.CMID)}

    def test_a_folder_with_the_same_output_twice_names_none(self) -> None:
        world = (
            World().status("a.txt", nameless(""), folder="evidence").status("b.txt", nameless(""), folder="evidence")
        )
        assert {name for name, _by, _parts in found(world)} == {"a.txt", "b.txt"}

    @pytest.mark.parametrize("folder", ["pc17", "PC17", "PC17.contoso.example"])
    def test_a_folder_called_like_a_known_machine_is_its_own(self, folder: str) -> None:
        world = World().status("a.txt", nameless(), folder=folder).status("b.txt", NETWORK, folder=folder)
        assert found(world) == [("PC17.contoso.example", NamedBy.INSIDE, 2)]

    def test_a_folder_called_like_two_known_machines_is_nobodys(self) -> None:
        world = World().status("a.txt", nameless(), folder="pc17")
        world.status("b.txt", client("pc17.contoso.example", client_machine_id=OTHER))
        world.status("c.txt", client("pc17.fabrikam.example", client_machine_id=""))
        assert ("pc17", NamedBy.FOLDER, 1) in found(world)

    def test_a_folder_of_another_name_is_not(self) -> None:
        world = World().status("a.txt", nameless(), folder="ticket-4711").status("b.txt", NETWORK, folder="ticket-4711")
        assert found(world) == [("PC17.contoso.example", NamedBy.INSIDE, 1), ("ticket-4711", NamedBy.FOLDER, 1)]


class TestIds:
    def test_an_id_joins_a_file_to_its_machine(self) -> None:
        world = World().status("a.txt", nameless()).status("b.txt", client("pc17"))
        assert found(world) == [("pc17", NamedBy.INSIDE, 2)]

    def test_an_id_of_two_machines_joins_to_none(self) -> None:
        world = World().status("a.txt", nameless()).status("b.txt", client("pc17")).status("c.txt", client("pc18"))
        assert found(world) == [
            (CMID, NamedBy.CMID, 1),
            ("pc17", NamedBy.INSIDE, 1),
            ("pc18", NamedBy.INSIDE, 1),
        ]

    def test_machines_of_one_id_that_have_names_stay_apart(self) -> None:
        world = World().status("a.txt", client("pc17")).status("b.txt", client("pc18"))
        assert [one.client_machine_ids for one in machines(world.evidence())] == [(CMID,), (CMID,)]


def test_the_order_of_the_files_is_nothing() -> None:
    files = [
        ("a.txt", nameless(), "pc17"),
        ("b.txt", NETWORK, ""),
        ("c.txt", client("pc18"), ""),
        ("d.txt", nameless(OTHER), ""),
    ]
    seen = set()
    for order in itertools.permutations(files):
        world = World()
        for label, state, folder in order:
            world.status(label, state, folder=folder)
        seen.add(tuple(found(world)))
    assert len(seen) == 1


class TestWhatAMachineIs:
    def test_the_account_that_tells_most_of_a_product_counts(self) -> None:
        world = World().status("a.txt", client("pc17", status=-1)).status("b.txt", client("pc17", grace_minutes=5))
        ((told, part),) = only(world).products()
        assert (told.grace_minutes, part.question.file.label) == (5, "b.txt")

    def test_hosts_set_by_hand_in_the_registry_count_before_what_tools_show(self) -> None:
        state = MachineState(
            name="pc17",
            overrides=(KmsOverride("global", "kms9", 0),),
            products=(product(override_host="kms8"),),
            cached=(CachedHost("kms7", 1688),),
        )
        machine = only(World().status("a.txt", state))
        assert [one.host for one in machine.overrides()] == ["kms9"]
        assert [one.host for one in machine.cached()] == ["kms1.contoso.example", "kms7"]

    def test_a_host(self) -> None:
        assert only(World().status("a.txt", host())).is_host
        assert not only(World().status("a.txt", client())).is_host
