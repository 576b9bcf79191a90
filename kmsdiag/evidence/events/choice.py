"""Which events a selection lets pass: by time, client (name or client machine ID) and host."""

from typing import Final

from kmsdiag.evidence.events.times import microseconds
from kmsdiag.model.target import Selection

EVER: Final = 1 << 62


class Choice:
    """A selection as events need it. A name without a dot stands for full names that begin with it too."""

    def __init__(self, selection: Selection | None = None) -> None:
        selection = selection or Selection()
        self.since = -EVER if selection.since is None else microseconds(selection.since)
        self.until = EVER if selection.until is None else microseconds(selection.until)
        self.timed = selection.since is not None or selection.until is not None
        self.clients = frozenset(_plain(one) for one in selection.clients)
        self.hosts = frozenset(_plain(one) for one in selection.hosts)

    def client(self, *names: str) -> bool:
        """Whether a client counts that goes by any of these names and IDs."""
        return not self.clients or any(_is_among(name, self.clients) for name in names)

    def host(self, name: str) -> bool:
        """Whether a host counts, which may be written with its port."""
        return not self.hosts or _is_among(name, self.hosts)


def _plain(name: str) -> str:
    return name.strip().lower().rstrip(".")


def _is_among(name: str, wanted: frozenset[str]) -> bool:
    whole = _plain(name)
    host = whole.rpartition(":")[0] if whole.count(":") == 1 or whole.startswith("[") else whole
    host = host.strip("[]").rstrip(".")
    return bool({whole, host, host.partition(".")[0] if not host[:1].isdigit() else host} & wanted)
