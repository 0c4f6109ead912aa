"""The book catalogue of an Odoo server, over XML-RPC.

    >>> from library_xmlrpc import LibraryAPI
    >>> api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    >>> api.create("Moby-Dick")
    60
    >>> api.search_read("moby")
    [{'id': 60, 'name': 'Moby-Dick'}]

Every call is one POST with a deadline. It is never sent again by itself, and where its outcome
cannot be known, it says so: see the errors below. `python3 -i library_xmlrpc.py` lists the books
of a server with the default settings and stays in a session with `api` at hand.
"""

from __future__ import annotations

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
from collections.abc import Iterable, Iterator, Mapping

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from typing import Any, Callable, TypedDict, TypeVar

    T = TypeVar("T")
    Params = tuple[Any, ...]
    Parse = Callable[[Any], T]  # of a reply's value: it raises where that is of another type
    Failure = type["LibraryError"]
    Headers = Mapping[str, str | bytes]
    Read = Callable[[http.client.HTTPResponse], T]

    class Book(TypedDict):
        id: int
        name: str
else:  # for those who ask for the type hints of a method at run time
    Any, Book = object, dict

MODEL = "library.book"
MAX_ID = 2**31 - 1  # XML-RPC's integers have 32 bits, as PostgreSQL's for Odoo's ids
MAX_TEXT = 3000  # characters: as XML, a page of such titles is not larger than a reply may be
FIRST_PAGE = 1000  # books in the request that a listing begins with
NEXT_PAGES = 8000  # in the others: with fewer Odoo takes longer, with more we take more memory
PAGES_AHEAD = 2  # on their way while the reader has another one
MAX_REPLY = 128 * 2**20  # bytes, unpacked: the ids of nearly four million books
CONNECT_SECONDS = 10.0


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


class _BadReply(Exception):
    """What came is not an answer to the call."""


# --- The API -------------------------------------------------------------------------------------


class LibraryAPI:
    """The books of one Odoo database, as one user sees them.

    Args:
        host, port: of the server's HTTP service.
        db, user, pwd: the database, and a login to it; `pwd` is a password or an API key.
        scheme: "http" or "https"; https is verified against the system's trust store.
        timeout: seconds for each call as a whole, however slowly bytes come. (Looking up the
            host's name is left to the system's resolver and its own limits.)
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
        if "/" in host or not host.isascii():
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
        self._uid_cache = uid_cache
        self._uid: int | None = None
        self._uid_is_remembered = False  # and not yet proven by a call that succeeded

    def __repr__(self) -> str:
        return f"<LibraryAPI {self.url} db={self.db!r} user={self.user!r}>"

    @property
    def url(self) -> str:
        """The server's, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def version(self) -> dict[str, Any]:
        """The server's version, as Odoo's `common.version` gives it; needs no login."""
        return self._call("common", "version", (), _struct, ConnectError)

    def search_read(self, title: str | None = None, limit: int | None = None) -> list[Book]:
        """The books whose title contains `title`, in any case, in the server's order."""
        return list(self.iter_books(title, limit))

    def iter_books(self, title: str | None = None, limit: int | None = None) -> Iterator[Book]:
        """The same as an iterator that asks for a page of books at a time.

        A book is given once, and none is left out that was there all the time, also when others
        add and delete meanwhile. (Pages by offset do not hold that.) So the first page comes with
        the search itself, and the rest by the ids that a second search finds.
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

        Raises BookNotFoundError where there is none. This takes a call of its own, before the
        change: Odoo's `write` answers True for books that do not exist.
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

        As with `write`, it takes a call of its own to know which exist.
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
        if len(first) < FIRST_PAGE or limit == FIRST_PAGE:
            return
        given = {book["id"] for book in first}
        found = self._execute("search", [domain], {"limit": limit} if limit else {}, _ids)
        ids = [id for id in found if id not in given][: limit and limit - FIRST_PAGE]
        yield from self._read_pages(ids)

    def _read_pages(self, ids: list[int]) -> Iterator[Book]:
        """The books with these ids, in their order, less those that were deleted meanwhile.

        The next pages are on their way meanwhile, each in a daemon thread: neither a reader that
        stops early nor Ctrl-C waits for those.
        """
        from collections import deque
        from concurrent.futures import Future
        from itertools import islice
        from threading import Thread

        def start(page: list[int]) -> Future[Iterable[Book]]:
            books: Future[Iterable[Book]] = Future()

            def read() -> None:
                try:
                    books.set_result(self._execute("read", [page, ["name"]], {}, _books))
                except BaseException as error:  # for the reader, where result() raises it
                    books.set_exception(error)

            Thread(target=read, daemon=True).start()
            return books

        pages = (ids[at : at + NEXT_PAGES] for at in range(0, len(ids), NEXT_PAGES))
        starts = map(start, pages)  # each starts when it is asked for
        under_way = deque(islice(starts, PAGES_AHEAD))
        while under_way:
            books = under_way.popleft().result()
            under_way.extend(islice(starts, 1))
            yield from books

    # --- Logging in, and the one way to the server's methods ---

    @property
    def uid(self) -> int:
        """The user's id on the server. The first use logs in, or recalls the id from the cache."""
        if self._uid is None:
            self._uid = self._recall()
            self._uid_is_remembered = self._uid is not None
        return self._uid or self._log_in()

    def _log_in(self) -> int:
        try:
            params: Params = (self.db, self.user, self._pwd, {})
            uid = self._call("common", "authenticate", params, _uid_or_false, ConnectError)
        except ServerError as error:
            raise LoginError(f"cannot log in to {self.url}: {error}", error.hint) from error
        if not uid:
            raise LoginError(
                f"wrong user or password for {self.user!r} on {self.url}, database {self.db!r}",
                "after several failures Odoo lets nobody in from here: wait a minute; "
                "with two-factor authentication, use an API key as the password",
            )
        self._uid, self._uid_is_remembered = uid, False
        if self._uid_cache:
            self._remember(self._uid_cache, uid)
        return uid

    def _recall(self) -> int | None:
        try:
            with open(self._uid_cache or "", "rb") as file:
                return check_number(int(file.read(20)))
        except (OSError, ValueError):  # none, or spoilt: it costs a login
            return None

    def _remember(self, cache: str, uid: int) -> None:
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

    def _execute(self, method: str, args: list[Any], kwargs: dict[str, Any], parse: Parse[T]) -> T:
        """Call a method of the book model, and give what `parse` makes of the reply's value.

        A uid from the cache may be stale, and a server that knows it no more says so in several
        ways. So any refusal (after which nothing was changed) makes it log in, and where that
        gives another uid, call again. A wrong password is thus tried twice: with the remembered
        uid, and to log in.
        """
        changes = method in ("create", "write", "unlink")
        unanswered = UnknownOutcomeError if changes else ConnectError
        params = (MODEL, method, args, kwargs)
        try:
            value = self._call("object", "execute_kw", params, parse, unanswered)
        except (ServerError, LoginError) as error:
            uid, locked_out = self._uid, error.hint == _LOCKED_OUT
            if not self._uid_is_remembered or locked_out or self._log_in() == uid:
                raise
            value = self._call("object", "execute_kw", params, parse, unanswered)
        self._uid_is_remembered = False
        return value

    def _call(
        self, service: str, method: str, params: Params, parse: Parse[T], unanswered: Failure
    ) -> T:
        """Call a method of one of Odoo's services, once.

        Args:
            service: "common", or "object", whose methods this gives the login as well.
            parse: makes what this returns of the reply's value, or raises.
            unanswered: what to raise where no valid answer comes.

        Raises:
            ServerError, LoginError: the server refused.
            ConnectError: it was not asked.
        """
        if service == "object":
            params = (self.db, self.uid, self._pwd, *params)

        def read(response: http.client.HTTPResponse) -> T:
            if response.status != 200:
                raise self._http_error(response, unanswered)
            try:
                return parse(_unmarshal(_body(response)))
            except xmlrpc.client.Fault as fault:
                raise self._refusal(fault, unanswered) from fault

        request = xmlrpc.client.dumps(params, method).encode()
        # Odoo 19 looks its databases up where this header names none.
        headers: Headers = {"Content-Type": "text/xml", "X-Odoo-Database": self.db.encode()}
        return self._post(f"/xmlrpc/2/{service}", request, headers, read, unanswered)

    # --- The wire ---

    def _post(
        self, path: str, request: bytes, headers: Headers, read: Read[T], unanswered: Failure
    ) -> T:
        """Send a request, once, and give what `read` makes of the response. (Without one: a GET.)

        What goes wrong before all of it is sent is a ConnectError: no server can act on a part.
        What goes wrong later is `unanswered`, unless `read` knows better and raises a LibraryError:
        a server may act on a request and fail to say so (RFC 9110, 9.2.2).
        """
        deadline = time.monotonic() + self.timeout
        kind: Failure = ConnectError
        what = "cannot connect to"
        try:
            with self._connect(min(deadline, time.monotonic() + CONNECT_SECONDS)) as sock:
                connection = http.client.HTTPConnection(self.host, self.port)
                connection.sock = _DeadlineSocket(sock, deadline)
                what = "cannot send to"
                verb = "POST" if request else "GET"
                connection.request(verb, path, request, {**_HEADERS, **headers})
                kind, what = unanswered, "no valid answer from"
                return read(connection.getresponse())
        except LibraryError:
            raise
        except Exception as error:  # each malformed reply trips over something else
            raise self._failure(kind, what, error) from error

    def _connect(self, deadline: float) -> socket.socket:
        """Connect to the first of the host's addresses that answers in its share of the time."""
        # A host as bytes spares Python the import of its codec for international names.
        host: Any = self.host.encode()
        addresses = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        seconds = _seconds_until(deadline) / len(addresses)
        sock = socket.create_connection((host, self.port), seconds)
        # http.client sends head and body apart, and the body is not to wait until the head arrived.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.scheme == "http":
            return sock
        sock.settimeout(_seconds_until(deadline))
        return self._tls.wrap_socket(sock, server_hostname=self.host)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    # --- Messages ---

    def _failure(self, kind: Failure, what: str, error: Exception) -> LibraryError:
        """The error that an exception is, in words for people."""
        words = ((reason, hint) for types, reason, hint in _REASONS if isinstance(error, types))
        reason, hint = next(words)
        if "WRONG_VERSION_NUMBER" in str(error):  # of TLS
            hint = "if the server speaks plain HTTP, use http://"
        return kind(f"{what} {self.url}: {reason.format(error)}", hint)

    def _http_error(self, response: http.client.HTTPResponse, unanswered: Failure) -> LibraryError:
        """The error that a status but 200 is. After 3xx and 4xx the request was not carried out."""
        code, location = response.status, response.getheader("Location")
        status = f"HTTP {code} {http.client.responses.get(code, '')}".strip()
        hint = _HTTP_HINTS.get(code, "")
        if not 300 <= code < 500:
            return unanswered(f"no valid answer from {self.url}: {status}", hint)
        if code < 400 and location:
            status += f": {re.sub('//[^/]*@', '//', self._masked(location))}"
            hint = "no redirection is followed; if scheme, host or port differ, use those"
        return ConnectError(f"{self.url} answers {status}", hint)

    def _refusal(
        self, fault: xmlrpc.client.Fault, unanswered: Failure, message: str = ""
    ) -> LibraryError:
        """The error that a fault is, with a message unless its text is one.

        Odoo's codes: 1 traceback, 2 message, 3 login, 4 rights.
        """
        raw = str(fault.faultString)  # to decide by: a part of it may be the password
        text = fault.faultString = self._masked(raw)
        message = _one_line(self._masked(message) or text)
        if unanswered is UnknownOutcomeError and _AFTER_COMMIT.search(raw):
            return unanswered(f"{self.url} does not say what became of the change: {message}")
        if fault.faultCode == 3:
            return LoginError(message, _LOCKED_OUT if "Too many login failures" in raw else "")
        hint = ""
        if re.search(f"{MODEL}'? (doesn't|does not) exist", raw):
            hint = "install the library_app module, which has the books, on the server"
        return ServerError(message, hint, fault.faultCode, text)

    def _masked(self, text: str) -> str:
        return mask(text, self.user, self._pwd)


def mask(text: str, user: str, pwd: str) -> str:
    """`text` with "***" for the password, in each of the ways in which it may be quoted.

    A password that is the user's name is no secret, and "admin" is a part of many messages.
    """
    if pwd != user:
        for quoted in (pwd, repr(pwd)[1:-1], xmlrpc.client.escape(pwd)):
            text = text.replace(quoted, "***")
    return text


# --- The wire: sockets, HTTP and XML -------------------------------------------------------------


class _DeadlineSocket(io.RawIOBase):
    """What http.client needs of a socket, where every wait ends at one deadline.

    A timeout of the socket's alone starts anew with each byte that trickles in.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_seconds_until(self._deadline))
        return self._sock.recv_into(buffer)

    def sendall(self, request: bytes) -> None:
        self._sock.settimeout(_seconds_until(self._deadline))  # for all of it
        self._sock.sendall(request)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Leave that to the socket's owner: http.client closes it before it reads the reply."""


def _seconds_until(deadline: float) -> float:
    """Seconds until `deadline`, which is one of time.monotonic(); raises where it is past."""
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
    if not rows or (_INT.match(rows) and not _INT.sub("", rows)):
        return [int(number) for number in _INT.findall(rows)]
    if _BOOK.sub("", rows) or _OTHER_REFERENCE.search(rows):
        return None
    return ({"id": int(row[1]), "name": _unescape(row[2])} for row in _BOOK.finditer(rows))


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


_HEADERS = {"Accept-Encoding": "gzip", "Connection": "close", "User-Agent": "library_xmlrpc"}

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
_INT = re.compile(r"<value><int>([1-9][0-9]{0,8})</int></value>\n")
_BOOK = re.compile(
    rf"<value><struct>\n<member>\n<name>id</name>\n{_INT.pattern}</member>\n"
    r"<member>\n<name>name</name>\n<value><string>([^<>\r\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]*)"
    r"</string></value>\n</member>\n</struct></value>\n"
)
_OTHER_REFERENCE = re.compile("&(?!(?:amp|lt|gt);)")


# --- Messages: what goes wrong, in words for people ----------------------------------------------

_LOCKED_OUT = "wait a minute before you try again"
_NO_ODOO = "is that an Odoo server? from Odoo 22 on there is no XML-RPC"
_AUTHORITY = "for a private authority, SSL_CERT_FILE has to name a file that holds its certificate"

# What exceptions mean: the first that fits. Text of the server's is in none of them.
_REASONS: list[tuple[type[Exception] | tuple[type[Exception], ...], str, str]] = [
    (socket.timeout, "timed out", "is it up? a longer timeout may help"),
    (ConnectionRefusedError, "connection refused", "start the server, or give another URL"),
    (socket.gaierror, "the host's name can't be looked up", "check its spelling and the network"),
    (ssl.SSLCertVerificationError, "untrusted certificate: {0.verify_message}", _AUTHORITY),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), "connection closed", ""),
    (ssl.SSLError, "TLS failed ({0.reason})", ""),
    ((ConnectionError, http.client.IncompleteRead), "connection closed", ""),
    (OSError, "{0.strerror}", ""),
    (_BadReply, "{0}", ""),
    (Exception, "not XML-RPC", _NO_ODOO),
]

_NO_ANSWER = "a web server answers, but Odoo behind it does not, or takes too long"
_HTTP_HINTS = {
    401: "a web server in front of Odoo asks for a login of its own",
    403: "a web server in front of Odoo forbids it",
    404: _NO_ODOO,
    413: "client_max_body_size of the web server there is too small for so much at once",
    **dict.fromkeys((502, 503, 504), _NO_ANSWER),
}

# Odoo commits, runs what waits for that, and writes the reply. What fails then is reported like a
# refusal: a value that can't be marshalled, such as the None of a method that forgets its return,
# is one. The traceback shows it (seen on Odoo 14 and 19).
_AFTER_COMMIT = re.compile(
    r'cannot marshal |xmlrpc.client\.py", line [0-9]+, in dumps'
    r"|self\._cnx\.commit\(\)|self\.postcommit\.run\(\)|in signal_changes"
)


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

# What no text of ours can hold: control characters and line separators (a title is one line),
# surrogates and noncharacters (XML can't carry them: Odoo's parser fails on each).
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))
    + "]"
)


def check_title(title: str, what: str = "a title") -> str:
    """`title`, if it can be a book's; else ValueError."""
    if not check_line(title, what).strip():
        raise ValueError(f"{what} must not be blank")
    return title


def check_line(text: str, what: str = "a title") -> str:
    """`text`, if it is a line of text that XML can carry; else ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{what} must be a str, not {type(text).__name__}")
    found = _FORBIDDEN.search(text)
    if found:  # the message does not show the text, which may be a password
        raise ValueError(f"{what} can't hold the character U+{ord(found[0]):04X}")
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


# Any value but these is no answer to the call.


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
    name = _struct(row).get("name") or ""  # False is a field without a value
    if not isinstance(name, str):
        raise _BadReply("not a title")
    return {"id": _id(row.get("id")), "name": name}


if __name__ == "__main__":
    from pprint import pprint

    api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    try:
        pprint(api.search_read())
    except LibraryError as error:
        print(f"library_xmlrpc.py: error: {error}", file=sys.stderr)
        if not sys.flags.interactive:
            raise SystemExit(1) from None
