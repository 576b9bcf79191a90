"""What a KMS host key activates: groups of keys, releases of Windows, and updates that an older host needs.

A key covers its own release and all before it. Sources: Microsoft, "KMS activation planning" (keys and updates),
"Error 0xC004F015 when you activate Windows 10" (KB 3086418), KB 968912, "Tools to manage volume activation of Office",
"Configure a KMS host computer for Office". The signs of the groups are those that public
outputs of slmgr show (C, R2_B, R2_C, 2012-R2_WIN10, W10, WS22); those of 2016, 2019 and 2025 follow the same pattern.
"""

import re
from typing import Final, NamedTuple


class Release(NamedTuple):
    """A release of Windows; ``rank`` orders those of one kind, a client and a server of the same age have the same."""

    name: str
    server: bool
    rank: int


_SERVERS: Final = ("2008", "2008 R2", "2012", "2012 R2", "2016", "2019", "2022", "2025")
_CLIENTS: Final = ("Vista", "7", "8", "8.1", "10")

RELEASES: Final = {
    **{f"Windows Server {name}": Release(f"Windows Server {name}", True, rank) for rank, name in enumerate(_SERVERS)},
    **{f"Windows {name}": Release(f"Windows {name}", False, rank) for rank, name in enumerate(_CLIENTS)},
    # It takes the same client setup keys as Windows 10, and the same host keys serve it.
    "Windows 11": Release("Windows 11", False, len(_CLIENTS) - 1),
}
"""By name."""


class HostKey(NamedTuple):
    """A group of host keys. ``server`` is the newest Windows Server that it activates, "" where none."""

    name: str
    server: str
    client: str

    def covers(self, release: Release) -> bool:
        """Whether it activates a release, on a host that has the updates for it."""
        newest = RELEASES.get(self.server if release.server else self.client)
        return newest is not None and release.rank <= newest.rank

    @property
    def words(self) -> str:
        """What it activates, for a reader."""
        client = "Windows 11" if self.client == "Windows 10" else self.client
        clients = client + ("" if self.client == "Windows Vista" else " and earlier")
        servers = self.server + ("" if self.server == "Windows Server 2008" else " and earlier")
        return f"{servers}, {clients}" if self.server else f"{clients}, no Windows Server"


_GROUPS: Final = {
    "WS25": HostKey("Windows Server 2025", "Windows Server 2025", "Windows 10"),
    "WS22": HostKey("Windows Server 2022", "Windows Server 2022", "Windows 10"),
    "WS19": HostKey("Windows Server 2019", "Windows Server 2019", "Windows 10"),
    "WS16": HostKey("Windows Server 2016", "Windows Server 2016", "Windows 10"),
    "2012-R2_WIN10": HostKey("Windows Server 2012 R2 for Windows 10", "Windows Server 2012 R2", "Windows 10"),
    "2012-R2": HostKey("Windows Server 2012 R2", "Windows Server 2012 R2", "Windows 8.1"),
    "2012": HostKey("Windows Server 2012", "Windows Server 2012", "Windows 8"),
    "W10": HostKey("Windows 10", "", "Windows 10"),
    "WIN10": HostKey("Windows 10", "", "Windows 10"),
    **{f"R2_{one}": HostKey(f"Windows Server 2008 R2 {one}", "Windows Server 2008 R2", "Windows 7") for one in "ABC"},
    **{one: HostKey(f"Windows Server 2008 {one}", "Windows Server 2008", "Windows Vista") for one in "ABC"},
}

_SIGN = re.compile(r"VOLUME_KMS_([A-Z0-9_-]+)", re.IGNORECASE)


def sign_of(description: str) -> str:
    """The group as a description has it ("VOLUME_KMS_WS22 channel" gives "WS22"); "" where it has none."""
    found = _SIGN.search(description)
    return found[1].upper() if found else ""


def key_of(description: str) -> HostKey | None:
    """The group of keys that a product's description names, None for one that this table lacks."""
    return _GROUPS.get(sign_of(description))


_OFFICE_HOSTS: Final = {
    "bfe7a195-4f8f-4f0b-a622-cf13c7d16864": "2010",
    "2e28138a-847f-42bc-9752-61b03fff33cd": "2013",
    "98ebfe73-2084-4c97-932c-c0cd1643bea7": "2016",
    "70512334-47b4-44db-a233-be5ea33b914c": "2019",
    "47f3b983-7c53-4d45-abc6-bcd91e2dd90a": "2021",
}
"""Activation IDs of Office host keys; that of 2013 is from a third party, the others from Microsoft's pages."""

_OFFICE_YEARS: Final = {"14": "2010", "15": "2013", "16": "2016", "19": "2019", "21": "2021", "24": "2024"}
_OFFICE_NAME: Final = re.compile(r"Office (20\d\d|1[4569]|2[14])\b")


def office_version(name: str, activation_id: str) -> str:
    """The version of an Office product, as its year; "" where neither name nor activation ID tells."""
    found = _OFFICE_NAME.search(name)
    by_id = _OFFICE_HOSTS.get(activation_id.lower(), "")
    return by_id or (_OFFICE_YEARS.get(found[1], found[1]) if found else "")


_BUILDS: Final = (
    (26100, "Windows Server 2025", "Windows 11"),
    (22000, "Windows Server 2022", "Windows 11"),
    (20348, "Windows Server 2022", "Windows 10"),
    (17763, "Windows Server 2019", "Windows 10"),
    (14393, "Windows Server 2016", "Windows 10"),
    (10240, "", "Windows 10"),
    (9600, "Windows Server 2012 R2", "Windows 8.1"),
    (9200, "Windows Server 2012", "Windows 8"),
    (7600, "Windows Server 2008 R2", "Windows 7"),
    (6000, "Windows Server 2008", "Windows Vista"),
)
"""First build of each release: server, client. A server of an annual channel counts as the one before it."""

_SERVER_NAME = re.compile(r"Server\D{0,16}(20\d\d)( R2)?", re.IGNORECASE)
_CLIENT_NAME = re.compile(r"Windows(?:\(R\)|\W)* ?(11|10|8\.1|8|7|Vista)(?![\d.])", re.IGNORECASE)
_BUILD = re.compile(r"\b(?:6\.\d|10\.0)\.(\d{4,5})\b")
_PID_BUILD = re.compile(r"-(\d{4,5})\.0000-")


def release_of(system: str, extended_pid: str, *, server: bool) -> Release | None:
    """The release of a machine: by its caption, else by the build in its version or in a product's extended PID.

    A build may be that of a client or of a server; ``server`` says which. None where nothing tells.
    """
    found = _SERVER_NAME.search(system)
    if found:
        return RELEASES.get(f"Windows Server {found[1]}{(found[2] or '').upper()}")
    named = None if server else _CLIENT_NAME.search(system)
    if named:
        return RELEASES.get(f"Windows {named[1].capitalize()}")
    build = _BUILD.search(system) or _PID_BUILD.search(extended_pid)
    for first, on_server, on_client in _BUILDS if build else ():
        if build and int(build[1]) >= first:
            return RELEASES.get(on_server if server else on_client)
    return None


UPDATES: Final = {
    ("Windows Server 2022", "Windows Server 2025"): "KB5034765",
    ("Windows Server 2019", "Windows Server 2025"): "KB5034768",
    ("Windows Server 2019", "Windows Server 2022"): "KB5003646",
    ("Windows Server 2016", "Windows Server 2022"): "KB5003638",
    ("Windows Server 2016", "Windows Server 2019"): "KB4478877",
    ("Windows Server 2012 R2", "Windows Server 2019"): "KB4467695",
    ("Windows Server 2012 R2", "Windows Server 2016"): "KB3172614",
    ("Windows Server 2012 R2", "Windows 10"): "KB3172614",
    ("Windows Server 2012", "Windows Server 2016"): "KB3172615",
    ("Windows Server 2012", "Windows Server 2012 R2"): "KB3172615",
    ("Windows Server 2012", "Windows 10"): "KB3172615",
    ("Windows Server 2008 R2", "Windows Server 2012 R2"): "KB3079821",
    ("Windows Server 2008 R2", "Windows Server 2012"): "KB3079821",
    ("Windows Server 2008 R2", "Windows 10"): "KB3079821",
    ("Windows 8.1", "Windows 10"): "KB3172614",
    ("Windows 7", "Windows 10"): "KB3079821",
    ("Windows Server 2008", "Windows Server 2008 R2"): "KB968912",
    ("Windows Server 2008", "Windows 7"): "KB968912",
}
"""By release of the host and release of the client: the least update that the host needs."""


def update_for(host: Release | None, client: Release) -> str:
    """The update that a host of one release needs at least to activate another; "" where none is documented."""
    name = "Windows 10" if client.name == "Windows 11" else client.name
    return UPDATES.get((host.name, name), "") if host is not None else ""
