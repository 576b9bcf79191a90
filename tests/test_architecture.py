"""Who may import what. Reads every import of every module, those inside functions and type checks too."""

import ast
import graphlib
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

MAY_IMPORT = {
    "checks": {
        "kmsdiag.agreement",
        "kmsdiag.captured",
        "kmsdiag.check",
        "kmsdiag.choice",
        "kmsdiag.clocks",
        "kmsdiag.collected",
        "kmsdiag.correlation",
        "kmsdiag.discovery",
        "kmsdiag.grouping",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.overrides",
        "kmsdiag.plan",
        "kmsdiag.products",
        "kmsdiag.published",
    },
    "kmsdiag.agreement": {"kmsdiag.model"},
    "kmsdiag.api": {
        "kmsdiag.bundle",
        "kmsdiag.diagnosis",
        "kmsdiag.engine",
        "kmsdiag.model",
        "kmsdiag.policy",
        "kmsdiag.probes",
        "kmsdiag.registry",
    },
    "kmsdiag.audit": {"kmsdiag.model", "kmsdiag.path", "kmsdiag.plan", "kmsdiag.policy"},
    "kmsdiag.baseline": {"kmsdiag.expected", "kmsdiag.model", "kmsdiag.path", "kmsdiag.report.words"},
    "kmsdiag.bundle": {"kmsdiag.model"},
    "kmsdiag.capture": {"kmsdiag.capture", "kmsdiag.model", "kmsdiag.sources", "kmsdiag.wire"},
    "kmsdiag.captured": {"kmsdiag.model"},
    "kmsdiag.changes": {
        "kmsdiag.agreement",
        "kmsdiag.audit",
        "kmsdiag.discovery",
        "kmsdiag.model",
        "kmsdiag.plan",
        "kmsdiag.report.words",
    },
    "kmsdiag.check": {"kmsdiag.model"},
    "kmsdiag.choice": {"kmsdiag.model"},
    "kmsdiag.client_ends": {"kmsdiag.collected", "kmsdiag.knowledge", "kmsdiag.model", "kmsdiag.products"},
    "kmsdiag.client_faults": {"kmsdiag.client_ends", "kmsdiag.fault", "kmsdiag.knowledge", "kmsdiag.model"},
    "kmsdiag.clocks": {"kmsdiag.discovery", "kmsdiag.knowledge.limits", "kmsdiag.model"},
    "kmsdiag.collected": {"kmsdiag.model"},
    "kmsdiag.collected_view": {
        "kmsdiag.captured",
        "kmsdiag.client_ends",
        "kmsdiag.collected",
        "kmsdiag.correlation",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.products",
    },
    "kmsdiag.common_cause": {"kmsdiag.model", "kmsdiag.path"},
    "kmsdiag.correlation": {
        "kmsdiag.captured",
        "kmsdiag.collected",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.products",
    },
    "kmsdiag.compare": {"kmsdiag.model", "kmsdiag.path", "kmsdiag.version"},
    "kmsdiag.cli": {
        "kmsdiag.api",
        "kmsdiag.audit",
        "kmsdiag.baseline",
        "kmsdiag.bundle",
        "kmsdiag.capture",
        "kmsdiag.cli",
        "kmsdiag.collected",
        "kmsdiag.compare",
        "kmsdiag.diagnosis",
        "kmsdiag.encoding",
        "kmsdiag.engine",
        "kmsdiag.evidence",
        "kmsdiag.expected",
        "kmsdiag.explain",
        "kmsdiag.forecast",
        "kmsdiag.merge",
        "kmsdiag.knowledge.capture_filters",
        "kmsdiag.knowledge.licences",
        "kmsdiag.knowledge.limits",
        "kmsdiag.model",
        "kmsdiag.policy",
        "kmsdiag.probes.capture",
        "kmsdiag.probes.settings",
        "kmsdiag.registry",
        "kmsdiag.report",
        "kmsdiag.reports",
        "kmsdiag.sources",
        "kmsdiag.version",
        "kmsdiag.wire.zone",
    },
    "kmsdiag.cli.demo": {
        "kmsdiag.api",
        "kmsdiag.bundle",
        "kmsdiag.cli",
        "kmsdiag.diagnosis",
        "kmsdiag.lab",
        "kmsdiag.model",
        "kmsdiag.registry",
        "kmsdiag.report.layout",
    },
    "kmsdiag.diagnosis": {
        "kmsdiag.agreement",
        "kmsdiag.audit",
        "kmsdiag.bundle",
        "kmsdiag.captured",
        "kmsdiag.changes",
        "kmsdiag.check",
        "kmsdiag.collected_view",
        "kmsdiag.discovery",
        "kmsdiag.engine",
        "kmsdiag.fault",
        "kmsdiag.headline",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.observed",
        "kmsdiag.path",
        "kmsdiag.policy",
        "kmsdiag.registry",
        "kmsdiag.report.words",
        "kmsdiag.version",
        "kmsdiag.whatif",
    },
    "kmsdiag.discovery": {"kmsdiag.model"},
    "kmsdiag.encoding": set(),
    "kmsdiag.expected": {"kmsdiag.encoding", "kmsdiag.model", "kmsdiag.policy"},
    "kmsdiag.engine": {"kmsdiag.model", "kmsdiag.registry"},
    "kmsdiag.explain": {
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.registry",
    },
    "kmsdiag.evidence": {
        "kmsdiag.capture",
        "kmsdiag.evidence",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.sources",
        "kmsdiag.wire",
    },
    "kmsdiag.fault": {"kmsdiag.model"},
    "kmsdiag.forecast": {
        "kmsdiag.collected",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.plan",
        "kmsdiag.products",
    },
    "kmsdiag.grouping": {"kmsdiag.collected", "kmsdiag.model"},
    "kmsdiag.headline": {"kmsdiag.bundle", "kmsdiag.captured", "kmsdiag.model", "kmsdiag.path"},
    "kmsdiag.joining": {"kmsdiag.captured", "kmsdiag.fault", "kmsdiag.model"},
    "kmsdiag.knowledge": {"kmsdiag.knowledge", "kmsdiag.model"},
    "kmsdiag.lab": {"kmsdiag.lab", "kmsdiag.model", "kmsdiag.probes.settings", "kmsdiag.wire"},
    "kmsdiag.__main__": {"kmsdiag.cli"},
    "kmsdiag.merge": {
        "kmsdiag.common_cause",
        "kmsdiag.discovery",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.observed",
        "kmsdiag.path",
        "kmsdiag.report.words",
        "kmsdiag.version",
    },
    "kmsdiag.model": {"kmsdiag.model"},
    "kmsdiag.observed": {
        "kmsdiag.captured",
        "kmsdiag.discovery",
        "kmsdiag.fault",
        "kmsdiag.knowledge",
        "kmsdiag.model",
    },
    "kmsdiag.overrides": {"kmsdiag.knowledge.licences", "kmsdiag.model"},
    "kmsdiag.path": {
        "kmsdiag.captured",
        "kmsdiag.choice",
        "kmsdiag.client_ends",
        "kmsdiag.clocks",
        "kmsdiag.discovery",
        "kmsdiag.fault",
        "kmsdiag.joining",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.observed",
        "kmsdiag.reported",
    },
    "kmsdiag.plan": {"kmsdiag.choice", "kmsdiag.discovery", "kmsdiag.knowledge.limits", "kmsdiag.model"},
    "kmsdiag.policy": {"kmsdiag.model"},
    "kmsdiag.probes": {
        "kmsdiag.evidence.escape",
        "kmsdiag.evidence.names",
        "kmsdiag.evidence.powershell.script",
        "kmsdiag.evidence.powershell.state",
        "kmsdiag.model",
        "kmsdiag.probes",
        "kmsdiag.wire",
    },
    "kmsdiag.products": {"kmsdiag.collected", "kmsdiag.knowledge.licences", "kmsdiag.model"},
    "kmsdiag.published": {"kmsdiag.captured", "kmsdiag.collected", "kmsdiag.discovery", "kmsdiag.model"},
    "kmsdiag.registry": {"kmsdiag.check"},
    "kmsdiag.report": {
        "kmsdiag.bundle",
        "kmsdiag.captured",
        "kmsdiag.expected",
        "kmsdiag.knowledge.licences",
        "kmsdiag.model",
        "kmsdiag.path",
        "kmsdiag.report",
    },
    "kmsdiag.reported": {
        "kmsdiag.captured",
        "kmsdiag.client_ends",
        "kmsdiag.client_faults",
        "kmsdiag.collected",
        "kmsdiag.correlation",
        "kmsdiag.fault",
        "kmsdiag.knowledge",
        "kmsdiag.model",
        "kmsdiag.products",
    },
    "kmsdiag.reports": {
        "kmsdiag.bundle",
        "kmsdiag.diagnosis",
        "kmsdiag.encoding",
        "kmsdiag.model",
        "kmsdiag.policy",
        "kmsdiag.registry",
    },
    "kmsdiag.schemas": set(),
    "kmsdiag.sources": {"kmsdiag.model", "kmsdiag.sources", "kmsdiag.wire"},
    "kmsdiag.version": set(),
    "kmsdiag.whatif": {"kmsdiag.choice", "kmsdiag.compare", "kmsdiag.discovery", "kmsdiag.model", "kmsdiag.plan"},
    "kmsdiag.wire": {"kmsdiag.model", "kmsdiag.wire"},
}
"""What of kmsdiag each part may import; the longest name that fits a module counts. ``kmsdiag`` itself is the API."""

PURE = {
    "checks",
    "kmsdiag.agreement",
    "kmsdiag.audit",
    "kmsdiag.baseline",
    "kmsdiag.bundle",
    "kmsdiag.captured",
    "kmsdiag.changes",
    "kmsdiag.check",
    "kmsdiag.choice",
    "kmsdiag.client_ends",
    "kmsdiag.client_faults",
    "kmsdiag.clocks",
    "kmsdiag.collected",
    "kmsdiag.collected_view",
    "kmsdiag.common_cause",
    "kmsdiag.compare",
    "kmsdiag.correlation",
    "kmsdiag.discovery",
    "kmsdiag.encoding",
    "kmsdiag.expected",
    "kmsdiag.explain",
    "kmsdiag.fault",
    "kmsdiag.forecast",
    "kmsdiag.grouping",
    "kmsdiag.headline",
    "kmsdiag.joining",
    "kmsdiag.knowledge",
    "kmsdiag.merge",
    "kmsdiag.model",
    "kmsdiag.observed",
    "kmsdiag.overrides",
    "kmsdiag.path",
    "kmsdiag.plan",
    "kmsdiag.policy",
    "kmsdiag.products",
    "kmsdiag.published",
    "kmsdiag.report",
    "kmsdiag.reported",
    "kmsdiag.whatif",
    "kmsdiag.wire",
}
"""Parts without clock, chance, files, network or output."""

READS_ITSELF = {"kmsdiag.knowledge.data"}
"""The one pure part that reads files: those of the package, which are the same in every run."""

ASKS = {"kmsdiag.probes", "kmsdiag.lab"}
RUNS = {"kmsdiag.api", "kmsdiag.cli", "kmsdiag.diagnosis", "kmsdiag.engine", *ASKS}

ONLY_IN = {
    # network and machine
    "socket": ASKS,
    "ssl": set(),
    "http": set(),
    "urllib": set(),
    "select": set(),
    "selectors": set(),
    "subprocess": set(),
    "multiprocessing": set(),
    "platform": {"kmsdiag.probes"},
    # time and chance
    "asyncio": RUNS,
    "random": {"kmsdiag.probes"},
    "secrets": {"kmsdiag.cli"},
    "signal": {"kmsdiag.cli"},
    "threading": {"kmsdiag.cli", "kmsdiag.probes.capture", "kmsdiag.probes.machine"},
    "time": {"kmsdiag.cli", "kmsdiag.engine", "kmsdiag.probes"},
    # files
    "os": {"kmsdiag.cli", "kmsdiag.probes.windows", "kmsdiag.sources"},
    "pathlib": {
        "kmsdiag.cli",
        "kmsdiag.probes.capture",
        "kmsdiag.probes.machine",
        "kmsdiag.registry",
        "kmsdiag.reports",
        "kmsdiag.sources",
    },
    "shutil": {"kmsdiag.cli"},
    "tempfile": {"kmsdiag.cli"},
    "tomllib": {"kmsdiag.cli", "kmsdiag.expected"},
    # modules by name
    "importlib": {"kmsdiag", "kmsdiag.cli", "kmsdiag.knowledge.data", "kmsdiag.registry"},
    "pickle": set(),
    # other people's
    "dns": {*ASKS, "kmsdiag.wire.dns", "kmsdiag.wire.zone"},
    "dns.asyncquery": ASKS,
    "dns.query": ASKS,
    "dns.resolver": ASKS,
    "dns.asyncresolver": ASKS,
    "dns.message": ASKS,
    "numpy": {"kmsdiag.capture", "kmsdiag.evidence.connections.run", "kmsdiag.wire"},
    "distributed": {"kmsdiag.cli"},
    "evtx": {"kmsdiag.evidence.events.log_file"},
    "rich": {"kmsdiag.cli"},
    "scapy": {"kmsdiag.probes.capture"},
    "tabulate": {"kmsdiag.cli", "kmsdiag.report"},
    "tomlkit": {"kmsdiag.baseline"},
    "typer": {"kmsdiag.cli"},
    "zstandard": {"kmsdiag.sources"},
}
"""Modules that only some parts may import."""

ACTS = re.compile(r"(?:^|\.)(now|today|utcnow|getnode|uuid1|uuid4|read_text|write_text|read_bytes|write_bytes)$")
"""Attributes that no pure module calls."""

BUILTINS = {"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint"}


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_of(file): file.read_text(encoding="utf-8")
    for folder in ("kmsdiag", "checks")
    for file in sorted((ROOT / folder).rglob("*.py"))
}


def inside(module: str, part: str) -> bool:
    """Whether a module is a part, or in it. ``kmsdiag`` as a part is the package's own file alone."""
    return module == part or (part != "kmsdiag" and module.startswith(f"{part}."))


def imports(tree: ast.AST, modules: Mapping[str, str] = SOURCES) -> Iterator[str]:
    """Full names of what is imported anywhere in the tree; of a package the submodule, where one is meant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level + (node.module or "")
                continue
            base = node.module or ""
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                # What else comes from outside may be a module or not; its full name is right for both.
                yield whole if whole in modules or not base.startswith("kmsdiag") else base


def violations(module: str, source: str) -> Iterator[str]:
    """All that one module does and may not do."""
    tree = ast.parse(source)
    rule = max((part for part in MAY_IMPORT if inside(module, part)), key=len, default=None)
    if rule is None and module != "kmsdiag":
        yield f"{module}: test_architecture.py does not say what it may import"
    for name in imports(tree):
        if name.startswith("."):
            yield f"{module} imports {name}: relative"
        if inside(name, "kmsdiag.checks") or inside(name, "checks"):
            yield f"{module} imports {name}: nothing imports a check by name"
        elif name.startswith("kmsdiag") and rule is not None:
            if not any(inside(name, part) for part in MAY_IMPORT[rule]) and name != module:
                yield f"{module} imports {name}"
        elif name.startswith("kmsdiag") and (inside(name, "kmsdiag.lab") or inside(name, "kmsdiag.cli")):
            yield f"{module} imports {name}"
        for only, parts in ONLY_IN.items():
            if inside(name, only) and not any(inside(module, part) for part in parts):
                yield f"{module} imports {name}"
    if any(inside(module, part) for part in PURE):
        reads = module in READS_ITSELF
        yield from (f"{module} calls {name}" for name in _acts(tree) if not (reads and name.endswith(".read_bytes")))


def _acts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ACTS.search(node.attr):
            yield ast.unparse(node)
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            yield node.id


@pytest.mark.parametrize("module", SOURCES)
def test_module_keeps_to_its_place(module: str) -> None:
    assert list(violations(module, SOURCES[module])) == []


@pytest.mark.parametrize(
    ("module", "source", "what"),
    [
        ("checks.dns_sample", "import socket", "imports socket"),
        ("checks.dns_sample", "def f():\n    import os.path", "imports os.path"),
        ("checks.dns_sample", "import asyncio", "imports asyncio"),
        ("checks.dns_sample", "from subprocess import run", "imports subprocess.run"),
        ("checks.dns_sample", "import time", "imports time"),
        ("checks.dns_sample", "import dns.resolver", "imports dns.resolver"),
        ("checks.dns_sample", "from kmsdiag import engine", "imports kmsdiag.engine"),
        ("checks.dns_sample", "from kmsdiag import Target", "imports kmsdiag"),
        ("checks.dns_sample", "from kmsdiag.probes.live import LiveAnswerer", "imports kmsdiag.probes.live"),
        ("checks.dns_sample", "from kmsdiag.checks import dns_srv_hosts", "nothing imports a check by name"),
        ("checks.dns_sample", "from checks.dns_srv_hosts import META", "nothing imports a check by name"),
        ("checks.dns_sample", "from . import dns_srv_hosts", "relative"),
        ("checks.dns_sample", "import datetime\nx = datetime.datetime.now()", "calls datetime.datetime.now"),
        ("checks.dns_sample", "import uuid\nx = uuid.uuid4()", "calls uuid.uuid4"),
        ("checks.dns_sample", "x = open('file')", "calls open"),
        ("checks.dns_sample", "print('hello')", "calls print"),
        ("kmsdiag.model.target", "from kmsdiag.check import Code", "imports kmsdiag.check"),
        (
            "kmsdiag.model.target",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import dns.name",
            "dns.name",
        ),
        ("kmsdiag.knowledge.causes", "from kmsdiag.path import Fault", "imports kmsdiag.path"),
        ("kmsdiag.knowledge.codes", "import importlib.resources", "imports importlib.resources"),
        ("kmsdiag.knowledge.data", "x = open('file')", "calls open"),
        ("kmsdiag.wire.rpc", "import socket", "imports socket"),
        ("kmsdiag.wire.rpc", "import dns.name", "imports dns.name"),
        ("kmsdiag.wire.dns", "import dns.asyncquery", "imports dns.asyncquery"),
        ("kmsdiag.report.text", "from pathlib import Path", "imports pathlib.Path"),
        ("kmsdiag.report.text", "from kmsdiag.probes import tcp", "imports kmsdiag.probes.tcp"),
        ("kmsdiag.report.text", "import rich.console", "imports rich.console"),
        ("kmsdiag.engine", "from kmsdiag.lab.world import running", "imports kmsdiag.lab.world"),
        ("kmsdiag.path", "from kmsdiag.probes import live", "imports kmsdiag.probes.live"),
        ("kmsdiag.registry", "import kmsdiag.checks", "nothing imports a check by name"),
        ("kmsdiag.cli.check", "from kmsdiag.lab.world import running", "imports kmsdiag.lab.world"),
        ("kmsdiag", "from kmsdiag.lab import world", "imports kmsdiag.lab.world"),
        ("kmsdiag.brand_new", "", "does not say what it may import"),
    ],
)
def test_a_violation_is_seen(module: str, source: str, what: str) -> None:
    assert any(what in one for one in violations(module, source))


def test_every_rule_is_about_something() -> None:
    """No rule outlives the module it was made for, and no permission the import."""
    used: dict[str, set[str]] = {part: set() for part in MAY_IMPORT}
    for module, source in SOURCES.items():
        rule = max((part for part in MAY_IMPORT if inside(module, part)), key=len, default=None)
        if rule is not None:
            names = set(imports(ast.parse(source)))
            used[rule] |= {part for part in MAY_IMPORT[rule] if any(inside(name, part) for name in names)}
    assert used == MAY_IMPORT
    for part in PURE | READS_ITSELF | {part for parts in ONLY_IN.values() for part in parts}:
        assert any(inside(module, part) for module in SOURCES), part


def test_no_test_imports_a_check_by_name() -> None:
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
            assert not inside(name, "kmsdiag.checks"), file
            assert not inside(name, "checks"), file


def test_modules_import_each_other_in_one_direction() -> None:
    """No circle among imports at the top of modules."""
    graph: dict[str, set[str]] = {}
    for module, source in SOURCES.items():
        top = ast.Module([node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        graph[module] = {name for name in imports(top) if name in SOURCES and name != module}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(SOURCES)


def test_other_peoples_modules_are_declared() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = [*PROJECT["project"]["dependencies"], *itertools.chain.from_iterable(extras)]
    declared = {re.split(r"[<>=~! ]", line)[0] for line in lines}
    names = {"dnspython": "dns"}
    wanted = {names.get(one, one) for one in declared}
    found = {name.split(".")[0] for source in SOURCES.values() for name in imports(ast.parse(source))}
    assert found - sys.stdlib_module_names - {"kmsdiag"} == wanted


def test_packages_of_pyproject_are_the_folders() -> None:
    setuptools: dict[str, Any] = PROJECT["tool"]["setuptools"]
    folders = {module_of(file) for file in (ROOT / "kmsdiag").rglob("__init__.py")}
    assert set(setuptools["packages"]) == folders | {"kmsdiag.checks"}
    assert setuptools["packages"] == sorted(setuptools["packages"])
    assert setuptools["package-dir"] == {"kmsdiag.checks": "checks"}
    homes = {file.parent for part in ("kmsdiag", "checks") for file in (ROOT / part).rglob("*.py")}
    assert all((home / "__init__.py").exists() for home in homes)


HEAVY = [
    "asyncio",
    "distributed",
    "dns",
    "evtx",
    "kmsdiag.lab",
    "kmsdiag.probes",
    "msgspec",
    "numpy",
    "rich.console",
    "scapy",
    "tabulate",
]


@pytest.mark.parametrize("module", ["kmsdiag", "kmsdiag.cli"])
def test_importing_the_command_line_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (run.stdout.split(), run.stderr) == ([], "")


def test_judging_a_recording_needs_no_network_code() -> None:
    code = (
        "import sys; from kmsdiag import diagnosis, bundle, registry; from kmsdiag.report import json, layout;"
        "registry.discover(); network = ('dns', 'kmsdiag.probes', 'kmsdiag.lab');"
        "print(*[name for name in network if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (run.stdout.split(), run.stderr) == ([], "")
