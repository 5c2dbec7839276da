"""DMWL-1: orders that HL7 brought to either node are found on every node, exactly, and a long answer can be cancelled."""

import pytest

from lbconfig.site import Vip
from scenarios.checkers.cases import judge_cases
from scenarios.checkers.swiftness import within_limit
from scenarios.exchanges.dmwl import CANCEL, QUESTIONS, asked, cancelled, place_orders, questions
from scenarios.exchanges.places import Desk, places
from scenarios.suite.session import Judge


@pytest.mark.check("DMWL-1")
def test_worklist_queries_return_exactly_the_matching_items(desk: Desk, vip: Vip, judge: Judge) -> None:
    """Order at both nodes, then put every question to each of them and to the VIP; then cancel a long answer."""
    hl7_servers = places(desk.run, desk.run.site.vip_of("hl7"))[:-1]
    placed = place_orders(desk, hl7_servers)
    where = places(desk.run, vip)
    cases = [asked(desk, place, question) for place in where for question in questions(desk, placed)]
    cases += [cancelled(desk, place, placed) for place in where]
    finding = judge_cases(cases, [(what, place.name) for place in where for what in (*QUESTIONS, CANCEL)])
    judge(within_limit(finding, desk.operations(vip.service), vip.limits.operation_s))
