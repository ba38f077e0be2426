"""How many threads the matrix products of this process use."""

from __future__ import annotations


def limit_threads(count: int) -> None:
    """Let BLAS use so many threads, in the whole process, as TensorFlow's first session does.

    The number decides how products are split, and so about their last bits: runs that are to
    agree bit for bit need the same one everywhere.  A Ray worker has as many as it has CPUs.
    """
    from threadpoolctl import threadpool_limits  # 20 ms to import, and seldom needed

    threadpool_limits(limits=count, user_api="blas")
