"""Source addresses for simulated clients: each given out once, so that no client inherits another's persistence entry."""

from __future__ import annotations

import ipaddress
import itertools
import threading

from .lab import LabError


class SourceAddresses:
    """Gives out the addresses of an IPv4 network in their order, to any number of threads.

    Addresses that end in .0 or .255 are left out: some stacks and many people take them for networks and broadcasts.

    Parameters
    ----------
    network : str
        In CIDR notation.
    given : int
        How many of the first were given out before.
    """

    def __init__(self, network: str, given: int = 0) -> None:
        self._network = ipaddress.IPv4Network(network)
        addresses = (str(address) for address in self._network if int(address) & 0xFF not in (0, 255))
        self._rest = itertools.islice(addresses, given, None)
        self._given = given
        self._lock = threading.Lock()

    def take(self, count: int) -> list[str]:
        """Return the next `count` addresses.

        Raises
        ------
        LabError
            When there are not that many left.
        """
        with self._lock:
            taken = list(itertools.islice(self._rest, count))
            self._given += len(taken)
        if len(taken) < count:
            raise LabError(
                f"clients.network {self._network}: expected {count} more source addresses, found {len(taken)} left of"
                f" {self._given}. Give the site a larger network"
            )
        return taken
