"""What LibraryAPI says by itself, and what it does on sockets that no command line shows."""

from __future__ import annotations

import _thread
import os
import socket
import stat
import threading
import time
import unittest
from typing import Any
from unittest import mock

from library_xmlrpc import (
    MODEL,
    BookNotFoundError,
    ConnectError,
    LibraryAPI,
    ServerError,
    UnknownOutcomeError,
)
from tests import replies
from tests.proxy import Exchange, lose_reply
from tests.standin import StandIn
from tests.support import HomeTestCase, StandInTestCase, enter, full_port

# What no text can hold, and how an error calls it.
NAMES = {
    "\0": "the character U+0000",
    "\t": "a tab",
    "\n": "the character U+000A",
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
            (TITLES, lambda title: api.write_many({1: "Emma", 2: title})),
            (TITLES, lambda title: api.existing_titles(["Emma", title])),
            ((*NO_NUMBERS, None), api.unlink, lambda id: api.unlink_many([1, id])),
            ((*NO_NUMBERS, None), lambda id: api.write(id, "Emma")),
            ((*NO_NUMBERS, None), lambda id: api.write_many({7: "Emma", id: "Emma"})),
            (NO_NUMBERS, lambda limit: api.iter_books(limit=limit)),  # at the call
            (NO_NUMBERS, lambda limit: api.search_read(limit=limit)),
            (["a\0b", " ", 1, b"a"], api.search_read, api.iter_books),
            (["Emma"], api.create_many, api.existing_titles),  # one str is not several titles
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

    def test_what_is_public(self) -> None:
        names: dict[str, Any] = {}
        exec("from library_xmlrpc import *", names)
        public = {"LibraryAPI", "BookNotFoundError", "UnknownOutcomeError"}
        public.update(f"{kind}Error" for kind in ("Library", "Connect", "Login", "Server"))
        self.assertEqual(names.keys() - {"__builtins__"}, public)


class ManyTests(StandInTestCase):
    """Changes of many books, and questions for many titles."""

    def setUp(self) -> None:
        super().setUp()
        self.ids = self.api.create_many(["Emma", "Evelina", "Pamela"])
        self.addCleanup(self.api.unlink_many, self.ids)
        self.standin.requests.clear()
        self.through = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin")
        self.addCleanup(self.through.close)

    def titles(self) -> list[str]:
        return [book["name"] for book in self.api._read(self.ids)]

    def test_only_what_differs_is_changed(self) -> None:
        emma, evelina, pamela = self.ids
        for titles, changed, missing, requests in (
            ({}, [], [], ["search_read"]),
            ({pamela: "Pamela", 9999: "?", emma: "Emma"}, [], [9999], ["search_read"]),
            (
                {evelina: "X", 9999: "?", emma: "Y"},
                [evelina, emma],
                [9999],
                ["search_read", "load"],
            ),
            ({evelina: "Evelina", emma: "Emma"}, [evelina, emma], [], ["search_read", "load"]),
        ):
            self.standin.requests.clear()
            self.assertEqual(self.api.write_many(titles), (changed, missing))
            self.assertEqual(self.standin.requests, requests)
        self.assertEqual(self.titles(), ["Emma", "Evelina", "Pamela"])

    def test_archived_books(self) -> None:
        """They can be changed, and stay archived; as titles nobody sees them."""
        emma = self.ids[0]
        call: tuple[Any, ...] = (MODEL, "write", [[emma], {"active": False}], {})
        self.api._service("object").execute_kw("odoo-dev", self.api.uid, "admin", *call)
        self.assertEqual(self.api.existing_titles(["Emma", "Pamela"]), {"Pamela"})
        self.assertEqual(self.api.write_many({emma: "Emma!"}), ([emma], []))
        self.assertEqual((self.titles()[0], self.api.search_read("Emma")), ("Emma!", []))

    def test_existing_titles(self) -> None:
        """As they are, letter for letter."""
        titles = ["Emma", "emma", "Emma ", "Em%", "Pamela", "Pamela", "none"]
        self.assertEqual(self.api.existing_titles(titles), {"Emma", "Pamela"})
        self.assertEqual(self.api.existing_titles(iter(())), set())

    def test_all_or_none(self) -> None:
        self.addCleanup(lambda: self.assertEqual(self.titles(), ["Emma", "Evelina", "Pamela"]))
        with self.assertRaises(ServerError) as caught:
            self.api.write_many({self.ids[1]: "X", self.ids[0]: "unacceptable"})
        self.assertEqual(str(caught.exception), "Not this title. Please.")
        self.assertEqual((caught.exception.code, caught.exception.text[:5]), (2, "Not t"))

    def test_a_book_that_goes_between_the_look_and_the_change(self) -> None:
        going = self.api.create("Going")

        def delete(exchange: Exchange) -> None:
            self.api.unlink(going)
            exchange.keep()

        with self.proxy.answering("load", delete), self.assertRaises(ServerError) as caught:
            self.through.write_many({self.ids[0]: "X", going: "Gone"})
        self.assertEqual(str(caught.exception), f"Unknown database identifier '{going}'")
        self.assertEqual(self.titles(), ["Emma", "Evelina", "Pamela"])

    def test_an_answer_that_does_not_come_or_is_none(self) -> None:
        """The change may have been made, for all that is known."""
        lost = "<member><name>ids</name><value>{}</value></member>"
        refusal = lost.format("<boolean>0</boolean>")
        for answer in (
            lose_reply,
            *(
                replies.sends(replies.value(f"<struct>{members}</struct>"))
                for members in (
                    "",
                    refusal,  # without messages
                    refusal + lost.replace("ids", "messages").format("<int>1</int>"),
                    lost.format("<boolean>1</boolean>"),
                    lost.format("<array><data></data></array>"),
                    lost.format("<array><data><value>a</value></data></array>"),
                )
            ),
            replies.sends(replies.value("<boolean>1</boolean>")),
            replies.sends(replies.value("<boolean>0</boolean>")),
        ):
            with self.proxy.answering("load", answer), self.assertRaises(UnknownOutcomeError):
                self.through.write_many({self.ids[0]: "Emma?"})
            self.api.write_many({self.ids[0]: "Emma"})
        with self.proxy.answering("search_read", lose_reply), self.assertRaises(ConnectError):
            self.through.write_many({self.ids[0]: "Emma?"})
        self.assertEqual(self.titles()[0], "Emma")

    def test_what_the_tutorial_calls(self) -> None:
        self.assertIs(self.api.write(self.ids[0], "Emma"), True)
        self.assertIs(self.api.unlink(self.api.create("Emma")), True)
        for call, *args in ((self.api.write, 9999, "Emma"), (self.api.unlink, 9999)):
            with self.assertRaises(BookNotFoundError) as caught:
                call(*args)
            self.assertEqual((caught.exception.ids, caught.exception.code), ([9999], 0))


class WireTests(StandInTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch.multiple("library_xmlrpc", FIRST_PAGE=100, NEXT_PAGES=100))
        self.api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin")
        self.addCleanup(self.api.close)

    def test_the_body_of_a_request_does_not_wait_for_its_head(self) -> None:
        connection = self.api._transport._connect(time.monotonic() + 5)
        self.addCleanup(connection.close)
        delay = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
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

    def test_where_no_thread_can_be_had(self) -> None:
        """Pages come one after the other, and so does the look-up of the host."""
        ids = self.api.create_many([f"{number:03}" for number in range(600)])
        self.addCleanup(self.api.unlink_many, ids)
        api = LibraryAPI("localhost", self.standin.port, "odoo-dev", "admin", "admin")
        self.addCleanup(api.close)
        self.standin.requests.clear()
        start, refused = _thread.start_new_thread, []

        def refuse(function: Any, *args: Any) -> int:
            if function.__module__ != "library_xmlrpc":
                return start(function, *args)
            refused.append(function)
            raise RuntimeError("can't start new thread")

        with mock.patch("_thread.start_new_thread", refuse):
            self.assertEqual([book["id"] for book in api.iter_books()], ids)
        calls = ["authenticate", "search_read", "search", *["read"] * 5]
        self.assertEqual(self.standin.requests, calls)
        self.assertEqual(len(refused), len(calls) + 5)


class LookUpTests(StandInTestCase):
    """The look-up of the host's name, here by a function that takes its time or fails."""

    def api_of(self, addresses: Any, **settings: Any) -> LibraryAPI:
        """An API whose host has these addresses, or whose look-up never ends."""
        look_up, self.looked_up = socket.getaddrinfo, 0
        end = threading.Event()
        self.addCleanup(end.set)

        def look_localhost_up(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in ("localhost", b"localhost"):
                return look_up(host, *args, **kwargs)
            self.looked_up += 1
            if isinstance(addresses, Exception):
                raise addresses
            return addresses or end.wait()

        enter(self, mock.patch("socket.getaddrinfo", look_localhost_up))
        login = ("odoo-dev", "admin", "admin")
        api = LibraryAPI("localhost", self.standin.port, *login, **settings)
        self.addCleanup(api.close)
        return api

    def addresses(self, *hosts: str) -> list[Any]:
        port = self.standin.port
        return [socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0] for host in hosts]

    def test_each_address_of_a_host_has_its_share_of_the_time(self) -> None:
        """It has four: one refuses, two say nothing, and at the last is the server."""
        api = self.api_of(self.addresses("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"))
        with (
            full_port("127.0.0.3", api.port),
            full_port("127.0.0.4", api.port),
            mock.patch("library_xmlrpc.CONNECT_SECONDS", 2),
        ):
            start = time.monotonic()
            self.assertIn("server_version", api.version())
            self.assertLess(time.monotonic() - start, 2)  # 1, for the two that say nothing

    def test_an_address_of_a_kind_that_the_system_has_not(self) -> None:
        """Such as IPv6's, on many servers: the next one is tried."""
        unknown = (9999, socket.SOCK_STREAM, 6, "", ("::1", self.standin.port, 0, 0))
        api = self.api_of([unknown, *self.addresses("127.0.0.1")])
        self.assertIn("server_version", api.version())
        api = self.api_of([unknown])
        self.assertRaisesRegex(ConnectError, "not supported", api.version)

    def test_one_for_each_connection(self) -> None:
        api = self.api_of(self.addresses("127.0.0.1"))
        for connections in (1, 2):  # the stand-in closes each
            api.version()
            self.assertEqual(self.looked_up, connections)

    def test_one_that_fails(self) -> None:
        api = self.api_of(socket.gaierror(-2, "Name or service not known"))
        with self.assertRaises(ConnectError) as caught:
            api.create("Emma")
        what = f"cannot connect to http://localhost:{api.port}: the host's name can't be looked up"
        self.assertEqual(str(caught.exception), what)

    def test_one_that_does_not_end(self) -> None:
        """It is within the timeout, and within the time for connecting."""
        for timeout, connect_seconds in ((0.2, 60.0), (60.0, 0.2)):
            api = self.api_of(None, timeout=timeout)
            start = time.monotonic()
            with (
                mock.patch("library_xmlrpc.CONNECT_SECONDS", connect_seconds),
                self.assertRaisesRegex(ConnectError, "cannot connect to .*: timed out"),
            ):
                api.create("Emma")
            self.assertLess(time.monotonic() - start, 10)


class CacheTests(HomeTestCase):
    """The file in which the uid is remembered; whatever stands there, each call succeeds."""

    def setUp(self) -> None:
        super().setUp()
        self.standin = enter(self, StandIn())
        self.path = os.path.join(self.home, "cache", "library", "uid")
        self.precious = self.write_file(b"precious")

    def calls(self) -> list[str]:
        self.standin.requests.clear()
        login = ("127.0.0.1", self.standin.port, "odoo-dev", "admin", "admin")
        LibraryAPI(*login, uid_cache=self.path).search_read()
        with open(self.precious, "rb") as file:
            self.assertEqual(file.read(), b"precious")
        return self.standin.requests

    def test_it_is_the_users_alone(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.assertEqual(self.calls(), ["authenticate", "search_read"])
        self.assertEqual(self.calls(), ["search_read"])
        for path, mode in ((self.path, 0o600), (os.path.dirname(self.path), 0o700)):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), mode)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["uid"])

    def test_it_is_never_written_through_a_link(self) -> None:
        """Neither its own name's nor the draft's, which another user may have guessed."""
        os.makedirs(os.path.dirname(self.path))
        with mock.patch("time.time_ns", return_value=7):  # a part of the draft's name
            for link in (f"{self.path}.7", self.path):
                os.symlink(self.precious, link)
                self.calls()
        self.calls()
        self.assertEqual(self.calls(), ["search_read"])
        self.assertFalse(os.path.islink(self.path))

    def test_what_is_left_of_a_draft_does_no_harm(self) -> None:
        os.makedirs(os.path.dirname(self.path))
        for number in (1, os.getpid(), time.time_ns()):
            with open(f"{self.path}.{number}", "w"):
                pass
            self.assertEqual(self.calls()[-1], "search_read")
