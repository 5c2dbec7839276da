"""One load run in one generator, from its start to its end: clients as greenlets, arrivals in real time.

Needs gevent's loop; Locust knows nothing of it. Times are `monotonic_ns` of this host.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import gevent
from gevent.event import Event

from simulators.operations import Operation, Outcome, Service
from simulators.pulse import BEAT_S

from .arrivals import Schedule, schedule_of, waited_for
from .clients import Client
from .numbering import Part
from .plan import SERVICE_OF_USER, LoadPlan, UserKind, UserPlan
from .recording import Recorder
from .records import Arrival, Fate, WaitedFor
from .shapes import storm_of
from .turns import Turns

GRACE_NS = 1_000_000_000  # an arrival may still begin so long after its plan is over; later it is dropped
_GOLDEN = (5**0.5 - 1) / 2  # its multiples, without their integer parts, choose evenly from any mix
_LEAVES_WITHIN_S = 10.0  # after being cut off, a client has nothing left to wait for
AnyGreenlet: TypeAlias = "gevent.Greenlet[..., object]"
_logger = logging.getLogger(__name__)


class RunEnded(TimeoutError):
    """The run is over, and what was under way takes no more time."""


class Handed(NamedTuple):
    """An arrival that is offered to the clients: when it was due, when it was offered, what it is, the rate intended then."""

    due_ns: int
    handed_ns: int
    choice: float
    rate: float


class Pool:
    """The arrivals of one plan and the clients that take them: whoever has been free longest."""

    def __init__(self, user: UserPlan, schedule: Schedule) -> None:
        self.user = user
        self.schedule = schedule
        self.turns: Turns[Handed] = Turns()


class Play:
    """One run in one generator.

    Parameters
    ----------
    plan : LoadPlan
        What is played.
    part : Part
        Which generator of how many this is.
    clients : dict of UserKind to list of Client
        Its clients, in the order of their numbers.
    recorder : Recorder
        Where everything is written down.
    report : function of an Operation
        Told of every operation too: Locust's page shows them.
    finish_s : float
        How long what is under way at the end may take; then it is cut off.
    """

    def __init__(
        self, plan: LoadPlan, part: Part, clients: dict[UserKind, list[Client]], recorder: Recorder,
        report: Callable[[Operation], None], finish_s: float,
    ) -> None:  # fmt: skip
        self.ready = Event()  # every client has its greenlet, and waits for the begin
        self.ended = Event()  # every client has left
        self.broke = ""  # why the generator itself failed; empty when it did not
        self.is_halted = False  # ended from outside: no further operation begins
        self._plan = plan
        self._part = part
        self._clients = clients
        self._recorder = recorder
        self._report = report
        self._finish_s = finish_s
        self._begun = Event()
        self._zero_ns = 0
        self._is_cut = False
        self._seats = {kind: iter(zip(part.clients(1 << 40), of_kind, strict=False)) for kind, of_kind in clients.items()}
        self._expected = sum(map(len, clients.values()))
        self._seated = 0
        self._left = 0
        self._greenlets: set[AnyGreenlet] = set()
        self._sleepers: set[AnyGreenlet] = set()
        self._pools = {
            place: Pool(user, self._schedule(place, user))
            for place, user in enumerate(plan.users)
            if user.shape.kind not in ("storm", "closed") and clients.get(user.kind)
        }
        self._helpers = [gevent.spawn(self._guarded, self._beat)]
        if not self._expected:
            self.ready.set()

    def begin(self, at_ns: int) -> None:
        """Let the run begin at a moment of this host's monotonic clock."""
        self._zero_ns = at_ns
        self._helpers += [gevent.spawn(self._guarded, self._hand_out, pool) for pool in self._pools.values()]
        self._helpers.append(gevent.spawn(self._guarded, self._watch))
        self._begun.set()
        if not self._expected:
            self._leave()

    def live(self, kind: UserKind) -> None:
        """Be one client of a kind for the whole run, in the greenlet of the caller; return at its end.

        Returns at once when all clients of the kind are taken.
        """
        seat = None if self.is_halted else next(self._seats[kind], None)
        if seat is None:
            return
        number, client = seat
        greenlet = _this_greenlet()
        self._greenlets.add(greenlet)
        self._seated += 1
        if self._seated == self._expected:
            self.ready.set()
        try:
            self._guarded(self._act, kind, number, client)
        finally:
            self._greenlets.discard(greenlet)
            self._left += 1
            self._leave()

    def halt(self) -> None:
        """End the run now: nothing further begins, operations under way may end; return when all clients have left."""
        if self.ended.is_set():
            return
        self.is_halted = True
        self._begun.set()
        for pool in self._pools.values():
            pool.turns.close()
        for greenlet in list(self._sleepers):
            greenlet.kill(RunEnded("the run was ended"), block=False)
        if not self.ready.is_set():
            self._expected = self._seated  # nobody else is let in
            self._leave()
        if not self.ended.wait(self._finish_s):
            self._cut()

    def connections(self) -> int:
        """Return how many clients hold a connection, as far as they know."""
        return sum(client.is_connected for clients in self._clients.values() for client in clients)

    def _schedule(self, place: int, user: UserPlan) -> Schedule:
        return schedule_of(user, self._plan.seed, place, index=self._part.place, generators=self._part.generators)

    def _guarded(self, body: Callable[..., None], *arguments: object) -> None:
        """Do something; an error of ours ends in `broke` and in the log, and ends the run."""
        try:
            body(*arguments)
        except RunEnded:
            return
        except Exception as error:  # the boundary of a greenlet: gevent would print it, and go on
            if not self.broke:
                self.broke = f"{type(error).__name__}: {error}"
                _logger.critical("generator %d: %s", self._part.generator, traceback.format_exc())
            self.is_halted = True

    def _leave(self) -> None:
        """Note that a client has left; the last one ends the run."""
        if self._left < self._expected or self.ended.is_set():
            return
        self._helpers[0].kill()
        for helper in self._helpers[1:]:
            helper.kill(block=False)
        self._recorder.last_pulse(self.connections())
        self.ended.set()

    def _act(self, kind: UserKind, number: int, client: Client) -> None:
        self._begun.wait()
        try:
            for place, user in sorted(enumerate(self._plan.users), key=lambda one: one[1].starts_s):
                if user.kind != kind or number >= user.clients or self.is_halted:
                    continue
                if user.shape.kind == "storm":
                    self._brave(user, number, client)
                elif user.shape.kind == "closed":
                    self._go_on(user, number, client)
                else:
                    self._serve(self._pools[place], client)
        finally:
            client.hang_up()

    def _serve(self, pool: Pool, client: Client) -> None:
        """Take arrivals of a plan until there are no more."""
        over_ns = self._over_ns(pool.user) + GRACE_NS
        free_ns = time.monotonic_ns()
        while (handed := pool.turns.take()) is not None:
            now_ns = time.monotonic_ns()
            waited = waited_for(handed.due_ns, handed.handed_ns, free_ns, now_ns)
            if now_ns > over_ns or self.is_halted:
                self._written(pool.user, Fate.DROPPED, waited, handed.due_ns, now_ns, now_ns, 0, 0, handed.rate)
                continue
            self._carry_out(pool.user, client, handed.due_ns, waited, handed.choice, handed.rate)
            free_ns = time.monotonic_ns()

    def _go_on(self, user: UserPlan, number: int, client: Client) -> None:
        """Go on as soon as the last thing has ended. Nothing arrives here, so that no arrivals are written down."""
        over_ns = self._over_ns(user)
        self._sleep_until(self._at_ns(user.starts_s))
        choice = number * _GOLDEN
        while (now_ns := time.monotonic_ns()) < over_ns and not self.is_halted:
            choice = (choice + _GOLDEN) % 1.0
            for operation in client.arrive(user, now_ns, choice):
                self._tell(operation)

    def _brave(self, user: UserPlan, number: int, client: Client) -> None:
        """Connect at leisure, hang up, and come back at the instant at which all do."""
        storm = storm_of(user)
        self._touch(user, client, self._at_ns(storm.connects_s(number, user.clients)))
        self._sleep_until(self._at_ns(storm.hush_s))
        client.hang_up()
        self._touch(user, client, self._at_ns(storm.instant_s))

    def _touch(self, user: UserPlan, client: Client, due_ns: int) -> None:
        """Do one small operation when it is due, over a connection that stays."""
        free_ns = time.monotonic_ns()
        self._sleep_until(due_ns)
        if self.is_halted:
            return
        begun_ns = time.monotonic_ns()
        waited = waited_for(due_ns, due_ns, free_ns, begun_ns)
        operation = client.touch(due_ns)
        self._tell(operation)
        fate = Fate.CUT if self._is_cut else Fate.DONE
        failed = operation.outcome != Outcome.ACKNOWLEDGED
        self._written(user, fate, waited, due_ns, begun_ns, operation.ended_ns, 1, int(failed), 0.0)

    def _carry_out(
        self, user: UserPlan, client: Client, due_ns: int, waited: WaitedFor, choice: float, rate: float
    ) -> None:  # fmt: skip
        begun_ns = time.monotonic_ns()
        operations = failed = 0
        fate = Fate.DONE
        steps = client.arrive(user, due_ns, choice)
        for operation in steps:
            self._tell(operation)
            operations += 1
            failed += operation.outcome != Outcome.ACKNOWLEDGED
            if self._is_cut or (self.is_halted and user.kind in ("modality", "viewer")):
                fate = Fate.CUT
                steps.close()
        self._written(user, fate, waited, due_ns, begun_ns, time.monotonic_ns(), operations, failed, rate)

    def _tell(self, operation: Operation) -> None:
        self._recorder.operation(operation)
        self._report(operation)

    def _written(
        self, user: UserPlan, fate: Fate, waited: WaitedFor, due_ns: int, begun_ns: int, ended_ns: int, operations: int,
        failed: int, rate: float,
    ) -> None:  # fmt: skip
        service = Service[SERVICE_OF_USER[user.kind].upper()]
        self._recorder.arrival(
            Arrival(
                self._plan.workload, self._part.generator, service, fate, waited, due_ns, begun_ns, ended_ns, operations,
                failed, round(rate * 1000),
            )
        )  # fmt: skip

    def _hand_out(self, pool: Pool) -> None:
        """Offer each arrival of a plan when it is due."""
        try:
            for due_s, choice, rate in pool.schedule.each():
                due_ns = self._at_ns(due_s)
                if due_ns > self._over_ns(pool.user):
                    break
                self._sleep_until(due_ns)
                pool.turns.offer(Handed(due_ns, time.monotonic_ns(), choice, rate))
            self._sleep_until(self._over_ns(pool.user))
        finally:
            pool.turns.close()

    def _watch(self) -> None:
        """Cut off what takes longer than the run's end allows."""
        self._sleep_until(self._at_ns(self._plan.duration_s))
        if not self.ended.wait(self._finish_s):
            self._cut()

    def _cut(self) -> None:
        """Throw an error of the network into every wait of a client: each operation under way ends, with its fate."""
        self._is_cut = self.is_halted = True
        for greenlet in list(self._greenlets):
            greenlet.kill(RunEnded("the run is over"), block=False)
        if not self.ended.wait(_LEAVES_WITHIN_S):
            self.broke = self.broke or f"expected all clients to leave, found {self._expected - self._left} that did not"
            self._left = self._expected
            self._leave()

    def _beat(self) -> None:
        """Feel the pulse of this generator: how late its loop wakes."""
        while True:
            due_ns = time.monotonic_ns() + round(BEAT_S * 1e9)
            gevent.sleep(BEAT_S)
            self._recorder.beat(time.monotonic_ns() - due_ns, self.connections())

    def _at_ns(self, at_s: float) -> int:
        return self._zero_ns + round(at_s * 1e9)

    def _over_ns(self, user: UserPlan) -> int:
        return self._at_ns(min(user.starts_s + user.lasts_s, self._plan.duration_s))

    def _sleep_until(self, due_ns: int) -> None:
        """Sleep until a moment, or until the run is halted: that raises RunEnded."""
        greenlet = _this_greenlet()
        self._sleepers.add(greenlet)
        try:
            while (left_ns := due_ns - time.monotonic_ns()) > 0:
                gevent.sleep(left_ns / 1e9)
        finally:
            self._sleepers.discard(greenlet)


def _this_greenlet() -> AnyGreenlet:
    current = gevent.getcurrent()
    if not isinstance(current, gevent.Greenlet):
        raise TypeError(f"expected a client in a greenlet of gevent's, found {current!r}")
    return current
