from scenarios.checkers.outbound import Asked, judge_outbound
from scenarios.findings import Finding
from simulators.received import Received

NODES = {"n1": "10.0.0.1", "n2": "10.0.0.2"}
BALANCER = ("10.0.0.9",)
ASKED = [Asked("n1", "a"), Asked("n1", "b"), Asked("n2", "c"), Asked("n2", "d")]
CAME = [Received("10.0.0.1", "a", True), Received("10.0.0.1", "b", True),
        Received("10.0.0.2", "c", True), Received("10.0.0.2", "d", True)]  # fmt: skip


def judge(asked: list[Asked], received: list[Received]) -> Finding:
    return judge_outbound(asked, received, NODES, BALANCER, of_each_node_at_least=2)


def test_what_comes_from_the_node_that_was_asked_passes() -> None:
    finding = judge(ASKED, CAME)
    assert finding.verdict == "pass"
    assert finding.measured["received_from_its_node"] == {"n1": 2, "n2": 2}


def test_what_comes_from_the_balancer_or_the_other_node_fails_the_network() -> None:
    through_balancer = judge(ASKED, [*CAME[:3], Received("10.0.0.9", "d", True)])
    assert (through_balancer.verdict, through_balancer.subject) == ("fail", "network")
    assert "the balancer's address 10.0.0.9 instead of n2 (10.0.0.2)" in through_balancer.reason
    assert "n1 (10.0.0.1) instead of n2" in judge(ASKED, [*CAME[:3], Received("10.0.0.1", "d", True)]).reason


def test_a_receiver_that_turns_a_node_away_fails_the_network() -> None:
    finding = judge([*ASKED[:2], Asked("n2", "c", "refused"), Asked("n2", "d", "refused")],
                    [*CAME[:2], Received("10.0.0.2", "", False)])  # fmt: skip
    assert (finding.verdict, finding.subject) == ("fail", "network")
    assert finding.reason == "the receiver turned away n2 (10.0.0.2), 1 times"


def test_what_a_node_was_asked_for_and_did_not_send_fails_the_node() -> None:
    finding = judge([*ASKED[:3], Asked("n2", "d", "C-MOVE: status A801H")], CAME[:3])
    assert (finding.verdict, finding.subject) == ("fail", "node")
    assert finding.reason == "n2 did not send 1 of the images or messages it was asked for (C-MOVE: status A801H)"


def test_too_little_asked_of_a_node_is_unknown_and_so_is_nothing() -> None:
    assert judge(ASKED[:3], CAME[:3]).verdict == "unknown"
    assert judge([], []).verdict == "unknown"
    assert judge([], CAME).verdict == "unknown"


def test_a_report_that_complains_of_stored_images_fails_the_node_and_one_from_elsewhere_the_network() -> None:
    told = Received("10.0.0.2", "d", True, "not all images are committed")
    finding = judge(ASKED, [*CAME[:3], told])
    assert (finding.verdict, finding.subject) == ("fail", "node")
    assert finding.reason == "a report says of images that were stored: n2: not all images are committed"
    elsewhere = judge(ASKED, [*CAME[:3], told._replace(peer="10.0.0.9")])
    assert (elsewhere.subject, "the balancer's address 10.0.0.9" in elsewhere.reason) == ("network", True)
    assert judge(ASKED, [*CAME, told._replace(identifier="of another run")]).verdict == "pass"
