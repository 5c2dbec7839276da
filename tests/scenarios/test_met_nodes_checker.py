from scenarios.checkers.met_nodes import met_as_expected
from scenarios.findings import failed, passed
from simulators.operations import Operation, Outcome, packed_address
from tests.scenarios.conftest import History, operation

HELD = passed("carried")
BOTH = ("n1", "n2")


def said(number: int, source: int, node: str, **fields: object) -> Operation:
    return operation(number, source=packed_address(f"127.1.0.{source}"), node=node.encode(), **fields)


def spread(sources: int = 10) -> list[Operation]:
    return [said(number, 1 + number % sources, BOTH[number % sources % 2]) for number in range(sources * 5)]


def test_sources_that_stay_on_the_nodes_that_are_there_keep_the_pass(history: History) -> None:
    finding = met_as_expected(HELD, history(*spread()), BOTH)
    assert finding.verdict == "pass"
    assert finding.measured["sources_by_node"] == {"n1": 5, "n2": 5}


def test_a_source_that_meets_two_nodes_fails(history: History) -> None:
    finding = met_as_expected(HELD, history(*spread(), said(900, 1, "n2")), BOTH)
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert "1 of 10 sources met several nodes: 127.1.0.1 met n1, n2" in finding.reason


def test_a_node_without_any_source_fails(history: History) -> None:
    finding = met_as_expected(HELD, history(*[said(n, 1 + n, "n1") for n in range(10)]), BOTH)
    assert (finding.verdict, "none was led to n2" in finding.reason) == ("fail", True)


def test_three_lines_may_all_be_on_one_node(history: History) -> None:
    assert met_as_expected(HELD, history(*[said(n, 1 + n, "n1") for n in range(3)]), BOTH).verdict == "pass"


def test_a_halted_node_that_is_met_fails(history: History) -> None:
    finding = met_as_expected(HELD, history(*spread()), ("n2",))
    assert (finding.verdict, "led to n1, which was not to be met" in finding.reason) == ("fail", True)


def test_what_was_refused_met_nobody_and_nothing_observed_is_no_pass(history: History) -> None:
    refused = [said(n, 1 + n, "n1", outcome=Outcome.REFUSED) for n in range(10)]
    assert met_as_expected(HELD, history(*refused), BOTH).verdict == "unknown"
    assert met_as_expected(HELD, history(), BOTH).verdict == "unknown"


def test_a_failure_stays_one_and_is_told_the_nodes(history: History) -> None:
    finding = met_as_expected(failed("node", "slow"), history(*spread()), BOTH)
    assert (finding.verdict, finding.reason, finding.measured["sources"]) == ("fail", "slow", 10)
