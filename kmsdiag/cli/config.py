"""Configuration files: option defaults and policy from TOML, ./kmsdiag.toml over the user's own file.

Layout: ``[options]`` for every command that has the option, ``[check]`` and so on for one command, ``[severity]`` and
``ignore`` for the policy. An option on the command line or a KMSDIAG_* variable wins over all files.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kmsdiag.cli.errors import UsageProblem

if TYPE_CHECKING:
    from kmsdiag.policy import Policy
    from kmsdiag.registry import Registry

FILE = "kmsdiag.toml"
_WITHOUT_JUNIT = ("explain", "forecast")
_COMMANDS = ("check", "analyze", "audit", "baseline", "merge", "diff", *_WITHOUT_JUNIT, "checks", "schema", "demo")
_POLICY = ("severity", "ignore")


def files() -> list[Path]:
    """The files that exist, weakest first."""
    candidates = (Path(typer.get_app_dir("kmsdiag")) / FILE, Path(FILE))
    return [path for path in candidates if _is_file(path)]


def _is_file(path: Path) -> bool:
    """Whether it is there; what lies in a folder that may not be looked into (another user's home) is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _load(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            data = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise UsageProblem(f"{path} is no valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path} can't be read: {error}") from None
    for key in data:
        if key not in (*_COMMANDS, *_POLICY, "options"):
            known = ", ".join(("options", *_COMMANDS, *_POLICY))
            raise UsageProblem(f"{path}: unknown key {key!r} (known: {known})")
        if key != "ignore" and not isinstance(data[key], dict):
            raise UsageProblem(f"{path}: {key} must be a table, [{key}]")
    return data


def _option_names() -> dict[str, set[str]]:
    """Options of each command, by parameter name."""
    import inspect

    from kmsdiag.cli import analyze, audit, baseline, check, demo, diff, explain, forecast, merge, schema

    modules = {
        "check": check,
        "analyze": analyze,
        "audit": audit,
        "baseline": baseline,
        "merge": merge,
        "diff": diff,
        "explain": explain,
        "forecast": forecast,
        "demo": demo,
        "schema": schema,
    }
    return {name: set(inspect.signature(module.command).parameters) for name, module in modules.items()}


def option_defaults() -> dict[str, Any]:
    """Defaults by command, as click's default_map wants them.

    Raises:
        UsageProblem: a file that can't be read, or an option that no command has.
    """
    found = files()
    if not found:
        return {}
    names = _option_names()
    defaults: dict[str, dict[str, Any]] = {name: {} for name in names}
    for path in found:
        data = _load(path)
        for option, value in data.get("options", {}).items():
            name = option.replace("-", "_")
            holders = [command for command, known in names.items() if name in known]
            if not holders:
                raise UsageProblem(f"{path}: [options] {option!r} is an option of no command")
            for command in holders:
                # What is meant for pipelines is no reason to refuse those that have nothing to tell one.
                if (name, value) == ("format", "junit") and command in _WITHOUT_JUNIT:
                    continue
                defaults[command][name] = value
        for command in names:
            for option, value in data.get(command, {}).items():
                name = option.replace("-", "_")
                if name not in names[command]:
                    raise UsageProblem(f"{path}: [{command}] has no option {option!r}")
                defaults[command][name] = value
    return defaults


def policy(registry: "Registry") -> "Policy":
    """The policy of all files together; where both say something of one code, ./kmsdiag.toml wins.

    ``registry`` holds all checks there are: a file may speak of those that one run leaves out.

    Raises:
        UsageProblem: an unknown code or severity.
    """
    from kmsdiag.policy import Policy, PolicyError, parse_policy

    known = frozenset(f"{check.id}.{code}" for check in registry.checks for code in check.module.META.codes)
    broken = frozenset(check.id for check in registry.broken)
    merged = Policy()
    for path in files():
        try:
            own = parse_policy(_load(path), known, str(path), broken)
        except PolicyError as error:
            raise UsageProblem(str(error)) from None
        merged = Policy({**merged.severity, **own.severity}, merged.ignore | own.ignore)
    return merged
