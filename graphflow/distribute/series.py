"""Runs that begin ahead: the next one of a series is sent before the last one is decided on.

On each worker a run sees what the one before it has prepared there, so the workers need not wait
for the driver.  The results are those of runs one after the other:

- A run of a series is committed after the one before it.  Where that one is undone, it is, too, and
  both begin again in their order; where that one fails, it is cancelled.
- It is committed when it is *claimed*: whoever runs the series asks for its result.  If he never
  does, nothing has happened.
- What is committed meanwhile comes first: runs that began ahead are undone, and begin again.

Between that, a run of a series is *following* where it cannot begin ahead, as the one before it
does not run, or does so on other workers; and *yielding* from when it has made way for other runs
until one of them has ended.
"""

from __future__ import annotations

from graphflow.base.errors import CancelledError, OpError
from graphflow.distribute.events import Answered, Begin, Command, Event
from graphflow.distribute.messages import Refused, Ticket, Verdict
from graphflow.distribute.runs import Run, Runs

DECIDED = ("committing", "interrupted")  # states of runs that are committed


class Series(Runs):
    """Decides on runs of which some begin before their turn."""

    @property
    def _begins(self) -> bool:
        """May runs be started?"""
        return True

    def _new(self, event: Begin) -> Run:
        """A run, in its place."""
        run = Run(event.run, event.plan, event.feeds, event.traced, Ticket(0, 0, 0))
        run.ahead = event.ahead
        before = self._runs.get(event.after)
        if before is not None and before.state not in DECIDED:
            run.before, before.next = before.number, run.number
        self._runs[run.number] = run
        return run

    def _follow(self, run: Run) -> list[Command]:
        """Start a run, once the one before it is under way on the same workers, or through."""
        before = self._runs.get(run.before)
        if before is None or (
            before.state == "running" and before.feeds.keys() == run.feeds.keys()
        ):
            return self._start(run)
        run.state = "following"
        return []

    def _start(self, run: Run) -> list[Command]:
        commands = super()._start(run)
        after = self._runs.get(run.next)
        if after is not None and after.state == "following":
            commands += self._follow(after)
        return commands

    def _claim(self, run: Run, event: Event) -> list[Command]:
        run.ahead = False
        return self._follow(run) if run.state == "yielding" else self._take_turn(run)

    def _withdraw(self, run: Run, event: Event) -> list[Command]:
        error = CancelledError(None, None, f"run {run.number} was withdrawn")
        return self._abort(run, error)

    # ---- deciding

    def _rank(self, run: Run) -> int:
        """That of the first one of its series, before which it cannot be committed."""
        while run.before:
            run = self._runs[run.before]
        return run.number

    def _commit(self, run: Run) -> list[Command]:
        if run.before or run.ahead:
            return []  # its turn will come
        commands: list[Command] = []
        if any(answer.changes for answer in run.answers.values()):
            for other in list(self._runs.values()):
                if other.ahead and other.state == "running" and not self._builds(other, run):
                    commands += self._yield(other)
        after = self._runs.get(run.next)
        run.next = 0
        if after is not None:
            after.before = 0
        commands += super()._commit(run)
        return commands + (self._take_turn(after) if after is not None else [])

    def _builds(self, run: Run, base: Run) -> bool:
        """Does a run see what that one does?"""
        while run is not base and run.before:
            run = self._runs[run.before]
        return run is base

    def _take_turn(self, run: Run) -> list[Command]:
        """Do what was put off until the run before it is committed, or it is claimed."""
        if run.before:
            return []
        if run.state == "following":
            return self._follow(run)
        if run.state != "running":
            return []
        if run.parked is not None:
            return self._refused(run, run.parked)
        return [] if run.missing else self._commit(run)

    def _refused(self, run: Run, event: Answered) -> list[Command]:
        assert isinstance(event.reply, Refused)
        if run.before or (run.ahead and event.reply.error is not None):
            run.parked = run.parked or event  # what it saw may come to nothing
            return []
        return super()._refused(run, event)

    def _yield(self, run: Run) -> list[Command]:
        while (before := self._runs.get(run.before)) is not None and before.ahead:
            run = before
        commands = self._undo(run, Verdict.RETRY)
        run.state = "yielding"
        run.missing = set()
        return commands

    def _rest(self, run: Run) -> list[Command]:
        return self._yield(run) if run.ahead else super()._rest(run)

    def _undo(self, run: Run, verdict: Verdict) -> list[Command]:
        commands: list[Command] = []
        after = self._runs.get(run.next)
        if after is not None:
            commands = self._undo(after, Verdict.RETRY)
            if after.state in ("running", "yielding"):
                after.state = "following"
                after.missing = set()
        return commands + super()._undo(run, verdict)

    def _finish(self, run: Run, error: OpError | None) -> list[Command]:
        if run.number not in self._runs:
            return []  # the one before it has ended
        commands = super()._finish(run, error)
        before, after = self._runs.get(run.before), self._runs.get(run.next)
        if before is not None:
            before.next = 0
        if after is not None:
            after.before = 0
            message = f"run {after.number}: the run before it has failed"
            commands += self._finish(after, CancelledError(None, None, message))
        if self._begins:
            for other in list(self._runs.values()):
                if other.state == "yielding":
                    commands += self._follow(other)
        return commands
