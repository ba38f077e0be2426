"""Draw the pictures of README.md and ARCHITECTURE.md from what graphflow does.

python docs/pictures/draw.py [FOLDER]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parents[1] / "examples")]

import svg  # noqa: E402
import two_devices  # noqa: E402
from rich.console import Console  # noqa: E402

import graphflow as tf  # noqa: E402
from graphflow.build import Operation  # noqa: E402
from graphflow.cli import demo  # noqa: E402
from graphflow.rewrite import prune, rewrite  # noqa: E402

STAGES = (
    ("build", "Graph"),
    ("differentiate", "adds to Graph"),
    ("rewrite", "Subgraph"),
    ("place", "Placement"),
    ("partition", "Partitions"),
    ("compile", "Plan"),
    ("execute", "values"),
)


def stages() -> str:
    """The line of stages, what each makes, and how often each runs."""
    wide, gap, top = 112, 20, 50
    parts = []
    for i, (verb, noun) in enumerate(STAGES):
        x = 20 + i * (wide + gap)
        parts.append(svg.rect(x, top, wide, 44, fill=svg.BLUE if i != 6 else svg.GREEN, radius=6))
        parts.append(svg.text(x + wide / 2, top + 27, verb, size=15, fill="white", anchor="middle"))
        parts.append(
            svg.text(x + wide / 2, top + 66, noun, size=13, fill=svg.SOFT, anchor="middle")
        )
        if i:
            parts.append(
                svg.line(x - gap + 2, top + 22, x - 2, top + 22, stroke=svg.SOFT, arrow=True)
            )
    for first, last, words in (
        (0, 1, "your program"),
        (2, 5, "once per set of fetches and feeds; the plan is kept"),
        (6, 6, "each session.run"),
    ):
        left, right = 20 + first * (wide + gap), 20 + last * (wide + gap) + wide
        parts.append(svg.line(left, top - 12, right, top - 12, stroke=svg.LINE, width=2))
        middle = (left + right) / 2
        parts.append(svg.text(middle, top - 20, words, fill=svg.INK, anchor="middle"))
    return svg.page(20 + 7 * (wide + gap), 134, "The stages of graphflow", parts)


def gradient() -> str:
    """The graph of a small loss and its gradient, as it is run."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        w = tf.get_variable("w", [3, 2])
        loss = tf.reduce_sum(tf.square(tf.tanh(tf.matmul(x, w))))
        (dw,) = tf.gradients(loss, [w])
    built = sum(not o.name.startswith("w/Init") for o in graph.operations)
    view = rewrite(prune(graph, [loss, dw], [], [x]))
    shown = [x.op, *[o for o in view.order if o.type not in ("Const", "VarHandle")]]
    rank: dict[Operation, int] = {}
    for o in shown:
        rank[o] = 1 + max([rank[t.op] for t in o.inputs if t.op in rank], default=-1)
    place = _layers(shown, rank)
    parts = [
        svg.text(20, 28, "loss = sum(tanh(x w)²) and its gradient with respect to w", size=15),
        svg.text(20, 48, f"{len(view.order)} of {built} operations are left after rewriting; "
                         "the square is computed once (constants are not shown)", fill=svg.SOFT),
    ]  # fmt: skip
    for o in shown:
        for t in o.inputs:
            if t.op in place:
                (x1, y1), (x2, y2) = place[t.op], place[o]
                if rank[o] - rank[t.op] > 2:  # around what lies between
                    parts.append(svg.bow(x1 + 54, y1, x2 - 56, y2, by=110))
                else:
                    parts.append(svg.line(x1 + 54, y1, x2 - 56, y2, stroke=svg.SOFT, arrow=True))
    for o, (cx, cy) in place.items():
        fill = svg.ORANGE if o.name.startswith("gradients") else svg.BLUE
        parts.append(svg.rect(cx - 54, cy - 15, 108, 30, fill=fill, radius=15, hint=o.name))
        label = {"Placeholder": "x", "ReadVariable": "w"}.get(o.type, o.type)
        label += (
            " = dw" if o is view.fetches[1].op else " = loss" if o is view.fetches[0].op else ""
        )
        parts.append(svg.text(cx, cy + 5, label, fill="white", anchor="middle"))
    width = max(cx for cx, _ in place.values()) + 80
    height = max(cy for _, cy in place.values()) + 40
    return svg.page(width, height, "A graph and its gradient", parts)


def _layers(
    operations: Sequence[Operation], rank: dict[Operation, int]
) -> dict[Operation, tuple[float, float]]:
    """Operation -> centre: a column per rank, what the loss needs above its gradient."""
    place: dict[Operation, tuple[float, float]] = {}
    for column in range(max(rank.values()) + 1):
        here = [o for o in operations if rank[o] == column]
        above = [o for o in here if not o.name.startswith("gradients")]
        for i, o in enumerate(reversed(above)):
            place[o] = 80 + 150 * column, 90 + 56 * i
        for i, o in enumerate([o for o in here if o not in above]):
            place[o] = 80 + 150 * column, 174 + 50 * i
    return place


def placement() -> str:
    """The planned step of examples/two_devices.py as a Gantt chart."""
    with tf.Graph().as_default():
        x, y = two_devices.build()
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
            schedule = session.placement(y, {x: None}).schedule
    bars = [bar for bar in schedule.gantt if bar.end > bar.start]
    rows = sorted({bar.device for bar in bars}, key=lambda row: ("->" in row, row))
    left, right, row_height = 150, 840, 40
    scale = (right - left) / schedule.makespan
    title = f"A step planned on two devices: {schedule.makespan * 1e3:.2f} ms"
    parts = [svg.text(20, 28, title, size=15),
             svg.text(20, 48, "blue and green: the two halves of the batch; orange: transfers",
                      fill=svg.SOFT)]  # fmt: skip
    top = 60
    bottom = top + row_height * len(rows)
    for tick in range(math.floor(schedule.makespan / 0.2e-3) + 1):
        at = left + tick * 0.2e-3 * scale
        parts.append(svg.line(at, top, at, bottom))
        parts.append(
            svg.text(at, bottom + 18, f"{tick / 5:g} ms", size=11, fill=svg.SOFT, anchor="middle")
        )
    for i, row in enumerate(rows):
        short = " → ".join(name.split("device:")[1] for name in row.split("->"))
        parts.append(svg.text(20, top + row_height * (i + 0.5) + 5, short))
    for bar in bars:
        x0, wide = left + bar.start * scale, max(1.5, (bar.end - bar.start) * scale)
        y0 = top + row_height * rows.index(bar.device) + 7
        fill = svg.ORANGE if "->" in bar.device else svg.BLUE if "net/" in bar.name else svg.GREEN
        took = f"{bar.name}: {(bar.end - bar.start) * 1e6:.0f} µs"
        parts.append(svg.rect(x0, y0, wide, row_height - 14, fill=fill, stroke="white", hint=took))
        if wide > 8 * len(bar.name):
            parts.append(svg.text(x0 + wide / 2, y0 + 18, bar.name, fill="white", anchor="middle"))
    return svg.page(right + 30, bottom + 34, "A placed step", parts)


def learning(epochs: int) -> str:
    """The loss of `graphflow demo`, step by step."""
    with tf.Graph().as_default():
        model = demo.build()
        with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as session:
            result = demo.train(session, model, epochs, Console(quiet=True), "")
    losses = result.losses
    left, right, top, bottom = 60, 820, 56, 270
    high = max(losses) * 1.1
    low = min(losses) / 1.2

    def at(step: float, loss: float) -> tuple[float, float]:
        share = math.log(loss / low) / math.log(high / low)
        return left + (right - left) * step / len(losses), bottom - (bottom - top) * share

    parts = [svg.text(20, 28, f"graphflow demo: loss per step; {result.accuracy:.1%} "
                              "of the test digits are right at the end", size=15)]  # fmt: skip
    for value in (0.03, 0.1, 0.3, 1.0, 3.0):
        if low < value < high:
            _, y = at(0, value)
            parts.append(svg.line(left, y, right, y))
            parts.append(
                svg.text(left - 8, y + 4, f"{value:g}", size=11, fill=svg.SOFT, anchor="end")
            )
    for step in range(0, len(losses) + 1, 100):
        x, _ = at(step, 1)
        parts.append(svg.text(x, bottom + 18, str(step), size=11, fill=svg.SOFT, anchor="middle"))
    parts.append(svg.curve([at(i, v) for i, v in enumerate(losses)], stroke="#9cc7e4", width=1))
    smooth = [sum(losses[max(0, i - 24) : i + 1]) / min(i + 1, 25) for i in range(len(losses))]
    parts.append(svg.curve([at(i, v) for i, v in enumerate(smooth)], stroke=svg.BLUE, width=2.5))
    parts.append(svg.text(right, top + 12, "dark: mean of 25 steps", fill=svg.SOFT, anchor="end"))
    return svg.page(right + 30, bottom + 34, "Learning curve", parts)


def main(folder: str = str(HERE), epochs: int = 12) -> None:
    pictures = {
        "stages": stages(),
        "gradient": gradient(),
        "placement": placement(),
        "learning": learning(epochs),
    }
    for name, picture in pictures.items():
        path = Path(folder) / f"{name}.svg"
        path.write_text(picture, encoding="utf-8")
        print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:2])
