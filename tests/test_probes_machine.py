import asyncio
import datetime
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.names import LIST_LIMIT
from kmsdiag.model.answer import HostsEntry, LookupAnswer, MachineAnswer
from kmsdiag.model.outcome import LookupOutcome
from kmsdiag.model.request import MachineSettings, SystemLookup
from kmsdiag.probes import machine as probe
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings
from tests.conftest import AT
from tests.netlab import require, require_lab, require_tools

NAME = "kms1.contoso.example"


def is_ascii(*texts: str) -> bool:
    return all(text.isascii() and text.isprintable() for text in texts)


# -------------------------------------------------------------------------------------------------- resolv.conf


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ((), "", (), ())),
        (
            "# comment\n; comment\nnameserver 10.1.0.2\nnameserver\t2001:DB8::2\nnameserver 10.1.0.2\noptions x",
            (("10.1.0.2", "2001:db8::2"), "", (), ()),
        ),
        ("search Contoso.Example. corp.example\n", ((), "", ("contoso.example", "corp.example"), ())),
        ("domain contoso.example", ((), "contoso.example", ("contoso.example",), ())),
        ("domain contoso.example\nsearch corp.example", ((), "", ("corp.example",), ())),
        ("search corp.example\ndomain contoso.example", ((), "contoso.example", ("contoso.example",), ())),
        ("search .\nnameserver\ndomain\ndomain .", ((), "", (), ())),
        (
            "nameserver dns.contoso.example",
            ((), "", (), ("resolv.conf: nameserver dns.contoso.example is no address",)),
        ),
        ("nameserver \x1b[2J", ((), "", (), ("resolv.conf: nameserver \\x1b[2J is no address",))),
    ],
)
def test_resolv_conf(text: str, expected: tuple[Any, ...]) -> None:
    assert probe.parse_resolv_conf(text) == expected


@given(st.lists(st.tuples(st.sampled_from(["nameserver", "domain", "search", "#", ""]), st.text())))
def test_any_resolv_conf_gives_printable_settings(lines: list[tuple[str, str]]) -> None:
    found = probe.parse_resolv_conf("\n".join(" ".join(line) for line in lines))
    assert is_ascii(found.domain, *found.servers, *found.search, *found.problems)
    assert "" not in found.search
    assert len(found.search) <= LIST_LIMIT


# ------------------------------------------------------------------------------------------------- whole machine


def local(folder: Path, name: str, hosts: str = "", resolv_conf: str = "", uplinks: str = "") -> MachineAnswer:
    for file, text in (("hosts", hosts), ("resolv.conf", resolv_conf), ("uplinks", uplinks)):
        if text:
            (folder / file).write_text(text, encoding="utf-8")
    return probe.read_local(name, folder / "hosts", folder / "resolv.conf", folder / "uplinks")


@pytest.mark.parametrize(
    ("name", "hosts", "resolv_conf", "primary", "problems"),
    [
        ("Admin.Contoso.Example", "", "search corp.example", "contoso.example", ()),
        ("admin", "127.0.1.1 admin.contoso.example admin", "search corp.example", "contoso.example", ()),
        ("admin", "127.0.1.1 admin admin.contoso.example", "", "contoso.example", ()),
        ("admin", "127.0.1.1 admin localhost.localdomain", "", "", ()),
        (
            "admin",
            "",
            "domain contoso.example",
            "contoso.example",
            ("primary suffix: from the domain line of resolv.conf; the machine's own name has none",),
        ),
        (
            "admin",
            "",
            "search contoso.example corp.example",
            "contoso.example",
            ("primary suffix: the first search entry of resolv.conf; the machine's own name has no domain",),
        ),
        ("admin", "", "", "", ()),
    ],
)
def test_where_the_primary_suffix_is_from(
    tmp_path: Path, name: str, hosts: str, resolv_conf: str, primary: str, problems: tuple[str, ...]
) -> None:
    answer = local(tmp_path, name, hosts, resolv_conf)
    assert (answer.primary_suffix, answer.problems) == (primary, problems)
    assert (answer.kms, answer.devolution, answer.dhcp_suffixes) == (None, None, ())


@pytest.mark.parametrize(
    ("uplinks", "servers"),
    [("", ""), ("nameserver 10.1.0.2\nnameserver 10.1.0.3\n", "; it asks 10.1.0.2, 10.1.0.3")],
)
def test_the_stub_of_systemd_resolved_is_named(tmp_path: Path, uplinks: str, servers: str) -> None:
    answer = local(tmp_path, "admin.contoso.example", "", "nameserver 127.0.0.53\n", uplinks)
    assert answer.resolvers == ("127.0.0.53",)
    assert answer.problems == (f"resolv.conf names the stub of systemd-resolved on this machine{servers}",)


def test_a_file_that_cannot_be_read_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "hosts").mkdir()
    answer = local(tmp_path, "admin", resolv_conf="nameserver 10.1.0.2")
    assert answer.resolvers == ("10.1.0.2",)
    assert answer.problems == ("hosts can't be read (IsADirectoryError)",)


def test_only_the_start_of_a_huge_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes(b"10.1.0.8 kms1\n" + b"#" * (probe.FILE_LIMIT + 10))
    (tmp_path / "resolv.conf").write_bytes(b"search \xff\xfe.example\n")
    answer = local(tmp_path, "admin.contoso.example")
    assert answer.hosts_file == (HostsEntry("10.1.0.8", ("kms1",)),)
    assert answer.search == ("\\xff\\xfe.example",)
    assert answer.problems == ("hosts: only the first 1048576 bytes were read",)


def test_settings_of_the_machine_that_runs_the_tests() -> None:
    require(platform.system() in ("Linux", "Darwin"), "reads /etc")
    answer = asyncio.run(probe.settings(ProbeSettings()))
    assert answer.kms is None
    assert answer.system.startswith(platform.system())
    assert answer.name == socket.gethostname()
    assert answer.resolvers == probe.parse_resolv_conf(Path("/etc/resolv.conf").read_text(encoding="utf-8")).servers
    assert is_ascii(answer.primary_suffix, *answer.search, *answer.problems)


def test_settings_that_are_given_are_the_answer() -> None:
    given_answer = MachineAnswer(at=AT, system="Windows 10", name="desktop-17")
    probe_settings = cast("ProbeSettings", SimpleNamespace(timeout=1.0, machine=given_answer))
    before = datetime.datetime.now(datetime.UTC)
    answer = asyncio.run(probe.settings(probe_settings))
    # But for the time, which is that of the question.
    assert before <= answer.at <= datetime.datetime.now(datetime.UTC)
    assert answer == msgspec.structs.replace(given_answer, at=answer.at)


# ------------------------------------------------------------------------------------------------------- lookup


def look(name: str = NAME, timeout: float = 2.0) -> LookupAnswer:
    return asyncio.run(probe.lookup(SystemLookup(name=name), ProbeSettings(timeout=timeout)))


def answer_with(monkeypatch: pytest.MonkeyPatch, found: object) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def getaddrinfo(host: str, *more: object, **options: object) -> object:
        asked.append((host, *more))
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def info(address: str) -> tuple[Any, ...]:
    return (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))


def test_addresses_are_sorted_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ("2001:db8::8", "10.1.0.9", "10.1.0.8", "10.1.0.9", "fe80::1%\x1b")
    asked = answer_with(monkeypatch, [info(address) for address in addresses])
    answer = look()
    assert asked == [(NAME, None)]
    assert answer.outcome is LookupOutcome.FOUND
    assert answer.addresses == ("10.1.0.8", "10.1.0.9", "2001:db8::8", "fe80::1%\\x1b")
    assert answer.detail == ""


@pytest.mark.parametrize(
    ("found", "outcome", "detail"),
    [
        ([], LookupOutcome.NOT_FOUND, ""),
        (socket.gaierror(socket.EAI_NONAME, "text in any language"), LookupOutcome.NOT_FOUND, "EAI_NONAME"),
        (socket.gaierror(socket.EAI_AGAIN, "text"), LookupOutcome.FAILED, "EAI_AGAIN"),
        (socket.gaierror(socket.EAI_FAIL, "text"), LookupOutcome.FAILED, "EAI_FAIL"),
        (socket.gaierror(11001, "Winsock: host not found"), LookupOutcome.NOT_FOUND, "error 11001"),
        (socket.gaierror(11004, "Winsock: no data"), LookupOutcome.NOT_FOUND, "error 11004"),
        (socket.gaierror(11002, "Winsock: try again"), LookupOutcome.FAILED, "error 11002"),
        (socket.gaierror("no number"), LookupOutcome.FAILED, "error None"),
        (
            UnicodeError("label too long"),
            LookupOutcome.FAILED,
            "UnicodeError: the operating system can't be asked for this name",
        ),
        (
            PermissionError(1, "not you"),
            LookupOutcome.FAILED,
            "PermissionError: the operating system can't be asked for this name",
        ),
    ],
)
def test_outcome_by_the_kind_of_failure(
    monkeypatch: pytest.MonkeyPatch, found: object, outcome: LookupOutcome, detail: str
) -> None:
    answer_with(monkeypatch, found)
    answer = look()
    assert (answer.outcome, answer.detail, answer.addresses) == (outcome, detail, ())


def test_what_is_a_bug_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        look()


def test_a_resolver_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    free, ended = threading.Event(), threading.Event()

    def getaddrinfo(*_more: object, **_options: object) -> list[object]:
        free.wait(30)
        ended.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    started = time.monotonic()
    answer = look(timeout=0.2)
    # The end of asyncio.run is in this: it would wait for threads of the loop's own executor.
    assert time.monotonic() - started < 2
    assert (answer.outcome, answer.detail) == (LookupOutcome.TIMEOUT, "no answer within 0.2 s")
    free.set()
    assert ended.wait(5), "its answer comes when the loop is closed, and harms nobody"


def test_localhost_is_found_without_a_network() -> None:
    answer = look("localhost")
    assert answer.outcome is LookupOutcome.FOUND
    assert set(answer.addresses) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("name", ["a" * 70 + ".example", "kms1\0.example", "\\000.example"])
def test_names_that_only_dns_can_carry(name: str) -> None:
    assert look(name).outcome is not LookupOutcome.FOUND


def test_the_live_answerer_puts_both_questions() -> None:
    async def put() -> tuple[object, object]:
        async with LiveAnswerer(ProbeSettings()) as live:
            return await live.answer(SystemLookup(name="localhost")), await live.answer(MachineSettings())

    lookup, settings = asyncio.run(put())
    assert isinstance(lookup, LookupAnswer)
    assert isinstance(settings, MachineAnswer)


def test_nothing_was_written(tmp_path: Path) -> None:
    """Reading leaves the files as they are, times included."""
    (tmp_path / "hosts").write_text("10.1.0.8 kms1\n", encoding="utf-8")
    os.utime(tmp_path / "hosts", (1, 1))
    (tmp_path / "hosts").chmod(0o444)
    local(tmp_path, "admin")
    assert (tmp_path / "hosts").stat().st_mtime == 1
    assert [file.name for file in tmp_path.iterdir()] == ["hosts"]


# ---------------------------------------------------------------------------- the real thing, where it can be mounted


@pytest.fixture
def etc(tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """Puts a file in the place of one in /etc, for this test; the lab's mount namespace keeps it from all others."""
    require_lab()
    require_tools("mount", "umount")
    mounted = []

    def put(name: str, text: str) -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        subprocess.run(["mount", "--bind", str(tmp_path / name), f"/etc/{name}"], check=True)
        mounted.append(name)

    yield put
    for name in mounted:
        subprocess.run(["umount", f"/etc/{name}"], check=True)


def test_a_line_in_the_hosts_file_decides(etc: Callable[[str, str], None]) -> None:
    etc("hosts", "127.0.0.1 localhost\n10.1.0.99 KMS1.contoso.example kms1\n")
    etc("resolv.conf", "search contoso.example\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    settings = asyncio.run(probe.settings(ProbeSettings()))
    assert HostsEntry("10.1.0.99", (NAME, "kms1")) in settings.hosts_file
    assert (settings.search, settings.resolvers) == (("contoso.example",), ("127.0.0.1",))
    assert look().addresses == ("10.1.0.99",)
    # Nobody listens on port 53 of this machine.
    other = look("kms2.contoso.example")
    assert (other.outcome, other.detail) == (LookupOutcome.FAILED, "EAI_AGAIN")
