"""A schedule as a picture: SVG, PNG, or a trace for Chrome and Perfetto."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from graphflow.place.simulate import Bar, Schedule
from graphflow.place.units import seconds

WIDTH, ROW, LABEL, TOP = 1000, 26, 220, 34
MANY = 4000  # bars; of more, the longest are drawn
TRANSFER = "#b9b2a6"


def rows_of(schedule: Schedule) -> list[str]:
    """Devices in their order, then the ways between them that are used."""
    devices = [d.name for d in schedule.problem.topology.devices]
    ways = sorted({bar.device for bar in schedule.gantt} - set(devices))
    return devices + ways


def drawn(schedule: Schedule) -> list[Bar]:
    """The bars that take time; of too many, the longest."""
    bars = [bar for bar in schedule.gantt if bar.end > bar.start]
    if len(bars) > MANY:
        bars = sorted(bars, key=lambda b: (b.start - b.end, b.start, b.device))[:MANY]
    return sorted(bars, key=lambda b: (b.start, b.end, b.device, b.name))


def colour(name: str) -> tuple[int, int, int]:
    """The same for operations of one name scope, in every process."""
    hue = zlib.crc32(name.split("/")[0].rstrip("0123456789_").encode()) % 360
    return _rgb(hue / 360)


def _rgb(hue: float) -> tuple[int, int, int]:
    import colorsys

    r, g, b = colorsys.hls_to_rgb(hue, 0.62, 0.5)
    return round(r * 255), round(g * 255), round(b * 255)


def svg(schedule: Schedule) -> str:
    """A Gantt chart: a row per device, and one per way between devices."""
    rows = rows_of(schedule)
    number = {row: i for i, row in enumerate(rows)}
    total = schedule.makespan or 1.0
    height = TOP + ROW * len(rows) + 10
    scale = (WIDTH - LABEL - 10) / total
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for tick in range(6):
        x = LABEL + scale * total * tick / 5
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 8}" stroke="#dddddd"/>'
            f'<text x="{x:.1f}" y="{TOP - 12}" text-anchor="middle">'
            f"{escape(seconds(total * tick / 5) if tick else '0')}</text>"
        )
    for row, i in number.items():
        parts.append(
            f'<text x="6" y="{TOP + ROW * i + 17}">{escape(_short(row))}'
            f"<title>{escape(row)}</title></text>"
        )
    for bar in drawn(schedule):
        y = TOP + ROW * number[bar.device] + 3
        x, width = LABEL + scale * bar.start, max(0.5, scale * (bar.end - bar.start))
        fill = TRANSFER if "->" in bar.device else "#{:02x}{:02x}{:02x}".format(*colour(bar.name))
        told = f"{bar.name}: {seconds(bar.end - bar.start)} from {seconds(bar.start)}"
        parts.append(
            f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 6}" '
            f"fill={quoteattr(fill)}><title>{escape(told)}</title></rect>"
        )
    return "\n".join([*parts, "</svg>\n"])


def _short(row: str) -> str:
    """Names as users write them."""
    ends = [end.replace("/replica:0", "").replace("/job:localhost/task:0", "")
            for end in row.split("->")]  # fmt: skip
    text = " → ".join([end.replace("/device:", "/") for end in ends])
    return text if len(text) <= 36 else text[:35] + "…"


def png(schedule: Schedule, path: str | Path) -> None:
    """The same as a PNG.

    Raises:
      ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError("a PNG needs Pillow (pip install pillow); SVG needs nothing") from error
    rows = rows_of(schedule)
    number = {row: i for i, row in enumerate(rows)}
    total = schedule.makespan or 1.0
    scale = (WIDTH - LABEL - 10) / total
    image = Image.new("RGB", (WIDTH, TOP + ROW * len(rows) + 10), "white")
    draw = ImageDraw.Draw(image)
    for tick in range(6):
        x = LABEL + scale * total * tick / 5
        draw.line((x, TOP - 6, x, image.height - 8), fill="#dddddd")
        draw.text((x - 12, 6), seconds(total * tick / 5) if tick else "0", fill="black")
    for row, i in number.items():
        draw.text((6, TOP + ROW * i + 6), _short(row).replace("→", "->"), fill="black")
    for bar in drawn(schedule):
        y = TOP + ROW * number[bar.device] + 3
        x = LABEL + scale * bar.start
        right = max(x + 0.5, LABEL + scale * bar.end)
        fill = TRANSFER if "->" in bar.device else colour(bar.name)
        draw.rectangle((x, y, right, y + ROW - 6), fill=fill)
    image.save(path)


def chrome_trace(schedule: Schedule) -> str:
    """JSON for chrome://tracing and Perfetto: a row per device and way, in virtual time."""
    rows = rows_of(schedule)
    number = {row: i for i, row in enumerate(rows)}
    events: list[dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": i, "args": {"name": row}}
        for row, i in number.items()
    ]
    for bar in schedule.gantt:
        events.append(
            {
                "name": bar.name,
                "cat": "transfer" if "->" in bar.device else "operation",
                "ph": "X",
                "pid": 0,
                "tid": number[bar.device],
                "ts": bar.start * 1e6,
                "dur": (bar.end - bar.start) * 1e6,
            }
        )
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})
