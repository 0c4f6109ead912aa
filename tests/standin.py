"""A stand-in for an Odoo 14 server that has a catalogue of books: XML-RPC on SQLite.

    python3 tests/standin.py ./library.py add "Moby-Dick"

runs a command with the stand-in as its server, and keeps the books for the next one. Without a
command it serves until Ctrl-C. It protects nothing: the users and their passwords are below.

It answers as Odoo does, down to the wording of a refusal, in what a client of the catalogue uses.
What it lacks: other models, "|" and "!" in domains, the time that a login takes (25 ms), and
conflicts, because it runs one transaction at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import re
import signal
import socketserver
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import xmlrpc.client
from collections.abc import Sequence
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any, Callable, NamedTuple

MODEL = "library.book"
DATABASES: dict[str, list[str]] = {"odoo-dev": [MODEL], "odoo-empty": []}  # and their models


class User(NamedTuple):
    login: str
    password: str
    rights: frozenset[str]


EDITOR = frozenset({"read", "write", "create"})
USERS = {
    2: User("admin", "admin", EDITOR | {"unlink"}),
    6: User("clerk", "clerk", EDITOR),
    7: User("guest", "guest", frozenset()),
    8: User("twofactor", "twofactor-key", EDITOR),  # an API key: no password lets this user in
}
NOBODY = (0, 1, 3, 4, 5)  # uids for which Odoo denies access; one that it never had is an error
LOCKOUT_AFTER = 10  # failed logins in a row


# What Odoo says. The code of a fault is that of the exception, or else 1, with a traceback.


class UserError(Exception):
    code = 2


class AccessDenied(UserError):
    code = 3


class AccessError(UserError):
    code = 4


class OperationalError(Exception):
    __module__ = "psycopg2"  # which the traceback names


VERSION = {
    "server_version": "14.0",
    "server_version_info": [14, 0, 0, "final", 0, ""],
    "server_serie": "14.0",
    "protocol_version": 1,
}
NO_DATABASE = 'FATAL:  database "{}" does not exist\n'
NO_USER = "Record does not exist or has been deleted.\n(Record: res.users({0},), User: {0})"
NO_MODEL = "Object {} doesn't exist"
NO_METHOD = "type object 'library.book' has no attribute {!r}"
NO_FIELD = "Invalid field {!r} on model 'library.book'"
DENIED = "Access Denied"
LOCKED_OUT = "Too many login failures, please wait a bit before trying again."
PRIVATE = "Private methods (such as {}) cannot be called remotely."
NO_RIGHT = """You are not allowed to {} 'Book' (library.book) records.

This operation is allowed for the following groups:
{}

Contact your administrator to request access if necessary."""
VERBS = {"read": "access", "write": "modify", "create": "create", "unlink": "delete"}
ADMINISTRATORS, EDITORS = "\t- Administration/Settings", "\t- User types/Internal User"
NO_TITLE = """The operation cannot be completed:
- Create/update: a mandatory field is not set.
- Delete: another model requires the record being deleted. If possible, archive it instead.

Model: Book (library.book), Field: Title (name)"""


# The fields of the model. Each has a function that makes the column's value of the one in a call.


def _id(value: Any) -> int | None:
    if value is None or value is False:
        return None
    if type(value) is not int:
        raise ValueError(f"invalid input syntax for type integer: {value!r}")
    return value


def _char(value: Any) -> str | None:
    return None if value is None or value is False else str(value)


def _date(value: Any) -> str | None:
    return datetime.strptime(value[:10], "%Y-%m-%d").date().isoformat() if value else None


FIELDS: dict[str, Callable[[Any], Any]] = {
    "id": _id,
    "name": _char,
    "isbn": _char,
    "active": bool,
    "date_published": _date,
}
ORDER = "name, date_published desc"

LIST = "(SELECT value FROM json_each(?))"  # as one parameter: SQLite has a limit on their number
OPERATORS = {
    "=": "{} IS ?",  # with NULL as a value among others, as Odoo has it
    "!=": "{} IS NOT ?",
    **{operator: f"{{}} {operator} ?" for operator in ("<", "<=", ">", ">=")},
    **{operator: f"{{}} {operator} {LIST}" for operator in ("in", "not in")},
    **dict.fromkeys(("like", "=like"), "pg_like({}, ?)"),
    **dict.fromkeys(("ilike", "=ilike"), "pg_ilike({}, ?)"),
    **{f"not {like}": f"NOT pg_{like}({{}}, ?)" for like in ("like", "ilike")},
}


def _term(leaf: Any) -> tuple[str, Any]:
    """A leaf of a domain as SQL, and its one parameter."""
    if not (isinstance(leaf, list) and len(leaf) == 3 and leaf[1] in OPERATORS):
        raise ValueError(f"Invalid leaf {leaf}")
    field, operator, value = leaf
    if field not in FIELDS:
        raise ValueError(f"Invalid field {MODEL}.{field} in leaf {leaf}")
    column, negative = FIELDS[field], operator in ("!=", "not in", "not like", "not ilike")
    if isinstance(value, list) and operator in ("=", "!="):
        operator = "not in" if negative else "in"
    or_null = False
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise ValueError(f"Invalid domain term {leaf}")
        or_null = (False in value) != negative
        value = json.dumps([column(one) for one in value if one is not False or column is bool])
    elif "like" in operator:
        value = _char(value) or ""
        or_null = negative if value else not operator.startswith("=")
        value = value if operator.startswith("=") else f"%{value}%"
    else:
        value = column(value)
    return OPERATORS[operator].format(field) + f" OR {field} IS NULL" * or_null, value


def _order_by(order: str) -> str:
    """An order as SQL: PostgreSQL takes NULL for the largest value, and SQLite for the smallest."""
    terms = []
    for part in order.split(","):
        field, _, direction = part.strip().partition(" ")
        if field not in FIELDS:
            raise ValueError(NO_FIELD.format(field))
        down = direction.upper() == "DESC"
        terms.append(f"{field} IS NOT NULL, {field} DESC" if down else f"{field} IS NULL, {field}")
    return ", ".join(terms)


@functools.lru_cache(maxsize=64)
def _matcher(pattern: str, fold: bool) -> Callable[[str], object]:
    """A function that looks whether a text is like a pattern of PostgreSQL's LIKE."""
    wildcards = {"%": ".*", "_": "."}
    parts = re.findall(r"\\?.", _lower(pattern) if fold else pattern, re.DOTALL)
    regex = "".join(wildcards.get(part) or re.escape(part[-1]) for part in parts)
    # To search for the middle of ".*middle.*" is four times as fast as to match all of it.
    regex = rf"\A{regex}\Z".removeprefix(r"\A.*").removesuffix(r".*\Z")
    return re.compile(regex, re.DOTALL).search


def _like(text: Any, pattern: str) -> bool:
    return text is not None and _matcher(pattern, False)(str(text)) is not None


def _ilike(text: Any, pattern: str) -> bool:
    return text is not None and _matcher(pattern, True)(_lower(str(text))) is not None


def _lower(text: str) -> str:
    """Letter by letter, as PostgreSQL: a sigma that ends a word is no special case."""
    return (text if text.isascii() else text.replace("Σ", "σ").replace("İ", "i")).lower()


class Books:
    """The model, for one call: its methods are those that can be called."""

    def __init__(self, connection: sqlite3.Connection, user: User, context: Any) -> None:
        self._connection = connection
        self._user = user
        self._active_test = (context or {}).get("active_test", True)

    def create(self, vals_list: Any, /) -> int | list[int]:
        if isinstance(vals_list, dict):
            return self._create(vals_list)
        return [self._create(vals) for vals in vals_list]

    def write(self, ids: Any, /, vals: dict[str, Any]) -> bool:
        if ids:
            self._need("write")
            row = _row(vals)
            changes = ", ".join(f"{field} = ?" for field in row) or "id = id"
            sql = f"UPDATE book SET {changes} WHERE id IN {LIST}"
            self._connection.execute(sql, [*row.values(), json.dumps(_ids(ids))])
        return True

    def unlink(self, ids: Any, /) -> bool:
        if ids:
            self._need("unlink")
            sql = f"DELETE FROM book WHERE id IN {LIST}"
            self._connection.execute(sql, [json.dumps(_ids(ids))])
        return True

    def search(self, args: list[Any], *page: Any, **named: Any) -> list[int]:
        return [book["id"] for book in self._find(args, ["id"], *page, **named)]

    def search_count(self, args: list[Any]) -> int:
        return len(self.search(args))

    def search_read(
        self, domain: Any = None, fields: Any = None, *page: Any, **named: Any
    ) -> list[dict[str, Any]]:
        return self._find(domain or [], fields, *page, **named)

    def read(self, ids: Any, /, fields: list[str] | None = None) -> list[dict[str, Any]]:
        self._need("read")
        if fields == ["id"]:  # for which Odoo looks nothing up
            return [{"id": id} for id in _ids(ids)]
        books = {book["id"]: book for book in self._select([["id", "in", _ids(ids)]], fields)}
        return [books[id] for id in _ids(ids) if id in books]

    def _need(self, right: str) -> None:
        if right not in self._user.rights:
            groups = ADMINISTRATORS if right == "unlink" else f"{ADMINISTRATORS}\n{EDITORS}"
            raise AccessError(NO_RIGHT.format(VERBS[right], groups))

    def _create(self, vals: dict[str, Any]) -> int:
        self._need("create")
        row = _row({"name": False, "active": True, **vals})
        sql = f"INSERT INTO book ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
        return self._connection.execute(sql, list(row.values())).lastrowid or 0

    def _find(
        self,
        domain: list[Any],
        fields: list[str] | None,
        offset: int = 0,
        limit: int | None = None,
        order: str | None = None,
    ) -> list[dict[str, Any]]:
        self._need("read")
        if self._active_test and not any(leaf[0] == "active" for leaf in domain):
            domain = [["active", "=", True], *domain]
        if (limit or 0) < 0 or (offset or 0) < 0:
            raise ValueError("LIMIT and OFFSET must not be negative")
        page = f"ORDER BY {_order_by(order or ORDER)} LIMIT {limit or -1:d} OFFSET {offset or 0:d}"
        return self._select(domain, fields, page)

    def _select(
        self, domain: list[Any], fields: list[str] | None, page: str = ""
    ) -> list[dict[str, Any]]:
        fields = ["id", *(fields or FIELDS)]
        for field in fields:
            if field not in FIELDS:
                raise ValueError(NO_FIELD.format(field))
        terms = [_term(leaf) for leaf in domain]
        where = " AND ".join(f"({sql})" for sql, _ in terms) or "1"
        sql = f"SELECT {', '.join(fields)} FROM book WHERE {where} {page}"
        rows = self._connection.execute(sql, [value for _, value in terms])
        books = [dict(zip(fields, row)) for row in rows]
        for book in books:
            for field, value in book.items():
                if value is None or field == "active":
                    book[field] = bool(value)
        return books


def _ids(ids: Any) -> list[int | None]:
    """The ids that a call is for: one alone needs no list."""
    return [_id(one) for one in (ids if isinstance(ids, list) else [ids])]


def _row(vals: dict[str, Any]) -> dict[str, Any]:
    """The columns that a call sets."""
    for field in vals:
        if field not in FIELDS or field == "id":
            raise ValueError(NO_FIELD.format(field))
    return {field: FIELDS[field](value) for field, value in vals.items()}


class StandIn:
    """The server, on a port of 127.0.0.1, within a `with`.

    Args:
        path: of the file with the books; None keeps them in memory.
        port: 0 for a free one.

    Attributes:
        requests: what was called, in order: "version", "authenticate", a method of the model's.
        lockout_seconds: for how long nobody can log in after too many failures.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, port: int = 0) -> None:
        self.requests: list[str] = []
        self.lockout_seconds = 60.0
        self._failures: dict[str, tuple[int, float]] = {}  # by database: how many, and the last
        self._proven: set[tuple[str, int, str]] = set()
        self._lock = threading.Lock()
        with contextlib.ExitStack() as stack:
            self._server = stack.enter_context(_Server(port, self.answer))
            self._connection = stack.enter_context(contextlib.closing(_connect(path)))
            self._make_table()
            self._resources = stack.pop_all()
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        with self._lock:
            self._resources.close()

    def answer(self, service: str, body: bytes) -> bytes:
        """The reply to a request that was posted to /xmlrpc/2/SERVICE."""
        try:
            params, method = xmlrpc.client.loads(body)
            value = self._dispatch(service, method, params)
            return xmlrpc.client.dumps((value,), methodresponse=True).encode()
        except UserError as error:
            fault = xmlrpc.client.Fault(error.code, str(error))
        except Exception:
            fault = xmlrpc.client.Fault(1, traceback.format_exc())
        return xmlrpc.client.dumps(fault).encode()

    def _make_table(self) -> None:
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS book (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " name TEXT NOT NULL, isbn TEXT, active INTEGER, date_published TEXT)"
        )
        index = f"CREATE INDEX IF NOT EXISTS in_order ON book ({_order_by(ORDER)})"
        self._connection.execute(index)

    def _dispatch(self, service: str, method: str | None, params: tuple[Any, ...]) -> Any:
        if (service, method) == ("common", "version"):
            self.requests.append("version")
            return VERSION
        if (service, method) == ("common", "authenticate"):
            self.requests.append("authenticate")
            return self._authenticate(*params)
        if (service, method) == ("object", "execute_kw"):
            self.requests.append(params[4])
            return self._execute_kw(*params)
        raise NameError(f"Method not available {method}")

    def _authenticate(self, db: str, login: str, password: str, agent: object) -> int | bool:
        uid = next((uid for uid, user in USERS.items() if user.login == login), 0)
        try:
            with self._lock:
                self._log_in(db, uid, password)
        except AccessDenied:
            return False
        return uid

    def _log_in(self, db: str, uid: int, password: str) -> None:
        if db not in DATABASES:
            raise OperationalError(NO_DATABASE.format(db))
        if not password:
            raise AccessDenied(DENIED)
        failures, last = self._failures.get(db, (0, 0.0))
        if failures >= LOCKOUT_AFTER and time.monotonic() - last < self.lockout_seconds:
            raise AccessDenied(LOCKED_OUT)
        if uid not in USERS and uid not in NOBODY:
            raise UserError(NO_USER.format(uid))
        if uid in NOBODY or password != USERS[uid].password:
            self._failures[db] = failures + 1, time.monotonic()
            raise AccessDenied(DENIED)
        self._failures.pop(db, None)

    def _execute_kw(
        self,
        db: str,
        uid: Any,
        password: str,
        model: str,
        method: str,
        args: list[Any],
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        with self._lock, self._connection:  # which commits, or rolls back
            login = (db, int(uid), password)
            if login not in self._proven:  # Odoo remembers these, also through a lock-out
                self._log_in(*login)
                self._proven.add(login)
            if method.startswith("_") or method == "init":
                raise AccessError(PRIVATE.format(method))
            if model not in DATABASES[db]:
                raise UserError(NO_MODEL.format(model))
            books = Books(self._connection, USERS[int(uid)], kwargs.pop("context", None))
            if not hasattr(books, method):
                raise AttributeError(NO_METHOD.format(method))
            self._connection.execute("BEGIN")
            try:
                return getattr(books, method)(*args, **kwargs)
            except sqlite3.IntegrityError as error:
                raise UserError(NO_TITLE) from error


def _connect(path: str | os.PathLike[str] | None) -> sqlite3.Connection:
    """A database in a file or in memory, whose transactions begin with BEGIN alone."""
    name = ":memory:" if path is None else os.fspath(path)
    connection = sqlite3.connect(name, timeout=60, isolation_level=None, check_same_thread=False)
    connection.create_function("pg_like", 2, _like)
    connection.create_function("pg_ilike", 2, _ilike)
    return connection


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0, as Odoo 14: a connection is closed after its reply."""

    wbufsize = -1  # a reply leaves as a whole

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        service = re.fullmatch(r"/xmlrpc/2/(common|object)/?(\?.*)?", self.path)
        if not service:
            self.send_error(404)
            return
        reply = self.server.answer(service[1], body)
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def do_GET(self) -> None:
        self.send_error(405 if self.path.startswith("/xmlrpc/2/") else 404)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: `StandIn.requests` is the log."""


class _Server(socketserver.ThreadingTCPServer):
    """Not http.server's, which looks up its host's name; that takes long where there is no DNS."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, answer: Callable[[str, bytes], bytes]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answer = answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of clients that leave before their answer comes there is nothing to say."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    port = args.port if args.port is not None else 0 if command else 8069
    try:
        os.makedirs(os.path.dirname(os.path.abspath(args.data)), exist_ok=True)
        standin = StandIn(args.data, port)
    except (OSError, OverflowError, sqlite3.Error) as error:
        return _fail(2, f"cannot serve {args.data} on port {port}: {error}")
    with standin:
        return _run(command, standin.url) if command else _serve(standin, args.data)


def _parser() -> argparse.ArgumentParser:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parser = argparse.ArgumentParser(
        prog="standin.py",
        usage="%(prog)s [-h] [--data FILE] [--port N] [COMMAND ...]",
        description="A stand-in for an Odoo server with a catalogue of books. COMMAND is run with "
        "the settings (ODOO_URL and others) by which library.py finds it, and its exit status is "
        "passed on. Without COMMAND, the stand-in serves until Ctrl-C.",
        epilog="example: %(prog)s ./library.py add Moby-Dick",
        allow_abbrev=False,
    )
    path = os.path.join(cache, "library-standin", "books.sqlite")
    parser.add_argument(
        "--data", metavar="FILE", default=path, help="keep the books there (default: %(default)s)"
    )
    parser.add_argument(
        "--port", metavar="N", type=int, help="default: a free one for COMMAND, otherwise 8069"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _fail(status: int, message: str) -> int:
    print(f"standin.py: error: {message}", file=sys.stderr)
    return status


def _run(command: list[str], url: str) -> int:
    """Run a command that finds the server, and give its exit status as a shell does."""
    environ = dict(os.environ, ODOO_URL=url, ODOO_DB="odoo-dev")
    environ.update(ODOO_USER="admin", ODOO_PASSWORD="admin")
    for name in ("ODOO_API_KEY", "ODOO_PROFILE", "ODOO_TIMEOUT"):
        environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C reaches the command too, which decides. It would inherit SIG_IGN, but no handler.
        signal.signal(signal.SIGINT, lambda *_: None)
    with tempfile.TemporaryDirectory() as cache:  # what it remembers of this port is no use later
        try:
            process = subprocess.Popen(command, env={**environ, "XDG_CACHE_HOME": cache})
        except FileNotFoundError:
            return _fail(127, f"{command[0]}: command not found")
        except OSError as error:
            return _fail(126, f"{command[0]}: {error.strerror}")
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        status = process.wait()
    return status if status >= 0 else 128 - status


def _serve(standin: StandIn, path: str) -> int:
    settings = "" if standin.port == 8069 else f"ODOO_URL={standin.url} ODOO_PASSWORD=admin "
    print(
        f"Serving {standin.url}: database odoo-dev, user admin, password admin.\n"
        f"The books are in {path}. Ctrl-C stops this.\n"
        f"In another terminal: {settings}./library.py list",
        file=sys.stderr,
    )
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
