"""Each defect of a pair changes what the units of the brief's site start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.balancer_files import write_balancer_files
from compose.configuration import unit_editor
from compose.lab import Defects
from lbconfig.site_file import load_site
from scenarios.options import DEFAULT_SITE
from scenarios.pair_plants import PairDefect, pair_defects

BRIEF = load_site(DEFAULT_SITE.with_name("brief.toml"))
DEFECTS = pair_defects(BRIEF)


def files(run: Path) -> dict[str, str]:
    return {
        str(path.relative_to(run)): path.read_text()
        for path in sorted(run.glob("balancers/*/*.c*")) + sorted(run.glob("balancers/*/*.rules"))
    }


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.id for defect in DEFECTS])
def test_a_defect_changes_the_files_of_the_units(defect: PairDefect, tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name / "config").mkdir(parents=True)
        (tmp_path / name / "config" / "ca.pem").write_text("-")
    write_balancer_files(BRIEF, tmp_path / "whole")
    write_balancer_files(BRIEF, tmp_path / "broken", unit_editor(defect.defects))
    whole, broken = files(tmp_path / "whole"), files(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    changed = {name for name in whole if whole[name] != broken[name]}
    units = {edit.unit for edit in defect.defects.unit_configuration} or {unit.name for unit in BRIEF.balancer.unit}
    assert {name.split("/")[1] for name in changed} == units


def test_there_are_at_least_twelve_and_each_has_a_name_of_its_own() -> None:
    assert len({defect.id for defect in DEFECTS}) == len(DEFECTS) >= 12


def test_another_certificate_on_the_secondary_needs_a_health_check_that_verifies_with_one() -> None:
    hardened = {defect.id: defect for defect in pair_defects(load_site(DEFAULT_SITE.with_name("hardened.toml")))}
    assert hardened.keys() - {defect.id for defect in DEFECTS} == {"other-certificate-on-secondary"}
    assert hardened["other-certificate-on-secondary"].defects == Defects(other_authority=("lb-2",))


def test_a_site_without_a_pair_has_none() -> None:
    assert pair_defects(load_site(DEFAULT_SITE)) == ()
