"""Ctrl-C at every line that runs: a command says what it has changed, and how to go on.

What it says is true and complete, and what it says to do does the rest, and nothing twice.
"""

from __future__ import annotations

import itertools
import re
import sys
import threading
import warnings
from argparse import Namespace
from collections.abc import Sequence
from types import FrameType, SimpleNamespace
from typing import Any
from unittest import mock

import library
import library_xmlrpc
from library_xmlrpc import QUESTIONS, LibraryAPI
from tests.support import CommandLineTestCase, StandInTestCase, enter

FILES = (library.__file__, library_xmlrpc.__file__)
# Functions to skip: a finalizer of Python's would swallow the Ctrl-C, or they run for each byte.
NOT_IN = ("__del__", "makefile", "recv_into", "_seconds_until")
BEGINNING = ("execute_kw", "_service")  # what runs before a request is written
SENDING = ("post", "sendall")  # and while it is sent

# What standard error may contain: a summary; books left alone; IDs changed but not printed; and a
# hint, for a change in doubt or for the rest of the work.
MESSAGES = re.compile(
    r"(?:library\.py: \w+ \d of \d \w+(?:: .*)?\n)?(?:library\.py: error: .* ID 2\n)?"
    r"library\.py: interrupted(?:; done, but perhaps not printed: ID ([0-9 ]+))?\n"
    r"(?:library\.py: (?:(the change may have been made: wait a little, then)|for the rest,)"
    r" run it again with (--skip-existing|the same input)\n)?"
)


class InterruptTests(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)  # of a socket not yet in its `with`
        enter(self, mock.patch("library.batches.__defaults__", (2, library.BATCH_CHARACTERS)))
        enter(self, mock.patch("library.BATCH_IDS", 2))
        self.environ["ODOO_URL"] = self.standin.url
        self.threads, self.has_sockets = set(threading.enumerate()), True
        self.method = self.function = ""  # what was called and what ran when Ctrl-C came
        self.run_cli("list")  # which remembers the uid

    def sql(self, statement: str, *params: str) -> dict[int, str]:
        """Past the API, which would take most of the time of the hundreds of runs."""
        with self.standin._lock, self.standin._connection as connection:
            return dict(connection.execute(statement, params))

    def books(self) -> dict[int, str]:
        return self.sql("SELECT id, name FROM book")

    def reset(self, titles: str) -> None:
        """Make a catalogue of the books 1, 2, ... with these words as titles."""
        self.sql("DELETE FROM book")
        self.sql("DELETE FROM sqlite_sequence")
        for title in titles.split():
            self.sql("INSERT INTO book (name, active) VALUES (?, 1)", title)

    def post(self, path: str, request: bytes, headers: object) -> tuple[Any, bytearray]:
        """What _Transport.post does, without the time that sockets and threads take."""
        self.transport.has_sent = False
        self.transport.has_sent = True
        reply = self.standin._marshaled_dispatch(request, path=path)
        return SimpleNamespace(status=200), bytearray(reply)

    def interrupt(self, stop: int, function: str, args: Namespace) -> tuple[int, str, str]:
        """Run a command with Ctrl-C at the `stop`th line since `function` was called."""
        lines = 0

        def trace(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal lines
            code = frame.f_code
            is_ours = code.co_filename in FILES and code.co_name not in NOT_IN
            if not is_ours and code is not InterruptTests.post.__code__:
                return None
            if event == "line" and (lines or code.co_name == function):
                lines += 1
                if lines == stop:
                    self.method, self.function = called(frame), code.co_name
                    raise KeyboardInterrupt
            if event == "return" and code.co_name == "main":
                sys.settrace(None)
            return trace

        def start_tracing(*login: Any, **settings: Any) -> LibraryAPI:
            """What comes before the API is made needs no test."""
            frame = sys._getframe()
            while frame.f_back:
                frame = frame.f_back
                frame.f_trace = trace if frame.f_code.co_filename in FILES else None
            api = LibraryAPI(*login, **settings)
            self.transport = api.transport
            sys.settrace(trace)
            return api

        self.backend = start_tracing
        try:
            with mock.patch("library.parse_arguments", lambda argv: args):
                return self.run_cli()
        finally:
            sys.settrace(None)
            self.backend = LibraryAPI
            if self.has_sockets:  # the server may still be at work
                self.api.version()  # now it has taken up what was sent before,
                for thread in set(threading.enumerate()) - self.threads:
                    thread.join()  # and done it

    def check_each_line(self, function: str, argv: Sequence[str], before: str, after: str) -> None:
        """Interrupt a command at each line. The titles before and after it are words."""
        args = library.parse_arguments(argv)
        books = dict(enumerate(before.split(), start=1))
        ends = set()
        for stop in itertools.count(1):
            self.reset(before)
            _, out, err = self.interrupt(stop, function, args)
            if "interrupted" not in err:
                break
            with self.subTest(argv, line=stop):
                messages = MESSAGES.fullmatch(err)
                assert messages, err
                unprinted, maybe, again = messages.groups("")
                changed = dict(books.items() ^ self.books().items())
                # Each change is printed or named, or it is said that it may have been made.
                said = {*re.findall("ID ([0-9]+) ", out), *unprinted.split()}
                unsaid = changed.keys() - set(map(int, said))
                self.assertEqual(len(changed) - len(unsaid), len(said))
                if unsaid or maybe:
                    self.assertTrue(maybe and (unsaid or self.may_be_in_doubt(changed)), err)
                    self.assertEqual(unprinted, "")
                end = out, err, tuple(changed.items())
                if end not in ends:
                    self.check_end(again, argv, sorted(before.split()), sorted(after.split()))
                ends.add(end)
        self.assertGreater(stop, 50)
        self.assertGreater(len(ends), 3)

    def may_be_in_doubt(self, changed: dict[int, str]) -> bool:
        """Whether a change was just being sent, or no call has begun since the one before."""
        if not self.method or self.function in BEGINNING:
            return bool(changed)
        return self.method not in QUESTIONS and self.function in SENDING

    def check_end(
        self, again: str, argv: Sequence[str], before: list[str], after: list[str]
    ) -> None:
        """Following the hint does the rest. Without a hint, nothing was done, or everything."""
        if again:
            self.assertEqual(again, "--skip-existing" if argv[0] == "add" else "the same input")
            more = (again,) if argv[0] == "add" else ()
            status, _, err = self.run_cli(*argv, *more)
            self.assertIn(status, (0, 1) if argv[0] == "del" else (0,), err)
        self.assertIn(sorted(self.books().values()), [after] if again else [before, after])

    def test_each_line_of_a_call(self) -> None:
        self.check_each_line("add_books", ("add", "a"), "b", "a b")

    def test_each_line_of_a_command(self) -> None:
        copies = self.write_file(b"a\na\nb\na")
        some = self.write_file(b"a\nd\nb\nc\na\na", "some.txt")
        books = [b'{"id": %d, "name": "%c"}\n' % book for book in enumerate(b"ABCD", start=1)]
        file = self.write_file(b"".join(books), "books.jsonl")
        enter(self, mock.patch("library_xmlrpc._Transport.post", self.post))
        self.has_sockets = False
        for function, argv, before, after in (
            ("add_books", ("add", "a", "--skip-existing"), "b", "a b"),
            ("add_books", ("add", "--file", copies), "c", "c a a b a"),
            ("add_books", ("add", "--file", some, "--skip-existing"), "a a d", "a a d b c a"),
            ("set_titles", ("set", "1", "A"), "a b", "A b"),
            ("set_titles", ("set", "--file", file), "a B c d", "A B C D"),
            ("delete_books", ("del", "1", "2"), "a b c", "c"),
            ("delete_books", ("del", "--file", file), "A b C D e", "b e"),
        ):
            self.check_each_line(function, argv, before, after)


def called(frame: FrameType | None) -> str:
    """The model's method whose call this frame is a part of, or ""."""
    while frame and frame.f_code.co_name != "execute_kw":
        frame = frame.f_back
    return str(frame.f_locals["call"][1]) if frame else ""
