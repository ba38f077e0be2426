"""`tf.app`."""

from graphflow.compat import flags
from graphflow.compat.flags import run

__all__ = ["flags", "run"]
