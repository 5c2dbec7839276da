import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from lbconfig.traffic_log import Connection, parse_line
from scenarios.checkers.soak import judge_soak
from scenarios.findings import Finding
from scenarios.load.records import WaitedFor
from scenarios.load_runs.parts_seen import PartsSeen, ProcessSeen
from scenarios.load_runs.trend import slope
from simulators.operations import SEQUENCE_BITS, Operation, Outcome, Phase
from tests.scenarios.conftest import SECOND, History
from tests.scenarios.load_histories import MS, VIP, arrival, balancer, messages, process, written

LASTED_S = 1800
MIB = 1 << 20
SECONDS = range(1, LASTED_S + 1)


def lasting(part: str, rss: Sequence[int] = ()) -> ProcessSeen:
    return process(part, seconds=SECONDS, rss=rss or [60 * MIB] * LASTED_S)


def soaked(*processes: ProcessSeen, rss: Sequence[int] = (9 * MIB,) * LASTED_S) -> PartsSeen:
    flat = (lasting("generator/1"), lasting("node/n1/hl7"), lasting("node/n2/hl7"))
    given = {one.part for one in processes}
    return PartsSeen(
        processes=(*processes, *(one for one in flat if one.part not in given)), balancer=balancer(seconds=LASTED_S, rss=rss)
    )


def connection(end: str, client: str = "127.1.0.1:1000") -> Connection:
    entry = parse_line(
        f"{client} [23/Nov/2026:10:00:00.000] HL7 HL7/HL71 0/3/90 120 {end} 4/4/3/2/0 0/0 "
        "300 127.0.110.10:5000 127.0.110.21:6667 1790000000"
    )
    assert isinstance(entry, Connection)
    return entry


CLEAN = [connection("--")] * 5 + [connection("CD")]


EVERY_S = 18


def soaking(count: int = 100, *, every_s: int = EVERY_S) -> list[Operation]:
    """Return one message every 18 seconds, the first after 5."""
    plain = messages(count)
    return [
        one._replace(intended_ns=at, begun_ns=at, ended_ns=at + 5 * MS)
        for place, one in enumerate(plain)
        if (at := (5 + place * every_s) * SECOND)
    ]


def judged(
    history: History, seen: PartsSeen, *, operations: Sequence[Operation] | None = None, lasted_s: int = LASTED_S,
    connections: Sequence[Connection] | None = CLEAN, intended: int | None = None, generators: Sequence[int] = (1,),
    late: int = 0,
) -> Finding:  # fmt: skip
    """Judge a soak each of whose arrivals is one of the operations, played by the generators in turn."""
    done = soaking() if operations is None else operations
    due = history_arrivals(done, generators, late)
    return judge_soak(
        VIP, history(*done), due, seen, intended=len(done) if intended is None else intended, connections=connections,
        begun_ns=0, ended_ns=lasted_s * SECOND,
    )  # fmt: skip


def history_arrivals(done: Sequence[Operation], generators: Sequence[int], late: int) -> pl.DataFrame:
    """Return an arrival for each operation; the generator itself was late with the first `late` of them."""
    with tempfile.TemporaryDirectory() as directory:
        return written(
            Path(directory),
            [
                arrival(
                    0,
                    generator=generators[n % len(generators)],
                    intended_ns=one.intended_ns,
                    begun_ns=one.begun_ns,
                    waited_for=WaitedFor.GENERATOR if n < late else WaitedFor.NOTHING,
                )
                for n, one in enumerate(done)
            ],
        )


def test_thirty_minutes_of_flat_memory_pass(history: History) -> None:
    finding = judged(history, soaked())
    assert finding.verdict == "pass"
    seen = finding.measured["memory"]["node/n1/hl7 (100)"]
    assert (seen["rss_bytes"], seen["growth_bytes_a_day"]) == (60 * MIB, 0)
    assert seen["growth_interval_bytes_a_day"][1] == pytest.approx(96 * MIB, rel=0.01)  # one piece of 1 MiB in 15 minutes
    assert finding.measured["connection_ends"] == {"--": 5, "CD": 1}


@pytest.mark.parametrize(("part", "subject"), [("node/n2/hl7", "node"), ("generator/1", "harness")])
def test_a_process_that_grows_by_a_kilobyte_for_each_of_ten_operations_a_second_fails(
    history: History, part: str, subject: str
) -> None:
    growing = [60 * MIB + second * 10 * 1024 for second in SECONDS]
    finding = judged(history, soaked(lasting(part, growing)))
    assert (finding.verdict, finding.subject) == ("fail", subject)
    assert f"memory grows: {part} (78 MiB) by +843.8 MiB a day" in finding.reason


def test_a_balancer_that_grows_fails(history: History) -> None:
    finding = judged(history, soaked(rss=[9 * MIB + second * 8192 for second in SECONDS]))
    assert (finding.verdict, finding.subject) == ("fail", "balancer")


def test_growth_in_the_first_half_alone_is_a_cache_that_fills(history: History) -> None:
    filling = [60 * MIB + min(second, 600) * 65536 for second in SECONDS]
    assert judged(history, soaked(lasting("node/n1/hl7", filling))).verdict == "pass"


def test_a_process_of_another_vip_is_another_vip_s(history: History) -> None:
    growing = [60 * MIB + second * 65536 for second in SECONDS]
    assert judged(history, soaked(lasting("node/n1/dicom", growing))).verdict == "pass"


def test_a_soak_that_was_too_short_to_see_growth_is_unknown(history: History) -> None:
    finding = judged(history, soaked(), lasted_s=600)
    assert (finding.verdict, "too short to tell whether memory grows" in finding.reason) == ("unknown", True)


def test_half_a_load_is_no_soak(history: History) -> None:
    finding = judged(history, soaked(), intended=200)
    assert finding.verdict == "unknown"
    assert "100 arrivals were recorded, of 200 that were intended" in finding.reason


@pytest.mark.parametrize(("operations", "tenths"), [(soaking(1), 9), (soaking(every_s=1), 9), (soaking(50), 5)])
def test_a_soak_that_was_idle_for_a_tenth_of_the_time_is_unknown(
    history: History, operations: list[Operation], tenths: int
) -> None:
    finding = judged(history, soaked(), operations=operations)
    assert (finding.verdict, f"nothing was done in {tenths} tenths of the time" in finding.reason) == ("unknown", True)


def test_a_log_without_a_connection_is_no_log(history: History) -> None:
    finding = judged(history, soaked(), connections=[])
    assert (finding.verdict, "names no connection of this time" in finding.reason) == ("unknown", True)


def test_the_memory_of_the_balancer_must_be_seen(history: History) -> None:
    finding = judged(history, PartsSeen(processes=soaked().processes))
    assert (finding.verdict, finding.reason) == ("unknown", "memory was not seen of the balancer")


def test_every_generator_must_be_seen(history: History) -> None:
    finding = judged(history, soaked(), generators=(1, 2))
    assert (finding.verdict, finding.reason) == ("unknown", "a generator was not seen: generator/2 left no pulse")


def test_a_client_that_got_no_connection_is_the_failure_of_the_balancer(history: History) -> None:
    refused = soaking()[50]._replace(outcome=Outcome.REFUSED, phase=Phase.CONNECT)
    finding = judged(history, soaked(), operations=[*soaking()[:50], refused, *soaking()[51:]])
    assert (finding.verdict, finding.subject) == ("fail", "balancer")


def test_nothing_observed_is_unknown(history: History) -> None:
    assert judged(history, soaked(), operations=[]).verdict == "unknown"
    assert judged(history, PartsSeen()).verdict == "unknown"


def test_a_node_whose_memory_was_not_seen_leaves_it_open(history: History) -> None:
    seen = PartsSeen(
        processes=tuple(one for one in soaked().processes if one.part != "node/n2/hl7"), balancer=soaked().balancer
    )
    finding = judged(history, seen)
    assert (finding.verdict, finding.reason) == ("unknown", "memory was not seen of HL72")


def test_an_unread_log_may_hide_aborts(history: History) -> None:
    assert judged(history, soaked(), connections=None).verdict == "unknown"


def test_every_failed_operation_is_listed(history: History) -> None:
    lost = soaking()[50]._replace(outcome=Outcome.INDETERMINATE, phase=Phase.RESPONSE)
    finding = judged(history, soaked(), operations=[*soaking()[:50], lost, *soaking()[51:]])
    assert finding.verdict == "fail"
    assert finding.measured["failed"] == ["indeterminate in response, key 51, 900.0 s into the run"]


def test_a_generator_that_fell_behind_soaked_nothing(history: History) -> None:
    finding = judged(history, soaked(), late=20)
    assert finding.verdict == "unknown"
    assert "20 of 100 arrivals began late though a client was free" in finding.reason


def test_a_failure_beside_a_generator_that_fell_behind_may_be_its_own(history: History) -> None:
    broken = [one._replace(outcome=Outcome.REFUSED) if n == 50 else one for n, one in enumerate(soaking())]
    assert judged(history, soaked(), operations=broken).verdict == "fail"
    finding = judged(history, soaked(), operations=broken, late=20)
    assert finding.verdict == "unknown"
    assert "1 of 100 operations failed" in finding.reason
    assert "the generator fell behind" in finding.reason


def test_a_connection_that_was_cut_without_a_reason_fails(history: History) -> None:
    finding = judged(history, soaked(), connections=[*CLEAN, connection("sD"), connection("sD")])
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert "2 ended sD" in finding.reason


def reconnected(place: int) -> list[Operation]:
    """Return messages of one line that uses another connection from a place on."""
    done = soaking()
    return [*done[:place], *(one._replace(session=2, source_port=1001) for one in done[place:])]


@pytest.mark.parametrize(
    ("end", "subject"), [("CD", "network"), ("--", "node"), (None, "network")], ids=["client", "in order", "unseen"]
)
def test_a_line_that_was_cut_while_it_was_idle_fails_whatever_the_log_calls_it(
    history: History, end: str | None, subject: str
) -> None:
    logged = [connection(end)] if end else []
    finding = judged(
        history, soaked(), operations=reconnected(50), connections=[*logged, connection("--", "127.1.0.1:1001")]
    )  # fmt: skip
    assert (finding.verdict, finding.subject) == ("fail", subject)
    assert "1 connections were cut while their clients kept them: 127.1.0.1:1000" in finding.reason
    assert finding.measured["connections_cut"] == 1


def test_a_line_that_another_generator_goes_on_with_was_not_cut(history: History) -> None:
    done = [one._replace(key=one.key + (1 << SEQUENCE_BITS)) for one in reconnected(50)[50:]]
    assert judged(history, soaked(), operations=[*soaking()[:50], *done], connections=CLEAN).verdict == "pass"


def test_a_client_that_hung_up_and_did_nothing_before_is_none_of_ours(history: History) -> None:
    finding = judged(history, soaked(), connections=[*CLEAN, connection("CD", "127.1.0.1:4711")])
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert "1 ended CD" in finding.reason


def test_a_slope_of_a_straight_line_is_exact() -> None:
    seen = slope([float(second) for second in range(240)], [3.0 * second for second in range(240)])
    assert seen is not None
    assert (seen.per_s, seen.low_per_s, seen.high_per_s, seen.blocks) == pytest.approx((3.0, 3.0, 3.0, 24))


def test_a_single_spike_moves_no_slope() -> None:
    values = [5.0] * 240
    values[100] = 1e9
    seen = slope([float(second) for second in range(240)], values)
    assert seen is not None
    assert (seen.per_s, seen.low_per_s, seen.high_per_s) == (0, 0, 0)


def test_a_single_step_widens_the_interval_and_keeps_zero_in_it() -> None:
    seen = slope([float(second) for second in range(240)], [5.0] * 120 + [6.0] * 120)
    assert seen is not None
    assert seen.low_per_s == 0 < seen.high_per_s


def test_too_few_points_have_no_slope() -> None:
    assert slope([0.0, 1.0], [1.0, 2.0]) is None
    assert slope([0.0] * 12 + [1.0] * 12, [1.0] * 24) is None
