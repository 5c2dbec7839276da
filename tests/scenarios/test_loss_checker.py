from scenarios.checkers.loss import judge_loss, judge_visible
from simulators.operations import Outcome
from tests.scenarios.conftest import B, History, operation, receipt


def test_everything_acknowledged_and_stored_once_passes(history: History, journal: History) -> None:
    finding = judge_loss(
        history(*map(operation, range(1, 4))), journal(*map(receipt, range(1, 4))), at_least=3, payload="messages"
    )
    assert finding.verdict == "pass"
    assert finding.measured["acknowledged"] == 3
    assert finding.measured["loss_rate_upper_bound_95"] == round(1 - 0.05 ** (1 / 3), 6)


def test_the_bound_of_a_very_small_loss_rate_is_never_rounded_to_nothing() -> None:
    orders = {str(number) for number in range(300_000)}
    finding = judge_visible(orders, orders, {"DMWL1": orders}, places_required=1, at_least=1)
    assert finding.measured["loss_rate_upper_bound_95"] == 9.99e-06


def test_what_was_stored_and_never_sent_counts_once_however_often_it_was_stored(history: History, journal: History) -> None:
    strange = [receipt(9), receipt(2**44 + 1), receipt(9), receipt(2**57)]
    finding = judge_loss(history(operation(1)), journal(receipt(1), *strange), at_least=1, payload="messages")
    assert finding.measured["unexpected"] == 3


def test_the_digest_of_an_attempt_without_a_payload_does_not_count(history: History, journal: History) -> None:
    refused = operation(1, outcome=Outcome.REFUSED, size_bytes=0, digest=bytes(16))
    finding = judge_loss(history(operation(1), refused), journal(receipt(1)), at_least=1, payload="messages")
    assert (finding.verdict, finding.measured["corrupt"]) == ("pass", 0)


def test_one_acknowledged_and_not_stored_fails(history: History, journal: History) -> None:
    finding = judge_loss(history(operation(1), operation(2)), journal(receipt(1)), at_least=1, payload="messages")
    assert (finding.verdict, finding.subject, finding.measured["lost"]) == ("fail", "node", 1)
    assert "1 acknowledged and not stored" in finding.reason


def test_one_stored_that_was_never_sent_fails(history: History, journal: History) -> None:
    finding = judge_loss(history(operation(1)), journal(receipt(1), receipt(9)), at_least=1, payload="messages")
    assert (finding.verdict, finding.measured["unexpected"]) == ("fail", 1)


def test_another_digest_fails(history: History, journal: History) -> None:
    finding = judge_loss(history(operation(1)), journal(receipt(1, digest=B)), at_least=1, payload="messages")
    assert (finding.verdict, finding.measured["corrupt"]) == ("fail", 1)


def test_two_receipts_for_one_attempt_fail(history: History, journal: History) -> None:
    finding = judge_loss(history(operation(1)), journal(receipt(1), receipt(1)), at_least=1, payload="messages")
    assert (finding.verdict, finding.measured["duplicate_defects"]) == ("fail", 1)


def test_two_receipts_for_two_attempts_are_expected(history: History, journal: History) -> None:
    first = operation(1, outcome=Outcome.INDETERMINATE)
    finding = judge_loss(
        history(first, operation(1, attempt=2)), journal(receipt(1), receipt(1)), at_least=1, payload="messages"
    )
    assert (finding.verdict, finding.measured["duplicates_expected"]) == ("pass", 1)


def test_what_stayed_indeterminate_is_neither_lost_nor_unexpected(history: History, journal: History) -> None:
    unsure = [operation(key, outcome=Outcome.INDETERMINATE) for key in (2, 3)]
    finding = judge_loss(history(operation(1), *unsure), journal(receipt(1), receipt(2)), at_least=1, payload="messages")
    assert finding.verdict == "pass"
    assert (finding.measured["indeterminate"], finding.measured["recovered"]) == (2, 1)


def test_a_refusal_that_was_stored_after_all_is_no_loss(history: History, journal: History) -> None:
    finding = judge_loss(
        history(operation(1), operation(2, outcome=Outcome.REFUSED)), journal(receipt(1)), at_least=1, payload="messages"
    )
    assert finding.verdict == "pass"


def test_an_empty_history_is_unknown(history: History, journal: History) -> None:
    assert judge_loss(history(), journal(), at_least=1, payload="messages").verdict == "unknown"


def test_too_few_acknowledged_are_unknown(history: History, journal: History) -> None:
    assert judge_loss(history(operation(1)), journal(receipt(1)), at_least=2, payload="messages").verdict == "unknown"


def test_orders_that_every_worklist_shows_pass() -> None:
    shown = {"DMWL1": {"a", "b", "c"}, "DMWL2": {"a", "b"}}
    assert judge_visible({"a", "b"}, {"a", "b", "c"}, shown, places_required=2, at_least=2).verdict == "pass"


def test_an_order_that_one_worklist_lacks_fails() -> None:
    finding = judge_visible({"a", "b"}, {"a", "b"}, {"DMWL1": {"a", "b"}, "DMWL2": {"a"}}, places_required=2, at_least=2)
    assert (finding.verdict, finding.measured["missing"]) == ("fail", {"DMWL1": 0, "DMWL2": 1})


def test_an_order_that_nobody_sent_fails() -> None:
    assert judge_visible({"a"}, {"a"}, {"DMWL1": {"a", "z"}}, places_required=1, at_least=1).verdict == "fail"


def test_no_orders_or_a_silent_worklist_are_unknown() -> None:
    assert judge_visible(set(), set(), {"DMWL1": set()}, places_required=1, at_least=1).verdict == "unknown"
    assert judge_visible({"a"}, {"a"}, {"DMWL1": {"a"}}, places_required=2, at_least=1).verdict == "unknown"
