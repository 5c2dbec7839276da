from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from scenarios.load.card import CardError, LabCard, newest_card, read_card, write_card

CARD = LabCard(
    site="site.toml", ca_file="ca.pem", web_user="preflight", web_password="secret", server_name="127.0.110.103",
    study_uids=("2.25.1",), worklist_stations=("PFLOAD1",), sources=("127.1.0.1", "127.1.9.1"),
)  # fmt: skip


def test_a_card_that_was_written_is_read_back_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "out" / "card.json"
    write_card(CARD, path)
    assert read_card(path) == CARD
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_no_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text('{"site": 1}')
    with pytest.raises(CardError, match=r"card\.json: expected the card of a lab"):
        read_card(path)


def test_the_newest_card_is_the_one_that_was_written_last(tmp_path: Path) -> None:
    for name, at_ns in (("lab-b", 2_000_000_000), ("lab-a", 3_000_000_000), ("lab-c", 1_000_000_000)):
        path = tmp_path / "out" / name / "card.json"
        write_card(CARD, path)
        os.utime(path, ns=(at_ns, at_ns))
    assert newest_card(tmp_path) == tmp_path / "out" / "lab-a" / "card.json"


def test_without_a_card_one_is_told_how_to_get_a_lab(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="preflight lab up"):
        newest_card(tmp_path)
