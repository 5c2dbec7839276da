"""The active unit fails: the VIP answers again in time, sources keep their nodes, and nothing acknowledged is lost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import msgspec
import polars as pl

from scenarios.checkers.loss import fates_of
from scenarios.checkers.order import judge_order
from scenarios.checkers.starvation import RUNNABLE_PER_CORE
from scenarios.episodes import seconds
from scenarios.findings import Finding, Numbers, failed, listed, passed, unknown
from scenarios.takeovers import STANDS_IN, UnitEpisode
from simulators.operations import Outcome

SIDES = ("local", "routed")
QUIET_S = 1.0  # before the failure: what probes saw then is how finely they see
COARSE_S = 0.75  # probes that saw gaps like this while nothing was broken cannot time a takeover
_DEFECTS = ("lost", "unexpected", "corrupt", "duplicate_defects")


class Takeover(msgspec.Struct, frozen=True, kw_only=True):
    """One failure as the clients of one VIP saw it: for the report too.

    `outage_s`: by side, the longest time without an answer to a probe; None when none came any more. `entries_kept` of
    `entries`: entries of sources that came since both units were whole, which the survivor had for the same nodes;
    `older_entries_kept` of `older_entries` those of all other sources. `sources_kept` of `sources`: visitors that met the
    same node after as before; `sources_unanswered` met none any more, `moved` are the first of those that met another.
    `waiting`: operations that were under way when the unit failed and were not answered. `delivered_late`: copies of
    messages that the failed unit still held, and delivered when it was there again, after later messages of the same
    patient had been acknowledged: nothing is lost, but old data may be put over new.
    """

    how: str
    victim: str
    outage_s: dict[str, float | None]
    finest_s: float
    entries: int
    entries_kept: int
    older_entries: int
    older_entries_kept: int
    sources: int
    sources_kept: int
    sources_unanswered: int
    moved: tuple[str, ...]
    acknowledged: int
    indeterminate: int
    waiting: int
    recovered: int
    lost: int
    unexpected: int
    corrupt: int
    duplicate_defects: int
    delivered_late: int
    has_effect: bool
    generator_lag_s: float
    runnable_per_core: float


def judge_takeover(
    vip: str, takeovers: Sequence[Takeover], limits_s: Mapping[str, float], ways: Sequence[str], *, sources_at_least: int,
    generator_lag_s: float, lag_limit_s: float,
) -> Finding:  # fmt: skip
    """Judge every failure of the active unit on one VIP.

    Parameters
    ----------
    vip : str
        Its name.
    takeovers : sequence of Takeover
        One for each failure (`takeover_of`).
    limits_s : mapping of way to seconds
        How long clients may go without an answer.
    ways : sequence of str
        The ways in which a unit has to fail.
    sources_at_least : int
        How many sources have to keep their node, each time.
    generator_lag_s, lag_limit_s : float
        By how much the harness itself woke up too late, and how much is too much.
    """
    numbers: Numbers = {
        "measured": {
            "takeovers": [msgspec.to_builtins(one) | {"limit_s": limits_s[one.how]} for one in takeovers],
            "generator_lag_s": generator_lag_s, "note": STANDS_IN,
        },
        "limit": {
            "outage_s": dict(limits_s), "entries_kept": "all", "sources_kept": "all", "sources_at_least": sources_at_least,
            "lost": 0, "duplicate_defects": 0,
        },
    }  # fmt: skip
    if generator_lag_s > lag_limit_s:
        return unknown(f"the harness itself fell behind by {generator_lag_s:.1f} s", **numbers)
    broken = [words for one in takeovers for words in _broken(one, limits_s[one.how])]
    if broken:
        return failed("balancer", listed(broken, 3), **numbers)
    if doubts := [words for one in takeovers for words in _doubtful(one, limits_s[one.how])]:
        return unknown(listed(doubts, 3), **numbers)
    unseen = [f"a unit {way}" for way in ways if way not in {one.how for one in takeovers}]
    unseen += [words for one in takeovers for words in _unseen(one, sources_at_least)]
    if unseen:
        return unknown(f"not observed: {listed(unseen, 3)}", **numbers)
    worst = ", ".join(f"{one.how} {_worst(one):.2f} s" for one in takeovers)
    kept, entries = sum(one.entries_kept for one in takeovers), sum(one.entries for one in takeovers)
    acknowledged, waiting = sum(one.acknowledged for one in takeovers), sum(one.waiting for one in takeovers)
    return passed(
        f"without an answer: {worst}; {kept} of {entries} entries kept; of {acknowledged} acknowledged none lost or doubled, "
        f"{waiting} waited for an answer when a unit failed{_late(takeovers)}{_older(takeovers)}. {STANDS_IN}",
        **numbers,
    )


def takeover_of(
    vip: str, episode: UnitEpisode, operations: pl.DataFrame, stored: pl.DataFrame, receipts: pl.DataFrame
) -> Takeover:
    """Return one failure as the clients of one VIP saw it.

    Parameters
    ----------
    vip : str
        Its name.
    episode : UnitEpisode
        The failure.
    operations : frame of operations
        Those of the episode's workload on this VIP.
    stored : frame of operations
        Those of them whose payload a node stores.
    receipts : frame of receipts
        Of the stored payloads, of all nodes.
    """
    fates = fates_of(stored, receipts)
    before, after = episode.entries_before.get(vip, {}), episode.entries_after.get(vip, {})
    met = _met(episode, operations, episode.addresses(vip, probes=False))
    acknowledged = operations.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))
    came = set(acknowledged.filter(pl.col("ended_ns") < episode.called_ns)["source"].cast(pl.String).to_list())
    kept = {source for source, node in before.items() if after.get(source) == node}
    moved = tuple(
        f"{source}: {first} then {then}" for source, (first, then) in met.items() if first and then and first != then
    )
    indeterminate = operations.filter(pl.col("outcome") == int(Outcome.INDETERMINATE))
    under_way = indeterminate.filter((pl.col("begun_ns") <= episode.begun_ns) & (pl.col("ended_ns") >= episode.called_ns))
    gaps = {side: _gaps(episode, acknowledged, episode.addresses(vip, side=side, probes=True)) for side in SIDES}
    return Takeover(
        how=episode.how, victim=episode.victim,
        outage_s={side: outage for side, (outage, _) in gaps.items()}, finest_s=max(finest for _, finest in gaps.values()),
        entries=len(before.keys() & came), entries_kept=len(kept & came),
        older_entries=len(before.keys() - came), older_entries_kept=len(kept - came),
        sources=sum(bool(first) for first, _ in met.values()),
        sources_kept=sum(bool(first) and first == then for first, then in met.values()),
        sources_unanswered=sum(bool(first) and not then for first, then in met.values()), moved=moved[:5],
        acknowledged=acknowledged.height, indeterminate=indeterminate.height, waiting=under_way.height,
        recovered=fates.recovered, lost=fates.lost, unexpected=fates.unexpected, corrupt=fates.corrupt,
        duplicate_defects=fates.duplicate_defects,
        delivered_late=int(judge_order(stored, receipts, at_least=0).measured["applied_late"]),
        has_effect=any(
            episode.survivor in sample.holders for sample in episode.holders
            if episode.called_ns < sample.at_ns < episode.ending_ns
        ),
        generator_lag_s=episode.generator_lag_s, runnable_per_core=episode.runnable_per_core,
    )  # fmt: skip


def _late(takeovers: Sequence[Takeover]) -> str:
    late = [f"{one.delivered_late} when the unit {one.how} was there again" for one in takeovers if one.delivered_late]
    return f"; copies that were delivered late, after newer ones of the patient: {listed(late)}" if late else ""


def _older(takeovers: Sequence[Takeover]) -> str:
    """Say which older entries the survivor did not have: HAProxy never teaches one that changes while it is reloaded."""
    gone = [
        f"{one.older_entries - one.older_entries_kept} of {one.older_entries} ({one.how})"
        for one in takeovers
        if one.older_entries_kept < one.older_entries
    ]
    told = "entries from before, perhaps made while the balancer was reloaded, that the other unit did not have"
    return f"; {told}: {listed(gone)}" if gone else ""


def _broken(one: Takeover, limit_s: float) -> list[str]:
    words = []
    silent = [side for side, outage_s in one.outage_s.items() if outage_s is None]
    if silent:
        why = "" if one.has_effect else "the other unit did not take over: "
        words.append(f"{one.victim} {one.how}: {why}no answer to {' and '.join(silent)} clients any more")
    if (late := _overdue(one, limit_s)) and not _excuse(one, limit_s):
        words.append(late)
    if one.sources_unanswered and not silent:
        words.append(f"{one.victim} {one.how}: {one.sources_unanswered} of {one.sources} sources were not answered again")
    if moved := one.sources - one.sources_kept - one.sources_unanswered:
        gone = f"{moved} of {one.sources} sources met another node, such as {one.moved[0]}"
        words.append(f"{one.victim} {one.how}: {gone}")
    if one.entries_kept < one.entries:
        words.append(
            f"{one.victim} {one.how}: {one.entries - one.entries_kept} of {one.entries} entries were lost or lead elsewhere"
        )
    words += [
        f"{one.victim} {one.how}: {getattr(one, name)} {name.replace('_', ' ')}" for name in _DEFECTS if getattr(one, name)
    ]
    return words


def _overdue(one: Takeover, limit_s: float) -> str:
    late = [
        f"{outage_s:.2f} s to {side} clients" for side, outage_s in one.outage_s.items() if outage_s and outage_s > limit_s
    ]
    words = f"{one.victim} {one.how}: without an answer for {' and '.join(late)}, the limit is {limit_s:g} s"
    return words if late else ""


def _excuse(one: Takeover, limit_s: float) -> str:
    """Say why an outage above its limit proves nothing, empty when it does: units and clients share one machine here."""
    if one.runnable_per_core > RUNNABLE_PER_CORE:
        return f"{one.runnable_per_core:.0f} processes wanted each core of this machine at a time"
    if _worst(one) <= limit_s + one.generator_lag_s:
        return f"the harness itself woke up {one.generator_lag_s:.2f} s late"
    return ""


def _doubtful(one: Takeover, limit_s: float) -> list[str]:
    late, excuse = _overdue(one, limit_s), _excuse(one, limit_s)
    return [f"{late}; but {excuse}"] if late and excuse else []


def _unseen(one: Takeover, sources_at_least: int) -> list[str]:
    words = []
    if not one.has_effect:
        words.append(f"that the other unit took over ({one.how})")
    if one.finest_s > COARSE_S:
        words.append(f"short gaps before {one.how}: probes themselves took {one.finest_s:.1f} s")
    if one.sources < sources_at_least or one.entries < sources_at_least:
        words.append(f"{sources_at_least} sources ({one.how}: {one.sources}, {one.entries} entries)")
    return words


def _worst(one: Takeover) -> float:
    return max((outage_s for outage_s in one.outage_s.values() if outage_s is not None), default=0.0)


def _gaps(episode: UnitEpisode, acknowledged: pl.DataFrame, probes: list[str]) -> tuple[float | None, float]:
    """Return the longest time without an answer from the failure to its end, and the longest one just before it, in seconds.

    The first is None when no answer came between the takeover and the failure's end. A gap begins with the last answer
    before it, so that it holds whenever the unit died within the time that the lab took to kill it.
    """
    answers = acknowledged.filter(pl.col("source").cast(pl.String).is_in(probes))
    moments = sorted(int(at) for at in answers["ended_ns"].to_list())
    quiet = [at for at in moments if episode.called_ns - int(QUIET_S * 1e9) <= at <= episode.called_ns]
    finest = max((later - earlier for earlier, later in itertools.pairwise(quiet)), default=int(QUIET_S * 1e9))
    before = [at for at in moments if at <= episode.called_ns][-1:] or [episode.called_ns]
    during = [at for at in moments if episode.called_ns < at <= episode.ending_ns]
    longest = max((later - earlier for earlier, later in itertools.pairwise([*before, *during])), default=0)
    if not during or episode.ending_ns - during[-1] > longest:
        return None, seconds(finest)
    return seconds(longest), seconds(finest)


def _met(episode: UnitEpisode, operations: pl.DataFrame, visitors: list[str]) -> dict[str, tuple[str, str]]:
    """Return for each visitor the node that it met last before the failure, and the first one after it was to come again."""
    own = operations.filter(
        (pl.col("outcome") == int(Outcome.ACKNOWLEDGED)) & pl.col("source").cast(pl.String).is_in(visitors)
    ).sort("begun_ns")
    found: dict[str, tuple[str, str]] = dict.fromkeys(visitors, ("", ""))
    for source, node, begun_ns, ended_ns in own.select("source", "node", "begun_ns", "ended_ns").iter_rows():
        first, then = found[str(source)]
        if ended_ns < episode.called_ns:
            found[str(source)] = (str(node), then)
        elif begun_ns >= episode.revisited_ns and not then:
            found[str(source)] = (first, str(node))
    return found
