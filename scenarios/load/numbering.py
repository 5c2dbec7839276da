"""Who is who among the generators of one run: their numbers, their source addresses, their share of the clients. Pure.

Locust's master gives them out: generator k of n (counted from 0) is number `first_generator` + k, owns slice k of the
source addresses, and plays the clients k, k + n, k + 2n, … of each kind.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from .plan import LoadPlan, PlanError, UserKind

OWN_SOURCES_VARIABLE = "PREFLIGHT_LOAD_SOURCES"  # a network whose addresses this machine's generator has, and none else
KINDS: tuple[UserKind, ...] = ("modality", "worklist", "engine", "viewer")


class RefusedError(Exception):
    """A generator cannot take part; the message says why."""


class Part(NamedTuple):
    """What one generator is in one run: its number, and that it has place `place` (from 0) among `generators`."""

    generator: int
    place: int
    generators: int

    def clients(self, count: int) -> range:
        """Return which of `count` clients are its own."""
        return range(self.place, count, self.generators)


class Roster:
    """Gives each generator its number, the same one whenever it asks again.

    Parameters
    ----------
    plan : LoadPlan
        How many may take part, and how they are numbered.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._slices: dict[str, int] = {}

    def number(self, worker: str) -> int:
        """Return the number of a generator.

        Parameters
        ----------
        worker : str
            What Locust's master knows it by.

        Raises
        ------
        RefusedError
            When all numbers, and with them all slices of the source addresses, are given out.
        """
        if worker not in self._slices:
            most = self._plan.generators_at_most
            if len(self._slices) >= most:
                raise RefusedError(
                    f"worker {worker}: expected at most {most} generators, because the source addresses are cut into as many "
                    f"slices, found {most} before this one. Raise generators_at_most, and give the plan more sources"
                )
            self._slices[worker] = len(self._slices)
        return self._plan.first_generator + self._slices[worker]

    def knows(self, worker: str) -> bool:
        """Say whether a generator has its number."""
        return worker in self._slices


def clients_by_kind(plan: LoadPlan) -> dict[UserKind, int]:
    """Return how many clients of each kind there are: as many as the largest plan of the kind has."""
    return {kind: max((user.clients for user in plan.users_of(kind)), default=0) for kind in KINDS}


def sources_of(plan: LoadPlan, part: Part, own_network: str | None = None) -> dict[UserKind, list[str]]:
    """Return the source addresses of one generator's clients, by kind, each given to one client alone.

    They are those of the generator's slice of the plan's; or of `own_network` (CIDR), which no other generator has, where
    its machine has other addresses than the rest. Addresses that end in .0 or .255 are left out: some stacks and many
    people take them for networks and broadcasts.

    Raises
    ------
    PlanError
        When these are fewer than it has clients, or the network is none.
    """
    wanted = {kind: len(part.clients(count)) for kind, count in clients_by_kind(plan).items()}
    addresses = _slice(plan, part.generator - plan.first_generator) if own_network is None else _hosts(own_network)
    found: dict[UserKind, list[str]] = {}
    for kind, count in wanted.items():
        found[kind] = [address for address, _ in zip(addresses, range(count), strict=False)]
        if len(found[kind]) < count:
            given = sum(map(len, found.values()))
            where = own_network or " to ".join(plan.sources)
            raise PlanError(
                f"sources {where}: expected {sum(wanted.values())} addresses for the clients of generator "
                f"{part.generator}, found {given} in its slice, one of {plan.generators_at_most}. Give the plan more, or "
                "play it with more generators"
            )
    return found


def _slice(plan: LoadPlan, place: int) -> Iterator[str]:
    first, last = (int(ipaddress.IPv4Address(address)) for address in plan.sources)
    size = (last - first + 1) // plan.generators_at_most
    return _usable(range(first + place * size, first + (place + 1) * size))


def _hosts(network: str) -> Iterator[str]:
    try:
        addresses = ipaddress.IPv4Network(network)
    except ValueError as error:
        raise PlanError(f"{OWN_SOURCES_VARIABLE}: expected an IPv4 network, found {network} ({error})") from None
    return _usable(range(int(addresses.network_address), int(addresses.broadcast_address) + 1))


def _usable(numbers: range) -> Iterator[str]:
    return (str(ipaddress.IPv4Address(number)) for number in numbers if number & 0xFF not in (0, 255))
