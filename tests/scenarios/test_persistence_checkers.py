import random

from scenarios.checkers.same_node import judge_same_node
from scenarios.checkers.seen_source import judge_seen_source
from scenarios.checkers.spread import judge_spread
from scenarios.findings import Finding
from simulators.operations import Outcome
from tests.scenarios.conftest import History, operation, receipt

NODES = (b"mach7-1", b"mach7-2")
SOURCES = [f"127.1.0.{n}" for n in range(1, 21)]
TABLE = {source: NODES[n % 2].decode() for n, source in enumerate(SOURCES)}


def judged(history: History, journal: History, met: list[tuple[str, bytes]], table: dict[str, str] = TABLE) -> Finding:
    """Judge connections given as (source, node), the balancer's log agreeing with them."""
    operations = [operation(key, source=source, source_port=key, node=node) for key, (source, node) in enumerate(met, 1)]
    log = {(source, key): node.decode() for key, (source, node) in enumerate(met, 1)}
    receipts = [receipt(key, node=node) for key, (_, node) in enumerate(met, 1)]
    return judge_same_node(history(*operations), journal(*receipts), table, log, sources_at_least=20, connections_at_least=10)


def faithful() -> list[tuple[str, bytes]]:
    met = [(source, NODES[n % 2]) for n, source in enumerate(SOURCES)] * 10
    random.Random(1).shuffle(met)
    return met


def test_sources_that_always_meet_their_node_pass(history: History, journal: History) -> None:
    finding = judged(history, journal, faithful())
    assert finding.verdict == "pass"
    assert finding.measured["witness_statements"] == {"client": 200, "table": 200, "log": 200, "journal": 200}
    assert finding.measured["chance_by_luck"] == 2.0**-180


def test_turns_in_random_order_fail(history: History, journal: History) -> None:
    met = [(source, NODES[n % 2]) for n, (source, _) in enumerate(faithful())]
    finding = judged(history, journal, met)
    assert (finding.verdict, finding.subject) == ("fail", "balancer")
    assert finding.measured["sources_that_met_several_nodes"] > 15


def test_one_stray_connection_of_two_hundred_fails(history: History, journal: History) -> None:
    met = faithful()
    source, node = met[100]
    met[100] = (source, NODES[1] if node == NODES[0] else NODES[0])
    assert judged(history, journal, met).measured["sources_that_met_several_nodes"] == 1
    assert judged(history, journal, met).verdict == "fail"


def test_sources_without_a_table_entry_fail(history: History, journal: History) -> None:
    assert "no table entry" in judged(history, journal, faithful(), table={}).reason


def test_a_table_that_names_another_node_fails(history: History, journal: History) -> None:
    assert judged(history, journal, faithful(), TABLE | {SOURCES[0]: "mach7-2"}).verdict == "fail"


def test_a_log_that_contradicts_the_client_fails(history: History, journal: History) -> None:
    met = faithful()
    operations = history(*(operation(key, source=s, source_port=key, node=n) for key, (s, n) in enumerate(met, 1)))
    source, node = met[0]
    log = {(source, 1): "mach7-2" if node == b"mach7-1" else "mach7-1"}
    finding = judge_same_node(operations, journal(), TABLE, log, sources_at_least=20, connections_at_least=10)
    assert (finding.verdict, finding.measured["witnesses_disagree"]) == ("fail", 1)


def test_of_many_disagreements_the_first_two_are_told_and_the_rest_counted(history: History, journal: History) -> None:
    met = faithful()
    operations = history(*(operation(key, source=s, source_port=key, node=n) for key, (s, n) in enumerate(met, 1)))
    contradicted = [key for key, (_, node) in enumerate(met, 1) if node == b"mach7-1"][:5]
    log = {(s, key): "mach7-2" if key in contradicted else n.decode() for key, (s, n) in enumerate(met, 1)}
    receipts = journal(*(receipt(key, node=n) for key, (_, n) in enumerate(met, 1)))
    finding = judge_same_node(operations, receipts, TABLE, log, sources_at_least=20, connections_at_least=10)
    said = "client says mach7-1, table says mach7-1, log says mach7-2, journal says mach7-1"
    first, second = (f"{met[key - 1][0]}:{key}: {said}" for key in contradicted[:2])
    assert (finding.verdict, finding.measured["witnesses_disagree"]) == ("fail", 5)
    assert finding.reason == f"witnesses disagree: {first}; {second}; and 3 more"


def test_a_source_that_wanders_is_told_with_its_first_changes(history: History, journal: History) -> None:
    met = [(SOURCES[0], NODES[turn // 2 % 2]) for turn in range(12)]
    finding = judged(history, journal, met)
    assert "1 of 1 sources met several nodes: 127.1.0.1 met mach7-1 then mach7-2 then mach7-1 then mach7-2" in finding.reason


def test_one_node_for_all_proves_nothing_and_fails(history: History, journal: History) -> None:
    met = [(source, NODES[0]) for source, _ in faithful()]
    assert judged(history, journal, met, dict.fromkeys(SOURCES, "mach7-1")).verdict == "fail"


def test_untold_nodes_are_unknown(history: History, journal: History) -> None:
    operations = history(*(operation(key, source=s, source_port=key, node=b"") for key, (s, _) in enumerate(faithful(), 1)))
    assert (
        judge_same_node(operations, journal(), TABLE, {}, sources_at_least=20, connections_at_least=10).verdict == "unknown"
    )


def test_a_witness_that_is_there_and_keeps_silent_makes_it_unknown(history: History, journal: History) -> None:
    met = faithful()
    operations = history(*(operation(key, source=s, source_port=key, node=n) for key, (s, n) in enumerate(met, 1)))
    receipts = journal(*(receipt(key, node=n) for key, (_, n) in enumerate(met, 1)))
    silent_log = judge_same_node(operations, receipts, TABLE, {}, sources_at_least=20, connections_at_least=10)
    assert (silent_log.verdict, "the log named 0" in silent_log.reason) == ("unknown", True)
    no_log = judge_same_node(operations, receipts, TABLE, None, sources_at_least=20, connections_at_least=10)
    assert (no_log.verdict, "client, table, journal agree" in no_log.reason) == ("pass", True)


def test_lines_that_the_balancer_says_it_dropped_are_not_missed_and_others_are(history: History, journal: History) -> None:
    met = faithful()
    operations = history(*(operation(key, source=s, source_port=key, node=n) for key, (s, n) in enumerate(met, 1)))
    receipts = journal(*(receipt(key, node=n) for key, (_, n) in enumerate(met, 1)))
    log = {(source, key): node.decode() for key, (source, node) in enumerate(met, 1) if key > 1}

    def verdict(dropped: int) -> str:
        return judge_same_node(
            operations, receipts, TABLE, log, sources_at_least=20, connections_at_least=10, dropped_log_lines=dropped
        ).verdict

    assert (verdict(0), verdict(1)) == ("unknown", "pass")


def test_many_refusals_beside_enough_answers_are_unknown(history: History, journal: History) -> None:
    met = faithful()
    refused = [operation(key, source=SOURCES[0], outcome=Outcome.REFUSED) for key in range(1000, 1100)]
    answered = [operation(key, source=s, source_port=key, node=n) for key, (s, n) in enumerate(met, 1)]
    finding = judge_same_node(history(*answered, *refused), None, TABLE, None, sources_at_least=20, connections_at_least=10)
    assert finding.verdict == "unknown"


def test_too_few_connections_and_an_empty_history_are_unknown(history: History, journal: History) -> None:
    assert judged(history, journal, faithful()[:150]).verdict == "unknown"
    assert judged(history, journal, []).verdict == "unknown"


def spread(
    met: dict[str, int], weights: dict[str, int], *, in_flight: int = 0, busiest: dict[str, float] | None = None
) -> Finding:
    up = dict.fromkeys(weights, True)
    return judge_spread(
        met,
        weights,
        up,
        in_flight,
        scheduler="leastconn",
        sources_at_least=20,
        busiest=busiest or {},
        busiest_share_limit=0.5,
    )


def test_shares_within_one_of_the_weights_pass() -> None:
    assert spread({"n1": 10, "n2": 10}, {"n1": 100, "n2": 100}).verdict == "pass"
    assert spread({"n1": 11, "n2": 9}, {"n1": 100, "n2": 100}).verdict == "pass"
    assert spread({"n1": 15, "n2": 5}, {"n1": 150, "n2": 50}).verdict == "pass"


def test_a_share_off_by_more_than_what_was_in_flight_fails() -> None:
    assert spread({"n1": 12, "n2": 8}, {"n1": 100, "n2": 100}).verdict == "fail"
    assert spread({"n1": 12, "n2": 8}, {"n1": 100, "n2": 100}, in_flight=1).verdict == "pass"
    assert spread({"n1": 19, "n2": 1}, {"n1": 100, "n2": 100}, in_flight=20).verdict == "unknown"


def test_a_node_that_is_up_and_gets_nothing_fails() -> None:
    finding = spread({"n1": 20}, {"n1": 100, "n2": 0}, in_flight=50)
    assert (finding.verdict, "none for n2" in finding.reason) == ("fail", True)


def test_a_source_busier_than_the_site_allows_is_named() -> None:
    finding = spread({"n1": 10, "n2": 10}, {"n1": 100, "n2": 100}, busiest={"127.1.0.9": 0.7})
    assert (finding.verdict, "127.1.0.9" in finding.reason) == ("fail", True)


def test_no_new_sources_are_unknown() -> None:
    assert spread({}, {"n1": 100, "n2": 100}).verdict == "unknown"


def test_receipts_from_the_balancer_pass_and_from_elsewhere_fail(history: History, journal: History) -> None:
    operations = history(operation(1), operation(2))
    good = journal(receipt(1), receipt(2))
    assert (
        judge_seen_source(operations, good, balancer=["127.0.110.10"], transparent=False, nodes=[], at_least=2).verdict
        == "pass"
    )
    bad = journal(receipt(1), receipt(2, peer="127.0.110.11"))
    finding = judge_seen_source(operations, bad, balancer=["127.0.110.10"], transparent=False, nodes=[], at_least=2)
    assert (finding.verdict, finding.measured["wrong"]) == ("fail", 1)


def test_of_a_pair_either_units_address_will_do(history: History, journal: History) -> None:
    operations = history(operation(1), operation(2))
    both = journal(receipt(1), receipt(2, peer="127.0.110.11"))
    pair = ["127.0.110.10", "127.0.110.11"]
    assert judge_seen_source(operations, both, balancer=pair, transparent=False, nodes=[], at_least=2).verdict == "pass"


def test_a_transparent_site_wants_the_clients_address(history: History, journal: History) -> None:
    operations = history(operation(1, source="127.1.0.1"))
    own, balancers = journal(receipt(1, peer="127.1.0.1")), journal(receipt(1))
    assert (
        judge_seen_source(operations, own, balancer=["127.0.110.10"], transparent=True, nodes=[], at_least=1).verdict
        == "pass"
    )
    assert (
        judge_seen_source(operations, balancers, balancer=["127.0.110.10"], transparent=True, nodes=[], at_least=1).verdict
        == "fail"
    )


def test_a_node_that_nothing_came_to_leaves_it_unknown_what_it_sees(history: History, journal: History) -> None:
    operations, receipts = history(operation(1)), journal(receipt(1, node=b"mach7-1"))
    for nodes, verdict in ((["mach7-1"], "pass"), (["mach7-1", "mach7-2"], "unknown")):
        finding = judge_seen_source(
            operations, receipts, balancer=["127.0.110.10"], transparent=False, nodes=nodes, at_least=1
        )  # fmt: skip
        assert finding.verdict == verdict
    assert finding.reason == "not observed: what mach7-2 sees, to which nothing came"
    wrong = journal(receipt(1, node=b"mach7-1", peer="127.0.110.11"))
    failing = judge_seen_source(
        operations, wrong, balancer=["127.0.110.10"], transparent=False, nodes=["mach7-2"], at_least=1
    )  # fmt: skip
    assert failing.verdict == "fail"


def test_no_receipts_are_unknown(history: History, journal: History) -> None:
    finding = judge_seen_source(
        history(operation(1)), journal(), balancer=["127.0.110.10"], transparent=False, nodes=[], at_least=1
    )
    assert finding.verdict == "unknown"
    assert (
        judge_seen_source(history(), journal(), balancer=["127.0.110.10"], transparent=False, nodes=[], at_least=1).verdict
        == "unknown"
    )
