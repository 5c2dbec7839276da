"""How often everything that has a price happens, by the clinical load model: what `docs/scaling.md` reckons with. Pure."""

from __future__ import annotations

from scenarios.load.model import Demand

ITEMS_A_POLL = 20


def happens(demand: Demand, factor: float) -> dict[str, float]:
    """Return how often each unit happens a second at so many times the peak, all modalities of the model included.

    An association is that of a study; a session is its login and its note, and `page` are the requests between them.
    """
    studies, images, size_bytes = (rates.peak_per_s * factor for rates in demand.ingest)
    polls = demand.queries.peak_per_s * factor
    sessions = demand.sessions.peak_per_s * factor
    return {
        "association": studies, "image": images, "byte": size_bytes, "message": demand.messages.peak_per_s * factor,
        "poll": polls, "item": ITEMS_A_POLL * polls, "session": sessions,
        "page": sessions * (demand.load.pages_per_session - 1),
    }  # fmt: skip


def retrieved_bytes(demand: Demand, factor: float) -> float:
    """Return the bytes a second that are looked at again at so many times the peak: in the model, not in the traffic."""
    return demand.retrieved_bytes.peak_per_s * factor
