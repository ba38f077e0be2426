"""Record what TensorFlow's optimizers compute: python tests/train/data/record_optimizers.py

Needs tensorflow-cpu (recorded with 2.21, in compat.v1 mode).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tensorflow.compat.v1 as tf

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import programs  # noqa: E402

tf.disable_v2_behavior()
recorded = {
    f"{name}{' sparse' if sparse else ''}": programs.train(tf, name, sparse)
    for name in programs.OPTIMIZERS
    for sparse in (False, True)
}
(HERE / "optimizers.json").write_text(json.dumps(recorded, indent=1) + "\n")
