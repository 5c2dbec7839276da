"""One generator of load: what the process that runs users asks of Locust's master, and does on its word.

It asks for its number as soon as it is there. Before each run it is told its part, prepares its clients, reports when all
of them wait, begins at the moment it is told, and reports when all of them have left. When its master is gone, or whoever
forked it, it ends the run in good order.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import time
from pathlib import Path

import gevent
import msgspec
import xxhash
from gevent.event import Event
from locust import log as locust_log
from locust.env import Environment
from locust.rpc import Message
from locust.runners import Runner, WorkerRunner

from lbconfig.site_file import load_site
from simulators.operations import IdentitySource, Kind, Operation, Outcome, Phase, Service

from .clients import ClientFactory
from .messages import BEGIN, DONE, END, NUMBER, NUMBER_PLEASE, PART, READY, BeginAt, Done, Hello, Number, PartOf, pid_space
from .numbering import OWN_SOURCES_VARIABLE, Part, sources_of
from .plan import PLAN_VARIABLE, LoadPlan, PlanError, UserKind, read_plan
from .play import Play
from .recording import Recorder

MASTER_SILENT_S = 10.0  # its heartbeat comes every second
_ASK_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1
_NAMES: dict[tuple[int, int], tuple[str, str]] = {
    (Service.DICOM, Kind.INSTANCE): ("DICOM", "C-STORE"), (Service.HL7, Kind.MESSAGE): ("HL7", "message"),
    (Service.DMWL, Kind.QUERY): ("DMWL", "C-FIND"), (Service.HTTPS, Kind.ECHO): ("HTTPS", "login"),
    (Service.HTTPS, Kind.QUERY): ("HTTPS", "page"), (Service.HTTPS, Kind.NOTE): ("HTTPS", "note"),
}  # fmt: skip
_logger = logging.getLogger(__name__)


class Generator:
    """A generator, for as long as its process lives.

    Parameters
    ----------
    environment : Environment
        Locust's.
    runner : Runner
        A worker's, or the local one.
    """

    def __init__(self, environment: Environment, runner: Runner) -> None:
        self._environment = environment
        self._runner = runner
        self._numbered = Event()
        self._number = 0
        self._recorder: Recorder | None = None
        self._identities: IdentitySource | None = None
        self._play: Play | None = None
        self._arranged = Event()  # nothing is being prepared: whether there is a run to take part in is known
        self._arranged.set()
        self._heard_ns = time.monotonic_ns()
        runner.register_message(NUMBER, self._on_number)
        runner.register_message(PART, self._on_part)
        runner.register_message(BEGIN, self._on_begin)
        runner.register_message(END, self._on_end, concurrent=True)  # it waits, and the master's words must not
        gevent.spawn(self._ask)
        if isinstance(runner, WorkerRunner):
            environment.events.heartbeat_received.add_listener(self._on_heartbeat)
            gevent.spawn(self._mind_the_master)

    def live(self, kind: UserKind) -> None:
        """Be one client, in the greenlet of a Locust user, until the run is over."""
        self._arranged.wait()
        if self._play is not None:
            self._play.live(kind)

    def halt(self) -> None:
        """End the run, if there is one; return when everything is written down and the master has been told."""
        self._arranged.wait()
        play = self._play
        if play is not None:
            play.halt()
            self._tell_done(play)

    def close(self) -> None:
        """Close the records."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    def _ask(self) -> None:
        hello = Hello(space=pid_space(), pid=os.getpid())
        while not self._numbered.is_set():
            self._runner.send_message(NUMBER_PLEASE, msgspec.to_builtins(hello))
            self._numbered.wait(_ASK_EVERY_S)

    def _on_number(self, environment: Environment, msg: Message) -> None:
        number = msgspec.convert(msg.data, Number)
        if self._numbered.is_set():
            return
        self._numbered.set()
        if number.refused:
            _logger.critical("%s", number.refused)
            environment.process_exit_code = 1
            gevent.spawn(self._runner.quit)  # which ends the process; not from here, since it ends this greenlet too
            return
        self._number = number.generator
        _logger.info("generator %d of run %08x", number.generator, number.run)

    def _on_part(self, environment: Environment, msg: Message) -> None:
        """Have the clients of a run prepared: not by this greenlet, which is the one that hears the master."""
        self._arranged.clear()
        gevent.spawn(self._take_part, msgspec.convert(msg.data, PartOf))

    def _take_part(self, part_of: PartOf) -> None:
        """Prepare the clients of a run. What goes wrong is told to the master: a greenlet's exception is only logged."""
        try:
            plan = plan_of(part_of)
            self._play = play = self._prepared(plan, part_of)
        except Exception as error:  # the boundary to the master: whatever it is, it must hear of it
            _logger.exception("generator %d cannot be prepared", self._number)
            self._send(DONE, Done(generator=self._number, operations=0, broke=f"{type(error).__name__}: {error}"))
            return
        finally:
            self._arranged.set()
        self._report(play)

    def _prepared(self, plan: LoadPlan, part_of: PartOf) -> Play:
        part = Part(self._number, part_of.place, part_of.generators)
        site = load_site(Path(plan.site))
        if self._recorder is None or self._identities is None:
            self._recorder = Recorder(Path(plan.records), part.generator)
            self._identities = IdentitySource(plan.run, part.generator)
        # Locust's master misses a worker after four seconds without a heartbeat, and ends the run with the last one.
        # So what takes seconds, images and templates, is made by a thread that gevent's loop does not wait for.
        factory = gevent.get_hub().threadpool.apply(ClientFactory, (plan, site, self._identities))
        sources = sources_of(plan, part, os.environ.get(OWN_SOURCES_VARIABLE))
        wanted = {user_class.kind for user_class in self._environment.user_classes if hasattr(user_class, "kind")}
        clients = {
            kind: [factory.client(kind, source) for source in of_kind] if kind in wanted else []
            for kind, of_kind in sources.items()
        }
        gc.collect()
        gc.freeze()  # what is there now stays: thousands of clients are not gone through again while arrivals are due
        return Play(plan, part, clients, self._recorder, self._told, part_of.finish_s)

    def _report(self, play: Play) -> None:
        """Tell the master when all clients wait, and when all have left."""
        play.ready.wait()
        self._send(READY, None)
        play.ended.wait()
        self._tell_done(play)

    def _tell_done(self, play: Play) -> None:
        if self._play is play and play.ended.is_set():
            self._play = None
            broke = play.broke or ("a listener failed: see the log" if locust_log.unhandled_greenlet_exception else "")
            handled = self._recorder.handled if self._recorder else 0
            self._send(DONE, Done(generator=self._number, operations=handled, broke=broke))

    def _on_begin(self, environment: Environment, msg: Message) -> None:
        if self._play is not None:
            self._play.begin(msgspec.convert(msg.data, BeginAt).here_ns())

    def _on_end(self, environment: Environment, msg: Message) -> None:
        self.halt()

    def _send(self, name: str, content: msgspec.Struct | None) -> None:
        self._runner.send_message(name, msgspec.to_builtins(content))

    def _told(self, operation: Operation) -> None:
        """Show an operation on Locust's page. Its percentiles are coarse: verdicts rest on the records alone."""
        kind, name = _NAMES.get((operation.service, operation.kind), ("", "other"))
        failure = None
        if operation.outcome != Outcome.ACKNOWLEDGED:
            failure = f"{Outcome(operation.outcome).name.lower()} at {Phase(operation.phase).name}"
        self._environment.events.request.fire(
            request_type=kind, name=name, response_time=(operation.ended_ns - operation.intended_ns) / 1e6,
            response_length=operation.size_bytes, exception=failure, context={},
        )  # fmt: skip

    def _on_heartbeat(self, **_: object) -> None:
        self._heard_ns = time.monotonic_ns()

    def _mind_the_master(self) -> None:
        """End this process when its master is silent: Locust itself would wait for a minute."""
        silent_s, heard_ns = 0.0, 0
        while silent_s < MASTER_SILENT_S:  # counted in turns, not by the clock: this loop may have been deaf itself
            gevent.sleep(1.0)
            silent_s = silent_s + 1.0 if self._heard_ns == heard_ns else 0.0
            heard_ns = self._heard_ns
        _logger.critical("generator %d: the master is silent for %g s: ended", self._number, MASTER_SILENT_S)
        os.kill(os.getpid(), signal.SIGTERM)


def plan_of(part_of: PartOf) -> LoadPlan:
    """Return the plan that the master plays: the same file, or this machine's own copy of it.

    Raises
    ------
    PlanError
        When there is none, or it is another plan.
    """
    path = Path(part_of.plan)
    if not path.exists():
        own = os.environ.get(PLAN_VARIABLE)
        if own is None:
            raise PlanError(
                f"{path}: expected the master's plan, found no such file. Copy it here, or name it in {PLAN_VARIABLE}"
            )
        path = Path(own)
    plan = read_plan(path)
    if digest_of(plan) != part_of.digest:
        raise PlanError(f"{path}: expected the plan that the master plays ({part_of.plan}), found another one")
    return plan


def digest_of(plan: LoadPlan) -> str:
    """Return what two equal plans have in common."""
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(plan))


def end_with_parent(parent: int) -> None:
    """Let this process be ended (SIGTERM) when the process that forked it dies, whatever kills that.

    Parameters
    ----------
    parent : int
        Its pid, from before the fork.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died between the fork and here
        os.kill(os.getpid(), signal.SIGTERM)
