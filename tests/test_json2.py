"""What the edition on JSON-2 makes of a server's answers, each on a real socket."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import unittest
from typing import Any

from library_xmlrpc import ConnectError, LibraryError
from tests import library_json2
from tests.library_json2 import LibraryAPI
from tests.proxy import Exchange, Proxy
from tests.replies import http, keeps, raw, sends, trickles
from tests.support import CHANGES, COMMANDS, CommandLineTestCase, enter, heed_signals

KEY = "schlüssel 鍵"

# Exit statuses after a question and after a change.
LOST, NOT_SERVED, REFUSED, COMMITTED = (3, 4), (3, 3), (1, 1), (1, 4)


def exception(status: str, name: str, message: str, line: str = "env.cr.commit()") -> bytes:
    """Odoo's account of an exception, whose traceback shows the key and this line of source."""
    source = "".join(f'  File "x.py", line 1, in f\n    {each}\n' for each in (f"f('{KEY}')", line))
    debug = f"Traceback (most recent call last):\n{source}{name}: {message}\n"
    account = {"name": name, "message": message, "context": {}, "debug": debug}
    return http(json.dumps(account).encode(), status)


TRUE, EMMA = http(b"true"), http(b'[{"id": 1, "name": "Emma"}]')
HTML = b"<!DOCTYPE html><title>Odoo</title>"
NO_DATABASE = b"<p>No database is selected and the requested URL was not found in the"
NO_KEY = "wrong API key, or a password.*\n.*: JSON-2 takes nothing but an API key"
ERROR = exception("500 Internal Server Error", "builtins.KeyError", "'x'")

# Bodies that are no JSON, and values that are no answer to any of the calls.
NO_JSON = (b"", HTML, b'"\xff"', b"true true", b"[" * 100_000)
NO_ANSWER: tuple[bytes, ...]
NO_ANSWER = (b"9" * 5000, b"NaN", b"null", b"false", b"1.0", b'"true"', b"[[]]", b"[1, 2]", b"[0]")
NO_ANSWER += (b'[{"id": 1, "name": 1}]', b'[{"name": "Emma"}]', b'{"id": null, "result": true}')

# Exceptions that refuse: with each the code that XML-RPC has for it, and what is said.
ODOO, NO_MODEL = "odoo.exceptions.", "the model 'library.book' does not exist"
RIGHTS = "No:\n\n\t- Administrator"
EXCEPTIONS = (
    ("403 X", f"{ODOO}AccessError", RIGHTS, 4, "No: - Administrator\n"),
    ("422 X", f"{ODOO}ValidationError", f"No\n{KEY}", 2, r"No \*\*\*\n"),
    ("422 X", "odoo.addons.x.Busy", "Wait", 2, "Wait\n"),
    ("422 X", "UserError", "", 2, "UserError:"),
    ("404 X", f"{ODOO}MissingError", "Gone", 2, "Gone\n"),
    ("404 X", "werkzeug.exceptions.NotFound", NO_MODEL, 2, f"{NO_MODEL}\n.*the module library_app"),
    ("500 X", "KeyError", f"'{KEY}'", 1, r"KeyError: '\*\*\*'\n"),
    ("500 X", "UndefinedTable", "x\nLINE 1: x", 1, "UndefinedTable: x\n"),
)
FAULT = r"(.*\n)+.*  File .x\.py., line 1, in f\n(.*\n)*.*Fault"  # after Odoo's traceback
LOCATION = ("Location: /web/login",)

# Replies, or other answers, with the statuses and what is said.
REPLIES: tuple[tuple[tuple[int, int], Any, str], ...] = (
    *((LOST, http(body), "no valid answer .*: not JSON\n") for body in NO_JSON),
    *((LOST, http(body), "no valid answer .*: not ") for body in NO_ANSWER),
    (LOST, trickles(TRUE, after=5), "timed out"),
    (LOST, trickles(ERROR, after=150), "HTTP 500"),
    (LOST, b"", "connection closed"),
    (LOST, TRUE[:-1], "connection closed"),
    (LOST, raw("HTTP/1.1 204 No Content"), "HTTP 204"),
    (LOST, http(NO_DATABASE, "500 X"), "HTTP 500"),
    (LOST, ERROR[:-1], "HTTP 500"),
    (LOST, http(b'{"message": "no upstream"}', "502 X"), "HTTP 502"),
    (LOST, http(b"true", "503 X"), "HTTP 503"),
    (LOST, http(b'["message"]', "403 X"), "answers HTTP 403 Forbidden"),
    (NOT_SERVED, http(b"", "303 X", LOCATION), "HTTP 303 See Other: /web/login\n"),
    (NOT_SERVED, http(HTML, "401 X"), "HTTP 401 Unauthorized"),
    (NOT_SERVED, exception("401 X", "werkzeug.exceptions.Unauthorized", f"No {KEY}"), NO_KEY),
    (NOT_SERVED, exception("403 X", f"{ODOO}AccessDenied", f"No {KEY}"), r"No \*\*\*\n"),
    (NOT_SERVED, http(HTML, "404 X"), "HTTP 404 Not Found\n.*JSON-2 comes with Odoo 19"),
    (NOT_SERVED, raw("HTTP/1.1 404 X\nContent-Length: 99", b"<"), "HTTP 404"),
    (NOT_SERVED, http(NO_DATABASE, "404 X"), "no database 'odoo-dev' with JSON-2\n.*Odoo 19"),
    *(
        (COMMITTED, exception(status, f"{ODOO}UserError", "late", line), "error: .*late\n")
        for line in ("self._cnx.commit()", "self.postcommit.run()")
        for status in ("500 X", "422 X", "403 X")
    ),
    *(
        (REFUSED, exception(status, *error), rf"{FAULT} {code}: .*\n(.*\n)*.*: {said}")
        for status, *error, code, said in EXCEPTIONS
    ),
)
ERR = r"\A(library\.py: debug: .*\n)+library\.py: error: .+\n(library\.py: .+\n)?\Z"


class AnswerTests(CommandLineTestCase):
    backend = LibraryAPI

    def setUp(self) -> None:
        super().setUp()
        self.proxy = enter(self, Proxy("http://127.0.0.1:1"))  # with nothing behind it
        self.environ.update(ODOO_URL=self.proxy.url, ODOO_API_KEY=KEY, ODOO_TIMEOUT="20")
        self.proxy.faults["context_get"] = keeps(http(b'{"uid": 2}'))
        self.api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", KEY)
        self.addCleanup(self.api.close)

    def test_replies(self) -> None:
        """To a question and to each change."""
        file = self.write_file(b'{"id": 1, "name": "Moby-Dick"}')
        commands = {**COMMANDS, "load": ("set", "--file", file)}
        changes = (*CHANGES, "load")
        for statuses, reply, said in REPLIES:
            waits = not isinstance(reply, bytes)  # until there is no time left
            answer = reply if waits else sends(reply)
            self.environ["ODOO_TIMEOUT"] = "0.4" if waits else "20"
            for method in ("search_read", "load") if waits else ("search_read", *changes):
                self.proxy.faults["search_read"] = keeps(EMMA)  # as a change finds it
                with self.subTest(said, method=method), self.proxy.answering(method, answer):
                    start = time.monotonic()
                    status, out, err = self.run_cli("--debug", *commands[method])
                    self.assertLess(time.monotonic() - start, 10)
                    self.assertEqual(self.proxy.calls.count(method), 1, self.proxy.calls)
                    self.assertEqual((status, out), (statuses[method in changes], ""), err)
                    self.assertRegex(err, said)
                    self.assertRegex(err, ERR)
                    self.assertNotRegex(err, f"{KEY}|XML-RPC")

    def test_what_is_sent(self) -> None:
        title = 'Ω "🐳"'
        replies = {"create": http(gzip.compress(b"[7]"), headers=("Content-Encoding: gzip",))}
        replies.update(search_read=EMMA, write=TRUE, unlink=TRUE, search_count=http(b"3"))
        replies["load"] = http(b'{"ids": [1], "messages": []}')
        replies["context_get"] = http(b'{"uid": 2}')
        replies["version"] = http(b'{"version_info": [19, 0], "version": "19.0"}')
        needed = ["Content-Type: application/json", "X-Odoo-Database: odoo-dev"]
        needed.append(f"Authorization: bearer {KEY}")
        sent: list[tuple[str, Any]] = []

        def see(exchange: Exchange) -> None:
            head, body = exchange.request.decode().split("\r\n\r\n")
            first, *headers = head.split("\r\n")
            sent.append((first.removesuffix(" HTTP/1.1"), body and json.loads(body)))
            self.assertNotIn("\\u", body)  # which would make it three times as long
            headers = [line for line in headers if line.startswith(("Content-T", "X-", "Auth"))]
            self.assertCountEqual(headers, needed if body else [])
            exchange.send(replies[exchange.method])

        self.proxy.faults.update(dict.fromkeys(replies, see))
        version = {"server_version_info": [19, 0], "server_version": "19.0"}
        self.assertEqual(self.api.version(), version)
        self.check("list", "a", out="1 Emma\n")
        self.check("add", title, out=f"Book added with ID 7 for title {title}.\n")
        self.check("set", "1", title, out=f"Title of Book ID 1 set to {title}.\n")
        self.check("del", "1", out="Book with ID 1 was deleted.\n")
        file = self.write_file(json.dumps({"id": 1, "name": title}).encode())
        self.check("set", "-q", "--file", file)
        self.assertEqual(self.api._execute("search_count", [[]]), 3)
        with self.assertRaises(TypeError):  # which would lose an argument
            self.api._execute("search_count", [[], 1])
        books, domain = "POST /json/2/library.book", [["name", "ilike", "a"]]
        context = {"context": {"active_test": False}}
        look = {"domain": [["id", "in", [1]]], "fields": ["name"], **context}
        expected = [
            ("GET /web/version", ""),
            ("POST /json/2/res.users/context_get", {}),
            (f"{books}/search_read", {"domain": domain, "fields": ["name"], "limit": 1000}),
            (f"{books}/create", {"vals_list": [{"name": title}]}),
            (f"{books}/search_read", look),
            (f"{books}/write", {"ids": [1], "vals": {"name": title}}),
            (f"{books}/search_read", look),
            (f"{books}/unlink", {"ids": [1]}),
            (f"{books}/search_read", look),
            (f"{books}/load", {"fields": [".id", "name"], "data": [["1", title]], **context}),
            ("POST /json/2/res.users/context_get", {}),
            (f"{books}/search_count", {"domain": []}),
        ]
        self.assertEqual(sent, expected)

    @unittest.skipUnless(os.name == "posix", "without signals to die of")
    def test_it_dies_of_a_signal(self) -> None:
        def interrupt(exchange: Exchange) -> None:
            process.send_signal(signal.SIGINT)
            exchange.hold()

        argv = (sys.executable, library_json2.__file__, "add", "Emma")
        self.environ["ODOO_TIMEOUT"] = "20"
        self.proxy.faults["create"] = interrupt
        with subprocess.Popen(
            argv, env=self.environ, stderr=subprocess.PIPE, preexec_fn=heed_signals
        ) as process:
            _, err = process.communicate()
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertIn(b"interrupted\nlibrary.py: the change may have been made", err)

    def test_uid_and_version(self) -> None:
        for body in (b'{"uid": 0}', b'{"lang": "en_US"}', b"[2]", b"2"):
            with self.proxy.answering("context_get", sends(http(body))):
                self.assertRaises(ConnectError, lambda: self.api.uid)
        for reply in (http(b"2"), http(HTML), http(HTML, "404 X"), http(b"{}", "303 X"), ERROR):
            with self.proxy.answering("version", sends(reply)):
                self.assertRaises(LibraryError, self.api.version)
        with self.proxy.answering("context_get", sends(http(b'{"uid": 6}'))):
            self.assertEqual([self.api.uid, self.api.uid], [6, 6])
            self.assertEqual(self.proxy.calls, ["context_get"])
