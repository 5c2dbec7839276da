"""WEB-1 and WEB-2: TLS and certificates on every node; a person's visit, and a session that survives reconnects."""

import msgspec
import pytest

from lbconfig.site import Vip
from scenarios.checkers.cases import THROUGH_VIP, judge_cases
from scenarios.checkers.swiftness import within_limit
from scenarios.exchanges.places import Desk, places
from scenarios.exchanges.web import TLS_CASES, VISIT_CASES, differences, seen_tls, tls_cases, visit
from scenarios.suite.session import Judge


@pytest.mark.check("WEB-1")
def test_tls_is_new_enough_and_every_certificate_is_valid_for_the_vip(desk: Desk, vip: Vip, judge: Judge) -> None:
    """Look at the TLS of every node and of the VIP, asking each for the VIP's name."""
    where = places(desk.run, vip)
    seen = {place.name: seen_tls(desk, place) for place in where}
    cases = [case for place in where for case in tls_cases(place, seen[place.name])]
    finding = judge_cases(cases, [(what, place.name) for place in where for what in TLS_CASES])
    nodes = {name: tls for name, tls in seen.items() if name != THROUGH_VIP}
    expiry = {name: tls.not_after.date().isoformat() for name, tls in nodes.items() if tls.not_after}
    told = {"differences_between_nodes": differences(nodes), "valid_until": expiry}
    judge(msgspec.structs.replace(finding, measured=finding.measured | told))


@pytest.mark.check("WEB-2")
def test_a_person_logs_in_and_the_session_survives_reconnects(desk: Desk, vip: Vip, judge: Judge) -> None:
    """Visit every node and the VIP: a wrong password, a login, the list, a study, and the same over new connections."""
    where = places(desk.run, vip)
    cases = [case for place in where for case in visit(desk, place)]
    finding = judge_cases(cases, [(what, place.name) for place in where for what in VISIT_CASES])
    judge(within_limit(finding, desk.operations(vip.service), vip.limits.operation_s))
