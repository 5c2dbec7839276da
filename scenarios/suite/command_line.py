"""The options of the report's contract, as pytest takes them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from compose.layout import LAB, site_file
from scenarios.options import DEFAULT_OUT, SITE_OF_LAB, LabKind, LoadOptions, Options, fresh_seed


def add_options(parser: pytest.Parser) -> None:
    """Offer the options of the report's contract."""
    group = parser.getgroup("preflight")
    group.addoption("--site", type=Path, default=None, help="the site file (default: the lab's own)")
    group.addoption("--lab", choices=get_args(LabKind), default="native", help="where it runs (compose: in its tester)")
    group.addoption("--profile", default="standard", help="a set of checks by name")
    group.addoption("--seed", type=int, default=None, help="the seed of every random choice (default: a new one)")
    group.addoption(
        "--only", action="append", default=[], help="a check id, such as PERSIST-1 or PERSIST-1/HL7; may be repeated"
    )
    group.addoption("--out", type=Path, default=DEFAULT_OUT, help="the report's folder")
    group.addoption("--plant", default=None, help="a defect that is put there on purpose (see `preflight plants`)")
    group.addoption("--images", type=Path, default=None, help="a folder of DICOM files to store as well")
    group.addoption("--messages", type=Path, default=None, help="a folder of HL7 files to send as well")
    group.addoption("--exams-per-year", type=float, default=None, help="of load runs, in place of the site's own")
    group.addoption("--duration", type=float, default=None, help="of the profile's main load run, in seconds")
    group.addoption("--factor", type=float, default=None, help="of the main load run: times the peak hour's rate")
    group.addoption("--shape", choices=("steady", "steps", "day"), default="steady", help="of the main load run")
    group.addoption("--processes", type=int, default=1, help="load generators (from two on under Locust's master)")
    group.addoption("--workers", type=int, default=0, help="of a compose lab: containers that are load generators")
    group.addoption("--page", type=int, default=None, help="the port of Locust's own page during the main load run")
    group.addoption("--shown-site", type=Path, default=None, help="what the report calls the site file")
    group.addoption("--shown-out", type=Path, default=None, help="what the report's folder is called outside")
    group.addoption("--board", action="store_true", help="show the verdicts as they come, instead of pytest's own lines")


def options_of(config: pytest.Config) -> Options:
    """Return what the command line asks for; nothing of it is checked yet."""
    seed = config.getoption("--seed")
    return Options(
        site=config.getoption("--site") or _site_of(config.getoption("--lab")),
        lab=config.getoption("--lab"),
        profile=config.getoption("--profile"),
        seed=fresh_seed() if seed is None else seed,
        only=tuple(config.getoption("--only")),
        out=config.getoption("--out"),
        plant=config.getoption("--plant"),
        images=config.getoption("--images"),
        messages=config.getoption("--messages"),
        load=LoadOptions(
            exams_per_year=config.getoption("--exams-per-year"),
            duration_s=config.getoption("--duration"),
            factor=config.getoption("--factor"),
            shape=config.getoption("--shape"),
            processes=config.getoption("--processes"),
            page=config.getoption("--page"),
            workers=config.getoption("--workers"),
        ),
        shown_site=config.getoption("--shown-site"),
        shown_out=config.getoption("--shown-out"),
    )


def _site_of(lab: LabKind) -> Path:
    """Return the site that runs where none is named: in a lab's tester, that of the lab."""
    own = site_file(Path(LAB))
    return own if lab == "compose" and own.is_file() else SITE_OF_LAB[lab]
