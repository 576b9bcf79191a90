"""What all integration tests share: how to ask from a host of the lab, and the real servers they ask."""

import contextlib
import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import dns.exception
import dns.message
import dns.query
import dns.rcode

from kmsdiag import diagnosis, registry
from kmsdiag.lab.rpc import bind_ack
from kmsdiag.model.answer import Answer
from kmsdiag.model.report import Report, Vantage
from kmsdiag.model.request import KMS_INTERFACE, Request
from kmsdiag.model.target import KMS_PORT, Target
from kmsdiag.probes.live import LiveAnswerer
from kmsdiag.probes.settings import ProbeSettings
from kmsdiag.wire import rpc
from tests.netlab import Lab, until

A = TypeVar("A", bound=Answer)


def ask(lab: Lab, request: Request[A], *, host: str = "client", **settings: Any) -> A:
    """Put one question from a host of the lab, as kmsdiag does."""

    async def put() -> Answer:
        async with LiveAnswerer(ProbeSettings(**{"timeout": 2.0, **settings})) as answerer:
            return await answerer.answer(request)

    answer: Any = lab.run(host, put())
    return answer  # type: ignore[no-any-return]


def diagnose(lab: Lab, target: Target, *, host: str = "client", only: tuple[str, ...] = (), **settings: Any) -> Report:
    """A whole run from a host of the lab: gather and judge, with all checks or some."""
    checks = registry.discover().select(only=only)

    async def gather() -> Report:
        async with LiveAnswerer(ProbeSettings(**{"timeout": 2.0, **settings})) as answerer:
            bundle = await diagnosis.gather(target, checks, answerer, Vantage(label=host))
        return diagnosis.judge(bundle, checks)

    return lab.run(host, gather())


def codes(report: Report) -> set[str]:
    """The codes of all findings."""
    assert not [result for result in report.results if result.status == "crashed"], report.results
    return {finding.code for result in report.results for finding in result.findings}


def causes(report: Report) -> list[str]:
    """The codes of what breaks."""
    return [cause.code for cause in report.verdict.causes]


def text_of(report: Report, code: str) -> str:
    """The text of the one finding with this code."""
    (finding,) = (finding for result in report.results for finding in result.findings if finding.code == code)
    return finding.text


class _BindHandler(socketserver.BaseRequestHandler):
    """Accepts the KMS interface and nothing else; answers binds only."""

    request: socket.socket

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            data = self.request.recv(rpc.MAX_FRAGMENT)
            if data:
                self.request.sendall(bind_ack(data, KMS_PORT, frozenset({KMS_INTERFACE})))
                self.request.recv(1)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    # A probe that hangs up at once leaves nobody to wait for.
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def handle_error(self, _request: Any, _address: Any) -> None:
        raise


class _Server6(_Server):
    address_family = socket.AF_INET6


@contextlib.contextmanager
def listening(lab: Lab, host: str, *addresses: str, port: int = KMS_PORT) -> Iterator[None]:
    """A listener on real ports of a host, which accepts binds to the KMS interface."""
    with contextlib.ExitStack() as stack:
        for address in addresses:
            kind = _Server6 if ":" in address else _Server
            # The socket is made inside the host, and stays there whoever serves it.
            server = stack.enter_context(lab.call(host, kind, (address, port), _BindHandler))
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="kms listener", daemon=True)
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(server.shutdown)
        yield


_APEX: Final = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\nns A {address}\n"


def dns_ready(server: str, zone: str) -> bool:
    """Whether a DNS server answers for a zone by now."""
    try:
        reply = dns.query.udp(dns.message.make_query(zone, "SOA"), server, timeout=0.2)
    except (dns.exception.DNSException, OSError):
        return False
    return reply.rcode() == dns.rcode.NOERROR and bool(reply.answer)


class Zone(NamedTuple):
    """A zone's records besides SOA and NS, and its own options."""

    records: str
    options: str = ""


def start_named(lab: Lab, host: str, folder: Path, zones: Mapping[str, Zone], options: str, probe: str) -> None:
    """BIND in a host, with these zones and options; returns when it answers for the zone ``probe``."""
    conf = [
        f'options {{ directory "{folder}"; listen-on {{ {lab.v4(host)}; }}; listen-on-v6 {{ {lab.v6(host)}; }};',
        "pid-file none; session-keyfile none; dnssec-validation no; empty-zones-enable no; notify no;",
        # Names that should not be in a zone are what these tests are about.
        f"check-names primary ignore; {options} }};\ncontrols {{ }};\n",
    ]
    for number, (name, zone) in enumerate(zones.items()):
        (folder / f"{number}.zone").write_text(_APEX.format(address=lab.v4(host)) + zone.records + "\n")
        conf.append(
            f'zone "{name}" {{ type primary; file "{number}.zone"; check-integrity no; check-srv-cname ignore;'
            f" {zone.options} }};\n"
        )
    (folder / "named.conf").write_text("\n".join(conf))
    log = folder / "log"
    with log.open("w") as stderr:
        process = lab.popen(host, "named", "-g", "-c", str(folder / "named.conf"), "-n", "1", stderr=stderr)
    wait_for(lab, host, process, log, lambda: dns_ready(lab.v4(host), probe))


def wait_for(
    lab: Lab, host: str, process: subprocess.Popen[Any], log: Path, ready: Callable[[], bool], seconds: float = 15
) -> None:
    """Wait until a server answers; its own log is the error where it does not."""

    def ready_or_dead() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        return lab.call(host, ready)

    until(ready_or_dead, f"{process.args!r} in {host}", seconds)
