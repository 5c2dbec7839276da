"""One DICOM association of a client, over a blocking socket: it runs in a thread and in a gevent greenlet alike.

Every failure of the network or of the peer is a `simulators.client.Failed` that says what became of the message under
way: REFUSED when not one byte of it left, INDETERMINATE once some did and no response was read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Self

from ..bounded_socket import BoundedSocket
from ..client import Connection, Failed, Target, Timeouts
from ..operations import Outcome, Phase
from .dimse import CommandSet
from .errors import ProtocolError
from .framing import Buffer
from .negotiation import AssociateAccepted, AssociateRejected, Proposal, ProposedContext
from .upper_layer import Aborted, AbortSource, Event, Message, Released, ReleaseRequested, State, UpperLayer

_ENDED = "the connection was closed"


class Association:
    """An established association; the constructor connects and negotiates.

    Parameters
    ----------
    target : Target
        Where to.
    source : str
        The source address to bind.
    calling_ae, called_ae : str
        AE titles, 1 to 16 characters.
    contexts : sequence of ProposedContext
        1 to 128 presentation contexts.
    timeouts : Timeouts
        The limit of each phase, in seconds.

    Raises
    ------
    Failed
        REFUSED, in phase CONNECT or NEGOTIATE: nothing of a payload has left. Its status is that of the A-ASSOCIATE-RJ
        (`AssociateRejected.status`).
    ProtocolError
        When the arguments cannot be proposed (PS3.8 9.3.2).
    """

    def __init__(
        self, target: Target, source: str, *, calling_ae: str, called_ae: str, contexts: Sequence[ProposedContext],
        timeouts: Timeouts,
    ) -> None:  # fmt: skip
        self.timeouts = timeouts
        self._layer = UpperLayer()
        self._events: deque[Event] = deque()
        self._what = f"association {calling_ae} to {called_ae} at {target.address}:{target.port}"
        request = self._layer.associate(Proposal(calling_ae, called_ae, tuple(contexts)))
        self.connection = Connection(target, source, timeouts)
        self._socket = BoundedSocket(self.connection.socket)
        try:
            self.accepted = self._negotiate(request)
        except BaseException:
            self.close()
            raise
        self.connection.node = self.accepted.implementation_version
        self._context_ids = {
            (context.abstract_syntax, context.transfer_syntax): context.context_id
            for context in self.accepted.contexts.values()
        }

    @property
    def node(self) -> str:
        """Who answered: the Implementation Version Name of the A-ASSOCIATE-AC, empty when it had none."""
        return self.connection.node

    def context_for(self, sop_class: str, transfer_syntax: str) -> int | None:
        """Return the accepted context for an abstract and a transfer syntax; None when there is none."""
        return self._context_ids.get((sop_class, transfer_syntax))

    def transfer_syntax_for(self, sop_class: str) -> tuple[int, str] | None:
        """Return the first accepted context of an abstract syntax and its transfer syntax; None when there is none."""
        for context in self.accepted.contexts.values():
            if context.abstract_syntax == sop_class:
                return context.context_id, context.transfer_syntax
        return None

    def is_alive(self) -> bool:
        """Say, without waiting, whether nothing is known that ended this association: no close, abort or release request."""
        while self._layer.state is State.ESTABLISHED and not self._events and self._socket.has_input():
            try:
                self._take(Phase.SEND, Outcome.REFUSED, self.timeouts.response_s)
            except Failed:
                self.close()
                return False
        if not self._events:
            return self._layer.state is State.ESTABLISHED
        if isinstance(self._events[0], ReleaseRequested):
            self._answer_release()
        return self._layer.state is State.ESTABLISHED and not any(isinstance(event, Aborted) for event in self._events)

    @property
    def is_established(self) -> bool:
        """Whether it was neither ended here nor seen to end; unlike `is_alive`, this does not look at the network."""
        return self._layer.state is State.ESTABLISHED

    def framed(self, context_id: int, command: Buffer, data: Sequence[Buffer] = ()) -> list[Buffer]:
        """Frame one message for `send_framed`, ahead of its time. The pieces are shared, not copied.

        The arguments are those of `send`.

        Raises
        ------
        ProtocolError
            When the association is not established, or the context was not accepted.
        """
        return list(self._layer.message(context_id, command, data))

    def send(self, context_id: int, command: Buffer, data: Sequence[Buffer] = ()) -> None:
        """Send one message.

        Parameters
        ----------
        context_id, command, data
            As `UpperLayer.message` takes them.

        Raises
        ------
        Failed
            In phase SEND: REFUSED when not one byte left, else INDETERMINATE. The association is closed then.
        """
        if not self.is_alive():
            raise self._failed(Outcome.REFUSED, Phase.SEND, f"ended before the message was sent{self._last_words()}")
        self.send_framed(self._layer.message(context_id, command, data))

    def send_framed(self, message: Iterable[Buffer]) -> None:
        """Send a message that was framed for this association; the errors are those of `send`.

        Whether the peer has ended the association in the meantime is not looked at: `is_alive` does that.
        """
        try:
            self._socket.wait_at_most(self.timeouts.send_s)
            self._socket.send(message)
        except OSError as error:
            raise self._unsent(error) from error

    def send_some(self, message: list[Buffer], *, is_begun: bool = False) -> list[Buffer]:
        """Send what can leave without waiting of a message that was framed for this association; return the rest of it.

        Not in gevent. The errors are those of `send`.

        Parameters
        ----------
        message : list of buffers
            A framed message, or what was returned of it.
        is_begun : bool
            Whether some of it has left before.
        """
        try:
            return self._socket.send_some(message)
        except OSError as error:
            raise self._unsent(error, is_begun=is_begun) from error

    def fileno(self) -> int:
        """Return the descriptor of its socket, for whoever polls many."""
        return self._socket.fileno()

    def give_way(self) -> None:
        """Let a peer on this very processor take what was sent; call it before work that can be done while the peer works.

        Where the peer has a processor of its own this costs one short system call. Else the kernel makes the peer wait for
        us, or moves it to another processor: that costs a small message more time than the work to be done.
        """
        self._socket.give_way()

    def receive(self) -> tuple[CommandSet, bytes | None]:
        """Wait for the next message and return its command set and its data set (None when it has none).

        Raises
        ------
        Failed
            INDETERMINATE in phase RESPONSE: time-out, close, reset, abort, release request or malformed bytes. The
            association is closed then.
        """
        event = self._next_event(Phase.RESPONSE, Outcome.INDETERMINATE, self.timeouts.response_s)
        if isinstance(event, Message):
            return event.command_set, None if event.data is None else bytes(event.data)
        if isinstance(event, ReleaseRequested):
            self._answer_release()
        raise self._failed(Outcome.INDETERMINATE, Phase.RESPONSE, f"expected a response, found {event}")

    def receive_answer(self, usual: bytes, *, eager: bool = False) -> CommandSet | None:
        """Wait for the next message and return its command set; None when it is, byte for byte, the usual answer.

        Most answers can be foretold, and comparing costs a small part of what decoding does.

        Parameters
        ----------
        usual : bytes
            The P-DATA-TF that would acknowledge the message under way, in one fragment.
        eager : bool
            Whether to stay awake for up to 0.2 ms until it comes, and let others have the processor at every turn: to sleep
            and to be woken costs more time than many a peer takes. Not for clients that leave the processor to a system
            under test.

        Raises
        ------
        Failed
            As `receive` does.
        """
        if self._events or not self._layer.is_between_units:
            return self.receive()[0]
        begun_ns = time.monotonic_ns()
        found = self._received(Phase.RESPONSE, Outcome.INDETERMINATE, self.timeouts.response_s, eager=eager)
        while found != usual:
            if not usual.startswith(found):
                self._understand(found, Phase.RESPONSE, Outcome.INDETERMINATE)
                return self.receive()[0]
            # DCMTK writes a header, and then the rest
            left_s = _left_s(self.timeouts.response_s, begun_ns)
            found += self._received(Phase.RESPONSE, Outcome.INDETERMINATE, left_s, eager=eager)
        return None

    def answer_so_far(self, usual: bytes) -> CommandSet | bool:
        """Take what has come of the answer: its command set, True when it is the usual one, False as long as it is not whole.

        It waits for nothing; not in gevent. Argument and errors are those of `receive_answer`.
        """
        try:
            found = self._socket.receive_now()
        except OSError as error:
            raise self._unanswered(error, Phase.RESPONSE, Outcome.INDETERMINATE) from error
        if found == usual and not self._events and self._layer.is_between_units:
            return True
        if found is None:
            return False
        self._understand(self._not_empty(found, Phase.RESPONSE, Outcome.INDETERMINATE), Phase.RESPONSE, Outcome.INDETERMINATE)
        return self.receive()[0] if self._events else False

    def give_up(self, phase: Phase, *, is_begun: bool) -> Failed:
        """Close, and return the failure of a message whose owner has waited for long enough, to send it or for its answer."""
        if phase is Phase.RESPONSE:
            return self._silence(phase, Outcome.INDETERMINATE, self.timeouts.response_s)
        outcome = Outcome.INDETERMINATE if is_begun else Outcome.REFUSED
        return self._failed(outcome, phase, f"expected to send a message, found no progress for {self.timeouts.send_s:.3g} s")

    def request(self, context_id: int, command: Buffer, data: Sequence[Buffer] = ()) -> tuple[CommandSet, bytes | None]:
        """Send one message and return the next one that comes. Arguments and errors are those of `send` and `receive`."""
        self.send(context_id, command, data)
        return self.receive()

    def release(self) -> None:
        """Release in order and close. A peer that closes, resets, aborts or is silent is tolerated: it is over."""
        try:
            if self._layer.state is State.ESTABLISHED:
                self._send_whole(self._layer.release(), Phase.DONE)
            while self._layer.state is State.RELEASING:
                self._next_event(Phase.DONE, Outcome.INDETERMINATE, self.timeouts.response_s)
            if self._layer.state is State.TO_RELEASE:  # both asked at once: the requestor answers too (PS3.8 7.2.2.7)
                self._answer_release()
        except Failed:
            pass
        finally:
            self.close()

    def abort(self) -> None:
        """Send A-ABORT, if that is still possible, and close."""
        self._abort(AbortSource.SERVICE_USER)

    def close(self) -> None:
        """Close the connection without a word."""
        self._layer.state = State.CLOSED
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def _negotiate(self, request: bytes) -> AssociateAccepted:
        self._send_whole(request, Phase.NEGOTIATE)
        event = self._next_event(Phase.NEGOTIATE, Outcome.REFUSED, self.timeouts.negotiate_s)
        if isinstance(event, AssociateAccepted):
            return event
        status = event.status if isinstance(event, AssociateRejected) else 0
        raise self._failed(Outcome.REFUSED, Phase.NEGOTIATE, f"expected A-ASSOCIATE-AC, found {event}", status)

    def _send_whole(self, content: bytes, phase: Phase) -> None:
        try:
            self._socket.wait_at_most(self.timeouts.negotiate_s)
            self._socket.send([content])
        except OSError as error:
            raise self._failed(Outcome.REFUSED, phase, f"expected to send {len(content)} bytes, found {error!r}") from error

    def _next_event(self, phase: Phase, outcome: Outcome, timeout_s: float) -> Event:
        begun_ns = time.monotonic_ns()
        while not self._events:
            self._take(phase, outcome, _left_s(timeout_s, begun_ns))
        return self._events.popleft()

    def _take(self, phase: Phase, outcome: Outcome, timeout_s: float) -> None:
        """Receive once and turn it into events."""
        self._understand(self._received(phase, outcome, timeout_s), phase, outcome)

    def _received(self, phase: Phase, outcome: Outcome, timeout_s: float, *, eager: bool = False) -> bytes:
        try:
            self._socket.wait_at_most(timeout_s)
            content = self._socket.receive(eager=eager)
        except (TimeoutError, BlockingIOError) as error:  # the latter from the kernel's own limit
            raise self._silence(phase, outcome, timeout_s) from error
        except OSError as error:
            raise self._unanswered(error, phase, outcome) from error
        return self._not_empty(content, phase, outcome)

    def _not_empty(self, content: bytes, phase: Phase, outcome: Outcome) -> bytes:
        if not content:
            raise self._failed(outcome, phase, f"expected an answer, found that {_ENDED}")
        return content

    def _silence(self, phase: Phase, outcome: Outcome, timeout_s: float) -> Failed:
        return self._failed(outcome, phase, f"expected an answer, found silence for {timeout_s:.3g} s")

    def _unanswered(self, error: OSError, phase: Phase, outcome: Outcome) -> Failed:
        return self._failed(outcome, phase, f"expected an answer, found {error!r}")

    def _unsent(self, error: OSError, *, is_begun: bool = False) -> Failed:
        sent_bytes = self._socket.sent_bytes
        outcome = Outcome.INDETERMINATE if sent_bytes or is_begun else Outcome.REFUSED
        return self._failed(outcome, Phase.SEND, f"expected to send a message, found {error!r} after {sent_bytes} bytes")

    def _understand(self, content: bytes, phase: Phase, outcome: Outcome) -> None:
        try:
            self._events.extend(self._layer.receive(content))
        except ProtocolError as error:
            self._abort(AbortSource.SERVICE_PROVIDER)
            raise self._failed(outcome, phase, str(error)) from error

    def _answer_release(self) -> None:
        self._send_whole(self._layer.release_answer(), Phase.DONE)

    def _last_words(self) -> str:
        return "".join(f": {event}" for event in self._events if isinstance(event, Aborted | Released))

    def _abort(self, source: AbortSource) -> None:
        try:
            self._socket.wait_at_most(self.timeouts.negotiate_s)
            self._socket.send([self._layer.abort(source)])
        except OSError:
            pass  # the peer is gone: what A-ABORT would have said is already so
        finally:
            self.close()

    def _failed(self, outcome: Outcome, phase: Phase, reason: str, status: int = 0) -> Failed:
        """Close, and return what to raise."""
        self.close()
        return Failed(outcome, phase, f"{self._what}: {reason}", status)


def _left_s(limit_s: float, begun_ns: int) -> float:
    """Return how long to wait yet, in seconds: a peer that dribbles must not stretch the wait.

    It is the whole limit until a hundredth of it has passed: each change is a system call.
    """
    gone_s = (time.monotonic_ns() - begun_ns) / 1e9
    return limit_s if gone_s < limit_s / 100 else max(0.001, limit_s - gone_s)
