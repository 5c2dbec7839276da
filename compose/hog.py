"""A process that takes all the CPU that it can get, and does nothing with it: `python -m compose.hog`.

Planted where a load generator is to be starved. Ends with its keeper.
"""

from __future__ import annotations


def burn() -> None:
    """Count, for ever."""
    count = 0
    while True:
        count += 1


if __name__ == "__main__":
    burn()
