"""No wait without a deadline: where one has none, the line above it or its own says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "graphflow"
FOLDERS = ("base", "execute", "distribute", "session", "train")
# Methods that wait for as long as it takes where they are given nothing.
WAITS = {"wait", "wait_for", "acquire", "join", "result", "exception", "poll", "select", "accept"}
RECEIVES = {"recv_multipart"}  # and have no deadline of their own
REASON = "no deadline:"


def waits(tree: ast.AST) -> Iterator[int]:
    """The lines of calls that may wait for ever."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        given = len(node.args) + len([k for k in node.keywords if k.arg != "num_returns"])
        name, of = node.func.attr, getattr(node.func.value, "id", "")
        needed = name == "wait_for" or of == "ray"  # what they wait for is an argument, too
        if name in RECEIVES or (name in WAITS and of != "select" and given <= needed):
            yield node.end_lineno or node.lineno


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_wait_has_a_deadline_or_says_why_not(folder):
    found = []
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        text = path.read_text()
        lines = text.splitlines()
        for number in waits(ast.parse(text)):
            if REASON not in "\n".join(lines[max(0, number - 3) : number]):
                found.append(f"{path.relative_to(PACKAGE)}:{number}: {lines[number - 1].strip()}")
    assert not found, "\n".join([f'waits without a deadline, and no "# {REASON} ...":', *found])


def test_waits_are_found():
    text = """
event.wait()
event.wait(1.0)
bell.wait_for(condition)
bell.wait_for(condition, 1.0)
ray.wait(references, num_returns=1)
ray.wait(references, num_returns=1, timeout=0)
", ".join(names)
thread.join()
"""
    assert list(waits(ast.parse(text))) == [2, 4, 6, 9]
