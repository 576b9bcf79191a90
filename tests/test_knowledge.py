"""The tables: complete, well-formed, and free of what only looks like a command."""

import ast
import inspect
import re
import string
from collections.abc import Iterator

import pytest

from kmsdiag.knowledge import icmp, limits
from kmsdiag.knowledge.cause_text import CauseText
from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.knowledge.clouds import CLOUD_HOSTS
from kmsdiag.knowledge.codes import CODES as KNOWN
from kmsdiag.knowledge.codes import REFUSALS, Refusal, decode
from kmsdiag.knowledge.common_causes import ASKED, TEXTS
from kmsdiag.knowledge.events import EVENTS
from kmsdiag.knowledge.topics import TOPICS
from kmsdiag.model.answer import Icmp
from kmsdiag.model.fix import Fix, Where
from kmsdiag.model.merged import CauseKind
from kmsdiag.model.outcome import Stage
from kmsdiag.model.path import Basis, ClientCode
from kmsdiag.model.target import parse_host
from kmsdiag.probes import tcp
from kmsdiag.registry import discover
from kmsdiag.wire.icmp import UNREACHABLE4, UNREACHABLE6

CODED = {"srv.client_says", "name.client_says", "tcp.client_says", "client.key"}
"""Causes whose code, and what to do about it, come from the record of the code that a client reports."""

CODES = pytest.mark.parametrize(("code", "text"), CAUSES.items(), ids=CAUSES)


def all_fixes() -> Iterator[Fix]:
    """Every next step there is: of causes, common causes, codes, events, topics and checks."""
    for cause in CAUSES.values():
        yield from cause.fixes
    for code in KNOWN.values():
        yield from code.fixes
    for refusal in REFUSALS.values():
        yield from refusal.fixes
    for event in EVENTS.values():
        yield from event.fixes
    for topic in TOPICS.values():
        yield from topic.fixes
    for common in (*TEXTS.values(), *ASKED.values()):
        yield from common.fixes
    for check in discover().checks:
        for said in check.module.META.codes.values():
            yield from said.fixes


FIXES = sorted(set(all_fixes()), key=repr)


# ----------------------------------------------------------------------------------------------------- causes


@CODES
def test_a_cause_is_named_for_its_stage_and_says_something(code: str, text: CauseText) -> None:
    stage, _dot, outcome = code.partition(".")
    assert stage in set(Stage)
    assert re.fullmatch(r"[a-z_]+", outcome)
    assert text.headline == text.headline.strip()
    assert not text.headline.endswith("."), "a headline is a clause"
    assert text.text.endswith((".", "{cause}")), "a text is sentences"
    assert text.fixes or code in CODED, "there is always something to do next"


@CODES
def test_client_codes_are_hresults_and_the_one_on_screen_is_known(code: str, text: CauseText) -> None:
    for one in (text.screen, text.event):
        if one is not None:
            assert re.fullmatch(r"0x[0-9A-F]{8}", one.code)
            assert one.basis in (Basis.DOCUMENTED, Basis.INFERRED)
    if code in ("answer.below_threshold", "host.count_low"):
        assert text.screen == ClientCode("0xC004F038", Basis.DOCUMENTED)
    elif not code.startswith(("srv.", "client.")):
        assert text.screen is not None
        assert text.screen.code == "0xC004F074", "a host was found and none answered: the umbrella code"
    if text.event is not None:
        assert text.event.code != "0xC004F074", "event 12288 has the reason behind it"


@CODES
def test_after_tcp_the_event_has_an_rpc_code(code: str, text: CauseText) -> None:
    """Win32 errors 1700 to 1899 are RPC's; a client meets them once it has an address."""
    if code.startswith(("tcp.", "rpc.")) and code not in CODED:
        assert text.event is not None
        facility, number = int(text.event.code, 16) >> 16, int(text.event.code, 16) & 0xFFFF
        assert facility == 0x8007
        assert 1700 <= number < 1900


# --------------------------------------------------------------------------------------------------- commands


def test_every_common_cause_has_words() -> None:
    assert TEXTS.keys() == set(CauseKind)


@pytest.mark.parametrize("fix", FIXES, ids=lambda fix: fix.command or fix.text)
def test_a_command_is_for_its_shell(fix: Fix) -> None:
    assert fix.text
    assert not fix.text.endswith("."), "a clause in front of a command"
    if not fix.command:
        return
    words = fix.command.split()
    if fix.where.shell == "sh":
        asks = (["dig"], ["getent", "ahosts"], ["grep", "-F"], ["sudo", "traceroute"], ["timedatectl", "status"])
        assert any(words[: len(head)] == head for head in asks), "nothing else is asked for from here"
    else:
        # A hash table's entries are no commands, nor is what is read from a command's result.
        parts = re.split(r"[;|]", re.sub(r"\{\{.*?\}\}", "", fix.command))
        heads = [re.split(r"[\s)]", part.strip().lstrip("("))[0] for part in parts]
        cmdlet = re.compile(
            r"[A-Z][a-z]+-[A-Z]\w+|slmgr|slui|dcdiag|nslookup|w32tm|wevtutil|cscript|ipconfig|netsh|sfc|DISM|reg"
        )
        assert all(cmdlet.fullmatch(head) for head in heads), heads
    if "slmgr /sdns" in fix.command or "Enable-NetFirewallRule" in fix.command:
        assert fix.where is Where.KMS_HOST
    if "Start-Service sppsvc" in fix.command:
        assert fix.where in (Where.KMS_HOST, Where.CLIENT)
    if "DnsServerResourceRecord" in fix.command:
        assert fix.where is Where.DNS_SERVER


@pytest.mark.parametrize("fix", FIXES, ids=lambda fix: fix.command or fix.text)
def test_a_template_leaves_quoting_to_the_filler(fix: Fix) -> None:
    before = ""
    for text, name, spec, conversion in string.Formatter().parse(fix.command):
        before += text
        if name is not None:
            assert before.count("'") % 2 == 0
            assert before.count('"') % 2 == 0
            assert spec in ("", "quoted", "words")
            assert spec != "words" or name == "at", "only what kmsdiag made itself is several words"
            assert conversion is None


def test_no_command_activates_or_disturbs() -> None:
    """Next steps are for people who look for a fault: nothing spends a key, rearms, or sends a request."""
    for fix in FIXES:
        # Typed on the client itself. A setup key is public and counts nothing, and which one it is the reader fills in;
        # one product that has such a key may try again.
        if fix.command in ("slmgr /ipk <client-setup-key>", "slmgr /ato {activation_id}"):
            assert fix.where is Where.CLIENT
            continue
        assert not re.search(r"/(ato|rearm|upk|cpky|ipk|skms)\b", fix.command), fix.command
        assert "-Force" not in fix.command


# ------------------------------------------------------------------------------------------------------- ICMP


@pytest.mark.parametrize(
    ("name", "sender", "meaning"),
    [
        ("communication administratively prohibited", "10.1.0.1", "a firewall rule forbids it on the way"),
        ("communication administratively prohibited", "10.1.0.8", "a firewall rule forbids it"),
        ("host administratively prohibited", "10.1.0.1", "a firewall rule forbids it on the way"),
        ("network administratively prohibited", "10.1.0.1", "a firewall rule forbids it on the way"),
        ("source address failed policy", "10.1.0.1", "a firewall rule forbids it on the way"),
        ("port unreachable", "10.1.0.1", "a firewall rejects the port"),
        ("port unreachable", "10.1.0.8", "the host itself rejects the port"),
        ("host unreachable", "10.1.0.1", "no machine has this address on its network"),
        ("address unreachable", "10.1.0.1", "no machine has this address on its network"),
        ("network unreachable", "10.1.0.1", "a router on the way knows no route to it"),
        ("no route to destination", "10.1.0.1", "a router on the way knows no route to it"),
        ("reject route to destination", "10.1.0.1", "a router on the way knows no route to it"),
        ("protocol unreachable", "10.1.0.8", "the packets are turned back"),
        ("code 99", "10.1.0.1", "the packets are turned back"),
    ],
)
def test_an_icmp_error_has_a_meaning(name: str, sender: str, meaning: str) -> None:
    assert icmp.meaning(Icmp(3, 0, sender, name), "10.1.0.8") == meaning


def test_every_name_that_the_meaning_looks_for_is_one_that_the_probe_gives() -> None:
    """The two tables are in different modules; a name spelt in another way would never be met."""
    expired = tcp.icmp_of(tcp._EXTENDED_ERROR.pack(0, tcp._ORIGINS_ICMP[0], 11, 0, 0, 0, 0))
    assert expired is not None
    given = {*UNREACHABLE4.values(), *UNREACHABLE6.values(), expired.name}
    tree = ast.parse(inspect.getsource(icmp.meaning))
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    wanted = {
        constant.value
        for compare in compared
        for part in (compare.left, *compare.comparators)
        for constant in ast.walk(part)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }
    assert {"prohibited", "port unreachable", "host unreachable"} <= wanted
    assert {word for word in wanted if not any(word in name for name in given)} == set()


# ---------------------------------------------------------------------------------------------- clouds, limits


@pytest.mark.parametrize("name", CLOUD_HOSTS)
def test_cloud_hosts_are_written_as_answers_are(name: str) -> None:
    assert parse_host(name).host == name
    assert CLOUD_HOSTS[name]


def test_limits_are_those_of_microsoft() -> None:
    assert (limits.CLIENT_THRESHOLD, limits.SERVER_THRESHOLD, limits.HOSTS_PER_KEY) == (25, 5, 6)
    assert limits.LONG_TTL == 24 * 60 * 60


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("one", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_it_means_and_what_to_do(one: Refusal) -> None:
    assert re.fullmatch(r"0x[0-9A-F]{8}", one.code)
    assert int(one.code, 16) >> 31, "a host refuses with an error"
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", one.name)
    assert not one.meaning.endswith("."), "a clause"
    assert one.cause.endswith("."), "sentences"
    assert one.fixes
    assert f"answer.{one.name}" in CAUSES


def test_names_of_refusals_are_unique() -> None:
    assert len({one.name for one in REFUSALS.values()}) == len(REFUSALS)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("0xC004F042", "licensing service error 0xF042"),
        ("0x4004F040", "licensing service information 0xF040"),
        ("0x80070005", "Win32 error 5 ERROR_ACCESS_DENIED"),
        ("0x8007FFFF", "Win32 error 65535"),
        ("0x80004005", "general error 0x4005"),
        ("0x00000099", "plain number 153"),
        ("0x000006BA", "plain number 1722 RPC_S_SERVER_UNAVAILABLE"),
        ("0xC0020017", "NTSTATUS RPC error 0x0017"),
        ("0x8001010D", "RPC error 0x010D"),
        ("0x80290209", "facility 41 error 0x0209"),
        ("", ""),
        ("garbage", ""),
    ],
)
def test_an_unknown_hresult_is_taken_apart(code: str, words: str) -> None:
    assert decode(code) == words
