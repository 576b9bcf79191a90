import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from kmsdiag.cli import app, main
from kmsdiag.diagnosis import judge
from kmsdiag.registry import discover
from tests.labruns import runs
from tests.pages import assert_shown

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("README.md", "docs/*.md", "docs/decisions/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
WRITTEN = [path for path in PAGES if path.name not in ("cli.md", "checks.md")]


class Line(NamedTuple):
    """One ``kmsdiag`` command that a page tells people to type."""

    page: Path
    text: str

    @property
    def words(self) -> list[str]:
        """The words up to the first pipe, redirection or next command."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for word in lexer:
            if set(word) <= set("|&;<>()"):
                break
            words.append(word)
        return words[1:]


def commands() -> Iterator[Line]:
    """Commands in ```sh blocks, and in backticks where they begin with ``kmsdiag``."""
    for page in WRITTEN:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                stripped = re.sub(r"^\s*(\$ )?([A-Z_]+=\S* )*", "", line)
                if re.match(r"kmsdiag(\s|$)", stripped):
                    yield Line(page, stripped)
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
        for inline in re.findall(r"`(kmsdiag [^`]+)`", prose):
            yield Line(page, inline)


ALL = list(commands())


def options(command: Any) -> dict[str, Any]:
    return {name: parameter for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def check(words: list[str]) -> None:
    """Every command and option of a line exists; values are not looked at."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and getattr(command, "commands", None) and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name in ("…", "..."):
            return
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    known = {**options(command), "--help": None, "-h": None}
    for word in rest:
        if word.startswith("-") and word != "-" and not re.fullmatch(r"-(v+|\d+)", word):
            assert word.partition("=")[0] in known, f"there is no option {word!r}"


def test_the_pages_have_commands() -> None:
    assert len(ALL) >= 5
    assert {line.page.name for line in ALL} >= {"README.md"}


@pytest.mark.parametrize("line", ALL, ids=lambda line: f"{line.page.name}:{line.text[:60]}")
def test_commands_exist(line: Line) -> None:
    check(line.words)


@pytest.mark.parametrize(
    "text",
    [
        "kmsdiag chekc contoso.example",
        "kmsdiag check x --tims 3",
        "kmsdiag checks lst",
        "kmsdiag analyze x --timeout 3",
    ],
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    with pytest.raises(AssertionError, match="there is no"):
        check(Line(ROOT, text).words)


def test_options_in_prose_exist() -> None:
    """Options in backticks belong to some command of kmsdiag, or to a program named beside them."""
    known: set[str] = {"--help"}
    pending: list[Any] = [typer.main.get_command(app)]
    while pending:
        command = pending.pop()
        known |= set(options(command))
        pending += getattr(command, "commands", {}).values()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    for option in re.findall(r"`(--?[a-zA-Z][a-zA-Z-]*)", prose):
        assert option in known, option


def test_checks_named_in_the_pages_exist() -> None:
    ids = {check.id for check in discover().checks}
    codes = {f"{check_id}.{part}" for check_id in ids for part in ("subjects", "ask", "judge")}
    codes |= {f"{check.id}.{code}" for check in discover().checks for code in check.module.META.codes}
    for page in WRITTEN:
        for name in re.findall(
            r"`((?:dns_srv|hosts|plan|tcp|rpc)_[a-z_]+(?:\.[a-z_]+)?)`", page.read_text(encoding="utf-8")
        ):
            assert name in ids | codes, f"{page.name}: {name}"


SHOWN = [
    (path.name, command, output)
    for path in WRITTEN
    for command, output in re.findall(
        r"^```console\n\$ kmsdiag (analyze fixtures/[^\n]*)\n(.*?)^```$",
        path.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
]


@pytest.mark.parametrize(("page", "command", "output"), SHOWN, ids=[f"{page}:{command}" for page, command, _o in SHOWN])
def test_the_pages_show_what_files_give(
    page: str, command: str, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    main(shlex.split(command))
    assert_shown(output, capsys.readouterr().out)


def test_pages_about_files_show_something() -> None:
    assert {page for page, _command, _output in SHOWN} >= {"captures.md", "evidence.md"}


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate.py"), "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "generated files are up to date\n"), done.stdout + done.stderr


def test_the_check_on_the_architecture_page_works(tmp_path: Path) -> None:
    """The page's example is a check: it loads, asks, and says of the lab what it promises."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    found = re.search(r"^   ```python\n(.*?)^   ```$", page, re.DOTALL | re.MULTILINE)
    assert found is not None
    (tmp_path / "dns_ttl.py").write_text(textwrap.dedent(found[1]), encoding="utf-8")
    registry = discover(tmp_path).select(["dns_ttl"])
    assert registry.broken == ()
    report = judge(runs()["mixed"].bundle, registry)
    said = {finding.code for result in report.results for finding in result.findings}
    assert said == {"dns_ttl.same"}
