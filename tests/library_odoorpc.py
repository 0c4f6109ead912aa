"""The book catalogue of an Odoo server, over JSON-RPC: library_xmlrpc's LibraryAPI on OdooRPC.

    $ pip install odoorpc==0.10.1
    $ python3 tests/library_odoorpc.py list moby
    60 Moby-Dick

It shows what a backend of `library.main` needs: two objects in the place of Odoo's services, with
methods that make one call each and raise what those of ServerProxy do. OdooRPC's `ODOO.json` makes
a call, one POST each. (`ODOO.login` would cost each process three requests, and can't be given a
remembered uid.) urllib, beneath it, uses no http_proxy and follows no redirection with the handlers
chosen here. What library_xmlrpc promises and this can't:

- `timeout` bounds no call as a whole, but the connection to each of the host's addresses, without
  the limit of 10 s, and then each wait for a piece of the reply, which may have any size.
- What can't be sent counts as a server that can't be connected to.
- A program that logs "odoorpc.rpc.jsonrpclib" at level DEBUG logs the password with each call.
- Odoo 14, where it has several databases and no dbfilter that leaves one, answers each refusal
  over JSON-RPC with HTTP 500 and no reason. So a change that it refuses is an UnknownOutcomeError,
  and a question, or a login to an unknown database, a ConnectError.
"""

from __future__ import annotations

import functools
import http.client
import os
import ssl
import sys
import urllib.request
from typing import Any
from urllib.error import HTTPError, URLError
from xmlrpc.client import Fault, ProtocolError

import odoorpc

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import library
import library_xmlrpc
from library_xmlrpc import _BadReply, _NotSentError


class LibraryAPI(library_xmlrpc.LibraryAPI):
    """The books of one Odoo database, as library_xmlrpc's, on OdooRPC."""

    @functools.cached_property
    def _odoo(self) -> Any:
        tls = self.scheme == "https"
        opener = urllib.request.OpenerDirector()
        opener.add_handler(
            urllib.request.HTTPSHandler(context=ssl.create_default_context())
            if tls
            else urllib.request.HTTPHandler()
        )
        opener.add_handler(urllib.request.HTTPErrorProcessor())
        opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
        return odoorpc.ODOO(
            f"[{self.host}]" if ":" in self.host else self.host,
            "jsonrpc+ssl" if tls else "jsonrpc",
            self.port,
            self._transport.timeout,
            version="any",  # or it would ask the server, for what `login` needs alone
            opener=opener,
        )

    def _service(self, name: str) -> Any:
        return _Service(self._odoo, name)


class _Service:
    """One of Odoo's services, over JSON-RPC."""

    def __init__(self, odoo: Any, name: str) -> None:
        self._odoo = odoo
        self._name = name

    def version(self) -> Any:
        return self._call("version")

    def authenticate(self, *login: Any) -> Any:
        return self._call("authenticate", *login)

    def execute_kw(self, *call: Any) -> Any:
        return self._call("execute_kw", *call)

    def _call(self, method: str, *args: Any) -> Any:
        call = {"service": self._name, "method": method, "args": args}
        try:
            return self._odoo.json("/jsonrpc", call)["result"]
        except odoorpc.error.RPCError as error:
            raise _fault(error) from None  # whose text may be the password
        except HTTPError as error:
            with error:
                headers: Any = error.headers
                raise ProtocolError("/jsonrpc", error.code, error.msg, headers) from error
        except URLError as error:  # urllib's for a request that was not sent as a whole
            reason = error.reason if isinstance(error.reason, OSError) else error
            raise _NotSentError("cannot connect to") from reason
        except (OSError, http.client.HTTPException):
            raise
        except Exception as error:  # each malformed reply trips OdooRPC over something else
            raise _BadReply("not JSON-RPC") from error


def _fault(error: odoorpc.error.RPCError) -> Fault:
    """What Odoo's XML-RPC says for the same exception."""
    exception = error.info["data"]
    name, message = str(exception.get("name")), str(exception["message"])
    if not name.startswith("odoo.exceptions."):
        return Fault(1, str(exception.get("debug") or message))
    codes = {"odoo.exceptions.AccessDenied": 3, "odoo.exceptions.AccessError": 4}
    return Fault(codes.get(name, 2), message)


if __name__ == "__main__":
    library.command(LibraryAPI)
