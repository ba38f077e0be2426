"""`tf.logging`: Python's logger "graphflow", under TensorFlow's names."""

from __future__ import annotations

import logging
from typing import Any

DEBUG, INFO, WARN, ERROR, FATAL = 10, 20, 30, 40, 50
WARNING = WARN

_logger = logging.getLogger("graphflow")
debug = _logger.debug
info = _logger.info
warn = warning = _logger.warning
error = _logger.error
fatal = critical = _logger.critical
log = _logger.log


def set_verbosity(level: Any) -> None:
    """Show what is at least so grave, on stderr unless the program has set up logging itself."""
    if not _logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
        _logger.addHandler(handler)
    _logger.setLevel(level)


def get_verbosity() -> int:
    """The least grave level that is shown."""
    return _logger.getEffectiveLevel()


def get_logger() -> logging.Logger:
    """The logger."""
    return _logger


def log_first_n(level: int, msg: str, n: int, *args: Any) -> None:
    """Log a message at most n times."""
    count = _counts[msg] = _counts.get(msg, 0) + 1
    if count <= n:
        _logger.log(level, msg, *args)


_counts: dict[str, int] = {}


def flush() -> None:
    """Write out what handlers hold back."""
    for handler in _logger.handlers:
        handler.flush()
