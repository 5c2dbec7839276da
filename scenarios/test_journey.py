"""JOURNEY-1: one patient from the order to the page that a person reads."""

import pytest

from scenarios.checkers.journey import judge_journey
from scenarios.exchanges.journey import Journey
from scenarios.exchanges.places import Desk, places
from scenarios.suite.session import Judge


@pytest.mark.check("JOURNEY-1")
def test_order_worklist_images_result_and_page_follow_each_other(desk: Desk, judge: Judge) -> None:
    """Order by HL7, await the item on every node's worklist, store images, send the result, read the page on every node."""
    journey = Journey(desk, {vip.service: places(desk.run, vip) for vip in desk.run.site.vip})
    judge(judge_journey(journey.steps(), expected_steps=journey.expected_steps))
