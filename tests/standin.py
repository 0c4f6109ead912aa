"""A stand-in for an Odoo server that has a catalogue of books: XML-RPC on SQLite.

    python3 tests/standin.py ./library.py add "Moby-Dick"

runs a command with the stand-in as its server, and keeps the books for the next one. Without a
command it serves until Ctrl-C. It protects nothing: the users and their passwords are below.

To the calls that a client of the catalogue makes it answers as Odoo 14 does, octet for octet, but
for the tracebacks; to any other it says that it does not know it. It logs in in no time, where Odoo
takes 25 ms, and has no conflicts, because it runs one transaction at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import signal
import socketserver
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any, Callable
from xmlrpc.client import Fault, dumps, loads

MODEL = "library.book"
DATABASES: dict[str, list[str]] = {"odoo-dev": [MODEL], "odoo-empty": []}  # and their models
ADMIN, CLERK = 2, 6
USERS = {ADMIN: ("admin", "admin"), CLERK: ("clerk", "clerk")}  # uids, logins, passwords
NOBODY = (0, 1, 3, 4, 5)  # uids for which Odoo denies access; one that it never had is an error
LOCKOUT_AFTER, LOCKOUT_SECONDS = 10, 60.0  # failed logins in a row


class OperationalError(Exception):
    __module__ = "psycopg2"  # which a traceback names


NO_DATABASE = 'FATAL:  database "{}" does not exist\n'
NO_USER = "Record does not exist or has been deleted.\n(Record: res.users({0},), User: {0})"
NO_MODEL = "Object {} doesn't exist"
LOCKED_OUT = "Too many login failures, please wait a bit before trying again."
MAY_NOT_UNLINK = """You are not allowed to delete 'Book' (library.book) records.

This operation is allowed for the following groups:
\t- Administration/Settings

Contact your administrator to request access if necessary."""


def _unknown(what: str) -> NotImplementedError:
    return NotImplementedError(f"the stand-in does not know {what}")


# What it knows: values of fields, and leaves of domains as SQL, both by type.
VALUES = {"name": str, "active": bool}
LIST = "(SELECT value FROM json_each(?))"  # as one parameter: SQLite has a limit on their number
LEAVES = {
    ("name", "ilike", str): r"lower(name) LIKE '%' || lower(?) || '%' ESCAPE '\'",
    ("id", "in", list): f"id IN {LIST}",
    ("active", "=", bool): "active = ?",
}
FORGETFUL = "forgetful"  # see tests/addons


class Books:
    """The model, for one call: its public methods are those that can be called."""

    def __init__(self, connection: sqlite3.Connection, uid: int, active_test: Any = True) -> None:
        self._connection = connection
        self._uid = uid
        self._active_test = active_test

    def create(self, vals_list: Any, /) -> int | list[int]:
        if isinstance(vals_list, list):
            return [self._create(vals) for vals in vals_list]
        return self._create(vals_list)

    def write(self, ids: Any, vals: Any, /) -> bool | None:
        changes = ", ".join(f"{field} = ?" for field in _checked(vals))
        sql = f"UPDATE book SET {changes} WHERE id IN {LIST}"
        self._connection.execute(sql, [*vals.values(), _json(ids)])
        return None if FORGETFUL in vals.get("name", "") else True

    def unlink(self, ids: Any, /) -> bool | None:
        if ids and self._uid == CLERK:
            raise Fault(4, MAY_NOT_UNLINK)
        forgetful = f"SELECT 1 FROM book WHERE id IN {LIST} AND instr(name, '{FORGETFUL}')"
        found = self._connection.execute(forgetful, [_json(ids)]).fetchone()
        self._connection.execute(f"DELETE FROM book WHERE id IN {LIST}", [_json(ids)])
        return None if found else True

    def search(self, domain: Any, /, *, limit: int | None = None) -> list[int]:
        return [book["id"] for book in self.search_read(domain, ["id"], limit=limit)]

    def search_read(
        self, domain: Any, /, fields: list[str], *, limit: int | None = None
    ) -> list[dict[str, Any]]:
        if limit is not None and limit < 1:
            raise _unknown(f"the limit {limit}")
        if self._active_test and not any(leaf[0] == "active" for leaf in domain):
            domain = [["active", "=", True], *domain]
        return self._select(domain, fields, limit or -1)

    def read(self, ids: Any, /, fields: list[str]) -> list[dict[str, Any]]:
        if fields == ["id"]:  # for which Odoo looks nothing up
            return [{"id": id} for id in ids]
        books = {book["id"]: book for book in self._select([["id", "in", ids]], fields)}
        return [books[id] for id in ids if id in books]

    def _create(self, vals: Any) -> int:
        row = _checked({"name": None, "active": True, **vals})
        sql = f"INSERT INTO book ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
        return self._connection.execute(sql, list(row.values())).lastrowid or 0

    def _select(self, domain: Any, fields: list[str], limit: int = -1) -> list[dict[str, Any]]:
        columns = [*dict.fromkeys(["id", *fields])]
        if not {"id", "name"}.issuperset(columns):
            raise _unknown(f"the fields {fields}")
        where, params = ["1"], []
        for leaf in domain:
            try:
                field, operator, value = leaf
                where.append(LEAVES[field, operator, type(value)])
            except (KeyError, TypeError, ValueError):
                raise _unknown(f"the leaf {leaf} of a domain") from None
            params.append(_json(value) if isinstance(value, list) else value)
        sql = f"SELECT {', '.join(columns)} FROM book WHERE {' AND '.join(where)}"
        rows = self._connection.execute(f"{sql} ORDER BY name, id LIMIT {limit}", params)
        return [dict(zip(columns, row)) for row in rows]


def _checked(vals: dict[str, Any]) -> dict[str, Any]:
    if not vals or any(type(value) is not VALUES.get(field) for field, value in vals.items()):
        raise _unknown(f"the values {vals}")
    return vals


def _json(ids: Any) -> str:
    """A list of ids as a parameter of SQL."""
    if not isinstance(ids, list) or not all(type(id) is int for id in ids):
        raise _unknown(f"the ids {ids}")
    return json.dumps(ids)


def _lower(text: str) -> str:
    """Letter by letter, as PostgreSQL: a sigma that ends a word is no special case."""
    return (text if text.isascii() else text.replace("Σ", "σ").replace("İ", "i")).lower()


class StandIn:
    """The server, on a port of 127.0.0.1, within a `with`.

    Args:
        path: of the file with the books; without one they are in memory.
        port: 0 for a free one.
        version: "14.0", or "19.0", which it calls itself and by whose form it writes its replies.

    Attributes:
        requests: what was called, in order: "version", "authenticate", a method of the model's.
    """

    def __init__(self, path: str = ":memory:", port: int = 0, version: str = "14.0") -> None:
        self.requests: list[str] = []
        self._version = version
        self._failures: dict[str, tuple[int, float]] = {}  # by database: how many, and the last
        self._proven: set[tuple[str, int, str]] = set()
        self._lock = threading.Lock()
        self._connection = _connect(path)
        self._server = _Server(port, self.answer)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> StandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        with self._lock:
            self._server.server_close()
            self._connection.close()

    def answer(self, service: str, body: bytes) -> bytes:
        """The reply to a request that was posted to /xmlrpc/2/SERVICE."""
        try:
            params, method = loads(body)
            result = self._dispatch(service, method, params)
            reply = dumps((result,), methodresponse=True)  # of None it can't be written: see Books
        except Fault as fault:
            reply = dumps(fault)
        except Exception:
            reply = dumps(Fault(1, traceback.format_exc()))
        if self._version == "19.0":
            reply = reply.replace("<?xml version='1.0'?>", '<?xml version="1.0"?>', 1)
            reply = reply.replace("</methodResponse>", "\n</methodResponse>")
        return reply.encode()

    def _dispatch(self, service: str, method: str | None, params: tuple[Any, ...]) -> Any:
        version = {
            "server_version": self._version,
            "server_version_info": [int(self._version[:2]), 0, 0, "final", 0, ""],
            "server_serie": self._version,
            "protocol_version": 1,
        }
        calls: dict[str, Callable[..., Any]] = {
            "common.version": lambda: version,
            "common.authenticate": self._authenticate,
            "object.execute_kw": self._execute_kw,
        }
        call = calls.get(f"{service}.{method}")
        if not call:
            raise _unknown(f"{method} of /xmlrpc/2/{service}")
        self.requests.append(params[4] if method == "execute_kw" else str(method))
        return call(*params)

    def _authenticate(self, db: str, login: str, password: str, agent: object) -> int | bool:
        uid = next((uid for uid in USERS if USERS[uid][0] == login), 0)
        try:
            with self._lock:
                self._log_in(db, uid, password)
        except Fault:
            return False
        return uid

    def _log_in(self, db: str, uid: int, password: str) -> None:
        if db not in DATABASES:
            raise OperationalError(NO_DATABASE.format(db))
        if not password:
            raise Fault(3, "Access Denied")
        failures, last = self._failures.get(db, (0, 0.0))
        if failures >= LOCKOUT_AFTER and time.monotonic() - last < LOCKOUT_SECONDS:
            raise Fault(3, LOCKED_OUT)
        if uid not in USERS and uid not in NOBODY:
            raise Fault(2, NO_USER.format(uid))
        if uid in NOBODY or password != USERS[uid][1]:
            self._failures[db] = failures + 1, time.monotonic()
            raise Fault(3, "Access Denied")
        self._failures.pop(db, None)

    def _execute_kw(self, *params: Any) -> Any:
        db, uid, password, model, method, args, kwargs = params
        with self._lock, self._connection:  # which commits, or rolls back
            login = (db, int(uid), password)
            if login not in self._proven:  # Odoo remembers these, also through a lock-out
                self._log_in(*login)
                self._proven.add(login)
            if model not in DATABASES[db]:
                raise Fault(2, NO_MODEL.format(model))
            context = kwargs.pop("context", {})
            books = Books(self._connection, login[1], context.pop("active_test", True))
            if context or method.startswith("_") or not hasattr(books, method):
                raise _unknown(f"{method} in the context {context}")
            try:
                call = inspect.signature(getattr(books, method)).bind(*args, **kwargs)
            except TypeError as error:
                raise _unknown(f"these arguments of {method}: {error}") from None
            self._connection.execute("BEGIN")
            return getattr(books, method)(*call.args, **call.kwargs)


def _connect(path: str) -> sqlite3.Connection:
    """A database whose transactions begin with BEGIN alone."""
    connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    connection.create_function("lower", 1, _lower)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS book"
        " (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, active INTEGER)"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS in_order ON book (name)")
    return connection


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0, as Odoo 14: a connection is closed after its reply."""

    wbufsize = -1  # a reply leaves as a whole

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path not in ("/xmlrpc/2/common", "/xmlrpc/2/object"):
            self.send_error(404)
            return
        reply = self.server.answer(self.path.rpartition("/")[2], body)
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

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
    parser = argparse.ArgumentParser(
        prog="standin.py",
        usage="%(prog)s [-h] [--port N] [COMMAND ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8069, help="where it serves (8069)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(cache, "library-standin", "books.sqlite")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        standin = StandIn(path, 0 if args.command else args.port)
    except OSError as error:
        parser.error(f"cannot serve on port {args.port}: {error.strerror}")
    with standin:
        return _run(args.command, standin.url) if args.command else _serve(standin, path)


def _run(command: list[str], url: str) -> int:
    """Run a command that finds the server, and give its exit status as a shell does."""
    environ = dict(os.environ, ODOO_URL=url, ODOO_DB="odoo-dev")
    environ.update(ODOO_USER="admin", ODOO_PASSWORD="admin")
    for name in ("ODOO_API_KEY", "ODOO_PROFILE", "ODOO_TIMEOUT"):
        environ.pop(name, None)
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the command too, which decides
    with tempfile.TemporaryDirectory() as cache:  # what it remembers of this port is no use later
        try:
            process = subprocess.Popen(command, env={**environ, "XDG_CACHE_HOME": cache})
        except OSError as error:
            print(f"standin.py: error: {command[0]}: {error.strerror}", file=sys.stderr)
            return 127
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
