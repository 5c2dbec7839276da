"""Each defect of a pair changes what the units of the brief's site start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.balancer_files import write_balancer_files
from compose.configuration import unit_editor
from compose.lab import Defects
from lbconfig.site import Site
from lbconfig.site_file import load_site
from scenarios.options import DEFAULT_SITE, TWO_ARM_SITE
from scenarios.pair_plants import PairDefect, pair_defects

BRIEF = load_site(DEFAULT_SITE.with_name("brief.toml"))
TWO_ARM = load_site(TWO_ARM_SITE)
DEFECTS = [
    (site, defect)
    for site in (BRIEF, TWO_ARM)
    for defect in pair_defects(site)
    if not defect.defects.other_authority  # a file of another kind: tried in tests/compose/test_run_folder.py
]


def files(run: Path) -> dict[str, str]:
    return {
        str(path.relative_to(run)): path.read_text()
        for path in sorted(run.glob("balancers/*/*.c*")) + sorted(run.glob("balancers/*/*.rules"))
    }


NAMES = [f"{'two-arm' if site is TWO_ARM else 'brief'}: {defect.id}" for site, defect in DEFECTS]


@pytest.mark.parametrize(("site", "defect"), DEFECTS, ids=NAMES)
def test_a_defect_changes_the_files_of_the_units(site: Site, defect: PairDefect, tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name / "config").mkdir(parents=True)
        (tmp_path / name / "config" / "ca.pem").write_text("-")
    write_balancer_files(site, tmp_path / "whole")
    write_balancer_files(site, tmp_path / "broken", unit_editor(defect.defects))
    whole, broken = files(tmp_path / "whole"), files(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    changed = {name for name in whole if whole[name] != broken[name]}
    units = {edit.unit for edit in defect.defects.unit_configuration} or {unit.name for unit in site.balancer.unit}
    assert {name.split("/")[1] for name in changed} == units


def test_there_are_at_least_twelve_and_each_has_a_name_of_its_own() -> None:
    defects = pair_defects(BRIEF)
    assert len({defect.id for defect in defects}) == len(defects) >= 12


def test_another_certificate_on_the_secondary_needs_a_health_check_that_verifies_with_one() -> None:
    hardened = {defect.id: defect for defect in pair_defects(load_site(DEFAULT_SITE.with_name("hardened.toml")))}
    assert hardened.keys() - {defect.id for defect in pair_defects(BRIEF)} == {"other-certificate-on-secondary"}
    assert hardened["other-certificate-on-secondary"].defects == Defects(other_authority=("lb-2",))


def test_a_site_without_a_pair_has_none() -> None:
    assert pair_defects(load_site(DEFAULT_SITE)) == ()
