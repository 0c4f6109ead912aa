"""The real program: its run bit, pipes, a full disk, signals, locales, and what it imports."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import library
from tests.proxy import Exchange, Proxy
from tests.support import StandInTestCase, heed_signals, unused_port

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(FOLDER, "library.py")
HINTS = library.HINTS

# Adds books "pair 0", "pair 1", ..., each by a child process of its own, which saves the start of
# Python, and sends each two signals. Prints the signals, the status, and the output of each.
PAIRS = """if True:
    import json, os, random, signal, sys, tempfile, time
    import xmlrpc.client, threading  # as late imports take time
    import library

    chance, runs = random.Random(1), []
    for number in range(int(sys.argv[1])):
        start = time.monotonic()
        signals = chance.choices((1, 2, 15), k=2)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            signal.pthread_sigmask(signal.SIG_BLOCK, (1, 2, 15))  # until Python has forked
            child = os.fork()
            if not child:
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # as in library.py, until `command`
                signal.pthread_sigmask(signal.SIG_UNBLOCK, (1, 2, 15))
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.argv[1:] = "add", f"pair {number}"
                library.command()
            if number:  # the first one shows how long it takes
                time.sleep(chance.uniform(0, seconds))
                for signum in signals:
                    os.kill(child, signum)
                    time.sleep(chance.choice((0, 0, 0.0002)))
            status = os.waitpid(child, 0)[1]
            seconds = seconds if number else 1.2 * (time.monotonic() - start)
            status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            runs.append((signals, status, *(file.seek(0) or file.read() for file in (out, err))))
    print(json.dumps(runs))
"""


class ProcessTestCase(StandInTestCase):
    def start(
        self,
        *argv: str,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        **environ: str,
    ) -> subprocess.Popen[str]:
        """Start Python as one process, of which signals and output are the program's own."""
        process = subprocess.Popen(
            (sys.executable, *argv),
            env={**self.environ, **environ},
            cwd=FOLDER,
            stdout=stdout,
            stderr=stderr,
            text=True,
            preexec_fn=heed_signals,
        )
        self.addCleanup(process.kill)
        return process

    def run_python(self, *argv: str) -> tuple[int, str, str]:
        process = self.start(*argv)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def check_shell(self, script: str, status: int, out: str, err: str) -> None:
        self.check_shells((script, status, out, err))

    def check_shells(self, *cases: tuple[str, int, str, str]) -> None:
        """Run shell scripts, some at a time, in which $library is the program.

        Each comes with its exit status, and patterns of its standard output and error.
        """
        environ = {**self.environ, "library": f"{sys.executable} library.py"}

        def run(case: tuple[str, int, str, str]) -> subprocess.CompletedProcess[str]:
            argv = ("bash", "-o", "pipefail", "-c", case[0])
            return subprocess.run(argv, env=environ, cwd=FOLDER, capture_output=True, text=True)

        with ThreadPoolExecutor(3) as pool:
            for (script, status, out, err), done in zip(cases, pool.map(run, cases)):
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
        whole = self.write_file(b"title\n" * 1000)
        part = self.write_file(b"title\n" * 2500, "of which not all is added then")
        err = "library.py: error: cannot write the output: Broken pipe\nlibrary.py: "
        err += (
            r"done, but not printed: ID .*; lines \d+ to \d+, and all after them, were not added: "
        )
        err += r"go on with the same command and --from-line \d+\n"
        self.check_shells(
            ("$library list | head -1", 0, ".+\n", ""),
            ("$library --help | true", 0, "", ""),
            (f"$library del {id} 99999 | true", 1, "", missing),
            ("$library del 99999 2>&1 | true", 1, "", ""),
            (f"$library add --file {whole} | true", 0, "", ""),
            (f"$library add --file '{part}' | head -1", 1, "Book .*\n", err),
        )

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs Linux's /dev/full")
    def test_a_full_disk(self) -> None:
        path = self.write_file(b"title\n" * 2500)
        emma, *ids = self.api.create_many(["Emma"] * 3)
        books = self.write_file(b'{"id": %d, "name": "Pamela"}\n' % emma, "books")
        error = "library.py: error: cannot write the output: No space left on device\n"
        rest = (
            "lines 1001 to 2000, and all after them, were not added: go on with the same command "
        )
        rest += "and --from-line 1001"
        done = "library.py: done, but not printed: ID"
        self.check_shells(
            ("$library list >/dev/full", 1, "", error),
            ("PYTHONUNBUFFERED=1 $library list >/dev/full", 1, "", error),
            ("$library --help >/dev/full", 1, "", error),
            ("$library add Emma >/dev/full", 1, "", rf"{error}{done} \d+\n"),
            ("PYTHONUNBUFFERED=1 $library add Emma >/dev/full", 1, "", rf"{error}{done} \d+\n"),
            (
                f"$library add --file {path} >/dev/full",
                *(1, "", rf"{error}{done} \d+ to \d+; {rest}\n"),
            ),
            (f"$library set {emma} Evelina >/dev/full", 1, "", f"{error}{done} {emma}\n"),
            (
                f"$library del {ids[0]} {ids[1]} >/dev/full",
                *(1, "", f"{error}{done} {ids[0]} {ids[1]}\n"),
            ),
        )
        self.check_shell(
            f"$library set --file {books} >/dev/full", 1, "", f"{error}{done} {emma}\n"
        )

    def test_a_pipe_that_takes_no_more(self) -> None:
        """What can't be written is an error, whatever Python's own buffers do."""
        self.addCleanup(self.api.unlink_many, self.api.create_many(["x" * 40] * 5000))
        for unbuffered in ("", "1"):
            self.environ["PYTHONUNBUFFERED"] = unbuffered
            reading, writing = os.pipe()
            os.set_blocking(writing, False)
            with open(reading, "rb"):
                process = self.start(PROGRAM, "list", stdout=writing)
                os.close(writing)
                _, err = process.communicate(timeout=60)
            self.assertRegex(err, r"\Alibrary.py: error: cannot write the output: .*\n\Z")
            self.assertEqual(process.returncode, 1)
        slow = "$library list xxx | (sleep 0.1; cat) | wc -l"
        self.check_shell(slow, 0, " *5000\n", "")

    def test_standard_input(self) -> None:
        self.check_shell(r"printf 'a\nb\n' | $library add -q --file -", 0, "[0-9]+\n[0-9]+\n", "")

    def test_streams_that_are_closed(self) -> None:
        error = "library.py: error: cannot write the output: not writable\n"
        self.check_shells(
            ("$library add Emma >&-", 1, "", rf"{error}library.py: done, .*: ID \d+\n"),
            ("$library list no-such-book >&-", 0, "", ""),
            ("$library add -q Emma 2>&-", 0, r"\d+\n", ""),
            ("$library del x 2>&-", 2, "", ""),
            ("$library add --file - <&-", 2, "", ".*cannot read standard input: Bad file.*\n"),
        )

    def test_a_terminal_that_goes_away(self) -> None:
        """As of a background job, whose progress nobody sees any more: the work goes on."""
        path = self.write_file(b"title\n" * 2500)
        master, terminal = pty.openpty()

        def close(exchange: Exchange) -> None:
            nonlocal master
            if master:
                os.close(master)
                master = 0
            exchange.keep()

        with self.proxy.answering("create", close):
            process = self.start(PROGRAM, "add", "-q", "--file", path, stderr=terminal)
            os.close(terminal)
            out, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out.count("\n"), master), (0, 2500, 0))

    def test_standard_error_that_fails(self) -> None:
        """Whether it looks like a terminal or not: an exit status and the results remain."""

        class Gone(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError(5, "Input/output error")

            def isatty(self) -> bool:
                return True

        path = self.write_file(b"Emma\nEvelina\n")
        for argv, status, lines in ((("add", "--file", path), 0, 2), (("del", "99999"), 1, 0)):
            out = io.StringIO()
            with (
                mock.patch.dict(os.environ, self.environ, clear=True),
                mock.patch("library.BATCH", 1),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(Gone()),
            ):
                self.assertEqual(library.main(argv), status)
            self.assertEqual(out.getvalue().count("\n"), lines)

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
        self, method: str, *argv: str, signals: tuple[int, ...] = (signal.SIGINT,)
    ) -> tuple[int, str, str]:
        """Signals while the server works on a call of `method`; the status as Python gives it."""

        def hold(exchange: Exchange) -> None:
            time.sleep(0.05)  # until it waits for the answer
            for signum in signals:
                process.send_signal(signum)
            exchange.hold()

        with Proxy(self.standin.url) as proxy, proxy.answering(method, hold):
            process = self.start(*argv, ODOO_URL=proxy.url)
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def test_a_signal(self) -> None:
        """One, or two at once: the program dies of the first, and says what may have been done."""
        INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
        path = self.write_file(b"Emma\nEvelina\n")
        id = self.api.create("x")
        books = self.write_file(b'{"id": %d, "name": "Emma"}\n' % id, "books")
        Case = tuple[str, tuple[str, ...], tuple[int, ...], str]
        cases: list[Case] = [
            ("authenticate", ("list",), (INT,), ""),
            ("search_read", ("list",), (INT,), ""),
            ("search_read", ("add", "Emma", "--skip-existing"), (TERM, HUP), ""),
            ("create", ("add", "Emma"), (INT,), HINTS["add"]),
            ("create", ("add", "Emma"), (TERM,), HINTS["add"]),
            ("create", ("add", "Emma"), (HUP,), HINTS["add"]),
            ("create", ("add", "Emma"), (INT, TERM), HINTS["add"]),
            ("create", ("add", "Emma"), (TERM, INT), HINTS["add"]),
            ("create", ("add", "--file", path), (TERM, INT, HUP), HINTS["batch"].format(1, 2)),
            ("load", ("set", "--file", books), (INT, INT), HINTS["again"]),
        ]

        def run(case: Case) -> tuple[int, str, str]:
            method, argv, signals, _ = case
            return self.interrupt(method, PROGRAM, *argv, signals=signals)

        with ThreadPoolExecutor(3) as pool:
            for case, (status, out, err) in zip(cases, pool.map(run, cases)):
                with self.subTest(case):
                    note = f"library.py: {case[3]}\n" * bool(case[3])
                    self.assertEqual((out, err), ("", f"library.py: interrupted\n{note}"))
                    # Of two that arrive while Python does not look, the one with the lower number.
                    self.assertIn(-status, case[2])

    def test_pairs_of_signals_at_any_moment(self) -> None:
        """A book that was added is printed, or named, or what may have been added is said."""
        count = 100
        self.environ["ODOO_URL"] = self.standin.url
        self.run_python(PROGRAM, "list")  # which remembers the uid
        status, out, err = self.run_python("-c", PAIRS, str(count))
        self.assertEqual((status, err), (0, ""))
        runs = json.loads(out)
        titles = self.api.existing_titles(f"pair {number}" for number in range(count))
        done = "library.py: done, but not printed: ID [0-9]+\n"
        for number, (signals, status, out, err) in enumerate(runs):
            with self.subTest(number, signals=signals, status=status):
                self.assertIn(-status, (*signals, 0))
                said = f"library.py: {HINTS['add']}\n"
                interrupted = "library.py: interrupted\n"
                self.assertRegex(err, rf"\A({interrupted}({said}|{done})?)?\Z")
                self.assertRegex(out, r"\A(Book added with ID \d+ for title pair \d+\.\n)?\Z")
                if f"pair {number}" in titles:
                    self.assertTrue(out or said in err or re.search(done, err))
                else:
                    self.assertEqual(out, "")
                    self.assertNotRegex(err, done)
        self.assertEqual({bool(out) for _, _, out, _ in runs}, {True, False})

    def test_a_signal_at_the_end(self) -> None:
        """All is done and said; the program still dies of it."""
        for signals in ("SIGINT",), ("SIGTERM", "SIGINT"):
            kill = [f"os.kill(os.getpid(), signal.{signum})" for signum in signals]
            end = f"library.main = lambda **_: [{', '.join(kill)}] and 0"
            program = f"import library, os, signal; {end}; library.command()"
            expected = (-getattr(signal, signals[0]), "", "")
            self.assertEqual(self.run_python("-c", program), expected)

    def test_ctrl_c_while_python_imports(self) -> None:
        self.write_file(b"import os; os.kill(os.getpid(), 2)", "argparse.py")
        self.environ["PYTHONPATH"] = self.home
        wrapper = f"import sys; sys.path.append({FOLDER!r}); import library"
        installed = self.write_file(wrapper.encode(), "library")
        for program in (PROGRAM, installed):
            self.assertEqual(self.run_python(program, "list"), (-signal.SIGINT, "", ""))

    def test_a_signal_while_the_host_is_looked_up(self) -> None:
        """The system's resolver heeds none, so that nobody waits for it."""
        program = """if True:
            import os, socket, time, library

            def look_up(*args):
                try:
                    os.write(1, b"?")
                    time.sleep(60)
                except KeyboardInterrupt:
                    look_up()

            socket.getaddrinfo = look_up
            library.command()
        """
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.start("-c", program, "list")
            assert process.stdout
            self.assertEqual(process.stdout.read(1), "?")
            process.send_signal(signum)
            start = time.monotonic()
            self.assertEqual(process.communicate(timeout=60)[1], "library.py: interrupted\n")
            self.assertEqual(process.returncode, -signum)
            self.assertLess(time.monotonic() - start, 30)

    def test_the_installed_command_dies_of_a_signal(self) -> None:
        """What pyproject.toml has a wrapper call and exit with, as this one does."""
        with open(os.path.join(FOLDER, "pyproject.toml"), encoding="utf-8") as file:
            (function,) = re.findall('^library = "library:(.+)"$', file.read(), re.MULTILINE)
        wrapper = f"import sys; sys.path.append({FOLDER!r}); import library\n"
        path = self.write_file(f"{wrapper}sys.exit(library.{function}())\n".encode(), "library")
        actual = self.interrupt("search_read", path, "list")
        self.assertEqual(actual, (-signal.SIGINT, "", "library: interrupted\n"))

    def test_what_was_deleted_and_nobody_read(self) -> None:
        """Ctrl-C where the output has filled a pipe: all that was deleted is named."""
        ids = self.api.create_many(["Emma"] * 4000)
        process = self.start(PROGRAM, "del", *map(str, ids))
        assert process.stdout
        before, filled = -1, 0
        while before < filled or not filled:  # until the pipe takes no more
            time.sleep(0.2)
            count = fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4))
            before, filled = filled, int.from_bytes(count, sys.byteorder)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        deleted = f"library.py: done, but not printed: ID {ids[0]} to {ids[-1]}\n"
        self.assertEqual(err, "library.py: interrupted\n" + deleted)
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_a_signal_that_python_drops(self) -> None:
        """As it does in a callback, whose exceptions go nowhere. It comes again."""
        program = f"""
import os, signal, sys, time, weakref
sys.path.append({FOLDER!r})
import library

class Backend(library.LibraryAPI):
    def iter_books(self, *args):
        book = type("Book", (), {{}})
        reference = weakref.ref(book, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        del book
        import gc; gc.collect()
        time.sleep(20)

library.command(Backend)
"""
        process = self.start(self.write_file(program.encode(), "program.py"), "list")
        out, err = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out), (-signal.SIGTERM, ""))
        self.assertEqual(err, "library.py: interrupted\n")

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

        start = time.monotonic()
        status, _, err = self.interrupt("read", PROGRAM, "list", "--limit", "2000")
        self.assertEqual((status, err), (-signal.SIGINT, "library.py: interrupted\n"))
        with self.proxy.answering("read", hold_the_last):
            self.check_shell("$library list | head -1", 0, ".+\n", "")
        self.assertLess(time.monotonic() - start, 10)

    def test_the_first_page_is_shown_before_the_next_is_there(self) -> None:
        """Nearly all of it, with and without a buffer of Python's."""
        self.api.create_many(["title"] * 2000)

        def look(exchange: Exchange) -> None:
            with open(shown.name) as file:
                counts.append(file.read().count("\n"))
            exchange.pass_on()

        for unbuffered in ("", "1"):
            counts: list[int] = []
            self.environ["PYTHONUNBUFFERED"] = unbuffered
            with (
                open(os.path.join(self.home, "shown"), "w") as shown,
                self.proxy.answering("search", look),
            ):
                process = self.start(PROGRAM, "list", stdout=shown.fileno())
                self.assertEqual(process.communicate(timeout=60)[1], "")
            self.assertEqual(len(counts), 1)
            self.assertGreater(counts[0], 500)

    def test_each_batch_is_printed_when_it_is_stored(self) -> None:
        """Killed with the third on its way, the program has printed two."""
        path = self.write_file(b"title\n" * 4000)

        def kill_at_the_third(exchange: Exchange) -> None:
            if self.proxy.calls.count("create") == 3:
                return process.kill()
            return exchange.keep()

        before = {book["id"] for book in self.api.iter_books()}
        with self.proxy.answering("create", kill_at_the_third):
            process = self.start(PROGRAM, "add", "-q", "--file", path)
            out, _ = process.communicate(timeout=60)
        stored = {book["id"] for book in self.api.iter_books()} - before
        self.assertEqual((len(stored), set(map(int, out.split()))), (2000, stored))


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

    def test_the_module_as_a_program(self) -> None:
        """`python3 library_xmlrpc.py`, whose server is the tutorial's, with another port here."""
        ask = "print(repr(api))"
        shown = "<LibraryAPI http://localhost:8069 db='odoo-dev' user='admin'>"
        error = "library_xmlrpc.py: error: cannot connect to http://localhost:8069: "
        error += "connection refused"
        look_up = "lambda host, port, *args: real(host, int(os.environ['PORT']), *args)"
        customize = f"import os, socket; real = socket.getaddrinfo; socket.getaddrinfo = {look_up}"
        self.write_file(customize.encode(), "sitecustomize.py")
        self.environ["PYTHONPATH"] = self.home
        id = self.api.create("Emma")
        self.addCleanup(self.api.unlink, id)
        for port, status, out, err in (
            (self.standin.port, 0, rf"(\d+ .*\n)*{id} Emma\n(\d+ .*\n)*", ""),
            (unused_port(), 1, "", f"{error}\n"),
        ):
            self.environ["PORT"] = str(port)
            self.check_shell(f"{sys.executable} library_xmlrpc.py", status, out, err)
            session = f"echo '{ask}' | {sys.executable} -i library_xmlrpc.py"
            self.check_shell(session, 0, f"{out}{shown}\n", rf"{err}(>>> )*\n?")
