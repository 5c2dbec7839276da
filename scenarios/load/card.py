"""The card of a lab that is up: all that a client needs to talk to it. The lab writes it, Locust's processes read it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .private_file import write_private

CARD_NAME = "card.json"
_LABS = "out/lab-*/" + CARD_NAME


class CardError(Exception):
    """There is no card of a lab, or it cannot be used; the message says which and what to do."""


class LabCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a lab tells its clients.

    Parameters
    ----------
    site : str
        The site file that it plays.
    ca_file : str
        PEM of the authority that issued the nodes' certificates.
    web_user, web_password : str
        The account of the web page.
    server_name : str
        The host name or address that the certificates cover.
    study_uids : tuple of str
        Studies that are there to open.
    worklist_stations : tuple of str
        Scheduled station AE titles whose worklists hold items.
    sources : tuple of str
        First and last source address (IPv4) that load runs may use: the lab gives them to nobody else.
    """

    site: str
    ca_file: str
    web_user: str
    web_password: str
    server_name: str
    study_uids: tuple[str, ...] = ()
    worklist_stations: tuple[str, ...] = ()
    sources: tuple[str, str]


def write_card(card: LabCard, path: Path) -> None:
    """Write a card; readable by its owner alone, since it holds a password."""
    write_private(card, path)


def read_card(path: Path) -> LabCard:
    """Read a card.

    Raises
    ------
    CardError
        When the file is missing or not a LabCard.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabCard)
    except (OSError, msgspec.MsgspecError) as error:
        raise CardError(f"{path}: expected the card of a lab, found {error}. Bring one up: preflight lab up") from error


def newest_card(checkout: Path) -> Path:
    """Return the card that was written last under `out/lab-*/` of a checkout.

    Raises
    ------
    CardError
        When there is none.
    """
    found = sorted(checkout.glob(_LABS), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise CardError(f"{checkout / _LABS}: expected the card of a lab, found none. Bring one up first: preflight lab up")
    return found[-1]
