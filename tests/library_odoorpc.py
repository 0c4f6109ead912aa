"""The book catalogue of an Odoo server, over JSON-RPC: library_xmlrpc's LibraryAPI on OdooRPC.

    $ pip install odoorpc==0.10.1
    $ python3 tests/library_odoorpc.py list moby
    60 Moby-Dick

It shows what a backend of `library.main` needs: one method that makes a call, and that raises the
errors of library_xmlrpc. OdooRPC's `ODOO.json` makes it, one POST each. (`ODOO.login` would cost
each process three requests, and can't be given a remembered uid.) urllib, beneath it, uses no
http_proxy and follows no redirection with the handlers chosen here. What library_xmlrpc promises
and this can't:

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
import xmlrpc.client
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

import odoorpc

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import library
import library_xmlrpc
from library_xmlrpc import ConnectError, _BadReply

if TYPE_CHECKING:
    from library_xmlrpc import Failure, Params, Parse, T


class LibraryAPI(library_xmlrpc.LibraryAPI):
    """The books of one Odoo database, as library_xmlrpc's, on OdooRPC."""

    @functools.cached_property
    def _odoo(self) -> Any:
        tls = self.scheme == "https"
        opener = urllib.request.OpenerDirector()
        opener.add_handler(
            urllib.request.HTTPSHandler(context=self._tls) if tls else urllib.request.HTTPHandler()
        )
        opener.add_handler(urllib.request.HTTPErrorProcessor())
        opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
        return odoorpc.ODOO(
            f"[{self.host}]" if ":" in self.host else self.host,
            "jsonrpc+ssl" if tls else "jsonrpc",
            self.port,
            self.timeout,
            version="any",  # or it would ask the server, for what `login` needs alone
            opener=opener,
        )

    def _call(
        self, service: str, method: str, params: Params, parse: Parse[T], unanswered: Failure
    ) -> T:
        if service == "object":
            params = (self.db, self.uid, self._pwd, *params)
        call = {"service": service, "method": method, "args": params}
        try:
            return parse(self._odoo.json("/jsonrpc", call)["result"])
        except odoorpc.error.RPCError as error:
            error.args = (self._masked(str(error)),)  # which a traceback would show
            raise self._refusal(_fault(error), unanswered) from error
        except HTTPError as error:
            response: Any = error.fp
            with error:
                raise self._http_error(response, unanswered) from error
        except URLError as error:  # urllib's for a request that was not sent as a whole
            reason = error.reason if isinstance(error.reason, OSError) else error
            raise self._failure(ConnectError, "cannot connect to", reason) from error
        except (OSError, http.client.HTTPException, _BadReply) as error:
            raise self._failure(unanswered, "no valid answer from", error) from error
        except Exception as error:  # each malformed reply trips OdooRPC over something else
            reply = _BadReply("not JSON-RPC")
            raise self._failure(unanswered, "no valid answer from", reply) from error


def _fault(error: odoorpc.error.RPCError) -> xmlrpc.client.Fault:
    """What Odoo's XML-RPC says for the same exception."""
    exception = error.info["data"]
    name, message = str(exception.get("name")), str(exception["message"])
    if not name.startswith("odoo.exceptions."):
        return xmlrpc.client.Fault(1, str(exception.get("debug") or message))
    codes = {"odoo.exceptions.AccessDenied": 3, "odoo.exceptions.AccessError": 4}
    return xmlrpc.client.Fault(codes.get(name, 2), message)


if __name__ == "__main__":
    library.command(LibraryAPI)
