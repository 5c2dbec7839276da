"""New sources are spread over the nodes by their weights, and no node that is UP goes without."""

from __future__ import annotations

from collections.abc import Mapping

from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown


def judge_spread(
    sources_by_node: Mapping[str, int],
    weights: Mapping[str, int],
    up: Mapping[str, bool],
    in_flight: int,
    *,
    scheduler: str,
    sources_at_least: int,
    busiest: Mapping[str, float],
    busiest_share_limit: float,
) -> Finding:
    """Judge where new sources went on a cleared table.

    Parameters
    ----------
    sources_by_node : mapping of node to count
        How many of the new sources each node got.
    weights : mapping of node to weight
        As the site has them; every node of the VIP.
    up : mapping of node to bool
        Whether the balancer called the node's server UP.
    in_flight : int
        Connections that may still have been under way when a source was placed, beyond the sources' own.
    scheduler : str
        The site's; round robin and least connections are judged by share, a hash only by whether every node got any.
    sources_at_least : int
        How many sources it takes.
    busiest : mapping of source address to share
        The share of each busy source in all operations of the VIP.
    busiest_share_limit : float
        The site's limit for one source's share, 0 to 1.
    """
    n = sum(sources_by_node.values())
    total = sum(weights.values())
    expected = {node: round(n * weight / total, 2) if total else 0.0 for node, weight in weights.items()}
    got = {node: sources_by_node.get(node, 0) for node in weights}
    numbers: Numbers = {
        "measured": {
            "sources": n, "sources_by_node": got, "in_flight": in_flight, "busiest_source_shares": _top(busiest),
        },
        "limit": {
            "deviation_from_share": 1 + in_flight, "sources_at_least": sources_at_least,
            "busiest_source_share": busiest_share_limit,
        },
        "predicted": {"sources_by_node": expected},
    }  # fmt: skip
    idle = [node for node in weights if up.get(node) and not got[node]]
    if n < sources_at_least:
        return unknown(f"only {n} new sources were answered", **numbers)
    if idle:
        return failed("balancer", f"{n} new sources, and none for {listed(idle)}, which is UP", **numbers)
    if in_flight > n // 10:
        return unknown(f"{in_flight} other connections were in flight while {n} new sources came", **numbers)
    astray = _astray(got, expected, 1 + in_flight)
    if astray and scheduler in ("leastconn", "roundrobin"):
        return failed("balancer", f"of {n} new sources {listed(astray)}", **numbers)
    over = [
        f"{source} makes {share:.0%} of the operations" for source, share in busiest.items() if share > busiest_share_limit
    ]
    if over:
        return failed("network", f"a source is busier than the site allows: {listed(over)}", **numbers)
    return passed(f"{n} new sources: {', '.join(f'{count} on {node}' for node, count in got.items())}", **numbers)


def _astray(got: Mapping[str, int], expected: Mapping[str, float], margin: int) -> list[str]:
    """Say which nodes got more or less than their share by more than a margin."""
    return [
        f"{node} got {count}, its share is {expected[node]:g}"
        for node, count in got.items()
        if abs(count - expected[node]) > margin
    ]


def _top(shares: Mapping[str, float]) -> dict[str, float]:
    busy = sorted(shares.items(), key=lambda item: -item[1])[:5]
    return {source: round(share, 3) for source, share in busy}
