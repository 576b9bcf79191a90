"""Says where Microsoft KMS volume activation breaks: DNS, TCP, RPC, one verdict, and the next command.

>>> from kmsdiag import Target, diagnose
>>> report = diagnose(Target(domains=("contoso.example",)))          # doctest: +SKIP
>>> report.verdict.state, report.verdict.headline                    # doctest: +SKIP

It never sends an activation request, never answers one, forges no client ID, and changes no host's count and no
machine's settings.
"""

from typing import TYPE_CHECKING, Any

from kmsdiag.version import VERSION

if TYPE_CHECKING:
    from kmsdiag.api import diagnose, record
    from kmsdiag.bundle import Bundle
    from kmsdiag.diagnosis import judge
    from kmsdiag.engine import Budget
    from kmsdiag.model.report import Report
    from kmsdiag.model.target import Expected, ExpectedHost, HostSpec, Target
    from kmsdiag.probes.settings import ProbeSettings
    from kmsdiag.registry import discover

__version__ = VERSION

__all__ = [
    "Budget",
    "Bundle",
    "Expected",
    "ExpectedHost",
    "HostSpec",
    "ProbeSettings",
    "Report",
    "Target",
    "diagnose",
    "discover",
    "judge",
    "record",
]

_HOMES = {
    "Budget": "kmsdiag.engine",
    "Bundle": "kmsdiag.bundle",
    "Expected": "kmsdiag.model.target",
    "ExpectedHost": "kmsdiag.model.target",
    "HostSpec": "kmsdiag.model.target",
    "ProbeSettings": "kmsdiag.probes.settings",
    "Report": "kmsdiag.model.report",
    "Target": "kmsdiag.model.target",
    "diagnose": "kmsdiag.api",
    "discover": "kmsdiag.registry",
    "judge": "kmsdiag.diagnosis",
    "record": "kmsdiag.api",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used, so that ``kmsdiag --help`` loads none of them."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'kmsdiag' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
