"""What the documents say is so: their programs run and print what stands there."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
import traceback
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

import pytest

import graphflow as tf

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
HOME = "/home/ada/"  # where the documents' programs lie


class Program(NamedTuple):
    """A program of a document, and what it prints: the next block, if that is text."""

    line: int
    code: str
    output: str


def programs(document: str) -> list[Program]:
    blocks = list(re.finditer(r"^```(\w+)\n(.*?)^```$", document, re.M | re.S))
    found = []
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] == "python":
            shown = following is not None and following[1] == "text"
            line = document[: block.start()].count("\n") + 2
            found.append(Program(line, block[2], following[2] if shown else ""))
    return found


def marked(program: Program) -> object:
    marks = [pytest.mark.ray] if "Cluster(" in program.code else []
    return pytest.param(program, id=f"line {program.line}", marks=marks)


def result_of(path: Path) -> str:
    """What a program prints; of an error that ends it, the message alone."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), tf.Graph().as_default():
        try:
            runpy.run_path(str(path), run_name="__main__")
        except Exception as error:
            printed.writelines(traceback.format_exception_only(error))
    told = re.sub(r"^.*\(raylet\).*\n", "", printed.getvalue(), flags=re.M)  # whenever Ray likes
    return told.replace(f"{path.parent}/", HOME)


@pytest.mark.parametrize("program", [marked(p) for p in programs(README)])
def test_readme_program_prints_what_stands_below_it(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.py"
    path.write_text(program.code)
    assert program.output
    assert result_of(path) == program.output


def test_readme_runs_the_old_program_as_shown() -> None:
    (shown,) = re.findall(r"^```console\n(.*?)^```$", README, re.M | re.S)
    command, _, printed = shown.partition("\n")
    prompt, tool, *arguments = command.split()
    assert (prompt, tool) == ("$", "graphflow")
    line = [sys.executable, "-m", "graphflow.cli", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert (done.stdout, done.stderr) == (printed, "")


def test_readmes_limits_are_not_stale() -> None:
    (limits,) = re.findall(r"^- Of TensorFlow 1, these are missing:(.*?)\.$", README, re.M | re.S)
    names = re.findall(r"`tf\.([\w.]+)`", limits)
    assert names
    assert [f"strike tf.{name}" for name in names if hasattr(tf, name)] == []


def test_readme_shows_what_the_examples_print(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = re.findall(r"two_devices\.py\).*?```text\n(.*?)```", README, re.S)
    with tf.Graph().as_default():
        runpy.run_path(str(ROOT / "examples" / "two_devices.py"))["main"]()
    printed = capsys.readouterr().out.splitlines()
    assert len(shown.splitlines()) > 5
    for line in map(plain, shown.splitlines()):
        assert line == " ..." or line in map(plain, printed), "\n".join(printed)


def plain(line: str) -> str:
    """The line without what placing may say another day: times, sizes, counts, the algorithm."""
    line = re.sub(r"devices \(.*\)$", "devices", line)
    line = re.sub(r"(?<![\w:])\d[\d.]*( ([num]?s|[KMG]?i?B)\b)?", "#", line)
    return re.sub(r" +", " ", line)


CHECKS = """
import sys
import pytest
exec(compile(sys.argv[1], "CONTRIBUTING.md", "exec"), {"__name__": "graphflow.ops.cube"})
where = ["tests/ops/test_registry.py", "tests/ops/test_expression.py"]
sys.exit(pytest.main(["-q", "-k", "Cube", "-p", "no:cacheprovider", *where]))
"""


def checked(code: str) -> subprocess.CompletedProcess[str]:
    """The checks of the registry on an op, in a process of its own: here, it would stay."""
    command = [sys.executable, "-c", CHECKS, code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_contributings_op_passes_the_checks_of_the_registry() -> None:
    (program,) = programs((ROOT / "CONTRIBUTING.md").read_text())
    done = checked(program.code)
    assert done.returncode == 0, done.stdout + done.stderr
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) >= 8, done.stdout


def test_a_wrong_gradient_in_contributing_would_be_found() -> None:
    (program,) = programs((ROOT / "CONTRIBUTING.md").read_text())
    done = checked(program.code.replace("3 * g", "2 * g"))
    assert "FAILED tests/ops/test_registry.py::test_gradients[Cube]" in done.stdout


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target
    headings = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-")
                for h in re.findall(r"^#+ (.+)$", text, re.M)}  # fmt: skip
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_architecture_names_every_folder_and_no_other_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for folder in (ROOT / "graphflow").glob("*/__init__.py"):
        assert f"`{folder.parent.name}/`" in text, folder
    for path in re.findall(r"`([a-z_]+/[a-z_0-9]+\.py)`", text):
        assert any((root / path).exists() for root in (ROOT, ROOT / "graphflow")), path


def test_pictures_are_drawn_by_their_script(tmp_path: Path) -> None:
    folder = ROOT / "docs" / "pictures"
    with tf.Graph().as_default(), contextlib.redirect_stdout(io.StringIO()):
        saved = list(sys.path)
        try:
            runpy.run_path(str(folder / "draw.py"))["main"](str(tmp_path), epochs=1)
        finally:
            sys.path[:] = saved
            sys.modules.pop("svg", None)
            sys.modules.pop("two_devices", None)
    drawn = {path.name for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name for path in folder.glob("*.svg")}
    for name in drawn:
        assert f"docs/pictures/{name}" in README
        for path in (folder / name, tmp_path / name):
            assert ET.parse(path).getroot().tag.endswith("svg")
            assert path.stat().st_size < 100_000
