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
    """Stages of an activation path, in the order a client goes through them.

    ``host`` is the state of the KMS host (its key, its count), ``client`` that of the client (its key, its licence).
    """

    SRV = "srv"
    NAME = "name"
    TCP = "tcp"
    RPC = "rpc"
    REQUEST = "request"
    ANSWER = "answer"
    CLOCK = "clock"
    HOST = "host"
    CLIENT = "client"


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
    TIMEOUT = "timeout"
    FAILED = "failed"

    @property
    def state(self) -> State:
        """Whether a program on this machine would get an address."""
        return State.OK if self is LookupOutcome.FOUND else State.FAIL


class ConversationOutcome(StrEnum):
    """How a captured conversation with a KMS host ended, in the order in which a client meets these ends."""

    UNANSWERED = "unanswered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    HANDSHAKE_FAILED = "handshake_failed"
    CONNECT_ONLY = "connect_only"
    CLOSED_EARLY = "closed_early"
    NOT_KMS = "not_kms"
    BIND_UNANSWERED = "bind_unanswered"
    BIND_CLOSED = "bind_closed"
    BIND_RESET = "bind_reset"
    BIND_NAK = "bind_nak"
    BIND_REJECTED = "bind_rejected"
    BIND_FAULT = "bind_fault"
    OTHER_PROTOCOL = "other_protocol"
    BOUND = "bound"
    REQUEST_UNANSWERED = "request_unanswered"
    REQUEST_CLOSED = "request_closed"
    REQUEST_RESET = "request_reset"
    REQUEST_FAULT = "request_fault"
    REQUEST_ABORTED = "request_aborted"
    MALFORMED = "malformed"
    HOST_REFUSED = "host_refused"
    BELOW_THRESHOLD = "below_threshold"
    ACTIVATED = "activated"
    NOT_KNOWN = "not_known"

    @property
    def stage(self) -> Stage:
        """The stage of a path that this outcome belongs to."""
        return _CONVERSATIONS[self][0]

    @property
    def state(self) -> State:
        """What it means for the client; nothing where it did not try to activate, or the capture lacks the end."""
        return _CONVERSATION_STATES[self]

    @property
    def words(self) -> str:
        """The outcome as a reader would say it."""
        return _CONVERSATIONS[self][2]


_C = ConversationOutcome
_CONVERSATIONS = {
    _C.UNANSWERED: (Stage.TCP, State.FAIL, "no answer to the SYN"),
    _C.REFUSED: (Stage.TCP, State.FAIL, "connection refused (RST to the SYN)"),
    _C.UNREACHABLE: (Stage.TCP, State.FAIL, "an ICMP error answered the SYN"),
    _C.HANDSHAKE_FAILED: (Stage.TCP, State.FAIL, "the handshake was not completed"),
    _C.CONNECT_ONLY: (Stage.TCP, State.UNKNOWN, "connected and hung up (a port test)"),
    _C.CLOSED_EARLY: (Stage.RPC, State.FAIL, "the host hung up before the client asked"),
    _C.NOT_KMS: (Stage.RPC, State.UNKNOWN, "the client did not speak KMS"),
    _C.BIND_UNANSWERED: (Stage.RPC, State.FAIL, "no answer to the bind"),
    _C.BIND_CLOSED: (Stage.RPC, State.FAIL, "the host hung up on the bind"),
    _C.BIND_RESET: (Stage.RPC, State.FAIL, "the bind was answered by a reset"),
    _C.BIND_NAK: (Stage.RPC, State.FAIL, "bind refused (bind_nak)"),
    _C.BIND_REJECTED: (Stage.RPC, State.FAIL, "the KMS interface was rejected"),
    _C.BIND_FAULT: (Stage.RPC, State.FAIL, "the bind was answered by a fault"),
    _C.OTHER_PROTOCOL: (Stage.RPC, State.FAIL, "another protocol answered"),
    _C.BOUND: (Stage.RPC, State.OK, "bound, and nothing was asked"),
    _C.REQUEST_UNANSWERED: (Stage.REQUEST, State.FAIL, "no answer to the request"),
    _C.REQUEST_CLOSED: (Stage.REQUEST, State.FAIL, "the host hung up on the request"),
    _C.REQUEST_RESET: (Stage.REQUEST, State.FAIL, "the request was answered by a reset"),
    _C.REQUEST_FAULT: (Stage.REQUEST, State.FAIL, "the request was answered by an RPC fault"),
    _C.REQUEST_ABORTED: (Stage.REQUEST, State.FAIL, "the client broke off while it sent or waited"),
    _C.MALFORMED: (Stage.ANSWER, State.FAIL, "the response can't be read"),
    _C.HOST_REFUSED: (Stage.ANSWER, State.FAIL, "the host refused (HRESULT)"),
    _C.BELOW_THRESHOLD: (Stage.ANSWER, State.FAIL, "answered, but the count is below what the client needs"),
    _C.ACTIVATED: (Stage.ANSWER, State.OK, "answered with success"),
    _C.NOT_KNOWN: (Stage.ANSWER, State.UNKNOWN, "the capture lacks the end"),
}
_CONVERSATION_STATES = {outcome: state for outcome, (_stage, state, _words) in _CONVERSATIONS.items()}
