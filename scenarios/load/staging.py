"""What every locustfile of this folder shares: the users' base class, the shape, and the wiring into Locust's events.

A locustfile imports `PlanShape` and its users; importing this module registers the rest with Locust.
"""

from __future__ import annotations

import functools
import logging
import os
import select
import signal
import sys
from typing import Any, ClassVar

import gevent
from gevent import monkey
from locust import LoadTestShape, User, events, task
from locust import log as locust_log
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, Runner, WorkerRunner

from lbconfig.site_file import SiteError

from .card import CardError
from .command_line import add_arguments, planned
from .conductor import Conductor
from .generator import Generator, end_with_parent
from .page_statistics import cut_forever
from .plan import PlanError, UserKind

FINISH_S = 30.0  # what is under way when the time is over may take so long, unless --stop-timeout says otherwise
_ENDED_EARLY = "the run was ended before its time"
_logger = logging.getLogger(__name__)


class PlannedUser(User):
    """One client, of the kind that its class names; what it does when stands in the plan."""

    abstract = True
    kind: ClassVar[UserKind]
    generator: ClassVar[Generator]

    @task
    def live(self) -> None:
        """Be a client until the run is over."""
        self.generator.live(self.kind)
        raise StopUser


class PlanShape(LoadTestShape):
    """All users of the plan at once, until every generator is done. Arrivals follow the plan, not the number of users."""

    conductor: Conductor | None = None
    use_common_options = True  # they are Locust's own, and mean nothing here: no warning about each

    def tick(self) -> tuple[int, float] | None:
        """Return the number of users and a spawn rate, or None when the run is over."""
        return self.conductor.tick() if self.conductor else None


def _on_parser(parser: LocustArgumentParser, **_: Any) -> None:  # noqa: ANN401  Locust's events are untyped
    add_arguments(parser)


def _on_init(environment: Environment, runner: Runner, **_: Any) -> None:  # noqa: ANN401
    """Wire this process up: as the conductor, as a generator, or as both."""
    options = environment.parsed_options
    if options is None:
        raise PlanError("expected Locust's command line, found Locust used as a library: run `locust -f`")
    conductor = generator = None
    if not isinstance(runner, WorkerRunner):
        try:
            plan, plan_file = planned(options)
            if isinstance(runner, MasterRunner) and options.expect_workers > plan.generators_at_most:
                raise PlanError(
                    f"{plan_file}: expected at most {plan.generators_at_most} generators (generators_at_most), found that "
                    f"{options.expect_workers} workers are waited for"
                )
        except (PlanError, CardError, SiteError) as error:
            _logger.critical("%s", error)
            sys.exit(1)
        conductor = Conductor(environment, runner, plan, plan_file, float(options.stop_timeout or FINISH_S))
        if isinstance(environment.shape_class, PlanShape):
            environment.shape_class.conductor = conductor
    if not isinstance(runner, MasterRunner):
        generator = Generator(environment, runner)
        for user_class in environment.user_classes:
            if issubclass(user_class, PlannedUser):
                user_class.generator = generator
    _end_well(environment, conductor, generator)
    gevent.spawn(cut_forever, environment.stats)
    if conductor and options.headless:
        _end_at_signals(conductor)
    elif isinstance(runner, WorkerRunner):
        gevent.signal_handler(signal.SIGINT, os.kill, os.getpid(), signal.SIGTERM)  # Locust's own way to end in good order


def _end_well(environment: Environment, conductor: Conductor | None, generator: Generator | None) -> None:
    """Let every end of a run be one in good order, and the exit code say whether the run was played."""
    options = environment.parsed_options  # with --autoquit nobody can start another run, so that a stop ends this one early
    is_only_run = options is not None and not options.headless and options.autoquit >= 0

    def on_stopping(**_: Any) -> None:  # noqa: ANN401
        if conductor and conductor.end() and is_only_run:
            conductor.note_failure(_ENDED_EARLY)
        if generator:
            generator.halt()

    def on_stop(**_: Any) -> None:  # noqa: ANN401
        if conductor:
            conductor.rest()

    def on_quitting(**_: Any) -> None:  # noqa: ANN401
        if conductor and conductor.end():
            conductor.note_failure(_ENDED_EARLY)
        if generator:
            generator.halt()
            generator.close()
        is_broken = conductor is not None and bool(conductor.broke)
        is_broken = is_broken or locust_log.unhandled_greenlet_exception or bool(environment.process_exit_code)
        environment.process_exit_code = int(is_broken)

    environment.events.test_stopping.add_listener(on_stopping)
    environment.events.test_stop.add_listener(on_stop)
    environment.events.quitting.add_listener(on_quitting)


def _end_at_signals(conductor: Conductor) -> None:
    """End in good order at SIGTERM and Ctrl-C: while a shape is played headless, Locust itself does not mind the first."""

    def end() -> None:
        if not conductor.has_begun:
            sys.exit(1)
        if conductor.end():
            conductor.note_failure(_ENDED_EARLY)

    gevent.signal_handler(signal.SIGTERM, end)
    gevent.signal_handler(signal.SIGINT, end)


# Our clients ask, without waiting, whether something came on a connection. gevent's poll takes a turn of its loop to answer
# that, which costs an operation as much again as all the rest of it; the kernel's own does not wait either.
setattr(select, "poll", monkey.get_original("select", "poll"))  # noqa: B010  to mypy it is a class
# In the child at once: while it looks for its master, Locust tells us nothing, and it looks for five minutes.
os.register_at_fork(after_in_child=functools.partial(end_with_parent, os.getpid()))
events.init_command_line_parser.add_listener(_on_parser)
events.init.add_listener(_on_init)
