"""LOAD-1 to LOAD-4, STORM-1 and SOAK-1: what the site carries, and which part of it would give way first."""

import pytest

from lbconfig.site import Vip
from scenarios.checkers.load import judge_load
from scenarios.conftest import Judge
from scenarios.load_process import LoadRun
from scenarios.run import Run


@pytest.mark.check("LOAD-1")
def test_the_site_carries_its_peak_and_half_again(run: Run, peak_load: LoadRun, vip: Vip, judge: Judge) -> None:
    """Put the peak times 1.5 on all VIPs at once, open-loop, and judge latencies from the intended start."""
    operations = run.scan_operations(vip.service, [peak_load.workload])
    judge(judge_load(vip, operations, peak_load.arrivals(), peak_load.parts, load=peak_load.name))


@pytest.mark.check("LOAD-3")
def test_one_node_carries_the_peak_alone(run: Run, one_node_load: LoadRun, vip: Vip, judge: Judge) -> None:
    """Halt one node and put the site's peak on the other."""
    operations = run.scan_operations(vip.service, [one_node_load.workload])
    judge(judge_load(vip, operations, one_node_load.arrivals(), one_node_load.parts, load=one_node_load.name))
