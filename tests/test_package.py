"""The package as a whole: what importing it costs, its folders, its version, its two commands."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import graphflow

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE = Path(graphflow.__file__).parent

readme_command = runpy.run_path(str(ROOT / ".ci" / "readme_command.py"))["readme_command"]


def python(code: str) -> str:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_loads_nothing_heavy():
    heavy = {"cupy", "google.protobuf", "llvmlite", "networkx", "ray", "rich", "safetensors"}
    heavy |= {"scipy", "tensorflow", "zmq"}
    loaded = python("import sys, graphflow; print(*sys.modules)").split()
    assert "numpy" in loaded
    assert heavy & set(loaded) == set()


def test_import_loads_only_what_building_and_running_need():
    """How long it takes is a number of `tests/bench/run.py core`, not a test."""
    later = {f"graphflow.{name}" for name in ("cli", "compat", "compile.native", "distribute")}
    loaded = python("import sys, graphflow; print(*sys.modules)").split()
    assert "graphflow.session" in loaded
    assert later & set(loaded) == set()


def test_nothing_that_comes_from_a_network_or_a_disk_is_unpickled():
    """What knows how to is imported by one module, which asks what could travel by Ray."""
    unsafe = (
        r"^\s*(import|from) (pickle|_pickle|cloudpickle|marshal|shelve|dill)\b|allow_pickle=True"
    )
    found = [p for p in PACKAGE.rglob("*.py") if re.search(unsafe, p.read_text(), re.M)]
    assert [str(p.relative_to(PACKAGE)) for p in found] == ["distribute/portable.py"]
    assert "pickle.load" not in found[0].read_text()


def test_every_folder_has_its_layer():
    (contract,) = (c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if "layers" in c)
    placed = {name.strip(" ()") for line in contract["layers"] for name in re.split("[|:]", line)}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {"base", "build", "datasets"} <= folders
    assert modules | folders <= placed


def test_every_python_file_is_in_a_package():
    # A folder without __init__.py would escape both mypy and the layers.
    for path in PACKAGE.rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path


def test_version_is_the_newest_of_the_changelog():
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest
    assert newest[1] == graphflow.__version__


def test_extras():
    extras = {
        *("bench", "clustercheck", "dev", "gpu12", "gpu13", "gpucheck", "jobs", "peers"),
        *("sklearn", "tensorboard"),
    }
    assert set(PYPROJECT["project"]["optional-dependencies"]) == extras


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 60


def test_readme_has_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert readme_command("Run it", readme).startswith("pip install")
    assert readme_command("Test it", readme).endswith("pytest")


GOOD = "# x\n\n## Run it\n\nWords.\n\n```bash\nrun me\n```\n\n## Next\n\n```bash\nnot me\n```\n"


def test_readme_command_reads_its_own_section_only():
    assert readme_command("Run it", GOOD) == "run me"
    assert readme_command("Next", GOOD) == "not me"


@pytest.mark.parametrize(
    ("readme", "problem"),
    [
        ("# x\n", "0 headings '## Run it'"),
        (GOOD + GOOD, "2 headings '## Run it'"),
        ("## Run it\n\nWords.\n", "0 fenced blocks"),
        ("## Run it\n```\na\n```\n```\nb\n```\n", "2 fenced blocks"),
        ("## Run it\n```\na\nb\n```\n", "holds 2 lines"),
        ("## Run it\n```\n```\n", "holds 0 lines"),
    ],
)
def test_readme_command_refuses(readme, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        readme_command("Run it", readme)
