"""HL7-1 and HL7-2: every kind of message; bad content refused by name, large and broken-up content taken whole."""

import pytest

from lbconfig.site import Vip
from scenarios.checkers.cases import judge_cases
from scenarios.checkers.loss import judge_loss
from scenarios.checkers.swiftness import within_limit
from scenarios.exchanges.hl7 import bad_content, every_type, types_of, whole_content
from scenarios.exchanges.places import Desk, places
from scenarios.suite.session import Judge
from simulators.operations import Kind


@pytest.mark.check("HL7-1")
def test_every_kind_of_message_is_accepted_and_named(desk: Desk, vip: Vip, judge: Judge) -> None:
    """Send every type that the site allows; the acknowledgement must be AA and name the message."""
    where = places(desk.run, vip)
    cases = [case for place in where for case in every_type(desk, place)]
    finding = judge_cases(cases, [(name, place.name) for place in where for name in types_of(desk)])
    judge(within_limit(finding, desk.operations(vip.service), vip.limits.operation_s))


@pytest.mark.check("HL7-2")
def test_bad_content_is_refused_and_good_content_arrives_whole(desk: Desk, vip: Vip, judge: Judge) -> None:
    """Send what must be refused, then what must arrive whole: every digest in the journals must be that of what was sent."""
    where = places(desk.run, vip)
    cases = [case for place in where for case in (*bad_content(desk, place), *whole_content(desk, place))]
    finding = judge_cases(cases, [(case, place.name) for place in where for case in WHAT])
    if finding.verdict == "pass":
        operations = desk.run.operations("hl7", [desk.workload], kinds=[Kind.MESSAGE])
        sent = set(operations["key"].to_list())
        receipts = desk.run.receipts("hl7")
        whole = judge_loss(operations, receipts.filter(receipts["key"].is_in(sent)), at_least=len(where), payload="messages")
        finding = finding if whole.verdict == "pass" else whole
    judge(finding)


WHAT = (
    "unknown message type", "required segment missing", "a frame without MSH", "bytes outside of a frame",
    "a good message afterwards", "in fragments", "three frames in one segment", "OBX of 5 MB", "UTF-8", "8859/1",
)  # fmt: skip
