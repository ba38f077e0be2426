"""What hypothesis tries does not change from run to run (`tests/conftest.py`)."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn() -> list[int]:
    found = []

    @settings(max_examples=200)
    @given(st.integers())
    def collect(number: int) -> None:
        found.append(number)

    collect()
    return found


@pytest.mark.skipif("GRAPHFLOW_EXAMPLES" in os.environ, reason="others are asked for")
def test_examples_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where other modules are loaded, which have other numbers in them."""
    first = drawn()
    module = ModuleType("numbers_in_it")
    module.__file__ = str(tmp_path / "numbers_in_it.py")
    Path(module.__file__).write_text("NUMBERS = [123456789, 987654321]\n")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert drawn() == first
