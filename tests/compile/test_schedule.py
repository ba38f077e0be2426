"""Phases, strips and shared memory of native steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.compile.loops.fuse import fuse
from graphflow.compile.loops.memory import Interval, arrange
from graphflow.compile.loops.nests import Access, Nest, Product
from graphflow.compile.loops.schedule import schedule
from graphflow.compile.loops.shares import share, touched
from graphflow.compile.loops.values import Reduce, Value, row_major, whole
from graphflow.compile.native import build

F32 = np.dtype(np.float32)


def product(out: Value, a: Value, b: Value) -> Product:
    (m, k), n = a.shape, b.shape[1]
    terms = ((Access(a, (k, 1)), Access(b, (n, 1))),)
    return Product("product", m, n, (k,), (), terms, Access(out, (n, 1)))


def matrix(*shape: int, kind: Any = "computed") -> Value:
    return Value(shape, F32, kind)


def test_workers_meet_only_where_one_reads_what_another_has_written() -> None:
    x, w = matrix(128, 64, kind="outside"), matrix(64, 64, kind="outside")
    h, y, g, z = matrix(128, 64), matrix(128, 64), matrix(64, 64), matrix(64, 64)
    turned = Access(h, (1, 64))  # all rows of h: those of the other worker, too
    gradient = Product("gradient", 64, 64, (128,), (), ((turned, Access(y, (64, 1))),),
                       Access(g, (64, 1)))  # fmt: skip
    units = [product(h, x, w), gradient, product(y, h, w), product(z, g, w)]
    units = [units[0], units[2], units[1], units[3]]
    found = schedule(units, 2)
    assert [u.name for u in found.units] == ["product", "product", "gradient", "product"]
    assert found.phases == (0, 0, 1, 1)
    assert schedule(units, 1).phases == (0, 0, 0, 0)
    assert id(h) not in found.split  # the gradient's workers read all of it
    assert id(z) in found.split


def test_memory_is_used_again_within_a_phase_only_part_by_part() -> None:
    def offsets(split: bool, phase: int, size: int = 128) -> Any:
        first = Interval(1, 128, 0, 1, 0, 0, True)
        second = Interval(2, size, 2, 3, phase, phase, split)
        return arrange([first, second]).offsets

    assert offsets(True, 0)[2] == offsets(True, 0)[1]
    assert offsets(False, 0)[2] != offsets(False, 0)[1]
    assert offsets(True, 0, 64)[2] not in range(128)
    assert offsets(False, 1)[2] == offsets(False, 1)[1]


def plan_of(session: tf.Session) -> Any:
    prepared = list(session._cache.values())
    natives = [n for p in prepared for q in p.executable._programs for n in q.native]
    return max([n.plan for n in natives], key=lambda plan: sum(map(len, plan.units)))


def network() -> Any:
    """Two convolutions over 16 images, and the gradients."""
    rng = np.random.default_rng(0)
    x = tf.placeholder(tf.float32, [16, 28, 28, 8])
    first = tf.Variable(rng.standard_normal((5, 5, 8, 32)).astype(np.float32) * 0.1)
    second = tf.Variable(rng.standard_normal((5, 5, 32, 16)).astype(np.float32) * 0.1)
    h = tf.nn.relu(tf.nn.conv2d(x, first, strides=[1, 1, 1, 1], padding="SAME"))
    h = tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    y = tf.nn.conv2d(h, second, strides=[1, 1, 1, 1], padding="SAME")
    loss = tf.reduce_sum(tf.square(y))
    image = rng.standard_normal((16, 28, 28, 8)).astype(np.float32)
    return [y, *tf.gradients(loss, [x, first, second])], {x: image}


def recurrence() -> Any:
    rng = np.random.default_rng(0)
    x = tf.placeholder(tf.float32, [6, 64, 40])
    weights = tf.Variable(rng.standard_normal((40, 96)).astype(np.float32) * 0.1)
    own = tf.Variable(rng.standard_normal((96, 96)).astype(np.float32) * 0.1)
    h = tf.zeros([64, 96])
    for part in tf.unstack(x):
        h = tf.tanh(tf.matmul(part, weights) + tf.matmul(h, own))
    loss = tf.reduce_mean(tf.square(h))
    update = tf.train.AdamOptimizer(0.01).minimize(loss)
    value = rng.standard_normal((6, 64, 40)).astype(np.float32)
    return [loss, update], {x: value}


@pytest.mark.parametrize("program", [network, recurrence])
def test_no_worker_overtakes_another(
    program: Any, session: tf.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the memory as laid out, a meeting lies between what one writes and another touches."""
    original, layouts = build.module_text, []

    def watched(layout: Any, place: Any, timed: bool) -> str:
        layouts.append((layout, place))
        return original(layout, place, timed)

    monkeypatch.setattr(build, "module_text", watched)
    fetches, feeds = program()
    session.run(tf.global_variables_initializer())
    session.run(fetches, feeds)
    layout, place = max(layouts, key=lambda found: len(found[0].units))
    assert layout.workers == 2

    def memory(value: Value) -> tuple[Any, int]:
        found = place(value)
        return (id(value), 0) if found.by_worker else (found.entry, found.offset)

    since: list[Any] = []
    for unit, meets in zip(layout.units, layout.meets, strict=True):
        cut = share(unit, 2)
        mine = [touched(unit, cut, w, memory) for w in range(2)]
        if meets:
            since = []
        for theirs in since:
            assert not clash(mine[0], theirs[1]), unit.name
            assert not clash(mine[1], theirs[0]), unit.name
        since.append(mine)
    assert sum(layout.meets) < len(layout.units) / 3


def clash(mine: Any, theirs: Any) -> bool:
    (my_reads, my_writes), (reads, writes) = mine, theirs
    pairs = [(my_reads, writes), (my_writes, writes), (my_writes, reads)]
    return any(
        m == n and a < d and c < b
        for some, others in pairs
        for m, a, b in some
        for n, c, d in others
    )


def test_convolutions_run_strip_by_strip(session: tf.Session) -> None:
    fetches, feeds = network()
    session.run(tf.global_variables_initializer())
    native = session.run(fetches, feeds)
    plan = plan_of(session)
    assert "@strip" in plan.text[0]
    unfolded = 16 * 32 * 28 * 5 * 8 * 4  # bytes of the rows that the first filters see, kept
    padded = 16 * 32 * 32 * 8 * 4  # the padded images: needed in a strip only
    assert plan.arena.size > unfolded
    total = sum(v.nbytes for v in {id(v): v for v in values(plan)}.values())
    assert plan.arena.size < total - padded
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFLOW_TIER", "reference")
        with tf.Session(seed=1) as other:
            other.run(tf.global_variables_initializer())
            for a, b in zip(native, other.run(fetches, feeds), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


def values(plan: Any) -> Iterator[Value]:
    from graphflow.compile.loops.strips import values_of

    units = itertools.chain.from_iterable(plan.units)
    return (v for unit in units for v in values_of(unit) if v.kind == "computed")


def test_strips_give_the_same_bits_with_the_team_and_without(
    session: tf.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphflow.execute.team import Team

    fetches, feeds = network()
    session.run(tf.global_variables_initializer())
    shared = [session.run(fetches, feeds) for _ in range(3)]
    assert plan_of(session).workers == 2
    monkeypatch.setattr(Team, "run", lambda self, step, phases, serial, table: serial(table))
    alone = session.run(fetches, feeds)
    for found in shared:
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_sum_over_images_is_cut_by_images() -> None:
    from graphflow.compile.loops.sums import split_sums
    from graphflow.compile.loops.values import Map, Multiply, View

    a, b = matrix(8, 5, 40, 64, kind="outside"), matrix(8, 64, 32, kind="outside")
    out = matrix(5, 40, 32)
    left = View(a, a.shape, row_major(a.shape))
    right = View(b, (8, 5, 64, 32), (2048, 0, 32, 1))
    task = Multiply(out, ((left, right),), "gradient", summed=True)
    found = split_sums([task], 2)
    assert isinstance(found[0], Multiply)
    assert found[0].parts == 2
    assert found[0].out.shape == (2, 5, 40, 32)
    assert isinstance(found[1], Map)
    assert split_sums([task], 1) == [task]


@pytest.mark.parametrize("threads", [3, 8])
def test_more_threads_than_cores_sleep_and_wake(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphflow.execute.team import Team

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    monkeypatch.setenv("GRAPHFLOW_VALIDATE", "0")  # BLAS's threads do not sleep: 9 s with 8 of them
    config = tf.ConfigProto(intra_op_parallelism_threads=threads)
    with tf.Graph().as_default(), tf.Session(config=config, seed=1) as session:
        fetches, feeds = network()
        session.run(tf.global_variables_initializer())
        shared = [session.run(fetches, feeds) for _ in range(6)]
        assert plan_of(session).workers == threads
        monkeypatch.setattr(Team, "run", lambda self, step, phases, serial, table: serial(table))
        alone = session.run(fetches, feeds)
    for found in shared:
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_array_equal(a, b)


def test_workers_meet_once_more_where_that_saves_much_memory() -> None:
    from graphflow.compile.loops.lives import Lives

    def arena(held: bool) -> Any:
        lives = Lives(set(), workers=2)
        for _ in range(6):  # one phase
            lives.advance(0)
        if held:
            lives.hold(0, 5)
        first, second = matrix(1000, 100), matrix(999, 100)
        lives.touch([first], 0)
        lives.touch([first], 2)
        lives.touch([second], 3)
        lives.touch([second], 5)
        return lives.arena(frozenset())

    assert arena(held=False).size == 1000 * 100 * 4
    assert arena(held=True).size > 1998 * 100 * 4


@pytest.mark.parametrize(
    ("rows", "chunks"),
    [((256, 4), 64), ((64, 4), 64), ((100, 4), 50), ((509, 4), 16), ((16, 4), 16), ((1024,), 16)],
    ids=str,
)
def test_sums_over_images_are_cut_between_images(rows: tuple[int, ...], chunks: int) -> None:
    """So that they join the strip of the products that go through the same batch."""
    x = Value((*rows, 8), F32, "outside")
    total = Reduce(Value((8,), F32), whole(x), "add", "columns", "sum")
    first, _ = fuse([total], [total.out])
    assert isinstance(first, Nest)
    assert first.chunks == chunks
