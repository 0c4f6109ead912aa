"""The commands: what they print, on which stream, and with which exit status."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import library
from library_xmlrpc import MAX_ID, LibraryAPI
from tests.proxy import Answer, Exchange, Proxy, lose_reply
from tests.replies import fault, http, sends, value
from tests.standin import StandIn
from tests.support import CommandLineTestCase, StandInTestCase, enter, unused_port

NO_BOOK = "library.py: error: there is no book with ID "
NOTHING = "library.py: nothing to do\n"
UTF8 = "utf-8"
ANY = re.compile("")


def pass_on_but(answers: dict[int, Answer]) -> Answer:
    """Passes calls on, but answers those with these numbers, from 1 on, so."""
    count = itertools.count(1)
    return lambda exchange: answers.get(next(count), Exchange.keep)(exchange)


class CatalogueTestCase(CommandLineTestCase):
    """With a stand-in of its own for each test, so that the first book has ID 1."""

    def setUp(self) -> None:
        super().setUp()
        self.standin = enter(self, StandIn())
        self.proxy = enter(self, Proxy(self.standin.url))
        self.environ.update(ODOO_URL=self.proxy.url, ODOO_PASSWORD="admin")

    def sql(self, statement: str, *rows: tuple[Any, ...]) -> None:
        """What another client does, which may know other calls."""
        with self.standin._lock, self.standin._connection as connection:
            connection.executemany(statement, rows or [()])

    def store(self, *titles: str) -> None:
        self.sql("INSERT INTO book (name, active) VALUES (?, 1)", *zip(titles))

    def books(self) -> dict[int, str]:
        with self.standin._lock:
            return dict(self.standin._connection.execute("SELECT id, name FROM book ORDER BY id"))

    def write_lines(self, *lines: object) -> str:
        """Write a file: a string as a line, and a pair as the book with that ID and title."""
        texts = (
            json.dumps({"id": line[0], "name": line[1]}) if isinstance(line, tuple) else str(line)
            for line in lines
        )
        return self.write_file("".join(f"{text}\n" for text in texts).encode())

    def requests_of(self, *argv: str, **expected: Any) -> list[str]:
        """What is called by a command, which is checked, too."""
        self.standin.requests.clear()
        self.check(*argv, **expected)
        return [name for name in self.standin.requests if name != "authenticate"]


class CommandTests(CatalogueTestCase):
    # What each command prints

    def test_a_session(self) -> None:
        self.check("add", "Moby-Dick", out="Book added with ID 1 for title Moby-Dick.\n")
        self.check("list", "moby", out="1 Moby-Dick\n")
        self.check("set", "1", "Moby Dick", out="Title of Book ID 1 set to Moby Dick.\n")
        self.check("del", "1", out="Book with ID 1 was deleted.\n")
        self.check("list")

    def test_quiet(self) -> None:
        self.check("add", "-q", "Emma", out="1\n")
        self.check("--quiet", "list", out="1\n")
        self.check("set", "1", "Emilia", "-q")
        self.check("del", "1", "-q")
        self.check("-q", "list")

    def test_json(self) -> None:
        self.check("add", "--json", "Émilie", out='{"id": 1, "name": "\\u00c9milie"}\n')
        self.check("--json", "list", out='{"id": 1, "name": "\\u00c9milie"}\n')
        self.check("set", "1", "\u202eX", "--json", out='{"id": 1, "name": "\\u202eX"}\n')
        self.check("del", "1", "--json", out='{"id": 1}\n')

    def test_json_is_exact_and_can_be_searched_where_that_shows(self) -> None:
        for title, shown in (
            ('"Königin" 🐳 \\', '"\\"Königin\\" 🐳 \\\\"'),
            ("É\u202e", r'"\u00c9\u202e"'),
            ("É\r\x1b", r'"\u00c9\r\u001b"'),
            ("É\xa0!", '"É\xa0!"'),  # as French has it
        ):
            self.sql("DELETE FROM book")
            self.store(title)
            for encoding in (UTF8, "UTF8", "ascii", "latin-1", None):
                status, out, err = self.run_cli("list", "--json", encoding=encoding)
                self.assertEqual((status, err, json.loads(out)["name"]), (0, "", title))
                if encoding in (UTF8, "UTF8"):
                    self.assertEqual(out.partition('"name": ')[2], f"{shown}}}\n")
                else:
                    self.assertTrue(out.isascii())

    def test_many_ids_are_a_range(self) -> None:
        for ids, text in (([7], "7"), ([7, 8], "7 8"), ([7, 8, 9], "7 to 9"), ([7, 9, 8], "7 9 8")):
            self.assertEqual(library.format_ids(ids), text)

    def test_text_is_one_line_a_book_and_steers_no_terminal(self) -> None:
        for text, shown in (
            ("a\n\r\x1b[31m", r"a\n\r\x1b[31m"),
            ("\x7f\x85\x9b", r"\x7f\x85\x9b"),
            ("\u2028\u2029", r"\u2028\u2029"),
            ("\u202a\u202e\u2066\u2069", r"\u202a\u202e\u2066\u2069"),
            ("É \u05d0 🐳 \\n", "É \u05d0 🐳 \\n"),
        ):
            self.assertEqual(library.printable(text), shown)

    def test_a_title_that_xml_cannot_carry_hides_no_other_book(self) -> None:
        """Another client stored it. It is shown, on the first page or a later one, and mended."""
        odd = {
            "a\x01\x1b[2J": r"a\x01\x1b[2J",
            "b\ufffe\uffff": r"b\ufffe\uffff",
            "c\rd\ne\r\n": r"c\rd\ne\r\n",
            "f\0<&>": r"f\x00<&>",
        }
        for others in (0, 1001):
            self.sql("DELETE FROM book")
            self.store(*(f" {number}" for number in range(others)), *odd)  # listed in this order
            ids = list(self.books())[others:]
            lines = [f"{id} {shown}" for id, shown in zip(ids, odd.values())]
            for encoding in (UTF8, None):
                status, out, err = self.run_cli("list", encoding=encoding)
                self.assertEqual((status, err, out.count("\n")), (0, "", others + 4))
                self.assertEqual(out.split("\n")[others:-1], lines)
                _, out, _ = self.run_cli("list", "--json", encoding=encoding)
                books = [json.loads(line) for line in out.splitlines()]
                self.assertEqual({book["id"]: book["name"] for book in books}, self.books())
        path = self.write_lines((ids[1], "b"), (ids[2], "c"), (ids[3], "f"))
        self.check("set", str(ids[0]), "a", "-q")
        self.check("set", "--file", path, "-q")
        self.assertEqual([self.books()[id] for id in ids], ["a", "b", "c", "f"])

    def test_what_is_listed(self) -> None:
        self.check("add", "--file", self.write_file(b"a\nb\n"), "-q", out="1\n2\n")
        self.check("list", "B", out="2 b\n")
        self.check("list", "--limit", "1", out="1 a\n")
        self.check("add", "-q", "--", "-1", out="3\n")
        self.check("list", "--", "-1", out="3 -1\n")
        self.check("list", "%")

    def test_books_that_do_not_exist(self) -> None:
        self.check("add", "--file", self.write_file(b"a\nb\nc\n"), "-q", out="1\n2\n3\n")
        deleted = "Book with ID 2 was deleted.\nBook with ID 1 was deleted.\n"
        argv = ("del", "2", "99", "1", "98", "2", "99")
        self.check(*argv, status=1, out=deleted, err=f"{NO_BOOK}99, 98\n")
        self.check("list", out="3 c\n")
        self.check("del", "007", status=1, err=f"{NO_BOOK}7\n")
        self.check("set", "99", "Emma", status=1, err=f"{NO_BOOK}99\n")

    # Requests

    def test_no_request_is_larger_than_half_a_mebibyte(self) -> None:
        """A web server in front of Odoo may take one MiB, whatever the titles and IDs are."""
        calls = ("create", "load", "search", "search_read", "unlink")
        sizes = dict.fromkeys(calls, 0)

        def measure(method: str, exchange: Exchange) -> None:
            sizes[method] = max(sizes[method], len(exchange.request))
            exchange.keep()

        self.proxy.faults.update({method: partial(measure, method) for method in calls})
        first = MAX_ID - 12_000  # the IDs with most digits
        self.sql("INSERT INTO book VALUES (?, 'a', 1)", *((first + n,) for n in range(8000)))
        for title, many in (("&" * 90, 1001), ("&" * 3000, 60), ("🐳" * 3000, 60)):
            path = self.write_lines(*((first + n, title) for n in range(many)))
            self.check("set", "-q", "--file", path)
            path = self.write_lines("a", *[title] * many)
            self.check("add", "-q", "--file", path, out=re.compile(r"\A(\d+\n)+\Z"))
            err = f"library.py: left out {many + 1} of {many + 1} titles: they are there already\n"
            self.check("add", "-q", "--file", path, "--skip-existing", err=err)
        self.assertEqual(len(self.books()), 8000 + 1002 + 61 + 61)
        path = self.write_lines(*self.books(), *range(first - 9000, first))
        self.check("del", "-q", "--file", path, status=1, err=re.compile(NO_BOOK))
        self.assertEqual(self.books(), {})
        for method in calls:
            self.assertLess(sizes[method], 2**19, method)
            self.assertGreater(sizes[method], 2**18, method)

    def test_the_requests_of_each_command(self) -> None:
        """One where one is enough; two where Odoo answers True for books that do not exist."""
        self.check("add", "Emma", out=re.compile("ID 1 "))
        for argv, requests in (
            (("list",), ["search_read"]),
            (("add", "Emma", "-q"), ["create"]),
            (("set", "1", "Emma", "-q"), ["search", "write"]),
            (("add", "Emma", "-q", "--skip-existing"), ["search_read"]),
            (("add", "Evelina", "-q", "--skip-existing"), ["search_read", "create"]),
            (("set", "--file", self.write_lines((1, "Emilia"))), ["search_read", "load"]),
            (("set", "--file", self.write_lines((1, "Emilia"))), ["search_read"]),
            (("del", "1", "2", "-q"), ["search", "unlink"]),
        ):
            self.assertEqual(self.requests_of(*argv, out=ANY, err=ANY), requests)

    # Refusals

    def test_no_permission(self) -> None:
        self.check("add", "Emma", "-q", out="1\n")
        self.environ.update(ODOO_USER="clerk", ODOO_PASSWORD="clerk")
        refused = (
            "library.py: error: You are not allowed to delete 'Book' (library.book) records. "
            "This operation is allowed for the following groups: - Administration/Settings "
            "Contact your administrator to request access if necessary.\n"
        )
        self.check("del", "1", status=1, err=refused)

    def test_a_wrong_password_is_tried_once(self) -> None:
        self.environ["ODOO_PASSWORD"] = "hunter2"
        message = f"wrong user or password for 'admin' on {self.proxy.url}, database 'odoo-dev'"
        hint = "password from ODOO_PASSWORD, user from the default, db from the default"
        err = f"library.py: error: {message}\nlibrary.py: {hint}\n"
        self.check("list", status=3, err=err)
        self.assertEqual(self.standin.requests, ["authenticate"])

    def test_where_a_refused_login_is_from(self) -> None:
        path = self.write_file(f"[p]\nurl = {self.proxy.url}\npassword = hunter2".encode(), "ini")
        os.chmod(path, 0o600)
        profile = f"password from 'password' in [p] of {path}"
        self.environ["ODOO_DB"] = "odoo-empty"
        self.environ["ODOO_API_KEY"] = "hunter2"
        for argv, hint in (
            (("--config", path, "--profile", "p", "--user", "u"), f"{profile}, user from --user"),
            ((), "password from ODOO_API_KEY, user from the default"),
        ):
            status, out, err = self.run_cli("list", *argv)
            self.assertEqual((status, out), (3, ""))
            self.assertEqual(err.splitlines()[1:], [f"library.py: {hint}, db from ODOO_DB"])

    def test_an_unknown_database(self) -> None:
        err = f"library.py: error: there is no database 'no-such' on {self.proxy.url}\n"
        err += "library.py: password from ODOO_PASSWORD, user from the default, db from --db\n"
        self.check("list", "--db", "no-such", status=3, err=err)

    def test_the_default_server(self) -> None:
        port = unused_port()
        url = f"http://localhost:{port}"
        del self.environ["ODOO_URL"]
        hint = "library.py: check that it runs at this port"
        with mock.patch.dict("library.DEFAULTS", url=url):
            error = f"library.py: error: cannot connect to {url}: connection refused\n"
            self.check("list", status=3, err=f"{error}{hint}\n")

    # Secrets

    def debugged(self, method: str, answer: Answer) -> tuple[int, str]:
        """The exit status, and what --debug shows of a server that answers so."""
        with self.proxy.answering(method, answer):
            status, out, err = self.run_cli("--debug", "list")
        self.assertEqual(out, "")
        self.assertIn("debug: ", err)
        return status, err

    def test_a_server_that_quotes_the_password_back(self) -> None:
        self.environ["ODOO_PASSWORD"] = password = "p'<&>\\ss"
        for quoted in (password, f"x{password}y", f'"eva" {password}', repr(password)):
            text = f"Traceback (most recent call last):\nno: {quoted}"
            status, err = self.debugged("authenticate", sends(fault(1, text)))
            self.assertEqual(status, 3)
            self.assertIn("error: cannot log in", err)
            self.assertNotRegex(err, r"p'|ss\b|&lt;")
        self.environ["ODOO_PASSWORD"] = "hunter2"
        location = "Location: http://hunter2.example/hunter2"
        for answer in (
            sends(value("<int>hunter2</int>")),  # which Python quotes
            sends(http(b"", "302 Found", (location,))),
        ):
            status, err = self.debugged("authenticate", answer)
            self.assertEqual(status, 3)
            self.assertNotIn("hunter2", err)

    def test_a_password_that_is_a_word_of_a_refusal(self) -> None:
        """It is masked, and the refusal is understood all the same."""
        for password, code, text, status, said in (
            ("marshal", 1, "TypeError: cannot marshal None", 4, r"cannot \*\*\* None"),
            (
                "library",
                2,
                "Object library.book doesn't exist",
                1,
                "install the module library_app",
            ),
            ("login", 3, "Too many login failures", 3, "wait a minute"),
            ("admin", 2, "ask an administrator", 1, "ask an administrator"),
            ("access", 2, "could not serialize access", 1, r"\*\*\*\n.*run the same command again"),
        ):
            self.environ["ODOO_PASSWORD"] = password
            self.proxy.faults["authenticate"] = sends(value("<int>2</int>"))
            with self.proxy.answering("create", sends(fault(code, text))):
                for _ in range(2):  # the second with a remembered uid
                    self.proxy.calls.clear()
                    self.check("add", "Emma", status=status, err=re.compile(said))

    def test_debug_says_first_which_login_is_used(self) -> None:
        self.environ.update(ODOO_DB="odoo-empty", ODOO_PASSWORD="admin")
        err = self.run_cli("list", "--debug", "--user", "admin")[2]
        login = f"<LibraryAPI {self.proxy.url} db='odoo-empty' user='admin'>"
        where = "url from ODOO_URL, db from ODOO_DB, user from --user, password from ODOO_PASSWORD"
        self.assertEqual(err.splitlines()[0], f"library.py: debug: {login}: {where}")

    def test_a_password_that_is_one_of_our_words(self) -> None:
        """They are no secret, nor are IDs and URLs."""
        self.proxy.faults.update(authenticate=sends(value("<int>2</int>")), create=lose_reply)
        self.proxy.faults["search"] = sends(value("<array><data></data></array>"))
        closed = f"error: no valid answer from {self.proxy.url}: connection closed\n"
        for password in ("odoo", "library", "error", "http", "127.0.0.1", "book", "99", "add"):
            self.environ["ODOO_PASSWORD"] = password
            with self.subTest(password):
                self.check("del", "99", "100", status=1, err=f"{NO_BOOK}99, 100\n")
                status, _, err = self.run_cli("add", "Emma", "--debug")
                *debug, error, hint = err.splitlines(keepends=True)
                self.assertEqual(error, f"library.py: {closed}")
                self.assertEqual(hint, f"library.py: {library.HINTS['add']}\n")
                self.assertIn(f"<LibraryAPI {self.proxy.url} db='odoo-dev' user='admin'>", debug[0])
                self.assertNotIn(password, "".join(debug[1:]).replace("library.py: debug: ", ""))

    def test_debug_shows_no_fault_where_there_was_none(self) -> None:
        status, out, err = self.run_cli("del", "99", "--debug")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("BookNotFoundError", err)
        self.assertNotIn("Fault", err)

    def test_debug_shows_both_tracebacks(self) -> None:
        text = 'Traceback (most recent call last):\n  File "server.py"\nno\x9b way'
        status, err = self.debugged("search_read", sends(fault(2, text)))
        self.assertEqual(status, 1)
        self.assertIn('library.py: debug:   File "server.py"\n', err)
        self.assertRegex(err, r'debug:   File ".*library_xmlrpc\.py", line ')
        self.assertIn("library.py: error: no\\x9b way\n", err)
        self.assertNotRegex(err, "[\x00-\x09\x0b-\x1f\x7f-\x9f]")

    def test_the_cache_is_the_users_alone(self) -> None:
        self.check("list")
        folder = os.path.join(self.environ["XDG_CACHE_HOME"], "library")
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)


class FileTests(CatalogueTestCase):
    """One kind of file for all verbs: what `list --json` prints, or titles, or IDs."""

    def test_add_file(self) -> None:
        path = self.write_file("\ufeffMoby-Dick\r\n\n  \t\nÉmile \n漢字".encode())
        lines = "Book added with ID 1 for title Moby-Dick.\n"
        lines += "Book added with ID 2 for title Émile .\nBook added with ID 3 for title 漢字.\n"
        self.assertEqual(self.requests_of("add", "--file", path, out=lines), ["create"])

    def test_what_is_a_book_and_what_a_title(self) -> None:
        """A line that is no object with a text as its name is a title."""
        titles = ['{"name": 7}', '{"id": 1}', '{"name": "a"', '["name"]', '"a"', "{}", "12", "null"]
        titles += ["{" * 3000, '{"x": %s}' % ("[" * 2900), '{"name": "a"} {"name": "b"}']
        objects = ['{"name": "Emma"}', ' {"name":"\\u00c9 \\ud83d\\udc33", "id": "x", "y": []} ']
        path = self.write_lines(*titles, *objects)
        self.check("add", "-q", "--file", path, out=re.compile(r"\A(\d+\n){13}\Z"))
        self.assertEqual(list(self.books().values()), [*titles, "Emma", "É 🐳"])

    def test_a_file_with_nothing_to_do_says_so(self) -> None:
        self.store("Emma", "Emma")
        blank, same = self.write_file(b"\n \r\n"), ((1, "Emma"), (2, "Emma"))
        for verb in ("add", "set", "del"):
            self.assertEqual(self.requests_of(verb, "--file", blank, err=NOTHING), [])
        path = self.write_lines(*same)
        requests = self.requests_of("set", "--file", path, err=NOTHING)
        self.assertEqual(requests, ["search_read"])
        self.check("add", "--file", path, "--from-line", "3", err=NOTHING)
        status, out, err = self.run_cli("set", "--file", path, terminal=True)
        self.assertEqual((status, out), (0, ""))
        self.assertTrue(err.endswith(NOTHING), err)

    def test_back_up_and_restore(self) -> None:
        titles = ["Emma", ' <&> "\\', "Königin", "É\u202e", "\xad \u3000", '{"name": "a"}', "🐳"]
        for encoding in (UTF8, "ascii"):
            self.sql("DELETE FROM book")
            self.store(*titles)
            books = self.run_cli("list", "--json", encoding=encoding)[1]
            path = self.write_file(books.encode())
            self.check("del", "-q", "--file", path)
            self.assertEqual(self.books(), {})
            self.check("add", "-q", "--file", path, out=re.compile(r"\A(\d+\n){7}\Z"))
            self.assertEqual(sorted(self.books().values()), sorted(titles))

    def test_del_file(self) -> None:
        self.store(*"abcdefg")
        path = self.write_lines((1, "a"), "2", '{"id": 3}', " 4 ", "", "98", "1", (99, "x"), "98")
        deleted = "".join(f"Book with ID {id} was deleted.\n" for id in (1, 2, 3, 4))
        self.check("del", "--file", path, status=1, out=deleted, err=f"{NO_BOOK}98, 99\n")
        self.assertEqual(list(self.books()), [5, 6, 7])
        books = self.run_cli("list", "--json")[1]
        self.check("del", "-q", "--file", self.write_file(books.encode("utf-16")))
        self.assertEqual(self.books(), {})

    def test_set_file(self) -> None:
        """Only what differs is sent, and printed; archived books are among them."""
        self.store("a", "b", "c", "d", "e")
        self.sql("UPDATE book SET active = 0 WHERE id IN (4, 5)")
        new = {1: "a", 2: "B", 4: "D", 5: "e", 3: ' "É", <&>🐳 '}
        path = self.write_lines(*new.items())
        lines = [f"Title of Book ID {id} set to {new[id]}.\n" for id in (2, 4, 3)]
        sent = []

        def look(exchange: Exchange) -> None:
            sent.append(exchange.request)
            exchange.keep()

        with self.proxy.answering("load", look):
            self.check("set", "--file", path, out="".join(lines))
            self.check("set", "--file", path, err=NOTHING)
        self.assertEqual(len(sent), 1)
        self.assertRegex(sent[0], b"(?s)<string>2<.*<string>4<.*<string>3<")
        self.assertNotRegex(sent[0], b"<string>[15]<")
        self.assertEqual(self.books(), new)
        for option, out in (("-q", ""), ("--json", '{"id": 2, "name": "b"}\n')):
            self.sql("UPDATE book SET name = 'B' WHERE id = 2")
            self.check("set", option, "--file", self.write_lines((2, "b"), (1, "a")), out=out)
        self.assertEqual(self.books()[2], "b")

    def test_set_file_in_batches(self) -> None:
        """The books that don't exist are named at the end, and the others are done."""
        self.store(*["a"] * 2400)
        there = range(1, 2401)
        path = self.write_lines((9999, "x"), *((id, "b") for id in there), (9000, "x"))
        calls = self.requests_of(
            *("set", "--json", "--file", path),
            status=1,
            out="".join(f'{{"id": {id}, "name": "b"}}\n' for id in there),
            err=f"{NO_BOOK}9999, 9000\n",
        )
        self.assertEqual(calls, ["search_read", "load"] * 3)
        self.assertEqual(set(self.books().values()), {"b"})
        again = self.requests_of("set", "--file", path, status=1, err=f"{NO_BOOK}9999, 9000\n")
        self.assertEqual(again, ["search_read"] * 3)

    def test_a_change_that_odoo_refuses_changes_none_of_the_batch(self) -> None:
        self.store("a", "b", "c", "d")
        lines = (1, "A"), (2, "B"), (3, "unacceptable"), (4, "D")
        path = self.write_lines(*lines)
        error = "library.py: error: Not this title. Please.\n"
        self.check("set", "--file", path, status=1, err=error)
        self.assertEqual(list(self.books().values()), ["a", "b", "c", "d"])
        rest = "library.py: for the rest, run the same command again\n"
        with mock.patch("library.BATCH", 1):
            out = "Title of Book ID 1 set to A.\nTitle of Book ID 2 set to B.\n"
            self.check("set", "--file", path, status=1, out=out, err=error + rest)
        self.assertEqual(list(self.books().values()), ["A", "B", "c", "d"])

    def test_a_file_is_checked_whole_before_the_first_line_is_sent(self) -> None:
        path = os.path.join(self.home, "titles.txt")
        for bad, reason in (
            (b"a\tb", "can't hold a tab"),
            (b"a\rb", "can't hold a carriage return"),
            (b"a\0b", "can't hold the character U+0000"),
            ("\ufeffa".encode(), "can't hold a byte-order mark"),
            ("a\u2028b".encode(), "can't hold the character U+2028"),
            (b"caf\xe9", "can't hold text that is not valid UTF-8"),
            (b'{"name": "a\\tb"}', "can't hold a tab"),
            (b'{"name": "a\\ud800"}', "can't hold text that is not valid UTF-8"),
            (b'{"name": ""}', "must not be blank"),
            (b"a" * 3001, "can't have more than 3000 characters"),
        ):
            for count in (1, 3, 10, 11):
                self.write_file(b"good\n" * 1500 + b"\n" + (bad + b"\ngood\n") * count)
                lines = range(1502, 1502 + 2 * min(count, 10), 2)
                of = ": a name" * bad.startswith(b"{")
                err = "".join(f"library.py: error: {path}, line {n}{of} {reason}\n" for n in lines)
                err += "library.py: error: bad lines in all: 11\n" * (count > 10)
                self.check("add", "--file", path, status=2, err=err)
                with open(path, "rb") as file:
                    text = file.read()
                if not bad.startswith(b"{"):
                    self.write_file(
                        text.decode("utf-8", "surrogateescape").encode("utf-16", "surrogatepass")
                    )
                    self.check("add", "--file", path, status=2, err=err)
        self.assertEqual(self.standin.requests, [])

    def test_lines_that_are_no_books_or_ids(self) -> None:
        path = os.path.join(self.home, "titles.txt")
        no_book, number = (
            ' must be like {"id": 60, "name": "Moby-Dick"}',
            ": an ID must be a number from 1 ",
        )
        number += "to 2147483647, not "
        for verb, line, reason in (
            ("set", "Emma", no_book),
            ("set", "7", no_book),
            ("set", '{"id": 7}', no_book),
            ("set", '{"name": "a"}', no_book),
            ("set", '[{"id": 7, "name": "a"}]', no_book),
            ("set", '{"id": "7", "name": "a"}', f"{number}'7'"),
            ("set", '{"id": true, "name": "a"}', f"{number}True"),
            ("set", '{"id": 0, "name": "a"}', f"{number}0"),
            ("set", '{"id": 7, "name": false}', no_book),
            ("set", '{"id": 7, "name": " "}', ": a name must not be blank"),
            ("set", '{"id": 7, "name": "a\\r"}', ": a name can't hold a carriage return"),
            ("set", '{"id": 1, "name": "other"}', ": ID 1 stands there for the second time"),
            ("set", '{"id": 1, "name": "a"}', ": ID 1 stands there for the second time"),
            ("del", "Emma", f"{number}'Emma'"),
            ("del", "1 2", f"{number}'1 2'"),
            ("del", "1.0", f"{number}'1.0'"),
            ("del", "0", f"{number}0"),
            ("del", '{"id": 2147483648}', f"{number}2147483648"),
            ("del", '{"id": null}', f"{number}None"),
            ("del", '{"name": "a"}', f"""{number}'{{"name": "a"}}'"""),
        ):
            with self.subTest(verb, line=line):
                self.write_lines((1, "a"), "", line)
                err = f"library.py: error: {path}, line 3{reason}\n"
                self.check(verb, "--file", path, status=2, err=err)
        self.write_lines(*["x"] * 25)
        status, out, err = self.run_cli("del", "--file", path)
        self.assertEqual(
            (status, out, re.findall(r"line (\d+)", err)), (2, "", list(map(str, range(1, 11))))
        )
        self.assertEqual(self.standin.requests, [])

    def test_a_file_in_utf_16(self) -> None:
        for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
            path = self.write_file(mark + "Émile\r\n漢字 🐳\r\n".encode(encoding))
            self.check("add", "--file", path, "--json", out=re.compile("mile.*\n.*\\\\u5b57"))
            path = self.write_file(mark + b"a")
            error = re.compile(rf"\Alibrary.py: error: cannot read {path}: .*\n\Z")
            self.check("add", "--file", path, status=2, err=error)

    def test_a_file_that_cannot_be_read(self) -> None:
        for verb in ("add", "set", "del"):
            error = "library.py: error: cannot read /no/such: No such file or directory\n"
            self.check(verb, "--file", "/no/such", status=2, err=error)

    def test_standard_input(self) -> None:
        self.store("a", "b")
        for verb, lines, out in (
            ("set", [(1, "A"), (2, "b")], '{"id": 1, "name": "A"}\n'),
            ("add", [(7, "c"), "d"], '{"id": 3, "name": "c"}\n{"id": 4, "name": "d"}\n'),
            ("del", [(1, "x"), 2], '{"id": 1}\n{"id": 2}\n'),
        ):
            with self.typed(self.write_lines(*lines)):
                self.check(verb, "--json", "--file", "-", out=out)
        with self.typed(self.write_lines("a\tb")):
            err = "library.py: error: standard input, line 1 can't hold a tab\n"
            self.check("add", "--file", "-", status=2, err=err)
            os.fstat(0)  # it stays open

    @contextlib.contextmanager
    def typed(self, path: str) -> Iterator[None]:
        """With a file as this process's standard input."""
        before = os.dup(0)
        with open(path, "rb") as file:
            os.dup2(file.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(before, 0)
            os.close(before)

    # --skip-existing

    def test_skip_existing(self) -> None:
        """What `list` shows is not added again; other titles are, and none twice."""
        self.store("Emma", "emma", "Evelina", "Archived")
        self.sql("UPDATE book SET active = 0 WHERE name = 'Archived'")
        self.check("add", "Emma", "--skip-existing")
        empty = self.write_lines("", "")
        self.check("add", "--file", empty, "--skip-existing", err="library.py: nothing to do\n")
        self.check("add", "Archived", "--skip-existing", "-q", out="5\n")
        self.check("add", "Emm", "--skip-existing", "-q", out="6\n")
        titles = ["Emma", "Emma ", "EMMA", "Persuasion", "Persuasion", '{"name": "Evelina"}', "E%"]
        path = self.write_lines(*titles)
        there = "library.py: left out {} of {} titles: they are there already\n".format
        argv = "add", "--file", path, "--skip-existing"
        added = [(7, "Emma "), (8, "EMMA"), (9, "Persuasion"), (10, "E%")]
        out = "".join(f'{{"id": {id}, "name": "{name}"}}\n' for id, name in added)
        self.check(*argv, "--json", out=out, err=there(3, 7))
        self.check(*argv, err=there(7, 7))
        self.check(*argv, "--from-line", "6", err=there(2, 2))
        self.write_lines("New")
        self.check(*argv, "-q", out="11\n")
        self.assertEqual(list(self.books().values()).count("Persuasion"), 1)

    def test_skip_existing_in_batches(self) -> None:
        """None twice in a run, though it stands in two batches; a look-up for each batch."""
        self.store("title 5")
        titles = [f"title {number % 1500}" for number in range(2500)]
        argv = "add", "-q", "--file", self.write_lines(*titles), "--skip-existing"
        calls = self.requests_of(
            *argv,
            out=re.compile(r"\A(\d+\n){1499}\Z"),
            err="library.py: left out 1001 of 2500 titles: they are there already\n",
        )
        self.assertEqual(calls, ["search_read", "create"] * 2 + ["search_read"])
        self.assertEqual(sorted(self.books().values()), sorted(set(titles)))

    # Progress

    def test_progress_on_a_terminal(self) -> None:
        self.store(*"abcde")
        path = self.write_lines(*((id, "title") for id in self.books()))
        done = ["0 of 5 done", "2 of 5 done", "4 of 5 done", "5 of 5 done\n"]
        enter(self, mock.patch("library.BATCH", 2))
        for argv, count, words in (
            (("set", "--file", path), 5, done),
            (("add", "--file", path), 5, done),
            (("del", "--file", path), 5, [done[0], done[-1]]),
            (("add", "--skip-existing", "--file", path), 0, done),
        ):
            status, out, err = self.run_cli(*argv, terminal=True)
            self.assertEqual((status, out.count("\n")), (0, count))
            shown = [text for text in err.split("\r\x1b[K") if text]
            self.assertEqual(shown[: len(words)], words)  # the last one stays
            self.assertEqual(len(shown), len(words) + (count == 0))
            self.assertNotRegex(err, r"done\n.*done")
        self.assertEqual(self.run_cli("add", "-q", "--file", path, terminal=True)[2], "")
        self.assertEqual(self.run_cli("add", "--file", path)[2], "")
        self.assertEqual(self.run_cli("add", "Emma", terminal=True)[2].strip("\r\x1b[K"), "")

    def add_file_on(self, out: io.StringIO, err: io.StringIO) -> None:
        """Add five titles in three batches, with these as output, where the clock stands still."""
        path = self.write_file(b"title\n" * 5)
        login = *self.proxy.address, "odoo-dev", "admin", "admin"
        with (
            contextlib.closing(LibraryAPI(*login)) as api,
            mock.patch.multiple("sys", stdout=out, stderr=err),
            mock.patch("library_xmlrpc.time.monotonic", return_value=1e6),
            mock.patch("library.BATCH", 2),
        ):
            argv = "add", "--file", path, "--timeout", "5"
            with mock.patch.dict(os.environ, self.environ, clear=True):
                self.assertEqual(library.main(argv, lambda *_, **__: api), 0)

    def test_progress_gives_way_to_what_is_printed(self) -> None:
        """On the terminal no line of it is left before a result or an error."""
        screen = io.StringIO()
        with mock.patch.object(screen, "isatty", lambda: True):
            self.add_file_on(screen, screen)
        for line in screen.getvalue().split("\n")[:5]:
            shown = re.split(r"\r\x1b\[K", line)[-1]
            self.assertRegex(shown, r"\ABook added with ID \d+ for")
        self.assertRegex(screen.getvalue(), r"\n\r\x1b\[K5 of 5 done\n\Z")
        path = self.write_lines("title")
        with self.proxy.answering("create", lose_reply):
            status, _, err = self.run_cli("add", "--file", path, terminal=True)
        self.assertEqual(status, 4)
        self.assertRegex(err, r"0 of 1 done\r\x1b\[Klibrary.py: error: ")

    def test_a_terminal_that_goes_away(self) -> None:
        """What only decorates can't fail."""

        class Gone(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError(5, "Input/output error")

            def isatty(self) -> bool:
                return True

        out = io.StringIO()
        self.add_file_on(out, Gone())
        self.assertEqual(out.getvalue().count("\n"), 5)

    # What stops part-way, and how to go on

    def stop(self, answer: Answer, after: int = 1) -> tuple[int, int, int, str]:
        """Add five titles, with a blank line before them, to a server that fails after a batch.

        Gives the exit status, the lines printed, the books stored, and what stderr says.
        """
        path = self.write_file(b"\n" + b"title\n" * 5)
        fails = pass_on_but({after + 1: answer})
        with mock.patch("library.BATCH", 2), self.proxy.answering("create", fails):
            status, out, err = self.run_cli("add", "--file", path)
            self.assertEqual(self.proxy.calls.count("create"), after + 1)
        return status, out.count("\n"), len(self.books()), err

    def test_an_add_that_stops(self) -> None:
        """Exit status 3 would say that nothing was changed at all."""
        too_large = sends(http(b"", "413 Too Large"))
        refused = sends(fault(2, "No more books."))
        resume = "go on with the same command and --from-line"
        not_added = f"lines {{}} to {{}}, and all after them, were not added: {resume} {{}}".format
        lost = (
            "lines {0} to {1} may have been added, and none after them: wait a little, then "
            + resume
        )
        may_be = (lost + " {0} --skip-existing").format
        for answer, after, done, error, hint in (
            (lose_reply, 0, [4, 0, 2], "closed", may_be(2, 3)),
            (lose_reply, 1, [4, 2, 4], "closed", may_be(4, 5)),
            (lose_reply, 2, [4, 4, 5], "closed", may_be(6, 6)),
            (too_large, 0, [3, 0, 0], "HTTP 413.*", ""),
            (too_large, 1, [1, 2, 2], "HTTP 413.*", not_added(4, 5, 4)),
            (too_large, 2, [1, 4, 4], "HTTP 413.*", not_added(6, 6, 6)),
            (refused, 0, [1, 0, 0], "No more books.", ""),
            (refused, 1, [1, 2, 2], "No more books.", not_added(4, 5, 4)),
        ):
            with self.subTest(after=after, error=error):
                self.sql("DELETE FROM book")
                *actual, err = self.stop(answer, after)
                self.assertEqual(actual, done)
                hint = f"library.py: {hint}\n" if hint else ""
                self.assertRegex(err, rf"\Alibrary\.py: error: .*{error}\n{hint}\Z")

    def test_ctrl_c_between_two_batches(self) -> None:
        """What was printed is not said again."""

        class Interrupted(LibraryAPI):
            def existing_titles(self, titles: Iterable[str]) -> set[str]:
                if "c" in titles:
                    raise KeyboardInterrupt
                return super().existing_titles(titles)

        self.backend = Interrupted
        path = self.write_lines(*"abcde")
        err = "library.py: interrupted\nlibrary.py: lines 3 to 4, and all after them, were not "
        err += "added: go on with the same command and --from-line 3\n"
        with mock.patch("library.BATCH", 2):
            argv = "add", "-q", "--skip-existing", "--file", path
            self.check(*argv, status=130, out="1\n2\n", err=err)

    def test_going_on(self) -> None:
        """What each stop prints leads to the next one, and to the end; none is there twice."""
        titles = [f"title {number}" for number in range(55)]
        path = self.write_file("".join(f"{title}\n\n" for title in titles).encode())
        answers = {
            2: lose_reply,
            4: sends(http(b"", "413 Too Large")),  # of the same titles, perhaps: not served
            5: sends(http(b"", "503 Service Unavailable")),  # and the change was not made
            7: lose_reply,
        }
        argv = ["add", "-q", "--file", path]
        statuses: list[int] = []
        fails = pass_on_but(answers)
        with mock.patch("library.BATCH", 10), self.proxy.answering("create", fails):
            while argv and len(statuses) < 9:
                status, _, err = self.run_cli(*argv)
                statuses.append(status)
                found = re.search(r"go on with the same command and (.+)\n", err)
                argv = [*argv, *found[1].split()] if found else []
        self.assertEqual(statuses, [4, 1, 4, 4, 0])
        self.assertEqual(list(self.books().values()), titles)

    def test_from_line(self) -> None:
        path = self.write_file(b"a\n\nb\nc\n")
        self.check("add", "--file", path, "--from-line", "2", "-q", out="1\n2\n")
        self.check("list", out="1 b\n2 c\n")

    def test_an_add_of_unknown_outcome(self) -> None:
        hint = "the book may have been added: wait a little and run it again with --skip-existing"
        error = f"error: no valid answer from {self.proxy.url}: connection closed"
        with self.proxy.answering("create", lose_reply):
            err = f"library.py: {error}\nlibrary.py: {hint}\n"
            self.check("add", "Emma", status=4, err=err)
        self.check("add", "Emma", "--skip-existing")
        self.assertEqual(list(self.books().values()), ["Emma"])

    def test_changes_that_stop(self) -> None:
        """They are simply run again, whatever became of a batch."""
        again = "the change may have been made: wait a little and run it again, which does no harm"
        go_on = "for the rest, run the same command again"
        refused, lost = sends(http(b"", "413 No")), r".*connection closed"
        for verb, method in (("set", "load"), ("del", "unlink")):
            for number, answer, status, error, hint in (
                (1, lose_reply, 4, lost, again),
                (2, lose_reply, 4, lost, again),
                (3, lose_reply, 4, lost, again),
                (1, refused, 3, ".*HTTP 413.*", ""),
                (2, refused, 1, ".*HTTP 413.*", go_on),
                (2, sends(fault(2, "No.")), 1, "No.", go_on),
            ):
                self.sql("DELETE FROM book")
                self.store(*"abcde")
                ids = list(self.books())
                argv = verb, "-q", "--file", self.write_lines(*((id, "new") for id in ids))
                hint = f"library.py: {hint}\n" if hint else ""
                err = re.compile(rf"\Alibrary\.py: error: {error}\n{hint}\Z")
                fails = pass_on_but({number: answer})
                with (
                    self.subTest(verb, number=number, error=error),
                    mock.patch.multiple("library", BATCH=2, BATCH_IDS=2),
                    self.proxy.answering(method, fails),
                ):
                    self.check(*argv, status=status, err=err)
                    self.assertEqual(self.proxy.calls.count(method), number)
                    done = 2 * (number if answer is lose_reply else number - 1)
                    rest = [name for name in self.books().values() if name != "new"]
                    self.assertEqual(len(rest), max(5 - done, 0))
                    missing = set(ids) - set(self.books()) if verb == "del" else ()
                    self.check(*argv, status=bool(missing), err=ANY)
                    left = set(self.books().values())
                    self.assertEqual(left, set() if verb == "del" else {"new"})

    def test_a_batch_without_a_change_after_one_with_some(self) -> None:
        self.store(*"abcdef")
        out = "Title of Book ID 1 set to A.\n"
        path = self.write_lines((1, "A"), (2, "b"), (3, "c"), (4, "d"), (5, "E"), (6, "f"))
        refused = sends(http(b"", "413 No"))
        rest = "library.py: for the rest, run the same command again\n"
        with mock.patch("library.BATCH", 2):
            with self.proxy.answering("load", pass_on_but({2: refused})):
                err = re.compile(rf"HTTP 413.*\n{rest}\Z")
                self.check("set", "--file", path, status=1, out=out, err=err)
            self.sql("UPDATE book SET name = 'a' WHERE id = 1")
            with self.proxy.answering("search_read", pass_on_but({2: refused})):
                self.check("set", "--file", path, status=1, out=out, err=err)
            self.sql("UPDATE book SET name = 'a' WHERE id = 1")
            self.check("set", "--file", self.write_lines((1, "A"), (2, "b"), (3, "c")), out=out)

    def test_one_change_of_unknown_outcome(self) -> None:
        self.store("Emma")
        hint = "the change may have been made: wait a little and run it again, which does no harm"
        err = re.compile(f"closed\nlibrary.py: {hint}\n")
        for method, argv in (("write", ("set", "1", "a")), ("unlink", ("del", "1"))):
            with self.proxy.answering(method, lose_reply):
                self.check(*argv, status=4, err=err)


class UsageTests(StandInTestCase, CommandLineTestCase):
    """Mistakes in the arguments: nothing is sent, and one line says what is wrong."""

    def setUp(self) -> None:
        super().setUp()
        self.standin.requests.clear()

    def check_usage(self, *argv: str, err: str) -> None:
        """One line that fits the pattern `err`, and perhaps one that says which help to read."""
        pattern = rf"\Alibrary\.py: error: {err}\n(library\.py: (see .* --help|put .*)\n)?\Z"
        self.check(*argv, status=2, err=re.compile(pattern))
        self.assertEqual(self.standin.requests, [])

    def test_mistakes(self) -> None:
        path = self.write_file(b'{"id": 7, "name": "a"}')
        blank, none = "TITLE must not be blank", "TITLE can't hold"
        either = r"give either {} or --file FILE".format
        titles, change, ids = either("TITLE"), either("ID TITLE"), either(r"ID \[ID \.\.\.\]")
        unknown = "unrecognized argument: "
        commands = "there are list, add, set, del"
        for argv, err in (
            ((), "the following arguments are required: COMMAND"),
            (("delete",), f"no command 'delete'; {commands}"),
            (("\x1b[2J",), rf"no command .*\\x1b\[2J.*; {commands}"),
            (("add",), titles),
            (("add", "Emma", "--file", path), titles),
            (("add", "--from-line", "2"), titles),
            (("add", "--skip-existing"), titles),
            (("add", "--from-line", "2", "Emma"), "--from-line goes with --file"),
            (("set",), change),
            (("set", "1"), change),
            (("set", "1", "--file", path), change),
            (("set", "1", "Emma", "--file", path), change),
            (("del",), ids),
            (("del", "1", "--file", path), ids),
            (("del", "--all", "1"), f"{unknown}--all"),
            (("add", "Moby", "Dick"), f"{unknown}Dick"),
            (("set", "1", "Moby", "Dick"), f"{unknown}Dick"),
            (("list", "Moby", "Dick"), f"{unknown}Dick"),
            (("add", "Moby", ""), unknown),
            (("list", ""), blank),
            (("list", " "), blank),
            (("add", ""), blank),
            (("set", "1", "\u3000"), blank),
            (("list", "a\0b"), rf"{none} the character U\+0000"),
            (("add", "a\tb"), f"{none} a tab"),
            (("set", "1", "\uffff"), rf"{none} .* U\+FFFF"),
            (("add", "a" * 3001), "TITLE can't have more than 3000 characters"),
            (("-q", "list", "--json"), "--quiet and --json exclude each other"),
            (("--quie", "list"), f"{unknown}--quie"),
            (("list", "--lim", "1"), f"{unknown}--lim"),
            (("list", "--skip-existing"), f"{unknown}--skip-existing"),
            (("set", "--file", path, "--from-line", "2"), f"{unknown}--from-line"),
            (("list", "--\x1b[2J"), rf"{unknown}--\\x1b\[2J"),
            (("list", "--password=hunter2"), f"{unknown}--password"),
        ):
            with self.subTest(argv):
                self.check_usage(*argv, err=err)

    def test_one_hint_each(self) -> None:
        dash = 'put "--" before a title that begins with a dash'
        for argv, hint in (
            ((), "see library.py --help"),
            (("delete",), "see library.py --help"),
            (("add",), "see library.py add --help"),
            (("add", "Moby", "Dick"), "put a title of several words in quotes"),
            (("list", "--sort"), "see library.py list --help"),
            (("list", "-q", "--json"), "see library.py list --help"),
            (("del", "-x"), "see library.py del --help"),
            (("list", "-x"), dash),
            (("add", "-x-"), dash),
            (("set", "7", "-x"), dash),
        ):
            self.check(*argv, status=2, err=re.compile(f"\nlibrary.py: {re.escape(hint)}\n$"))
        if sys.version_info < (3, 14):  # which takes it for a number
            self.check("add", "-30-", status=2, err=re.compile(re.escape(dash)))
        self.check("add", "-q", "--", "-30-", out=re.compile("^[0-9]+\n$"))

    def test_options_before_and_after_a_command(self) -> None:
        """Those of all commands; what one alone has goes after it."""
        absent: dict[str, Any] = {"status": 1, "err": f"{NO_BOOK}99\n"}
        self.check("-q", "set", "--user", "admin", "--", "99", "-x", **absent)
        self.check("set", "99", "Emma", "--user", "admin", "-q", **absent)
        self.check("--user", "admin", "del", "99", "-q", **absent)
        self.check("list", "--limit", "1", "no such", "--json")
        self.check("list", "no such", "--limit", "1")

    def test_ids_that_are_none(self) -> None:
        for id in ("0", "2147483648", "9" * 5000, "1.0", "+1", "1_0", "x", "", "１", "0x1", " 1"):
            for argv in (("set", id, "Emma"), ("del", "1", id), ("del", "--", id, "1")):
                self.check_usage(*argv, err="ID must be a number from 1 to 2147483647, not .+")
            error = " must be a number from 1 to 2147483647, not .+"
            self.check_usage("list", "--limit", id, err=f"--limit{error}")
            self.check_usage("add", "--from-line", id, "x", err=f"--from-line{error}")


class HelpTests(CommandLineTestCase):
    def helps(self) -> dict[str, str]:
        """The program's help, under "", and each command's."""
        self.environ["FORCE_COLOR"] = "1"  # which argparse heeds since Python 3.14
        helps: dict[str, str] = {}
        for argv in ((), ("list",), ("add",), ("set",), ("del",)):
            status, helps["".join(argv)], err = self.run_cli(*argv, "--help")
            self.assertEqual((status, err), (0, ""))
        self.assertEqual(re.findall("(?m)^    ([a-z]+) ", helps[""]), list(helps)[1:])
        return helps

    def test_each_help_fits_a_screen(self) -> None:
        for command, text in self.helps().items():
            self.assertNotIn("\x1b", text)
            self.assertLessEqual(text.count("\n"), 24)
            self.assertLessEqual(max(map(len, text.splitlines())), 80)
            has_title = command in ("list", "add", "set")
            self.assertEqual('put "--" before a title' in text, has_title)
            for name in ("URL", "DB", "USER", "API_KEY", "PASSWORD", "TIMEOUT", "PROFILE"):
                self.assertIn(f"ODOO_{name}", text)

    def test_version(self) -> None:
        self.check("--version", out=f"library.py {library.__version__}\n")

    def test_the_readme_names_each_option_and_command(self) -> None:
        path = os.path.join(os.path.dirname(library.__file__), "README.md")
        with open(path, encoding="utf-8") as file:
            readme = file.read()
        helps = self.helps()
        options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", "".join(helps.values())))
        for option in options - {"-h", "--help"}:
            self.assertRegex(readme, rf"`[^`]*(?<![\w-]){option}\b")
        for command in helps:
            self.assertIn(f"library.py {command}", readme)
        mentioned = set(
            re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(r"(?s)```.*?```", "", readme))
        )
        self.assertLessEqual(mentioned, options)
