"""Which plants are tried: all of them, or a seeded sample."""

import random

import pytest

from lbconfig.site_file import load_site
from scenarios.options import DEFAULT_SITE
from scenarios.plants import plants


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", type=int, default=None, help="try only so many plants, drawn by --sample-seed")
    parser.addoption("--sample-seed", type=int, default=0, help="the seed of the sample")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    known = list(plants(load_site(DEFAULT_SITE)))
    count = metafunc.config.getoption("--sample")
    if count is not None:
        known = random.Random(metafunc.config.getoption("--sample-seed")).sample(known, min(count, len(known)))
    metafunc.parametrize("plant", known, ids=[plant.id for plant in known])
