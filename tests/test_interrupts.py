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
from library_xmlrpc import LibraryAPI
from tests.support import CommandLineTestCase, StandInTestCase, enter

FILES = (library.__file__, library_xmlrpc.__file__)
# Near these, a finalizer of Python's would swallow it, or they run for each octet.
NOT_IN = ("__del__", "makefile", "recv_into", "_seconds_until")

# What may stand on standard error. The last line is the note: what was changed, how to go on.
MESSAGES = re.compile(
    r"(?:library\.py: left out \d+ of \d+ titles: they are there already\n)?"
    r"library\.py: interrupted\n(?:library\.py: (.*)\n)?"
)


class InterruptTests(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)  # of a socket not yet in its `with`
        enter(self, mock.patch.multiple("library", BATCH=2, BATCH_IDS=2))
        self.environ["ODOO_URL"] = self.standin.url
        self.threads, self.has_sockets = set(threading.enumerate()), True
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
            sys.settrace(trace)
            return LibraryAPI(*login, **settings)

        self.backend = start_tracing
        try:
            with mock.patch("library.parse_arguments", return_value=args):
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
        lines = [line[1] for line in vars(args).get("file") or ()] if argv[0] == "add" else []
        books = dict(enumerate(before.split(), start=1))
        ends = set()
        for stop in itertools.count(1):
            self.reset(before)
            status, out, err = self.interrupt(stop, function, args)
            if status == 0:
                break
            with self.subTest(argv, line=stop):
                messages = MESSAGES.fullmatch(err)
                self.assertTrue(messages, err)
                note = messages and messages[1] or ""
                changed = dict(books.items() ^ self.books().items())
                self.check_truth(note, out, changed, lines)
                end = out, err, tuple(changed.items())
                if end not in ends:
                    self.check_end(note, argv, sorted(before.split()), sorted(after.split()))
                ends.add(end)
        self.assertGreater(stop, 50)
        self.assertGreater(len(ends), 3)

    def check_truth(
        self, note: str, out: str, changed: dict[int, str], lines: Sequence[str]
    ) -> None:
        """Each change is printed or named, or it is said that it may have been made."""
        said = set(map(int, re.findall("ID ([0-9]+) ", out)))
        named = re.match("done, but not printed: ID ([0-9 ]+)", note)
        said.update(map(int, named[1].split() if named else ()))
        self.assertLessEqual(said, changed.keys())
        unsaid = {changed[id] for id in changed.keys() - said}
        perhaps = re.match(r"(?:lines (\d+) to (\d+)|the book|the change) may have been", note)
        self.assertTrue(perhaps or not unsaid)
        if perhaps and perhaps[1]:
            self.assertLessEqual(unsaid, set(lines[int(perhaps[1]) - 1 : int(perhaps[2])]))
        for first, last in re.findall(
            r"lines (\d+) to (\d+), and all after them, were not added", note
        ):
            later = set(lines[int(first) - 1 : int(last)]) - set(lines[: int(first) - 1])
            self.assertFalse(set(changed.values()) & later)

    def check_end(
        self, note: str, argv: Sequence[str], before: list[str], after: list[str]
    ) -> None:
        """What the note says to do does the rest; without a note nothing was done, or all."""
        if re.search("again|go on", note):
            more = " ".join(re.findall("--from-line [0-9]+|--skip-existing", note))
            status, _, err = self.run_cli(*argv, *more.split())
            self.assertIn(status, (0, 1) if argv[0] == "del" else (0,), err)
        self.assertIn(sorted(self.books().values()), [after] if note else [before, after])

    def test_each_line_of_a_call(self) -> None:
        self.check_each_line("add_books", ("add", "a"), "b", "a b")

    def test_each_line_of_a_command(self) -> None:
        titles = self.write_file(b"a\nb\nc\nd")
        some = self.write_file(b"a\na\nd\nb\na\nc", "some.txt")
        books = [b'{"id": %d, "name": "%c"}' % book for book in enumerate(b"ABCD", start=1)]
        file = self.write_file(b"\n".join(books), "books.jsonl")
        enter(self, mock.patch("library_xmlrpc._Transport.post", self.post))
        self.has_sockets = False
        for function, argv, before, after in (
            ("add_books", ("add", "a", "--skip-existing"), "b", "a b"),
            ("add_books", ("add", "--file", titles), "", "a b c d"),
            ("add_books", ("add", "--file", some, "--skip-existing"), "d", "d a b c"),
            ("set_titles", ("set", "1", "A"), "a b", "A b"),
            ("set_titles", ("set", "--file", file), "a B c d", "A B C D"),
            ("delete_books", ("del", "1", "2"), "a b c", "c"),
            ("delete_books", ("del", "--file", file), "a b c d e", "e"),
        ):
            self.check_each_line(function, argv, before, after)
