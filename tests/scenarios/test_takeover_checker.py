"""PAIR-3: a handwritten failure of the active unit, as the clients of one VIP saw it."""

from __future__ import annotations

import msgspec
import pytest

from scenarios.checkers.takeover import Takeover, judge_takeover, takeover_of
from scenarios.findings import Finding
from scenarios.takeovers import HolderSample, UnitEpisode, Visitor
from simulators.operations import Operation, Outcome
from tests.scenarios.conftest import SECOND, History, operation, receipt

PROBE, ROUTED_PROBE, ONE, TWO = "10.0.0.200", "198.18.0.1", "10.0.0.201", "198.18.0.2"
TENTH = SECOND // 10
EPISODE = UnitEpisode(
    workload=1, how="killed", victim="lb-1", survivor="lb-2", called_ns=10 * SECOND, begun_ns=10 * SECOND + TENTH,
    revisited_ns=13 * SECOND, ending_ns=15 * SECOND, ended_ns=16 * SECOND, observed_ns=20 * SECOND,
    visitors=(
        Visitor(PROBE, "HL7", "local", is_probe=True), Visitor(ROUTED_PROBE, "HL7", "routed", is_probe=True),
        Visitor(ONE, "HL7", "local"), Visitor(TWO, "HL7", "routed"),
    ),
    holders=(HolderSample(9 * SECOND, ("lb-1",)), HolderSample(12 * SECOND, ("lb-2",))),
    entries_before={"HL7": {ONE: "n1", TWO: "n2"}}, entries_after={"HL7": {ONE: "n1", TWO: "n2", "10.0.0.9": "n1"}},
    generator_lag_s=0,
)  # fmt: skip


def probed(key: int, source: str, *gone_s: float) -> list[Operation]:
    """Return answers to a probe every tenth of a second, but for those that end between two moments."""
    begin, end = gone_s
    moments = [at * TENTH for at in range(80, 160) if not begin < at / 10 < end]
    return [
        operation(key + number, source=source, begun_ns=at - TENTH // 2, ended_ns=at, node=b"n1")
        for number, at in enumerate(moments)
    ]


def visited(key: int, source: str, at_s: float, node: str, **changes: object) -> Operation:
    at = int(at_s * SECOND)
    return operation(key, source=source, begun_ns=at, ended_ns=at + TENTH, node=node.encode(), **changes)


VISITS = [
    visited(1001, ONE, 5, "n1"),
    visited(1002, TWO, 5, "n2"),
    visited(1003, ONE, 13, "n1"),
    visited(1004, TWO, 13.5, "n2"),
]


def taken_over(history: History, journal: History, operations: list[Operation], lost: tuple[int, ...] = ()) -> Takeover:
    stored = [one for one in operations if one.outcome == Outcome.ACKNOWLEDGED]
    receipts = journal(*(receipt(one.key) for one in stored if one.key not in lost))
    return takeover_of("HL7", EPISODE, history(*operations), history(*operations), receipts)


def judge(*takeovers: Takeover, lag_s: float = 0.0) -> Finding:
    return judge_takeover(
        "HL7", takeovers, {"killed": 1.5}, ("killed",), sources_at_least=2, generator_lag_s=lag_s, lag_limit_s=1
    )


@pytest.fixture
def operations() -> list[Operation]:
    return [*probed(1, PROBE, 10, 11.2), *probed(201, ROUTED_PROBE, 10, 11.0), *VISITS]


def test_a_takeover_in_time_that_keeps_everything_passes(
    history: History, journal: History, operations: list[Operation]
) -> None:
    waiting = visited(2000, "10.0.0.9", 9.9, "n1", outcome=Outcome.INDETERMINATE)._replace(ended_ns=12 * SECOND)
    found = taken_over(history, journal, [*operations, waiting])
    assert found.outage_s == {"local": 1.2, "routed": 1.0}
    assert (found.entries_kept, found.entries, found.sources_kept, found.sources) == (2, 2, 2, 2)
    assert (found.waiting, found.indeterminate, found.lost) == (1, 1, 0)
    finding = judge(found)
    assert finding.verdict == "pass"
    assert "VRRP stands in" in finding.reason


def test_a_long_outage_on_one_side_fails_and_so_does_one_that_never_ends(history: History, journal: History) -> None:
    late = judge(taken_over(history, journal, [*probed(1, PROBE, 10, 11), *probed(201, ROUTED_PROBE, 10, 12.6), *VISITS]))
    assert (late.verdict, late.subject) == ("fail", "balancer")
    assert "lb-1 killed: without an answer for 2.60 s to routed clients, the limit is 1.5 s" in late.reason
    never = judge(taken_over(history, journal, [*probed(1, PROBE, 10, 11), *probed(201, ROUTED_PROBE, 10, 99), *VISITS]))
    assert "no answer to routed clients any more" in never.reason


def test_an_outage_that_a_busy_machine_may_have_made_longer_is_unknown(history: History, journal: History) -> None:
    late = taken_over(history, journal, [*probed(1, PROBE, 10, 11.6), *probed(201, ROUTED_PROBE, 10, 11), *VISITS])
    assert judge(late).verdict == "fail"
    lagged = judge(msgspec.structs.replace(late, generator_lag_s=0.2))
    assert (lagged.verdict, lagged.reason) == (
        "unknown",
        "lb-1 killed: without an answer for 1.60 s to local clients, the limit is 1.5 s; but the harness itself woke up "
        "0.20 s late",
    )
    assert judge(msgspec.structs.replace(late, generator_lag_s=0.05)).verdict == "fail"
    crowded = judge(msgspec.structs.replace(late, runnable_per_core=30.0))
    assert (crowded.verdict, "30 processes wanted each core" in crowded.reason) == ("unknown", True)
    assert judge(msgspec.structs.replace(late, runnable_per_core=30.0, lost=1)).verdict == "fail"


def test_a_unit_that_nobody_takes_over_from_is_told_so_and_no_more(history: History, journal: History) -> None:
    gone = taken_over(history, journal, [*probed(1, PROBE, 10, 99), *probed(201, ROUTED_PROBE, 10, 99), *VISITS[:2]])
    assert judge(msgspec.structs.replace(gone, has_effect=False)).reason == (
        "lb-1 killed: the other unit did not take over: no answer to local and routed clients any more"
    )


def test_a_source_that_meets_another_node_fails(history: History, journal: History, operations: list[Operation]) -> None:
    moved = [*operations[:-1], visited(1004, TWO, 13.5, "n1")]
    assert (
        "1 of 2 sources met another node, such as 198.18.0.2: n2 then n1" in judge(taken_over(history, journal, moved)).reason
    )
    absent = judge(taken_over(history, journal, operations[:-1]))
    assert (absent.verdict, "1 of 2 sources were not answered again" in absent.reason) == ("fail", True)


def test_a_lost_entry_and_a_lost_message_fail(history: History, journal: History, operations: list[Operation]) -> None:
    lost = taken_over(history, journal, operations, lost=(5,))
    assert "lb-1 killed: 1 lost" in judge(lost).reason
    without = msgspec.structs.replace(taken_over(history, journal, operations), entries_kept=1)
    assert "1 of 2 entries were lost or lead elsewhere" in judge(without).reason


def test_an_older_entry_that_was_never_taught_is_told_and_a_new_one_fails(
    history: History, journal: History, operations: list[Operation]
) -> None:
    stale = msgspec.structs.replace(EPISODE, entries_before={"HL7": {ONE: "n1", TWO: "n2", "10.0.0.9": "n2"}})
    seen = history(*operations)
    receipts = journal(*(receipt(one.key) for one in operations))
    found = takeover_of("HL7", stale, seen, seen, receipts)
    assert (found.entries, found.entries_kept, found.older_entries, found.older_entries_kept) == (2, 2, 1, 0)
    finding = judge(found)
    assert finding.verdict == "pass"
    assert "that the other unit did not have: 1 of 1 (killed)" in finding.reason
    came = history(*operations, visited(3000, "10.0.0.9", 6, "n2"))
    new = takeover_of("HL7", stale, came, came, journal(*(receipt(one.key) for one in operations), receipt(3000)))
    assert "1 of 3 entries were lost" in judge(new).reason


def test_what_was_not_seen_is_unknown(history: History, journal: History, operations: list[Operation]) -> None:
    whole = taken_over(history, journal, operations)
    assert judge(msgspec.structs.replace(whole, has_effect=False)).verdict == "unknown"
    assert judge(msgspec.structs.replace(whole, sources=1, sources_kept=1)).verdict == "unknown"
    assert judge(msgspec.structs.replace(whole, finest_s=1.0)).verdict == "unknown"
    assert judge(whole, lag_s=2).verdict == "unknown"
    assert judge().verdict == "unknown"


def test_an_empty_history_is_no_pass(history: History, journal: History) -> None:
    assert judge(taken_over(history, journal, [])).verdict != "pass"
