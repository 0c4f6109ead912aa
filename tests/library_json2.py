"""The book catalogue of an Odoo server, over JSON-2: library_xmlrpc's LibraryAPI for Odoo 19 on.

    $ export ODOO_API_KEY=0123456789abcdef
    $ python3 tests/library_json2.py list moby
    60 Moby-Dick

Put this file beside library.py, and add `from library_json2 import LibraryAPI` below its import of
library_xmlrpc: then library.py uses JSON-2.

JSON-2 will outlive XML-RPC. A call is one POST of a JSON object, and its answer is a JSON value.
The API key says who the user is, so the user's name is not sent. Odoo writes the answer before it
commits, and rolls back if it can't. What fails later, with the commit, can have any HTTP status;
but like every error it comes with its traceback.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import sys
import xmlrpc.client
from typing import Any

if __name__ == "__main__":  # the two modules may be one folder up
    sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import library_xmlrpc
from library_xmlrpc import BadReplyError, ConnectError, LoginError

NAMES = {  # of the arguments that XML-RPC's clients give by position
    "search": ("domain",),
    "search_count": ("domain",),
    "search_read": ("domain", "fields"),
    "read": ("ids", "fields"),
    "create": ("vals_list",),
    "write": ("ids", "vals"),
    "load": ("fields", "data"),
}
CODES = {"odoo.exceptions.AccessDenied": 3, "odoo.exceptions.AccessError": 4}  # as XML-RPC's
NO_DATABASE = b"No database is selected"  # on the page for one that Odoo has not, or hides
NO_JSON2 = "JSON-2 comes with Odoo 19, for the databases that Odoo lists (see its dbfilter)"
NO_KEY = "JSON-2 takes nothing but an API key, which Odoo makes in the user's preferences"


class LibraryAPI(library_xmlrpc.LibraryAPI):
    """The books of one Odoo database, as library_xmlrpc's; `pwd` is the API key of a user."""

    def _service(self, name: str) -> Any:
        self.transport.has_sent = False  # see change_sent
        return _Service(self)


class _Service:
    """What library_xmlrpc calls of Odoo's services, with what JSON-2 has in its place."""

    def __init__(self, api: LibraryAPI) -> None:
        self._api = api

    def version(self) -> Any:
        https = self._api.scheme == "https"
        connect = http.client.HTTPSConnection if https else http.client.HTTPConnection
        timeout = self._api.transport.timeout  # here of each wait
        connection = connect(self._api.host, self._api.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", "/web/version")  # which takes no POST
            response = connection.getresponse()
            found = self._value(response, response.read())
        return {f"server_{key}": found[key] for key in found} if isinstance(found, dict) else found

    def authenticate(self, db: str, user: str, pwd: str, agent: object) -> Any:
        context = self._post("res.users/context_get", pwd, {})
        return context.get("uid") if isinstance(context, dict) else None

    def execute_kw(
        self, db: str, uid: int, pwd: str, model: str, method: str, args: list[Any], kwargs: Any
    ) -> Any:
        if method == "create" and isinstance(args[0], dict):  # JSON-2 makes lists of books alone
            ids = self.execute_kw(db, uid, pwd, model, method, [args], kwargs)
            return ids[0] if isinstance(ids, list) and len(ids) == 1 else ids
        names = NAMES.get(method, ("ids",))
        if len(args) > len(names):
            raise TypeError(f"JSON-2 takes arguments by name: give those of {method} in kwarg_dict")
        return self._post(f"{model}/{method}", pwd, {**dict(zip(names, args)), **kwargs})

    def _post(self, path: str, key: str, arguments: dict[str, Any]) -> Any:
        request = json.dumps(arguments, ensure_ascii=False).encode()
        bearer = f"bearer {key}".encode()
        headers = {"Content-Type": b"application/json", "Authorization": bearer}
        return self._value(*self._api.transport.post(f"/json/2/{path}", request, headers))

    def _value(self, response: http.client.HTTPResponse, body: bytes | bytearray) -> Any:
        """The value in a response. Odoo's exceptions are raised as faults."""
        url, status = self._api.url, response.status
        try:
            value = json.loads(body)
            if status == 200:
                return value
            name, message, debug = (str(value[key]) for key in ("name", "message", "debug"))
        except (ValueError, RecursionError, TypeError, KeyError):  # not Odoo's JSON
            if status == 200:
                raise BadReplyError("not JSON") from None
            if status == 404 and NO_DATABASE in body:
                error = f"{url} has no database {self._api.db!r} with JSON-2"
                raise LoginError(error, hint=NO_JSON2) from None
            if status == 404:
                raise ConnectError(f"{url} answers HTTP 404 Not Found", hint=NO_JSON2) from None
            fields: Any = response.headers
            raise xmlrpc.client.ProtocolError(url, status, response.reason, fields) from None
        if status == 401:
            error = f"wrong API key, or a password, for {url}, database {self._api.db!r}"
            raise LoginError(error, hint=NO_KEY)
        # The traceback ends with the exception's type, which matters if it was not expected.
        whole = status == 500 or not message or re.search(self._api.AFTER_COMMIT, debug)
        code = CODES.get(name, 1 if status == 500 else 2)
        raise xmlrpc.client.Fault(code, debug if whole else message) from RuntimeError(debug)


if __name__ == "__main__":
    import library

    library.command(LibraryAPI)
