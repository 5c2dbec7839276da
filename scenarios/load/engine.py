"""Load of the interface engine alone: `locust -f scenarios/load/engine.py`."""

from __future__ import annotations

from scenarios.load.staging import PlannedUser, PlanShape

__all__ = ["EngineUser", "PlanShape"]


class EngineUser(PlannedUser):
    """A line of the interface engine: one connection that is kept, one message in flight."""

    kind = "engine"
