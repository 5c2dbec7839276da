"""What the HTML report draws of one load run: demand and answer over time, latency, shares, and what each part did.

All numbers come ready made: nothing is judged or summed up here. Every series is short (a few hundred points at most),
whatever the length of the run. Times are seconds from the run's begin; a value that was not seen is `nan`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PartKind = Literal["generator", "balancer", "node", "machine"]
Interval = tuple[float, float]


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a load picture: frozen."""


class VipRates(_Part, frozen=True, kw_only=True):
    """What one VIP was asked and what it answered; the i-th value is the mean over `step_s` seconds from `i * step_s`.

    An *arrival* is what a user wants at one moment: a study, a message, a query, a web session. `offered_per_s` are those
    that were due, `done_per_s` those that were carried out, by when they ended. `operations_per_s` and `mb_per_s` (10**6
    bytes of payload) are of what was acknowledged, `errors_per_s` of what was not.
    """

    vip: str
    step_s: float
    offered_per_s: list[float]
    done_per_s: list[float]
    operations_per_s: list[float]
    errors_per_s: list[float]
    mb_per_s: list[float]


class LatencyClass(_Part, frozen=True, kw_only=True):
    """The latency of one class of operations of a VIP, from the intended start, in seconds.

    `n` counts them. All quantiles are exact (order statistics of every recorded operation); `p99_interval_s` is the 95 %
    interval of p99; an end that n is too small for is nan. `curve` are points (fraction p below 1, quantile) in rising
    order. `p99_limit_s` is the site's, if it has one for this class.
    """

    vip: str
    name: str
    n: int
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    p99_interval_s: Interval
    p999_s: float
    max_s: float
    p99_limit_s: float | None
    curve: list[tuple[float, float]]


class NodeShare(_Part, frozen=True, kw_only=True):
    """Which part of a VIP's answers one node gave (0 to 1): over time, each value over `step_s` seconds, and in all."""

    vip: str
    node: str
    step_s: float
    share: list[float]
    whole_share: float


class PartSeries(_Part, frozen=True, kw_only=True):
    """What one part of the run did over time; all lists are as long as `at_s`.

    `name` is a generator's number, a node's service (`node` then names the node), or empty for all of the balancer or the
    machine. `cpu_share` is in cores, 1.0 for one whole core; `capacity_cores` is how many the part can use (threads of the
    balancer, cores of the machine), None where that is not known. `lag_s` is the latest wake-up of its event loop in that
    span, `memory_mb` (10**6 bytes) its resident memory; both are empty where they were not measured.
    """

    kind: PartKind
    name: str
    node: str = ""
    capacity_cores: float | None = None
    at_s: list[float]
    cpu_share: list[float]
    lag_s: list[float] = []
    memory_mb: list[float] = []


class ArrivalTally(_Part, frozen=True, kw_only=True):
    """What became of the arrivals of one VIP, and whose fault it was when one was late or dropped.

    `due` = `in_time` + `late_for_clients` + `late_for_generator` + `dropped_for_clients` + `dropped_for_generator`. For
    clients: every client was still busy, so what they talk to is slow, or there are too few of them. For the generator: a
    client was free, and the generator woke too late. `cut` of the due ones were under way when the run ended.
    """

    vip: str
    due: int
    in_time: int
    late_for_clients: int
    late_for_generator: int
    dropped_for_clients: int
    dropped_for_generator: int
    cut: int


class Step(_Part, frozen=True, kw_only=True):
    """One step of a rising load: offered and achieved rate, p99 (nan when nothing was measured), failed operations."""

    offered_per_s: float
    achieved_per_s: float
    p99_s: float
    errors: int


class Knee(_Part, frozen=True, kw_only=True):
    """Where a VIP bent under a rising load.

    `knee_per_s` is the highest rate that was carried, None when not even the lowest was; `bent` whether a higher one was
    tried and not carried. `saturated` names the part at its limit then, `evidence` says why in words and numbers.
    `required_per_s` is the rate that the site needs. `unit` is what is counted: studies, messages, operations.
    """

    vip: str
    unit: str
    steps: list[Step]
    knee_per_s: float | None
    bent: bool
    required_per_s: float | None
    p99_limit_s: float | None
    saturated: str
    evidence: list[str]


class Added(_Part, frozen=True, kw_only=True):
    """What the balancer adds: the same traffic straight and through the VIP, in interleaved pairs.

    `ratios` are through / straight, one for each pair (thinned to quantiles when there are very many); `n` counts the
    pairs. `ratio` and `added_s` (seconds) are medians with their 95 % intervals.
    """

    vip: str
    name: str
    n: int
    ratios: list[float]
    ratio: float
    ratio_interval: Interval
    added_s: float
    added_interval_s: Interval
    added_limit_s: float | None


class Storm(_Part, frozen=True, kw_only=True):
    """How a VIP came back when all clients returned at once: (seconds from that instant, clients served until then)."""

    vip: str
    clients: int
    served: list[tuple[float, int]]
    limit_s: float | None


class LoadPicture(_Part, frozen=True, kw_only=True):
    """One load run.

    `check` is what it was played for (`LOAD-1`), `title` names it for people, `what` says in a sentence or two what was
    played. What is empty is not drawn.
    """

    check: str
    title: str
    what: str
    duration_s: float
    rates: list[VipRates] = []
    latencies: list[LatencyClass] = []
    shares: list[NodeShare] = []
    parts: list[PartSeries] = []
    arrivals: list[ArrivalTally] = []
    knees: list[Knee] = []
    added: list[Added] = []
    storms: list[Storm] = []
