"""The network of `examples/mlp.py`, trained by four replicas on two workers of a Ray cluster.

    python examples/data_parallel.py

The program builds the loss of one batch; `DataParallel` rewrites the graph.  Four replicas share
each batch, whichever devices carry them, so that the weights are the same on one worker, on two
and in this process, to the last bit.
"""

import hashlib
import os

import mlp

import graphflow as tf

REPLICAS = 4


def train(devices: int, cluster: tf.Cluster | None, epochs: int) -> tuple[float, str]:
    """The accuracy, and a digest of the weights.

    Args:
      devices: on how many workers of the cluster.
      cluster: None: in this process.
      epochs: passes over the training digits.
    """
    with tf.Graph().as_default():
        inner = tf.train.MomentumOptimizer(0.05, momentum=0.9)
        optimizer = tf.distribute.DataParallel(inner, REPLICAS, devices)
        model = mlp.build(optimizer=optimizer)
        config = tf.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=1)
        with tf.Session(config=config, cluster=cluster) as session:
            # The mean of the replicas' losses: the loss itself would be computed once more.
            accuracy = mlp.train(session, model._replace(loss=optimizer.loss), epochs)
            weights = session.run(tf.trainable_variables())
    return accuracy, hashlib.sha256(b"".join(w.tobytes() for w in weights)).hexdigest()[:16]


def main(epochs: int = 4, cluster: tf.Cluster | None = None) -> list[tuple[float, str]]:
    """Accuracy and digest: in this process, on one worker, on two."""
    if cluster is None:
        os.environ.setdefault("GRAPHFLOW_TIER", "reference")  # native code rounds in its own way
        with tf.Cluster(workers=2) as cluster:
            return main(epochs, cluster)
    found = []
    for devices, where in ((1, None), (1, cluster), (2, cluster)):
        accuracy, digest = train(devices, where, epochs)
        print(f"{devices} worker(s), {'this process' if where is None else 'Ray'}: {digest}")
        found.append((accuracy, digest))
    return found


if __name__ == "__main__":
    main()
