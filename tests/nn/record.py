"""Record TensorFlow's values of the programs in `table.py`.

    python -m tests.nn.record

needs TensorFlow 2.18 or later, of which it uses `tensorflow.compat.v1`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.nn.table import PROGRAMS

FILE = Path(__file__).parent / "data" / "tensorflow.npz"


def main() -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    values = {}
    for name, program in PROGRAMS.items():
        with tf.Graph().as_default(), tf.Session() as session:
            for i, value in enumerate(session.run(program(tf))):
                values[f"{name}/{i}"] = np.asarray(value)
    np.savez_compressed(FILE, **values)


if __name__ == "__main__":
    main()
