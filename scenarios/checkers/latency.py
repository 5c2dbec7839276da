"""How long operations took, how many there were, and who did them: exact, of every recorded operation, in all and over time.

Nothing is judged here. Latency is from the intended start to the end of acknowledged operations, so that what had to wait
for its turn counts its waiting. Times over a run are in steps: the i-th holds what ended within `step_s` seconds from
`started_ns + i * step_s`; what ended before the run began is left out of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from scenarios.checkers.swiftness import LARGE_BYTES
from scenarios.frames import Frame
from simulators.operations import Kind, Outcome, Service

CONFIDENCE = 0.95
MOST_STEPS = 1 << 16  # of a run: a step's number fits into 16 bits
_LATENCY_BITS = 47  # of nanoseconds: 39 hours
_LATENCY = (1 << _LATENCY_BITS) - 1
_CURVE_POINTS_A_DECADE = 40
_NAMES = {
    (Service.DICOM, Kind.ECHO): "C-ECHO",
    (Service.DMWL, Kind.QUERY): "C-FIND",
    (Service.DMWL, Kind.ECHO): "C-ECHO of the worklist",
    (Service.HL7, Kind.MESSAGE): "HL7 message",
    (Service.HTTPS, Kind.QUERY): "web page",
    (Service.HTTPS, Kind.NOTE): "web note",
    (Service.HTTPS, Kind.ECHO): "web login",
}
_SMALL_IMAGE, _LARGE_IMAGE = "C-STORE up to 1 MiB", "C-STORE above 1 MiB"
Times = npt.NDArray[np.int64]


class ClassLatency(msgspec.Struct, frozen=True, kw_only=True):
    """The latency of one class of operations, in seconds.

    `n` counts the acknowledged operations, `failed` the others. Quantiles are order statistics: p99 is the smallest latency
    that at least 99 % of all do not exceed. `p99_interval_s` encloses the true p99 with 95 % confidence whatever the
    distribution; an end is None where n is too small to give one. `curve` are points (fraction p below 1, quantile) in
    rising order, closer to each other the nearer they are to 1.
    """

    service: Service
    name: str
    n: int
    failed: int
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    p99_interval_s: tuple[float | None, float | None]
    p999_s: float
    max_s: float
    curve: tuple[tuple[float, float], ...]


class ClassOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """One class of operations over time: what was acknowledged, what was not, and how long it took; nan where nothing was.

    `bytes_per_s` is of the payloads that were acknowledged.
    """

    service: Service
    name: str
    step_s: float
    operations_per_s: tuple[float, ...]
    errors_per_s: tuple[float, ...]
    bytes_per_s: tuple[float, ...]
    p50_s: tuple[float, ...]
    p99_s: tuple[float, ...]
    max_s: tuple[float, ...]


class ShareOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """The share (0 to 1) of a service's acknowledged operations that one node answered, or one source sent.

    Over time (nan in a step without any) and in all.
    """

    service: Service
    name: str
    step_s: float
    share: tuple[float, ...]
    whole_share: float


def latencies(operations: Frame) -> list[ClassLatency]:
    """Return the exact latency of each class of operations; a class of which none was acknowledged is left out.

    Parameters
    ----------
    operations : frame of operations
        Of any services.
    """
    timed = _timed(operations, 0, None)
    failed = dict(timed.filter(~pl.col("done")).group_by("code").len().collect().iter_rows())
    found = []
    for code, latency_ns in _by_class(timed.filter("done").select("code", "latency_ns").collect()):
        found.append(_class_latency(code, np.sort(latency_ns), failed.get(code, 0)))
    return found


def classes_over_time(operations: Frame, started_ns: int, step_s: float = 1.0) -> list[ClassOverTime]:
    """Return the throughput, the errors and the latency of each class of operations over time.

    Parameters
    ----------
    operations : frame of operations
        Of any services.
    started_ns : int
        The run's begin (`monotonic_ns`).
    step_s : float
        The width of a step; a run may have 65,536 of them.

    Raises
    ------
    ValueError
        When the steps are too many.
    """
    timed = _timed(operations, started_ns, step_s)
    of_step = timed.group_by("code", "step", "done").agg(pl.len().alias("count"), pl.col("size_bytes").sum())
    counts = _collected(of_step)
    steps = int(counts["step"].max()) + 1 if counts.height else 0  # type: ignore[arg-type]
    both = pl.col("step").cast(pl.Int64) * (1 << _LATENCY_BITS) + pl.col("latency_ns")  # see _quantiles_of_steps
    sortable = dict(_by_class(timed.filter("done").select("code", both).collect()))
    found = []
    for code in counts["code"].unique().sort().to_list():
        service, name = _class_of(code)
        done, failed = (
            counts.filter((pl.col("code") == code) & condition) for condition in (pl.col("done"), ~pl.col("done"))
        )
        p50_s, p99_s, max_s = _quantiles_of_steps(sortable.get(code, np.empty(0, np.int64)), steps)
        found.append(
            ClassOverTime(
                service=service, name=name, step_s=step_s,
                operations_per_s=_per_s(done, "count", steps, step_s), errors_per_s=_per_s(failed, "count", steps, step_s),
                bytes_per_s=_per_s(done, "size_bytes", steps, step_s),
                p50_s=_floats(p50_s), p99_s=_floats(p99_s), max_s=_floats(max_s),
            )
        )  # fmt: skip
    return found


def node_shares(operations: Frame, started_ns: int, step_s: float = 1.0) -> list[ShareOverTime]:
    """Return the share of every node that answered, by service and name. See `classes_over_time`."""
    return _shares(operations, "node", started_ns, step_s, None)


def busiest_source_shares(operations: Frame, started_ns: int, step_s: float = 1.0) -> list[ShareOverTime]:
    """Return the share of the busiest source of each service. See `classes_over_time`."""
    return _shares(operations, "source", started_ns, step_s, 1)


def source_shares(operations: Frame) -> dict[str, float]:
    """Return the share (0 to 1) of each source in all operations of a frame, as SPREAD-1 lists them."""
    counts = operations.lazy().group_by("source").len().collect()
    total = int(counts["len"].sum())
    return {str(source): count / total for source, count in counts.iter_rows()}


def enclosing_places(n: int, share: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Return which order statistics of n values, counted from 0, enclose the true quantile, whatever the distribution.

    The k-th smallest lies above the quantile with the chance that a binomial variable of n trials and chance `share` is below
    k (David and Nagaraja, Order Statistics, 7.1). Each end is beyond it by a chance of (1 - confidence) / 2 at most; None
    for an end that n is too small for. Only the binomial chances within 12 standard deviations are summed: beyond lie less
    than 1e-30.
    """
    reach = 12 * math.sqrt(n * share * (1 - share)) + 50
    first, last = max(0, math.floor(n * share - reach)), min(n, math.ceil(n * share + reach))
    k = np.arange(first, last + 1, dtype=np.float64)
    begin = math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
    begin += first * math.log(share) + (n - first) * math.log1p(-share)
    growth = np.log((n - k[:-1]) / (k[:-1] + 1)) + math.log(share) - math.log1p(-share)
    at_most = np.cumsum(np.exp(begin + np.concatenate(([0.0], np.cumsum(growth)))))  # P(Binomial <= k)
    chance = (1 - confidence) / 2
    low = first + int(np.searchsorted(at_most, chance, side="right"))  # P(Binomial < low) is still small enough
    high = first + int(np.searchsorted(at_most, 1 - chance)) + 1  # P(Binomial < high) is large enough
    return (low - 1 if low >= 1 else None), (high - 1 if high <= n else None)


def _class_latency(code: int, latency_ns: Times, failed: int) -> ClassLatency:
    service, name = _class_of(code)
    p50_s, p90_s, p95_s, p99_s, p999_s = (_quantile_s(latency_ns, share) for share in (0.5, 0.9, 0.95, 0.99, 0.999))
    low, high = enclosing_places(len(latency_ns), 0.99)
    return ClassLatency(
        service=service, name=name, n=len(latency_ns), failed=failed,
        p50_s=p50_s, p90_s=p90_s, p95_s=p95_s, p99_s=p99_s, p999_s=p999_s, max_s=float(latency_ns[-1] / 1e9),
        p99_interval_s=(
            None if low is None else float(latency_ns[low] / 1e9), None if high is None else float(latency_ns[high] / 1e9),
        ),
        curve=_curve(latency_ns),
    )  # fmt: skip


def _quantile_s(sorted_ns: Times, share: float) -> float:
    return float(sorted_ns[max(math.ceil(len(sorted_ns) * share), 1) - 1] / 1e9)


def _curve(sorted_ns: Times) -> tuple[tuple[float, float], ...]:
    """Return points at equal distances of log 1 / (1 - p), down to the last value but one."""
    decades = math.log10(len(sorted_ns))
    steps = range(math.floor(decades * _CURVE_POINTS_A_DECADE) + 1)
    shares = sorted({1 - 10 ** (-step / _CURVE_POINTS_A_DECADE) for step in steps} - {1.0})
    return tuple((share, _quantile_s(sorted_ns, share)) for share in shares)


def _timed(operations: Frame, started_ns: int, step_s: float | None) -> pl.LazyFrame:
    """Return for each operation its class, whether it was acknowledged, its latency, and (with `step_s`) its step."""
    is_large = (
        (pl.col("service") == int(Service.DICOM))
        & (pl.col("kind") == int(Kind.INSTANCE))
        & (pl.col("size_bytes") > LARGE_BYTES)
    )
    timed = operations.lazy().with_columns(
        code=(pl.col("service").cast(pl.UInt16) * 512 + pl.col("kind").cast(pl.UInt16) * 2 + is_large.cast(pl.UInt16)),
        done=pl.col("outcome") == int(Outcome.ACKNOWLEDGED),
        latency_ns=pl.col("ended_ns") - pl.col("intended_ns"),
    )
    if step_s is None:
        return timed
    step = (pl.col("ended_ns") - started_ns) // round(step_s * 1e9)
    return timed.filter(pl.col("ended_ns") >= started_ns).with_columns(step=step.cast(pl.UInt16))


def _collected(timed: pl.LazyFrame) -> pl.DataFrame:
    try:
        return timed.collect()
    except pl.exceptions.InvalidOperationError as error:  # the number of a step does not fit
        raise ValueError(f"step_s: expected a run of at most {MOST_STEPS} steps, found more: take longer ones") from error


def _by_class(timed: pl.DataFrame) -> Iterator[tuple[int, Times]]:
    """Yield each class's number, in order, and the values of the second column that belong to it."""
    for code in timed["code"].unique().sort().to_list():
        yield code, timed.lazy().filter(pl.col("code") == code).select(timed.columns[1]).collect().to_series().to_numpy()


def _class_of(code: int) -> tuple[Service, str]:
    service = Service(code >> 9)
    return service, class_name(service, Kind(code >> 1 & 0xFF), is_large=bool(code & 1))


def class_name(service: Service, kind: Kind, *, is_large: bool = False) -> str:
    """Return what a class of operations is called; `is_large` for an image above 1 MiB."""
    if kind is Kind.INSTANCE:
        return _LARGE_IMAGE if is_large else _SMALL_IMAGE
    return _NAMES.get((service, kind), f"{service.name} {kind.name.lower().replace('_', ' ')}")


def _quantiles_of_steps(sortable: Times, steps: int) -> Sequence[npt.NDArray[np.float64]]:
    """Return the median, p99 and maximum of each step, nan where there was none.

    A step's number and a latency make one number of 64 bits: once these are sorted, each step's latencies lie side by side,
    in order.
    """
    ordered = np.sort(sortable)
    begin = np.searchsorted(ordered, np.arange(steps + 1) << _LATENCY_BITS)
    counts = np.diff(begin)
    seen = counts > 0
    found = []
    for share in (0.5, 0.99, 1.0):
        place = begin[:-1] + np.maximum(np.ceil(counts * share).astype(np.int64), 1) - 1
        of_step = np.full(steps, np.nan)
        of_step[seen] = (ordered[place[seen]] & _LATENCY) / 1e9
        found.append(of_step)
    return found


def _per_s(counts: pl.DataFrame, column: str, steps: int, step_s: float) -> tuple[float, ...]:
    return _floats(np.bincount(counts["step"].to_numpy(), counts[column].to_numpy(), steps) / step_s)


def _shares(operations: Frame, column: str, started_ns: int, step_s: float, busiest: int | None) -> list[ShareOverTime]:
    """Return the shares of the words of a column, all of them or the busiest few of each service."""
    answered = _collected(_timed(operations, started_ns, step_s).filter("done").select("service", column, "step"))
    steps = int(answered["step"].max()) + 1 if answered.height else 0  # type: ignore[arg-type]
    found = []
    for service in answered["service"].unique().sort().to_list():
        own = answered.filter(pl.col("service") == service)
        words = own.group_by(column).len().with_columns(pl.col(column).cast(pl.String))
        words = words.sort(["len", column], descending=[True, False]).head(busiest if busiest is not None else words.height)
        named = sorted(words[column].to_list())
        counts = _counts_of_steps(own, column, named, steps)
        of_step = counts.sum(axis=0)
        for name, count in zip(named, counts, strict=False):
            share = np.divide(count, of_step, out=np.full(steps, np.nan), where=of_step > 0)
            whole = float(count.sum() / of_step.sum())
            found.append(
                ShareOverTime(service=Service(service), name=name, step_s=step_s, share=_floats(share), whole_share=whole)
            )
    return found


def _counts_of_steps(own: pl.DataFrame, column: str, words: Sequence[str], steps: int) -> npt.NDArray[np.int64]:
    """Return how often each word of a column occurs in each step, and in a last row how often any other does."""
    distinct = own[column].unique()
    codes = distinct.to_physical().to_numpy()
    row_of_code = np.full(int(codes.max()) + 1, len(words))
    row_of_code[codes] = [words.index(word) if word in words else len(words) for word in distinct.to_list()]
    place = row_of_code[own[column].to_physical().to_numpy()] * steps + own["step"].to_numpy()
    return np.bincount(place, minlength=(len(words) + 1) * steps).reshape(len(words) + 1, steps)


def _floats(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(map(float, values))
