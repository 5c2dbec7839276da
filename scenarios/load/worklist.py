"""Load of worklist clients alone: `locust -f scenarios/load/worklist.py`."""

from __future__ import annotations

from scenarios.load.staging import PlannedUser, PlanShape

__all__ = ["PlanShape", "WorklistUser"]


class WorklistUser(PlannedUser):
    """A modality that asks for its worklist by its own clock."""

    kind = "worklist"
