"""Sessions on real Ray workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zmq

import graphflow as tf
from graphflow.base import errors
from graphflow.distribute.addresses import refusal
from graphflow.distribute.cluster import _ray
from graphflow.ops.collectives import all_reduce, ordered_sum
from tests.distribute.programs import train
from tests.until import PATIENCE, forked, until

pytestmark = pytest.mark.ray

PERMITTED = refusal() is None
T0, T1 = "/job:worker/task:0", "/job:worker/task:1"
W0, W1 = "/job:worker/replica:0/task:0", "/job:worker/replica:0/task:1"


def test_two_workers_train_to_the_very_bits_of_one_process(either, graph):
    losses, weights = train(None, steps=12)
    for scopes in ((T0, T1), (None, None)):
        with tf.Graph().as_default():
            far_losses, far_weights = train(either, steps=12, scopes=scopes)
        np.testing.assert_array_equal(far_losses, losses)
        for far, near in zip(far_weights, weights, strict=True):
            np.testing.assert_array_equal(far, near)


def test_a_fork_does_not_end_the_workers(either, graph):
    v = tf.Variable(3.0)

    def child():
        session.close()
        either.close()
        either._finalizer()  # as at the end of a process
        with pytest.raises(RuntimeError, match="the process that has started it"):
            tf.Session(cluster=either)

    with tf.Session(cluster=either) as session:
        session.run(v.initializer)
        assert forked(child)
        assert session.run(v) == 3.0
    with tf.Session(cluster=either) as session:
        session.run(v.initializer)


def test_a_step_is_one_call_per_worker_and_variables_stay_where_they_are(shared, graph):
    size = 100_000
    with tf.device(T0):
        big = tf.Variable(tf.ones([size]), name="big")
        total = tf.reduce_sum(big.assign_add(tf.ones([size])))
    with tf.device(T1):
        seen = tf.Variable(0.0, name="seen")
        step = seen.assign(total)
    with tf.Session(cluster=shared) as session:
        session.run(tf.global_variables_initializer())
        session.run(step.op)
        before = session._target.statistics()
        for _ in range(10):
            session.run(step.op)
        after = session._target.statistics()
        for worker in (W0, W1):
            counts = {k: after[worker][k] - before[worker].get(k, 0) for k in after[worker]}
            assert counts["steps"] == 10
            assert counts.get("notices", 0) == counts["loads"] == 0
        assert after[W0]["sent"] - before[W0]["sent"] == 10  # the sums
        assert after[W0]["bytes"] - before[W0]["bytes"] == 40
        assert after[W1]["sent"] == before[W1]["sent"]
        assert session.run(seen) == size * 12


def test_large_values_travel_and_come_back_as_the_users_own(either, graph):
    x = tf.placeholder(tf.float32, [None])
    with tf.device(T0):
        v = tf.Variable(np.zeros(300_000, np.float32))
        there = v.assign(x)
    with tf.device(T1):
        back = tf.Variable(np.zeros(300_000, np.float32))
        kept = back.assign(there)
    feed = np.arange(300_000, dtype=np.float32)
    with tf.Session(cluster=either) as session:
        session.run(tf.global_variables_initializer())
        got = session.run(kept, {x: feed})
        feed[:] = 0
        got[:] = -1
        np.testing.assert_array_equal(session.run(v), np.arange(300_000))
        np.testing.assert_array_equal(session.run(back), np.arange(300_000))


def test_sums_over_replicas_have_the_bits_of_one_process(either, graph):
    data = [np.random.default_rng(i).standard_normal((3, 40_000)).astype("f") for i in range(4)]
    fed = [tf.placeholder(tf.float32, x.shape) for x in data]
    buckets = []
    for i, x in enumerate(fed):  # two replicas on each worker
        with tf.device((T0, T1, T1, T0)[i]):
            buckets.append([x * 1.0, x[0, :5] * 3.0])
    sums = all_reduce(buckets)
    with tf.device(T1):
        again = tf.reduce_sum(sums[1][0] - sums[0][0])
    feeds = dict(zip(fed, data, strict=True))
    with tf.Session(cluster=either) as session:
        for _ in range(3):
            got, difference = session.run([sums, again], feeds)
            assert difference == 0.0
    for t, terms in enumerate(([x * 1.0 for x in data], [x[0, :5] * np.float32(3) for x in data])):
        wanted = ordered_sum(np, terms)
        for bucket in got:
            np.testing.assert_array_equal(bucket[t], wanted)


def test_overlapping_runs_lose_no_update(shared, graph):
    with tf.device(T0):
        a = tf.Variable(0.0)
        up_a = a.assign_add(1.0).op
    with tf.device(T1):
        b = tf.Variable(0.0)
        up_b = b.assign_add(1.0).op
    both = tf.group(up_a, up_b)
    with tf.Session(cluster=shared) as session:
        session.run(tf.global_variables_initializer())
        for fetch in (up_a, up_b, both):
            session.run(fetch)
        fetches = (up_a, both, up_b) * 6
        with ThreadPoolExecutor(4) as pool:
            runs = [pool.submit(lambda: [session.run(f) for f in fetches]) for _ in range(4)]
            for each in runs:
                each.result(PATIENCE)
        assert session.run([a, b]) == [2 + 48, 2 + 48]


def test_errors_come_back_typed_with_both_lines(shared, graph):
    x = tf.placeholder(tf.int32, [None])
    with tf.device(T1):
        bad = tf.reshape(tf.zeros([4]), x, name="bad")
    with tf.Session(cluster=shared) as session:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            session.run(bad, {x: [3]})
        notes = "\n".join(caught.value.__notes__)
        assert 'bad = tf.reshape(tf.zeros([4]), x, name="bad")' in notes
        assert "session.run(bad, {x: [3]})" in notes
        assert caught.value.op is bad.op
        np.testing.assert_array_equal(session.run(bad, {x: [2, 2]}), np.zeros((2, 2)))


def test_steps_go_past_ray_and_what_is_no_plain_data_by_it(shared, graph):
    x = tf.placeholder(tf.float32, [None])
    with tf.device(T1):
        y = tf.reduce_sum(x)
        name = tf.py_func(lambda v: np.array([str(v), b"b"], object), [x], tf.string)
    with tf.Session(cluster=shared) as session:
        assert session.run(y, {x: np.ones(50_000, np.float32)}) == 50_000
        assert list(session.run(name, {x: [1.0]})) == [b"[1.]", b"b"]
        link = session._target.conductor._link
        calls = []
        link._slow.send = lambda *arguments: calls.append(arguments)
        assert session.run(y, {x: [2.0, 3.0]}) == 5.0
        assert not calls
        assert not link._network.dropped


def test_strangers_are_refused_and_counted(by_sockets, graph):
    """At the ports of the driver and of a worker, whoever has no keys."""
    network = by_sockets._networks[0]
    invitation = network.exchange.invite("nobody")
    context = zmq.Context()
    stranger = context.socket(zmq.PUSH)
    stranger.linger = 0
    stranger.connect(invitation.answers)
    with suppress(zmq.Again):  # it is refused already, and would wait for ever
        stranger.send(b"\x80\x04N.", zmq.DONTWAIT)  # a pickle
    with tf.Session(cluster=by_sockets) as session:
        place = network._addresses[W1]
        with socket.create_connection((place.host, place.port), timeout=PATIENCE) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 20)
            with suppress(OSError):
                raw.recv(10)
        until(lambda: by_sockets.dropped.get("refused"))
        until(lambda: session._target.statistics()[W1].get("refused"))
        assert session.run(tf.constant(2.0)) == 2.0
        assert "malformed" not in by_sockets.dropped
    stranger.close()
    context.term()


def test_workers_are_other_processes_with_their_share_of_threads_and_our_priority(shared):
    found = shared.workers.values()
    assert len({w.pid for w in found} | {os.getpid()}) == 3
    assert {w.threads for w in found} == {1}
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert {os.getpriority(os.PRIO_PROCESS, w.pid) for w in found} == {ours}
    assert list(shared.topology.by_name) == [f"{w}/device:CPU:0" for w in (W0, W1)]


@pytest.fixture(scope="module")
def placed(ray_is_up: None) -> list[list[tuple[set[int], list[str]]]]:
    """Processors and addresses of workers that are bound and start without randomization; before
    one is lost, and after."""
    with tf.Graph().as_default():
        with tf.device(T1):
            v = tf.Variable(1.0)
        add = v.assign_add(1.0)
        options = {"bind_cpus": True, "disable_aslr": PERMITTED}
        with tf.Cluster(2, **options) as cluster, tf.Session(cluster=cluster) as session:
            session.run(v.initializer)
            before = [_place(worker.pid) for worker in cluster.workers.values()]
            os.kill(cluster.workers[W1].pid, signal.SIGKILL)
            assert session.run(add) == 2.0
            after = [_place(worker.pid) for worker in cluster.workers.values()]
    return [before, after]


def _place(pid: int) -> tuple[set[int], list[str]]:
    """The processors of a process, and where its program lies and the loader of libraries."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    code = [line for line in lines if " r-xp " in line]
    return os.sched_getaffinity(pid), [code[0], *(line for line in code if "/ld-" in line)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_workers_are_bound_to_processors_of_their_own_also_who_replaces_a_lost_one(placed):
    before, after = [[processors for processors, _ in each] for each in placed]
    assert [len(each) for each in before] == [1, 1]
    assert before[0] != before[1]
    assert after == before


@pytest.mark.skipif(not PERMITTED, reason="randomization may not be turned off here")
def test_workers_have_the_same_addresses_also_who_replaces_a_lost_one(placed):
    first, second, again, new = [addresses for each in placed for _, addresses in each]
    assert first == second == again == new


@pytest.mark.parametrize(
    ("cpus", "threads"), [(0, "1"), (0.5, "1"), (1, "1"), (2, "2"), (3.5, "3")]
)
def test_a_worker_has_as_many_threads_as_ray_reserves_cpus(cpus, threads):
    from graphflow.distribute.ray_transport import _environment

    libraries = ("OMP", "OPENBLAS", "MKL")
    told = _environment(cpus)["env_vars"]
    assert {told[f"{library}_NUM_THREADS"] for library in libraries} == {threads}


def test_more_than_ray_has_is_refused_at_once(ray_is_up):
    with pytest.raises(errors.InvalidArgumentError, match="need 80 CPUs, but Ray has 8"):
        tf.Cluster(workers=2, cpus_per_worker=40)


def test_gpus_that_cupy_cannot_use_are_refused(ray_is_up):
    """Ray counts two GPUs here, which do not exist."""
    with pytest.raises(errors.InvalidArgumentError, match=r"1 GPUs, but CuPy can use 0"):
        tf.Cluster(workers=1, gpus_per_worker=1)


def test_workers_that_do_not_start_in_time_are_named(shared):
    with pytest.raises(errors.UnavailableError, match=r"task:0 did not start within 0.01 s"):
        tf.Cluster(workers=1, start_deadline=0.01)


def test_a_function_whose_module_the_workers_lack_is_an_error_that_names_it(
    shared, graph, tmp_path, monkeypatch
):
    (tmp_path / "only_here.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    y = tf.py_func(only_here.double, [tf.constant([1.0])], tf.float32)
    with tf.Session(cluster=shared) as session:
        with pytest.raises(errors.UnavailableError, match=r"cannot load: .*'only_here'"):
            session.run(y)
        assert session.run(tf.constant(2.0)) == 2.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"transport": "pigeon"},
        {"cpus_per_worker": -1},
        {"deadline": 0},
        {"deadline": float("nan")},
        {"backup_every": 0},
        {"min_workers": 3},
        {"min_workers": 0},
    ],
)
def test_arguments_are_checked_before_anything_starts(wrong):
    ((name, _),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}=.*: it must be"):
        tf.Cluster(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": "2"}, r"workers='2': it must be a whole number, not a str"),
        ({"workers": 2.5}, r"workers=2\.5: it must be a whole number"),
        ({"spares": True}, r"spares=True: it must be a whole number"),
        ({"backup_every": "1"}, r"backup_every='1': it must be a whole number, not a str"),
        ({"min_workers": 1.5}, r"min_workers=1\.5: it must be a whole number"),
        ({"deadline": "30"}, r"deadline='30': it must be a number, not a str"),
    ],
)
def test_arguments_of_another_kind_are_named(wrong, message):
    with pytest.raises(TypeError, match=message):
        tf.Cluster(**wrong)


def test_an_address_where_nothing_listens_is_told_at_once():
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(tf.errors.UnavailableError, match=f"no Ray answers at {address}"):
            _ray()._knock(address)


def test_the_processes_of_a_ray_of_our_own_are_waited_for(monkeypatch):
    """A killed one that is not gone in a second would be warned of whenever it is collected."""
    transport, asked = _ray(), []
    known = {"is_initialized": lambda: False, "init": lambda: None}
    fake = SimpleNamespace(**known, shutdown=lambda **options: asked.append(options))
    monkeypatch.setattr(transport, "ray", fake)
    connection = transport._Connection()
    connection.open({})
    connection.close()
    assert asked == [{"wait_for_processes": True}]


def test_a_ray_of_its_own_is_refused_beside_another(ray_is_up):
    with pytest.raises(RuntimeError, match="leave the address out"):
        tf.Cluster(workers=1, address="local")


def test_a_cluster_starts_and_ends_its_own_ray(tmp_path):
    """In a process of its own, without graphflow on its path but by sys.path."""
    program = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import graphflow as tf
        assert "ray" not in sys.modules
        with tf.Cluster(workers=2, object_store_memory=100 << 20) as cluster:
            import ray
            assert ray.is_initialized()
            assert ray.util.get_node_ip_address() == "127.0.0.1"
            with tf.device("/job:worker/task:1"):
                v = tf.Variable(40.0)
            with tf.device("/job:worker/task:0"):
                y = v + 2.0
            session = tf.Session(cluster=cluster)
            session.run(v.initializer)
            print(session.run(y))
            tf.Cluster(workers=1, cpus_per_worker=0).close()
            print(session.run(y))
        assert not ray.is_initialized()
        for use in (lambda: tf.Session(cluster=cluster), lambda: session.run(y)):
            try:
                use()
            except (RuntimeError, tf.errors.OpError) as error:
                print("closed" in str(error))
        cluster.close()
        """
    root = os.path.dirname(os.path.dirname(os.path.abspath(tf.__file__)))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), root],
        capture_output=True, text=True, timeout=200, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["42.0", "42.0", "True", "True"]


def test_steps_that_begin_ahead_have_the_bits_of_a_loop(either, graph):
    """Of rows of a table, too, which are written in place."""
    with tf.device(T0):
        table = tf.get_variable("t", [40_000, 8], initializer=tf.constant_initializer(0.5))
    ids = tf.placeholder(tf.int32, [None])
    with tf.device(T1):
        w = tf.get_variable("w", [8], initializer=tf.constant_initializer(0.1))
        loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(table, ids)) * w)
    fetch = [loss, tf.train.AdagradOptimizer(0.1).minimize(loss)]
    feeds = [{ids: [5, i % 3, 7]} for i in range(12)]
    found = []
    with tf.Session(cluster=either) as session:
        for in_flight in (1, 4):
            session.run(tf.global_variables_initializer())
            losses = [r[0] for r in session.run_steps(fetch, feeds, in_flight=in_flight)]
            found.append([losses, session.run(table)[:8].tolist(), session.run(w).tolist()])
    assert found[0] == found[1]
