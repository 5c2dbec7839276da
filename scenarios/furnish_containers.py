"""In the tester of a lab in containers: `python -m scenarios.furnish_containers SITE.toml [--for-load]` stocks it for play.

It waits until the lab is up, gives it a study and orders to show, and writes its card for other clients of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from compose.docker import ComposeLab
from compose.lab import LabError
from compose.layout import LAB
from lbconfig.site_file import SiteError, load_site
from scenarios.load.card import CARD_NAME
from scenarios.stock import furnish

_OWN = Path(LAB) / "play"
_FOR_LOAD = "--for-load"


def main(arguments: list[str]) -> None:
    """Stock the lab."""
    if len(arguments) not in (2, 3) or arguments[2:] not in ([], [_FOR_LOAD]):
        sys.exit(f"usage: python -m scenarios.furnish_containers SITE.toml [{_FOR_LOAD}], found {' '.join(arguments[1:])}")
    try:
        with ComposeLab(load_site(Path(arguments[1])), _OWN) as lab:
            card = furnish(lab, Path(arguments[1]))
            card.replace(Path(LAB) / CARD_NAME)
            if arguments[2:]:
                lab.keep_receipts_only()
    except (LabError, SiteError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv)
