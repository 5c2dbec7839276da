"""What a lab changes in a rendered configuration: planted defects, and the way through a relay. Text in, text out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .lab import ConfigurationEdit, Defects, LabError

_SECTION = re.compile(r"^(?=\S)", re.MULTILINE)  # a section begins at the margin, what is in it is indented


def edited(configuration: str, edits: Iterable[ConfigurationEdit]) -> str:
    """Return a configuration with edits applied, one after the other.

    Raises
    ------
    LabError
        When an edit matches nothing, or its VIP has no section: a defect that is not there cannot be found.
    """
    for edit in edits:
        configuration = _edited(configuration, edit)
    return configuration


def through_relay(configuration: str, vip: str, label: str, address: str, port: int) -> str:
    """Return a configuration in which one real server of a VIP is reached at a relay's address and port."""
    edit = ConfigurationEdit(vip, rf"^(\s*server\s+{re.escape(label)}\s+)\S+", rf"\g<1>{address}:{port}")
    return _edited(configuration, edit)


def unit_editor(defects: Defects) -> Callable[[str, str, str], str]:
    """Return what changes a rendered file of a unit of a pair: a function of unit, file name and text.

    Edits of the balancer's configuration meet the haproxy.cfg of every unit, those of one unit only the file that they name.
    It raises LabError when an edit matches nothing.
    """

    def edit(unit: str, file: str, text: str) -> str:
        if file == "haproxy.cfg":
            text = edited(text, defects.configuration)
        for change in defects.unit_configuration:
            if (change.unit, change.file) == (unit, file):
                text, changes = re.subn(change.pattern, change.replacement, text, flags=re.MULTILINE)
                if not changes:
                    raise LabError(f"edit of {file} of {unit}: expected a match of {change.pattern!r}, found none")
        return text

    return edit


def _edited(configuration: str, edit: ConfigurationEdit) -> str:
    sections = _SECTION.split(configuration)
    chosen = [index for index, section in enumerate(sections) if edit.vip is None or _is_vip(section, edit.vip)]
    if not chosen:
        raise LabError(f"configuration edit of {edit.vip}: expected a section `listen {edit.vip}`, found none")
    total = 0
    for index in chosen:
        sections[index], changes = re.subn(edit.pattern, edit.replacement, sections[index], flags=re.MULTILINE)
        total += changes
    if total == 0:
        where = edit.vip or "the whole configuration"
        raise LabError(f"configuration edit of {where}: expected a match of {edit.pattern!r}, found none")
    return "".join(sections)


def _is_vip(section: str, vip: str) -> bool:
    return re.match(rf"(listen|backend|frontend)\s+{re.escape(vip)}\s", section) is not None
