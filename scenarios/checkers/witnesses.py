"""Who says which node a connection met: the client, the nodes' journals, the balancer's table and log.

Only numbers are kept of what each said of each connection, so that millions of connections are heard in a second.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from scenarios.checkers.places import Places
from scenarios.frames import Frame, columns

Numbers = npt.NDArray[np.uint16]  # of nodes, in the order of their names; one too many means: said nothing


class Heard:
    """What the witnesses said of the connections that were answered.

    Parameters
    ----------
    answered : frame of operations
        `source` and `source_port` of each, in order.
    names : list of str
        All nodes that anybody named, sorted.
    said : dict of witness to array of uint16
        The number of the node that each named for each connection; `len(names)` where it named none.

    Attributes
    ----------
    sources : dict of str to dict of str to int
        How often each source met each node. A connection met the first, in the order of names, of the nodes that client, log
        and journal named; the table speaks of sources, not of connections.
    nodes : list of str
        The nodes that were met, sorted.
    statements : dict of str to int
        Of how many connections each witness named a node.
    disagreements : int
        Of how many connections two witnesses named different nodes.
    """

    def __init__(self, answered: pl.DataFrame, names: list[str], said: dict[str, Numbers]) -> None:
        self._answered = answered
        self._names = names
        self._said = said
        silent = len(names)
        eyewitnesses = [numbers for name, numbers in said.items() if name != "table"]
        self._met = np.minimum.reduce(eyewitnesses)
        self._contradicted = np.logical_or.reduce([(each != silent) & (each != self._met) for each in eyewitnesses])
        self.statements = {name: int(np.count_nonzero(numbers != silent)) for name, numbers in said.items()}
        self.disagreements = int(np.count_nonzero(self._contradicted))
        self.sources = self._sources()
        self.nodes = sorted({node for met in self.sources.values() for node in met})

    def changes_of(self, source: str, at_most: int) -> list[str]:
        """Return the first nodes that a source met, without repetitions in a row."""
        met = self._met[(self._answered["source"] == source).to_numpy()]
        met = met[met < len(self._names)]
        changes = met[np.concatenate([[True], met[1:] != met[:-1]])] if len(met) else met
        return [self._names[number] for number in changes[:at_most]]

    def contradictions(self, at_most: int) -> list[str]:
        """Return the first connections whose witnesses disagree, each with what every witness says."""
        examples = []
        for row in np.flatnonzero(self._contradicted)[:at_most]:
            source, port = self._answered.select("source", "source_port").row(int(row))
            words = {name: numbers[row] for name, numbers in self._said.items() if numbers[row] < len(self._names)}
            said = ", ".join(f"{name} says {self._names[number]}" for name, number in words.items())
            examples.append(f"{source}:{port}: {said}")
        return examples

    def _sources(self) -> dict[str, dict[str, int]]:
        counts = self._answered.select("source").with_columns(pl.Series("met", self._met)).group_by("source", "met").len()
        sources: dict[str, dict[str, int]] = {}
        for source, number, count in counts.iter_rows():
            met = sources.setdefault(source, {})
            if number < len(self._names):
                met[self._names[number]] = count
        return sources


def hear(
    answered: pl.DataFrame, receipts: Frame | None, table: Mapping[str, str], log: Mapping[tuple[str, int], str] | None
) -> Heard:
    """Ask every witness that the target has about every connection.

    Parameters
    ----------
    answered : frame of operations
        `key`, `source`, `source_port` and `node` of the acknowledged ones.
    receipts, table, log
        As in `judge_same_node`.
    """
    noted = None if receipts is None else columns(receipts, "key", "node")
    told = set(answered["node"].unique().to_list()) | set(table.values()) | set((log or {}).values())
    names = sorted((told | set(noted["node"].unique().to_list() if noted is not None else ())) - {""})
    number = {name: place for place, name in enumerate(names)}
    said = {
        "client": _numbers(answered["node"], number, len(names)),
        "table": _numbers(
            answered["source"], {source: number.get(node, len(names)) for source, node in table.items()}, len(names)
        ),
    }
    if log is not None:
        said["log"] = _logged(answered, {end: number.get(node, len(names)) for end, node in log.items()}, len(names))
    if noted is not None:
        said["journal"] = _journalled(
            answered, noted["key"].to_numpy(), _numbers(noted["node"], number, len(names)), len(names)
        )
    return Heard(answered, names, said)


def _numbers(words: pl.Series, numbers: Mapping[str, int], silent: int) -> Numbers:
    """Return the number of each word of a categorical series."""
    distinct = words.unique()
    of_code = np.full(int(distinct.to_physical().max() or 0) + 1, silent, np.uint16)  # type: ignore[arg-type]
    of_code[distinct.to_physical().to_numpy()] = [numbers.get(word, silent) for word in distinct.to_list()]
    of_each: Numbers = of_code[words.to_physical().to_numpy()]
    return of_each


def _logged(answered: pl.DataFrame, log: Mapping[tuple[str, int], int], silent: int) -> Numbers:
    """Return what the log says of each connection, found by the client's address and port."""
    entries = pl.DataFrame(
        {"source": [source for source, _ in log], "source_port": [port for _, port in log], "said": list(log.values())},
        schema={"source": pl.Categorical, "source_port": pl.UInt16, "said": pl.UInt16},
    )
    found = answered.select("source", "source_port").join(
        entries, on=["source", "source_port"], how="left", maintain_order="left"
    )
    return found["said"].fill_null(silent).to_numpy()


def _journalled(answered: pl.DataFrame, keys: npt.NDArray[np.uint64], said: Numbers, silent: int) -> Numbers:
    """Return what the journals say of each connection, found by the identity that went over it; the last receipt counts."""
    own = answered["key"].to_numpy()
    places = Places(own)
    at = places.of(keys)
    found = np.full(places.count, silent, np.uint16)
    found[at[at >= 0]] = said[at >= 0]
    return found[places.of(own)]
