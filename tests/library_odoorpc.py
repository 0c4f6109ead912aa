"""The book catalogue of an Odoo server, over JSON-RPC: library_xmlrpc's LibraryAPI on OdooRPC.

    $ pip install odoorpc==0.10.1
    $ python3 tests/library_odoorpc.py list moby
    60 Moby-Dick

Put this file beside library.py, and add `from library_odoorpc import LibraryAPI` below its import
of library_xmlrpc: then library.py uses OdooRPC.

A call is one POST by OdooRPC's `ODOO.json`. (`ODOO.login` would cost each process three requests,
and can't be given a remembered uid.) urllib, beneath it, uses no http_proxy and follows no
redirection with the handlers chosen here. What library_xmlrpc promises and this can't:

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
import sys
import urllib.request
from typing import Any
from urllib.error import HTTPError, URLError
from xmlrpc.client import Fault, ProtocolError

import odoorpc

if __name__ == "__main__":  # the two modules may be one folder up
    sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import library_xmlrpc
from library_xmlrpc import BadReplyError, NotSentError

CODES = {"odoo.exceptions.AccessDenied": 3, "odoo.exceptions.AccessError": 4}  # as XML-RPC's


class LibraryAPI(library_xmlrpc.LibraryAPI):
    """The books of one Odoo database, as library_xmlrpc's, on OdooRPC."""

    @functools.cached_property
    def _odoo(self) -> Any:
        opener = urllib.request.OpenerDirector()
        opener.add_handler(urllib.request.HTTPHandler())
        opener.add_handler(urllib.request.HTTPSHandler())
        opener.add_handler(urllib.request.HTTPErrorProcessor())
        opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
        return odoorpc.ODOO(
            f"[{self.host}]" if ":" in self.host else self.host,
            "jsonrpc+ssl" if self.scheme == "https" else "jsonrpc",
            self.port,
            self.transport.timeout,
            version="any",  # or it would ask the server, for what `login` needs alone
            opener=opener,
        )

    def _service(self, name: str) -> Any:
        return _Service(self._odoo, name)


class _Service:
    """One of Odoo's services, over JSON-RPC: any method can be called."""

    def __init__(self, odoo: Any, name: str) -> None:
        self._odoo = odoo
        self._name = name

    def __getattr__(self, method: str) -> Any:
        return functools.partial(self._call, method)

    def _call(self, method: str, *args: Any) -> Any:
        call = {"service": self._name, "method": method, "args": args}
        try:
            return self._odoo.json("/jsonrpc", call)["result"]
        except odoorpc.error.RPCError as error:
            raise _fault(error.info["data"]) from None  # its text may be the password
        except HTTPError as error:
            with error:
                headers: Any = error.headers
                raise ProtocolError("/jsonrpc", error.code, error.msg, headers) from error
        except URLError as error:  # urllib's for a request that was not sent as a whole
            reason = error.reason if isinstance(error.reason, OSError) else error
            raise NotSentError("cannot connect to") from reason
        except (OSError, http.client.HTTPException):
            raise
        except Exception as error:  # a malformed reply can raise anything
            raise BadReplyError("not JSON-RPC") from error


def _fault(exception: dict[str, Any]) -> Fault:
    """What Odoo's XML-RPC says for the same exception."""
    name, message = str(exception.get("name")), str(exception["message"])
    if not name.startswith("odoo.exceptions."):
        return Fault(1, str(exception.get("debug") or message))
    return Fault(CODES.get(name, 2), message)


if __name__ == "__main__":
    import library

    library.command(LibraryAPI)
