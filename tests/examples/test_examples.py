"""The examples, shortened: what they learn, not only that they run."""

from __future__ import annotations

import json
import math
import re
import runpy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Name of an example -> what it defines; as `python examples/NAME.py` would find modules."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "mlp", raising=False)

    def load(name: str) -> dict[str, Any]:
        return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)

    yield load
    sys.modules.pop("mlp", None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[tf.Cluster]:
    """Two workers on the Ray that other tests have started, or on one of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Ray itself does at its start
        cluster = tf.Cluster(workers=2)
    with cluster:
        yield cluster


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.stem)
def test_example_is_short_and_tells_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 80
    assert re.search(
        rf"^ *(python|graphflow run)( --\w+ \d+)* {path.relative_to(EXAMPLES.parent)}", text, re.M
    )


def test_two_devices(example: Any, tmp_path: Path, capsys: Any) -> None:
    value, placement = example("two_devices")["main"](str(tmp_path / "trace.json"))
    assert len(placement.used) == 2
    assert placement.explain() in capsys.readouterr().out
    spans = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    rows = {span["tid"] for span in spans if span["name"] == "MatMul"}
    assert len(rows) == 2  # both devices have multiplied
    with tf.Graph().as_default():
        x, y = example("two_devices")["build"]()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            alone = session.run(y, {x: np.ones([512, 512])})
    assert value == pytest.approx(float(alone), rel=1e-4)


def test_simplest(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "simplest.py"), run_name="__main__")
    assert capsys.readouterr().out == "3\n"


def test_linear_regression_finds_the_line(example: Any) -> None:
    module = example("linear_regression")
    w, b = module["main"](steps=60)
    # 500 points with noise of 0.1: standard errors of 0.008 and 0.005.
    assert w == pytest.approx(module["W"], abs=0.03)
    assert b == pytest.approx(module["B"], abs=0.02)


def test_softmax_regression(example: Any) -> None:
    assert example("softmax_regression")["main"](epochs=4) > 0.89


def test_mlp(example: Any) -> None:
    assert example("mlp")["main"](epochs=5) > 0.925


def test_cnn(example: Any) -> None:
    assert example("cnn")["main"](epochs=1, digits=2500) > 0.8


def test_newton(example: Any) -> None:
    found = example("newton")["main"]()
    for number, (root, steps, slope) in found.items():
        if number < 0:
            assert math.isnan(root)
            assert steps == 0
        else:
            assert root == pytest.approx(math.sqrt(number), rel=1e-9)
            assert 3 < steps < 10
            assert slope == pytest.approx(0.5 / math.sqrt(number), rel=1e-5)


def test_names_are_spelled(example: Any) -> None:
    module = example("names")
    assert module["main"](steps=120) == module["NAMES"]


def test_tensorflow1_program_runs_unmodified(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from graphflow.cli import main
    from graphflow.compat import standin

    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    script = EXAMPLES / "tensorflow1" / "xor.py"
    assert "graphflow as tf" not in script.read_text()
    try:
        assert main(["run", str(script), "--steps", "300"]) == 0
    finally:
        standin.uninstall()
    assert capsys.readouterr().out.endswith("after 300 steps: [0. 1. 1. 0.]\n")


@pytest.mark.ray
def test_mlp_on_ray_learns_what_mlp_does_here(
    example: Any, cluster: tf.Cluster, capsys: Any
) -> None:
    accuracy = example("mlp_on_ray")["main"](epochs=2, cluster=cluster)
    remote = capsys.readouterr().out
    layers = re.findall(r"^(hidden|output)/MatMul +\S*task:(\d)", remote, re.M)
    assert layers == [("hidden", "0"), ("output", "1")]
    with tf.Graph().as_default():
        # Products use all cores here and one there: sums of another order, but for rounding equal.
        assert example("mlp")["main"](epochs=2) == pytest.approx(accuracy, abs=0.005)
    assert losses(remote) == pytest.approx(losses(capsys.readouterr().out), abs=0.005)
    assert accuracy > 0.9


def test_pipeline_learns_the_same_in_any_order(
    example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    found = list(example("pipeline")["main"](steps=15).values())
    assert found[0] == found[1] == found[2]
    assert found[0][-1] < 0.6 * found[0][0]


def test_parameter_servers(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker learns what a session of its own does, bit for bit; two learn, too."""
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    module = example("parameter_servers")
    (alone,) = module["main"](steps=20, workers=1)
    assert alone == module["train"]("", 0, 20)
    both = module["main"](steps=150)
    ends = [np.mean(losses[-10:]) for losses in both]
    assert min(ends) < 0.5  # of who ended last; nobody waits, and the other may have been alone
    assert all(end < 0.8 * losses[0] for end, losses in zip(ends, both, strict=True))


@pytest.mark.ray
def test_data_parallel_has_the_same_bits_on_any_workers(
    example: Any, cluster: tf.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHFLOW_TIER", "reference")
    found = example("data_parallel")["main"](epochs=1, cluster=cluster)
    assert len(set(found)) == 1
    assert found[0][0] > 0.85


def losses(printed: str) -> list[float]:
    found = re.findall(r"last loss ([\d.]+)", printed)
    assert len(found) == 2
    return [float(loss) for loss in found]
