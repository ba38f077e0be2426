"""Cheap values computed in place, factors turned once, copies that are never made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphflow as tf
from graphflow.compile.loops.fuse import fuse
from graphflow.compile.loops.inline import composed, inline
from graphflow.compile.loops.nests import Nest
from graphflow.compile.loops.stack import in_place, stack
from graphflow.compile.loops.turned import turned
from graphflow.compile.loops.values import Join, Map, Multiply, Value, View, row_major, whole
from graphflow.ops.expression import Node, apply

F32 = np.dtype(np.float32)


def elements(view: View, flat: Any) -> Any:
    strides = [4 * s for s in view.strides]
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides)


@given(st.data())
def test_a_view_of_a_stretched_array_is_a_view_of_the_array(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 4, 6]), min_size=1, max_size=3)))
    kept = data.draw(st.tuples(*[st.booleans() for _ in shape]))
    base = Value(tuple(n if k else 1 for n, k in zip(shape, kept, strict=True)), F32, "outside")
    strides = [s if k else 0 for s, k in zip(row_major(base.shape), kept, strict=True)]
    source = View(base, shape, tuple(strides))
    memory = np.arange(base.size, dtype=np.float32)
    stretched = np.ascontiguousarray(elements(source, memory))
    value = Value(shape, F32)
    starts = [data.draw(st.integers(0, n - 1)) for n in shape]
    steps = [data.draw(st.integers(1, 3)) for _ in shape]
    sliced = stretched[tuple(slice(a, None, s) for a, s in zip(starts, steps, strict=True))]
    turn = data.draw(st.permutations(range(len(shape))))
    sliced = sliced.transpose(turn)
    offset = sum(a * s for a, s in zip(starts, row_major(shape), strict=True))
    view = View(value, sliced.shape, tuple(s // 4 for s in sliced.strides), offset)
    found = composed(view, source)
    assert found is not None
    np.testing.assert_array_equal(elements(found, memory), sliced)


def test_a_view_through_several_axes_is_none() -> None:
    value = Value((4, 6), F32)
    source = View(Value((6,), F32, "outside"), (4, 6), (0, 1))
    assert composed(View(value, (24,), (1,)), source) is None
    assert composed(View(value, (5,), (4,)), source) is None


def arg(i: int) -> Node:
    return Node("arg", (), F32, i)


def test_cheap_maps_move_into_what_reads_slices_of_them() -> None:
    x, bias = Value((8, 12), F32, "outside"), Value((12,), F32, "outside")
    stretched = View(bias, (8, 12), (0, 1))
    sums = Map(Value((8, 12), F32), (whole(x), stretched), apply("add", arg(0), arg(1)), "sums")
    halves = [
        Map(Value((8, 6), F32), (View(sums.out, (8, 6), (12, 1), 6 * i),),
            apply("tanh", arg(0)), f"half{i}")
        for i in range(2)
    ]  # fmt: skip
    found = inline([sums, *halves], set())
    assert [t.name for t in found] == ["half0", "half1"]
    assert isinstance(found[1], Map)
    assert [(v.value, v.strides, v.offset) for v in found[1].inputs] == [
        (x, (12, 1), 6), (bias, (0, 1), 6)]  # fmt: skip
    assert len(inline([sums, *halves], {id(sums.out)})) == 3  # it is fetched
    slow = Map(sums.out, sums.inputs, apply("exp", arg(0)), "slow")
    assert len(inline([slow, *halves], set())) == 3


def products(count: int) -> list[Any]:
    weights = Value((128, 512), F32, "outside")
    across = View(weights, (512, 128), (1, 512))
    return [
        Multiply(Value((64, 128), F32), ((whole(Value((64, 512), F32, "outside")), across),), "p")
        for _ in range(count)
    ]


def test_a_factor_that_many_small_products_read_across_is_turned_once() -> None:
    few = products(3)
    assert turned(few) == few
    found = turned(products(5))
    assert [type(t) for t in found] == [Map, *[Multiply] * 5]
    assert isinstance(found[0], Map)
    assert all(t.terms[0][1].value is found[0].out for t in found[1:])  # type: ignore[union-attr]


def test_whole_values_are_stored_where_they_are_packed_and_stacked_there() -> None:
    pack = Value((3, 4, 5), F32)
    rows = [Map(Value((4, 5), F32), (whole(Value((4, 5), F32, "outside")),),
                apply("tanh", arg(0)), "row") for _ in range(3)]  # fmt: skip
    copies = [Map(Value((4, 5), F32, home=View(pack, (4, 5), (5, 1), 20 * i)), (whole(r.out),),
                  arg(0), "copy") for i, r in enumerate(rows)]  # fmt: skip
    join = Join(pack, tuple([c.out for c in copies]), "pack")
    found = in_place([*rows, *copies, join], set())
    assert [t.name for t in found] == ["row", "row", "row", "pack"]
    assert [r.out.home.offset for r in rows if r.out.home] == [0, 20, 40]
    lefts = [Map(Value((4, 6), F32), (whole(Value((4, 6), F32, "outside")),),
                 apply("tanh", arg(0)), "left") for _ in range(3)]  # fmt: skip
    terms = [(View(a.out, (6, 4), (1, 6)), whole(b.out))
             for a, b in reversed(list(zip(lefts, rows, strict=True)))]  # fmt: skip
    product = Multiply(Value((6, 5), F32), tuple(terms), "gradient")
    *_, last = stack([*rows, *lefts, product], set())
    assert isinstance(last, Multiply)
    ((left, right),) = last.terms
    assert right.value is pack
    assert left.shape == (6, 12)
    assert [a.out.home.offset for a in lefts if a.out.home] == [0, 24, 48]  # the rows' order


def test_what_is_near_at_hand_is_computed_again() -> None:
    """A gradient reads tanh(x), not 1 + tanh(x) and 1 - tanh(x) ** 2."""
    x, w = Value((32, 64), F32, "outside"), Value((64, 64), F32, "outside")
    u = Map(Value((32, 64), F32), (whole(x),), apply("tanh", arg(0)), "tanh")
    one = Node("const", (), F32, 1.0)
    more = Map(Value((32, 64), F32), (whole(u.out),), apply("add", one, arg(0)), "more")
    less = Map(Value((32, 64), F32), (whole(u.out),), one - arg(0) * arg(0), "less")
    g = Multiply(Value((32, 64), F32), ((whole(more.out), whole(w)),), "product")
    back = Map(Value((32, 64), F32), (whole(g.out), whole(more.out), whole(less.out)),
               arg(0) * arg(1) + arg(2), "back")  # fmt: skip
    forward, _, backward = fuse([u, more, less, g, back], [back.out])
    assert isinstance(forward, Nest)
    assert isinstance(backward, Nest)
    stored = [s.access.value for walk in forward.passes for s in walk.stores]
    assert stored == [more.out, less.out]  # to store tanh itself would be no gain
    cheap = Map(Value((32, 64), F32), (whole(u.out),), arg(0) * arg(0), "cheap")
    back = Map(Value((32, 64), F32), (whole(g.out), whole(cheap.out), whole(less.out)),
               arg(0) * arg(1) + arg(2), "back")  # fmt: skip
    forward, _, backward = fuse([u, more, less, cheap, g, back], [back.out])
    assert isinstance(forward, Nest)
    stored = [s.access.value for walk in forward.passes for s in walk.stores]
    assert stored == [u.out, more.out]
    assert isinstance(backward, Nest)
    assert u.out in [load.value for load in backward.loads]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tf.Session]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHFLOW_TIER", "native")
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def test_what_passes_over_a_row_hand_on_takes_one_row(session: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [300, 500])
    value = np.random.default_rng(0).standard_normal((300, 500)).astype(np.float32)
    result = session.run(tf.nn.softmax(tf.tanh(x)), {x: value})
    e = np.exp(np.tanh(value))
    np.testing.assert_allclose(result, e / e.sum(axis=1, keepdims=True), rtol=1e-5)
    (prepared,) = session._cache.values()
    (native,) = prepared.executable._programs[0].native
    assert native.plan.arena.size < 20_000


def test_pooling_takes_the_first_of_equals_and_nan(session: tf.Session) -> None:
    rng = np.random.default_rng(0)
    value = rng.integers(0, 3, (4, 6, 8, 16)).astype(np.float32)  # ties
    value[rng.random(value.shape) < 0.1] = np.nan
    x = tf.placeholder(tf.float32, value.shape)
    bias = tf.constant(rng.standard_normal(16).astype(np.float32))
    y = tf.nn.max_pool(tf.nn.relu(x + bias), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    gradient = tf.gradients(y * y, x)[0]
    native = session.run([y, gradient], {x: value})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFLOW_TIER", "reference")
        with tf.Session() as other:
            reference = other.run([y, gradient], {x: value})
    for a, b in zip(native, reference, strict=True):
        np.testing.assert_array_equal(a, b)
