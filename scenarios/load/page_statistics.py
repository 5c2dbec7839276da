"""Locust's own statistics, which its page shows: cut to what the page needs, so that a generator does not grow with its run.

Locust counts requests in every second since its start, for each name, and keeps a point for its charts every five seconds.
What it shows of the seconds is the rate of the last ten or so.
"""

from __future__ import annotations

import time

import gevent
from locust.stats import RequestStats

CUT_EVERY_S = 30.0
SECONDS_KEPT = 60
POINTS_KEPT = 720  # of the charts: an hour


def cut_forever(stats: RequestStats) -> None:
    """Cut the statistics now and then, in a greenlet of its own."""
    while True:
        gevent.sleep(CUT_EVERY_S)
        cut(stats, time.time())


def cut(stats: RequestStats, now_s: float) -> None:
    """Forget the seconds and the points that are too old.

    Parameters
    ----------
    stats : RequestStats
        Those of a process of Locust.
    now_s : float
        The time, by the clock that Locust counts by: seconds since 1970.
    """
    oldest = int(now_s) - SECONDS_KEPT
    for entry in (stats.total, *stats.entries.values()):
        for counts in (entry.num_reqs_per_sec, entry.num_fail_per_sec):
            for second in [second for second in counts if second < oldest]:
                del counts[second]
    del stats.history[:-POINTS_KEPT]
