"""How long a lab waits for each thing, in seconds. Generous: they bound a failure, they measure nothing."""

from __future__ import annotations

import msgspec


class LabTimeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a lab's waits.

    `answer_s`: from the start of a service to its first answer. `probe_s`: one probe. `balancer_s`: from the start of the
    balancer to a checked state of every server, on top of one round of checks. `gone_s`: from SIGKILL to the end of a
    process. `poll_s`: between two looks at something that cannot be waited for.
    """

    answer_s: float = 60.0
    probe_s: float = 20.0
    balancer_s: float = 20.0
    gone_s: float = 10.0
    poll_s: float = 0.05
