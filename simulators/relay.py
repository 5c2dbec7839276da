"""A relay between balancer and node that damages images, is slow, or ends idle lines.

It flips one bit of pixel data in each data set that is large enough, on its way to the node; or it holds what goes there back
for a while; or it ends connections on which nothing goes there for some time. One process,
`python -m simulators.relay SETTINGS.json`, before one service. To flip, it follows the PDUs that come from the client, so
that it never touches a header: only the value of Pixel Data (7FE0,0010) within a P-DATA-TF.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import sys
from pathlib import Path

import msgspec

_CHUNK_BYTES = 1 << 16
_HEADER_BYTES = 6  # of a PDU: type, reserved, length (PS3.8, 9.3.1)
_ITEM_HEADER_BYTES = 6  # of a PDV: length, presentation context, message control header (PS3.8, 9.3.5.1)
_P_DATA_TF = 0x04
_COMMAND = 0b01
_PIXEL_DATA_TAG = b"\xe0\x7f\x10\x00"
_INTO_THE_VALUE_BYTES = 64  # past the tag's VR and length, and past the item headers of encapsulated pixel data


class RelaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a relay listens (an inherited socket), where it forwards to, from which address it does, and what it does there.

    With `delay_s` above 0 it only holds back, by that many seconds, each piece of what goes to the node (at most 64 KiB);
    with `cut_idle_s` above 0 it only ends, in order, a connection on which nothing went to the node for so long; else it
    flips bits.
    """

    listen_fd: int
    upstream_address: str
    upstream_port: int
    source_address: str
    delay_s: float = 0.0
    cut_idle_s: float = 0.0


class BitFlipper:
    """Flips one bit in the pixel data of each data set of a stream of PDUs. Bytes in, as many bytes out.

    The bit is the lowest of the byte 64 bytes behind the tag of Pixel Data. A data set whose pixel data end before that is
    left as it is.
    """

    def __init__(self) -> None:
        self._header = b""  # of the PDU or PDV under way, until it is whole
        self._pdu_left = 0
        self._is_p_data = False
        self._item_left = 0
        self._in_data = False  # the PDV under way carries data set, not command
        self._tail = b""  # the last bytes of the data set so far: a tag may be cut in two
        self._countdown = -1  # bytes of the data set until the one to damage; -1: no tag yet; -2: done

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream and return them, damaged where it is their turn."""
        damaged = bytearray(chunk)
        position = 0
        while position < len(damaged):
            if self._item_left:
                taken = min(self._item_left, len(damaged) - position)
                if self._in_data:
                    self._data(damaged, position, position + taken)
                self._item_left -= taken
                self._pdu_left -= taken
            elif self._pdu_left and not self._is_p_data:
                taken = min(self._pdu_left, len(damaged) - position)
                self._pdu_left -= taken
            else:
                taken = self._take_header(damaged, position)
            position += taken
        return bytes(damaged)

    def _take_header(self, stream: bytearray, position: int) -> int:
        """Take bytes of the header of a PDU or, within a P-DATA-TF, of a PDV."""
        size = _ITEM_HEADER_BYTES if self._pdu_left else _HEADER_BYTES
        taken = min(size - len(self._header), len(stream) - position)
        self._header += stream[position : position + taken]
        if len(self._header) < size:
            return taken
        if self._pdu_left:
            length, _, control = struct.unpack(">IBB", self._header)
            self._item_left = length - 2  # the length counts the context and the control header
            self._pdu_left -= _ITEM_HEADER_BYTES
            self._in_data = not control & _COMMAND
            if not self._in_data:
                self._tail, self._countdown = b"", -1  # a command begins the next message
        else:
            kind, _, self._pdu_left = struct.unpack(">BBI", self._header)
            self._is_p_data = kind == _P_DATA_TF
        self._header = b""
        return taken

    def _data(self, stream: bytearray, begin: int, end: int) -> None:
        if self._countdown == -1:
            searched = self._tail + stream[begin:end]
            found = searched.find(_PIXEL_DATA_TAG)
            if found < 0:
                self._tail = searched[-len(_PIXEL_DATA_TAG) + 1 :]
                return
            self._countdown = found - len(self._tail) + len(_PIXEL_DATA_TAG) + _INTO_THE_VALUE_BYTES
        if self._countdown >= 0:
            if self._countdown < end - begin:
                stream[begin + self._countdown] ^= 1
                self._countdown = -2
            else:
                self._countdown -= end - begin


class Relay:
    """Forwards connections to one upstream, and damages images on the way there.

    Parameters
    ----------
    settings : RelaySettings
        The upstream is connected anew for each client.
    """

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings

    async def serve(self, listener: socket.socket) -> None:
        """Forward until SIGTERM."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        async with await asyncio.start_server(self._forward, sock=listener):
            await ended.wait()

    async def _forward(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        settings = self._settings
        try:
            server, to_server = await asyncio.open_connection(
                settings.upstream_address, settings.upstream_port, local_addr=(settings.source_address, 0)
            )
        except OSError as error:
            print(f"{settings.upstream_address}:{settings.upstream_port}: {error}", file=sys.stderr)  # noqa: T201  its log
            to_client.transport.abort()
            return
        for writer in (to_client, to_server):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flipper = None if settings.delay_s or settings.cut_idle_s else BitFlipper()
        await asyncio.gather(
            _pump(client, to_server, flipper, settings.delay_s, settings.cut_idle_s or None), _pump(server, to_client)
        )
        for writer in (to_client, to_server):
            writer.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flipper: BitFlipper | None = None, delay_s: float = 0.0,
    cut_idle_s: float | None = None,
) -> None:  # fmt: skip
    """Forward one way until its end, which is passed on: a reset as a reset, an end of stream, or of patience, as one."""
    try:
        while chunk := await _read(reader, cut_idle_s):
            if delay_s:
                await asyncio.sleep(delay_s)
            writer.write(flipper.feed(chunk) if flipper else chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader, within_s: float | None) -> bytes:
    """Return the next bytes; none at the end of the stream, and when nothing comes in time."""
    try:
        return await asyncio.wait_for(reader.read(_CHUNK_BYTES), within_s)
    except TimeoutError:
        return b""


def main(arguments: list[str]) -> None:
    """Relay as the settings file says, until SIGTERM."""
    if len(arguments) != 2:
        sys.exit(f"usage: python -m simulators.relay SETTINGS.json, found {len(arguments) - 1} arguments")
    try:
        settings = msgspec.json.decode(Path(arguments[1]).read_bytes(), type=RelaySettings)
    except (OSError, msgspec.MsgspecError) as error:
        print(f"{arguments[1]}: {error}", file=sys.stderr)  # noqa: T201  its log
        sys.exit(2)
    listener = socket.socket(fileno=settings.listen_fd)
    asyncio.run(Relay(settings).serve(listener))


if __name__ == "__main__":
    main(sys.argv)
