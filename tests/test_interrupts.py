"""Ctrl-C at every line that runs: whatever was changed, the command has said so."""

from __future__ import annotations

import itertools
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any
from unittest import mock

import library
import library_xmlrpc
from library_xmlrpc import LibraryAPI
from tests.support import CommandLineTestCase, StandInTestCase, enter

FILES = (library.__file__, library_xmlrpc.__file__)


class InterruptTests(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)  # of a socket not yet in its `with`
        self.environ["ODOO_URL"] = self.standin.url

    def sql(self, statement: str, *params: str) -> dict[int, str]:
        """Past the API, which would take most of the time of the hundreds of runs."""
        with self.standin._lock, self.standin._connection as connection:
            return dict(connection.execute(statement, params))

    def books(self) -> dict[int, str]:
        return self.sql("SELECT id, name FROM book")

    def runs(
        self, function: str, argv: Callable[[], Sequence[str]]
    ) -> Iterator[tuple[str, dict[int, str], set[int]]]:
        """Run a command again and again, each time with Ctrl-C a line later.

        Gives its messages, the books that it changed, and those of which it has not said so.
        """
        for number in itertools.count(1):
            lines = 0  # that have run since the command's function was called

            def trace(frame: FrameType, event: str, arg: object, stop: int = number) -> Any:
                nonlocal lines
                # Near these, a finalizer of Python's would swallow it, or complain.
                names = ("close", "end", "_end_all", "makefile", "readable")
                near_finalizers = frame.f_code.co_name in names
                if frame.f_code.co_filename not in FILES or near_finalizers:
                    return None
                if event == "line" and (lines or frame.f_code.co_name == function):
                    lines += 1
                    if lines == stop:
                        raise KeyboardInterrupt
                return trace

            def start_tracing(*login: Any, trace: Any = trace, **settings: Any) -> LibraryAPI:
                """What comes before the API is made needs no test."""
                frame = sys._getframe()
                while frame.f_back:
                    frame = frame.f_back
                    frame.f_trace = trace if frame.f_code.co_filename in FILES else None
                sys.settrace(trace)
                return LibraryAPI(*login, **settings)

            self.sql("DELETE FROM book")
            arguments, before = argv(), self.books()
            self.backend = start_tracing
            try:
                status, out, err = self.run_cli(*arguments)
            finally:
                sys.settrace(None)
            if lines < number:
                break
            changed = dict(before.items() ^ self.books().items())
            said = re.findall("ID ([0-9]+) ", out)
            for ids in re.findall("(?:added with IDs|deleted): ([0-9 ]+)", err):
                said += ids.split()
            with self.subTest(function, line=number):
                self.assertEqual(status, 130)
                self.assertRegex(err, r"\Alibrary\.py: interrupted\n(library\.py: .*\n)?\Z")
                self.assertLessEqual(set(map(int, said)), set(changed))
                yield err, changed, changed.keys() - map(int, said)
        self.assertEqual((status, err), (0, ""))
        self.assertGreater(number, 50)

    def test_one_change(self) -> None:
        def new(*titles: str) -> list[str]:
            for title in titles:
                self.sql("INSERT INTO book (name, active) VALUES (?, 1)", title)
            return list(map(str, self.books()))

        for function, argv, unknown in (
            (
                "add_books",
                lambda: ("add", "Emma"),
                ': library.py list "Emma"',
            ),
            ("set_title", lambda: ("set", *new("Emma"), "Evelina"), "run it again"),
            ("delete_books", lambda: ("del", *new("a", "b", "c")), "run it again"),
        ):
            with mock.patch("library.BATCH_IDS", 2):
                for err, changed, unsaid in self.runs(function, argv):
                    if unsaid and "the title was set" not in err:
                        self.assertIn(unknown, err)
                    if "\nlibrary.py: the title was set" in err:
                        self.assertTrue(changed)

    def test_add_file(self) -> None:
        titles = ["a", "b", "c", "d", "e"]
        path = self.write_file("\n".join(titles).encode())
        with mock.patch("library.BATCH", 2):
            for err, stored, unsaid in self.runs("add_books", lambda: ("add", "--file", path)):
                unknown = re.search("lines ([0-9]+) to ([0-9]+) of", err)
                first, last = map(int, unknown.groups()) if unknown else (1, 0)
                for id in unsaid:
                    self.assertIn(stored[id], titles[first - 1 : last], err)
                again = re.search("go on with: .* --from-line ([0-9]+)", err)
                if again and not unknown:
                    self.assertEqual(sorted(stored.values()), titles[: int(again[1]) - 1])
                elif len(stored) < len(titles) and stored:
                    self.assertTrue(unknown, err)
