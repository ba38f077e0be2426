"""Record what TensorFlow 1's API gives for the programs: run with tensorflow-cpu installed.

python -m tests.build.record
"""

from __future__ import annotations

import json


def main() -> None:
    import tensorflow.compat.v1 as tf

    from tests.build import programs

    tf.disable_v2_behavior()
    programs.load()
    found = {name: programs.outcome(tf, name) for name in sorted(programs.PROGRAMS)}
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name])}" for name in found)
    programs.GOLDEN.write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main()
