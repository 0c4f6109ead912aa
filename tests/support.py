"""What the tests share: the command line run in this process, with settings of its own."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import unittest
from typing import Callable, TypeVar, Union
from unittest import mock

import library
from library_xmlrpc import LibraryAPI

T = TypeVar("T")
Expected = Union[str, "re.Pattern[str]"]


def enter_for_class(
    case: type[unittest.TestCase], manager: contextlib.AbstractContextManager[T]
) -> T:
    """unittest's enterClassContext, which Python has since 3.11."""
    case.addClassCleanup(manager.__exit__, None, None, None)
    return manager.__enter__()


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


class HomeTestCase(unittest.TestCase):
    """Tests apart from the user's settings and caches: `environ` is of a `home` of their own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name
        self.environ = {
            "HOME": self.home,
            "XDG_CONFIG_HOME": os.path.join(self.home, "config"),
            "XDG_CACHE_HOME": os.path.join(self.home, "cache"),
            "PATH": os.environ["PATH"],
        }


class CommandLineTestCase(HomeTestCase):
    """Tests that run `library.main` in this process."""

    backend: Callable[..., LibraryAPI] = LibraryAPI

    def run_cli(
        self, *argv: str, stdin: io.StringIO | None = None, terminal: bool = False
    ) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a command."""
        out, err = io.StringIO(), Terminal() if terminal else io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environ, clear=True),
            mock.patch("sys.stdin", stdin or io.StringIO()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = library.main(argv, backend=self.backend)
        return status, out.getvalue(), err.getvalue()

    def check(self, *argv: str, status: int = 0, out: Expected = "", err: Expected = "") -> None:
        """Run a command; its exit status, standard output and standard error must all fit."""
        actual = self.run_cli(*argv)
        self.assertEqual(actual[0], status, actual)
        for expected, text in ((out, actual[1]), (err, actual[2])):
            if isinstance(expected, str):
                self.assertEqual(text, expected)
            else:
                self.assertRegex(text, expected)
