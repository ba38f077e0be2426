"""The numeric gradient check notices broken gradient rules."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.ops.mutation import differentiable, survivors, unsummed


def test_a_sample_of_mutants_is_killed() -> None:
    counts: Counter[str] = Counter()
    assert [str(m) for m in survivors(differentiable()[::10], counts)] == []
    assert sum(counts.values()) > 50


@pytest.mark.slow
def test_all_mutants_are_killed() -> None:
    counts: Counter[str] = Counter()
    chosen = differentiable()
    alive = [str(m) for m in survivors(chosen, counts)]
    count, missed = unsummed(chosen)
    assert len(alive) + len(missed) <= 0.05 * (sum(counts.values()) + count), alive + missed
