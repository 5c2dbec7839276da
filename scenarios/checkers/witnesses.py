"""Who says which node a connection met: the client, the nodes' journals, the balancer's table and log.

Connections are heard piece by piece, and what is kept of each is the number of one node: so millions of them are heard in
seconds, in little memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from scenarios.checkers.places import Places
from scenarios.frames import Frame, batches, columns

Numbers = npt.NDArray[np.uint16]  # of nodes, in the order of their names; one too many means: said nothing
EXAMPLES = 2


class Heard:
    """What the witnesses said of the connections that were answered.

    Parameters
    ----------
    answered : frame of operations
        The acknowledged ones, in order.
    receipts, table, log
        As in `judge_same_node`.

    Attributes
    ----------
    connections : int
        How many were answered.
    sources : dict of str to dict of str to int
        How often each source met each node. A connection met the first, in the order of names, of the nodes that client, log
        and journal named; the table speaks of sources, not of connections.
    nodes : list of str
        The nodes that were met, sorted.
    statements : dict of str to int
        Of how many connections each witness named a node.
    disagreements : int
        Of how many connections two witnesses named different nodes.
    contradictions : list of str
        The first of these, each with what every witness says.
    """

    def __init__(
        self, answered: pl.LazyFrame, receipts: Frame | None, table: Mapping[str, str],
        log: Mapping[tuple[str, int], str] | None,
    ) -> None:  # fmt: skip
        self._answered = answered
        self._names = _names(answered, receipts, [*table.values(), *(log or {}).values()])
        witnesses = _Witnesses(self._names, answered, receipts, table, log)
        silent = len(self._names)
        self.connections = self.disagreements = 0
        self.statements = dict.fromkeys(witnesses.present, 0)
        self.contradictions: list[str] = []
        self.sources: dict[str, dict[str, int]] = {}
        met_of_batches = []
        for batch in batches(answered, "key", "source", "source_port", "node"):
            said = witnesses.say(batch)
            eyewitnesses = [numbers for name, numbers in said.items() if name != "table"]
            met = np.minimum.reduce(eyewitnesses)
            contradicted = np.logical_or.reduce([(each != silent) & (each != met) for each in eyewitnesses])
            self.connections += batch.height
            self.disagreements += int(np.count_nonzero(contradicted))
            for name, numbers in said.items():
                self.statements[name] += int(np.count_nonzero(numbers != silent))
            for row in np.flatnonzero(contradicted)[: EXAMPLES - len(self.contradictions)].tolist():
                self.contradictions.append(self._contradiction(batch.row(row, named=True), said, row))
            self._count(batch["source"], met)
            met_of_batches.append(met)
        self._met = np.concatenate(met_of_batches) if met_of_batches else np.empty(0, np.uint16)
        self.nodes = sorted({node for met in self.sources.values() for node in met})

    def changes_of(self, source: str, at_most: int) -> list[str]:
        """Return the first nodes that a source met, without repetitions in a row."""
        met = self._met[(columns(self._answered, "source")["source"] == source).to_numpy()]
        met = met[met < len(self._names)]
        changes = met[np.concatenate([[True], met[1:] != met[:-1]])] if len(met) else met
        return [self._names[number] for number in changes[:at_most]]

    def _count(self, source: pl.Series, met: Numbers) -> None:
        counts = pl.DataFrame([source, pl.Series("met", met)]).group_by("source", "met").len()
        for address, number, count in counts.iter_rows():
            of_source = self.sources.setdefault(address, {})
            if number < len(self._names):
                of_source[self._names[number]] = of_source.get(self._names[number], 0) + count

    def _contradiction(self, connection: dict[str, object], said: Mapping[str, Numbers], row: int) -> str:
        words = {name: numbers[row] for name, numbers in said.items() if numbers[row] < len(self._names)}
        told = ", ".join(f"{name} says {self._names[number]}" for name, number in words.items())
        return f"{connection['source']}:{connection['source_port']}: {told}"


def _names(answered: pl.LazyFrame, receipts: Frame | None, others: Iterable[str]) -> list[str]:
    """Return all nodes that anybody names, sorted."""
    names = set(others)
    for frame in (answered, receipts):
        if frame is not None:
            names |= set(frame.lazy().select(pl.col("node").unique()).collect()["node"].to_list())
    return sorted(names - {""})


class _Witnesses:
    """All witnesses that a target has, asked for one piece of the connections at a time."""

    def __init__(
        self, names: Sequence[str], answered: pl.LazyFrame, receipts: Frame | None, table: Mapping[str, str],
        log: Mapping[tuple[str, int], str] | None,
    ) -> None:  # fmt: skip
        self._number = {name: number for number, name in enumerate(names)}
        self._silent = len(names)
        self._table = {source: self._number.get(node, self._silent) for source, node in table.items()}
        self._log = None if log is None else self._logged(log)
        self._places: Places | None = None
        if receipts is not None:
            self._places = Places(columns(answered, "key")["key"].to_numpy())
            self._noted = self._journalled(receipts, self._places)
        has = {"client": True, "table": True, "log": log is not None, "journal": receipts is not None}
        self.present = [name for name, there in has.items() if there]

    def say(self, batch: pl.DataFrame) -> dict[str, Numbers]:
        """Return the number of the node that each witness names for each connection, or that of silence."""
        said = {"client": self._numbers(batch["node"], self._number), "table": self._numbers(batch["source"], self._table)}
        if self._log is not None:
            found = batch.join(self._log, on=["source", "source_port"], how="left", maintain_order="left")
            said["log"] = found["said"].fill_null(self._silent).to_numpy()
        if self._places is not None:
            said["journal"] = self._noted[self._places.of(batch["key"].to_numpy())]
        return said

    def _numbers(self, words: pl.Series, numbers: Mapping[str, int]) -> Numbers:
        """Return the number of each word of a categorical series."""
        distinct = words.unique()
        of_code = np.full(int(distinct.to_physical().max() or 0) + 1, self._silent, np.uint16)  # type: ignore[arg-type]
        of_code[distinct.to_physical().to_numpy()] = [numbers.get(word, self._silent) for word in distinct.to_list()]
        of_each: Numbers = of_code[words.to_physical().to_numpy()]
        return of_each

    def _logged(self, log: Mapping[tuple[str, int], str]) -> pl.DataFrame:
        """Return what the log says of each connection, to be found by the client's address and port."""
        return pl.DataFrame(
            {
                "source": [source for source, _ in log],
                "source_port": [port for _, port in log],
                "said": [self._number.get(node, self._silent) for node in log.values()],
            },
            schema={"source": pl.Categorical, "source_port": pl.UInt16, "said": pl.UInt16},
        )

    def _journalled(self, receipts: Frame, places: Places) -> Numbers:
        """Return what the journals say of each identity that went over a connection; the last receipt counts."""
        noted = np.full(places.count, self._silent, np.uint16)
        for batch in batches(receipts, "key", "node"):
            at = places.of(batch["key"].to_numpy())
            noted[at[at >= 0]] = self._numbers(batch["node"], self._number)[at >= 0]
        return noted
