"""What the tests share: servers, and the command line run with settings of its own."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import tempfile
import unittest
from collections.abc import Iterator
from getpass import GetPassWarning
from typing import Any, Callable, TypeVar, Union
from unittest import mock

import library
from library_xmlrpc import LibraryAPI
from tests.proxy import Proxy
from tests.standin import StandIn

T = TypeVar("T")
Expected = Union[str, "re.Pattern[str]"]

# A command for each kind of call that can go wrong; the changes among them.
COMMANDS = {
    "authenticate": ("list",),
    "search_read": ("list", "moby"),
    "create": ("add", "Moby-Dick"),
    "write": ("set", "1", "Moby Dick"),
    "unlink": ("del", "1"),
}
CHANGES = ("create", "write", "unlink")


def enter(case: Any, manager: contextlib.AbstractContextManager[T]) -> T:
    """unittest's enterContext or enterClassContext, which Python has since 3.11."""
    add = case.addCleanup if isinstance(case, unittest.TestCase) else case.addClassCleanup
    entered = manager.__enter__()
    add(manager.__exit__, None, None, None)
    return entered


def unused_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def full_port(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port at which a connection is neither taken nor refused: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def heed_signals() -> None:
    """Undo that a shell's background jobs, or nohup, ignore signals: children would do so too."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


class HomeTestCase(unittest.TestCase):
    """Tests apart from the user's settings and caches: `environ` is of a `home` of their own."""

    def setUp(self) -> None:
        self.home = enter(self, tempfile.TemporaryDirectory())
        self.environ = {
            "HOME": self.home,
            "USERPROFILE": self.home,  # Windows' HOME
            "XDG_CONFIG_HOME": os.path.join(self.home, "config"),
            "XDG_CACHE_HOME": os.path.join(self.home, "cache"),
            "PATH": os.environ["PATH"],
        }

    def write_file(self, content: bytes, name: str = "titles.txt") -> str:
        """Write a file in `home`, and give its path."""
        path = os.path.join(self.home, name)
        with open(path, "wb") as file:
            file.write(content)
        return path


class StandInTestCase(HomeTestCase):
    """Tests with a stand-in, and before it a proxy, which is the server in `environ`."""

    standin: StandIn
    proxy: Proxy
    api: LibraryAPI  # of the stand-in

    @classmethod
    def setUpClass(cls) -> None:
        cls.standin = enter(cls, StandIn())
        cls.proxy = enter(cls, Proxy(cls.standin.url))
        cls.api = LibraryAPI("127.0.0.1", cls.standin.port, "odoo-dev", "admin", "admin")

    def setUp(self) -> None:
        super().setUp()
        self.environ.update(ODOO_URL=self.proxy.url, ODOO_PASSWORD="admin")


class Output(io.StringIO):
    """Standard output, in an encoding that a test can set."""

    encoding: Any = None


class CommandLineTestCase(HomeTestCase):
    """Tests that run `library.main` in this process."""

    backend: Callable[..., LibraryAPI] = LibraryAPI

    def run_cli(
        self, *argv: str, terminal: bool = False, encoding: str | None = None
    ) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a command.

        If `terminal` is true, standard error is one. `encoding` is standard output's.
        """
        out, err = Output(), io.StringIO()
        closed_at_the_end = contextlib.ExitStack()

        def backend(*login: Any, **settings: Any) -> LibraryAPI:
            api = self.backend(*login, **settings)
            return closed_at_the_end.enter_context(contextlib.closing(api))

        with (
            closed_at_the_end,
            mock.patch.object(out, "encoding", encoding),
            mock.patch.object(err, "isatty", lambda: terminal),
            mock.patch.dict(os.environ, self.environ, clear=True),
            mock.patch("sys.stdin", io.StringIO("no password\n")),
            mock.patch("getpass.getpass", side_effect=GetPassWarning),  # there is no terminal
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = library.main(argv, backend=backend)
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
