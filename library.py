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

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: no traceback

import argparse
import codecs
import functools
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Sequence

from library_xmlrpc import (
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
    Source = dict[str, tuple[str, str]]  # settings, each with its value and where it stands

__version__ = "1.0.0"

BATCH = 1000  # titles in one transaction of `add --file`, and the characters in them all: their
BATCH_CHARACTERS = 80_000  # request is below half a MiB whatever they are (nginx takes one MiB)
BATCH_IDS = 10_000  # in one transaction of `del`, whose request is no larger

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

# What is in the arguments before they are parsed.
NOT_GIVEN = {
    **dict.fromkeys(("quiet", "json", "debug"), False),
    **dict.fromkeys(("url", "db", "user", "timeout", "config", "profile", "command", "files")),
    "titles": (),
    "login": ("", ""),
    "advice": "",
}

DASH = 'put "--" before a title that begins with a dash'

# What a line of text can't show as it is: control characters, line separators, and what changes
# the direction in which the rest is shown.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class ConfigError(LibraryError):
    """An argument or a setting is missing or malformed; the message names it."""


EXIT_STATUS = {ConfigError: 2, ConnectError: 3, LoginError: 3, UnknownOutcomeError: 4}  # else 1


# --- The commands: each calls the API, prints, and gives the exit status -------------------------
#
# At each moment args.advice is what there is to say if the command stops right then, whatever
# stops it: what may have been changed, what was changed and is not printed, where to go on.


def list_books(args: argparse.Namespace, api: LibraryAPI) -> int:
    for book in api.iter_books(args.title, args.limit):
        line = result(args, f"{book['id']} {book['name']}", book["id"], book["name"])
        sys.stdout.write(f"{line}\n")  # which takes three quarters of print's time
    return 0


def add_books(args: argparse.Namespace, api: LibraryAPI) -> int:
    if args.files:
        return add_lines(args, api)
    id = change(args, "check with list whether it was added", "", api.create, args.title)
    print_added(args, [id], [args.title])
    return 0


def add_lines(args: argparse.Namespace, api: LibraryAPI) -> int:
    """Add the titles of a file in batches. What is printed is stored."""
    ((name, lines),) = args.files
    started, longest = time.monotonic(), max((len(title) for _, title in lines), default=1)
    size = min(BATCH, BATCH_CHARACTERS // longest)
    for done in range(0, len(lines), size):
        rate = f", {done / (time.monotonic() - started):.0f} a second" if done else ""
        numbers, titles = zip(*lines[done : done + size])
        unknown = (
            f"check with list whether lines {numbers[0]} to {numbers[-1]} of {name} were added, "
            f"all or none; start again at line {numbers[0]} or {numbers[-1] + 1}"
        )
        refused = f"start again at line {numbers[0]} of {name}: nothing from there on was added"
        more = f"start again at line {numbers[-1] + 1} of {name}: nothing from there on was added"
        try:
            show_progress(args, f"{done} of {len(lines)} added{rate}")
            ids = change(args, unknown, refused, api.create_many, titles)
        finally:
            show_progress(args, "")
        print_added(args, ids, titles, more if done + size < len(lines) else "")
    return 0


def set_title(args: argparse.Namespace, api: LibraryAPI) -> int:
    unknown = "check with list whether the title was set"
    change(args, unknown, "", api.write, args.id, args.title)
    sentence = f"Title of Book ID {args.id} set to {args.title}."
    print_done(args, [result(args, sentence, args.id, args.title)], "the title was set")
    return 0


def delete_books(args: argparse.Namespace, api: LibraryAPI) -> int:
    ids = list(dict.fromkeys(args.ids))
    missing = set(ids)
    for start in range(0, len(ids), BATCH_IDS):
        batch = ids[start : start + BATCH_IDS]
        deleted = change(args, "check with list what was deleted", "", api.unlink_many, batch)
        lines = [result(args, f"Book with ID {id} was deleted.", id) for id in deleted]
        print_done(args, lines, f"deleted: {spelled(deleted)}")
        missing.difference_update(deleted)
    if missing:
        raise BookNotFoundError([id for id in ids if id in missing])
    return 0


def change(
    args: argparse.Namespace, unknown: str, refused: str, method: Callable[..., T], *arguments: Any
) -> T:
    """Call a method that changes something; `unknown` and `refused` are the advice in that case."""
    args.advice = f"wait a little, then {unknown}"  # the server may still be at work
    try:
        return method(*arguments)
    except LibraryError as error:
        if not isinstance(error, UnknownOutcomeError):
            args.advice = refused
        raise


# --- What is printed -----------------------------------------------------------------------------


def result(args: argparse.Namespace, sentence: str, id: int, name: str | None = None) -> str:
    """The line that says what happened to a book, as the options want it."""
    if args.json:
        import json

        book = {"id": id} if name is None else {"id": id, "name": name}
        return json.dumps(book)  # ASCII, so that it is exact in each locale
    return str(id) if args.quiet else printable(sentence)


def printable(text: str) -> str:
    """`text` on one line, with escapes for what would steer a terminal."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_added(
    args: argparse.Namespace, ids: Sequence[int], titles: Sequence[str], more: str = ""
) -> None:
    lines = [
        result(args, f"Book added with ID {id} for title {title}.", id, title)
        for id, title in zip(ids, titles)
    ]
    print_done(args, lines, f"added with IDs: {spelled(ids)}", more)


def print_done(args: argparse.Namespace, lines: list[str], done: str, more: str = "") -> None:
    """Print what was done, at once. Until that has worked, the advice is what was `done`.

    A reader who has seen enough is no error, unless there is `more` to do.
    """
    args.advice = join(more, done)
    try:
        if args.command == "add" or not args.quiet:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
    except OSError as error:
        if more or not isinstance(error, BrokenPipeError):
            raise
        abandon(sys.stdout)
    args.advice = more


def spelled(ids: Sequence[int]) -> str:
    """The IDs as text: those of a batch as a range, as a rule."""
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]} to {ids[-1]}"
    return " ".join(map(str, ids))


def abandon(stream: Any) -> None:
    """Let Python's flush at exit, too, find a stream that takes what is left."""
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), stream.fileno())


def show_progress(args: argparse.Namespace, text: str) -> None:
    """Show `text` on a terminal until the next call, in place of what was shown before."""
    if sys.stderr.isatty() and not args.quiet:
        sys.stderr.write(f"\r\x1b[K{text}\r")
        sys.stderr.flush()


def complain(*messages: str) -> None:
    """Print messages, a line each, on standard error."""
    try:
        for message in filter(None, messages):
            sys.stderr.write(f"{program()}: {printable(message)}\n")
    except OSError:  # nobody reads them; the exit status remains
        abandon(sys.stderr)


def fail(args: argparse.Namespace, error: LibraryError) -> int:
    """Say what went wrong and what to do, and give the exit status that says so too."""
    unknown = isinstance(error, UnknownOutcomeError)  # to look what it was comes first
    complain(f"error: {error}", join("" if unknown else error.hint, args.advice))
    return next((status for kind, status in EXIT_STATUS.items() if isinstance(error, kind)), 1)


def join(*hints: str) -> str:
    return "; ".join(filter(None, hints))


def show_traceback(args: argparse.Namespace, error: LibraryError) -> None:
    """For --debug: Python's, and the server's where there is one."""
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if isinstance(error, ServerError):
        text += f"The server's fault {error.code}:\n{error.text}"
    for line in mask(text, *args.login).splitlines():
        complain(f"debug: {line}")


# --- Settings: option, profile that --profile names, environment, other profile, default ---------


def connect(args: argparse.Namespace, backend: Callable[..., LibraryAPI]) -> LibraryAPI:
    """The API on the server, and as the user, that the settings name."""
    given = vars(args)
    options = {name: (given[name], f"--{name}") for name in DEFAULTS if given[name] is not None}
    env = os.environ
    environment = {name: (env[key], key) for key, name in VARIABLES.items() if env.get(key)}
    sources = [options, environment, read_profile(args)]
    if args.profile is not None:
        sources = [options, sources[2], environment]
    found = {name: (value, "default") for name, value in DEFAULTS.items()}
    for source in reversed(sources):
        found.update(source)
    scheme, host, port = server = parse(parse_url, *found["url"])
    db = parse(check_title, *found["db"])
    user = parse(check_title, *found["user"])
    pwd, origin = choose_password(sources, found["url"], server)
    if not pwd and (*server, db, user) == DEFAULT_LOGIN:
        pwd, origin = "admin", "the defaults"
    elif not pwd:
        where = f"{found['url'][0]}, database {db}"
        pwd, origin = ask_password(user, where), "the prompt"
    args.login, args.password_from = (user, parse(check_title, pwd, origin)), origin
    folder = os.path.join(xdg_folder("XDG_CACHE_HOME", "~/.cache"), "library")
    login = f"{user}@{scheme}://{host}:{port}/{db}"
    cache = os.path.join(folder, urllib.parse.quote(login, safe=""))
    timeout = parse(parse_seconds, *found["timeout"])
    return backend(host, port, db, user, pwd, scheme=scheme, timeout=timeout, uid_cache=cache)


def choose_password(
    sources: list[Source], url: tuple[str, str], server: tuple[str, str, int]
) -> tuple[str, str]:
    """The first password and where it stands, if there is any; ConfigError if it is not for `url`.

    A password is for the server that is named where it stands: in a profile that names none, the
    default one.
    """
    source = next((source for source in sources if "password" in source), {})
    home = source.get("home") or source.get("url", url)
    if parse(parse_url, *home) != server:
        problem = f"{url[1]}: {source['password'][1]} is for {home[0]} alone"
        raise ConfigError(problem, f"give a password for {url[0]} as well")
    return source.get("password", ("", ""))


def parse(check: Callable[[str, str], T], text: str, origin: str) -> T:
    """What `check` makes of a text, or else ConfigError."""
    try:
        return check(text, origin)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def parse_url(text: str, origin: str) -> tuple[str, str, int]:
    """Scheme, host and port. The error does not show `text`, which may hold a password."""
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
        raise ValueError(f"{origin} must be seconds from above 0 to 1000000, not {text!r}")
    return float(text)


def parse_number(text: Any, origin: str) -> int:
    return check_number(int(text) if re.fullmatch("[0-9]{1,20}", text) else text, origin)


def ask_password(user: str, where: str) -> str:
    """Ask for it on the controlling terminal, whatever standard input is."""
    from getpass import getpass

    try:
        open(TERMINAL).close()
    except OSError:
        hint = "set ODOO_API_KEY or ODOO_PASSWORD, or api_key or password in a profile"
        raise ConfigError(f"no password for {user} on {where}", hint) from None
    try:
        pwd = getpass(printable(f"Password of {user} on {where}: "))
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
    return folder if os.path.isabs(folder) else os.devnull  # no home: nothing is read or kept


def read_profile(args: argparse.Namespace) -> Source:
    """The settings of the profile asked for, and what it has from [DEFAULT]."""
    default = os.path.join(xdg_folder("XDG_CONFIG_HOME", "~/.config"), "library", "library.ini")
    path = default if args.config is None else args.config
    name = os.environ.get("ODOO_PROFILE", "") if args.profile is None else args.profile
    if not os.path.exists(path) and args.config is None and args.profile is None and not name:
        return {}
    sections = read_ini(path)
    if (name or args.profile is not None) and name not in sections:
        origin = "ODOO_PROFILE" if args.profile is None else "--profile"
        raise ConfigError(f"{origin}: no profile {name!r} in {path}, but {', '.join(sections)}")
    common, own = (read_section(sections, section, path) for section in ("DEFAULT", name))
    if "url" in own:
        common.pop("password", None)  # it is for another server
    profile = {**common, **own}
    return {**profile, "home": profile.get("url", (DEFAULTS["url"], "default"))}


def read_section(sections: dict[str, dict[str, str]], section: str, path: str) -> Source:
    keys = sections.get(section, {})
    for key in keys.keys() - KNOWN_KEYS:
        complain(f"warning: unknown key {key} in [{section}] of {path}")
    source = {}
    for setting, aliases in PROFILE_KEYS.items():
        key = next((alias for alias in aliases if keys.get(alias)), "")
        if key:
            source[setting] = keys[key], f"the key {key} in [{section}] of {path}"
    if "url" not in source and not URL_PARTS.keys().isdisjoint(keys):
        parts = {**URL_PARTS, **sections.get("DEFAULT", {}), **keys}
        url = "{scheme}://{host}:{port}".format_map(parts)
        source["url"] = url, f"the key host in [{section}] of {path}"
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
        what = "not KEY = VALUE in a [SECTION], or there twice"
        raise ConfigError(f"{path}, line {line}: {what}") from None
    sections = {section: dict(ini[section]) for section in ini.sections()}
    if others_can and any({"password", "api_key"} & keys.keys() for keys in sections.values()):
        raise ConfigError(f"{path} holds a password, and others can read it", f"chmod 600 '{path}'")
    return sections


# --- The command line ----------------------------------------------------------------------------


def read_titles(path: str) -> tuple[str, list[tuple[int, str]]]:
    """The name of a file and its titles with their lines' numbers; "-" is standard input."""
    name = "standard input" if path == "-" else path
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            octets = file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}") from None
    titles = []
    # Not by splitlines(), which takes more than line ends for ends of lines.
    for number, line in enumerate(octets.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        origin = f"{name}, line {number}"
        try:
            title = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            hint = "iconv -f CP1252 -t UTF-8 makes UTF-8 of it, if it is in Windows-1252"
            raise ConfigError(f"{origin}: not UTF-8", hint) from None
        if title.strip():
            titles.append((number, parse(check_title, title, origin)))
    return name, titles


def argument(check: Callable[[str, str], T], origin: str) -> Callable[[str], T]:
    """A type for argparse, whose own errors have other words."""
    return lambda text: parse(check, text, origin)


class _Parser(argparse.ArgumentParser):
    """argparse with errors of our own, under the program's name in each command."""

    def __init__(self, **kwargs: Any) -> None:
        # A width of one's own spares argparse the import of shutil with each command.
        formatter = functools.partial(argparse.HelpFormatter, width=80)
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)
        self.color = False  # which argparse has since Python 3.14

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, join(f"see {self.prog} --help", self.epilog or ""))


def program() -> str:
    """The name under which we were called: "library" where installed."""
    return "library" if os.path.basename(sys.argv[0]) == "library" else "library.py"


def shared_options() -> _Parser:
    """The options that stand before the command or after it."""
    # Without defaults, or those of the one place would undo what was given in the other.
    options = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    add = options.add_argument
    add("-q", "--quiet", action="store_true", help="print IDs alone (list, add) or nothing")
    add("--json", action="store_true", help="print a JSON object a line")
    add("--debug", action="store_true", help="show tracebacks with errors")
    add("--url", help="the server: ODOO_URL, or http://localhost:8069")
    add("--db", metavar="NAME", help="the database: ODOO_DB, or odoo-dev")
    add("--user", metavar="NAME", help="ODOO_USER, or admin; password: ODOO_API_KEY, ODOO_PASSWORD")
    add("--timeout", metavar="SECONDS", help="how long to wait for an answer: ODOO_TIMEOUT, or 120")
    add("--config", metavar="FILE", help="the profiles: ~/.config/library/library.ini")
    add("--profile", metavar="NAME", help="a section of that file: ODOO_PROFILE, or DEFAULT")
    return options


def build_parser() -> argparse.ArgumentParser:
    name, options = program(), shared_options()
    about = f'Keep books on an Odoo server, for example: {name} add "Moby-Dick"'
    parser = _Parser(
        prog=name, usage=f"{name} [options] COMMAND ...", parents=[options], description=about
    )
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog=name
    )
    for verb, run, arguments, help in (
        ("list", list_books, "[TITLE]", "list books in the server's order"),
        ("add", add_books, "(TITLE | --file FILE)", "add books"),
        ("set", set_title, "ID TITLE", "change a book's title"),
        ("del", delete_books, "ID [ID ...]", "delete books"),
    ):
        usage, dash = f"{name} {verb} [options] {arguments}", DASH if "TITLE" in arguments else ""
        command = commands.add_parser(
            verb, parents=[options], usage=usage, help=help, description=help, epilog=dash
        )
        command.set_defaults(run=run)
        add_arguments(verb, command)
    return parser


def add_arguments(verb: str, command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    id, limit = argument(parse_number, "ID"), argument(parse_number, "--limit")
    part, title = argument(check_line, "TITLE"), argument(check_title, "TITLE")
    if verb == "list":
        add("titles", metavar="TITLE", nargs="*", type=part, help="a part of their titles")
        add("--limit", metavar="N", type=limit, help="show at most N books")
    elif verb == "add":
        add = command.add_mutually_exclusive_group(required=True).add_argument
        add("titles", metavar="TITLE", nargs="*", type=title, default=[], help="the title")
        help = 'add the title on each line, in UTF-8; "-": standard input'
        add("--file", metavar="FILE", dest="files", action="append", type=read_titles, help=help)
    elif verb == "set":
        add("id", metavar="ID", type=id, help="the book's")
        add("titles", metavar="TITLE", nargs="+", type=title, help="its new title")
    else:
        add("ids", metavar="ID", nargs="+", type=id, help="the books'")


def parse_arguments(argv: Sequence[str], args: argparse.Namespace) -> None:
    """Put what stands on the command line into `args`; ConfigError where it is wrong."""
    _, unknown = build_parser().parse_known_args(argv, args)
    if unknown:
        hint = f"see {program()} {args.command} --help; {DASH}"
        raise ConfigError(f"unrecognized arguments: {' '.join(unknown)}", hint)
    if len(args.files or ()) > 1:
        raise ConfigError("more than one --file")
    if len(args.titles) > 1:
        title = " ".join(args.titles)
        raise ConfigError(f'more than one title; quote one that has spaces: "{title}"')
    if args.quiet and args.json:
        raise ConfigError("--quiet and --json exclude each other")
    args.title = args.titles[0] if args.titles else None


def run(argv: Sequence[str], args: argparse.Namespace, backend: Callable[..., LibraryAPI]) -> int:
    """Run one command and give its exit status."""
    try:
        parse_arguments(argv, args)
        return int(args.run(args, connect(args, backend)))
    except SystemExit as stop:  # argparse's, after --help or --version
        return int(stop.code or 0)
    except LibraryError as error:
        if isinstance(error, LoginError) and "password" in str(error):
            error.hint = join(f"the password is from {args.password_from}", error.hint)
        if args.debug:
            show_traceback(args, error)
        return fail(args, error)


def main(argv: Sequence[str] | None = None, backend: Callable[..., LibraryAPI] = LibraryAPI) -> int:
    """Run the program with `argv` (without its name) and give its exit status."""
    args = argparse.Namespace(**NOT_GIVEN)
    try:
        # A stream that was closed when we were started: what is written to the one is an error.
        sys.stdout = sys.stdout or open(os.devnull)  # noqa: SIM115
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # an ASCII locale gets escapes instead of an error
                stream.reconfigure(errors="backslashreplace")
        status = run(sys.argv[1:] if argv is None else argv, args, backend)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as stop:
        complain("interrupted", args.advice)
        return 128 + int(*stop.args or (signal.SIGINT,))
    except OSError as error:  # of standard output: the API's are LibraryErrors
        abandon(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            reason = f"cannot write the output: {error.strerror or error}"
        elif args.advice:
            reason = "standard output was closed"
        else:  # the reader has seen enough
            return 0
        return fail(args, LibraryError(reason))


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
