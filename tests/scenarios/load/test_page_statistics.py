"""In a process of its own: importing Locust patches whoever does."""

import subprocess
import sys

from scenarios.options import ROOT

SCRIPT = """
from locust.stats import RequestStats
from scenarios.load.page_statistics import POINTS_KEPT, SECONDS_KEPT, cut

stats = RequestStats()
for second in range(1000, 3000):
    for number in range(3):
        stats.log_request("HL7", "message", 5.0 + number, 100)
    for entry in (stats.total, stats.get("message", "HL7")):
        entry.num_reqs_per_sec[second] = entry.num_fail_per_sec[second] = 3
    stats.history.append({"time": second})
    cut(stats, second)
entry = stats.get("message", "HL7")
wanted = range(2999 - SECONDS_KEPT, 3000)
assert [second for second in sorted(entry.num_reqs_per_sec) if second < 10_000] == list(wanted), entry.num_reqs_per_sec
assert sorted(second for second in stats.total.num_fail_per_sec if second < 10_000) == list(wanted)
assert [point["time"] for point in stats.history] == list(range(3000 - POINTS_KEPT, 3000))
assert (entry.num_requests, stats.total.num_requests) == (6000, 6000)
"""


def test_what_the_page_needs_is_kept_and_the_rest_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[-2000:]) == (0, "")
