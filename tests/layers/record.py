"""Record TensorFlow's values of the programs in `table.py`.

    python -m tests.layers.record

needs TensorFlow 2.18 or later; `tf.layers` are the classes that it still has inside.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.layers.table import PROGRAMS
from tests.nn.record_rnn import module

FILE = Path(__file__).parent / "data" / "tensorflow.npz"


def main() -> None:
    from tensorflow.python.keras.legacy_tf_layers import convolutional, core, pooling

    tf = module()
    parts: dict[str, Any] = {}
    for part in (convolutional, core, pooling):
        parts |= {name: getattr(part, name) for name in dir(part)}
    tf.layers = SimpleNamespace(**parts)
    values: dict[str, Any] = {}
    for name, program in PROGRAMS.items():
        with tf.Graph().as_default(), tf.Session() as session:
            tensors = program(tf)
            session.run(tf.global_variables_initializer())
            for i, value in enumerate(session.run(tensors)):
                values[f"{name}/{i}"] = np.asarray(value)
            values[f"{name}/names"] = np.array([t.name for t in tensors])
            values[f"{name}/variables"] = np.array([v.name for v in tf.global_variables()])
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **values)


if __name__ == "__main__":
    main()
