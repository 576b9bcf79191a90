"""Output of network tools as people paste it; written by hand after the tools' own output."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.tools.network import read
from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.collected import MachineState, NetworkState, PortTest, ToolLookup
from kmsdiag.model.outcome import DnsOutcome
from tests.test_evidence_powershell_json_files import check

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
NAME = "_vlmcs._tcp.contoso.example"
RECORD = SrvRecord(0, 0, 1688, "kms1.contoso.example", 0)


def one(text: str) -> MachineState:
    states = read(text)
    assert len(states) == 1
    return states[0]


def network(text: str) -> NetworkState:
    found = one(text).network
    assert found is not None
    return found


def lookup(text: str) -> ToolLookup:
    (found,) = network(text).lookups
    return found


# ------------------------------------------------------------------------------------------------------- nslookup

SRV = f"""
C:\\Users\\admin>nslookup -type=srv {NAME}
Server:  dc1.contoso.example
Address:  10.1.0.2

{NAME}    SRV service location:
          priority       = 0
          weight         = 0
          port           = 1688
          svr hostname   = KMS1.contoso.example
kms1.contoso.example    internet address = 10.1.0.8
kms1.contoso.example    AAAA IPv6 address = 2001:db8::8
"""
LINUX = f"""
admin@web:~$ nslookup -type=srv {NAME} 10.1.0.2
Server:\t\t10.1.0.2
Address:\t10.1.0.2#53

{NAME}\tservice = 0 0 1688 kms1.contoso.example.
kms1.contoso.example\tinternet address = 10.1.0.8
kms1.contoso.example\thas AAAA address 2001:db8::8
"""


def spoilt(text: str) -> dict[str, str]:
    """The same text after what mail and forums do to it."""
    rows = text.strip().splitlines()
    return {
        "as it is": text,
        "CRLF": text.replace("\n", "\r\n"),
        "no indents": "\n".join(line.strip() for line in rows),
        "blank lines": "\n\n".join(rows),
        "quoted": "\n".join(f"> {line}" for line in rows),
        "quoted twice": "\n".join(f"> > {line}" for line in rows),
        "quoted tightly": "\n".join(f">> {line}" for line in rows),
        "stray bars": "\n".join(f"{line} |" for line in rows),
        "spaces": "\n".join(f"   {line}   " for line in rows),
        "text around": f"Hello,\nthis is what I get:\n\n{text}\n\n-- \nRegards: admin",
    }


@pytest.mark.parametrize("how", spoilt(""))
@pytest.mark.parametrize("text", [SRV, LINUX])
def test_nslookup_of_srv(text: str, how: str) -> None:
    found = one(spoilt(text)[how])
    assert found.sources == ("nslookup",)
    assert found.notes == ()
    assert found.network is not None
    assert found.network.lookups == (
        ToolLookup(
            tool="nslookup",
            name=NAME,
            kind="SRV",
            outcome=DnsOutcome.ANSWERED,
            server="10.1.0.2",
            records=(RECORD,),
            addresses=("10.1.0.8", "2001:db8::8"),
        ),
    )


def test_several_records_of_one_name() -> None:
    text = (
        f"{NAME} SRV service location:\npriority = 10\nweight = 20\nport = 1689\nsvr hostname = kms2.contoso.example\n"
    )
    assert lookup(SRV + text).records == (RECORD, SrvRecord(10, 20, 1689, "kms2.contoso.example", 0))


def test_a_dialogue() -> None:
    found = network(
        f"C:\\>nslookup\nDefault Server:  dc1.contoso.example\nAddress:  10.1.0.2\n\n> set type=srv\n> {NAME}\n"
        "Server:  dc1.contoso.example\nAddress:  10.1.0.2\n\n"
        f"*** dc1.contoso.example can't find {NAME}: Non-existent domain\n> set q=a\n> kms1.contoso.example\n"
        "Server:  dc1.contoso.example\nAddress:  10.1.0.2\n\n"
        "Name:    kms1.contoso.example\nAddress:  10.1.0.8\n\n> exit\n"
    ).lookups
    assert [(one.name, one.kind, one.outcome, one.addresses) for one in found] == [
        (NAME, "SRV", DnsOutcome.NXDOMAIN, ()),
        ("kms1.contoso.example", "A", DnsOutcome.ANSWERED, ("10.1.0.8",)),
    ]


def test_addresses_and_aliases() -> None:
    found = one(
        "> nslookup kms\nServer:  UnKnown\nAddress:  10.1.0.2\n\nNon-authoritative answer:\n"
        "Name:    kms1.contoso.example\n"
        "Addresses:  2001:db8::8\n          10.1.0.8\n          10.1.0.9\nAliases:  kms.contoso.example\n"
    )
    assert found.network is not None
    assert [(one.name, one.kind, one.addresses) for one in found.network.lookups] == [
        ("kms.contoso.example", "AAAA", ("2001:db8::8",)),
        ("kms.contoso.example", "A", ("10.1.0.8", "10.1.0.9")),
    ]
    assert found.notes == ("nslookup: kms.contoso.example is an alias of kms1.contoso.example",)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (f"*** dc1 can't find {NAME}: Non-existent domain", DnsOutcome.NXDOMAIN),
        (f"*** dc1.contoso.example can't find {NAME}: Non-existent\ndomain", DnsOutcome.NXDOMAIN),
        (f"*** dc1 can't find {NAME}: Server failed", DnsOutcome.SERVFAIL),
        (f"*** dc1 can't find {NAME}: Query refused", DnsOutcome.REFUSED),
        (f"*** dc1 can't find {NAME}: No response from server", DnsOutcome.TIMEOUT),
        (f"*** dc1 can't find {NAME}: Unspecified error", DnsOutcome.ERROR_RCODE),
        (f"*** dc1 wurde {NAME} nicht gefunden: Non-existent domain.", DnsOutcome.NXDOMAIN),
        ("DNS request timed out.\n    timeout was 2 seconds.\n*** Request to dc1 timed-out", DnsOutcome.TIMEOUT),
        (f"*** No service location (SRV) records available for {NAME}", DnsOutcome.NODATA),
        (f"** server can't find {NAME}: NXDOMAIN", DnsOutcome.NXDOMAIN),
        (f"** server can't find {NAME}: SERVFAIL", DnsOutcome.SERVFAIL),
        (f"*** Can't find {NAME}: No answer", DnsOutcome.NODATA),
        (";; connection timed out; no servers could be reached", DnsOutcome.TIMEOUT),
    ],
)
def test_nslookup_that_failed(said: str, outcome: DnsOutcome) -> None:
    found = lookup(f"C:\\>nslookup -q=srv {NAME}\nServer:  dc1\nAddress:  10.1.0.2\n\n{said}\n")
    assert (found.name, found.kind, found.outcome, found.server) == (NAME, "SRV", outcome, "10.1.0.2")


def test_trouble_with_the_servers_own_name_is_no_answer() -> None:
    text = "*** Can't find server name for address 10.1.0.2: Timed out\n*** Default servers are not available\n"
    assert read(text) == []
    assert lookup(SRV.replace("Server:", f"{text}Server:")).outcome is DnsOutcome.ANSWERED


def test_whose_an_address_is_says_nothing() -> None:
    text = (
        "C:\\>nslookup 10.1.0.8\nServer:  dc1\nAddress:  10.1.0.2\n\n*** dc1 can't find 10.1.0.8: Non-existent domain\n"
    )
    assert read(text) == []


def test_what_nslookup_says_and_nobody_knows_is_a_note() -> None:
    found = one(f"{SRV}\n*** something else went wrong")
    assert found.notes == ("nslookup says something that is not known: something else went wrong",)
    found = one(f"{NAME} SRV service location:\nport = 70000\nsvr hostname = x")
    assert found.notes == (f"nslookup: an SRV record of {NAME} is not whole",)
    found = one("Server:  dc1\nAddress:  10.1.0.2\n*** Request to dc1 timed-out")
    assert found.notes == ("nslookup: no answer; what it was asked is not in the file",)


# -------------------------------------------------------------------------------------------------- Resolve-DnsName

TABLE = f"""
PS C:\\> Resolve-DnsName -Type SRV {NAME}

Name                                     Type   TTL   Section    NameTarget                     Priority Weight Port
----                                     ----   ---   -------    ----------                     -------- ------ ----
{NAME}              SRV    600   Answer     kms1.contoso.example           0        0      1688

Name       : kms1.contoso.example
QueryType  : A
TTL        : 1200
Section    : Additional
IP4Address : 10.1.0.8
"""
LIST = f"""
Name       : {NAME}
Type       : SRV
TTL        : 600
Section    : Answer
NameTarget : kms1.contoso.example
Priority   : 0
Weight     : 0
Port       : 1688

Name       : kms1.contoso.example
Type       : A
TTL        : 1200
Section    : Additional
IPAddress  : 10.1.0.8
"""
RESOLVED = ToolLookup(
    tool="Resolve-DnsName",
    name=NAME,
    kind="SRV",
    outcome=DnsOutcome.ANSWERED,
    records=(SrvRecord(0, 0, 1688, "kms1.contoso.example", 600),),
    addresses=("10.1.0.8",),
)


@pytest.mark.parametrize("how", spoilt(""))
@pytest.mark.parametrize("text", [TABLE, LIST])
def test_resolve_dnsname(text: str, how: str) -> None:
    assert lookup(spoilt(text)[how]) == RESOLVED


def test_a_table_that_the_console_wrapped() -> None:
    assert lookup(TABLE.replace("           0        0      1688", "\n0        0      1688")) == RESOLVED


def test_addresses_in_a_table() -> None:
    found = network(
        "Name                         Type   TTL   Section    IPAddress\n"
        "----                         ----   ---   -------    ---------\n"
        "kms1.contoso.example         AAAA   1200  Answer     2001:db8::8\n"
        "kms1.contoso.example         A      1200  Answer     10.1.0.8\n"
    ).lookups
    assert [(one.kind, one.addresses) for one in found] == [("AAAA", ("2001:db8::8",)), ("A", ("10.1.0.8",))]


@pytest.mark.parametrize(
    ("message", "identifier", "outcome"),
    [
        ("DNS name does not exist", "", DnsOutcome.NXDOMAIN),
        ("DNS name does not exist.", "DNS_ERROR_RCODE_NAME_ERROR", DnsOutcome.NXDOMAIN),
        ("Der DNS-Name ist nicht vorhanden", "DNS_ERROR_RCODE_NAME_ERROR", DnsOutcome.NXDOMAIN),
        ("DNS server failure", "DNS_ERROR_RCODE_SERVER_FAILURE", DnsOutcome.SERVFAIL),
        ("DNS operation refused", "DNS_ERROR_RCODE_REFUSED", DnsOutcome.REFUSED),
        ("This operation returned because the timeout period expired", "ERROR_TIMEOUT", DnsOutcome.TIMEOUT),
        ("No records found for given DNS query", "DNS_INFO_NO_RECORDS", DnsOutcome.NODATA),
        ("No DNS servers configured for local system", "DNS_ERROR_NO_DNS_SERVERS", DnsOutcome.NO_SERVER),
        ("Win32Exception 9003", "", DnsOutcome.NXDOMAIN),
    ],
)
def test_resolve_dnsname_that_failed(message: str, identifier: str, outcome: DnsOutcome) -> None:
    place = f"+ FullyQualifiedErrorId : {identifier},Microsoft.DnsClient.Commands.ResolveDnsName" if identifier else ""
    found = one(
        f"PS C:\\> Resolve-DnsName {NAME} -Type SRV\nResolve-DnsName : {NAME} : {message}\nAt line:1 char:1\n"
        f"+ Resolve-DnsName {NAME} -Type SRV\n+ ~~~~~~~~\n{place}\n"
    )
    assert found.network is not None
    assert found.notes == ()
    assert [(one.name, one.kind, one.outcome) for one in found.network.lookups] == [(NAME, "SRV", outcome)]


def test_an_error_that_nobody_knows_is_a_note() -> None:
    found = one(f"Resolve-DnsName : {NAME} : bad luck")
    assert found.notes[0].startswith(f"Resolve-DnsName: {NAME}: ")
    assert found.network is not None
    assert found.network.lookups[0].outcome is DnsOutcome.ERROR_RCODE


def test_only_the_soa_of_the_zone() -> None:
    soa = "Name : contoso.example\nQueryType : SOA\nTTL : 60\nSection : Authority\nNameAdministrator : hostmaster\n"
    assert lookup(f"PS> Resolve-DnsName -Name {NAME} -Type SRV -Server 10.1.0.2\n{soa}").outcome is DnsOutcome.NODATA
    assert "only the zone's SOA" in one(soa).notes[0]


# ------------------------------------------------------------------------------------------------------------ dig

DIG = f"""
; <<>> DiG 9.18.28 <<>> SRV {NAME} @10.1.0.2
;; global options: +cmd
;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 4711
;; flags: qr aa rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 2

;; QUESTION SECTION:
;{NAME}.\t\tIN\tSRV

;; ANSWER SECTION:
{NAME}.\t600\tIN\tSRV\t0 0 1688 kms1.contoso.example.

;; ADDITIONAL SECTION:
kms1.contoso.example.\t1200\tIN\tA\t10.1.0.8

;; Query time: 1 msec
;; SERVER: 10.1.0.2#53(10.1.0.2) (UDP)
"""


def test_dig() -> None:
    found = lookup(DIG)
    assert found == ToolLookup(
        tool="dig",
        name=NAME,
        kind="SRV",
        outcome=DnsOutcome.ANSWERED,
        server="10.1.0.2",
        records=(SrvRecord(0, 0, 1688, "kms1.contoso.example", 600),),
        addresses=("10.1.0.8",),
    )


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("NXDOMAIN", DnsOutcome.NXDOMAIN),
        ("SERVFAIL", DnsOutcome.SERVFAIL),
        ("REFUSED", DnsOutcome.REFUSED),
        ("NOERROR", DnsOutcome.NODATA),
        ("NOTIMP", DnsOutcome.ERROR_RCODE),
    ],
)
def test_dig_without_an_answer(status: str, outcome: DnsOutcome) -> None:
    text = DIG.partition(";; ANSWER")[0].replace("NOERROR", status)
    assert (lookup(text).name, lookup(text).outcome) == (NAME, outcome)


def test_dig_that_is_silent_or_short() -> None:
    banner = f"; <<>> DiG 9.18.28 <<>> SRV {NAME}\n"
    assert lookup(f"{banner};; connection timed out; no servers could be reached").outcome is DnsOutcome.TIMEOUT
    assert lookup(f"$ dig +short SRV {NAME}\n0 0 1688 kms1.contoso.example.\n").records == (RECORD,)


# ----------------------------------------------------------------------------------------------------- tests of ports

BLOCKED = """
PS C:\\> Test-NetConnection -ComputerName kms1.contoso.example -Port 1688
WARNING: TCP connect to (10.1.0.8 : 1688) failed

ComputerName           : kms1.contoso.example
RemoteAddress          : 10.1.0.8
RemotePort             : 1688
InterfaceAlias         : Ethernet
SourceAddress          : 10.2.0.17
PingSucceeded          : True
PingReplyDetails (RTT) : 0 ms
TcpTestSucceeded       : False
"""
CLOSED = PortTest(
    tool="Test-NetConnection",
    target="kms1.contoso.example",
    port=1688,
    succeeded=False,
    address="10.1.0.8",
    ping=True,
)


@pytest.mark.parametrize("how", spoilt(""))
def test_test_netconnection(how: str) -> None:
    assert network(spoilt(BLOCKED)[how]).ports == (CLOSED,)


def test_several_tests_and_a_ping_alone() -> None:
    second = BLOCKED.replace("kms1", "kms2").replace("10.1.0.8", "10.1.0.9").replace(": False", ": True")
    assert [(one.target, one.succeeded) for one in network(BLOCKED + second).ports] == [
        ("kms1.contoso.example", False),
        ("kms2.contoso.example", True),
    ]
    assert read("ComputerName : kms1\nRemoteAddress : 10.1.0.8\nPingSucceeded : True") == []


@pytest.mark.parametrize("target", ["10.1.0.8 ", "kms1.contoso.example"])
def test_a_warning_alone(target: str) -> None:
    (found,) = network(f"WARNING: TCP connect to ({target}: 1688) failed").ports
    assert (found.target, found.port, found.succeeded) == (target.strip(), 1688, False)


def test_quiet_tests_are_told_by_their_command() -> None:
    text = "PS C:\\> tnc kms1 -Port 1688 -InformationLevel Quiet\nTrue\n"
    assert network(text).ports == (PortTest(tool="Test-NetConnection", target="kms1", port=1688, succeeded=True),)
    assert read("True\n") == []
    assert read("PS C:\\> Test-NetConnection kms1 -InformationLevel Quiet\nTrue\n") == []


def test_psping_and_telnet() -> None:
    opened = "TCP connect to 10.1.0.8:1688:\nConnecting to 10.1.0.8:1688 (warmup): from 10.2.0.17:50000: 1.24ms\n"
    silent = "Connecting to 10.1.0.9:1688:\nThis operation returned because the timeout period expired.\n"
    dead = "Connecting To kms1...Could not open connection to the host, on port 1688: Connect failed\n"
    found = network(opened + silent + dead).ports
    assert [(one.tool, one.target, one.succeeded) for one in found] == [
        ("PsPing", "10.1.0.8", True),
        ("PsPing", "10.1.0.9", False),
        ("telnet", "kms1", False),
    ]


# ------------------------------------------------------------------------------------------------------- ipconfig

IPCONFIG = """
C:\\>ipconfig /all

Windows IP Configuration

   Host Name . . . . . . . . . . . . : PC17
   Primary Dns Suffix  . . . . . . . : Contoso.example
   Node Type . . . . . . . . . . . . : Hybrid
   IP Routing Enabled. . . . . . . . : No
   WINS Proxy Enabled. . . . . . . . : No
   DNS Suffix Search List. . . . . . : contoso.example
                                       corp.example

Ethernet adapter Ethernet:

   Connection-specific DNS Suffix  . : branch.example
   Description . . . . . . . . . . . : Intel(R) Ethernet Connection
   Physical Address. . . . . . . . . : 00-00-5E-00-53-01
   DHCP Enabled. . . . . . . . . . . : Yes
   Link-local IPv6 Address . . . . . : fe80::1%5(Preferred)
   IPv4 Address. . . . . . . . . . . : 10.2.0.17(Preferred)
   Subnet Mask . . . . . . . . . . . : 255.255.255.0
   Default Gateway . . . . . . . . . : 10.2.0.1
   DHCP Server . . . . . . . . . . . : 10.1.0.3
   DNS Servers . . . . . . . . . . . : 10.1.0.2
                                       2001:db8::2
                                       10.1.0.3
   NetBIOS over Tcpip. . . . . . . . : Enabled

Wireless LAN adapter Wi-Fi:

   Media State . . . . . . . . . . . : Media disconnected
   Connection-specific DNS Suffix  . : home.example
"""
GERMAN = """
Windows-IP-Konfiguration

   Hostname  . . . . . . . . . . . . : PC17
   Primäres DNS-Suffix . . . . . . . : contoso.example
   Knotentyp . . . . . . . . . . . . : Hybrid
   IP-Routing aktiviert  . . . . . . : Nein
   WINS-Proxy aktiviert  . . . . . . : Nein
   DNS-Suffixsuchliste . . . . . . . : contoso.example
                                       corp.example

Ethernet-Adapter Ethernet:

   Verbindungsspezifisches DNS-Suffix: branch.example
   Beschreibung. . . . . . . . . . . : Intel(R) Ethernet Connection
   IPv4-Adresse  . . . . . . . . . . : 10.2.0.17(Bevorzugt)
   DNS-Server  . . . . . . . . . . . : 10.1.0.2
                                       2001:db8::2
                                       10.1.0.3
"""
SETTINGS = NetworkState(
    complete=True,
    primary_suffix="contoso.example",
    search=("contoso.example", "corp.example"),
    adapter_suffixes=("branch.example",),
    resolvers=("10.1.0.2", "2001:db8::2", "10.1.0.3"),
    addresses=("10.2.0.17",),
)


@pytest.mark.parametrize("how", spoilt(""))
def test_ipconfig(how: str) -> None:
    found = one(spoilt(IPCONFIG)[how])
    assert (found.name, found.sources, found.notes) == ("pc17.contoso.example", ("ipconfig",), ())
    assert found.network == SETTINGS


def test_ipconfig_in_another_language() -> None:
    found = one(GERMAN)
    assert found.name == "pc17.contoso.example"
    assert found.notes == ("ipconfig: the labels are not English; read by place and shape",)
    assert found.network == SETTINGS


def test_a_workgroup_machine() -> None:
    text = IPCONFIG.replace(": Contoso.example", ":").replace(": contoso.example\n", ":\n").replace("corp.example", "")
    found = one(text)
    assert found.name == "pc17"
    assert found.network is not None
    assert (found.network.complete, found.network.primary_suffix, found.network.search) == (True, "", ())


def test_a_part_of_ipconfig_is_not_complete() -> None:
    found = network("DNS Servers . . . . . . . . . . . : 10.1.0.2\nIPv4 Address. . . . . . . . . . . : 10.2.0.17\n")
    assert (found.complete, found.resolvers) == (False, ("10.1.0.2",))


def test_values_that_do_not_fit_are_named() -> None:
    found = one(IPCONFIG.replace(": branch.example", ": b r").replace(": 10.1.0.2\n", ": none\n"))
    assert found.notes == (
        "ipconfig: Connection-specific DNS Suffix is no name: b r",
        "ipconfig: DNS Servers: none is no address",
    )


def test_what_was_tried_belongs_to_the_one_machine_of_the_text() -> None:
    found = one(IPCONFIG + SRV + BLOCKED)
    assert found.sources == ("ipconfig", "nslookup", "Test-NetConnection")
    assert found.network is not None
    assert (len(found.network.lookups), len(found.network.ports)) == (1, 1)
    assert found.network.resolvers == SETTINGS.resolvers
    states = read(IPCONFIG + IPCONFIG.replace("PC17", "PC18") + SRV)
    assert [state.name for state in states] == ["pc17.contoso.example", "pc18.contoso.example", ""]


# -------------------------------------------------------------------------------------------------------- anything


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Name: Windows(R), Professional edition\nDescription: x\nLicense Status: Licensed\n",
        "*** IMPORTANT ***\n** the connection timed out **\nServer: none\n",
        "Log Name: Application\nSource: Microsoft-Windows-Security-SPP\nEvent ID: 12288\nComputer: PC17\n",
        '{"ComputerName": "kms1"}',
    ],
)
def test_other_texts_say_nothing(text: str) -> None:
    assert read(text) == []


PIECES = [line for text in (SRV, LINUX, TABLE, LIST, DIG, BLOCKED, IPCONFIG, GERMAN) for line in text.splitlines()]


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    check(read(text))


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=40)))
def test_any_order_of_lines_is_read(rows: list[str]) -> None:
    check(read("\n".join(rows)))


@given(st.sampled_from(PIECES), st.integers(0, 80), st.text(max_size=10))
def test_any_damage_to_a_line_is_read(line: str, at: int, text: str) -> None:
    for whole in (SRV, TABLE, DIG, BLOCKED, IPCONFIG):
        check(read(whole.replace(line, line[:at] + text + line[at + len(text) :])))


def test_a_text_that_is_too_long_says_so() -> None:
    found = one(SRV + "x\n" * 200_000)
    assert found.notes == ("only the first 200,000 lines were read",)
    assert one(IPCONFIG + "x\n" * 200_000).notes == found.notes


def test_long_lines_take_no_time() -> None:
    for piece in (" .", ": ", "a ", "> ", "Name: ", "nslookup ", "Resolve-DnsName ", "x.y "):
        check(read((piece * 100_000 + "\n") * 3))


def test_samples() -> None:
    """Real output that lies beside the project on some machines; it is no part of it."""
    if not SAMPLES.is_dir():
        pytest.skip("no samples beside the project")
    srv = lookup((SAMPLES / "net-nslookup-srv-microsoft.txt").read_text(encoding="utf-8"))
    assert srv.name == "_vlmcs._tcp.contoso.com"
    assert srv.records == (SrvRecord(0, 0, 1688, "kms-server.contoso.com", 0),)
    (test,) = network((SAMPLES / "net-test-netconnection-blocked.txt").read_text(encoding="utf-8")).ports
    assert (test.port, test.succeeded, test.ping) == (1688, False, True)
    others = [file for file in SAMPLES.glob("*.txt") if not file.name.startswith("net-")]
    assert {file.name: read(file.read_text(encoding="utf-8")) for file in others} == {file.name: [] for file in others}
