"""What a load run is told on Locust's own command line, where no plan was written for it.

`PREFLIGHT_LOAD_PLAN` names a plan; without it, one is made of these options and of the card of a lab that is up.
"""

from __future__ import annotations

import argparse
import math
import os
import secrets
from pathlib import Path
from typing import Protocol

import msgspec

from lbconfig.site_file import load_site
from scenarios.options import MOST_EXAMS

from .card import newest_card, read_card
from .model import demand_of, user_plans
from .plan import PLAN_VARIABLE, LoadPlan, PlanError, Shape, Web, read_plan, write_plan

CHECKOUT = Path(__file__).resolve().parents[2]
SHAPES = ("steady", "steps", "day", "storm", "closed")
_STEPS = 6
_LEAST_GENERATORS = 8


class Parser(Protocol):
    """What is needed of Locust's parser."""

    def add_argument_group(self, title: str) -> argparse._ArgumentGroup:
        """Begin a group of options."""


def add_arguments(parser: Parser) -> None:
    """Add Preflight's options to Locust's."""
    group = parser.add_argument_group(f"Preflight (without {PLAN_VARIABLE})")
    add = group.add_argument
    add("--site", default="", help="The site file (default: the one of the lab's card)")
    add("--lab-card", default="", help="The card of the lab (default: the newest out/lab-*/card.json)")
    add("--exams-per-year", type=float, default=0, help="Exams a year (default: the site file's)")
    add("--load-factor", type=float, default=1.5, help="Times the peak hour")
    add("--load-shape", choices=SHAPES, default="steady", help="How arrivals are spread over the time")
    add("--duration", type=float, default=60, help="Seconds")
    add("--records", default="", help="The folder to write into (default: out/load-<run>)")
    add("--seed", type=int, default=0, help="Of every random choice")


def planned(options: argparse.Namespace) -> tuple[LoadPlan, Path]:
    """Return the plan to play, and its file.

    Raises
    ------
    PlanError, CardError, SiteError
        When a file that the plan is made of is missing or cannot be used.
    """
    path = os.environ.get(PLAN_VARIABLE)
    if path is not None:
        return read_plan(Path(path)), Path(path).resolve()
    plan = plan_of_options(options)
    file = Path(plan.records) / "plan.json"
    write_plan(plan, file)
    return plan, file


def plan_of_options(options: argparse.Namespace) -> LoadPlan:
    """Make a plan of what stands on the command line."""
    card = read_card(Path(options.lab_card) if options.lab_card else newest_card(CHECKOUT))
    site_file = Path(options.site or card.site).resolve()
    load = load_site(site_file).load
    _check(options)
    if options.exams_per_year:
        load = msgspec.structs.replace(load, exams_per_year=round(options.exams_per_year))
    shape = Shape(kind=options.load_shape, step_s=options.duration / _STEPS)
    users = user_plans(demand_of(load), factor=options.load_factor, duration_s=options.duration, shape=shape)
    run = secrets.randbits(32)
    records = Path(options.records) if options.records else CHECKOUT / "out" / f"load-{run:08x}"
    generators = max(_LEAST_GENERATORS, options.processes or 0, options.expect_workers or 0)
    return LoadPlan(
        site=str(site_file), run=run, seed=options.seed, workload=1, records=str(records.resolve()),
        generators_at_most=generators, sources=card.sources, duration_s=options.duration, users=users,
        web=Web(
            user=card.web_user, password=card.web_password, ca_file=card.ca_file, server_name=card.server_name,
            study_uids=card.study_uids,
        ),
        worklist_stations=card.worklist_stations,
    )  # fmt: skip


def _check(options: argparse.Namespace) -> None:
    for name, value in (("--duration", options.duration), ("--load-factor", options.load_factor)):
        if not 0 < value < math.inf:
            raise PlanError(f"{name}: expected a number above 0, found {value:g}")
    if options.exams_per_year and not 1 <= options.exams_per_year <= MOST_EXAMS:
        raise PlanError(f"--exams-per-year: expected 1 to {MOST_EXAMS}, found {options.exams_per_year:g}")
    if options.seed < 0:
        raise PlanError(f"--seed: expected 0 or more, found {options.seed}")
