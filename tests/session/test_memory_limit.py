"""ConfigProto(memory_limit=...): the same bits from less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.execute.inputs import InputLog

Program = Callable[[], tuple[Any, dict[Any, Any]]]
WIDTH, LAYERS, ROWS = 32, 12, 256
VALUE = ROWS * WIDTH * 4  # bytes of one layer's result


@pytest.fixture(autouse=True)
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with tf.Graph().as_default():
        yield


def layers(dropout: bool = False, residual: bool = False, printed: bool = False) -> Any:
    rng = np.random.default_rng(0)
    x = tf.placeholder(tf.float32, [None, WIDTH])
    h = x
    for i in range(LAYERS):
        w = tf.Variable(rng.normal(0, 0.2, (WIDTH, WIDTH)).astype(np.float32))
        new = tf.matmul(h, w)
        if printed and i == 5:  # what has an effect runs once, after what it takes
            new = tf.Print(new, [tf.reduce_sum(new)])
        new = tf.tanh(new)
        if dropout and i % 3 == 0:
            new = tf.nn.dropout(new, rate=0.2, seed=i)
        h = h + new if residual else new
    loss = tf.reduce_mean(tf.square(h))
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    return [loss, step], {x: rng.normal(0, 1, (ROWS, WIDTH)).astype(np.float32)}


def peak(session: tf.Session) -> int:
    """Bytes that the reference tier holds at once in the plan that ran last."""
    prepared = list(session._cache.values())[-1]
    (program,) = prepared.executable._programs
    reference = getattr(program, "reference", program)
    sizes: dict[int, tuple[int, int]] = {}  # slot -> address, bytes
    held = highest = 0
    counts: dict[int, int] = {}
    run = session._target.begin(InputLog(), session._target._closed)

    def watched(call: Any, step: Any) -> Any:
        def function(*arguments: Any) -> Any:
            nonlocal held, highest
            result = call.function(*arguments)
            results = result if type(result) is tuple else (result,)
            if step.opdef.name != "ReadVariable":
                for slot, value in zip(call.outputs, results, strict=True):
                    if isinstance(value, np.ndarray):
                        whole = value if value.base is None else value.base
                        sizes[slot] = (id(whole), whole.nbytes)
                        held += whole.nbytes if not counts.get(id(whole)) else 0
                        counts[id(whole)] = counts.get(id(whole), 0) + 1
            highest = max(highest, held)
            for slot in call.frees:
                if slot in sizes:
                    key, size = sizes.pop(slot)
                    counts[key] -= 1
                    held -= size if not counts[key] else 0
            return result

        return call._replace(function=function)

    calls = [watched(c, s) for c, s in zip(reference._calls, reference.plan.steps, strict=True)]
    feeds = [np.ones((ROWS, WIDTH), np.float32) for _ in reference.plan.inputs]
    from graphflow.execute.context import Context

    with np.errstate(all="ignore"):
        reference.execute(feeds, Context(run, reference.device), calls)
    run.abort()
    return highest


def trained(program: Program, tier: str, limit: int) -> tuple[list[Any], int, Any]:
    """Losses of some steps, the peak, and the session's last plan."""
    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default():
        patch.setenv("GRAPHFLOW_TIER", tier)
        fetches, feeds = program()
        config = tf.ConfigProto(memory_limit=limit)
        with tf.Session(config=config, seed=3) as session:
            session.run(tf.global_variables_initializer())
            losses = [session.run(fetches, feeds)[0] for _ in range(4)]
            return losses, peak(session), list(session.explain(fetches, feeds))[-1]


PROGRAMS: dict[str, Program] = {
    "chain": layers,
    "dropout": lambda: layers(dropout=True),
    "residual": lambda: layers(residual=True),
    "printed": lambda: layers(printed=True),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_less_memory_and_the_same_bits(name: str) -> None:
    free, usual, _ = trained(PROGRAMS[name], "reference", 0)
    limit = usual * 6 // 10
    tight, least, _ = trained(PROGRAMS[name], "reference", limit)
    assert tight == free
    assert least <= limit < usual


def test_native_code_keeps_to_it() -> None:
    free, usual, report = trained(layers, "native", 0)
    tight, _, less = trained(layers, "native", usual // 2)
    np.testing.assert_allclose(tight, free, rtol=1e-5)
    assert report.native is not None
    assert less.native is not None
    assert less.native.arena.size < 0.75 * report.native.arena.size


def test_what_cannot_fit_is_an_error_that_tells_the_least() -> None:
    fetches, feeds = layers()
    with tf.Session(config=tf.ConfigProto(memory_limit=VALUE)) as session:
        session.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.ResourceExhaustedError, match=r"at least \d+ with") as found:
            session.run(fetches, feeds)
    least = int(str(found.value).split("at least ")[1].split()[0])
    with tf.Session(config=tf.ConfigProto(memory_limit=least)) as session:
        session.run(tf.global_variables_initializer())
        session.run(fetches, feeds)


def test_a_step_that_fits_is_left_alone() -> None:
    x = tf.placeholder(tf.float32, [2])
    with tf.Session(config=tf.ConfigProto(memory_limit=1000)) as session:
        assert session.run(tf.reduce_sum(tf.tanh(x)), {x: [0.0, 0.0]}) == 0


@pytest.mark.parametrize("limit", [-1, "1GB", None, float("nan")])
def test_a_limit_is_a_number_of_bytes(limit) -> None:
    with pytest.raises(ValueError, match=f"memory_limit is a number of bytes, not {limit!r}"):
        tf.Session(config=tf.ConfigProto(memory_limit=limit))
