"""The commands: what they print, on which stream, and with which exit status."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
import unittest
import warnings
from collections import Counter
from typing import Any
from unittest import mock

import library
from tests.proxy import Answer, Exchange, Proxy, lose_reply
from tests.replies import fault, http, sends, value
from tests.standin import StandIn
from tests.support import CommandLineTestCase, StandInTestCase, enter, unused_port

NO_BOOK = "error: there is no book with ID "
RENAMED = "error: not deleted, because the title differs from the file's: ID "
LIKE_A_BOOK = ' must be like {"id": 60, "name": "Moby-Dick"}'
ANY = re.compile("")

# Titles that a plain line of a file can't hold.
ODD_TITLES = ["a\tb", "a\nb\n", "\x85\x7f", "a\u2028b\u2029", "\ufeffa", "\u3000", " ", " Emma "]

IN_DOUBT = "the change may have been made: wait a little, then run it again with {}"
AFTER_REFUSAL = "once the cause is gone, run it again with {}"
REST = "for the rest, run it again with {}"

TOO_LARGE = sends(http(b"", "413 Too Large"))
REFUSED = sends(fault(2, "No more books."))


def said(*lines: str) -> str:
    """These lines as they stand on standard error."""
    return "".join(f"library.py: {line}\n" for line in lines)


def pass_on_but(answers: dict[int, Answer]) -> Answer:
    """Pass calls on, except those in `answers`, which are numbered from 1."""
    count = itertools.count(1)
    return lambda exchange: answers.get(next(count), Exchange.keep)(exchange)


def lose_request(exchange: Exchange) -> None:
    """The connection breaks before the server sees the request."""


def records(requests: list[bytes]) -> Answer:
    """Passes calls on, and notes what was sent."""

    def record(exchange: Exchange) -> None:
        requests.append(exchange.request)
        exchange.keep()

    return record


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
        if titles:
            self.sql("INSERT INTO book (name, active) VALUES (?, 1)", *zip(titles))

    def reset(self, *titles: str) -> None:
        """Make a catalogue of the books 1, 2, ... with these titles."""
        self.sql("DELETE FROM book")
        self.sql("DELETE FROM sqlite_sequence")
        self.store(*titles)

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

    def limit_batches(self, lines: int) -> None:
        """Have a file sent in batches of so many lines at most."""
        enter(self, mock.patch("library.batches.__defaults__", (lines, library.BATCH_CHARACTERS)))
        enter(self, mock.patch("library.BATCH_IDS", lines))

    def requests_of(self, *argv: str, **expected: Any) -> list[str]:
        """Check a command, and return the methods that it called."""
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

    def test_json(self) -> None:
        self.check("add", "--json", "Émilie", out='{"id": 1, "name": "\\u00c9milie"}\n')
        self.check("--json", "list", out='{"id": 1, "name": "\\u00c9milie"}\n')
        self.check("set", "1", "\u202eX", "--json", out='{"id": 1, "name": "\\u202eX"}\n')
        self.check("del", "1", "--json", out='{"id": 1, "name": "\\u202eX"}\n')

    def test_json_is_exact_and_can_be_searched_where_that_shows(self) -> None:
        for title, shown in (
            ('"Königin" 🐳 \\', '"\\"Königin\\" 🐳 \\\\"'),
            ("É\u202e", r'"\u00c9\u202e"'),
            ("É\r\x1b", r'"\u00c9\r\u001b"'),
            ("É\xa0!", '"É\xa0!"'),  # as French has it
        ):
            self.reset(title)
            for encoding in ("utf-8", "UTF8", "ascii", "latin-1", None):
                status, out, err = self.run_cli("list", "--json", encoding=encoding)
                self.assertEqual((status, err, json.loads(out)["name"]), (0, "", title))
                is_utf8 = encoding in ("utf-8", "UTF8")
                self.assertTrue(out.endswith(f": {shown}}}\n") if is_utf8 else out.isascii(), out)

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
            self.reset(*(f" {number}" for number in range(others)), *odd)  # listed in this order
            ids = list(self.books())[others:]
            lines = [f"{id} {shown}" for id, shown in zip(ids, odd.values())]
            for encoding in ("utf-8", None):
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
        self.store("a", "b", "-1")
        self.check("list", "B", out="2 b\n")
        self.check("list", "--limit", "1", out="3 -1\n")
        self.check("list", "--", "-1", out="3 -1\n")
        self.check("list", "%")

    def test_a_listing_that_breaks_off_says_so(self) -> None:
        self.store(*"abcde")
        enter(self, mock.patch("library.FIRST_PAGE", 2))
        enter(self, mock.patch("library_xmlrpc.FIRST_PAGE", 2))
        for method, argv, answer, status, out, what in (
            ("search_read", (), lose_request, 3, "", "no valid .* closed"),
            ("search", (), lose_request, 3, "1 a\n2 b\n", "the listing is not complete: no valid "),
            ("read", (), REFUSED, 1, "1 a\n2 b\n", "the listing is not complete: No more "),
            ("search", ("-n", "2"), lose_request, 0, "1 a\n2 b\n", None),
        ):
            err = re.compile(rf"\Alibrary\.py: error: {what}.*\n\Z") if what else ""
            with self.subTest(method, argv=argv), self.proxy.answering(method, answer):
                self.check("list", *argv, status=status, out=out, err=err)

    def test_books_that_do_not_exist(self) -> None:
        self.store("a", "b", "c")
        deleted = "Book with ID 2 was deleted.\nBook with ID 1 was deleted.\n"
        argv = ("del", "2", "99", "1", "98", "2", "99")
        self.check(*argv, status=1, out=deleted, err=said(f"{NO_BOOK}99, 98"))
        self.check("list", out="3 c\n")
        self.check("del", "007", status=1, err=said(f"{NO_BOOK}7"))
        self.check("set", "99", "Emma", status=1, err=said(f"{NO_BOOK}99"))

    def test_of_many_ids_an_error_names_ten(self) -> None:
        ten = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
        for count, err in ((10, ten), (11, f"{ten} and 1 more"), (1234, f"{ten} and 1,224 more")):
            ids = list(map(str, range(1, count + 1)))
            path = self.write_lines(*((id, "a") for id in range(1, count + 1)))
            for argv in (("del", *ids), ("del", "-qf", path), ("set", "-qf", path)):
                self.check(*argv, status=1, err=said(NO_BOOK + err))
        self.store(*["b"] * count)
        self.check("del", "-qf", path, status=1, err=said(RENAMED + err))

    def test_what_was_not_printed_is_named(self) -> None:
        console = library.Console()
        for ids, text in (([7], "7"), ([7, 8], "7 8"), ([7, 8, 9], "7 to 9"), ([7, 9, 8], "7 9 8")):
            console.unprinted = ids
            self.assertEqual(console.unprinted_ids(), f"; done, but perhaps not printed: ID {text}")

    # Requests

    def test_no_request_is_larger_than_half_a_mebibyte(self) -> None:
        """A web server in front of Odoo may take one MiB, whatever the titles and IDs are."""
        requests: dict[str, list[bytes]] = {
            "create": [],
            "load": [],
            "search_read": [],
            "unlink": [],
        }
        self.proxy.faults.update({method: records(requests[method]) for method in requests})
        first = 1_999_980_000  # IDs with ten digits
        self.sql("INSERT INTO book VALUES (?, 'a', 1)", *((first + n,) for n in range(14_000)))
        for title, many in (("&" * 78, 1001), ("&" * 3000, 27), ("🐳" * 3000, 27)):
            path = self.write_lines(*((first + n, title) for n in range(many)))
            self.check("set", "-q", "--file", path)
            path = self.write_lines("a", *[title] * many)
            self.check("add", "-q", "--file", path, out=re.compile(rf"\A(\d+\n){{{many + 1}}}\Z"))
            self.check("add", "-q", "--file", path, "--skip-existing")
        self.check("del", "-q", "--file", self.write_lines(*self.books()))
        self.assertEqual(self.books(), {})
        for method, sent in requests.items():
            self.assertLess(max(map(len, sent)), 2**19, method)
            self.assertGreater(max(map(len, sent)), 2**18, method)

    def test_a_long_title_makes_no_other_batch_small(self) -> None:
        """It goes alone only if it has more characters than a batch."""
        titles = [f"title {number}" for number in range(10_000)]
        titles[1500], titles[5500] = "x" * 3000, "x" * 80_000
        requests: list[bytes] = []
        with self.proxy.answering("create", records(requests)):
            self.check("add", "-qf", self.write_lines(*titles), out=ANY)
        self.assertEqual(len(requests), 6 + 1 + 5)
        self.assertLess(max(map(len, requests)), 2**19)
        self.assertEqual(list(self.books().values()), titles)

    def test_the_requests_of_each_command(self) -> None:
        """One where one is enough; two where Odoo answers True for books that do not exist."""
        self.check("add", "Emma", out=re.compile("ID 1 "))
        look, emilia = "search_read", self.write_lines((1, "Emilia"))
        for argv, requests in (
            (("list",), [look]),
            (("add", "Emma"), ["create"]),
            (("set", "1", "Emma"), [look, "write"]),
            (("add", "Emma", "--skip-existing"), [look]),
            (("add", "Evelina", "--skip-existing"), [look, "create"]),
            (("set", "--file", emilia), [look, "load"]),
            (("set", "--file", emilia), [look]),
            (("del", "1", "2"), [look, "unlink"]),
        ):
            self.assertEqual(self.requests_of(*argv, out=ANY, err=ANY), requests)

    # Refusals

    def test_a_refusal_in_several_lines_is_one(self) -> None:
        self.check("add", "Emma", "-q", out="1\n")
        self.environ.update(ODOO_USER="clerk", ODOO_PASSWORD="clerk")
        refused = r"You are not .* records\. This .* groups: - Administration/Settings Contact .*"
        self.check("del", "1", status=1, err=re.compile(rf"\Alibrary\.py: error: {refused}\n\Z"))

    def test_a_wrong_password_is_tried_once(self) -> None:
        """The hint says where the login is from."""
        path = self.write_file(f"[p]\nurl = {self.proxy.url}\npassword = hunter2".encode(), "ini")
        os.chmod(path, 0o600)
        self.environ.update(ODOO_API_KEY="hunter3", ODOO_DB="odoo-empty")
        profile = f"password from password in [p] of {path}, user from --user"
        for user, argv, origins in (
            ("admin", (), "password from ODOO_API_KEY, user from the default"),
            ("eva", ("--config", path, "--profile", "p", "--user", "eva"), profile),
        ):
            whose = f"{user!r} on {self.proxy.url}, database 'odoo-empty'"
            error = f"error: wrong user or password for {whose}"
            self.check(
                "list",
                *argv,
                status=3,
                err=said(error, f"check these settings: {origins}, db from ODOO_DB"),
            )
        self.assertEqual(self.standin.requests, ["authenticate"] * 2)

    def test_an_unknown_database(self) -> None:
        error = f"error: there is no database 'no-such' on {self.proxy.url}"
        err = said(error, "check the name of the database")
        self.check("list", "--db", "no-such", status=3, err=err)

    def test_the_default_server(self) -> None:
        """If it can't be reached, and nobody chose it, the hint says how to choose one."""
        del self.environ["ODOO_URL"]
        url = f"http://localhost:{unused_port()}"
        error = f"error: cannot connect to {url}: connection refused"
        name_it, choose = (
            "if your server has another URL, set ODOO_URL to it",
            "if your server is in a profile, choose it with --profile: ",
        )
        running = "check that it runs at this port"
        path = os.path.join(self.environ["XDG_CONFIG_HOME"], "library", "library.ini")
        os.makedirs(os.path.dirname(path))
        for ini, argv, hint in (
            ("", (), name_it),
            ("", ("--url", url), running),
            ("[work]\n[home]\n", (), f"{choose}work, home"),
            ("[work]\n[home]\n", ("--profile", "home"), name_it),
            ("[DEFAULT]\n[work]\n", (), f"{choose}work"),
            ("[DEFAULT]\nuser = eva\n", (), name_it),
            (f"[DEFAULT]\nurl = {url}\n[work]\n", (), running),
        ):
            self.write_file(ini.encode(), path)
            with self.subTest(ini, argv=argv), mock.patch.dict("library.DEFAULTS", url=url):
                self.check("list", *argv, status=3, err=said(error, hint))
        os.remove(path)
        self.proxy.faults["authenticate"] = lose_request
        with mock.patch.dict("library.DEFAULTS", url=self.proxy.url):
            err = f"error: no valid answer from {self.proxy.url}: connection closed"
            self.check("list", status=3, err=said(err))

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
        for reply in (
            value("<int>hunter2</int>"),  # which Python quotes
            http(b"", "302 Found", ("Location: http://hunter2.example/hunter2",)),
        ):
            status, err = self.debugged("authenticate", sends(reply))
            self.assertEqual(status, 3)
            self.assertNotIn("hunter2", err)

    def test_a_password_that_is_a_word_of_a_refusal(self) -> None:
        """It is masked, and the refusal is understood all the same."""
        no_model = "Object library.book doesn't exist"
        for password, code, text, status, words in (
            ("marshal", 1, "TypeError: cannot marshal None", 4, r"cannot \*\*\* None"),
            ("library", 2, no_model, 1, "check that the database has the module library_app"),
            ("login", 3, "Too many login failures", 3, "wait a minute"),
            ("admin", 2, "ask an administrator", 1, "ask an administrator"),
            ("access", 2, "could not serialize access", 1, r"\*\*\*\n.*run it again\n"),
        ):
            self.environ["ODOO_PASSWORD"] = password
            self.proxy.faults["authenticate"] = sends(value("<int>2</int>"))
            with self.proxy.answering("create", sends(fault(code, text))):
                for _ in range(2):  # the second with a remembered uid
                    self.check("add", "Emma", status=status, err=re.compile(words))

    def test_a_password_that_is_one_of_our_words(self) -> None:
        """They are no secret, nor is the login, which --debug shows first."""
        self.proxy.faults.update(authenticate=sends(value("<int>2</int>")), create=lose_reply)
        self.proxy.faults["search_read"] = sends(value("<array><data></data></array>"))
        login = (
            f"debug: <LibraryAPI {self.proxy.url} db='odoo-dev' user='admin'>: url from ODOO_URL"
        )
        origins = "db from the default, user from --user, password from ODOO_PASSWORD"
        closed = f"error: no valid answer from {self.proxy.url}: connection closed"
        for password in ("odoo", "library", "error", "http", "127.0.0.1", "book", "99", "add"):
            self.environ["ODOO_PASSWORD"] = password
            with self.subTest(password):
                self.check("del", "99", "100", status=1, err=said(f"{NO_BOOK}99, 100"))
                err = self.run_cli("add", "Emma", "--debug", "-u", "admin")[2]
                first, *debug, error, hint = err.splitlines(keepends=True)
                self.assertEqual(first, said(f"{login}, {origins}"))
                self.assertNotIn(password, "".join(debug).replace("library.py: debug: ", ""))
                self.assertEqual(error + hint, said(closed, IN_DOUBT.format("--skip-existing")))

    def test_debug_shows_both_tracebacks(self) -> None:
        text = 'Traceback (most recent call last):\n  File "server.py"\nno\x9b way'
        status, err = self.debugged("search_read", sends(fault(2, text)))
        self.assertEqual(status, 1)
        self.assertIn('library.py: debug:   File "server.py"\n', err)
        self.assertRegex(err, r'debug:   File ".*library_xmlrpc\.py", line ')
        self.assertIn("library.py: error: no\\x9b way\n", err)
        self.assertNotRegex(err, "[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class FileTests(CatalogueTestCase):
    """One kind of file for all verbs: what `list --json` prints, or titles, or IDs."""

    def test_add_file(self) -> None:
        """Spaces around a title belong to it in an object, not in a plain line."""
        lines = b"\xef\xbb\xbfMoby-Dick\r\n\n  \t\n \tA B\xe3\x80\x80 \n"
        path = self.write_file(lines + b' {"name":" \\u00c9 \\ud83d\\udc33 "} \n[1]\n"a"\n12')
        self.assertEqual(self.requests_of("add", "-qf", path, out=ANY), ["create"])
        titles = ["Moby-Dick", "A B", " É 🐳 ", "[1]", '"a"', "12"]
        self.assertEqual(list(self.books().values()), titles)

    def test_the_summary(self) -> None:
        """It stands before what could not be done, and not with -q."""
        add, skip, emma, c = ("add",), ("add", "--skip-existing"), (1, "Emma"), (3, "c")
        some, others = ["Emma", "a", "Emma", "Emma"], "titles: the catalogue had the others"
        for argv, lines, summary, errors in (
            (add, ["", " "], "added 0 of 0 titles", []),
            (add, ["Emma", emma], "added 2 of 2 titles", []),
            (add, ["x"] * 1200, "added 1,200 of 1,200 titles", []),
            (skip, some, f"added 3 of 4 {others}", []),
            (skip, ["b"], f"added 0 of 1 {others}", []),
            (("set",), [c, (2, "B"), emma], "changed 1 of 3 titles: 2 right already", []),
            (("set",), [(2, "B"), (9, "x")], "changed 1 of 2 titles", [f"{NO_BOOK}9"]),
            (("set",), [emma], "changed 0 of 1 titles: 1 right already", []),
            (("del",), [emma, 1, 2, c], "deleted 3 of 3 books", []),
            (("del",), [9, (1, "x"), c], "deleted 1 of 3 books", [f"{NO_BOOK}9", f"{RENAMED}1"]),
        ):
            path = self.write_lines(*lines)
            for option, err in ((), said(summary, *errors)), (("-q",), said(*errors)):
                self.reset("Emma", "b", "c")
                with self.subTest(argv, lines=lines[:4]):
                    self.check(*argv, *option, "-f", path, status=len(errors[:1]), out=ANY, err=err)

    def test_lines_that_begin_like_a_book_and_are_none(self) -> None:
        """Never a title: most are of a backup that was cut off, or of another program."""
        lines = [
            '{"id": 1, "name": "Em',
            '[{"id": 1, "name": "Emma"}]',
            '{"id": 1, "name": "Emma"},',
            '{"id": 1, "name": "Emma"} {"id": 2, "name": "Emma"}',
            "{'id': 1, 'name': 'Emma'}",
            '{"title": "Emma"}',
            '{"id": 1, "title": "Emma"}',
            '{"id": 1, "name": 7}',
            '{"id": 1, "name": null}',
            '{"id": 1, "name": "Emma", "active": true}',
            '{"Emma"}',
            "{}",
            '{"name": ' + '{"x": ' * 9000,
        ]
        self.store("Emma", "Emma")
        for verb, line in itertools.product(("add", "set", "del"), lines):
            with self.subTest(verb, line=line[:50]):
                path = self.write_lines((2, "a"), "", f" {line}\r")
                err = said(f"error: {path}, line 3{LIKE_A_BOOK}")
                self.check(verb, "--file", path, status=2, err=err)
        path = self.write_lines("[", '  {"id": 1, "name": "Emma"},', "]")
        err = said(f"error: {path}, line 2{LIKE_A_BOOK}")
        self.check("add", "--file", path, status=2, err=err)
        self.assertEqual((self.standin.requests, len(self.books())), ([], 2))

    def test_lines_that_are_no_titles_books_or_ids(self) -> None:
        path = os.path.join(self.home, "titles.txt")
        not_utf_8 = "can't hold text that is not valid UTF-8"
        from_1, number = "ID must be from 1 to 2147483647", ": ID must be a number, not "
        for verb, line, reason in (
            ("add", b"a\rb", " can't hold a carriage return"),
            ("add", b"a\0b", " can't hold the character U+0000"),
            ("add", b"caf\xe9", f" {not_utf_8}"),
            ("add", b'{"id": 7}', LIKE_A_BOOK),
            ("add", b'{"name": "a\\r"}', ": name can't hold a carriage return"),
            ("add", b'{"name": "a\\ud800"}', f": name {not_utf_8}"),
            ("add", b'{"id": null, "name": "a"}', f"{number}None"),
            ("set", b"Emma", LIKE_A_BOOK),
            ("set", b'{"id": 7}', LIKE_A_BOOK),
            ("set", b'{"name": "a"}', LIKE_A_BOOK),
            ("set", b'{"id": "7", "name": "a"}', f"{number}'7'"),
            ("set", b'{"id": true, "name": "a"}', f"{number}True"),
            ("set", b'{"id": 0, "name": "a"}', f": {from_1}, not 0"),
            ("set", b'{"id": 7, "name": "a\\u0000"}', ": name can't hold the character U+0000"),
            ("set", b'{"id": 1, "name": "other"}', ": ID 1 appears twice"),
            ("set", b'{"id": 1, "name": "a"}', ": ID 1 appears twice"),
            ("del", b"Emma", f"{number}'Emma'"),
            ("del", b"1 2", f"{number}'1 2'"),
            ("del", b"0", f": {from_1}, not 0"),
            ("del", b'{"id": 2147483648}', f": {from_1}, not 2147483648"),
            ("del", b'{"name": "a"}', LIKE_A_BOOK),
        ):
            with self.subTest(verb, line=line):
                self.write_file(b'{"id": 1, "name": "a"}\n' + b"\n" * 1500 + line)
                err = said(f"error: {path}, line 1502{reason}")
                self.check(verb, "--file", path, status=2, err=err)
        self.write_lines(*["1", "x"] * 25)
        ten = (f"error: {path}, line {n}: ID must be a number, not 'x'" for n in range(2, 21, 2))
        self.check("del", "--file", path, status=2, err=said(*ten))
        self.assertEqual(self.standin.requests, [])

    def test_titles_of_any_character(self) -> None:
        """In an object each goes to the server exactly. A plain line or an argument is one line."""
        path = self.write_lines(*enumerate(ODD_TITLES, start=1))
        self.check("add", "-q", "--file", path, out=ANY)
        self.assertEqual(list(self.books().values()), ODD_TITLES)
        self.reset(*["x"] * len(ODD_TITLES))
        self.check("set", "-q", "--file", path)
        self.assertEqual(list(self.books().values()), ODD_TITLES)
        self.check("add", "-qf", path, "--skip-existing")
        self.check("del", "-q", "--file", path)
        self.assertEqual(self.books(), {})
        self.standin.requests.clear()
        for title, reason in (
            ("a\tb", "can't hold a tab"),
            ("a\x85b", "can't hold the character U+0085"),
            ("a\u2028b", "can't hold the character U+2028"),
            ("\ufeffa", "can't hold a byte-order mark"),
            ("a\nb", "can't hold a line break"),
            ("\u3000", "must not be blank"),
        ):
            for argv in (("add", title), ("set", "1", title), ("list", title)):
                self.check(*argv, status=2, err=said(f"error: TITLE {reason}"))
            if title not in ("a\nb", "\u3000"):
                path = self.write_lines("good", title)
                err = said(f"error: {path}, line 2 {reason}")
                self.check("add", "--file", path, status=2, err=err)
        self.assertEqual(self.standin.requests, [])

    def test_back_up_and_restore(self) -> None:
        """From what `list` or `del` prints."""
        titles = ' <&> "\\', "Königin", "É\u202e", "\xad", '{"name": "a"}', "[{", "🐳", *ODD_TITLES
        for encoding in ("utf-8", "ascii"):
            self.reset(*titles)
            path = self.write_file(self.run_cli("list", "--json", encoding=encoding)[1].encode())
            status, deleted, _ = self.run_cli("del", "--json", "-f", path, encoding=encoding)
            self.assertEqual((status, self.books()), (0, {}))
            for books in (path, self.write_file(deleted.encode(), "deleted")):
                self.reset()
                self.check("add", "-q", "--file", books, out=ANY)
                self.assertEqual(Counter(self.books().values()), Counter(titles))

    def test_del_file(self) -> None:
        """A book that has another title by now is no longer the one in the file."""
        self.store(*"abcdefg")
        path = self.write_lines((1, "a"), 2, '{"id": 3}', " 4 ", "", (5, "E"), (6, "f "), 98, 1, 5)
        deleted = "".join(f"Book with ID {id} was deleted.\n" for id in (1, 2, 3, 4))
        err = said("deleted 4 of 7 books", f"{NO_BOOK}98", f"{RENAMED}5, 6")
        self.check("del", "--file", path, status=1, out=deleted, err=err)
        self.assertEqual(self.books(), {5: "e", 6: "f", 7: "g"})
        self.sql("UPDATE book SET name = 'E', active = 0 WHERE id = 5")
        out = '{"id": 5, "name": "E"}\n{"id": 7, "name": "g"}\n'
        path = self.write_lines((5, "E"), (6, "F"), (7, "g"))
        self.check("del", "--json", "-qf", path, status=2, err=ANY)
        err = said("deleted 2 of 3 books", f"{RENAMED}6")
        self.check("del", "--json", "-f", path, status=1, out=out, err=err)
        self.assertEqual(self.books(), {6: "f"})
        self.check("del", "-q", "--file", path, status=1, err=said(f"{NO_BOOK}5, 7", f"{RENAMED}6"))

    def test_set_file(self) -> None:
        """Only what differs is sent, and printed; archived books are among them."""
        self.store("a", "b", "c", "d", "e")
        self.sql("UPDATE book SET active = 0 WHERE id IN (4, 5)")
        new = {1: "a", 2: "B", 4: "D", 5: "e", 3: ' "É", <&>🐳 '}
        path = self.write_lines(*new.items())
        lines = [f"Title of Book ID {id} set to {new[id]}.\n" for id in (2, 4, 3)]
        sent: list[bytes] = []
        with self.proxy.answering("load", records(sent)):
            err = said("changed 3 of 5 titles: 2 right already")
            self.check("set", "--file", path, out="".join(lines), err=err)
            self.check("set", "-q", "--file", path)
        self.assertEqual(len(sent), 1)
        self.assertEqual(re.findall(b"<string>([1-5])<", sent[0]), [b"2", b"3", b"4"])
        self.assertEqual(self.books(), new)

    def test_set_file_in_batches(self) -> None:
        """The books that don't exist are named at the end, and the others are done."""
        self.store(*["a"] * 2400)
        there = range(1, 2401)
        path = self.write_lines((9999, "x"), *((id, "b") for id in there), (9000, "x"))
        argv = "set", "--json", "--file", path
        out = "".join(f'{{"id": {id}, "name": "b"}}\n' for id in there)
        err = said("changed 2,400 of 2,402 titles", f"{NO_BOOK}9999, 9000")
        calls = self.requests_of(*argv, status=1, out=out, err=err)
        self.assertEqual(calls, ["search_read", "load"] * 3)
        self.assertEqual(set(self.books().values()), {"b"})
        err = said("changed 0 of 2,402 titles: 2,400 right already", f"{NO_BOOK}9999, 9000")
        self.assertEqual(self.requests_of(*argv, status=1, err=err), ["search_read"] * 3)

    def test_a_file_in_utf_16(self) -> None:
        for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
            self.reset()
            path = self.write_file(mark + "Émile\r\n漢字 🐳\r\n".encode(encoding))
            self.check("add", "-q", "--file", path, out="1\n2\n")
            self.assertEqual(self.books(), {1: "Émile", 2: "漢字 🐳"})
            path = self.write_file(mark + "\ud800".encode(encoding, "surrogatepass"))
            self.check("add", "--file", path, status=2, err=re.compile("line 1 can't hold"))
            path = self.write_file(mark + b"a")
            error = re.compile(rf"\Alibrary.py: error: cannot read {re.escape(path)}: .*\n\Z")
            self.check("add", "--file", path, status=2, err=error)

    def test_a_file_that_cannot_be_read(self) -> None:
        error = "error: cannot read /no/such: No such file or directory"
        self.check("add", "--file", "/no/such", status=2, err=said(error))

    def test_standard_input(self) -> None:
        self.store("a", "b")
        before = os.dup(0)
        self.addCleanup(os.close, before)
        self.addCleanup(os.dup2, before, 0)
        tab = said("error: standard input, line 1 can't hold a tab")
        for verb, lines, status, out, err in (
            ("set", [(1, "A"), (2, "b")], 0, '{"id": 1, "name": "A"}\n', ANY),
            ("add", [(7, "c"), "d"], 0, '{"id": 3, "name": "c"}\n{"id": 4, "name": "d"}\n', ANY),
            ("del", [(1, "A"), 2], 0, '{"id": 1, "name": "A"}\n{"id": 2, "name": "b"}\n', ANY),
            ("add", ["a\tb"], 2, "", tab),
        ):
            with open(self.write_lines(*lines), "rb") as file:
                os.dup2(file.fileno(), 0)
            self.check(verb, "--json", "--file", "-", status=status, out=out, err=err)
            os.fstat(0)  # it stays open

    # --skip-existing

    def test_skip_existing(self) -> None:
        """What the catalogue lacks is added, letter for letter, and archived books are none."""
        self.store("Emma", "emma", "Evelina", "Archived")
        self.sql("UPDATE book SET active = 0 WHERE name = 'Archived'")
        there = said("added 0 of 1 titles: it is already in the catalogue")
        self.check("add", "Emma", "--skip-existing", err=there)
        self.check("add", "Emma", "--skip-existing", "-q")
        self.check("add", "Archived", "--skip-existing", "-q", out="5\n")
        self.check("add", "Emm", "--skip-existing", "-q", out="6\n")
        path = self.write_lines("Emma", '{"name": "Emma "}', "EMMA", '{"name": "Evelina"}', "E%")
        argv = "add", "--file", path, "--skip-existing", "--json"
        added = [(7, "Emma "), (8, "EMMA"), (9, "E%")]
        out = "".join(f'{{"id": {id}, "name": "{name}"}}\n' for id, name in added)
        others = "titles: the catalogue had the others"
        self.check(*argv, out=out, err=said(f"added 3 of 5 {others}"))
        self.check(*argv, err=said(f"added 0 of 5 {others}"))

    def test_skip_existing_copy_by_copy(self) -> None:
        """The catalogue ends up with as many copies of a title as the file, across batches."""
        self.limit_batches(3)
        lines = "aaabaabca"
        argv = "add", "-qf", self.write_lines(*lines), "--skip-existing"
        for before, count in (("", 9), ("a", 8), ("aaaa", 5), ("bbcaaaaaad", 0), ("bdb", 7)):
            self.reset(*before)
            with self.subTest(before):
                for new in (count, 0):
                    self.check(*argv, out=re.compile(rf"\A(\d+\n){{{new}}}\Z"))
                    after = Counter(before) | Counter(lines)
                    self.assertEqual(Counter(self.books().values()), after)

    def test_skip_existing_in_batches(self) -> None:
        """A look-up for each batch, and a change only where there is something to add."""
        self.store("title 5")
        titles = [f"title {number}" for number in range(2500)]
        argv = "add", "-q", "--file", self.write_lines(*titles), "--skip-existing"
        calls = self.requests_of(*argv, out=re.compile(r"\A(\d+\n){2499}\Z"))
        self.assertEqual(calls, ["search_read", "create"] * 3)
        self.assertEqual(self.requests_of(*argv), ["search_read"] * 3)
        self.assertEqual(sorted(self.books().values()), sorted(titles))

    # Progress

    def test_progress_on_a_terminal(self) -> None:
        self.store(*["title"] * 5)
        path = self.write_lines(*((id, f"title {id}") for id in self.books()))
        self.limit_batches(2)
        for argv, count, summary in (
            (("set", "--file", path), 5, "changed 5 of 5 titles"),
            (("add", "--file", path), 5, "added 5 of 5 titles"),
            (("add", "--skip-existing", "--file", path), 0, "added 0 of 5 titles: the catalogue "),
            (("del", "--file", path), 5, "deleted 5 of 5 books"),
        ):
            status, out, err = self.run_cli(*argv, terminal=True)
            self.assertEqual((status, out.count("\n")), (0, count))
            *shown, last = (text for text in err.split("\r\x1b[K") if text)
            self.assertEqual(shown, ["0 of 5", "2 of 5", "4 of 5"])
            self.assertTrue(last.startswith(f"library.py: {summary}"), last)
        self.assertEqual(self.run_cli("add", "-q", "--file", path, terminal=True)[2], "")
        self.assertEqual(self.run_cli("add", "--file", path)[2], said("added 5 of 5 titles"))
        self.assertEqual(self.run_cli("add", "Emma", terminal=True)[2], "")

    def test_progress_gives_way_to_what_is_printed(self) -> None:
        """On the terminal no line of it is left before a result or an error."""
        self.limit_batches(2)
        path = self.write_lines(*["title"] * 5)
        screen = io.StringIO()
        with (
            mock.patch.object(screen, "isatty", lambda: True),
            mock.patch.multiple("sys", stdout=screen, stderr=screen),
            mock.patch.dict(os.environ, self.environ, clear=True),
            self.proxy.answering("create", pass_on_but({3: lose_reply})),
        ):
            self.assertEqual(library.main(("add", "--file", path)), 4)
        shown = [re.split(r"\r\x1b\[K", line)[-1] for line in screen.getvalue().split("\n")]
        for line in shown[:4]:
            self.assertRegex(line, r"\ABook added with ID \d+ for")
        self.assertRegex(shown[4], r"\Alibrary\.py: error: line 5: ")


@unittest.skipUnless(hasattr(signal, "pthread_kill"), "no signal wakes a thread here")
class StopTests(CatalogueTestCase):
    """A command that stops part-way prints a hint. Following it does the rest, nothing twice."""

    def setUp(self) -> None:
        super().setUp()
        self.limit_batches(2)
        before = signal.signal(signal.SIGINT, library.interrupt)
        self.addCleanup(signal.signal, signal.SIGINT, before)

    def interrupt(self, exchange: Exchange) -> None:
        """Ctrl-C where the answer never comes."""
        time.sleep(0.02)  # until the program waits for it
        library.HEEDED.clear()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        exchange.hold()

    def act_and_interrupt(self, exchange: Exchange) -> None:
        exchange.forward()
        self.interrupt(exchange)

    def follow(self, argv: tuple[str, ...], err: str) -> tuple[str, ...]:
        """The command that the hint asks for: the same one, perhaps with another option."""
        return (*argv, *re.findall(r" run it again with (--.+)\n\Z", err))

    def test_each_batch(self) -> None:
        lost = "error: {}: no valid answer from .*: connection closed"
        looks = {"add": "search_read", "set": "search_read", "del": "search_read"}
        changes = {"add": "create", "set": "load", "del": "unlink"}
        for calls, answer, what, in_first, in_later in (
            # what is said, and the exit status and the hint: in the first batch, and in a later one
            (changes, lose_reply, lost, (4, IN_DOUBT), (4, IN_DOUBT)),
            (changes, lose_request, lost, (4, IN_DOUBT), (4, IN_DOUBT)),
            (changes, TOO_LARGE, "error: {}: .* HTTP 413 ", (3, ""), (1, AFTER_REFUSAL)),
            (changes, REFUSED, "error: {}: No more books.", (1, ""), (1, AFTER_REFUSAL)),
            (changes, self.act_and_interrupt, "interrupted", (130, IN_DOUBT), (130, IN_DOUBT)),
            (looks, lose_request, lost, (3, ""), (1, AFTER_REFUSAL)),
            (looks, self.interrupt, "interrupted", (130, ""), (130, REST)),
        ):
            parts = enumerate(("lines 2 to 3", "lines 4 to 5", "line 6"), start=1)
            for (number, part), verb in itertools.product(parts, calls):
                status, hint = in_first if number == 1 else in_later
                again = "--skip-existing" if verb == "add" else "the same input"
                err = rf"\Alibrary\.py: {what.format(part)}.*\n"
                err += re.escape(said(hint.format(again))) if hint else ""
                with (
                    self.subTest(verb, call=calls[verb], number=number, answer=answer),
                    self.proxy.answering(calls[verb], pass_on_but({number: answer})),
                ):
                    skip = ("--skip-existing",) * (verb == "add" and calls is looks)
                    self.check_stop(verb, skip, 2 * (number - 1), status, rf"{err}\Z")
                    self.assertGreaterEqual(self.proxy.calls.count(calls[verb]), number)

    def check_stop(
        self, verb: str, options: tuple[str, ...], printed: int, status: int, pattern: str
    ) -> None:
        """Work on a file of five lines after a blank one, and follow the hint."""
        titles = list("abaca")
        self.reset(*titles * (verb != "add"))
        book = {"add": "{1}", "set": '{{"id": {0}, "name": "new"}}', "del": "{0}"}[verb]
        lines = (book.format(id, title) for id, title in enumerate(titles, start=1))
        argv = verb, "--file", self.write_lines("", *lines), *options
        actual, out, err = self.run_cli(*argv)
        self.assertEqual((actual, out.count("\n")), (status, printed), err)
        self.assertRegex(err, pattern)
        gone = verb == "del" and len(self.books()) < 5
        self.assertEqual(self.run_cli(*self.follow(argv, err))[0], int(gone))
        after = {"add": Counter(titles), "set": Counter(["new"] * 5), "del": Counter()}[verb]
        self.assertEqual(Counter(self.books().values()), after)

    def test_an_import_that_stops_again_and_again(self) -> None:
        """If you follow the hint after each stop, all copies of all titles are added in the end."""
        titles = [f"title {number % 20}" for number in range(55)]
        argv: tuple[str, ...] = ("add", "-q", "--file", self.write_lines(*titles))
        fails = pass_on_but({2: lose_reply, 4: TOO_LARGE, 5: lose_request, 7: lose_reply})
        statuses: list[int] = []
        self.limit_batches(10)
        with self.proxy.answering("create", fails):
            while statuses[-1:] != [0] and len(statuses) < 9:
                status, _, err = self.run_cli(*argv)
                statuses.append(status)
                argv = self.follow(argv, err)
        self.assertEqual(statuses, [4, 1, 4, 4, 0])
        self.assertEqual(Counter(self.books().values()), Counter(titles))

    def test_one_change(self) -> None:
        """The hint says that a change may have been made only if its request was sent."""
        self.store("Emma")
        for method, argv, again in (
            ("authenticate", ("add", "new"), ""),  # the later commands know the uid
            ("search_read", ("add", "new", "--skip-existing"), ""),
            ("search_read", ("set", "1", "new"), ""),
            ("search_read", ("del", "1"), ""),
            ("create", ("add", "new"), "--skip-existing"),
            ("create", ("add", "new", "--skip-existing"), "--skip-existing"),
            ("write", ("set", "1", "new"), "the same input"),
            ("unlink", ("del", "1"), "the same input"),
        ):
            hints = [IN_DOUBT.format(again)] * bool(again)
            with self.subTest(argv, method=method):
                with self.proxy.answering(method, self.interrupt):
                    self.check(*argv, status=130, err=said("interrupted", *hints))
                if again:
                    closed = f"error: no valid answer from {self.proxy.url}: connection closed"
                    with self.proxy.answering(method, lose_request):
                        self.check(*argv, status=4, err=said(closed, *hints))

    def test_ctrl_c_while_connecting(self) -> None:
        """A change that waits for the connection was not sent."""
        enter(self, warnings.catch_warnings())
        warnings.simplefilter("ignore", ResourceWarning)  # of a socket that is not yet anybody's
        self.environ["ODOO_URL"] = self.proxy.url.replace("http", "https")  # nobody shakes hands
        self.proxy.faults[""] = self.interrupt
        with mock.patch("library_xmlrpc._recall_uid", return_value=2):
            for argv in (("add", "Emma"), ("add", "-f", self.write_lines("Emma"))):
                self.check(*argv, status=130, err=said("interrupted"))


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
            (("add", "--skip-existing"), titles),
            (("set",), change),
            (("del",), ids),
            (("del", "1", "--file", path), ids),
            (("del", "-f", path, "--file", path), "--file can be given only once"),
            (("del", "--all", "1"), f"{unknown}--all"),
            (("add", "Moby", "Dick"), f"{unknown}Dick"),
            (("add", "Moby", ""), unknown),
            (("list", ""), blank),
            (("add", ""), blank),
            (("set", "1", "\u3000"), blank),
            (("list", "a\0b"), rf"{none} the character U\+0000"),
            (("set", "1", "\uffff"), rf"{none} .* U\+FFFF"),
            (("-q", "list", "--json"), "--quiet and --json exclude each other"),
            (("--quie", "list"), f"{unknown}--quie"),
            (("list", "--skip-existing"), f"{unknown}--skip-existing"),
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
            (("del", "-x"), "see library.py del --help"),
            (("list", "-f", "x"), "see library.py list --help"),
            (("add", "Emma", "-x"), "see library.py add --help"),
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
        absent: dict[str, Any] = {"status": 1, "err": said(f"{NO_BOOK}99")}
        self.check("-q", "set", "--user", "admin", "--", "99", "-x", **absent)
        self.check("set", "99", "Emma", "--user", "admin", "-q", **absent)
        self.check("--user", "admin", "del", "99", "-q", **absent)
        self.check("list", "--limit", "1", "no such", "--json")
        self.check("list", "no such", "--limit", "1")

    def test_short_options(self) -> None:
        path = self.write_file(b"short a\nshort b\n")
        self.check("add", "-q", "-f", path, out=re.compile(r"\A(\d+\n){2}\Z"))
        self.check("list", "-n", "1", "short", out=re.compile(r"\A\d+ short a\n\Z"))
        whose = re.compile(f"'eva' on {self.proxy.url}, database 'odoo-empty'\n.*--user.*--db\n")
        for argv in (("-d", "odoo-empty", "-u", "eva", "list"), ("list", "-ueva", "-dodoo-empty")):
            self.check(*argv, status=3, err=whose)

    def test_ids_that_are_none(self) -> None:
        must = r" must be (from 1 to 2147483647, not \d+|a number, not '.*)"
        for id in ("0", "2147483648", "9" * 5000, "1.0", "+1", "1_0", "x", "", "１", "0x1", " 1"):
            for argv in (("set", id, "Emma"), ("del", "1", id), ("del", "--", id, "1")):
                self.check_usage(*argv, err=f"ID{must}")
            self.check_usage("list", "--limit", id, err=f"--limit{must}")
        self.check_usage("del", "9" * 25, err="ID must be from 1 to 2147483647, not 9+")


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
            self.assertLessEqual(text.count("\n"), 24 if command else 27)
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
        for option in options - {"-h", "--help", "--version"}:
            self.assertRegex(readme, rf"`[^`]*(?<![\w-]){option}\b")
        for command in helps:
            self.assertIn(f"library.py {command}", readme)
        text = re.sub(r"(?s)```.*?```|`odoo .*?`", "", readme)
        mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
        self.assertLessEqual(mentioned, options)
