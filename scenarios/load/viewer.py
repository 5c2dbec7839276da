"""Load of web viewers alone: `locust -f scenarios/load/viewer.py`."""

from __future__ import annotations

from scenarios.load.staging import PlannedUser, PlanShape

__all__ = ["PlanShape", "ViewerUser"]


class ViewerUser(PlannedUser):
    """A person at a web client: logs in, looks at pages, writes a note."""

    kind = "viewer"
