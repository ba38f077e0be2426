"""Results in the memory of what was read last, and the check that nothing else is overwritten."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compile.loops.nests import Access, Nest, Pass, Reduction, Store, leaf
from graphflow.compile.loops.overlay import Overlay, Use, may_overwrite, overlays
from graphflow.compile.loops.shares import share
from graphflow.compile.loops.values import Value
from graphflow.compile.loops.verify_memory import MemoryCheck, _Cover
from graphflow.compile.native import places

F32 = np.dtype(np.float32)
ROWS = (8, 1)  # strides of [4, 8]


def value(*shape: int, dtype: Any = F32) -> Value:
    return Value(shape, dtype)


def nest(out: Value, *loads: Access, strides: Any = ROWS) -> Nest:
    """out = the sum of the loads over [4, 8]."""
    body = leaf("arg", 0, F32)
    for i in range(1, len(loads)):
        body = body + leaf("arg", i, F32)
    walk = Pass((Store(Access(out, strides), body),), (), ())
    return Nest("sum", (4, 8), loads, (walk,), chunks=4)


def normalised(out: Value, x: Value, again: bool) -> Nest:
    """out = x / 2, in a first pass; what a later pass adds up is x or not."""
    half = leaf("arg", 0, F32) * leaf("const", 0.5, F32)
    first = Pass((Store(Access(out, ROWS), half),), (), ())
    total = Reduction("add", leaf("arg", 0, F32) if again else leaf("const", 1.0, F32), 0)
    return Nest("half", (4, 8), (Access(x, ROWS),), (first, Pass((), (total,), ())), chunks=4)


def test_a_nest_may_overwrite_what_it_reads_where_it_stores() -> None:
    x, y, out = value(4, 8), value(4, 8), value(4, 8)
    assert may_overwrite(nest(out, Access(x, ROWS)), out, x)
    assert may_overwrite(nest(out, Access(x, ROWS), Access(y, (1, 4))), out, x)
    assert may_overwrite(normalised(out, x, again=False), out, x)


@pytest.mark.parametrize(
    "unit",
    [
        lambda out, x: nest(out, Access(x, (1, 4))),  # turned: other rows are read later
        lambda out, x: nest(out, Access(x, ROWS), Access(x, (8, 0))),  # a row's first, to its end
        lambda out, x: nest(out, Access(x, (8, 1), 0), strides=(-8, 1)),
        lambda out, x: normalised(out, x, again=True),
        lambda out, x: nest(out, Access(x, ROWS), Access(out, ROWS)),
    ],
    ids=["turned", "stretched", "backwards", "read again", "read and stored"],
)
def test_it_may_not_where_an_element_is_read_later(unit: Any) -> None:
    x, out = value(4, 8), value(4, 8)
    assert not may_overwrite(unit(out, x), out, x)


def test_sizes_of_elements_must_agree() -> None:
    x, out = value(4, 8), value(4, 8, dtype=np.dtype(np.int32))
    assert not may_overwrite(nest(out, Access(x, ROWS)), out, x)


@pytest.mark.parametrize(
    ("uses", "split", "expected"),
    [
        ([Use(0, 0), Use(2, 1)], False, True),
        ([Use(0, 0), Use(2, 1), Use(3, 1)], False, False),  # read again behind it
        ([Use(1, 1), Use(2, 1)], False, False),  # another worker may be reading it still
        ([Use(1, 1), Use(2, 1)], True, True),
        ([], True, False),  # it lies elsewhere
    ],
)
def test_it_must_be_the_last_use_for_all_workers(
    uses: list[Use], split: bool, expected: bool
) -> None:
    x, out = value(4, 8), value(4, 8)
    unit = nest(out, Access(x, ROWS))
    known = {id(x): uses, id(out): [Use(2, 1), Use(4, 2)]}
    found = overlays([(unit, Use(2, 1))], lambda v: known[id(v)], {id(x)} if split else set())
    assert found == ([Overlay(out, x)] if expected else [])


def test_the_check_knows_what_is_overwritten() -> None:
    x, y, z = value(4, 8), value(4, 8), value(4, 8)
    offsets = {id(x): 0, id(y): 128, id(z): 0}

    def run(*units: Nest, meets: bool = True, workers: int = 2) -> None:
        check = MemoryCheck(lambda v: ("arena", offsets[id(v)]))
        check.write(x)
        check.run(units, [share(u, workers) for u in units], [meets for _ in units])

    copy, over = nest(y, Access(x, ROWS)), nest(z, Access(x, ROWS))
    run(copy, over)
    with pytest.raises(ValueError, match=r"sum: reads float32.*which has been overwritten"):
        run(over, copy)
    with pytest.raises(ValueError, match=r"is stored over float32.*which it reads or stores"):
        run(nest(z, Access(x, (1, 4))))


def test_the_check_knows_what_another_worker_reads() -> None:
    x, y, z = value(512, 512), value(512, 512), value(512, 512)
    offsets = {id(x): 0, id(y): x.nbytes, id(z): 0}

    def over(out: Value, strides: Any) -> Nest:
        walk = Pass((Store(Access(out, (512, 1)), leaf("arg", 0, F32)),), (), ())
        return Nest("copy", (512, 512), (Access(x, strides),), (walk,), chunks=512)

    units = [over(y, (1, 512)), over(z, (512, 1))]  # the first reads columns: those of all rows
    for meets in (True, False):
        check = MemoryCheck(lambda v: ("arena", offsets[id(v)]))
        check.write(x)
        cuts = [share(u, 2) for u in units]
        assert cuts[0].bounds == (0, 256, 512)
        if meets:
            check.run(units, cuts, [True, True])
        else:
            with pytest.raises(ValueError, match=r"copy: a worker writes what another"):
                check.run(units, cuts, [False, False])


spans = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(1, 9)))


@given(spans, spans)
def test_ranges_are_met_where_a_byte_is_in_both(
    some: list[tuple[str, int, int]], others: list[tuple[str, int, int]]
) -> None:
    cover = _Cover()
    for memory, begin, size in some:
        cover.add([(memory, begin, begin + size)])
    taken = {(memory, at) for memory, begin, size in some for at in range(begin, begin + size)}
    for memory, begin, size in others:
        met = any((memory, at) in taken for at in range(begin, begin + size))
        assert cover.meets([(memory, begin, begin + size)]) is met


# ---- programs


def layers(depth: int = 4, width: int = 160) -> Any:
    """Layers with residuals: a norm, a product, an addition to what was there."""
    rng = np.random.default_rng(3)
    x = tf.placeholder(tf.float32, [96, width])
    h = x
    for _ in range(depth):
        mean, variance = tf.nn.moments(h, [1], keepdims=True)
        normed = tf.nn.batch_normalization(h, mean, variance, None, None, 1e-5)
        weights = tf.Variable(rng.standard_normal((width, width)).astype(np.float32) * 0.1)
        h = h + tf.tanh(tf.matmul(normed, weights))
    loss = tf.reduce_mean(tf.square(h))
    update = tf.train.AdamOptimizer(0.01).minimize(loss)
    return [loss, update], {x: rng.standard_normal((96, width)).astype(np.float32)}


def arena_of(session: tf.Session) -> Any:
    natives = [n for p in session._cache.values() for q in p.executable._programs for n in q.native]
    return max([n.plan.arena for n in natives], key=lambda arena: len(arena.offsets))


def test_steps_in_place_give_the_same_bits_in_less_memory(
    session: tf.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches, feeds = layers()
    found = []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(places, "overlays", lambda units, uses, split: [])
        config = tf.ConfigProto(intra_op_parallelism_threads=2)
        with tf.Session(config=config, seed=1) as one:
            one.run(tf.global_variables_initializer())
            found.append(([one.run(fetches, feeds)[0] for _ in range(4)], arena_of(one)))
    (losses, arena), (expected, larger) = found
    assert losses == expected
    assert arena.roots
    assert not larger.roots
    assert arena.size < larger.size
    assert arena.size <= 1.1 * arena.bound


def test_a_wrong_overlay_is_found_before_it_runs(
    session: tf.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read again is taken for dead: the plan is refused, and the reference tier runs."""

    def careless(units: Any, uses: Any, split: Any) -> list[Overlay]:
        return [
            Overlay(store.access.value, load.value)
            for unit, at in units
            if isinstance(unit, Nest)
            for store in (s for p in unit.passes for s in p.stores)
            for load in unit.loads
            if load.value.nbytes == store.access.value.nbytes
            and uses(store.access.value)
            and any(use.position > at.position for use in uses(load.value))
        ][:1]

    monkeypatch.setattr(places, "overlays", careless)
    fetches, feeds = layers()
    session.run(tf.global_variables_initializer())
    with pytest.warns(RuntimeWarning, match=r"reads float32.* which has been overwritten"):
        session.run(fetches, feeds)
