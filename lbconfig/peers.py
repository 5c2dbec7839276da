"""What HAProxy says of its peers: `show peers` (management manual, 9.3), of 2.6 and of 3.0 alike."""

from __future__ import annotations

import re

import msgspec

_PEER = re.compile(
    r"^\s+0x[0-9a-f]+: id=(?P<name>[^(\s]+)\((?P<kind>\w+),(?P<activity>\w+)\) addr=(?P<address>\S+)(?P<rest>.*)$"
)
_STATUS = re.compile(r"\blast_status=(\w+)")
_TABLE = re.compile(r"^\s+table:0x[0-9a-f]+ id=(\S+)")
_ESTABLISHED = "ESTA"


class PeerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a `peers` section as a running HAProxy sees it.

    `status` is HAProxy's word for the last state of the connection: ESTA (established), CONN, RFSD, NONE, …; `tables` are
    the tables that it teaches and learns with this peer.
    """

    name: str
    is_local: bool
    address: str
    status: str
    tables: tuple[str, ...] = ()

    @property
    def is_established(self) -> bool:
        """Whether the two processes are connected."""
        return self.status == _ESTABLISHED


def read_peers(answer: str) -> list[PeerSeen]:
    """Return the peers of an answer to `show peers`, in its order; none where there is no `peers` section."""
    found: list[PeerSeen] = []
    for line in answer.splitlines():
        peer, table = _PEER.match(line), _TABLE.match(line)
        if peer is not None:
            status = _STATUS.search(peer["rest"])
            found.append(
                PeerSeen(
                    name=peer["name"], is_local=peer["kind"] == "local", address=peer["address"],
                    status=status[1] if status else "",
                )
            )  # fmt: skip
        elif table is not None and found:
            last = found.pop()
            found.append(msgspec.structs.replace(last, tables=tuple(sorted({*last.tables, table[1]}))))
    return found
