"""A line on which everything takes its time, as on the way to a server far away."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from queue import SimpleQueue


class Line:
    """A line to the server at `address`: a request and its answer take `round_trip` seconds.

    A new connection takes a round trip more, as TCP's handshake does, before its first octet. The
    line carries any amount at once. `connections` counts those that clients have made.
    """

    def __init__(self, address: tuple[str, int], round_trip: float = 0.05) -> None:
        self._server, self._round_trip = address, round_trip
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address: tuple[str, int] = self._listener.getsockname()
        self.connections = 0

    def __enter__(self) -> Line:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # which macOS raises
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes who waits in accept()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # of the listener, when it is closed
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
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
        """Read what one end sends until it closes; another thread delivers it when it is due."""
        octets: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        deliver = threading.Thread(target=self._deliver, args=(octets, target), daemon=True)
        deliver.start()
        chunk = b"-"
        while chunk:
            try:
                chunk = source.recv(2**18)
            except OSError:
                chunk = b""
            octets.put((time.monotonic() + self._round_trip / 2, chunk))
        deliver.join()

    def _deliver(self, octets: SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # of a target that is gone: nobody waits for the rest
            while True:
                due, chunk = octets.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not chunk:
                    return target.shutdown(socket.SHUT_WR)
                target.sendall(chunk)
