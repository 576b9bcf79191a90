"""How a question can end, and what each end means for its stage: said once, here.

Checks and activation paths both read these; nothing else decides whether an outcome is a failure.
"""

from enum import StrEnum


class State(StrEnum):
    """What an outcome means for its stage."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Stage(StrEnum):
    """Stages of an activation path, in the order a client goes through them."""

    SRV = "srv"
    NAME = "name"
    TCP = "tcp"
    RPC = "rpc"
    CLOCK = "clock"


class DnsOutcome(StrEnum):
    """How a DNS question ended."""

    ANSWERED = "answered"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    ERROR_RCODE = "error_rcode"
    REFERRAL = "referral"
    CHAIN = "cname_chain"
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    TIMEOUT = "timeout"
    NOT_LISTENING = "not_listening"
    UNREACHABLE = "unreachable"
    NO_SERVER = "no_server"

    @property
    def state(self) -> State:
        """Whether a client that asks this gets what it needs."""
        return State.OK if self is DnsOutcome.ANSWERED else State.FAIL

    @property
    def is_absence(self) -> bool:
        """The server answered, and the name or the record does not exist; all other failures: could not ask."""
        return self in (DnsOutcome.NODATA, DnsOutcome.NXDOMAIN)

    @property
    def words(self) -> str:
        """The outcome as a reader would say it."""
        return _DNS_WORDS[self]


_DNS_WORDS = {
    DnsOutcome.ANSWERED: "answered",
    DnsOutcome.NODATA: "the name exists but has no such record (NOERROR, no data)",
    DnsOutcome.NXDOMAIN: "the name does not exist (NXDOMAIN)",
    DnsOutcome.SERVFAIL: "the server failed (SERVFAIL)",
    DnsOutcome.REFUSED: "the server refused the question (REFUSED)",
    DnsOutcome.ERROR_RCODE: "the server answered with an error",
    DnsOutcome.REFERRAL: "the server only refers to other servers (no recursion here)",
    DnsOutcome.CHAIN: "the CNAME chain loops or is too long",
    DnsOutcome.TRUNCATED: "the answer was cut short (TC) and asking over TCP 53 failed",
    DnsOutcome.MALFORMED: "the answer is no valid DNS message",
    DnsOutcome.TIMEOUT: "no answer",
    DnsOutcome.NOT_LISTENING: "no DNS service listens there (port unreachable)",
    DnsOutcome.UNREACHABLE: "the server cannot be reached",
    DnsOutcome.NO_SERVER: "this machine has no DNS server configured",
}


class TcpOutcome(StrEnum):
    """How a TCP connection attempt ended."""

    OPEN = "open"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    NO_ROUTE = "no_route"
    LOCAL_ERROR = "local_error"

    @property
    def state(self) -> State:
        """What the outcome means for a client; what never left this machine says nothing about the host."""
        if self is TcpOutcome.OPEN:
            return State.OK
        return State.UNKNOWN if self in (TcpOutcome.NO_ROUTE, TcpOutcome.LOCAL_ERROR) else State.FAIL


class RpcOutcome(StrEnum):
    """How a bind to an RPC interface ended."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NAK = "bind_nak"
    FAULT = "fault"
    SILENT = "silent"
    CLOSED = "closed"
    RESET = "reset"
    INCOMPLETE = "incomplete"
    OTHER_PROTOCOL = "other_protocol"
    MALFORMED = "malformed"
    NO_CONNECTION = "no_connection"

    @property
    def state(self) -> State:
        """Whether a KMS client could go on to send its request."""
        return State.OK if self is RpcOutcome.ACCEPTED else State.FAIL


class ClockOutcome(StrEnum):
    """How asking a machine for its time ended."""

    ANSWERED = "answered"
    SILENT = "silent"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNSYNCHRONISED = "unsynchronised"
    NOT_SPOKEN = "not_spoken"

    @property
    def state(self) -> State:
        """A clock that can't be read is unknown, never wrong."""
        return State.OK if self is ClockOutcome.ANSWERED else State.UNKNOWN


class TraceOutcome(StrEnum):
    """How following the way to an address ended."""

    REACHED = "reached"
    STOPPED = "stopped"
    NOT_PERMITTED = "not_permitted"
    NOT_POSSIBLE = "not_possible"

    @property
    def state(self) -> State:
        """A trace explains a silence; it is no stage that a client goes through."""
        return State.OK if self in (TraceOutcome.REACHED, TraceOutcome.STOPPED) else State.UNKNOWN


class LookupOutcome(StrEnum):
    """How the operating system's own resolver answered for a name."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    FAILED = "failed"

    @property
    def state(self) -> State:
        """Whether a program on this machine would get an address."""
        return State.OK if self is LookupOutcome.FOUND else State.FAIL
