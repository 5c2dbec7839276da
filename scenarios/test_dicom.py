"""DICOM-1 and DICOM-2: C-ECHO and AE titles; every kind and size of image, stored exactly as sent."""

import pytest

from lbconfig.site import Vip
from scenarios.checkers.cases import judge_cases
from scenarios.checkers.stored_as_sent import judge_stored_as_sent
from scenarios.checkers.swiftness import within_limit
from scenarios.exchanges.dicom import asked_echo, asked_unknown_ae, images_required, stored_images
from scenarios.exchanges.places import Desk, places
from scenarios.suite.session import Judge


@pytest.mark.check("DICOM-1")
def test_echo_succeeds_and_an_unknown_ae_title_is_treated_as_declared(desk: Desk, vip: Vip, judge: Judge) -> None:
    """Send a C-ECHO to the site's AE title, and ask for one that nobody has, at every real server and through the VIP."""
    where = places(desk.run, vip)
    cases = [ask(desk, place) for place in where for ask in (asked_echo, asked_unknown_ae)]
    required = [(what, place.name) for place in where for what in ("C-ECHO", "unknown called AE title")]
    judge(judge_cases(cases, required))


@pytest.mark.check("DICOM-2")
def test_every_image_is_stored_exactly_as_sent(desk: Desk, vip: Vip, judge: Judge) -> None:
    """Store every kind and size at every real server and through the VIP; compare digests with the nodes' journals."""
    names = stored_images(desk, places(desk.run, vip))
    operations = desk.operations(vip.service)
    finding = judge_stored_as_sent(operations, desk.run.receipts(vip.service), names, required=images_required(desk, vip))
    judge(within_limit(finding, operations, vip.limits.operation_s))
