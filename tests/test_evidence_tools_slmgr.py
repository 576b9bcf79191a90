import textwrap
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kmsdiag.evidence.tools import slmgr
from kmsdiag.model.collected import HostState, MachineState, ProductState, Requests

FILES = Path(__file__).parent.parent / "fixtures" / "status"
WHOLE = ("dlv-client-dns", "dlv-client-override", "dlv-host", "dlv-all")
NEWLINES = ("\n", "\r\n", "\r", "\x0b", "\u2028")


def text_of(name: str) -> str:
    return (FILES / f"{name}.txt").read_text(encoding="utf-8")


def only(text: str) -> MachineState:
    found = slmgr.read(text)
    assert len(found) == 1, found
    return found[0]


def product(text: str) -> ProductState:
    found = only(text)
    assert len(found.products) == 1, found.products
    return found.products[0]


def cut(text: str, columns: int) -> str:
    """As a console of that many columns shows it."""
    rows = []
    for line in text.split("\n"):
        rows += [line[at : at + columns] for at in range(0, len(line), columns)] or [""]
    return "\n".join(rows)


def folded(text: str, columns: int) -> str:
    """As a mail program breaks it: at blanks only."""
    wrapper = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False, drop_whitespace=True)
    return "\n".join("\n".join(wrapper.wrap(line)) for line in text.split("\n"))


def facts(text: str) -> list[MachineState]:
    """What a text says, but for blanks in a name that anybody may give: a cut at a blank does not show."""
    return [
        msgspec.structs.replace(
            one,
            products=tuple(
                msgspec.structs.replace(each, ad_object=each.ad_object.replace(" ", "")) for each in one.products
            ),
        )
        for one in slmgr.read(text)
    ]


class TestStates:
    def test_client_that_found_its_host_through_dns(self) -> None:
        found = only(text_of("dlv-client-dns"))
        assert (found.system, found.sources, found.notes) == ("10.0.19041.3996", ("slmgr /dlv",), ())
        assert found.products == (
            ProductState(
                name="Windows(R), Enterprise edition",
                description="Windows(R) Operating System, VOLUME_KMSCLIENT channel",
                activation_id="0a1b2c3d-1111-4222-8333-444455556666",
                application_id="55c92734-d682-4d71-983e-d6ec3f16059f",
                extended_pid="00001-00002-003-000004-05-1033-19045.0000-0012024",
                channel="Volume:GVLK",
                in_use=True,
                status=1,
                grace_minutes=251_234,
                windows_rearms=1001,
                product_rearms=1000,
                trusted_time="3/14/2026 9:26:53 AM",
                activation_type="all",
                client_machine_id="11112222-3333-4444-5555-666677778888",
                discovered_host="kms-01.branch-office.contoso.example",
                discovered_port=1688,
                host_address="192.0.2.10",
                host_pid="09999-00206-491-411285-03-1033-17763.0000-0802024",
                activation_interval_min=120,
                renewal_interval_min=10_080,
                caching=True,
                source="slmgr /dlv",
            ),
        )

    def test_client_with_an_override(self) -> None:
        found = product(text_of("dlv-client-override"))
        assert (found.override_host, found.override_port) == ("kms-old.contoso.example", 1689)
        assert (found.lookup_domain, found.discovered_host) == ("branch.contoso.example", "")
        assert (found.status, found.grace_minutes, found.caching) == (3, 43_200, False)
        assert (found.host_pid, found.trusted_time) == ("", "14.03.2026 09:26:53")

    def test_host(self) -> None:
        assert product(text_of("dlv-host")).host == HostState(
            count=37,
            port=1690,
            publishing=False,
            low_priority=True,
            requests=Requests(
                total=4711,
                failed=42,
                unlicensed=1,
                licensed=4600,
                initial_grace=30,
                expired=20,
                non_genuine=3,
                notification=15,
            ),
        )

    def test_all_products(self) -> None:
        found = only(text_of("dlv-all"))
        ad, vm, evaluation, office = found.products
        assert (ad.ad_object, ad.activation_type, ad.host, ad.client_machine_id) == (
            "Volume activation of contoso",
            "ad",
            None,
            "",
        )
        assert (vm.vm_host, vm.grace_minutes) == ("hv-07.contoso.example", 10_000)
        assert (evaluation.in_use, evaluation.status, evaluation.channel) == (False, 0, "")
        assert (office.status, office.reason, office.never_asked) == (5, "0xC004F009", True)
        assert found.notes == ()

    def test_session_with_another_machine(self) -> None:
        mine, host = slmgr.read(text_of("session"))
        assert (mine.name, mine.sources) == ("PC-0815", ("slmgr /dlv", "slmgr /ato", "slmgr /xpr"))
        (windows,) = mine.products
        assert (windows.status, windows.reason, windows.result) == (5, "0xC004F056", "0xC004F074")
        assert (host.name, host.products[0].host) == (
            "SRV-KMS",
            HostState(count=3, port=1688, publishing=True, low_priority=False),
        )
        assert (mine.notes, host.notes) == ((), ())

    @pytest.mark.parametrize(
        ("words", "status"),
        [
            ("Unlicensed", 0),
            ("Licensed", 1),
            ("Initial grace period", 2),
            ("Additional grace period (KMS license expired or hardware out of tolerance)", 3),
            ("Non-genuine grace period.", 4),
            ("Notification", 5),
            ("Extended grace period", 6),
            ("Unknown", -1),
        ],
    )
    def test_status(self, words: str, status: int) -> None:
        assert product(f"Partial Product Key: ABCDE\nLicense Status: {words}\n").status == status

    @pytest.mark.parametrize(
        ("words", "status", "permanent", "expires"),
        [
            ("The machine is permanently activated.", 1, True, ""),
            ("Volume activation will expire 30/11/2026 7:36:14 AM", 1, False, "30/11/2026 7:36:14 AM"),
            ("Timebased activation will expire 3/24/2027 2:35:57 AM", 1, False, "3/24/2027 2:35:57 AM"),
            ("Automatic VM activation will expire 2026-11-30 07:36", 1, False, "2026-11-30 07:36"),
            ("Initial grace period ends 1/2/2026 3:04:05 AM", 2, False, "1/2/2026 3:04:05 AM"),
            ("Additional grace period ends 1/2/2026 3:04:05 AM", 3, False, "1/2/2026 3:04:05 AM"),
            ("Extended grace period ends 1/2/2026 3:04:05 AM", 6, False, "1/2/2026 3:04:05 AM"),
            ("Windows is in Notification mode", 5, False, ""),
        ],
    )
    def test_expiry(self, words: str, status: int, permanent: bool, expires: str) -> None:
        found = product(f"C:\\>slmgr /xpr\nWindows(R), Professional edition:\n    {words}\n\nC:\\>\n")
        assert (found.name, found.source) == ("Windows(R), Professional edition", "slmgr /xpr")
        assert (found.status, found.permanent, found.expires) == (status, permanent, expires)


class TestAttempts:
    HEAD = "Activating Windows(R) 7, Enterprise edition (0a1b2c3d-1111-4222-8333-444455556666) ...\n"

    def test_success(self) -> None:
        found = product(self.HEAD + "Product activated successfully.\n")
        assert (found.name, found.source) == ("Windows(R) 7, Enterprise edition", "slmgr /ato")
        assert (found.activation_id, found.result) == ("0a1b2c3d-1111-4222-8333-444455556666", "0x00000000")

    @pytest.mark.parametrize("columns", [10, 20, 33, 80])
    def test_failure_with_a_long_message(self, columns: int) -> None:
        message = "Error: 0xC004F038 The count reported by your Key Management Service (KMS) is insufficient.\n"
        for text in (cut(self.HEAD + message, columns), folded(self.HEAD + message, columns)):
            found = only(text)
            assert [(one.name, one.result) for one in found.products] == [
                ("Windows(R) 7, Enterprise edition", "0xC004F038")
            ]
            assert found.notes == ()

    def test_failure_without_a_code(self) -> None:
        found = only(self.HEAD + "Error: Product activation failed.\n")
        assert found.products[0].result == ""
        assert found.notes == ("slmgr /ato says that the activation failed",)

    def test_failure_with_a_broken_code(self) -> None:
        found = only(self.HEAD + "Error: 0xC004-\n")
        assert (found.products[0].result, found.notes) == ("", ('line 2: "Error: 0xC004-" has no code',))

    def test_an_error_of_another_command_is_no_attempt(self) -> None:
        found = only("C:\\>slmgr /ipk ABC\nError: 0xC004F050 The Software Licensing Service reported\n")
        assert (found.products, found.notes) == ((), ("slmgr /ipk failed with 0xC004F050",))

    def test_warning(self) -> None:
        text = "Warning: /skms setting overrides the /skms-domain setting. kms.contoso.example:1688 will be used\n"
        found = only(self.HEAD + text + "Product activated successfully.\n")
        assert found.products[0].result == "0x00000000"
        assert "kms.contoso.example:1688 will be used" in found.notes[0]


class TestTraps:
    @given(
        name=st.sampled_from(WHOLE),
        columns=st.integers(10, 200),
        newline=st.sampled_from(NEWLINES),
        indent=st.sampled_from(["", " ", "    ", "\t"]),
        doubled=st.booleans(),
        quote=st.sampled_from(["", "> ", ">> ", "> > ", "| "]),
    )
    @example(name="dlv-all", columns=80, newline="\r\n", indent="", doubled=True, quote="> ")
    def test_wraps_quotes_indents_and_newlines_change_nothing(
        self, name: str, columns: int, newline: str, indent: str, doubled: bool, quote: str
    ) -> None:
        text = text_of(name)
        rows = cut(text, columns).split("\n")
        changed = (newline * (2 if doubled else 1)).join(quote + indent + row.strip() for row in rows)
        assert facts(changed) == facts(text)

    @given(name=st.sampled_from(WHOLE), columns=st.integers(10, 200), quote=st.sampled_from(["", "> "]))
    def test_lines_broken_at_blanks(self, name: str, columns: int, quote: str) -> None:
        text = text_of(name)
        rows = folded(text, columns).split("\n")
        assert facts("\n".join(quote + row for row in rows)) == facts(text)

    @pytest.mark.parametrize("name", WHOLE)
    def test_on_this_computer(self, name: str) -> None:
        text = text_of(name)
        assert slmgr.read(text.replace("on this machine", "on this computer")) == slmgr.read(text)

    @pytest.mark.parametrize("name", WHOLE)
    def test_around_it(self, name: str) -> None:
        text = text_of(name)
        before = (
            "Hello,\nplease see below.\n\nC:\\Windows\\System32>cscript slmgr.vbs /dlv\n"
            "Microsoft (R) Windows Script Host Version 5.812\nCopyright (C) Microsoft Corporation.\n\n"
        )
        after = (
            "\n\nC:\\Windows\\System32>ipconfig\n\nWindows IP Configuration\n\nName: nobody\nAddress: 192.0.2.1\nBye\n"
        )
        assert slmgr.read(before + text + after) == slmgr.read(text)

    @pytest.mark.parametrize("name", WHOLE)
    def test_message_box(self, name: str) -> None:
        rule = "---------------------------\n"
        text = text_of(name)
        assert slmgr.read(f"{rule}Windows Script Host\n{rule}{text}{rule}OK   \n{rule}") == slmgr.read(text)

    def test_remote_machine_is_named(self) -> None:
        text = "Connected to server PC7.\n" + text_of("dlv-client-dns")
        assert only(text).name == "PC7"
        assert only("C:\\>hostname\nPC8\n\nC:\\>slmgr /dlv\n" + text_of("dlv-client-dns")).name == "PC8"

    def test_session_with_a_remote_machine(self) -> None:
        text = (
            "[PC9]: PS C:\\> cscript slmgr.vbs /dlv\n" + text_of("dlv-client-dns") + "PS C:\\> cscript slmgr.vbs /dlv\n"
        )
        assert [one.name for one in slmgr.read(text + text_of("dlv-client-override"))] == ["", "PC9"]

    def test_products_of_one_name(self) -> None:
        head = "Name: Windows(R), ServerStandard edition\nDescription: Windows(R) Operating System, "
        rows = [f"{head}{channel} channel\nLicense Status: Unlicensed\n" for channel in ("RETAIL", "OEM_SLP")]
        assert [one.description[-15:] for one in only("".join(rows)).products] == [
            ", RETAIL channel"[-15:],
            "OEM_SLP channel",
        ]

    def test_expiry_belongs_to_the_product_of_that_name(self) -> None:
        text = text_of("dlv-client-dns")
        more = (
            "C:\\>slmgr /xpr\nWindows(R), Enterprise edition:\n    Volume activation will expire 9/4/2026 7:36:14 AM\n"
        )
        found = product(text + more)
        assert (found.expires, found.client_machine_id[-4:]) == ("9/4/2026 7:36:14 AM", "8888")
        assert only(text + more).notes == ()

    def test_attempt_belongs_to_the_product_of_that_name(self) -> None:
        short = "Name: Windows(R), Enterprise edition\nDescription: Windows(R), VOLUME_KMSCLIENT channel\n"
        text = short + "License Status: Notification\n\n" + TestAttempts.HEAD.replace(" 7", "")
        found = product(text + "Product activated successfully.\n")
        assert (found.status, found.result, found.activation_id[-4:]) == (5, "0x00000000", "6666")

    def test_attempt_at_another_product(self) -> None:
        text = text_of("dlv-client-dns") + TestAttempts.HEAD.replace(" 7", "").replace("6666)", "9999)")
        ids = [one.activation_id[-4:] for one in only(text + "Product activated successfully.\n").products]
        assert ids == ["6666", "9999"]

    def test_shown_again(self) -> None:
        text = text_of("session")
        again = text.replace("Stop-Transcript", "cscript slmgr.vbs /dlv\n" + text_of("dlv-client-dns"))
        windows = slmgr.read(again)[0].products[0]
        assert (windows.status, windows.reason, windows.result) == (1, "", "0xC004F074")
        assert any("more than once" in note for note in slmgr.read(again)[0].notes)

    def test_two_machines_without_names(self) -> None:
        other = text_of("dlv-client-override")
        found = slmgr.read(text_of("dlv-client-dns") + other)
        assert [one.products[0].client_machine_id[-4:] for one in found] == ["8888", "aaaa"]

    def test_placeholders_are_no_hosts(self) -> None:
        found = only("Client Machine ID (CMID): <id of the client>\n Registered KMS machine name: <host>\n")
        assert found.products == ()
        assert len(found.notes) == 2
        assert all("placeholder" in note for note in found.notes)

    def test_what_is_not_understood_is_told(self) -> None:
        found = only("Partial Product Key: ABCDE\nColour: blue\nLicense Status: Melted\nTrusted time: \n")
        assert found.products[0].status == -1
        assert found.notes == (
            'line 2 is not understood: "Colour: blue"',
            'line 3: "License Status: Melted" is not what it should be: "Melted"',
        )

    def test_no_key_is_kept(self) -> None:
        key = "-".join(["ABCDE"] * 5)
        found = only(f"Partial Product Key: {key}\nsecret {key}\nLicense Status: Licensed {key}\n")
        assert "ABCDE" not in msgspec.json.encode(found).decode()

    @pytest.mark.parametrize(
        "text",
        [
            "Server:  dns.contoso.example\nAddress:  192.0.2.1\n\nName:    kms.contoso.example\nAddress:  192.0.2.2\n",
            "Name        : Windows(R), Enterprise edition\nDescription : VOLUME_KMSCLIENT channel\nLicenseStatus : 1\n",
            "LICENSE NAME: Office 16, X edition\nLICENSE STATUS:  ---LICENSED---\nKMS host caching: Enabled\n",
            "channel",
            "",
        ],
    )
    def test_other_tools_are_not_slmgr(self, text: str) -> None:
        assert slmgr.read(text) == []


class TestOtherLanguages:
    def test_german(self) -> None:
        found = only(text_of("dlv-client-german"))
        english = product(text_of("dlv-client-dns"))
        (windows,) = found.products
        same = {"trusted_time": "", "activation_type": "", "caching": None, "discovered_host": "kms-01.contoso.example"}
        pids = {"extended_pid": windows.extended_pid, "host_pid": windows.host_pid}
        assert windows == msgspec.structs.replace(english, **same, **pids)
        assert (windows.extended_pid[-16:], windows.host_pid[:5]) == ("19045.0000-0012024"[-16:], "09999")
        assert found.system == "10.0.19041.3996"
        assert any("14.03.2026" in note for note in found.notes)

    def test_host_in_japanese(self) -> None:
        """The values alone, behind labels that no table here has."""
        labels = {"Name": "\u540d\u524d", "Description": "\u8aac\u660e"}
        rows = []
        for row in text_of("dlv-host").split("\n"):
            label, colon, value = row.partition(":")
            label = labels.get(label.strip(), "\u30e9\u30d9\u30eb")
            rows.append(f"{label}:{value}" if colon else "\u8a00\u8449" if row.strip() else "")
        found = only("\n".join(rows))
        (server,) = found.products
        english = product(text_of("dlv-host"))
        assert english.host is not None
        told = HostState(count=37, port=1690, requests=english.host.requests)
        assert (server.host, server.windows_rearms, server.product_rearms, server.status) == (told, 1000, 1000, -1)
        assert (server.activation_id, server.channel) == (english.activation_id, "Volume:CSVLK")
        assert sum("language" in note for note in found.notes) >= 4

    def test_a_reason_is_told_with_one_status_only(self) -> None:
        text = "Nom : Windows(R), Enterprise edition\nDescription : Windows(R), VOLUME_KMSCLIENT channel\n"
        more = "Cl\xe9 de produit partielle : ABCDE\n\xc9tat de la licence : Notification\nRaison : 0xC004F056.\n"
        assert (product(text + more).status, product(text + more).reason) == (5, "0xC004F056")

    def test_words_of_a_language_that_is_not_known(self) -> None:
        text = (
            text_of("dlv-client-german")
            .replace("Lizenziert", "\u30e9\u30a4\u30bb\u30f3\u30b9")
            .replace(": ", "\uff1a ")
        )
        found = only(text)
        assert found.products[0].status == -1
        assert found.products[0].client_machine_id == "11112222-3333-4444-5555-666677778888"
        assert any("\\u{30e9}" in note for note in found.notes)


PIECES = st.sampled_from(
    [line for name in (*WHOLE, "session", "dlv-client-german") for line in text_of(name).split("\n")]
)


class TestHostile:
    @given(st.lists(st.one_of(PIECES, st.text(max_size=40)), max_size=40).map("\n".join))
    def test_never_raises(self, text: str) -> None:
        for state in slmgr.read(text):
            written = msgspec.json.encode(state).decode()
            assert written.isascii()
            assert len(state.notes) <= 20

    @given(st.sampled_from([*WHOLE, "session", "dlv-client-german"]), st.integers(0, 3000), st.text(max_size=30))
    def test_changed_texts(self, name: str, at: int, what: str) -> None:
        text = text_of(name)
        slmgr.read(text[:at] + what + text[at + len(what) :])
