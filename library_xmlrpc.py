"""The book catalogue of an Odoo server, over XML-RPC.

    >>> from library_xmlrpc import LibraryAPI
    >>> api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    >>> api.create("Moby-Dick")
    60
    >>> api.search_read("moby")
    [{'id': 60, 'name': 'Moby-Dick'}]

Every call is one POST with a deadline. No request is sent twice: where a change may have been made
and no answer came, UnknownOutcomeError says so. `python3 -i library_xmlrpc.py` lists the books
of a server with the default settings, and is then a session with `api` at hand.

What it can't promise: reading a large reply's XML takes time beyond `timeout`. An answer that
arrives between the look at a kept connection and the next request can't be told from the reply.
Where two delete the same books at once, both may be told that they did. A server may echo a
password in an encoding in which it is not recognized.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from http.client import HTTPException, IncompleteRead
from ssl import SSLCertVerificationError, SSLError
from xmlrpc.client import Fault, ProtocolError, ServerProxy, Transport, escape, loads

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from typing import Any, Callable, TypedDict, TypeVar

    T = TypeVar("T")
    Parse = Callable[[Any], T]  # of a reply's value: it raises where that is of another type

    class Book(TypedDict):
        id: int
        name: str


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
MAX_FAULT = 100_000  # characters of a fault's text: what is made of it takes time and memory
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
    """The server refused, and rolled back. `code` and `text` are its fault's.

    Of a very long text MAX_FAULT characters are there. A refusal by Odoo's import has the code 2.
    """

    def __init__(self, message: str, hint: str = "", code: int = 0, text: str = "") -> None:
        super().__init__(message, hint)
        self.code = code
        self.text = text


class BookNotFoundError(ServerError):
    """There is no book with one of `ids`, or none that this user may see."""

    def __init__(self, ids: list[int]) -> None:
        super().__init__(f"there is no book with ID {', '.join(map(str, ids))}")
        self.ids = ids


class UnknownOutcomeError(LibraryError):
    """A change was sent and no valid answer came: it may have been made, or may yet be."""


# --- The API -------------------------------------------------------------------------------------


class LibraryAPI:
    """The books of one Odoo database, as one user sees them.

    Args:
        host, port: of the server's HTTP service.
        db, user, pwd: the database, and a login to it; `pwd` is a password or an API key.
        scheme: "http" or "https"; https is verified against the system's trust store, and goes
            through the proxy that https_proxy names.
        timeout: seconds for each call as a whole, however slowly bytes come; of these, ten at most
            to connect.
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
        self.url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        self.db, self.user, self._pwd = db, user, pwd
        self._transport = _Transport(scheme, host, port, db, timeout)
        self._uid: int | None = None
        self._uid_cache = uid_cache
        self._uid_is_unproven = False  # it is from the cache, and no call has succeeded yet

    def __repr__(self) -> str:
        return f"<LibraryAPI {self.url} db={self.db!r} user={self.user!r}>"

    def close(self) -> None:
        """Close the connections that are kept for the next calls. A next call makes its own."""
        self._transport.close()

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
        domain = []
        if title:  # matched literally
            escaped = re.sub(r"[\\%_]", r"\\\g<0>", check_title(title))
            domain = [["name", "ilike", escaped]]
        return self._iter_books(domain, limit)

    def create(self, title: str) -> int:
        """Add a book and give its id."""
        return self._execute("create", [{"name": check_title(title)}], {}, _id)

    def create_many(self, titles: Iterable[str]) -> list[int]:
        """Add a book for each title, all or none, and give their ids in order.

        It is one transaction, hence one request. Many web servers in front of an Odoo take no
        request above 1 MiB, some 9,000 titles.
        """
        rows = [{"name": title} for title in _check_titles(titles)]
        return self._execute("create", [rows], {}, partial(_ids, count=len(rows)))

    def write(self, id: int, title: str) -> bool:
        """Change the title of a book, and give True.

        Raises BookNotFoundError where there is none. It looks first, by a call of its own: Odoo's
        `write` answers True for books that do not exist.
        """
        values = {"name": check_title(title)}
        if not self._existing([check_number(id)]):
            raise BookNotFoundError([id])
        return self._execute("write", [[id], values], {}, _true)

    def write_many(self, titles: Mapping[int, str]) -> tuple[list[int], list[int]]:
        """Change the titles of books, given by id, all of them or none.

        Gives the ids of the books that were changed and of those that do not exist. A book with
        that title already is in neither: it is left alone. It takes a call of its own to see. The
        change is one transaction, by `load`, Odoo's own import, which takes a sixteenth of the time
        of a `write` for each (measured on Odoo 14 and 19). Unlike `write` it is not retried by Odoo
        where others change the same books at the same time, but refused.
        """
        for id, title in titles.items():
            check_number(id)
            check_title(title)
        now = self._titles(["id", "in", list(titles)], active_test=False)
        changes = [id for id in titles if now.get(id, titles[id]) != titles[id]]
        if changes:
            args = [[".id", "name"], [[str(id), titles[id]] for id in changes]]
            kwargs = {"context": {"active_test": False}}  # or an archived book is an unknown one
            self._execute("load", args, kwargs, partial(_loaded, count=len(changes)))
        return changes, [id for id in titles if id not in now]

    def existing_titles(self, titles: Iterable[str]) -> set[str]:
        """Those of the given titles that the catalogue has already, letter for letter.

        Archived books don't count. Two who look and then add at the same time may both add one.
        """
        return set(self._titles(["name", "in", _check_titles(titles)]).values())

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

    def _titles(self, leaf: list[Any], **context: bool) -> dict[int, str]:
        """The titles by id of the books that a leaf of a search domain fits."""
        kwargs = {"fields": ["name"], "context": context}
        books = self._execute("search_read", [[leaf]], kwargs, _books)
        return {book["id"]: book["name"] for book in books}

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
            self._uid = _recall_uid(self._uid_cache)
            self._uid_is_unproven = self._uid is not None
        return self._uid or self._log_in()

    def _log_in(self) -> int:
        common = self._service("common")
        try:
            with self._errors(ConnectError):
                reply = common.authenticate(self.db, self.user, self._pwd, {})
                uid = None if reply is False else _id(reply)
        except ServerError as error:
            if f'database "{self.db}" does not exist' in error.text:
                raise LoginError(f"there is no database {self.db!r} on {self.url}") from error
            raise ConnectError(f"cannot log in to {self.url}: {error}", error.hint) from error
        if not uid:
            whose = f"{self.user!r} on {self.url}, database {self.db!r}"
            raise LoginError(f"wrong user or password for {whose}")
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
        changes = method in ("create", "write", "load", "unlink")

        def execute_kw(uid: int) -> T:
            with self._errors(UnknownOutcomeError if changes else ConnectError):
                reply = models.execute_kw(self.db, uid, self._pwd, MODEL, method, args, kwargs)
                return parse(reply)

        uid = self.uid
        try:
            value = execute_kw(uid)
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
        return ServerProxy(f"{self.url}/xmlrpc/2/{name}", self._transport)

    @contextlib.contextmanager
    def _errors(self, if_lost: type[LibraryError]) -> Iterator[None]:
        """Raise what goes wrong in a call as one of our errors.

        `if_lost` is raised where the request was sent and no valid answer came: the server
        may have acted on it (RFC 9110, 9.2.2).
        """
        try:
            yield
        except LibraryError:  # an edition's
            raise
        except Fault as fault:
            raise self._refusal(fault, if_lost) from fault
        except ProtocolError as error:
            raise self._status_error(error, if_lost) from error
        except _NotSentError as error:
            reason, hint = _reason(error.__cause__ or error)
            raise ConnectError(f"{error} {self.url}: {reason}", hint) from error
        except Exception as error:  # each malformed reply trips over something else
            reason, hint = _reason(error)
            raise if_lost(f"no valid answer from {self.url}: {reason}", hint) from error

    def _refusal(self, fault: Fault, if_lost: type[LibraryError]) -> LibraryError:
        """The error for a fault. Odoo's codes: 1 traceback, 2 message, 3 login, 4 rights."""
        code, text = fault.faultCode, fault.faultString
        if type(code) is not int or not isinstance(text, str):
            return if_lost(f"no valid answer from {self.url}: a fault without text or code")
        fault.faultString = text = text[:MAX_FAULT]
        _, hint = _reason(fault)
        fault.faultString = self._mask(text)  # which a traceback quotes
        message = _one_line(fault.faultString)
        if if_lost is UnknownOutcomeError and re.search(_AFTER_COMMIT, text):
            return if_lost(f"{self.url} does not say what became of the change: {message}")
        return LoginError(message, hint) if code == 3 else ServerError(message, hint, code, text)

    def _status_error(self, error: ProtocolError, if_lost: type[LibraryError]) -> LibraryError:
        """The error for an HTTP status. After 3xx and 4xx, as a rule, nothing was done."""
        code, location = error.errcode, error.headers.get("Location")
        status, hint = _reason(error)
        if code < 400 and location:
            status += f": {_one_line(self._mask(location))}"
            found = re.match("https://([^/?#@:]+)(:[0-9]+)?(?=[/?#]|$)", location)
            if self.scheme == "http" and found and found[1].lower() == self.host.lower():
                hint = f"use {found[0]}"
        is_refused = 300 <= code < 500 and code not in _MAY_BE_PASSED_ON
        return (ConnectError if is_refused else if_lost)(f"{self.url} answers {status}", hint)

    def _mask(self, text: str) -> str:
        return mask(text, self.user, self._pwd)


# --- Checks: what the caller gives, and what a reply's value must be -----------------------------

# What no text of ours can hold: control characters and line separators (a title is one line), the
# byte-order mark (nobody sees it), and what XML can't carry: surrogates, U+FFFE and U+FFFF.
# None of it is printable: most texts need no pattern, which takes a while to compile.
_FORBIDDEN = "[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]"
_CHARACTER_NAMES = {"\t": "a tab", "\r": "a carriage return", "\ufeff": "a byte-order mark"}


def check_title(title: str, what: str = "a title") -> str:
    """`title`, if it is a line of text that a book and XML can have; else ValueError."""
    if not isinstance(title, str):
        raise ValueError(f"{what} must be a str, not {type(title).__name__}")
    found = None if title.isprintable() else re.search(_FORBIDDEN, title)
    if found:  # the message does not show the text, which may be a password
        code = ord(found[0])
        name = _CHARACTER_NAMES.get(found[0], f"the character U+{code:04X}")
        if 0xD800 <= code < 0xE000:  # Python makes surrogates of an argument's other bytes
            name = "text that is not valid UTF-8"
        raise ValueError(f"{what} can't hold {name}")
    if not title.strip():
        raise ValueError(f"{what} must not be blank")
    if len(title) > MAX_TEXT:
        raise ValueError(f"{what} can't have more than {MAX_TEXT} characters")
    return title


def _check_titles(titles: Iterable[str]) -> list[str]:
    if isinstance(titles, str):
        raise ValueError("titles must be several, not a str")
    return [check_title(title) for title in titles]


def check_number(number: int, what: str = "an ID") -> int:
    """`number`, if it can be a record's id or a count of records; else ValueError."""
    if type(number) is not int or not 1 <= number <= MAX_ID:
        raise ValueError(f"{what} must be a number from 1 to {MAX_ID}, not {number!r:.60}")
    return number


# Each gives the value if it has the right type. Otherwise it raises _BadReply.


def _struct(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _BadReply("not a struct")
    return value


def _id(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_ID:
        raise _BadReply("not an ID")
    return value


def _ids(value: Any, count: int | None = None) -> list[int]:
    if not isinstance(value, list) or count not in (None, len(value)):
        raise _BadReply("not the list of IDs")
    return [_id(id) for id in value]


def _true(value: Any) -> bool:
    if value is not True:
        raise _BadReply("not True")
    return True


def _loaded(value: Any, count: int) -> list[int]:
    reply = _struct(value)
    if reply.get("ids") is False:  # Odoo's import reports a refusal as a value
        errors = (each for each in reply["messages"] if each.get("type") != "warning")
        # Odoo 14 writes before the words of a UserError that it is an unknown error.
        texts = (re.sub(r"^[^:]*: <class '[\w.]*'>: ", "", each["message"]) for each in errors)
        raise Fault(2, "\n".join(dict.fromkeys(texts)))
    return _ids(reply.get("ids"), count)


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


# --- What makes it quick: pages ahead of the reader, and the user's id without a login -----------


def _call_ahead(call: Callable[..., T], arguments: Iterable[Any]) -> Iterator[T]:
    """The results of `call`, in the order of its arguments, with CALLS_AHEAD calls running."""
    from collections import deque
    from itertools import islice

    starts = (_start(call, argument) for argument in arguments)
    under_way = deque(islice(starts, CALLS_AHEAD))
    while under_way:
        result = under_way.popleft()()
        under_way.extend(islice(starts, 1))
        yield result


def _start(call: Callable[..., T], *args: Any) -> Callable[..., T]:
    """Start a call in a thread, and give a function that waits for its result.

    The function takes the seconds to wait, or waits for ever; then it raises socket.timeout.
    The thread ends with the program, so that a reader who stops early need not wait for it, nor
    does Ctrl-C. Where no thread can be had, the call runs at once.
    """
    from _thread import allocate_lock, start_new_thread  # Ctrl-C within threading may get lost

    outcome: list[tuple[Any, BaseException | None]] = []
    under_way = allocate_lock()
    under_way.acquire()

    def run() -> None:
        try:
            outcome.append((call(*args), None))
        except BaseException as error:
            outcome.append((None, error))
        under_way.release()

    def result(seconds: float = -1) -> T:
        if not outcome and not under_way.acquire(timeout=seconds):
            raise socket.timeout("timed out")
        value, error = outcome[0]
        if error:
            raise error
        return value  # type: ignore[no-any-return]

    try:
        start_new_thread(run, ())
    except RuntimeError:
        run()
    return result


def _recall_uid(cache: str) -> int | None:
    try:
        with open(cache, "rb") as file:
            return check_number(int(file.read(20)))
    except (OSError, ValueError):  # none, or spoilt: it costs a login
        return None


def _remember_uid(cache: str, uid: int) -> None:
    """Replace the file as a whole, so that no other process reads a part of it."""
    path = os.path.abspath(cache)
    draft = f"{path}.{time.time_ns()}"
    with contextlib.suppress(OSError):  # it is never needed: the next command logs in again
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # O_EXCL: never through a link, nor into a file that is there.
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{uid}\n")
        os.replace(draft, path)


# --- The wire: sockets and HTTP ------------------------------------------------------------------


class _NotSentError(Exception):
    """No server can have acted on the request. The exception it was raised from says why."""


class _BadReply(Exception):
    """What came, or what we were told to use, is not what it must be. The text says why."""


class _Transport(Transport):
    """A Transport to one server, which keeps its connections for the next calls.

    The inherited `request` sends a request again where a kept connection breaks, waits for ever,
    and reads replies of any size. This one sends it once, within `timeout` seconds, and reads
    MAX_REPLY bytes at most. Threads can share a transport: each call has a connection of its own.
    """

    def __init__(self, scheme: str, host: str, port: int, db: str, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        self._is_tls, self._host, self._port = scheme == "https", host, port
        self._name = host.partition("%")[0].rstrip(".")  # which a certificate has
        self._server = f"[{self._name}]" if ":" in self._name else self._name
        has_default_port = port == (443 if self._is_tls else 80)
        host_field = self._server if has_default_port else f"{self._server}:{port}"
        self._common_headers = {
            "Host": host_field.encode(),  # http.client's would name port 443, too
            "Accept-Encoding": b"gzip",
            "User-Agent": b"library_xmlrpc",
            "X-Odoo-Database": db.encode(),  # or Odoo 19 looks up which databases there are
        }
        self._kept: list[_Connection] = []

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Any:
        """Send what ServerProxy has written, and give the value of the reply, alone in a tuple.

        Raises Fault, or ProtocolError for another status than 200, or what `post` raises, or
        whatever the reply trips over.
        """
        response, body = self.post(handler, request_body, {"Content-Type": b"text/xml"})
        if response.status != 200:
            fields: Any = response.headers
            url = f"{host}{handler}"
            raise ProtocolError(url, response.status, response.reason, fields)
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
        connection.sock.deadline, connection.sock.received = deadline, 0
        keep, body = False, bytearray()
        try:
            try:
                connection.request("POST", path, request, {**self._common_headers, **headers})
            except OSError as error:
                raise _NotSentError("cannot send to") from error
            with connection.getresponse() as response:
                ignored = () if response.status == 200 else (Exception,)
                with contextlib.suppress(*ignored):
                    body = _body(response)
                    # http.client has closed it if the server says so; after 1xx more will come.
                    keep = connection.sock is not None and response.status >= 200
            return response, body
        finally:
            if keep:
                connection.idle_since = time.monotonic()
                self._kept.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        while self._kept:
            self._kept.pop().close()

    def _take(self) -> _Connection | None:
        """A kept connection that is as good as a new one, if there is any."""
        with contextlib.suppress(IndexError):  # none is left
            while not (connection := self._kept.pop()).is_reusable():
                connection.close()
            return connection
        return None

    def _connect(self, deadline: float) -> _Connection:
        """Connect to the server, in CONNECT_SECONDS at most; with https perhaps through a proxy."""
        deadline = min(deadline, time.monotonic() + CONNECT_SECONDS)
        what, connection = "cannot connect to", None
        try:
            proxy = _find_proxy(f"{self._name}:{self._port}") if self._is_tls else None
            host, port, headers = proxy or (self._host, self._port, {})
            connection = _Connection(host, port, timeout=_seconds_until(deadline))
            if proxy:
                what = f"cannot connect through https_proxy, {host}:{port}, to"
                connection.set_tunnel(self._server, self._port, headers)
            connection.connect()
            if self._is_tls:
                connection.sock.settimeout(_seconds_until(deadline))
                connection.sock = self._tls.wrap_socket(connection.sock, server_hostname=self._name)
            return connection
        except Exception as error:
            if connection:
                connection.close()
            raise _NotSentError(what) from error

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.sslsocket_class = _TLSSocket
        return context


def _find_proxy(server: str) -> tuple[str, int, dict[str, str]] | None:
    """Host and port of the proxy that https_proxy names for a server, and its login as headers."""
    if not any(name.lower() == "https_proxy" for name in os.environ):
        return None  # without the import below, which takes a while
    from base64 import b64encode
    from urllib.parse import unquote
    from urllib.request import getproxies, proxy_bypass

    url = getproxies().get("https", "")
    if not url or proxy_bypass(server):
        return None
    found = re.fullmatch(r"(?a)(?:http://)?(?:([^/]*)@)?([\w.-]+)(?::([0-9]{1,5}))?/?", url)
    if not found:  # it is not shown: it may hold a password
        raise _BadReply("https_proxy must be like http://proxy.example:3128")
    login = b64encode(unquote(found[1] or "").encode()).decode()
    headers = {"Proxy-Authorization": f"Basic {login}"} if login else {}
    return found[2], int(found[3] or 80), headers


class _Connection(http.client.HTTPConnection):
    """An HTTPConnection over a _Socket."""

    sock: Any
    idle_since = 0.0  # of time.monotonic()

    def __init__(self, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout)
        self._create_connection = _connect_socket  # in place of socket.create_connection
        self._process = os.getpid()

    def is_reusable(self) -> bool:
        """True if it was idle only briefly and there is nothing to read, not even its end.

        Briefly, because only a timeout shows that a server vanished without closing. A child of
        fork() has the connections of its parent, which go on being the parent's.
        """
        idle = time.monotonic() - self.idle_since
        if idle > IDLE_SECONDS or self._process != os.getpid():
            return False
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except OSError as error:
            return isinstance(error, (BlockingIOError, ssl.SSLWantReadError))
        return False


def _connect_socket(address: tuple[str, int], timeout: float, source: object = None) -> _Socket:
    """Connect to the first of a host's addresses that answers in its share of the time.

    The host's name is looked up once, in a thread, because the system's resolver heeds neither
    a timeout nor Ctrl-C.
    """
    host, port = address
    deadline = time.monotonic() + timeout
    # A host as bytes spares Python the import of its codec for international names.
    found = _start(socket.getaddrinfo, host.encode(), port, 0, socket.SOCK_STREAM)(timeout)
    seconds = _seconds_until(deadline) / len(found)
    for family, kind, protocol, _, resolved in found:
        sock = None
        try:
            sock = _Socket(family, kind, protocol)  # refused for IPv6 where there is none
            sock.settimeout(seconds)
            sock.connect(resolved)
            sock.deadline = deadline
            return sock
        except OSError as error:
            if sock:
                sock.close()
            failure = error
    raise failure


class _Socket(socket.socket):
    """A socket where every wait ends at one `deadline`, of time.monotonic().

    A timeout of the socket's alone starts anew with each byte that trickles in. `received` counts
    the bytes, because a chunk's length, which the server sets, may bypass http.client's limits.
    """

    deadline = 0.0
    received = 0

    def recv_into(self, *args: Any) -> int:
        self.settimeout(_seconds_until(self.deadline))
        count = super().recv_into(*args)
        self.received += count
        if self.received > MAX_REPLY:
            raise _BadReply(f"larger than {MAX_REPLY >> 20} MiB")
        return count

    def sendall(self, *args: Any) -> None:
        self.settimeout(_seconds_until(self.deadline))
        super().sendall(*args)

    def makefile(self, *args: Any, **kwargs: Any) -> Any:
        # A buffer of one octet: nothing behind a reply is read with it, and `is_reusable` sees it.
        return super().makefile("rb", buffering=1)


class _TLSSocket(_Socket, ssl.SSLSocket):
    """The same with TLS."""


def _seconds_until(deadline: float) -> float:
    """Seconds until `deadline`, of time.monotonic(). Raises socket.timeout if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("timed out")
    return seconds


def _body(response: http.client.HTTPResponse) -> bytearray:
    """The body of a response, wholly there and unpacked; raises whatever it trips over."""
    packed = (response.getheader("Content-Encoding") or "").lower() in ("gzip", "x-gzip")
    source: Any = gzip.GzipFile(fileobj=response) if packed else response
    body = bytearray()
    while chunk := source.read(2**16):
        body += chunk
        if len(body) > MAX_REPLY:
            raise _BadReply(f"larger than {MAX_REPLY >> 20} MiB")
    if response.length:
        raise IncompleteRead(b"", response.length)
    return body


# --- XML: a reply as a value ---------------------------------------------------------------------


def _unmarshal(reply: bytearray) -> Any:
    """The value in a reply. Raises Fault, or whatever the reply trips over."""
    rows = _unmarshal_rows(reply)
    if rows is not None:
        return rows
    if not _ENVELOPE.match(reply):
        raise ValueError("no reply")
    (value,), _ = loads(reply)
    return value


def _unmarshal_rows(reply: bytearray) -> list[int] | Iterator[Book] | None:
    """The ids or the books in a reply, if it is in the very form in which Odoo writes them.

    That takes a tenth of the time of a parser, and reads titles that no parser can: those with
    characters that XML forbids, which Odoo writes all the same. What stands between the rows must
    be nothing. The books are made when they are asked for: until then they take no more memory
    than their text.
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
# uses. (Odoo 19 writes other quotes and an empty line.)
_LIST = re.compile(
    rb"""<\?xml version=(?:'1\.0'|"1\.0")\?>\n<methodResponse>\n<params>\n<param>\n"""
    rb"<value><array><data>\n(.*)</data></array></value>\n</param>\n</params>\n\n?"
    rb"</methodResponse>\n",
    re.DOTALL,
)
_INT = r"<value><int>([1-9][0-9]{0,8}|1[0-9]{9})</int></value>\n"
_BOOK = (
    rf"<value><struct>\n<member>\n<name>id</name>\n{_INT}</member>\n"
    r"<member>\n<name>name</name>\n<value><string>([^<>]*)</string></value>\n</member>\n"
    r"</struct></value>\n"
)
_OTHER_REFERENCE = "&(?!(?:amp|lt|gt);)"  # than those which the Marshaller writes


# --- Messages: what goes wrong, in words for people ----------------------------------------------

_CHECK_URL = "check the URL; Odoo 22 and later have no XML-RPC"
_STATUS = "HTTP {1.errcode} {2}"
_CERTIFICATE = "untrusted certificate: {1.verify_message}"
_NAME_AUTHORITY = "for a private authority, name the file of its certificate in SSL_CERT_FILE"
_CLOSED = (ConnectionError, IncompleteRead, ssl.SSLEOFError, ssl.SSLZeroReturnError)

# What an exception means, and what to do about it: the first whose kind and text fit. In the
# meaning {0} stands for the exception's text, {1} for itself, {2} for the name of its HTTP status.
_REASONS: list[tuple[Any, str, str, str]] = [
    (Fault, "Too many login failures", "", "wait a minute before you try again"),
    (
        Fault,
        f"{MODEL}'? (doesn't|does not) exist",
        "",
        "install the module library_app in this database",
    ),
    (Fault, "could not serialize access", "", "run the same command again"),
    (Fault, "", "", ""),
    (ProtocolError, ": 40[045] ", _STATUS, _CHECK_URL),
    (ProtocolError, ": 40[13] ", _STATUS, "have the web server let Odoo's RPC through"),
    (ProtocolError, ": (50[234]|52.) ", _STATUS, "see whether Odoo runs behind it"),
    (ProtocolError, "", _STATUS, ""),
    (socket.timeout, "", "timed out", "see whether it is up, or too busy"),
    (ConnectionRefusedError, "", "connection refused", "check that it runs at this port"),
    (socket.gaierror, "", "the host's name can't be looked up", "check the name and the network"),
    (SSLCertVerificationError, "self.signed|issuer|first", _CERTIFICATE, _NAME_AUTHORITY),
    (SSLCertVerificationError, "", _CERTIFICATE, ""),
    (_CLOSED, "", "connection closed", ""),
    (SSLError, "WRONG_VERSION_NUMBER", "what came is no TLS", ""),
    (SSLError, "CERTIFICATE_REQUIRED", "it asks for a client's certificate, and gets none", ""),
    (SSLError, "PROTOCOL", "it speaks no TLS of version 1.2 or later", ""),
    (SSLError, "", "TLS failed ({1.reason})", ""),
    (MemoryError, "", "too little memory", ""),
    ((OSError, _BadReply), "", "{0}", ""),
    (HTTPException, "", "not HTTP", ""),
    (Exception, "", "not XML-RPC", _CHECK_URL),
]


def _reason(error: BaseException) -> tuple[str, str]:
    """What an exception means, and what to do about it."""
    words = re.sub(r"^\[Errno -?[0-9]+\] ", "", str(error))
    status = http.client.responses.get(getattr(error, "errcode", 0), "")
    return next(
        (meaning.format(words, error, status).strip(), hint)
        for kind, pattern, meaning, hint in _REASONS
        if isinstance(error, kind) and re.search(pattern, words)
    )


# A gateway may give up on a request that it has passed on, or hide the reply to it.
_MAY_BE_PASSED_ON = (403, 408, 499)

# Odoo commits, runs what waits for that, and writes the reply. What fails then is reported like a
# refusal: a value that can't be marshalled, such as the None of a method that forgets its return,
# is one. The traceback shows it (seen on Odoo 14 and 19).
_AFTER_COMMIT = (
    r'cannot marshal |xmlrpc.client\.py", line [0-9]+, in dumps'
    r"|self\._cnx\.commit\(\)|self\.postcommit\.run\(\)|in signal_changes"
)


def _one_line(text: str) -> str:
    """A fault's text on one line: all of a text for people, and of a traceback the exception."""
    if text.startswith("Traceback"):  # whose frames are indented; more lines may follow them
        lines = text.rpartition('\n  File "')[2].split("\n")[1:]
        text = next((line for line in lines if line.strip() and line[0] != " "), "")
    message = " ".join(text.split()) or "no reason given"
    return message if len(message) <= 500 else message[:499] + "…"


def mask(text: str, user: str, pwd: str) -> str:
    """A text that is not ours, with "***" for the password, however it may be quoted.

    A password that is the user's name is no secret, and "admin" is a part of many messages.
    """
    if pwd != user:
        for quoted in (pwd, repr(pwd)[1:-1], escape(pwd)):
            text = text.replace(quoted, "***")
    return text


if __name__ == "__main__":
    api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    try:
        for book in api.iter_books():
            print(book["id"], book["name"])
    except LibraryError as error:
        print(f"library_xmlrpc.py: error: {error}", file=sys.stderr)
        if not sys.flags.interactive:
            sys.exit(1)
