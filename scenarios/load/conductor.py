"""What Locust's master (or the only process there is) does in a load run: it numbers the generators, lets all begin at one
moment, waits until all are done, and says whether the run was played.
"""  # noqa: D205

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import gevent
import msgspec
from gevent.event import Event
from locust import User
from locust.dispatch import UsersDispatcher
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner, Runner, WorkerNode

from .generator import digest_of
from .messages import (
    BEGIN,
    DONE,
    END,
    NUMBER,
    NUMBER_PLEASE,
    PART,
    READY,
    BeginAt,
    Done,
    Hello,
    Number,
    PartOf,
    boot_id,
    pid_space,
)
from .numbering import Part, RefusedError, Roster, clients_by_kind
from .plan import LoadPlan, UserKind

_LEAD_S = 0.3  # from the word to the begin: it has reached everybody then
_NUMBERED_WITHIN_S = 10.0
_ENDS_WITHIN_S = 20.0  # beside the time that what is under way may take
_SPAWN_RATE = 100.0  # nobody follows it: a client begins when it is due
_logger = logging.getLogger(__name__)


class Conductor:
    """Plays one plan with all generators that are there when it starts.

    Parameters
    ----------
    environment : Environment
        Locust's.
    runner : Runner
        The master's, or the local one.
    plan : LoadPlan
        What is played.
    plan_file : Path
        Where generators read it.
    finish_s : float
        How long what is under way at the end of a run may take.
    """

    def __init__(
        self, environment: Environment, runner: Runner, plan: LoadPlan, plan_file: Path, finish_s: float
    ) -> None:  # fmt: skip
        self.broke: list[str] = []  # why the harness itself failed
        self.has_begun = False  # Locust's shape has asked how many users there are to be
        self._runner = runner
        self._plan = plan
        self._plan_file = plan_file
        self._finish_s = finish_s
        self._kinds: dict[str, UserKind] = {
            user_class.__name__: user_class.kind for user_class in environment.user_classes if hasattr(user_class, "kind")
        }
        self._roster = Roster(plan)
        self._refused: set[str] = set()
        self._parts: dict[str, Part] = {}  # of the run that is played, by worker
        self._pids: dict[str, int] = {}  # of workers whose pids are ours too
        self._ready: set[str] = set()
        self._done: set[str] = set()
        self._all_done = Event()
        self._state: Literal["idle", "playing", "ended"] = "idle"
        self._latest_ns = 0
        self._broke_before = 0
        self._runner.register_message(NUMBER_PLEASE, self._on_number_please)
        self._runner.register_message(READY, self._on_ready)
        self._runner.register_message(DONE, self._on_done)
        environment.dispatcher_class = functools.partial(Dispatcher, self)  # type: ignore[assignment]  # it is only called

    def tick(self) -> tuple[int, float] | None:
        """Say how many users there are to be, as Locust's shapes do: all at once, then None when the run is over."""
        if self._state == "idle":
            self._muster()
        elif self._state == "ended" or self._is_over():
            if not self._all_done.is_set():
                self.end()
            self._state = "ended"
            return None
        return sum(map(sum, (counts.values() for counts in map(self.users_of, self._parts)))), _SPAWN_RATE

    def users_of(self, worker: str) -> dict[str, int]:
        """Return how many users of each class a worker runs."""
        part = self._parts.get(worker)
        counts = clients_by_kind(self._plan)
        return {name: len(part.clients(counts[kind])) if part else 0 for name, kind in self._kinds.items()}

    def end(self) -> bool:
        """End the run that is played; return when every generator has written everything down. False when there is none."""
        if self._state != "playing":
            return False
        self._state = "ended"
        for worker in self._parts:
            self._runner.send_message(END, None, worker)
        if not self._all_done.wait(self._finish_s + _ENDS_WITHIN_S):
            self.note_failure(f"expected all generators to end, found that {self._missing()} did not")
        return True

    def rest(self) -> None:
        """Be ready for another run: Locust has stopped this one."""
        self._state = "idle"

    def note_failure(self, why: str) -> None:
        """Let the run count as one that was not played, for a reason."""
        _logger.critical("%s", why)
        self.broke.append(why)

    def _muster(self) -> None:
        """Fix who takes part, and tell each its part. Every worker that is there is numbered or refused first."""
        deadline = time.monotonic() + _NUMBERED_WITHIN_S
        while not self._are_all_numbered() and time.monotonic() < deadline:
            gevent.sleep(0.02)
        present = [worker for worker in self._workers() if self._roster.knows(worker)]
        present.sort(key=self._roster.number)
        self._parts = {
            worker: Part(self._roster.number(worker), place, len(present)) for place, worker in enumerate(present)
        }  # fmt: skip
        self.has_begun = True
        self._broke_before = len(self.broke)
        self._ready.clear()
        self._done.clear()
        self._all_done.clear()
        self._state = "playing"
        self._latest_ns = time.monotonic_ns() + round((self._plan.duration_s + self._finish_s + 60) * 1e9)
        if not present:
            self.note_failure("expected a generator at least, found none")
        digest = digest_of(self._plan)
        for worker, part in self._parts.items():
            told = PartOf(
                plan=str(self._plan_file),
                digest=digest,
                place=part.place,
                generators=part.generators,
                finish_s=self._finish_s,
            )  # fmt: skip
            self._runner.send_message(PART, msgspec.to_builtins(told), worker)

    def _are_all_numbered(self) -> bool:
        workers = self._workers()
        return bool(workers) and all(self._roster.knows(worker) or worker in self._refused for worker in workers)

    def _workers(self) -> list[str]:
        """Return the workers that are there. Locust misses one after four seconds; one on this machine, we see at once."""
        if not isinstance(self._runner, MasterRunner):
            return ["local"]
        connected = [node.id for node in self._runner.clients.values() if node.state != STATE_MISSING]
        return [worker for worker in connected if worker not in self._pids or _lives(self._pids[worker])]

    def _is_over(self) -> bool:
        present = set(self._workers())
        for worker in self._parts.keys() - self._done - present:
            self.note_failure(f"generator {self._parts[worker].generator}: expected it to end in good order, found it gone")
            self._is_done(worker)
        if time.monotonic_ns() > self._latest_ns and not self._all_done.is_set():
            self.note_failure(f"expected all generators to be done in time, found that {self._missing()} were not")
            return True
        return self._all_done.is_set() or len(self.broke) > self._broke_before

    def _on_number_please(self, environment: Environment, msg: Message) -> None:
        hello = msgspec.convert(msg.data, Hello)
        if hello.space == pid_space():
            self._pids[msg.node_id] = hello.pid
        try:
            number = Number(run=self._plan.run, generator=self._roster.number(msg.node_id))
        except RefusedError as refused:
            _logger.error("%s", refused)
            self._refused.add(msg.node_id)
            number = Number(refused=str(refused))
        self._runner.send_message(NUMBER, msgspec.to_builtins(number), msg.node_id)

    def _on_ready(self, environment: Environment, msg: Message) -> None:
        self._ready.add(msg.node_id)
        if self._state == "playing" and self._ready >= self._parts.keys():
            begin = BeginAt(boot=boot_id(), at_ns=time.monotonic_ns() + round(_LEAD_S * 1e9), in_s=_LEAD_S)
            for worker in self._parts:
                self._runner.send_message(BEGIN, msgspec.to_builtins(begin), worker)

    def _on_done(self, environment: Environment, msg: Message) -> None:
        done = msgspec.convert(msg.data, Done)
        _logger.info("generator %d is done: %d operations", done.generator, done.operations)
        if done.broke:
            self.note_failure(f"generator {done.generator}: {done.broke}")
        self._is_done(msg.node_id)

    def _is_done(self, worker: str) -> None:
        self._done.add(worker)
        if self._done >= self._parts.keys():
            self._all_done.set()

    def _missing(self) -> str:
        return ", ".join(str(self._parts[worker].generator) for worker in self._parts.keys() - self._done)


class Dispatcher(UsersDispatcher):
    """Tells Locust which worker runs which users: all at once, as the generators' parts say, and never anything else."""

    def __init__(self, conductor: Conductor, worker_nodes: list[WorkerNode], user_classes: list[type[User]]) -> None:
        self._conductor = conductor
        self._nodes = {node.id: node for node in worker_nodes}
        self._pending = False

    @property
    def dispatch_in_progress(self) -> bool:
        """Always: so Locust does not dispatch anew when a worker comes or goes."""
        return True

    def new_dispatch(
        self, target_user_count: int, spawn_rate: float, user_classes: list[type[User]] | None = None
    ) -> None:  # fmt: skip
        """Begin a dispatch."""
        self._pending = True

    def add_worker(self, worker_node: WorkerNode) -> None:
        """Let a worker wait for the next run."""
        self._nodes[worker_node.id] = worker_node

    def remove_worker(self, worker_node: WorkerNode) -> None:
        """Forget a worker; its clients go with it."""
        self._nodes.pop(worker_node.id, None)

    def __iter__(self) -> Iterator[dict[str, dict[str, int]]]:
        return self

    def __next__(self) -> dict[str, dict[str, int]]:
        if not self._pending:
            raise StopIteration
        self._pending = False
        return {worker: self._conductor.users_of(worker) for worker in self._nodes}


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"  # a child that nobody waited for yet
