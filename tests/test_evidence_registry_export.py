from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.registry import export as registry
from kmsdiag.evidence.registry.file import entries
from kmsdiag.model.answer import KmsOverride
from kmsdiag.model.collected import CachedHost, HostSettings, MachineState, NetworkState, PublishDomain

EXPORT = (Path(__file__).parent.parent / "fixtures" / "status" / "registry.reg").read_text(encoding="utf-8")
HEAD = "Windows Registry Editor Version 5.00\n\n"
PLATFORM = r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\SoftwareProtectionPlatform"
WINDOWS = "55c92734-d682-4d71-983e-d6ec3f16059f"
PRODUCT = "0a1b2c3d-1111-4222-8333-444455556666"


def only(text: str) -> MachineState:
    found = registry.read(text)
    assert len(found) == 1
    return found[0]


def platform(*values: str) -> MachineState:
    return only(f"{HEAD}[{PLATFORM}]\n" + "\n".join(values) + "\n")


def wide(texts: list[str]) -> str:
    """A REG_MULTI_SZ as an export has it."""
    return ",".join(f"{byte:02x}" for byte in ("\0".join([*texts, "", ""])).encode("utf-16-le"))


class TestExport:
    def test_everything(self) -> None:
        found = only(EXPORT)
        assert (found.name, found.system) == ("PC-0815.contoso.example", "Windows Server 2022 Datacenter build 20348")
        assert found.sources == ("registry export",)
        assert found.overrides == (
            KmsOverride("application", "kms-app.contoso.example", 0, WINDOWS),
            KmsOverride("application", "kms-office.contoso.example", 0, "OfficeSoftwareProtectionPlatform"),
            KmsOverride("global", "kms-old.contoso.example", 1689),
            KmsOverride("product", "192.0.2.9", 0, PRODUCT),
            KmsOverride("global", "kms-32.contoso.example", view="32"),
        )
        assert found.cached == (CachedHost("kms-02.contoso.example", 1688, PRODUCT),)
        assert (found.lookup_domain, found.caching, found.activation_type) == ("branch.example", True, "kms")
        assert found.settings == HostSettings(
            listening_port=1690,
            publishing=False,
            publish_domains=(PublishDomain("contoso.example", 10, 5), PublishDomain("branch.example")),
            low_priority=True,
            activation_interval_min=120,
            renewal_interval_min=10_080,
            registered_domain="contoso.example",
            registered_port=1688,
            misplaced=("DisableDnsPublishing", "DnsDomainPublishList"),
        )
        assert found.network == NetworkState(
            complete=True,
            primary_suffix="contoso.example",
            search=("contoso.example", "branch.example"),
            adapter_suffixes=("lan.example",),
            resolvers=("192.0.2.53", "198.51.100.53"),
            addresses=("192.0.2.7",),
        )
        assert found.notes == ("SkipRearm is set: sysprep does not give this machine a client machine ID of its own",)

    def test_nothing_secret_is_kept(self) -> None:
        written = msgspec.json.encode(only(EXPORT)).decode()
        assert "not kept" not in written
        key = "-".join(["ABCDE"] * 5)
        assert "ABCDE" not in str(platform(f'"KeyManagementServicePort"="{key}"'))

    @given(st.integers(20, 120), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "> ", "  "]))
    def test_wraps_newlines_and_quotes_change_nothing(self, columns: int, newline: str, quote: str) -> None:
        lines = [
            '"KeyManagementServiceName"="kms-old.contoso.example"',
            f'"DnsDomainPublishList"=hex(7):{wide(["a.example,1,2", "b.example"])}',
            '"VLRenewalInterval"=dword:00002760',
            '"KeyManagementServicePort"="1689"',
        ]
        text = f"{HEAD}[{PLATFORM}]\n" + "\n".join(lines) + f"\n\n[{PLATFORM}\\{WINDOWS}]\n"
        rows = []
        for line in text.split("\n"):
            rows += [line[at : at + columns] for at in range(0, len(line), columns)] or [""]
        changed = newline.join(quote + row for row in rows)
        assert only(changed) == only(text)

    def test_regedit4_has_one_byte_a_character(self) -> None:
        text = "REGEDIT4\n\n" + f"[{PLATFORM}]\n" + '"DnsDomainPublishList"=hex(7):61,2e,62,00,00\n'
        settings = only(text).settings
        assert settings is not None
        assert settings.publish_domains == (PublishDomain("a.b"),)

    def test_deleted_keys_and_values_are_told(self) -> None:
        found = only(f'{HEAD}[-{PLATFORM}\\{WINDOWS}]\n"KeyManagementServiceName"="x.example"\n')
        assert (found.overrides, len(found.notes)) == ((), 1)
        assert "deletes this key" in found.notes[0]
        assert "deletes this value" in platform('"KeyManagementServiceName"=-').notes[0]

    def test_hive_loaded_elsewhere(self) -> None:
        path = r"HKEY_LOCAL_MACHINE\Offline\Microsoft\Windows NT\CurrentVersion\SoftwareProtectionPlatform"
        assert only(f'[{path}]\n"KeyManagementServiceName"="x.example"\n').overrides[0].host == "x.example"

    def test_no_override_is_something_that_is_known(self) -> None:
        found = platform('"InactivityShutdownDelay"=dword:0000001e')
        assert (found.overrides, found.settings, found.notes) == ((), None, ())

    def test_other_keys_are_nothing(self) -> None:
        assert registry.read(HEAD + '[HKEY_LOCAL_MACHINE\\SOFTWARE\\Contoso]\n"KeyManagementServiceName"="x"\n') == []
        assert registry.read("nothing") == []


class TestQuery:
    def test_console_output(self) -> None:
        text = (
            f'C:\\>reg query "{PLATFORM[5:]}" /s\n\n{PLATFORM}\n'
            "    (Default)    REG_SZ    \n"
            "    KeyManagementServiceName    REG_SZ    kms.contoso.example\n"
            "    KeyManagementServicePort\tREG_SZ\t1688\n"
            "    DisableDnsPublishing    REG_DWORD    0x1\n"
            "    DnsDomainPublishList    REG_MULTI_SZ    a.example,1\\0b.example\n\n"
            "End of search: 5 match(es) found.\n"
        )
        found = only(text)
        assert found.overrides == (KmsOverride("global", "kms.contoso.example", 1688),)
        assert found.settings == HostSettings(
            publishing=False, publish_domains=(PublishDomain("a.example", 1), PublishDomain("b.example"))
        )


class TestOddValues:
    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ('"KeyManagementServicePort"="many"', 'is "many", not a port'),
            ('"KeyManagementServicePort"="70000"', 'is "70000", not a port'),
            ('"KeyManagementServicePort"=dword:00000698', "is a DWORD"),
            ('"KeyManagementServiceName"="http://kms.example"', "not the name of a host"),
            ('"KeyManagementServiceName"="<your host>"', "not the name of a host"),
            ('"KeyManagementServiceName"=hex:01,02', "is bytes, not the name of a host"),
            ('"KeyManagementServiceName"=hex(1):zz', "its bytes are not understood"),
            ('"KeyManagementServiceName"=nonsense', "its value is not understood"),
            ('"VLActivationInterval"=dword:00000001', "not between 15 and 43200 minutes"),
            ('"VLActivationType"=dword:00000009', "not 0, 1, 2 or 3"),
            ('"DnsDomainPublishList"="a.example"', "not a list of texts"),
            (f'"DnsDomainPublishList"=hex(7):{wide(["a.example, high, 1"])}', "not domain, priority, weight"),
        ],
    )
    def test_is_told(self, value: str, told: str) -> None:
        found = platform(value)
        assert any(told in note for note in found.notes), found.notes

    def test_a_placeholder_is_no_host(self) -> None:
        assert platform('"KeyManagementServiceName"="<your host>"').overrides == ()

    def test_two_lookup_domains(self) -> None:
        text = f'{HEAD}[{PLATFORM}]\n"KeyManagementServiceLookupDomain"="a.example"\n'
        text += f'[{PLATFORM}\\{WINDOWS}]\n"KeyManagementServiceLookupDomain"="b.example"\n"VLActivationType"=dword:1\n'
        found = only(text)
        assert (found.lookup_domain, found.activation_type) == ("a.example", "ad")
        assert found.notes == ("several lookup domains are set: a.example, b.example",)


LINES = st.sampled_from(EXPORT.split("\n"))


class TestHostile:
    @given(st.lists(st.one_of(LINES, st.text(max_size=40)), max_size=40).map("\n".join))
    def test_never_raises(self, text: str) -> None:
        for state in registry.read(text):
            assert msgspec.json.encode(state).decode().isascii()

    @given(st.integers(0, len(EXPORT)), st.text(max_size=30))
    def test_changed_texts(self, at: int, what: str) -> None:
        registry.read(EXPORT[:at] + what + EXPORT[at + len(what) :])

    @given(st.text(max_size=200))
    def test_syntax(self, text: str) -> None:
        list(entries(f"[{PLATFORM}]\n{text}"))
