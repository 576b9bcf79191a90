"""Machines as collected files describe them, and events of both sides, in a few words."""

import datetime
from typing import Any

from kmsdiag.knowledge.licences import WINDOWS
from kmsdiag.model.collected import HostState, MachineState, ProductState
from kmsdiag.model.events import (
    Attempt,
    AttemptEnd,
    ClientEvents,
    EventFile,
    EventsAnswer,
    HostEvents,
    HostRequest,
    Requester,
)
from tests.conftest import AT

KMS1 = "kms1.contoso.example"
CMID = "36f27b39-2fd5-440b-be67-a09996d27a38"
OTHER = "f1d2b0aa-0c1e-4f7a-9d55-5d9a2b6f7c10"
SKU = "73111121-5638-40f6-bc11-f1d7b0d64300"
SUCCESS = "0x00000000"
MINUTE = datetime.timedelta(minutes=1)


def product(**fields: Any) -> ProductState:
    """A licensed KMS client that found its host through DNS, unless told otherwise."""
    given: dict[str, Any] = {
        "name": "Windows(R), Enterprise edition",
        "description": "Windows(R) Operating System, VOLUME_KMSCLIENT channel",
        "activation_id": SKU,
        "application_id": WINDOWS,
        "source": "slmgr /dlv",
        "status": 1,
        "grace_minutes": 250_000,
        "in_use": True,
        "client_machine_id": CMID,
        "discovered_host": KMS1,
        "discovered_port": 1688,
    }
    return ProductState(**{**given, **fields})


def client(name: str = "pc17.contoso.example", **fields: Any) -> MachineState:
    """A client machine with one product."""
    return MachineState(name=name, sources=("slmgr /dlv",), products=(product(**fields),), collected_at=AT)


def nameless_state(**fields: Any) -> MachineState:
    """A client whose file does not say whose it is."""
    return MachineState(sources=("slmgr /dlv",), products=(product(client_machine_id=OTHER),), **fields)


def host(name: str = KMS1, count: int | None = 50, status: int = 1, **fields: Any) -> MachineState:
    """A KMS host for Windows."""
    key = ProductState(
        name="Windows(R), ServerStandard edition",
        description="Windows(R) Operating System, VOLUME_KMS_WS22 channel",
        activation_id="2f2c4a5a-2d9c-4f0a-8e64-e8c4f7d15a21",
        application_id=WINDOWS,
        source="slmgr /dlv",
        status=status,
        in_use=True,
        host=HostState(**{"count": count, "port": 1688, "publishing": True, **fields}),
    )
    return MachineState(name=name, sources=("slmgr /dlv",), products=(key,), collected_at=AT)


def attempt(end: AttemptEnd = AttemptEnd.ACTIVATED, *, at: datetime.datetime = AT, **fields: Any) -> Attempt:
    """One attempt of the client with the ID ``CMID`` at kms1."""
    given: dict[str, Any] = {
        "host": f"{KMS1}:1688",
        "hresult": SUCCESS,
        "client_machine_id": CMID,
        "activation_id": SKU,
        "client_time": at.replace(second=0),
        "required": 25,
    }
    if end in (AttemptEnd.ACTIVATED, AttemptEnd.NOT_ACTIVATED):
        given |= {"answered_at": at, "answer": SUCCESS, "count": 50}
    return Attempt(at=at, end=end, **{**given, **fields})


def client_log(*attempts: Attempt, machine: str = "pc17.contoso.example", **fields: Any) -> ClientEvents:
    """A client's log with these attempts."""
    ends: dict[str, int] = {}
    for one in attempts:
        ends[one.end.value] = ends.get(one.end.value, 0) + 1
    ids = tuple(dict.fromkeys(one.client_machine_id for one in attempts if one.client_machine_id))
    return ClientEvents(
        machine=machine,
        attempts=len(attempts),
        first=attempts[0].at if attempts else None,
        last=attempts[-1].at if attempts else None,
        ends=ends,
        client_machine_ids=ids,
        latest=attempts,
        **fields,
    )


def request(at: datetime.datetime = AT, hresult: str = SUCCESS, **fields: Any) -> HostRequest:
    """One request in a host's log."""
    given: dict[str, Any] = {"machine": "pc17.contoso.example", "client_time": at.replace(second=0), "required": 25}
    return HostRequest(at=at, hresult=hresult, **{**given, **fields})


def requester(*requests: HostRequest, host: str = KMS1, machine_id: str = CMID, **fields: Any) -> Requester:
    """All requests of one ID in a host's log."""
    last = requests[-1]
    given: dict[str, Any] = {
        "machines": (last.machine,),
        "names": 1,
        "hresults": {one.hresult: 1 for one in requests},
        "required": {str(last.required): len(requests)},
        "last_hresult": last.hresult,
        "requests_in_detail": requests,
    }
    return Requester(
        host=host,
        client_machine_id=machine_id,
        requests=len(requests),
        first=requests[0].at,
        last=last.at,
        **{**given, **fields},
    )


def host_log(host: str = KMS1, **fields: Any) -> HostEvents:
    """A host's log that reaches an hour to both sides of ``AT``."""
    hour = datetime.timedelta(hours=1)
    return HostEvents(host=host, **{"requests": 10, "clients": 5, "first": AT - hour, "last": AT + hour, **fields})


def logs(
    *clients: ClientEvents, hosts: tuple[HostEvents, ...] = (), requesters: tuple[Requester, ...] = (), **fields: Any
) -> EventsAnswer:
    """All event logs of a run."""
    return EventsAnswer(
        at=AT,
        files=(EventFile(label="a.evtx", format="evtx", records=100, used=10),),
        clients=clients,
        hosts=hosts,
        requesters=requesters,
        **fields,
    )
