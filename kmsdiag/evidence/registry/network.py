r"""A machine's name, its Windows and its DNS settings in a registry export: ``Tcpip\Parameters`` and neighbours."""

import ipaddress
import re
from typing import Final

from kmsdiag.evidence.escape import ascii_text, quoted
from kmsdiag.evidence.registry.file import Entry
from kmsdiag.model.collected import NetworkState

_TCPIP: Final = re.compile(
    r".*\\(?P<set>[^\\]*controlset[^\\]*)\\services\\tcpip6?\\parameters(?P<interface>\\interfaces\\[^\\]+)?$"
)
_NAME: Final = re.compile(r".*\\control\\computername\\(?:active)?computername$")
_POLICY: Final = re.compile(r".*\\policies\\microsoft\\windowsnt\\dnsclient$")
_WINDOWS: Final = re.compile(r".*\\microsoft\\windowsnt\\currentversion$")
_LABEL: Final = re.compile(r"[\w-]{1,63}")


class Network:
    """Takes values of these keys, one after the other."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._values: dict[tuple[str, str], Entry] = {}
        self._interfaces: dict[str, dict[str, Entry]] = {}
        self._told = False
        self._names: dict[str, None] = {}
        self._windows: dict[str, str] = {}

    def take(self, path: str, entry: Entry) -> bool:
        """Whether a key (lower-case, without white space) is one of these; its value is kept."""
        tcpip = _TCPIP.match(path)
        name = (entry.name or "").lower()
        if tcpip is not None:
            self._told = True
            if tcpip["interface"]:
                own = self._interfaces.setdefault(tcpip["interface"], {})
                if entry.data is not None:
                    own.setdefault(name, entry)
            elif entry.data is not None and ((tcpip["set"] == "currentcontrolset") or ("", name) not in self._values):
                self._values["", name] = entry
        elif _POLICY.match(path):
            self._told = True
            if entry.data is not None:
                self._values["policy", name] = entry
        elif _NAME.match(path):
            if name == "computername" and isinstance(entry.data, str) and _LABEL.fullmatch(entry.data):
                self._names[ascii_text(entry.data)] = None
            return name == "computername"
        elif _WINDOWS.match(path):
            if name in ("productname", "currentbuild", "currentbuildnumber", "ubr") and entry.data is not None:
                self._windows[name] = ascii_text(str(entry.data), 60)
            return False
        else:
            return False
        return True

    @property
    def name(self) -> str:
        """The machine's name, with its domain where the file has it."""
        hostname = self._text("", "hostname") or self._text("", "nvhostname") or next(iter(self._names), "")
        if len(self._names) > 1:
            self._notes.append(f"several computer names: {', '.join(self._names)}")
        suffix = self._primary()
        return f"{hostname}.{suffix}" if hostname and suffix and "." not in hostname else hostname

    @property
    def system(self) -> str:
        """Windows and its build, as far as the file tells."""
        build = self._windows.get("currentbuild") or self._windows.get("currentbuildnumber", "")
        product = self._windows.get("productname", "")
        return " ".join(one for one in (product, f"build {build}" if build else "") if one)

    def state(self) -> NetworkState | None:
        """The DNS settings, None where the file has none."""
        if not self._told:
            return None
        suffixes: list[str] = _names(self._text("", "dhcpdomain"))
        resolvers: list[str] = []
        addresses: list[str] = []
        manual = self._addresses("", "nameserver")
        for own in self._interfaces.values():
            suffixes += _names(_text(own.get("domain"))) or _names(_text(own.get("dhcpdomain")))
            resolvers += self._of(own, "nameserver") or self._of(own, "dhcpnameserver")
            addresses += self._of(own, "ipaddress") or self._of(own, "dhcpipaddress")
        if not resolvers:
            resolvers = manual or self._addresses("", "dhcpnameserver")
        search = _names(self._text("policy", "searchlist")) or _names(self._text("", "searchlist"))
        return NetworkState(
            complete=("", "hostname") in self._values and bool(self._interfaces),
            primary_suffix=self._primary(),
            search=tuple(search),
            adapter_suffixes=tuple(dict.fromkeys(suffixes)),
            resolvers=tuple(dict.fromkeys(resolvers)),
            addresses=tuple(dict.fromkeys(one for one in addresses if one not in ("0.0.0.0", "::"))),  # noqa: S104
        )

    def _primary(self) -> str:
        texts = (self._text("policy", "nv primarydnssuffix"), self._text("", "domain"), self._text("", "nv domain"))
        return next((found[0] for text in texts if (found := _names(text))), "")

    def _text(self, place: str, name: str) -> str:
        return _text(self._values.get((place, name)))

    def _addresses(self, place: str, name: str) -> list[str]:
        entry = self._values.get((place, name))
        return [] if entry is None else self._checked(entry)

    def _of(self, own: dict[str, Entry], name: str) -> list[str]:
        entry = own.get(name)
        return [] if entry is None else self._checked(entry)

    def _checked(self, entry: Entry) -> list[str]:
        """Addresses of a value, which has them as a list or between blanks or commas."""
        parts = entry.data if isinstance(entry.data, tuple) else re.split(r"[\s,;]+", _text(entry))
        found = []
        for part in parts:
            if part:
                try:
                    found.append(str(ipaddress.ip_address(part)))
                except ValueError:
                    self._notes.append(f"line {entry.line}: {ascii_text(str(entry.name))} has {quoted(part, 60)}")
        return found


def _text(entry: Entry | None) -> str:
    return entry.data.strip() if entry is not None and isinstance(entry.data, str) else ""


def _names(text: str) -> list[str]:
    """DNS suffixes between commas or blanks, lower-case, without outer dots."""
    return [ascii_text(one.strip(".").lower()) for one in re.split(r"[\s,;]+", text) if one.strip(".")][:64]
