"""A connection that can be cut, refused and slowed down, between a client and a server."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Relay:
    """A proxy that can be told to drop what goes through it, to refuse, and to be slow.

    up: whether it takes connections; slow_s: pause before each piece on its way to the server, once
    slow_after_bytes have passed.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target, self.up, self.slow_s = (host, port), True, 0.0
        self.passed = self.slow_after_bytes = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Cut every connection."""
        for end in list(self._open):
            self._shut(end)

    def close(self) -> None:
        self.up = False
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.up:
                self._shut(near)
                continue
            try:
                far = socket.create_connection(self.target)
            except OSError:
                self._shut(near)
                continue
            self._open |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        try:
            while piece := source.recv(1 << 16):
                if upwards:
                    self.passed += len(piece)
                    time.sleep(self.slow_s if self.passed > self.slow_after_bytes else 0)
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            self._shut(source)
            self._shut(sink)

    def _shut(self, end: socket.socket) -> None:
        self._open.discard(end)
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
