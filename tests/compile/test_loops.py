"""Arena, verifier and printing of the loop IR."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.compile.loops import Access, Nest, Store
from graphflow.compile.loops.listing import Names, listing
from graphflow.compile.loops.memory import Interval, arrange
from graphflow.compile.loops.nests import Pass, Product, Reduction, Scatter, canonical, leaf
from graphflow.compile.loops.values import Value, View
from graphflow.compile.loops.verify import OrderCheck, verify
from graphflow.ops.expression import Node, apply

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 6)), max_size=25)
)
def test_nothing_alive_overlaps(found: list[tuple[int, int, int]]) -> None:
    intervals = [Interval(i, size, at, at + span) for i, (size, at, span) in enumerate(found)]
    arena = arrange(intervals)
    assert arena.bound <= arena.size
    for a in intervals:
        assert arena.offsets[a.key] % 64 == 0
        assert arena.offsets[a.key] + a.size <= max(arena.size, 1)
        for b in intervals[: a.key]:
            if a.first <= b.last and b.first <= a.last:
                begin, other = arena.offsets[a.key], arena.offsets[b.key]
                assert begin + a.size <= other or other + b.size <= begin


def nest(stride: int = 1, offset: int = 0) -> Nest:
    x, y = Value((4, 8), F32, "outside"), Value((4, 8), F32)
    body = apply("tanh", leaf("arg", 0, F32))
    walk = Pass((Store(Access(y, (8, 1)), body),), (), ())
    return Nest("tanh", (4, 8), (Access(x, (8, stride), offset),), (walk,), chunks=4)


def test_the_verifier_finds_what_lies_outside() -> None:
    verify(nest())
    with pytest.raises(ValueError, match=r"elements 1\.\.32 of a buffer of 32"):
        verify(nest(offset=1))
    with pytest.raises(ValueError, match="buffer of 32"):
        verify(nest(stride=2))


def test_the_listing_names_values_and_shared_expressions() -> None:
    x, y, z = Value((4, 8), F32, "outside"), Value((4, 8), F32), Value((8,), F32)
    twice = apply("exp", leaf("arg", 0, F32))
    walk = Pass(
        (Store(Access(y, (8, 1)), twice * twice + 1.0),),
        (Reduction("add", twice, partial=Value((4, 8), F32)),),
        (Store(Access(z, (1, 0)), twice),),
    )
    first = Nest("exp", (4, 8), (Access(x, (8, 1)),), (walk,), chunks=4)
    factors = ((Access(y, (8, 1)), Access(y, (1, 8))),)
    product = Product("p", 4, 4, (8,), (), factors, Access(x, (4, 1)))
    assert listing([first, product], Names()) == [
        "nest [4, 8] in 4 chunks\n"
        "  a0 = x0 float32[4, 8] at [8, 1]\n"
        "  for each column\n"
        "    e0 = exp(a0)\n"
        "    t0 float32[4, 8] at [8, 1] = (e0 * e0) + 1.0\n"
        "    t1[chunk, column] add= e0\n"
        "  t2 float32[8] at [1, 0] = exp(a0)",
        "product [4, 4]\n"
        "  x0 float32[4, 8] at [4, 1] = "
        "t0 float32[4, 8] at [8, 1] x t0 float32[4, 8] at [1, 8], inner 8",
    ]


def test_the_listing_stays_short_where_parts_are_shared() -> None:
    x, y = Value((4, 8), F32, "outside"), Value((4, 8), F32)
    body = leaf("arg", 0, F32)
    for _ in range(200):
        body = body * body
    walk = Pass((Store(Access(y, (8, 1)), body),), (), ())
    (text,) = listing([Nest("n", (4, 8), (Access(x, (8, 1)),), (walk,))], Names())
    assert len(text) < 10_000


def shaped(
    loads: tuple[Access, ...] = (),
    stores: tuple[Store, ...] = (),
    reductions: tuple[Reduction, ...] = (),
    after: tuple[Store, ...] = (),
) -> Nest:
    return Nest("bad", (4, 8), loads, (Pass(stores, reductions, after),), chunks=4)


def broken() -> dict[str, Nest]:
    """One nest per rule; the key is what the verifier says of it."""
    x, y, z = [Value((4, 8), F32, "outside") for _ in range(3)]
    fixed = Value((4, 8), F32, "constant")
    ints = Value((4, 8), np.dtype(np.int32), "outside")
    wide = Store(Access(Value((4, 8), F64), (8, 1)), Node("exp", (leaf("arg", 0, F32),), F64))
    strange = leaf("arg", 0, ints.dtype)
    zero = Node("const", (), ints.dtype, 0)
    gathered = Node("gather", (leaf("arg", 0, F32), zero), F32, (8, 2))
    from_register = Node("gather", (apply("exp", leaf("arg", 0, F32)), zero), F32, (8, 1))

    def scattered(limit: int, op: str = "add") -> Pass:
        scatter = Scatter(Access(y, (0, 1)), zero, 8, limit, False, op, leaf("arg", 0, F32))
        return Pass((), (), (), (scatter,))

    here = Access(y, (8, 1))
    one, row = leaf("arg", 0, F32), leaf("row", 0, F32)
    load = (Access(x, (8, 1)),)
    summed = Reduction("add", one, 0)
    chunked = Reduction("add", one, partial=Value((3, 8), F32))
    return {
        "load 0 of 0": shaped((), (Store(here, one),)),
        "float32 loaded as int32": shaped(load, (Store(here, strange.astype(F32)),)),
        "float32 stored as int32": shaped(load, (Store(Access(ints, (8, 1)), one),)),
        "several rows": shaped(load, (Store(Access(y, (0, 1)), one),)),
        "two elements": shaped(load, (Store(Access(y, (4, 1)), one),)),
        "all columns": shaped(load, (Store(Access(y, (1, 0)), one),)),
        "a row value reads": shaped(load, after=(Store(Access(z, (8, 0)), one),)),
        "register 0 holds": shaped(load, (Store(here, row),), (summed,)),
        "written twice": shaped(load, reductions=(summed,)),
        "subtract of float32": shaped(load, reductions=(Reduction("subtract", one, 0),)),
        r"columns in \[3, 8\]": shaped(load, reductions=(chunked,)),
        "exp of float32 gives no": shaped(load, (wide,)),
        "picks by an index": shaped(
            load, after=(Store(Access(z, (8, 0)), leaf("pick", (0, 0), F32)),)
        ),
        "an index leads to": shaped(load, (Store(here, gathered),)),
        "a gather of exp": shaped(load, (Store(here, from_register),)),
        "by several workers": Nest("bad", (4, 8), load, (scattered(1),), chunks=4),
        "leads to elements": Nest("bad", (4, 8), load, (scattered(5),)),
        "divide of float32": Nest("bad", (4, 8), load, (scattered(1, "divide"),)),
        "into a constant": shaped(load, (Store(Access(fixed, (8, 1)), one),)),
    }


@pytest.mark.parametrize("message", broken())
def test_the_verifier_knows_each_fault(message: str) -> None:
    found = broken()[message]
    if message == "written twice":
        found = Nest("bad", (4, 8), found.loads, found.passes * 2, chunks=4)
    with pytest.raises(ValueError, match=message):
        verify(found)


def test_the_verifier_checks_products() -> None:
    a, b, c = [Value((4, 4), F32, "outside") for _ in range(3)]

    def product(left: Access, out: Access) -> Product:
        return Product("p", 4, 4, (4,), (), ((left, Access(b, (4, 1))),), out)

    verify(product(Access(a, (1, 4)), Access(c, (4, 1))))
    with pytest.raises(ValueError, match=r"strides 2, 2 of \[4, 4\] suit no GEMM"):
        verify(product(Access(Value((4, 8), F32), (2, 2)), Access(c, (4, 1))))
    with pytest.raises(ValueError, match="overwrites a factor"):
        verify(product(Access(a, (4, 1)), Access(a, (4, 1))))
    with pytest.raises(ValueError, match="float32"):
        verify(product(Access(Value((4, 4), F64), (4, 1)), Access(c, (4, 1))))


def test_values_are_written_before_they_are_read() -> None:
    first = nest()
    middle = first.passes[0].stores[0].access
    body = apply("exp", leaf("arg", 0, F32))
    walk = Pass((Store(Access(Value((4, 8), F32), (8, 1)), body),), (), ())
    second = Nest("exp", (4, 8), (middle,), (walk,), chunks=4)
    OrderCheck().run([first, second], [])
    with pytest.raises(ValueError, match=r"exp: reads 32 .* float32\[4, 8\], but 0 have"):
        OrderCheck().run([second, first], [])


def test_all_of_a_value_is_written_before_it_is_read() -> None:
    """Its pieces may come from several segments."""
    joined = Value((6, 8), F32)

    def piece(offset: int, rows: int) -> Nest:
        x = Value((rows, 8), F32, "outside")
        walk = Pass((Store(Access(joined, (8, 1), offset), leaf("arg", 0, F32)),), (), ())
        return Nest("copy", (rows, 8), (Access(x, (8, 1)),), (walk,), chunks=rows)

    check = OrderCheck()
    check.run([piece(0, 2)], [])
    with pytest.raises(ValueError, match=r"what follows: reads 48 .* but 16 have"):
        check.run([], [joined])
    inner = Value((2, 8), F32, home=View(joined, (2, 8), (8, 1)))  # it lies in the joined one
    check.run([], [inner])
    check.run([piece(16, 4)], [joined])


def test_axes_merge_where_all_accesses_allow_it() -> None:
    assert canonical((4, 8), [(8, 1), (8, 1)], False) == ((1, 32), [(32, 1), (32, 1)], None)
    shape, strides, length = canonical((100, 100), [(100, 1)], False)
    assert (shape, strides, length) == ((3, 4096), [(4096, 1)], 10000)
    assert canonical((4, 8), [(8, 1), (0, 1)], False)[0] == (4, 8)
    assert canonical((2, 4, 8), [(32, 8, 1), (4, 1, 0)], True)[0] == (8, 8)
