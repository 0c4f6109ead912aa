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
import sys

# Until `command`, at the end, decides what a signal does, Ctrl-C ends Python at once: the imports
# of the program, or of the installed one, show no traceback.
if (__name__ == "__main__" or sys.argv[0].endswith("/library")) and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import codecs
import contextlib
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from library_xmlrpc import (
    FIRST_PAGE,
    BookNotFoundError,
    ConnectError,
    LibraryAPI,
    LibraryError,
    LoginError,
    UnknownOutcomeError,
    check_number,
    check_title,
    mask,
)

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, TypeVar

    T = TypeVar("T")
    Value = tuple[str, str]  # of a setting: its text, and where it was set
    Source = dict[str, Value]  # settings that stand in one place, by name

__version__ = "1.0.0"

# Of one transaction. Its request stays below half a MiB: nginx refuses more than one by default.
BATCH = 1000  # titles of `add` and `set`
BATCH_CHARACTERS = 78_000  # in these titles, whatever they are
BATCH_IDS = 10_000  # of `del`

TERMINAL = "CONIN$" if os.name == "nt" else "/dev/tty"
SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
CAUGHT: list[int] = []  # of these

ARGUMENTS = {"list": "[TITLE]", "add": "TITLE", "set": "ID TITLE", "del": "ID [ID ...]"}

DEFAULTS = {"url": "http://localhost:8069", "db": "odoo-dev", "user": "admin", "timeout": "120"}
DEFAULT_PASSWORD = "admin"  # of the default user on the default server
VARIABLES = {"ODOO_API_KEY": "password", "ODOO_PASSWORD": "password"}  # the first one counts
VARIABLES.update({f"ODOO_{name.upper()}": name for name in DEFAULTS})
KEYS = {"api_key": "password", "password": "password", **{name: name for name in DEFAULTS}}
KEYS.update(server="url", database="db", username="user")  # as other programs call them

# What is said of a book, with its ID and title, and what with --quiet.
LISTED, ADDED = "{} {}", "Book added with ID {} for title {}."
SET, DELETED = "Title of Book ID {} set to {}.", "Book with ID {} was deleted."
IF_QUIET = {LISTED: "{}", ADDED: "{}", SET: "", DELETED: ""}

# What to do: the second line of an error.
HINTS = {
    "help": "see {} --help",
    "quotes": "put a title of several words in quotes",
    "dash": 'put "--" before a title that begins with a dash',
    "no password": "set ODOO_API_KEY or ODOO_PASSWORD, or api_key or password in a profile",
    "another server": "set this server and its password in one place, a profile or the environment",
    "readable": "chmod 600 {}",
    "add": "the book may have been added: wait a little and run it again with --skip-existing",
    "again": "the change may have been made: wait a little and run it again, which does no harm",
    "rest": "for the rest, run the same command again",
    "batch": "lines {0} to {1} may have been added, and none after them: wait a little, then go on "
    "with the same command and --from-line {0} --skip-existing",
    "next": "lines {0} to {1}, and all after them, were not added: go on with the same command and "
    "--from-line {0}",
}

# What a line of text can't show as it is: control characters, line separators, and what changes
# the direction in which the rest is shown. (isprintable() would also refuse a soft hyphen.)
_UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"


class ConfigError(LibraryError):
    """Something is wrong with an argument, a setting or a file: `args` say what, a line each."""

    def __init__(self, *lines: str, hint: str = "") -> None:
        super().__init__("", hint)
        self.args = lines


EXIT_STATUS = {ConfigError: 2, ConnectError: 3, LoginError: 3, UnknownOutcomeError: 4}  # else 1


# --- The command line ----------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """argparse with errors of our own, under the program's name in each command."""

    def __init__(self, **kwargs: Any) -> None:
        # A width of one's own spares argparse the import of shutil with each command.
        formatter = partial(argparse.HelpFormatter, width=80)
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)
        self.color = False  # which argparse has since Python 3.14

    def error(self, message: str) -> NoReturn:
        found = re.search("invalid choice: (.*) \\(", message)  # there is none but of a command
        if found:
            message = f"no command {found[1]}; there are {', '.join(ARGUMENTS)}"
        raise ConfigError(message, hint=HINTS["help"].format(self.prog))


def program() -> str:
    """The program's name: "library" where it is installed."""
    return "library" if os.path.basename(sys.argv[0]) == "library" else "library.py"


def add_shared_options(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the options that go before the command or after it."""
    add = partial(parser.add_argument, default=default)
    add("-q", "--quiet", action="store_true", help="print IDs alone (list, add) or nothing")
    add("--json", action="store_true", help="print a JSON object a line")
    add("--debug", action="store_true", help="show tracebacks with errors")
    add("--url", help="the server: ODOO_URL, or http://localhost:8069")
    add("--db", metavar="NAME", help="the database: ODOO_DB, or odoo-dev")
    add("--user", metavar="NAME", help="ODOO_USER, or admin; password: ODOO_API_KEY, ODOO_PASSWORD")
    add("--timeout", metavar="SECONDS", help="how long to wait for an answer: ODOO_TIMEOUT, or 120")
    add("--config", metavar="FILE", help="the profiles: ~/.config/library/library.ini")
    add("--profile", metavar="NAME", help="a section of that file: ODOO_PROFILE")


def build_parser() -> argparse.ArgumentParser:
    name = program()
    about = f'Keep books on an Odoo server, for example: {name} add "Moby-Dick"'
    parser = _Parser(prog=name, usage=f"{name} [options] COMMAND ...", description=about)
    add_shared_options(parser)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog=name
    )

    title = partial(parse, check_title, origin="TITLE")
    id = partial(parse, parse_number, origin="ID")
    limit = partial(parse, parse_number, origin="--limit")
    line = partial(parse, parse_number, origin="--from-line")

    add = add_command(commands, "list", "list books in the server's order", list_books)
    add("title", metavar="TITLE", nargs="?", type=title, help="a part of their titles")
    add("--limit", metavar="N", type=limit, help="show at most N books")

    titles = partial(read_lines, parse_title)
    add = add_command(commands, "add", "add books", add_books, titles)
    add("title", metavar="TITLE", nargs="?", type=title, help="the title")
    add("--from-line", metavar="N", type=line, help="begin at line N of FILE")
    add("--skip-existing", action="store_true", help="add no title that the catalogue has")

    add = add_command(commands, "set", "change the titles of books", set_titles, read_changes)
    add("id", metavar="ID", nargs="?", type=id, help="the book's")
    add("title", metavar="TITLE", nargs="?", type=title, help="its new title")

    ids = partial(read_lines, parse_id)
    add = add_command(commands, "del", "delete books", delete_books, ids)
    add("ids", metavar="ID", nargs="*", type=id, help="the books'")
    return parser


def add_command(
    commands: Any, verb: str, about: str, run: Callable[..., int], read: Any = None
) -> Callable[..., argparse.Action]:
    """Add a command, with --file where `read` reads one. Gives what adds its other arguments."""
    arguments = f"({ARGUMENTS[verb]} | --file FILE)" if read else ARGUMENTS[verb]
    usage = f"{program()} {verb} [options] {arguments}"
    end = HINTS["dash"] if "TITLE" in arguments else ""
    command = commands.add_parser(verb, usage=usage, help=about, description=about, epilog=end)
    # An option that is not given after the command leaves what was given before it.
    add_shared_options(command, default=argparse.SUPPRESS)
    command.set_defaults(run=run)
    add: Callable[..., argparse.Action] = command.add_argument
    if read:
        what = {"add": "titles or ", "set": "", "del": "IDs or "}[verb]
        help = f"{what}books as list --json prints them, one a line"
        add("--file", metavar="FILE", type=read, help=help)
    return add


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with their files read. Raises ConfigError where they are wrong."""
    args, rest = build_parser().parse_known_args(argv)
    hint = HINTS["help"].format(f"{program()} {args.command}")
    wrong = ""
    if rest:
        wrong = f"unrecognized argument: {rest[0].partition('=')[0]}"  # without an option's value
        if args.command != "del" and re.match("-[^-]", rest[0]):
            hint = HINTS["dash"]
        elif vars(args).get("title") and not rest[0].startswith("-"):
            hint = HINTS["quotes"]
    elif args.quiet and args.json:
        wrong = "--quiet and --json exclude each other"
    elif args.command != "list":
        words = [vars(args)[name] for name in ("id", "title", "ids") if name in args]
        has_file = args.file is not None
        if has_file == (any(words) if has_file else all(words)):
            wrong = f"give either {ARGUMENTS[args.command]} or --file FILE"
        elif not has_file and vars(args).get("from_line"):
            wrong = "--from-line goes with --file"
    if wrong:
        raise ConfigError(wrong, hint=hint)
    return args


def parse(check: Callable[[str, str], T], text: str, origin: str) -> T:
    """What `check` makes of a text, or else ConfigError."""
    try:
        return check(text, origin)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def parse_number(text: str, origin: str) -> int:
    number: Any = int(text) if re.fullmatch("[0-9]{1,20}", text) else text
    return check_number(number, origin)


# --- Files: a book a line ------------------------------------------------------------------------


def read_lines(parse_line: Callable[[str, str], T], path: str) -> list[tuple[int, T]]:
    """The number of each line of a file that is not blank, and what it says.

    The file "-" is standard input. ConfigError names the first ten bad lines.
    """
    name = "standard input" if path == "-" else path
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            octets = file.read()
        # What is not valid becomes surrogates, which no check of a line lets pass.
        if octets.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as Excel writes it
            text = octets.decode("utf-16", "surrogatepass")
        else:
            text = octets.decode("utf-8-sig", "surrogateescape")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {name}: {getattr(error, 'strerror', error)}") from None
    lines, errors = [], []
    # Not by splitlines(), which takes more than line ends for ends of lines.
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip():
                value = parse_line(line.removesuffix("\r"), f"{name}, line {number}")
                lines.append((number, value))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        if len(errors) > 10:
            errors[10:] = [f"bad lines in all: {len(errors)}"]
        raise ConfigError(*errors)
    return lines


def parse_title(line: str, origin: str) -> str:
    """The title of the book in a line, or else the line as a title."""
    name = parse_book(line).get("name")
    if isinstance(name, str):
        return check_title(name, f"{origin}: a name")
    return check_title(line, origin)


def parse_id(line: str, origin: str) -> int:
    """The ID of the book in a line, or else the line as an ID."""
    book, what = parse_book(line), f"{origin}: an ID"
    return check_number(book["id"], what) if "id" in book else parse_number(line.strip(), what)


def read_changes(path: str) -> dict[int, str]:
    """The titles of the books in a file, by ID."""
    changes: dict[int, str] = {}

    def parse_line(line: str, origin: str) -> None:
        book = parse_book(line)
        if "id" not in book or not isinstance(book.get("name"), str):
            raise ValueError(f'{origin} must be like {{"id": 60, "name": "Moby-Dick"}}')
        id = check_number(book["id"], f"{origin}: an ID")
        if id in changes:
            raise ValueError(f"{origin}: ID {id} stands there for the second time")
        changes[id] = check_title(book["name"], f"{origin}: a name")

    read_lines(parse_line, path)
    return changes


def parse_book(line: str) -> dict[str, Any]:
    """The JSON object in a line; an empty one if it is something else."""
    if line.lstrip().startswith("{"):
        import json

        with contextlib.suppress(ValueError, RecursionError):
            book: dict[str, Any] = json.loads(line)
            return book
    return {}


# --- Settings ------------------------------------------------------------------------------------


def find_settings(args: argparse.Namespace) -> Source:
    """The settings that count. Each is taken from the first of these that has it:

    1. an option
    2. the profile that --profile or ODOO_PROFILE names
    3. the environment
    4. the file's [DEFAULT]
    5. the defaults

    A password goes only to the server that is set beside it, in the same section or in the
    environment; where none is, it goes to the one that counts. Raises ConfigError where that is
    another server.
    """
    options = {
        name: (vars(args)[name], f"--{name}") for name in DEFAULTS if vars(args)[name] is not None
    }
    environment = pick(VARIABLES, os.environ)
    profile, common = read_profiles(args)
    defaults = {name: (text, "the default") for name, text in DEFAULTS.items()}
    sources = [options, profile, environment, common, defaults]
    found = {name: value for source in reversed(sources) for name, value in source.items()}
    url = found["url"]
    beside = next((source for source in sources if "password" in source), {}).get("url", url)
    if parse(parse_url, *beside) != parse(parse_url, *url):
        what = f"the password ({found['password'][1]}) is for {beside[0]} ({beside[1]})"
        raise ConfigError(f"{what}, not for {url[0]} ({url[1]})", hint=HINTS["another server"])
    return found


def pick(names: Mapping[str, str], values: Mapping[str, str], where: str = "") -> Source:
    """The settings among some values, by their names there. An empty value is none."""
    source: Source = {}
    for name, setting in names.items():
        if values.get(name):
            source.setdefault(setting, (values[name], f"{name!r}{where}" if where else name))
    return source


def read_profiles(args: argparse.Namespace) -> list[Source]:
    """The settings of the profile that was asked for, and those of [DEFAULT]."""
    path = args.config
    if path is None:
        path = xdg_path("XDG_CONFIG_HOME", "~/.config", "library.ini")
    sections = read_ini(path, must_be_there=args.config is not None)
    there = f"there are: {', '.join(sections) or 'none'}"
    name = os.environ.get("ODOO_PROFILE", "") if args.profile is None else args.profile
    if name not in sections and (name or args.profile is not None):
        raise ConfigError(f"no profile {name!r} in {path}; {there}")
    if args.config is not None and not name and not sections.get("DEFAULT"):
        raise ConfigError(f"--config {path} needs a --profile; {there}")
    found = []
    for section in (name, "DEFAULT"):
        keys, where = sections.get(section, {}), f" in [{section}] of {path}"
        for key in sorted(keys.keys() - KEYS):
            raise ConfigError(f"unknown key {key!r}{where}; there are: {', '.join(KEYS)}")
        found.append(pick(KEYS, keys, where))
    return found


def read_ini(path: str, must_be_there: bool) -> dict[str, dict[str, str]]:
    """The sections of an ini file, [DEFAULT] as one of them. No error quotes its lines."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            import configparser

            ini = configparser.ConfigParser(interpolation=None, default_section="")
            ini.read_file(file)
            others_can = os.name == "posix" and os.stat(file.fileno()).st_mode & 0o077
    except OSError as error:
        places = path, os.path.dirname(path), os.path.dirname(os.path.dirname(path))
        is_dangling = any(os.path.islink(place) and not os.path.exists(place) for place in places)
        is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        if is_missing and not is_dangling and not must_be_there:
            return {}
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):
        what = "UTF-8 text, with KEY = VALUE in a [SECTION], and each only once"
        raise ConfigError(f"{path} must be {what}") from None
    sections = {section: dict(ini[section]) for section in ini.sections()}
    if others_can and any({"password", "api_key"} & keys.keys() for keys in sections.values()):
        from shlex import quote

        hint = HINTS["readable"].format(quote(path))
        raise ConfigError(f"{path} holds a password, and others can read it", hint=hint)
    return sections


def xdg_path(variable: str, default: str, name: str) -> str:
    """The path of a file in the user's folder for settings or caches."""
    folder = os.environ.get(variable, "")
    folder = folder if os.path.isabs(folder) else os.path.expanduser(default)
    # Without a home, a path where nothing can be read or kept.
    return os.path.join(folder if os.path.isabs(folder) else os.devnull, "library", name)


def connect(settings: Source, backend: Callable[..., LibraryAPI], console: Console) -> LibraryAPI:
    """The API with these settings. If there is no password among them, the user is asked for it."""
    scheme, host, port = parse(parse_url, *settings["url"])
    db, user = (parse(check_title, *settings[name]) for name in ("db", "user"))
    timeout = parse(parse_seconds, *settings["timeout"])
    if "password" not in settings:
        settings["password"] = default_password(settings["url"][0], db, user)
    pwd = parse(check_title, *settings["password"])
    console.login = user, pwd
    login = urllib.parse.quote(f"{user}@{scheme}://{host}:{port}/{db}", safe="")
    cache = xdg_path("XDG_CACHE_HOME", "~/.cache", login)
    return backend(host, port, db, user, pwd, scheme=scheme, timeout=timeout, uid_cache=cache)


def parse_url(text: str, origin: str) -> tuple[str, str, int]:
    """Scheme, host and port. The error does not show `text`, which may hold a password."""
    text = text.strip()
    if text[:1] in ("'", '"'):
        raise ValueError(f"{origin} begins with a quote, {text[0]}, which is no part of a URL")
    found = re.fullmatch(
        r"(?ai)(https?)://(?:\[([0-9a-f:.]{2,45}(?:%\w+)?)\]|([\w.-]{1,253}))(?::([0-9]{1,5}))?"
        r"(?:/(?:(?:web|odoo|jsonrpc|xmlrpc|json)(?:[/?#].*)?)?)?",  # a browser's or client's path
        text,
    )
    if not found:
        raise ValueError(f"{origin} must be like http://localhost:8069")
    scheme, host = found[1].lower(), (found[2] or found[3]).lower()
    port = int(found[4] or (443 if scheme == "https" else 80))
    if not 1 <= port <= 65535:
        raise ValueError(f"{origin}: the port must be from 1 to 65535")
    return scheme, host, port


def parse_seconds(text: str, origin: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not 0 < float(text) <= 1e6:
        raise ValueError(f"{origin} must be seconds, more than 0 and up to 1000000, not {text!r}")
    return float(text)


def default_password(url: str, db: str, user: str) -> Value:
    """The default one for the default login. Else ask for it, whatever standard input is."""
    default = tuple(DEFAULTS[name] for name in ("url", "db", "user"))
    if (parse_url(url, ""), db, user) == (parse_url(default[0], ""), *default[1:]):
        return DEFAULT_PASSWORD, "the default"
    from getpass import getpass

    whose = f"{user} on {url.strip()}, database {db}"
    try:
        open(TERMINAL).close()
    except OSError:
        raise ConfigError(f"no password for {whose}", hint=HINTS["no password"]) from None
    pwd = ""
    try:
        pwd = getpass(printable(f"Password of {whose}: "))
    except (EOFError, UnicodeError, OSError):
        pass
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.write("" if pwd else "\n")
    if not pwd:
        raise ConfigError("no password given, or not in UTF-8")
    return pwd, "the prompt"


# --- The commands: each calls the API, prints, and gives the exit status -------------------------


def list_books(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    for count, book in enumerate(api.iter_books(args.title, args.limit), start=1):
        line = console.line(LISTED, book["id"], book["name"])
        sys.stdout.write(line)  # print would take four times as long
        if not count % FIRST_PAGE:  # show a page before the next one is there
            sys.stdout.flush()
    return 0


def add_books(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    if args.file is not None:
        return add_lines(args, api, console)
    if not args.skip_existing or not api.existing_titles([args.title]):
        console.untold = HINTS["add"]
        console.report(ADDED, {api.create(args.title): args.title})
    return 0


def add_lines(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    """Add the titles of a file in batches. What is printed is stored."""
    lines = [line for line in args.file if line[0] >= (args.from_line or 1)]
    skipped = 0
    for batch, following in batches(lines, batch_size(title for _, title in lines), console):
        titles = [title for _, title in batch]
        if args.skip_existing:
            there = api.existing_titles(titles)
            titles = [title for title in dict.fromkeys(titles) if title not in there]
            skipped += len(batch) - len(titles)
        console.untold = HINTS["batch"].format(batch[0][0], batch[-1][0]) if titles else ""
        books = dict(zip(api.create_many(titles), titles)) if titles else {}
        to_resume = HINTS["next"].format(following[0][0], following[-1][0]) if following else ""
        console.report(ADDED, books, to_resume)
    if skipped:
        console.complain(f"left out {skipped} of {len(lines)} titles: they are there already")
    return 0


def set_titles(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    if args.file is None:
        console.untold = HINTS["again"]
        api.write(args.id, args.title)
        console.report(SET, {args.id: args.title})
        return 0
    missing: list[int] = []
    for batch, following in batches(list(args.file), batch_size(args.file.values()), console):
        console.untold = HINTS["again"]
        changed, absent = api.write_many({id: args.file[id] for id in batch})
        to_resume = HINTS["rest"] if following else ""
        console.report(SET, {id: args.file[id] for id in changed}, to_resume)
        missing += absent
    if missing:
        raise BookNotFoundError(missing)
    if args.file and not console.has_changed:
        console.complain("nothing to do")
    return 0


def delete_books(args: argparse.Namespace, api: LibraryAPI, console: Console) -> int:
    ids = list(dict.fromkeys(args.ids or [id for _, id in args.file]))
    missing: list[int] = []
    for batch, following in batches(ids, BATCH_IDS, console):
        console.untold = HINTS["again"]
        deleted = dict.fromkeys(api.unlink_many(batch))
        console.report(DELETED, deleted, HINTS["rest"] if following else "")
        missing += [id for id in batch if id not in deleted]
    if missing:
        raise BookNotFoundError(missing)
    return 0


def batch_size(titles: Iterable[str]) -> int:
    """How many of these titles are sent at once."""
    return min(BATCH, BATCH_CHARACTERS // max(map(len, titles), default=1))


def batches(items: list[T], size: int, console: Console) -> Iterator[tuple[list[T], list[T]]]:
    """Pairs of a batch of the items and the next batch, which is empty behind the last one."""
    if not items:
        console.complain("nothing to do")
        return
    parts = [items[at : at + size] for at in range(0, len(items), size)]
    for number, both in enumerate(zip(parts, [*parts[1:], []])):
        console.show_progress(f"{number * size} of {len(items)} done")
        yield both
    console.show_progress(f"{len(items)} of {len(items)} done\n")


# --- What the user sees --------------------------------------------------------------------------


class Console:
    """What the user sees of a command: results on standard output, all else on standard error.

    Two notes are kept for the user in case that something stops the command:
    `untold` says what was changed, or may have been, and is not printed yet. It is for Ctrl-C, an
    unknown outcome, and output that can't be written.
    `to_resume` says how to go on with what was not done yet, where a part of it was. It is for
    all other errors, and for Ctrl-C where nothing is untold.
    """

    def __init__(self) -> None:
        self.quiet = self.json = self.debug = False
        self.is_batch = False  # whether books come from a file
        self.is_utf8 = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
        self.login = "", ""  # user and password, of which the latter is not shown in tracebacks
        self.untold = self.to_resume = ""
        self.has_changed = False  # a book, at least

    def line(self, sentence: str, id: int, name: str | None) -> str:
        """What to print of a book, with the line's end; nothing where the options want nothing."""
        if self.json:
            import json

            # As it is, a title can be searched and edited; in ASCII it is exact in each locale.
            plain = self.is_utf8 and name == printable(name or "")
            book = {"id": id} if name is None else {"id": id, "name": name}
            return f"{json.dumps(book, ensure_ascii=not plain)}\n"
        text = (IF_QUIET[sentence] if self.quiet else sentence).format(id, name)
        return f"{printable(text)}\n" if text else ""

    def report(self, sentence: str, books: Mapping[int, str | None], to_resume: str = "") -> None:
        """Print what was done with books, at once: what is printed is stored."""
        done = f"done, but not printed: ID {format_ids(list(books))}" if books else ""
        self.untold = "; ".join(filter(None, (done, to_resume)))
        self.has_changed |= bool(books)
        lines = [self.line(sentence, id, name) for id, name in books.items()]
        self.show_progress("")
        try:
            sys.stdout.writelines(lines)
            sys.stdout.flush()
        except BrokenPipeError:
            if to_resume:
                raise  # otherwise the reader has seen enough, and all is done
        self.to_resume = to_resume
        self.untold = ""

    def show_progress(self, text: str) -> None:
        """Show `text` on a terminal, in the cursor's line, in place of what was shown before."""
        if self.is_batch and not self.quiet and sys.stderr.isatty():
            with contextlib.suppress(OSError):  # the terminal may be gone
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()

    def complain(self, *messages: str) -> None:
        """Print messages, a line each, on standard error."""
        self.show_progress("")
        with contextlib.suppress(OSError):  # nobody reads them; the exit status remains
            for message in filter(None, messages):
                sys.stderr.write(f"{program()}: {printable(message)}\n")

    def fail(self, error: LibraryError, note: str) -> int:
        """Say what went wrong and what to do, and give the exit status that says so too."""
        if self.debug:
            import traceback

            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            for line in mask(text + getattr(error, "text", ""), *self.login).splitlines():
                self.complain(f"debug: {line}")
        self.complain(*(f"error: {what}" for what in error.args), note or error.hint)
        status = next((EXIT_STATUS[kind] for kind in EXIT_STATUS if isinstance(error, kind)), 1)
        # 3 promises that nothing was changed. What stops part-way could not all be done: 1.
        return 1 if status == 3 and self.has_changed else status


def printable(text: str) -> str:
    """`text` on one line, with escapes for what would steer a terminal."""
    if text.isprintable():
        return text
    return re.sub(_UNPRINTABLE, lambda found: found[0].encode("unicode_escape").decode(), text)


def format_ids(ids: Sequence[int]) -> str:
    """The IDs as text: those of a batch as a range, as a rule."""
    if len(ids) > 2 and list(ids) == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]} to {ids[-1]}"
    return " ".join(map(str, ids))


# --- The program: from arguments to an exit status -----------------------------------------------


def run(argv: Sequence[str], backend: Callable[..., LibraryAPI], console: Console) -> int:
    """Run one command and give its exit status."""
    try:
        args = parse_arguments(argv)
    except SystemExit as stop:  # argparse's, after --help or --version
        return int(stop.code or 0)
    console.quiet, console.json, console.debug = args.quiet, args.json, args.debug
    console.is_batch = vars(args).get("file") is not None
    settings = find_settings(args)
    api = connect(settings, backend, console)
    if args.debug:
        console.complain(f"debug: {api!r}: {origins(settings, 'url', 'db', 'user', 'password')}")
    try:
        return int(args.run(args, api, console))
    except LoginError as error:
        error.hint = error.hint or origins(settings, "password", "user", "db")
        raise


def origins(settings: Source, *names: str) -> str:
    """Where settings were set."""
    return ", ".join(f"{name} from {settings[name][1]}" for name in names)


def main(argv: Sequence[str] | None = None, backend: Callable[..., LibraryAPI] = LibraryAPI) -> int:
    """Run the program with `argv` (without its name) and give its exit status."""
    console = Console()
    try:
        try:
            status = run(sys.argv[1:] if argv is None else argv, backend, console)
            sys.stdout.flush()
            return status
        except LibraryError as error:
            is_unknown = isinstance(error, UnknownOutcomeError)
            return console.fail(error, console.untold if is_unknown else console.to_resume)
        except OSError as error:  # of standard output: the API's are LibraryErrors
            if isinstance(error, BrokenPipeError) and not console.untold:
                return 0  # the reader has seen enough
            reason = f"cannot write the output: {error.strerror or error}"
            return console.fail(LibraryError(reason), console.untold)
    except KeyboardInterrupt:
        console.complain("interrupted", console.untold or console.to_resume)
        return signal_status()


def command(backend: Callable[..., LibraryAPI] = LibraryAPI) -> NoReturn:
    """Run main as a program, which dies of a signal that stops it: a shell's loop stops, too."""
    try:
        for signum in SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, interrupt)
        sys.unraisablehook = deliver_again
        open_streams()
        status = main(backend=backend)
        if status < 128:
            os._exit(status)  # at once: Python's own way out takes a while
    except KeyboardInterrupt:  # when all was done
        status = signal_status()
    if os.name == "posix":
        signal.signal(status - 128, signal.SIG_DFL)
        os.kill(os.getpid(), status - 128)
    os._exit(status)


def interrupt(signum: int, frame: object) -> None:
    """Raise KeyboardInterrupt for the first signal alone, so that what is then said is said."""
    CAUGHT.append(signum)
    if len(CAUGHT) == 1:
        raise KeyboardInterrupt(signum)


def deliver_again(lost: Any) -> None:
    """Send a signal again if Python has dropped its KeyboardInterrupt, as it does in a callback."""
    if isinstance(lost.exc_value, KeyboardInterrupt) and CAUGHT:
        from threading import Timer

        again = Timer(0.01, os.kill, (os.getpid(), CAUGHT[0]))
        CAUGHT.clear()
        again.start()


def signal_status() -> int:
    """The exit status that a shell gives for the signal that stopped us."""
    return 128 + (CAUGHT or [signal.SIGINT])[0]


def open_streams() -> None:
    """Give standard output a buffer, and replace streams that were closed when we were started.

    Without a buffer, as with PYTHONUNBUFFERED, Python loses what a full disk or pipe doesn't take.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (nobody reads messages)
    if sys.stdout is None:
        sys.stdout = open(os.devnull)  # noqa: SIM115  (to read: to write a result is an error)
    else:  # an ASCII locale gets escapes instead of an error
        encoding, errors, fd = sys.stdout.encoding, "backslashreplace", sys.stdout.fileno()
        sys.stdout = open(fd, "w", -1, encoding, errors, closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    command()
