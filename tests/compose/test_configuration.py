from __future__ import annotations

import pytest

from compose.configuration import edited, through_relay, unit_editor
from compose.lab import ConfigurationEdit, Defects, LabError, UnitEdit

CONFIGURATION = """\
global
    maxconn 100

listen DICOM
    stick on src
    server ONE 127.0.0.1:11112 id 1 check
    server TWO 127.0.0.2:11112 id 2 check

listen HL7
    stick on src
    server ONE 127.0.0.1:6667 id 1 check
"""


def test_an_edit_changes_the_section_of_its_vip_and_no_other() -> None:
    found = edited(CONFIGURATION, [ConfigurationEdit("HL7", r"^    stick on src\n", "")])
    assert found.count("stick on src") == 1
    assert "listen HL7\n    server ONE" in found


def test_an_edit_of_no_vip_changes_all_sections() -> None:
    found = edited(CONFIGURATION, [ConfigurationEdit(None, r"id (\d)", r"id 7\1")])
    assert [line.split()[4] for line in found.splitlines() if "server" in line] == ["71", "72", "71"]


def test_edits_are_applied_one_after_the_other() -> None:
    found = edited(CONFIGURATION, [ConfigurationEdit(None, "100", "200"), ConfigurationEdit(None, "200", "300")])
    assert "maxconn 300" in found


def test_an_edit_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(LabError, match="configuration edit of HL7: expected a match of 'maxconn', found none"):
        edited(CONFIGURATION, [ConfigurationEdit("HL7", "maxconn", "x")])


def test_an_edit_of_an_unknown_vip_is_an_error() -> None:
    with pytest.raises(LabError, match="expected a section `listen DMWL`, found none"):
        edited(CONFIGURATION, [ConfigurationEdit("DMWL", "server", "x")])


def test_a_relay_takes_the_place_of_one_real_server() -> None:
    found = through_relay(CONFIGURATION, "DICOM", "TWO", "127.0.0.9", 4711)
    assert "server TWO 127.0.0.9:4711 id 2 check" in found
    assert found.replace("127.0.0.9:4711", "127.0.0.2:11112") == CONFIGURATION


def test_an_edit_of_a_unit_changes_its_own_file_alone() -> None:
    defects = Defects(
        configuration=(ConfigurationEdit(None, "maxconn 100", "maxconn 200"),),
        unit_configuration=(
            UnitEdit("lb-2", "keepalived.conf", "^nopreempt$", ""),
            UnitEdit("lb-2", "haproxy.cfg", "200", "300"),
        ),
    )
    edit = unit_editor(defects)
    assert edit("lb-1", "haproxy.cfg", "maxconn 100\n") == "maxconn 200\n"
    assert edit("lb-2", "haproxy.cfg", "maxconn 100\n") == "maxconn 300\n"
    assert edit("lb-1", "keepalived.conf", "nopreempt\n") == "nopreempt\n"
    assert edit("lb-2", "keepalived.conf", "nopreempt\n") == "\n"


def test_an_edit_of_a_unit_that_matches_nothing_is_an_error() -> None:
    edit = unit_editor(Defects(unit_configuration=(UnitEdit("lb-2", "filter.rules", "VRRP", ""),)))
    with pytest.raises(LabError, match=r"edit of filter\.rules of lb-2: expected a match of 'VRRP', found none"):
        edit("lb-2", "filter.rules", "COMMIT\n")
