"""Record TensorFlow's values of the programs in `rnn_table.py`.

    python -m tests.nn.record_rnn

needs TensorFlow 2.18 or later, of which it uses `tensorflow.compat.v1` and, where Keras 3 hides
them there, the classes of `tf.nn.rnn_cell` themselves.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.nn.rnn_table import PROGRAMS

FILE = Path(__file__).parent / "data" / "rnn.npz"


def module() -> Any:
    """TensorFlow 1's module as it was."""
    import tensorflow.compat.v1 as tf
    from tensorflow.python.ops import rnn_cell_impl

    tf.disable_eager_execution()
    tf.disable_control_flow_v2()
    names = {name: getattr(tf.nn, name) for name in dir(tf.nn) if name != "rnn_cell"}

    class TensorFlow:
        nn = SimpleNamespace(**names, rnn_cell=rnn_cell_impl)

        def __getattr__(self, name: str) -> Any:
            return getattr(tf, name)

    return TensorFlow()


def main() -> None:
    tf = module()
    values: dict[str, Any] = {}
    for name, program in PROGRAMS.items():
        with tf.Graph().as_default(), tf.Session() as session:
            tensors = program(tf)
            session.run(tf.global_variables_initializer())
            for i, value in enumerate(session.run(tensors)):
                values[f"{name}/{i}"] = np.asarray(value)
            values[f"{name}/names"] = np.array([t.name for t in tensors])
            values[f"{name}/variables"] = np.array([v.name for v in tf.global_variables()])
    np.savez_compressed(FILE, **values)


if __name__ == "__main__":
    main()
