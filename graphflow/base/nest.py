"""Nested Python structures: tuples, lists, named tuples and dicts, with anything else as leaves.

Dicts are walked in the order of their sorted keys, as in TensorFlow; strings are leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Structure = Any


def is_nested(value: Any) -> bool:
    """Is it a structure and no leaf?"""
    return isinstance(value, (tuple, list, Mapping))


def flatten(structure: Structure) -> list[Any]:
    """The leaves, in order; a leaf alone gives a list of one."""
    found: list[Any] = []
    _collect(structure, found)
    return found


def _collect(structure: Structure, found: list[Any]) -> None:
    if is_nested(structure):
        for item in _items(structure):
            _collect(item, found)
    else:
        found.append(structure)


def pack_sequence_as(structure: Structure, flat_sequence: Sequence[Any]) -> Structure:
    """A structure of the same form that holds other leaves.

    Raises:
      ValueError: there are more or fewer leaves than the structure has.
    """
    leaves = list(flat_sequence)
    wanted = len(flatten(structure))
    if wanted != len(leaves):
        raise ValueError(f"the structure has {wanted} leaves, but {len(leaves)} were given")
    return _pack(structure, iter(leaves))


def _pack(structure: Structure, leaves: Iterator[Any]) -> Structure:
    if not is_nested(structure):
        return next(leaves)
    return _like(structure, [_pack(item, leaves) for item in _items(structure)])


def map_structure(function: Callable[..., Any], *structures: Structure) -> Structure:
    """Apply a function to the corresponding leaves of structures of one form.

    Raises:
      ValueError, TypeError: the structures differ, as in `assert_same_structure`.
    """
    first, *others = structures
    for other in others:
        assert_same_structure(first, other)
    results = [function(*leaves) for leaves in zip(*map(flatten, structures), strict=True)]
    return pack_sequence_as(first, results)


def flatten_up_to(shallow: Structure, structure: Structure) -> list[Any]:
    """What `structure` holds in the place of each leaf of `shallow`; that may be a structure.

    Raises:
      ValueError: `structure` ends above a leaf of `shallow`, or branches differently.
    """
    if not is_nested(shallow):
        return [structure]
    if not is_nested(structure) or len(shallow) != len(structure):
        raise ValueError(f"structures differ: {_short(shallow)} and {_short(structure)}")
    if isinstance(shallow, Mapping) and set(shallow) != set(structure):
        raise ValueError(f"dicts differ in keys: {sorted(shallow)} and {sorted(structure)}")
    pairs = zip(_items(shallow), _items(structure), strict=True)
    return [leaf for a, b in pairs for leaf in flatten_up_to(a, b)]


def assert_same_structure(a: Structure, b: Structure, check_types: bool = True) -> None:
    """Raises:
    ValueError: one is nested where the other is not, or lengths or keys differ.
    TypeError: the types of two nodes differ, where `check_types`.
    """
    if is_nested(a) != is_nested(b):
        raise ValueError(f"structures differ: {_short(a)} and {_short(b)}")
    if not is_nested(a):
        return
    if check_types and _kind(a) is not _kind(b):
        raise TypeError(
            f"structures differ in type: {type(a).__name__} and {type(b).__name__} in "
            f"{_short(a)} and {_short(b)}"
        )
    if len(a) != len(b):
        raise ValueError(
            f"structures differ in length: {len(a)} and {len(b)} in {_short(a)} and {_short(b)}"
        )
    if isinstance(a, Mapping) and set(a) != set(b):
        raise ValueError(f"dicts differ in keys: {_keys(a)} and {_keys(b)}")
    for x, y in zip(_items(a), _items(b), strict=True):
        assert_same_structure(x, y, check_types)


def _items(structure: Structure) -> list[Any]:
    if isinstance(structure, Mapping):
        return [structure[key] for key in _keys(structure)]
    return list(structure)


def _keys(structure: Mapping[Any, Any]) -> list[Any]:
    try:
        return sorted(structure)
    except TypeError:
        raise TypeError(f"the keys of a dict must sort, not {list(structure)}") from None


def _kind(structure: Structure) -> type:
    return dict if isinstance(structure, Mapping) else type(structure)


def _like(structure: Structure, items: list[Any]) -> Structure:
    kind: Any = type(structure)
    if isinstance(structure, Mapping):
        by_key = dict(zip(_keys(structure), items, strict=True))
        ordered = [(key, by_key[key]) for key in structure]
        if hasattr(structure, "default_factory"):
            return kind(structure.default_factory, ordered)
        return kind(ordered)
    if hasattr(structure, "_fields"):
        return kind(*items)
    return kind(items)


def _short(structure: Structure) -> str:
    text = repr(structure)
    return text if len(text) <= 80 else text[:77] + "..."
