"""Nested structures."""

from __future__ import annotations

import collections
from typing import Any

import pytest

from graphflow.base import nest

Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("structure", "leaves"),
    [
        (1, [1]),
        ("text", ["text"]),
        ([], []),
        ([1, (2, [3])], [1, 2, 3]),
        ({"b": 1, "a": [2, 3]}, [2, 3, 1]),
        (Pair(1, {"x": 2}), [1, 2]),
        (collections.OrderedDict([("b", 1), ("a", 2)]), [2, 1]),
        (collections.defaultdict(int, b=1, a=2), [2, 1]),
    ],
)
def test_packing_undoes_flattening(structure: Any, leaves: list[Any]) -> None:
    assert nest.flatten(structure) == leaves
    again = nest.pack_sequence_as(structure, leaves)
    assert again == structure
    assert type(again) is type(structure)
    if isinstance(structure, dict):
        assert list(again) == list(structure)


def test_map_walks_structures_together() -> None:
    assert nest.map_structure(lambda a, b: a + b, Pair(1, [2]), Pair(10, [20])) == Pair(11, [22])


def test_packing_needs_as_many_leaves() -> None:
    with pytest.raises(ValueError, match="2 leaves, but 1"):
        nest.pack_sequence_as([0, 0], [1])


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        ([1], 1, ValueError),
        ([1], [1, 2], ValueError),
        ([1], (1,), TypeError),
        ({"a": 1}, {"b": 1}, ValueError),
        ([[1]], [1], ValueError),
    ],
)
def test_structures_that_differ(a: Any, b: Any, error: Any) -> None:
    with pytest.raises(error):
        nest.assert_same_structure(a, b)


def test_types_may_be_ignored() -> None:
    nest.assert_same_structure([1, [2]], (1, (2,)), check_types=False)


def test_flatten_up_to_stops_at_leaves() -> None:
    assert nest.flatten_up_to([0, (0, 0)], [[2], ([3, 4], 5)]) == [[2], [3, 4], 5]
    with pytest.raises(ValueError, match="differ"):
        nest.flatten_up_to([0, 0], [1])
    with pytest.raises(ValueError, match="keys"):
        nest.flatten_up_to({"a": 0}, {"b": 0})


def test_keys_must_sort() -> None:
    with pytest.raises(TypeError, match="sort"):
        nest.flatten({1: 0, "a": 0})
