"""The real program: its run bit, pipes, a full disk, signals, locales, and what it imports."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from library import AGAIN, HINTS
from tests.proxy import Exchange, Proxy
from tests.support import StandInTestCase, heed_signals, unused_port

try:
    import fcntl
    import pty
    import termios
except ImportError:
    raise unittest.SkipTest("needs POSIX: signals, terminals, bash") from None

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(FOLDER, "library.py")
INTERRUPTED = "library.py: interrupted\n"
IN_DOUBT = f"library.py: {HINTS['in doubt']}\n"


class ProcessTestCase(StandInTestCase):
    def start(self, *argv: str, url: str = "", **streams: int) -> subprocess.Popen[str]:
        """Start Python as one process, of which signals and output are the program's own."""
        options: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        options.update(env={**self.environ, "ODOO_URL": url or self.proxy.url}, cwd=FOLDER)
        argv = (sys.executable, *argv)
        process = subprocess.Popen(argv, text=True, preexec_fn=heed_signals, **options)
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


def waiting_in(pipe: int) -> int:
    """How many bytes nobody has read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


class StreamTests(ProcessTestCase):
    def test_the_run_bit_and_the_first_line(self) -> None:
        self.check_shell("./library.py --version", 0, "library.py .*\n", "")

    def test_a_reader_that_stops_early(self) -> None:
        (id, *_) = self.api.create_many(["title"] * 3000)
        missing = "library.py: error: there is no book with ID 99999\n"
        path = self.write_file(b"title\n" * 2500)
        added = "library.py: added 2,500 of 2,500 titles\n"
        self.check_shells(
            ("$library list | head -1", 0, ".+\n", ""),
            ("$library --help | true", 0, "", ""),
            (f"$library del {id} 99999 | true", 1, "", missing),
            ("$library del 99999 2>&1 | true", 1, "", ""),
            (f"$library add --file {path} | head -1", 0, "Book .*\n", added),
        )

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs Linux's /dev/full")
    def test_a_full_disk(self) -> None:
        path = self.write_file(b"title\n" * 2500)
        one, two, three, four = self.api.create_many(["Emma"] * 4)
        books = self.write_file(b'{"id": %d, "name": "Pamela"}\n' % four, "books")
        reason = "cannot write the output: No space left on device"
        error, done = f"library.py: error: {reason}", "; done, but perhaps not printed: ID"
        part = f"library.py: error: lines 1 to 1000: {reason}{done}"
        line = f"library.py: error: line 1: {reason}{done}"
        again = "library.py: once the cause is gone, run it again with --skip-existing\n"
        self.check_shells(
            ("$library list >/dev/full", 1, "", f"{error}\n"),
            ("PYTHONUNBUFFERED=1 $library list >/dev/full", 1, "", f"{error}\n"),
            ("$library --help >/dev/full", 1, "", f"{error}\n"),
            ("PYTHONUNBUFFERED=1 $library add Emma >/dev/full", 1, "", rf"{error}{done} \d+\n"),
            (f"$library add --file {path} >/dev/full", 1, "", rf"{part} \d+ to \d+\n{again}"),
            (f"$library set {one} Evelina >/dev/full", 1, "", f"{error}{done} {one}\n"),
            (f"$library del {two} {three} >/dev/full", 1, "", f"{error}{done} {two} {three}\n"),
            (f"$library set --file {books} >/dev/full", 1, "", f"{line} {four}\n"),
        )

    def test_a_pipe_that_takes_no_more(self) -> None:
        """What can't be written is an error, whatever Python's own buffers do."""
        reason = "the listing is not complete: cannot write the output"
        self.addCleanup(self.api.unlink_many, self.api.create_many(["x" * 40] * 5000))
        for unbuffered in ("", "1"):
            self.environ["PYTHONUNBUFFERED"] = unbuffered
            reading, writing = os.pipe()
            os.set_blocking(writing, False)
            with open(reading, "rb"):
                process = self.start(PROGRAM, "list", stdout=writing)
                os.close(writing)
                _, err = process.communicate(timeout=60)
            self.assertRegex(err, rf"\Alibrary\.py: error: {reason}: .*\n\Z")
            self.assertEqual(process.returncode, 1)
        slow = "$library list xxx | (sleep 0.1; cat) | wc -l"
        self.check_shell(slow, 0, " *5000\n", "")

    def test_standard_input_that_does_not_block(self) -> None:
        """It is read to its end, across a pause."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        with open(reading, "rb"), open(writing, "wb", buffering=0) as pipe:
            process = self.start(PROGRAM, "add", "--file", "-", stdin=reading)
            for title in (b"Emma\n", b"Evelina\n"):
                pipe.write(title)
                while waiting_in(reading) and process.poll() is None:
                    time.sleep(0.02)
                time.sleep(0.1)  # in which the program tries to read more
        out, err = process.communicate(timeout=60)
        self.assertRegex(out, r"\ABook added .* Emma\.\nBook added .* Evelina\.\n\Z")
        self.assertEqual((process.returncode, err), (0, "library.py: added 2 of 2 titles\n"))

    def test_streams_that_are_closed(self) -> None:
        error = "library.py: error: cannot write the output: not writable"
        self.check_shells(
            ("$library add Emma >&-", 1, "", rf"{error}; done, but perhaps not printed: ID \d+\n"),
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
            process = self.start(PROGRAM, "add", "--file", path, stderr=terminal)
            os.close(terminal)
            out, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out.count("\n"), master), (0, 2500, 0))

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
            process = self.start(*argv, url=proxy.url)
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
            ("create", ("add", "Emma"), (INT,), IN_DOUBT.format(AGAIN["add"])),
            ("create", ("add", "Emma"), (TERM,), IN_DOUBT.format(AGAIN["add"])),
            ("create", ("add", "Emma"), (HUP,), IN_DOUBT.format(AGAIN["add"])),
            ("create", ("add", "--file", path), (TERM, INT, HUP), IN_DOUBT.format(AGAIN["add"])),
            ("load", ("set", "--file", books), (INT, INT), IN_DOUBT.format(AGAIN["set"])),
            ("unlink", ("del", str(id)), (INT, TERM), IN_DOUBT.format(AGAIN["del"])),
        ]

        def run(case: Case) -> tuple[int, str, str]:
            method, argv, signals, _ = case
            return self.interrupt(method, PROGRAM, *argv, signals=signals)

        with ThreadPoolExecutor(3) as pool:
            for case, (status, out, err) in zip(cases, pool.map(run, cases)):
                with self.subTest(case):
                    self.assertEqual((out, err), ("", INTERRUPTED + case[3]))
                    # If several arrive before Python checks, it handles the lowest number first.
                    self.assertIn(-status, case[2])

    def test_a_signal_at_the_start_or_the_end(self) -> None:
        """Before main starts or after it ends, the program still dies of the signal."""
        kill = "os.kill(os.getpid(), signal.{})"
        INT, TERM = kill.format("SIGINT"), kill.format("SIGTERM")
        for signum, change in (
            (signal.SIGINT, f"library.main = lambda **_: [{INT}] and 0"),
            (signal.SIGTERM, f"library.main = lambda **_: [{TERM}, {INT}] and 0"),
            (signal.SIGINT, f"real = signal.signal; signal.signal = lambda *_: [real(*_), {INT}]"),
        ):
            program = f"import library, os, signal; {change}; library.command()"
            self.assertEqual(self.run_python("-c", program), (-signum, "", ""))

    def test_ctrl_c_while_the_settings_are_read(self) -> None:
        path = os.path.join(self.home, "library.ini")
        os.mkfifo(path)
        process = self.start(PROGRAM, "--config", path, "list")
        writing = -1
        while writing < 0:  # until the program reads
            with contextlib.suppress(OSError):
                time.sleep(0.01)
                writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        process.send_signal(signal.SIGINT)
        os.close(writing)
        self.assertEqual(process.communicate(timeout=60), ("", INTERRUPTED))
        self.assertEqual(process.returncode, -signal.SIGINT)

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
            self.assertEqual(process.communicate(timeout=60)[1], INTERRUPTED)
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
            before, filled = filled, waiting_in(process.stdout.fileno())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        deleted = f"; done, but perhaps not printed: ID {ids[0]} to {ids[-1]}"
        self.assertEqual(err, f"library.py: interrupted{deleted}\n")
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_a_signal_while_another_is_heeded(self) -> None:
        """Within a second it is not heeded; later it ends a program that is still busy."""
        program = """if True:
            import os, signal, time, library

            def work(shown):
                print(shown, flush=True)
                while True:
                    time.sleep(0.02)

            class Backend(library.LibraryAPI):
                def iter_books(self, *args):
                    try:
                        work("?")
                    except KeyboardInterrupt:  # as if Python had lost it
                        os.kill(os.getpid(), signal.SIGTERM)
                        work("!")

            library.command(Backend)
        """
        process = self.start("-c", program, "list")
        assert process.stdout
        for signum, expected in ((signal.SIGINT, "?\n"), (signal.SIGHUP, "!\n")):
            self.assertEqual(process.stdout.readline(), expected)
            time.sleep(1.1 if signum == signal.SIGHUP else 0)
            process.send_signal(signum)
        self.assertEqual(process.communicate(timeout=50), ("", INTERRUPTED))
        self.assertEqual(process.returncode, -signal.SIGHUP)

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
        """All of it, with and without a buffer of Python's."""
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
            self.assertEqual(counts, [1000])

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
        shown = "<LibraryAPI http://localhost:8069 db='odoo-dev' user='admin'>"
        error = r"Traceback (.*\n)+\S*ConnectError: cannot connect to .*: connection refused\n"
        look_up = "lambda host, port, *args: real(host, int(os.environ['PORT']), *args)"
        customize = f"import os, socket; real = socket.getaddrinfo; socket.getaddrinfo = {look_up}"
        self.write_file(customize.encode(), "sitecustomize.py")
        self.environ["PYTHONPATH"] = self.home
        id = self.api.create("Emma")
        self.addCleanup(self.api.unlink, id)
        for port, status, out, err in (
            (self.standin.port, 0, rf"(\d+ .*\n)*{id} Emma\n(\d+ .*\n)*", ""),
            (unused_port(), 1, "", error),
        ):
            self.environ["PORT"] = str(port)
            self.check_shell(f"{sys.executable} library_xmlrpc.py", status, out, err)
            session = f"echo 'print(api)' | {sys.executable} -i library_xmlrpc.py"
            self.check_shell(session, 0, f"{out}{shown}\n", rf"{err}(>>> )*\n?")
