"""LOSS-1 and ORDER-1: through every fault nothing acknowledged is lost, added or changed, and no order is turned round."""

import polars as pl
import pytest

from lbconfig.site import Vip
from scenarios.checkers.coverage import Trial, resent_in, through_every_trial
from scenarios.checkers.loss import judge_loss, judge_visible
from scenarios.checkers.order import judge_order
from scenarios.exchanges.dmwl import found_items
from scenarios.exchanges.places import Desk, places
from scenarios.faults import NodeCrashed, NodePaused
from scenarios.findings import Finding
from scenarios.load.payloads import ORDER_STATION, ordered_by
from scenarios.run import STORED_KINDS, PlacedOrder, Run
from scenarios.scripts import NODE_HUNG
from scenarios.suite.session import Judge, Session
from simulators.dicom.worklist_client import WorklistQuery
from simulators.operations import SEQUENCE_BITS, Identity, Kind, Outcome

PAYLOADS = {"dicom": "images", "hl7": "messages", "https": "notes"}
AT_LEAST = {"dicom": 400, "hl7": 1000, "https": 400}
ORDERS_AT_LEAST = 100
# trials in which messages have to be sent again
RESENDING = (NodeCrashed(node="").name, NodePaused(node="").name, NODE_HUNG)


@pytest.mark.check("LOSS-1")
@pytest.mark.usefixtures("steady_stream")
def test_nothing_acknowledged_is_lost(desk: Desk, trials: tuple[Trial, ...], vip: Vip, judge: Judge) -> None:
    """Join everything that was ever acknowledged in this run with the journals of all nodes."""
    run = desk.run
    if vip.service == "dmwl":
        judge(through_every_trial(_judged_orders(desk, vip), run.scan_operations("hl7"), trials))
        return
    operations, receipts = run.scan_operations(vip.service, kinds=STORED_KINDS), run.scan_receipts(vip.service)
    finding = judge_loss(operations, receipts, at_least=AT_LEAST[vip.service], payload=PAYLOADS[vip.service])
    judge(through_every_trial(finding, operations, trials))  # fmt: skip


@pytest.mark.check("ORDER-1")
@pytest.mark.usefixtures("vip")
def test_no_message_is_applied_after_a_later_one_was_acknowledged(
    session: Session, run: Run, trials: tuple[Trial, ...], steady_stream: int, judge: Judge
) -> None:
    """Compare, for each patient, when copies were taken with when later messages were acknowledged.

    What a balancer delivers that hung and wakes up is no node's doing: PAIR-3 counts it.
    """
    of_units = {episode.workload for episode in session.takeovers}
    workloads = [trial.workload for trial in trials if trial.workload not in of_units]
    operations = run.scan_operations("hl7", [*workloads, steady_stream])
    finding = judge_order(operations, run.scan_receipts("hl7"), at_least=300)
    resending = [trial for trial in trials if trial.name in RESENDING]
    judge(resent_in(finding, operations, resending) if resending else finding)


def _judged_orders(desk: Desk, vip: Vip) -> Finding:
    """Judge a worklist, which takes no orders itself: what HL7 acknowledged must be shown by every node and the VIP."""
    run = desk.run
    messages = run.scan_operations("hl7").select("key", "outcome").collect()
    orders = {**run.orders, **_orders_under_load(run, messages["key"])}
    answered = messages.filter(pl.col("outcome") == int(Outcome.ACKNOWLEDGED))["key"]
    acknowledged = {orders[key].accession for key in answered.to_list() if key in orders}
    stations = sorted({order.station_ae for order in orders.values()})
    visible: dict[str, set[str]] = {}
    for place in places(run, vip):
        answers = [found_items(desk, place, WorklistQuery(station_ae=station)) for station in stations]
        if not any(failure for _, failure in answers):
            visible[place.name] = {item.accession for items, _ in answers for item in items}
    attempted = {order.accession for order in orders.values()}
    return judge_visible(
        acknowledged, attempted, visible, places_required=len(vip.real_server) + 1, at_least=ORDERS_AT_LEAST
    )  # fmt: skip


def _orders_under_load(run: Run, keys: pl.Series) -> dict[int, PlacedOrder]:
    """Return what the messages of load generators ordered, by their keys."""
    found: dict[int, PlacedOrder] = {}
    for key in keys.unique().to_list():
        generator, sequence = key >> SEQUENCE_BITS, key & (1 << SEQUENCE_BITS) - 1
        accession = ordered_by(Identity(run.number, Kind.MESSAGE, generator, sequence))
        if generator and accession:  # generator 0 is the harness itself
            found[key] = PlacedOrder(accession, ORDER_STATION)
    return found
