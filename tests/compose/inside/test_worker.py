"""The parts of the routed clients' network: the tester's, and each worker's."""

from __future__ import annotations

import ipaddress
import itertools

from compose import layout
from compose.inside.worker import SOURCES_VARIABLE
from compose.layout import WORKERS, worker_network
from scenarios.load.numbering import OWN_SOURCES_VARIABLE

ROUTED = "198.18.0.0/15"


def test_no_two_hosts_have_an_address_of_the_routed_clients_in_common() -> None:
    parts = [layout.tester_network(ROUTED), *(worker_network(ROUTED, octet) for octet in WORKERS)]
    assert not [pair for pair in itertools.combinations(parts, 2) if pair[0].overlaps(pair[1])]
    assert all(part.subnet_of(ipaddress.IPv4Network(ROUTED)) for part in parts)


def test_each_worker_has_addresses_for_two_thousand_clients() -> None:
    assert {worker_network(ROUTED, octet).num_addresses for octet in WORKERS} == {2048}


def test_the_generator_reads_the_variable_that_the_container_sets() -> None:
    assert SOURCES_VARIABLE == OWN_SOURCES_VARIABLE
