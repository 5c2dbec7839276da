"""A hospital's whole load on all four VIPs: `locust -f scenarios/load/mixed.py`.

Without more it makes the load of the lab that is up (`preflight lab up`), with Locust's page on port 8089; `--headless`,
`--processes N`, `--master` and `--worker` work as ever. Every operation is recorded in the run's folder, and verdicts rest
on these records; the percentiles of Locust's page are rounded and are there to look at.
"""

from __future__ import annotations

from scenarios.load.engine import EngineUser
from scenarios.load.modality import ModalityUser
from scenarios.load.staging import PlanShape
from scenarios.load.viewer import ViewerUser
from scenarios.load.worklist import WorklistUser

__all__ = ["EngineUser", "ModalityUser", "PlanShape", "ViewerUser", "WorklistUser"]
