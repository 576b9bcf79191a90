"""Many machines, and several files."""

from tests import pcapfiles as files
from tests.pcapfiles import frames, pcap, pcapng
from tests.pcapgen import (
    ACK,
    CLIENT,
    CLIENT6,
    HOST,
    HOST6,
    NDR32,
    OTHER,
    PSH,
    RST,
    Ends,
    Packet,
    Talk,
    alter,
    alter_response,
    bind,
    bind_ack,
    called,
    datagram,
    merged,
    noise,
    request,
    response,
)
from tests.pcapscenes import Scene, got, of, refused, saw, scene, told
from tests.pcapscenes.lookups import NAME, SRV, asked, found, replied, srv_record


@scene
def ways_to_the_host() -> Scene:
    """By SRV, by name alone, by nothing, through an answer that names another host."""
    by_srv, by_name, by_none, by_other = (f"192.0.2.{at}" for at in (11, 12, 13, 14))
    other = "198.51.100.99"
    name = asked(1, NAME, "A", client=by_name)
    wrong = asked(3, SRV, "SRV", client=by_other)
    packets = merged(
        found(0, client=by_srv),
        Talk(Ends(by_srv), at=0.1).activation().packets(),
        [name[1], replied(1.001, name, f"{NAME}. 60 A {HOST}", client=by_name)],
        Talk(Ends(by_name), at=1.1).activation().packets(),
        Talk(Ends(by_none), at=2).activation().packets(),
        [wrong[1], replied(3.001, wrong, srv_record(), client=by_other)],
        Talk(Ends(by_other, host=other), at=3.1).activation().packets(),
    )
    return of(
        packets,
        saw("activated", got(), client=by_srv, found_by="srv"),
        saw("activated", got(), client=by_name, found_by="name"),
        saw("activated", got(), client=by_none, found_by="nothing"),
        saw("activated", got(), client=by_other, host=other, found_by="nothing"),
        about="Four clients: found by SRV, by name, by nothing in DNS, and not the host that the SRV record names.",
        hosts=[
            {"address": HOST, "published": True, "names": [NAME], "found_by": {"srv": 1, "name": 1, "nothing": 1}},
            {"address": other, "published": False, "names": [], "found_by": {"nothing": 1}},
        ],
    )


@scene
def retries_and_renewals() -> Scene:
    """One client retries every two hours, another renews every seven days."""
    retrying, renewing = "192.0.2.11", "192.0.2.12"
    talks = [
        Talk(Ends(retrying, 50_000 + turn), at=turn * 7200.0, numbers=(turn * 99_999, 7)).activation(hresult=0xC004F042)
        for turn in range(5)
    ]
    talks += [
        Talk(Ends(renewing, 51_000 + turn), at=600 + turn * 604_800.0, numbers=(turn * 99_999, 7)).activation()
        for turn in range(4)
    ]
    spacing = {"values": 4, "least": 7200.0, "median": 7200.0, "greatest": 7200.0}
    weekly = {"values": 3, "least": 604_800.0, "greatest": 604_800.0}
    return of(
        merged(*(talk.packets() for talk in talks)),
        *[
            saw("host_refused", refused("0xC004F042"), client=retrying)
            if client == retrying
            else saw("activated", got(), client=renewing)
            for client in (retrying, renewing, *[retrying] * 4, *[renewing] * 3)
        ],
        about="A client that is refused every two hours, and one that renews every seven days.",
        clients=[
            {"address": retrying, "last": "host_refused", "uses": [{"attempts": 5, "spacing_s": spacing}]},
            {"address": renewing, "last": "activated", "uses": [{"attempts": 4, "spacing_s": weekly}]},
        ],
    )


@scene
def told_and_not_contacted() -> Scene:
    """The second of two hosts."""
    question = asked(0, SRV, "SRV")
    records = [srv_record(), srv_record("kms2.corp.example")]
    extra = [f"{NAME}. 60 A {HOST}", "kms2.corp.example. 60 A 198.51.100.21"]
    packets = [question[1], replied(0.001, question, *records, additional=extra), *Talk(at=0.1).activation().packets()]
    packets.append(datagram(3600, CLIENT, 5004, HOST, 5004, b"later"))
    return of(
        packets,
        saw("activated", got(), found_by="srv"),
        about="A client is told of two hosts and talks to one of them.",
        clients=[{"told": [f"{NAME}:1688", "kms2.corp.example:1688"], "ignored": ["kms2.corp.example:1688"]}],
    )


@scene
def falls_back() -> Scene:
    """The first host refuses connections, the second one answers."""
    first = Talk(Ends(host="198.51.100.30", sport=50_000))
    for _ in range(5):
        first.syn().add(False, RST | ACK, seq=0).wait(0.4998)
    second = Talk(Ends(sport=50_001), at=2.6).activation()
    return of(
        [*first.packets(), *second.packets()],
        saw("refused", host="198.51.100.30", syns=5),
        saw("activated", got()),
        about="A client whose first host is dead, and that goes on to the second one.",
        clients=[
            {"last": "activated", "uses": [{"address": HOST}, {"address": "198.51.100.30", "outcomes": {"refused": 1}}]}
        ],
    )


@scene
def another_port() -> Scene:
    """KMS on port 49688; its first connection begins before the bind that gives it away."""
    ends = Ends(port=49_688)
    talk = Talk(ends).open().client(bind()).host(bind_ack(secondary="49688")).client(alter()).host(alter_response())
    talk.exchange().rst()
    dead = Talk(Ends(sport=50_111, port=49_688), at=5).activation(hresult=0xC004F042)
    closed = Talk(Ends(sport=50_112, port=49_688), at=9).open().wait(0.01).close()
    return of(
        [*talk.packets(), *dead.packets(), *closed.packets()],
        saw("activated", got(), host_port=49_688, secondary_address="49688", first=[0, 1]),
        saw("host_refused", refused("0xC004F042"), host_port=49_688),
        saw("connect_only", host_port=49_688),
        about="KMS on port 49688, known by its interface; a port test there counts as one of KMS.",
        hosts=[{"port": 49_688, "speaks_kms": True}],
        quality={"late_flows": 0},
    )


@scene
def other_rpc_elsewhere() -> Scene:
    """Another interface on another port."""
    ends = Ends(port=49_664)
    talk = (
        Talk(ends)
        .open()
        .client(bind((NDR32,), interface=OTHER))
        .host(bind_ack(((0, 0, NDR32),)))
        .client(called(noise(99)))
        .close()
    )
    return of(
        talk.packets(), about="DCE/RPC of another interface on another port is nobody's business.", conversations=0
    )


@scene
def behind_an_address_translator() -> Scene:
    """The host's own port is another than the one that clients know."""
    talk = (
        Talk()
        .open()
        .client(bind())
        .host(bind_ack(secondary="31688"))
        .client(alter())
        .host(alter_response())
        .exchange()
        .rst()
    )
    return told(talk, saw("activated", got(), secondary_address="31688"), about="The host says that its port is 31688.")


@scene
def ring_of_files() -> Scene:
    """One connection goes across all three."""
    long = Talk().bound()
    for turn in range(6):
        long.wait(20).exchange(call=turn + 2, wide=turn > 0)
    packets = [*long.rst().packets()]
    short = Talk(Ends("192.0.2.11"), at=45).activation(hresult=0xC004F042).packets()
    everything = merged(packets, short)
    parts = [everything[:10], everything[10:22], everything[22:]]
    assert all(parts)
    names = [f"ring_{at:05}_20260528.pcap" for at in (1, 2, 3)]
    return Scene(
        "A ring of three files of one capture: a connection across all of them is one.",
        {name: pcap(frames(part)) for name, part in zip(names, parts, strict=True)},
        [
            saw("activated", *[got()] * 6, first=[0, 1], last=[2, len(parts[2])], tap=0, frames=len(packets)),
            saw("host_refused", refused("0xC004F042"), client="192.0.2.11", tap=0),
        ],
        {"files": [{"tap": 0, "packets": len(part)} for part in parts], "conversations": 2},
    )


@scene
def two_taps() -> Scene:
    """Seen at both ends of a path; one segment is lost in between, and the second clock is two seconds fast."""
    talk = Talk()
    talk.bound().exchange().rst()
    lossy = Talk(Ends(sport=49_201), at=5).bound().client(request())
    lost_at = len(lossy.segments) - 1
    again = lossy.segments[-1]
    lossy.wait(0.3).add(True, PSH | ACK, again.data, seq=again.seq).host(response()).rst()
    near = [*talk.packets(), *lossy.packets()]
    gone = near.index(lossy.packets()[lost_at])
    far = [
        Packet(one.at + 2_000_000 + (250 if _from_client(one) else -250), one.data)
        for at, one in enumerate(near)
        if at != gone
    ]
    return Scene(
        "The same traffic captured at the client's and at the host's end: one segment is lost on the way.",
        {"client-end.pcap": pcap(frames(near)), "server-room.pcap": pcap(frames(far))},
        [
            saw("activated", got(), tap=0, first=[0, 1]),
            saw("activated", got(), tap=0, first=[0, 11], retransmissions=1, frames=11),
            saw("activated", got(), tap=1, first=[1, 1]),
            saw("activated", got(), tap=1, first=[1, 11], frames=10),
        ],
        {
            "files": [{"label": "client-end.pcap", "tap": 0}, {"label": "server-room.pcap", "tap": 1}],
            "pairs": [
                {
                    "a": 0,
                    "b": 1,
                    "host": HOST,
                    "port": 1688,
                    "conversations": 2,
                    "lost_ab": 1,
                    "lost_ba": 0,
                    "altered": 0,
                    "offset_ms": {"about": [2000, 0.001]},
                    "delay_ms": {"median": {"about": [0.25, 0.001]}},
                }
            ],
            "hosts": [{"conversations": 2, "clients": 1}],
        },
    )


def _from_client(packet: Packet) -> bool:
    return packet.data[12:16] == bytes([192, 0, 2, 10])


@scene
def mixed_files() -> Scene:
    """Three captures of different formats that have nothing to do with each other."""
    one = Talk(at=100).activation()
    two = Talk(Ends(CLIENT6, 49_200, HOST6), at=50).activation(hresult=0xC004F042)
    return Scene(
        "Two captures of different machines and formats: files are in the order of their packets.",
        {"a.pcapng": pcapng(frames(one.packets())), "b.pcap.gz": files.gz(pcap(frames(two.packets())))},
        [
            saw("host_refused", refused("0xC004F042"), client=CLIENT6, host=HOST6, first=[0, 1]),
            saw("activated", got(), first=[1, 1]),
        ],
        {"files": [{"label": "b.pcap.gz"}, {"label": "a.pcapng"}]},
    )
