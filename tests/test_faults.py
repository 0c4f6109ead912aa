"""What the client makes of servers that misbehave, each on a real socket.

Every fault is tried on each kind of call. Whatever the server does, a command ends within its
deadline with the right exit status, one or two lines on standard error, nothing on standard
output, and one POST of the call in question.
"""

from __future__ import annotations

import gzip
import re
import shutil
import time
from http import HTTPStatus
from unittest import mock

from tests import replies
from tests.proxy import Answer, Exchange
from tests.replies import BOOK_1, TRUE, fault, http, member, raw, sends, trickles, value, xml
from tests.support import (
    CHANGES,
    COMMANDS,
    CommandLineTestCase,
    StandInTestCase,
    full_port,
    unused_port,
)

TIMEOUT = 0.15  # seconds
SLACK = 2.0  # seconds that a busy machine may add

REFUSED, NOTHING_CHANGED, UNKNOWN = 1, 3, 4  # exit statuses


def packed(body: bytes, encoding: str = "gzip") -> bytes:
    return http(body, headers=(f"Content-Encoding: {encoding}",))


def chunked(body: bytes) -> bytes:
    chunks = b"".join(b"1\r\n%c\r\n" % octet for octet in body)
    return raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", chunks + b"0\r\n\r\n")


def books(*members: str) -> str:
    rows = (f"<value><struct>{fields}</struct></value>" for fields in members)
    return f"<array><data>{''.join(rows)}</data></array>"


AGAIN = "the change may have been made: wait a little and run it again, which does no harm"
ADVICE = {
    "create": "the book may have been added: wait a little, then look for a new ID: library.py "
}
ADVICE.update(write=AGAIN, unlink=AGAIN)

ID = member("id", "<int>1</int>")
ENTITY = TRUE.replace(b"1</", b"&t;</").replace(b"?>", b"?><!DOCTYPE x [<!ENTITY t '1'>]>")

# After these nobody can know whether a change was made: status 4 for one, 3 for a question.
LOST: dict[str, Answer] = {
    "closed": lambda exchange: None,
    "reset": Exchange.reset,
    "silent": Exchange.hold,
    "trickling headers": trickles(http(TRUE), after=5),
    "trickling body": trickles(http(TRUE), after=len(http(TRUE)) - 90),
    "trickling chunks": trickles(chunked(TRUE), after=50),
    "endless header": sends(b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 99] * 1000),
    "endless 100 Continue": sends(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 40, pause=0.01),
    "garbage": sends(b"\x1b[2J\r\n" * 100),
    "HTML": sends(http(b"<html><body>Welcome</body></html>")),
    "two values": sends(http(TRUE.replace(b"</param>", b"<value>1</value></param>"))),
    "text after the end": sends(http(TRUE + b"more")),
    "empty": sends(http(b"")),
    "Content-Length too small": sends(raw("HTTP/1.1 200 OK\nContent-Length: 30", TRUE)),
    "no last chunk": sends(chunked(TRUE)[:-5]),
    "HTTP 204": sends(raw("HTTP/1.1 204 No Content")),
    "HTTP 500": sends(http(TRUE, "500 Internal Server Error")),
    "HTTP 502": sends(http(b"oops", "502 Bad Gateway")),
    "HTTP 999": sends(http(b"oops", "999 \x1b[31mred")),
    "gzip cut off": sends(packed(gzip.compress(TRUE)[:-9])),
    "gzip with a wrong sum": sends(packed(gzip.compress(TRUE)[:-8] + b"\0" * 8)),
    "an entity": sends(http(ENTITY)),
    "nested arrays": sends(value("<array><data><value>" * 3000 + "</value></data></array>" * 3000)),
    "5,000 digits": sends(value(f"<int>{'9' * 5000}</int>")),
    "an unknown type": sends(value("<float>1</float>")),
    "fault without text": sends(
        http(xml(f"<value><struct>{member('faultCode', '<int>2</int>')}</struct></value>", "fault"))
    ),
    "nil": sends(value("<nil/>")),
    "a double": sends(value("<double>1.0</double>")),
    "zero": sends(value("<int>0</int>")),
    "a struct": sends(value(f"<struct>{ID}</struct>")),
}

# Values of the right type for some calls, and not for these.
WRONG_TYPES: dict[str, tuple[str, ...]] = {
    "<boolean>1</boolean>": ("authenticate", "search_read", "create"),
    "<boolean>0</boolean>": ("search_read", "create", "write", "unlink"),
    "<int>1</int>": ("search_read", "write", "unlink"),
    books(): ("authenticate", "create", "write", "unlink"),
    books(member("name", "x")): ("search_read",),
    books(ID + member("name", "<int>1</int>")): ("search_read",),
}

# After these nothing was changed: the request was not carried out.
NOT_SERVED: dict[str, bytes] = {
    **{
        str(status): http(TRUE, f"{status} \x1b[31mNo")
        for status in (300, 302, 308, 400, 401, 403, 404, 405, 413, 429)
    },
    "302 with an escape": http(b"", "302 Found", ("Location: http://\x1b[2Jx\x9b/",)),
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


class FaultTests(StandInTestCase, CommandLineTestCase):
    def check_fault(self, method: str, answer: Answer, status: int | None = None) -> str:
        """Run the method's command and give its stderr. Without a status, it is a lost answer's.

        The fault meets the first request of a connection, and then one after another request.
        """
        if status is None:
            status = UNKNOWN if method in CHANGES else NOTHING_CHANGED
        # What a login for an unknown uid, or for a wrong one, brings before the method's call.
        login = method == "authenticate"
        for keeps, uid in ((False, None if login else 2), (True, 9999 if login else None)):
            self.proxy.keeps = keeps
            # The book of `set` and `del` exists, whatever became of it in the test before.
            self.proxy.faults["search"] = replies.keeps(BOOK_1) if keeps else sends(BOOK_1)
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
        actual, out, err = self.run_cli(*COMMANDS[method], "--timeout", str(TIMEOUT))
        seconds = time.monotonic() - start
        self.assertEqual((actual, out), (status, ""), err)
        self.assertRegex(err, r"\A(library\.py: error: .+\n)(library\.py: .+\n)?\Z")
        self.assertNotRegex(err.replace("\n", ""), "[\x00-\x1f\x7f-\x9f\u2028\u202e]")
        self.assertNotIn("Traceback", err)
        self.assertLess(len(err), 1500)
        self.assertEqual(self.proxy.calls.count(method), 1, self.proxy.calls)
        if status == UNKNOWN:  # nothing is asked after that, with another uid, say
            self.assertEqual(self.proxy.calls[-1], method)
        self.assertLess(seconds, TIMEOUT * 2 + SLACK)
        return err

    def test_lost(self) -> None:
        for name, answer in LOST.items():
            for method in COMMANDS:
                with self.subTest(name, method=method):
                    err = self.check_fault(method, answer)
                    if method in CHANGES:
                        self.assertRegex(err, rf"\nlibrary\.py: (.+; )?{ADVICE[method]}")

    def test_wrong_types(self) -> None:
        for content, methods in WRONG_TYPES.items():
            for method in methods:
                with self.subTest(content, method=method):
                    self.check_fault(method, sends(value(content)))

    def test_not_served(self) -> None:
        for name, reply in NOT_SERVED.items():
            for method in COMMANDS:
                with self.subTest(name, method=method):
                    err = self.check_fault(method, sends(reply), NOTHING_CHANGED)
                    self.assertIn(f"HTTP {name[:3]}", err)

    def test_faults(self) -> None:
        for text in (
            "No such thing.\n\nAsk your administrator.\n",
            "\u202eevil \x85 \u2028 text",
            "",
            "Traceback (most recent call last):\n  File x.py, line 1\nValueError: no thing",
            "long " * 100_000,
        ):
            for code in (1, 3):
                for method in COMMANDS:
                    with self.subTest(text[:20], code=code, method=method):
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
                    status = REFUSED if method == "search_read" else None
                    err = self.check_fault(method, sends(fault(1, text)), status)
                    self.assertIn(exception, err)

    def test_what_people_read_of_an_error_of_postgresql(self) -> None:
        with self.proxy.answering("search_read", sends(fault(1, POSTGRESQL))):
            column = 'psycopg2.errors.UndefinedColumn: column "x" does not exist'
            self.check("list", status=1, err=f"library.py: error: {column}\n")

    def test_a_redirection(self) -> None:
        reply = http(b"", "302 Found", ("Location: https://eva:x@odoo.example/y",))
        self.assertEqual(
            self.check_fault("create", sends(reply), NOTHING_CHANGED),
            f"library.py: error: {self.proxy.url} answers HTTP 302 Found: https://odoo.example/y\n"
            "library.py: the server sends you to another URL: use its scheme, host and port\n",
        )

    def test_what_a_status_of_http_means(self) -> None:
        behind = "a web server answers, but Odoo behind"
        for status, hint in (
            ("404 Not Found", r"that may be no Odoo server; from Odoo 22 on there is no XML-RPC"),
            (f"413 {HTTPStatus(413).phrase}", "the web server takes less at once: split -l 200 "),
            ("502 Bad Gateway", behind),
            ("503 Service Unavailable", behind),
            ("504 Gateway Timeout", behind),
        ):
            err = self.check_fault("search_read", sends(http(b"", status)))
            self.assertRegex(err, f"HTTP {status}\nlibrary.py: {hint}")

    def test_fewer_ids_than_titles(self) -> None:
        path = self.write_file(b"a\nb\n")
        with self.proxy.answering("create", sends(BOOK_1)):
            err = re.compile("no valid answer .*: not the list of IDs\n.*lines 1 to 2")
            self.check("add", "--file", path, status=4, err=err)

    def test_cut_off_at_each_byte(self) -> None:
        whole: list[bytes] = []
        for method, argv in COMMANDS.items():
            shutil.rmtree(self.environ["XDG_CACHE_HOME"], ignore_errors=True)
            self.proxy.faults["search"] = replies.keeps(BOOK_1)
            with self.proxy.answering(method, lambda exchange: whole.append(exchange.forward())):
                self.run_cli(*argv)
            for end in range(len(whole[-1])):
                with self.subTest(method=method, end=end):
                    self.check_fault(method, sends(whole[-1][:end]))

    def test_a_reply_is_bounded_unpacked(self) -> None:
        """Not by the deadline alone: this one would be an answer, with 140 MiB of blanks in it."""
        self.environ["ODOO_TIMEOUT"] = "30"
        bomb = gzip.compress(TRUE.replace(b"<params>", b" " * (140 * 2**20) + b"<params>"))
        self.proxy.faults["search"] = replies.keeps(BOOK_1)
        with self.proxy.answering("write", sends(packed(bomb))):
            self.check("set", "1", "Emma", status=4, err=re.compile("larger than 128 MiB"))
        longer = packed(gzip.compress(TRUE) + b"x" * 2**17)  # than the answer that it begins with
        with self.proxy.answering("write", sends(longer)):
            self.check("set", "1", "Emma", out=re.compile("set to Emma"))
            with mock.patch("library_xmlrpc.MAX_REPLY", 2**16):
                self.check("set", "1", "Emma", status=4, err=re.compile("larger than"))

    def test_other_ways_to_answer(self) -> None:
        """Packed, in chunks, or on a connection that stays open, which is no reason to wait."""

        def keep_open(exchange: Exchange) -> None:
            exchange.send(value("<int>7</int>"))
            exchange.hold()

        body = xml("<value><int>7</int></value>")
        for answer in (
            *(sends(packed(gzip.compress(body), name)) for name in ("gzip", "GZIP", "x-gzip")),
            sends(chunked(body)),
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
        with self.proxy.answering("create", sends(packed(b"no gzip"))):
            self.check("add", "Emma", status=4, err=re.compile(": not XML-RPC\n"))

    def test_books_without_a_title(self) -> None:
        for name in (member("name", "<boolean>0</boolean>"), member("name", "<nil/>"), ""):
            with self.proxy.answering("search_read", sends(value(books(ID + name)))):
                self.check("list", out="1 \n")

    def test_no_server(self) -> None:
        """Nothing was sent, so nothing was changed."""
        del self.environ["ODOO_URL"]
        self.environ["ODOO_TIMEOUT"] = str(TIMEOUT)
        with full_port() as port:
            for url, reason in (
                (f"http://127.0.0.1:{unused_port()}", r"connection refused\n.*start the server"),
                ("http://no-such-host.invalid:80", "the host's name can't be looked up"),
                (f"http://127.0.0.1:{port}", "timed out"),
            ):
                error = re.compile(f"error: cannot connect to {url}: {reason}")
                for argv in COMMANDS.values():
                    with self.subTest(url=url, argv=argv):
                        self.check("--url", url, *argv, status=3, err=error)
