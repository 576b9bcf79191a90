"""What KMS host keys cover, and which release of Windows a machine has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.knowledge import host_keys
from kmsdiag.knowledge.host_keys import RELEASES


def described(sign: str) -> str:
    return f"Windows(R) Operating System, VOLUME_KMS_{sign} channel"


@pytest.mark.parametrize(
    ("sign", "covered", "beyond"),
    [
        ("WS25", "Windows Server 2025", ""),
        ("WS22", "Windows Server 2022", "Windows Server 2025"),
        ("WS22", "Windows 11", ""),
        ("WS16", "Windows Server 2012", "Windows Server 2019"),
        ("2012-R2_WIN10", "Windows 10", "Windows Server 2016"),
        ("2012-R2", "Windows 8.1", "Windows 10"),
        ("W10", "Windows 7", "Windows Server 2008"),
        ("R2_C", "Windows Server 2008 R2", "Windows 8"),
        ("C", "Windows Vista", "Windows 7"),
    ],
)
def test_a_key_covers_its_own_release_and_older_ones(sign: str, covered: str, beyond: str) -> None:
    key = host_keys.key_of(described(sign))
    assert key is not None
    assert key.covers(RELEASES[covered])
    assert not beyond or not key.covers(RELEASES[beyond])


@pytest.mark.parametrize("description", ["", "VOLUME_KMSCLIENT channel", "VOLUME_KMS channel", described("WS99")])
def test_a_group_that_is_not_in_the_table_is_none(description: str) -> None:
    assert host_keys.key_of(description) is None


def test_a_key_for_clients_alone_says_so() -> None:
    key = host_keys.key_of(described("w10"))
    assert key is not None
    assert key.words == "Windows 11 and earlier, no Windows Server"


@pytest.mark.parametrize(
    ("system", "pid", "server", "release"),
    [
        ("Microsoft Windows Server 2022 Datacenter", "", True, "Windows Server 2022"),
        ("Windows Server(R) 2008 R2 Enterprise", "", True, "Windows Server 2008 R2"),
        ("Windows Server 2012 r2", "", False, "Windows Server 2012 R2"),
        ("Microsoft Windows 11 Enterprise", "", False, "Windows 11"),
        ("Microsoft Windows 10 Pro", "", False, "Windows 10"),
        ("Windows 8.1", "", False, "Windows 8.1"),
        ("Windows(R) 7", "", False, "Windows 7"),
        ("Windows vista", "", False, "Windows Vista"),
        ("10.0.17763", "", True, "Windows Server 2019"),
        ("10.0.17763", "", False, "Windows 10"),
        ("10.0.26100.1", "", True, "Windows Server 2025"),
        ("6.1.7601", "", False, "Windows 7"),
        ("", "03612-03311-000-000001-03-1033-26200.0000-2232026", False, "Windows 11"),
        ("", "03612-00252-000-000000-03-1033-9600.0000-2232026", True, "Windows Server 2012 R2"),
        ("Microsoft Windows [Version 10.0.19045.4046]", "", False, "Windows 10"),
        ("", "", True, None),
        ("Ubuntu 24.04", "", False, None),
        ("Windows Server 2077", "", True, None),
    ],
)
def test_the_release_of_a_machine(system: str, pid: str, server: bool, release: str | None) -> None:
    found = host_keys.release_of(system, pid, server=server)
    assert (None if found is None else found.name) == release


@given(st.text(), st.text(), st.booleans())
def test_any_text_has_a_release_or_none(system: str, pid: str, server: bool) -> None:
    found = host_keys.release_of(system, pid, server=server)
    assert found is None or found in RELEASES.values()


def test_updates_are_known_for_older_hosts_only() -> None:
    server = RELEASES["Windows Server 2016"]
    assert host_keys.update_for(server, RELEASES["Windows Server 2022"]) == "KB5003638"
    assert host_keys.update_for(server, RELEASES["Windows Server 2012"]) == ""
    assert host_keys.update_for(RELEASES["Windows Server 2012"], RELEASES["Windows 11"]) == "KB3172615"
    assert host_keys.update_for(None, server) == ""


def test_updates_are_for_something_newer_than_the_host() -> None:
    for host, client in host_keys.UPDATES:
        assert RELEASES[host].rank < RELEASES[client].rank


@pytest.mark.parametrize(
    ("name", "activation_id", "version"),
    [
        ("Office 16, Office16ProPlusVL_KMS_Client edition", "", "2016"),
        ("Office 21, Office21ProPlus2021VL_KMS_Client_AE edition", "", "2021"),
        ("Microsoft Office 2010, KMSHost edition", "", "2010"),
        ("", "47F3B983-7C53-4D45-ABC6-BCD91E2DD90A", "2021"),
        ("Office", "", ""),
        ("Office 365", "", ""),
    ],
)
def test_the_version_of_office(name: str, activation_id: str, version: str) -> None:
    assert host_keys.office_version(name, activation_id) == version
