"""What a product of a collected machine is: whose key it has, Windows or Office; which machine a host's name means."""

import datetime
from collections.abc import Iterable, Iterator

from kmsdiag.collected import Machine, Part
from kmsdiag.knowledge import licences
from kmsdiag.knowledge.licences import Channel
from kmsdiag.model.collected import ProductState
from kmsdiag.model.machine_name import is_same
from kmsdiag.model.target import as_address

_OFFICE = (licences.OFFICE, licences.OFFICE_2010)


def whose(product: ProductState) -> Channel:
    """Whose key it has, as its channel says, else as what a tool shows of it can only mean."""
    if product.vm_host:
        return Channel.AVMA
    channel = licences.channel_of(product.channel, product.description)
    if channel is Channel.UNKNOWN and product.host is not None:
        return Channel.HOST
    asks = product.client_machine_id or product.discovered_host or product.ad_object
    if channel is Channel.UNKNOWN and (asks or product.no_host or product.never_asked):
        return Channel.CLIENT
    return channel


def is_office(product: ProductState) -> bool:
    """Whether it is an Office product; Windows otherwise."""
    return product.application_id in _OFFICE or "office" in f"{product.name} {product.description}".lower()


def label(product: ProductState) -> str:
    """Its name, else its activation ID."""
    return product.name or product.activation_id or "a product without a name"


def end(product: ProductState, part: Part) -> datetime.datetime | None:
    """When its activation ends: known only where the file's time is; no host grants more than 180 days."""
    if part.at is None or not 0 < product.grace_minutes <= licences.MINUTES_OF_A_GRANT:
        return None
    return part.at + datetime.timedelta(minutes=product.grace_minutes)


def begun(product: ProductState, part: Part) -> datetime.datetime | None:
    """When it was activated last: what is left of the 180 days tells, where the file's time is known."""
    left = product.grace_minutes
    if part.at is None or product.status != licences.LICENSED or not 0 < left <= licences.MINUTES_OF_A_GRANT:
        return None
    try:
        return part.at - datetime.timedelta(minutes=licences.MINUTES_OF_A_GRANT - left)
    except OverflowError:
        return None


def with_key(machine: Machine) -> Iterator[tuple[ProductState, Part, Channel]]:
    """Products of a machine that have a key, and whose.

    Where a tool shows no key of a product that is unlicensed, it has none: ospp.vbs /dstatusall lists dozens of those.
    """
    for product, part in machine.products():
        if product.in_use or (product.in_use is None and product.status != 0):
            yield product, part, whose(product)


def clients(machine: Machine) -> list[tuple[ProductState, Part]]:
    """Products with a client setup key: those that may ask a KMS host."""
    return [(product, part) for product, part, channel in with_key(machine) if channel is Channel.CLIENT]


def hosts(machine: Machine) -> list[tuple[ProductState, Part]]:
    """Products with a KMS host key."""
    return [(product, part) for product, part, channel in with_key(machine) if channel is Channel.HOST]


def is_named(machine: Machine, host: str) -> bool:
    """Whether a host's name or address means this machine; a short name means any machine of that name."""
    name = host.strip("[]").lower().removesuffix(".")
    address = as_address(name)
    if address is not None and any(as_address(one) == address for own in machine.networks() for one in own.addresses):
        return True
    return is_same(name, machine.name)


def uses(machine: Machine) -> list[str]:
    """KMS hosts that a machine is set to or remembers, as its files name them."""
    set_by_hand = [one.host for one in machine.overrides() if one.host]
    return list(dict.fromkeys(set_by_hand or [one.host for one in machine.cached()]))


def asking(host: Machine, machines: Iterable[Machine]) -> list[Machine]:
    """Machines whose files name this one as their KMS host."""
    return [one for one in machines if one is not host and any(is_named(host, name) for name in uses(one))]
