"""Many modalities, one thread: each with an association of its own and one image outstanding on it, whoever answers first.

Threads would wait for one another, since one alone runs Python at a time: over 16 associations of small images, one thread
that polls them makes twice the load. (In gevent a greenlet for each `Modality` does the same.)
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Iterator, Sequence

from ..client import Failed
from ..operations import Operation, Phase
from .association import Association
from .framing import Buffer
from .modality import Job, Modality, Prepared, Sent


class ManyModalities:
    """Stores the images of many modalities side by side.

    Parameters
    ----------
    modalities : sequence of Modality
        On Python's own sockets, not gevent's. They stay their owner's: to open, to release, to ask for their last failure.
    """

    def __init__(self, modalities: Sequence[Modality]) -> None:
        self._modalities = tuple(modalities)

    def store_all(self, jobs: Sequence[Iterable[Job]]) -> Iterator[Operation]:
        """Store the images of each modality one after the other, those of all of them side by side.

        Parameters
        ----------
        jobs : sequence of iterables of (EncodedInstance, Attempt)
            What each modality is to store, as `Modality.store_all` takes it. None of them may wait. What one of them raises
            is raised here, after the operations of the images that are under way; no others are begun then.

        Yields
        ------
        Operation
            The fate of one image, as soon as it is known. A modality whose association has ended opens another one for its
            next image, and the others wait meanwhile (for connecting and negotiating, at most).

        Raises
        ------
        ValueError
            When there are not as many iterables as modalities.
        """
        if len(jobs) != len(self._modalities):
            raise ValueError(f"jobs: expected those of {len(self._modalities)} modalities, found those of {len(jobs)}")
        with select.epoll() as poll:
            lanes: dict[int, _Lane] = {}  # those with an image under way, by descriptor
            all_lanes = [
                _Lane(modality, iter(images), poll, lanes) for modality, images in zip(self._modalities, jobs, strict=True)
            ]
            try:
                for lane in all_lanes:
                    yield from lane.begin()
                yield from _carried_on(lanes, poll)
            except GeneratorExit:  # nobody wants to know what became of them
                raise
            except BaseException:
                for lane in all_lanes:
                    lane.begin_no_more()
                yield from _carried_on(lanes, poll)
                raise


def _carried_on(lanes: dict[int, _Lane], poll: select.epoll) -> Iterator[Operation]:
    """Carry all lanes on until none has an image under way."""
    look_ns = 0  # at which lane has waited for too long: not before this
    while lanes:
        now_ns = time.monotonic_ns()
        if now_ns >= look_ns:
            for lane in [lane for lane in lanes.values() if lane.due_ns <= now_ns]:
                yield lane.give_up()
                yield from lane.begin()
            look_ns = min((min(lane.due_ns, now_ns + lane.least_wait_ns) for lane in lanes.values()), default=0)
            continue
        for fd, event in poll.poll((look_ns - now_ns) / 1e9):
            lane = lanes[fd]
            operation = lane.carry_on(event)
            if operation is not None:
                yield operation
                yield from lane.begin()


class _Lane:
    """One modality among many: what it is to store, and the image that is under way."""

    __slots__ = (
        "_association",
        "_fd",
        "_jobs",
        "_lanes",
        "_mask",
        "_modality",
        "_poll",
        "_prepared",
        "_response_ns",
        "_rest",
        "_send_ns",
        "_sent",
        "due_ns",
        "least_wait_ns",
    )  # fmt: skip

    def __init__(self, modality: Modality, jobs: Iterator[Job], poll: select.epoll, lanes: dict[int, _Lane]) -> None:
        self._modality = modality
        self._jobs = jobs
        self._poll = poll
        self._lanes = lanes
        self._send_ns = round(modality.timeouts.send_s * 1e9)
        self._response_ns = round(modality.timeouts.response_s * 1e9)
        self.least_wait_ns = min(self._send_ns, self._response_ns)
        self.due_ns = 0
        self._association: Association | None = None  # whose descriptor is polled
        self._fd, self._mask = -1, 0
        self._prepared: Prepared | None = None
        self._sent: Sent | None = None
        self._rest: list[Buffer] = []  # of the image under way: has not left yet

    def begin(self) -> Iterator[Operation]:
        """Send the next image; yield the operations of those that failed at once."""
        self._sent = None
        while self._sent is None:
            prepared, self._prepared = self._prepared or self._modality.prepared(self._jobs), None
            if prepared is None:
                self._end()
                return
            begun = self._modality.sent_in_part(prepared)
            if isinstance(begun, Operation):
                yield begun
                continue
            self._sent, self._rest = begun
            self._watch(self._sent[2].message.association)
            self._wait()

    def begin_no_more(self) -> None:
        """Forget all images that have not been begun."""
        self._jobs, self._prepared = iter(()), None

    def carry_on(self, event: int) -> Operation | None:
        """Go on with the image under way, whose socket is ready; return its operation once its fate is known."""
        sent, association = self._sent, self._association
        if sent is None or association is None:
            raise RuntimeError(f"modality {self._modality.calling_ae}: expected an image under way, found none")
        try:
            if self._rest:
                self._rest = association.send_some(self._rest, is_begun=self._is_begun(sent))
                self._wait()
                return None
            answer = association.answer_so_far(sent[2].usual_answer)
        except Failed as failed:
            return self._modality.lost(sent, failed)
        if answer is False:
            return None
        return self._modality.judged(sent, None if answer is True else answer)

    def give_up(self) -> Operation:
        """Return the operation of the image under way: its peer has been silent for too long."""
        sent, association = self._sent, self._association
        if sent is None or association is None:
            raise RuntimeError(f"modality {self._modality.calling_ae}: expected an image under way, found none")
        phase = Phase.SEND if self._rest else Phase.RESPONSE
        return self._modality.lost(sent, association.give_up(phase, is_begun=self._is_begun(sent)))

    def _is_begun(self, sent: Sent) -> bool:
        return sum(map(len, self._rest)) < sum(map(len, sent[2].pieces))

    def _watch(self, association: Association) -> None:
        if association is not self._association:  # the one before is closed, and so polled no more
            self._lanes.pop(self._fd, None)
            self._association, self._fd, self._mask = association, association.fileno(), select.EPOLLIN
            self._poll.register(self._fd, self._mask)
            self._lanes[self._fd] = self

    def _wait(self) -> None:
        """Wait until the rest of the image can leave, or for the answer; then the next one is prepared meanwhile."""
        mask = select.EPOLLOUT if self._rest else select.EPOLLIN
        if mask != self._mask:
            self._poll.modify(self._fd, mask)
            self._mask = mask
        self.due_ns = time.monotonic_ns() + (self._send_ns if self._rest else self._response_ns)
        if not self._rest and self._prepared is None:
            self._prepared = self._modality.prepared(self._jobs)

    def _end(self) -> None:
        """Be polled no more: there is nothing left to store."""
        self._lanes.pop(self._fd, None)
        if self._association is not None and self._association.is_established:
            self._poll.unregister(self._fd)
