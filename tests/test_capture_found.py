"""How clients came to their hosts, as DNS in the captures shows it."""

from kmsdiag.capture.found import PATIENCE, Discovery
from kmsdiag.capture.lookups import Lookups
from kmsdiag.model.capture import FoundBy
from kmsdiag.wire.fragments import Fragments
from kmsdiag.wire.frames import RawFrame
from kmsdiag.wire.layers import Datagram, dissect
from tests.pcapgen import CLIENT, HOST, START, Packet, merged
from tests.pcapscenes.lookups import NAME, SRV, asked, found, replied, srv_record

LATER = "192.0.2.77"


def discovery(*packets: list[Packet], begins: float = -100) -> Discovery:
    lookups = Lookups()
    for number, packet in enumerate(merged(*packets), 1):
        frame = RawFrame(number, (START + packet.at) * 1000, 101, packet.data, len(packet.data))
        datagram = dissect(frame, Fragments())
        assert isinstance(datagram, Datagram)
        lookups.feed(datagram)
    return Discovery(lookups.transactions(2 * 10**18), at(begins), has_dns=bool(packets))


def at(seconds: float) -> int:
    """µs since 1970."""
    return START + round(seconds * 1e6)


class TestFoundBy:
    def test_srv_then_host(self) -> None:
        known = discovery(found(1))
        assert known.found_by(CLIENT, HOST, 1688, at(2)) is FoundBy.SRV
        assert known.found_by(CLIENT, HOST, 1688, at(0.5)) is FoundBy.NOTHING, "the answer came after"
        assert known.found_by(CLIENT, HOST, 1689, at(2)) is FoundBy.NAME, "another port than was published"
        assert known.found_by(LATER, HOST, 1688, at(2)) is FoundBy.NOTHING, "another client was told"

    def test_only_its_address(self) -> None:
        question = asked(1, NAME, "A")
        known = discovery([question[1], replied(1.1, question, f"{NAME}. 60 A {HOST}")])
        assert known.found_by(CLIENT, HOST, 1688, at(2)) is FoundBy.NAME
        assert known.found_by(CLIENT, "198.51.100.99", 1688, at(2)) is FoundBy.NOTHING

    def test_a_target_whose_address_others_asked_for(self) -> None:
        """The client was told the name and had its address cached."""
        srv = asked(1, SRV, "SRV", client=LATER)
        known = discovery(found(0), [srv[1], replied(1.1, srv, srv_record(), client=LATER)])
        assert known.found_by(LATER, HOST, 1688, at(2)) is FoundBy.SRV

    def test_not_known(self) -> None:
        assert discovery().found_by(CLIENT, HOST, 1688, at(2)) is FoundBy.NOT_KNOWN
        begun = discovery(found(1), begins=1.9)
        assert begun.found_by(LATER, HOST, 1688, at(2)) is FoundBy.NOT_KNOWN
        assert begun.found_by(LATER, HOST, 1688, at(3)) is FoundBy.NOTHING


class TestClients:
    def test_told_and_ignored(self) -> None:
        known = discovery(found(1))
        told = (f"{NAME}:1688",)
        assert (known.asked(CLIENT), known.told(CLIENT)) == (("corp.example",), told)
        assert known.ignored(CLIENT, (), at(200)) == told
        assert known.ignored(CLIENT, (), at(1) + PATIENCE) == (), "it has a minute"
        assert known.ignored(CLIENT, [(HOST, 1688)], at(200)) == ()
        assert known.ignored(CLIENT, [(HOST, 1689)], at(200)) == told
        assert known.clients() == [CLIENT]
        assert (known.asked(LATER), known.told(LATER), known.ignored(LATER, (), at(200))) == ((), (), ())

    def test_hosts(self) -> None:
        known = discovery(found(1))
        assert (known.names(HOST), known.names("192.0.2.1")) == ((NAME,), ())
        assert known.published(HOST, 1688)
        assert not known.published(HOST, 1689)
        assert known.services() == ((HOST, 1688),)
        assert known.addresses(NAME) == (HOST,)
