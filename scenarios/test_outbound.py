"""OUTBOUND-1: what nodes send of their own accord passes no balancer: receivers have to know the nodes."""

import pytest

from lbconfig.site import Vip
from scenarios.checkers.outbound import judge_outbound
from scenarios.exchanges.outbound import OF_EACH_PLACE, sent_on
from scenarios.exchanges.places import Desk, places
from scenarios.suite.session import Judge, Session


@pytest.mark.check("OUTBOUND-1")
def test_what_nodes_send_comes_from_their_own_addresses(session: Session, desk: Desk, vip: Vip, judge: Judge) -> None:
    """Have each node, and whoever answers for the VIP, send images or results on, and note who comes."""
    asked, received = sent_on(desk, vip, places(desk.run, vip), session.defects.not_admitted)
    site = desk.run.site
    nodes = {server.node: site.node_named(server.node).address for server in vip.real_server}
    balancer = {*site.balancer.addresses, *(other.address for other in site.vip)}
    judge(judge_outbound(asked, received, nodes, balancer, of_each_node_at_least=OF_EACH_PLACE))
