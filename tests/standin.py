"""A stand-in for an Odoo server that has a catalogue of books: XML-RPC on SQLite.

    python3 tests/standin.py library.py add "Moby-Dick"

runs a command with the stand-in as its server, and keeps the books for the next command. Without a
command it serves until Ctrl-C. It protects nothing: the users and their passwords are below.

The calls that a client of the catalogue makes are answered byte for byte as Odoo answers them,
apart from tracebacks. Any other call gets a fault that says so. Logging in takes no time, where
Odoo takes 25 ms or more, and transactions never conflict, because they run one after the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.client import Fault, dumps, loads
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

Rows = list[dict[str, Any]]

MODEL = "library.book"
DATABASES: dict[str, list[str]] = {"odoo-dev": [MODEL], "odoo-empty": []}  # and their models
ADMIN, CLERK = 2, 6
USERS = {ADMIN: "admin", CLERK: "clerk"}  # whose passwords are their names
NOBODY = (0, 1, 3, 4, 5)  # uids for which Odoo denies access; one that it never had is an error
LOCKOUT_AFTER, LOCKOUT_SECONDS = 10, 60.0  # failed logins in a row

MAY_NOT_UNLINK = """You are not allowed to delete 'Book' (library.book) records.

This operation is allowed for the following groups:
\t- Administration/Settings

Contact your administrator to request access if necessary."""

# What it knows: values of fields, and leaves of domains as SQL, both by type.
VALUES = {"name": str, "active": bool}
LIST = "(SELECT value FROM json_each(?))"  # as one parameter: SQLite has a limit on their number
LEAVES = {
    ("name", "ilike", str): r"lower(name) LIKE '%' || lower(?) || '%' ESCAPE '\'",
    ("id", "in", list): f"id IN {LIST}",
    ("name", "in", list): f"name IN {LIST}",
    ("active", "=", bool): "active = ?",
}
FORGETFUL, UNACCEPTABLE = "forgetful", "unacceptable"  # see tests/addons
NOT_THIS_TITLE = "Not this title.\n\nPlease."
USER_ERROR = f"Unknown error during import: <class 'odoo.exceptions.UserError'>: {NOT_THIS_TITLE}"
NOT_IMPORTED = {"message": USER_ERROR, "moreinfo": "Resolve other errors first"}
NO_TITLE = {"message": "Missing required value for the field 'Title' (name)", "field": "name"}


def _unknown(what: str) -> NotImplementedError:
    return NotImplementedError(f"the stand-in does not know {what}")


class Books:
    """The model, for one call: its public methods are those that can be called."""

    def __init__(self, connection: sqlite3.Connection, uid: int, active_test: Any = True) -> None:
        self._sql = connection.execute
        self._uid = uid
        self._active_test = active_test

    def create(self, vals_list: Any, /) -> int | list[int]:
        if isinstance(vals_list, list):
            return [self._create(vals) for vals in vals_list]
        return self._create(vals_list)

    def write(self, ids: Any, vals: Any, /) -> bool | None:
        if UNACCEPTABLE in vals.get("name", ""):
            raise Fault(2, NOT_THIS_TITLE)
        changes = ", ".join(f"{field} = ?" for field in _checked(vals))
        self._sql(f"UPDATE book SET {changes} WHERE id IN {LIST}", [*vals.values(), _json(ids)])
        return None if FORGETFUL in vals.get("name", "") else True

    def load(self, fields: Any, data: Any, /) -> dict[str, Any]:
        """Odoo's import, here of new titles for books that are there: all of them or none."""
        if fields != [".id", "name"]:
            raise _unknown(f"the import of {fields}")
        ids = [int(id) for id, _ in data]
        there = self.search([["id", "in", ids]])
        messages: Rows = []
        for row, id in enumerate(ids):
            if id not in there:
                error: dict[str, Any] = {"rows": {"from": row, "to": row}, "type": "error"}
                text = f"Unknown database identifier '{id}'"
                messages.append({**error, "record": row, "field": ".id", "message": text})
        for row, (_, name) in enumerate(data):
            if not name or UNACCEPTABLE in name:
                error = {"rows": {"from": row, "to": row}, "record": row, "type": "error"}
                messages.append({**error, **(NOT_IMPORTED if name else NO_TITLE)})
        if len(messages) > 9:
            raise _unknown("so many errors, of which Odoo reports some")
        if not messages:
            for id, (_, name) in zip(ids, data):
                self.write([id], {"name": name})
        return {"ids": not messages and ids, "messages": messages, "nextrow": 0}

    def unlink(self, ids: Any, /) -> bool | None:
        if ids and self._uid == CLERK:
            raise Fault(4, MAY_NOT_UNLINK)
        forgetful = any(FORGETFUL in book["name"] for book in self.read(ids, ["name"]))
        self._sql(f"DELETE FROM book WHERE id IN {LIST}", [_json(ids)])
        return None if forgetful else True

    def search(self, domain: Any, /, *, limit: int | None = None) -> list[int]:
        return [book["id"] for book in self.search_read(domain, ["name"], limit=limit)]

    def search_count(self, domain: Any, /) -> int:
        return len(self.search(domain))

    def search_read(self, domain: Any, /, fields: Any, *, limit: int | None = None) -> Rows:
        if limit is not None and limit < 1:
            raise _unknown(f"the limit {limit}")
        if self._active_test and not any(leaf[0] == "active" for leaf in domain):
            domain = [["active", "=", True], *domain]
        return self._select(domain, fields, limit or -1)

    def read(self, ids: Any, /, fields: Any) -> Rows:
        books = {book["id"]: book for book in self._select([["id", "in", ids]], fields)}
        return [books[id] for id in ids if id in books]

    def _create(self, vals: Any) -> int:
        row = _checked({"name": None, "active": True, **vals})
        sql = "INSERT INTO book (name, active) VALUES (:name, :active)"
        return self._sql(sql, row).lastrowid or 0

    def _select(self, domain: Any, fields: Any, limit: int = -1) -> Rows:
        if fields != ["name"]:
            raise _unknown(f"the fields {fields}")
        where, params = ["1"], []
        for field, operator, value in domain:
            where.append(LEAVES[field, operator, type(value)])
            params.append(_json(value, VALUES.get(field, int)) if operator == "in" else value)
        sql = f"SELECT id, name FROM book WHERE {' AND '.join(where)}"
        rows = self._sql(f"{sql} ORDER BY name, id LIMIT {limit}", params)
        return [{"id": id, "name": name} for id, name in rows]


def _checked(vals: dict[str, Any]) -> dict[str, Any]:
    if not vals or any(type(value) is not VALUES.get(field) for field, value in vals.items()):
        raise _unknown(f"the values {vals}")
    return vals


def _json(values: Any, kind: type = int) -> str:
    """A list of ids, or of others of one type, as a parameter of SQL."""
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise _unknown(f"the list {values}")
    return json.dumps(values)


def _lower(text: str) -> str:
    return "".join(letter.lower()[0] for letter in text)  # as PostgreSQL: no sigma is special


class _Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/xmlrpc/2/common", "/xmlrpc/2/object")
    encode_threshold = sys.maxsize  # of a reply that is packed: none is

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: `StandIn.requests` is the log."""


class StandIn(ThreadingMixIn, SimpleXMLRPCServer):
    """The server, on a port of 127.0.0.1 (0: a free one), within a `with`.

    Without a path the books are in memory. `form` is the Odoo whose replies it imitates: 14 (to 17)
    or 18 (and later). `requests` are the methods called, in order: "version", "authenticate", or
    one of the model's.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str = ":memory:", port: int = 0, form: int = 14) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.port: int = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[str] = []
        self._form = form
        self._failures: dict[str, tuple[int, float]] = {}  # by database: how many, and the last
        self._proven: set[tuple[str, int, str]] = set()
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
        self._connection.create_function("lower", 1, _lower)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS book"
            " (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, active INTEGER)"
        )
        self._connection.execute("CREATE INDEX IF NOT EXISTS in_order ON book (name)")

    def __enter__(self) -> StandIn:
        threading.Thread(target=self.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        with self._lock:
            self.server_close()
            self._connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave before their answer comes."""

    def _marshaled_dispatch(self, data: Any, dispatch_method: Any = None, path: Any = None) -> Any:
        """The reply to a request that was posted to a path."""
        try:
            params, method = loads(data)
            call = getattr(self, f"_{path.rpartition('/')[2]}_{method}", None)
            if not call:
                raise _unknown(f"{method} of {path}")
            self.requests.append(str(params[4] if method == "execute_kw" else method))
            result: Any = call(*params)
            reply = dumps((result,), methodresponse=True)  # of None it can't be written: see Books
        except Fault as fault:
            reply = dumps(fault)
        except Exception:
            reply = dumps(Fault(1, traceback.format_exc()))
        if self._form >= 18:
            reply = reply.replace("<?xml version='1.0'?>", '<?xml version="1.0"?>', 1)
            reply = reply.replace("</methodResponse>", "\n</methodResponse>")
        return reply.encode()

    def _common_version(self) -> dict[str, Any]:
        return {
            "server_version": f"{self._form}.0",
            "server_version_info": [self._form, 0, 0, "final", 0, ""],
            "server_serie": f"{self._form}.0",
            "protocol_version": 1,
        }

    def _common_authenticate(self, db: str, login: str, password: str, agent: object) -> int:
        uid = next((uid for uid in USERS if USERS[uid] == login), 0)
        try:
            with self._lock:
                self._log_in(db, uid, password)
        except Fault:
            return False
        return uid

    def _log_in(self, db: str, uid: int, password: str) -> None:
        if db not in DATABASES:
            raise LookupError(f'FATAL:  database "{db}" does not exist\n')
        failures, last = self._failures.get(db, (0, 0.0))
        if failures >= LOCKOUT_AFTER and time.monotonic() - last < LOCKOUT_SECONDS:
            raise Fault(3, "Too many login failures, please wait a bit before trying again.")
        if uid not in USERS and uid not in NOBODY:
            record = f"(Record: res.users({uid},), User: {uid})"
            raise Fault(2, f"Record does not exist or has been deleted.\n{record}")
        if password != USERS.get(uid):
            self._failures[db] = failures + 1, time.monotonic()
            raise Fault(3, "Access Denied")
        self._failures.pop(db, None)

    def _object_execute_kw(self, db: str, uid: int, password: str, *call: Any) -> Any:
        model, method, args, kwargs = call
        with self._lock, self._connection:  # which commits, or rolls back
            if (db, uid, password) not in self._proven:  # Odoo remembers these, locked out or not
                self._log_in(db, uid, password)
                self._proven.add((db, uid, password))
            if model not in DATABASES[db]:
                raise Fault(2, f"Object {model} doesn't exist")
            context = kwargs.pop("context", {})
            books = Books(self._connection, uid, context.pop("active_test", True))
            if context or method.startswith("_") or not hasattr(books, method):
                raise _unknown(f"{method} in the context {context}")
            try:
                return getattr(books, method)(*args, **kwargs)
            except (KeyError, TypeError, ValueError) as error:
                raise _unknown(f"this call of {method}: {error!r}") from error


def main() -> int:
    command = sys.argv[1:]
    if command in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(cache, "library-standin", "books.sqlite")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with StandIn(path, 0 if command else 8069) as standin:
            return _run(command, standin.url) if command else _serve(standin.url, path)
    except OSError as error:
        sys.exit(f"standin.py: error: {command[0] if command else 'port 8069'}: {error.strerror}")


def _run(command: list[str], url: str) -> int:
    """Run a command that finds the server, and give its exit status as a shell does."""
    environ = dict(os.environ, ODOO_URL=url, ODOO_DB="odoo-dev", ODOO_USER="admin")
    environ.update(ODOO_PASSWORD="admin", ODOO_API_KEY="", ODOO_PROFILE="")
    environ["XDG_CACHE_HOME"] = os.path.abspath(__file__)  # no folder: the next port is another
    if command[0].endswith(".py") and os.path.isfile(command[0]):  # which Windows can't execute
        command = [sys.executable, *command]
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the command too, which decides
    process = subprocess.Popen(command, env=environ)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    status = process.wait()
    return status if status >= 0 else 128 - status


def _serve(url: str, path: str) -> int:
    print(f"Serving {url}: database odoo-dev, user admin, password admin.", file=sys.stderr)
    print(f"The books are in {path}. Ctrl-C stops this.", file=sys.stderr)
    python = os.path.basename(sys.executable)
    print(f"In another terminal: {python} library.py list", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
