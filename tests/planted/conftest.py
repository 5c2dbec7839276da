"""Which plants are tried, and on which site: all of them, or a seeded sample.

What the default site cannot show, because it waives the check or has not the setting, is tried on one that can; what only
a lab of containers can show, on the site of that lab.
"""

import random
from pathlib import Path

import pytest

from lbconfig.site_file import load_site
from scenarios.options import (
    DEFAULT_SITE,
    HARDENED_SITE,
    PAIR_HARDENED_SITE,
    PROXIED_SITE,
    SITE_OF_LAB,
    TRANSPARENT_SITE,
    TWO_ARM_SITE,
)  # fmt: skip
from scenarios.plants import Plant, plants


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", type=int, default=None, help="try only so many plants, drawn by --sample-seed")
    parser.addoption(
        "--plant-profile",
        default="standard",
        help="try only the plants of this profile (`pair`: all that need containers), or of `all`",
    )
    parser.addoption("--sample-seed", type=int, default=0, help="the seed of the sample")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    profile = metafunc.config.getoption("--plant-profile")
    tried: dict[str, tuple[Path, Plant]] = {}
    sites = [(site, "native") for site in (DEFAULT_SITE, HARDENED_SITE, PROXIED_SITE)]
    sites += [(site, "compose") for site in (SITE_OF_LAB["compose"], PAIR_HARDENED_SITE, TRANSPARENT_SITE, TWO_ARM_SITE)]
    for site, lab in sites:
        for plant in plants(load_site(site)):
            if plant.lab == lab:
                tried.setdefault(plant.id, (site, plant))
    known = [(site, plant) for site, plant in tried.values() if profile in (_group(plant), "all")]
    count = metafunc.config.getoption("--sample")
    if count is not None:
        known = random.Random(metafunc.config.getoption("--sample-seed")).sample(known, min(count, len(known)))
    metafunc.parametrize(("site", "plant"), known, ids=[plant.id for _, plant in known])


def _group(plant: Plant) -> str:
    """Return the profile that a plant is tried with: what needs containers with the pair, so that nothing else does."""
    return plant.profile if plant.lab == "native" else "pair"
