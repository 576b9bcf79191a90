"""A made-up company and what its administrators sent: one KMS host, its clients, each with something else to tell.

``fixtures/collected`` is :func:`files` written out (``python -m tests.scene``). The hours are those of
``fixtures/pcap/retries-and-renewals.pcap``, in which WEB04 is 192.0.2.11 and kms1 198.51.100.20.
"""

import datetime
import io
import json
import uuid
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests import eventsamples
from tests.eventsamples import Event
from tests.evtxfiles import evtx

FOLDER: Final = Path(__file__).parent.parent / "fixtures" / "collected"
CAPTURE: Final = FOLDER.parent / "pcap" / "retries-and-renewals.pcap"
DOMAIN: Final = "contoso.example"
KMS1: Final = f"kms1.{DOMAIN}"
WINDOWS: Final = "55c92734-d682-4d71-983e-d6ec3f16059f"
NOON: Final = datetime.datetime(2026, 5, 29, 12, 0, tzinfo=datetime.UTC)


def cmid(number: int) -> str:
    """The client machine ID of a client."""
    return eventsamples.cmid(number)


CLONE: Final = 8
"""The number of the ID that two machines share."""


def at(day: int, hour: int, minute: int, second: int = 0) -> float:
    """A time of May 2026, UTC, as the events made for tests count it."""
    moment = datetime.datetime(2026, 5, day, hour, minute, second, tzinfo=datetime.UTC)
    return (moment - eventsamples.START).total_seconds() / 60


# --------------------------------------------------------------------------------------------------------- slmgr


def _sku(number: int) -> str:
    return str(uuid.UUID(int=0x1A2B3C4D_1111_4222_8333_000000000000 + number))


_HEAD = """Software licensing service version: {version}

Name: {name}
Description: {description}
Activation ID: {sku}
Application ID: {application}
Extended PID: {pid}
Product Key Channel: {channel}
Installation ID: 000111222333444555666777888999000111222333444555666777888999000
Partial Product Key: ABCDE
License Status: {status}
{details}Remaining Windows rearm count: 1001
Remaining SKU rearm count: 1001
Trusted time: 5/29/2026 12:00:00 PM
"""

_CLIENT = """Configured Activation Type: All

Most recent activation information:
Key Management Service client information
    Client Machine ID (CMID): {cmid}
    {host}
    KMS machine IP address: {address}
    KMS machine extended PID: 05426-00206-491-411285-03-1033-14393.0000-0802024
    Activation interval: 120 minutes
    Renewal interval: 10080 minutes
    KMS host caching is enabled
"""

BY_DNS: Final = f"KMS machine name from DNS: {KMS1}:1688"


def dlv(
    *,
    status: str = "Licensed",
    details: str = "Volume activation expiration: 251234 minute(s) (174 day(s))\n",
    name: str = "Windows(R), Enterprise edition",
    description: str = "Windows(R) Operating System, VOLUME_KMSCLIENT channel",
    channel: str = "Volume:GVLK",
    version: str = "10.0.19041.3996",
    sku: int = 1,
    rest: str = "",
) -> str:
    """``slmgr /dlv``."""
    return (
        _HEAD.format(
            version=version,
            name=name,
            description=description,
            sku=_sku(sku),
            application=WINDOWS,
            pid="03612-03360-000-000000-03-1033-19045.0000-0012026",
            channel=channel,
            status=status,
            details=details,
        )
        + rest
    )


def kms_client(number: int, host: str = BY_DNS, address: str = "198.51.100.20") -> str:
    """The part about the Key Management Service of ``slmgr /dlv`` on a client."""
    return _CLIENT.format(cmid=cmid(number), host=host, address=address)


NEVER = "Configured Activation Type: All\nPlease use slmgr.vbs /ato to activate and update KMS client information in"
NEVER += " order to update values.\n"

_HOST = """Key Management Service is enabled on this machine
    Current count: 42
    Listening on Port: 1688
    DNS publishing enabled
    KMS priority: Normal

Key Management Service cumulative requests received from clients
    Total requests received: 4711
    Failed requests received: 47
    Requests with License Status Unlicensed: 1
    Requests with License Status Licensed: 4600
    Requests with License Status Initial grace period: 30
    Requests with License Status License expired or Hardware out of tolerance: 20
    Requests with License Status Non-genuine grace period: 0
    Requests with License Status Notification: 60
"""

_GERMAN = f"""Softwarelizenzierungsdienst-Version: 10.0.19041.3996

Name: Windows(R), Enterprise edition
Beschreibung: Windows(R) Operating System, VOLUME_KMSCLIENT channel
Aktivierungs-ID: {_sku(1)}
Anwendungs-ID: {WINDOWS}
Erweiterte PID: 03612-03360-000-000000-05-1031-19045.0000-0012026
Product Key-Kanal: Volume:GVLK
Installations-ID: 000111222333444555666777888999000111222333444555666777888999000
Teil-Product Key: ABCDE
Lizenzstatus: Lizenziert
Ablauf der Volumenaktivierung: 211680 Minute(n) (147 Tag(e))
Verbleibende Windows-Rearm-Anzahl: 1001
Verbleibende SKU-Rearm-Anzahl: 1001
Vertrauenswürdige Zeit: 29.05.2026 14:00:00

Schlüsselverwaltungsdienst-Clientinformationen
    Clientcomputer-ID (CMID): {cmid(10)}
    KMS-Computername aus DNS: {KMS1}:1688
    KMS-Computer-IP-Adresse: 198.51.100.20
    Erweiterte PID des KMS-Computers: 05426-00206-491-411285-03-1033-14393.0000-0802024
    Aktivierungsintervall: 120 Minuten
    Erneuerungsintervall: 10080 Minuten
    KMS-Hostzwischenspeicherung ist aktiviert
"""

_OSPP = f"""---Processing--------------------------
---------------------------------------
PRODUCT ID: 00000-00000-00000-AA011
SKU ID: {_sku(11)}
LICENSE NAME: Office 21, Office21ProPlus2021VL_KMS_Client_AE edition
LICENSE DESCRIPTION: Office 21, VOLUME_KMSCLIENT channel
LICENSE STATUS:  ---NOTIFICATIONS---
ERROR CODE: 0xC004F009
ERROR DESCRIPTION: The Software Licensing Service reported that the grace period expired.
Last 5 characters of installed product key: ABCDE
Activation Type Configuration: ALL
        DNS auto-discovery: KMS name not available
        Activation Interval: 120 minutes
        Renewal Interval: 10080 minutes
        KMS host caching: Enabled
---------------------------------------
---------------------------------------
---Exiting-----------------------------
"""

# ------------------------------------------------------------------------------------------------------- network


def ipconfig(name: str, address: str) -> str:
    """``ipconfig /all``."""
    return f"""
Windows IP Configuration

   Host Name . . . . . . . . . . . . : {name}
   Primary Dns Suffix  . . . . . . . : {DOMAIN}
   Node Type . . . . . . . . . . . . : Hybrid
   IP Routing Enabled. . . . . . . . : No
   WINS Proxy Enabled. . . . . . . . : No
   DNS Suffix Search List. . . . . . : {DOMAIN}

Ethernet adapter Ethernet0:

   Connection-specific DNS Suffix  . : {DOMAIN}
   Description . . . . . . . . . . . : Intel(R) 82574L Gigabit Network Connection
   DHCP Enabled. . . . . . . . . . . : Yes
   IPv4 Address. . . . . . . . . . . : {address}(Preferred)
   Subnet Mask . . . . . . . . . . . : 255.255.255.0
   Default Gateway . . . . . . . . . : 192.0.2.1
   DNS Servers . . . . . . . . . . . : 192.0.2.53
"""


_NSLOOKUP = f"""C:\\>nslookup -type=srv _vlmcs._tcp.{DOMAIN}
Server:  dc1.{DOMAIN}
Address:  192.0.2.53

_vlmcs._tcp.{DOMAIN}    SRV service location:
          priority       = 0
          weight         = 0
          port           = 1688
          svr hostname   = {KMS1}
{KMS1}      internet address = 198.51.100.20
"""

_SPP = r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\SoftwareProtectionPlatform"


def _registry(name: str, values: dict[str, str]) -> bytes:
    lines = ["Windows Registry Editor Version 5.00", "", f"[{_SPP}]"]
    lines += [f'"{key}"={value}' for key, value in values.items()]
    lines += ["", r"[HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services\Tcpip\Parameters]"]
    lines += [f'"Hostname"="{name}"', f'"Domain"="{DOMAIN}"', ""]
    return b"\xff\xfe" + "\r\n".join(lines).encode("utf-16-le")


# -------------------------------------------------------------------------------------------------------- events

REFUSED = [at(28, 20, 26, 40), at(28, 22, 26, 40), at(29, 0, 26, 40), at(29, 2, 26, 40), at(29, 4, 26, 40)]


def _host_log() -> list[Event]:
    """Requests as kms1 logged them: 40 other machines, and those of the files."""
    events = [
        eventsamples.served(at(28, 20, number), 100 + number, machine=f"ws{number:02}.{DOMAIN}", host=KMS1, status=1)
        for number in range(40)
    ]
    events += [_served(when, 4, "0xC004F042", f"WEB04.{DOMAIN}") for when in REFUSED]
    events += [
        _served(at(29, 6, 10), 1, "0x0", f"PC01.{DOMAIN}"),
        _served(at(29, 7, 30), 3, "0x0", f"PC03.{DOMAIN}"),
        _served(at(29, 8, 0), CLONE, "0x0", f"PC08.{DOMAIN}"),
        _served(at(29, 8, 5), CLONE, "0x0", f"PC09.{DOMAIN}"),
        _served(at(29, 11, 59), 12, "0x0", f"PC12.{DOMAIN}"),
    ]
    return sorted(events, key=lambda event: event.minute)


def _served(minute: float, number: int, hresult: str, machine: str) -> Event:
    return eventsamples.served(minute, number, hresult, machine=machine, host=KMS1)


def _pc02() -> list[Event]:
    times = [at(29, 5, 0), at(29, 7, 0), at(29, 9, 0)]
    return [_asked(when, "0x800706BA", 2, "PC02") for when in times]


def _asked(minute: float, hresult: str, number: int, machine: str) -> Event:
    host = f"{KMS1}:1688"
    return eventsamples.asked(minute, hresult, host=host, number=number, machine=f"{machine}.{DOMAIN}")


# ---------------------------------------------------------------------------------------------------- collection


def _collection() -> dict[str, Any]:
    """What ``kmsdiag collect-script`` writes on PC12."""
    return {
        "kmsdiag_collection": 1,
        "collected": "2026-05-29T12:00:00.0000000Z",
        "machine": {
            "name": "PC12",
            "domain": DOMAIN,
            "joined": True,
            "caption": "Microsoft Windows 11 Enterprise",
            "version": "10.0.26100",
            "build": "26100",
            "computer": "PC12",
            "zone": "W. Europe Standard Time",
        },
        "services": [{"Name": "sppsvc", "State": "Running", "StartMode": "Auto"}],
        "service": {"Version": "10.0.26100.1", "ClientMachineID": cmid(12), "KeyManagementServiceHostCaching": True},
        "products": [
            {
                "Name": "Windows(R), Enterprise edition",
                "Description": "Windows(R) Operating System, VOLUME_KMSCLIENT channel",
                "ID": _sku(1),
                "ApplicationID": WINDOWS,
                "LicenseStatus": 1,
                "LicenseStatusReason": 1074065472,
                "GracePeriodRemaining": 259199,
                "ProductKeyChannel": "Volume:GVLK",
                "DiscoveredKeyManagementServiceMachineName": KMS1,
                "DiscoveredKeyManagementServiceMachinePort": 1688,
                "VLActivationInterval": 120,
                "VLRenewalInterval": 10080,
            }
        ],
        "kms": [],
        "events": [
            {
                "id": event.number,
                "at": f"{event.at:%Y-%m-%dT%H:%M:%S}.0000000Z",
                "computer": event.machine,
                "log": event.channel,
                "strings": list(event.values),
            }
            for event in (
                _asked(at(29, 11, 59), "0x0", 12, "PC12"),
                eventsamples.answered(at(29, 11, 59, 1), count=42, machine=f"PC12.{DOMAIN}"),
            )
        ],
        "lookups": [],
        "ports": [],
        "problems": [],
    }


def _zipped(members: Iterable[tuple[str, str]]) -> bytes:
    """A zip archive that is the same each time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, text in members:
            archive.writestr(zipfile.ZipInfo(name, (2026, 5, 29, 12, 0, 0)), text)
    return packed.getvalue()


# --------------------------------------------------------------------------------------------------------- files


def files() -> dict[str, bytes]:
    """Every file by its path below ``fixtures/collected``."""
    licensed = eventsamples.answered(at(29, 6, 10, 1), count=42, machine=f"PC01.{DOMAIN}")
    notification = "Notification Reason: 0xC004F056.\n"
    texts: dict[str, str] = {
        "kms1/slmgr-dlv.txt": dlv(
            name="Windows(R), ServerStandard edition",
            description="Windows(R) Operating System, VOLUME_KMS_WS16 channel",
            channel="Volume:CSVLK",
            version="10.0.14393.5850",
            details="",
            sku=20,
            rest=_HOST,
        ),
        "kms1/kms.csv": eventsamples.as_export_csv(_host_log(), time="%Y-%m-%dT%H:%M:%SZ"),
        "kms1/ipconfig.txt": ipconfig("kms1", "198.51.100.20"),
        # Healthy: both sides have its renewal.
        "pc01/slmgr-dlv.txt": dlv(rest=kms_client(1)),
        "pc01/network.txt": ipconfig("PC01", "192.0.2.101") + "\n" + _NSLOOKUP,
        # Its requests never arrive: the host's log covers the time, and lacks them.
        "pc02/slmgr-dlv.txt": dlv(status="Notification", details=notification, rest=NEVER),
        "pc02/application.xml": eventsamples.as_xml(_pc02()),
        # The host processed its request, and the answer was lost.
        "pc03/slmgr-dlv.txt": dlv(status="Notification", details=notification, rest=kms_client(3)),
        "pc03/events.txt": eventsamples.as_text([_asked(at(29, 7, 30), "0x800706BE", 3, "PC03")]),
        # Newer than the host's key.
        "web04/slmgr-dlv.txt": dlv(
            name="Windows(R), ServerStandard edition",
            sku=4,
            status="Notification",
            details=notification,
            version="10.0.20348.1",
            rest=NEVER,
        ),
        "web04/ipconfig.txt": ipconfig("WEB04", "192.0.2.11"),
        # Set by hand to a host that is gone.
        "pc05/slmgr-dlv.txt": dlv(
            status="Notification",
            details=notification,
            rest=kms_client(5, f"Registered KMS machine name: kms-old.{DOMAIN}:1688", "192.0.2.99"),
        ),
        "pc05/test-netconnection.txt": _UNREACHABLE,
        "pc06/slmgr-dlv.txt": dlv(
            description="Windows(R) Operating System, VOLUME_MAK channel", channel="Volume:MAK", details="", sku=6
        ),
        "pc07/slmgr-dlv.txt": dlv(rest=_DIRECTORY),
        "pc08/slmgr-dlv.txt": dlv(rest=kms_client(CLONE)),
        "pc09/slmgr-dlv.txt": dlv(rest=kms_client(CLONE)),
        "pc11/ospp-dstatus.txt": _OSPP,
    }
    found = {name: text.replace("\r\n", "\n").replace("\n", "\r\n").encode() for name, text in texts.items()}
    return found | {
        "kms1/spp.reg": _registry("kms1", {"DnsDomainPublishList": _DOMAINS, "VLRenewalInterval": "dword:00002760"}),
        "pc01/application.evtx": evtx([_asked(at(29, 6, 10), "0x0", 1, "PC01"), licensed]),
        "web04/application.evtx": evtx([_asked(when, "0xC004F042", 4, "WEB04") for when in REFUSED]),
        "pc05/spp.reg": _registry("PC05", {"KeyManagementServiceName": f'"kms-old.{DOMAIN}"'}),
        "pc10/slmgr-dlv.txt": _GERMAN.replace("\n", "\r\n").encode("cp850"),
        "pc12.zip": _zipped([("kmsdiag-PC12-20260529T120000Z.json", json.dumps(_collection(), indent=1))]),
    }


_DIRECTORY = f"""Configured Activation Type: All

Most recent activation information:
AD Activation client information
    Activation Object name: Windows-AD-Activation
    AO DN: CN=Windows-AD-Activation,CN=Activation Objects,DC=contoso,DC=example
    AO extended PID: 05426-04290-000-000000-03-1033-14393.0000-0802024
    AO activation ID: {_sku(7)}
"""
_UNREACHABLE = f"""PS C:\\> Test-NetConnection kms-old.{DOMAIN} -Port 1688
WARNING: TCP connect to (192.0.2.99 : 1688) failed
WARNING: Ping to 192.0.2.99 failed with status: TimedOut

ComputerName           : kms-old.{DOMAIN}
RemoteAddress          : 192.0.2.99
RemotePort             : 1688
InterfaceAlias         : Ethernet0
SourceAddress          : 192.0.2.105
PingSucceeded          : False
PingReplyDetails (RTT) : 0 ms
TcpTestSucceeded       : False
"""
_DOMAINS = "hex(7):" + ",".join(f"{byte:02x}" for byte in f"{DOMAIN}\0\0".encode("utf-16-le"))


def write(folder: Path) -> None:
    """Write all files below a folder."""
    for name, data in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    write(FOLDER)
