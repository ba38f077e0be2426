"""A scalar step of TensorFlow's worker and parameter server, two processes over gRPC.

"run N" on standard input runs N steps, and is answered with the seconds they took.
"""

import multiprocessing
import os
import socket
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(hosts):
    import tensorflow.compat.v1 as tf

    tf.train.Server(tf.train.ClusterSpec(hosts), job_name="ps", task_index=0).join()


def main():
    hosts = {name: [f"127.0.0.1:{free_port()}"] for name in ("ps", "worker")}
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(hosts,), daemon=True)
    server.start()
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    worker = tf.train.Server(tf.train.ClusterSpec(hosts), job_name="worker", task_index=0)
    with tf.device("/job:ps/task:0"):
        variable = tf.Variable(1.0)
    with tf.device("/job:worker/task:0"):
        end = tf.identity(variable + 1.0)
    with tf.Session(worker.target) as session:
        session.run(tf.global_variables_initializer())
        for _ in range(20):
            session.run(end)
        print("ready", flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            for _ in range(int(line.split()[1])):
                session.run(end)
            print(time.perf_counter() - start, flush=True)
    server.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
