"""The real program: its run bit, pipes, a full disk, signals, locales, and what it imports."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

from tests.proxy import Exchange
from tests.support import StandInTestCase, heed_signals

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(FOLDER, "library.py")


class ProcessTestCase(StandInTestCase):
    def start(self, *argv: str, program: str = PROGRAM) -> subprocess.Popen[str]:
        """Start the program as one process, of which signals and output are the program's own."""
        process = subprocess.Popen(
            (sys.executable, program, *argv),
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_signals,
        )
        self.addCleanup(process.kill)
        return process

    def check_shell(self, script: str, status: int, out: str, err: str) -> None:
        """Run a shell script in which $library is the program; `out` and `err` are patterns."""
        environ = {**self.environ, "library": f"{sys.executable} library.py"}
        argv = ("bash", "-o", "pipefail", "-c", script)
        done = subprocess.run(argv, env=environ, cwd=FOLDER, capture_output=True, text=True)
        with self.subTest(script):
            self.assertEqual(done.returncode, status, done)
            self.assertRegex(done.stdout, rf"\A{out}\Z")
            self.assertRegex(done.stderr, rf"\A{err}\Z")


class StreamTests(ProcessTestCase):
    def test_the_run_bit_and_the_first_line(self) -> None:
        self.check_shell("./library.py --version", 0, "library.py .*\n", "")

    def test_a_reader_that_stops_early(self) -> None:
        (id, *_) = self.api.create_many(["title"] * 3000)
        missing = "library.py: error: there is no book with ID 99999\n"
        self.check_shell("$library list | head -1", 0, ".+\n", "")
        self.check_shell("$library --help | true", 0, "", "")
        self.check_shell(f"$library del {id} 99999 | true", 1, "", missing)
        self.check_shell("$library del 99999 2>&1 | true", 1, "", "")
        path = self.write_file(b"title\n" * 1000)
        self.check_shell(f"$library add --file {path} | true", 0, "", "")
        path = self.write_file(b"title\n" * 2500)  # of which not all is added then
        err = "library.py: error: cannot write the output: Broken pipe\nlibrary.py: "
        err += r"go on with: python3 library.py add --file .* --from-line \d+; added with IDs: .*\n"
        self.check_shell(f"$library add --file {path} | head -1", 1, "Book .*\n", err)

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs Linux's /dev/full")
    def test_a_full_disk(self) -> None:
        path = self.write_file(b"title\n" * 2500)
        first, second = self.api.create_many(["Emma", "Evelina"])
        error = "library.py: error: cannot write the output: No space left on device\n"
        again = "go on with: python3 library.py add --file .* --from-line 1001"
        for command, hint in (
            ("list", ""),
            ("--help", ""),
            ("add Emma", "added with IDs: [0-9]+"),
            (f"add --file {path}", f"{again}; added with IDs: [0-9]+ to [0-9]+"),
            (f"set {first} Emma", "the title was set"),
            (f"del {first} {second}", f"deleted: {first} {second}"),
        ):
            err = error + f"library.py: {hint}\n" * bool(hint)
            self.check_shell(f"$library {command} >/dev/full", 1, "", err)

    def test_standard_input(self) -> None:
        self.check_shell(r"printf 'a\nb\n' | $library add -q --file -", 0, "[0-9]+\n[0-9]+\n", "")

    def test_streams_that_are_closed(self) -> None:
        error = "library.py: error: cannot write the output: not writable\n"
        self.check_shell("$library add Emma >&-", 1, "", error + ".*added with IDs: [0-9]+\n")
        self.check_shell("$library list no-such-book >&-", 0, "", "")
        self.check_shell("$library del x 2>&-", 2, "", "")
        error = ".*cannot read standard input: Bad file.*\n"
        self.check_shell("$library add --file - <&-", 2, "", error)

    def test_an_ascii_locale(self) -> None:
        self.check_shell("$library add -q 'Émile 漢'", 0, "[0-9]+\n", "")
        self.environ["PYTHONIOENCODING"] = "ascii"
        self.check_shell("$library list mile", 0, r"[0-9]+ \\xc9mile \\u6f22\n", "")
        self.environ.update(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
        self.check_shell(
            "$library add 'Émile'", 2, "", ".*TITLE can't hold text that is not valid UTF-8\n"
        )


class SignalTests(ProcessTestCase):
    def interrupt(
        self, method: str, *argv: str, signum: int = signal.SIGINT, program: str = PROGRAM
    ) -> tuple[int, str, str]:
        """A signal while the server works on a call of `method`; the status as Python gives it."""

        def hold(exchange: Exchange) -> None:
            time.sleep(0.05)  # until it waits for the answer
            process.send_signal(signum)
            exchange.hold()

        with self.proxy.answering(method, hold):
            process = self.start(*argv, program=program)
            out, err = process.communicate(timeout=20)
        return process.returncode, out, err

    def test_a_signal(self) -> None:
        wait = "library.py: the book may have been added: wait a little, then look for a new ID: "
        wait += f'{PROGRAM} list "Emma"\n'
        for method, argv, signum, hint in (
            ("authenticate", ("list",), signal.SIGINT, ""),
            ("search_read", ("list",), signal.SIGINT, ""),
            ("create", ("add", "Emma"), signal.SIGINT, wait),
            ("create", ("add", "Emma"), signal.SIGTERM, wait),
            ("create", ("add", "Emma"), signal.SIGHUP, wait),
        ):
            actual = self.interrupt(method, *argv, signum=signum)
            self.assertEqual(actual, (-signum, "", f"library.py: interrupted\n{hint}"))

    def test_the_installed_command_dies_of_a_signal(self) -> None:
        """What pyproject.toml has a wrapper call and exit with, as this one does."""
        with open(os.path.join(FOLDER, "pyproject.toml"), encoding="utf-8") as file:
            (function,) = re.findall('^library = "library:(.+)"$', file.read(), re.MULTILINE)
        wrapper = f"import sys; sys.path.append({FOLDER!r}); import library\n"
        path = self.write_file(f"{wrapper}sys.exit(library.{function}())\n".encode(), "library")
        actual = self.interrupt("search_read", "list", program=path)
        self.assertEqual(actual, (-signal.SIGINT, "", "library: interrupted\n"))

    def test_what_was_deleted_and_nobody_read(self) -> None:
        """Ctrl-C where the output has filled a pipe: all that was deleted is named."""
        ids = self.api.create_many(["Emma"] * 4000)
        process = self.start("del", *map(str, ids))
        while self.api.search_read("emma", 1):
            time.sleep(0.05)
        time.sleep(0.3)  # to print as much as the pipe takes
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        deleted = f"library.py: deleted: {ids[0]} to {ids[-1]}\n"
        self.assertEqual(err, "library.py: interrupted\n" + deleted)
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_ctrl_c_during_the_imports(self) -> None:
        module = b"import os, time; os.kill(os.getpid(), 2); time.sleep(9)"
        self.write_file(module, "library_xmlrpc.py")
        process = self.start("list", program=shutil.copy(PROGRAM, self.home))
        self.assertEqual(process.communicate(timeout=20), ("", ""))
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_ctrl_c_that_is_ignored_is_ignored(self) -> None:
        """As in a background job of a script."""
        path = os.path.join(self.home, "pid")

        def interrupt(exchange: Exchange) -> None:
            with open(path) as file:
                os.kill(int(file.read()), signal.SIGINT)

        script = f"trap '' INT; echo $$ >{path}; exec $library list"
        with self.proxy.answering("search_read", interrupt):
            self.check_shell(script, 3, "", ".*connection closed\n")

    def test_nobody_waits_for_pages_on_their_way(self) -> None:
        self.api.create_many(["title"] * 10_000)
        self.environ["ODOO_TIMEOUT"] = "20"

        def hold_the_last(exchange: Exchange) -> None:  # which asks for fewer books
            exchange.pass_on() if len(exchange.request) > 200_000 else exchange.hold()

        login = (*self.proxy.address, "odoo-dev", "admin", "admin")
        script = f"from library_xmlrpc import LibraryAPI; api = LibraryAPI(*{login}, timeout=15)"
        script += "; books = api.iter_books(); [next(books) for _ in range(1001)]; print('seen')"
        start = time.monotonic()
        status, _, err = self.interrupt("read", "list", "--limit", "2000")
        self.assertEqual((status, err), (-signal.SIGINT, "library.py: interrupted\n"))
        with self.proxy.answering("read", hold_the_last):
            self.check_shell("$library list | head -1", 0, ".+\n", "")
        with self.proxy.answering("read", hold_the_last):
            self.check_shell(f'{sys.executable} -c "{script}"', 0, "seen\n", "")
        self.assertLess(time.monotonic() - start, 10)

    def test_the_first_page_is_shown_before_the_next_is_there(self) -> None:
        """However much standard output would keep."""
        self.api.create_many(["title"] * 2000)
        shown = open(os.path.join(self.home, "shown"), "w")  # noqa: SIM115
        self.addCleanup(shown.close)

        def look(exchange: Exchange) -> None:
            with open(shown.name) as file:
                counts.append(file.read().count("\n"))
            exchange.pass_on()

        counts: list[int] = []
        program = "import io, sys, library; "
        program += (
            "sys.stdout = io.TextIOWrapper(io.BufferedWriter(sys.stdout.buffer.raw, 2**20)); "
        )
        program += "sys.exit(library.main(['list']))"
        argv = (sys.executable, "-c", program)
        with self.proxy.answering("search", look):
            subprocess.run(argv, env=self.environ, cwd=FOLDER, stdout=shown, check=True)
        self.assertEqual(counts, [1000])

    def test_what_is_printed_is_stored_when_killed(self) -> None:
        path = self.write_file(b"title\n" * 20_000)
        for milliseconds in (150, 250, 350, 450):
            process = self.start("add", "-q", "--file", path)
            time.sleep(milliseconds / 1000)
            process.kill()
            out, _ = process.communicate()
            printed = {int(line) for line in out.split("\n")[:-1]}
            self.assertLessEqual(printed, {book["id"] for book in self.api.iter_books()})


class ModuleTests(ProcessTestCase):
    def test_a_list_imports_nothing_it_does_not_use(self) -> None:
        unwanted = (
            "asyncio concurrent.futures configparser encodings.idna getpass hashlib json logging "
            "pathlib queue shlex shutil sqlite3 subprocess tempfile threading traceback typing "
            "xmlrpc.server"
        )
        if sys.version_info < (3, 14):  # whose argparse needs these for its colours
            unwanted += " dataclasses inspect"
        program = "import sys, library; status = library.main(['list', 'no-such-book']); "
        program += "print(status, *set(sys.argv[1:]).intersection(sys.modules))"
        for _ in range(2):  # the second with a remembered uid
            self.check_shell(f'{sys.executable} -S -c "{program}" {unwanted}', 0, "0\n", "")

    def test_the_module_without_a_server(self) -> None:
        """`python3 library_xmlrpc.py`, whose server is the tutorial's."""
        with contextlib.suppress(OSError):
            socket.create_connection(("localhost", 8069), timeout=1).close()
            self.skipTest("there is a server at port 8069")
        error = r"library_xmlrpc\.py: error: cannot connect .*\n"
        self.check_shell(f"{sys.executable} library_xmlrpc.py", 1, "", error)
        shown = "<LibraryAPI http://localhost:8069 .*\n"
        session = f"echo 'print(api)' | {sys.executable} -i library_xmlrpc.py"
        self.check_shell(session, 0, shown, rf"{error}(>>> )*\n?")
