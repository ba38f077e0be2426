"""The coordinator alone: what it decides on which event."""

from __future__ import annotations

import pytest

from graphflow.base.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    UnavailableError,
)
from graphflow.base.state import StateKey
from graphflow.distribute.coordinator import (
    Answered,
    Begin,
    Closed,
    Coordinator,
    Expired,
    Finish,
    Loaded,
    Lost,
    Replaced,
    Send,
    Wake,
    Woken,
)
from graphflow.distribute.holdings import Holdings
from graphflow.distribute.messages import Applied, Notice, Prepared, Rebuilt, Refused, Step, Verdict


class Driver:
    """A coordinator of workers a and b, and shorthand for events."""

    def __init__(self):
        self.machine = Coordinator("ab")
        self.runs = 0
        self.steps: dict[tuple[int, str], Step] = {}

    def handle(self, event):
        commands = self.machine.handle(event)
        for command in commands:
            if isinstance(command, Send) and isinstance(command.message, Step):
                self.steps[command.message.ticket.run, command.worker] = command.message
        return commands

    def begin(self, workers="ab"):
        self.runs += 1
        return self.handle(Begin(self.runs, 1, {w: () for w in workers}))

    def prepared(self, run, worker, applied=0, releases=False):
        ticket = self.steps[run, worker].ticket
        return self.handle(Answered(worker, Prepared(ticket, applied, [worker], releases)))

    def refused(self, run, worker, error=None, holder=None):
        ticket = self.steps[run, worker].ticket
        held = self.steps[holder].ticket if holder else None
        return self.handle(Answered(worker, Refused(ticket, 0, error, held)))

    def committed(self, workers="ab"):
        self.begin(workers)
        for worker in workers:
            commands = self.prepared(self.runs, worker)
        return commands


def verdicts(message):
    return [(d.ticket.run, d.verdict) for d in message.decisions]


@pytest.fixture
def driver():
    return Driver()


def test_a_run_is_one_message_per_worker_and_commits_when_all_have_prepared(driver):
    sent = driver.begin()
    assert [(c.worker, type(c.message)) for c in sent] == [("a", Step), ("b", Step)]
    assert driver.prepared(1, "b") == []
    (finish,) = driver.prepared(1, "a")
    assert finish.error is None
    assert finish.answers["a"].values == ["a"]
    assert not driver.machine.running


def test_a_commit_rides_on_the_next_step(driver):
    driver.committed()
    a, b = driver.begin()
    assert verdicts(a.message) == verdicts(b.message) == [(1, Verdict.COMMIT)]


def test_decisions_are_repeated_until_they_are_acknowledged(driver):
    driver.committed()
    driver.committed()
    assert [d.number for d in driver.steps[2, "a"].decisions] == [1]
    driver.begin()
    assert [d.number for d in driver.steps[3, "a"].decisions] == [1, 2]
    driver.prepared(3, "a", applied=2)
    driver.prepared(3, "b", applied=2)
    driver.begin()
    assert verdicts(driver.steps[4, "a"]) == [(3, Verdict.COMMIT)]


def test_a_worker_without_a_part_is_told_once_of_what_is_open_and_then_left_alone(driver):
    driver.committed()
    step, notice = driver.begin("a")
    assert (step.worker, notice.worker) == ("a", "b")
    assert verdicts(notice.message) == [(1, Verdict.COMMIT)]
    driver.prepared(2, "a")
    (only,) = driver.begin("a")
    assert only.worker == "a"


def test_a_refusal_aborts_the_run_and_tells_those_who_still_work(driver):
    driver.begin()
    told, finish = driver.refused(1, "a", InvalidArgumentError("n", None, "bad"))
    assert (told.worker, type(told.message)) == ("b", Notice)
    assert verdicts(told.message) == [(1, Verdict.ABORT)]
    assert finish == Finish(1, {}, finish.error)
    assert finish.error.message == "bad"
    assert driver.prepared(1, "b") == []  # late, and without effect
    driver.begin()
    assert verdicts(driver.steps[2, "a"]) == [(1, Verdict.ABORT)]


def test_output_is_released_before_the_run_ends(driver):
    driver.begin()
    driver.prepared(1, "a", releases=True)
    (told,) = driver.prepared(1, "b")
    assert told.worker == "a"
    assert verdicts(told.message) == [(1, Verdict.COMMIT)]
    assert driver.machine.awaited() == {"a"}
    (finish,) = driver.handle(Answered("a", Applied(1)))
    assert finish.error is None


def test_who_lost_a_race_to_a_committed_run_tries_again_at_once(driver):
    driver.begin()
    driver.prepared(1, "b")
    commands = driver.refused(1, "a")
    assert [(c.worker, c.message.ticket.serial) for c in commands] == [("a", 2), ("b", 2)]
    assert verdicts(commands[1].message) == [(1, Verdict.RETRY)]


def test_who_meets_an_undecided_run_rests_and_at_last_makes_it_give_way(driver):
    driver.begin()
    driver.prepared(1, "a")
    driver.begin()
    pauses = []
    for _ in range(2):
        told, wake = driver.refused(2, "a", holder=(1, "a"))
        assert told.worker == "b"
        pauses.append(wake.seconds)
        assert driver.handle(Woken(2))[0].message.ticket.run == 2
    assert pauses[1] == 2 * pauses[0]
    commands = driver.refused(2, "a", holder=(1, "a"))
    assert Wake in map(type, commands)
    assert {c.run for c in commands if isinstance(c, Wake)} == {1}
    decided = {v for c in commands if isinstance(c, Send) for v in verdicts(c.message)}
    assert (1, Verdict.RETRY) in decided
    assert driver.steps[2, "a"].ticket.serial == 5
    driver.prepared(2, "a")
    assert driver.prepared(2, "b")[0].error is None
    driver.handle(Woken(1))
    assert driver.steps[1, "a"].ticket.serial == 6


def test_a_lost_worker_fails_its_runs_and_all_later_ones(driver):
    driver.begin("a")
    driver.begin("ab")
    told, finish = driver.handle(Lost("b", "killed"))
    assert told.worker == "a"
    assert verdicts(told.message) == [(2, Verdict.ABORT)]
    assert isinstance(finish.error, UnavailableError)
    assert "worker b was lost in run 2: killed" in str(finish.error)
    assert driver.prepared(1, "a")[0].error is None  # it has no part of that worker
    (later,) = driver.begin("a")
    assert isinstance(later.error, UnavailableError)
    assert "b was lost in run 2" in str(later.error)
    assert driver.handle(Lost("b", "again")) == []
    assert driver.machine.generation == 1


def test_a_second_loss_fails_the_runs_that_the_first_one_left(driver):
    driver.begin("a")
    assert driver.handle(Lost("b", "killed")) == []  # it has no part in that
    (finish,) = driver.handle(Lost("a", "killed, too"))
    assert finish.run == 1
    assert isinstance(finish.error, UnavailableError)
    assert "worker a was lost in run 1: killed, too" in str(finish.error)
    (later,) = driver.begin("a")
    assert "worker b was lost" in str(later.error)  # that was the end


def test_what_a_run_waits_for(driver):
    driver.machine = Coordinator("ab", every=4)
    driver.begin()
    driver.prepared(1, "a")
    assert driver.machine.waits_for(1)[0] == {"b"}
    driver.handle(Lost("b", "killed"))
    awaited, why = driver.machine.waits_for(1)
    assert not awaited
    assert driver.machine.awaited() == {"a"}  # else nobody would notice that it is frozen
    assert why == "another worker is to take the place of b, which was lost (killed)"
    (rebuild, _) = driver.handle(Replaced("b"))
    assert driver.machine.waits_for(1)[0] == {"a", "b"}
    driver.handle(Answered("a", Rebuilt(rebuild.message.generation)))
    assert driver.machine.waits_for(1)[0] == {"b"}
    assert driver.machine.waits_for(9) == (set(), "it has ended")


def test_a_frozen_worker_is_a_deadline(driver):
    driver.begin()
    *_, finish = driver.handle(Lost("b", "no sign of life for 3 s", frozen=True))
    assert isinstance(finish.error, DeadlineExceededError)


def test_a_committed_run_stays_so_when_a_worker_is_lost_before_it_knows(driver):
    driver.begin()
    driver.prepared(1, "a", releases=True)
    driver.prepared(1, "b")
    (finish,) = driver.handle(Lost("a", "killed"))
    assert finish.error is None


def test_a_run_that_takes_too_long_is_undone_and_names_who_is_missing(driver):
    driver.begin()
    driver.prepared(1, "a")
    *told, finish = driver.handle(Expired(1, 2.0))
    assert [each.worker for each in told] == ["b", "a"]  # others may wait for what "a" has taken
    assert isinstance(finish.error, DeadlineExceededError)
    assert "run 1 did not finish within 2 s: no answer from b" in str(finish.error)
    assert driver.handle(Expired(1, 2.0)) == []


def test_time_that_runs_out_after_the_commit_is_no_error(driver):
    driver.begin()
    driver.prepared(1, "a", releases=True)
    driver.prepared(1, "b")
    (finish,) = driver.handle(Expired(1, 2.0))
    assert finish.error is None
    assert set(finish.answers) == {"a", "b"}


def test_two_that_lost_to_each_other_do_not_meet_again_at_once(driver):
    """The younger one rests also where the attempt that it met is undone already."""
    for _ in range(2):
        driver.begin()
    met = {run: driver.steps[run, "a"].ticket for run in (1, 2)}
    driver.prepared(1, "b")
    driver.machine._runs[1].losses = driver.machine._runs[2].losses = 5
    rested = driver.handle(Answered("a", Refused(met[1], 0, None, met[2])))
    assert [c.run for c in rested if isinstance(c, Wake)] == [2]
    driver.handle(Woken(2))
    again = Refused(driver.steps[2, "a"].ticket, 0, None, met[1])
    assert [c.run for c in driver.handle(Answered("a", again)) if isinstance(c, Wake)] == [2]


def test_closing_cancels_what_is_under_way(driver):
    driver.committed()
    driver.begin("a")
    commands = driver.handle(Closed())
    (finish,) = [c for c in commands if isinstance(c, Finish)]
    assert isinstance(finish.error, CancelledError)
    assert isinstance(driver.begin()[0].error, CancelledError)


@pytest.fixture
def mirrored():
    """Each worker has copies of what the other one has; a run is committed."""
    driver = Driver()
    driver.machine = Coordinator("ab", every=9)
    held = Holdings(frozenset({StateKey("", "v")}))
    driver.handle(Loaded(1, {"a": held, "b": held}))
    driver.committed()
    return driver


def lose(driver, worker):
    driver.handle(Lost(worker, "killed"))
    return {c.worker: c.message for c in driver.handle(Replaced(worker))}


def test_who_stays_is_told_what_is_committed_until_he_has_said_that_he_knows(mirrored):
    """A second loss may make the first message void before it is taken."""
    for _ in range(2):
        sent = lose(mirrored, "b")
        assert sent["a"].wards == (sent["b"].worker,) == ("b",)
        assert verdicts(sent["a"].staying) == [(1, Verdict.COMMIT)]
        assert verdicts(sent["b"].staying) == []
    for worker in "ab":
        mirrored.handle(Answered(worker, Rebuilt(sent[worker].generation)))
    assert verdicts(lose(mirrored, "b")["a"].staying) == []


def test_who_has_its_state_from_another_worker_was_not_at_the_last_cut(mirrored):
    sent = lose(mirrored, "b")
    for worker in "ab":
        mirrored.handle(Answered(worker, Rebuilt(sent[worker].generation)))
    mirrored.begin()
    for worker in "ab":
        mirrored.prepared(2, worker, releases=True)
    back = lose(mirrored, "a")  # is the output of run 2 out?
    assert {w: m.staying for w, m in back.items()} == {"a": None, "b": None}
    assert back["b"].snapshot is not None
