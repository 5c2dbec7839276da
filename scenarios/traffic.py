"""Traffic on all VIPs at once while something is broken: sources of each role, until the episode is told."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable

from lbconfig.site import Vip
from scenarios.episodes import Role, Source
from scenarios.run import Run
from scenarios.talkers import Talker
from simulators.client import Attempt
from simulators.operations import Outcome

ESTABLISHED_SOURCES = 4  # of each VIP: least connections puts two on each of two nodes
STICKY_SOURCES = 4
PACE_S = 0.3
RETRY_S = 0.25
WARM_UP_S = 25.0
NEW_SOURCES_AT_MOST = 12
HELD_WITHIN_S = 10.0

TalkerFactory = Callable[[Vip, str], Talker]


class EpisodeError(Exception):
    """An episode could not be played; the message says what was expected and what was found."""


class Gate:
    """Lets connections through while it is open, and knows how many are under way."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_open = True
        self._under_way = 0

    def __enter__(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._is_open)
            self._under_way += 1

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._under_way -= 1
            self._condition.notify_all()

    def close(self, within_s: float) -> None:
        """Let nobody through any more; return when nobody is under way, or the time is over."""
        with self._condition:
            self._is_open = False
            self._condition.wait_for(lambda: not self._under_way, within_s)

    def open(self) -> None:
        """Let everybody through again."""
        with self._condition:
            self._is_open = True
            self._condition.notify_all()


class Living:
    """One source that lives its role in a thread of its own, and what is known of it while it does."""

    def __init__(self, talker: Talker, source: Source, workload: int) -> None:
        self.source = source
        self.last_acknowledged_begun_ns = 0
        self.failure: BaseException | None = None
        self._talker = talker
        self._workload = workload
        self._finish = threading.Event()

    def finish_work(self) -> None:
        """End the open session after what is under way, then go on over a new one."""
        self._finish.set()

    def say_once(self, leave: threading.Event, *, tries_at_most: int | None = None) -> None:
        """Say one thing, again and again with the same identity, until it is acknowledged or there is no more time."""
        identity = self._talker.new_identity()
        number = 1
        for tries in itertools.count(1):
            operation = self._talker.say(Attempt(identity, number, workload=self._workload))
            if operation.outcome == Outcome.ACKNOWLEDGED:
                self.last_acknowledged_begun_ns = operation.begun_ns
                return
            number += operation.key == identity.key  # a login that failed is no attempt to deliver the note
            if tries == tries_at_most or leave.wait(RETRY_S):
                return

    def hang_up(self) -> None:
        """End the session in an orderly way."""
        self._talker.hang_up()

    def live(self, leave: threading.Event, may_connect: Gate) -> None:
        """Live the role until told to leave, then hang up. A sticky source connects only while the gate is open."""
        sticky = self.source.role is Role.STICKY
        try:
            while not leave.is_set():
                with may_connect if sticky else contextlib.nullcontext():
                    self.say_once(leave)
                    if sticky or self._finish.is_set():
                        self._finish.clear()
                        self._talker.hang_up()
                leave.wait(PACE_S)
            self._talker.hang_up()
        except BaseException as error:
            self.failure = error
            raise


class Traffic:
    """The sources of one episode, on every VIP.

    Parameters
    ----------
    run : Run
        Whose history it writes.
    make_talker : function of (Vip, source address)
        Makes a talker through the VIP.
    workload : int
        The number of its operations.
    """

    def __init__(self, run: Run, make_talker: TalkerFactory, workload: int) -> None:
        self._run = run
        self._make_talker = make_talker
        self._workload = workload
        self._leave = threading.Event()
        self._no_more_new = threading.Event()
        self._gate = Gate()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.living: list[Living] = []
        self.work_finished_ns = 0

    @property
    def residents(self) -> list[Living]:
        """The sticky and established sources."""
        return [living for living in self.living if living.source.role is not Role.NEW]

    def warm_up(self) -> None:
        """Let every resident meet its node, one after the other on each VIP so that they spread, then set them going."""
        warming = [
            threading.Thread(target=self._settle, args=(vip,), name=f"warm-up {vip.name}") for vip in self._run.site.vip
        ]
        for thread in warming:
            thread.start()
        for thread in warming:
            thread.join()
        for living in self.residents:
            self._start(
                functools.partial(living.live, may_connect=self._gate),
                f"{living.source.vip} {living.source.role} {living.source.address}",
            )

    def hold_sticky_sources(self) -> None:
        """Let no sticky source connect until they may again: a fault must meet them between two connections.

        One that is caught within a connection would only show what established sessions show.
        """
        self._gate.close(HELD_WITHIN_S)

    def let_sticky_sources_go(self) -> None:
        """Let the sticky sources connect again."""
        self._gate.open()

    def send_new_sources(self) -> None:
        """From now on let a source that was never seen before come to each VIP, one after the other."""
        for vip in self._run.site.vip:
            for lane in range(2):
                self._start(functools.partial(self._new_sources, vip), f"{vip.name} new sources {lane}")

    def stop_new_sources(self) -> None:
        """Let no further new source come."""
        self._no_more_new.set()

    def finish_work(self) -> None:
        """Let established sources end their sessions, as people do whose work is done, and come again."""
        self.work_finished_ns = time.monotonic_ns()
        for living in self.residents:
            if living.source.role is Role.ESTABLISHED:
                living.finish_work()

    def stop(self, within_s: float) -> None:
        """Let every source end what it is at, and leave.

        Raises
        ------
        EpisodeError
            When a source does not leave in time, or one broke down on an error of the harness.
        """
        self._leave.set()
        self._gate.open()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.01))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if stuck:
            raise EpisodeError(
                f"traffic: expected every source to leave within {within_s:g} s, found {', '.join(stuck[:5])} still busy"
            )
        broken = [living for living in self.living if living.failure is not None]
        if broken:
            raise EpisodeError(f"traffic of {broken[0].source.address}: {broken[0].failure!r}") from broken[0].failure

    def all_recovered(self, since_ns: int) -> bool:
        """Say whether every resident was acknowledged something that it began after a moment."""
        return all(living.last_acknowledged_begun_ns >= since_ns for living in self.residents)

    def _settle(self, vip: Vip) -> None:
        """Open the established sessions first, then the sticky ones, each held until all are open."""
        roles = [Role.ESTABLISHED] * ESTABLISHED_SOURCES + [Role.STICKY] * STICKY_SOURCES
        deadline = time.monotonic() + WARM_UP_S
        for role, address in zip(roles, self._run.lab.source_addresses(len(roles)), strict=True):
            living = self._add(vip, role, address)
            if time.monotonic() < deadline:  # a VIP that does not answer must not hold up the others
                living.say_once(self._leave, tries_at_most=2)

    def _new_sources(self, vip: Vip, leave: threading.Event) -> None:
        """Let new sources come and stay: least connections then turns to the dead node too, while it is not yet DOWN."""
        staying: list[Living] = []
        for _ in range(NEW_SOURCES_AT_MOST):
            if leave.is_set() or self._no_more_new.is_set():
                break
            living = self._add(vip, Role.NEW, self._run.lab.source_addresses(1)[0])
            staying.append(living)
            living.say_once(leave)
            leave.wait(PACE_S)
        leave.wait()
        for living in staying:
            living.hang_up()

    def _add(self, vip: Vip, role: Role, address: str) -> Living:
        living = Living(self._make_talker(vip, address), Source(address, vip.name, role), self._workload)
        with self._lock:
            self.living.append(living)
        return living

    def _start(self, body: Callable[[threading.Event], None], name: str) -> None:
        thread = threading.Thread(target=body, args=(self._leave,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
