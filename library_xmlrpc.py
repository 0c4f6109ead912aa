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

import contextlib
import functools
import gzip
import http.client
import io
import os
import re
import socket
import ssl
import time
import urllib.parse
import xmlrpc.client
from collections.abc import Iterable, Iterator
from xml.parsers import expat

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from typing import Any, Callable, Literal, TypedDict, TypeVar

    T = TypeVar("T")

    class Book(TypedDict):
        id: int
        name: str


MODEL = "library.book"
MAX_ID = 2**31 - 1  # XML-RPC's integers have 32 bits, as PostgreSQL's for Odoo's ids
FIRST_PAGE = 1000  # books in the request that a listing begins with; each next one asks for twice
LAST_PAGE = 5000  # as many, to this: with fewer Odoo takes longer, with more we take more memory
MAX_REPLY = 64 * 2**20  # bytes, unpacked: the ids of nearly two million books
CONNECT_SECONDS = 10.0

# What a title can't hold: control characters and line separators (it is one line), surrogates and
# noncharacters (XML can't carry them: Odoo's parser fails on each).
_NOT_IN_A_LINE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))
    + "]"
)


class LibraryError(Exception):
    """The call failed. `hint` says what to do about it, where there is something to say."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConnectError(LibraryError):
    """No server, no Odoo, or no answer to a question. Nothing was changed."""


class LoginError(LibraryError):
    """The server let this user not in. Nothing was changed."""


class ServerError(LibraryError):
    """The server refused, and rolled back. `code` and `text` are its fault's."""

    def __init__(self, message: str, hint: str = "", code: int = 0, text: str = "") -> None:
        super().__init__(message, hint)
        self.code = code
        self.text = text or message


class BookNotFoundError(ServerError):
    """There is no book with one of `ids`, or none that this user may see."""

    def __init__(self, ids: list[int]) -> None:
        if len(ids) == 1:
            message = f"Book with ID {ids[0]} does not exist"
        else:
            message = f"Books with IDs {', '.join(map(str, ids))} do not exist"
        super().__init__(message)
        self.ids = ids


class UnknownOutcomeError(LibraryError):
    """A change was sent and no valid answer came: it may have been made, or may yet be."""


class ChangeInterrupted(KeyboardInterrupt):
    """Ctrl-C after a change was sent and before its answer came: as UnknownOutcomeError."""


class _BadReply(Exception):
    """What came is not an answer to the call."""


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
        for name, value in (("host", host), ("db", db), ("user", user), ("pwd", pwd)):
            if not value or _NOT_IN_A_LINE.search(value):  # the message shows no value: see pwd
                raise ValueError(f"{name} is empty, or holds a character that can't be sent")
        if not 1 <= int(port) <= 65535:
            raise ValueError(f"port must be from 1 to 65535, not {port}")
        if scheme not in ("http", "https"):
            raise ValueError(f"scheme must be http or https, not {scheme!r}")
        if not 0 < timeout <= 1e6:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout}")
        self.host, self.port, self.scheme = host, int(port), scheme
        # As bytes it spares Python the import of its codec for international names, mostly.
        self._host_name = host.encode("ascii" if host.isascii() else "idna")
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
        return self._call("version", (), _struct)

    def search_read(self, title: str | None = None, limit: int | None = None) -> list[Book]:
        """The books whose title contains `title`, in any case, in the server's order."""
        return list(self.iter_books(title, limit))

    def iter_books(self, title: str | None = None, limit: int | None = None) -> Iterator[Book]:
        """The same as an iterator that asks for a page of books at a time.

        A book is given once, and none is left out that was there all the time, also when others
        add and delete meanwhile. (Pages by offset do not hold that.) So the first page comes with
        the search itself, and the rest by the ids that a second search finds.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit}")
        domain = _domain(title)
        size = min(FIRST_PAGE, limit or FIRST_PAGE)
        kwargs = {"fields": ["name"], "limit": size}
        first = self._execute("search_read", [domain], kwargs, _books)
        yield from first
        if len(first) < FIRST_PAGE or limit == FIRST_PAGE:
            return
        given = {book["id"] for book in first}
        found = self._execute("search", [domain], {"limit": limit} if limit else {}, _ids)
        ids = [id for id in found if id not in given][: limit and limit - FIRST_PAGE]
        yield from self._read_pages(ids)

    def create(self, title: str) -> int:
        """Add a book and give its id."""
        return self._execute("create", [{"name": check_title(title)}], {}, _id)

    def create_many(self, titles: Iterable[str]) -> list[int]:
        """Add a book for each title, all or none (one transaction), and give their ids in order."""
        rows = [{"name": check_title(title)} for title in titles]
        if not rows:
            return []
        return self._execute("create", [rows], {}, lambda reply: _ids(reply, len(rows)))

    def write(self, id: int, title: str) -> Literal[True]:
        """Change the title of a book.

        Raises BookNotFoundError where there is none. This takes a call of its own, before the
        change: Odoo's `write` answers True for books that do not exist.
        """
        values = {"name": check_title(title)}
        if not self._existing([check_id(id)]):
            raise BookNotFoundError([id])
        return self._execute("write", [[id], values], {}, _true)

    def unlink(self, id: int) -> Literal[True]:
        """Delete a book; BookNotFoundError where there is none."""
        if not self.unlink_many([id]):
            raise BookNotFoundError([id])
        return True

    def unlink_many(self, ids: Iterable[int]) -> list[int]:
        """Delete those of the books that exist, all or none of them, and give their ids.

        As with `write`, it takes a call of its own to know which exist.
        """
        existing = self._existing([check_id(id) for id in ids])
        if existing:
            self._execute("unlink", [existing], {}, _true)
        return existing

    def _existing(self, ids: list[int]) -> list[int]:
        """Those of `ids`, once each, whose books exist; archived ones do."""
        if not ids:
            return []
        # Odoo's `exists` would say so too, but is private since Odoo 19.
        context = {"active_test": False}
        found = set(self._execute("search", [[["id", "in", ids]]], {"context": context}, _ids))
        return [id for id in dict.fromkeys(ids) if id in found]

    def _read_pages(self, ids: list[int]) -> Iterator[Book]:
        """The books with these ids, in their order, less those that were deleted meanwhile.

        While one page's reply is parsed, the server works on the next one. That waits in a daemon
        thread: a reader that stops early, or Ctrl-C, does not.
        """
        from concurrent.futures import Future
        from threading import Thread

        def start(page: list[int]) -> Future[Any]:
            reply: Future[Any] = Future()

            def send() -> None:
                try:
                    reply.set_result(self._send("read", [page, ["name"]], {}, ConnectError))
                except BaseException as error:  # for the reader, who raises it
                    reply.set_exception(error)

            Thread(target=send, daemon=True).start()
            return reply

        replies = map(start, _pages(ids))  # each starts when it is asked for
        ahead = next(replies, None)
        while ahead:
            reply, ahead = ahead.result(), next(replies, None)
            yield from self._parsed(reply, _books, ConnectError)

    @property
    def uid(self) -> int:
        """The user's id on the server. The first use logs in, or recalls the id from the cache."""
        if self._uid is None:
            self._uid = self._recall()
            self._uid_is_remembered = self._uid is not None
        return self._uid or self._log_in()

    def _log_in(self) -> int:
        params: tuple[Any, ...] = (self.db, self.user, self._pwd, {})
        try:
            uid = self._call("authenticate", params, _uid_or_false)
        except ServerError as error:
            if f'database "{self.db}" does not exist' in error.text:
                raise LoginError(f"{self.url} has no database {self.db!r}") from error
            raise LoginError(f"cannot log in: {error}", error.hint) from error
        if not uid:
            raise LoginError(
                f"wrong user or password for {self.user!r} on database {self.db!r}",
                "after several attempts Odoo locks a user out: wait a minute; "
                "with two-factor authentication, use an API key as the password",
            )
        self._uid, self._uid_is_remembered = uid, False
        self._remember(uid)
        return uid

    def _recall(self) -> int | None:
        if self._uid_cache is None:
            return None
        try:
            with open(self._uid_cache, "rb") as file:
                return check_id(int(file.read(20)))
        except (OSError, ValueError):  # absent or spoilt: it costs a login
            return None

    def _remember(self, uid: int) -> None:
        """Replace the file as a whole, so that no other process reads a part of it."""
        if self._uid_cache is None:
            return
        draft = f"{self._uid_cache}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(draft), mode=0o700, exist_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(f"{uid}\n")
            os.replace(draft, self._uid_cache)
        except OSError:  # it is never needed: the next command logs in again
            pass

    def _execute(
        self, method: str, args: list[Any], kwargs: dict[str, Any], parse: Callable[[Any], T]
    ) -> T:
        """Call a method of the book model, and give what `parse` makes of the reply's value.

        A uid from the cache may be stale, and a server that knows it no more says so in several
        ways. So any fault (after which nothing was changed) makes it log in, and where that gives
        another uid, call again.
        """
        changes = method in ("create", "write", "unlink")
        lost = UnknownOutcomeError if changes else ConnectError

        def execute() -> T:
            return self._parsed(self._send(method, args, kwargs, lost), parse, lost)

        uid = self.uid
        try:
            value = execute()
        except (ServerError, LoginError) as error:
            locked_out = "Too many login failures" in str(error)
            if not self._uid_is_remembered or locked_out or self._log_in() == uid:
                raise
            value = execute()
        self._uid_is_remembered = False
        return value

    def _send(
        self, method: str, args: list[Any], kwargs: dict[str, Any], lost: type[LibraryError]
    ) -> Any:
        """Call a method of the book model, and give the reply as it came."""
        params = (self.db, self.uid, self._pwd, MODEL, method, args, kwargs)
        return self._post("object", "execute_kw", params, lost)

    def _call(self, method: str, params: tuple[Any, ...], parse: Callable[[Any], T]) -> T:
        """Ask the server what needs no login, and give what `parse` makes of the reply's value."""
        return self._parsed(self._post("common", method, params, ConnectError), parse, ConnectError)

    def _post(
        self, service: str, method: str, params: tuple[Any, ...], lost: type[LibraryError]
    ) -> Any:
        """Make one call, one POST, and give the reply as it came: its XML, not yet parsed.

        Whatever happens after all of the request was sent, except for an answer that refuses it,
        raises `lost`: a server may act on a request and fail to say so (RFC 9110, 9.2.2).
        """
        request = xmlrpc.client.dumps(params, method).encode()
        deadline = time.monotonic() + self.timeout
        try:
            sock = self._connect(min(deadline, time.monotonic() + CONNECT_SECONDS))
        except OSError as error:
            raise self._failure(ConnectError, "cannot connect to", error) from error
        with sock, self._answering(lost):
            connection = http.client.HTTPConnection(self.host, self.port)
            connection.sock = _DeadlineSocket(sock, deadline)
            try:
                connection.request("POST", f"/xmlrpc/2/{service}", request, _HEADERS)
            except OSError as error:  # a request in part is one that no server can act on
                raise self._failure(ConnectError, "cannot send to", error) from error
            response = connection.getresponse()
            if 300 <= response.status < 500:
                raise self._not_served(response)
            return _received(response)

    def _parsed(self, reply: Any, parse: Callable[[Any], T], lost: type[LibraryError]) -> T:
        """What `parse` makes of the reply's value; it raises where that is of another type."""
        with self._answering(lost):
            return parse(self._value(reply))

    def _value(self, reply: Any) -> Any:
        return _unmarshal(reply)

    @contextlib.contextmanager
    def _answering(self, lost: type[LibraryError]) -> Iterator[None]:
        """Have what goes wrong with an answer be one of the errors above."""
        try:
            yield
        except xmlrpc.client.Fault as fault:
            raise self._refusal(fault) from fault
        except LibraryError:
            raise
        except Exception as error:  # each malformed reply trips over something else
            raise self._failure(lost, "no valid answer from", error) from error
        except KeyboardInterrupt:
            if lost is UnknownOutcomeError:
                raise ChangeInterrupted from None
            raise

    def _connect(self, deadline: float) -> socket.socket:
        addresses = socket.getaddrinfo(self._host_name, self.port, type=socket.SOCK_STREAM)
        for untried, (family, kind, proto, _, address) in zip(
            range(len(addresses), 0, -1), addresses
        ):
            sock = socket.socket(family, kind, proto)
            try:
                sock.settimeout(_left(deadline) / untried)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.scheme == "https":
                    sock.settimeout(_left(deadline))
                    return self._tls.wrap_socket(sock, server_hostname=self.host)
                return sock
            except BaseException as error:
                sock.close()
                if untried == 1 or not isinstance(error, OSError):
                    raise
        raise OSError("no address")

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def _failure(self, kind: type[LibraryError], what: str, error: Exception) -> LibraryError:
        reason, hint = next(
            (reason, hint) for types, reason, hint in _REASONS if isinstance(error, types)
        )
        if isinstance(error, ssl.SSLError):
            hint = _TLS_HINTS.get(getattr(error, "verify_code", error.reason), "")
        if isinstance(error, _CUT) and (self.scheme == "http" or what == "cannot connect to"):
            hint = hint or _OTHER_SCHEME[self.scheme]
        if kind is UnknownOutcomeError:  # to look what it was comes first
            hint = ""
        return kind(f"{what} {self.url}: {reason.format(error)}", hint)

    def _not_served(self, response: http.client.HTTPResponse) -> ConnectError:
        """What a redirection or a client error of HTTP says: the request was not carried out."""
        status = f"HTTP {response.status} {http.client.responses.get(response.status, '')}".strip()
        location = response.getheader("Location")
        if response.status >= 400 or not location:
            hint = _HTTP_HINTS.get(response.status, "")
            if response.status == 400 and self.scheme == "http":
                hint = _OTHER_SCHEME["http"]
            return ConnectError(f"{self.url} answers {status}", hint)
        location = self._masked(location)
        try:
            target = urllib.parse.urlsplit(urllib.parse.urljoin(self.url, location))
            server = f"{target.scheme}://{target.netloc.rpartition('@')[2]}"
        except ValueError:
            server = ""
        return ConnectError(
            f"{self.url} redirects to {server or 'another place'} ({status})",
            f"no redirection is followed: use the URL {server}" if server else "",
        )

    def _refusal(self, fault: xmlrpc.client.Fault) -> LibraryError:
        """The error that a fault is. Odoo's codes: 1 traceback, 2 message, 3 login, 4 rights."""
        text = fault.faultString = self._masked(fault.faultString)
        lines = [line.strip() for line in text.split("\n") if line.strip()] or ["no reason given"]
        message = lines[-1] if lines[0].startswith("Traceback") else " ".join(lines)
        message = message if len(message) <= 500 else message[:499] + "…"
        if fault.faultCode == 3:
            wait = "wait a minute before you try again" if "Too many" in message else ""
            return LoginError(message, wait)
        hint = ""
        if f"{MODEL} doesn't exist" in text:
            hint = "install the library_app module, which has the books, on the server"
        return ServerError(message, hint, fault.faultCode, text)

    def _masked(self, text: str) -> str:
        return mask(text, self._pwd, self.user)


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
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)

    def sendall(self, request: bytes) -> None:
        unsent = memoryview(request)
        while unsent:
            self._sock.settimeout(_left(self._deadline))
            unsent = unsent[self._sock.send(unsent) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Leave that to the socket's owner: http.client closes it before it reads the reply."""


def mask(text: str, pwd: str, user: str) -> str:
    """`text` with "***" for the password, in each of the ways in which it may be quoted.

    A password that is the user's name is no secret, and "admin" is a part of many messages.
    """
    if pwd != user:
        for quoted in (pwd, repr(pwd)[1:-1], xmlrpc.client.escape(pwd)):
            text = text.replace(quoted, "***")
    return text


def _left(deadline: float) -> float:
    """Seconds until `deadline`, which is one of time.monotonic()."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("timed out")
    return seconds


def _received(response: http.client.HTTPResponse) -> bytearray:
    """The body of a response, wholly there and unpacked; raises whatever it trips over."""
    if response.status != 200:
        raise _BadReply(f"HTTP {response.status} {http.client.responses.get(response.status, '')}")
    packed = response.getheader("Content-Encoding") == "gzip"
    stream: Any = gzip.GzipFile(fileobj=response, mode="rb") if packed else response
    body = bytearray()
    while chunk := stream.read(2**20):
        body += chunk
        if len(body) > MAX_REPLY:
            raise _BadReply(f"larger than {MAX_REPLY >> 20} MiB")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return body


def _unmarshal(reply: bytearray) -> Any:
    """The value in a reply.

    Raises Fault, or whatever the reply trips over: it is well-formed as a whole, or is none.
    Odoo's replies have no DTD; one that has may define entities that explode.
    """
    unmarshaller = xmlrpc.client.Unmarshaller()
    unmarshaller.xml("", None)  # text comes from expat decoded
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = unmarshaller.start
    parser.EndElementHandler = unmarshaller.end
    parser.CharacterDataHandler = unmarshaller.data
    parser.StartDoctypeDeclHandler = _refuse_dtd
    parser.Parse(reply, True)
    try:
        (value,) = unmarshaller.close()
    except xmlrpc.client.Fault as fault:
        if type(fault.faultCode) is not int or not isinstance(fault.faultString, str):
            raise _BadReply("a fault without a code or a text") from fault
        raise
    return value


def _refuse_dtd(*args: object) -> None:
    raise _BadReply("it has a DTD")


_HEADERS = {
    "Content-Type": "text/xml",
    "Accept-Encoding": "gzip",
    "Connection": "close",
    "User-Agent": "library_xmlrpc",
}

# What exceptions mean to people: the first that fits. Text of the server's is in none of them.
_REASONS: list[tuple[type[Exception] | tuple[type[Exception], ...], str, str]] = [
    (socket.timeout, "timed out", ""),
    (ConnectionRefusedError, "connection refused", "start the server, or give another URL"),
    (socket.gaierror, "unknown host", "give another URL"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted: {0.verify_message}", ""),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), "connection closed", ""),
    (ssl.SSLError, "TLS failed ({0.reason})", ""),
    ((ConnectionError, http.client.IncompleteRead, EOFError), "connection closed", ""),
    (OSError, "{0.strerror}", ""),
    (_BadReply, "{0}", ""),
    (http.client.HTTPException, "not HTTP", ""),
    (Exception, "not XML-RPC", ""),
]

# How a server ends a connection whose scheme it does not speak, where it does not say so: among
# them, Odoo 19 closes one that begins with TLS.
_CUT = (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError, ssl.SSLZeroReturnError)

_OTHER_SCHEME = {
    "http": "if the server speaks TLS, use https://",
    "https": "if the server speaks plain HTTP, use http://",
}

_TLS_HINTS: dict[object, str] = {  # by OpenSSL's reason, or its code for an untrusted certificate
    "WRONG_VERSION_NUMBER": _OTHER_SCHEME["https"],
    **dict.fromkeys(  # the issuer is unknown, or itself
        (2, 18, 19, 20, 21), "name the file of a private authority's certificate in SSL_CERT_FILE"
    ),
}

_HTTP_HINTS = {
    401: "a web server in front of Odoo asks for a login of its own",
    403: "a web server in front of Odoo forbids it",
    404: "is that an Odoo server?",
    405: "is that an Odoo server?",
    413: "a web server in front of Odoo takes no request that large",
    429: "wait a while before you try again",
}


def check_title(title: str) -> str:
    """`title`, if it can be a book's; else ValueError."""
    if not check_line(title).strip():
        raise ValueError("a title must not be blank")
    return title


def check_line(text: str) -> str:
    """`text`, if it is a line of text that XML can carry; else ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"a title is a str, not {type(text).__name__}")
    found = _NOT_IN_A_LINE.search(text)
    if found:
        raise ValueError(f"a title can't hold the character U+{ord(found[0]):04X}")
    return text


def check_id(id: int) -> int:
    """`id`, if it can be a record's; else ValueError."""
    if type(id) is not int or not 1 <= id <= MAX_ID:
        raise ValueError(f"an ID is a number from 1 to {MAX_ID}")
    return id


def _pages(ids: list[int]) -> Iterator[list[int]]:
    """The ids in pages: small ones first, for which the server does not take long."""
    start, size = 0, FIRST_PAGE
    while start < len(ids):
        size = min(2 * size, LAST_PAGE)
        yield ids[start : start + size]
        start += size


def _domain(title: str | None) -> list[Any]:
    """Odoo's search domain for the books whose title contains `title`, literally."""
    if not title:
        return []
    return [["name", "ilike", re.sub(r"[\\%_]", r"\\\g<0>", check_line(title))]]


# What a reply's value must be, call by call. Anything else is no answer to it.


def _struct(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _BadReply("not a struct")
    return value


def _id(value: Any) -> int:
    try:
        return check_id(value)
    except ValueError:
        raise _BadReply("not an ID") from None


def _uid_or_false(value: Any) -> int | Literal[False]:
    return False if value is False else _id(value)


def _ids(value: Any, count: int | None = None) -> list[int]:
    if not isinstance(value, list) or count not in (None, len(value)):
        raise _BadReply("not the list of IDs")
    return [_id(id) for id in value]


def _true(value: Any) -> Literal[True]:
    if value is not True:
        raise _BadReply("not True")
    return True


def _books(value: Any) -> list[Book]:
    if not isinstance(value, list):
        raise _BadReply("not a list of books")
    return [_book(row) for row in value]


def _book(row: Any) -> Book:
    name = _struct(row).get("name")
    if name is False or name is None:  # a field without a value
        name = ""
    if not isinstance(name, str):
        raise _BadReply("not a title")
    return {"id": _id(row.get("id")), "name": name}


if __name__ == "__main__":
    from pprint import pprint

    api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    try:
        pprint(api.search_read())
    except LibraryError as error:
        raise SystemExit(f"library_xmlrpc.py: error: {error}") from None
