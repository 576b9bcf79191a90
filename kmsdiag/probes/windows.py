"""What Windows knows about activation and name resolution on this machine: one read-only PowerShell call, parsed here.

The script reads registry values, two CIM classes of the licensing service, the last activation events and the network
interfaces, and prints one JSON object in ASCII. It sets nothing, calls no method of the licensing service and asks for
no product key. It has NOT been run on Windows yet: its syntax and the commands it uses are tested, what Windows 10,
Server 2016 and later answer is taken from Microsoft's documents, and the parser expects surprises: whatever does not
fit becomes a line in ``problems``.
"""

import asyncio
import base64
import datetime
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from kmsdiag.model.answer import HostsEntry, KmsClient, KmsEvent, KmsOverride, LicensedProduct, MachineAnswer
from kmsdiag.probes.machine import LIST_LIMIT, addresses, ascii_text, parse_hosts, suffix, suffixes
from kmsdiag.probes.settings import system_dns

SECONDS: Final = 20.0
"""Time limit of the PowerShell call: starting it takes one or two, the licensing service may take several."""

EVENT_IDS: Final = (12288, 12289, 12308)
"""Request to a KMS host, its answer, answer of Active Directory."""

MOST_EVENTS: Final = 10
INFO_LIMIT: Final = 1000

_NO_WINDOW: Final = 0x0800_0000
"""CREATE_NO_WINDOW of CreateProcess."""

_SITE_LOCAL: Final = ("fec0:0:0:ffff::1", "fec0:0:0:ffff::2", "fec0:0:0:ffff::3")
"""DNS servers that Windows names where an interface has none for IPv6."""

_OFFICE: Final = "OfficeSoftwareProtectionPlatform"

SCRIPT: Final = r"""
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$problems = [System.Collections.Generic.List[string]]::new()
$guid = '^\{?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}?$'

function Read-Values($Base, $Path, $Names) {
    $found = [ordered]@{}
    $key = $Base.OpenSubKey($Path)
    if ($null -ne $key) {
        foreach ($name in $Names) {
            $value = $key.GetValue($name)
            if ($null -ne $value) { $found[$name] = $value }
        }
        $key.Dispose()
    }
    $found
}

function Read-Names($Base, $Path) {
    $key = $Base.OpenSubKey($Path)
    if ($null -ne $key) {
        $key.GetSubKeyNames()
        $key.Dispose()
    }
}

$kms = [System.Collections.Generic.List[object]]::new()
$names = 'KeyManagementServiceName', 'KeyManagementServicePort', 'KeyManagementServiceLookupDomain',
    'VLActivationType', 'DisableKeyManagementServiceHostCaching'
$roots = 'SOFTWARE\Microsoft\Windows NT\CurrentVersion\SoftwareProtectionPlatform',
    'SOFTWARE\Microsoft\OfficeSoftwareProtectionPlatform'
foreach ($view in '64', '32') {
    try {
        $base = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', "Registry$view")
        foreach ($root in $roots) {
            $keys = [System.Collections.Generic.List[object]]::new()
            $keys.Add(@{ app = ''; sku = ''; path = $root })
            foreach ($app in (Read-Names $base $root)) {
                if ($app -match $guid) {
                    $keys.Add(@{ app = $app; sku = ''; path = "$root\$app" })
                    foreach ($sku in (Read-Names $base "$root\$app")) {
                        if ($sku -match $guid) { $keys.Add(@{ app = $app; sku = $sku; path = "$root\$app\$sku" }) }
                    }
                }
            }
            foreach ($one in $keys) {
                $values = Read-Values $base $one.path $names
                if ($values.Count -gt 0) {
                    $kms.Add([ordered]@{
                        view = $view; root = $root.Split('\')[-1]; app = $one.app; sku = $one.sku; values = $values
                    })
                }
            }
        }
        $base.Dispose()
    } catch { $problems.Add("registry view ${view}: $($_.Exception.Message)") }
}

$service = $null
try {
    $fields = 'ClientMachineID', 'IsKeyManagementServiceMachine', 'KeyManagementServiceHostCaching',
        'KeyManagementServiceLookupDomain', 'KeyManagementServiceMachine', 'KeyManagementServicePort',
        'VLActivationTypeEnabled'
    $query = 'SELECT * FROM SoftwareLicensingService'
    $service = Get-CimInstance -Query $query | Select-Object -First 1 -Property $fields
} catch { $problems.Add("SoftwareLicensingService: $($_.Exception.Message)") }

$products = @()
$basic = 'ID, Name, Description, ApplicationID, LicenseStatus, LicenseStatusReason, GracePeriodRemaining'
$more = 'ProductKeyChannel, DiscoveredKeyManagementServiceMachineName, DiscoveredKeyManagementServiceMachinePort,' +
    ' IsKeyManagementServiceMachine, KeyManagementServiceLookupDomain, VLActivationType, VLActivationTypeEnabled'
foreach ($columns in "$basic, $more", $basic) {
    try {
        $query = "SELECT $columns FROM SoftwareLicensingProduct WHERE PartialProductKey IS NOT NULL"
        $products = @(Get-CimInstance -Query $query | Select-Object -Property ($columns -split ', *'))
        break
    } catch { $problems.Add("SoftwareLicensingProduct: $($_.Exception.Message)") }
}

$events = @()
try {
    $filter = @{ LogName = 'Application'; ProviderName = 'Microsoft-Windows-Security-SPP'; Id = 12288, 12289, 12308 }
    $events = @(Get-WinEvent -FilterHashtable $filter -MaxEvents 10 | ForEach-Object {
        @{
            id = $_.Id
            at = $_.TimeCreated.ToUniversalTime().ToString('o')
            info = (($_.Properties | ForEach-Object { "$($_.Value)" }) -join ', ')
        }
    })
} catch {
    if ($_.FullyQualifiedErrorId -notlike 'NoMatchingEventsFound*') {
        $problems.Add("events: $($_.Exception.Message)")
    }
}

$dns = [ordered]@{}
$interfaces = [System.Collections.Generic.List[object]]::new()
try {
    $base = [Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', 'Default')
    $tcpip = 'SYSTEM\CurrentControlSet\Services\Tcpip\Parameters'
    $dns.parameters = Read-Values $base $tcpip ('Domain', 'SearchList', 'UseDomainNameDevolution')
    $dns.policy = Read-Values $base 'SOFTWARE\Policies\Microsoft\Windows NT\DNSClient' (
        'NV PrimaryDnsSuffix', 'SearchList', 'UseDomainNameDevolution', 'DomainNameDevolutionLevel')
    foreach ($one in [System.Net.NetworkInformation.NetworkInterface]::GetAllNetworkInterfaces()) {
        if ($one.OperationalStatus -eq 'Up' -and $one.NetworkInterfaceType -ne 'Loopback') {
            $properties = $one.GetIPProperties()
            $interfaces.Add([ordered]@{
                suffix = $properties.DnsSuffix
                servers = @($properties.DnsAddresses | ForEach-Object { $_.ToString() })
                values = Read-Values $base "$tcpip\Interfaces\$($one.Id)" ('DhcpDomain', 'Domain')
            })
        }
    }
    $base.Dispose()
} catch { $problems.Add("DNS settings: $($_.Exception.Message)") }
$dns.interfaces = $interfaces

$hosts = @()
try {
    $file = "$env:SystemRoot\System32\drivers\etc\hosts"
    if (Test-Path -LiteralPath $file) { $hosts = @(Get-Content -LiteralPath $file -TotalCount 5000) }
} catch { $problems.Add("hosts file: $($_.Exception.Message)") }

$all = [ordered]@{
    format = 1; dns = $dns; hosts = ($hosts -join "`n"); kms = $kms; service = $service; products = $products
    events = $events; problems = $problems
}
$json = ConvertTo-Json -InputObject $all -Depth 6 -Compress
$ascii = [regex]::Replace($json, '[^\x20-\x7e]', { param($match) '\u{0:x4}' -f [int][char]$match.Value })
[Console]::Out.Write($ascii)
"""
"""Windows PowerShell 5.1. Characters beyond ASCII are written as JSON escapes, whatever code page the console has."""


class WindowsFormatError(ValueError):
    """What PowerShell printed is not the JSON object that the script makes; the text says how."""


class PowerShellError(RuntimeError):
    """PowerShell could not be run to its end; the text says why."""


class WindowsParts(NamedTuple):
    """The parts of a MachineAnswer that come from the script."""

    primary_suffix: str
    search: tuple[str, ...]
    dhcp_suffixes: tuple[str, ...]
    resolvers: tuple[str, ...]
    hosts_file: tuple[HostsEntry, ...]
    devolution: bool | None
    kms: KmsClient
    problems: tuple[str, ...]


def powershell() -> Sequence[str]:
    """The command line. An encoded command needs no file, no quoting and no execution policy."""
    root = os.environ.get("SYSTEMROOT", r"C:\Windows")
    program = rf"{root}\System32\WindowsPowerShell\v1.0\powershell.exe"
    encoded = base64.b64encode(SCRIPT.strip().encode("utf-16-le")).decode("ascii")
    return (program, "-NoLogo", "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded)


async def run(command: Sequence[str], seconds: float = SECONDS, flags: int = 0) -> str:
    """What a command prints. It is ended when the time is over, or when nobody waits for it any more.

    Raises:
        PowerShellError: it could not be started, took too long, or printed nothing.
    """
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, creationflags=flags
        )
    except (OSError, NotImplementedError) as error:
        raise PowerShellError(f"PowerShell could not be started ({type(error).__name__})") from None
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        raise PowerShellError(f"PowerShell took longer than {seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = out.decode("utf-8", "backslashreplace")
    if not text.strip():
        complaint = ascii_text(" ".join(err.decode("utf-8", "backslashreplace").split()))
        raise PowerShellError(f"PowerShell printed nothing and ended with {process.returncode}: {complaint}")
    return text


async def settings(name: str) -> MachineAnswer:
    """The settings of this Windows machine; what could not be learned is in ``problems``."""
    at = datetime.datetime.now(datetime.UTC)
    try:
        parts = parse(await run(powershell(), flags=_NO_WINDOW))
    except (PowerShellError, WindowsFormatError) as error:
        dns = system_dns()
        return MachineAnswer(
            at=at,
            system="",
            name=name,
            primary_suffix=suffix(dns.suffixes[0]) if dns.suffixes else "",
            search=suffixes(dns.suffixes),
            resolvers=dns.servers,
            kms=KmsClient(problems=(str(error),)),
            problems=("primary suffix: the first suffix that Windows has; which one is primary is not known",)
            if dns.suffixes
            else (),
        )
    return MachineAnswer(at=at, system="", name=name, **parts._asdict())


# -------------------------------------------------------------------------------------------------- JSON → answer


def parse(text: str) -> WindowsParts:
    """Read what the script printed, in the shapes of Windows PowerShell 5.1 and of PowerShell 7.

    Raises:
        WindowsFormatError: no JSON, or no object, or another format.
    """
    try:
        data = json.loads(text.strip().removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise WindowsFormatError(f"PowerShell printed no JSON ({type(error).__name__}): {_excerpt(text)}") from None
    if not isinstance(data, dict):
        raise WindowsFormatError(f"PowerShell printed no JSON object: {_excerpt(text)}")
    if data.get("format") != 1:
        raise WindowsFormatError(f"PowerShell printed another JSON object than expected: {_excerpt(text)}")
    machine = _Reader(data, "the answer", [])
    hosts, problems = parse_hosts(machine.raw_text("hosts"))
    return WindowsParts(
        **_dns(machine),
        hosts_file=hosts,
        kms=_kms(_Reader(data, "the answer", [])),
        problems=(*machine.problems, *problems),
    )


def _excerpt(text: str) -> str:
    return ascii_text(" ".join(text.split()), 60) or "nothing"


class _Reader:
    """Reads the fields of one JSON object; what does not fit is told to ``problems`` and read as missing."""

    def __init__(self, data: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self.data = data
        self.where = where
        self.problems = problems

    def wrong(self, key: str, value: object) -> None:
        """Note a value that does not fit."""
        self.problems.append(ascii_text(f"{self.where}: {key} is {_shown(value)}"))

    def raw_text(self, key: str) -> str:
        """A text as it is, or ""."""
        value = self.data.get(key)
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return "\n".join(value)
        self.wrong(key, value)
        return ""

    def text(self, key: str, limit: int = 255) -> str:
        """A text in printable ASCII, or ""."""
        value = self.data.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return ascii_text(str(value), limit)
        text = self.raw_text(key).strip()
        if len(text) > limit:
            self.problems.append(f"{self.where}: {key} has {len(text)} characters, {limit} are kept")
        return ascii_text(text, limit)

    def number(self, key: str, most: int, least: int = 0, missing: int = 0) -> int:
        """A number, or ``missing``. The registry keeps some as text."""
        value = self.data.get(key)
        if value is None or value == "":
            return missing
        if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,12}\s*", value, re.ASCII):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and least <= value <= most:
            return int(value)
        self.wrong(key, value)
        return missing

    def flag(self, key: str) -> bool | None:
        """Yes or no, or None where it is not said."""
        if self.data.get(key) is None:
            return None
        return bool(self.number(key, 0xFFFF_FFFF))

    def code(self, key: str) -> str:
        """An HRESULT as 0x text; "" for 0."""
        value = self.data.get(key)
        if isinstance(value, str) and re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", value):
            value = int(value, 16)
        elif value is not None:
            value = self.number(key, 0xFFFF_FFFF, -0x8000_0000)
        return f"0x{value & 0xFFFF_FFFF:08X}" if value else ""

    def object(self, key: str) -> "_Reader":
        """A nested object; empty where it is missing. A list of one object is that object."""
        value = self.data.get(key)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is not None and not isinstance(value, dict):
            self.wrong(key, value)
        return _Reader(value if isinstance(value, dict) else {}, key, self.problems)

    def items(self, key: str) -> list[Any]:
        """A list; PowerShell writes one element without the list, and some lists as ``{"value": [], "Count": n}``."""
        value = self.data.get(key)
        if isinstance(value, dict) and value.keys() == {"value", "Count"}:
            value = value["value"]
        if value is None:
            return []
        found = value if isinstance(value, list) else [value]
        if len(found) > LIST_LIMIT:
            self.problems.append(f"{self.where}: {key} has {len(found)} entries, {LIST_LIMIT} are kept")
        return found[:LIST_LIMIT]

    def objects(self, key: str, name: str) -> Iterator["_Reader"]:
        """A list of objects."""
        for number, value in enumerate(self.items(key), 1):
            if isinstance(value, dict):
                yield _Reader(value, f"{name} {number}", self.problems)
            elif value is not None:
                self.wrong(f"{name} {number}", value)

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        found = []
        for value in self.items(key):
            if isinstance(value, str):
                found.append(value)
            elif value is not None:
                self.wrong(key, value)
        return found

    def time(self, key: str) -> datetime.datetime | None:
        """A time in UTC: ISO 8601, ``/Date(milliseconds)/``, or an object with either as ``value``."""
        value = self.data.get(key)
        if isinstance(value, dict):
            value = value.get("value", value.get("DateTime"))
        found = _time(value) if isinstance(value, str) else None
        if found is None:
            self.wrong(key, value)
        return found


def _shown(value: object) -> str:
    if isinstance(value, Mapping | list):
        return "an object" if isinstance(value, Mapping) else "a list"
    return ascii_text(repr(value), 60)


def _time(text: str) -> datetime.datetime | None:
    ticks = re.fullmatch(r"/Date\((-?[0-9]{1,15})(?:[+-][0-9]{4})?\)/", text)
    try:
        if ticks is not None:
            return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(milliseconds=int(ticks[1]))
        # .NET writes seven digits of a second, Python reads six.
        found = datetime.datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text))
        if found.tzinfo is None:
            found = found.replace(tzinfo=datetime.UTC)
        return found.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None


def _dns(top: _Reader) -> dict[str, Any]:
    dns = top.object("dns")
    parameters, policy = dns.object("parameters"), dns.object("policy")
    servers: list[str] = []
    own_suffixes: list[str] = []
    for interface in dns.objects("interfaces", "interface"):
        texts = interface.texts("servers")
        found = addresses(texts)
        if len(found) < len({text.strip() for text in texts}):
            interface.wrong("servers", ", ".join(texts))
        servers += [server for server in found if server.partition("%")[0] not in _SITE_LOCAL]
        values = interface.object("values")
        own_suffixes += [interface.text("suffix"), values.text("Domain"), values.text("DhcpDomain")]
    search = policy.text("SearchList", 4096) or parameters.text("SearchList", 4096)
    listed = suffixes(search.replace(" ", ",").split(","))
    allowed = [flag for one in (policy, parameters) if (flag := one.flag("UseDomainNameDevolution")) is not None]
    return {
        "primary_suffix": suffix(parameters.text("Domain")) or suffix(policy.text("NV PrimaryDnsSuffix")),
        "search": listed,
        "dhcp_suffixes": suffixes(own_suffixes),
        "resolvers": tuple(dict.fromkeys(servers))[:LIST_LIMIT],
        # Windows appends no parents where a search list is set; without a setting it does.
        "devolution": False if listed else allowed[0] if allowed else True,
    }


def _kms(top: _Reader) -> KmsClient:
    told = [ascii_text(text) for text in top.texts("problems")]
    service = top.object("service")
    overrides, domains, caching = _registry(top)
    named = service.text("KeyManagementServiceMachine").lower()
    if named:
        own = [one for one in overrides if (one.level, one.view) == ("global", "64") and one.host]
        if not own:
            overrides.insert(0, KmsOverride("global", named, service.number("KeyManagementServicePort", 65_535)))
        elif own[0].host != named:
            top.problems.append(f"the licensing service uses the override {named}, the registry has {own[0].host}")
    products, hosting, lookups = _products(top)
    domains = [name for name in (service.text("KeyManagementServiceLookupDomain"), *lookups, *domains) if name]
    lookup = [suffix(name) for name in dict.fromkeys(map(str.lower, domains))]
    if len(lookup) > 1:
        top.problems.append(f"several lookup domains are set: {', '.join(lookup)}")
    _activation_type(service, "VLActivationTypeEnabled")
    enabled = service.flag("KeyManagementServiceHostCaching")
    events = tuple(found for one in top.objects("events", "event") if (found := _event(one)) is not None)
    return KmsClient(
        overrides=tuple(overrides),
        lookup_domain=lookup[0] if lookup else "",
        caching=enabled if enabled is not None else caching,
        client_machine_id=service.text("ClientMachineID").lower(),
        is_host=bool(service.flag("IsKeyManagementServiceMachine")) or hosting,
        products=products,
        events=tuple(sorted(events, key=lambda one: (one.at, one.id, one.info), reverse=True))[:MOST_EVENTS],
        problems=(*told, *top.problems),
    )


def _registry(top: _Reader) -> tuple[list[KmsOverride], list[str], bool | None]:
    """Overrides, lookup domains, and whether hosts are cached where the registry says so."""
    overrides, domains = [], []
    caching: bool | None = None
    for entry in top.objects("kms", "registry key"):
        app, sku = entry.text("app").strip("{}").lower(), entry.text("sku").strip("{}").lower()
        view = entry.text("view")
        if view not in ("64", "32"):
            entry.wrong("view", view)
            continue
        level = "product" if sku else "application" if app else "global"
        scope = sku or app
        if not scope and entry.text("root") == _OFFICE:
            level, scope = "application", _OFFICE
        values = entry.object("values")
        host, port = values.text("KeyManagementServiceName").lower(), values.number("KeyManagementServicePort", 65_535)
        if host or port:
            overrides.append(KmsOverride(level, host, port, scope, view))
        domains.append(values.text("KeyManagementServiceLookupDomain"))
        disabled = values.flag("DisableKeyManagementServiceHostCaching")
        if disabled is not None and view == "64":
            caching = not disabled if caching is None else caching
        _activation_type(values, "VLActivationType")
    return overrides, domains, caching


_TYPES: Final = {1: "Active Directory", 2: "KMS", 3: "tokens"}


def _activation_type(values: _Reader, key: str) -> None:
    """Other ways of activation may be switched off; a way that is not KMS must not be lost."""
    found = values.number(key, 0xFFFF_FFFF)
    if found in (1, 3):
        values.problems.append(f"{values.where}: {key} is {found}: only {_TYPES[found]} may activate, never KMS")


def _products(top: _Reader) -> tuple[tuple[LicensedProduct, ...], bool, list[str]]:
    """Products with a key, whether one of them is a KMS host, and lookup domains of products."""
    found, hosting, lookups = [], False, []
    for one in top.objects("products", "product"):
        hosting |= bool(one.flag("IsKeyManagementServiceMachine"))
        lookups.append(one.text("KeyManagementServiceLookupDomain"))
        _activation_type(one, "VLActivationTypeEnabled")
        found.append(
            LicensedProduct(
                name=one.text("Name"),
                description=one.text("Description"),
                application_id=one.text("ApplicationID").lower(),
                activation_id=one.text("ID").lower(),
                channel=one.text("ProductKeyChannel"),
                # 0 would say that it is not licensed.
                status=one.number("LicenseStatus", 6, missing=-1),
                reason=one.code("LicenseStatusReason"),
                grace_minutes=one.number("GracePeriodRemaining", 0xFFFF_FFFF),
                discovered_host=one.text("DiscoveredKeyManagementServiceMachineName").lower(),
                discovered_port=one.number("DiscoveredKeyManagementServiceMachinePort", 65_535),
            )
        )
    return tuple(found), hosting, lookups


def _event(one: _Reader) -> KmsEvent | None:
    number, at = one.number("id", 0xFFFF), one.time("at")
    if number not in EVENT_IDS:
        one.wrong("id", number)
        return None
    return None if at is None else KmsEvent(id=number, at=at, info=one.text("info", INFO_LIMIT))
