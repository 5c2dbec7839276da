"""PERSIST-1, SPREAD-1 and SOURCE-1: who meets which node, how new sources are spread, and whom the nodes see."""

import polars as pl
import pytest

from compose.lab import CanSteerBalancer, Lab
from lbconfig.site import Vip
from lbconfig.traffic_log import read_log
from scenarios.checkers.same_node import judge_same_node
from scenarios.checkers.seen_source import judge_seen_source
from scenarios.checkers.spread import judge_spread
from scenarios.faults import MissingAbilityError
from scenarios.play import wait_until
from scenarios.run import Run
from scenarios.suite.session import Judge
from scenarios.traffic import TalkerFactory
from scenarios.workloads import RECONNECTING_SOURCES, RECONNECTS, SPREAD_SOURCES, hold_new_sources
from simulators.operations import Way

LOGGED_WITHIN_S = 5.0


@pytest.mark.check("PERSIST-1")
def test_each_source_meets_one_node_however_often_it_reconnects(
    run: Run, lab: Lab, reconnects: int, vip: Vip, judge: Judge
) -> None:
    """Compare what clients were told with the balancer's table and log and with the nodes' journals."""
    if not isinstance(lab, CanSteerBalancer):
        raise MissingAbilityError("read the balancer's table")
    node_of_label = {server.label: server.node for server in vip.real_server}
    node_of_id = {server.id: server.node for server in vip.real_server}
    table = {entry.source: node_of_id.get(entry.server_id, "") for entry in lab.balancer.table(vip.name)}
    operations = run.operations(vip.service, [reconnects])
    log: dict[tuple[str, int], str] = {}

    def is_logged() -> bool:
        """Read the log again: a connection is written there only when it has ended on both sides."""
        seen = [entry for entry in read_log(lab.log_file).connections if entry.vip == vip.name]
        log.update({(entry.client, entry.client_port): node_of_label.get(entry.server or "", "") for entry in seen})
        missing = set(operations.select("source", "source_port").iter_rows()) - log.keys()
        return len(missing) <= lab.balancer.info().dropped_log_lines

    wait_until(is_logged, LOGGED_WITHIN_S)
    receipts = run.receipts(vip.service, observations=True)
    judge(
        judge_same_node(
            operations, receipts, table, log, sources_at_least=RECONNECTING_SOURCES, connections_at_least=RECONNECTS,
            dropped_log_lines=lab.balancer.info().dropped_log_lines,
        )
    )  # fmt: skip


@pytest.mark.check("SPREAD-1")
def test_new_sources_are_spread_by_weight(run: Run, talkers: TalkerFactory, vip: Vip, judge: Judge) -> None:
    """Clear the table and let new sources come that hold on to their sessions until all are placed."""
    placed = hold_new_sources(run, talkers, run.workload(f"new sources on {vip.name}"), vip)
    through = run.operations(vip.service).filter(pl.col("way") == int(Way.VIP))
    shares = {str(source): count / through.height for source, count in through.group_by("source").len().iter_rows()}
    judge(
        judge_spread(
            placed.sources_by_node, {server.node: server.weight for server in vip.real_server}, placed.up, placed.in_flight,
            scheduler=vip.scheduler, sources_at_least=SPREAD_SOURCES, busiest=shares,
            busiest_share_limit=vip.limits.busiest_source_share,
        )
    )  # fmt: skip


@pytest.mark.check("SOURCE-1")
def test_nodes_see_the_address_that_the_site_says(run: Run, reconnects: int, vip: Vip, judge: Judge) -> None:
    """Compare the peers in the nodes' journals with the balancer's own address, or the clients'."""
    operations = run.operations(vip.service, [reconnects]).filter(pl.col("way") == int(Way.VIP))
    receipts = run.receipts(vip.service, observations=True)
    judge(
        judge_seen_source(
            operations,
            receipts,
            balancer=run.site.balancer.addresses,
            transparent=vip.source != "balancer",
            nodes=[server.node for server in vip.real_server if server.weight],
            at_least=RECONNECTING_SOURCES,
        )
    )
