"""Every check against every scenario of its fixtures, and the contract that all checks keep.

A scenario is ``fixtures/<check>/<scenario>/``: ``evidence.json`` is a bundle, ``expected.json`` all that the check says
about it. ``pytest --bless`` writes expected.json anew; evidence.json is always written by a person.
"""

import difflib
import functools
import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest

from kmsdiag import bundle as bundles
from kmsdiag import diagnosis, engine
from kmsdiag.bundle import Bundle
from kmsdiag.check import Code
from kmsdiag.engine import Budget, Inquiry
from kmsdiag.model.answer import Answer
from kmsdiag.model.evidence import Evidence
from kmsdiag.model.finding import CheckResult, Finding, Severity
from kmsdiag.model.request import Request
from kmsdiag.model.target import Expected, ExpectedHost, GivenFile, Site, StatusFile, Subject, Target
from kmsdiag.registry import LoadedCheck, Registry, discover
from kmsdiag.report.words import fields
from tests.conftest import World, record

FIXTURES = Path(__file__).parent.parent / "fixtures"
ID = re.compile(r"(dns|tcp|rpc|hosts|net|clock|capture|client|host|events|plan)_[a-z0-9_]+")
SECTIONS = ("What it looks at:", "Why it matters:", "What to do:")
NOT_RECORDED = "not in the bundle"

A = TypeVar("A", bound=Answer)


class Scenario(NamedTuple):
    check: str
    folder: Path

    @property
    def id(self) -> str:
        return f"{self.check}/{self.folder.name}"


def scenarios() -> list[Scenario]:
    return [
        Scenario(folder.parent.name, folder)
        for folder in sorted(FIXTURES.glob("*/*"))
        if folder.is_dir() and (ID.fullmatch(folder.parent.name) or (folder / "evidence.json").exists())
    ]


ALL = scenarios()
CHECKS = {check.id: check for check in discover().checks}


@functools.cache
def load(folder: Path) -> Bundle:
    """The evidence of one scenario."""
    return bundles.decode((folder / "evidence.json").read_bytes())


def replay(check: LoadedCheck, bundle: Bundle) -> tuple[Inquiry, list[CheckResult]]:
    """Let one check ask and judge a recording."""
    answers, reasons = bundle.answers(), bundle.gaps()

    def recorded(request: Request[Any]) -> Answer | str:
        return answers.get(request) or reasons.get(request, NOT_RECORDED)

    inquiry = Inquiry([check], bundle.target, Budget())
    engine.replay(inquiry, recorded)
    return inquiry, engine.judge(inquiry)


def said(check: LoadedCheck, bundle: Bundle) -> list[dict[str, Any]]:
    """All that a check says about a bundle, in the form of expected.json."""
    _inquiry, results = replay(check, bundle)
    report = diagnosis.judge(bundle, Registry((check,)))
    status = {view.subject: view.status for view in report.results}
    return [
        {
            "subject": _name(result.subject),
            "status": status[result.subject].value,
            "findings": [
                {
                    "code": finding.code,
                    "args": {key: msgspec.to_builtins(value) for key, value in finding.args.items()},
                    "because": [str(request) for request in finding.because],
                }
                for finding in result.findings
            ],
            "gaps": list(result.gaps),
            **({"crash": result.crash} if result.crash else {}),
        }
        for result in results
    ]


def _name(subject: Subject) -> str:
    return f"{subject.kind.value} {subject}"


def as_text(results: list[dict[str, Any]]) -> str:
    return json.dumps(results, indent=2, ensure_ascii=False) + "\n"


def difference(expected: str, found: str) -> str:
    lines = difflib.unified_diff(expected.splitlines(), found.splitlines(), "expected.json", "said now", lineterm="")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------- scenarios


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.id)
def test_check_says_what_is_expected_and_nothing_else(scenario: Scenario, bless: bool) -> None:
    now = as_text(said(CHECKS[scenario.check], load(scenario.folder)))
    file = scenario.folder / "expected.json"
    if bless:
        file.write_text(now, encoding="utf-8")
        return
    assert file.exists(), "there is no expected.json: look at what the check says, then pytest --bless"
    wanted = file.read_text(encoding="utf-8")
    if now != wanted:
        pytest.fail(difference(wanted, now), pytrace=False)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.id)
def test_scenario_keeps_the_contract(scenario: Scenario) -> None:
    assert list(scenario_problems(CHECKS[scenario.check], load(scenario.folder))) == []


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.id)
def test_evidence_is_as_small_as_it_can_be(scenario: Scenario) -> None:
    """Defaults are left out, it is of one check, and it holds nothing that the check does not ask."""
    data = (scenario.folder / "evidence.json").read_bytes()
    bundle = load(scenario.folder)
    assert bundles.encode(bundle) == data, "kmsdiag.bundle.encode writes this bundle in another way"
    assert bundle.checks == (scenario.check,)
    inquiry, _results = replay(CHECKS[scenario.check], bundle)
    asked = {request for unit in inquiry.units for request in unit.asked}
    assert bundle.answers().keys() | bundle.gaps().keys() <= asked, "the check asks less"
    assert NOT_RECORDED not in inquiry.unanswered.values(), "the check asks more"


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.id)
def test_scenario_is_two_files_of_printable_ascii_about_nobody(scenario: Scenario) -> None:
    assert {file.name for file in scenario.folder.iterdir()} == {"evidence.json", "expected.json"}
    assert re.fullmatch(r"[a-z0-9_]+", scenario.folder.name)
    text = (scenario.folder / "evidence.json").read_text(encoding="ascii")
    names = {name for name in re.findall(r"[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}(?![\w.])", text) if "." in name}
    assert all(
        name.endswith(
            (".example", "core.windows.net", ".pcap", ".log", ".txt", ".json", ".evtx", ".csv", ".xml", ".reg")
        )
        for name in names
    ), names


@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.id)
def test_each_code_is_said_in_some_scenario(check: LoadedCheck) -> None:
    heard = {
        finding.code
        for scenario in ALL
        if scenario.check == check.id
        for result in replay(check, load(scenario.folder))[1]
        for finding in result.findings
    }
    assert heard == set(check.module.META.codes)


@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.id)
def test_each_check_has_a_scenario_with_a_gap(check: LoadedCheck) -> None:
    """A check that asks at all is shown with a question that got no answer."""
    own = [replay(check, load(scenario.folder)) for scenario in ALL if scenario.check == check.id]
    if any(unit.asked for inquiry, _results in own for unit in inquiry.units):
        assert any(result.gaps for _inquiry, results in own for result in results)


def test_each_fixture_folder_belongs_to_a_check() -> None:
    assert {scenario.check for scenario in ALL} == set(CHECKS)


# ------------------------------------------------------------- no evidence at all: the same promise, unrecorded

PLAN = Expected(
    hosts=(ExpectedHost("kms1.contoso.example", domains=("contoso.example", "fabrikam.example")),),
    planned=True,
    sites=(Site(name="hq", domain="contoso.example", client=50),),
)
WIDE = msgspec.structs.replace(
    World(
        "contoso.example", "fabrikam.example", tries=2, machine=True, suffixes=("corp.example",), expected=PLAN
    ).target,
    captures=(GivenFile(label="a.pcap"),),
    status=(StatusFile(label="a.txt"),),
    events=(GivenFile(label="a.evtx"),),
)


@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.id)
def test_unanswered_questions_leave_only_what_was_not_assessed(check: LoadedCheck) -> None:
    """Whatever is left open, no check takes silence of the recording for an absence in the world."""
    bundle = msgspec.structs.replace(World().bundle(check.id), target=WIDE)
    inquiry, results = replay(check, bundle)
    assert results
    for result in results:
        assert not result.crash
        assert not result.findings or not inquiry.unanswered


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.id)
def test_leaving_out_one_answer_never_adds_an_error(scenario: Scenario) -> None:
    """With one answer less a check knows less: no subject has more errors for it."""
    check, bundle = CHECKS[scenario.check], load(scenario.folder)
    before = _errors(check, bundle)
    for fact in bundle.facts:
        rest = tuple(other for other in bundle.facts if other is not fact)
        gap = bundles.Gap(fact.request, "left out")
        less = msgspec.structs.replace(bundle, facts=rest, unanswered=(*bundle.unanswered, gap))
        assert _errors(check, less) <= before, f"without {fact.request}"


def _errors(check: LoadedCheck, bundle: Bundle) -> Counter[str]:
    """Errors by subject; crashes count."""
    found: Counter[str] = Counter()
    for result in replay(check, bundle)[1]:
        severities = [check.module.META.codes[finding.code].severity for finding in result.findings]
        found[str(result.subject)] = severities.count(Severity.ERROR) + bool(result.crash)
    return found


# ----------------------------------------------------------------------------------------------- the contract


def module_problems(check: LoadedCheck) -> Iterator[str]:
    """What is wrong with a check before it has said anything."""
    meta = check.module.META
    if not ID.fullmatch(check.id):
        yield f"{check.id!r} is no id: <layer>_<thing>"
    file = getattr(check.module, "__file__", None)
    if file is None or Path(file).stem != check.id:
        yield f"the file is {file}"
    places = [check.docstring.find(section) for section in SECTIONS]
    for section, place in zip(SECTIONS, places, strict=True):
        if place < 0:
            yield f"the docstring lacks {section!r}"
        elif not re.match(r"\s*\w", check.docstring[place + len(section) :]):
            yield f"the docstring has nothing behind {section!r}"
    if places != sorted(places):
        yield "the docstring's sections are in another order"
    yield from (f"META has no {part}" for part in ("title", "tags", "references", "codes") if not getattr(meta, part))
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", meta.since):
        yield f"META.since is {meta.since!r}"
    for name, code in meta.codes.items():
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
            yield f"{name!r} is no code: snake_case"
        yield from (f"{name}: {problem}" for problem in _code_problems(code))


def _code_problems(code: Code) -> Iterator[str]:
    for template in (code.text, code.consequence, *(fix.text for fix in code.fixes)):
        if template != template.strip():
            yield f"stray space around {template!r}"
    if not code.text:
        yield "it has no text"
    for fix in code.fixes:
        if quoted := quoted_fields(fix.command):
            yield f"a command quotes {quoted}: the filler does that"


def quoted_fields(command: str) -> list[str]:
    """Fields that stand inside quotes of the template itself."""
    before, found = "", []
    for text, name, _spec, _conversion in string.Formatter().parse(command):
        before += text
        if name is not None and (before.count("'") % 2 or before.count('"') % 2):
            found.append(name)
    return found


def code_fields(code: Code) -> set[str]:
    """The args that a finding with this code must have."""
    texts = [code.text, code.consequence]
    for fix in code.fixes:
        texts += [fix.text, fix.command]
    return set().union(*(fields(text) for text in texts))


def scenario_problems(check: LoadedCheck, bundle: Bundle) -> Iterator[str]:
    """What is wrong with the way in which a check asks about and judges one bundle."""
    inquiry, results = replay(check, bundle)
    known = inquiry.facts.keys() | inquiry.unanswered.keys()
    for result in results:
        if result.crash:
            yield f"{result.subject}: {result.crash}"
        for finding in result.findings:
            wanted = code_fields(check.module.META.codes[finding.code])
            if wanted != finding.args.keys():
                yield f"{finding.code}: args are {sorted(finding.args)}, the templates use {sorted(wanted)}"
            yield from (
                f"{finding.code}: never asked: {request}" for request in finding.because if request not in known
            )
            if len(set(finding.because)) < len(finding.because):
                yield f"{finding.code}: a reason twice"
    for unit in inquiry.units:
        facts, unanswered = inquiry.facts, inquiry.unanswered
        spy = Spy(inquiry.seen.target, facts, unanswered)
        turned = Evidence(inquiry.seen.target, dict(reversed(facts.items())), dict(reversed(unanswered.items())))
        if judged(check, unit.subject, spy) != judged(check, unit.subject, turned):
            yield "the order of the facts matters"
        yield from (
            f"judge looks at {request}, ask never asked" for request in spy.touched if request not in unit.asked
        )
        if spy.back_door:
            yield "judge looks at all the evidence instead of its own questions"
    if [result.subject.order for result in results] != sorted(result.subject.order for result in results):
        yield "the subjects are not sorted"
    for turned_facts in (bundle.facts, bundle.facts[::-1], bundle.facts[1::2] + bundle.facts[::2]):
        if replay(check, msgspec.structs.replace(bundle, facts=turned_facts))[1] != results:
            yield "the order of the facts in the bundle matters"


def judged(check: LoadedCheck, subject: Subject, seen: Evidence) -> list[Finding | str]:
    """Findings, and what ended them if something did."""
    findings: list[Finding | str] = []
    try:
        findings.extend(check.module.judge(subject, seen))
    except Exception as error:  # noqa: BLE001  # a gap, or a crash that is reported elsewhere
        findings.append(repr(error))
    return findings


class Spy(Evidence):
    """Evidence that notes what was looked at."""

    __slots__ = ("back_door", "touched")

    def __init__(self, target: Target, facts: Mapping[Request[Any], Answer], unanswered: Mapping[Request[Any], str]):
        super().__init__(target, facts, unanswered)
        self.touched: dict[Request[Any], None] = {}
        self.back_door = False

    def __getitem__(self, request: Request[A]) -> A:
        self.touched[request] = None
        return super().__getitem__(request)

    def get(self, request: Request[A]) -> A | None:
        self.touched[request] = None
        return super().get(request)

    @property
    def facts(self) -> Mapping[Request[Any], Answer]:
        self.back_door = True
        return super().facts

    @property
    def unanswered(self) -> Mapping[Request[Any], str]:
        self.back_door = True
        return super().unanswered


@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.id)
def test_module_keeps_the_contract(check: LoadedCheck) -> None:
    assert list(module_problems(check)) == []


def test_every_built_in_check_can_be_loaded() -> None:
    found = discover()
    assert found.broken == ()
    files = {file.stem for file in (Path(__file__).parent.parent / "checks").glob("*.py")} - {"__init__"}
    assert {check.id for check in found.checks if check.origin == "built in"} == files


# -------------------------------------------------------------------------------- the contract can be broken

GOOD = '''"""A sample.

What it looks at: SRV records.
Why it matters: this is how clients find hosts.
What to do: nothing.
"""

from kmsdiag import discovery
from kmsdiag.check import CheckMeta, Code, Fix, Severity, Where, domains, say
from kmsdiag.model.request import RpcBind, TcpConnect

META = CheckMeta(
    title="A sample",
    codes={"fine": Code(Severity.OK, "{name} is fine.", "", (Fix(Where.HERE, "look", "dig {name} SRV"),))},
    tags=frozenset({"dns"}),
    since="0.1",
    references=("RFC 2782",),
)

subjects = domains


def ask(subject, seen):
    yield from discovery.srv_queries(subject, seen)


def judge(subject, seen):
    queries = tuple(discovery.srv_queries(subject, seen))
    seen[queries[0]]
    yield say("fine", queries, name=queries[0].name)
'''


def problems_of(folder: Path, source: str, name: str = "dns_sample") -> list[str]:
    """All that the contract says against a check with this source."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    found = discover(folder)
    if found.broken:
        return [check.error for check in found.broken]
    check = next(check for check in found.checks if check.id == name)
    world = World("contoso.example", servers=("10.1.0.2", "10.1.0.3"))
    bundle = world.srv(record("kms1"), server="10.1.0.2").srv(record("kms2"), server="10.1.0.3").bundle(name)
    return [*module_problems(check), *scenario_problems(check, bundle)]


def test_a_good_check_has_no_problems(tmp_path: Path) -> None:
    assert problems_of(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Why it matters:", "Why not:", "the docstring lacks 'Why it matters:'"),
        ("What to do: nothing.", "What to do:", "the docstring has nothing behind 'What to do:'"),
        ('say("fine"', 'say("splendid"', "META has no code 'splendid'"),
        ('yield say("fine", queries, name=queries[0].name)', "return; yield", "it said nothing"),
        ("    seen[queries[0]]\n", "    1 / 0\n", "ZeroDivisionError"),
        ("name=queries[0].name)", "name=queries[0].name, more=1)", "args are ['more', 'name']"),
        ("{name} is fine", "{name} of {domain} is fine", "the templates use ['domain', 'name']"),
        ("dig {name} SRV", "dig '{name}' SRV", "a command quotes ['name']"),
        ("dig {name} SRV", "dig -- x='{name} SRV'", "a command quotes ['name']"),
        ('"fine": Code', '"Fine-ish": Code', "is no code: snake_case"),
        ('frozenset({"dns"})', "frozenset()", "META has no tags"),
        ('("RFC 2782",)', "()", "META has no references"),
        ('"0.1"', '"soon"', "META.since is 'soon'"),
        ("seen[queries[0]]", 'seen.get(TcpConnect(address="10.1.0.8", port=1688))', "judge looks at TCP 10.1.0.8:1688"),
        ("seen[queries[0]]", "len(seen.facts)", "judge looks at all the evidence"),
        ("name=queries[0].name)", "name=str(next(iter(seen.facts))))", "the order of the facts matters"),
        (
            'say("fine", queries',
            'say("fine", (RpcBind(address="10.1.0.8", port=1688),)',
            "never asked: RPC bind 10.1.0.8",
        ),
        ('say("fine", queries', 'say("fine", queries * 2', "a reason twice"),
        ("seen[queries[0]]", "print(undefined)", "NameError"),
        ("def judge", "def jugde", "it lacks judge"),
        ("from kmsdiag import discovery", "import no_such_module", "ModuleNotFoundError"),
    ],
)
def test_the_contract_can_be_broken(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in GOOD
    found = problems_of(tmp_path, GOOD.replace(old, new))
    assert any(problem in one for one in found), found


@pytest.mark.parametrize("name", ["sample", "web_sample", "dns_Sample", "dns_"])
def test_an_id_says_its_layer(tmp_path: Path, name: str) -> None:
    assert f"{name!r} is no id: <layer>_<thing>" in problems_of(tmp_path, GOOD, name)


def test_bless_never_makes_evidence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_difference_is_shown_line_by_line() -> None:
    shown = difference('[\n  "one"\n]\n', '[\n  "two"\n]\n')
    assert '-  "one"' in shown
    assert '+  "two"' in shown


def test_quoted_fields_are_found_wherever_the_quote_began() -> None:
    finder: Callable[[str], list[str]] = quoted_fields
    assert finder("a 'b {c} d' {e}") == ["c"]
    assert finder("a \"{b}\" '{c}' {d:quoted} {{ x }}") == ["b", "c"]
    assert finder("Enable-NetFirewallRule -DisplayGroup 'Key Management Service' {x}") == []
