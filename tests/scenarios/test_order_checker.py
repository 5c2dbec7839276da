from scenarios.checkers.order import judge_order
from simulators.operations import Operation, Outcome
from tests.scenarios.conftest import SECOND, History, operation, receipt


def said(key: int, at_s: int, **fields: object) -> Operation:
    """One message of patient 50, said from one second to the next."""
    return operation(key, patient=50, begun_ns=at_s * SECOND, ended_ns=(at_s + 1) * SECOND, **fields)


def test_messages_applied_one_after_the_other_pass(history: History, journal: History) -> None:
    receipts = journal(*(receipt(key, received_ns=key * SECOND + 5) for key in (1, 2, 3)))
    finding = judge_order(history(said(1, 1), said(2, 2), said(3, 3)), receipts, at_least=2)
    assert (finding.verdict, finding.measured["messages_followed"]) == ("pass", 2)


def test_a_copy_applied_after_a_later_acknowledgement_fails(history: History, journal: History) -> None:
    receipts = journal(
        receipt(1, received_ns=1 * SECOND + 5), receipt(2, received_ns=2 * SECOND + 5), receipt(1, received_ns=9 * SECOND)
    )
    finding = judge_order(history(said(1, 1), said(2, 2)), receipts, at_least=1)
    assert (finding.verdict, finding.subject, finding.measured["applied_late"]) == ("fail", "node", 1)
    assert "7.0 s late" in finding.reason


def test_a_swap_over_two_messages_is_seen(history: History, journal: History) -> None:
    """The next message was never acknowledged; the one after it was."""
    lost = said(2, 2, outcome=Outcome.INDETERMINATE)
    receipts = journal(receipt(1, received_ns=8 * SECOND), receipt(3, received_ns=3 * SECOND + 5))
    assert judge_order(history(said(1, 1), lost, said(3, 3)), receipts, at_least=1).verdict == "fail"


def test_a_copy_applied_just_after_a_later_one_was_taken_fails(history: History, journal: History) -> None:
    """The client has not read the later acknowledgement yet, but the node has given it."""
    receipts = journal(receipt(2, received_ns=2 * SECOND + 5), receipt(1, received_ns=2 * SECOND + 6))
    assert judge_order(history(said(1, 1), said(2, 2)), receipts, at_least=1).verdict == "fail"


def test_patients_do_not_disturb_each_other(history: History, journal: History) -> None:
    other = operation(9, patient=51, begun_ns=3 * SECOND, ended_ns=4 * SECOND)
    receipts = journal(
        receipt(1, received_ns=1 * SECOND + 5), receipt(2, received_ns=8 * SECOND), receipt(9, received_ns=3 * SECOND + 5)
    )
    assert judge_order(history(said(1, 1), said(2, 2), other), receipts, at_least=1).verdict == "pass"


def test_a_resend_before_the_acknowledgement_is_in_order(history: History, journal: History) -> None:
    first = said(1, 1, outcome=Outcome.INDETERMINATE)
    again = said(1, 2, attempt=2)
    receipts = journal(
        receipt(1, received_ns=1 * SECOND + 5), receipt(1, received_ns=2 * SECOND + 5), receipt(2, received_ns=3 * SECOND + 5)
    )
    assert judge_order(history(first, again, said(2, 3)), receipts, at_least=1).verdict == "pass"


def test_a_generator_that_overlaps_messages_makes_it_unknown(history: History, journal: History) -> None:
    receipts = journal(receipt(1, received_ns=5), receipt(2, received_ns=6))
    overlapping = operation(2, patient=50, begun_ns=SECOND // 2, ended_ns=2 * SECOND)
    finding = judge_order(history(operation(1, patient=50), overlapping), receipts, at_least=1)
    assert finding.verdict == "unknown"


def test_an_empty_history_is_unknown(history: History, journal: History) -> None:
    assert judge_order(history(), journal(), at_least=1).verdict == "unknown"
