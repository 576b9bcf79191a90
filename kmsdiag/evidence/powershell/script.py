r"""Two read-only scripts for Windows PowerShell 5.1, made of the same parts: the live probe's and the collector's.

They read registry values, classes of the licensing service, events and network interfaces, and write one JSON object in
ASCII. They set nothing, call no method of the licensing service and ask for no product key. The probe prints its
object; the collector (``kmsdiag collect-script``) writes one new file and never replaces one. Characters beyond ASCII
are written as JSON escapes, whatever code page the console has. Neither has been run on Windows yet: their syntax and
the commands that they use are tested, what Windows answers is taken from Microsoft's documents.

The collector's object has everything that the probe's has (``format`` 1) and, beside ``kmsdiag_collection``:
``machine`` (identity), ``collected`` (UTC), more values in ``kms``, ``service`` and ``products``, ``services``
(states), more ``events``, ``lookups`` (questions put to DNS) and ``ports`` (connections, only where asked for).
"""

from typing import Final

EVENT_IDS: Final = (12288, 12289, 12308)
"""Events that the live probe reads: request to a KMS host, its answer, answer of Active Directory."""

MOST_EVENTS: Final = 10
"""Events that the live probe reads, the newest ones."""

COLLECTED_IDS: Final = (12288, 12289, 12291, 12292, 12293, 12294, 12308, 8198)
"""Events of the log Application that the collector reads; 12290 is in the log Key Management Service."""

_BEGIN: Final = r"""
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

function Read-Class($Class, $Wanted, $Condition) {
    $known = @((Get-CimClass -ClassName $Class).CimClassProperties | ForEach-Object { $_.Name })
    $columns = @($Wanted | Where-Object { $known -contains $_ })
    $query = "SELECT $($columns -join ', ') FROM $Class $Condition".Trim()
    Get-CimInstance -Query $query | Select-Object -Property $columns
}

function Read-Events($Log, $Provider, $Ids, $Most) {
    try {
        $filter = @{ LogName = $Log; Id = $Ids }
        if ($Provider) { $filter.ProviderName = $Provider }
        Get-WinEvent -FilterHashtable $filter -MaxEvents $Most | ForEach-Object {
            [ordered]@{
                id = $_.Id
                at = $_.TimeCreated.ToUniversalTime().ToString('o')
                computer = $_.MachineName
                log = $_.LogName
                strings = @($_.Properties | ForEach-Object { "$($_.Value)" })
            }
        }
    } catch {
        if ($_.FullyQualifiedErrorId -notmatch '^(NoMatching|LogsAndProviders)') {
            $problems.Add("events of ${Log}: $($_.Exception.Message)")
        }
    }
}
"""
"""Functions. A log, a provider or an event that is not there is no problem: most machines are no KMS host."""

_PROBE_CHOICE: Final = f"""
$roots = 'SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\SoftwareProtectionPlatform',
    'SOFTWARE\\Microsoft\\OfficeSoftwareProtectionPlatform'
$names = 'KeyManagementServiceName', 'KeyManagementServicePort', 'KeyManagementServiceLookupDomain',
    'VLActivationType', 'DisableKeyManagementServiceHostCaching'
$places = @($roots | ForEach-Object {{ @{{ hive = 'LocalMachine'; root = $_ }} }})
$fields = 'ClientMachineID', 'IsKeyManagementServiceMachine', 'KeyManagementServiceHostCaching',
    'KeyManagementServiceLookupDomain', 'KeyManagementServiceMachine', 'KeyManagementServicePort',
    'VLActivationTypeEnabled'
$wanted = 'ID', 'Name', 'Description', 'ApplicationID', 'LicenseStatus', 'LicenseStatusReason',
    'GracePeriodRemaining', 'ProductKeyChannel', 'DiscoveredKeyManagementServiceMachineName',
    'DiscoveredKeyManagementServiceMachinePort', 'IsKeyManagementServiceMachine',
    'KeyManagementServiceLookupDomain', 'VLActivationType', 'VLActivationTypeEnabled'
$classes = @('SoftwareLicensingProduct')
$events = @(Read-Events 'Application' 'Microsoft-Windows-Security-SPP' ({", ".join(map(str, EVENT_IDS))}) {MOST_EVENTS})
"""

_PARAMETERS: Final = r"""
param(
    [string]$OutFile = '',
    [switch]$Zip,
    [switch]$NoDns,
    [switch]$TestPorts,
    [ValidateRange(1, 100000)][int]$Newest = 1000
)
"""

_COLLECTOR_CHOICE: Final = rf"""
$roots = 'SOFTWARE\Microsoft\Windows NT\CurrentVersion\SoftwareProtectionPlatform',
    'SOFTWARE\Microsoft\OfficeSoftwareProtectionPlatform',
    'SOFTWARE\Microsoft\Windows NT\CurrentVersion\SL'
$names = 'KeyManagementServiceName', 'KeyManagementServicePort', 'KeyManagementServiceLookupDomain',
    'VLActivationType', 'DisableKeyManagementServiceHostCaching', 'KeyManagementServiceListeningPort',
    'DisableDnsPublishing', 'DnsDomainPublishList', 'EnableKmsLowPriority', 'VLActivationInterval',
    'VLRenewalInterval', 'DiscoveredKeyManagementServiceName', 'DiscoveredKeyManagementServicePort',
    'KeyManagementServiceRegisteredDomainName', 'KeyManagementServiceRegisteredPortNumber'
$places = @($roots | ForEach-Object {{ @{{ hive = 'LocalMachine'; root = $_ }} }})
$places += @($roots[0, 1] | ForEach-Object {{ @{{ hive = 'Users'; root = "S-1-5-20\$_" }} }})
$counters = 'KeyManagementServiceCurrentCount', 'KeyManagementServiceTotalRequests',
    'KeyManagementServiceFailedRequests', 'KeyManagementServiceUnlicensedRequests',
    'KeyManagementServiceLicensedRequests', 'KeyManagementServiceOOBGraceRequests',
    'KeyManagementServiceOOTGraceRequests', 'KeyManagementServiceNonGenuineGraceRequests',
    'KeyManagementServiceNotificationRequests', 'RequiredClientCount'
$kmsFields = 'IsKeyManagementServiceMachine', 'KeyManagementServiceMachine', 'KeyManagementServicePort',
    'KeyManagementServiceLookupDomain', 'KeyManagementServiceProductKeyID',
    'DiscoveredKeyManagementServiceMachineName', 'DiscoveredKeyManagementServiceMachinePort',
    'DiscoveredKeyManagementServiceMachineIpAddress', 'VLActivationInterval', 'VLRenewalInterval',
    'VLActivationTypeEnabled'
$fields = @('Version', 'ClientMachineID', 'KeyManagementServiceHostCaching', 'KeyManagementServiceListeningPort',
    'KeyManagementServiceDnsPublishing', 'KeyManagementServiceLowPriority',
    'RemainingWindowsReArmCount') + $kmsFields + $counters
$wanted = @('ID', 'Name', 'Description', 'ApplicationID', 'LicenseStatus', 'LicenseStatusReason',
    'GracePeriodRemaining', 'ProductKeyChannel', 'ProductKeyID', 'VLActivationType', 'EvaluationEndDate',
    'TrustedTime', 'RemainingSkuReArmCount', 'ADActivationObjectName', 'ADActivationObjectDN',
    'AutomaticVMActivationHostMachineName') + $kmsFields + $counters
$classes = 'SoftwareLicensingProduct', 'OfficeSoftwareProtectionProduct'
$found = [System.Collections.Generic.List[object]]::new()
foreach ($provider in 'Microsoft-Windows-Security-SPP', 'Office Software Protection Platform Service') {{
    foreach ($id in {", ".join(map(str, COLLECTED_IDS))}) {{
        foreach ($one in (Read-Events 'Application' $provider $id $Newest)) {{ $found.Add($one) }}
    }}
}}
foreach ($one in (Read-Events 'Key Management Service' '' 12290 $Newest)) {{ $found.Add($one) }}
$events = $found
"""
"""ProductKeyID is what slmgr shows as extended PID; it is not a key. The class for Office exists on Windows 7."""

_STATE: Final = r"""
$kms = [System.Collections.Generic.List[object]]::new()
foreach ($view in '64', '32') {
    foreach ($place in $places) {
        # The hives of users have no second view.
        if ($place.hive -eq 'Users' -and $view -eq '32') { continue }
        try {
            $root = $place.root
            $base = [Microsoft.Win32.RegistryKey]::OpenBaseKey($place.hive, "Registry$view")
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
                        view = $view; hive = $place.hive; root = $root.Split('\')[-1]
                        app = $one.app; sku = $one.sku; values = $values
                    })
                }
            }
            $base.Dispose()
        } catch { $problems.Add("registry view ${view}, $($place.root): $($_.Exception.Message)") }
    }
}

$service = $null
try {
    $service = Read-Class 'SoftwareLicensingService' $fields '' | Select-Object -First 1
} catch { $problems.Add("SoftwareLicensingService: $($_.Exception.Message)") }

$products = [System.Collections.Generic.List[object]]::new()
foreach ($class in $classes) {
    try {
        foreach ($one in (Read-Class $class $wanted 'WHERE PartialProductKey IS NOT NULL')) { $products.Add($one) }
    } catch {
        if ($class -eq $classes[0]) { $problems.Add("${class}: $($_.Exception.Message)") }
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
                addresses = @($properties.UnicastAddresses | ForEach-Object { $_.Address.ToString() })
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
"""

_COLLECTOR_STATE: Final = r"""
$machine = [ordered]@{}
$services = @()
$suffixes = [System.Collections.Generic.List[string]]::new()
try {
    $computer = Get-CimInstance -Query 'SELECT * FROM Win32_ComputerSystem' | Select-Object -First 1
    $system = Get-CimInstance -Query 'SELECT * FROM Win32_OperatingSystem' | Select-Object -First 1
    $machine.name = $computer.DNSHostName
    $machine.domain = $computer.Domain
    $machine.joined = $computer.PartOfDomain
    $machine.caption = $system.Caption
    $machine.version = $system.Version
    $machine.build = $system.BuildNumber
    if ($computer.PartOfDomain) { $suffixes.Add($computer.Domain) }
} catch { $problems.Add("identity: $($_.Exception.Message)") }
$machine.computer = [Environment]::MachineName
$machine.zone = [TimeZoneInfo]::Local.Id
$machine.powershell = $PSVersionTable.PSVersion.ToString()
try {
    $query = "SELECT Name, State, StartMode FROM Win32_Service WHERE Name = 'sppsvc' OR Name = 'osppsvc'"
    $services = @(Get-CimInstance -Query $query | Select-Object -Property 'Name', 'State', 'StartMode')
} catch { $problems.Add("services: $($_.Exception.Message)") }

# Names of KMS hosts, as host and port: set, remembered, and those that DNS gives.
$targets = [System.Collections.Generic.List[object]]::new()
foreach ($one in $kms) {
    if ($one.values.KeyManagementServiceName) {
        $targets.Add(@{ name = $one.values.KeyManagementServiceName; port = $one.values.KeyManagementServicePort })
    }
    if ($one.values.DiscoveredKeyManagementServiceName) {
        $targets.Add(@{
            name = $one.values.DiscoveredKeyManagementServiceName
            port = $one.values.DiscoveredKeyManagementServicePort
        })
    }
    if ($one.values.KeyManagementServiceLookupDomain) { $suffixes.Add($one.values.KeyManagementServiceLookupDomain) }
}
foreach ($one in $products) {
    if ($one.DiscoveredKeyManagementServiceMachineName) {
        $targets.Add(@{
            name = $one.DiscoveredKeyManagementServiceMachineName
            port = $one.DiscoveredKeyManagementServiceMachinePort
        })
    }
}
foreach ($one in $dns.parameters.Domain, $dns.policy.'NV PrimaryDnsSuffix', $service.KeyManagementServiceLookupDomain) {
    if ($one) { $suffixes.Add($one) }
}
foreach ($list in $dns.policy.SearchList, $dns.parameters.SearchList) {
    if ($list) { foreach ($one in ($list -split '[, ]+')) { if ($one) { $suffixes.Add($one) } } }
}
foreach ($interface in $interfaces) {
    foreach ($one in $interface.suffix, $interface.values.DhcpDomain, $interface.values.Domain) {
        if ($one) { $suffixes.Add($one) }
    }
}

$lookups = [System.Collections.Generic.List[object]]::new()
function Resolve-One($Name, $Type) {
    $lookup = [ordered]@{ name = $Name; type = $Type; error = $null; code = 0; records = @() }
    try {
        $lookup.records = @(Resolve-DnsName -Name "$Name." -Type $Type -DnsOnly | ForEach-Object {
            [ordered]@{
                type = "$($_.Type)"; name = $_.Name; ttl = $_.TTL; target = $_.NameTarget; priority = $_.Priority
                weight = $_.Weight; port = $_.Port; address = $_.IPAddress; host = $_.NameHost
            }
        })
    } catch {
        $lookup.error = "$($_.FullyQualifiedErrorId): $($_.Exception.Message)"
        $lookup.code = $_.Exception.NativeErrorCode
    }
    $lookups.Add($lookup)
    $lookup
}
if (-not $NoDns) {
    if (Get-Command -Name Resolve-DnsName -ErrorAction SilentlyContinue) {
        foreach ($suffix in @($suffixes | Select-Object -Unique | Select-Object -First 32)) {
            $answer = Resolve-One "_vlmcs._tcp.$($suffix.Trim('.'))" 'SRV'
            foreach ($one in $answer.records) {
                if ($one.type -eq 'SRV' -and $one.target) { $targets.Add(@{ name = $one.target; port = $one.port }) }
            }
        }
        $names = @($targets | ForEach-Object { "$($_.name)" } | Select-Object -Unique | Select-Object -First 32)
        foreach ($name in $names) {
            if ($name -match '[a-zA-Z]' -and $name -notmatch ':') {
                foreach ($type in 'A', 'AAAA') { $null = Resolve-One ($name.Trim('.')) $type }
            }
        }
    } else { $problems.Add('DNS: this Windows has no Resolve-DnsName, so no name was looked up') }
}

$ports = [System.Collections.Generic.List[object]]::new()
if ($TestPorts) {
    $seen = @{}
    foreach ($one in $targets) {
        $port = 1688
        if ($one.port -as [int]) { $port = $one.port -as [int] }
        $place = "$($one.name):$port"
        if ($seen.ContainsKey($place) -or $seen.Count -ge 32) { continue }
        $seen[$place] = $true
        $addresses = @()
        try { $addresses = @([System.Net.Dns]::GetHostAddresses($one.name)) } catch {
            $problems.Add("port test of $($one.name): $($_.Exception.Message)")
        }
        foreach ($address in $addresses) {
            $client = [System.Net.Sockets.TcpClient]::new($address.AddressFamily)
            $open = $false
            try { $open = $client.ConnectAsync($address, $port).Wait(5000) -and $client.Connected } catch { }
            $client.Close()
            $ports.Add([ordered]@{ target = $one.name; port = $port; address = $address.ToString(); open = $open })
        }
    }
}

# Only lines of the hosts file that name a KMS host, by its full or short name.
$known = @($targets | ForEach-Object { $name = "$($_.name)".ToLowerInvariant(); $name; $name.Split('.')[0] })
$hosts = @($hosts | Where-Object {
    $words = $_.ToLowerInvariant() -split '#'
    @($words[0] -split '\s+' | Where-Object { $_ -and $known -contains $_ }).Count -gt 0
})
"""

_OBJECT: Final = r"""
$all = [ordered]@{
    format = 1; dns = $dns; hosts = ($hosts -join "`n"); kms = $kms; service = $service; products = $products
    events = $events; problems = $problems
}
"""

_COLLECTOR_OBJECT: Final = r"""
$all.kmsdiag_collection = 1
$all.collected = [DateTime]::UtcNow.ToString('o')
$all.machine = $machine
$all.services = $services
$all.lookups = $lookups
$all.ports = $ports
"""

_JSON: Final = r"""
$json = ConvertTo-Json -InputObject $all -Depth 8 -Compress
$ascii = [regex]::Replace($json, '[^\x20-\x7e]', { param($match) '\u{0:x4}' -f [int][char]$match.Value })
"""

_PRINT: Final = r"""
[Console]::Out.Write($ascii)
"""

_WRITE: Final = r"""
$stem = "kmsdiag-$([Environment]::MachineName)-$([DateTime]::UtcNow.ToString('yyyyMMddTHHmmssZ'))"
if (-not $OutFile) { $OutFile = "$stem.json"; if ($Zip) { $OutFile = "$stem.zip" } }
$path = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($OutFile)
if ($Zip) { Add-Type -AssemblyName System.IO.Compression }
# CreateNew fails where the file exists: nothing is ever replaced.
$stream = [System.IO.File]::Open($path, 'CreateNew')
try {
    if ($Zip) {
        $archive = [System.IO.Compression.ZipArchive]::new($stream, 'Create')
        $writer = [System.IO.StreamWriter]::new($archive.CreateEntry("$stem.json").Open())
        $writer.Write($ascii)
        $writer.Dispose()
        $archive.Dispose()
    } else {
        $writer = [System.IO.StreamWriter]::new($stream)
        $writer.Write($ascii)
        $writer.Dispose()
    }
} finally { $stream.Dispose() }
[Console]::Out.WriteLine("Written: $path")
foreach ($problem in $problems) { [Console]::Out.WriteLine("Could not be read: $problem") }
"""

_HELP: Final = r"""
<#
Gathers what kmsdiag needs to know about KMS activation on this machine, client or KMS host, into one new JSON file.
Windows PowerShell 5.1, no modules to install; elevated it reads more (the cached hosts). It changes nothing, sends no
activation request, and reads no product key.

  powershell -NoProfile -ExecutionPolicy Bypass -File kmsdiag-collect.ps1 [options]

  -OutFile FILE   the file to write (default: kmsdiag-COMPUTER-TIME.json here); one that exists is not replaced
  -Zip            write a zip with the JSON file in it
  -NoDns          put no questions to DNS (default: SRV of each suffix, addresses of each KMS host)
  -TestPorts      open and close a TCP connection to each KMS host
  -Newest N       the newest N events of each kind (default 1000)
#>
"""

PROBE: Final = (_BEGIN + _PROBE_CHOICE + _STATE + _OBJECT + _JSON + _PRINT).strip()
"""What the live probe runs: it prints the object."""

COLLECTOR: Final = (
    (_HELP + _PARAMETERS).strip()
    + "\n"
    + "".join((_BEGIN, _COLLECTOR_CHOICE, _STATE, _COLLECTOR_STATE, _OBJECT, _COLLECTOR_OBJECT, _JSON, _WRITE))
)
"""The collector, as it is saved to a file."""
