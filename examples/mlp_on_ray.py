"""The network of `examples/mlp.py`, with its two layers on two workers of a Ray cluster.

    python examples/mlp_on_ray.py

The program is the same, but for the devices that the layers ask for and the session's cluster.
The variables live on the workers; where the gradients are computed, graphflow decides.
"""

import mlp

import graphflow as tf


def main(epochs: int = 8, cluster: tf.Cluster | None = None) -> float:
    """The accuracy on digits that were not trained on.

    Args:
      epochs: passes over the training digits.
      cluster: where to run; None: two workers on this machine, for as long as it takes.
    """
    if cluster is None:
        with tf.Cluster(workers=2) as cluster:
            return main(epochs, cluster)
    model = mlp.build(hidden="/job:worker/task:0", output="/job:worker/task:1")
    with tf.Session(cluster=cluster) as session:
        accuracy = mlp.train(session, model, epochs)
        placement = session.placement([model.loss, model.step], {model.x: None, model.y: None})
        for operation, device in placement.devices.items():
            if operation.type == "MatMul":
                print(f"{operation.name:40} {device}")
    return accuracy


if __name__ == "__main__":
    main()
