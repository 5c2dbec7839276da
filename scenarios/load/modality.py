"""Load of modalities alone: `locust -f scenarios/load/modality.py`."""

from __future__ import annotations

from scenarios.load.staging import PlannedUser, PlanShape

__all__ = ["ModalityUser", "PlanShape"]


class ModalityUser(PlannedUser):
    """A modality: it stores a study at a time, over an association of its own."""

    kind = "modality"
