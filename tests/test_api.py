"""What LibraryAPI says by itself. Nobody listens at its address: what it asks is a ConnectError."""

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
from tests.support import StandInTestCase, full_port, unused_port

TITLES: tuple[Any, ...] = ("", " ", "a\nb", "\x1b", "\x7f", "\u2028", "\ud800", "\ufffe")
TITLES += ("\U0010ffff", None)
NO_TEXT: tuple[Any, ...] = ("", " ", None, 1, b"a", "a\x1bb")
IDS: tuple[Any, ...] = (0, -1, 2**31, True, 1.0, "1", None)


class ArgumentTests(unittest.TestCase):
    def setUp(self) -> None:
        self.settings: dict[str, Any] = {"host": "127.0.0.1", "port": unused_port()}
        self.settings.update(db="odoo-dev", user="admin", pwd="hunter2")
        self.api = LibraryAPI(**self.settings)

    def test_nobody_listens(self) -> None:
        for call in (
            self.api.version,
            self.api.search_read,
            lambda: self.api.create("Emma"),
            lambda: self.api.write(1, "Emma"),
            lambda: self.api.unlink(1),
        ):
            self.assertRaises(ConnectError, call)

    def test_titles_that_no_server_accepts(self) -> None:
        for title in TITLES:
            with self.subTest(title):
                self.assertRaises(ValueError, self.api.create, title)
                self.assertRaises(ValueError, self.api.create_many, ["Emma", title])
                self.assertRaises(ValueError, self.api.write, 1, title)
        self.assertRaises(ValueError, self.api.search_read, "a\0b")

    def test_ids_that_no_server_accepts(self) -> None:
        for id in IDS:
            with self.subTest(id):
                self.assertRaises(ValueError, self.api.unlink, id)
                self.assertRaises(ValueError, self.api.unlink_many, [1, id])
                self.assertRaises(ValueError, self.api.write, id, "Emma")

    def test_limits_that_are_none(self) -> None:
        for limit in (0, -1, True, 1.0, "1", 2**31):
            self.assertRaises(ValueError, self.api.iter_books, limit=limit)  # at the call
            self.assertRaises(ValueError, self.api.search_read, limit=limit)

    def test_one_str_is_not_several_titles(self) -> None:
        self.assertRaisesRegex(ValueError, "several", self.api.create_many, "Emma")

    def test_the_length_of_a_title(self) -> None:
        self.assertRaises(ConnectError, self.api.create, "&" * 3000)
        self.assertRaises(ValueError, self.api.create, "&" * 3001)

    def test_settings_that_no_server_has(self) -> None:
        for name, value in (
            *(
                (name, text)
                for name in ("host", "db", "user", "pwd")
                for text in (*NO_TEXT, "a\x1bb")
            ),
            *(("host", host) for host in ("http://localhost", "localhost/odoo", "bücher")),
            *(("port", port) for port in (0, 65536, True, "8069", None)),
            *(("scheme", scheme) for scheme in ("ftp", None)),
            *(("timeout", seconds) for seconds in (0, -1, float("nan"), float("inf"), "1", None)),
        ):
            with self.subTest(name, value=value), self.assertRaises(ValueError) as caught:
                LibraryAPI(**{**self.settings, name: value})
            self.assertNotIn("a\x1bb", str(caught.exception))

    def test_repr_shows_no_password(self) -> None:
        shown = f"<LibraryAPI http://127.0.0.1:{self.api.port} db='odoo-dev' user='admin'>"
        self.assertEqual(repr(self.api), shown)

    def test_a_host_that_is_a_url_is_named_as_such(self) -> None:
        with self.assertRaisesRegex(ValueError, "host must be .*, not a URL"):
            LibraryAPI(**{**self.settings, "host": "http://localhost:8069"})

    def test_an_address_of_ipv6_stands_in_brackets(self) -> None:
        api = LibraryAPI(**{**self.settings, "host": "::1"})
        with self.assertRaisesRegex(ConnectError, rf"to http://\[::1\]:{api.port}: "):
            api.version()

    @unittest.skipIf(sys.version_info < (3, 10), "str | None is no type before")
    def test_type_hints(self) -> None:
        for name in ("__init__", "version", "search_read", "iter_books", "create", "create_many"):
            self.assertIn("return", typing.get_type_hints(getattr(LibraryAPI, name)))
        for name in ("write", "unlink", "unlink_many"):
            self.assertIn("return", typing.get_type_hints(getattr(LibraryAPI, name)))


class ErrorTests(unittest.TestCase):
    def test_copies_and_pickles(self) -> None:
        for error in (
            BookNotFoundError([1, 2]),
            ServerError("no", "a hint", 2, "no\nmore"),
            UnknownOutcomeError("lost"),
        ):
            for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
                self.assertIs(type(again), type(error))
                self.assertEqual((str(again), vars(again)), (str(error), vars(error)))


class AddressTests(StandInTestCase):
    """A host's name may have several addresses; the stand-in is at the last one."""

    def check_addresses(self, *hosts: str, seconds: float) -> None:
        port, look_up = self.standin.port, socket.getaddrinfo

        def look_localhost_up(host: Any, *args: Any, **kwargs: Any) -> Any:
            names = hosts if host == b"localhost" else (host,)
            return [address for name in names for address in look_up(name, *args, **kwargs)]

        api = LibraryAPI("localhost", port, "odoo-dev", "admin", "admin")
        with (
            mock.patch("library_xmlrpc.CONNECT_SECONDS", seconds),
            mock.patch("socket.getaddrinfo", look_localhost_up),
        ):
            self.assertIn("server_version", api.version())

    def test_the_second_address(self) -> None:
        self.check_addresses("127.0.0.2", "127.0.0.1", seconds=10)

    def test_each_address_has_its_share_of_the_time(self) -> None:
        with full_port("127.0.0.2", self.standin.port), full_port("127.0.0.3", self.standin.port):
            self.check_addresses("127.0.0.2", "127.0.0.3", "127.0.0.1", seconds=0.6)


class PagesTests(StandInTestCase):
    """A listing of 600 books in pages of 100, of which two are fetched ahead."""

    def test_two_pages_are_on_their_way_at_once_and_never_more(self) -> None:
        api = LibraryAPI("127.0.0.1", self.proxy.address[1], "odoo-dev", "admin", "admin")
        ids = api.create_many([f"{number:03}" for number in range(600)])
        self.addCleanup(api.unlink_many, ids)
        both = threading.Barrier(2, timeout=5)

        def wait_for_another(exchange: Exchange) -> None:
            if self.proxy.calls.count("read") <= 2:
                both.wait()
            exchange.send(exchange.forward())

        with (
            mock.patch.multiple("library_xmlrpc", FIRST_PAGE=100, NEXT_PAGES=100),
            self.proxy.answering("read", wait_for_another),
        ):
            listed = []
            for book in api.iter_books():
                listed.append(book["id"])
                if len(listed) == 101:
                    time.sleep(0.2)  # in which all that may be fetched is
                    self.assertEqual(self.proxy.calls.count("read"), 3)
            self.assertEqual(listed, ids)
            self.assertEqual(self.proxy.calls, ["search_read", "search", *["read"] * 5])

    def test_an_error_of_a_page_reaches_the_reader(self) -> None:
        api = LibraryAPI("127.0.0.1", self.proxy.address[1], "odoo-dev", "admin", "admin")
        self.addCleanup(api.unlink_many, api.create_many(["Emma"] * 300))
        with (
            mock.patch.multiple("library_xmlrpc", FIRST_PAGE=100, NEXT_PAGES=100),
            self.proxy.answering("read", lambda exchange: None),
            self.assertRaisesRegex(ConnectError, "connection closed"),
        ):
            api.search_read()


if __name__ == "__main__":
    unittest.main()
