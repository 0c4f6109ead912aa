"""The commands: what they print, on which stream, and with which exit status."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import unittest
from unittest import mock

import library
from library_xmlrpc import MAX_ID, LibraryAPI
from tests.proxy import Answer, Exchange, Proxy, lose_reply
from tests.replies import fault, http, sends, value
from tests.standin import StandIn
from tests.support import CommandLineTestCase, StandInTestCase, enter, unused_port

NO_BOOK = "library.py: error: there is no book with ID "


class CommandTests(CommandLineTestCase):
    """With a stand-in of its own for each test, so that the first book has ID 1."""

    def setUp(self) -> None:
        super().setUp()
        self.standin = enter(self, StandIn())
        self.proxy = enter(self, Proxy(self.standin.url))
        self.environ.update(ODOO_URL=self.proxy.url, ODOO_PASSWORD="admin")

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

    def test_what_is_listed(self) -> None:
        self.check("add", "--file", self.write_file(b"a\nb\n"), "-q", out="1\n2\n")
        self.check("list", "B", out="2 b\n")
        self.check("list", "--limit", "1", out="1 a\n")
        self.check("add", "-q", "--", "-1", out="3\n")
        self.check("list", "--", "-1", out="3 -1\n")

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
        """A web server in front of Odoo may take one MiB, whatever the titles are."""
        sizes: list[int] = []

        def measure(exchange: Exchange) -> None:
            sizes.append(len(exchange.request))
            exchange.send(exchange.forward())

        api = LibraryAPI("127.0.0.1", self.standin.port, "odoo-dev", "admin", "admin")
        api.create_many(["a"] * 6000)
        self.proxy.faults.update(dict.fromkeys(("create", "search", "read", "unlink"), measure))
        for few, many in ((80, 1000), (100, 900), (3000, 60)):  # of characters and titles
            path = self.write_file(b"a\n" + (b"&" * few + b"\n") * many)
            self.run_cli("add", "-q", "--file", path)
        ids = self.run_cli("list", "-q")[1].split()
        self.assertEqual(len(ids), 6000 + 1001 + 901 + 61)
        none = map(str, range(MAX_ID - 9000, MAX_ID))
        self.check("del", "-q", *ids, *none, status=1, err=re.compile(NO_BOOK))
        self.assertLess(max(sizes), 2**19)
        self.assertGreater(max(sizes), 2**18)

    def test_the_requests_of_each_command(self) -> None:
        """One where one is enough; two where Odoo answers True for books that do not exist."""
        self.check("add", "Emma", out=re.compile("ID 1 "))
        for argv, requests in (
            (("list",), ["search_read"]),
            (("add", "Emma", "-q"), ["create"]),
            (("set", "1", "Emma", "-q"), ["search", "write"]),
            (("del", "1", "2", "-q"), ["search", "unlink"]),
        ):
            self.standin.requests.clear()
            self.check(*argv, out=re.compile(""))
            self.assertEqual(self.standin.requests, requests)

    # Files of titles

    def test_add_file(self) -> None:
        self.check("add", "--file", self.write_file(b"\n\n"))
        self.assertEqual(self.standin.requests, [])
        path = self.write_file("\ufeffMoby-Dick\r\n\n  \t\nÉmile \n漢字".encode())
        lines = "Book added with ID 1 for title Moby-Dick.\n"
        lines += "Book added with ID 2 for title Émile .\nBook added with ID 3 for title 漢字.\n"
        self.check("add", "--file", path, out=lines)

    def test_a_file_is_checked_whole_before_the_first_line_is_sent(self) -> None:
        path = os.path.join(self.home, "titles.txt")
        add = "library.py add --file"
        utf8 = f'"{path}.utf8" && {add} "{path}.utf8"'
        for bad, reason, hint in (
            (b"a\tb", "can't hold a tab", f"""try: tr '\\t' ' ' < "{path}" | {add} "-\""""),
            (b"a\rb", "can't hold a carriage return", f"""try: tr '\\r' '\\n' < "{path}" | """),
            (b"a\0b", "can't hold a NUL", ""),
            (
                "\ufeffa".encode(),
                "can't hold a byte-order mark",
                "try: sed 's/\\xef\\xbb\\xbf//g' <",
            ),
            ("a\u2028b".encode(), "can't hold the character U+2028", ""),
            (
                b"caf\xe9",
                "is not UTF-8",
                f'if it is CP1252: iconv -f CP1252 -t UTF-8 < "{path}" > {utf8}\n',
            ),
        ):
            for count, more in ((1, ""), (3, " (bad lines in all: 3)")):
                with self.subTest(bad, count=count):
                    self.write_file(b"good\n" * 1500 + b"\n" + (bad + b"\ngood\n") * count)
                    error = f"library.py: error: {path}, line 1502 {reason}{more}\n"
                    err = error + f"library.py: {hint}" * bool(hint)
                    self.check("add", "--file", path, status=2, err=re.compile(re.escape(err)))
        self.assertEqual(self.standin.requests, [])

    def test_no_filter_of_octets_for_utf_16(self) -> None:
        """It would change other characters: U+010D is a carriage return and another octet."""
        for bad in ("a\tb", "\u010dap\rek", "a\0b"):
            path = self.write_file(bad.encode("utf-16"))
            convert = re.escape(f'if it is UTF-16: iconv -f UTF-16 -t UTF-8 < "{path}" > ')
            self.check("add", "--file", path, status=2, err=re.compile(convert))
        path = self.write_file("Emma".encode("utf-32"))
        error = re.escape(
            f"{path} is UTF-32\nlibrary.py: if it is UTF-32: iconv -f UTF-32 -t UTF-8"
        )
        self.check("add", "--file", path, status=2, err=re.compile(error))

    def test_remedies_for_standard_input(self) -> None:
        for content, hint in (
            (b"a\tb", r"put this before it in the pipe: tr '\t' ' '"),
            (b"\xe9", "if it is CP1252, make UTF-8 of it with iconv, and a file for --file"),
        ):
            path = self.write_file(content)
            with open(path, "rb") as file, mock.patch("builtins.open", return_value=file):
                status, _, err = self.run_cli("add", "--file", "-")
            self.assertEqual((status, err.splitlines()[1]), (2, f"library.py: {hint}"))

    def test_a_file_that_seems_to_be_utf_16(self) -> None:
        for encoding in ("UTF-16LE", "UTF-16BE"):
            path = self.write_file("Émile\r\nNaïve 🐳\r\n".encode(encoding))
            error = f"library.py: error: {path} is not UTF-8, it seems to be {encoding}\n"
            hint = f'library.py: if it is {encoding}: iconv -f {encoding} -t UTF-8 < "{path}" > '
            add = f'"{path}.utf8" && library.py add --quiet --file "{path}.utf8" --from-line 2\n'
            argv = ("add", "-q", "--file", path, "--from-line", "2")
            self.check(*argv, status=2, err=error + hint + add)

    @unittest.skipUnless(shutil.which("iconv"), "needs iconv")
    def test_the_remedies_work(self) -> None:
        """In a shell, as they are printed, also for a file whose name looks like an option."""
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.home)
        for content, titles in (
            ("Émile\nNaïve\n".encode("utf-16-le"), ["Émile", "Naïve"]),
            ("Émile\nNaïve\n".encode("cp1252"), ["Émile", "Naïve"]),
            (b"a\tb\nc\n", ["a b", "c"]),
            (b"a\rb\r", ["a", "b"]),
            ("\ufeffa\n\ufeffb\n".encode(), ["a", "b"]),
        ):
            self.write_file(content, "-it's $1.txt")
            _, _, err = self.run_cli("add", "--file=-it's $1.txt")
            hint = err.split("library.py: ")[2].partition(": ")[2]
            library_py = f"{sys.executable} {library.__file__}"
            script = hint.strip().replace("library.py add", f"{library_py} add -q")
            shell = subprocess.run(script, shell=True, env=self.environ, capture_output=True)
            self.assertEqual((shell.returncode, shell.stderr), (0, b""), script)
            added = [int(id) for id in shell.stdout.split()]
            api = LibraryAPI("127.0.0.1", self.standin.port, "odoo-dev", "admin", "admin")
            self.assertEqual([book["name"] for book in api._read(added)], titles)

    def test_a_remedy_has_the_settings(self) -> None:
        path = self.write_file(b"a\tb")
        add = 'library.py --user "eva" add --json --file "-" --from-line 1'
        hint = re.escape(f"""try: tr '\\t' ' ' < "{path}" | {add}\n""")
        argv = ("add", "--file", path, "--user", "eva", "--from-line", "1", "--json")
        self.check(*argv, status=2, err=re.compile(hint))

    def test_a_file_in_utf_16(self) -> None:
        for encoding, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
            path = self.write_file(mark + "Émile\r\n漢字 🐳\r\n".encode(encoding))
            self.check("add", "--file", path, "--json", out=re.compile("mile.*\n.*\\\\u5b57"))
            path = self.write_file(mark + b"a")
            error = f"library.py: error: {path} is not UTF-16, though it begins so\n"
            self.check("add", "--file", path, status=2, err=error)

    def test_a_file_that_cannot_be_read(self) -> None:
        error = "library.py: error: cannot read /no/such: No such file or directory\n"
        self.check("add", "--file", "/no/such", status=2, err=error)

    def test_progress_on_a_terminal(self) -> None:
        path = self.write_file(b"title\n" * 2500)
        status, out, err = self.run_cli("add", "--file", path, terminal=True)
        self.assertEqual((status, out.count("\n")), (0, 2500))
        shown = [line for line in re.split(r"\r\x1b\[K|\r(?!\n)", err) if line]
        self.assertEqual(shown[0], "0 of 2500 added")
        self.assertRegex(shown[1], "^1000 of 2500 added, [0-9]+ a second$")
        self.assertRegex(shown[-1], "^2500 of 2500 added, [0-9]+ a second\r\n$")  # it stays
        self.assertEqual(self.run_cli("add", "-q", "--file", path, terminal=True)[2], "")
        path = self.write_file(b"\n")
        none = self.run_cli("add", "--file", path, terminal=True)
        self.assertEqual(none, (0, "", f"no title in {path}, from line 1 on\r\n"))

    def test_progress_gives_way_to_what_is_printed(self) -> None:
        """On the terminal no line of it is left before a result or an error."""
        path = self.write_file(b"title\n" * 2500)
        screen = io.StringIO()
        with (
            mock.patch.object(screen, "isatty", lambda: True),
            mock.patch.dict(os.environ, self.environ, clear=True),
            mock.patch.multiple("sys", stdout=screen, stderr=screen),
        ):
            self.assertEqual(library.main(["add", "--file", path]), 0)
        for line in screen.getvalue().split("\n")[:2500]:
            self.assertRegex(line, r"\A(\d+ of 2500 added.*\r\r\x1b\[K)?Book added with ID \d+ for")
        with self.proxy.answering("create", lose_reply):
            status, _, err = self.run_cli("add", "--file", path, terminal=True)
        self.assertEqual(status, 4)
        self.assertRegex(err, r"\A0 of 2500 added\r\r\x1b\[Klibrary.py: error: ")

    def stop(self, answer: Answer, after: int = 1) -> tuple[int, int, int, str]:
        """Add 2,500 titles, with a blank line before them, to a server that fails after a batch.

        Gives the exit status, the lines printed, the books stored, and what stderr says.
        """
        path = self.write_file(b"\n" + b"title\n" * 2500)

        def fail_later(exchange: Exchange) -> None:
            if self.proxy.calls.count("create") > after:
                answer(exchange)
            else:
                exchange.send(exchange.forward())

        with self.proxy.answering("create", fail_later):
            status, out, err = self.run_cli("add", "--file", path)
            self.assertEqual(self.proxy.calls.count("create"), after + 1)
        return status, out.count("\n"), self.run_cli("list", "-q")[1].count("\n"), err

    def go_on(self, line: int) -> str:
        path = os.path.join(self.home, "titles.txt")
        return f'go on with: library.py add --file "{path}" --from-line {line}'

    def test_a_batch_of_unknown_outcome(self) -> None:
        *done, err = self.stop(lose_reply)
        self.assertEqual(done, [4, 1000, 2000])
        hint = (
            f"lines 1002 to 2001 of {self.home}/titles.txt were added, or none of them: wait a "
            'little, then look for the first: library.py list "title"; '
            f"if it is there with a new ID, {self.go_on(2002)}; if not, {self.go_on(1002)}"
        )
        closed = f"error: no valid answer from {self.proxy.url}: connection closed"
        self.assertEqual(err[: len(closed) + 12], f"library.py: {closed}")
        self.assertTrue(err.endswith(f": {hint}\n"), err)

    def test_the_last_batch_of_unknown_outcome(self) -> None:
        *done, err = self.stop(lose_reply, after=2)
        self.assertEqual(done, [4, 2000, 2500])
        self.assertIn(f"if it is there with a new ID, all is done; if not, {self.go_on(2002)}", err)

    def test_a_batch_that_was_not_served(self) -> None:
        """Exit status 3 would say that nothing was changed at all."""
        too_large = sends(http(b"", "413 Too Large"))
        *done, err = self.stop(too_large, after=2)
        self.assertEqual(done, [1, 2000, 2000])
        self.assertRegex(
            err, rf"HTTP 413.*\nlibrary\.py: .*split.*; {re.escape(self.go_on(2002))}\n"
        )
        *done, err = self.stop(too_large, after=0)
        self.assertEqual(done, [3, 0, 2000])
        self.assertNotIn("go on", err)

    def test_a_batch_that_was_refused(self) -> None:
        *done, err = self.stop(sends(fault(2, "No more books.")), after=0)
        self.assertEqual((done, err), ([1, 0, 0], "library.py: error: No more books.\n"))
        *done, err = self.stop(sends(fault(2, "No more books.")))
        self.assertEqual(done, [1, 1000, 1000])
        self.assertEqual(
            err, f"library.py: error: No more books.\nlibrary.py: {self.go_on(1002)}\n"
        )

    def test_going_on(self) -> None:
        """From each stop the command that it prints leads to the next one, and to the end."""
        path = self.write_file("".join(f"title {n}\n\n" for n in range(2500)).encode())
        error = sends(http(b"", "503 Service Unavailable"))
        seen = []

        def fail_each_other_time(exchange: Exchange) -> None:
            seen.append(exchange)
            exchange.pass_on() if len(seen) % 2 else error(exchange)

        argv, statuses = ["add", "-q", "--file", path], []
        with self.proxy.answering("create", fail_each_other_time):
            while argv:
                status, _, err = self.run_cli(*argv, "--user", "admin")
                statuses.append(status)
                found = re.search(r"if not, go on with: library\.py (.+)\n", err)
                argv = shlex.split(found[1]) if found else []
        self.assertEqual(statuses, [4, 4, 0])
        self.assertEqual(self.run_cli("list", "-q")[1].count("\n"), 2500)

    def test_going_on_with_standard_input(self) -> None:
        path = self.write_file(b"a\n\nb\nc\n")
        self.check("add", "--file", path, "--from-line", "2", "-q", out="1\n2\n")
        self.check("list", out="1 b\n2 c\n")
        self.check("add", "--file", path, "--from-line", "9")
        args = library.parse_arguments(["add", "--file", path, "--json"])
        args.file.path = "-"
        command = 'go on with: library.py add --json --file "-" --from-line 7 with the same input'
        self.assertEqual(library.resume_hint(args, 7), command)

    def test_commands_to_type(self) -> None:
        """They are for a shell, and have the settings that were options."""
        for title, quoted in (
            ("Moby Dick", '"Moby Dick"'),
            ("it's", '"it\'s"'),
            ('$HOME `x` "!\\', "'$HOME `x` \"!\\'"),
            ("-1", '-- "-1"'),
            ("hurry!", "'hurry!'"),
        ):
            argv = ["--db", "a b", "add", "--profile", "work", "-q", "--", title]
            args = library.parse_arguments(argv)
            shown = f'library.py --db "a b" --profile "work" list {quoted}'
            self.assertEqual(library.list_command(args, title), shown)
            *_, last = shlex.split(shown)
            self.assertEqual(last, title)

    def test_a_title_that_a_line_cannot_show(self) -> None:
        """The command looks for what it can show."""
        args = library.parse_arguments(["add", "\u202bשלום רב\u202c"])
        self.assertEqual(library.list_command(args, args.title), 'library.py list "שלום רב"')

    def test_settings_that_begin_with_a_dash(self) -> None:
        args = library.parse_arguments(["--db=-x", "add", "a"])
        self.assertEqual(library.list_command(args, "a"), 'library.py --db="-x" list "a"')

    def test_a_del_that_stops_part_way(self) -> None:
        self.check("add", "--file", self.write_file(b"a\nb\nc\n"), "-q", out="1\n2\n3\n")

        def fail_later(exchange: Exchange) -> None:
            late = self.proxy.calls.count("search") > 1
            sends(http(b"", "403 No"))(exchange) if late else exchange.pass_on()

        deleted = "Book with ID 1 was deleted.\nBook with ID 2 was deleted.\n"
        with mock.patch("library.BATCH_IDS", 2), self.proxy.answering("search", fail_later):
            self.check("del", "1", "2", "3", status=1, out=deleted, err=re.compile("HTTP 403"))
            self.proxy.calls.clear()
            self.check("del", "7", "8", "9", status=3, err=re.compile("HTTP 403"))  # none was there
            api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin")
            more = list(map(str, api.create_many(["a"] * 3)))
            self.proxy.calls.clear()
            self.check("del", "-q", *more, status=1, err=re.compile("HTTP 403"))

    # Refusals

    def test_no_permission(self) -> None:
        self.check("add", "Emma", "-q", out="1\n")
        self.environ.update(ODOO_USER="clerk", ODOO_PASSWORD="clerk")
        refused = (
            "library.py: error: You are not allowed to delete 'Book' (library.book) records. "
            "This operation is allowed for the following groups: Administration/Settings; "
            "Contact your administrator to request access if necessary.\n"
        )
        self.check("del", "1", status=1, err=refused)

    def test_a_wrong_password_is_tried_once(self) -> None:
        self.environ["ODOO_PASSWORD"] = "hunter2"
        message = f"wrong user or password for 'admin' on {self.proxy.url}, database 'odoo-dev'\n"
        message += "library.py: password from ODOO_PASSWORD, user from the default, database from "
        self.check("list", status=3, err=re.compile(message))
        self.assertEqual(self.standin.requests, ["authenticate"])

    def test_an_unknown_database(self) -> None:
        message = f'cannot log in to {self.proxy.url}: .* database "no-such" does not exist\n'
        message += ".*database from --db\n$"
        self.check("list", "--db", "no-such", status=3, err=re.compile(message))

    def test_the_default_server(self) -> None:
        """Where nothing was set, that is what is most probably the matter."""
        port = unused_port()
        url = f"http://localhost:{port}"
        del self.environ["ODOO_URL"]
        hint = "library.py: start the server, or give its URL"
        default = f"{hint}; no server was set, so this is the default: set --url, "
        with mock.patch.dict("library.DEFAULTS", url=url):
            error = f"library.py: error: cannot connect to {url}: connection refused\n"
            self.check("list", status=3, err=f"{error}{default}ODOO_URL or --profile\n")
            path = self.write_file(b"[DEFAULT]\ndb = x\n[work]\nurl = http://localhost:1\n")
            err = f"{error}{default}ODOO_URL or --profile (there are: DEFAULT, work)\n"
            self.check("list", "--config", path, status=3, err=err)
            error = f"library.py: error: cannot connect to {url}: connection refused\n"
            self.check("list", "--url", url, status=3, err=f"{error}{hint}\n")

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
        for quoted in (password, repr(password), "p'&lt;&amp;&gt;\\ss", f"x{password}y"):
            text = f"Traceback (most recent call last):\nno: {quoted}"
            status, err = self.debugged("authenticate", sends(fault(1, text)))
            self.assertEqual(status, 3)
            self.assertIn("error: cannot log in", err)
            self.assertNotRegex(err, r"p'|ss\b|&lt;")
        self.environ["ODOO_PASSWORD"] = "hunter2"
        location = "Location: http://eva:pass@hunter2.example/hunter2"
        for answer in (
            sends(value("<int>hunter2</int>")),  # which Python quotes
            sends(http(b"", "302 Found", (location,))),
        ):
            status, err = self.debugged("authenticate", answer)
            self.assertEqual(status, 3)
            self.assertNotRegex(err, "hunter2|eva|pass@")

    def test_a_password_that_is_a_word_of_a_refusal(self) -> None:
        """It is masked, and the refusal is understood all the same."""
        for password, code, text, status, said in (
            ("marshal", 1, "TypeError: cannot marshal None", 4, r"cannot \*\*\* None"),
            ("library", 2, "Object library.book doesn't exist", 1, "install the library_app"),
            ("login", 3, "Too many login failures", 3, "wait a minute"),
            ("admin", 2, "ask an administrator", 1, "ask an administrator"),
        ):
            self.environ["ODOO_PASSWORD"] = password
            self.proxy.faults["authenticate"] = sends(value("<int>2</int>"))
            with self.proxy.answering("create", sends(fault(code, text))):
                for _ in range(2):  # the second with a remembered uid
                    self.proxy.calls.clear()
                    self.check("add", "Emma", status=status, err=re.compile(said))
            if password == "login":
                self.assertEqual(self.proxy.calls, ["create"])

    def test_debug_shows_no_fault_where_there_was_none(self) -> None:
        status, out, err = self.run_cli("del", "99", "--debug")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("BookNotFoundError", err)
        self.assertNotIn("fault", err)

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


class UsageTests(StandInTestCase, CommandLineTestCase):
    """Mistakes in the arguments: nothing is sent, and one line says what is wrong."""

    def setUp(self) -> None:
        super().setUp()
        self.standin.requests.clear()

    def check_usage(self, *argv: str, err: str) -> None:
        pattern = rf"\Alibrary\.py: error: {err}\n(library\.py: see library\.py .*--help.*\n)?\Z"
        self.check(*argv, status=2, err=re.compile(pattern))
        self.assertEqual(self.standin.requests, [])

    def test_mistakes(self) -> None:
        path, blank, none = self.write_file(b"Emma"), "TITLE must not be blank", "TITLE can't hold"
        quote = 'more than one title; quote one that has spaces: "Moby Dick"'
        for argv, err in (
            ((), "the following arguments are required: COMMAND"),
            (("remove",), "argument COMMAND: invalid choice: 'remove' .*"),
            (("add",), "give either TITLE or --file FILE"),
            (("set", "1"), "TITLE is missing"),
            (("del",), "ID is missing"),
            (("del", "--all"), "unknown option: --all"),
            (("add", "Emma", "--file", path), "give either TITLE or --file FILE"),
            (("add", "--file", path, "--file", path), "more than one --file"),
            (("add", "Moby", "Dick"), quote),
            (("set", "1", "Moby", "Dick"), quote),
            (("list", "Moby", "Dick"), quote),
            (("add", ""), blank),
            (("set", "1", "\u3000"), blank),
            (("list", "a\0b"), f"{none} a NUL"),
            (("add", "a\tb"), f"{none} a tab"),
            (("set", "1", "\uffff"), rf"{none} .* U\+FFFF"),
            (("-q", "list", "--json"), "--quiet and --json exclude each other"),
            (("--quie", "list"), "unknown option: --quie"),
            (("--sort", "name", "list"), "unknown option: --sort"),
            (("list", "--lim", "1"), "unknown option: --lim"),
            (("list", "--\x1b[2J"), r"unknown option: --\\x1b\[2J"),
            (("add", "--from-line", "2", "Emma"), "--from-line goes with --file"),
            (("add", "--from-line", "2"), "give either TITLE or --file FILE"),
            (("del", "1", "-q", "x", "2"), "ID must be a number .*, not 'x'"),
        ):
            with self.subTest(argv):
                self.check_usage(*argv, err=err)

    def test_the_help_that_has_the_answer(self) -> None:
        dash = 'put "--" before a title that begins with a dash'
        list_only, add_only = "it goes after the command list", "it goes after the command add"
        secret = "others can see the arguments of a command: set ODOO_PASSWORD or ODOO_API_KEY"
        for argv, hint in (
            (("--limit", "3", "list"), list_only),
            (("add", "Emma", "--limit=3"), list_only),
            (("--file", "x", "add"), add_only),
            (("list", "--from-line", "x"), add_only),
            (("--password", "hunter2", "list"), secret),
            (("list", "--password", "hunter2"), secret),
            (("add", "--password=hunter2", "Emma"), secret),
            (("--sort", "name", "list"), "see library.py --help"),
            (("add",), "see library.py add --help"),
            (("del", "1", "--sort"), "see library.py del --help"),
            (("list", "-dash"), f"see library.py list --help; {dash}"),
            (("add", "-dash"), f"see library.py add --help; {dash}"),
            (("set", "1", "-dash"), f"see library.py set --help; {dash}"),
        ):
            self.check(*argv, status=2, err=re.compile(f"\nlibrary.py: {re.escape(hint)}\n$"))
            self.assertNotIn("hunter2", self.run_cli(*argv)[2])

    def test_options_between_arguments(self) -> None:
        ids = list(map(str, self.api.create_many(["Emma"] * 3)))
        self.check("del", ids[0], "-q", ids[1], "--timeout", "9", ids[2])
        self.check("set", "99", "-q", "Emma", status=1, err=re.compile("no book with ID 99"))
        self.check("set", "99", "-q", "--", "-x", status=1, err=re.compile("no book with ID 99"))
        self.check("del", "98", "-q", "--", "99", status=1, err=re.compile("with ID 98, 99"))
        self.standin.requests.clear()
        quote = 'more than one title; quote one that has spaces: "Moby Dick"'
        self.check_usage("list", "Moby", "-q", "Dick", err=quote)

    def test_ids_that_are_none(self) -> None:
        for id in ("0", "2147483648", "9" * 5000, "1.0", "+1", "1_0", "x", "", "１", "0x1", " 1"):
            for argv in (("set", id, "Emma"), ("del", "1", id), ("del", "--", id, "1")):
                self.check_usage(*argv, err="ID must be a number from 1 to 2147483647, not .+")
            error = "--limit must be a number from 1 to 2147483647, not .+"
            self.check_usage("list", "--limit", id, err=error)


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
            self.assertEqual("before a title that begins" in text, has_title)
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
