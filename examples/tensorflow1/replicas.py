"""A distributed program for TensorFlow 1: synchronous training, one process per task.

graphflow run --workers 2 --ps 1 examples/tensorflow1/replicas.py --steps 100

Nothing in it knows of graphflow, or of Ray, which starts the tasks and tells them of each other.
"""

import numpy as np
import tensorflow as tf

flags = tf.app.flags
flags.DEFINE_string("job_name", "worker", "ps or worker")
flags.DEFINE_integer("task_index", 0, "number of the task in its job")
flags.DEFINE_string("ps_hosts", "localhost:2222", "addresses, with commas")
flags.DEFINE_string("worker_hosts", "localhost:2223", "addresses, with commas")
flags.DEFINE_integer("steps", 100, "updates of the weights")
FLAGS = flags.FLAGS

TRUTH = np.array([[1.0], [-2.0], [3.0]], np.float32)


def batch(worker, step):
    """Each worker has data of its own: x [32, 3] and y [32, 1]."""
    x = np.random.default_rng([worker, step]).normal(size=(32, 3)).astype(np.float32)
    return x, x @ TRUTH


def main(_):
    cluster = tf.train.ClusterSpec(
        {"ps": FLAGS.ps_hosts.split(","), "worker": FLAGS.worker_hosts.split(",")}
    )
    server = tf.train.Server(cluster, job_name=FLAGS.job_name, task_index=FLAGS.task_index)
    if FLAGS.job_name == "ps":
        server.join()
    worker, workers = FLAGS.task_index, cluster.num_tasks("worker")
    is_chief = worker == 0
    setter = tf.train.replica_device_setter(
        worker_device=f"/job:worker/task:{worker}", cluster=cluster
    )
    with tf.device(setter):
        x = tf.placeholder(tf.float32, [None, 3])
        y = tf.placeholder(tf.float32, [None, 1])
        w = tf.get_variable("w", [3, 1], initializer=tf.zeros_initializer())
        loss = tf.reduce_mean(tf.square(tf.matmul(x, w) - y))
        global_step = tf.train.get_or_create_global_step()
        optimizer = tf.train.SyncReplicasOptimizer(
            tf.train.MomentumOptimizer(0.02, 0.9), workers, workers
        )
        train = optimizer.minimize(loss, global_step)
    hooks = [
        optimizer.make_session_run_hook(is_chief, num_tokens=0),
        tf.train.StopAtStepHook(last_step=FLAGS.steps),
    ]
    step = 0
    with tf.train.MonitoredTrainingSession(server.target, is_chief, hooks=hooks) as session:
        while not session.should_stop():
            inputs, targets = batch(worker, step)
            weights, _ = session.run([w, train], {x: inputs, y: targets})
            step += 1
        print("worker", worker, "after", step, "steps:", weights.ravel().tolist())


if __name__ == "__main__":
    tf.app.run()
