"""Captured traffic in a few words: conversations and lookups, from which the tables of a capture's digest follow."""

import datetime
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

from kmsdiag.model.answer import Icmp, SrvRecord
from kmsdiag.model.capture import (
    CaptureAnswer,
    CapturedClient,
    CapturedHost,
    CapturedLookup,
    Channel,
    Conversation,
    Exchange,
    FileFacts,
    FoundBy,
    Frame,
    Lack,
    PairedPath,
    Quality,
    Rung,
    Spread,
    Use,
)
from kmsdiag.model.outcome import ConversationOutcome, DnsOutcome, Stage, State

AT = datetime.datetime(2026, 1, 5, 8, tzinfo=datetime.UTC)
"""When the first packet passed."""

MINUTE = datetime.timedelta(minutes=1)
KMS_PORT = 1688
DNS_SERVER = "10.1.0.2"


class Talk(NamedTuple):
    """One conversation, and what is said of it beside the conversation itself."""

    conversation: Conversation
    required: int | None
    said: int | None


def spread(values: Iterable[float]) -> Spread | None:
    """How values are spread, by nearest rank."""
    ranked = sorted(map(float, values))
    if not ranked:
        return None
    count = len(ranked)
    return Spread(
        values=count,
        least=ranked[0],
        median=ranked[(count + 1) // 2 - 1],
        p95=ranked[-(-95 * count // 100) - 1],
        greatest=ranked[-1],
    )


class Traffic:
    """What passed a capture point. Methods return the traffic, so that it reads as one sentence."""

    def __init__(self, *, seconds: float = 600, dns: int = 0, label: str = "kms.pcap") -> None:
        self._seconds = seconds
        self._dns = dns
        self._label = label
        self._talks: list[Talk] = []
        self._lookups: list[CapturedLookup] = []
        self._told: dict[str, list[str]] = {}
        self._asked: dict[str, list[str]] = {}
        self._frame = 1

    def talk(
        self,
        client: str,
        host: str,
        outcome: str = "activated",
        *,
        port: int = KMS_PORT,
        at: float = 0,
        found: str = "not_known",
        hresult: str | None = None,
        version: str = "6.0",
        connect_ms: float | None = 0.4,
        answer_ms: float | None = 8.0,
        syns: int = 1,
        retransmissions: int = 0,
        icmp: Icmp | None = None,
        reason: int | None = None,
        detail: str = "",
        fault: str = "",
        lacks: tuple[Lack, ...] = (),
        required: int | None = None,
        count: int | None = None,
        skew: float | None = None,
        machine: str = "",
        machine_id: str = "",
    ) -> Self:
        """One conversation that began ``at`` seconds after the first packet."""
        ended = ConversationOutcome(outcome)
        answered = ended in (
            ConversationOutcome.ACTIVATED,
            ConversationOutcome.BELOW_THRESHOLD,
            ConversationOutcome.HOST_REFUSED,
        )
        usual = "0xC004F042" if ended is ConversationOutcome.HOST_REFUSED else "0x00000000"
        code = usual if hresult is None else hresult
        open_ = ended.stage is not Stage.TCP or ended is ConversationOutcome.CONNECT_ONLY
        started = AT + datetime.timedelta(seconds=at)
        first, last = Frame(0, self._frame), Frame(0, self._frame + 9)
        self._frame += 10
        exchanges: tuple[Exchange, ...] = ()
        if ended.stage in (Stage.REQUEST, Stage.ANSWER) and ended is not ConversationOutcome.NOT_KNOWN:
            exchanges = (
                Exchange(
                    outcome=ended,
                    version=version,
                    hresult=code if answered else "",
                    fault=fault,
                    elapsed_ms=answer_ms if answered else None,
                    required=required,
                    count=count,
                    skew_s=skew,
                    machine=machine,
                    client_machine_id=machine_id,
                ),
            )
        rungs = (Rung(frame=first, after_ms=0.0, sender="client", what="SYN"),)
        conversation = Conversation(
            number=len(self._talks) + 1,
            tap=0,
            client=client,
            client_port=49152 + len(self._talks),
            host=host,
            host_port=port,
            started=started,
            ended=started + datetime.timedelta(seconds=1),
            first=first,
            last=last,
            outcome=ended,
            found_by=FoundBy(found),
            frames=10,
            syns=syns,
            connect_ms=connect_ms if open_ else None,
            exchanges=exchanges,
            retransmissions=retransmissions,
            icmp=icmp,
            reason=reason,
            detail=detail,
            lacks=lacks,
            ladder=rungs,
        )
        self._talks.append(Talk(conversation, required, count))
        return self

    def talks(self, clients: Sequence[str], host: str, outcome: str = "activated", **more: Any) -> Self:
        """The same conversation by several clients."""
        for client in clients:
            self.talk(client, host, outcome, **more)
        return self

    def srv(
        self,
        domain: str,
        *records: SrvRecord,
        clients: Sequence[str] = (),
        outcome: DnsOutcome | None = None,
        others: dict[str, int] | None = None,
        server: str = DNS_SERVER,
        channel: Channel = Channel.DNS,
        icmp: Icmp | None = None,
    ) -> Self:
        """Clients ask one server for a domain's KMS record."""
        ended = outcome or (DnsOutcome.ANSWERED if records else DnsOutcome.NXDOMAIN)
        questions = max(1, len(clients))
        outcomes = {ended.value: questions, **(others or {})}
        self._lookups.append(
            CapturedLookup(
                name=f"_vlmcs._tcp.{domain}",
                kind="SRV",
                server=server if channel is Channel.DNS else "multicast",
                channel=channel,
                clients=len(clients),
                questions=sum(outcomes.values()),
                outcomes=outcomes,
                records=tuple(sorted(records)),
                elapsed_ms=spread([1.5]) if ended is not DnsOutcome.TIMEOUT else None,
                icmp=icmp,
                frames=(Frame(0, self._frame),),
            )
        )
        self._frame += 2
        if channel is Channel.DNS:
            for client in clients:
                self._asked.setdefault(client, []).append(domain)
                self._told.setdefault(client, []).extend(f"{record.target}:{record.port}" for record in records)
        return self

    def name(
        self,
        name: str,
        *addresses: str,
        outcome: DnsOutcome | None = None,
        server: str = DNS_SERVER,
        clients: int = 1,
    ) -> Self:
        """Clients ask for an IPv4 address of a name."""
        ended = outcome or (DnsOutcome.ANSWERED if addresses else DnsOutcome.NXDOMAIN)
        self._lookups.append(
            CapturedLookup(
                name=name,
                kind="A",
                server=server,
                clients=clients,
                questions=clients,
                outcomes={ended.value: clients},
                addresses=addresses,
                elapsed_ms=spread([1.2]),
            )
        )
        return self

    def answer(
        self,
        *,
        quality: Quality | None = None,
        files: tuple[FileFacts, ...] | None = None,
        pairs: tuple[PairedPath, ...] = (),
    ) -> CaptureAnswer:
        """The digest of all that passed."""
        ended = AT + datetime.timedelta(seconds=self._seconds)
        kept = self._frame - 1
        own = FileFacts(
            label=self._label, format="pcap", size=90_000, packets=kept + 500, kept=kept, first=AT, last=ended
        )
        conversations = [talk.conversation for talk in self._talks]
        return CaptureAnswer(
            at=AT,
            elapsed_ms=self._seconds * 1000.0,
            files=files or (own,),
            conversations=len(conversations),
            exchanges=sum(len(one.exchanges) for one in conversations),
            outcomes=_outcomes(conversations),
            hosts=tuple(self._hosts()),
            clients=tuple(self._clients()),
            lookups=tuple(sorted(self._lookups, key=lambda one: (one.name, one.kind, one.server, one.channel))),
            examples=tuple(self._examples()),
            quality=quality or Quality(dns_packets=self._dns or 2 * len(self._lookups)),
            pairs=pairs,
        )

    def _examples(self) -> list[Conversation]:
        kept: Counter[ConversationOutcome] = Counter()
        found = []
        for talk in self._talks:
            kept[talk.conversation.outcome] += 1
            if kept[talk.conversation.outcome] <= 3:
                found.append(talk.conversation)
        return found

    def _hosts(self) -> list[CapturedHost]:
        places: dict[tuple[str, int], list[Talk]] = {}
        for talk in self._talks:
            places.setdefault((talk.conversation.host, talk.conversation.host_port), []).append(talk)
        return [self._host(place, places[place]) for place in sorted(places)]

    def _host(self, place: tuple[str, int], talks: Sequence[Talk]) -> CapturedHost:
        address, port = place
        own = [talk.conversation for talk in talks]
        exchanges = [exchange for one in own for exchange in one.exchanges]
        names = tuple(lookup.name for lookup in self._lookups if address in lookup.addresses)
        targets = {(record.target, record.port) for lookup in self._lookups for record in lookup.records}
        counts = [talk.said for talk in talks if talk.said is not None]
        found = {one.client: one.found_by.value for one in own}
        failing = [one.number for one in own if one.outcome.state is State.FAIL]
        return CapturedHost(
            address=address,
            port=port,
            clients=len(found),
            conversations=len(own),
            exchanges=len(exchanges),
            outcomes=_outcomes(own),
            first=min(one.started for one in own),
            last=max(one.started for one in own),
            names=names,
            published=any((name, port) in targets for name in (*names, address)),
            speaks_kms=any(exchange.hresult for exchange in exchanges),
            hresults=_counted(exchange.hresult for exchange in exchanges if exchange.hresult),
            versions=_counted(exchange.version for exchange in exchanges),
            found_by=_counted(found.values()),
            connect_ms=spread(one.connect_ms for one in own if one.connect_ms is not None),
            answer_ms=spread(one.elapsed_ms for one in exchanges if one.elapsed_ms is not None),
            retransmissions=sum(one.retransmissions for one in own),
            count=spread(counts),
            required=tuple(sorted({talk.required for talk in talks if talk.required is not None})),
            below=sum(talk.said < (talk.required or 0) for talk in talks if talk.said is not None),
            numbers=tuple((failing or [one.number for one in own])[:3]),
        )

    def _clients(self) -> list[CapturedClient]:
        by_client: dict[str, list[Conversation]] = {client: [] for client in self._asked}
        for talk in self._talks:
            by_client.setdefault(talk.conversation.client, []).append(talk.conversation)
        return [self._client(client, by_client[client]) for client in sorted(by_client, key=_number)]

    def _client(self, address: str, own: Sequence[Conversation]) -> CapturedClient:
        places: dict[tuple[str, int], list[Conversation]] = {}
        for one in own:
            places.setdefault((one.host, one.host_port), []).append(one)
        exchanges = [exchange for one in own for exchange in one.exchanges]
        skews = [exchange.skew_s for exchange in exchanges if exchange.skew_s is not None]
        told = tuple(dict.fromkeys(self._told.get(address, ())))
        return CapturedClient(
            address=address,
            uses=tuple(_use(place, places[place]) for place in sorted(places)),
            last=max(own, key=lambda one: (one.started, one.number)).outcome if own else None,
            asked=tuple(dict.fromkeys(self._asked.get(address, ()))),
            told=told,
            ignored=() if own else told,
            machines=tuple(dict.fromkeys(one.machine for one in exchanges if one.machine)),
            machine_ids=tuple(dict.fromkeys(one.client_machine_id for one in exchanges if one.client_machine_id)),
            skew_s=sorted(skews)[len(skews) // 2] if skews else None,
        )


def _use(place: tuple[str, int], own: Sequence[Conversation]) -> Use:
    starts: list[datetime.datetime] = []
    last = None
    for one in sorted(own, key=lambda one: one.started):
        if last is None or one.started - last >= MINUTE:
            starts.append(one.started)
        last = one.started
    return Use(
        address=place[0],
        port=place[1],
        conversations=len(own),
        attempts=len(starts),
        outcomes=_outcomes(own),
        first=min(one.started for one in own),
        last=max(one.started for one in own),
        found_by=own[0].found_by,
        spacing_s=spread((after - before).total_seconds() for before, after in itertools.pairwise(starts)),
        hresults=_counted(exchange.hresult for one in own for exchange in one.exchanges if exchange.hresult),
        numbers=tuple(one.number for one in own)[:3],
    )


def _outcomes(conversations: Iterable[Conversation]) -> dict[str, int]:
    counts = Counter(one.outcome for one in conversations)
    return {outcome.value: counts[outcome] for outcome in ConversationOutcome if outcome in counts}


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _number(address: str) -> tuple[int, ...]:
    return tuple(int(part) for part in address.split("."))
