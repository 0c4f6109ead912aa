"""Ctrl-C at every line that runs: whatever was changed, the command has said so.

An interrupt is raised at the first line of a command, in another run at the second, and so on. What
was printed, the messages, and what is stored then must fit.
"""

from __future__ import annotations

import itertools
import re
import sys
import unittest
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any
from unittest import mock

import library
import library_xmlrpc
from tests.standin import StandIn
from tests.support import CommandLineTestCase, enter

FILES = (library.__file__, library_xmlrpc.__file__)


class InterruptTests(CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)  # of a socket not yet in its `with`
        standin = enter(self, StandIn())
        self.environ.update(ODOO_URL=standin.url, ODOO_PASSWORD="admin")
        self.api = library_xmlrpc.LibraryAPI(
            "127.0.0.1", standin.port, "odoo-dev", "admin", "admin"
        )

    def books(self) -> dict[int, str]:
        return {book["id"]: book["name"] for book in self.api.iter_books()}

    def runs(self, function: str, argv: Callable[[], Sequence[str]]) -> Iterator[tuple[str, str]]:
        """Run a command again and again, each time with Ctrl-C a line later; what it printed."""
        for number in itertools.count(1):
            lines = 0  # that have run since the command's function was called

            def trace(frame: FrameType, event: str, arg: object, stop: int = number) -> Any:
                nonlocal lines
                # Near these, a finalizer of Python's would swallow it, or complain.
                near_finalizers = frame.f_code.co_name in ("close", "makefile", "readable")
                if frame.f_code.co_filename not in FILES or near_finalizers:
                    return None
                if event == "line" and (lines or frame.f_code.co_name == function):
                    lines += 1
                    if lines == stop:
                        raise KeyboardInterrupt
                return trace

            sys.settrace(trace)
            try:
                status, out, err = self.run_cli(*argv())
            finally:
                sys.settrace(None)
            if lines < number:
                break
            with self.subTest(line=number):
                self.assertEqual(status, 130)
                self.assertRegex(err, r"\Alibrary\.py: interrupted\n(library\.py: .*\n)?\Z")
                yield out, err
        self.assertEqual((status, err), (0, ""))
        self.assertGreater(number, 50)

    def test_add(self) -> None:
        before: dict[int, str] = {}
        for out, err in self.runs("add_books", lambda: ("add", "Emma")):
            after = self.books()
            added = set(after) - set(before)
            for id in map(int, re.findall("Book added with ID ([0-9]+) ", out)):
                self.assertIn(id, added)
            if added and not out:
                (id,) = added
                said = re.search(
                    "check with list whether it was added|added with IDs: ([0-9]+)", err
                )
                assert said, err
                self.assertIn(said[1], (None, str(id)))
            before = after

    def test_add_file(self) -> None:
        titles = ["a", "b", "c", "d", "e"]
        path = self.write_file("\n".join(titles).encode())
        with mock.patch("library.BATCH", 2):
            for out, err in self.runs("add_books", lambda: ("add", "--file", path)):
                stored = self.books()
                for id in list(stored):
                    self.api.unlink(id)
                printed = set(map(int, re.findall("Book added with ID ([0-9]+) ", out)))
                self.assertLessEqual(printed, set(stored))
                named = re.search("added with IDs: ([0-9 ]+)", err)
                if named:
                    self.assertLessEqual(set(map(int, named[1].split())), set(stored))
                    printed.update(map(int, named[1].split()))
                unknown = re.search("whether lines ([0-9]+) to ([0-9]+) of", err)
                first, last = map(int, unknown.groups()) if unknown else (1, 0)
                for id in set(stored) - printed:
                    self.assertIn(stored[id], titles[first - 1 : last], err)
                again = re.search("start again at line ([0-9]+) of .*: nothing from there on", err)
                if again:
                    self.assertEqual(sorted(stored.values()), titles[: int(again[1]) - 1])
                elif len(stored) < len(titles) and stored:
                    self.assertTrue(unknown, err)

    def test_set(self) -> None:
        id = self.api.create("Emma")
        for out, err in self.runs("set_title", lambda: ("set", str(id), "Evelina")):
            if self.books()[id] == "Evelina" and not out:
                self.assertRegex(err, "check with list whether the title was set|the title was set")
            elif out or "\nlibrary.py: the title was set" in err:
                self.assertEqual(self.books()[id], "Evelina")
            self.api.write(id, "Emma")

    def test_del(self) -> None:
        ids: list[int] = []

        def argv() -> Sequence[str]:
            ids[:] = self.api.create_many(["Emma", "Evelina", "Persuasion"])
            return ("del", *map(str, ids))

        with mock.patch("library.BATCH_IDS", 2):
            for out, err in self.runs("delete_books", argv):
                deleted = set(ids).difference(self.books())
                said = set(map(int, re.findall("Book with ID ([0-9]+) was deleted", out)))
                named = re.search("library.py: deleted: ([0-9 ]+)", err)
                said.update(map(int, named[1].split()) if named else ())
                self.assertLessEqual(said, deleted)
                if deleted - said:
                    self.assertIn("check with list what was deleted", err)


if __name__ == "__main__":
    unittest.main()
