"""The contracts of import-linter in pyproject.toml break when they should, on a toy package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def toy(tmp_path):
    """A package of graphflow's name and layers that keeps all contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in (".", "base", "build", "ops", "execute", "distribute", "datasets"):
        (tmp_path / "graphflow" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "graphflow" / folder / "__init__.py").touch()
    (tmp_path / "graphflow/ops/math.py").write_text("import graphflow.build\n")
    (tmp_path / "graphflow/execute/gpu.py").write_text("def f():\n    import cupy, cupyx\n")
    (tmp_path / "graphflow/distribute/worker.py").write_text("from ray import get\n")
    return tmp_path


def lint(toy: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(toy), "COLUMNS": "200"}
    return subprocess.run(
        [LINT, "--no-cache"], cwd=toy, env=env, capture_output=True, text=True, timeout=200
    )


def test_what_the_design_allows_is_kept(toy):
    result = lint(toy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("path", "code", "complaint"),
    [
        ("base/shapes.py", "import graphflow.build", "graphflow.base is not allowed to import"),
        ("ops/math.py", "import cupy", "graphflow is not allowed to import cupy"),
        ("__init__.py", "import cupyx", "graphflow is not allowed to import cupyx"),
        ("execute/gpu.py", "def f():\n    import ray", "graphflow is not allowed to import ray"),
        ("helpers.py", "", "not listed as layers"),
    ],
)
def test_what_it_forbids_is_broken(toy, path, code, complaint):
    (toy / "graphflow" / path).write_text(code + "\n")
    result = lint(toy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert complaint in result.stdout
    assert "1 broken" in result.stdout
