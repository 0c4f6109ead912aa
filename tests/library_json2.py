"""The book catalogue of an Odoo server, over JSON-2: library_xmlrpc's LibraryAPI for Odoo 19 on.

    $ export ODOO_API_KEY=0123456789abcdef
    $ python3 tests/library_json2.py list moby
    60 Moby-Dick

JSON-2 outlives XML-RPC. A call is one POST of a JSON object, and its answer a JSON value. Its API
key says who the user is: there is no login, and `user` and `uid_cache` count for nothing. Odoo
writes the answer before it commits, and rolls back where it can't. What fails later, with the
commit, has any status; but its traceback comes along, as that of each error.
"""

from __future__ import annotations

import json
import os
import sys
import xmlrpc.client
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import library
import library_xmlrpc
from library_xmlrpc import ConnectError, LibraryError, LoginError, _BadReply, _body, _id, _struct

if TYPE_CHECKING:
    from library_xmlrpc import Failure, Params, Parse, T

NAMES = {  # of the arguments that library_xmlrpc gives by position
    "search_read": ("domain",),
    "search": ("domain",),
    "read": ("ids", "fields"),
    "create": ("vals_list",),
    "write": ("ids", "vals"),
    "unlink": ("ids",),
}
CODES = {"odoo.exceptions.AccessDenied": 3, "odoo.exceptions.AccessError": 4}  # as XML-RPC's
NO_DATABASE = b"No database is selected"  # on the page for one that Odoo has not, or hides
NO_JSON2 = "JSON-2 comes with Odoo 19, and with the databases that its dbfilter lets through"
NO_KEY = "JSON-2 takes nothing but an API key, which Odoo makes in the user's preferences"


class LibraryAPI(library_xmlrpc.LibraryAPI):
    """The books of one Odoo database, as library_xmlrpc's; `pwd` is the API key of a user."""

    def version(self) -> dict[str, Any]:
        found = self._call("common", "version", (), _struct, ConnectError)
        return {f"server_{name}": value for name, value in found.items()}

    @property
    def uid(self) -> int:
        """The id of the key's user, asked for on first use. Nothing here needs it."""
        if self._uid is None:
            call: Params = ("res.users", "context_get", (), {})
            self._uid = self._call("object", "execute_kw", call, _user, ConnectError)
        return self._uid

    def create(self, title: str) -> int:
        return self.create_many([title])[0]

    def _call(
        self, service: str, method: str, params: Params, parse: Parse[T], unanswered: Failure
    ) -> T:
        def read(response: HTTPResponse) -> T:
            if response.status != 200:
                raise self._refused(response, unanswered)
            try:
                value = json.loads(_body(response))
            except (ValueError, RecursionError):
                raise _BadReply("not JSON") from None
            return parse(value)

        if service == "common":
            return self._post(f"/web/{method}", b"", {}, read, unanswered)
        model, method, args, kwargs = params
        arguments = {**dict(zip(NAMES.get(method, ()), args)), **kwargs}
        headers = {
            "Content-Type": b"application/json",
            "X-Odoo-Database": self.db.encode(),
            "Authorization": f"bearer {self._pwd}".encode(),
        }
        request = json.dumps(arguments, ensure_ascii=False).encode()
        return self._post(f"/json/2/{model}/{method}", request, headers, read, unanswered)

    def _refused(self, response: HTTPResponse, unanswered: Failure) -> LibraryError:
        """The error that a status but 200 is: Odoo's exception, where the page tells of one."""
        error, missing = self._http_error(response, unanswered), response.status == 404
        try:
            page = _body(response)
            if missing and NO_DATABASE in page:
                error = LoginError(f"{self.url} has no database {self.db!r} with JSON-2")
            exception = json.loads(page)
            name, message, debug = (str(exception[key]) for key in ("name", "message", "debug"))
        except Exception:  # each other page trips over something else
            if missing:
                error.hint = NO_JSON2
            return error
        if response.status == 401:
            what = f"wrong API key, or a password, for {self.url}, database {self.db!r}"
            return LoginError(what, NO_KEY)
        unexpected = response.status == 500  # its type, too, is of interest
        fault = xmlrpc.client.Fault(CODES.get(name, 1 if unexpected else 2), debug)
        return self._refusal(fault, unanswered, "" if unexpected else message)


def _user(context: Any) -> int:
    return _id(_struct(context).get("uid"))


if __name__ == "__main__":
    library.command(LibraryAPI)
