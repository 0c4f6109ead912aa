#!/usr/bin/env python3
"""Keep a catalogue of books on an Odoo server.

$ library.py add "Moby-Dick"
Book added with ID 60 for title Moby-Dick.
$ library.py list moby
60 Moby-Dick
$ library.py set 60 "Moby Dick"
Title of Book ID 60 set to Moby Dick.
$ library.py del 60
Book with ID 60 was deleted.
"""

from __future__ import annotations

import signal

# Until `command`, at the end, decides what a signal does, Ctrl-C ends Python at once: the imports
# show no traceback.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import codecs
import contextlib
import functools
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence

from library_xmlrpc import (
    FIRST_PAGE,
    BookNotFoundError,
    ConnectError,
    LibraryAPI,
    LibraryError,
    LoginError,
    ServerError,
    UnknownOutcomeError,
    check_line,
    check_number,
    check_title,
    mask,
)

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, TypeVar

    T = TypeVar("T")
    Value = tuple[str, str]  # of a setting: its text, and where it stands
    Source = dict[str, Value]  # settings that stand in one place, by name

__version__ = "1.0.0"

# Of one transaction. Its request stays below half a MiB: nginx refuses more than one by default.
BATCH = 1000  # titles of `add --file`
BATCH_CHARACTERS = 80_000  # in these titles, whatever they are
BATCH_IDS = 10_000  # of `del`

TERMINAL = "CONIN$" if os.name == "nt" else "/dev/tty"

DEFAULTS = {"url": "http://localhost:8069", "db": "odoo-dev", "user": "admin", "timeout": "120"}
DEFAULT_LOGIN = "http", "localhost", 8069, "odoo-dev", "admin"
VARIABLES = {f"ODOO_{name.upper()}": name for name in DEFAULTS}
VARIABLES.update(ODOO_PASSWORD="password", ODOO_API_KEY="password")  # the last one counts
PROFILE_KEYS = {  # of the settings; the second ones, and the parts, are ERPpeek's and Odooly's
    "url": ("url", "server"),
    "db": ("db", "database"),
    "user": ("user", "username"),
    "password": ("api_key", "password"),
    "timeout": ("timeout",),
}
URL_PARTS = {"scheme": "http", "host": "localhost", "port": "8069"}
KNOWN_KEYS = {*URL_PARTS, "protocol", "options"}.union(*PROFILE_KEYS.values())

# What is in a line that can't be a title, and a filter for its file that mends it.
REMEDIES = {
    "\t": r"tr '\t' ' '",
    "\r": r"tr '\r' '\n'",  # line ends of old
    "\ufeff": r"sed 's/\xef\xbb\xbf//g'",
}

RUN_AGAIN = "the change may have been made: wait a little and run it again, which does no harm"
DASH = 'put "--" before a title that begins with a dash'
MISPLACED = {  # options that are often looked for elsewhere, with what to do instead
    "--limit": "it goes after the command list",
    "--file": "it goes after the command add",
    "--from-line": "it goes after the command add",
    "--password": "others can see the arguments of a command: set ODOO_PASSWORD or ODOO_API_KEY",
}

# What a line of text can't show as it is: control characters, line separators, and what changes
# the direction in which the rest is shown. (isprintable() would also refuse a soft hyphen.)
_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


class ConfigError(LibraryError):
    """An argument or a setting is missing or malformed; the message names it."""


EXIT_STATUS = {ConfigError: 2, ConnectError: 3, LoginError: 3, UnknownOutcomeError: 4}  # else 1


# --- The commands: each calls the API, prints, and gives the exit status -------------------------


def list_books(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    for count, book in enumerate(api.iter_books(args.title, args.limit), start=1):
        id, name = book["id"], book["name"]
        line = console.line(f"{id} {name}", id, name, if_quiet=f"{id}")
        sys.stdout.write(line)  # print would take four times as long
        if not count % FIRST_PAGE:  # show a page when it is there: Python 3.14 buffers several
            sys.stdout.flush()
    return 0


def add_books(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    if args.file:
        return add_lines(args, api, console)
    look = f"wait a little, then look for a new ID: {list_command(args, args.title)}"
    with console.change(f"the book may have been added: {look}"):
        id = api.create(args.title)
    console.print_added([id], [args.title])
    return 0


def add_lines(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    """Add the titles of a file in batches. What is printed is stored."""
    lines = [line for line in args.file.lines if line[0] >= (args.from_line or 1)]
    nothing = f"no title in {args.file.name}, from line {args.from_line or 1} on"
    console.show_progress(f"0 of {len(lines)} added" if lines else nothing)
    size = min(BATCH, BATCH_CHARACTERS // max((len(title) for _, title in lines), default=1))
    started = time.monotonic()
    resume_here = ""  # before the first batch nothing was changed
    for start in range(0, len(lines), size):
        numbers, titles = zip(*lines[start : start + size])
        added = start + len(titles)
        resume_next = resume_hint(args, numbers[-1] + 1) if added < len(lines) else ""
        if_unknown = (
            f"lines {numbers[0]} to {numbers[-1]} of {args.file.name} were added, or none of them: "
            f"wait a little, then look for the first: {list_command(args, titles[0])}; "
            f"if it is there with a new ID, {resume_next or 'all is done'}; "
            f"if not, {resume_hint(args, numbers[0])}"
        )
        with console.change(if_unknown, if_not_made=resume_here):
            ids = api.create_many(titles)
        resume_here = resume_next
        console.print_added(ids, titles, resume_here)
        seconds = time.monotonic() - started
        console.show_progress(f"{added} of {len(lines)} added, {added / seconds:.0f} a second")
    console.keep_progress()
    return 0


def set_title(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    with console.change(RUN_AGAIN):
        api.write(args.id, args.title)
    sentence = f"Title of Book ID {args.id} set to {args.title}."
    console.print_done([console.line(sentence, args.id, args.title)], "the title was set")
    return 0


def delete_books(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    ids = list(dict.fromkeys(args.ids))
    missing = set(ids)
    for start in range(0, len(ids), BATCH_IDS):
        with console.change(RUN_AGAIN):
            deleted = api.unlink_many(ids[start : start + BATCH_IDS])
        lines = [console.line(f"Book with ID {id} was deleted.", id) for id in deleted]
        console.print_done(lines, f"deleted: {format_ids(deleted)}")
        missing.difference_update(deleted)
    if missing:
        raise BookNotFoundError([id for id in ids if id in missing])
    return 0


# --- What the user sees --------------------------------------------------------------------------


class Console:
    """What the user sees of a command: results on standard output, all else on standard error.

    `if_stopped` is what the user has to be told if the command stops at this moment, whatever
    stops it: what may have been changed, what was changed and is not printed, how to go on.
    """

    def __init__(self) -> None:
        self.quiet = self.json = False
        self.if_stopped = ""
        self._has_changed = False  # a book: that nothing was changed would not be so any more
        self._progress = ""  # which stands in the line of the cursor

    def line(self, sentence: str, id: int, name: str | None = None, if_quiet: str = "") -> str:
        """What to print of a book, with the line's end; nothing where the options want nothing."""
        if self.json:
            import json

            book = {"id": id} if name is None else {"id": id, "name": name}
            return f"{json.dumps(book)}\n"  # ASCII, so that it is exact in each locale
        text = if_quiet if self.quiet else printable(sentence)
        return f"{text}\n" if text else ""

    @contextlib.contextmanager
    def change(self, if_unknown: str, if_not_made: str = "") -> Iterator[None]:
        """For a call that changes something: what to tell the user if it fails.

        `if_unknown` is for a change that may have been made, `if_not_made` for one that was not.
        """
        self.if_stopped = if_unknown
        try:
            yield
        except UnknownOutcomeError:
            raise
        except LibraryError:
            self.if_stopped = if_not_made
            raise

    def print_added(self, ids: Sequence[int], titles: Sequence[str], to_resume: str = "") -> None:
        lines = [
            self.line(f"Book added with ID {id} for title {title}.", id, title, if_quiet=f"{id}")
            for id, title in zip(ids, titles)
        ]
        self.print_done(lines, f"added with IDs: {format_ids(ids)}", to_resume)

    def print_done(self, lines: Sequence[str], done: str, to_resume: str = "") -> None:
        """Print lines at once, so that what is printed is stored.

        `done` says the same in short, and is said if they can't be printed. `to_resume` says how
        to go on where there is more to do.
        """
        self._has_changed |= bool(lines)
        self.if_stopped = join(to_resume, done)
        self._wipe_progress()
        try:
            sys.stdout.writelines(lines)
            sys.stdout.flush()
        except BrokenPipeError:
            if to_resume:
                raise
            discard(sys.stdout)  # the reader has seen enough, and all is done
        self.if_stopped = to_resume

    def show_progress(self, text: str) -> None:
        """Show `text` on a terminal, in place of the text before."""
        if sys.stderr.isatty() and not self.quiet:
            self._wipe_progress()
            sys.stderr.write(f"{printable(text)}\r")
            sys.stderr.flush()
            self._progress = text

    def keep_progress(self) -> None:
        """Let the progress stay, as the last word."""
        if self._progress:
            self._progress = ""
            sys.stderr.write("\n")

    def _wipe_progress(self) -> None:
        if self._progress:
            self._progress = ""
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def complain(self, *messages: str) -> None:
        """Print messages, a line each, on standard error."""
        try:
            self._wipe_progress()
            for message in filter(None, messages):
                sys.stderr.write(f"{program()}: {printable(message)}\n")
        except OSError:  # nobody reads them; the exit status remains
            discard(sys.stderr)

    def fail(self, error: LibraryError) -> int:
        """Say what went wrong and what to do, and give the exit status that says so too."""
        self.complain(f"error: {error}", join(error.hint, self.if_stopped))
        statuses = (status for kind, status in EXIT_STATUS.items() if isinstance(error, kind))
        status = next(statuses, 1)
        # 3 promises that nothing was changed. What stops part-way could not all be done: 1.
        return 1 if status == 3 and self._has_changed else status

    def show_traceback(self, error: LibraryError, user: str, pwd: str) -> None:
        """For --debug: Python's, and the server's where there is one."""
        import traceback

        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        if isinstance(error, ServerError) and error.code:
            text += f"The server's fault {error.code}:\n{error.text}"
        for line in mask(text, user, pwd).splitlines():
            self.complain(f"debug: {line}")


def printable(text: str) -> str:
    """`text` on one line, with escapes for what would steer a terminal."""
    if text.isprintable():
        return text
    return re.sub(_UNPRINTABLE, lambda found: found[0].encode("unicode_escape").decode(), text)


def join(*hints: str) -> str:
    return "; ".join(filter(None, hints))


def format_ids(ids: Sequence[int]) -> str:
    """The IDs as text: those of a batch as a range, as a rule."""
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]} to {ids[-1]}"
    return " ".join(map(str, ids))


def discard(stream: Any) -> None:
    """Discard what a stream still holds. Otherwise Python's flush at exit fails again."""
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), stream.fileno())


def list_command(args: argparse.Namespace, title: str) -> str:
    """The command that lists the books with this title, or with that part of it that is shown."""
    part = max(re.split(_UNPRINTABLE, title), key=len)
    return full_command(args, "list", *["--"] * part.startswith("-"), quote(part))


def resume_hint(args: argparse.Namespace, number: int) -> str:
    """How to go on with the file at its line of this number."""
    same_input = " with the same input" if args.file.path == "-" else ""
    return f"go on with: {add_command(args, args.file.path, number)}{same_input}"


def add_command(args: argparse.Namespace, path: str, number: int | None) -> str:
    """The command that adds the titles of a file, from its line of this number on."""
    flags = [f"--{name}" for name in ("quiet", "json") if getattr(args, name)]
    from_line = ["--from-line", str(number)] if number else []
    return full_command(args, "add", *flags, option("file", path), *from_line)


def full_command(args: argparse.Namespace, *words: str) -> str:
    """A command for the user to type, with the settings that they gave as options."""
    names = [name for name in (*DEFAULTS, "config", "profile") if getattr(args, name) is not None]
    settings = (option(name, getattr(args, name)) for name in names)
    return " ".join((typed(), *settings, *words))


def option(name: str, value: str) -> str:
    """An option with its value, for a shell.

    After a space, argparse would take a value that begins with a dash for another option.
    """
    separator = "=" if value.startswith("-") and value != "-" else " "
    return f"--{name}{separator}{quote(value)}"


def quote(word: str) -> str:
    """`word` in quotes for a shell."""
    if re.search(r'["$`\\!]', word):
        import shlex

        return shlex.quote(word)
    return f'"{word}"'


# --- Settings ------------------------------------------------------------------------------------


class Settings:
    """A server and a login to it. Each setting is checked, and knows where it was set."""

    def __init__(self, found: Source, profiles: Sequence[str]) -> None:
        self.scheme, self.host, self.port = parse(parse_url, *found["url"])
        self.db = parse(check_title, *found["db"])
        self.user = parse(check_title, *found["user"])
        self.timeout = parse(parse_seconds, *found["timeout"])
        self.pwd = ""  # until set_password: the user is asked for it last
        self._url = found["url"][0]
        self._origins = {name: origin for name, (_, origin) in found.items()}
        self._profiles = profiles

    def set_password(self, password: Value | None) -> None:
        """Take this password, or else the default one for the default login, or else ask."""
        is_default = (self.scheme, self.host, self.port, self.db, self.user) == DEFAULT_LOGIN
        if not password and is_default:
            password = "admin", "the default"
        elif not password:
            question = f"{self.user} on {self._url}, database {self.db}"
            password = ask_password(question), "the prompt"
        self.pwd, self._origins["password"] = parse(check_title, *password), password[1]

    def connect(self, backend: Callable[..., LibraryAPI]) -> LibraryAPI:
        folder = os.path.join(xdg_folder("XDG_CACHE_HOME", "~/.cache"), "library")
        login = f"{self.user}@{self.scheme}://{self.host}:{self.port}/{self.db}"
        return backend(
            *(self.host, self.port, self.db, self.user, self.pwd),
            scheme=self.scheme,
            timeout=self.timeout,
            uid_cache=os.path.join(folder, urllib.parse.quote(login, safe="")),
        )

    def explain(self, error: LibraryError) -> None:
        """Add to an error's hint where those settings are from that may have caused it."""
        if isinstance(error, LoginError):
            names = ("password", "password"), ("user", "user"), ("database", "db")
            origins = (f"{word} from {self._origins[name]}" for word, name in names)
            error.hint = join(", ".join(origins), error.hint)
        elif isinstance(error, ConnectError) and self._origins["url"] == "the default":
            hint = "no server was set, so this is the default: set --url, ODOO_URL or --profile"
            profiles = f" (there are: {', '.join(self._profiles)})" if self._profiles else ""
            error.hint = join(error.hint, hint + profiles)


def find_settings(args: argparse.Namespace, console: Console) -> Settings:
    """The settings that count. Each is taken from the first of these that has it:

    1. an option
    2. the profile that --profile names
    3. the environment
    4. another profile: that of ODOO_PROFILE, or [DEFAULT]
    5. the defaults
    """
    given = vars(args)
    options = {name: (given[name], f"--{name}") for name in DEFAULTS if given[name] is not None}
    env = os.environ
    environment = {name: (env[key], key) for key, name in VARIABLES.items() if env.get(key)}
    path, sections, name = read_profiles(args)
    common = read_section(sections, "DEFAULT", path, console)
    own = read_section(sections, name, path, console) if name != "DEFAULT" else common
    profile = {**common, **own}
    is_named = args.profile is not None
    found = {name: (value, "the default") for name, value in DEFAULTS.items()}
    for source in [environment, profile] if is_named else [profile, environment]:
        found.update(source)
    found.update(options)
    settings = Settings(found, list(sections))
    settings.set_password(choose_password(environment, common, own, found["url"], is_named))
    return settings


def choose_password(
    environment: Source, common: Source, own: Source, url: Value, profile_first: bool
) -> Value | None:
    """The password that counts, and where it stands, if there is any.

    A password is sent only to the server it was given for:

    - A password from the environment is sent to ODOO_URL, or to any server if that is not set.
    - A profile's password is sent to the profile's server, or to the default one if it names none.
    - The password of [DEFAULT] is not sent to a server that another profile names.

    Raises ConfigError if the password that counts is not for `url`.
    """
    profile = own if own.keys() & {"url", "password"} else common
    profile_url = own.get("url") or common.get("url") or (DEFAULTS["url"], "the default")
    places = [(environment, environment.get("url", url)), (profile, profile_url)]
    if profile_first:
        places.reverse()
    for source, password_url in places:
        if "password" in source:
            if parse(parse_url, *password_url) != parse(parse_url, *url):
                origin = source["password"][1]
                raise ConfigError(
                    f"{origin} is for {password_url[0]}, not for {url[0]} ({url[1]})",
                    f"set ODOO_URL to {url[0]} and ODOO_PASSWORD, and leave out --url and "
                    "--profile; or write a profile with this url and its password",
                )
            return source["password"]
    return None


def parse(check: Callable[[str, str], T], text: str, origin: str) -> T:
    """What `check` makes of a text, or else ConfigError."""
    try:
        return check(text, origin)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def parse_url(text: str, origin: str) -> tuple[str, str, int]:
    """Scheme, host and port. The error does not show `text`, which may hold a password."""
    check_line(text, origin)
    strange = re.search("[^!-~]", text)  # which may be invisible
    if strange:
        what = "a space" if strange[0] == " " else f"the character U+{ord(strange[0]):04X}"
        raise ValueError(f"{origin} can't hold {what}")
    found = re.fullmatch(
        r"(?ai)(https?)://(?:\[([0-9a-f:.]{2,45})\]|([\w.-]{1,253}))(?::([0-9]{1,5}))?/?", text
    )
    if not found:
        raise ValueError(f"{origin} must be like http://localhost:8069 (without a path or a user)")
    scheme, host = found[1].lower(), (found[2] or found[3]).lower()
    port = int(found[4] or (443 if scheme == "https" else 80))
    if not 1 <= port <= 65535:
        raise ValueError(f"{origin}: the port must be from 1 to 65535")
    return scheme, host, port


def parse_seconds(text: str, origin: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not 0 < float(text) <= 1e6:
        raise ValueError(f"{origin} must be seconds, more than 0 and up to 1000000, not {text!r}")
    return float(text)


def parse_number(text: Any, origin: str) -> int:
    return check_number(int(text) if re.fullmatch("[0-9]{1,20}", text) else text, origin)


def ask_password(whose: str) -> str:
    """Ask for it on the controlling terminal, whatever standard input is."""
    from getpass import getpass

    try:
        open(TERMINAL).close()
    except OSError:
        hint = "set ODOO_API_KEY or ODOO_PASSWORD, or api_key or password in a profile"
        raise ConfigError(f"no password for {whose}", hint) from None
    try:
        pwd = getpass(printable(f"Password of {whose}: "))
    except (EOFError, UnicodeError, KeyboardInterrupt) as stop:
        sys.stderr.write("\n")
        if isinstance(stop, KeyboardInterrupt):
            raise
        pwd = ""
    if not pwd:
        raise ConfigError("no password given")
    return pwd


def xdg_folder(variable: str, default: str) -> str:
    folder = os.environ.get(variable, "")
    folder = folder if os.path.isabs(folder) else os.path.expanduser(default)
    # Without a home, a path where nothing can be read or kept.
    return folder if os.path.isabs(folder) else os.devnull


def read_profiles(args: argparse.Namespace) -> tuple[str, dict[str, dict[str, str]], str]:
    """The path of the profiles, its sections, and the name of the one asked for, or ""."""
    default = os.path.join(xdg_folder("XDG_CONFIG_HOME", "~/.config"), "library", "library.ini")
    path = default if args.config is None else args.config
    name = os.environ.get("ODOO_PROFILE", "") if args.profile is None else args.profile
    is_missing = args.config is None and not os.path.exists(path)
    sections = {} if is_missing else read_ini(path)
    if (name or args.profile is not None) and name not in sections:
        origin = "ODOO_PROFILE" if args.profile is None else "--profile"
        names = ", ".join(sections) or "none"
        raise ConfigError(f"{origin}: no profile {name!r} in {path}, which has: {names}")
    return path, sections, name


def read_section(
    sections: dict[str, dict[str, str]], section: str, path: str, console: Console
) -> Source:
    """The settings of a section of the profiles."""
    keys = sections.get(section, {})
    where = f"in [{section}] of {path}"
    for key in sorted(keys.keys() - KNOWN_KEYS):
        console.complain(f"warning: unknown key {key} {where}")
    source = {}
    for setting, aliases in PROFILE_KEYS.items():
        key = next((alias for alias in aliases if keys.get(alias)), "")
        if key:
            value = keys[key]
            if key == "server":  # which may end with the path that ERPpeek and Odooly use
                value = re.sub("/(web|jsonrpc|xmlrpc(/2)?|json/2)/?$", "", value)
            source[setting] = value, f"the key {key} {where}"
    parts = [part for part in URL_PARTS if part in keys]
    if parts and "url" in source:
        console.complain(f"warning: {source['url'][1]} counts, not {', '.join(parts)}")
    elif parts:
        url = "{scheme}://{host}:{port}".format_map(
            {**URL_PARTS, **sections.get("DEFAULT", {}), **keys}
        )
        source["url"] = url, f"the key {' or '.join(parts)} {where}"
    return source


def read_ini(path: str) -> dict[str, dict[str, str]]:
    """The sections of an ini file, [DEFAULT] as one of them. No error quotes its lines."""
    import configparser

    ini = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        with open(path, encoding="utf-8-sig") as file:
            ini.read_file(file)
            others_can = os.name == "posix" and os.stat(file.fileno()).st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not UTF-8")
        raise ConfigError(f"cannot read {path}: {reason}") from None
    except configparser.Error as error:
        line = getattr(error, "lineno", 0) or getattr(error, "errors", [(0,)])[0][0]
        what = "must be KEY = VALUE in a [SECTION], and each only once"
        raise ConfigError(f"{path}, line {line}: {what}") from None
    sections = {section: dict(ini[section]) for section in ini.sections()}
    if others_can and any({"password", "api_key"} & keys.keys() for keys in sections.values()):
        hint = f"chmod 600 {quote(path)}"
        raise ConfigError(f"{path} holds a password, and others can read it", hint)
    return sections


# --- The command line ----------------------------------------------------------------------------


class TitleFile:
    """A file of titles, or standard input for "-", read and checked as a whole.

    `lines` has the number and the title of each line that is not blank.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.path: str = args.file
        self.name = "standard input" if self.path == "-" else self.path
        self.lines: list[tuple[int, str]] = []
        self._args = args
        self._is_utf16 = False
        errors = []
        # Not by splitlines(), which takes more than line ends for ends of lines.
        for number, line in enumerate(self._read().split(b"\n"), start=1):
            origin = f"{self.name}, line {number}"
            try:
                title = line.removesuffix(b"\r").decode()
                if title.strip():
                    self.lines.append((number, check_title(title, origin)))
            except UnicodeDecodeError:
                errors.append((f"{origin} is not UTF-8", self._convert("CP1252")))
            except ValueError as error:
                remedies = (remedy for octet, remedy in REMEDIES.items() if octet in title)
                errors.append((str(error), self._filter(next(remedies, ""))))
        if errors:
            message, hint = errors[0]
            more = f" (bad lines in all: {len(errors)})" if len(errors) > 1 else ""
            raise ConfigError(message + more, hint)

    def _read(self) -> bytes:
        """What is in the file, in UTF-8."""
        try:
            with open(0 if self.path == "-" else self.path, "rb", closefd=self.path != "-") as file:
                octets = file.read()
        except OSError as error:
            raise ConfigError(f"cannot read {self.name}: {error.strerror}") from None
        if octets.startswith(codecs.BOM_UTF32_LE):  # which begins as UTF-16's does
            raise ConfigError(f"{self.name} is UTF-32", self._convert("UTF-32"))
        if octets.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self._is_utf16 = True
            try:
                return octets.decode("utf-16").encode()  # as Excel writes "Unicode text"
            except UnicodeDecodeError:
                raise ConfigError(f"{self.name} is not UTF-16, though it begins so") from None
        for encoding, nuls in (("UTF-16BE", octets[::2]), ("UTF-16LE", octets[1::2])):
            if len(octets) % 2 == 0 and nuls.count(0) > len(nuls) / 2:
                message = f"{self.name} is not UTF-8, it seems to be {encoding}"
                raise ConfigError(message, self._convert(encoding))
        return octets.removeprefix(codecs.BOM_UTF8)

    def _convert(self, encoding: str) -> str:
        """How to make UTF-8 of the file. Not by a pipe, which adds what it has if iconv fails."""
        if self.path == "-":
            return f"if it is {encoding}, make UTF-8 of it with iconv, and a file for --file"
        path = f"{self.path}.utf8"
        add = add_command(self._args, path, self._args.from_line)
        iconv = f"iconv -f {encoding} -t UTF-8 < {quote(self.path)} > {quote(path)}"
        return f"if it is {encoding}: {iconv} && {add}"

    def _filter(self, command: str) -> str:
        """How to send the file through a filter, which is for UTF-8 alone."""
        if self._is_utf16:
            return self._convert("UTF-16")
        if not command or self.path == "-":
            return command and f"put this before it in the pipe: {command}"
        add = add_command(self._args, "-", self._args.from_line)
        return f"try: {command} < {quote(self.path)} | {add}"


def argument(check: Callable[[str, str], T], origin: str) -> Callable[[str], T]:
    """A `type=` for argparse, which raises ConfigError."""
    return lambda text: parse(check, text, origin)


class _Once(argparse.Action):
    """Store an option's value. argparse's own action would forget the first of two."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: Any = None) -> None:
        if getattr(namespace, self.dest) is not None:
            raise ConfigError(f"more than one {option}")
        setattr(namespace, self.dest, value)


class _Parser(argparse.ArgumentParser):
    """argparse with errors of our own, under the program's name in each command."""

    def __init__(self, **kwargs: Any) -> None:
        # A width of one's own spares argparse the import of shutil with each command.
        formatter = functools.partial(argparse.HelpFormatter, width=80)
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)
        self.color = False  # which argparse has since Python 3.14

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, f"see {self.prog} --help")


def program() -> str:
    """The program's name: "library" where it is installed."""
    return "library" if os.path.basename(sys.argv[0]) == "library" else "library.py"


def typed() -> str:
    """The program as the user can type it again."""
    path = sys.argv[0]
    if os.path.basename(path) not in ("library", "library.py"):  # called by another program
        return program()
    word = path if re.fullmatch("[\\w./-]+", path) else quote(path)
    return word if os.path.dirname(path) else f"python3 {word}"


def add_shared_options(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the options that go before the command or after it."""
    add = functools.partial(parser.add_argument, default=default)
    add("-q", "--quiet", action="store_true", help="print IDs alone (list, add) or nothing")
    add("--json", action="store_true", help="print a JSON object a line")
    add("--debug", action="store_true", help="show tracebacks with errors")
    add("--url", help="the server: ODOO_URL, or http://localhost:8069")
    add("--db", metavar="NAME", help="the database: ODOO_DB, or odoo-dev")
    add("--user", metavar="NAME", help="ODOO_USER, or admin; password: ODOO_API_KEY, ODOO_PASSWORD")
    add("--timeout", metavar="SECONDS", help="how long to wait for an answer: ODOO_TIMEOUT, or 120")
    add("--config", metavar="FILE", help="the profiles: ~/.config/library/library.ini")
    add("--profile", metavar="NAME", help="a section of that file: ODOO_PROFILE, or DEFAULT")


def add_parser(
    commands: Any, run: Callable[..., int], verb: str, arguments: str, help: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        verb,
        usage=f"{program()} {verb} [options] {arguments}",
        help=help,
        description=help,
        epilog=DASH if "TITLE" in arguments else "",
    )
    # An option that is not given after the command leaves what was given before it.
    add_shared_options(command, default=argparse.SUPPRESS)
    command.set_defaults(run=run)
    return command


def build_parser() -> argparse.ArgumentParser:
    name = program()
    about = f'Keep books on an Odoo server, for example: {name} add "Moby-Dick"'
    parser = _Parser(prog=name, usage=f"{name} [options] COMMAND ...", description=about)
    add_shared_options(parser)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog=name
    )
    part, title = argument(check_line, "TITLE"), argument(check_title, "TITLE")
    id, limit = argument(parse_number, "ID"), argument(parse_number, "--limit")
    line = argument(parse_number, "--from-line")

    help = "list books in the server's order"
    command = add_parser(commands, list_books, "list", "[TITLE]", help)
    add = command.add_argument
    add("title", metavar="TITLE", nargs="?", type=part, help="a part of their titles")
    add("--limit", metavar="N", type=limit, help="show at most N books")

    command = add_parser(commands, add_books, "add", "(TITLE | --file FILE)", "add books")
    add = command.add_argument
    add("title", metavar="TITLE", nargs="?", type=title, help="the title")
    help = 'add the title on each line, in UTF-8; "-": standard input'
    add("--file", metavar="FILE", action=_Once, help=help)
    add("--from-line", metavar="N", type=line, help="begin at line N of FILE")

    add = add_parser(commands, set_title, "set", "ID TITLE", "change a book's title").add_argument
    add("id", metavar="ID", type=id, help="the book's")
    add("title", metavar="TITLE", nargs="?", type=title, help="its new title")

    add = add_parser(commands, delete_books, "del", "ID [ID ...]", "delete books").add_argument
    add("ids", metavar="ID", nargs="*", type=id, help="the books'")
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What stands on the command line; ConfigError where it is wrong."""
    parser = build_parser()
    try:
        args, rest = parser.parse_known_args(argv)
    except ConfigError:
        check_options_before_command(argv)  # argparse takes the value of one for the command
        raise
    end = rest.index("--") if "--" in rest else len(rest)
    check_options(rest[:end], args.command)
    del rest[end : end + 1]
    if args.quiet and args.json:
        raise ConfigError("--quiet and --json exclude each other")
    # argparse may have left over what follows an option.
    if args.command == "del":
        args.ids += [parse(parse_number, text, "ID") for text in rest]
        if not args.ids:
            raise ConfigError("ID is missing", f"see {program()} del --help")
        return args
    if args.title is None and rest:
        args.title = parse(check_title, rest.pop(0), "TITLE")
    if rest:
        title = " ".join((args.title, *rest))
        raise ConfigError(f'more than one title; quote one that has spaces: "{title}"')
    if args.command == "set" and args.title is None:
        raise ConfigError("TITLE is missing", f"see {program()} set --help")
    if args.command == "add":
        read_titles(args)
    return args


def read_titles(args: argparse.Namespace) -> None:
    """Read the file of titles that `add` is given in the place of a TITLE, if it is."""
    if (args.title is None) == (args.file is None):
        raise ConfigError("give either TITLE or --file FILE", f"see {program()} add --help")
    if args.file is not None:
        args.file = TitleFile(args)
    elif args.from_line:
        raise ConfigError("--from-line goes with --file")


def check_options(words: Sequence[str], command: str = "") -> None:
    """Refuse the options among words that argparse has left over. Their values are not shown."""
    unknown = [word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1]
    if unknown:
        see = f"see {' '.join(filter(None, (program(), command)))} --help"
        hint = join(see, DASH if command in ("list", "add", "set") else "")
        raise ConfigError(f"unknown option: {' '.join(unknown)}", MISPLACED.get(unknown[0], hint))


def check_options_before_command(argv: Sequence[str]) -> None:
    """Refuse an unknown option before the command, whose value argparse takes for the command."""
    parser = _Parser(add_help=False)
    add_shared_options(parser)
    _, rest = parser.parse_known_args(argv)
    check_options(rest[:1])


def run(argv: Sequence[str], backend: Callable[..., LibraryAPI], console: Console) -> int:
    """Run one command and give its exit status."""
    args = settings = None
    try:
        args = parse_arguments(argv)
        console.quiet, console.json = args.quiet, args.json
        settings = find_settings(args, console)
        return int(args.run(args, settings.connect(backend), console))
    except SystemExit as stop:  # argparse's, after --help or --version
        return int(stop.code or 0)
    except LibraryError as error:
        if settings:
            settings.explain(error)
        if args and args.debug:
            user, pwd = (settings.user, settings.pwd) if settings else ("", "")
            console.show_traceback(error, user, pwd)
        return console.fail(error)


def main(argv: Sequence[str] | None = None, backend: Callable[..., LibraryAPI] = LibraryAPI) -> int:
    """Run the program with `argv` (without its name) and give its exit status."""
    console = Console()
    try:
        prepare_streams()
        status = run(sys.argv[1:] if argv is None else argv, backend, console)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as stop:
        console.complain("interrupted", console.if_stopped)
        signum = stop.args[0] if stop.args else signal.SIGINT  # see `interrupt`
        return 128 + int(signum)
    except OSError as error:  # of standard output: the API's are LibraryErrors
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError) and not console.if_stopped:
            return 0  # the reader has seen enough
        return console.fail(LibraryError(f"cannot write the output: {error.strerror or error}"))


def prepare_streams() -> None:
    """Replace streams that were closed when we were started, and print what an encoding lacks."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull)  # noqa: SIM115  (to read: to write a result is an error)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (nobody reads messages)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an ASCII locale gets escapes instead of an error
            stream.reconfigure(errors="backslashreplace")


def command(backend: Callable[..., LibraryAPI] = LibraryAPI) -> NoReturn:
    """Run main as a program, which dies of a signal that stops it: a shell's loop stops, too."""
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)  # which Windows does not have
    for signum in (signal.SIGINT, signal.SIGTERM, hangup):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, interrupt)
    status = main(backend=backend)
    if status > 128 and os.name == "posix":
        os.kill(os.getpid(), status - 128)
    os._exit(status)  # at once: Python's own way out takes a while, and shows a traceback at Ctrl-C


def interrupt(signum: int, frame: object) -> None:
    signal.signal(signum, signal.SIG_DFL)  # the next one ends us at once
    raise KeyboardInterrupt(signum)


if __name__ == "__main__":
    command()
