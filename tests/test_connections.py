"""Connections that are kept: when one is used again, and what is never taken for a reply.

What servers do to the second request of a connection is in test_faults, beside the first.
"""

from __future__ import annotations

import _thread
import contextlib
import gzip
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from typing import Any
from unittest import mock

import library_xmlrpc
from library_xmlrpc import (
    BadReplyError,
    ConnectError,
    LibraryAPI,
    LibraryError,
    ServerError,
    UnknownOutcomeError,
    _body,
)
from tests.nginx import CERTIFICATES
from tests.proxy import Answer, Exchange, Proxy
from tests.replies import fault, http, keeps, raw, sends, trickles, value
from tests.support import StandInTestCase, enter
from tests.test_tls import beneath, server_context

SOON = 5.0  # seconds, on a busy machine
VERSION = value("<struct><member><name>a</name><value>b</value></member></struct>")


def kept(reply: bytes) -> bytes:
    return reply.replace(b"Connection: close\r\n", b"")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


class ConnectionTestCase(StandInTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.proxy = enter(self, Proxy(self.standin.url))
        self.api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", timeout=SOON)
        self.addCleanup(self.api.close)

    def ask(self) -> int:
        """The number of the connection that a question uses. (Its answer must be right.)"""
        self.assertEqual(self.api.version()["server_version"], "14.0")
        return self.proxy.connections[-1]

    def check_create(self) -> None:
        """The reply to a change is its own."""
        (book,) = type(self).api._read([self.api.create("Emilia")])
        self.assertEqual(book["name"], "Emilia")


class ReuseTests(ConnectionTestCase):
    def test_one_connection_for_one_call_after_another(self) -> None:
        id = self.api.create("Emma")
        self.api.write(id, "Emilia")
        self.api.unlink(id)
        self.assertEqual(self.api.search_read("no such book"), [])
        self.assertEqual(len(self.proxy.calls), 7)
        self.assertEqual(set(self.proxy.connections), {1})

    def test_a_server_that_closes(self) -> None:
        """After each reply, saying so or not; at once or a little later."""

        def wait_and_close(exchange: Exchange) -> None:
            exchange.send(kept(VERSION), pause=0.05)

        for answer in (Exchange.pass_on, sends(VERSION), wait_and_close):  # the first in HTTP/1.0
            with self.proxy.answering("version", answer):
                for _ in range(2):
                    self.api.version()
                    time.sleep(0.1 if answer is wait_and_close else 0)
                self.assertEqual(len(set(self.proxy.connections)), 2)

    def test_what_keeps_a_connection_and_what_does_not(self) -> None:
        page = b"<html></html>"
        enter(self, mock.patch("library_xmlrpc.MAX_REPLY", 2**17))
        for reply, error, is_kept in (
            (fault(2, "No."), ServerError, True),
            (http(page, "404 Not Found"), ConnectError, True),
            (http(b"", "302 Found", ("Location: /",)), ConnectError, True),
            (http(page), UnknownOutcomeError, True),  # read to its end, whatever it says
            (http(page * 2**16), UnknownOutcomeError, False),  # which is too large
            (http(page * 2**16, "404 Not Found"), ConnectError, False),
        ):
            before = self.ask()
            with self.subTest(reply[:40]):
                with self.proxy.answering("create", keeps(reply)):
                    self.assertRaises(error, self.api.create, "Emma")
                self.assertEqual(self.ask() == before, is_kept)

    def test_a_reply_whose_rest_comes_when_the_next_request_is_there(self) -> None:
        seven = kept(value("<int>7</int>"))
        chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
        self.ask()
        for before, after in (
            (b"HTTP/1.1 103 Early Hints\r\n\r\n", seven),
            (seven[:-9], seven[-9:] + seven),
            (chunked, seven),
        ):

            def answer(exchange: Exchange, before: bytes = before, after: bytes = after) -> None:
                exchange.send(before)
                exchange.client.settimeout(0.5)
                with contextlib.suppress(OSError):
                    exchange.client.recv(1)
                exchange.send(after)
                exchange.hold()

            with self.subTest(before[:20]):
                self.api.transport.timeout = 0.2
                with self.proxy.answering("create", answer):
                    self.assertRaises(LibraryError, self.api.create, "Emma")
                self.api.transport.timeout = SOON
                self.check_create()

    def test_after_an_interrupt(self) -> None:
        """The connection, whose reply is still to come, is not used again."""

        def interrupt(exchange: Exchange) -> None:
            _thread.interrupt_main()
            time.sleep(0.1)
            exchange.send(kept(value("<int>7</int>")))
            exchange.hold()

        self.ask()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
        self.addCleanup(signal.signal, signal.SIGINT, before)
        with self.proxy.answering("create", interrupt), self.assertRaises(KeyboardInterrupt):
            self.api.create("Emma")
            time.sleep(SOON)
        self.assertTrue(self.api.change_sent)
        time.sleep(0.2)
        self.check_create()

    def test_bytes_behind_the_end_of_a_reply(self) -> None:
        """They come with it or later, few or many, and may look like a reply."""
        seven = kept(value("<int>7</int>"))
        self.ask()
        for more, pause in ((seven, 0.0), (seven * 1000, 0.0), (seven, 0.05), (b"\n", 0.05)):

            def answer(exchange: Exchange, more: bytes = more, pause: float = pause) -> None:
                reply = kept(VERSION)
                exchange.send(*((reply, more) if pause else (reply + more,)), pause=pause)
                exchange.kept = True

            with self.subTest(more[:20], pause=pause):
                with self.proxy.answering("version", answer):
                    self.assertEqual(self.api.version(), {"a": "b"})
                time.sleep(2 * pause)
                self.check_create()

    def test_the_time_for_which_a_connection_may_wait(self) -> None:
        """If the line died in silence meanwhile, the next call does not wait for it."""
        first = self.ask()
        with mock.patch("library_xmlrpc.IDLE_SECONDS", 0.05):
            self.assertEqual(self.ask(), first)
            time.sleep(0.1)
            self.assertNotEqual(self.ask(), first)
        wait_for(lambda: len(self.proxy.open) == 1)
        self.assertEqual(len(self.proxy.open), 1)
        self.assertEqual(library_xmlrpc.IDLE_SECONDS, 4)

    def test_a_request_that_cannot_be_sent_whole(self) -> None:
        """Nothing was changed, on a kept connection as on a new one."""
        self.api.uid  # noqa: B018

        def read_nothing(exchange: Exchange) -> None:
            exchange.keep()
            exchange.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            time.sleep(1)

        with self.proxy.answering("version", read_nothing):
            self.ask()
            self.api.transport.timeout = 0.2
            titles = ["x" * 3000] * 4000
            self.assertRaisesRegex(ConnectError, "cannot send", self.api.create_many, titles)
        self.assertEqual(self.proxy.calls, ["version"])


class BodyTests(unittest.TestCase):
    """A response's body as it comes out of http.client."""

    def read(self, body: bytes, *headers: str) -> bytes:
        sock: Any = mock.Mock()
        reply = raw("\n".join(("HTTP/1.1 200 OK", *headers)), body)
        sock.makefile.return_value = io.BytesIO(reply)
        response = HTTPResponse(sock)
        response.begin()
        with response:
            return bytes(_body(response))

    def test_it_is_whole_and_unpacked(self) -> None:
        members = gzip.compress(b"Emma") + gzip.compress(b"") + gzip.compress(b", Evelina")
        chunked = b"".join(b"1\r\n%c\r\n" % byte for byte in members) + b"0\r\n\r\n"
        packed, chunks = "Content-Encoding: GZip", "Transfer-Encoding: chunked"
        cut_off: Any = (EOFError, HTTPException)
        for body, headers, expected in (
            (b"Emma and more", ("Content-Length: 4",), b"Emma"),
            (b"Emma", ("Content-Length: 5",), cut_off),
            (members + b"\0\0", ("Content-Encoding: x-gzip",), b"Emma, Evelina"),
            (members, (packed, f"Content-Length: {len(members)}"), b"Emma, Evelina"),
            (members, (packed, f"Content-Length: {len(members) + 1}"), cut_off),
            (chunked, (packed, chunks), b"Emma, Evelina"),
            (chunked[:-5], (packed, chunks), cut_off),
            (members[:-9], (packed,), cut_off),
            (members[:-8] + bytes(8), (packed,), OSError),  # a wrong sum
            (b"Emma", (packed,), OSError),
        ):
            with self.subTest(body, headers=headers):
                if isinstance(expected, bytes):
                    self.assertEqual(self.read(body, *headers), expected)
                else:
                    self.assertRaises(expected, self.read, body, *headers)

    @mock.patch("library_xmlrpc.MAX_REPLY", 2**20)
    def test_it_is_bounded(self) -> None:
        packed, most = "Content-Encoding: gzip", bytes(2**20)
        self.assertEqual(self.read(gzip.compress(most), packed), most)
        for body, *headers in (
            (most + b"1",),
            (gzip.compress(most) + gzip.compress(b"1"), packed),
            (gzip.compress(most) * 1000, packed),
        ):
            with self.assertRaisesRegex(BadReplyError, "larger than 1 MiB"):
                self.read(body, *headers)


class SharingTests(ConnectionTestCase):
    def test_threads_have_a_connection_each(self) -> None:
        """And all are kept, until they are closed."""
        self.ask()
        both = threading.Barrier(2, timeout=SOON)

        def wait_for_another(exchange: Exchange) -> None:
            both.wait()
            exchange.keep()

        with self.proxy.answering("version", wait_for_another), ThreadPoolExecutor(2) as pool:
            for _ in range(3):
                list(pool.map(lambda _: self.ask(), range(2)))
            self.assertEqual(len(self.proxy.calls), 6)
            self.assertEqual(self.proxy.open, {1, 2})
        for _ in range(2):
            self.api.close()
        wait_for(lambda: not self.proxy.open)
        self.assertEqual(self.proxy.open, set())
        self.assertEqual((self.ask(), self.ask()), (3, 3))

    def test_what_is_not_kept_is_closed(self) -> None:
        """Python warns of a socket that nobody has closed."""
        program = f"""if True:
            import library_xmlrpc as lib
            api = lib.LibraryAPI(*{self.proxy.address}, "odoo-dev", "admin", "admin")
            api.uid
            for call in (lambda: api.create("lost"), api.search_read):
                try:
                    call()
                except lib.LibraryError as error:
                    print(error.__cause__)
                api.transport.timeout = 0.5
            lib.IDLE_SECONDS = -1
            api.version()
            api.close()
            lib._connect_socket({self.proxy.address}, 5)
        """
        argv = (sys.executable, "-W", "error", "-X", "dev", "-c", program)
        environ = {"PYTHONPATH": os.path.dirname(library_xmlrpc.__file__)}
        self.proxy.faults["create"] = sends(raw("HTTP/1.1 404 Not Found\nContent-Length: 9"))
        self.proxy.faults["search_read"] = trickles(VERSION, after=len(VERSION) - 99)
        done = subprocess.run(argv, env=environ, capture_output=True, text=True)
        self.assertRegex(done.stdout, r"\A.*404 Not Found>\ntimed out\n\Z")
        self.assertEqual(done.stderr.count("unclosed"), 1, done.stderr)  # the last one, on purpose


class TLSReuseTests(ConnectionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.proxy = enter(self, Proxy(self.standin.url, server_context("good.pem")))
        authority = f"{CERTIFICATES}/authority.pem"
        enter(self, mock.patch.dict(os.environ, SSL_CERT_FILE=authority, no_proxy="*"))
        login = ("odoo-dev", "admin", "admin")
        self.api = LibraryAPI(*self.proxy.address, *login, scheme="https", timeout=SOON)
        self.addCleanup(self.api.close)

    def test_what_a_server_does_between_two_calls(self) -> None:
        """It closes, with TLS's farewell or without, or sends something more."""

        def say_farewell(exchange: Exchange) -> None:
            assert isinstance(exchange.client, ssl.SSLSocket)
            exchange.client.settimeout(0.05)  # for the client's farewell, which never comes
            with contextlib.suppress(OSError):
                exchange.client.unwrap()

        def close(exchange: Exchange) -> None:
            exchange.kept = False

        for after in (close, say_farewell, sends(VERSION), beneath(sends(b"no TLS"))):

            def answer(exchange: Exchange, after: Answer = after) -> None:
                exchange.keep()
                after(exchange)

            first = self.ask()
            with self.proxy.answering("version", answer):
                self.assertEqual(self.ask(), first)
            time.sleep(0.05)
            self.assertNotEqual(self.ask(), first)
