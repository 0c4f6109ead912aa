"""What LibraryAPI promises, on the stand-in, and on a real Odoo where ODOO_TEST_URL names one.

The real one needs what `tests/real_odoo` sets up: databases odoo-dev, with the module of the
books, and odoo-empty, without; the users admin, and clerk, who may not delete.
"""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
import threading
import unittest
import urllib.request
import uuid
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from library_xmlrpc import (
    BookNotFoundError,
    ConnectError,
    LibraryAPI,
    LoginError,
    ServerError,
    UnknownOutcomeError,
)
from tests import library_json2
from tests.proxy import Proxy, lose_reply
from tests.replies import http, sends
from tests.standin import MODEL, StandIn
from tests.support import enter

URL = os.environ.get("ODOO_TEST_URL", "")
NO_ID = 2**31 - 1  # which no book ever gets here


class Contract(unittest.TestCase):
    """The tests. `url` is set by the classes below, one for each server."""

    url: str
    backend: type[LibraryAPI] = LibraryAPI
    passwords: dict[str, str] = {}  # of users who have another than their name
    login = "authenticate"  # the call that asks for the uid

    def api(
        self, user: str = "admin", pwd: str = "", db: str = "odoo-dev", **kwargs: Any
    ) -> LibraryAPI:
        parts = urlsplit(kwargs.pop("url", self.url))
        pwd = pwd or self.passwords.get(user, user)
        return self.backend(parts.hostname or "", parts.port or 0, db, user, pwd, **kwargs)

    def setUp(self) -> None:
        self.catalogue = self.api()
        self.mark = uuid.uuid4().hex  # in the titles of this test's books alone
        self.addCleanup(self.delete_books)

    def delete_books(self) -> None:
        self.execute("unlink", self.search())

    def execute(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method as the administrator, past the API."""
        server = xmlrpc.client.ServerProxy(f"{self.url}/xmlrpc/2/object", allow_none=True)
        return server.execute_kw("odoo-dev", 2, "admin", "library.book", method, args, kwargs)

    def search(self) -> list[int]:
        domain = [["name", "ilike", self.mark]]
        ids: list[int] = self.execute("search", domain, context={"active_test": False})
        return ids

    def titles(self) -> list[str]:
        return [book["name"] for book in self.catalogue.search_read(self.mark)]

    # Reading

    def test_version_needs_no_login(self) -> None:
        version = self.api(user="nobody", db="no-such").version()
        self.assertRegex(version["server_version"], r"^[0-9]+\.")

    def test_uid(self) -> None:
        self.assertEqual(self.catalogue.uid, 2)

    def test_search_read(self) -> None:
        self.assertEqual(self.catalogue.search_read(self.mark), [])
        book = {"id": self.catalogue.create(f"Emma {self.mark}"), "name": f"Emma {self.mark}"}
        self.assertEqual(self.catalogue.search_read(self.mark), [book])
        for title in (None, ""):
            self.assertIn(book, self.catalogue.search_read(title))

    def test_a_search_is_literal_but_for_case(self) -> None:
        titles = ("100%", "100x", "a_b", "axb", r"a\b", "ab", r"\_", "ÉMILE")
        self.catalogue.create_many([f"{title} {self.mark}" for title in titles])
        for text, title in (
            ("0%", "100%"),
            ("a_b", "a_b"),
            (r"a\b", r"a\b"),
            (r"\_", r"\_"),
            ("émile", "ÉMILE"),
        ):
            books = self.catalogue.search_read(f"{text} {self.mark}")
            self.assertEqual([book["name"] for book in books], [f"{title} {self.mark}"])

    def test_limit(self) -> None:
        self.catalogue.create_many([f"{number:04} {self.mark}" for number in range(2100)])
        for limit in (1, 999, 1000, 1001, 2099, 2100, 5000):
            books = self.catalogue.search_read(self.mark, limit)
            expected = [f"{number:04} {self.mark}" for number in range(min(limit, 2100))]
            self.assertEqual([book["name"] for book in books], expected)

    def test_listing_while_others_write(self) -> None:
        """Books that are there all the time are listed once each, in the server's order."""
        ids = self.catalogue.create_many([f"m{n:05} {self.mark}" for n in range(4000)])
        doomed, others = set(ids[5::7]), self.api()
        stop = threading.Event()

        def write() -> None:
            for number, id in enumerate(sorted(doomed, reverse=True)):
                others.unlink(id)
                others.create_many([f"{letter}{number} {self.mark}" for letter in "az"])
                if stop.is_set():
                    return

        listed = self.catalogue.iter_books(self.mark)
        given = [next(listed)["id"]]
        with ThreadPoolExecutor() as pool:
            writing = pool.submit(write)
            given += [book["id"] for book in listed]
            stop.set()
        writing.result()
        self.assertEqual(len(given), len(set(given)))
        kept = set(ids) - doomed
        self.assertEqual([id for id in given if id in kept], [id for id in ids if id in kept])

    # Writing

    def test_create_many(self) -> None:
        """It gives the ids in the order of the titles; a listing has the server's order."""
        texts = ("Persuasion", "Emma", "<&>\"'", "Ω 漢字 🐳", "  spaces ", "\u202eabc")
        titles = [f"{self.mark} {text}" for text in texts]
        ids = self.catalogue.create_many(titles)
        self.assertEqual([row["name"] for row in self.execute("read", ids, ["name"])], titles)
        listed = [book["id"] for book in self.catalogue.search_read(self.mark)]
        self.assertEqual(listed, self.execute("search", [["name", "ilike", self.mark]]))
        self.assertNotEqual(listed, ids)

    def test_write_and_unlink(self) -> None:
        for active in (True, False):  # archived books too can be set and deleted
            id = self.catalogue.create(f"Emma {self.mark}")
            self.execute("write", [id], {"active": active})
            self.assertEqual(self.titles(), [f"Emma {self.mark}"] * active)
            self.assertIs(self.catalogue.write(id, f"Emilia {self.mark}"), True)
            self.assertEqual(self.execute("read", [id], ["name"])[0]["name"], f"Emilia {self.mark}")
            self.assertIs(self.catalogue.unlink(id), True)
            self.assertEqual(self.search(), [])

    def test_missing_books(self) -> None:
        for change in (self.catalogue.unlink, lambda id: self.catalogue.write(id, "Emma")):
            with self.assertRaises(BookNotFoundError) as caught:
                change(NO_ID)
            self.assertEqual(caught.exception.ids, [NO_ID])

    def test_unlink_many_gives_those_that_existed(self) -> None:
        first, second = self.catalogue.create_many([f"Emma {self.mark}"] * 2)
        self.assertEqual(
            self.catalogue.unlink_many([second, NO_ID, first, second]), [second, first]
        )
        self.assertEqual(self.search(), [])
        self.assertEqual(self.catalogue.unlink_many([first]), [])
        self.assertEqual(self.catalogue.unlink_many([]), [])
        self.assertEqual(self.catalogue.create_many([]), [])

    # Refusals

    def test_no_such_login(self) -> None:
        for login, reason in (
            ({"pwd": "wrong"}, "wrong .*password"),
            ({"user": "nobody"}, "wrong .*password"),
            ({"db": "no-such"}, "no-such"),
        ):
            with self.subTest(login), self.assertRaisesRegex(LoginError, reason):
                self.api(**login).create("Emma")
            self.api().search_read(self.mark)  # which forgives the failure

    def test_a_user_who_may_not_delete(self) -> None:
        clerk = self.api(user="clerk")
        id = clerk.create(f"Emma {self.mark}")
        clerk.write(id, f"Emilia {self.mark}")
        with self.assertRaisesRegex(ServerError, "not allowed to delete") as caught:
            clerk.unlink(id)
        self.assertNotIsInstance(caught.exception, BookNotFoundError)
        self.assertEqual(caught.exception.code, 4)
        self.assertNotIn("\n", str(caught.exception))
        self.assertEqual(self.search(), [id])

    def test_a_server_without_the_module(self) -> None:
        api = self.api(db="odoo-empty")
        for call in (api.search_read, lambda: api.create("Emma"), lambda: api.unlink(1)):
            with self.assertRaisesRegex(ServerError, "library.book doesn't exist") as caught:
                call()
            self.assertIn("install the library_app module", caught.exception.hint)

    def test_zz_a_lock_out_is_not_hammered(self) -> None:
        """Odoo lets nobody in for a minute after several failures in a row.

        It does so for a database as a whole; this is the last test by its name.
        """
        if self.catalogue.version()["server_version_info"][0] >= 19:
            self.skipTest("Odoo 19 does not say so")
        wrong = self.api(pwd="wrong", db="odoo-empty", uid_cache=self.cache("2"))
        with Proxy(self.url) as proxy:
            wrong.host, wrong.port = proxy.address
            for _ in range(10):
                proxy.calls.clear()
                with self.assertRaises(LoginError) as caught:
                    wrong.create("Emma")
                if "Too many login failures" in str(caught.exception):
                    break
            else:
                self.fail("not locked out")
            self.assertIn("wait a minute", caught.exception.hint)
            self.assertEqual(proxy.calls, ["create"])

    # Replies that the server can't write

    def test_a_change_is_made_whose_reply_cannot_be_written(self) -> None:
        id = self.catalogue.create(f"Emma {self.mark}")
        title = f"A forgetful {self.mark}"
        with self.assertRaises(UnknownOutcomeError):
            self.catalogue.write(id, title)
        self.assertEqual(self.titles(), [title])
        with self.assertRaises(UnknownOutcomeError):
            self.catalogue.unlink(id)
        self.assertEqual(self.search(), [])

    # The remembered uid

    def cache(self, content: str | None = None) -> str:
        """The path of a cache file with this content, or of none yet."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "library", "uid")
        if content is not None:
            os.mkdir(os.path.dirname(path))
            with open(path, "w", encoding="latin-1") as file:
                file.write(content)
        return path

    def calls(self, uid_cache: str | None) -> list[str]:
        """What a search asks the server for."""
        with Proxy(self.url) as proxy:
            api = self.api(url=proxy.url, uid_cache=uid_cache)
            api.search_read(self.mark)
            self.assertEqual(api.uid, 2)
            return proxy.calls

    def test_a_remembered_uid_saves_the_login(self) -> None:
        stale = ("1", "9999", "6")  # the system's, nobody's, and another user's
        spoilt = ("", "x", "0", "-1", "2.0", "None", "9" * 99, "\xff\0")
        for content in (None, *stale, *spoilt):
            with self.subTest(content):
                path, tried = self.cache(content), ["search_read"] * (content in stale)
                self.assertEqual(self.calls(path), [*tried, "authenticate", "search_read"])
                self.assertEqual(self.calls(path), ["search_read"])
                self.assertEqual(os.listdir(os.path.dirname(path)), ["uid"])
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
                with open(path) as file:
                    self.assertEqual(file.read(), "2\n")

    def test_no_cache_or_one_that_cannot_be_written(self) -> None:
        for path in (None, None, "/dev/null/uid", os.path.dirname(self.cache(""))):
            self.assertEqual(self.calls(path), ["authenticate", "search_read"])

    def test_a_cache_without_a_folder(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(os.path.dirname(self.cache("")))
        self.assertEqual(self.calls("x"), ["authenticate", "search_read"])
        self.assertEqual(self.calls("x"), ["search_read"])

    def test_a_cache_is_replaced_as_a_whole(self) -> None:
        path = self.cache("9999")
        with open(path) as reader:  # which began before, and still has the old one
            self.calls(path)
            self.assertEqual(reader.read(), "9999")

    def test_a_wrong_password_with_a_remembered_uid(self) -> None:
        """It is tried twice: the server does not say which of the two is wrong."""
        with Proxy(self.url) as proxy:
            api = self.api(url=proxy.url, pwd="wrong", uid_cache=self.cache("2"))
            with self.assertRaisesRegex(LoginError, "wrong user or password"):
                api.create("Emma")
            self.assertEqual(proxy.calls, ["create", "authenticate"])
        self.api().search_read(self.mark)  # which forgives the failure

    def test_a_stale_uid_makes_no_change_twice(self) -> None:
        with Proxy(self.url) as proxy:
            api = self.api(url=proxy.url, uid_cache=self.cache("9999"))
            ids = api.create_many([f"Emma {self.mark}"] * 2)
            self.assertEqual(proxy.calls, ["create", "authenticate", "create"])
        self.assertEqual(sorted(self.search()), ids)

    def test_a_fault_that_is_not_the_uids_stands(self) -> None:
        id = self.catalogue.create(f"Emma {self.mark}")
        path = self.cache(str(self.api("clerk").uid))
        with Proxy(self.url) as proxy:
            clerk = self.api("clerk", url=proxy.url, uid_cache=path)
            with self.assertRaisesRegex(ServerError, "not allowed to delete"):
                clerk.unlink(id)
            self.assertEqual(proxy.calls, ["search", "unlink"])

    def test_two_at_once_share_a_cache(self) -> None:
        path = self.cache()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.calls, [path] * 8))
        self.assertEqual(self.calls(path), ["search_read"])

    # Sent once

    def test_a_lost_reply(self) -> None:
        """A change has been made, exactly once, and the client does not say that it failed."""
        kept, doomed = self.catalogue.create_many([f"Emma {self.mark}", f"Evelina {self.mark}"])
        with Proxy(self.url) as proxy:
            api = self.api(url=proxy.url)
            for method, call, error in (
                ("version", api.version, ConnectError),
                (self.login, lambda: api.uid, ConnectError),
                ("search_read", api.search_read, ConnectError),
                ("search", lambda: api.write(kept, "Emilia"), ConnectError),
                ("search", lambda: api.unlink(kept), ConnectError),
                ("create", lambda: api.create(f"Moby-Dick {self.mark}"), UnknownOutcomeError),
                ("create", lambda: api.create_many([self.mark] * 3), UnknownOutcomeError),
                ("write", lambda: api.write(kept, f"Emilia {self.mark}"), UnknownOutcomeError),
                ("unlink", lambda: api.unlink(doomed), UnknownOutcomeError),
            ):
                with self.subTest(method), proxy.answering(method, lose_reply):
                    self.assertRaises(error, call)
                    self.assertEqual(proxy.calls.count(method), 1)
        titles = [f"Emilia {self.mark}", f"Moby-Dick {self.mark}", *[self.mark] * 3]
        self.assertCountEqual(self.titles(), titles)


class StandInTests(Contract):
    @classmethod
    def setUpClass(cls) -> None:
        cls.url = enter(cls, StandIn()).url

    def test_it_says_what_it_does_not_know(self) -> None:
        domain = [["name", "ilike", self.mark]]
        for method, args, kwargs in (
            ("copy", (1,), {}),
            ("_select", (domain, ["name"]), {}),
            ("search", (domain,), {"order": "id"}),
            ("search", (domain,), {"limit": 0}),
            ("search", (domain,), {"context": {"lang": "de_DE"}}),
            ("search", ([["name", "=", self.mark]],), {}),
            ("search", ([["name", "ilike", False]],), {}),
            ("search", (["|", *domain, *domain],), {}),
            ("search_read", (domain,), {"fields": ["isbn"]}),
            ("read", (1, ["name"]), {}),
            ("create", ({"active": True},), {}),
            ("write", ([1], {"isbn": "1"}), {}),
            ("unlink", ([1.0],), {}),
        ):
            with self.subTest(method, args=args, kwargs=kwargs):
                with self.assertRaises(xmlrpc.client.Fault) as caught:
                    self.execute(method, *args, **kwargs)
                last = caught.exception.faultString.splitlines()[-1]
                self.assertRegex(last, "^NotImplementedError: the stand-in does not know .")


def post(url: str, service: str, method: str, *params: Any) -> bytes:
    """The server's reply to a call, as it came."""
    body = xmlrpc.client.dumps(params, method).encode()
    headers = {"Content-Type": "text/xml"}
    request = urllib.request.Request(f"{url}/xmlrpc/2/{service}", body, headers)
    with urllib.request.urlopen(request) as response:
        reply: bytes = response.read()
        return reply


@unittest.skipUnless(URL, "ODOO_TEST_URL names no server")
class RealOdooTests(Contract):
    url = URL

    def test_an_error_of_the_database(self) -> None:
        """Of all that PostgreSQL says, people read the exception's own line."""
        with self.assertRaisesRegex(ServerError, r"^psycopg2\..*LIMIT must not be negative$"):
            self.catalogue._execute("search", [[]], {"limit": -1}, list)

    def test_the_stand_in_answers_with_the_same_octets(self) -> None:
        id, version = self.catalogue.create("Emma") + 1, os.environ["ODOO_TEST_VERSION"]
        self.catalogue.unlink(id - 1)
        mine, gone = [["name", "ilike", self.mark]], {"active_test": False}
        execute_kw = ("object", "execute_kw")
        calls: list[tuple[Any, ...]] = [
            ("create", {"name": rf"ÉMILE ΣΟΦΟΣ <&>\"' 100%_\ {self.mark}"}),
            ("create", [{"name": f"{name} {self.mark}"} for name in "ba"]),
            ("create", []),
            ("write", [id], {"name": f"Émile ςοφος 100%_\\ {self.mark}"}),
            ("write", [id + 1, NO_ID], {"active": False}),
            ("search", mine),
            ("search", mine, {"limit": 2}),
            ("search", mine, {"context": gone}),
            ("search", [*mine, ["active", "=", False]]),
            ("search", [["id", "in", [NO_ID, id + 2, id]]], {"context": gone}),
            ("search", [["id", "in", []]]),
            *(
                ("search", [["name", "ilike", f"{text} {self.mark}"]])
                for text in ("éMILE", "%100", r"100\%\_\\", r"\_", "___%", "ΣΟΦΟΣ%", "σοφος%")
            ),
            ("search_read", mine, {"fields": ["name"]}),
            ("search_read", mine, {"fields": ["name"], "limit": 1}),
            ("search_read", [["id", "in", [NO_ID]]], {"fields": ["name"]}),
            ("read", [id + 2, NO_ID, id + 1, id], ["name"]),
            ("read", [NO_ID], ["id"]),
            ("unlink", [NO_ID, id, id + 1, id + 2]),
            ("unlink", []),
        ]
        requests: list[tuple[Any, ...]] = [
            ("common", "version"),
            ("common", "authenticate", "odoo-dev", "admin", "wrong", {}),
            ("common", "authenticate", "odoo-dev", "admin", "admin", {}),
        ]
        for method, *args in calls:
            kwargs = args.pop() if method.startswith("search") and len(args) > 1 else {}
            requests.append((*execute_kw, "odoo-dev", 2, "admin", MODEL, method, args, kwargs))
        if version == "14":  # 19 says it in other words
            for login in (
                ("odoo-dev", 6, "clerk"),
                ("odoo-dev", 1, "admin"),
                ("odoo-dev", False, "admin"),
                ("odoo-dev", 9999, "admin"),
                ("odoo-dev", 2, ""),
                ("odoo-empty", 2, "admin"),
            ):
                requests.append((*execute_kw, *login, MODEL, "unlink", [[NO_ID]], {}))
        with StandIn(version=f"{version}.0") as standin:
            standin._connection.execute("INSERT INTO sqlite_sequence VALUES ('book', ?)", [id - 1])
            for request in requests:
                with self.subTest(request):
                    self.assertEqual(post(standin.url, *request), post(self.url, *request))


@unittest.skipUnless(
    URL and importlib.util.find_spec("odoorpc"),
    "ODOO_TEST_URL names no server, or OdooRPC is not installed",
)
class OdooRPCTests(Contract):
    url = URL

    @classmethod
    def setUpClass(cls) -> None:
        from tests.library_odoorpc import LibraryAPI

        cls.backend = LibraryAPI

    @unittest.skip("it would lock out the other tests on this server")
    def test_zz_a_lock_out_is_not_hammered(self) -> None: ...

    def test_no_redirection_is_followed(self) -> None:
        with Proxy(self.url) as proxy:
            reply = http(b"", "302 Found", (f"Location: {proxy.url}/jsonrpc",))
            with proxy.answering("version", sends(reply)):
                with self.assertRaisesRegex(ConnectError, "HTTP 302"):
                    self.api(url=proxy.url).version()
                self.assertEqual(proxy.calls, ["version"])


@unittest.skipUnless(
    URL and int(os.environ.get("ODOO_TEST_VERSION", "0")) >= 19, "no server, or one without JSON-2"
)
class JSON2Tests(Contract):
    url = URL
    backend = library_json2.LibraryAPI
    passwords = {
        user: os.environ.get(f"ODOO_TEST_KEY_{user.upper()}", "") for user in ("admin", "clerk")
    }
    login = "context_get"

    def setUp(self) -> None:
        if re.search("lock_out|remembered|stale|cache", self._testMethodName):
            self.skipTest("JSON-2 has no login, so none to refuse or to remember")
        super().setUp()

    @mock.patch("library_xmlrpc.MODEL", "library.shelf")
    def test_a_server_without_the_module(self) -> None:
        """Here it is one without another: the users have no key to the database without any."""
        api = self.catalogue
        for call in (api.search_read, lambda: api.create("Emma"), lambda: api.unlink(1)):
            with self.assertRaisesRegex(ServerError, "'library.shelf' does not exist") as caught:
                call()
            self.assertEqual(caught.exception.code, 2)
            self.assertIn("install the library_app module", caught.exception.hint)

    def test_a_password_is_no_key(self) -> None:
        for pwd in ("admin", "schlüssel", "鍵"):
            with self.assertRaises(LoginError) as caught:
                self.api(pwd=pwd).create("Emma")
            self.assertIn("nothing but an API key", caught.exception.hint)

    def test_what_fails_after_the_commit(self) -> None:
        """It has any status, and the change is made. What fails before it is rolled back."""
        late = "def refuse():\n    raise UserError('late')\nenv.cr.postcommit.add(refuse)"
        for code, error, made in (
            ("env.cr.postcommit.add(lambda: 1 / 0)", UnknownOutcomeError, True),
            (late, UnknownOutcomeError, True),
            ("env.cr.precommit.add(lambda: 1 / 0)", ServerError, False),
            ("raise UserError('in time')", ServerError, False),
            ("action = {(): 'no name that JSON can write'}", ServerError, False),
        ):
            with self.subTest(code), self.assertRaisesRegex(error, "zero|late|in time|keys must"):
                self.run_code(f"env['{MODEL}'].create({{'name': '{self.mark}'}})\n{code}")
            self.assertEqual(self.titles(), [self.mark] * made)
            self.delete_books()

    def run_code(self, code: str) -> None:
        """Run Python on the server, as a change."""

        def call(model: str, method: str, **kwargs: Any) -> Any:
            params, asked = (model, method, (), kwargs), UnknownOutcomeError
            return self.catalogue._call("object", "execute_kw", params, lambda value: value, asked)

        (model,) = call("ir.model", "search", domain=[["model", "=", MODEL]])
        values = {"name": self.mark, "model_id": model, "state": "code", "code": code}
        ids = call("ir.actions.server", "create", vals_list=[values])
        self.addCleanup(call, "ir.actions.server", "unlink", ids=ids)
        call("ir.actions.server", "run", ids=ids)


del Contract  # which has no server of its own


if __name__ == "__main__":
    unittest.main()
