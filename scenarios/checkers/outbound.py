"""What nodes send of their own accord comes from node addresses, and the receiver lets every node in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec

from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from simulators.received import Received


class Asked(msgspec.Struct, frozen=True):
    """One thing that a node was asked to send on, one of `what`. `failure` is empty when the node agreed."""

    node: str
    identifier: str
    failure: str = ""
    what: str = "images or messages"


def judge_outbound(
    asked: Sequence[Asked], received: Sequence[Received], addresses: Mapping[str, str], balancer: Collection[str], *,
    of_each_node_at_least: int,
) -> Finding:  # fmt: skip
    """Judge where things came from that nodes were asked to send.

    Parameters
    ----------
    asked : sequence of Asked
        What nodes were asked to send.
    received : sequence of Received
        What came to the receiver meanwhile, and whom it turned away.
    addresses : mapping of node to address
        The nodes' own addresses; every one of them must be heard of.
    balancer : collection of str
        Addresses of the balancer: its units' own and the VIPs'. A sender that comes from one of these is named so.
    of_each_node_at_least : int
        How many things each node has to send.
    """
    node_of = {one.identifier: one.node for one in asked}
    came = {entry.identifier: entry.peer for entry in received if entry.admitted and entry.identifier in node_of}
    turned_away = Counter(entry.peer for entry in received if not entry.admitted)
    right = Counter(node for identifier, peer in came.items() if peer == addresses.get(node := node_of[identifier]))
    strange = Counter(
        f"{_called(peer, addresses, balancer)} instead of {node_of[identifier]} ({addresses.get(node_of[identifier])})"
        for identifier, peer in came.items()
        if peer != addresses.get(node_of[identifier])
    )
    numbers: Numbers = {
        "measured": {
            "asked": len(node_of), "received": len(came), "received_from_its_node": {node: right[node] for node in addresses},
            "received_from_elsewhere": dict(strange), "turned_away": dict(turned_away),
        },
        "limit": {"received_from_elsewhere": {}, "turned_away": {}, "of_each_node_at_least": of_each_node_at_least},
    }  # fmt: skip
    if strange:
        return failed("network", f"came from {listed(sorted(strange), 3)}", **numbers)
    if turned_away:
        who = [f"{_called(peer, addresses, balancer)}, {count} times" for peer, count in sorted(turned_away.items())]
        return failed("network", f"the receiver turned away {listed(who, 3)}", **numbers)
    if complaints := sorted(
        {f"{node_of[one.identifier]}: {one.complaint}" for one in received if one.complaint and one.identifier in node_of}
    ):
        return failed("node", f"a report says of images that were stored: {listed(complaints, 3)}", **numbers)
    missing = [one for one in asked if one.identifier not in came]
    if missing:
        of_nodes = Counter((one.node or "a node behind the VIP", one.what) for one in missing)
        why = sorted({one.failure for one in missing if one.failure})
        told = listed(
            [
                f"{node} did not send {count} of the {what} it was asked for"
                for (node, what), count in sorted(of_nodes.items())
            ]
        )
        return failed("node", told + (f" ({listed(why, 2)})" if why else ""), **numbers)
    silent = [node for node in addresses if right[node] < of_each_node_at_least]
    if silent or not asked:
        return unknown(f"too little was asked of {listed(silent or ['anybody'])}", **numbers)
    each = ", ".join(f"{right[node]} from {node} ({addresses[node]})" for node in addresses)
    return passed(f"{len(came)} received, each from its own node: {each}", **numbers)


def _called(peer: str, addresses: Mapping[str, str], balancer: Collection[str]) -> str:
    names = {address: node for node, address in addresses.items()}
    if peer in names:
        return f"{names[peer]} ({peer})"
    return f"the balancer's address {peer}" if peer in balancer else peer
