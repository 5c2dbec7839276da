import datetime

import msgspec
import pytest

from lbconfig.site import Site, Waiver
from lbconfig.site_file import load_site
from reports.verdict import Report
from scenarios.acceptance import Acceptance, required_verdicts
from scenarios.catalogue import CATALOGUE
from scenarios.findings import Finding, failed, passed, skipped, unknown
from scenarios.options import DEFAULT_SITE, HARDENED_SITE, PROXIED_SITE, TRANSPARENT_SITE, TWO_ARM_SITE, Options
from scenarios.plants import plants

SITE, HARDENED = load_site(DEFAULT_SITE), load_site(HARDENED_SITE)
PAIR = load_site(HARDENED_SITE.with_name("hardened.toml"))
WAIVER = Waiver(check="HALT-1/HL7", by="J. Doe", why="fixed in May", until=datetime.date(2099, 1, 1))


def report(changed: dict[str, Finding], site: Site = SITE, **options: object) -> Report:
    """Make the report of a run in which every check passed but for those that are given."""
    acceptance = Acceptance(site, msgspec.structs.replace(Options(seed=1), **options), 7)
    for wanted in acceptance.selected:
        acceptance.settle(wanted.check.id, wanted.vip, changed.get(wanted.id, passed("held")))
    return acceptance.report()


def test_all_passed_is_pass_and_a_rehearsal() -> None:
    written = report({})
    assert (written.verdict, written.kind, written.target, written.nodes) == ("pass", "rehearsal", "native", "simulated")
    assert len(written.checks) == 48


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [(failed("node", "no"), "fail"), (unknown("too little"), "incomplete"), (skipped("cannot"), "incomplete")],
)
def test_one_check_that_did_not_pass_decides(finding: Finding, verdict: str) -> None:
    assert report({"LOSS-1/HL7": finding}).verdict == verdict


def test_a_failure_beats_an_unknown() -> None:
    assert report({"LOSS-1/HL7": unknown("too little"), "REACH-1/DICOM": failed("node", "no")}).verdict == "fail"


def test_a_waiver_covers_its_own_failure_alone() -> None:
    site = msgspec.structs.replace(SITE, waiver=(WAIVER,))
    written = report({"HALT-1/HL7": failed("balancer", "stayed")}, site)
    halted = next(check for check in written.checks if check.id == "HALT-1/HL7")
    assert (written.verdict, halted.verdict) == ("pass_with_waivers", "waived")
    assert halted.waiver is not None
    assert (halted.waiver.by, halted.waiver.why, halted.waiver.until) == ("J. Doe", "fixed in May", "2099-01-01")
    assert report({"HALT-1/DICOM": failed("balancer", "stayed")}, site).verdict == "fail"
    assert report({"HALT-1/HL7": unknown("too little")}, site).verdict == "incomplete"


def test_a_check_that_was_never_judged_is_unknown() -> None:
    acceptance = Acceptance(SITE, Options(seed=1), 7)
    written = acceptance.report()
    assert written.verdict == "incomplete"
    assert {check.verdict for check in written.checks} == {"unknown"}


def test_a_partial_run_is_never_more_than_incomplete_and_says_so() -> None:
    written = report({}, only=("PERSIST-1/HL7",))
    assert (written.verdict, [check.id for check in written.checks]) == ("incomplete", ["PERSIST-1/HL7"])
    left = {item.requirement.split(" (")[0]: item.reason for item in written.untested}
    assert left["PERSIST-1/DICOM, PERSIST-1/DMWL, PERSIST-1/HTTPS"] == "partial run: only PERSIST-1/HL7"
    assert left["CONFIG-1"] == "not built in this version"


def test_a_partial_run_that_failed_is_a_failure() -> None:
    assert report({"PERSIST-1/HL7": failed("balancer", "no")}, only=("PERSIST-1/HL7",)).verdict == "fail"


def test_what_a_check_does_not_look_at_yet_is_named_as_untested() -> None:
    left = [item.requirement for item in report({}).untested]
    assert "of JOURNEY-1 (brief 4): the same with a node killed after each step" in left


def test_evidence_that_was_lost_takes_every_pass_back_and_no_failure() -> None:
    acceptance = Acceptance(SITE, Options(seed=1), 7)
    for wanted in acceptance.selected:
        acceptance.settle(wanted.check.id, wanted.vip, failed("node", "no") if wanted.id == "HL7-1/HL7" else passed("held"))
    acceptance.doubt("the disk is full")
    written = acceptance.report()
    assert written.verdict == "fail"
    assert {check.verdict for check in written.checks} == {"fail", "unknown"}


def test_the_sites_own_list_decides_and_the_rest_is_untested() -> None:
    site = msgspec.structs.replace(SITE, required=("REACH-1", "LOSS-1/HL7"))
    assert [wanted.id for wanted in required_verdicts(site, "standard", "native")] == [
        "REACH-1/DICOM", "REACH-1/HL7", "REACH-1/DMWL", "REACH-1/HTTPS", "LOSS-1/HL7",
    ]  # fmt: skip
    reasons = {item.reason for item in report({}, site).untested}
    assert "not among the checks that the site requires" in reasons


def test_every_check_that_is_built_has_a_plant_that_it_must_catch() -> None:
    caught = {plant.check for site in (SITE, HARDENED, PAIR) for plant in plants(site)}
    assert caught == {check.id for check in CATALOGUE if check.built}


def test_a_check_that_a_site_waives_has_no_plant_there() -> None:
    waived = {waiver.check for waiver in SITE.waiver}
    assert "HEALTH-2" in waived
    assert not [plant for plant in plants(SITE) if waived & {plant.check, f"{plant.check}/{plant.vip}"}]
    assert "health-by-connecting" in {plant.id for plant in plants(HARDENED)}


def test_asymmetric_routes_are_planted_where_nodes_must_answer_through_the_balancer() -> None:
    asymmetric = {"answers-past-the-balancer", "one-node-answers-past-the-balancer"}
    planted = {plant.id: plant for plant in plants(load_site(TRANSPARENT_SITE))}
    assert asymmetric <= planted.keys()
    assert {planted[name].lab for name in asymmetric} == {"compose"}
    for path in (PROXIED_SITE, TWO_ARM_SITE):
        assert not asymmetric & {plant.id for plant in plants(load_site(path))}


def test_a_wrong_arm_is_planted_where_there_are_two() -> None:
    two_arm = {"outer-source-address", "gateway-missing-on-secondary"}
    assert two_arm <= {plant.id for plant in plants(load_site(TWO_ARM_SITE))}
    assert not two_arm & {plant.id for plant in plants(PAIR)}


def test_every_plant_of_every_shipped_site_has_an_id_of_its_own() -> None:
    for site in (SITE, HARDENED, *(load_site(path) for path in (PROXIED_SITE, TRANSPARENT_SITE, TWO_ARM_SITE))):
        ids = [plant.id for plant in plants(site)]
        assert len(set(ids)) == len(ids)


def test_the_catalogue_names_every_check_once() -> None:
    ids = [check.id for check in CATALOGUE]
    assert len(set(ids)) == len(ids) == 59
