"""Proxies on real sockets, which misbehave if a test says so: one for a server, one for clients.

Like nginx, the server's proxy keeps its clients' connections open, unless told otherwise.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import socket
import ssl
import struct
import threading
import time
import xmlrpc.client
from collections.abc import Iterator
from typing import Callable
from urllib.parse import urlsplit


class Exchange:
    """A client's request that has no answer yet."""

    def __init__(self, client: socket.socket, upstream: tuple[str, int]) -> None:
        self.client = client
        self._upstream = upstream
        self.request = b""
        self.kept = False  # whether another request may follow

    def read(self) -> bool:
        """Read the whole request; False if the client sent none."""
        length = 0
        with contextlib.suppress(OSError), self.client.makefile("rb") as file:
            for line in file:
                self.request += line
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                elif line == b"\r\n":
                    body = file.read(length)
                    self.request += body
                    return len(body) == length
        return False

    @functools.cached_property
    def method(self) -> str:
        """The method called: "authenticate", or for execute_kw the model's method."""
        head, _, body = self.request.partition(b"\r\n\r\n")
        path = head.split()[1].decode()
        if path.startswith(("/json/2/", "/web/")):
            return path.rpartition("/")[2]
        if body.startswith(b"{"):  # JSON-RPC
            call = json.loads(body)["params"]
            params, name = call["args"], call["method"]
        else:
            params, name = xmlrpc.client.loads(body)
        return str(params[4]) if name == "execute_kw" else str(name)

    def forward(self) -> bytes:
        """Have the server act on the request, and give its whole reply."""
        with socket.create_connection(self._upstream, timeout=60) as server:
            server.sendall(self.request)
            return b"".join(iter(lambda: server.recv(65536), b""))

    def pass_on(self) -> None:
        self.send(self.forward())

    def keep(self, reply: bytes | None = None) -> None:
        """Send a reply, by default the server's, and wait for another request."""
        head, _, body = (self.forward() if reply is None else reply).partition(b"\r\n\r\n")
        status, *headers = head.split(b"\r\n")
        replaced = (b"connection:", b"content-length:")
        headers = [line for line in headers if not line.lower().startswith(replaced)]
        headers.append(b"Content-Length: %d" % len(body))
        lines = (b"HTTP/1.1 " + status.partition(b" ")[2], *headers, b"", body)
        self.kept = True
        self.send(b"\r\n".join(lines))

    def send(self, *pieces: bytes, pause: float = 0.0) -> None:
        """Send pieces with a pause after each, until the client is gone."""
        with contextlib.suppress(OSError):
            for piece in pieces:
                self.client.sendall(piece)
                time.sleep(pause)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def hold(self) -> None:
        """Say nothing until the client gives up."""
        with contextlib.suppress(OSError):
            while self.client.recv(65536):
                pass


Answer = Callable[[Exchange], None]


class Proxy:
    """Passes calls on. A method in `faults` is answered by the function there.

    A fault for "" answers each connection, and nothing is read from it. `calls` holds the methods
    called, in order, `connections` the number of the connection of each, and `open` the numbers of
    open connections. If `keeps` is false, each connection is closed after a reply.
    """

    def __init__(
        self,
        upstream_url: str,
        tls: ssl.SSLContext | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._tls = tls
        self.keeps = True
        parts = urlsplit(upstream_url)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self.faults: dict[str, Answer] = {}
        self.calls: list[str] = []
        self.connections: list[int] = []
        self.open: set[int] = set()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._listener = socket.create_server(address, family=family, backlog=64)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.url = f"http://127.0.0.1:{self.address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # macOS raises it
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the wait in accept()
        self._listener.close()

    @contextlib.contextmanager
    def answering(self, method: str, fault: Answer) -> Iterator[None]:
        self.faults[method] = fault
        self.calls.clear()
        self.connections.clear()
        try:
            yield
        finally:
            del self.faults[method]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            for number in itertools.count(1):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client, number), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        if self._tls:
            try:
                client = self._tls.wrap_socket(client, server_side=True)
            except OSError:  # the client refuses the certificate, or speaks no TLS
                client.close()
                return
        self.open.add(number)
        with client:
            while self._answer(Exchange(client, self._upstream), number):
                pass
        self.open.remove(number)

    def _answer(self, exchange: Exchange, number: int) -> bool:
        """Answer one request; False if that ends the connection."""
        fault = self.faults.get("")
        if not fault and exchange.read():
            self.calls.append(exchange.method)
            self.connections.append(number)
            pass_on = Exchange.keep if self.keeps else Exchange.pass_on
            fault = self.faults.get(exchange.method, pass_on)
        if fault:
            fault(exchange)
        return exchange.kept


class CompanyProxy(Proxy):
    """A company's proxy: for CONNECT, it connects a client with the server that it names.

    All servers' names stand for 127.0.0.1. If there is a fault for "", it answers instead. If
    `login` is set, a client must give it.
    """

    def __init__(self) -> None:
        super().__init__("")
        self.login = b""
        self.requests: list[bytes] = []

    def _answer(self, exchange: Exchange, number: int) -> bool:
        if exchange.read():
            self.requests.append(exchange.request)
            self.faults.get("", self.connect)(exchange)
        return False

    def connect(self, exchange: Exchange) -> None:
        method, server, _ = exchange.request.split(b" ", 2)
        assert method == b"CONNECT"
        login = b"\r\nProxy-Authorization: Basic %b\r\n" % base64.b64encode(self.login)
        if self.login and login not in exchange.request:
            return exchange.send(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n")
        address = "127.0.0.1", int(server.rpartition(b":")[2])
        with socket.create_connection(address, timeout=60) as upstream:
            exchange.send(b"HTTP/1.0 200 Connection established\r\n\r\n")
            both = (exchange.client, upstream), (upstream, exchange.client)
            threads = [threading.Thread(target=pump, args=pair, daemon=True) for pair in both]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return None


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on all that comes, and then its end."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def lose_reply(exchange: Exchange) -> None:
    """The server acts on the request, but the connection breaks before its answer arrives."""
    exchange.forward()
