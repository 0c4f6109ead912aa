"""LibraryAPI itself: its arguments, its replies, and what no command line shows of its sockets."""

from __future__ import annotations

import _thread
import os
import re
import signal
import socket
import stat
import threading
import time
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable
from unittest import mock
from xmlrpc.client import dumps, loads

from library_xmlrpc import (
    ConnectError,
    LibraryAPI,
    LibraryError,
    ServerError,
    UnknownOutcomeError,
    mask,
)
from tests.proxy import Answer, Exchange
from tests.replies import http, sends
from tests.support import StandInTestCase, enter, full_port, unused_port

SOON = 10.0  # seconds: what takes longer waits for something

# What XML can't carry, and what an error calls it.
NAMES = {
    **{chr(code): f"the character U+{code:04X}" for code in (*range(32), 0xFFFE, 0xFFFF)},
    "\r": "a carriage return",
    **dict.fromkeys(map(chr, (0xD800, 0xDCE9, 0xDFFF)), "text that is not valid UTF-8"),
}
del NAMES["\t"], NAMES["\n"]
# What it carries exactly, odd as it is.
TITLES = ["", " ", "\t", "a\nb\n", "\x7f\x85\x9f\xa0", "\u2028\u2029\u202e\ufeff", "&<>]]>\"'"]
TITLES += ["\ud7ff\ue000\ufdd0\ufffd\U0001fffe\U0001ffff\U0010ffff", "x" * 100_000]
NO_TEXT: tuple[Any, ...] = (None, 0, 1, b"a", "a\x1bb", "a\rb", "a\udce9b")
NO_NUMBERS: tuple[Any, ...] = (0, -1, 2**31, True, 1.0, "1")


def gives(value: Any) -> Answer:
    return sends(http(dumps((value,), methodresponse=True).encode()))


class ArgumentTests(unittest.TestCase):
    """Nobody listens at the address, so what the API sends ends in a ConnectError."""

    settings: dict[str, Any] = {"host": "127.0.0.1", "port": 1, "db": "odoo-dev"}
    settings.update(user="admin", pwd="hunter2")
    api = LibraryAPI(**settings)

    def test_what_is_refused(self) -> None:
        api = self.api
        refusals: tuple[tuple[Any, ...], ...] = (
            (NO_TEXT, api.create, lambda title: api.create_many(["Emma", title])),
            (NO_TEXT, lambda title: api.write(1, title)),
            (NO_TEXT, lambda title: api.write_many({1: "Emma", 2: title})),
            (NO_TEXT, lambda title: api.existing_titles(["Emma", title])),
            (NO_TEXT[1:], api.search_read),
            ((*NO_NUMBERS, None), api.unlink, lambda id: api.unlink_many([1, id])),
            ((*NO_NUMBERS, None), lambda id: api.write(id, "Emma")),
            ((*NO_NUMBERS, None), lambda id: api.write_many({7: "Emma", id: "Emma"})),
            (NO_NUMBERS, lambda limit: api.search_read(limit=limit)),
            (["Emma"], api.create_many, api.existing_titles),  # one str is not several titles
        )
        for values, *calls in refusals:
            for value in values:
                for call in calls:
                    with self.subTest(value):
                        self.assertRaises(ValueError, call, value)
        self.assertRaises(ConnectError, api.create, "Emma")

    def test_what_is_said_of_it(self) -> None:
        calls: list[tuple[Callable[..., Any], Any, str]] = [
            (self.api.create, f"a{text}b", f"a title can't hold {name}")
            for text, name in NAMES.items()
        ]
        calls += [
            (self.api.create, 1, "a title must be a str, not int"),
            (self.api.unlink, "emma", "ID must be a number, not 'emma'"),
            (self.api.unlink, 0, "ID must be from 1 to 2147483647, not 0"),
        ]
        for call, argument, said in calls:
            with self.subTest(said), self.assertRaises(ValueError) as caught:
                call(argument)
            self.assertEqual(str(caught.exception), said)

    def test_settings_that_no_server_has(self) -> None:
        for name, value in (
            *((name, text) for name in ("host", "db", "user", "pwd") for text in NO_TEXT),
            *(("host", host) for host in ("", "a/odoo", "bücher", "[::1]", "localhost:80", "a b")),
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

    def test_a_password_that_is_not_there_is_not_masked(self) -> None:
        self.assertEqual(mask("No.", "eva", ""), "No.")

    def test_what_is_public(self) -> None:
        names: dict[str, Any] = {}
        exec("from library_xmlrpc import *", names)
        kinds = ("Library", "Connect", "Login", "Server", "BookNotFound", "UnknownOutcome")
        public = {f"{kind}Error" for kind in (*kinds, "NotSent", "BadReply")}
        self.assertEqual(names.keys() - {"__builtins__"}, {"LibraryAPI", *public})


class APITestCase(StandInTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.standin.requests.clear()
        self.ids = type(self).api.create_many(["Emma", "Evelina", "Pamela"])
        self.addCleanup(type(self).api.unlink_many, self.ids)
        self.api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin")
        self.addCleanup(self.api.close)

    def titles(self) -> list[str]:
        return [book["name"] for book in self.api._read(self.ids)]


class ExecuteTests(APITestCase):
    """_execute, which a reader of Odoo's tutorial calls in methods of their own."""

    def test_the_value_as_it_came(self) -> None:
        books: Any = self.api._execute("search_read", [[]], {"fields": ["name"]})
        self.assertEqual(repr(books), repr(self.api.search_read()))
        self.assertEqual([book["id"] for book in books], self.ids)
        self.assertEqual(repr(self.api._execute("search", [[]])), repr(self.ids))
        self.assertEqual(self.api._execute("search_count", [[]]), 3)
        values: tuple[Any, ...] = (7, False, "Emma", [], [1], [[True]], {"name": {"type": "char"}})
        for value in values:
            with self.proxy.answering("search_count", gives(value)):
                self.assertEqual(repr(self.api._execute("search_count", [[]])), repr(value))

    def test_a_method_that_is_not_known_to_be_a_question(self) -> None:
        """It counts as a change."""
        questions = ("search", "search_count", "search_read", "read", "fields_get")
        for method in (*questions, "create", "toggle_active", "name_search", "searching"):
            kind = ConnectError if method in questions else UnknownOutcomeError
            with (
                self.subTest(method),
                self.proxy.answering(method, lambda exchange: None),
                self.assertRaises(LibraryError) as caught,
            ):
                self.api._execute(method, [[]])
            self.assertIs(type(caught.exception), kind)

    def test_a_bug_of_our_own(self) -> None:
        """It is not taken for the server's, and shows as it is."""
        self.assertRaises(ZeroDivisionError, self.api._execute, "search", [[]], {}, lambda _: 1 / 0)
        calls: dict[str, Callable[[], Any]] = {
            "_books": self.api.search_read,
            "_ids": lambda: self.api.create_many([]),
            "_true": lambda: self.api.write(self.ids[0], "Emma"),
            "_loaded": lambda: self.api.write_many({self.ids[0]: "Emilia"}),
            "_Transport.post": self.api.version,
        }
        for name, call in calls.items():
            with (
                self.subTest(name),
                mock.patch(f"library_xmlrpc.{name}", side_effect=ZeroDivisionError),
            ):
                self.assertRaises(ZeroDivisionError, call)

    def test_change_sent(self) -> None:
        seen = []

        def look(exchange: Exchange) -> None:
            seen.append((exchange.method, self.api.change_sent))
            exchange.keep()

        self.proxy.faults = dict.fromkeys(("authenticate", "search_read", "write"), look)
        self.addCleanup(self.proxy.faults.clear)
        self.api.write(self.ids[0], "Emma")
        sent = [("authenticate", False), ("search_read", False), ("write", True)]
        self.assertEqual(seen, sent)
        self.assertTrue(self.api.change_sent)
        self.api.search_read("no such book")
        self.assertFalse(self.api.change_sent)
        self.api._uid = None
        self.assertRaises(TypeError, self.api._execute, "create", [object()])  # after a login
        self.assertFalse(self.api.change_sent)
        nobody = LibraryAPI("127.0.0.1", unused_port(), "odoo-dev", "admin", "admin")
        nobody._uid = 2
        self.assertRaises(ConnectError, nobody.create, "Emma")
        self.assertFalse(nobody.change_sent)

    def test_a_stale_uid_that_threads_share(self) -> None:
        """Each calls again with the uid that one of them has got, even one that is refused late."""
        cache = self.write_file(b"9999")
        api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", uid_cache=cache)
        self.addCleanup(api.close)
        together, again = threading.Barrier(3, timeout=SOON), threading.Event()

        def refuse_one_late(exchange: Exchange) -> None:
            if self.proxy.calls.count("search_read") > 3:
                again.set()
            elif together.wait() == 0:
                again.wait(SOON)
            exchange.keep()

        with self.proxy.answering("search_read", refuse_one_late), ThreadPoolExecutor(3) as pool:
            self.assertEqual(list(pool.map(api.search_read, ["no such book"] * 3)), [[]] * 3)
        calls = Counter(self.proxy.calls)
        self.assertEqual(calls["search_read"], 6)
        self.assertIn(calls["authenticate"], (1, 2))

    @unittest.skipIf(os.name == "nt", "on Windows a folder's mode does not say who can read it")
    def test_the_folder_of_the_uid_is_the_users_alone(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        path = os.path.join(self.home, "cache", "library", "uid")
        api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", uid_cache=path)
        self.addCleanup(api.close)
        self.assertEqual(api.uid, 2)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode), 0o700)


class ManyTests(APITestCase):
    """Calls for many books."""

    def test_what_a_title_can_hold(self) -> None:
        ids = self.api.create_many(TITLES)
        self.addCleanup(self.api.unlink_many, ids)
        self.assertEqual([book["name"] for book in self.api._read(ids)], TITLES)
        titles = dict(zip(ids, TITLES[:0:-1]))  # but the first, which Odoo's import refuses
        self.api.write_many(titles)
        self.assertEqual(self.api.unlink_many(titles, titles), (titles, [], []))

    def test_how_many_books_have_a_title(self) -> None:
        ids = self.api.create_many(["Emma", "Emma", "emma"])
        self.addCleanup(self.api.unlink_many, ids)
        existing = self.api.existing_titles(iter(["Pamela", "Em%", "Emma ", "Emma", "Emma"]))
        self.assertEqual(existing, Counter({"Emma": 3, "Pamela": 1}))
        self.assertIs(type(existing), Counter)
        self.assertEqual(self.api.existing_titles([]), Counter())

    def test_only_what_differs_is_changed(self) -> None:
        """In the order of the ids, or two clients could wait for each other."""
        emma, evelina, pamela = self.ids
        rows = []

        def note_rows(exchange: Exchange) -> None:
            params: Any = loads(exchange.request.partition(b"\r\n\r\n")[2])[0]
            rows.append(params[5][1])
            exchange.keep()

        with self.proxy.answering("load", note_rows):
            titles = {pamela: "Pamela", 9999: "?", emma: "Emma"}
            self.assertEqual(self.api.write_many(titles), ([], [9999]))
            titles = {pamela: "X", 9999: "?", evelina: "Evelina", emma: "Y"}
            self.assertEqual(self.api.write_many(titles), ([pamela, emma], [9999]))
        self.assertEqual(rows, [[[str(emma), "Y"], [str(pamela), "X"]]])
        self.assertEqual(self.titles(), ["Y", "Evelina", "X"])

    def test_replies_of_an_import(self) -> None:
        first, second, third = self.ids
        both, error = [first, second], {"type": "error", "message": "No."}
        warning, text = {"type": "warning", "message": "Hm."}, {"message": "No."}
        values: tuple[tuple[Any, type[LibraryError] | None], ...] = (
            ({"ids": both, "messages": []}, None),
            ({"ids": [second, first, *both], "messages": [], "nextrow": 0}, None),
            ({"ids": both, "messages": [warning]}, None),
            ({"ids": [first], "messages": []}, UnknownOutcomeError),
            ({"ids": self.ids, "messages": []}, UnknownOutcomeError),
            ({"ids": [first, third], "messages": []}, UnknownOutcomeError),
            ({"ids": both, "messages": [error]}, UnknownOutcomeError),
            ({"ids": both}, UnknownOutcomeError),
            ({"ids": both, "messages": ["No."]}, UnknownOutcomeError),
            ({"ids": False, "messages": []}, UnknownOutcomeError),
            ({"ids": False, "messages": [warning]}, UnknownOutcomeError),
            ({"ids": True, "messages": [error]}, UnknownOutcomeError),
            ({"ids": ["a", "b"], "messages": []}, UnknownOutcomeError),
            (both, UnknownOutcomeError),
            (True, UnknownOutcomeError),
            ({"ids": False, "messages": [error, warning, text]}, ServerError),
        )
        for value, kind in values:
            with self.subTest(value), self.proxy.answering("load", gives(value)):
                if kind:
                    with self.assertRaises(kind) as caught:
                        self.api.write_many({second: "X", first: "Y"})
                    self.assertIs(type(caught.exception), kind)
                else:
                    done = self.api.write_many({second: "X", first: "Y"})
                    self.assertEqual(done, ([second, first], []))
        self.assertEqual(str(caught.exception), "No.")

    def test_a_refused_import_that_may_succeed_later(self) -> None:
        for text, hint in (
            ("could not serialize access due to concurrent update", "run it again"),
            ("deadlock detected\nDETAIL:  Process 1 waits", "run it again"),
            (f"Unknown database identifier '{self.ids[0]}'", "run it again"),
            ("Not this title.", ""),
        ):
            answer = gives({"ids": False, "messages": [{"type": "error", "message": text}]})
            refused = self.assertRaises(ServerError)
            with self.proxy.answering("load", answer), refused as caught:
                self.api.write_many({self.ids[0]: "Emilia"})
            self.assertEqual((caught.exception.text, caught.exception.hint), (text, hint))

    def test_books_that_were_renamed_are_not_deleted(self) -> None:
        emma, evelina, pamela = self.ids
        titles = {emma: "Emma", evelina: "evelina", pamela: None, 9999: "?"}
        done = self.api.unlink_many([9999, pamela, evelina, emma, emma], titles)
        self.assertEqual(done, ({pamela: "Pamela", emma: "Emma"}, [evelina], [9999]))
        self.assertEqual(self.titles(), ["Evelina"])
        self.standin.requests.clear()
        self.assertEqual(self.api.unlink_many([evelina], {evelina: ""}), ({}, [evelina], []))
        self.assertEqual(self.standin.requests, ["search_read"])
        self.assertEqual(self.api.unlink_many([evelina], {}), ({evelina: "Evelina"}, [], []))
        self.assertEqual(self.api.unlink_many(iter(self.ids)), ({}, [], self.ids))


class PageTests(StandInTestCase):
    """The pages of a listing, which come ahead of the reader."""

    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch.multiple("library_xmlrpc", FIRST_PAGE=100, NEXT_PAGES=100))
        self.api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin")
        self.addCleanup(self.api.close)
        self.ids = self.api.create_many([f"{number:03}" for number in range(600)])
        self.addCleanup(self.api.unlink_many, self.ids)
        self.proxy.calls.clear()

    def test_two_are_on_their_way_at_once_and_never_more(self) -> None:
        both = threading.Barrier(2, timeout=SOON)

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
        self.assertEqual(listed, self.ids)
        self.assertEqual(self.proxy.calls, ["search_read", "search", *["read"] * 5])

    def test_an_error_of_a_page_reaches_the_reader(self) -> None:
        with self.proxy.answering("read", lambda exchange: None):
            self.assertRaisesRegex(ConnectError, "connection closed", self.api.search_read)

    def test_where_no_thread_can_be_had(self) -> None:
        """Pages come one after the other, and so does the look-up of the host."""
        start = _thread.start_new_thread

        def refuse(function: Any, *args: Any) -> int:
            if function.__module__ == "library_xmlrpc":
                raise RuntimeError("can't start new thread")
            return start(function, *args)

        self.api.close()
        with mock.patch("_thread.start_new_thread", refuse):
            self.assertEqual([book["id"] for book in self.api.iter_books()], self.ids)
        self.assertEqual(self.proxy.calls, ["search_read", "search", *["read"] * 5])


class LookUpTests(StandInTestCase):
    """The look-up of the host's name, here by a function that takes its time or fails."""

    def api_of(self, look_up: Callable[[], Any], **settings: Any) -> LibraryAPI:
        """An API whose host is looked up by this function."""
        original, self.looked_up = socket.getaddrinfo, 0

        def look_localhost_up(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host not in ("localhost", b"localhost"):
                return original(host, *args, **kwargs)
            self.looked_up += 1
            return look_up()

        enter(self, mock.patch("socket.getaddrinfo", look_localhost_up))
        login = ("odoo-dev", "admin", "admin")
        api = LibraryAPI("localhost", self.standin.port, *login, **settings)
        self.addCleanup(api.close)
        return api

    def addresses(self, *hosts: str) -> list[Any]:
        port = self.standin.port
        return [socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0] for host in hosts]

    def endless(self) -> Callable[[], Any]:
        end = threading.Event()
        self.addCleanup(end.set)
        return end.wait

    def test_each_address_of_a_host_has_its_share_of_the_time(self) -> None:
        """It has three: one refuses, one says nothing, and at the last is the server."""
        found = self.addresses("127.0.0.2", "127.0.0.3", "127.0.0.1")
        api = self.api_of(lambda: found)
        with full_port("127.0.0.3", api.port), mock.patch("library_xmlrpc.CONNECT_SECONDS", 1.5):
            start = time.monotonic()
            self.assertIn("server_version", api.version())
            self.assertLess(time.monotonic() - start, 1.5)  # a third of it, for the silent one

    def test_one_for_each_connection(self) -> None:
        found = self.addresses("127.0.0.1")
        api = self.api_of(lambda: found)
        for connections in (1, 2):  # the stand-in closes each
            api.version()
            self.assertEqual(self.looked_up, connections)

    def test_one_in_vain(self) -> None:
        """It fails, or takes longer than the call may, or than connecting may."""

        def fail() -> None:
            raise socket.gaierror(-2, "Name or service not known")

        for look_up, timeout, connect_seconds in (
            (fail, 60.0, 60.0),
            (self.endless(), 0.2, 60.0),
            (self.endless(), 60.0, 0.2),
        ):
            api = self.api_of(look_up, timeout=timeout)
            start = time.monotonic()
            with (
                mock.patch("library_xmlrpc.CONNECT_SECONDS", connect_seconds),
                self.assertRaises(ConnectError) as caught,
            ):
                api.create("Emma")
            self.assertLess(time.monotonic() - start, SOON)
            what = rf"cannot connect to {re.escape(api.url)}: the host's name can't be looked up"
            self.assertRegex(str(caught.exception), rf"\A{what}\Z")
            self.assertEqual(caught.exception.hint, "check the name and the network")

    @unittest.skipUnless(hasattr(signal, "pthread_kill"), "needs signals")
    def test_ctrl_c_ends_one(self) -> None:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
        self.addCleanup(signal.signal, signal.SIGINT, before)
        endless, main_thread = self.endless(), _thread.get_ident()

        def interrupt() -> None:
            time.sleep(0.1)
            signal.pthread_kill(main_thread, signal.SIGINT)
            endless()

        api = self.api_of(interrupt)
        api._uid = 2
        self.assertRaises(KeyboardInterrupt, api.create, "Emma")
        self.assertFalse(api.change_sent)
