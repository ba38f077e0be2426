"""All interleavings of small systems, with a worker killed at every moment: nothing is lost,
nothing happens twice, all agree, and everything comes to its end."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.distribute.explore import explore
from tests.distribute.laws import check, check_end
from tests.distribute.worlds import world, worlds

AB, ABC = ("a", "b"), ("a", "b", "c")

SMALL = {
    "two runs": {"plan": {1: AB, 2: AB}, "kills": 1},
    "two kills": {"plan": {1: AB}, "kills": 2},
    "a run on one worker": {"plan": {1: AB, 2: ("a",), 3: ("b",)}, "kills": 1, "every": 2},
    "overlapping runs": {"plan": {1: AB, 2: ("a",)}, "kills": 0, "overlapping": 2, "attempts": 5},
}
MIRRORS = {
    "two runs": {"plan": {1: AB, 2: AB}, "kills": 1, "every": 9},
    "overtaking messages": {"plan": {1: AB}, "kills": 1, "every": 9, "overtaking": True},
}
BUDDIES = {
    "a worker and its buddy": {"plan": {1: AB}, "kills": 2},
}
SERIES = {
    "two runs": {"plan": {1: AB, 2: AB}, "kills": 0, "every": 9},
    "a cut in between": {"plan": {1: AB, 2: AB}, "kills": 0, "every": 1},
    "a failure": {"plan": {1: AB, 2: AB}, "kills": 0, "fails": frozenset({1})},
    "the second fails": {"plan": {1: AB, 2: AB}, "kills": 0, "fails": frozenset({2})},
    "other workers": {"plan": {1: AB, 2: ("a",), 3: AB}, "kills": 0, "every": 9},
    "overtaking messages": {"plan": {1: AB, 2: AB}, "kills": 0, "every": 9, "overtaking": True},
}
RIVALS = {
    "before": {"apart": frozenset({1})},
    "after": {"apart": frozenset({3})},
}
OVERTAKING = {
    "two runs": {"plan": {1: AB, 2: AB}, "kills": 1, "every": 9},
    "a run on one worker": {"plan": {1: AB, 2: ("a",)}, "kills": 1, "every": 9},
    "cuts": {"plan": {1: AB, 2: AB}, "kills": 0},
}
# 8 to 39 thousand states each, a thousand a second; two kills among copies are more than 60.
LARGE = {
    "a series, a kill, and mirrors": {
        "plan": {1: AB, 2: AB},
        "kills": 1,
        "every": 9,
        "series": True,
        "overlapping": 2,
        "mirrored": True,
    },
    "two kills and mirrors": {"plan": {1: AB}, "kills": 2, "every": 9, "mirrored": True},
    "a series of two and a kill": {
        "plan": {1: AB, 2: AB},
        "kills": 1,
        "every": 9,
        "series": True,
        "overlapping": 2,
    },
    "two runs, a kill, and copies": {"plan": {1: AB, 2: AB}, "kills": 1, "backup_every": 9},
    "two runs, a kill, and copies of both kinds": {
        "plan": {1: AB, 2: AB},
        "kills": 1,
        "backup_every": 2,
    },
    "a series of three and cuts": {
        "plan": {1: AB, 2: AB, 3: AB},
        "kills": 0,
        "series": True,
        "overlapping": 3,
    },
    "a series of three and a kill": {
        "plan": {1: AB, 2: AB, 3: AB},
        "kills": 1,
        "every": 9,
        "series": True,
        "overlapping": 2,
    },
    "overlapping runs and a kill": {
        "plan": {1: ("a",), 2: AB},
        "kills": 1,
        "overlapping": 2,
        "attempts": 6,
    },
    "three workers": {"plan": {1: ABC, 2: ("a", "c")}, "kills": 1},
    "three workers, two kills": {"plan": {1: ABC}, "kills": 2},
    "three runs, two kills": {"plan": {1: AB, 2: AB, 3: AB}, "kills": 2, "every": 2},
}


def ends(system: Any, limit: int, **how: Any) -> set[Any]:
    """In which states of a system nothing more can happen."""
    return {end for first in worlds(**system) for end in explore(first, limit, **how).ends}


@pytest.mark.parametrize("system", SMALL.values(), ids=SMALL)
def test_all_interleavings(system):
    assert ends(system, limit=10_000)


@pytest.mark.parametrize("system", OVERTAKING.values(), ids=OVERTAKING)
def test_all_interleavings_of_messages_that_overtake_each_other(system):
    assert ends(system | {"overtaking": True}, limit=10_000)


@pytest.mark.parametrize("system", MIRRORS.values(), ids=MIRRORS)
def test_all_interleavings_where_all_have_copies_of_all(system):
    assert ends(system | {"mirrored": True}, limit=10_000)


@pytest.mark.parametrize("system", BUDDIES.values(), ids=BUDDIES)
def test_all_interleavings_where_workers_keep_each_others_copies(system):
    assert ends(system | {"backup_every": 9}, limit=100_000)


@pytest.mark.parametrize("system", SERIES.values(), ids=SERIES)
def test_all_interleavings_of_runs_that_begin_ahead(system):
    overlapping = len(system["plan"])
    more = {"series": True, "early": True, "overlapping": overlapping}
    assert ends(system | more, limit=60_000)


@pytest.mark.parametrize("system", RIVALS.values(), ids=RIVALS)
def test_all_interleavings_of_a_series_and_another_run(system):
    """They meet: one of them is undone, and what builds on it, too."""
    plan = {1: ("a",), 2: ("a",), 3: ("a",)}
    more = {"plan": plan, "kills": 0, "every": 9, "series": True, "overlapping": 3, "attempts": 7}
    assert ends(system | more, limit=20_000)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("system", LARGE.values(), ids=LARGE)
def test_all_interleavings_of_larger_systems(system):
    assert ends(system, limit=60_000)


ALL = SMALL | {"a series": SERIES["two runs"] | {"series": True, "overlapping": 2}}


@pytest.mark.parametrize(
    "system",
    [pytest.param(ALL[name], id=name, marks=[pytest.mark.slow] * (n > 0))
     for n, name in enumerate(ALL)],
)  # fmt: skip
def test_the_states_that_suffice_have_all_ends(system):
    """Those of all states, killed workers taking their answers with them or not."""
    assert ends(system, limit=10_000) == ends(system, limit=60_000, reduced=False)


def test_without_a_worker_for_the_lost_one_every_run_ends_all_the_same():
    assert ends({"plan": {1: AB, 2: AB}, "kills": 1, "spares": 0}, limit=10_000, gives_up=True)


ALONE = {
    "two kills": {"plan": {1: AB, 2: AB}, "kills": 2},
    "runs on one worker": {"plan": {1: ("a",), 2: ("b",)}, "kills": 1, "overlapping": 2},
    "a run on one and one on both": {"plan": {1: ("a",), 2: AB}, "kills": 1, "overlapping": 2},
}


@pytest.mark.parametrize("system", ALONE.values(), ids=ALONE)
def test_without_recovery_every_run_ends_all_the_same(system):
    assert ends(system | {"every": None, "attempts": 6}, limit=10_000, gives_up=True)


class Losses(RuleBasedStateMachine):
    """Longer stories than can be told in all ways: four runs, three workers, three kills."""

    def __init__(self) -> None:
        super().__init__()
        self.world = world(
            self.plan,
            dict.fromkeys(ABC, 1),
            2,
            overlapping=3,
            overtaking=True,
            series=self.series,
            backup_every=3,
        )

    plan: ClassVar[Any] = {1: ABC, 2: AB, 3: ("b", "c"), 4: ABC}
    series = False

    @rule(i=st.integers(0, 1000))
    def something_happens(self, i: int) -> None:
        actions = list(self.world.actions())
        if actions:
            self.world.perform(actions[i % len(actions)])

    @invariant()
    def all_is_well(self) -> None:
        check(self.world)

    def teardown(self) -> None:
        """Let everything come to its end, then look."""
        self.world.left = dict.fromkeys(ABC, 0)
        for _ in range(10_000):
            action = next(self.world.actions(), None)
            if action is None:
                check_end(self.world)
                return
            self.world.perform(action)
        raise AssertionError("it does not come to an end")


class LossesInSeries(Losses):
    """The same, of runs that begin ahead."""

    plan: ClassVar[Any] = {1: ABC, 2: ABC, 3: ABC, 4: AB, 5: AB}
    series = True


TestLosses, TestLossesInSeries = Losses.TestCase, LossesInSeries.TestCase
TestLosses.settings = TestLossesInSeries.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
