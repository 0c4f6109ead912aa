"""What LibraryAPI says by itself, and what it does on sockets that no command line shows."""

from __future__ import annotations

import copy
import pickle
import socket
import sys
import threading
import time
import typing
import unittest
from typing import Any
from unittest import mock

from library_xmlrpc import (
    BookNotFoundError,
    ConnectError,
    LibraryAPI,
    ServerError,
    UnknownOutcomeError,
)
from tests.proxy import Exchange
from tests.support import StandInTestCase, enter, full_port

# What no text can hold, and how an error calls it.
NAMES = {
    "\0": "a NUL",
    "\t": "a tab",
    "\n": "a line feed",
    "\r": "a carriage return",
    "\ufeff": "a byte-order mark",
    "\x1b": "the character U+001B",
    "\x7f": "the character U+007F",
    "\x9f": "the character U+009F",
    "\u2028": "the character U+2028",
    "\u2029": "the character U+2029",
    "\ufffe": "the character U+FFFE",
    "\uffff": "the character U+FFFF",
    **dict.fromkeys(map(chr, (0xD800, 0xDCE9, 0xDFFF)), "text that is not valid UTF-8"),
}
TITLES: tuple[Any, ...] = ("", " ", None, "&" * 3001, *(f"a{name}b" for name in NAMES))
NO_TEXT: tuple[Any, ...] = ("", " ", None, 1, b"a", "a\x1bb")
NO_NUMBERS: tuple[Any, ...] = (0, -1, 2**31, True, 1.0, "1")


class ArgumentTests(unittest.TestCase):
    """Nobody listens at the address: what is asked is a ConnectError."""

    settings: dict[str, Any] = {"host": "127.0.0.1", "port": 1, "db": "odoo-dev"}
    settings.update(user="admin", pwd="hunter2")
    api = LibraryAPI(**settings)

    def test_arguments_that_no_server_accepts(self) -> None:
        api = self.api
        refusals: tuple[tuple[Any, ...], ...] = (
            (TITLES, api.create, lambda title: api.create_many(["Emma", title])),
            (TITLES, lambda title: api.write(1, title)),
            ((*NO_NUMBERS, None), api.unlink, lambda id: api.unlink_many([1, id])),
            ((*NO_NUMBERS, None), lambda id: api.write(id, "Emma")),
            (NO_NUMBERS, lambda limit: api.iter_books(limit=limit)),  # at the call
            (NO_NUMBERS, lambda limit: api.search_read(limit=limit)),
            (["a\0b"], api.search_read),
            (["Emma"], api.create_many),  # one str is not several titles
        )
        for values, *calls in refusals:
            for value in values:
                for call in calls:
                    with self.subTest(value):
                        self.assertRaises(ValueError, call, value)
        self.assertRaises(ConnectError, api.create, "&" * 3000)

    def test_what_a_title_can_hold(self) -> None:
        for character, name in NAMES.items():
            with self.subTest(ascii(character)):
                with self.assertRaises(ValueError) as caught:
                    self.api.create(f"a{character}b")
                self.assertEqual(str(caught.exception), f"a title can't hold {name}")
        title = " ~\xa0\u2027\u202a\ud7ff\ue000\ufdd0\ufffd\U0001fffe\U0001ffff\U0010ffff"
        self.assertRaises(ConnectError, self.api.create, title)

    def test_settings_that_no_server_has(self) -> None:
        for name, value in (
            *((name, text) for name in ("host", "db", "user", "pwd") for text in NO_TEXT),
            *(("host", host) for host in ("a/odoo", "bücher", "[::1]", "localhost:80", "a b")),
            *(("port", port) for port in (0, 65536, True, "8069", None)),
            *(("scheme", scheme) for scheme in ("ftp", None)),
            *(("timeout", seconds) for seconds in (0, -1, float("nan"), float("inf"), "1", None)),
        ):
            with self.subTest(name, value=value), self.assertRaises(ValueError) as caught:
                LibraryAPI(**{**self.settings, name: value})
            self.assertNotIn("a\x1bb", str(caught.exception))
        with self.assertRaisesRegex(ValueError, "host must be .*, not a URL"):
            LibraryAPI(**{**self.settings, "host": "http://localhost:8069"})

    def test_repr_shows_the_url_and_no_password(self) -> None:
        for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
            shown = f"<LibraryAPI http://{shown}:1 db='odoo-dev' user='admin'>"
            self.assertEqual(repr(LibraryAPI(**{**self.settings, "host": host})), shown)

    @unittest.skipIf(sys.version_info < (3, 10), "str | None is no type before")
    def test_type_hints(self) -> None:
        public = [method for name, method in vars(LibraryAPI).items() if not name.startswith("_")]
        for method in (LibraryAPI.__init__, *filter(callable, public)):
            self.assertIn("return", typing.get_type_hints(method))

    def test_what_is_public(self) -> None:
        names: dict[str, Any] = {}
        exec("from library_xmlrpc import *", names)
        public = {"LibraryAPI", "BookNotFoundError", "UnknownOutcomeError"}
        public.update(f"{kind}Error" for kind in ("Library", "Connect", "Login", "Server"))
        self.assertEqual(names.keys() - {"__builtins__"}, public)

    def test_copies_and_pickles_of_errors(self) -> None:
        for error in (
            BookNotFoundError([1, 2]),
            ServerError("no", "a hint", 2, "no\nmore"),
            UnknownOutcomeError("lost"),
        ):
            for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
                self.assertIs(type(again), type(error))
                self.assertEqual((str(again), vars(again)), (str(error), vars(error)))


class WireTests(StandInTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch.multiple("library_xmlrpc", FIRST_PAGE=100, NEXT_PAGES=100))
        self.api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin")

    def test_each_address_of_a_host_has_its_share_of_the_time(self) -> None:
        """It has four: one refuses, two say nothing, and at the last is the server."""
        port, look_up = self.standin.port, socket.getaddrinfo
        addresses = [
            look_up(f"127.0.0.{n}", port, type=socket.SOCK_STREAM)[0] for n in (2, 3, 4, 1)
        ]

        def look_localhost_up(host: Any, *args: Any, **kwargs: Any) -> Any:
            return addresses if host == b"localhost" else look_up(host, *args, **kwargs)

        with (
            full_port("127.0.0.3", port),
            full_port("127.0.0.4", port),
            mock.patch("library_xmlrpc.CONNECT_SECONDS", 1.2),
            mock.patch("socket.getaddrinfo", look_localhost_up),
        ):
            api = LibraryAPI("localhost", port, "odoo-dev", "admin", "admin")
            start = time.monotonic()
            self.assertIn("server_version", api.version())
            self.assertLess(time.monotonic() - start, 2)  # not 2.4, for the two that say nothing

    def test_the_body_of_a_request_does_not_wait_for_its_head(self) -> None:
        connection = self.api._transport._connect(time.monotonic() + 5)
        self.addCleanup(connection.end)
        delay = connection.wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        self.assertTrue(delay)

    def test_two_pages_are_on_their_way_at_once_and_never_more(self) -> None:
        ids = self.api.create_many([f"{number:03}" for number in range(600)])
        self.addCleanup(self.api.unlink_many, ids)
        both = threading.Barrier(2, timeout=5)

        def wait_for_another(exchange: Exchange) -> None:
            if self.proxy.calls.count("read") <= 2:
                both.wait()
            exchange.send(exchange.forward())

        with self.proxy.answering("read", wait_for_another):
            listed = []
            for book in self.api.iter_books():
                listed.append(book["id"])
                if len(listed) == 101:
                    time.sleep(0.2)  # in which all that may be fetched is
                    self.assertEqual(self.proxy.calls.count("read"), 3)
        self.assertEqual(listed, ids)
        self.assertEqual(self.proxy.calls, ["search_read", "search", *["read"] * 5])

    def test_an_error_of_a_page_reaches_the_reader(self) -> None:
        self.addCleanup(self.api.unlink_many, self.api.create_many(["Emma"] * 300))
        with self.proxy.answering("read", lambda exchange: None):
            self.assertRaisesRegex(ConnectError, "connection closed", self.api.search_read)
