"""Signs of life, in virtual time."""

from __future__ import annotations

from graphflow.distribute.watch import Supervision, Watch


def test_who_owes_nothing_is_left_alone():
    watch = Watch(8.0)
    assert watch.look([], 0.0) == ([], [])
    assert watch.look(["a"], 100.0) == ([], [])  # its time begins now


def test_a_silent_worker_is_pinged_and_given_up_at_the_deadline():
    watch = Watch(8.0)
    watch.look(["a"], 0.0)
    seen = {t: watch.look(["a"], float(t)) for t in range(1, 9)}
    assert [t for t, (pings, _) in seen.items() if pings] == [2, 4, 6]
    assert [t for t, (_, frozen) in seen.items() if frozen] == [8]


def test_time_counts_from_the_message_and_not_from_when_somebody_looked():
    watch = Watch(8.0)
    watch.asked("a", 0.0)
    now, seen = 0.0, []
    while not seen or not seen[-1][1]:
        now += watch.pause(now)
        silent, frozen = watch.look(["a"], now)
        seen.append((silent, frozen))
    assert now == 8.0
    assert len(seen) == 4  # woken no more often than there is something to do


def test_who_has_the_name_of_a_frozen_worker_has_its_own_time():
    watch = Watch(8.0)
    watch.look(["a"], 0.0)
    watch.look(["a"], 2.0)
    watch.forget("a")
    watch.asked("a", 7.5)
    assert watch.look(["a"], 8.0) == ([], [])


def test_a_sign_of_life_starts_the_time_anew():
    watch = Watch(8.0)
    watch.look(["a"], 0.0)
    watch.look(["a"], 2.0)
    watch.heard("a", 7.0)
    assert watch.look(["a"], 8.0) == ([], [])
    assert watch.look(["a"], 9.0) == (["a"], [])
    for now in (11.0, 13.0, 14.9):
        assert watch.look(["a"], now)[1] == []
    assert watch.look(["a"], 15.0)[1] == ["a"]


def test_a_driver_that_was_stopped_itself_gives_nobody_up():
    watch = Watch(8.0)
    watch.look(["a"], 0.0)
    assert watch.look(["a"], 1000.0) == (["a"], [])
    watch.heard("a", 1000.1)
    assert watch.look(["a"], 1001.0) == ([], [])


def test_a_driver_that_was_stopped_after_it_had_asked_asks_again():
    """The answer may be there, and nobody has taken it up."""
    watch = Watch(8.0)
    watch.look(["a"], 0.0)
    assert watch.look(["a"], 2.0) == (["a"], [])
    assert watch.look(["a"], 1000.0) == (["a"], [])
    for now in (1002.0, 1004.0):
        assert watch.look(["a"], now) == (["a"], [])
    assert watch.look(["a"], 1006.0) == ([], ["a"])  # it was silent while somebody looked


def test_answering_ends_the_debt():
    watch = Watch(8.0)
    watch.look(["a"], 0.0)
    watch.look(["a"], 2.0)
    watch.look([], 5.0)
    assert watch.look(["a"], 50.0) == ([], [])


def test_a_task_that_comes_up_has_longer_than_one_that_is_up():
    jobs = Supervision(8.0, 120.0)
    for task in ("a", "b"):
        jobs.started(task, 0.0)
    assert jobs.look(["a", "b"], 100.0) == ([], {})
    jobs.heard("a", 101.0)
    assert jobs.look(["a", "b"], 101.0) == ([], {})
    for now in (103.0, 105.0, 107.0):
        assert jobs.look(["a", "b"], now) == (["a"], {})
    assert jobs.look(["a", "b"], 109.0)[1].keys() == {"a"}
    assert jobs.look(["b"], 120.5)[1].keys() == {"b"}


def test_a_task_is_asked_all_the_time_and_lost_at_the_heartbeat():
    jobs, now, asked = Supervision(8.0, 120.0), 0.0, 0
    jobs.started("a", 0.0)
    jobs.heard("a", 0.0)
    lost: dict[str, str] = {}
    while not lost:
        assert now < 100
        now += jobs.pause(now)
        silent, lost = jobs.look(["a"], now)
        asked += len(silent)
        if silent and asked <= 10:
            jobs.heard("a", now)
    assert now == 10 * 2.0 + 8.0
    assert "no sign of life for 8 s" in lost["a"]
    jobs.started("a", now)  # again
    assert jobs.look(["a"], now + 50.0) == ([], {})


def test_tasks_are_not_frozen_where_their_supervisor_was():
    jobs = Supervision(8.0, 120.0)
    jobs.started("a", 0.0)
    jobs.heard("a", 0.0)
    jobs.look(["a"], 0.0)
    assert jobs.look(["a"], 1000.0) == (["a"], {})
    assert jobs.look(["a"], 1001.0) == ([], {})
