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
from http.client import HTTPResponse, IncompleteRead
from typing import Any
from unittest import mock

import library_xmlrpc
from library_xmlrpc import (
    ConnectError,
    LibraryAPI,
    LibraryError,
    ServerError,
    UnknownOutcomeError,
    _BadReply,
    _body,
)
from tests.nginx import CERTIFICATES
from tests.proxy import Answer, Exchange, Proxy
from tests.replies import BOOK_1, fault, http, keeps, raw, sends, value
from tests.support import StandInTestCase, enter

SOON = 5.0  # seconds, on a busy machine
VERSION = value("<struct><member><name>a</name><value>b</value></member></struct>")


def kept(reply: bytes) -> bytes:
    return reply.replace(b"Connection: close\r\n", b"")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


class ConnectionTestCase(StandInTestCase):
    scheme = "http"

    def setUp(self) -> None:
        super().setUp()
        self.proxy = enter(self, Proxy(self.standin.url))
        self.api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", timeout=SOON)
        self.addCleanup(self.api.close)

    def ask(self, api: LibraryAPI | None = None) -> int:
        """The number of the connection that a question uses. (Its answer must be right.)"""
        self.assertEqual((api or self.api).version()["server_version"], "14.0")
        return self.proxy.connections[-1]


class ReuseTests(ConnectionTestCase):
    def test_one_connection_for_one_call_after_another(self) -> None:
        id = self.api.create("Emma")
        self.api.write(id, "Emilia")
        self.api.unlink(id)
        self.assertEqual(self.api.search_read("no such book"), [])
        self.assertEqual(len(self.proxy.calls), 7)
        self.assertEqual(set(self.proxy.connections), {1})

    def test_a_server_that_closes(self) -> None:
        """After each reply, saying so or not, or later; at once or not before a next request."""

        def wait_and_close(exchange: Exchange) -> None:
            exchange.send(kept(VERSION))
            time.sleep(0.05)

        for answer, connections in (
            (Exchange.pass_on, 3),  # with HTTP/1.0
            (sends(VERSION), 3),
            (wait_and_close, 3),
            (Exchange.keep, 1),
        ):
            with self.proxy.answering("version", answer):
                for _ in range(3):
                    self.api.version()
                    if answer is wait_and_close:
                        time.sleep(0.1)
                self.assertEqual(len(set(self.proxy.connections)), connections)

    def test_what_keeps_a_connection_and_what_does_not(self) -> None:
        page = b"<html></html>"
        for reply, error, kept in (
            (fault(2, "No."), ServerError, True),
            (http(page, "404 Not Found"), ConnectError, True),
            (http(b"", "302 Found", ("Location: /",)), ConnectError, True),
            (http(page, "502 Bad Gateway"), UnknownOutcomeError, True),
            (http(page), UnknownOutcomeError, True),  # read to its end, whatever it says
        ):
            before = self.ask()
            with self.subTest(reply[:40]):
                with self.proxy.answering("create", keeps(reply)):
                    self.assertRaises(error, self.api.create, "Emma")
                self.assertEqual(self.ask() == before, kept)
        before = self.ask()
        for status, error in (("200 OK", UnknownOutcomeError), ("404 Not Found", ConnectError)):
            larger = self.proxy.answering("create", keeps(http(page * 2**16, status)))
            with mock.patch("library_xmlrpc.MAX_REPLY", 2**17), larger:
                self.assertRaisesRegex(error, "larger|404", self.api.create, "Emma")
            self.assertNotEqual(self.ask(), before)

    def test_a_length_that_runs_away(self) -> None:
        """http.client takes a chunk of -1 octets for all that come."""

        def send_for_ever(exchange: Exchange) -> None:
            head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked"
            exchange.send(raw(head, b"-1\r\n"), *[bytes(2**16)] * 1000)
            exchange.hold()

        with (
            self.proxy.answering("create", send_for_ever),
            mock.patch("library_xmlrpc.MAX_REPLY", 2**17),
        ):
            self.assertRaisesRegex(UnknownOutcomeError, "larger", self.api.create, "Emma")

    def test_a_page_that_does_not_come(self) -> None:
        """The status says enough. What may yet come is never taken for the next reply."""

        def stall(exchange: Exchange) -> None:
            exchange.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n<html>")
            exchange.hold()

        self.api._transport.timeout = 0.5
        with self.proxy.answering("create", stall):
            self.assertRaisesRegex(ConnectError, "HTTP 404", self.api.create, "Emma")
        self.api._transport.timeout = SOON
        self.ask()

    def test_a_reply_whose_rest_comes_when_the_next_request_is_there(self) -> None:
        seven = kept(value("<int>7</int>"))
        chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
        self.ask()
        for before, after in (
            (b"HTTP/1.1 103 Early Hints\r\n\r\n", seven),
            (b"HTTP/1.1 102 Processing\r\n\r\n", http(b"", "404 Not Found")),
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
                self.api._transport.timeout = 0.2
                with self.proxy.answering("create", answer):
                    self.assertRaises(LibraryError, self.api.create, "Emma")
                self.api._transport.timeout = SOON
                self.assertEqual(self.standin_book(self.api.create("Emilia")), "Emilia")

    def test_a_large_request_on_a_kept_connection(self) -> None:
        def read_later(exchange: Exchange) -> None:
            exchange.keep()
            time.sleep(0.1)

        with self.proxy.answering("version", read_later):
            first = self.ask()
        ids = self.api.create_many(["x" * 3000] * 1000)
        self.assertEqual((len(ids), self.proxy.connections[-1]), (1000, first))
        self.api.unlink_many(ids)

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
        time.sleep(0.2)
        self.assertEqual(self.standin_book(self.api.create("Emilia")), "Emilia")

    def test_octets_behind_the_end_of_a_reply(self) -> None:
        """They come with it or later, in any number, and may be a reply themselves."""
        found, seven = kept(BOOK_1), kept(value("<int>7</int>"))
        cases = [
            (found, more, pause)
            for pause in (0.0, 0.05)
            for more in (seven, b"\n", b"HTTP/1.1 100 Continue\r\n\r\n", seven * 1000)
        ]
        # Whatever the size of a buffer, one of these would end in the middle of it.
        cases += [
            (found.replace(b"\r\n", b"\r\nX:%b\r\n" % (b"x" * n), 1), b"\n", 0.0)
            for n in range(0, 70, 3)
        ]
        self.ask()
        for reply, more, pause in cases:

            def answer(
                exchange: Exchange, reply: bytes = reply, more: bytes = more, pause: float = pause
            ) -> None:
                exchange.send(*((reply, more) if pause else (reply + more,)), pause=pause)

            with self.subTest(more[:20], pause=pause), self.proxy.answering("search", answer):
                self.assertEqual(self.api._existing([1]), [1])
                time.sleep(2 * pause)
                first = self.proxy.connections[-1]
                id = self.api.create("Emma")
                self.assertNotEqual(self.proxy.connections[-1], first)
                self.assertEqual(self.standin_book(id), "Emma")

    def standin_book(self, id: int) -> str:
        (book,) = type(self).api._read([id])
        return book["name"]

    def test_the_time_for_which_a_connection_may_wait(self) -> None:
        first = self.ask()
        with mock.patch("library_xmlrpc.IDLE_SECONDS", 0.05):
            self.assertEqual(self.ask(), first)
            time.sleep(0.1)
            self.assertNotEqual(self.ask(), first)
        wait_for(lambda: len(self.proxy.open) == 1)
        self.assertEqual(len(self.proxy.open), 1)

    def test_a_line_that_dies_in_silence(self) -> None:
        """The next call, later, does not wait for it."""
        enter(self, mock.patch("library_xmlrpc.IDLE_SECONDS", 0.05))

        def die(exchange: Exchange) -> None:
            exchange.keep()
            exchange.hold()

        with self.proxy.answering("version", die):
            self.ask()
        time.sleep(0.1)
        start = time.monotonic()
        self.ask()
        self.assertLess(time.monotonic() - start, SOON / 2)

    def test_a_timeout_that_is_set_later(self) -> None:
        self.ask()
        self.api._transport.timeout = 0.1
        start = time.monotonic()
        with self.proxy.answering("create", Exchange.hold):
            self.assertRaisesRegex(UnknownOutcomeError, "timed out", self.api.create, "Emma")
        self.assertLess(time.monotonic() - start, SOON / 2)
        self.api._transport.timeout = SOON
        self.ask()

    def test_a_request_that_cannot_be_sent_whole(self) -> None:
        """On a kept connection as on a new one nothing was changed."""
        self.api.uid  # noqa: B018

        def read_nothing(exchange: Exchange) -> None:
            exchange.keep()
            exchange.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            time.sleep(1)

        with self.proxy.answering("version", read_nothing):
            self.ask()
            self.api._transport.timeout = 0.2
            titles = ["x" * 3000] * 4000
            self.assertRaisesRegex(ConnectError, "cannot send", self.api.create_many, titles)
        self.assertEqual(self.proxy.calls, ["version"])


class BodyTests(unittest.TestCase):
    """A response's body as it comes out of http.client."""

    def read(self, octets: bytes, *headers: str) -> bytes:
        sock: Any = mock.Mock()
        sock.makefile.return_value = io.BytesIO(
            raw("\n".join(("HTTP/1.1 200 OK", *headers)), octets)
        )
        response = HTTPResponse(sock)
        response.begin()
        with response:
            return bytes(_body(response))

    def test_it_is_whole_and_unpacked(self) -> None:
        members = gzip.compress(b"Emma") + gzip.compress(b"") + gzip.compress(b", Evelina")
        chunked = b"".join(b"1\r\n%c\r\n" % octet for octet in members) + b"0\r\n\r\n"
        packed, chunks = "Content-Encoding: GZip", "Transfer-Encoding: chunked"
        closed: Any = (EOFError, IncompleteRead)
        for body, headers, expected in (
            (b"Emma", (), b"Emma"),
            (b"", (), b""),
            (b"Emma and more", ("Content-Length: 4",), b"Emma"),
            (b"Emma", ("Content-Encoding: identity",), b"Emma"),
            (b"Emma", ("Content-Length: 5",), closed),
            (members, (packed,), b"Emma, Evelina"),
            (members + b"\0\0", ("Content-Encoding: x-gzip",), b"Emma, Evelina"),
            (members, (packed, f"Content-Length: {len(members)}"), b"Emma, Evelina"),
            (members, (packed, f"Content-Length: {len(members) + 1}"), closed),
            (chunked, (packed, chunks), b"Emma, Evelina"),
            (chunked[:-5], (packed, chunks), closed),
            (members[:-1], (packed,), closed),
            (members[:-9], (packed,), closed),
            (members[:-8] + bytes(8), (packed,), OSError),  # a wrong sum
            (members + b"Emma", (packed,), OSError),
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
        for octets, *headers in (
            (most + b"1",),
            (gzip.compress(most) + gzip.compress(b"1"), packed),
            (gzip.compress(most) * 1000, packed),
        ):
            with self.assertRaisesRegex(_BadReply, "larger than 1 MiB"):
                self.read(octets, *headers)


class SharingTests(ConnectionTestCase):
    def test_threads_have_a_connection_each(self) -> None:
        self.ask()
        both = threading.Barrier(2, timeout=SOON)

        def wait_for_another(exchange: Exchange) -> None:
            both.wait()
            exchange.keep()

        with self.proxy.answering("version", wait_for_another):
            for _ in range(3):
                threads = [threading.Thread(target=self.ask) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            self.assertEqual(len(self.proxy.calls), 6)
            self.assertEqual(len(set(self.proxy.connections)), 2)

    def test_close(self) -> None:
        both = threading.Barrier(2, timeout=SOON)

        def wait_for_another(exchange: Exchange) -> None:
            both.wait()
            exchange.keep()

        with self.proxy.answering("version", wait_for_another), ThreadPoolExecutor(2) as pool:
            list(pool.map(self.ask, [self.api] * 2))
        self.assertEqual(self.proxy.open, {1, 2})
        for _ in range(2):
            self.api.close()
        wait_for(lambda: not self.proxy.open)
        self.assertEqual(self.proxy.open, set())
        self.assertEqual((self.ask(), self.ask()), (3, 3))

    def test_what_is_not_kept_is_closed(self) -> None:
        """Python warns of a socket that nobody has closed."""
        login = (*self.proxy.address, "odoo-dev", "admin", "admin")
        program = f"""if True:
            import library_xmlrpc as lib
            api = lib.LibraryAPI(*{login})
            api.version()
            lib.IDLE_SECONDS = -1
            api.version()
            for call in (lambda: api.create("lost"), lambda: api.unlink(99999)):
                try:
                    call()
                except lib.LibraryError as error:
                    print(type(error).__name__)
            api.close()
            lib._Connection(*{self.proxy.address}, timeout=5).connect()
        """
        argv = (sys.executable, "-W", "error", "-X", "dev", "-c", program)
        environ = {"PYTHONPATH": os.path.dirname(library_xmlrpc.__file__)}
        cut_off = sends(raw("HTTP/1.1 404 Not Found\nContent-Length: 9"))
        with self.proxy.answering("create", cut_off):
            done = subprocess.run(argv, env=environ, capture_output=True, text=True)
        self.assertEqual(done.stdout, "ConnectError\nBookNotFoundError\n")
        self.assertEqual(done.stderr.count("unclosed"), 1, done.stderr)  # the last one, on purpose

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_a_child_process_has_connections_of_its_own(self) -> None:
        first = self.ask()
        child = os.fork()
        if not child:
            try:
                self.api.version()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        self.assertNotEqual(self.proxy.connections[-1], first)
        self.assertEqual(self.ask(), first)

    def test_a_stale_uid_that_threads_share(self) -> None:
        """Each calls again with the uid that one of them has got."""
        api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", uid_cache="a uid")
        self.addCleanup(api.close)
        together = threading.Barrier(4, timeout=SOON)

        def wait_for_the_others(exchange: Exchange) -> None:
            if self.proxy.calls.count("search_read") <= 4:
                together.wait()
            exchange.keep()

        with (
            mock.patch("library_xmlrpc._recall_uid", return_value=9999),
            mock.patch("library_xmlrpc._remember_uid"),
            self.proxy.answering("search_read", wait_for_the_others),
            ThreadPoolExecutor(4) as pool,
        ):
            list(pool.map(api.search_read, ["no such book"] * 4))
        self.assertEqual(self.proxy.calls.count("search_read"), 8)


class TLSReuseTests(ConnectionTestCase):
    def setUp(self) -> None:
        super().setUp()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "good.pem")
        self.proxy = enter(self, Proxy(self.standin.url, context))
        authority = f"{CERTIFICATES}/authority.pem"
        enter(self, mock.patch.dict(os.environ, SSL_CERT_FILE=authority, no_proxy="*"))
        login = ("odoo-dev", "admin", "admin")
        self.api = LibraryAPI(*self.proxy.address, *login, scheme="https", timeout=SOON)
        self.addCleanup(self.api.close)

    def test_one_handshake_for_one_call_after_another(self) -> None:
        id = self.api.create("Emma")
        self.api.write(id, "Emilia")
        self.api.unlink(id)
        self.assertEqual(set(self.proxy.connections), {1})

    def test_what_a_server_does_between_two_calls(self) -> None:
        """It closes, with TLS's farewell or without, or sends an octet or an alert too many."""

        def say_farewell(exchange: Exchange) -> None:
            assert isinstance(exchange.client, ssl.SSLSocket)
            exchange.client.settimeout(0.05)  # for the client's farewell, which never comes
            with contextlib.suppress(OSError):
                exchange.client.unwrap()

        def beneath(octets: bytes) -> Answer:
            def send(exchange: Exchange) -> None:
                with socket.socket(fileno=os.dup(exchange.client.fileno())) as client:
                    client.sendall(octets)

            return send

        def close(exchange: Exchange) -> None:
            exchange.kept = False

        for after in (
            close,
            say_farewell,
            sends(b"\n"),
            sends(VERSION),
            beneath(b"\x15\x03\x03\x00\x02\x02\x28"),
            beneath(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ):

            def answer(exchange: Exchange, after: Answer = after) -> None:
                exchange.keep()
                after(exchange)

            first = self.ask()
            with self.proxy.answering("version", answer):
                self.assertEqual(self.ask(), first)
            time.sleep(0.05)
            self.assertNotEqual(self.ask(), first)
