"""``kmsdiag check --until-healthy``: the loop by script, and the command against a world that is mended meanwhile."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import pytest

from kmsdiag import diagnosis
from kmsdiag.bundle import Bundle
from kmsdiag.cli import watch
from kmsdiag.lab.dns import DnsServer
from kmsdiag.lab.rpc import Behaviour, RpcHost
from kmsdiag.model.outcome import TcpOutcome
from kmsdiag.model.path import VerdictState
from kmsdiag.model.report import Report
from kmsdiag.registry import Registry
from tests.conftest import DOMAIN, World, record
from tests.labruns import in_thread

K1 = "10.1.0.8"
NONE = World(DOMAIN).srv().bundle()
REFUSED = World(DOMAIN).srv(record("kms1")).name("kms1", K1).tcp(K1, TcpOutcome.REFUSED).bundle()
HEALTHY = World(DOMAIN).srv(record("kms1")).host("kms1", K1).bundle()
BROKEN = World(DOMAIN).srv(record("kms1")).name("kms1", K1).tcp(K1, TcpOutcome.TIMEOUT).bundle()


class Clock:
    """Time that passes only in sleep and in runs."""

    def __init__(self, interrupt_at: float | None = None) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._interrupt_at = interrupt_at

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if self._interrupt_at is not None and self.now >= 1000.0 + self._interrupt_at:
            raise KeyboardInterrupt


class Script:
    """Runs of the given outcome, each of which takes so many seconds; the last one is repeated."""

    def __init__(self, clock: Clock, *bundles: Bundle, takes: float = 2.0) -> None:
        self.given: list[float] = []
        self._clock = clock
        self._bundles = list(bundles)
        self._takes = takes

    def ask(self, seconds: float) -> Bundle:
        self.given.append(seconds)
        self._clock.now += self._takes
        return self._bundles.pop(0) if len(self._bundles) > 1 else self._bundles[0]


def judge(bundle: Bundle) -> Report:
    return diagnosis.judge(bundle, Registry(()))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watch, "time", made)
    return made


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What went to stderr, without the time of day."""
    out, err = capsys.readouterr()
    assert out == ""
    for line in err.splitlines():
        hour, _two, _words = line.partition("  ")
        assert len(hour) == 8
        assert hour.count(":") == 2
    return [line.partition("  ")[2] for line in err.splitlines()]


# ------------------------------------------------------------------------------------------------------ the loop


def test_healthy_at_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    script = Script(clock, HEALTHY)
    assert watch.until_healthy(script.ask, judge, every=30, deadline=3600) is HEALTHY
    assert clock.slept == []
    assert lines(capsys) == [f"HEALTHY  {DOMAIN}: 1 KMS host, found, reached and answering as KMS."]


def test_each_change_is_said_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    script = Script(clock, NONE, NONE, REFUSED, REFUSED, BROKEN, HEALTHY)
    assert watch.until_healthy(script.ask, judge, every=30, deadline=3600) is HEALTHY
    assert clock.slept == [30] * 5
    way = f"{DOMAIN} → kms1.{DOMAIN}:1688"
    assert lines(capsys) == [
        f"BROKEN  {DOMAIN}: no way to a KMS host works from here.",
        f"{DOMAIN}: DNS publishes no KMS host (NXDOMAIN)",
        f"worse: new way: {way}, fails at tcp (refused)",
        f"changed: no longer there: {DOMAIN} (before: fails at srv (NXDOMAIN))",
        f"changed: {way}: fails at tcp (refused) → fails at tcp (silent)",
        "better: verdict: broken → healthy",
        f"better: {way}: fails at tcp (silent) → ok",
    ]


def test_what_is_healthy_only_in_part_goes_on(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    half = World(DOMAIN).srv(record("kms1"), record("kms2")).host("kms1", K1)
    half.name("kms2", "10.1.0.9").tcp("10.1.0.9", TcpOutcome.REFUSED)
    script = Script(clock, half.bundle(), HEALTHY)
    assert watch.until_healthy(script.ask, judge, every=30, deadline=3600) is HEALTHY
    assert lines(capsys)[0].startswith("DEGRADED  ")


@pytest.mark.parametrize(
    ("deadline", "every", "runs"),
    [
        # A run takes 2 s. Another one begins only where its pause ends before the deadline.
        (1, 30, 1),
        (30, 30, 1),
        (32, 30, 1),
        (33, 30, 2),
        (65, 30, 3),
        (3, 0.3, 2),
    ],
)
def test_the_deadline(clock: Clock, deadline: float, every: float, runs: int) -> None:
    script = Script(clock, NONE)
    bundle = watch.until_healthy(script.ask, judge, every=every, deadline=deadline)
    assert len(script.given) == runs
    assert bundle is NONE
    assert not bundle.interrupted


def test_a_run_gets_no_more_than_what_is_left(clock: Clock) -> None:
    script = Script(clock, NONE, takes=20.0)
    watch.until_healthy(script.ask, judge, every=10, deadline=100)
    assert script.given == [60, 60, 40, 10]


def test_a_run_gets_a_second_at_least(clock: Clock) -> None:
    script = Script(clock, NONE)
    watch.until_healthy(script.ask, judge, every=10, deadline=0.2)
    assert script.given == [1.0]


def test_an_interrupt_in_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(interrupt_at=40)
    monkeypatch.setattr(watch, "time", clock)
    script = Script(clock, NONE)
    bundle = watch.until_healthy(script.ask, judge, every=30, deadline=3600)
    assert bundle.interrupted
    assert msgspec.structs.replace(bundle, interrupted=False) == NONE
    assert len(script.given) == 2


def test_an_interrupt_while_a_run_is_judged(clock: Clock) -> None:
    def stopped(_bundle: Bundle) -> Report:
        raise KeyboardInterrupt

    bundle = watch.until_healthy(Script(clock, NONE).ask, stopped, every=30, deadline=3600)
    assert bundle == msgspec.structs.replace(NONE, interrupted=True)


def test_an_interrupt_in_a_run(clock: Clock) -> None:
    stopped = msgspec.structs.replace(NONE, interrupted=True)
    script = Script(clock, NONE, stopped)
    assert watch.until_healthy(script.ask, judge, every=30, deadline=3600) is stopped
    assert len(script.given) == 2


def test_the_last_run_is_what_is_returned_even_where_it_is_worse(clock: Clock) -> None:
    script = Script(clock, REFUSED, NONE)
    assert watch.until_healthy(script.ask, judge, every=30, deadline=40) is NONE


def test_what_the_network_sent_does_not_act(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = World(DOMAIN).srv(record("\x1b[2J\nk.example")).name("\x1b[2J\nk.example").bundle()
    watch.until_healthy(Script(clock, NONE, nasty).ask, judge, every=30, deadline=40)
    shown = lines(capsys)
    assert any("\\x1b[2J\\x0ak.example" in line for line in shown)
    assert all(line.isprintable() for line in shown)


def test_the_loop_knows_no_other_end(clock: Clock) -> None:
    assert {state for state in VerdictState if state is not VerdictState.HEALTHY} == {
        VerdictState.DEGRADED,
        VerdictState.BROKEN,
        VerdictState.UNKNOWN,
    }
    script = Script(clock, World(DOMAIN).bundle(), HEALTHY)
    assert watch.until_healthy(script.ask, judge, every=30, deadline=3600) is HEALTHY


# --------------------------------------------------------------------------------------------------- the command


@contextlib.asynccontextmanager
async def mended(
    mend: Callable[[DnsServer, RpcHost], Awaitable[None]], zone: str, behaviour: Behaviour
) -> AsyncIterator[int]:
    """A DNS server and a host on loopback; ``mend`` is called as soon as somebody asked. The server's port."""
    async with RpcHost(behaviour) as host, DnsServer({DOMAIN: zone.format(port=host.port)}) as server:

        async def later() -> None:
            while not server.asked:  # noqa: ASYNC110  # the lab's server has no event for it
                await asyncio.sleep(0.02)
            await asyncio.sleep(1.0)
            await mend(server, host)

        task = asyncio.ensure_future(later())
        try:
            yield server.port
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def publish(server: DnsServer, host: RpcHost) -> None:
    """The record appears, with a new serial."""
    server._zones = DnsServer({DOMAIN: RECORD.format(port=host.port)})._zones


async def start(_server: DnsServer, host: RpcHost) -> None:
    """The service on the host is started."""
    sock = host._held.pop()
    host.behaviour = Behaviour.KMS
    host._server = await asyncio.start_server(host._accept, sock=sock)


RECORD = "_vlmcs._tcp 60 IN SRV 0 0 {port} kms1\nkms1 60 IN A 127.0.0.1\n"
ADDRESS = "kms1 60 IN A 127.0.0.1\n"


def command(port: int, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "kmsdiag", "check", DOMAIN, "--server", f"127.0.0.1:{port}", "-4", "--no-clock",
        "--no-trace", "--timeout", "1", "--until-healthy", "--every", "0.3", *more,
    ]  # fmt: skip


@pytest.fixture(params=["record", "host"])
def world(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    parts = (publish, ADDRESS, Behaviour.KMS) if request.param == "record" else (start, RECORD, Behaviour.REFUSED)
    with in_thread(lambda: mended(*parts)) as port:
        yield request.param, port


def test_a_fault_that_is_mended_after_a_second(world: tuple[str, int]) -> None:
    what, port = world
    done = subprocess.run(command(port), capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("✔ HEALTHY  contoso.example: 1 KMS host, ")
    said = [line.partition("  ")[2] for line in done.stderr.splitlines()]
    assert said[0] == "BROKEN  contoso.example: no way to a KMS host works from here."
    assert "better: verdict: broken → healthy" in said
    better = [line for line in said if line.startswith("better: ")]
    if what == "record":
        assert said[1] == "contoso.example: DNS publishes no KMS host (NXDOMAIN)"
        assert any("new way: contoso.example → kms1.contoso.example:" in line for line in better)
    else:
        assert "refuses TCP" in said[1]
        assert any(line.endswith("fails at tcp (refused) → ok") for line in better)


def test_it_gives_up_at_the_deadline() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        arguments = command(nobody.getsockname()[1], "--deadline", "1.5", "--timeout", "0.2")
        done = subprocess.run(arguments, capture_output=True, text=True, encoding="utf-8", timeout=30, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("✖ BROKEN  ")
    assert len(done.stderr.splitlines()) == 2


def test_an_interrupt_ends_it_with_the_last_report() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        arguments = command(nobody.getsockname()[1], "--every", "60", "--timeout", "0.2")
        with subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        ) as run:
            assert run.stderr is not None
            first = [run.stderr.readline() for _line in range(2)]
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=30)
    assert "BROKEN" in first[0]
    assert run.returncode == 130
    assert err == ""
    assert out.startswith("✖ BROKEN  ")
    assert "Interrupted" in out


@pytest.mark.parametrize("every", ["0", "-1", "x", "1d", "", "1e9"])
def test_a_pause_that_is_none(every: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kmsdiag", "check", DOMAIN, "--until-healthy", "--every", every],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "is no time" in done.stderr
