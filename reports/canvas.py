"""What all pictures of the report share: colours, style, and the way from a figure to an `<svg>` inside the page.

Nothing is loaded, and text stays text. Colours are those of Okabe and Ito, which colour-blind readers tell apart; shapes
and dashes say the same once more, for a page printed in grey.
"""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from contextlib import AbstractContextManager
from io import StringIO

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from .text import legible

INK, FAINT, RULE = "#1b252d", "#5a6872", "#ccd3d8"
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
FIELD = "#8a98a3"  # a fault's grey
WIDTH_IN = 7.6
LINES: tuple[tuple[str, str], ...] = (
    (BLUE, "-"), (VERMILLION, "--"), (GREEN, "-."), (PURPLE, ":"), ("#56B4E9", "-"), ("#E69F00", "--"),
)  # fmt: skip
_FONTS = re.compile(r"(font: [^';]*?|font-family: )'[^;]*")  # the page has its own
_POINTER = re.compile(r"#([\w.-]+)")
_LONG_FRACTION = re.compile(r"(\d\.\d\d)\d+")


def drawing_style() -> AbstractContextManager[None]:
    """Return the context in which every figure is made."""
    return mpl.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
            "text.parse_math": False,  # a dollar sign in a name is a dollar sign
            "font.size": 8.5,
            "text.color": INK,
            "axes.edgecolor": RULE,
            "axes.labelcolor": FAINT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.unicode_minus": False,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "ytick.major.size": 0,
            "legend.frameon": False,
        }
    )


def svg_element(figure: Figure, name: str, title: str, description: str) -> str:
    """Render a figure as an element of an HTML page: no prolog, no name spaces, its own ids, words for who cannot see.

    Parameters
    ----------
    figure : Figure
        Made within `drawing_style`.
    name : str
        Prefix of the ids inside the picture: letters, digits and hyphens, unique on the page.
    title, description : str
        What a screen reader says: what it is, and what it shows in words and numbers.
    """
    page = StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():  # the salt: same picture, same bytes
        warnings.filterwarnings("ignore", message="Glyph")  # text stays text: the reader's own fonts will have it
        FigureCanvasSVG(figure).print_figure(
            page, format="svg", dpi=72, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    root = ET.fromstring(legible(page.getvalue()))  # noqa: S314  matplotlib's own output, not a stranger's
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):  # an inline <style> would rule the whole page
                parent.remove(child)
    _strip(root)
    for element in root.iter():
        _localise(element, name)
    spoken = f"{name}-title {name}-desc"
    root.attrib = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-labelledby": spoken, "class": "picture"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        words = ET.Element(tag, {"id": f"{name}-{tag}"})
        words.text = legible(text)
        root.insert(place, words)
    return ET.tostring(root, encoding="unicode")


def _strip(root: ET.Element) -> None:
    """Take out what matplotlib writes and no reader needs; half of a page of small pictures is nothing else."""
    pointed_at = set(_POINTER.findall(" ".join(value for element in root.iter() for value in element.attrib.values())))
    for parent in list(root.iter()):
        parent.text = parent.text if (parent.text or "").strip() else None
        for child in list(parent):
            child.tail = "\n"
            if child.tag.endswith("}g") and not len(child):
                parent.remove(child)
    for element in root.iter():
        if element.get("id") not in pointed_at:
            element.attrib.pop("id", None)
        if (element.get("transform") or "").startswith("rotate(-0 "):
            del element.attrib["transform"]


def _localise(element: ET.Element, name: str) -> None:
    element.tag = element.tag.rpartition("}")[2]
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    if attributes.get("href", "").startswith("#"):
        attributes["href"] = f"#{name}-{attributes['href'][1:]}"
    if "d" in attributes:
        attributes["d"] = _LONG_FRACTION.sub(r"\1", attributes["d"])  # a hundredth of a point is finer than any eye
    for key, value in attributes.items():
        value = value.replace("url(#", f"url(#{name}-") if key in ("clip-path", "style", "fill") else value
        attributes[key] = _FONTS.sub(r"\1sans-serif", value) if key == "style" else value
    element.attrib = attributes
