"""The message that stores an image, framed once for all copies of its template and patched for each.

Copies differ in their heads alone, and every head is as long as any other. What goes over one association for them is
therefore laid out once: a small image whole in one buffer, that leaves by one `send`; of a larger one all up to its pixel
data, before the framed pieces of the pixel data, which are shared. Each further copy costs one short copy of bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import xxhash

from .association import Association
from .dimse import StoreRequest, StoreResponse
from .framing import Buffer, whole_command
from .instances import EncodedInstance

_JOINED_BYTES = 32768  # up to here one copy costs less than a system call with many buffers
_MOST_PIECES = 1024  # 8 MB in the 16 KB that DCMTK takes at a time: beyond, framing is nothing beside the sending
_UP_TO_THE_HEAD = 4  # pieces of a message: a header, the command set, a header, the head


class Framed(NamedTuple):
    """An image as it goes over an association, and the answer that would acknowledge it.

    `pieces` are those of its `StoreMessage`, and hold until that frames another image.
    """

    message: StoreMessage
    message_id: int
    pieces: list[Buffer]
    usual_answer: bytes


class StoreMessage:
    """The C-STORE-RQ of the copies of one template on one association.

    Parameters
    ----------
    association : Association
        Established.
    context_id : int
        The accepted presentation context for the SOP class and transfer syntax of the template.
    instance : EncodedInstance
        One of the copies, or the template itself.
    """

    def __init__(self, association: Association, context_id: int, instance: EncodedInstance) -> None:
        self.association = association
        self.size_bytes = instance.size_bytes
        self.latest: Framed | None = None  # what the pieces hold
        self.is_small = False  # it leaves whole, in one buffer
        self._context_id = context_id
        self._template = instance
        self._head_bytes = len(instance.head)
        self._answer = StoreResponse(instance.sop_class)
        whole = whole_command(context_id, self._answer.encoded)
        self._answer.stands_in(whole, len(whole) - len(self._answer.encoded))
        self._request = StoreRequest(instance.sop_class)
        self._rest: list[Buffer] | None = None
        self._head_at = 0
        self._data: memoryview | None = None  # the data set, where it lies in one piece
        self._lay_out(association.framed(context_id, self._request.encoded, instance.buffers))

    def _lay_out(self, pieces: list[Buffer]) -> None:
        """Prepare to patch, unless the peer takes so little at a time that the command set or the head is cut."""
        uncut = list(map(len, pieces[1:_UP_TO_THE_HEAD:2])) == [len(self._request.encoded), self._head_bytes]
        if not uncut or len(pieces) > _MOST_PIECES:
            return
        self.is_small = sum(map(len, pieces)) <= _JOINED_BYTES
        front = b"".join(pieces if self.is_small else pieces[:_UP_TO_THE_HEAD])
        self._rest = [] if self.is_small else pieces[_UP_TO_THE_HEAD:]
        self._head_at = sum(map(len, pieces[: _UP_TO_THE_HEAD - 1]))
        self._request.stands_in(front, len(pieces[0]))
        if len(front) == self._head_at + self.size_bytes:
            self._data = memoryview(self._request.buffer)[self._head_at :]

    def is_for(self, association: Association, instance: EncodedInstance) -> bool:
        """Whether this is the message for a copy of the same template, on that association."""
        template = self._template
        return (
            self.association is association
            and template.shared is instance.shared
            and self._head_bytes == len(instance.head)
            and template.sop_class == instance.sop_class
            and template.transfer_syntax == instance.transfer_syntax
        )

    def framed(self, message_id: int, instance: EncodedInstance) -> Framed:
        """Frame an image; what was framed before holds no longer.

        Parameters
        ----------
        message_id : int
            1 to 65535.
        instance : EncodedInstance
            One that this message `is_for`.

        Raises
        ------
        ProtocolError
            When the association is not established.
        """
        uid = instance.sop_instance
        front = self._request.patched(message_id, uid)
        usual = bytes(self._answer.patched(message_id, uid))
        rest = self._rest
        if rest is None:
            pieces = self.association.framed(self._context_id, bytes(front), instance.buffers)
        else:
            front[self._head_at : self._head_at + self._head_bytes] = instance.head
            pieces = [front, *rest]
        self.latest = framed = Framed(self, message_id, pieces, usual)
        return framed

    def digest_of(self, instance: EncodedInstance) -> bytes:
        """Return the xxh3-128 of the data set of the image that was framed last, 16 bytes."""
        return instance.digest if self._data is None else xxhash.xxh3_128_digest(self._data)
