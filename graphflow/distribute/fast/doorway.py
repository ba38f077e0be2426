"""Takes connections from those who know a job's key; all others are refused and counted."""

from __future__ import annotations

import errno
import selectors
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from graphflow.distribute.fast.greeting import PATIENCE, Refused, tuned, welcome
from graphflow.distribute.fast.sender import shut

# The process has no room for a connection, which must not keep its core from making some.
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LATER = 0.1  # seconds
_STRANGERS = 64  # connections at once that have not proven who they are


class Doorway:
    """Listens on a Unix socket, and on TCP where that is wanted.

    Attributes:
      local: name of the Unix socket, which is no file; "": there is none.
      host, port: of TCP; "" and 0: there is none.
      dropped: counts "refused" connections.
    """

    def __init__(
        self,
        local: str,
        interface: str,
        key: bytes,
        secured: Callable[[socket.socket], Any],
        enter: Callable[[str, Any], None],
    ):
        """Args:
        local: name of the Unix socket: who connects has to know it, too.
        interface: address to listen on; "": not on TCP.
        key: the job's.
        secured: wraps a connection in TLS, where it is wanted.
        enter: gets the name of who has come in, and the connection, on a thread of its own; when
          it returns the connection is closed.
        """
        self.dropped: Counter[str] = Counter()
        self.local, self.host, self.port = "", "", 0
        self._key = key
        self._me = local
        self._secured = secured
        self._enter = enter
        self._lock = threading.Lock()
        self._inside: set[Any] = set()
        self._closed = False
        self._pause = threading.Event()  # set when it is closed
        self._strangers = threading.Semaphore(_STRANGERS)
        self._listeners = []
        if sys.platform == "linux":
            self.local = local
            self._listeners.append(_listen(socket.AF_UNIX, local))
        if interface:
            self._listeners.append(_listen(socket.AF_INET, (interface, 0)))
            self.host, self.port = self._listeners[-1].getsockname()
        self._wake, self._woken = socket.socketpair()
        threading.Thread(target=self._accept, name="graphflow-accept", daemon=True).start()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in (*self._listeners, self._woken):
                selector.register(listener, selectors.EVENT_READ)
            ended = False
            while not ended:  # told by `close`, which would find its socket closed otherwise
                # no deadline: strangers may come at any time, and `close` ends it
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        ended = True
                    else:
                        self._take(key.fileobj)
        for each in (*self._listeners, self._wake, self._woken):
            each.close()

    def _take(self, listener: Any) -> None:
        try:
            connection, _ = listener.accept()  # no deadline: it was readable, and does not block
        except OSError as error:
            if error.errno in _FULL:  # it stays there, and `select` tells of it again at once
                self._pause.wait(_LATER)
            return  # else it has gone again
        if not self._strangers.acquire(blocking=False):
            self.dropped["refused"] += 1
            connection.close()
            return
        threading.Thread(
            target=self._serve, args=(connection,), name="graphflow-receive", daemon=True
        ).start()

    def _serve(self, plain: socket.socket) -> None:
        connection: Any = plain
        with self._lock:
            self._inside.add(plain)
            if self._closed:  # it came in the same moment
                shut(plain)
        try:
            try:
                plain.settimeout(PATIENCE)
                connection = self._secured(tuned(plain))
                with self._lock:
                    self._inside.add(connection)
                peer = welcome(connection, self._key, self._me)
            except (Refused, EOFError, OSError):
                self.dropped["refused"] += not self._closed
                return
            finally:
                self._strangers.release()
            self._enter(peer, connection)
        finally:
            with self._lock:
                self._inside -= {plain, connection}
            connection.close()
            plain.close()

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            inside = list(self._inside)
        self._pause.set()
        self._wake.send(b"x")
        for connection in inside:
            shut(connection)


def _listen(family: int, where: Any) -> socket.socket:
    listener = socket.socket(family)
    listener.bind(where)
    listener.listen(128)
    listener.setblocking(False)
    return listener
