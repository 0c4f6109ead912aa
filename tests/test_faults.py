"""What the client makes of servers that misbehave, each on a real socket.

Every fault is tried on each kind of call. Whatever the server does, a command ends within its
deadline with the right exit status, one or two lines on standard error, no results on standard
output, and one POST of the call in question.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable
from unittest import mock

import library
from library_xmlrpc import (
    QUESTIONS,
    ConnectError,
    LibraryAPI,
    LibraryError,
    UnknownOutcomeError,
)
from tests import replies, support
from tests.proxy import Answer, Exchange, Proxy
from tests.replies import TRUE, fault, http, member, raw, sends, trickles, value, xml
from tests.support import CommandLineTestCase, StandInTestCase, enter, full_port, unused_port

SOON = 20.0  # seconds: what takes longer waits for something
TIMEOUT = 2.0  # seconds, where the client waits in vain

REFUSED, NOTHING_CHANGED, UNKNOWN = 1, 3, 4  # exit statuses

# The commands that make the calls, and what makes them from Python. ("{}" is a file.)
COMMANDS = {**support.COMMANDS, "load": ("set", "--file", "{}")}
COMMANDS.update(search=("list",), read=("list",))
CALLS: dict[str, Callable[[LibraryAPI], Any]] = {
    "authenticate": lambda api: api.uid,
    "search_read": lambda api: api.search_read("moby"),
    "search": lambda api: api.search_read(),
    "read": lambda api: api.search_read(),
    "create": lambda api: api.create("Moby-Dick"),
    "write": lambda api: api.write(1, "Moby Dick"),
    "unlink": lambda api: api.unlink(1),
    "load": lambda api: api.write_many({1: "Moby Dick"}),
}
CHANGES = (*support.CHANGES, "load")
LATER_PAGES = ("search", "read")  # of a listing, after the first

IN_DOUBT = "the change may have been made: wait a little, then run it again with "
NO_ANSWER = r"(no valid answer from \S+:|\S+ answers HTTP) "
CHECK_URL = "check that the URL is that of an Odoo with XML-RPC"


def packed(body: bytes) -> bytes:
    return http(body, headers=("Content-Encoding: gzip",))


def chunked(body: bytes, size: str = "") -> bytes:
    """A body in chunks of one byte, or in one of this size."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    if size:
        chunks = size.encode() + b"\r\n" + body
    return raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", chunks)


def array(*values: str) -> str:
    values = tuple(f"<value>{content}</value>" for content in values)
    return f"<array><data>{''.join(values)}</data></array>"


def books(*members: str) -> str:
    return array(*(f"<struct>{fields}</struct>" for fields in members))


def loaded(ids: str, *messages: str) -> str:
    """The value of an import."""
    texts = (member("type", "error") + member("message", text) for text in messages)
    return f"<struct>{member('ids', ids)}{member('messages', books(*texts))}</struct>"


ONE, TWO = "<int>1</int>", "<int>2</int>"
ID, NAME = member("id", ONE), member("name", "Emma")
FAULT_WITHOUT_TEXT = xml(f"<value><struct>{member('faultCode', TWO)}</struct></value>", "fault")

# After these nobody can know whether a change was made: status 4 for one, 3 for a question.
LOST: dict[str, Answer] = {
    "closed": lambda exchange: None,
    "reset": Exchange.reset,
    "garbage": sends(b"\x1b[2J\r\n" * 100),
    "too many headers": sends(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n" * 1000),
    "a long header": sends(b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 999] * 99),
    "HTML": sends(http(b"<html><body>Welcome</body></html>")),
    "text after the end": sends(http(TRUE + b"more")),
    "empty": sends(http(b"")),
    "Content-Length too small": sends(raw("HTTP/1.1 200 OK\nContent-Length: 30", TRUE)),
    "no last chunk": sends(chunked(TRUE)[:-5]),
    "HTTP 103": sends(raw("HTTP/1.1 103 Early Hints\nLink: </x>; rel=y"), http(TRUE)),
    "HTTP 403": sends(http(b"<html>", "403 Forbidden")),
    "HTTP 408": sends(http(b"", "408 Request Timeout")),
    "HTTP 499": sends(http(TRUE, "499 Client Closed Request")),
    "HTTP 500": sends(http(b"", "500 Internal Server Error")),
    "HTTP 999": sends(http(b"oops", "999 \x1b[31mred")),
    "gzip cut off": sends(packed(gzip.compress(TRUE)[:-9])),
    "no gzip": sends(packed(TRUE)),
    "5,000 digits": sends(value(f"<int>{'9' * 5000}</int>")),
    "an unknown type": sends(value("<float>1</float>")),
    "fault without text": sends(http(FAULT_WITHOUT_TEXT)),
    "nil": sends(value("<nil/>")),
    "a struct": sends(value(f"<struct>{ID}</struct>")),
}

# These too, and no end comes either.
ENDLESS: dict[str, Answer] = {
    "silent": Exchange.hold,
    "trickling headers": trickles(http(TRUE), after=5),
    "trickling body": trickles(http(TRUE), after=len(http(TRUE)) - 120),
    "endless 100 Continue": sends(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 90, pause=0.03),
}

# Values of the right type for some calls, and not for these.
WRONG_TYPES: dict[str, tuple[str, ...]] = {
    "<boolean>1</boolean>": ("authenticate", "search_read", "search", "read", "create", "load"),
    "<boolean>0</boolean>": ("search_read", "search", "create", "write", "unlink", "load"),
    ONE: ("search_read", "search", "write", "unlink", "load"),
    "<int>0</int>": ("authenticate", "create"),
    "<int>2147483648</int>": ("authenticate", "create"),
    books(): ("authenticate", "create", "write", "unlink", "load"),
    array("<int>0</int>"): ("search",),
    array("<boolean>1</boolean>"): ("search",),
    array(ONE): ("search_read", "read", "create", "write", "unlink", "load"),
    books(NAME): ("search_read", "read"),
    books(ID + member("name", ONE)): ("search_read", "read"),
    books(member("id", "1") + NAME): ("search_read",),
    loaded(array()): ("load",),
    loaded(array(TWO)): ("load",),
    loaded(array(ONE, TWO)): ("load",),
    loaded(array(ONE), "No."): ("load",),
    loaded("<boolean>1</boolean>"): ("load",),
    loaded("<boolean>0</boolean>"): ("load",),
    f"<struct>{member('ids', array(ONE))}</struct>": ("load",),
}

# After these nothing was changed: the request was not carried out.
NOT_SERVED: dict[str, bytes] = {
    **{
        str(status): http(TRUE, f"{status} \x1b[31mNo")
        for status in (302, 400, 401, 404, 407, 413, 429)
    },
    "404 with an endless body": raw("HTTP/1.1 404 Not Found\nContent-Length: 99999999", b"<html>"),
}

POSTGRESQL = """Traceback (most recent call last):
  File "/odoo/sql_db.py", line 2, in execute
    res = self._obj.execute(query, params)
          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
psycopg2.errors.UndefinedColumn: column "x" does not exist
LINE 1: SELECT x
               ^
HINT:  Perhaps you meant y.
"""

# Odoo says these when it has committed: the last frames and the exception.
COMMITTED = {
    "xmlrpc/client.py": ("in dumps", "f()", "OverflowError: int exceeds XML-RPC limits"),
    "odoo/x.py": ("in f", "f()", "TypeError: cannot marshal None unless allow_none is enabled"),
    "odoo/sql_db.py": ("in commit", "self.postcommit.run()", "ValueError: no"),
    "sql_db.py": ("in commit", "self._cnx.commit()", "psycopg2.OperationalError: no"),
    "odoo/registry.py": ("in signal_changes", "f()", "psycopg2.OperationalError: no"),
}

# What Odoo answers if a database does not exist.
NO_DATABASE = (
    'psycopg2.OperationalError: FATAL:  database "{}" does not exist\n',
    'psycopg2.OperationalError: connection to server on socket "/run/.s.PGSQL.5432" failed: '
    'FATAL:  database "{}" does not exist\n',
)


def offsets(reply: bytes) -> list[int]:
    """Where to cut a reply off: around each end of a header's line, and at a dozen other places."""
    head = reply.index(b"\r\n\r\n") + 4
    ends = [found.end() for found in re.finditer(b"\r\n", reply[:head])]
    around = {end + shift for end in ends for shift in (-2, -1, 0)}
    return sorted({0, *around, *range(head, len(reply), len(reply) // 12), len(reply) - 1})


class FaultTestCase(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.proxy.faults, self.proxy.keeps = {}, True
        self.environ["ODOO_TIMEOUT"] = str(SOON * 2)
        # One for all commands: to build it takes as long as a call.
        parser = library.build_parser()
        enter(self, mock.patch("library.build_parser", lambda: parser))
        enter(self, mock.patch("library.FIRST_PAGE", 1))
        enter(self, mock.patch("library_xmlrpc.FIRST_PAGE", 1))
        changes = self.write_file(b'{"id": 1, "name": "Moby Dick"}\n')
        self.commands = {
            method: tuple(word.format(changes) for word in argv)
            for method, argv in COMMANDS.items()
        }

    def prepare(self, proxy: Proxy, method: str, keeps: bool) -> None:
        """Have the proxy answer the earlier calls so that the client goes on to call `method`."""
        proxy.keeps = keeps
        answers = replies.keeps if keeps else sends
        # Book 1 exists, whatever became of it in the test before; a listing has a second page.
        found = {"search_read": books(ID + NAME), "search": array(ONE, TWO)}
        proxy.faults = {call: answers(value(content)) for call, content in found.items()}
        if method == "authenticate":
            proxy.faults = {}

    def check_fault(self, method: str, answer: Answer, status: int | None = None) -> str:
        """Run the method's command and return its stderr.

        The default status is that of a lost answer. The fault is tried on the first request of a
        connection, and then on a later one.
        """
        if status is None:
            status = UNKNOWN if method in CHANGES else NOTHING_CHANGED
        err = ""
        # These uids make `method` the first call on its connection, and then a later one.
        login = method == "authenticate"
        for keeps, uid in ((False, None if login else 2), (True, 9999 if login else None)):
            self.prepare(self.proxy, method, keeps)
            with (
                self.subTest(keeps=keeps),
                mock.patch("library_xmlrpc._recall_uid", return_value=uid),
                self.proxy.answering(method, answer),
            ):
                err = self.check_once(method, status)
                at = self.proxy.calls.index(method)
                first = self.proxy.connections.index(self.proxy.connections[at])
                self.assertEqual(first < at, keeps, self.proxy.calls)
        return err

    def check_once(self, method: str, status: int) -> str:
        start = time.monotonic()
        actual, out, err = self.run_cli(*self.commands[method])
        self.assertLess(time.monotonic() - start, SOON)
        page = "1 Emma\n" if method in LATER_PAGES else ""
        self.assertEqual((actual, out), (status, page), err)
        part = "the listing is not complete: " if page else "line 1: " * (method == "load")
        error = rf"library\.py: error: {part}(?!line|the listing).+\n"
        self.assertRegex(err, rf"\A{error}(library\.py: .+\n)?\Z")
        self.assertNotRegex(err.replace("\n", ""), "[\x00-\x1f\x7f-\x9f\u2028\u202e]")
        self.assertNotIn("Traceback", err)
        self.assertLess(len(err), 1500)
        self.assertEqual(self.proxy.calls.count(method), 1, self.proxy.calls)
        if status == UNKNOWN:
            again = library.AGAIN[self.commands[method][0]]
            self.assertTrue(err.endswith(f"\nlibrary.py: {IN_DOUBT}{again}\n"), err)
            self.assertEqual(self.proxy.calls[-1], method)  # not again, with another uid, say
        else:
            self.assertNotIn("may have been", err)
        return err


class LostTests(FaultTestCase):
    def test_lost(self) -> None:
        for name, answer in LOST.items():
            for method in COMMANDS:
                with self.subTest(name, method=method):
                    self.assertRegex(self.check_fault(method, answer), NO_ANSWER)

    def test_waiting(self) -> None:
        """All cases run at once, from Python, because each lasts until its deadline."""
        cases = list(itertools.product(ENDLESS, CALLS, (False, True)))

        def lose(case: tuple[str, str, bool]) -> tuple[LibraryError, Proxy, float]:
            name, method, keeps = case
            login = ("odoo-dev", "admin", "admin")
            with Proxy(self.standin.url) as proxy:
                self.prepare(proxy, method, keeps)
                proxy.faults[method] = ENDLESS[name]
                api = LibraryAPI(*proxy.address, *login, timeout=SOON * 2)
                api.version()
                api._uid = None if method == "authenticate" else 2
                api.transport.timeout = TIMEOUT
                start = time.monotonic()
                try:
                    CALLS[method](api)
                    raise AssertionError(case)
                except LibraryError as error:
                    return error, proxy, time.monotonic() - start
                finally:
                    api.close()

        with ThreadPoolExecutor(len(cases)) as pool:
            waiting = pool.map(lose, cases)
            self.environ["ODOO_TIMEOUT"] = str(TIMEOUT)
            err = f"no valid answer from {self.proxy.url}: timed out\n.*{IN_DOUBT}--skip-existing\n"
            with self.proxy.answering("create", Exchange.hold):
                self.check("add", "Emma", status=4, err=re.compile(err))
            results = list(waiting)
        for case, (error, proxy, seconds) in zip(cases, results):
            method = case[1]
            with self.subTest(case):
                kind = UnknownOutcomeError if method in CHANGES else ConnectError
                self.assertIs(type(error), kind)
                self.assertRegex(str(error), r"\Ano valid answer from \S+: timed out\Z")
                self.assertEqual(error.hint, "")
                self.assertEqual(proxy.calls[-1], method)
                self.assertEqual(proxy.calls.count(method), 1)
                is_first = proxy.connections.count(proxy.connections[-1]) == 1
                self.assertEqual(is_first, not case[2], proxy.calls)
                self.assertTrue(TIMEOUT * 0.9 < seconds < TIMEOUT + SOON, seconds)

    def test_wrong_types(self) -> None:
        for content, methods in WRONG_TYPES.items():
            for method in methods:
                with self.subTest(content, method=method):
                    self.assertRegex(self.check_fault(method, sends(value(content))), NO_ANSWER)

    def test_fewer_ids_than_titles(self) -> None:
        path = self.write_file(b"a\nb\n")
        with self.proxy.answering("create", sends(value(array(ONE)))):
            err = re.compile(f"error: lines 1 to 2: .*: 1 IDs instead of 2\n.*{IN_DOUBT}")
            self.check("add", "--file", path, status=4, err=err)

    def test_cut_off(self) -> None:
        whole: list[bytes] = []
        for method, argv in self.commands.items():
            shutil.rmtree(self.environ["XDG_CACHE_HOME"], ignore_errors=True)
            self.prepare(self.proxy, method, keeps=True)
            with self.proxy.answering(method, lambda exchange: whole.append(exchange.forward())):
                self.run_cli(*argv)
            for end in offsets(whole[-1]):
                with self.subTest(method=method, end=end):
                    self.check_fault(method, sends(whole[-1][:end]))

    def test_a_fault_after_the_commit(self) -> None:
        """Nobody knows whether the change was made. The client must not send it again."""
        for name, (function, line, exception) in COMMITTED.items():
            text = "Traceback (most recent call last):\n"
            text += f'  File "/{name}", line 9, {function}\n    {line}\n{exception}\n'
            for method in COMMANDS:
                with self.subTest(name, method=method):
                    status = REFUSED if method in QUESTIONS else None
                    err = self.check_fault(method, sends(fault(1, text)), status)
                    self.assertIn(exception, err)

    def test_after_an_interim_answer(self) -> None:
        """The reply that may come behind it can't be taken for the next one."""

        def answer(exchange: Exchange) -> None:
            exchange.send(raw("HTTP/1.1 103 Early Hints"))
            exchange.kept = True

        api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", timeout=SOON)
        enter(self, contextlib.closing(api)).version()
        with self.proxy.answering("create", answer):
            self.assertRaisesRegex(UnknownOutcomeError, "HTTP 103", api.create, "Emma")
            api.version()
            self.assertEqual(len(set(self.proxy.connections)), 2)


class NotServedTests(FaultTestCase):
    def test_not_served(self) -> None:
        for name, reply in NOT_SERVED.items():
            for method in COMMANDS:
                with self.subTest(name, method=method):
                    err = self.check_fault(method, sends(reply), NOTHING_CHANGED)
                    self.assertIn(f"HTTP {name[:3]}", err)

    def test_refused_in_the_middle_of_a_file(self) -> None:
        """The message says where, and how to go on: nothing is added twice."""
        path = self.write_file(b"a\n\nb\nc\nd\ne\n")

        def refuse(exchange: Exchange) -> None:
            refused = b"<string>d</string>" in exchange.request
            exchange.send(http(b"", "413 Too Large") if refused else exchange.forward())

        for add in (("add", "-q"), ("add", "-q", "--skip-existing")):
            with (
                self.subTest(add),
                mock.patch("library.batches.__defaults__", (2, library.BATCH_CHARACTERS)),
                self.proxy.answering("create", refuse),
            ):
                status, out, err = self.run_cli(*add, "--file", path)
                error = r"library\.py: error: lines 4 to 5: \S+ answers HTTP 413 .*\n"
                again = "library.py: once the cause is gone, run it again with --skip-existing\n"
                self.assertRegex(err, rf"\A{error}{again * bool(out)}\Z")
                # The second time, the titles before these are there, and nothing was changed.
                self.assertEqual((status, len(out.split())), (3, 0) if add[2:] else (1, 2), err)

    def test_where_a_redirection_leads(self) -> None:
        """It is shown, and not followed: another host would get the password."""
        reply = http(b"", "302 Found", (f"Location: {self.proxy.url}/\x1b[31mweb",))
        error = f"answers HTTP 302 Found: {self.proxy.url}/\\x1b[31mweb\n"
        err = self.check_fault("create", sends(reply), NOTHING_CHANGED)
        self.assertTrue(err.endswith(error), err)

    def test_what_a_status_of_http_means(self) -> None:
        """Hints after a question. After a change in doubt, the hint says how to go on instead."""
        behind = "check the Odoo server behind this web server"
        for status, hint in (
            ("400 Bad Request", CHECK_URL),
            ("401 Unauthorized", "have the web server let Odoo.s RPC through"),
            ("403 Forbidden", "have the web server let Odoo.s RPC through"),
            ("404 Not Found", CHECK_URL),
            ("408 Request Timeout", ""),
            ("500 Internal Server Error", ""),
            ("502 Bad Gateway", behind),
            ("504 Gateway Timeout", behind),
            ("520", behind),
            ("530", ""),
        ):
            with self.subTest(status):
                err = self.check_fault("search_read", sends(http(b"", status)))
                line = f"library\\.py: {hint}\n" if hint else ""
                self.assertRegex(err, rf" answers HTTP {status}\n{line}\Z")

    def test_no_server(self) -> None:
        """Nothing was sent, so nothing was changed."""
        del self.environ["ODOO_URL"]
        with full_port() as port, mock.patch("library_xmlrpc.CONNECT_SECONDS", 0.2):
            for url, reason in (
                (f"http://127.0.0.1:{unused_port()}", r"connection refused\n.*check that it runs"),
                ("http://no-such-host.invalid:80", r"the host's name can't be looked up\n"),
                (f"http://127.0.0.1:{port}", r"timed out\n\Z"),
            ):
                error = re.compile(f"error: cannot connect to {url}: {reason}")
                for uid, method in ((None, "create"), (2, "create"), (2, "search_read")):
                    with (
                        self.subTest(url=url, uid=uid, method=method),
                        mock.patch("library_xmlrpc._recall_uid", return_value=uid),
                    ):
                        self.check("--url", url, *self.commands[method], status=3, err=error)


class RefusalTests(FaultTestCase):
    def test_faults(self) -> None:
        for text in (
            "No such thing.\n\nAsk your administrator.\n",
            "\u202eevil \x85 \u2028 text",
            "",
            "Traceback (most recent call last):\n  File x.py, line 1\nValueError: no thing",
            "long " * 1000,
        ):
            for code, method in itertools.product((1, 3), COMMANDS):
                with self.subTest(text[:20], code=code, method=method):
                    login = code == 3 or method == "authenticate"
                    status = NOTHING_CHANGED if login else REFUSED
                    self.check_fault(method, sends(fault(code, text)), status)

    def test_what_people_read_of_an_error_of_postgresql(self) -> None:
        with self.proxy.answering("search_read", sends(fault(1, POSTGRESQL))):
            column = 'psycopg2.errors.UndefinedColumn: column "x" does not exist'
            self.check("list", status=1, err=f"library.py: error: {column}\n")

    def test_conflicts(self) -> None:
        """They are gone when the command is run again."""
        deadlock = "psycopg2.errors.DeadlockDetected: deadlock detected\nDETAIL: Process 1 waits.\n"
        unknown = value(loaded("<boolean>0</boolean>", "Unknown database identifier '1'"))
        for method, reply in (
            ("write", fault(1, "could not serialize access due to concurrent update")),
            ("write", fault(1, deadlock)),
            ("load", unknown),
        ):
            err = self.check_fault(method, sends(reply), REFUSED)
            self.assertTrue(err.endswith("\nlibrary.py: run it again\n"), err)

    def test_a_refused_import(self) -> None:
        """Odoo's `load` says so by a value; of Odoo 14's words only those for people are shown."""
        prefix = "Unknown error during import: &lt;class 'odoo.exceptions.UserError'&gt;: "
        refused = loaded("<boolean>0</boolean>", f"{prefix}No.\n", "No.\n", "Never.")
        err = self.check_fault("load", sends(value(refused)), REFUSED)
        self.assertEqual(err, "library.py: error: line 1: No. Never.\n")

    def test_no_such_database(self) -> None:
        """Whether that is known from the login, or a user's ID is remembered."""
        error = f"library.py: error: there is no database 'odoo-dev' on {self.proxy.url}\n"
        error += "library.py: check the name of the database\n"
        for text in NO_DATABASE:
            for uid in (None, 2):
                refusal = sends(fault(1, text.format("odoo-dev")))
                self.proxy.faults = {"search_read": refusal}
                with (
                    self.subTest(text, uid=uid),
                    mock.patch("library_xmlrpc._recall_uid", return_value=uid),
                    self.proxy.answering("authenticate", refusal),
                ):
                    self.check("list", "moby", status=3, err=error)
        with self.proxy.answering("authenticate", sends(fault(1, NO_DATABASE[0].format("x")))):
            err = self.run_cli("list")[2]
            self.assertRegex(err, f'error: cannot log in to {self.proxy.url}: .*"x" does not exist')

    def test_a_refused_login(self) -> None:
        """The hint says where the password, the user and the database were set."""
        where = "password from ODOO_API_KEY, user from ODOO_USER, db from --db"
        error = "error: wrong user or password for 'eva' on .*, database 'odoo-empty'\n"
        error += f"library.py: check these settings: {where}\n"
        with mock.patch.dict(self.environ, ODOO_API_KEY="no", ODOO_USER="eva"):
            self.check("list", "--db", "odoo-empty", status=3, err=re.compile(error))
        locked = "Too many login failures, please wait a bit before trying again."
        for method in ("authenticate", "search_read"):
            with self.proxy.answering(method, sends(fault(3, locked))):
                err = self.run_cli("list", "moby")[2]
                self.assertRegex(err, "\nlibrary.py: wait a minute before you try again\n")


class ReplyTests(FaultTestCase):
    """How a reply may come, and how large it may be."""

    def test_other_ways_to_answer(self) -> None:
        """Packed, in chunks, or on a connection that stays open, which is no reason to wait."""

        def keep_open(exchange: Exchange) -> None:
            exchange.send(value("<int>7</int>"))
            exchange.hold()

        body = xml("<value><int>7</int></value>")
        members = [gzip.compress(part) for part in (body[:40], b"", body[40:])]
        for answer in (
            sends(packed(gzip.compress(body))),
            sends(packed(b"".join(members))),
            sends(chunked(body)),
            sends(chunked(body, f"{len(body):X};x=y") + b"\r\n0\r\nX: y\r\n\r\n"),
            sends(raw("HTTP/1.1 100 Continue"), raw("HTTP/1.1 100 Continue\nX: y"), http(body)),
            sends(raw("HTTP/1.0 200 OK", body)),
            keep_open,
        ):
            with self.proxy.answering("create", answer):
                self.check("add", "Emma", out="Book added with ID 7 for title Emma.\n")

    def test_a_packed_reply_is_asked_for(self) -> None:
        requests: list[bytes] = []
        with self.proxy.answering("create", lambda exchange: requests.append(exchange.request)):
            self.run_cli("add", "Emma")
        for header in (b"Accept-Encoding: gzip", b"X-Odoo-Database: odoo-dev"):
            self.assertIn(b"\r\n%b\r\n" % header, requests[0])

    def test_a_reply_is_bounded(self) -> None:
        """By its size when unpacked, however it comes; much more is not even read."""
        mebibyte = b" " * 2**20
        blanks = TRUE.replace(b"<params>", mebibyte + b"<params>")
        endless = [mebibyte] * 40
        for name, pieces in {
            "plain": [http(blanks)],
            "packed": [packed(gzip.compress(blanks))],
            "without a length": [raw("HTTP/1.1 200 OK"), *endless],
            "a chunk without an end": [chunked(b"", "7FFFFFFF"), *endless],
        }.items():
            sent: list[int] = []

            def answer(exchange: Exchange, pieces: Any = pieces, sent: Any = sent) -> None:
                with contextlib.suppress(OSError):  # the client has seen enough
                    for piece in pieces:
                        exchange.client.sendall(piece)
                        sent.append(len(piece))

            with (
                self.subTest(name),
                mock.patch("library_xmlrpc.MAX_REPLY", 2**20),
                self.proxy.answering("create", answer),
            ):
                err = re.compile(f"larger than 1 MiB\n.*{IN_DOUBT}")
                self.check("add", "Emma", status=4, err=err)
                self.assertLess(sum(sent), 20 * 2**20)

    def test_an_import_that_repeats_ids(self) -> None:
        """As Odoo's does when it has tried row by row. A warning is no error."""
        done = loaded(array(ONE, ONE), "No.").replace("error", "warning")
        self.prepare(self.proxy, "load", keeps=False)
        with self.proxy.answering("load", sends(value(done))):
            out, err = (
                "Title of Book ID 1 set to Moby Dick.\n",
                "library.py: changed 1 of 1 titles\n",
            )
            self.check(*self.commands["load"], out=out, err=err)

    def test_books_without_a_title(self) -> None:
        for name in (member("name", "<boolean>0</boolean>"), member("name", "<nil/>"), ""):
            with self.proxy.answering("search_read", sends(value(books(ID + name)))):
                self.check("list", "-n", "1", out="1 \n")
