"""The ways a node can lie. Each is switched on for one service of a node, so that a check can be seen to fail."""

from __future__ import annotations

import enum

LEAKED_BYTES = 256 * 1024
LATE_BY_S = 0.02  # by how much a slow service answers later


class Misbehaviour(enum.StrEnum):
    """A defect of a node, named for its effect."""

    LOSES_EVERY_200TH = "loses-every-200th"  # acknowledges every 200th image or message and neither stores nor receipts it
    LOSES_EVERY_5000TH = "loses-every-5000th"  # as above, one image in 5,000: what only a load run meets
    STORES_ONE_TWICE = "stores-one-twice"  # every 200th image or message is stored, and receipted, twice for one attempt
    ACKNOWLEDGES_ANOTHER = "acknowledges-another"  # MSA-2 names another message than the one received
    SWAPS_MESSAGES = "swaps-messages"  # acknowledges a patient's message and applies it only after that patient's next one
    ACCEPTS_BAD_MESSAGES = "accepts-bad-messages"  # answers AA to content that must be refused
    TRUNCATES_WORKLIST = "truncates-worklist"  # leaves out the last match of every worklist answer with two or more
    MIXES_UP_PATIENTS = "mixes-up-patients"  # shows worklist items with another patient's name
    IGNORES_CANCEL = "ignores-cancel"  # answers C-FIND to its end whatever C-CANCEL says
    ACCEPTS_ANY_CALLED_AE = "accepts-any-called-ae"  # takes associations for AE titles that are not its own
    HIDES_ORDERS_OF_OTHERS = "hides-orders-of-others"  # shows only the orders that came to this node itself
    LOSES_SESSIONS = "loses-sessions"  # forgets every web session after the request that made it
    HIDES_STUDIES_OF_OTHERS = "hides-studies-of-others"  # lists only the studies stored on this node itself
    NEVER_COMMITS = "never-commits"  # agrees to storage commitment, and never reports on it
    SLOW_BY_20_MS = "slow-by-20-ms"  # answers every operation 20 ms later, in order, and idles meanwhile
    LEAKS_MEMORY = "leaks-memory"  # keeps 256 KiB of every web request for ever
