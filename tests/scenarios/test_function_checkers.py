import msgspec
import pytest

from lbconfig.site import Limits, RealServer, Vip
from scenarios.checkers.cases import THROUGH_VIP, Case, judge_cases
from scenarios.checkers.journey import Step, judge_journey
from scenarios.checkers.reach import judge_reach
from scenarios.checkers.stored_as_sent import judge_stored_as_sent
from simulators.operations import Outcome
from tests.scenarios.conftest import B, History, operation, receipt

VIP = Vip(
    name="HL7", service="hl7", address="127.0.110.101", port=6667, hostname="hl7.hospital.example",
    limits=Limits(down_s=10, new_s=5, sticky_s=6, established_s=12, operation_s=10),
    real_server=(RealServer(label="HL71", node="n1", port=6667, id=1), RealServer(label="HL72", node="n2", port=6667, id=2)),
)  # fmt: skip
UP = {"HL71": ("UP", 100), "HL72": ("UP", 100)}
ANSWERS = [Case("MLLP", target, "an answer", "an answer") for target in ("HL71", "HL72", THROUGH_VIP)]
RESOLVED = [VIP.address]


def test_a_vip_that_answers_everywhere_passes() -> None:
    assert judge_reach(VIP, ANSWERS, UP, RESOLVED).verdict == "pass"


def test_a_vip_that_does_not_answer_blames_the_balancer_and_a_silent_server_the_node() -> None:
    vip_silent = [*ANSWERS[:2], Case("MLLP", THROUGH_VIP, "an answer", "")]
    assert judge_reach(VIP, vip_silent, UP, RESOLVED).subject == "balancer"
    assert judge_reach(VIP, vip_silent, UP, RESOLVED).reason.endswith("; asked straight every real server answers")
    transparent = msgspec.structs.replace(VIP, source="transparent")
    assert "answers must be routed back through the balancer" in judge_reach(transparent, vip_silent, UP, RESOLVED).reason
    assert "asked straight" not in judge_reach(VIP, vip_silent[1:], UP, RESOLVED).reason
    server_silent = [Case("MLLP", "HL71", "an answer", ""), *ANSWERS[1:]]
    finding = judge_reach(VIP, server_silent, UP, RESOLVED)
    assert (finding.verdict, finding.subject) == ("fail", "node")


@pytest.mark.parametrize(
    "servers", [UP | {"HL72": ("DOWN", 100)}, UP | {"HL72": ("UP", 50)}, UP | {"HL72": ("no check", 100)}]
)
def test_a_server_that_is_not_up_at_its_weight_fails(servers: dict[str, tuple[str, int]]) -> None:
    assert judge_reach(VIP, ANSWERS, servers, RESOLVED).verdict == "fail"


def test_a_name_that_resolves_elsewhere_fails() -> None:
    assert judge_reach(VIP, ANSWERS, UP, ["192.0.2.1"]).subject == "network"
    assert judge_reach(VIP, ANSWERS, UP, []).verdict == "fail"


def test_what_was_not_asked_is_unknown() -> None:
    assert judge_reach(VIP, ANSWERS[1:], UP, RESOLVED).verdict == "unknown"
    assert judge_reach(VIP, ANSWERS, {"HL71": ("UP", 100)}, RESOLVED).verdict == "unknown"
    assert judge_reach(VIP, [], {}, RESOLVED).verdict == "unknown"


def test_cases_as_expected_pass_and_a_wrong_one_fails() -> None:
    good = [Case("echo", "DICOM1", "0x0000", "0x0000"), Case("echo", THROUGH_VIP, "0x0000", "0x0000")]
    required = [("echo", "DICOM1"), ("echo", THROUGH_VIP)]
    assert judge_cases(good, required).verdict == "pass"
    wrong = judge_cases([good[0], Case("echo", THROUGH_VIP, "0x0000", "0x0122")], required)
    assert (wrong.verdict, wrong.subject) == ("fail", "balancer")
    straight = judge_cases([Case("echo", "DICOM1", "0x0000", "0x0122"), good[1]], required)
    assert (straight.verdict, straight.subject) == ("fail", "node")


def test_a_missing_a_silent_and_no_case_are_unknown() -> None:
    assert judge_cases([Case("echo", "DICOM1", "0x0000", "0x0000")], [("echo", "DICOM2")]).verdict == "unknown"
    assert judge_cases([Case("echo", "DICOM1", "0x0000", "")], []).verdict == "unknown"
    assert judge_cases([], []).verdict == "unknown"


NAMES = {1: "CT", 2: "MR"}


def test_images_stored_with_their_digest_pass(history: History, journal: History) -> None:
    finding = judge_stored_as_sent(history(operation(1), operation(2)), journal(receipt(1), receipt(2)), NAMES, required=2)
    assert finding.verdict == "pass"


def test_a_changed_an_absent_and_a_refused_image_fail(history: History, journal: History) -> None:
    sent = history(operation(1), operation(2))
    changed = judge_stored_as_sent(sent, journal(receipt(1), receipt(2, digest=B)), NAMES, required=2)
    assert (changed.verdict, "MR" in changed.reason) == ("fail", True)
    assert judge_stored_as_sent(sent, journal(receipt(1)), NAMES, required=2).measured["not_stored"] == 1
    refused = history(operation(1), operation(2, outcome=Outcome.REFUSED))
    assert judge_stored_as_sent(refused, journal(receipt(1)), NAMES, required=2).verdict == "fail"


def test_too_few_images_are_unknown(history: History, journal: History) -> None:
    assert judge_stored_as_sent(history(operation(1)), journal(receipt(1)), NAMES, required=2).verdict == "unknown"
    assert judge_stored_as_sent(history(), journal(), {}, required=0).verdict == "unknown"


def test_a_journey_passes_fails_late_fails_unseen_and_is_unknown_when_cut_short() -> None:
    steps = [Step("order accepted", 0.1, 10), Step("images stored", 2.0, 10)]
    assert judge_journey(steps, expected_steps=2).verdict == "pass"
    assert judge_journey([steps[0], Step("images stored", None, 10)], expected_steps=2).verdict == "fail"
    assert judge_journey([steps[0], Step("images stored", 11.0, 10)], expected_steps=2).verdict == "fail"
    assert judge_journey(steps[:1], expected_steps=2).verdict == "unknown"
    assert judge_journey([], expected_steps=0).verdict == "unknown"
