"""What the report draws: the story of the fail-over on each VIP, and the traffic of each node over time."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from lbconfig.site import Site, Vip
from reports.verdict import Pictures, Timeline, TimelineEvent, TrafficSeries
from scenarios.checkers.residents import residents_on
from scenarios.episodes import Episode, Role, seconds
from scenarios.targets import SERVICE_OF
from simulators.operations import Outcome, Way


def pictures_of(site: Site, operations: pl.DataFrame, episodes: Sequence[Episode], started_ns: int) -> Pictures:
    """Return the pictures of a run.

    Parameters
    ----------
    site : Site
        The site under test.
    operations : frame of operations
        All of the run.
    episodes : sequence of Episode
        The faults of the run, in any order.
    started_ns : int
        The run's begin (`monotonic_ns`): the zero of the traffic's time axis.
    """
    return Pictures(
        timelines=[
            timeline(vip, episode, operations) for episode in episodes if episode.fault == "node died" for vip in site.vip
        ],
        traffic=[series for vip in site.vip for series in _traffic(vip, operations, started_ns)],
        faults=[
            (_title(episode), seconds(episode.begun_ns - started_ns), seconds(episode.ended_ns - started_ns))
            for episode in episodes
        ],
    )


def timeline(vip: Vip, episode: Episode, operations: pl.DataFrame) -> Timeline:
    """Return the story of one fault on one VIP, in seconds from its begin; what was not seen is left out."""
    own = operations.filter(
        (pl.col("workload") == episode.workload)
        & (pl.col("service") == int(SERVICE_OF[vip.service]))
        & (pl.col("ended_ns") > episode.begun_ns)
    )
    acknowledged = pl.col("outcome") == int(Outcome.ACKNOWLEDGED)
    moved = pl.col("source").is_in(_on_the_victim(vip, episode, operations))
    elsewhere = acknowledged & moved & (pl.col("node") != episode.node) & (pl.col("begun_ns") > episode.begun_ns)
    _, _, down_ns, up_ns = episode.story(vip)
    moments: list[tuple[int | None, str]] = [
        (episode.begun_ns, "fault"),
        (_first(own.filter(~acknowledged)), "first error"),
        (down_ns, "DOWN"),
        (_first(own.filter(elsewhere)), "first success elsewhere"),
        (episode.ended_ns, "fault ends"),
        (up_ns, "UP"),
    ]
    events = [TimelineEvent(at_s=seconds(at - episode.begun_ns), what=what) for at, what in moments if at is not None]
    return Timeline(
        vip=vip.name, fault=f"{episode.node}: {episode.fault}", events=sorted(events, key=lambda event: event.at_s)
    )


def _title(episode: Episode) -> str:
    return f"{episode.fault}: {episode.node}" if episode.node else episode.fault


def _on_the_victim(vip: Vip, episode: Episode, operations: pl.DataFrame) -> list[str]:
    """Return the sources whose last answer before the fault came from the victim."""
    roles = (Role.STICKY, Role.ESTABLISHED)
    return [address for role in roles for address in residents_on(episode.node, episode, operations, vip.name, role)]


def _first(operations: pl.DataFrame) -> int | None:
    return int(operations["ended_ns"].min()) if operations.height else None  # type: ignore[arg-type]


def _traffic(vip: Vip, operations: pl.DataFrame, started_ns: int) -> list[TrafficSeries]:
    """Return the acknowledged operations a second of each node of a VIP."""
    answered = operations.filter(
        (pl.col("service") == int(SERVICE_OF[vip.service]))
        & (pl.col("way") == int(Way.VIP))
        & (pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    ).with_columns(((pl.col("ended_ns") - started_ns) // 1_000_000_000).alias("second"))
    if not answered.height:
        return []
    last = int(answered["second"].max())  # type: ignore[arg-type]
    series: list[TrafficSeries] = []
    for node in sorted({server.node for server in vip.real_server}):
        counts = dict(answered.filter(pl.col("node") == node).group_by("second").len().iter_rows())
        rates = [float(counts.get(second, 0)) for second in range(last + 1)]
        series.append(TrafficSeries(vip=vip.name, node=node, start_s=0, rate_per_s=rates))
    return series
