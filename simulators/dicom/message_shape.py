"""The shape of a request that came whole: the next one often has the same, and is then read at a small part of the price.

Images of a series differ, before their data sets, in Message ID and SOP Instance UID alone. Where all other bytes, those of
both P-DATA-TF headers and of the command set, are the bytes of a message that was checked, they say what was checked.
"""

from __future__ import annotations

from .dimse import CommandDecoder, CommandSet


class MessageShape:
    """What requests of one shape have in common.

    Parameters
    ----------
    head : bytes
        Of a message that was checked: all before its data set.
    context_id : int
        The presentation context of both.
    command_at : int
        Where in the head its command set begins.
    size_bytes : int
        The length of its data set, all of which was in one P-DATA-TF.
    decoder : CommandDecoder
        Which has just decoded its command set, and found where Message ID and UID are.
    """

    __slots__ = (
        "_before", "_behind", "_between", "_id_at", "_last", "_uid_at", "_uid_end", "begin", "context_id", "end",
    )  # fmt: skip

    def __init__(self, head: bytes, context_id: int, command_at: int, size_bytes: int, decoder: CommandDecoder) -> None:
        self.context_id = context_id
        self.begin = len(head)  # of the data set
        self.end = self.begin + size_bytes
        id_at, uid_at, uid_end = (command_at + at for at in decoder.places)
        self._id_at, self._uid_at, self._uid_end = id_at, uid_at, uid_end
        self._before, self._between, self._behind = head[:id_at], head[id_at + 2 : uid_at], head[uid_end:]
        self._last = decoder.last

    def command_set(self, content: memoryview) -> CommandSet | None:
        """Return the command set of the message at the beginning of what came; None unless it is whole and of this shape."""
        if len(content) < self.end:
            return None
        head = bytes(content[: self.begin])
        id_at, uid_at, uid_end = self._id_at, self._uid_at, self._uid_end
        if head[:id_at] != self._before or head[uid_end:] != self._behind or head[id_at + 2 : uid_at] != self._between:
            return None
        uid = head[uid_at:uid_end].decode("ascii", "replace").strip(" \x00")
        field, _, _, sop_class, _, status, comment, has_data_set, _ = self._last
        return CommandSet(field, head[id_at] | head[id_at + 1] << 8, 0, sop_class, uid, status, comment, has_data_set)
