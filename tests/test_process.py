"""The real program: its run bit, pipes, a full disk, signals, locales, and what it imports."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

from library_xmlrpc import LibraryAPI
from tests.proxy import Exchange, Proxy
from tests.support import StandInTestCase, heed_signals

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(FOLDER, "library.py")


class ProcessTestCase(StandInTestCase):
    def start(self, *argv: str, program: str = PROGRAM, **streams: object) -> subprocess.Popen[str]:
        """Start the program as one process, of which signals and output are the program's own."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        options["preexec_fn"] = heed_signals
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            (sys.executable, program, *argv), env=self.environ, text=True, **options
        )

    def check_shell(self, script: str, status: int, out: str, err: str) -> None:
        """Run a shell script in which $library is the program; all three are patterns."""
        environ = {**self.environ, "library": f"{sys.executable} {PROGRAM}"}
        done = subprocess.run(
            ("bash", "-o", "pipefail", "-c", script), env=environ, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, status, done)
        self.assertRegex(done.stdout, rf"\A{out}\Z")
        self.assertRegex(done.stderr, rf"\A{err}\Z")

    def fill(self, count: int) -> str:
        return self.write_file(b"".join(b"title %d\n" % number for number in range(count)))


class StreamTests(ProcessTestCase):
    def test_the_run_bit_and_the_first_line(self) -> None:
        self.assertTrue(os.access(PROGRAM, os.X_OK))
        done = subprocess.run((PROGRAM, "--version"), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_reader_that_stops_early(self) -> None:
        path = self.fill(3000)
        self.check_shell(f"$library add -q --file {path} | tail -1", 0, "[0-9]+\n", "")
        self.check_shell("$library list | head -1", 0, "[0-9]+ title [0-9]+\n", "")
        self.check_shell(f"$library add --file {self.fill(1000)} | true", 0, "", "")
        self.check_shell("$library --help | true", 0, "", "")
        self.check_shell("$library add Emma | true", 0, "", "")
        missing = "library.py: error: there is no book with ID 99999\n"
        self.check_shell(
            "id=$($library add -q Emma); $library del $id 99999 | true", 1, "", missing
        )

    def test_a_reader_that_stops_before_all_is_added(self) -> None:
        path = self.fill(2500)
        err = "library.py: error: standard output was closed\nlibrary.py: "
        self.check_shell(
            f"$library add --file {path} | head -1",
            1,
            "Book .*\n",
            rf"{err}start again at line \d+ of .*: nothing .*; added with IDs: .*\n",
        )

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs Linux's /dev/full")
    def test_a_full_disk(self) -> None:
        error = "library.py: error: cannot write the output: No space left on device\n"
        self.check_shell("$library add Emma -q", 0, "[0-9]+\n", "")
        self.check_shell("$library list >/dev/full", 1, "", error)
        self.check_shell("$library --help >/dev/full", 1, "", error)
        hint = r"library.py: added with IDs: {}\n".format
        self.check_shell("$library add Emma >/dev/full", 1, "", error + hint("[0-9]+"))
        path = self.fill(2500)
        again = "library.py: start again at line 1001 of .*: nothing from there on was added; "
        ids = again + "added with IDs: [0-9]+ to [0-9]+\n"
        self.check_shell(f"$library add --file {path} >/dev/full", 1, "", error + ids)
        self.check_shell("$library set 1 Emma >/dev/full", 1, "", error + ".*the title was set\n")
        self.check_shell("$library del 1 2 >/dev/full", 1, "", error + ".*deleted: 1 2\n")

    def test_streams_that_are_closed(self) -> None:
        error = "library.py: error: cannot write the output: not writable\n"
        self.check_shell("$library add Emma >&-", 1, "", error + ".*added with IDs: [0-9]+\n")
        self.check_shell("$library list no-such-book >&-", 0, "", "")
        self.check_shell("$library del 99999 2>&-", 1, "", "")
        self.check_shell(
            "$library add --file - <&-", 2, "", ".*cannot read standard input: Bad file.*\n"
        )
        self.check_shell("$library del 99999 2>&1 | true", 1, "", "")

    def test_standard_input(self) -> None:
        self.check_shell(r"printf 'a\nb\n' | $library add -q --file -", 0, "[0-9]+\n[0-9]+\n", "")

    def test_an_ascii_locale(self) -> None:
        self.check_shell("$library add -q 'Émile 漢'", 0, "[0-9]+\n", "")
        self.environ["PYTHONIOENCODING"] = "ascii"
        self.check_shell("$library list mile", 0, r"[0-9]+ \\xc9mile \\u6f22\n", "")
        self.check_shell("$library list --json mile", 0, r'.*"\\u00c9mile \\u6f22"}\n', "")
        self.environ.update(LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
        self.check_shell("$library add 'Émile'", 2, "", ".*TITLE can't hold the character.*\n")


class SignalTests(ProcessTestCase):
    def interrupt(
        self, method: str, *argv: str, signum: int = signal.SIGINT, program: str = PROGRAM
    ) -> tuple[int, str, str]:
        """A signal while the server works on a call of `method`; the status as Python gives it."""
        turn = itertools.count()

        def hold(exchange: Exchange) -> None:
            if next(turn) == 0:  # of two pages on their way
                process.send_signal(signum)
            exchange.hold()

        with self.proxy.answering(method, hold):
            process = self.start(*argv, program=program)
            try:
                out, err = process.communicate(timeout=20)
            finally:
                process.kill()
        return process.returncode, out, err

    def test_ctrl_c_at_a_question(self) -> None:
        for method in ("authenticate", "search_read"):
            actual = self.interrupt(method, "list")
            self.assertEqual(actual, (-signal.SIGINT, "", "library.py: interrupted\n"))

    def test_the_installed_command_dies_of_a_signal(self) -> None:
        """What pyproject.toml has a wrapper call and exit with, as this one does."""
        with open(os.path.join(FOLDER, "pyproject.toml"), encoding="utf-8") as file:
            (function,) = re.findall('^library = "library:(.+)"$', file.read(), re.MULTILINE)
        wrapper = f"import sys; sys.path.append({FOLDER!r}); import library\n"
        path = self.write_file(f"{wrapper}sys.exit(library.{function}())\n".encode(), "library")
        status, _, err = self.interrupt("create", "add", "Emma", program=path)
        self.assertEqual((status, err.splitlines()[0]), (-signal.SIGINT, "library: interrupted"))

    def test_a_signal_while_a_change_is_under_way(self) -> None:
        path = self.fill(2500)
        interrupted = "library.py: interrupted\nlibrary.py: "
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.assertEqual(
                self.interrupt("create", "add", "Emma", signum=signum),
                (
                    -signum,
                    "",
                    interrupted + "wait a little, then check with list whether it was added\n",
                ),
            )
        status, out, err = self.interrupt("create", "add", "--file", path)
        self.assertEqual((status, out), (-signal.SIGINT, ""))
        self.assertRegex(
            err,
            interrupted + "wait a little, then check with list whether lines 1 to 1000 of .* were",
        )

    def test_what_was_deleted_and_nobody_read(self) -> None:
        """Ctrl-C where the output has filled a pipe: all that was deleted is named."""
        api = LibraryAPI("127.0.0.1", self.standin.port, "odoo-dev", "admin", "admin")
        ids = api.create_many(["Emma"] * 4000)
        with self.start("del", *map(str, ids)) as process:
            assert process.stdout and process.stderr
            try:
                while api.search_read("emma", 1):
                    time.sleep(0.05)
                time.sleep(0.3)  # to print as much as the pipe takes
                process.send_signal(signal.SIGINT)
                err = process.stderr.read()
                self.assertEqual(process.wait(timeout=20), -signal.SIGINT)
            finally:
                process.kill()
        deleted = f"library.py: deleted: {ids[0]} to {ids[-1]}\n"
        self.assertEqual(err, "library.py: interrupted\n" + deleted)

    def test_ctrl_c_during_the_imports(self) -> None:
        module = b"import os, time; os.kill(os.getpid(), 2); time.sleep(9)"
        self.write_file(module, "library_xmlrpc.py")
        program = shutil.copy(PROGRAM, self.home)
        process = self.start("list", program=program)
        self.assertEqual(process.communicate(timeout=20), ("", ""))
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_ctrl_c_that_is_ignored_is_ignored(self) -> None:
        """As in a background job of a script."""
        script = "trap '' INT; $library list & p=$!; sleep 0.2; kill -INT $p; wait $p"
        with self.proxy.answering("search_read", lambda exchange: time.sleep(0.4)):
            self.check_shell(script, 3, "", ".*connection closed\n")

    def test_ctrl_c_does_not_wait_for_pages_on_their_way(self) -> None:
        path = self.fill(10_000)
        self.check_shell(f"$library add -q --file {path} | tail -1", 0, "[0-9]+\n", "")
        self.environ["ODOO_TIMEOUT"] = "20"
        start = time.monotonic()
        status, _, err = self.interrupt("read", "list")
        self.assertEqual((status, err), (-signal.SIGINT, "library.py: interrupted\n"))
        # Nor does a reader who has enough: the third page is never answered.
        script = "import itertools, sys; from library_xmlrpc import LibraryAPI; "
        script += "api = LibraryAPI('127.0.0.1', int(sys.argv[1]), 'odoo-dev', 'admin', 'admin'); "
        script += "print(len(list(itertools.islice(api.iter_books(), 1001))))"
        turn = itertools.count()

        def hold(exchange: Exchange) -> None:
            exchange.send(exchange.forward()) if next(turn) < 2 else exchange.hold()

        # A proxy of its own: late requests of those who were interrupted are not counted.
        with Proxy(self.standin.url) as proxy, proxy.answering("read", hold):
            argv = (sys.executable, "-c", script, str(proxy.address[1]))
            done = subprocess.run(argv, cwd=FOLDER, capture_output=True)
        self.assertEqual((done.stdout, done.stderr), (b"1001\n", b""))
        self.assertLess(time.monotonic() - start, 10)

    def test_what_is_printed_is_stored_when_killed(self) -> None:
        path = self.fill(20_000)
        for milliseconds in (150, 250, 350, 450):
            process = self.start("add", "-q", "--file", path)
            time.sleep(milliseconds / 1000)
            process.kill()
            out, _ = process.communicate()
            printed = {int(line) for line in out.split("\n")[:-1]}
            stored = subprocess.run(
                (sys.executable, PROGRAM, "list", "-q"), env=self.environ, capture_output=True
            )
            self.assertLessEqual(printed, set(map(int, stored.stdout.split())))


class ImportTests(ProcessTestCase):
    def test_a_list_imports_nothing_it_does_not_use(self) -> None:
        program = (
            "import sys, library; status = library.main(['list', 'no-such-book']); "
            "print(status, *sys.modules)"
        )
        for _ in range(2):  # the second with a remembered uid
            done = subprocess.run(
                (sys.executable, "-S", "-c", program),
                env=self.environ,
                cwd=FOLDER,
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.stderr, "")
            status, *modules = done.stdout.split()
            self.assertEqual(status, "0")
        unwanted = (
            "asyncio concurrent.futures configparser encodings.idna getpass hashlib json logging "
            "pathlib queue shlex shutil sqlite3 subprocess tempfile threading traceback typing "
            "xmlrpc.server"
        )
        if sys.version_info < (3, 14):  # whose argparse needs these for its colours
            unwanted += " dataclasses inspect"
        self.assertEqual(set(unwanted.split()).intersection(modules), set())


class ModuleTests(ProcessTestCase):
    """`python3 library_xmlrpc.py`, whose server is the tutorial's."""

    def test_without_a_server(self) -> None:
        try:
            socket.create_connection(("localhost", 8069), timeout=1).close()
        except OSError:
            pass
        else:
            self.skipTest("there is a server at port 8069")
        done = subprocess.run(
            (sys.executable, os.path.join(FOLDER, "library_xmlrpc.py")),
            capture_output=True,
            text=True,
        )
        error = r"library_xmlrpc\.py: error: cannot connect .*\n"
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, rf"\A{error}\Z")
        session = subprocess.run(
            (sys.executable, "-i", os.path.join(FOLDER, "library_xmlrpc.py")),
            input="print(api)\n",
            capture_output=True,
            text=True,
        )
        self.assertRegex(session.stdout, "^<LibraryAPI http://localhost:8069 ")
        self.assertRegex(session.stderr, rf"\A{error}(>>> )*\n?\Z")


if __name__ == "__main__":
    unittest.main()
