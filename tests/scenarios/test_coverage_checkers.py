from scenarios.checkers.coverage import Trial, resent_in, through_every_trial
from scenarios.checkers.swiftness import within_limit
from scenarios.findings import failed, passed
from simulators.operations import Operation, Outcome
from tests.scenarios.conftest import SECOND, History, operation

DIED = Trial("node died", 1)
HELD = passed("held", measured={"acknowledged": 100})


def many(count: int, workload: int, **fields: object) -> list[Operation]:
    return [operation(workload * 1000 + n, workload=workload, **fields) for n in range(count)]


def test_enough_in_every_fault_stays_a_pass(history: History) -> None:
    finding = through_every_trial(HELD, history(*many(20, 1)), [DIED])
    assert (finding.verdict, finding.measured["acknowledged_in_each_trial"]) == ("pass", {"node died": 20})


def test_quiet_times_alone_prove_nothing(history: History) -> None:
    assert through_every_trial(HELD, history(*many(500, 2)), [DIED]).verdict == "unknown"
    refused = many(500, 1, outcome=Outcome.REFUSED)
    assert through_every_trial(HELD, history(*refused), [DIED]).verdict == "unknown"
    assert through_every_trial(HELD, history(), []).verdict == "unknown"


def test_a_failure_stays_a_failure(history: History) -> None:
    assert through_every_trial(failed("node", "1 lost"), history(), [DIED]).verdict == "fail"


def test_order_needs_something_that_was_sent_again(history: History) -> None:
    assert resent_in(HELD, history(*many(20, 1)), [DIED]).verdict == "unknown"
    assert resent_in(HELD, history(*many(20, 1), operation(5, workload=1, attempt=2)), [DIED]).verdict == "pass"


def test_a_slow_operation_fails_and_a_large_one_may_take_longer(history: History) -> None:
    quick, slow = operation(1, ended_ns=SECOND), operation(2, ended_ns=11 * SECOND)
    assert within_limit(HELD, history(quick), 10).verdict == "pass"
    finding = within_limit(HELD, history(quick, slow), 10)
    assert (finding.verdict, finding.measured["slowest_operation_s"]) == ("fail", 11.0)
    assert within_limit(HELD, history(quick, slow._replace(size_bytes=2 << 20)), 10).verdict == "pass"


def test_no_timed_operation_is_unknown(history: History) -> None:
    assert within_limit(HELD, history(), 10).verdict == "unknown"
