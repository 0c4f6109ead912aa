"""What the edition on JSON-2 makes of a server's answers, each on a real socket.

And a session of the command line with it, on a real Odoo where ODOO_TEST_URL names one.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest
from typing import Any

from library_xmlrpc import ConnectError
from tests.library_json2 import LibraryAPI
from tests.proxy import Answer, Exchange, Proxy
from tests.replies import http, raw, sends, trickles
from tests.support import CHANGES, COMMANDS, CommandLineTestCase, enter

URL = os.environ.get("ODOO_TEST_URL", "")
KEY = "0123456789abcdef"
REFUSED, NOTHING_CHANGED, UNKNOWN = 1, 3, 4  # exit statuses
QUESTIONS = ("search_read",)


def answer(value: Any, status: str = "200 OK") -> bytes:
    return http(json.dumps(value).encode(), status, ("Content-Type: application/json",))


def exception(status: str, name: str, message: str, *frames: str) -> bytes:
    """Odoo's account of an exception, whose traceback ends with these lines of source."""
    source = "".join(f'  File "x.py", line 1, in f\n    {line}\n' for line in ("f()", *frames))
    debug = f"Traceback (most recent call last):\n{source}{name}: {message}\n"
    return answer({"name": name, "message": message, "context": {}, "debug": debug}, status)


def packed(body: bytes) -> bytes:
    return http(body, headers=("Content-Encoding: gzip",))


NO_DATABASE = http(
    b"<!DOCTYPE html>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>No database is selected"
    b" and the requested URL was not found in the server-wide controllers.</p>\n",
    "404 Not Found",
)
TRUE = answer(True)
ACCESS = "You are not allowed to delete 'Book' (library.book) records.\n\nAsk:\n\t- Administrator"

# After these nobody can know whether a change was made.
LOST: dict[str, Answer] = {
    "closed": lambda exchange: None,
    "reset": Exchange.reset,
    "silent": Exchange.hold,
    "trickling": trickles(TRUE, after=5),
    "trickling 500": trickles(
        exception("500 Internal Server Error", "builtins.KeyError", "'x'"), after=150
    ),
    "cut off": sends(TRUE[:-1]),
    "nothing": sends(http(b"")),
    "HTML": sends(http(b"<!DOCTYPE html><title>Odoo</title>")),
    "not UTF-8": sends(http(b'"\xff"')),
    "more than a value": sends(http(b"true true")),
    "nested arrays": sends(http(b"[" * 100_000)),
    "5,000 digits": sends(http(b"9" * 5000)),
    "no number": sends(http(b"NaN")),
    "null": sends(answer(None)),
    "false": sends(answer(False)),
    "a number": sends(answer(1.0)),
    "a string": sends(answer("true")),
    "lists in a list": sends(answer([[]])),
    "two numbers": sends(answer([1, 2])),
    "zero": sends(answer([0])),
    "a book with a number for a title": sends(answer([{"id": 1, "name": 1}])),
    "a book without an ID": sends(answer([{"name": "Emma"}])),
    "JSON-RPC": sends(answer({"jsonrpc": "2.0", "id": None, "result": True})),
    "packed bomb": sends(packed(gzip.compress(b" " * (80 * 2**20) + b"true"))),
    "HTTP 204": sends(raw("HTTP/1.1 204 No Content")),
    "500": sends(http(b"<!doctype html>", "500 Internal Server Error")),
    "500, cut off": sends(exception("500 Internal Server Error", "ValueError", "x")[:-1]),
    "500 of a page": sends(NO_DATABASE.replace(b" 404 ", b" 500 ", 1)),
    "502": sends(answer({"message": "no upstream"}, "502 Bad Gateway")),
    "503 of true": sends(answer(True, "503 Service Unavailable")),
    "504": sends(answer([1], "504 Gateway Timeout")),
}

# After these nothing was changed: the request was not carried out.
NOT_SERVED: dict[str, tuple[bytes, str]] = {
    "303": (http(b"", "303 See Other", ("Location: /web/login",)), "redirects to /web/login"),
    "400": (http(b"<html>", "400 Bad Request"), "answers HTTP 400 Bad Request\n.*https"),
    "401 of a web server": (http(b"<html>", "401 Unauthorized"), "a login of its own"),
    "403": (answer({"message": "no"}, "403 Forbidden"), "answers HTTP 403 Forbidden"),
    "404": (http(b"<html>", "404 Not Found"), "HTTP 404 Not Found\n.*JSON-2 comes with Odoo 19"),
    "404, cut off": (raw("HTTP/1.1 404 Not Found\nContent-Length: 99", b"<"), "HTTP 404"),
    "413": (http(b"<html>", "413 Too Large"), "client_max_body_size"),
    "no database": (NO_DATABASE, "no database 'odoo-dev' with JSON-2\n.*Odoo 19"),
    "no such key": (
        exception("401 UNAUTHORIZED", "werkzeug.exceptions.Unauthorized", "Invalid apikey"),
        "wrong API key, or a password.*\n.*from ODOO_API_KEY; JSON-2 takes nothing but an API key",
    ),
    "AccessDenied": (
        exception("403 FORBIDDEN", "odoo.exceptions.AccessDenied", "Session user is another"),
        "error: Session user is another\n",
    ),
}

# After these nothing was changed either: with each the code that XML-RPC has for it.
EXCEPTIONS: dict[str, tuple[bytes, int, str]] = {
    "AccessError": (
        exception("403 FORBIDDEN", "odoo.exceptions.AccessError", ACCESS),
        4,
        "You are not allowed to delete 'Book' (library.book) records. Ask: Administrator",
    ),
    "ValidationError": (
        exception("422 UNPROCESSABLE ENTITY", "odoo.exceptions.ValidationError", "No\nthing"),
        2,
        "No thing",
    ),
    "one of an addon's": (exception("422 X", "odoo.addons.x.Busy", "Wait"), 2, "Wait"),
    "MissingError": (exception("404 X", "odoo.exceptions.MissingError", "Gone"), 2, "Gone"),
    "LockError": (exception("409 CONFLICT", "odoo.exceptions.LockError", "Busy"), 2, "Busy"),
    "without a reason": (exception("422 X", "UserError", ""), 2, "UserError:"),
    "no such method": (
        exception("404 NOT FOUND", "werkzeug.exceptions.NotFound", "The method does not exist"),
        2,
        "The method does not exist",
    ),
    "unexpected": (exception("500 X", "KeyError", "'x'", "env.cr.commit()"), 1, "KeyError: 'x'"),
    "PostgreSQL's": (exception("500 X", "UndefinedTable", "x\nLINE 1: x"), 1, "UndefinedTable: x"),
}
COMMITTED = ("self._cnx.commit()", "self.postcommit.run()")


class AnswerTests(CommandLineTestCase):
    backend = LibraryAPI

    def setUp(self) -> None:
        super().setUp()
        self.proxy = enter(self, Proxy("http://127.0.0.1:1"))  # with nothing behind it
        self.environ.update(ODOO_URL=self.proxy.url, ODOO_API_KEY=KEY, ODOO_TIMEOUT="0.25")
        self.proxy.faults["search"] = sends(answer([1]))  # the book of `set` and `del`

    def check_answer(self, method: str, fault: Answer, status: int, *options: str) -> str:
        """Run the method's command against the answer, and give what it says on stderr."""
        with self.proxy.answering(method, fault):
            start = time.monotonic()
            actual, out, err = self.run_cli(*COMMANDS[method], *options)
            self.assertLess(time.monotonic() - start, 3)
            self.assertEqual(self.proxy.calls.count(method), 1, self.proxy.calls)
        self.assertEqual((actual, out), (status, ""), err)
        self.assertNotIn(KEY, err)
        self.assertNotIn("XML-RPC", err)
        if not options:
            self.assertRegex(err, r"\A(library\.py: error: .+\n)(library\.py: .+\n)?\Z")
        return err

    def test_lost(self) -> None:
        for name, fault in LOST.items():
            for method in (*QUESTIONS, *CHANGES):
                with self.subTest(name, method=method):
                    status = UNKNOWN if method in CHANGES else NOTHING_CHANGED
                    self.check_answer(method, fault, status)

    def test_not_served(self) -> None:
        for name, (reply, said) in NOT_SERVED.items():
            for method in (*QUESTIONS, *CHANGES):
                with self.subTest(name, method=method):
                    err = self.check_answer(method, sends(reply), NOTHING_CHANGED)
                    self.assertRegex(err, said)

    def test_exceptions(self) -> None:
        for name, (reply, code, said) in EXCEPTIONS.items():
            for method in (*QUESTIONS, *CHANGES):
                with self.subTest(name, method=method):
                    err = self.check_answer(method, sends(reply), REFUSED)
                    self.assertIn(f"error: {said}", err)
                    err = self.check_answer(method, sends(reply), REFUSED, "--debug")
                    self.assertIn(f"debug: The server's fault {code}:\n", err)
                    self.assertIn('debug:   File "x.py", line 1, in f\n', err)

    def test_exceptions_after_the_commit(self) -> None:
        for line in COMMITTED:
            for status in ("500 X", "422 X", "403 X"):
                reply = exception(status, "odoo.exceptions.UserError", "too late", line)
                for method in CHANGES:
                    with self.subTest(line, status=status, method=method):
                        err = self.check_answer(method, sends(reply), UNKNOWN)
                        self.assertRegex(err, "what became of the change: .*too late\n.*check with")
                self.check_answer("search_read", sends(reply), REFUSED)

    def test_a_server_without_the_module(self) -> None:
        name, message = "werkzeug.exceptions.NotFound", "the model 'library.book' does not exist"
        reply = exception("404 NOT FOUND", name, message)
        err = self.check_answer("create", sends(reply), REFUSED)
        self.assertIn(f"error: {message}\nlibrary.py: install the library_app module", err)

    def test_no_error_shows_the_key(self) -> None:
        for status, name, expected in (
            ("401 X", "Unauthorized", NOTHING_CHANGED),
            ("403 X", "odoo.exceptions.AccessDenied", NOTHING_CHANGED),
            ("422 X", "odoo.exceptions.UserError", REFUSED),
            ("500 X", "ValueError", REFUSED),
        ):
            reply = exception(status, name, f"not {KEY}", f"'{KEY}'")
            for options in ((), ("--debug",)):
                self.check_answer("create", sends(reply), expected, *options)

    def test_what_is_sent(self) -> None:
        sent: list[Any] = []

        def answering(value: Any) -> Answer:
            def see(exchange: Exchange) -> None:
                head, _, body = exchange.request.decode().partition("\r\n\r\n")
                first, *headers = head.split("\r\n")
                sent.append((first, json.loads(body)))
                self.assertNotIn("\\u", body)  # which would make it three times as long
                self.assertIn("Content-Type: application/json", headers)
                self.assertIn("X-Odoo-Database: odoo-dev", headers)
                self.assertIn(f"Authorization: bearer {KEY}", headers)
                exchange.send(answer(value))

            return see

        title = 'Ω "🐳"'
        answers = {"search_read": [], "search": [1], "create": [7], "write": True, "unlink": True}
        self.proxy.faults.update({method: answering(answers[method]) for method in answers})
        for argv in (("list", "a"), ("add", title), ("set", "1", title), ("del", "1")):
            self.assertEqual(self.run_cli(*argv)[::2], (0, ""))
        domain = [["name", "ilike", "a"]]
        look = {"domain": [["id", "in", [1]]], "context": {"active_test": False}}
        calls: list[tuple[str, Any]] = [
            ("search_read", {"domain": domain, "fields": ["name"], "limit": 1000}),
            ("create", {"vals_list": [{"name": title}]}),
            ("search", look),
            ("write", {"ids": [1], "vals": {"name": title}}),
            ("search", look),
            ("unlink", {"ids": [1]}),
        ]
        expected = [(f"POST /json/2/library.book/{name} HTTP/1.1", body) for name, body in calls]
        self.assertEqual(sent, expected)

    @unittest.skipUnless(os.name == "posix", "without signals to die of")
    def test_it_dies_of_a_signal(self) -> None:
        edition = os.path.join(os.path.dirname(__file__), "library_json2.py")
        del self.environ["ODOO_TIMEOUT"]
        with self.proxy.answering("create", Exchange.hold):
            argv = (sys.executable, edition, "add", "Emma")
            with subprocess.Popen(argv, env=self.environ, stderr=subprocess.PIPE) as process:
                while process.poll() is None and not self.proxy.calls:
                    time.sleep(0.01)
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=10)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertIn(
            b"interrupted\nlibrary.py: wait a little, then check with list whether it was added\n",
            err,
        )

    def test_packed(self) -> None:
        with self.proxy.answering("create", sends(packed(gzip.compress(b"[7]")))):
            self.check("add", "Emma", out="Book added with ID 7 for title Emma.\n")

    def test_a_key_that_no_server_made(self) -> None:
        self.environ["ODOO_API_KEY"] = "schlüssel 鍵"
        reply, said = NOT_SERVED["no such key"]
        self.assertRegex(self.check_answer("create", sends(reply), NOTHING_CHANGED), said)

    def test_uid(self) -> None:
        api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", KEY)
        for reply in ({"uid": 0}, {"lang": "en_US"}, [2], 2):
            with self.proxy.answering("context_get", sends(answer(reply))):
                self.assertRaises(ConnectError, lambda: api.uid)
        with self.proxy.answering("context_get", sends(answer({"uid": 6}))):
            self.assertEqual([api.uid, api.uid], [6, 6])
            self.assertEqual(self.proxy.calls, ["context_get"])

    def test_the_version_needs_no_key(self) -> None:
        requests: list[bytes] = []

        def see(exchange: Exchange) -> None:
            requests.append(exchange.request)
            exchange.send(answer({"version_info": [19, 0], "version": "19.0"}))

        api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", KEY)
        with self.proxy.answering("version", see):
            version = {"server_version_info": [19, 0], "server_version": "19.0"}
            self.assertEqual(api.version(), version)
        self.assertTrue(requests[0].startswith(b"GET /web/version HTTP/1.1\r\n"))
        self.assertNotIn(KEY.encode(), requests[0])


@unittest.skipUnless(
    URL and int(os.environ.get("ODOO_TEST_VERSION", "0")) >= 19, "no server, or one without JSON-2"
)
class SessionTests(CommandLineTestCase):
    backend = LibraryAPI

    def test_the_session(self) -> None:
        self.environ.update(ODOO_URL=URL, ODOO_API_KEY=os.environ["ODOO_TEST_KEY_ADMIN"])
        status, out, err = self.run_cli("add", "Moby-Dick session")
        found = re.fullmatch(r"Book added with ID (\d+) for title Moby-Dick session\.\n", out)
        assert found, (status, out, err)
        id = found[1]
        self.check("list", "dick SESSION", out=f"{id} Moby-Dick session\n")
        self.check("set", id, "Moby Dick é", out=f"Title of Book ID {id} set to Moby Dick é.\n")
        self.check("del", id, out=f"Book with ID {id} was deleted.\n")
        gone = f"library.py: error: Book with ID {id} does not exist\n"
        self.check("del", id, status=1, err=gone)
        path = self.write_file(b"".join(b"session %04d\n" % number for number in range(1500)))
        status, out, err = self.run_cli("add", "--quiet", "--file", path)
        ids = out.split()
        self.assertEqual((status, len(ids), err), (0, 1500, ""))
        status, out, err = self.run_cli("list", "--quiet", "session")
        self.assertEqual((status, out.split(), err), (0, ids, ""))
        self.check("del", "--quiet", *ids)
        self.assertFalse(os.path.exists(os.path.join(self.home, "cache")))


if __name__ == "__main__":
    unittest.main()
