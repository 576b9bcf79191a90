"""Text of network tools, as people paste it: nslookup, Resolve-DnsName, dig, ipconfig /all, tests of ports."""

import msgspec

from kmsdiag.evidence.escape import notes as bounded
from kmsdiag.evidence.tools import dig, dnsclient, ipconfig, nslookup, port_tests
from kmsdiag.evidence.tools.pasted import MOST_LINES, lines
from kmsdiag.evidence.tools.records import merged
from kmsdiag.model.collected import MachineState, NetworkState


def read(text: str) -> list[MachineState]:
    """All that network tools say in a text: one machine, or one for each ``ipconfig``. Never raises."""
    rows = lines(text)
    sources: dict[str, None] = {}
    notes: list[str] = [f"only the first {MOST_LINES:,} lines were read"] if text.count("\n") > MOST_LINES else []
    lookups = []
    for tool in (nslookup, dnsclient, dig):
        found, said = tool.read(rows)
        lookups += found
        notes += said
        sources.update(dict.fromkeys([tool.TOOL] if found or said else []))
    ports, said = port_tests.read(rows)
    notes += said
    sources.update(dict.fromkeys(one.tool for one in ports))
    if said:
        sources.setdefault("Test-NetConnection")
    settings = ipconfig.read(rows)
    states = [
        MachineState(name=one.name, sources=("ipconfig",), network=one.network, notes=bounded(one.notes))
        for one in settings
    ]
    if not sources:
        return [msgspec.structs.replace(one, notes=bounded([*one.notes, *notes])) for one in states]
    asked = NetworkState(lookups=merged(lookups), ports=tuple(ports))
    if len(states) != 1:
        # Of several machines nobody can say which one asked.
        return [*states, MachineState(sources=tuple(sources), network=asked, notes=bounded(notes))]
    own = states[0]
    network = msgspec.structs.replace(settings[0].network, lookups=asked.lookups, ports=asked.ports)
    all_notes = bounded([*own.notes, *notes])
    return [msgspec.structs.replace(own, sources=("ipconfig", *sources), network=network, notes=all_notes)]
