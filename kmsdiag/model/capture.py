"""What packet captures say about activation: one digest for all captures of a run, and the conversations behind it.

A conversation is one TCP connection on which KMS is, or should be, spoken; an exchange is one activation request on it.
The digest grows with clients and hosts, never with packets. All text in it is printable ASCII: whoever makes it escapes
what was captured. Frame numbers are Wireshark's: they count from 1 in each file.
"""

import datetime
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from kmsdiag.model.answer import Answer, Icmp, SrvRecord
from kmsdiag.model.outcome import ConversationOutcome


class FoundBy(StrEnum):
    """How a client found the host it talked to, as far as the capture shows it."""

    SRV = "srv"
    """An SRV answer that names the host (or its address) reached the client before."""
    NAME = "name"
    """Only the host's address was asked for: its name was cached or set by hand (slmgr /skms)."""
    NOTHING = "nothing"
    """DNS of other clients was captured, and of this one none before it connected: cached, or an address by hand."""
    NOT_KNOWN = "not_known"
    """The capture holds no unicast DNS at all, or begins too late."""


class Frame(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A captured frame: index of the file in :attr:`CaptureAnswer.files`, and its number there, from 1."""

    file: int
    number: int


class Rung(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a conversation's ladder.

    ``after_ms`` counts from the conversation's first frame and may be negative where a capture is unordered;
    ``sender`` is ``client``, ``host`` or the address that sent an ICMP error; ``size`` is in bytes on the wire,
    without headers.
    """

    frame: Frame
    after_ms: float
    sender: str
    what: str
    detail: str = ""
    size: int = 0


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One activation request and what became of it.

    ``outcome`` is one of the request's and answer's own. ``version`` is the KMS protocol's, such as "6.0", "" where
    it was not captured. ``hresult`` ("0xC004F042") is in clear in every version, "" where there was no response;
    ``fault`` is the status of a DCE/RPC fault. Fields from ``machine`` on are in clear in version 4 alone:
    ``required`` is N, the count that the client needs, ``count`` what the host said; ``skew_s`` is the client's own
    clock minus the capture's. ``request_size`` and ``response_size`` are bytes of their PDUs, as Wireshark's frag_len.
    ``remaining_min`` are the minutes left of the client's licence state; ``host_pid`` is the host's extended PID.
    ``detail``, in any version, is one line about how it ended or what is odd.
    """

    outcome: ConversationOutcome
    request: Frame | None = None
    response: Frame | None = None
    at: datetime.datetime | None = None
    elapsed_ms: float | None = None
    version: str = ""
    syntax: str = ""
    hresult: str = ""
    fault: str = ""
    request_size: int = 0
    response_size: int = 0
    machine: str = ""
    client_machine_id: str = ""
    application_id: str = ""
    activation_id: str = ""
    kms_counted_id: str = ""
    previous_machine_id: str = ""
    license_status: int | None = None
    remaining_min: int | None = None
    virtual: bool | None = None
    required: int | None = None
    count: int | None = None
    activation_interval_min: int | None = None
    renewal_interval_min: int | None = None
    host_pid: str = ""
    skew_s: float | None = None
    detail: str = ""


class Lack(StrEnum):
    """What a capture lacks about a conversation; a verdict that rests on such a gap is *not known*."""

    START = "start"
    """It began before the capture (no SYN)."""
    BIND = "bind"
    """Requests without a captured bind."""
    CLIENT = "client"
    """Nothing of what the client sent."""
    HOST = "host"
    """Nothing of what the host sent, though the client's acknowledgements show that it did."""
    BYTES = "bytes"
    """A gap: bytes that the other side acknowledged were not captured."""
    CUT = "cut"
    """The snap length cut frames."""
    END = "end"
    """The capture ends while the conversation goes on."""
    SUMMARY = "summary"
    """No packets were given, but what the log of another program tells of them: no HRESULT, and no bytes."""


NOT_LOGGED = "how it ended is not in the log"
"""What a conversation that is not known to the end means where its packets were never given."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One TCP connection to a KMS host.

    ``number`` counts from 1 by first frame over the whole run (all of it, whatever was selected); ``tap`` is the
    capture point. ``outcome`` is the worst of its exchanges, or how it ended before one. ``syns`` counts connection
    attempts (Windows repeats a refused one); ``retransmissions`` segments with data that were sent again. ``reason``
    is the number of a bind_nak's or rejection's reason. ``closed_by`` is ``client`` or ``host``, with ``reset`` true
    for RST.
    """

    number: int
    tap: int
    client: str
    client_port: int
    host: str
    host_port: int
    started: datetime.datetime
    ended: datetime.datetime
    first: Frame
    last: Frame
    outcome: ConversationOutcome
    found_by: FoundBy = FoundBy.NOT_KNOWN
    frames: int = 0
    syns: int = 0
    connect_ms: float | None = None
    bind_ms: float | None = None
    exchanges: tuple[Exchange, ...] = ()
    retransmissions: int = 0
    icmp: Icmp | None = None
    reason: int | None = None
    secondary_address: str = ""
    detail: str = ""
    closed_by: str = ""
    reset: bool = False
    lacks: tuple[Lack, ...] = ()
    ladder: tuple[Rung, ...] = ()

    @property
    def words(self) -> str:
        """How it ended, as a reader would say it."""
        return self.words_of(self.outcome)

    def words_of(self, outcome: ConversationOutcome) -> str:
        """The same for the end of one of its exchanges."""
        unknown = outcome is ConversationOutcome.NOT_KNOWN and Lack.SUMMARY in self.lacks
        return NOT_LOGGED if unknown else outcome.words


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How durations in ms (or counts) are spread: number of values, least, median, 95th percentile, greatest."""

    values: int
    least: float
    median: float
    p95: float
    greatest: float


class Use(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One client's dealings with one host. ``outcomes`` counts conversations by outcome; ``numbers`` are examples.

    ``spacing_s`` is between the starts of successive attempts (conversations less than a minute apart are one attempt).
    """

    address: str
    port: int
    conversations: int
    attempts: int
    outcomes: Mapping[str, int]
    first: datetime.datetime
    last: datetime.datetime
    found_by: FoundBy = FoundBy.NOT_KNOWN
    spacing_s: Spread | None = None
    hresults: Mapping[str, int] = {}
    numbers: tuple[int, ...] = ()


class CapturedClient(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine that looked for, or talked to, a KMS host.

    ``last`` is the outcome of its last conversation. ``asked`` are the domains whose SRV it asked for, ``told`` the
    targets ("host:port") that SRV answers gave it, ``ignored`` those of them that it never contacted though the
    capture ran on. ``machines`` and ``machine_ids`` are names and CMIDs of version 4 requests (at most eight of
    each); ``skew_s`` its clock minus the capture's (median), where version 4 shows it.
    """

    address: str
    uses: tuple[Use, ...] = ()
    last: ConversationOutcome | None = None
    asked: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    machine_ids: tuple[str, ...] = ()
    skew_s: float | None = None


class CapturedHost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An address and port to which clients connected for KMS.

    ``names`` are what DNS answers in the capture call it; ``published`` says whether an SRV answer named it.
    ``found_by`` counts clients. ``count`` and ``required`` are from version 4 answers. ``speaks_kms`` is true once
    the KMS interface was bound or requested there. ``numbers`` are examples of its failing (else any) conversations.
    """

    address: str
    port: int
    clients: int
    conversations: int
    exchanges: int
    outcomes: Mapping[str, int]
    first: datetime.datetime
    last: datetime.datetime
    names: tuple[str, ...] = ()
    published: bool = False
    speaks_kms: bool = False
    hresults: Mapping[str, int] = {}
    versions: Mapping[str, int] = {}
    found_by: Mapping[str, int] = {}
    connect_ms: Spread | None = None
    answer_ms: Spread | None = None
    retransmissions: int = 0
    count: Spread | None = None
    required: tuple[int, ...] = ()
    below: int = 0
    numbers: tuple[int, ...] = ()


class Channel(StrEnum):
    """By which protocol a name was asked for. Windows asks for SRV by unicast DNS alone."""

    DNS = "dns"
    MDNS = "mdns"
    LLMNR = "llmnr"


class CapturedLookup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question (name, type, server, channel), asked by some clients, and its answers.

    ``kind`` is "SRV", "A" or "AAAA"; only SRV of _vlmcs._tcp names and addresses of their targets, or of hosts that
    clients connected to, are kept. ``outcomes`` counts transactions by DnsOutcome (``timeout``: asked, repeated or
    not, and never answered in the capture). ``icmp`` is an ICMP error that quoted a question. ``repeated`` counts
    questions sent again.
    """

    name: str
    kind: str
    server: str
    channel: Channel = Channel.DNS
    clients: int = 0
    questions: int = 0
    repeated: int = 0
    outcomes: Mapping[str, int] = {}
    over_tcp: int = 0
    records: tuple[SrvRecord, ...] = ()
    addresses: tuple[str, ...] = ()
    elapsed_ms: Spread | None = None
    icmp: Icmp | None = None
    rcodes: Mapping[str, int] = {}
    frames: tuple[Frame, ...] = ()


class Interface(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One interface of a capture file: link type (LINKTYPE_ number), snap length in bytes (0: none), name, drops."""

    link: int
    snap: int = 0
    name: str = ""
    dropped: int | None = None


class FileFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One capture file. ``label`` is its name without folders; ``tap`` the capture point it belongs to.

    ``notes`` are damages and oddities, each with its offset or frame; everything before a damage was used.
    """

    label: str
    format: str
    size: int
    packets: int = 0
    kept: int = 0
    tap: int = 0
    first: datetime.datetime | None = None
    last: datetime.datetime | None = None
    interfaces: tuple[Interface, ...] = ()
    notes: tuple[str, ...] = ()
    damaged: bool = False


class Quality(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the captures lack or repeat. Counts are of kept packets or of conversations, as named."""

    dns_packets: int = 0
    cut_packets: int = 0
    duplicate_packets: int = 0
    fragments_missing: int = 0
    links_not_read: Mapping[str, int] = {}
    conversations_lacking: Mapping[str, int] = {}
    clock_backwards: int = 0
    late_flows: int = 0
    limits_hit: tuple[str, ...] = ()


class PairedPath(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What two captures of one path, taken at both ends, say together, for one host.

    ``offset_ms`` is clock of tap ``b`` minus clock of tap ``a`` (estimated from segments seen at both); delays are
    one way, after that correction, so their sum is exact and their split is not. ``lost_ab`` are packets that left
    ``a`` towards ``b`` and never came; ``altered`` those whose bytes differ; ``numbers`` the conversations that were
    hit.
    """

    a: int
    b: int
    host: str
    port: int
    conversations: int
    matched: int
    lost_ab: int = 0
    lost_ba: int = 0
    only_a: int = 0
    only_b: int = 0
    altered: int = 0
    offset_ms: float = 0.0
    delay_ms: Spread | None = None
    examples: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


class CaptureAnswer(Answer, frozen=True, kw_only=True, omit_defaults=True, tag="capture"):
    """All captures of a run, digested. ``at`` is the first packet's time, ``elapsed_ms`` the time to the last one.

    Everything is sorted: hosts and clients by address, lookups by name, examples by number. ``examples`` holds at most
    three conversations an outcome, with their ladders. ``conversations`` counts all that were selected. ``source`` is
    "packets", or the program whose logs were read instead ("zeek", "suricata"): frames are then lines of the logs,
    and so are the packets that are counted.
    """

    files: tuple[FileFacts, ...]
    conversations: int = 0
    exchanges: int = 0
    outcomes: Mapping[str, int] = {}
    hosts: tuple[CapturedHost, ...] = ()
    clients: tuple[CapturedClient, ...] = ()
    lookups: tuple[CapturedLookup, ...] = ()
    examples: tuple[Conversation, ...] = ()
    quality: Quality = Quality()
    pairs: tuple[PairedPath, ...] = ()
    source: str = "packets"
