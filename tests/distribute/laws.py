"""What must hold in the states of a `World`, whatever has happened."""

from __future__ import annotations

from tests.distribute.world import World


def check(world: World) -> None:
    """In every state."""
    assert len(set(world.printed)) == len(world.printed), "output goes out once"
    decided = [run for run, (good, _) in world.ended.items() if good]
    assert set(decided) <= set(world.printed), "it is out when the run ends"
    for run in decided if world.coordinator.failure is None else ():
        out = run % 2 or all((worker, run) in world.out for worker in world.plan[run])
        assert out, "and so is what its workers let out"
    for run in world.coordinator._runs.values():
        owed = [w for w in run.missing if world.coordinator._owes(w, run.ticket)]
        assert run.state != "committing" or owed, "a run ends when its output is out"
    for shard in world.shards.values():
        assert len(set(shard.runs)) == len(shard.runs), "no update is applied twice"
        assert not {*shard.runs} & {*world.unclaimed}, "nothing is committed before its turn"
        if world.series:
            runs = [run for run in shard.runs if run not in world.apart]
            assert runs == sorted(runs), "and none overtakes another"
    for run, (good, seen) in world.ended.items():
        assert not good or run not in {r for values in seen.values() for r in values}


def check_end(world: World, gives_up: bool = False) -> None:
    """Where nothing can happen any more."""
    assert set(world.ended) == set(world.plan), "every run ends"
    if gives_up:
        return
    failed = {r for r in world.plan if world.series and any(f <= r for f in world.fails)}
    good = {run for run, (good, _) in world.ended.items() if good}
    assert good <= world.plan.keys() - failed, "what comes after a failure has no effect"
    if failed:
        for name, shard in world.shards.items():
            assert set(shard.runs) <= good
            told = {d.ticket for d in world.coordinator._peers[name].pending}
            assert shard.attempts.keys() <= told, "and nothing of it stays"
        return
    assert good == set(world.plan), "and succeeds"
    assert sorted(world.printed) == sorted(world.plan)
    for name, shard in world.shards.items():
        told = {d.ticket.run for d in world.coordinator._peers[name].pending}
        mine = {run for run, workers in world.plan.items() if name in workers}
        assert set(shard.runs) | told == mine, "no committed update is lost"
        prepared = {t.run for t, a in shard.attempts.items() if a.promised}
        assert told - set(shard.runs) <= prepared, "and what is left can be applied"
    _agree(world)


def _agree(world: World) -> None:
    """What a run came after is the same on all its workers."""
    for run, (_, seen) in world.ended.items():
        for one in seen:
            for other in seen:
                both = [r for r, ws in world.plan.items() if one in ws and other in ws]
                left, right = ([r for r in seen[x] if r in both] for x in (one, other))
                assert left == right, f"run {run}"
