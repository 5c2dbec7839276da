"""What a load plan asks for, in arrivals: what has to be found in the records, whoever played it. Pure."""

from __future__ import annotations

import numpy as np

from lbconfig.site import ServiceKind

from .arrivals import schedule_of
from .plan import SERVICE_OF_USER, LoadPlan, UserPlan

_NS = 1e9


def intended_arrivals(plan: LoadPlan, service: ServiceKind) -> int:
    """Return how many arrivals of a service a plan intends, over all generators: each leaves a record, dropped ones too."""
    return sum(intended_at_rates(plan, service).values())


def intended_at_rates(plan: LoadPlan, service: ServiceKind) -> dict[int, int]:
    """Return how many arrivals of a service a plan intends at each rate, in the order of time.

    Returns
    -------
    dict of int to int
        By the rate in arrivals a thousand seconds, as in the records (`rate_milli`). The arrivals of a storm, two of each
        client, have none: theirs is 0. A `closed` shape intends no arrivals.
    """
    found: dict[int, int] = {}
    for place, user in enumerate(plan.users):
        if SERVICE_OF_USER[user.kind] == service:
            for rate_milli, count in _at_rates(plan, user, place):
                found[rate_milli] = found.get(rate_milli, 0) + count
    return found


def _at_rates(plan: LoadPlan, user: UserPlan, place: int) -> list[tuple[int, int]]:
    """Return each rate with its arrivals, in the order of time; what is due after the end of the run is never handed out."""
    if user.shape.kind == "storm":
        return [(0, 2 * user.clients)]
    over_ns = round(min(user.starts_s + user.lasts_s, plan.duration_s) * _NS)
    schedule = schedule_of(user, plan.seed, place)
    handed_out = np.rint(schedule.rates[np.rint(schedule.due_s * _NS) <= over_ns] * 1000).astype(np.int64)
    rates, first, counts = np.unique(handed_out, return_index=True, return_counts=True)
    return [(int(rates[at]), int(counts[at])) for at in np.argsort(first)]
