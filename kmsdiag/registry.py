"""Finds the checks: built in, from entry points, from a folder. One that will not import is data, not an accident."""

import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

import msgspec

from kmsdiag.check import Check, CheckMeta

PACKAGE = "kmsdiag.checks"
ENTRY_POINTS = "kmsdiag.checks"


class LoadedCheck(msgspec.Struct, frozen=True):
    """A check that can be asked. ``origin`` says where it came from."""

    id: str
    module: Check
    origin: str

    @property
    def docstring(self) -> str:
        """The module's docstring, which is the check's manual page."""
        return inspect.cleandoc(getattr(self.module, "__doc__", None) or "")


class BrokenCheck(msgspec.Struct, frozen=True):
    """A check that could not be loaded, and why."""

    id: str
    origin: str
    error: str


class Registry(msgspec.Struct, frozen=True):
    """All checks, sorted by id."""

    checks: tuple[LoadedCheck, ...]
    broken: tuple[BrokenCheck, ...] = ()

    def select(self, only: Iterable[str] = (), skip: Iterable[str] = ()) -> "Registry":
        """The checks named, or all, without the skipped ones.

        Raises:
            UnknownCheckError: a name that no check has.
        """
        only, skip = tuple(only), tuple(skip)
        known = {check.id for check in self.checks} | {check.id for check in self.broken}
        for name in (*only, *skip):
            if name not in known:
                raise UnknownCheckError(name, known)
        wanted = (set(only) or known) - set(skip)
        return Registry(
            tuple(check for check in self.checks if check.id in wanted),
            tuple(check for check in self.broken if check.id in wanted),
        )

    def recorded(self, ids: Iterable[str], tool: str) -> "Registry":
        """The checks that a bundle was recorded for, and those that its kmsdiag did not have yet."""
        known, then = set(ids), _version(tool)
        return Registry(
            tuple(check for check in self.checks if check.id in known or _version(check.module.META.since) > then),
            self.broken,
        )


def _version(text: str) -> tuple[int, ...]:
    """A version as far as it is numbers, without zeros at the end: 0.1 and 0.1.0 are the same."""
    numbers = [int(part) for part in text.split(".") if part.isdigit()]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


class UnknownCheckError(LookupError):
    """No check has this id; the text names near ones."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        import difflib

        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"there is no check {name!r}{hint} ('kmsdiag checks list' names all)")


def discover(checks_dir: Path | None = None) -> Registry:
    """All checks there are. Built-in ones win where ids clash, then entry points, then the folder.

    Raises:
        NotADirectoryError: ``checks_dir`` is no folder.
    """
    loaded: dict[str, LoadedCheck] = {}
    broken: list[BrokenCheck] = []
    for found in (*_built_in(), *_entry_points(), *_folder(checks_dir)):
        if isinstance(found, BrokenCheck):
            broken.append(found)
        elif found.id in loaded:
            clash = f"the id is taken by the check from {loaded[found.id].origin}"
            broken.append(BrokenCheck(found.id, found.origin, clash))
        else:
            loaded[found.id] = found
    return Registry(
        tuple(sorted(loaded.values(), key=lambda check: check.id)),
        tuple(sorted(broken, key=lambda check: (check.id, check.origin))),
    )


def _package() -> ModuleType:
    """The package of built-in checks: installed with this one, or beside it in a checkout."""
    if PACKAGE in sys.modules:
        return sys.modules[PACKAGE]
    here = Path(__file__).parent
    init = here.parent / "checks" / "__init__.py"
    if (here / "checks").is_dir() or not init.is_file():
        return importlib.import_module(PACKAGE)
    # Not by import: where several checkouts share an environment, that would find the checks of another one.
    spec = importlib.util.spec_from_file_location(PACKAGE, init, submodule_search_locations=[str(init.parent)])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"no built-in checks at {init}", name=PACKAGE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)
    return module


def _built_in() -> Iterator[LoadedCheck | BrokenCheck]:
    package = _package()
    for info in pkgutil.iter_modules(package.__path__):
        yield _load(info.name, "built in", lambda name=info.name: importlib.import_module(f"{PACKAGE}.{name}"))


def _entry_points() -> Iterator[LoadedCheck | BrokenCheck]:
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else point.value
        yield _load(point.name, f"package {package}", point.load)


def _folder(folder: Path | None) -> Iterator[LoadedCheck | BrokenCheck]:
    if folder is None:
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder: --checks-dir takes a folder with one Python file a check")
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield _load(file.stem, str(file), lambda file=file: _import_file(file))


def _import_file(file: Path) -> ModuleType:
    name = f"kmsdiag_checks_dir.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load(name: str, origin: str, importer: "object") -> LoadedCheck | BrokenCheck:
    try:
        module = importer()  # type: ignore[operator]
    except BaseException as error:  # a foreign module may raise anything at import, SystemExit too
        if isinstance(error, KeyboardInterrupt):
            raise
        return BrokenCheck(name, origin, f"{type(error).__name__}: {error}")
    missing = [part for part in ("subjects", "ask", "judge") if not callable(getattr(module, part, None))]
    if not isinstance(getattr(module, "META", None), CheckMeta):
        missing.insert(0, "META")
    if missing:
        return BrokenCheck(name, origin, f"it lacks {', '.join(missing)}")
    return LoadedCheck(name, cast("Check", module), origin)
