"""What a storage SCP supports: every storage SOP class, retired ones included, in all transfer syntaxes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import AllTransferSyntaxes

_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_REAL_TIME_ONLY = "1.2.840.10008.1.2.7."  # SMPTE ST 2110: never stored


@functools.cache
def storage_sop_classes() -> Mapping[str, str]:
    """Return the keyword of every storage SOP class by its UID (PS3.4, annex B; PS3.6, annex A)."""
    return MappingProxyType(
        {
            uid: keyword
            for uid, (_, kind, _, _, keyword) in UID_dictionary.items()
            if kind == "SOP Class" and uid.startswith(_STORAGE_ROOT) and "Storage" in keyword
        }
    )


@functools.cache
def storage_syntaxes() -> tuple[str, ...]:
    """Return the UIDs of all transfer syntaxes that an image can be stored in."""
    return tuple(str(syntax) for syntax in AllTransferSyntaxes if not syntax.startswith(_REAL_TIME_ONLY))
