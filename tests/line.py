"""A line with a delay, as to a server far away."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from queue import SimpleQueue


class Line:
    """A line to the server at `address`: a request and its answer take `round_trip` seconds.

    A new connection takes one more round trip before its first byte, as TCP's handshake does. The
    amount of data makes no difference.
    """

    def __init__(self, address: tuple[str, int], round_trip: float = 0.05) -> None:
        self._server, self._round_trip = address, round_trip
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address: tuple[str, int] = self._listener.getsockname()

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # macOS raises it
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the wait in accept()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        time.sleep(self._round_trip)
        with client, socket.create_connection(self._server) as server:
            ways = ((client, server), (server, client))
            threads = [threading.Thread(target=self._carry, args=way, daemon=True) for way in ways]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        """Read what one end sends until it closes. A thread delivers each chunk when it is due."""
        chunks: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        deliver = threading.Thread(target=self._deliver, args=(chunks, target), daemon=True)
        deliver.start()
        chunk = b"-"
        while chunk:
            try:
                chunk = source.recv(2**18)
            except OSError:
                chunk = b""
            chunks.put((time.monotonic() + self._round_trip / 2, chunk))
        deliver.join()

    def _deliver(self, chunks: SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # the target is gone: nobody waits for the rest
            while True:
                due, chunk = chunks.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not chunk:
                    return target.shutdown(socket.SHUT_WR)
                target.sendall(chunk)
