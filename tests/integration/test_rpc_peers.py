"""The bind against RPC implementations that are not kmsdiag's: servers that take it, and decoders that read it."""

import contextlib
import itertools
import os
import socket
import struct
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from kmsdiag.model.answer import ContextResult, RpcAnswer
from kmsdiag.model.outcome import DnsOutcome, RpcOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.request import KMS_INTERFACE, RpcBind, SrvQuery
from kmsdiag.model.target import HostSpec, Target
from kmsdiag.wire import rpc
from tests.integration.world import ask, causes, codes, diagnose, text_of, wait_for
from tests.netlab import Lab, is_real_root, require, require_tools

IMPACKET_PORT, SCAPY_PORT, EPM_PORT = 1688, 1689, 135
# The remote management interface, version 1.0: every RPC server has it (C706 appendix Q).
MANAGEMENT = "afa8bd80-7d8a-11c9-bef4-08002b102989"
NOBODYS = str(uuid.UUID(int=0x5EED))
REQUEST, BIND, BIND_ACK = "0", "11", "12"


def load(name: str) -> ModuleType:
    """Import a decoder that other people wrote, whatever it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return __import__(name, fromlist=["*"])
        except ImportError as error:
            require(condition=False, reason=f"{name} is not installed ({error})")
            raise


def accepts(address: str, port: int) -> Callable[[], bool]:
    def connect() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return True
        return False

    return connect


def start_program(lab: Lab, host: str, log: Path, port: int, *command: str) -> subprocess.Popen[Any]:
    """Start a server in a host and wait until its port is open."""
    root = str(Path(__file__).parents[2])
    with log.open("w") as out:
        process = lab.popen(host, *command, stdout=out, stderr=out, cwd=root, env={**os.environ, "PYTHONPATH": root})
    wait_for(lab, host, process, log, accepts(lab.v4(host), port), seconds=30)
    return process


@pytest.fixture(scope="module")
def impacket_peer(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """impacket's server, on port 1688 of the host "peer"; its address."""
    load("impacket.dcerpc.v5.rpcrt")
    log = tmp_path_factory.mktemp("impacket") / "log"
    address = lab.v4("peer")
    script = str(Path(__file__).with_name("impacket_server.py"))
    start_program(lab, "peer", log, IMPACKET_PORT, sys.executable, script, address, str(IMPACKET_PORT))
    return address


@pytest.fixture(scope="module")
def scapy_peer(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scapy's server, on port 1689 of the host "peer"; its address."""
    load("scapy.layers.dcerpc")
    log = tmp_path_factory.mktemp("scapy") / "log"
    script = str(Path(__file__).with_name("scapy_server.py"))
    start_program(lab, "peer", log, SCAPY_PORT, sys.executable, script, str(SCAPY_PORT))
    return lab.v4("peer")


_SMB_CONF = """[global]
server role = active directory domain controller
realm = AD.TEST
workgroup = AD
netbios name = DC1
server services = rpc, dns, ldap, cldap, kdc
dcerpc endpoint servers = epmapper, dnsserver
prefork children = 1
interfaces = lo eth0
bind interfaces only = yes
load printers = no
disable spoolss = yes
vfs objects = dfs_samba4 acl_xattr
private dir = {run}/private
state directory = {run}/state
cache directory = {run}/cache
lock directory = {run}
binddns dir = {run}/bind-dns
pid directory = {run}/pid
ncalrpc dir = {run}/ncalrpc
winbindd socket directory = {run}/winbindd
ntp signd socket directory = {run}/ntp
log file = {run}/log.%m
[sysvol]
path = {run}/state/sysvol
read only = no
[netlogon]
path = {run}/state/sysvol/ad.test/scripts
read only = no
"""


@pytest.fixture(scope="session")
def domain_controller(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fresh Samba AD DC with its endpoint mapper and DNS, in the host "dc"; its address."""
    require_tools("samba", "samba-tool")
    require(is_real_root(), "Samba provisions a domain only for the root of the machine, not of a user namespace")
    run = tmp_path_factory.mktemp("samba")
    address = lab.v4("dc")
    lab.sh(
        "dc",
        *("samba-tool", "domain", "provision", "--realm=AD.TEST", "--domain=AD", "--server-role=dc"),
        *("--dns-backend=SAMBA_INTERNAL", "--adminpass=Passw0rd!x", "--host-name=dc1", f"--host-ip={address}"),
        *(f"--targetdir={run}", "--option=interfaces=lo eth0", "--option=bind interfaces only=yes"),
    )
    conf = run / "etc" / "smb.conf"
    conf.write_text(_SMB_CONF.format(run=run))
    # Samba makes "ntp" itself, and minds if somebody else did.
    for folder in ("pid", "ncalrpc", "winbindd"):
        (run / folder).mkdir(exist_ok=True)
    start_program(lab, "dc", run / "log", EPM_PORT, "samba", "-i", "--debug-stdout", "-s", str(conf), "-d", "1")
    return address


class Packet(NamedTuple):
    """One DCE/RPC PDU, or one TCP segment with data, as tshark reads it."""

    source: str
    stream: str
    length: str
    type: str
    fields: dict[str, list[str]]


class Capture:
    """What went over a host's wire, for tshark to read. A packet socket needs no program that wants to be root."""

    FIELDS = ("ver", "cn_frag_len", "cn_num_ctx_items", "cn_bind_to_uuid", "cn_bind_if_ver", "cn_bind_trans_id")
    MORE = ("cn_bind_trans_btfn", "cn_num_results", "cn_ack_result", "cn_ack_reason", "cn_ack_trans_id")

    def __init__(self, lab: Lab, host: str, port: int, folder: Path) -> None:
        require_tools("tshark")
        self._file, self._port = folder / "capture.pcap", port
        # Bound with protocol 3 (ETH_P_ALL), it sees what is sent as well.
        self._socket = lab.call(host, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind(("eth0", 3))
        self._socket.setblocking(False)

    def stop(self) -> None:
        """Write what came so far as a pcap file (link type 1, Ethernet)."""
        with self._socket, self._file.open("wb") as file:
            file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
            with contextlib.suppress(BlockingIOError):
                for number in itertools.count():
                    frame = self._socket.recv(65_535)
                    file.write(struct.pack("=IIII", number, 0, len(frame), len(frame)) + frame)

    def packets(self) -> list[Packet]:
        """All TCP segments with data, in order."""
        fields = [f"dcerpc.{name}" for name in (*self.FIELDS, *self.MORE)]
        listed = ["ip.src", "ipv6.src", "tcp.stream", "tcp.len", "dcerpc.pkt_type", *fields]
        command = [
            "tshark",
            "-r",
            str(self._file),
            "-d",
            f"tcp.port=={self._port},dcerpc",
            "-Y",
            f"tcp.port == {self._port} && tcp.len > 0",
        ]
        command += ["-T", "fields", "-E", "separator=;", *(word for field in listed for word in ("-e", field))]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        packets = []
        for line in out.splitlines():
            v4, v6, stream, length, kind, *values = line.split(";")
            found = {name: value.split(",") for name, value in zip(fields, values, strict=True) if value}
            packets.append(Packet(v4 or v6, stream, length, kind, found))
        return packets


@contextlib.contextmanager
def capturing(lab: Lab, host: str, port: int, folder: Path) -> Iterator[Capture]:
    capture = Capture(lab, host, port, folder)
    try:
        yield capture
    finally:
        capture.stop()


def assert_same_results(ack: Packet, answer: RpcAnswer) -> None:
    """tshark and kmsdiag read the same from a bind_ack."""
    assert ack.fields["dcerpc.cn_ack_result"] == [str(context.result) for context in answer.contexts]
    # Result 3 has the features granted where others have a reason.
    rejected = [context for context in answer.contexts if context.result in (1, 2)]
    assert ack.fields["dcerpc.cn_ack_reason"] == [str(context.reason) for context in rejected]


def test_tshark_reads_the_bind_as_the_one_of_windows(lab: Lab, kms: str, tmp_path: Path) -> None:
    with capturing(lab, "kms", 1688, tmp_path) as capture:
        answer = ask(lab, RpcBind(address=kms, port=1688))
    assert answer.outcome is RpcOutcome.ACCEPTED
    bind, ack = capture.packets()
    assert (bind.source, bind.length, bind.type) == (lab.v4("client"), "160", BIND)
    assert bind.fields == {
        "dcerpc.ver": ["5"],
        "dcerpc.cn_frag_len": ["160"],
        "dcerpc.cn_num_ctx_items": ["3"],
        "dcerpc.cn_bind_to_uuid": [KMS_INTERFACE] * 3,
        "dcerpc.cn_bind_if_ver": ["1", "1", "1"],
        "dcerpc.cn_bind_trans_id": [rpc.NDR32[0], rpc.NDR64[0], rpc.FEATURES[0]],
        # It knows the third one for what it is, too.
        "dcerpc.cn_bind_trans_btfn": ["0x0003"],
    }
    assert (ack.source, ack.type) == (kms, BIND_ACK)
    assert_same_results(ack, answer)


def test_a_whole_run_sends_binds_and_nothing_else(lab: Lab, kms: str, tmp_path: Path) -> None:
    hosts = (HostSpec(kms), HostSpec(lab.v6("kms")))
    with capturing(lab, "kms", 1688, tmp_path) as capture:
        report = diagnose(lab, Target(hosts=hosts, tries=2))
    assert report.verdict.state is VerdictState.HEALTHY
    sent = [packet for packet in capture.packets() if packet.source in lab.both("client")]
    # KMS and the interface that nobody has, at two addresses: four connections, one PDU each, and it is a bind.
    assert [packet.type for packet in sent] == [BIND] * 4
    assert [packet.length for packet in sent] == ["160"] * 4
    assert len({packet.stream for packet in sent}) == report.counts.rpc_binds == 4
    assert sum(KMS_INTERFACE in packet.fields["dcerpc.cn_bind_to_uuid"] for packet in sent) == 2
    assert REQUEST not in {packet.type for packet in capture.packets()}


def test_no_request_follows_an_acceptance_by_a_foreign_server(lab: Lab, impacket_peer: str, tmp_path: Path) -> None:
    with capturing(lab, "peer", IMPACKET_PORT, tmp_path) as capture:
        diagnose(lab, Target(hosts=(HostSpec(impacket_peer, IMPACKET_PORT),)))
    packets = capture.packets()
    assert [packet.type for packet in packets if packet.source == lab.v4("client")] == [BIND, BIND]
    assert [packet.type for packet in packets if packet.source == impacket_peer] == [BIND_ACK, BIND_ACK]


class Peer(NamedTuple):
    """A foreign server, by fixture, and how it answers to an interface that it does not have."""

    fixture: str
    port: int
    unknown: RpcOutcome
    detail: str


PEERS = [
    Peer("impacket_peer", IMPACKET_PORT, RpcOutcome.REJECTED, "user_rejection, abstract_syntax_not_supported"),
    Peer("scapy_peer", SCAPY_PORT, RpcOutcome.NAK, "reason_not_specified"),
]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.fixture)
class TestServersWithTheInterface:
    def test_the_bind_is_accepted(self, lab: Lab, peer: Peer, request: pytest.FixtureRequest) -> None:
        address = request.getfixturevalue(peer.fixture)
        answer = ask(lab, RpcBind(address=address, port=peer.port))
        assert answer.outcome is RpcOutcome.ACCEPTED
        assert answer.contexts[0] == ContextResult(0, 0, "NDR32") or answer.contexts[1] == ContextResult(0, 0, "NDR64")
        assert answer.detail in ("NDR32", "NDR64")

    def test_another_interface_is_not(self, lab: Lab, peer: Peer, request: pytest.FixtureRequest) -> None:
        address = request.getfixturevalue(peer.fixture)
        answer = ask(lab, RpcBind(address=address, port=peer.port, interface=NOBODYS))
        assert (answer.outcome, answer.detail) == (peer.unknown, peer.detail)

    def test_a_run_finds_a_kms_host(self, lab: Lab, peer: Peer, request: pytest.FixtureRequest) -> None:
        address = request.getfixturevalue(peer.fixture)
        report = diagnose(lab, Target(hosts=(HostSpec(address, peer.port),)))
        assert "rpc_service.kms" in codes(report)
        assert "rpc_service.answers_anything" not in codes(report)
        assert report.verdict.state is VerdictState.HEALTHY


class TestSamba:
    """The one peer here that is written in C, and that treats a foreign interface as Windows does."""

    def test_the_endpoint_mapper_is_no_kms_host(self, lab: Lab, domain_controller: str) -> None:
        answer = ask(lab, RpcBind(address=domain_controller, port=EPM_PORT))
        assert (answer.outcome, answer.reason) == (RpcOutcome.REJECTED, 1)
        assert answer.detail == "provider_rejection, abstract_syntax_not_supported"
        # The third context is feature negotiation: granted, and no acceptance.
        assert [context.result for context in answer.contexts] == [2, 2, 3]
        assert answer.secondary_address == "135"

    def test_it_takes_the_same_bind_for_an_interface_that_it_has(self, lab: Lab, domain_controller: str) -> None:
        answer = ask(lab, RpcBind(address=domain_controller, port=EPM_PORT, interface=MANAGEMENT))
        assert answer.outcome is RpcOutcome.ACCEPTED
        assert answer.contexts[0] == ContextResult(0, 0, "NDR32")

    def test_a_run_says_that_it_is_another_service(self, lab: Lab, domain_controller: str) -> None:
        report = diagnose(lab, Target(hosts=(HostSpec(domain_controller, EPM_PORT),)))
        assert "is an RPC server without the KMS interface" in text_of(report, "rpc_service.not_kms")
        assert causes(report) == ["rpc.rejected"]
        assert report.verdict.state is VerdictState.BROKEN

    def test_tshark_reads_the_same_from_the_answer(self, lab: Lab, domain_controller: str, tmp_path: Path) -> None:
        with capturing(lab, "dc", EPM_PORT, tmp_path) as capture:
            answer = ask(lab, RpcBind(address=domain_controller, port=EPM_PORT))
        (ack,) = (packet for packet in capture.packets() if packet.source == domain_controller)
        assert ack.type == BIND_ACK
        assert_same_results(ack, answer)

    def test_its_dns_is_read_too(self, lab: Lab, domain_controller: str) -> None:
        known = ask(lab, SrvQuery(name="_ldap._tcp.ad.test", server=domain_controller))
        assert [(record.target, record.port) for record in known.records] == [("dc1.ad.test", 389)]
        unknown = ask(lab, SrvQuery(name="_vlmcs._tcp.ad.test", server=domain_controller))
        assert unknown.outcome is DnsOutcome.NXDOMAIN


class TestOracles:
    """Our encoder and decoder against those of impacket and scapy; no network."""

    def test_impacket_reads_our_bind(self) -> None:
        rpcrt = load("impacket.dcerpc.v5.rpcrt")
        data = rpc.encode_bind(KMS_INTERFACE, call_id=7)
        header = rpcrt.MSRPCHeader(data)
        assert (header["type"], header["frag_len"], header["call_id"], header["auth_len"]) == (11, 160, 7, 0)
        bind = rpcrt.MSRPCBind(header["pduData"])
        assert (bind["max_tfrag"], bind["max_rfrag"], bind["assoc_group"], bind["ctx_num"]) == (5840, 5840, 0, 3)
        items, rest = [], bind["ctx_items"]
        for _ in range(3):
            item = rpcrt.CtxItem(rest)
            items.append(item)
            rest = rest[len(item) :]
        assert rest == b""
        assert [item["ContextID"] for item in items] == [0, 1, 2]
        kms = uuid.UUID(KMS_INTERFACE).bytes_le + b"\x01\0\0\0"
        assert [item["AbstractSyntax"] for item in items] == [kms] * 3
        offered = [
            uuid.UUID(syntax).bytes_le + version.to_bytes(4, "little")
            for syntax, version in (rpc.NDR32, rpc.NDR64, rpc.FEATURES)
        ]
        assert [item["TransferSyntax"] for item in items] == offered

    def test_scapy_reads_our_bind(self) -> None:
        dcerpc = load("scapy.layers.dcerpc")
        packet = dcerpc.DceRpc5(rpc.encode_bind(KMS_INTERFACE, call_id=7))
        assert (packet.ptype, packet.frag_len, packet.call_id) == (11, 160, 7)
        bind = packet[dcerpc.DceRpc5Bind]
        assert bind.n_context_elem == 3
        assert [element.abstract_syntax.if_uuid for element in bind.context_elem] == [uuid.UUID(KMS_INTERFACE)] * 3
        assert {element.abstract_syntax.if_version for element in bind.context_elem} == {1}
        syntaxes = [element.transfer_syntaxes[0].if_uuid for element in bind.context_elem]
        assert [str(syntax) for syntax in syntaxes] == [rpc.NDR32[0], rpc.NDR64[0], rpc.FEATURES[0]]
        # Nothing is left that scapy could not read, and it would write the same bytes.
        assert bytes(packet) == rpc.encode_bind(KMS_INTERFACE, call_id=7)

    def test_we_read_scapys_bind(self) -> None:
        dcerpc = load("scapy.layers.dcerpc")
        made = dcerpc.DceRpc5(call_id=3) / dcerpc.DceRpc5Bind(
            context_elem=[
                dcerpc.DceRpc5Context(
                    cont_id=5,
                    abstract_syntax=dcerpc.DceRpc5AbstractSyntax(if_uuid=uuid.UUID(KMS_INTERFACE), if_version=1),
                    transfer_syntaxes=[dcerpc.DceRpc5TransferSyntax(if_uuid=uuid.UUID(rpc.NDR32[0]), if_version=2)],
                )
            ]
        )
        assert rpc.decode_bind(bytes(made)) == (rpc.Offer(5, KMS_INTERFACE, (rpc.NDR32[0],)),)

    @pytest.mark.parametrize("big_endian", [False, True])
    def test_we_read_scapys_bind_ack(self, *, big_endian: bool) -> None:
        dcerpc = load("scapy.layers.dcerpc")
        header = dcerpc.DceRpc5(call_id=3, ptype=12, endian="big" if big_endian else "little")

        def result(result: int, reason: int, syntax: uuid.UUID) -> Any:
            transfer = dcerpc.DceRpc5TransferSyntax(if_uuid=syntax, if_version=1)
            return dcerpc.DceRpc5Result(result=result, reason=reason, transfer_syntax=transfer)

        results = [result(2, 1, uuid.UUID(int=0)), result(0, 0, uuid.UUID(rpc.NDR64[0]))]
        port = dcerpc.DceRpc5PortAny(port_spec=b"1688\0")
        made = bytes(header / dcerpc.DceRpc5BindAck(sec_addr=port, results=results))
        ack = rpc.decode_bind_ack(made)
        assert ack.secondary_address == "1688"
        assert ack.contexts == (ContextResult(2, 1, str(uuid.UUID(int=0))), ContextResult(0, 0, "NDR64"))

    def test_we_read_scapys_bind_nak(self) -> None:
        dcerpc = load("scapy.layers.dcerpc")
        made = bytes(dcerpc.DceRpc5(call_id=3, ptype=13) / dcerpc.DceRpc5BindNak(provider_reject_reason=4))
        assert rpc.decode_bind_nak(made) == 4
