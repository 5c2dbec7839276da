"""No message of a patient is applied after a later message of that patient was acknowledged."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from scenarios.checkers.places import Places
from scenarios.findings import Finding, Numbers, failed, passed, unknown
from scenarios.frames import Frame, batches, columns
from simulators.operations import SEQUENCE_BITS, Outcome

Times = npt.NDArray[np.int64]
_NEVER = 2**62


def judge_order(operations: Frame, receipts: Frame, *, at_least: int) -> Finding:
    """Judge the order in which messages of each patient took effect.

    Clients send a patient's messages one after the other, each only after the one before was acknowledged, so a copy that a
    node takes after a later message was acknowledged puts old data over new. A message counts as acknowledged from the
    moment at which a node took it for good: its receipt is written just before the acknowledgement leaves, so what comes
    between the two is late as well.

    Parameters
    ----------
    operations : frame of operations
        Attempts to deliver messages; `patient` 0 (none) is left out.
    receipts : frame of receipts
        The journals of all nodes, of clocks that can be compared with the client's (one host).
    at_least : int
        How many messages with an acknowledged successor it takes to say anything.
    """
    messages = _Messages(operations, receipts)
    patients, overlapping, later_ns = _in_turn(messages)
    copies, late = _copies(messages, receipts, later_ns)
    followed = int(np.count_nonzero(later_ns < _NEVER))
    measured: dict[str, Any] = {
        "patients": patients, "messages": messages.places.count, "messages_followed": followed, "copies": copies,
        "applied_late": late.copies,
    }  # fmt: skip
    numbers: Numbers = {"measured": measured, "limit": {"applied_late": 0, "messages_followed_at_least": at_least}}
    if late.copies:
        return failed(
            "node",
            f"{late.copies} of {copies} copies were applied after a later message of their patient was acknowledged "
            f"(by {', '.join(sorted(late.nodes))}; up to {round(late.worst_ns / 1e9, 3)} s late)",
            **numbers,
        )
    if overlapping:
        reason = f"{overlapping} messages were sent before the one before was settled: the generator broke its own rule"
        return unknown(reason, **numbers)
    if followed < at_least or copies < at_least:
        return unknown(f"only {followed} messages had an acknowledged successor", **numbers)
    return passed(
        f"{copies} copies of {followed} messages of {patients} patients, each applied before any "
        "later message of its patient was acknowledged",
        **numbers,
    )


class _Messages:
    """One entry for each message that belongs to a patient.

    Whose it is; when it was first begun; when the fate of its last attempt was known; and when it was taken for good, which
    is never for one that was not acknowledged.
    """

    def __init__(self, operations: Frame, receipts: Frame) -> None:
        attempts = operations.lazy().filter(pl.col("patient") > 0)
        self.places = Places(columns(attempts, "key")["key"].to_numpy())
        self.patient = np.zeros(self.places.count, np.uint64)
        self.begun_ns, self.taken_ns = (np.full(self.places.count, _NEVER) for _ in range(2))
        self.settled_ns = np.zeros(self.places.count, np.int64)
        for batch in batches(attempts, "key", "patient", "outcome", "begun_ns", "ended_ns"):
            keys, patient, outcome, begun_ns, ended_ns = (batch[name].to_numpy() for name in batch.columns)
            at = self.places.of(keys)
            acknowledged = outcome == Outcome.ACKNOWLEDGED
            self.patient[at] = patient
            np.minimum.at(self.begun_ns, at, begun_ns)
            np.maximum.at(self.settled_ns, at, ended_ns)
            np.minimum.at(self.taken_ns, at[acknowledged], ended_ns[acknowledged])
        never = self.taken_ns == _NEVER
        for batch in batches(receipts, "key", "received_ns"):
            at = self.places.of(batch["key"].to_numpy())
            np.minimum.at(self.taken_ns, at[at >= 0], batch["received_ns"].to_numpy()[at >= 0])
        self.taken_ns[never] = _NEVER


def _in_turn(messages: _Messages) -> tuple[int, int, Times]:
    """Put each patient's messages in the order in which they were begun.

    Returns
    -------
    patients, overlapping : int
        How many patients there are, and how many messages were begun before their patient's one before was settled.
    later_ns : array of int64
        For each message, when any later one of its patient was first taken for good.
    """
    later_ns = np.full(messages.places.count, _NEVER)
    patients = overlapping = 0
    generators = (messages.patient >> np.uint64(SEQUENCE_BITS)).astype(np.uint16)
    for generator in np.flatnonzero(np.bincount(generators)):
        own = np.flatnonzero(generators == generator)
        own = own[np.lexsort((messages.begun_ns[own], messages.patient[own]))]
        patient = messages.patient[own]
        settled_ns, begun_ns = messages.settled_ns[own], messages.begun_ns[own]
        follows = patient[1:] == patient[:-1]
        patients += len(own) - int(np.count_nonzero(follows))
        overlapping += int(np.count_nonzero((begun_ns[1:] < settled_ns[:-1]) & follows))
        later_ns[own] = _earliest_later(patient, messages.taken_ns[own])
    return patients, overlapping, later_ns


def _earliest_later(patient: npt.NDArray[np.uint64], taken_ns: Times) -> Times:
    """Return, for each message of sorted patients, the least time of all that follow it: over 1 of them, then 2, 4, 8."""
    earliest = np.full(len(taken_ns), _NEVER)
    earliest[:-1] = np.where(patient[1:] == patient[:-1], taken_ns[1:], _NEVER)
    step = 1
    while (same := patient[step:] == patient[:-step]).any():
        earliest[:-step] = np.where(same, np.minimum(earliest[:-step], earliest[step:]), earliest[:-step])
        step *= 2
    return earliest


class _Late(NamedTuple):
    """How many copies were applied late, by whom, and by how much at worst."""

    copies: int
    nodes: set[str]
    worst_ns: int


def _copies(messages: _Messages, receipts: Frame, later_ns: Times) -> tuple[int, _Late]:
    """Return how many copies there are of messages that another one followed, and which of them came after it."""
    copies, late, worst_ns = 0, 0, 0
    nodes: set[str] = set()
    for batch in batches(receipts, "key", "received_ns", "node"):
        at = messages.places.of(batch["key"].to_numpy())
        known = np.flatnonzero(at >= 0)
        limit_ns = later_ns[at[known]]
        followed = limit_ns < _NEVER
        by_ns = (batch["received_ns"].to_numpy()[known] - limit_ns)[followed]
        copies += len(by_ns)
        if (by_ns > 0).any():
            late += int(np.count_nonzero(by_ns > 0))
            worst_ns = max(worst_ns, int(by_ns.max()))
            nodes |= set(batch["node"].gather(known[followed][by_ns > 0]).unique().to_list())
    return copies, _Late(late, nodes, worst_ns)
