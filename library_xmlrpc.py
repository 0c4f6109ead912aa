"""The book catalogue of an Odoo server, over XML-RPC.

    >>> from library_xmlrpc import LibraryAPI
    >>> api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    >>> api.create("Moby-Dick")
    60
    >>> api.search_read("moby")
    [{'id': 60, 'name': 'Moby-Dick'}]

Every call is one POST with a deadline. A change is never sent again: if no answer comes, the call
raises UnknownOutcomeError, because the change may have been made. `python3 -i library_xmlrpc.py`
lists the books of the server above, and leaves you in a session with `api` at hand.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import re
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from http.client import HTTPException, IncompleteRead
from itertools import islice
from xmlrpc.client import Fault, ProtocolError, ServerProxy, Transport, escape, loads

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    T = TypeVar("T")
    Book = dict[str, Any]  # {"id": int, "name": str}


__all__ = (
    "LibraryAPI",
    "LibraryError",
    "ConnectError",
    "LoginError",
    "ServerError",
    "BookNotFoundError",
    "UnknownOutcomeError",
    "NotSentError",
    "BadReplyError",
)

MODEL = "library.book"
QUESTIONS = ("search", "search_count", "search_read", "read", "fields_get")  # they change nothing
MAX_ID = 2**31 - 1  # integers have 32 bits in XML-RPC, and ids have 32 bits in Odoo's database
FIRST_PAGE = 1000  # books in the first request of a listing
NEXT_PAGES = 8000  # books in each later one: fewer would be slower, more would need more memory
CALLS_AHEAD = 2  # pages fetched before the reader asks for them
MAX_REPLY = 128 * 2**20  # bytes, unpacked
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 4.0  # no reuse after a longer pause: many servers close a connection after 5


# --- Errors --------------------------------------------------------------------------------------


class LibraryError(Exception):
    """A call failed. `args` are lines that say what happened; `hint` says what to do, or is ""."""

    def __init__(self, *lines: str, hint: str = "") -> None:
        super().__init__(*lines)
        self.hint = hint


class ConnectError(LibraryError):
    """No server, no Odoo, or no answer to a call that only reads. Nothing was changed."""


class LoginError(LibraryError):
    """The server does not let this user in. Nothing was changed."""


class ServerError(LibraryError):
    """The server refused the call and changed nothing.

    `code` and `text` are the faultCode and faultString. If Odoo's import refuses, the code is 2.
    """

    code: int = 0
    text: str = ""


class BookNotFoundError(ServerError):
    """There is no book with this ID, or this user may not see it."""


class UnknownOutcomeError(LibraryError):
    """A change was sent and no valid answer came. It may have been made, or may still be made."""


# A service (see LibraryAPI._service) raises these two. LibraryAPI turns them into ConnectError or
# UnknownOutcomeError.


class NotSentError(Exception):
    """The server can't have acted on the request. The exception's cause says why.

    The text is the start of a message that goes on with the URL: "cannot connect to".
    """


class BadReplyError(Exception):
    """The reply is malformed, or is not what the call returns. The text says how."""


# --- The API -------------------------------------------------------------------------------------


class LibraryAPI:
    """The books of one Odoo database, as one user sees them.

    Args:
        host, port: the address of the server's HTTP service.
        db, user: the database, and the name of a user in it.
        pwd: the user's password or API key.
        scheme: "http" or "https". With https, the certificate is checked against the system's
            trust store, and the proxy in https_proxy is used.
        timeout: seconds for a whole call, however slowly bytes arrive. At most ten of them are for
            connecting. Parsing a large reply takes extra time.
        uid_cache: a file for the user's id, or None. Each server, database and user needs a file
            of its own. The file saves logins, which take a third of a second on Odoo 17 and later.
            It is not secret: the server checks `pwd` in every call.

    Raises:
        ValueError: an argument is invalid. The constructor does no I/O. The methods also raise
            ValueError for invalid arguments, and the subclasses of LibraryError.
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
            check_text(text, name)
        if not re.fullmatch(r"(?a)[\w.-]+|[0-9A-Fa-f:.]+", host):
            raise ValueError("host must be a name or an address in ASCII, not a URL")
        if scheme not in ("http", "https"):
            raise ValueError(f"scheme must be http or https, not {scheme!r}")
        if type(port) is not int or not 1 <= port <= 65535:
            raise ValueError(f"port must be a number from 1 to 65535, not {port!r}")
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= 1e6:
            raise ValueError(f"timeout must be seconds, above 0 and up to 1000000, not {timeout!r}")
        self.host, self.port, self.scheme = host, port, scheme
        self.url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        self.db, self.user, self._pwd = db, user, pwd
        self.transport = _Transport(scheme, host, port, db, timeout)
        self._uid: int | None = None
        self._uid_cache = uid_cache
        self._uid_is_recalled = False  # from the cache, which may be stale
        self._is_changing = False  # whether the current or last call is a change

    def __repr__(self) -> str:
        return f"<LibraryAPI {self.url} db={self.db!r} user={self.user!r}>"

    def close(self) -> None:
        """Close the connections kept for later calls. A later call opens a new one."""
        self.transport.close()

    def version(self) -> dict[str, Any]:
        """The server's version, as Odoo's `common.version` gives it. Needs no login."""
        with self._errors(ConnectError):
            return _of(dict, self._service("common").version())

    def search_read(self, title: str | None = None, limit: int | None = None) -> list[Book]:
        """The books whose title contains `title`, ignoring case, in the server's order."""
        return list(self.iter_books(title, limit))

    def iter_books(self, title: str | None = None, limit: int | None = None) -> Iterator[Book]:
        """The books that search_read gives, as an iterator that fetches them page by page.

        No book appears twice, and no book that exists throughout is missing, even if others add
        and delete books meanwhile. Offsets can't promise that. So only the first page is searched
        for; a second search gives the ids of the rest, which are read page by page.
        """
        literal = re.sub(r"[\\%_]", r"\\\g<0>", "" if title is None else check_text(title))
        domain = [["name", "ilike", literal]] if literal else []
        if limit is not None:
            check_number(limit, "limit")
        kwargs = {"fields": ["name"], "limit": min(FIRST_PAGE, limit or FIRST_PAGE)}
        first = list(self._execute("search_read", [domain], kwargs, _books))
        yield from first
        if len(first) < FIRST_PAGE or len(first) == limit:
            return
        listed = {book["id"] for book in first}
        found = self._execute("search", [domain], {"limit": limit} if limit else {}, _ids)
        rest = limit - len(first) if limit else None
        ids = [id for id in found if id not in listed][:rest]
        pages = (ids[at : at + NEXT_PAGES] for at in range(0, len(ids), NEXT_PAGES))
        for books in _call_ahead(self._read, pages):
            yield from books

    def create(self, title: str) -> int:
        """Add a book and return its id."""
        return self._execute("create", [{"name": check_text(title)}], {}, _id)

    def create_many(self, titles: Iterable[str]) -> list[int]:
        """Add a book for each title, all or none, and return their ids in order.

        This is one request, so that it is one transaction. Many web servers in front of Odoo
        refuse a request above 1 MiB, which is about 9,000 titles.
        """
        rows = [{"name": title} for title in _check_texts(titles)]
        return self._execute("create", [rows], {}, partial(_ids, count=len(rows)))

    def write(self, id: int, title: str) -> bool:
        """Change the title of a book and return True. Raises BookNotFoundError if it is missing.

        This takes two calls: Odoo's `write` answers True for a book that does not exist, so the
        first call looks for it.
        """
        values = {"name": check_text(title)}
        if not self._titles(["id", "in", [check_number(id)]], active_test=False):
            raise BookNotFoundError(f"there is no book with ID {id}")
        return self._execute("write", [[id], values], {}, _true)

    def write_many(self, titles: Mapping[int, str]) -> tuple[list[int], list[int]]:
        """Change the titles of books, given by id, all of them or none.

        Returns the ids of the books that were changed, and the ids that do not exist. Books that
        already have their title are in neither list. The first of two calls looks for the books.
        The second one is `load`, Odoo's import: one transaction, in a sixteenth of the time that a
        `write` for each book takes (measured on Odoo 14 and 19). If others change the same books at
        the same time, Odoo retries a `write`, but refuses a `load`.
        """
        for id, title in titles.items():
            check_number(id)
            check_text(title)
        current = self._titles(["id", "in", list(titles)], active_test=False)
        changes = [id for id in titles if id in current and current[id] != titles[id]]
        if changes:
            # Sorted, so that two clients that change the same books can't deadlock.
            rows = [[str(id), titles[id]] for id in sorted(changes)]
            context = {"active_test": False}  # or Odoo would not find archived books
            check = partial(_loaded, ids=set(changes))
            self._execute("load", [[".id", "name"], rows], {"context": context}, check)
        return changes, [id for id in titles if id not in current]

    def existing_titles(self, titles: Iterable[str]) -> Counter[str]:
        """How many books have exactly each of the titles. Archived books are not counted.

        If two clients look at the same time and then add what is missing, both may add it.
        """
        return Counter(self._titles(["name", "in", _check_texts(titles)]).values())

    def unlink(self, id: int) -> bool:
        """Delete a book and return True. Raises BookNotFoundError if it is missing."""
        if not self.unlink_many([id])[0]:
            raise BookNotFoundError(f"there is no book with ID {id}")
        return True

    def unlink_many(
        self, ids: Iterable[int], titles: Mapping[int, str | None] | None = None
    ) -> tuple[dict[int, str], list[int], list[int]]:
        """Delete books in one transaction, but leave alone those that have been renamed.

        If `titles` has a title for a book, the book is deleted only if that is still its title.
        Returns the deleted books as titles by id, the ids of renamed books, and the ids that do not
        exist. The first of two calls looks for the books. If two clients delete the same book at
        the same time, both may be told that they deleted it.
        """
        wanted = {check_number(id): (titles or {}).get(id) for id in ids}
        current = self._titles(["id", "in", list(wanted)], active_test=False)
        found = {id: title for id, title in wanted.items() if id in current}
        deleted = {id: current[id] for id in found if found[id] in (None, current[id])}
        if deleted:
            self._execute("unlink", [list(deleted)], {}, _true)
        renamed = [id for id in found if id not in deleted]
        return deleted, renamed, [id for id in wanted if id not in current]

    def _titles(self, leaf: list[Any], **context: bool) -> dict[int, str]:
        """The titles, by id, of the books that match one leaf of a search domain."""
        kwargs = {"fields": ["name"], "context": context}
        books = self._execute("search_read", [[leaf]], kwargs, _books)
        return {book["id"]: book["name"] for book in books}

    def _read(self, ids: list[int]) -> Iterable[Book]:
        """The books with these ids that still exist, in this order."""
        return self._execute("read", [ids, ["name"]], {}, _books)

    # --- The server's methods ---

    @property
    def uid(self) -> int:
        """The user's id on the server. The first use reads it from the cache, or logs in."""
        if self._uid is None and self._uid_cache:
            self._uid, self._uid_is_recalled = _recall_uid(self._uid_cache), True
        return self._uid or self._log_in()

    def _log_in(self) -> int:
        common = self._service("common")
        try:
            with self._errors(ConnectError):
                reply = common.authenticate(self.db, self.user, self._pwd, {})
                uid = None if reply is False else _id(reply)
        except ServerError as error:
            if f'database "{self.db}" does not exist' in error.text:
                what = f"there is no database {self.db!r} on {self.url}"
                raise LoginError(what, hint=error.hint) from error
            what = f"cannot log in to {self.url}: {error}"
            raise ConnectError(what, hint=error.hint) from error
        if not uid:
            whose = f"{self.user!r} on {self.url}, database {self.db!r}"
            raise LoginError(f"wrong user or password for {whose}")
        self._uid, self._uid_is_recalled = uid, False
        if self._uid_cache:
            _remember_uid(self._uid_cache, uid)
        return uid

    def _execute(
        self,
        method: str,
        arg_list: list[Any],
        kwarg_dict: dict[str, Any] | None = None,
        parse: Callable[[Any], T] | None = None,
    ) -> T:
        """Call a method of the book model. Returns the reply's value, or the result of `parse`.

        Any method that is not in QUESTIONS counts as a change. The arguments are sent unchecked.

        If the server refuses a call with a uid from the cache, the uid may be stale, which Odoo
        reports in several ways. So we log in, and call again if the uid is another one: the refused
        call has changed nothing. A wrong password is therefore sent twice.
        """
        if_lost = ConnectError if method in QUESTIONS else UnknownOutcomeError
        call = MODEL, method, arg_list, kwarg_dict or {}

        def execute_kw(uid: int) -> T:
            models = self._service("object")
            with self._errors(if_lost):
                return (parse or _plain)(models.execute_kw(self.db, uid, self._pwd, *call))

        uid = self.uid
        try:
            return execute_kw(uid)
        except (ServerError, LoginError):
            if uid == self._uid and self._uid_is_recalled:
                self._log_in()
            if uid == self._uid:  # still, after that login or another thread's
                raise
        return execute_kw(self.uid)

    def _service(self, name: str) -> Any:
        """Odoo's service "common" or "object", for one call: a ServerProxy on our transport.

        A subclass for another protocol overrides only this method. Its services need the methods
        `version`, `authenticate` and `execute_kw`, and raise the exceptions of a ServerProxy,
        NotSentError, BadReplyError, or a LibraryError.
        """
        self.transport.has_sent = False  # a new call: see change_sent
        return ServerProxy(f"{self.url}/xmlrpc/2/{name}", self.transport)

    @property
    def change_sent(self) -> bool:
        """Whether the last call was a change and its request was sent, at least in part."""
        return self._is_changing and self.transport.has_sent

    @contextlib.contextmanager
    def _errors(self, if_lost: type[LibraryError]) -> Iterator[None]:
        """Turn the exceptions of a call into LibraryErrors.

        If the request was sent and no valid answer came, the error is `if_lost`: the server may
        have acted on the request (RFC 9110, 9.2.2).
        """
        self._is_changing = if_lost is UnknownOutcomeError
        try:
            yield
        except Fault as fault:
            raise self._refusal(fault, if_lost) from fault
        except ProtocolError as error:
            raise self._status_error(error, if_lost) from error
        except NotSentError as error:
            reason, hint = _reason(error.__cause__ or error)
            raise ConnectError(f"{error} {self.url}: {reason}", hint=hint) from error
        except (OSError, HTTPException, BadReplyError) as error:
            reason, hint = _reason(error)
            raise if_lost(f"no valid answer from {self.url}: {reason}", hint=hint) from error

    # Odoo commits, runs its post-commit hooks, then writes the reply. If one of these steps fails,
    # the fault looks like a refusal, though the change may be stored. For example, a method without
    # a return statement returns None, which can't be marshalled. Only the traceback tells the two
    # apart (seen on Odoo 14 and 19).
    AFTER_COMMIT = (
        r'cannot marshal |client\.py", line \d+, in dumps'
        r"|_cnx\.commit\(|postcommit\.run\(|in signal_changes"
    )

    def _refusal(self, fault: Fault, if_lost: type[LibraryError]) -> LibraryError:
        """The error for a fault. Odoo's codes: 1 traceback, 2 message, 3 login, 4 rights."""
        # Matched before masking: the password may be one of the words that we look for.
        text, hint = str(fault.faultString), _reason(fault)[1]
        fault.faultString = mask(text, self.user, self._pwd)  # --debug shows it in a traceback
        message = _one_line(fault.faultString)
        if if_lost is UnknownOutcomeError and re.search(self.AFTER_COMMIT, text):
            return if_lost(f"{self.url} does not say what became of the change: {message}")
        if fault.faultCode == 3:
            return LoginError(message, hint=hint)
        error = ServerError(message, hint=hint)
        error.code, error.text = fault.faultCode, text
        return error

    def _status_error(self, error: ProtocolError, if_lost: type[LibraryError]) -> LibraryError:
        """The error for an HTTP status. With 3xx and 4xx, Odoo has usually done nothing."""
        code, location = error.errcode, error.headers.get("Location")
        status = f"HTTP {code} {http.client.responses.get(code, '')}".rstrip()
        if code < 400 and location:
            status += f": {_one_line(mask(location, self.user, self._pwd))}"
        # A gateway may hide Odoo's reply behind a 403, or give up with a 408 or 499.
        is_refused = 300 <= code < 500 and code not in (403, 408, 499)
        kind = ConnectError if is_refused else if_lost
        return kind(f"{self.url} answers {status}", hint=_reason(error)[1])


# --- Checks: of arguments, and of the values in replies ------------------------------------------

# What XML can't carry exactly: most control characters, surrogates, U+FFFE and U+FFFF. (A parser
# turns a carriage return into a line feed.)
_NOT_XML = "[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]"
_CHARACTER_NAMES = {"\t": "a tab", "\n": "a line break", "\r": "a carriage return"}
_CHARACTER_NAMES["\ufeff"] = "a byte-order mark"


def check_text(text: str, what: str = "a title", forbidden: str = _NOT_XML) -> str:
    """`text`. Raises ValueError if a character matches the pattern `forbidden`."""
    if not isinstance(text, str):
        raise ValueError(f"{what} must be a str, not {type(text).__name__}")
    # Forbidden characters are not printable. So most texts spare us the slow re.compile.
    found = None if text.isprintable() else re.search(forbidden, text)
    if found:  # the message does not show the text, which may be a password
        code = ord(found[0])
        name = _CHARACTER_NAMES.get(found[0], f"the character U+{code:04X}")
        if 0xD800 <= code < 0xE000:  # Python turns invalid bytes in an argument into surrogates
            name = "text that is not valid UTF-8"
        raise ValueError(f"{what} can't hold {name}")
    return text


def _check_texts(titles: Iterable[str]) -> list[str]:
    if isinstance(titles, str):
        raise ValueError("titles must be several, not a str")
    return [check_text(title) for title in titles]


def check_number(number: int, what: str = "ID") -> int:
    """`number`, if it can be a record's id or a count of records; else ValueError."""
    if type(number) is not int:
        raise ValueError(f"{what} must be a number, not {number!r:.60}")
    if not 1 <= number <= MAX_ID:
        raise ValueError(f"{what} must be from 1 to {MAX_ID}, not {number!r:.60}")
    return number


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Iterator) else value


# Each of these raises BadReplyError if the value is wrong.


def _of(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise BadReplyError(f"not of type {kind.__name__}")
    return value


def _id(value: Any) -> int:
    if not 1 <= _of(int, value) <= MAX_ID:
        raise BadReplyError("not an ID")
    return int(value)


def _ids(value: Any, count: int | None = None) -> list[int]:
    ids = [_id(id) for id in _of(list, value)]
    if count not in (None, len(ids)):
        raise BadReplyError(f"{len(ids)} IDs instead of {count}")
    return ids


def _true(value: Any) -> bool:
    if value is not True:
        raise BadReplyError("not True")
    return True


def _loaded(value: Any, ids: set[int]) -> None:
    """Check the reply of Odoo's import: a refusal is a value, not a fault, and IDs may repeat."""
    reply = _of(dict, value)
    messages = [_of(dict, message) for message in _of(list, reply.get("messages"))]
    errors = [str(each.get("message")) for each in messages if each.get("type") != "warning"]
    if errors and reply.get("ids") is False:
        # Odoo 14 puts "Unknown error during import: <class …>: " before the text of a UserError.
        texts = (re.sub(r"^[^:]*: <class '[\w.]*'>: ", "", error) for error in errors)
        raise Fault(2, "\n".join(dict.fromkeys(texts)))
    if errors or set(_ids(reply.get("ids"))) != ids:
        raise BadReplyError("not the IDs of the import")


def _books(value: Any) -> Iterable[Book]:
    if isinstance(value, Iterator):  # from _unmarshal_rows, which has checked the rows
        return value
    return [_book(_of(dict, row)) for row in _of(list, value)]


def _book(row: dict[str, Any]) -> Book:
    name = row.get("name") or ""  # Odoo sends False for an empty field
    return {"id": _id(row.get("id")), "name": _of(str, name)}


# --- Speed: pages fetched ahead of the reader, and the user's id without a login -----------------


def _call_ahead(call: Callable[..., T], arguments: Iterable[Any]) -> Iterator[T]:
    """call(argument) for each of `arguments`, in order. CALLS_AHEAD calls run at the same time."""
    starts = (_start(call, argument) for argument in arguments)
    running = deque(islice(starts, CALLS_AHEAD))
    while running:
        result = running.popleft()()
        running.extend(islice(starts, 1))
        yield result


def _start(call: Callable[..., T], *args: Any) -> Callable[..., T]:
    """Start a call in a thread, and return a function that waits for its result.

    That function takes the seconds to wait, by default forever, and raises socket.timeout after
    them. The thread ends with the program, which does not wait for it (after Ctrl-C, say). If no
    thread can be started, the call runs at once.
    """
    from _thread import allocate_lock, start_new_thread  # `threading` may lose a Ctrl-C

    outcome: list[tuple[Any, BaseException | None]] = []
    running = allocate_lock()
    running.acquire()

    def run() -> None:
        try:
            outcome.append((call(*args), None))
        except BaseException as error:
            outcome.append((None, error))
        running.release()

    def result(seconds: float = -1) -> T:
        if not outcome and not running.acquire(timeout=seconds):
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
    except (OSError, ValueError):  # without a readable cache, we log in
        return None


def _remember_uid(cache: str, uid: int) -> None:
    with contextlib.suppress(OSError):  # without a cache the next command logs in again
        os.makedirs(os.path.dirname(os.path.abspath(cache)), mode=0o700, exist_ok=True)
        with open(cache, "w") as file:
            file.write(f"{uid}\n")


# --- The wire: sockets and HTTP ------------------------------------------------------------------


class _Transport(Transport):
    """A Transport to one server, which keeps its connections for later calls.

    The inherited `request` sends a request again if a kept connection breaks, waits forever, and
    reads replies of any size. This one sends it once, takes at most `timeout` seconds, and reads at
    most MAX_REPLY bytes. Threads can share a transport: each call has a connection to itself.
    """

    def __init__(self, scheme: str, host: str, port: int, db: str, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        # Whether a request was sent since a service last reset this. True is the safe start: if
        # the services of a subclass do not reset it, every change counts as sent.
        self.has_sent = True
        self._is_tls, self._host, self._port = scheme == "https", host, port
        self._common_headers = {
            "Accept-Encoding": b"gzip",
            "User-Agent": b"library_xmlrpc",
            "X-Odoo-Database": db.encode(),  # or Odoo 19 looks up all its databases
        }
        self._kept: list[_Connection] = []

    def request(self, host: Any, handler: str, request_body: Any, verbose: bool = False) -> Any:
        """Send a call for ServerProxy, and return the reply's value in a tuple, as it expects.

        Raises what `post` raises, Fault, BadReplyError, or ProtocolError for a status other than
        200.
        """
        response, body = self.post(handler, request_body, {"Content-Type": b"text/xml"})
        if response.status != 200:
            raise ProtocolError(handler, response.status, response.reason, response.headers)
        return (_unmarshal(body),)

    def post(
        self, path: str, request: bytes, headers: Mapping[str, bytes]
    ) -> tuple[Any, bytearray]:
        """Send a request, once, and return the response and its body.

        Raises NotSentError if the request was not sent completely. Raises OSError, HTTPException or
        BadReplyError if it was sent and no complete response came.
        """
        deadline = time.monotonic() + self.timeout
        connection = self._take() or self._connect(deadline)
        connection.sock.deadline = deadline
        keep = False
        try:
            self.has_sent = True
            try:
                connection.request("POST", path, request, {**self._common_headers, **headers})
            except OSError as error:
                raise NotSentError("cannot send to") from error
            response, body = _receive(connection)
            # http.client has closed the socket if the server asked for it. After a status of 1xx,
            # another response will follow.
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
        """A kept connection that can be reused, or None."""
        with contextlib.suppress(IndexError):  # none is left
            while not (connection := self._kept.pop()).is_reusable():
                connection.close()
            return connection
        return None

    def _connect(self, deadline: float) -> _Connection:
        """Connect to the server within CONNECT_SECONDS; for https, through the proxy if any."""
        deadline = min(deadline, time.monotonic() + CONNECT_SECONDS)
        what, connection = "cannot connect to", None
        try:
            proxy = _find_proxy(f"{self._host}:{self._port}") if self._is_tls else None
            host, port, headers = proxy or (self._host, self._port, {})
            connection = _Connection(host, port, timeout=_seconds_until(deadline))
            connection._create_connection = _connect_socket
            connection.default_port = 443 if self._is_tls else 80  # left out of the Host header
            if proxy:
                what = f"cannot connect through https_proxy, {host}:{port}, to"
                connection.set_tunnel(self._host, self._port, headers)
            connection.connect()
            if self._is_tls:
                connection.sock.settimeout(_seconds_until(deadline))
                connection.sock = self._tls.wrap_socket(connection.sock, server_hostname=self._host)
            return connection
        except (OSError, HTTPException) as error:
            if connection:
                connection.close()
            raise NotSentError(what) from error

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.sslsocket_class = _TLSSocket
        return context


def _find_proxy(server: str) -> tuple[str, int, dict[str, str]] | None:
    """The host and port of the proxy for a server, and the headers that log in to it."""
    if not any(name.lower() == "https_proxy" for name in os.environ):
        return None  # and save the imports below, which take a while
    from base64 import b64encode
    from urllib.parse import unquote
    from urllib.request import getproxies, proxy_bypass

    url = getproxies().get("https", "")
    if not url or proxy_bypass(server):
        return None
    found = re.fullmatch(r"(?a)(?:http://)?(?:([^/]*)@)?([\w.-]+)(?::([0-9]{1,5}))?/?", url)
    if not found:  # the message does not show it: it may hold a password
        raise OSError("https_proxy must be like http://proxy.example:3128")
    login = b64encode(unquote(found[1] or "").encode()).decode()
    headers = {"Proxy-Authorization": f"Basic {login}"} if login else {}
    return found[2], int(found[3] or 80), headers


class _Connection(http.client.HTTPConnection):
    """An HTTPConnection over a _Socket."""

    sock: Any
    _create_connection: Any  # http.client's hook: socket.create_connection, unless replaced
    idle_since = 0.0  # by time.monotonic()

    def is_reusable(self) -> bool:
        """Whether it was idle only briefly, and the server has neither closed it nor sent anything.

        After a long pause the server may have vanished without closing, which only a timeout would
        show. What arrives after this check can't be told from the reply to the next request.
        """
        if time.monotonic() - self.idle_since > IDLE_SECONDS:
            return False
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except OSError as error:
            return isinstance(error, (BlockingIOError, ssl.SSLWantReadError))
        return False


def _connect_socket(address: tuple[str, int], timeout: float, source: object = None) -> _Socket:
    """Connect to the first of a host's addresses that answers. Each gets a share of the time.

    The name is looked up once, and in a thread, because the system's resolver obeys neither a
    timeout nor Ctrl-C.
    """
    name, port = address
    deadline = time.monotonic() + timeout
    # As bytes: for a str, Python would import its codec for international names.
    look_up = _start(socket.getaddrinfo, name.encode(), port, 0, socket.SOCK_STREAM)
    try:
        found: Any = look_up(timeout)
    except socket.timeout as error:
        raise socket.gaierror("no answer in time") from error
    seconds = _seconds_until(deadline) / len(found)
    for *_, (ip, *_) in found:
        try:
            connected = socket.create_connection((ip.encode(), port), seconds)
        except OSError as error:
            failure = error
        else:
            sock = _Socket(fileno=connected.detach())
            sock.deadline = deadline
            return sock
    raise failure


class _Socket(socket.socket):
    """A socket whose waits all end at one `deadline`, by time.monotonic().

    A socket's own timeout would start again with every byte that arrives.
    """

    deadline = 0.0

    def recv_into(self, *args: Any) -> int:
        self.settimeout(_seconds_until(self.deadline))
        return super().recv_into(*args)

    def sendall(self, *args: Any) -> None:
        self.settimeout(_seconds_until(self.deadline))
        super().sendall(*args)


class _TLSSocket(_Socket, ssl.SSLSocket):
    """A _Socket with TLS."""


def _seconds_until(deadline: float) -> float:
    """Seconds until `deadline`, by time.monotonic(). Raises socket.timeout if it has passed."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("timed out")
    return seconds


def _receive(connection: _Connection) -> tuple[http.client.HTTPResponse, bytearray]:
    """The response to a request, and its body. If an error's body can't be read, it is empty."""
    response: Any = None
    try:
        response = connection.getresponse()
        with response:
            return response, _body(response)
    except Exception as error:  # a malformed reply can raise anything
        if response and response.status != 200:
            connection.close()  # the rest of the body may still arrive
            return response, bytearray()
        if isinstance(error, (OSError, HTTPException, BadReplyError)):
            raise
        raise BadReplyError("it can't be read") from error


def _body(response: http.client.HTTPResponse) -> bytearray:
    """The body of a response, complete and unpacked."""
    packed = (response.getheader("Content-Encoding") or "").lower() in ("gzip", "x-gzip")
    source: Any = gzip.GzipFile(fileobj=response) if packed else response
    body = bytearray()
    while chunk := source.read(2**16):
        body += chunk
        if len(body) > MAX_REPLY:
            raise BadReplyError(f"larger than {MAX_REPLY >> 20} MiB")
    if response.length:  # http.client raises nothing if a body ends early
        raise IncompleteRead(b"", response.length)
    return body


# --- XML: a reply as a value ---------------------------------------------------------------------


def _unmarshal(reply: bytearray) -> Any:
    """The value in a reply. Raises Fault or BadReplyError."""
    try:
        value: Any = _unmarshal_rows(reply)
        if value is None:
            (value,), _ = loads(reply)
        return value
    except Fault:
        raise
    except Exception as error:  # a malformed reply can raise anything
        raise BadReplyError("not XML-RPC") from error


def _unmarshal_rows(reply: bytearray) -> list[int] | Iterator[Book] | None:
    """The ids or the books in a reply, or None unless it is exactly in the form that Odoo writes.

    This takes a tenth of the time that a parser takes, and it reads titles that no parser can: Odoo
    does not escape characters that XML forbids. The books are made one by one, on demand: until
    then they take no more memory than their text.
    """
    found = _LIST.fullmatch(reply)
    if not found:
        return None
    rows = str(memoryview(reply)[slice(*found.span(1))], "utf-8")
    # If sub() leaves anything, there is something else between the rows: let the parser decide.
    if not rows or (re.match(_INT, rows) and not re.sub(_INT, "", rows)):
        return [int(number) for number in re.findall(_INT, rows)]
    if re.sub(_BOOK, "", rows) or re.search(_OTHER_REFERENCE, rows):
        return None
    return ({"id": int(row[1]), "name": _unescape(row[2])} for row in re.finditer(_BOOK, rows))


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


# A reply that is a list, and the rows in it, byte for byte as Odoo writes them with xmlrpc.client's
# Marshaller. (Odoo 18 and 19 write double quotes and an empty line.)
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
_OTHER_REFERENCE = "&(?!(?:amp|lt|gt);)"  # the Marshaller never writes one


# --- Messages: what went wrong, in plain words ---------------------------------------------------

_CHECK_URL = "check that the URL is that of an Odoo with XML-RPC"
_NAME_AUTHORITY = "if the certificate authority is private, set SSL_CERT_FILE to its certificate"
_CLOSED = (ConnectionError, IncompleteRead, ssl.SSLEOFError, ssl.SSLZeroReturnError)

# Exception type, pattern in its text, meaning, hint. The first row that matches is used. Where the
# meaning is "", the exception's own text is shown.
_REASONS: list[tuple[Any, str, str, str]] = [
    (Fault, "Too many login failures", "", "wait a minute before you try again"),
    (Fault, "database .* does not exist", "", "check the name of the database"),
    (Fault, f"{MODEL}'? do.* exist", "", "check that the database has the module library_app"),
    (Fault, "could not serialize|deadlock det|Unknown database id", "", "run it again"),
    (ProtocolError, ": 40[045] ", "", _CHECK_URL),
    (ProtocolError, ": 40[13] ", "", "have the web server let Odoo's RPC through"),
    (ProtocolError, ": (50[234]|52.) ", "", "check the Odoo server behind this web server"),
    (socket.gaierror, "", "the host's name can't be looked up", "check the name and the network"),
    (socket.timeout, "", "timed out", ""),
    (ConnectionRefusedError, "", "connection refused", "check that it runs at this port"),
    (ssl.SSLCertVerificationError, "self.signed|issuer|first", "", _NAME_AUTHORITY),
    (_CLOSED, "", "connection closed", ""),
    (ssl.SSLError, "(?i)wrong.version", "it does not speak TLS", ""),
    (BadReplyError, "XML-RPC", "", _CHECK_URL),
    ((Fault, ProtocolError, OSError, BadReplyError, NotSentError), "", "", ""),
    (HTTPException, "", "not HTTP", ""),
]


def _reason(error: BaseException) -> tuple[str, str]:
    """The meaning of an exception, and a hint, from _REASONS."""
    words = re.sub(r"^\[[^]]*\] | \(_ssl\.c:[0-9]+\)$", "", str(error))
    return next(
        (meaning or words, hint)
        for kind, pattern, meaning, hint in _REASONS
        if isinstance(error, kind) and re.search(pattern, words)
    )


def _one_line(text: str) -> str:
    """A fault's text on one line, at most 500 characters. Of a traceback, only the exception."""
    if text.startswith("Traceback"):  # the exception is the first line after the indented frames
        lines = text.rpartition('\n  File "')[2].split("\n")[1:]
        text = next((line for line in lines if line.strip() and line[0] != " "), "")
    message = " ".join(text.split()) or "no reason given"
    return message if len(message) <= 500 else message[:499] + "…"


def mask(text: str, user: str, pwd: str) -> str:
    """Text from the server, with "***" in place of the password, also where it is escaped.

    A password that equals the user's name is left alone: it is no secret, and "admin" is a common
    word in messages.
    """
    if pwd not in (user, ""):
        for quoted in (pwd, repr(pwd)[1:-1], escape(pwd)):
            text = text.replace(quoted, "***")
    return text


if __name__ == "__main__":
    api = LibraryAPI("localhost", 8069, "odoo-dev", "admin", "admin")
    for book in api.iter_books():
        print(book["id"], book["name"])
