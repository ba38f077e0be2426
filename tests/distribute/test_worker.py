"""The worker's machine alone: order, decisions, values that come early or late."""

from __future__ import annotations

import itertools

import pytest

from graphflow.base.errors import InternalError
from graphflow.distribute.messages import Decision, Notice, Rebuild, Step, Ticket, Verdict
from graphflow.distribute.worker import (
    TABLE,
    Acknowledge,
    Answer,
    Arrived,
    Cancel,
    Commit,
    Delivered,
    Executed,
    Forget,
    Hold,
    Late,
    Put,
    Recall,
    Rollback,
    Skip,
    Start,
    Worker,
)

ONE, TWO, THREE = Ticket(0, 1, 1), Ticket(0, 2, 2), Ticket(0, 3, 3)


def step(sequence, ticket, *decisions):
    return Arrived(Step(sequence, decisions, ticket, 1, (), False))


def after(sequence, ticket, before, *decisions):
    return Arrived(Step(sequence, decisions, ticket, 1, (), False, None, before))


def decided(number, ticket, verdict):
    return Decision(number, ticket, verdict)


@pytest.fixture
def worker():
    return Worker()


def test_prepare_then_commit_with_the_next_step(worker):
    (start,) = worker.handle(step(1, ONE))
    assert isinstance(start, Start)
    assert worker.handle(Executed(ONE, True)) == [Answer(ONE, "prepared")]
    commit, forget, start = worker.handle(step(2, TWO, decided(1, ONE, Verdict.COMMIT)))
    assert (commit, forget) == (Commit(ONE), Forget(1))
    assert start.step.ticket == TWO
    assert worker.applied == 1


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
def test_messages_are_taken_in_the_order_of_sending(order):
    worker = Worker()
    messages = {1: step(1, ONE), 2: Arrived(Notice(2, ())), 3: step(3, TWO)}
    commands = [c for n in order for c in worker.handle(messages[n])]
    taken = [c.step.sequence if isinstance(c, Start) else c.sequence for c in commands]
    assert taken == [1, 2, 3]


def test_a_repeated_message_and_a_repeated_decision_change_nothing(worker):
    worker.handle(step(1, ONE))
    assert worker.handle(step(1, ONE)) == []
    worker.handle(Executed(ONE, True))
    commit = decided(1, ONE, Verdict.COMMIT)
    worker.handle(Arrived(Notice(2, (commit,))))
    assert worker.handle(Arrived(Notice(3, (commit,)))) == [Acknowledge(3)]


def test_an_abort_wakes_a_running_step_and_is_kept_until_it_ends(worker):
    worker.handle(step(1, ONE))
    abort = decided(1, ONE, Verdict.ABORT)
    assert worker.handle(Arrived(Notice(2, (abort,)))) == [Cancel(ONE), Forget(1), Acknowledge(2)]
    assert worker.handle(Executed(ONE, True)) == [Rollback(ONE), Answer(ONE, "cancelled")]
    assert worker.states == {}


def test_a_retry_keeps_the_input_and_an_abort_does_not(worker):
    worker.handle(step(1, ONE))
    worker.handle(Executed(ONE, True))
    assert worker.handle(Arrived(Notice(2, (decided(1, ONE, Verdict.RETRY),)))) == [
        Rollback(ONE),
        Acknowledge(2),
    ]


def test_values_wait_for_their_step_and_never_reach_another(worker):
    assert worker.handle(Delivered(TWO, "k", 2)) == []
    assert worker.handle(Delivered(ONE, "k", 1)) == []
    (start,) = worker.handle(step(1, ONE))
    assert start.early == {"k": 1}
    assert worker.handle(Delivered(ONE, "l", 3)) == [Put(ONE, "l", 3)]
    worker.handle(Executed(ONE, False))
    assert worker.handle(Delivered(ONE, "m", 4)) == [Late(ONE, "m")]  # its attempt is over
    assert set(worker._early) == {TWO}
    (start,) = worker.handle(step(2, TWO, decided(1, ONE, Verdict.ABORT)))[-1:]
    assert start.early == {"k": 2}


def test_values_of_attempts_that_never_come_are_dropped(worker):
    worker.handle(Delivered(ONE, "k", 1))
    assert worker.handle(step(1, TWO))[0] == Late(ONE, "k")
    assert worker._early == {}


def test_values_from_before_a_loss_are_dropped(worker):
    """Also those that come after that of an attempt which never began here."""
    worker.handle(Delivered(ONE, "k", 1))
    *dropped, recall = worker.handle(Arrived(Rebuild(1, 0, None)))
    assert dropped == [Late(ONE, "k")]
    assert isinstance(recall, Recall)
    assert worker.handle(Delivered(TWO, "k", 2)) == [Late(TWO, "k")]
    assert worker._early == {}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_table_says_what_is_against_the_protocol(verdict):
    worker = Worker()
    worker.handle(step(1, ONE))
    message = Arrived(Notice(2, (decided(1, ONE, verdict),)))
    if ("running", verdict) in TABLE:
        worker.handle(message)
    else:
        assert verdict is Verdict.COMMIT
        with pytest.raises(InternalError, match=r"COMMIT.*is running"):
            worker.handle(message)


def test_who_was_to_try_again_may_be_told_not_to_before_it_has_stopped(worker):
    worker.handle(step(1, ONE))
    worker.handle(Arrived(Notice(2, (decided(1, ONE, Verdict.RETRY),))))
    told = worker.handle(Arrived(Notice(3, (decided(2, ONE, Verdict.ABORT),))))
    assert told == [Forget(ONE.run), Acknowledge(3)]
    assert worker.handle(Executed(ONE, True)) == [Rollback(ONE), Answer(ONE, "cancelled")]


def test_a_step_with_an_old_number_is_refused(worker):
    worker.handle(step(1, TWO))
    with pytest.raises(InternalError, match="comes after"):
        worker.handle(step(2, ONE))


def test_a_step_waits_for_the_one_it_builds_on_and_not_for_the_decision(worker):
    worker.handle(step(1, ONE))
    assert worker.handle(after(2, TWO, ONE)) == [Hold(TWO, (ONE,))]
    assert worker.handle(after(3, THREE, TWO)) == [Hold(THREE, (ONE, TWO))]
    answer, start = worker.handle(Executed(ONE, True))
    assert (answer, start.step.ticket) == (Answer(ONE, "prepared"), TWO)
    commit, forget = worker.handle(Arrived(Notice(4, (decided(1, ONE, Verdict.COMMIT),))))[:2]
    assert (commit, forget) == (Commit(ONE), Forget(1))
    assert worker.handle(Executed(TWO, True))[1].step.ticket == THREE


def test_a_step_begins_at_once_on_what_has_prepared_or_is_committed(worker):
    worker.handle(step(1, ONE))
    worker.handle(Executed(ONE, True))
    hold, start = worker.handle(after(2, TWO, ONE))
    assert (hold, start.step.ticket) == (Hold(TWO, (ONE,)), TWO)
    worker.handle(Executed(TWO, True))
    notice = Notice(3, (decided(1, ONE, Verdict.COMMIT), decided(2, TWO, Verdict.COMMIT)))
    worker.handle(Arrived(notice))
    (start,) = worker.handle(after(4, THREE, TWO))
    assert isinstance(start, Start)


@pytest.mark.parametrize("comes", ["before", "after"])
def test_what_builds_on_a_step_that_is_refused_does_not_begin(worker, comes):
    worker.handle(step(1, ONE))
    steps = [after(2, TWO, ONE), after(3, THREE, TWO)]
    commands = [c for s in steps for c in worker.handle(s)] if comes == "before" else []
    commands += worker.handle(Executed(ONE, False))
    commands += [c for s in steps for c in worker.handle(s)] if comes == "after" else []
    assert [c for c in commands if not isinstance(c, Hold)] == [
        Rollback(ONE),
        Answer(ONE, "refused"),
        Skip(TWO),
        Skip(THREE),
    ]
    undo = [decided(i, t, Verdict.RETRY) for i, t in enumerate((THREE, TWO, ONE), 1)]
    worker.handle(Arrived(Notice(4, tuple(undo))))
    assert not worker.states
    assert not worker._refused


def test_a_step_that_waits_is_undone_without_having_begun(worker):
    worker.handle(step(1, ONE))
    worker.handle(after(2, TWO, ONE))
    undo = Notice(3, (decided(1, TWO, Verdict.RETRY), decided(2, ONE, Verdict.RETRY)))
    assert worker.handle(Arrived(undo)) == [Skip(TWO), Cancel(ONE), Acknowledge(3)]
    assert worker.handle(Executed(ONE, True)) == [Rollback(ONE), Answer(ONE, "cancelled")]
