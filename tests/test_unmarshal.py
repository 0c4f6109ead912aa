"""A reply is read in two ways, by a pattern and by a parser, with the same result.

The pattern may leave any reply to the parser. What it reads, the parser reads as the same value,
apart from characters that no parser takes, or takes as they are.
"""

from __future__ import annotations

import random
import tracemalloc
import unittest
import xmlrpc.client
from typing import Any
from xml.parsers.expat import ExpatError

from library_xmlrpc import MAX_REPLY, NEXT_PAGES, _unmarshal, _unmarshal_rows

BOOKS = [{"id": 1, "name": "Émile & <Zola>"}, {"id": 1000000000, "name": "\t🐳\n"}]
IDS = [3, 20, 100, 1999999999]

# Bytes and pieces that mean something to a parser, or that it refuses.
BYTES = [bytes([byte]) for byte in b"\0\t\n\r\x0b\x1f\x7f\x80\xc3\xed\xff <>&;\"'-]0915a"]
PIECES = (
    *(b"<!---->", b"<![CDATA[a]]>", b"<?a?>", b"]]>", b"&#65;", b"&#x0;", b"&quot;", b"&amp;"),
    *(b"&a;", b"&lt", b"<a/>", b"</data>", b"</array></value>", b"<value><int>5</int></value>\n"),
    *(b"\xed\xa0\x80", b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80"),
    *(b"\xc0\xbc", b" encoding='latin-1'", b"<!DOCTYPE a>", b"\xe2\x80\xa8", b"\xc2\x85"),
)

# Characters that XML can't carry, or that a parser changes, and stand-ins that it leaves alone.
UNREADABLE = [*(chr(code) for code in range(32) if chr(code) not in "\t\n"), "\ufffe", "\uffff"]
READABLE = {ord(character): 0xE000 + number for number, character in enumerate(UNREADABLE)}
BACK = {code: original for original, code in READABLE.items()}


def reply(value: Any, odoo: int = 14) -> bytes:
    """A reply as Odoo 14 or 19 writes it."""
    text = xmlrpc.client.dumps((value,), methodresponse=True)
    if odoo == 19:
        text = text.replace("'1.0'", '"1.0"').replace("</params>\n", "</params>\n\n")
    return text.encode()


def translated(row: Any) -> Any:
    return {**row, "name": row["name"].translate(BACK)} if isinstance(row, dict) else row


class UnmarshalTests(unittest.TestCase):
    def check(self, body: bytes) -> bool:
        """Whether the pattern reads a reply; if so, the parser must read the same."""
        rows = None
        try:
            rows = _unmarshal_rows(bytearray(body))
        except UnicodeDecodeError:
            self.assertRaises(ExpatError, xmlrpc.client.loads, body)
        if rows is not None:
            readable = body.decode().translate(READABLE)
            value: Any = xmlrpc.client.loads(readable)[0][0]
            self.assertEqual(repr(list(rows)), repr([translated(row) for row in value]), body)
        return rows is not None

    def test_what_odoo_writes(self) -> None:
        alphabet = [*"aÄ漢🐳 \t\n<>&;'\"]-\x7f\x85\u2028\ufffd\U0010fffd", "&lt;", "&amp;amp;"]
        chance = random.Random(1)
        for odoo in (14, 19):
            self.assertTrue(self.check(reply([], odoo)))
            for count in (*range(1, 30), 100, 300):
                titles = ("".join(chance.choices(alphabet, k=count % 9)) for _ in range(count))
                books = [{"id": chance.randrange(1, 2 * 10**9), "name": title} for title in titles]
                self.assertTrue(self.check(reply(books, odoo)))
                self.assertTrue(self.check(reply([book["id"] for book in books], odoo)))

    def test_titles_that_no_parser_reads(self) -> None:
        """Another client stored them. Odoo writes them as they are, and they hide no other book."""
        for odoo in (14, 19):
            for character in UNREADABLE:
                books = [{"id": 1, "name": f"a{character}b"}, {"id": 2, "name": "Emma"}]
                rows: Any = _unmarshal(bytearray(reply(books, odoo)))
                self.assertEqual(list(rows), books)

    def test_a_long_title(self) -> None:
        """It takes little memory, and a page of long ones fits into a reply."""
        body = bytearray(reply([{"id": 1, "name": "&" * 200_000}]))
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertTrue(_unmarshal_rows(body))
        self.assertLess(tracemalloc.get_traced_memory()[1], 5 * len(body))
        long = [{"id": 10**8, "name": "&" * 3000}]
        self.assertLess(len(reply(long)) * NEXT_PAGES, MAX_REPLY)

    def test_other_values_are_left_to_the_parser(self) -> None:
        values: tuple[Any, ...] = (
            *(True, 1, "1", {"id": 1, "name": "a"}, [[]], [True], ["1"], [-1], [1.0], [1, "1"]),
            *([0], [2 * 10**9], [{"id": 1}], [{"name": "a", "id": 1}], [{"id": 1, "name": False}]),
            *([{"id": 1, "name": "a", "isbn": ""}], [{"id": "1", "name": "a"}], [*BOOKS, 1]),
        )
        for value in values:
            with self.subTest(value):
                self.assertFalse(self.check(reply(value)))
                self.assertEqual(repr(_unmarshal(bytearray(reply(value)))), repr(value))

    def test_broken_at_each_byte(self) -> None:
        read = total = 0
        for body in (reply(value, 19) for value in (BOOKS, IDS)):
            for at in range(len(body) + 1):
                before, after = body[:at], body[at:]
                broken = [before, after, before + after[1:]]
                broken += [before + byte + after[1:] for byte in BYTES]
                broken += [before + piece + after for piece in PIECES]
                read += sum(map(self.check, broken))
                total += len(broken)
        self.assertGreater(read, 500)
        self.assertGreater(total - read, 10_000)
