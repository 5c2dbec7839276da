"""The DICOM upper layer (PS3.8) without input or output: bytes in, events out, for either role.

`UpperLayer` knows what may come next on one association. What is to be sent is returned as bytes or buffers and sent by
whoever owns the socket; what was received goes into `receive`, in fragments of any size, and comes out as events.
What is sent is never copied, what is received is copied once, into its message (or not at all, where its owner wants data
sets to go elsewhere).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from .dimse import RESPONSE, CommandDecoder, CommandSet
from .errors import ProtocolError
from .framing import COMMAND, LAST, P_DATA_TF, PDU, PDU_AND_PDV, PDV, Buffer, fragment_bytes, framed_message, whole_command
from .message_shape import MessageShape
from .negotiation import (
    MAXIMUM_LENGTH,
    AcceptedContext,
    AssociateAccepted,
    AssociateRejected,
    AssociateRequested,
    Proposal,
    decode_accept,
    decode_request,
    encode_accept,
    encode_reject,
    encode_request,
)

LARGEST_NEGOTIATION_BYTES = 1 << 18  # an A-ASSOCIATE of 128 contexts with 16 transfer syntaxes each needs a third of this
LARGEST_COMMAND_BYTES = 1 << 16
LARGEST_DATA_SET_BYTES = 1 << 31

_SHORTEST = PDU_AND_PDV.size
_PDV_HEADER_BYTES = PDV.size
_WHOLE_COMMAND = COMMAND | LAST
_RELEASE_RQ = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
_RELEASE_RP = b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00"


class Pdu(enum.IntEnum):
    """The seven PDU types."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class State(enum.Enum):
    """Where an association stands (PS3.8 9.2, the states of table 9-10 that can be told apart without a socket)."""

    IDLE = "before an association"
    REQUESTED = "waiting for the answer to our A-ASSOCIATE-RQ"
    TO_ANSWER = "to answer the peer's A-ASSOCIATE-RQ"
    ESTABLISHED = "established"
    RELEASING = "waiting for the answer to our A-RELEASE-RQ"
    TO_RELEASE = "to answer the peer's A-RELEASE-RQ"
    CLOSED = "over"


class AbortSource(enum.IntEnum):
    """Who aborted (PS3.8 9.3.8)."""

    SERVICE_USER = 0
    SERVICE_PROVIDER = 2


class DataSink(Protocol):
    """Where a data set goes, piece by piece."""

    def extend(self, piece: memoryview, /) -> None:
        """Take the next piece; its memory is used again afterwards."""

    def __len__(self) -> int:
        """Return how many bytes were taken."""


class Message(NamedTuple):
    """A whole DIMSE message: its context, its command set, its data set if it has one.

    The data set is in `sink`, and `data` is None, where the upper layer was made with sinks.
    """

    context_id: int
    command_set: CommandSet
    data: bytes | bytearray | None = None
    sink: DataSink | None = None


class ReleaseRequested(NamedTuple):
    """The peer asks for the release; answer with `release_answer`."""


class Released(NamedTuple):
    """The peer answered our A-RELEASE-RQ: the association is over."""


class Aborted(NamedTuple):
    """The peer aborted the association."""

    source: int
    reason: int


Event = AssociateRequested | AssociateAccepted | AssociateRejected | Message | ReleaseRequested | Released | Aborted

_MAY_COME: dict[State, frozenset[int]] = {
    State.REQUESTED: frozenset((Pdu.ASSOCIATE_AC, Pdu.ASSOCIATE_RJ, Pdu.ABORT)),
    State.ESTABLISHED: frozenset((Pdu.P_DATA_TF, Pdu.RELEASE_RQ, Pdu.ABORT)),
    State.RELEASING: frozenset((Pdu.P_DATA_TF, Pdu.RELEASE_RQ, Pdu.RELEASE_RP, Pdu.ABORT)),
    State.TO_ANSWER: frozenset((Pdu.ABORT,)),
    State.TO_RELEASE: frozenset((Pdu.RELEASE_RP, Pdu.ABORT)),  # RP: both sides asked at once
}
_FIXED_BODY = {Pdu.ASSOCIATE_RJ: 4, Pdu.RELEASE_RQ: 4, Pdu.RELEASE_RP: 4, Pdu.ABORT: 4}


class UpperLayer:
    """One association, seen from one of its ends. It begins as whichever role is used first.

    Parameters
    ----------
    maximum_length : int
        The largest P-DATA-TF, in bytes, that is taken; a longer one is a protocol error. It is what an acceptor tells; a
        requestor tells that of its proposal.
    largest_data_set_bytes : int
        The longest data set that is taken.
    new_sink : callable or None
        Makes what takes the next data set; None: it is kept in memory.
    """

    def __init__(
        self, *, maximum_length: int = MAXIMUM_LENGTH, largest_data_set_bytes: int = LARGEST_DATA_SET_BYTES,
        new_sink: Callable[[], DataSink] | None = None,
    ) -> None:  # fmt: skip
        self.state = State.IDLE
        self.contexts: Mapping[int, AcceptedContext] = {}
        self._maximum_length = maximum_length
        self._largest_data_set_bytes = largest_data_set_bytes
        self._proposal: Proposal | None = None
        self._request: AssociateRequested | None = None
        self._fragment_bytes = 0
        self._unit = bytearray()  # a header, or a PDU other than P-DATA-TF, until it is whole
        self._unit_bytes = PDU.size
        self._kind = 0  # the PDU under way; 0 while its header is read
        self._pdu_left = 0  # bytes of the P-DATA-TF under way that no PDV header has claimed yet
        self._pdv_left = 0  # bytes of the fragment under way
        self._control = 0
        self._context_id = 0  # of the message under way; 0 while there is none
        self._command = bytearray()
        self._command_set: CommandSet | None = None
        self._decoder = CommandDecoder()
        self._shape: MessageShape | None = None  # of the last request that came whole
        self._new_sink = new_sink
        self._data: DataSink = (new_sink or bytearray)()

    @property
    def is_between_units(self) -> bool:
        """Whether nothing is under way of what the peer sends: what it sends next begins a PDU and a message."""
        return not (self._unit or self._kind or self._context_id)

    @property
    def is_between_pdus(self) -> bool:
        """Whether nothing is under way of a PDU that the peer sends."""
        return not (self._unit or self._kind)

    @property
    def fragment_left_bytes(self) -> int:
        """How much is still to come of the fragment that the peer sends; 0 while there is none under way."""
        return self._pdv_left

    def associate(self, proposal: Proposal) -> bytes:
        """Begin as the requestor; return the A-ASSOCIATE-RQ to send."""
        self._expect("A-ASSOCIATE-RQ", State.IDLE)
        pdu = encode_request(proposal)
        self._proposal, self._maximum_length, self.state = proposal, proposal.maximum_length, State.REQUESTED
        return pdu

    def accept(self, chosen: Mapping[int, str | None], version: str) -> bytes:
        """Accept the peer's request; return the A-ASSOCIATE-AC to send. The arguments are those of `encode_accept`."""
        self._expect("A-ASSOCIATE-AC", State.TO_ANSWER)
        request = self._request
        if request is None:
            raise ProtocolError("A-ASSOCIATE-AC: expected a request to answer, found none")
        pdu = encode_accept(request, chosen, version, self._maximum_length)
        self.contexts = {
            context_id: AcceptedContext(context_id, request.contexts[context_id].abstract_syntax, syntax)
            for context_id, syntax in chosen.items()
            if syntax is not None
        }
        self._establish(request.maximum_length)
        return pdu

    def reject(self, result: int, source: int, reason: int) -> bytes:
        """Reject the peer's request; return the A-ASSOCIATE-RJ to send (its numbers: PS3.8 9.3.4)."""
        self._expect("A-ASSOCIATE-RJ", State.TO_ANSWER)
        self.state = State.CLOSED
        return encode_reject(AssociateRejected(result, source, reason))

    def release(self) -> bytes:
        """Return the A-RELEASE-RQ to send."""
        self._expect("A-RELEASE-RQ", State.ESTABLISHED)
        self.state = State.RELEASING
        return _RELEASE_RQ

    def release_answer(self) -> bytes:
        """Return the A-RELEASE-RP to send."""
        self._expect("A-RELEASE-RP", State.TO_RELEASE)
        self.state = State.CLOSED
        return _RELEASE_RP

    def abort(self, source: AbortSource = AbortSource.SERVICE_USER, reason: int = 0) -> bytes:
        """Return the A-ABORT to send; it may be sent at any time."""
        self.state = State.CLOSED
        return PDU.pack(Pdu.ABORT, 4) + bytes((0, 0, source, reason))

    def message(self, context_id: int, command: Buffer, data: Sequence[Buffer] = ()) -> Iterable[Buffer]:
        """Return the buffers of one message, to be sent in this order. Nothing is copied: they share the caller's memory.

        Parameters
        ----------
        context_id : int
            An accepted presentation context.
        command : buffer
            The command set.
        data : sequence of buffers
            The data set, in pieces of any size; empty when the command announces none.

        Raises
        ------
        ProtocolError
            When the association is not established, or the context was not accepted.
        """
        # what was asked before the peer asked for the release is still answered (PS3.8 table 9-10, Sta8: AR-7)
        if self.state is not State.ESTABLISHED and self.state is not State.TO_RELEASE:
            self._expect("P-DATA-TF", State.ESTABLISHED)
        if context_id not in self.contexts:
            raise ProtocolError(
                f"P-DATA-TF: expected one of the accepted contexts {sorted(self.contexts)}, found {context_id}"
            )
        return framed_message(context_id, command, data, self._fragment_bytes)

    def command(self, context_id: int, command: Buffer) -> bytes:
        """Return a message without a data set, as `message` does, in one piece."""
        if self.state is State.ESTABLISHED and context_id in self.contexts and len(command) <= self._fragment_bytes:
            return whole_command(context_id, command)
        return b"".join(self.message(context_id, command))

    def receive(self, content: Buffer) -> list[Event]:
        """Take what the peer sent, in fragments of any size; return the events that are now complete.

        Raises
        ------
        ProtocolError
            When the bytes are not the upper layer's, or come out of turn. Send `abort(SERVICE_PROVIDER)` and close.
        """
        view = memoryview(content)
        at, end = 0, len(view)
        if end < self._pdv_left:  # most of what comes of a large data set
            self._take_of_fragment(view)
            return []
        events: list[Event] = []
        while at < end:
            if self._pdv_left:
                taken = min(self._pdv_left, end - at)
                self._take_of_fragment(view[at : at + taken])
                event = None if self._pdv_left else self._fragment_ended()
            elif end - at > _SHORTEST and self.state is State.ESTABLISHED and self.is_between_units:
                event, taken = self._message_begun(view[at:])
                if not taken:
                    event, taken = self._take_of_unit(view[at:])
            else:
                event, taken = self._take_of_unit(view[at:])
            at += taken
            if event is not None:
                events.append(event)
        return events

    def _take_of_fragment(self, piece: memoryview) -> None:
        (self._command if self._control & COMMAND else self._data).extend(piece)
        self._pdv_left -= len(piece)

    def _take_of_unit(self, content: memoryview) -> tuple[Event | None, int]:
        taken = min(self._unit_bytes - len(self._unit), len(content))
        self._unit += content[:taken]
        return self._unit_ended() if len(self._unit) == self._unit_bytes else None, taken

    def _expect(self, what: str, state: State) -> None:
        if self.state is not state:
            raise ProtocolError(f"{what}: expected an association that is {state.value}, found it {self.state.value}")

    def _establish(self, peer_maximum_length: int) -> None:
        self._fragment_bytes = fragment_bytes(peer_maximum_length)
        self.state = State.ESTABLISHED

    def _message_begun(self, content: memoryview) -> tuple[Message | None, int]:
        """Take the beginning of a message; return the message if it is whole, and how much was taken.

        It takes messages whose command set came whole, in a PDU of its own, with as much of a data set as is in the next PDU:
        by far the most frequent ones, at a small part of the price. All others, malformed ones among them, it leaves alone.
        """
        shape = self._shape
        if shape is not None:
            known = shape.command_set(content)
            if known is not None:
                return self._whole(shape.context_id, known, content[shape.begin : shape.end]), shape.end
        kind, length, pdv_length, context_id, control = PDU_AND_PDV.unpack_from(content)
        end = 6 + length
        if (kind, pdv_length, control) != (P_DATA_TF, length - 4, _WHOLE_COMMAND) or end > len(content):
            return None, 0
        most = self._maximum_length or LARGEST_DATA_SET_BYTES
        if context_id not in self.contexts or length > min(most, LARGEST_COMMAND_BYTES):
            return None, 0
        command_set = self._decoder.decode(bytes(content[_SHORTEST:end]))
        if not command_set.has_data_set:
            return Message(context_id, command_set), end
        begin = end + _SHORTEST
        if len(content) <= begin:
            return None, 0
        kind, length, pdv_length, of_context, control = PDU_AND_PDV.unpack_from(content, end)
        size_bytes = length - _PDV_HEADER_BYTES
        if (kind, pdv_length, of_context) != (P_DATA_TF, length - 4, context_id) or control & ~LAST or size_bytes < 1:
            return None, 0
        if length > most or size_bytes > self._largest_data_set_bytes:
            return None, 0
        end = begin + size_bytes
        if control != LAST or end > len(content):
            self._context_id, self._command_set, self._kind = context_id, command_set, P_DATA_TF
            self._pdv_left, self._control = size_bytes, control
            return None, begin
        if all(self._decoder.places) and not command_set.command_field & RESPONSE:
            self._shape = MessageShape(bytes(content[:begin]), context_id, _SHORTEST, size_bytes, self._decoder)
        return self._whole(context_id, command_set, content[begin:end]), end

    def _whole(self, context_id: int, command_set: CommandSet, data: memoryview) -> Message:
        if self._new_sink is None:
            return Message(context_id, command_set, bytes(data))
        sink = self._new_sink()
        sink.extend(data)
        return Message(context_id, command_set, None, sink)

    def _unit_ended(self) -> Event | None:
        unit, self._unit, self._unit_bytes = self._unit, bytearray(), PDU.size
        if self._kind == Pdu.P_DATA_TF:
            return self._fragment_begun(unit)
        if self._kind:
            return self._pdu_ended(unit)
        kind, length = PDU.unpack(unit)
        self._check_header(kind, length)
        self._kind = kind
        if kind == Pdu.P_DATA_TF:
            self._pdu_left = length
            self._unit_bytes = PDV.size
        else:
            self._unit, self._unit_bytes = unit, PDU.size + length
        return None

    def _check_header(self, kind: int, length: int) -> None:
        may_come = _MAY_COME.get(self.state)
        if may_come is None:  # the peer's to begin, or nobody's any more
            may_come = frozenset((Pdu.ASSOCIATE_RQ,)) if self.state is State.IDLE else frozenset()
        if kind not in may_come:
            expected = ", ".join(f"{pdu:02X}H" for pdu in sorted(may_come)) or "none"
            raise ProtocolError(f"PDU: expected type {expected} ({self.state.value}), found {kind:02X}H")
        if kind == Pdu.P_DATA_TF:
            least, most = PDV.size, self._maximum_length or LARGEST_DATA_SET_BYTES
        else:
            fixed = _FIXED_BODY.get(Pdu(kind))
            least, most = (fixed, fixed) if fixed else (1, LARGEST_NEGOTIATION_BYTES)
        if not least <= length <= most:
            raise ProtocolError(f"PDU of type {kind:02X}H: expected a length of {least} to {most} bytes, found {length}")

    def _pdu_ended(self, pdu: bytearray) -> Event:
        kind, self._kind = self._kind, 0
        if kind == Pdu.ASSOCIATE_RQ:
            self._request = decode_request(bytes(pdu))
            self.state = State.TO_ANSWER
            return self._request
        if kind == Pdu.ASSOCIATE_AC and self._proposal is not None:
            accepted = decode_accept(bytes(pdu), self._proposal)
            self.contexts = accepted.contexts
            self._establish(accepted.maximum_length)
            return accepted
        if kind == Pdu.RELEASE_RQ:
            self.state = State.TO_RELEASE
            return ReleaseRequested()
        self.state = State.CLOSED
        if kind == Pdu.ASSOCIATE_RJ:
            return AssociateRejected(*pdu[7:10])
        return Released() if kind == Pdu.RELEASE_RP else Aborted(pdu[8], pdu[9])

    def _fragment_begun(self, header: bytearray) -> Event | None:
        length, context_id, control = PDV.unpack(header)
        if not 2 <= length <= self._pdu_left - 4:
            raise ProtocolError(f"PDV: expected a length of 2 to {self._pdu_left - 4} bytes in this PDU, found {length}")
        self._pdu_left -= 4 + length
        self._pdv_left = length - 2
        self._control = control
        if self._pdu_left and self._pdu_left < PDV.size:
            raise ProtocolError(f"P-DATA-TF: expected whole PDVs, found {self._pdu_left} bytes after the last one")
        if context_id not in self.contexts or self._context_id not in (0, context_id):
            expected = [self._context_id] if self._context_id else sorted(self.contexts)
            raise ProtocolError(f"PDV: expected a presentation context of {expected}, found {context_id}")
        self._context_id = context_id
        self._check_turn()
        return None if self._pdv_left else self._fragment_ended()

    def _check_turn(self) -> None:
        """Refuse a command within a data set, a data set before its command, and what is too long."""
        is_command = bool(self._control & COMMAND)
        if is_command is not (self._command_set is None):
            found, expected = ("command", "data set") if is_command else ("data set", "command")
            raise ProtocolError(f"PDV: expected a fragment of a {expected}, found one of a {found}")
        part, most = (self._command, LARGEST_COMMAND_BYTES) if is_command else (self._data, self._largest_data_set_bytes)
        if len(part) + self._pdv_left > most:
            raise ProtocolError(f"message: expected at most {most} bytes, found {len(part) + self._pdv_left}")

    def _fragment_ended(self) -> Event | None:
        if self._pdu_left:
            self._unit_bytes = PDV.size
        else:
            self._kind, self._unit_bytes = 0, PDU.size
        if not self._control & LAST:
            return None
        if self._control & COMMAND:
            self._command_set = self._decoder.decode(bytes(self._command))
            if self._command_set.has_data_set:
                return None
        return self._message_ended()

    def _message_ended(self) -> Message | None:
        command_set, data = self._command_set, self._data
        if command_set is None:
            return None
        context_id, self._context_id, self._command_set = self._context_id, 0, None
        self._command, self._data = bytearray(), (self._new_sink or bytearray)()
        if not command_set.has_data_set:
            return Message(context_id, command_set)
        if isinstance(data, bytearray):
            return Message(context_id, command_set, data)
        return Message(context_id, command_set, None, data)
