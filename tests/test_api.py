"""What LibraryAPI says by itself. Nobody listens at its address: what it asks is a ConnectError."""

from __future__ import annotations

import unittest
from typing import Any

from library_xmlrpc import ConnectError, LibraryAPI
from tests.support import unused_port

TITLES: tuple[Any, ...] = ("", " ", "a\nb", "\x1b", "\x7f", "\u2028", "\ud800", "\ufffe")
TITLES += ("\U0010ffff", None)
IDS: tuple[Any, ...] = (0, -1, 2**31, True, 1.0, "1", None)


class ArgumentTests(unittest.TestCase):
    def setUp(self) -> None:
        self.settings: dict[str, Any] = {"host": "127.0.0.1", "port": unused_port()}
        self.settings.update(db="odoo-dev", user="admin", pwd="hunter2")
        self.api = LibraryAPI(**self.settings)

    def test_nobody_listens(self) -> None:
        for call in (
            self.api.version,
            self.api.search_read,
            lambda: self.api.create("Emma"),
            lambda: self.api.write(1, "Emma"),
            lambda: self.api.unlink(1),
        ):
            self.assertRaises(ConnectError, call)

    def test_titles_that_no_server_accepts(self) -> None:
        for title in TITLES:
            with self.subTest(title):
                self.assertRaises(ValueError, self.api.create, title)
                self.assertRaises(ValueError, self.api.create_many, ["Emma", title])
                self.assertRaises(ValueError, self.api.write, 1, title)
        self.assertRaises(ValueError, self.api.search_read, "a\0b")

    def test_ids_that_no_server_accepts(self) -> None:
        for id in IDS:
            with self.subTest(id):
                self.assertRaises(ValueError, self.api.unlink, id)
                self.assertRaises(ValueError, self.api.unlink_many, [1, id])
                self.assertRaises(ValueError, self.api.write, id, "Emma")

    def test_a_limit_below_one(self) -> None:
        for limit in (0, -1):
            self.assertRaises(ValueError, self.api.search_read, limit=limit)

    def test_what_asks_nothing(self) -> None:
        self.assertEqual(self.api.create_many([]), [])
        self.assertEqual(self.api.unlink_many([]), [])

    def test_settings_that_no_server_has(self) -> None:
        for name, value in (
            *((name, text) for name in ("host", "db", "user", "pwd") for text in ("", "a\x1bb")),
            *(("port", port) for port in (0, 65536, "x")),
            ("scheme", "ftp"),
            *(("timeout", seconds) for seconds in (0, -1, float("nan"), float("inf"))),
        ):
            with self.subTest(name, value=value), self.assertRaises(ValueError) as caught:
                LibraryAPI(**{**self.settings, name: value})
            self.assertNotIn("a\x1bb", str(caught.exception))

    def test_repr_shows_no_password(self) -> None:
        shown = f"<LibraryAPI http://127.0.0.1:{self.api.port} db='odoo-dev' user='admin'>"
        self.assertEqual(repr(self.api), shown)


if __name__ == "__main__":
    unittest.main()
