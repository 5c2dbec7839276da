"""REACH-1: the VIP and every real server answer at their own protocol, and the balancer calls them UP."""

import pytest

from compose.lab import CanSteerBalancer, Lab
from lbconfig.site import Vip
from scenarios.checkers.reach import judge_reach
from scenarios.exchanges.places import Desk, places
from scenarios.exchanges.reach import answer_of, resolved
from scenarios.faults import MissingAbilityError
from scenarios.suite.session import Judge


@pytest.mark.check("REACH-1")
def test_the_vip_and_every_real_server_answer(desk: Desk, lab: Lab, vip: Vip, judge: Judge) -> None:
    """Ask every real server, then the VIP; then ask the balancer what it thinks of them."""
    if not isinstance(lab, CanSteerBalancer):
        raise MissingAbilityError("tell the state of the balancer's servers")
    answers = [answer_of(desk, place) for place in places(desk.run, vip)]
    labels = {server.label for server in vip.real_server}
    servers = {
        server.label: (server.status, server.weight)
        for server in lab.balancer.servers()
        if server.vip == vip.name and server.label in labels
    }
    judge(judge_reach(vip, answers, servers, resolved(vip)))
