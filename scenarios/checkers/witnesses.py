"""Who says which node a connection met: the client, the nodes' journals, the balancer's table and log.

Connections are heard piece by piece, and what is kept of each is the number of one node: so millions of them are heard in
seconds, in little memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from scenarios.checkers.places import Places
from scenarios.frames import Frame, batches, columns

Numbers = npt.NDArray[np.uint16]  # of nodes, in the order of their names; one too many means: said nothing
EXAMPLES = 2
_NOTHING = 2**16 - 1


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
        journals = None if receipts is None else _Journals(answered, receipts)
        told = answered.select(pl.col("node").unique()).collect()["node"].to_list()
        noted = [] if journals is None else journals.names
        self._names = sorted({*told, *noted, *table.values(), *(log or {}).values()} - {""})
        witnesses = _Witnesses(self._names, table, log, journals)
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


class _Journals:
    """What the nodes wrote down of each identity that went over a connection; the last receipt counts.

    `names` are the nodes in the order in which they were met, which is how they are numbered here.
    """

    def __init__(self, answered: pl.LazyFrame, receipts: Frame) -> None:
        self._places = Places(columns(answered, "key")["key"].to_numpy())
        self._noted = np.full(self._places.count, _NOTHING, np.uint16)
        number: dict[str, int] = {}
        for batch in batches(receipts, "key", "node"):
            for name in batch["node"].unique().to_list():
                number.setdefault(name, len(number))
            at = self._places.of(batch["key"].to_numpy())
            self._noted[at[at >= 0]] = _numbers(batch["node"], number, _NOTHING)[at >= 0]
        self.names = list(number)

    def renumber(self, number: Mapping[str, int], silent: int) -> None:
        """Give the nodes the numbers that all witnesses use."""
        of_own = np.full(_NOTHING + 1, silent, np.uint16)
        of_own[: len(self.names)] = [number.get(name, silent) for name in self.names]
        self._noted = of_own[self._noted]

    def say(self, keys: npt.NDArray[np.uint64]) -> Numbers:
        """Return the number of the node that wrote each identity down."""
        return self._noted[self._places.of(keys)]


class _Witnesses:
    """All witnesses that a target has, asked for one piece of the connections at a time."""

    def __init__(
        self, names: Sequence[str], table: Mapping[str, str], log: Mapping[tuple[str, int], str] | None,
        journals: _Journals | None,
    ) -> None:  # fmt: skip
        self._number = {name: number for number, name in enumerate(names)}
        self._silent = len(names)
        self._table = {source: self._number.get(node, self._silent) for source, node in table.items()}
        self._log = None if log is None else self._logged(log)
        self._journals = journals
        if journals is not None:
            journals.renumber(self._number, self._silent)
        has = {"client": True, "table": True, "log": log is not None, "journal": journals is not None}
        self.present = [name for name, there in has.items() if there]

    def say(self, batch: pl.DataFrame) -> dict[str, Numbers]:
        """Return the number of the node that each witness names for each connection, or that of silence."""
        said = {
            "client": _numbers(batch["node"], self._number, self._silent),
            "table": _numbers(batch["source"], self._table, self._silent),
        }
        if self._log is not None:
            found = batch.join(self._log, on=["source", "source_port"], how="left", maintain_order="left")
            said["log"] = found["said"].fill_null(self._silent).to_numpy()
        if self._journals is not None:
            said["journal"] = self._journals.say(batch["key"].to_numpy())
        return said

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


def _numbers(words: pl.Series, numbers: Mapping[str, int], silent: int) -> Numbers:
    """Return the number of each word of a categorical series, `silent` for one that has none."""
    distinct = words.unique()
    of_code = np.full(int(distinct.to_physical().max() or 0) + 1, silent, np.uint16)  # type: ignore[arg-type]
    of_code[distinct.to_physical().to_numpy()] = [numbers.get(word, silent) for word in distinct.to_list()]
    of_each: Numbers = of_code[words.to_physical().to_numpy()]
    return of_each
