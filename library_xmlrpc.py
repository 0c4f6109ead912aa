"""The book catalogue of an Odoo server, over XML-RPC.

    >>> from library_xmlrpc import LibraryAPI
    >>> api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    >>> api.create("Moby-Dick")
    60
    >>> api.search_read("moby")
    [{'id': 60, 'name': 'Moby-Dick'}]

Every call is one POST with a deadline. No request is sent twice: where a change may have been made
and no answer came, UnknownOutcomeError says so. `python3 -i library_xmlrpc.py` lists the books
of a server with the default settings and stays in a session with `api` at hand.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import os
import re
import socket
import ssl
import sys
import time
import xmlrpc.client
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote_to_bytes

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from typing import Any, Callable, TypedDict, TypeVar

    S = TypeVar("S")
    T = TypeVar("T")
    Parse = Callable[[Any], T]  # of a reply's value: it raises where that is of another type

    class Book(TypedDict):
        id: int
        name: str
else:  # for those who ask for the type hints of a method at run time
    Any, Book = object, dict

__all__ = (
    "LibraryAPI",
    "LibraryError",
    "ConnectError",
    "LoginError",
    "ServerError",
    "BookNotFoundError",
    "UnknownOutcomeError",
)

MODEL = "library.book"
MAX_ID = 2**31 - 1  # XML-RPC's integers have 32 bits, as PostgreSQL's for Odoo's ids
MAX_TEXT = 3000  # characters: as XML, a page of such titles is not larger than a reply may be
FIRST_PAGE = 1000  # books in the request that a listing begins with
NEXT_PAGES = 8000  # in the others: with fewer Odoo takes longer, with more we take more memory
CALLS_AHEAD = 2  # pages that are fetched before the reader asks for them
MAX_REPLY = 128 * 2**20  # bytes, unpacked: the ids of nearly four million books
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 4.0  # after which a connection is not used again: many servers close it after 5


# --- Errors --------------------------------------------------------------------------------------


class LibraryError(Exception):
    """The call failed. `hint` says what to do about it, where there is something to say."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConnectError(LibraryError):
    """No server, no Odoo, or no answer to a question. Nothing was changed."""


class LoginError(LibraryError):
    """The server does not let this user in. Nothing was changed."""


class ServerError(LibraryError):
    """The server refused, and rolled back. `code` and `text` are its fault's."""

    def __init__(self, message: str, hint: str = "", code: int = 0, text: str = "") -> None:
        super().__init__(message, hint)
        self.code = code
        self.text = text or message


class BookNotFoundError(ServerError):
    """There is no book with one of `ids`, or none that this user may see."""

    def __init__(self, ids: list[int]) -> None:
        super().__init__(f"there is no book with ID {', '.join(map(str, ids))}")
        self.ids = ids

    def __reduce__(self) -> tuple[Any, ...]:  # copies and pickles are made of the ids as well
        return type(self), (self.ids,)


class UnknownOutcomeError(LibraryError):
    """A change was sent and no valid answer came: it may have been made, or may yet be."""


class _LockedOutError(LoginError):
    """After several failed logins Odoo refuses all logins for a while."""


# --- The API -------------------------------------------------------------------------------------


class LibraryAPI:
    """The books of one Odoo database, as one user sees them.

    Args:
        host, port: of the server's HTTP service.
        db, user, pwd: the database, and a login to it; `pwd` is a password or an API key.
        scheme: "http" or "https"; https is verified against the system's trust store, and goes
            through the proxy that https_proxy names.
        timeout: seconds for each call as a whole, however slowly bytes come. (Looking up the
            host's name is left to the system's resolver and its own limits.) It can be set later.
        uid_cache: a file to remember the user's id in, or None. It must be a file of this
            server, database and user alone. It saves the login, which takes Odoo 17 and later a
            third of a second; it holds no secret, and the server checks `pwd` with each call.

    Raises:
        ValueError: an argument that no server could accept. The constructor does no I/O; the
            methods raise ValueError in the same way, and LibraryError as its subclasses say.
    """

    def __init__(
        self,
        host: str,
        port: int,
        db: str,
        user: str,
        pwd: str,
        *,
        scheme: str = "http",
        timeout: float = 120.0,
        uid_cache: str | None = None,
    ) -> None:
        for name, text in (("host", host), ("db", db), ("user", user), ("pwd", pwd)):
            check_title(text, name)
        if not re.fullmatch(r"(?a)[\w.-]+|[0-9A-Fa-f:.]+(%\w+)?", host):
            raise ValueError("host must be a name or an address in ASCII, not a URL")
        if type(port) is not int or not 1 <= port <= 65535:
            raise ValueError(f"port must be a number from 1 to 65535, not {port!r}")
        if scheme not in ("http", "https"):
            raise ValueError(f"scheme must be http or https, not {scheme!r}")
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= 1e6:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        self.host, self.port, self.scheme = host, port, scheme
        self.db, self.user, self._pwd = db, user, pwd
        self.timeout = timeout
        self._kept_transport: _Transport | None = None
        self._uid: int | None = None
        self._uid_cache = uid_cache
        self._uid_is_unproven = False  # it is from the cache, and no call has succeeded yet

    def __repr__(self) -> str:
        return f"<LibraryAPI {self.url} db={self.db!r} user={self.user!r}>"

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle gets: all but the connections."""
        return {**vars(self), "_kept_transport": None}

    @property
    def url(self) -> str:
        """The server's, without a path."""
        return f"{self.scheme}://{_authority(self.host, self.port)}"

    def version(self) -> dict[str, Any]:
        """The server's version, as Odoo's `common.version` gives it. It needs no login."""
        with self._errors(ConnectError):
            return _struct(self._service("common").version())

    def search_read(self, title: str | None = None, limit: int | None = None) -> list[Book]:
        """The books whose title contains `title`, in any case, in the server's order."""
        return list(self.iter_books(title, limit))

    def iter_books(self, title: str | None = None, limit: int | None = None) -> Iterator[Book]:
        """The books that search_read gives, as an iterator that fetches a page at a time.

        No book comes twice, and none is missing that exists all the time, even when others add
        and delete books meanwhile. Pages by offset could not promise that. So the first page comes
        with the search itself, and the others by the ids that a second search finds.
        """
        if limit is not None:
            check_number(limit, "limit")
        return self._iter_books(_domain(title), limit)

    def create(self, title: str) -> int:
        """Add a book and give its id."""
        return self._execute("create", [{"name": check_title(title)}], {}, _id)

    def create_many(self, titles: Iterable[str]) -> list[int]:
        """Add a book for each title, all or none, and give their ids in order.

        It is one transaction, hence one request. Many web servers in front of an Odoo take no
        request above 1 MiB, some 9,000 titles.
        """
        if isinstance(titles, str):
            raise ValueError("titles must be several, not a str")
        rows = [{"name": check_title(title)} for title in titles]
        return self._execute("create", [rows], {}, lambda reply: _ids(reply, len(rows)))

    def write(self, id: int, title: str) -> bool:
        """Change the title of a book, and give True.

        Raises BookNotFoundError where there is none. It looks first, by a call of its own: Odoo's
        `write` answers True for books that do not exist.
        """
        values = {"name": check_title(title)}
        if not self._existing([check_number(id)]):
            raise BookNotFoundError([id])
        return self._execute("write", [[id], values], {}, _true)

    def unlink(self, id: int) -> bool:
        """Delete a book, and give True; BookNotFoundError where there is none."""
        if not self.unlink_many([id]):
            raise BookNotFoundError([id])
        return True

    def unlink_many(self, ids: Iterable[int]) -> list[int]:
        """Delete those of the books that exist, all or none of them, and give their ids.

        As with `write`, it takes a call of its own to know which exist. Where two delete the same
        books at the same time, both may be told that they did.
        """
        existing = self._existing([check_number(id) for id in ids])
        if existing:
            self._execute("unlink", [existing], {}, _true)
        return existing

    def _existing(self, ids: list[int]) -> list[int]:
        """Those of `ids`, once each, whose books exist; archived ones do."""
        # Odoo's `exists` would say so too, but is private since Odoo 19.
        context = {"active_test": False}
        found = set(self._execute("search", [[["id", "in", ids]]], {"context": context}, _ids))
        return [id for id in dict.fromkeys(ids) if id in found]

    def _iter_books(self, domain: list[Any], limit: int | None) -> Iterator[Book]:
        size = min(FIRST_PAGE, limit or FIRST_PAGE)
        kwargs = {"fields": ["name"], "limit": size}
        first = list(self._execute("search_read", [domain], kwargs, _books))
        yield from first
        if len(first) < FIRST_PAGE or len(first) == limit:
            return
        given = {book["id"] for book in first}
        found = self._execute("search", [domain], {"limit": limit} if limit else {}, _ids)
        ids = [id for id in found if id not in given]
        if limit:
            del ids[limit - len(first) :]
        pages = (ids[at : at + NEXT_PAGES] for at in range(0, len(ids), NEXT_PAGES))
        for books in _call_ahead(self._read, pages):
            yield from books

    def _read(self, ids: list[int]) -> Iterable[Book]:
        """The books with these ids, in their order, without those that do not exist any more."""
        return self._execute("read", [ids, ["name"]], {}, _books)

    # --- The server's methods ---

    @property
    def uid(self) -> int:
        """The user's id on the server. The first use logs in, or recalls the id from the cache."""
        if self._uid is None and self._uid_cache:
            recalled = _recall_uid(self._uid_cache)
            self._uid_is_unproven = recalled is not None
            self._uid = recalled
        return self._uid or self._log_in()

    def _log_in(self) -> int:
        common = self._service("common")
        try:
            with self._errors(ConnectError):
                uid = _uid_or_false(common.authenticate(self.db, self.user, self._pwd, {}))
        except ServerError as error:
            raise LoginError(f"cannot log in to {self.url}: {error}", error.hint) from error
        if not uid:
            raise LoginError(
                f"wrong user or password for {self.user!r} on {self.url}, database {self.db!r}",
                "with two-factor authentication, an API key takes the place of the password; "
                "after many failures Odoo refuses all logins for a minute",
            )
        self._uid, self._uid_is_unproven = uid, False
        if self._uid_cache:
            _remember_uid(self._uid_cache, uid)
        return uid

    def _execute(self, method: str, args: list[Any], kwargs: dict[str, Any], parse: Parse[T]) -> T:
        """Call a method of the book model, and give what `parse` makes of the reply's value.

        A uid from the cache may be stale, which Odoo reports in several ways. So if a call with
        such a uid is refused, log in. If that gives another uid, call again: a refused call has
        changed nothing. A wrong password is thus tried twice, by the call and by the login.
        """
        models = self._service("object")
        changes = method in ("create", "write", "unlink")

        def execute_kw(uid: int) -> T:
            with self._errors(UnknownOutcomeError if changes else ConnectError):
                reply = models.execute_kw(self.db, uid, self._pwd, MODEL, method, args, kwargs)
                return parse(reply)

        uid = self.uid
        try:
            value = execute_kw(uid)
        except _LockedOutError:
            raise
        except (ServerError, LoginError):
            if uid == self._uid and self._uid_is_unproven:
                self._log_in()
            if uid == self._uid:  # neither we nor another thread got another one
                raise
            value = execute_kw(self.uid)
        self._uid_is_unproven = False
        return value

    def _service(self, name: str) -> Any:
        """Odoo's service of this name, "common" or "object": a ServerProxy on our transport.

        This is all that an edition on another protocol replaces: by objects with the methods
        `version`, `authenticate` and `execute_kw`, which raise what ServerProxy's do, or one of
        our errors.
        """
        return xmlrpc.client.ServerProxy(f"{self.url}/xmlrpc/2/{name}", self._transport)

    @property
    def _transport(self) -> _Transport:
        if self._kept_transport is None:
            self._kept_transport = _Transport(self.scheme, self.host, self.port, self.db)
        self._kept_transport.timeout = self.timeout
        return self._kept_transport

    @contextlib.contextmanager
    def _errors(self, error_if_lost: type[LibraryError]) -> Iterator[None]:
        """Raise what goes wrong in a call as one of our errors.

        `error_if_lost` is raised where the request was sent and no valid answer came: the server
        may have acted on it (RFC 9110, 9.2.2).
        """
        try:
            yield
        except LibraryError:  # an edition's
            raise
        except xmlrpc.client.Fault as fault:
            raise self._refusal(fault, error_if_lost) from fault
        except xmlrpc.client.ProtocolError as error:
            raise self._status_error(error, error_if_lost) from error
        except _NotSentError as error:
            what, reason, hint = str(error), error.reason, error.hint
            raise self._failure(ConnectError, what, reason, hint) from reason
        except Exception as error:  # each malformed reply trips over something else
            raise self._failure(error_if_lost, "no valid answer from", error) from error

    def _refusal(
        self, fault: xmlrpc.client.Fault, error_if_lost: type[LibraryError]
    ) -> LibraryError:
        """The error for a fault. Odoo's codes: 1 traceback, 2 message, 3 login, 4 rights."""
        raw = str(fault.faultString)  # to decide by: "***" for the password may hide a part of it
        text = self._hide_password(raw)
        fault.faultString = text  # a traceback shows it
        message = _one_line(text)
        if error_if_lost is UnknownOutcomeError and re.search(_AFTER_COMMIT, raw):
            return error_if_lost(f"{self.url} does not say what became of the change: {message}")
        if fault.faultCode == 3 and "Too many login failures" in raw:
            return _LockedOutError(message, "wait a minute before you try again")
        if fault.faultCode == 3:
            return LoginError(message)
        hint = ""
        if re.search(f"{MODEL}'? (doesn't|does not) exist", raw):
            hint = "install the library_app module, which has the books, on the server"
        return ServerError(message, hint, fault.faultCode, text)

    def _status_error(
        self, error: xmlrpc.client.ProtocolError, error_if_lost: type[LibraryError]
    ) -> LibraryError:
        """The error for an HTTP status. After 3xx and 4xx the request was not carried out."""
        code, location = error.errcode, error.headers.get("Location")
        status, hint = _status(code), _HTTP_HINTS.get(code, "")
        if not 300 <= code < 500:
            return error_if_lost(f"no valid answer from {self.url}: {status}", hint)
        if code == 400 and self.scheme == "http":
            hint = _USE_HTTPS
        if code < 400 and location:
            status += f": {re.sub('//[^/]*@', '//', self._hide_password(location))}"
            hint = "the server sends you to another URL: use its scheme, host and port"
        return ConnectError(f"{self.url} answers {status}", hint)

    def _failure(
        self, kind: type[LibraryError], what: str, error: Exception, hint: str = ""
    ) -> LibraryError:
        """The error for any other exception, with a hint of its own or the one in _REASONS."""
        words = ((reason, hint) for types, reason, hint in _REASONS if isinstance(error, types))
        reason, usual_hint = next(words)
        if "WRONG_VERSION_NUMBER" in str(error):  # of TLS
            usual_hint = "if the server speaks plain HTTP, use http://"
        elif isinstance(error, ConnectionError) and self._transport.may_want_tls:
            usual_hint = usual_hint or _USE_HTTPS
        return kind(f"{what} {self.url}: {reason.format(error)}", hint or usual_hint)

    def _hide_password(self, text: str) -> str:
        return mask(text, self.user, self._pwd)


def mask(text: str, user: str, pwd: str) -> str:
    """`text` with "***" for the password, in each of the ways in which it may be quoted.

    A password that is the user's name is no secret, and "admin" is a part of many messages.
    """
    if pwd != user:
        for quoted in (pwd, repr(pwd)[1:-1], xmlrpc.client.escape(pwd)):
            text = text.replace(quoted, "***")
    return text


def _call_ahead(call: Callable[[S], T], arguments: Iterable[S]) -> Iterator[T]:
    """The results of `call`, in the order of its arguments, with CALLS_AHEAD calls running.

    Each runs in a daemon thread, so that a reader who stops early, or Ctrl-C, need not wait for it.
    """
    from collections import deque
    from concurrent.futures import Future
    from itertools import islice
    from threading import Thread

    def start(argument: S) -> Future[T]:
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(call(argument))
            except BaseException as error:  # for the reader, where result() raises it
                result.set_exception(error)

        Thread(target=run, daemon=True).start()
        return result

    starts = map(start, arguments)  # lazily: a call starts when this gives its Future
    under_way = deque(islice(starts, CALLS_AHEAD))
    while under_way:
        value = under_way.popleft().result()
        under_way.extend(islice(starts, 1))
        yield value


def _recall_uid(cache: str) -> int | None:
    try:
        with open(cache, "rb") as file:
            return check_number(int(file.read(20)))
    except (OSError, ValueError):  # none, or spoilt: it costs a login
        return None


def _remember_uid(cache: str, uid: int) -> None:
    """Replace the file as a whole, so that no other process reads a part of it."""
    path = os.path.abspath(cache)
    draft = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(f"{uid}\n")
        os.replace(draft, path)
    except OSError:  # it is never needed: the next command logs in again
        pass


# --- The wire: sockets, HTTP and XML -------------------------------------------------------------


class _NotSentError(Exception):
    """No server can have acted on the request. `reason` says why."""

    def __init__(self, what: str, reason: Exception, hint: str = "") -> None:
        super().__init__(what)
        self.reason = reason
        self.hint = hint


class _BadReply(Exception):
    """What came, from a server or a proxy, is not what it must be. The text says why."""


class _TLSAlert(Exception):
    """The server wants TLS: it has not read the request, which was plain HTTP."""


class _Transport(xmlrpc.client.Transport):
    """A Transport to one server, which keeps its connections for the next calls.

    The inherited `request` sends a request again where a kept connection breaks, waits for ever,
    and reads replies of any size. This one sends it once, within `timeout` seconds, and reads
    MAX_REPLY bytes at most. Threads can share a transport: each call has a connection of its own.
    """

    def __init__(self, scheme: str, host: str, port: int, db: str) -> None:
        super().__init__()
        self.timeout = 120.0
        self._scheme, self._address = scheme, (host, port)
        self._common_headers = {
            "Accept-Encoding": b"gzip",
            "User-Agent": b"library_xmlrpc",
            "X-Odoo-Database": db.encode(),  # or Odoo 19 looks up which databases there are
        }
        self.may_want_tls = scheme == "http"  # the server, as long as it has not answered
        self._kept: list[_Connection] = []
        self._finalizer: Any = None

    def request(
        self, host: Any, handler: str, request_body: Any, verbose: bool = False
    ) -> tuple[Any, ...]:
        """Send what ServerProxy has written, and give the value of the reply, alone in a tuple.

        Raises Fault, or ProtocolError for another status than 200, or what `post` raises, or
        whatever the reply trips over.
        """
        response, body = self.post(handler, request_body, {"Content-Type": b"text/xml"})
        if response.status != 200:
            fields: Any = response.headers
            url = f"{host}{handler}"
            raise xmlrpc.client.ProtocolError(url, response.status, response.reason, fields)
        return (_unmarshal(body),)

    def post(
        self, path: str, request: bytes, headers: Mapping[str, bytes]
    ) -> tuple[http.client.HTTPResponse, bytearray]:
        """Send a request, once, and give the response and its body.

        Raises _NotSentError if it was not sent whole. Any other exception means that it was sent,
        and no whole response came. The body of an error may be missing: its status says enough.
        """
        deadline = time.monotonic() + self.timeout
        connection = self._take() or self._connect(deadline)
        connection.wire.deadline = deadline
        keep = False
        try:
            client = http.client.HTTPConnection(*self._address)
            client.sock = connection
            try:
                client.request("POST", path, request, {**self._common_headers, **headers})
            except OSError as error:
                raise _NotSentError("cannot send to", error) from error
            if self.may_want_tls:
                first = connection.peek()
                if first.startswith(b"\x15\x03"):  # an alert
                    raise _NotSentError("no valid answer from", _TLSAlert())
                self.may_want_tls = not first
            with client.getresponse() as response:
                try:
                    body = _body(response)
                except Exception:
                    if response.status == 200:
                        raise
                    body = bytearray()
                else:  # after 1xx there is more to come
                    keep = response.status >= 200 and not response.will_close
            return response, body
        finally:
            if keep:
                self._keep(connection)
            else:
                connection.end()

    def _keep(self, connection: _Connection) -> None:
        """Keep a connection for a next call, or until this transport is gone."""
        if not self._finalizer:
            from weakref import finalize

            # Not __del__: in a cycle Python may come to the sockets first, with a ResourceWarning.
            self._finalizer = finalize(self, _end_all, self._kept)
        connection.idle_since = time.monotonic()
        self._kept.append(connection)

    def _take(self) -> _Connection | None:
        """A kept connection that is as good as a new one, if there is any."""
        try:
            while not (connection := self._kept.pop(0)).is_reusable():
                connection.end()
        except IndexError:  # none is left
            return None
        return connection

    def _connect(self, deadline: float) -> _Connection:
        """Connect to the first of the host's addresses that answers in its share of the time.

        With https the host is the proxy that the environment names, if it does.
        """
        deadline = min(deadline, time.monotonic() + CONNECT_SECONDS)
        what, hint, (host, port) = "cannot connect to", "", self._address
        try:
            proxy = _find_proxy(_authority(host, port)) if self._scheme == "https" else None
            if proxy:
                host, port, headers = proxy
                what = f"cannot connect through the proxy http://{_authority(host, port)} to"
                hint = _PROXY_HINT
            # A host as bytes spares Python the import of its codec for international names.
            name: Any = host.encode()
            addresses = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            seconds = _seconds_until(deadline) / len(addresses)
            sock = socket.create_connection((name, port), seconds)
            try:
                # http.client sends head and body apart; the body is not to wait for the head's ACK.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if proxy:
                    self._tunnel(sock, headers, deadline)
                    hint = ""  # what fails now is not the proxy's
                if self._scheme == "https":
                    sock.settimeout(_seconds_until(deadline))
                    sock = self._tls.wrap_socket(sock, server_hostname=self._address[0])
                return _Connection(sock)
            except BaseException:
                sock.close()
                raise
        except Exception as error:
            raise _NotSentError(what, error, hint) from error

    def _tunnel(self, sock: socket.socket, headers: dict[str, str], deadline: float) -> None:
        """Ask the proxy at the other end of `sock` to connect it to the server."""
        connection = _Connection(sock)
        connection.wire.deadline = deadline
        client = http.client.HTTPConnection(*self._address)
        client.sock = connection
        client.request("CONNECT", _authority(*self._address), headers=headers)
        try:
            with client.getresponse() as response:
                status = response.status
        except http.client.HTTPException:  # whose text may be what we sent, login and all
            raise _BadReply("the proxy does not answer in HTTP") from None
        if not 200 <= status < 300:
            raise _BadReply(f"the proxy answers {_status(status)}")

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


def _authority(host: str, port: int) -> str:
    """Host and port, as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _find_proxy(server: str) -> tuple[str, int, dict[str, str]] | None:
    """Host and port of the proxy for a server with https, and the headers that it needs, if any.

    https_proxy, all_proxy and no_proxy are read as urllib.request does. Its import takes a while,
    and is for those alone who have one of these variables.
    """
    if not any(name.lower() in ("https_proxy", "all_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    kind = "https" if "https" in proxies else "all"
    if kind not in proxies or proxy_bypass(server):
        return None
    # Login, host and port, of which only the host has to be there. The scheme may be missing.
    pattern = r"(?:http://|(?![\w+.-]+://))(?:(.*)@)?([\w.-]+|\[[\w.:%]+\])(?::([0-9]{1,5}))?/?"
    found = re.fullmatch(f"(?ai){pattern}", proxies[kind])
    if not found or not 0 < int(found[3] or 80) < 65536:  # it is not shown: it may hold a password
        raise _BadReply(f"{kind}_proxy has to be {_PROXY_FORM} (no https, no socks)")
    login, host, port = found.groups()
    headers = {}
    if login:
        octets = unquote_to_bytes(os.fsencode(login if ":" in login else f"{login}:"))
        headers["Proxy-Authorization"] = f"Basic {b64encode(octets).decode()}"
    return host.strip("[]"), int(port or 80), headers


def _end_all(connections: list[_Connection]) -> None:
    for connection in connections:
        connection.end()


class _Connection(io.BufferedReader):
    """A connection to the server. For http.client it is both a socket and the socket's file.

    http.client closes both at the end of a reply. That does nothing here: the connection stays
    open until `end`, and what a reply leaves in the buffer is still there when `is_reusable` looks.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.wire = _DeadlineSocket(sock)
        self.idle_since = 0.0  # of time.monotonic()
        self._process = os.getpid()
        super().__init__(self.wire)

    def makefile(self, mode: str) -> _Connection:
        return self

    def sendall(self, request: bytes) -> None:
        self.wire.sendall(request)

    def close(self) -> None:
        pass

    def end(self) -> None:
        self.wire.sock.close()

    def is_reusable(self) -> bool:
        """True if it was idle only briefly and there is nothing to read, not even its end.

        Briefly, because only a timeout shows that a server vanished without closing. A child of
        fork() has the connections of its parent, which go on being the parent's.
        """
        idle = time.monotonic() - self.idle_since
        if idle > IDLE_SECONDS or self._process != os.getpid():
            return False
        self.wire.deadline = None
        try:
            self.peek()
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False


class _DeadlineSocket(io.RawIOBase):
    """A socket where every wait ends at one `deadline`, of time.monotonic(). None: do not wait.

    A timeout of the socket's alone starts anew with each byte that trickles in.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline: float | None = None

    def _set_timeout(self) -> None:
        self.sock.settimeout(0 if self.deadline is None else _seconds_until(self.deadline))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._set_timeout()
        return self.sock.recv_into(buffer)

    def sendall(self, request: bytes) -> None:
        self._set_timeout()  # for the whole request, not for each piece
        self.sock.sendall(request)


def _seconds_until(deadline: float) -> float:
    """Seconds until `deadline`, of time.monotonic(). Raises socket.timeout if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("timed out")
    return seconds


def _body(response: http.client.HTTPResponse) -> bytearray:
    """The body of a response, wholly there and unpacked; raises whatever it trips over."""
    packed = (response.getheader("Content-Encoding") or "").lower() in ("gzip", "x-gzip")
    gzip = zlib.decompressobj(wbits=31)  # which is its header and trailer
    body = bytearray()
    while chunk := response.read(2**16):
        body += gzip.decompress(chunk, MAX_REPLY + 1) if packed else chunk
        if max(len(body), len(gzip.unused_data)) > MAX_REPLY:
            raise _BadReply(f"larger than {MAX_REPLY >> 20} MiB")
    if response.length or (packed and not gzip.eof):
        raise http.client.IncompleteRead(b"", response.length)
    return body


def _unmarshal(reply: bytearray) -> Any:
    """The value in a reply. Raises Fault, or whatever the reply trips over."""
    rows = _unmarshal_rows(reply)
    if rows is not None:
        return rows
    if not _ENVELOPE.match(reply):
        raise ValueError("no reply")
    (value,), _ = xmlrpc.client.loads(reply)
    return value


def _unmarshal_rows(reply: bytearray) -> list[int] | Iterator[Book] | None:
    """The ids or the books in a reply, if it is in the very form in which Odoo writes them.

    That takes a tenth of the time of a parser. What stands between the rows must be nothing. The
    books are made when they are asked for: until then they take no more memory than their text.
    """
    found = _LIST.fullmatch(reply)
    if not found:
        return None
    rows = str(memoryview(reply)[slice(*found.span(1))], "utf-8")
    if not rows or (re.match(_INT, rows) and not re.sub(_INT, "", rows)):
        return [int(number) for number in re.findall(_INT, rows)]
    if re.sub(_BOOK, "", rows) or re.search(_OTHER_REFERENCE, rows):
        return None
    return ({"id": int(row[1]), "name": _unescape(row[2])} for row in re.finditer(_BOOK, rows))


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


# How a reply begins: without a DTD, which may define entities that explode.
_ENVELOPE = re.compile(rb"(\xef\xbb\xbf)?(<\?xml[^>]*\?>)?\s*<methodResponse>")

# A reply with a list, and what may be in it: the octets of xmlrpc.client's Marshaller, which Odoo
# uses. (Odoo 19 writes other quotes and an empty line.) A text is one that a parser reads as it
# stands, but for three references: without CR, which would become LF, and what XML can't carry.
_LIST = re.compile(
    rb"""<\?xml version=(?:'1\.0'|"1\.0")\?>\n<methodResponse>\n<params>\n<param>\n"""
    rb"<value><array><data>\n(.*)</data></array></value>\n</param>\n</params>\n\n?"
    rb"</methodResponse>\n",
    re.DOTALL,
)
_INT = r"<value><int>([1-9][0-9]{0,8})</int></value>\n"
_BOOK = (
    rf"<value><struct>\n<member>\n<name>id</name>\n{_INT}</member>\n"
    r"<member>\n<name>name</name>\n<value><string>([^<>\r\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]*)"
    r"</string></value>\n</member>\n</struct></value>\n"
)
_OTHER_REFERENCE = "&(?!(?:amp|lt|gt);)"


# --- Messages: what goes wrong, in words for people ----------------------------------------------

_NO_ODOO = "that may be no Odoo server; from Odoo 22 on there is no XML-RPC"
_USE_HTTPS = "if the server speaks TLS, use https://"
_PROXY_FORM = "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
_PROXY_HINT = f"https_proxy sets the proxy: {_PROXY_FORM}; no_proxy=HOST connects directly"
_AUTHORITY = "for a private authority, SSL_CERT_FILE has to name a file that holds its certificate"

_CLOSED = (
    *(ssl.SSLEOFError, ssl.SSLZeroReturnError),
    *(ConnectionError, http.client.IncompleteRead),
)

# What exceptions mean: the first that fits. Text of the server's is in none of them.
_REASONS: list[tuple[type[Exception] | tuple[type[Exception], ...], str, str]] = [
    (socket.timeout, "timed out", "see whether it is up; a longer timeout may help"),
    (ConnectionRefusedError, "connection refused", "start the server, or give its URL"),
    (socket.gaierror, "the host's name can't be looked up", "check its spelling and the network"),
    (ssl.SSLCertVerificationError, "untrusted certificate: {0.verify_message}", _AUTHORITY),
    (_CLOSED, "connection closed", ""),
    (ssl.SSLError, "TLS failed ({0.reason})", ""),
    (_TLSAlert, "a TLS alert", _USE_HTTPS),
    (OSError, "{0.strerror}", ""),
    (_BadReply, "{0}", ""),
    (Exception, "not XML-RPC", _NO_ODOO),
]

_NO_ANSWER = "a web server answers, but Odoo behind it does not, or takes too long"
_HTTP_HINTS = {
    401: "a web server in front of Odoo asks for a login of its own",
    403: "a web server in front of Odoo forbids it",
    404: _NO_ODOO,
    413: "the web server takes less at once: split -l 200 makes smaller files of what is not added "
    "yet; or raise its client_max_body_size",
    **dict.fromkeys((502, 503, 504), _NO_ANSWER),
}

# Odoo commits, runs what waits for that, and writes the reply. What fails then is reported like a
# refusal: a value that can't be marshalled, such as the None of a method that forgets its return,
# is one. The traceback shows it (seen on Odoo 14 and 19).
_AFTER_COMMIT = (
    r'cannot marshal |xmlrpc.client\.py", line [0-9]+, in dumps'
    r"|self\._cnx\.commit\(\)|self\.postcommit\.run\(\)|in signal_changes"
)


def _status(code: int) -> str:
    return f"HTTP {code} {http.client.responses.get(code, '')}".strip()


def _one_line(text: str) -> str:
    """A fault's text on one line: all of a text for people, and of a traceback the exception."""
    if text.startswith("Traceback"):  # whose frames are indented; more lines may follow them
        lines = text.rpartition('\n  File "')[2].split("\n")[1:]
        message = next((line for line in lines if line.strip() and line[0] != " "), "")
    else:  # sentences, and lists with dashes
        message = re.sub(r"\n[\s-]*", "\n", text.strip())
        message = re.sub(r"(?<![.:;,!?\s])\s*\n", "; ", message)
    message = " ".join(message.split()) or "no reason given"
    return message if len(message) <= 500 else message[:499] + "…"


# --- Checks: what the caller gives, and what a reply's value must be -----------------------------

# What no text of ours can hold: control characters and line separators (a title is one line), the
# byte-order mark (nobody sees it), and what XML can't carry: surrogates, U+FFFE and U+FFFF.
# None of it is printable: most texts need no pattern, which takes a while to compile.
_FORBIDDEN = "[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]"
_CHARACTER_NAMES = {
    "\0": "a NUL",
    "\t": "a tab",
    "\n": "a line feed",
    "\r": "a carriage return",
    "\ufeff": "a byte-order mark",
}


def check_title(title: str, what: str = "a title") -> str:
    """`title`, if it can be a book's; else ValueError."""
    if not check_line(title, what).strip():
        raise ValueError(f"{what} must not be blank")
    return title


def check_line(text: str, what: str = "a title") -> str:
    """`text`, if it is a line of text that XML can carry; else ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{what} must be a str, not {type(text).__name__}")
    found = None if text.isprintable() else re.search(_FORBIDDEN, text)
    if found:  # the message does not show the text, which may be a password
        code = ord(found[0])
        name = _CHARACTER_NAMES.get(found[0], f"the character U+{code:04X}")
        if 0xD800 <= code < 0xE000:  # Python makes surrogates of an argument's other bytes
            name = "text that is not valid UTF-8"
        raise ValueError(f"{what} can't hold {name}")
    if len(text) > MAX_TEXT:
        raise ValueError(f"{what} can't have more than {MAX_TEXT} characters")
    return text


def check_number(number: int, what: str = "an ID") -> int:
    """`number`, if it can be a record's id or a count of records; else ValueError."""
    if type(number) is not int or not 1 <= number <= MAX_ID:
        raise ValueError(f"{what} must be a number from 1 to {MAX_ID}, not {number!r:.60}")
    return number


def _domain(title: str | None) -> list[Any]:
    """Odoo's search domain for the books whose title contains `title`, literally."""
    if title is None or title == "":
        return []
    return [["name", "ilike", re.sub(r"[\\%_]", r"\\\g<0>", check_line(title))]]


# Each gives the value if it has the right type. Otherwise it raises _BadReply.


def _struct(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _BadReply("not a struct")
    return value


def _id(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_ID:
        raise _BadReply("not an ID")
    return value


def _uid_or_false(value: Any) -> int:
    return 0 if value is False else _id(value)


def _ids(value: Any, count: int | None = None) -> list[int]:
    if not isinstance(value, list) or count not in (None, len(value)):
        raise _BadReply("not the list of IDs")
    return [_id(id) for id in value]


def _true(value: Any) -> bool:
    if value is not True:
        raise _BadReply("not True")
    return True


def _books(value: Any) -> Iterable[Book]:
    if isinstance(value, Iterator):  # of the rows that the pattern has checked
        return value
    if not isinstance(value, list):
        raise _BadReply("not a list of books")
    return [_book(row) for row in value]


def _book(row: Any) -> Book:
    values = _struct(row)
    name = values.get("name") or ""  # False is a field without a value
    if not isinstance(name, str):
        raise _BadReply("not a title")
    return {"id": _id(values.get("id")), "name": name}


if __name__ == "__main__":
    from pprint import pprint

    api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    try:
        pprint(api.search_read())
    except LibraryError as error:
        print(f"library_xmlrpc.py: error: {error}", file=sys.stderr)
        if not sys.flags.interactive:
            raise SystemExit(1) from None
