from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kmsdiag.evidence.tools import ospp, slmgr
from kmsdiag.model.collected import MachineState, ProductState
from tests.test_evidence_tools_slmgr import NEWLINES, cut, folded

FILES = Path(__file__).parent.parent / "fixtures" / "status"
WHOLE = ("ospp-dstatus", "ospp-act")


def text_of(name: str) -> str:
    return (FILES / f"{name}.txt").read_text(encoding="utf-8")


def only(text: str) -> MachineState:
    found = ospp.read(text)
    assert len(found) == 1, found
    return found[0]


class TestStates:
    def test_status(self) -> None:
        found = only(text_of("ospp-dstatus"))
        client, mak, expired = found.products
        assert client == ProductState(
            name="Office 21, Office21ProPlus2021VL_KMS_Client_AE edition",
            description="Office 21, VOLUME_KMSCLIENT channel",
            activation_id="0a1b2c3d-1111-4222-8333-44445555aaa4",
            status=1,
            reason="0x4004F040",
            grace_minutes=257_001,
            in_use=True,
            activation_type="all",
            discovered_host="kms-01.branch-office.contoso.example",
            discovered_port=1688,
            override_host="kms-old.contoso.example",
            override_port=1689,
            lookup_domain="branch.contoso.example",
            activation_interval_min=120,
            renewal_interval_min=10_080,
            caching=False,
            source="ospp /dstatus",
        )
        assert (mak.description, mak.status, mak.grace_minutes) == ("Office 16, RETAIL(MAK) channel", 2, 17_999)
        assert (expired.status, expired.reason, expired.no_host, expired.caching) == (5, "0xC004F009", True, True)
        assert (found.sources, found.notes) == (("ospp /dstatus",), ())

    def test_attempts(self) -> None:
        found = only(text_of("ospp-act"))
        assert [(one.activation_id[-4:], one.result, one.source) for one in found.products] == [
            ("aaa4", "0x00000000", "ospp /act"),
            ("aaa6", "0xC004F074", "ospp /act"),
        ]
        assert found.notes == ()

    def test_status_and_attempt_of_one_product(self) -> None:
        found = only(text_of("ospp-dstatus") + text_of("ospp-act"))
        assert [(one.status, one.result) for one in found.products] == [(1, "0x00000000"), (2, ""), (5, "0xC004F074")]
        assert found.sources == ("ospp /dstatus", "ospp /act")

    @pytest.mark.parametrize(
        ("words", "status"),
        [
            ("---UNLICENSED---", 0),
            ("---LICENSED---", 1),
            ("---OOB_GRACE---", 2),
            ("---OOT_GRACE---", 3),
            ("---NON_GENUINE_GRACE---", 4),
            ("---NOTIFICATIONS---", 5),
            ("---EXTENDED GRACE---", 6),
            ("---UNKNOWN---", -1),
        ],
    )
    def test_words(self, words: str, status: int) -> None:
        assert only(f"LICENSE NAME: Office 16, X edition\nLICENSE STATUS:  {words}   \n").products[0].status == status

    def test_no_keys(self) -> None:
        found = only("---Processing-----\n-----\n<No installed product keys detected>\n-----\n---Exiting----\n")
        assert (found.products, found.notes) == ((), ("ospp says that no product key is installed",))

    def test_masked_id(self) -> None:
        text = text_of("ospp-act").replace("SKU ID: 0a1b2c3d", "*** ID: ****2c3d", 1)
        found = only(text)
        assert [one.activation_id for one in found.products] == ["", "0a1b2c3d-1111-4222-8333-44445555aaa6"]
        assert "is masked" in found.notes[0]

    def test_client_machine_id(self) -> None:
        text = (
            "C:\\>cscript ospp.vbs /dcmid\n---Processing----\n"
            "Client Machine ID (CMID): 11112222-3333-4444-5555-666677778888\n---Exiting----\n"
        )
        assert only(text).products[0].client_machine_id == "11112222-3333-4444-5555-666677778888"
        assert only(text).sources == ("ospp /dcmid",)

    def test_history(self) -> None:
        found = only(
            "---Processing----\nSearching for KMS activation events on machine: PC-7\n"
            "The client has sent an activation request\n---Exiting----\n"
        )
        assert (found.name, found.sources) == ("PC-7", ("ospp /dhistorykms",))
        assert found.notes == ("ospp says that events of activation by KMS follow",)

    def test_remote_machine_is_named(self) -> None:
        assert only(text_of("ospp-act").replace("ospp.vbs /act", "ospp.vbs /act PC-9")).name == "PC-9"

    def test_days_alone(self) -> None:
        text = "LICENSE NAME: Office 16, X edition\nREMAINING GRACE: 3 days\n"
        assert only(text).products[0].grace_minutes == 3 * 1440


class TestTraps:
    @given(
        name=st.sampled_from(WHOLE),
        columns=st.integers(10, 200),
        newline=st.sampled_from(NEWLINES),
        indent=st.sampled_from(["", " ", "    ", "\t"]),
        doubled=st.booleans(),
        quote=st.sampled_from(["", "> ", ">> ", "| "]),
    )
    @example(name="ospp-dstatus", columns=80, newline="\r\n", indent="", doubled=True, quote="> ")
    def test_wraps_quotes_indents_and_newlines_change_nothing(
        self, name: str, columns: int, newline: str, indent: str, doubled: bool, quote: str
    ) -> None:
        text = text_of(name)
        rows = cut(text, columns).split("\n")
        changed = (newline * (2 if doubled else 1)).join(quote + indent + row.strip() for row in rows)
        assert ospp.read(changed) == ospp.read(text)

    @given(name=st.sampled_from(WHOLE), columns=st.integers(10, 200))
    def test_lines_broken_at_blanks(self, name: str, columns: int) -> None:
        assert ospp.read(folded(text_of(name), columns)) == ospp.read(text_of(name))

    @pytest.mark.parametrize("name", WHOLE)
    def test_slmgr_leaves_it_alone(self, name: str) -> None:
        assert slmgr.read(text_of(name)) == []

    @pytest.mark.parametrize("name", ["dlv-client-dns", "dlv-all", "dlv-host", "session"])
    def test_it_leaves_slmgr_alone(self, name: str) -> None:
        assert ospp.read(text_of(name)) == []
        both = text_of(name) + "\nC:\\>cscript ospp.vbs /dstatus\n" + text_of("ospp-dstatus") + "C:\\>slmgr /dlv\n"
        assert (
            slmgr.read(both + text_of("dlv-client-override"))[0].products[0] == slmgr.read(text_of(name))[0].products[0]
        )
        assert only(both + text_of(name)).products == only(text_of("ospp-dstatus")).products

    def test_placeholders_are_no_hosts(self) -> None:
        found = only(
            "LICENSE NAME: Office 16, X edition\nLICENSE STATUS: ---LICENSED---\n"
            "KMS machine registry override defined: <your host>\n"
        )
        assert found.products[0].override_host == ""
        assert "placeholder" in found.notes[0]


PIECES = st.sampled_from([line for name in WHOLE for line in text_of(name).split("\n")])


class TestHostile:
    @given(st.lists(st.one_of(PIECES, st.text(max_size=40)), max_size=40).map("\n".join))
    def test_never_raises(self, text: str) -> None:
        for state in ospp.read(text):
            assert msgspec.json.encode(state).decode().isascii()

    @given(st.sampled_from(WHOLE), st.integers(0, 3000), st.text(max_size=30))
    def test_changed_texts(self, name: str, at: int, what: str) -> None:
        text = text_of(name)
        ospp.read(text[:at] + what + text[at + len(what) :])
