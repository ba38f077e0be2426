"""An embedding in two shards on two parameter servers, trained by workers that wait for nobody.

    python examples/parameter_servers.py

The servers and workers of this example are threads of one process; `graphflow run --workers N
--ps M` makes them processes on a Ray cluster.  Only the rows of a batch travel and are written,
so that a step takes as long with a table of a hundred times the rows.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import graphflow as tf

WORDS, WIDTH, BATCH = 1_000, 16, 64
RATE = 2.0


def batch(worker: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Words, and what is to be learned of them: their last three bits."""
    words = np.random.default_rng([worker, step]).integers(0, WORDS, BATCH)
    return words, (words[:, None] >> np.arange(3) & 1).astype(np.float32)


def train(target: str, worker: int, steps: int, chief: bool = True) -> list[float]:
    """The losses of a worker.

    Args:
      target: of the worker's server; "" for a session of its own.
      worker: its number; the chief initialises.
    """
    cluster = {"ps": ["ps0:2222", "ps1:2222"], "worker": ["worker0:2222", "worker1:2222"]}
    setter = tf.train.replica_device_setter(
        worker_device=f"/job:worker/task:{worker}", cluster=cluster
    )
    with tf.Graph().as_default():
        with tf.device(setter):
            ids = tf.placeholder(tf.int32, [None])
            bits = tf.placeholder(tf.float32, [None, 3])
            shards = [
                tf.get_variable(f"shard{i}", [WORDS // 2, WIDTH],
                                initializer=tf.random_normal_initializer(stddev=0.3, seed=i))
                for i in range(2)
            ]  # fmt: skip
            w = tf.get_variable("w", [WIDTH, 3], initializer=tf.glorot_uniform_initializer(seed=9))
            logits = tf.matmul(tf.nn.embedding_lookup(shards, ids), w)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=bits, logits=logits)
            loss = tf.reduce_sum(losses) / BATCH
            step = tf.train.GradientDescentOptimizer(RATE).minimize(loss)
        found = []
        config = tf.ConfigProto(allow_soft_placement=not target)
        creator = tf.train.ChiefSessionCreator if chief else tf.train.WorkerSessionCreator
        with tf.train.MonitoredSession(creator(master=target, config=config)) as session:
            for i in range(steps):
                words, wanted = batch(worker, i)
                value, _ = session.run([loss, step], {ids: words, bits: wanted})
                found.append(float(value))
    return found


def main(steps: int = 600, workers: int = 2) -> list[list[float]]:
    """Each worker's losses."""
    jobs = {"ps": ["ps0:2222", "ps1:2222"], "worker": ["worker0:2222", "worker1:2222"]}
    tasks = [(job, i) for job in jobs for i in range(len(jobs[job]))]
    servers = {task: tf.train.Server(jobs, *task) for task in tasks}
    with ThreadPoolExecutor(workers) as pool:
        targets = [servers["worker", i].target for i in range(workers)]
        runs = [pool.submit(train, t, i, steps, i == 0) for i, t in enumerate(targets)]
        found = [run.result() for run in runs]
    for server in servers.values():
        server.stop()
    for worker, losses in enumerate(found):
        print(f"worker {worker}: first loss {losses[0]:.3f}, last loss {losses[-1]:.3f}")
    return found


if __name__ == "__main__":
    main()
