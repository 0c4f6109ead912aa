"""What the client makes of servers that misbehave, each on a real socket.

Every fault is tried on each kind of call. Whatever the server does, a command ends within its
deadline with the right exit status, one or two lines on standard error, nothing on standard
output, and one POST of the call in question.
"""

from __future__ import annotations

import gzip
import os
import random
import re
import shutil
import socket
import time
import unittest

from library_xmlrpc import ConnectError, LibraryAPI
from tests.proxy import Answer, Exchange, lose_reply
from tests.replies import BOOK_1, TRUE, fault, http, member, raw, sends, trickles, value, xml
from tests.support import (
    CHANGES,
    COMMANDS,
    CommandLineTestCase,
    StandInTestCase,
    full_port,
    unused_port,
)

TIMEOUT = 0.25  # seconds
SLACK = 2.0  # seconds that a busy machine may add

REFUSED, NOTHING_CHANGED, UNKNOWN = 1, 3, 4  # exit statuses


def with_dtd(entities: str, content: str) -> bytes:
    return xml(content).replace(b"?>", f"?><!DOCTYPE x [{entities}]>".encode())


def malformed_fault(members: str) -> Answer:
    return sends(http(xml(f"<value><struct>{members}</struct></value>", "fault")))


def packed(body: bytes, encoding: str = "gzip") -> bytes:
    return http(body, headers=(f"Content-Encoding: {encoding}",))


def cut_off(exchange: Exchange) -> None:
    exchange.send(exchange.forward()[:-20])


CHUNKS = b"".join(b"1\r\n%c\r\n" % octet for octet in TRUE) + b"0\r\n\r\n"
ENTITIES = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha" * 50}">' for i in range(9))
BOMB = gzip.compress(TRUE.replace(b"<params>", b" " * (80 * 2**20) + b"<params>"))
NESTED = "<array><data><value>" * 3000 + "</value></data></array>" * 3000

# After these nobody can know whether a change was made: status 4 for one, 3 for a question.
LOST: dict[str, Answer] = {
    "closed": lambda exchange: None,
    "closed after the change": lose_reply,
    "reset": Exchange.reset,
    "silent": Exchange.hold,
    "trickling headers": trickles(http(TRUE), after=5),
    "trickling body": trickles(http(TRUE), after=len(http(TRUE)) - 90),
    "trickling chunks": trickles(raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", CHUNKS), 50),
    "endless header": sends(b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 99] * 1000),
    "endless 100 Continue": sends(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 40, pause=0.01),
    "cut off": cut_off,
    "garbage": sends(random.Random(1).randbytes(3000)),
    "garbage with line ends": sends(b"\x1b[2J\r\n" * 100),
    "TLS alert": sends(b"\x15\x03\x01\x00\x02\x02\x46"),
    "HTML": sends(http(b"<!doctype html><html><body>Welcome<br></body></html>")),
    "well-formed HTML": sends(http(b"<html><body>Welcome</body></html>")),
    "another XML-RPC document": sends(
        http(b"<methodCall><methodName>x</methodName><params></params></methodCall>")
    ),
    "two values": sends(
        http(TRUE.replace(b"</param>", b"</param><param><value>1</value></param>"))
    ),
    "no value": sends(http(b"<methodResponse><params></params></methodResponse>")),
    "text after the end": sends(http(TRUE + b"more")),
    "empty": sends(http(b"")),
    "nothing but headers": sends(raw("HTTP/1.1 200 OK")),
    "Content-Length too large": sends(http(TRUE).replace(b"Length: 1", b"Length: 9")),
    "Content-Length too small": sends(raw("HTTP/1.1 200 OK\nContent-Length: 30", TRUE)),
    "chunk without a size": sends(raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"zz\r\n")),
    "chunk cut off": sends(raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"999\r\n" + TRUE)),
    "no last chunk": sends(
        raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(TRUE), TRUE))
    ),
    "too many headers": sends(http(TRUE, headers=tuple(f"X-{i}: x" for i in range(200)))),
    "too long a header": sends(http(TRUE, headers=(f"X: {'x' * 70_000}",))),
    "HTTP 204": sends(raw("HTTP/1.1 204 No Content")),
    "HTTP 500": sends(http(b"oops", "500 Internal Server Error")),
    "HTTP 502": sends(http(b"oops", "502 Bad Gateway")),
    "HTTP 503": sends(http(TRUE, "503 Service Unavailable")),
    "HTTP 504": sends(http(b"oops", "504 Gateway Timeout")),
    "HTTP 999": sends(http(b"oops", "999 \x1b[31mred")),
    "gzip that is none": sends(packed(b"no gzip")),
    "gzip cut off": sends(packed(gzip.compress(TRUE)[:-9])),
    "gzip with a wrong sum": sends(packed(gzip.compress(TRUE)[:-8] + b"\0" * 8)),
    "gzip bomb": sends(packed(BOMB)),
    "entity bomb": sends(http(with_dtd(ENTITIES, "<value>&e8;</value>"))),
    "an entity": sends(http(with_dtd('<!ENTITY t "1">', "<value><boolean>&t;</boolean></value>"))),
    "external entity": sends(
        http(with_dtd('<!ENTITY f SYSTEM "file:///etc/passwd">', "<value>&f;</value>"))
    ),
    "nested arrays": sends(value(NESTED)),
    "5,000 digits": sends(value(f"<int>{'9' * 5000}</int>")),
    "no number": sends(value("<int>six</int>")),
    "an unknown type": sends(value("<float>1</float>")),
    "not UTF-8": sends(http(b"<?xml version='1.0'?><methodResponse>\xff")),
    "fault without text": malformed_fault(member("faultCode", "<int>2</int>")),
    "fault that is no struct": sends(http(xml("<value><string>no</string></value>", "fault"))),
    "fault that is empty": sends(http(xml("", "fault"))),
    "nil": sends(value("<nil/>")),
    "a string": sends(value("<string>1</string>")),
    "a double": sends(value("<double>1.0</double>")),
    "zero": sends(value("<int>0</int>")),
    "a struct": sends(value(f"<struct>{member('id', '<int>1</int>')}</struct>")),
    "a date": sends(value("<dateTime.iso8601>20260101T00:00:00</dateTime.iso8601>")),
    "a list of lists": sends(
        value("<array><data><value><array><data/></array></value></data></array>")
    ),
}

# Values of the right type for some calls, and not for these.
WRONG_TYPES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "True": (value("<boolean>1</boolean>"), ("authenticate", "search_read", "create")),
    "False": (value("<boolean>0</boolean>"), ("search_read", "create", "write", "unlink")),
    "one": (value("<int>1</int>"), ("search_read", "write", "unlink")),
    "an empty list": (
        value("<array><data></data></array>"),
        ("authenticate", "create", "write", "unlink"),
    ),
    "a book without an ID": (
        value(f"<array><data><value><struct>{member('name', 'x')}</struct></value></data></array>"),
        tuple(COMMANDS),
    ),
    "a book with a number for a title": (
        value(
            "<array><data><value><struct>"
            + member("id", "<int>1</int>")
            + member("name", "<int>1</int>")
            + "</struct></value></data></array>"
        ),
        tuple(COMMANDS),
    ),
}

# After these nothing was changed: the request was not carried out.
NOT_SERVED: dict[str, bytes] = {
    "301": http(b"", "301 Moved Permanently", ("Location: https://example.com/x",)),
    "302 to nowhere": http(b"", "302 Found"),
    "302 to nonsense": http(b"", "302 Found", ("Location: http://[nonsense",)),
    "302 with an escape": http(b"", "302 Found", ("Location: http://\x1b[2Jx\x9b/",)),
    "307": http(b"", "307 Temporary Redirect", ("Location: /elsewhere",)),
    "308": http(TRUE, "308 Permanent Redirect", ("Location: https://example.com/x",)),
    **{
        str(status): http(TRUE, f"{status} \x1b[31mNo")
        for status in (400, 401, 403, 404, 405, 413, 429)
    },
    "300": http(b"", "300 Multiple Choices"),
    "404 with an endless body": raw("HTTP/1.1 404 Not Found\nContent-Length: 99999999", b"<html>"),
}

POSTGRESQL = """Traceback (most recent call last):
  File "/odoo/http.py", line 1, in dispatch
    return self._dispatch()
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

FAULT_TEXTS = {
    "one line": "No such thing",
    "several lines": "No such thing.\n\nAsk your administrator.\n",
    "escapes": "\u202eevil \x85 \u2028 text",
    "none": "",
    "a traceback": "Traceback (most recent call last):\n  File x.py, line 1\nValueError: no thing",
    "a traceback of PostgreSQL's": POSTGRESQL,
    "a long one": "long " * 100_000,
}


class FaultTests(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        # The book of `set` and `del` exists, whatever became of it in the test before.
        self.proxy.faults["search"] = sends(BOOK_1)

    def check_fault(self, method: str, answer: Answer, status: int) -> str:
        """Run the method's command against the fault, and give what it says on stderr."""
        if method == "authenticate":  # no uid is remembered
            shutil.rmtree(self.environ["XDG_CACHE_HOME"], ignore_errors=True)
        with self.proxy.answering(method, answer):
            start = time.monotonic()
            actual, out, err = self.run_cli(*COMMANDS[method], "--timeout", str(TIMEOUT))
            seconds = time.monotonic() - start
        self.assertEqual((actual, out), (status, ""), err)
        self.assertRegex(err, r"\A(library\.py: error: .+\n)(library\.py: .+\n)?\Z")
        self.assertNotRegex(err.replace("\n", ""), "[\x00-\x1f\x7f-\x9f\u2028\u202e]")
        self.assertNotIn("Traceback", err)
        self.assertLess(len(err), 1500)
        self.assertEqual(self.proxy.calls.count(method), 1, self.proxy.calls)
        self.assertLess(seconds, TIMEOUT * 2 + SLACK)
        return err

    def test_lost(self) -> None:
        for name, answer in LOST.items():
            for method in COMMANDS:
                with self.subTest(name, method=method):
                    status = UNKNOWN if method in CHANGES else NOTHING_CHANGED
                    err = self.check_fault(method, answer, status)
                    if status == UNKNOWN:
                        self.assertIn("check with list", err)

    def test_wrong_types(self) -> None:
        for name, (reply, methods) in WRONG_TYPES.items():
            for method in methods:
                with self.subTest(name, method=method):
                    status = UNKNOWN if method in CHANGES else NOTHING_CHANGED
                    self.check_fault(method, sends(reply), status)

    def test_not_served(self) -> None:
        for name, reply in NOT_SERVED.items():
            for method in COMMANDS:
                with self.subTest(name, method=method):
                    err = self.check_fault(method, sends(reply), NOTHING_CHANGED)
                    if re.fullmatch("[0-9]+", name):
                        self.assertIn(f"HTTP {name}", err)

    def test_faults(self) -> None:
        for name, text in FAULT_TEXTS.items():
            for code in (1, 2, 3, 4):
                for method in COMMANDS:
                    with self.subTest(name, code=code, method=method):
                        login = code == 3 or method == "authenticate"
                        status = NOTHING_CHANGED if login else REFUSED
                        self.check_fault(method, sends(fault(code, text)), status)

    def test_a_fault_after_the_commit(self) -> None:
        """Of a change nobody knows; and it is not made again, for another uid, say."""
        for name, (function, line, exception) in COMMITTED.items():
            text = "Traceback (most recent call last):\n"
            text += f'  File "/{name}", line 9, {function}\n    {line}\n{exception}\n'
            for method in COMMANDS:
                with self.subTest(name, method=method):
                    self.run_cli("list", "-q")  # remembers the uid
                    status = UNKNOWN if method in CHANGES else REFUSED
                    status = NOTHING_CHANGED if method == "authenticate" else status
                    err = self.check_fault(method, sends(fault(1, text)), status)
                    self.assertIn(exception, err)
                    if status == UNKNOWN:
                        self.assertNotIn("authenticate", self.proxy.calls)

    def test_what_people_read_of_an_error_of_postgresql(self) -> None:
        with self.proxy.answering("search_read", sends(fault(1, POSTGRESQL))):
            column = 'psycopg2.errors.UndefinedColumn: column "x" does not exist'
            self.check("list", status=1, err=f"library.py: error: {column}\n")

    def test_redirections(self) -> None:
        for location, shown in (
            ("/web/login", "/web/login"),
            ("https://eva:x@odoo.example/y", "https://odoo.example/y"),
        ):
            reply = http(b"", "302 Found", (f"Location: {location}",))
            err = self.check_fault("create", sends(reply), NOTHING_CHANGED)
            self.assertEqual(
                err,
                f"library.py: error: {self.proxy.url} answers HTTP 302 Found: {shown}\n"
                "library.py: no redirection is followed; if that is another server, use its URL\n",
            )

    def test_a_web_server_without_odoo_behind_it(self) -> None:
        for status in ("502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"):
            err = self.check_fault("search_read", sends(http(b"", status)), NOTHING_CHANGED)
            self.assertRegex(
                err, f"HTTP {status}\nlibrary.py: a web server answers, but Odoo behind"
            )
            err = self.check_fault("create", sends(http(b"", status)), UNKNOWN)
            self.assertRegex(
                err,
                f"HTTP {status}\nlibrary.py: wait a little, then check with list whether it was",
            )

    def test_a_server_without_xmlrpc(self) -> None:
        err = self.check_fault("search_read", sends(http(b"", "404 Not Found")), NOTHING_CHANGED)
        self.assertIn(
            "library.py: is that an Odoo server? from Odoo 22 on there is no XML-RPC", err
        )

    def test_fewer_ids_than_titles(self) -> None:
        one = "<array><data><value><int>1</int></value></data></array>"
        path = self.write_file(b"a\nb\n")
        with self.proxy.answering("create", sends(value(one))):
            err = re.compile("no valid answer .*: not the list of IDs\n.*lines 1 to 2")
            self.check("add", "--file", path, status=4, err=err)

    def test_cut_off_at_each_byte(self) -> None:
        for method in COMMANDS:
            reply = self.reply(method)
            status = UNKNOWN if method in CHANGES else NOTHING_CHANGED
            for end in range(len(reply)):
                with self.subTest(method=method, end=end):
                    self.check_fault(method, sends(reply[:end]), status)

    def reply(self, method: str) -> bytes:
        """The server's own, whole."""
        replies: list[bytes] = []
        with self.proxy.answering(method, lambda exchange: replies.append(exchange.forward())):
            self.run_cli(*COMMANDS[method])
        return replies[0]

    def test_a_reply_is_bounded_unpacked(self) -> None:
        """Not by the deadline alone: this one would be an answer, with 80 MiB of blanks in it."""
        self.environ["ODOO_TIMEOUT"] = "30"
        with self.proxy.answering("write", sends(packed(BOMB))):
            self.check("set", "1", "Emma", status=4, err=re.compile("larger than 64 MiB"))

    def test_other_ways_to_answer(self) -> None:
        """Packed, in chunks, or on a connection that stays open, which is no reason to wait."""

        def keep_open(exchange: Exchange) -> None:
            exchange.send(value("<int>7</int>"))
            exchange.hold()

        body = xml("<value><int>7</int></value>")
        chunks = b"".join(b"1\r\n%c\r\n" % octet for octet in body) + b"0\r\n\r\n"
        zipped = gzip.compress(body)
        for answer in (
            *(sends(packed(zipped, name)) for name in ("gzip", "GZIP", "x-gzip", "X-Gzip")),
            sends(raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", chunks)),
            keep_open,
        ):
            with self.proxy.answering("create", answer):
                self.check("add", "Emma", out="Book added with ID 7 for title Emma.\n")

    def test_a_packed_reply_is_asked_for(self) -> None:
        requests: list[bytes] = []
        with self.proxy.answering("create", lambda exchange: requests.append(exchange.request)):
            self.run_cli("add", "Emma")
        self.assertIn(b"\r\nAccept-Encoding: gzip\r\n", requests[0])
        with self.proxy.answering("create", sends(packed(b"no gzip"))):
            self.check("add", "Emma", status=4, err=re.compile(": not XML-RPC\n"))

    def test_books_without_a_title(self) -> None:
        book = "<value><struct>{}</struct></value>"
        rows = [
            member("id", "<int>1</int>") + member("name", "<boolean>0</boolean>"),
            member("id", "<int>2</int>"),
            member("id", "<int>3</int>") + member("name", "<nil/>"),
        ]
        reply = value(f"<array><data>{''.join(map(book.format, rows))}</data></array>")
        with self.proxy.answering("search_read", sends(reply)):
            self.check("list", out="1 \n2 \n3 \n")


class NoServerTests(CommandLineTestCase):
    """No server: nothing was sent, so nothing was changed."""

    def check_no_server(self, url: str, reason: str) -> None:
        self.environ.update(ODOO_URL=url, ODOO_PASSWORD="admin")
        for argv in COMMANDS.values():
            with self.subTest(argv=argv):
                self.check(
                    *argv, status=3, err=re.compile(f"error: cannot connect to {url}: {reason}")
                )

    def test_nobody_listens(self) -> None:
        url = f"http://127.0.0.1:{unused_port()}"
        self.check_no_server(url, "connection refused\n.*start the server")

    def test_an_unknown_host(self) -> None:
        self.check_no_server("http://no-such-host.invalid:80", "the host's name can't be looked up")

    def test_a_host_that_does_not_answer(self) -> None:
        self.environ["ODOO_TIMEOUT"] = str(TIMEOUT)
        with full_port() as port:
            self.check_no_server(f"http://127.0.0.1:{port}", "timed out")

    def test_a_server_that_does_not_read(self) -> None:
        """A request that never got out whole can't have been carried out."""
        uid_cache = os.path.join(self.home, "uid")
        with open(uid_cache, "w") as file:
            file.write("2")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            api = LibraryAPI(
                "127.0.0.1", port, "db", "user", "pwd", timeout=TIMEOUT, uid_cache=uid_cache
            )
            with self.assertRaisesRegex(ConnectError, "cannot send to .*: timed out"):
                api.create_many(["x" * 3000] * 7000)


if __name__ == "__main__":
    unittest.main()
