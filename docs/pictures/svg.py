"""A small writer of SVG: shapes as strings, and a page around them."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

FONT = "system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, SOFT, LINE, PAPER = "#1f2933", "#5f6b7a", "#b8c0cc", "#ffffff"
# Okabe and Ito: told apart by colour-blind readers, too.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"


def page(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A whole picture; white paper, so that it reads on dark pages as well."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" font-family="{FONT}">'
    )
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{SOFT}"/></marker></defs>'
    )
    paper = rect(0, 0, width, height, fill=PAPER, radius=0)
    return "\n".join([head, f"<title>{escape(title)}</title>", arrow, paper, *parts, "</svg>\n"])


def text(
    x: float, y: float, words: str, *, size: float = 13, fill: str = INK, anchor: str = "start",
    weight: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}" '
        f'text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
    )


def rect(
    x: float, y: float, width: float, height: float, *, fill: str, stroke: str = "none",
    radius: float = 4, hint: str = "",
) -> str:  # fmt: skip
    shape = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" '
        f'fill="{fill}" stroke="{stroke}"'
    )
    return f"{shape}><title>{escape(hint)}</title></rect>" if hint else f"{shape}/>"


def line(
    x1: float, y1: float, x2: float, y2: float, *, stroke: str = LINE, width: float = 1,
    arrow: bool = False, dashed: bool = False,
) -> str:  # fmt: skip
    more = ' marker-end="url(#arrow)"' * arrow + ' stroke-dasharray="4 4"' * dashed
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" '
        f'stroke-width="{width:g}"{more}/>'
    )


def curve(points: Iterable[tuple[float, float]], *, stroke: str, width: float = 1.5) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}"/>'


def bow(x1: float, y1: float, x2: float, y2: float, *, by: float) -> str:
    """An arrow that bends down on its way."""
    low = max(y1, y2) + by
    return (
        f'<path d="M{x1:.1f} {y1:.1f} C{x1 + 150:.1f} {low:.1f} {x2 - 150:.1f} {low:.1f} '
        f'{x2:.1f} {y2:.1f}" fill="none" stroke="{SOFT}" marker-end="url(#arrow)"/>'
    )
