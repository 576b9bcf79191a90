import re
import shlex
import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.knowledge.causes import CAUSES
from kmsdiag.model.fix import Fix, Where
from kmsdiag.registry import discover
from kmsdiag.report.words import fields, fill, fill_command, fill_fixes, visible

# What a name or banner may hold: anything, and more often than not something that acts.
nasty = st.one_of(
    st.text(max_size=30),
    st.text("abc-_.$`'\"\\;|&<>(){}[]*?!#~ \n\r\t\x1b\x00‘’‚‛“”\u202e\u200b", min_size=1, max_size=12),
    st.sampled_from(["-rf", "--help", "$(reboot)", "`reboot`", "a;reboot", "%PATH%", "a b", "'", "''", "@a", "$x", ""]),
)
PLACEHOLDER = "<…>"


def powershell_words(text: str) -> list[str]:
    """Words of a line as PowerShell reads them, as far as single quotes go (about_Quoting_Rules).

    Each of ' ‘ ’ ‚ ‛ opens and closes a string; doubled inside, it stands for itself.
    """
    words, word, inside, at = [], "", False, 0
    quotes = "'‘’‚‛"
    while at < len(text):
        character = text[at]
        if inside and character in quotes:
            if text[at + 1 : at + 2] and text[at + 1] in quotes:
                word += character
                at += 1
            else:
                inside = False
        elif character in quotes:
            inside = True
        elif character == " " and not inside:
            words.append(word)
            word = ""
        else:
            # Outside of quotes only what means nothing to PowerShell may stand.
            assert inside or re.fullmatch(r"[A-Za-z0-9._:@%-]", character), (character, text)
            word += character
        at += 1
    assert not inside
    return [*words, word]


class TestVisible:
    @given(st.text())
    def test_nothing_acts(self, text: str) -> None:
        shown = visible(text)
        for character in shown:
            assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")

    @given(st.text())
    def test_twice_changes_nothing(self, text: str) -> None:
        assert visible(visible(text)) == visible(text)

    @given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
    def test_plain_text_stays(self, text: str) -> None:
        assert visible(text) == text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("\x1b[2J", "\\x1b[2J"),
            ("a\nb", "a\\x0ab"),
            ("\x9b", "\\x9b"),
            ("\u202egnp.exe", "\\u{202e}gnp.exe"),
            ("\u200b", "\\u{200b}"),
            ("\ufeff", "\\u{feff}"),
            ("\u2028", "\\u{2028}"),
            ("\U000e0041", "\\u{e0041}"),
            ("bücher → ✔", "bücher → ✔"),
        ],
    )
    def test_examples(self, text: str, shown: str) -> None:
        assert visible(text) == shown


class TestSentences:
    def test_lists_are_joined(self) -> None:
        assert fill("{hosts}.", {"hosts": ("a", "b\x1b")}) == "a, b\\x1b."

    @given(nasty)
    def test_values_are_visible(self, value: str) -> None:
        assert fill("<{name}>", {"name": value}) == f"<{visible(value)}>"

    def test_values_are_not_templates(self) -> None:
        assert fill("{a}", {"a": "{b}", "b": "x"}) == "{b}"

    def test_numbers(self) -> None:
        assert fill("{port} {latency}", {"port": 1688, "latency": 0.5}) == "1688 0.5"


class TestShells:
    @given(nasty)
    def test_sh_reads_one_word_back(self, value: str) -> None:
        command = fill_command("dig {name} SRV", {"name": value}, "sh")
        if value.startswith(("-", "+", "@")) or not value or visible(value) != value:
            assert command == f"dig {PLACEHOLDER} SRV"
        else:
            assert shlex.split(command) == ["dig", value, "SRV"]

    @given(nasty)
    def test_powershell_reads_one_word_back(self, value: str) -> None:
        command = fill_command("Resolve-DnsName {name} x", {"name": value}, "powershell")
        if value.startswith(("-", "+", "@")) or not value or visible(value) != value:
            assert command == f"Resolve-DnsName {PLACEHOLDER} x"
        else:
            assert powershell_words(command) == ["Resolve-DnsName", value, "x"]

    @pytest.mark.parametrize("quote", "'‘’‚‛")
    def test_every_quote_of_powershell_is_doubled(self, quote: str) -> None:
        command = fill_command("X {name}", {"name": f"a{quote}; reboot #"}, "powershell")
        assert command == f"X 'a{quote}{quote}; reboot #'"

    @pytest.mark.parametrize("shell", ["sh", "powershell"])
    @pytest.mark.parametrize("value", ["kms1.contoso.example", "10.1.0.8", "fd00::8", "_vlmcs._tcp.contoso.example"])
    def test_ordinary_names_need_no_quotes(self, shell: str, value: str) -> None:
        assert fill_command("x {name}", {"name": value}, shell) == f"x {value}"

    @pytest.mark.parametrize("shell", ["sh", "powershell"])
    def test_quoted_is_always_quoted(self, shell: str) -> None:
        expected = "kms1." if shell == "sh" else "'kms1.'"
        assert fill_command("x {name:quoted}", {"name": "kms1."}, shell) == f"x {expected}"

    @given(nasty)
    def test_several_words_are_harmless_or_none(self, value: str) -> None:
        """Words that kmsdiag makes itself, such as "@10.1.0.2 -p 5353"."""
        command = fill_command("dig {at:words} x", {"at": value}, "sh")
        body = command.removeprefix("dig ").removesuffix("x").strip()
        assert body == PLACEHOLDER or re.fullmatch(r"([A-Za-z0-9._:@% -]|-)*", body)

    def test_no_word_leaves_no_gap(self) -> None:
        assert fill_command("dig {at:words} {name} SRV", {"at": "", "name": "x"}, "sh") == "dig x SRV"
        assert fill_command("dig {at:words} x", {"at": "@10.1.0.2 -p 5353"}, "sh") == "dig @10.1.0.2 -p 5353 x"

    @settings(max_examples=25)
    @given(nasty.filter(lambda value: "\0" not in value))
    def test_a_real_shell_agrees(self, value: str) -> None:
        shell = shutil.which("sh")
        assert shell is not None
        command = fill_command("printf %s {name}", {"name": value}, "sh")
        if PLACEHOLDER in command:
            return
        done = subprocess.run([shell, "-c", command], capture_output=True, check=True)
        assert done.stdout.decode() == value


class TestFixes:
    def test_a_fix_that_needs_what_is_not_there_does_not_apply(self) -> None:
        fixes = (
            Fix(Where.DNS_SERVER, "delete it", "Remove {zone}"),
            Fix(Where.CLIENT, "look at {target}"),
            Fix(Where.HERE, "ask", "dig {name}"),
        )
        made = fill_fixes(fixes, {"target": "t\x1b", "name": "a b"})
        assert [(fix.text, fix.command) for fix in made] == [("look at t\\x1b", ""), ("ask", "dig 'a b'")]

    def test_fields(self) -> None:
        assert fields("{a} {b:words} {{c}}") == {"a", "b"}

    def test_commands_of_the_product_name_no_unknown_spec(self) -> None:
        """Every fix of every check and cause is made with hostile values, for its own shell."""
        fixes = [fix for cause in CAUSES.values() for fix in cause.fixes]
        fixes += [fix for check in discover().checks for code in check.module.META.codes.values() for fix in code.fixes]
        assert len(fixes) > 40
        hostile = "x'; reboot; ‘$(reboot)`reboot`"
        for fix in fixes:
            args = dict.fromkeys(fields(fix.command), hostile)
            command = fill_command(fix.command, args, fix.where.shell)
            if fix.where.shell == "sh":
                assert hostile in shlex.split(command) or not args or PLACEHOLDER in command
            elif args and PLACEHOLDER not in command:
                assert "'x''; reboot; ‘‘$(reboot)`reboot`'" in command
