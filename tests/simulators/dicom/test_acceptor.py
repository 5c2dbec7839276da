"""How long the acceptor waits for the rest of an image, in an event loop of the test's own: its limits are short here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from simulators.dicom import acceptor
from simulators.dicom.acceptor import ApplicationEntity
from simulators.dicom.dimse import c_store_rq
from simulators.dicom.negotiation import Proposal, ProposedContext
from simulators.dicom.upper_layer import Message, UpperLayer
from simulators.dicom.wire_storage import StorageProvider
from simulators.operations import IdentitySource, Kind
from simulators.service import ServiceSettings

CT = "1.2.840.10008.5.1.4.1.1.2"
CONTEXTS = (ProposedContext(CT, ("1.2.840.10008.1.2",)),)
STALLED_S, LIMIT_S = 0.4, 10.0


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "STALLED_PDU_S", STALLED_S)


@asynccontextmanager
async def storage(directory: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, UpperLayer]]:
    """Serve storage, and yield an association to it."""
    settings = ServiceSettings(
        node="mach7-1", service="dicom", listen_fd=0, directory=str(directory), site_directories=(), storage="digest"
    )
    entity = ApplicationEntity(settings, StorageProvider(settings))
    server = await asyncio.get_running_loop().create_server(entity.connection, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    layer = UpperLayer()
    writer.write(layer.associate(Proposal("MODALITY", "MACH7", CONTEXTS)))
    layer.receive(await reader.read(4096))
    yield reader, writer, layer
    writer.close()
    server.close()
    await entity.close()


def image(layer: UpperLayer) -> bytes:
    uid = IdentitySource(run=12, generator=0).next(Kind.INSTANCE).uid
    return b"".join(layer.message(1, c_store_rq(1, CT, uid), (bytes(1 << 18),)))


def test_a_long_fragment_that_trickles_is_waited_for(tmp_path: Path) -> None:
    async def status() -> int:
        async with storage(tmp_path) as (reader, writer, layer):
            message = image(layer)
            begin = 1 << 15
            writer.write(message[:begin])
            for at in range(begin, begin + 8):  # too little, each time, for the kernel to tell of it
                await asyncio.sleep(STALLED_S / 2)
                writer.write(message[at : at + 1])
            writer.write(message[begin + 8 :])
            (event,) = layer.receive(await asyncio.wait_for(reader.read(4096), LIMIT_S))
            assert isinstance(event, Message)
            return event.command_set.status

    assert uvloop.run(status()) == 0x0000


def test_a_long_fragment_whose_rest_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async def rest() -> bytes:
        async with storage(tmp_path) as (reader, writer, layer):
            writer.write(image(layer)[: 1 << 15])
            try:
                return await asyncio.wait_for(reader.read(4096), LIMIT_S)
            except ConnectionResetError:
                return b""

    assert uvloop.run(rest()) == b""


def test_a_long_fragment_that_ends_with_the_connection_leaves_none_behind(tmp_path: Path) -> None:
    async def left() -> int:
        async with storage(tmp_path) as (reader, writer, layer):
            writer.write(image(layer)[: 1 << 15])
            await asyncio.sleep(STALLED_S / 4)
            writer.write_eof()
            return len(await asyncio.wait_for(reader.read(4096), STALLED_S / 2))  # told of at once

    assert uvloop.run(left()) == 0
