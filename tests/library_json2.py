"""The book catalogue of an Odoo server, over JSON-2: library_xmlrpc's LibraryAPI for Odoo 19 on.

    $ export ODOO_API_KEY=0123456789abcdef
    $ python3 tests/library_json2.py list moby
    60 Moby-Dick

JSON-2 outlives XML-RPC. A call is one POST of a JSON object, and its answer a JSON value. Its API
key says who the user is: the name of the user counts for nothing, and their ID is asked for once
because library_xmlrpc wants it. Odoo writes the answer before it commits, and rolls back where it
can't. What fails later, with the commit, has any status; but its traceback comes along, as that of
each error.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import ssl
import sys
import xmlrpc.client
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import library
import library_xmlrpc
from library_xmlrpc import (
    _AFTER_COMMIT,
    ConnectError,
    LoginError,
    _BadReply,
    _id,
    _ids,
    _struct,
    _Transport,
)

NAMES = {  # of the arguments that library_xmlrpc gives by position
    "search_read": ("domain",),
    "search": ("domain",),
    "read": ("ids", "fields"),
    "create": ("vals_list",),
    "write": ("ids", "vals"),
    "load": ("fields", "data"),
    "unlink": ("ids",),
}
CODES = {"odoo.exceptions.AccessDenied": 3, "odoo.exceptions.AccessError": 4}  # as XML-RPC's
NO_DATABASE = b"No database is selected"  # on the page for one that Odoo has not, or hides
NO_JSON2 = "JSON-2 comes with Odoo 19, for the databases that Odoo lists (see its dbfilter)"
NO_KEY = "JSON-2 takes nothing but an API key, which Odoo makes in the user's preferences"


class LibraryAPI(library_xmlrpc.LibraryAPI):
    """The books of one Odoo database, as library_xmlrpc's; `pwd` is the API key of a user."""

    def _service(self, name: str) -> Any:
        return _Service(self, self._transport)


class _Service:
    """What library_xmlrpc calls of Odoo's services, with what JSON-2 has in its place."""

    def __init__(self, api: LibraryAPI, transport: _Transport) -> None:
        self._api = api
        self._transport = transport

    def version(self) -> dict[str, Any]:
        api, timeout = self._api, self._transport.timeout
        with contextlib.closing(
            http.client.HTTPConnection(api.host, api.port, timeout=timeout)
            if api.scheme == "http"
            else http.client.HTTPSConnection(
                api.host, api.port, timeout=timeout, context=ssl.create_default_context()
            )
        ) as connection:
            connection.request("GET", "/web/version")  # which takes no POST
            found = json.load(connection.getresponse())
        return {f"server_{name}": value for name, value in _struct(found).items()}

    def authenticate(self, db: str, user: str, pwd: str, agent: object) -> int:
        return _id(_struct(self._post("res.users/context_get", pwd, {})).get("uid"))

    def execute_kw(
        self, db: str, uid: int, pwd: str, model: str, method: str, args: list[Any], kwargs: Any
    ) -> Any:
        if method == "create" and isinstance(args[0], dict):  # JSON-2 makes lists of books alone
            return _ids(self.execute_kw(db, uid, pwd, model, method, [args], kwargs), 1)[0]
        arguments = {**dict(zip(NAMES.get(method, ()), args)), **kwargs}
        return self._post(f"{model}/{method}", pwd, arguments)

    def _post(self, path: str, key: str, arguments: dict[str, Any]) -> Any:
        request = json.dumps(arguments, ensure_ascii=False).encode()
        bearer = f"bearer {key}".encode()
        headers = {"Content-Type": b"application/json", "Authorization": bearer}
        response, body = self._transport.post(f"/json/2/{path}", request, headers)
        if response.status != 200:
            self._raise(response, body)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise _BadReply("not JSON") from None

    def _raise(self, response: http.client.HTTPResponse, body: bytearray) -> None:
        """Raise Odoo's exception as a fault, where the body tells of one; else ProtocolError."""
        url, status = self._api.url, response.status
        try:
            exception = json.loads(body)
            name, message, debug = (str(exception[key]) for key in ("name", "message", "debug"))
        except Exception:  # each other page trips over something else
            if status == 404 and NO_DATABASE in body:
                error = f"{url} has no database {self._api.db!r} with JSON-2"
                raise LoginError(error, NO_JSON2) from None
            if status == 404:
                raise ConnectError(f"{url} answers HTTP 404 Not Found", NO_JSON2) from None
            fields: Any = response.headers
            raise xmlrpc.client.ProtocolError(url, status, response.reason, fields) from None
        if status == 401:
            error = f"wrong API key, or a password, for {url}, database {self._api.db!r}"
            raise LoginError(error, NO_KEY)
        # Where it was not expected, its type is of interest, too: the traceback ends with it.
        whole = status == 500 or not message or re.search(_AFTER_COMMIT, debug)
        code = CODES.get(name, 1 if status == 500 else 2)
        raise xmlrpc.client.Fault(code, debug if whole else message) from RuntimeError(debug)


if __name__ == "__main__":
    library.command(LibraryAPI)
