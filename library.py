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

import argparse
import codecs
import contextlib
import os
import re
import signal
import sys
import time
import urllib.parse
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate

from library_xmlrpc import (
    FIRST_PAGE,
    ConnectError,
    LibraryAPI,
    LibraryError,
    LoginError,
    NotSentError,
    UnknownOutcomeError,
    check_number,
    check_text,
    mask,
)

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Callable, NoReturn, TypeVar

    T = TypeVar("T")
    Line = tuple[int, Any, Any]  # line number, ID or None, title or None
    Settings = dict[str, tuple[str, str]]  # name: (value, where it was set)
    Backend = Callable[..., LibraryAPI]

__version__ = "1.0.0"

# A batch is one transaction. Its request stays below half a MiB: nginx's default limit is 1 MiB.
BATCH = 1000  # titles
BATCH_CHARACTERS = 78_000  # in these titles: up to five bytes each, for "&amp;"
BATCH_IDS = 10_000  # for `del`

DEFAULTS = {"url": "http://localhost:8069", "db": "odoo-dev", "user": "admin", "timeout": "120"}
# How the settings are named in a profile and in the environment. An API key takes precedence.
KEYS = {"api_key": "password", "password": "password", **{name: name for name in DEFAULTS}}
VARIABLES = {f"ODOO_{key.upper()}": name for key, name in KEYS.items()}

# What to do: the second line of an error.
HINTS = {
    "help": "see {} --help",
    "quotes": "put a title of several words in quotes",
    "dash": 'put "--" before a title that begins with a dash',
    "server": "if your server has another URL, set ODOO_URL to it",
    "profile": "if your server is in a profile, choose it with --profile: {}",
    "no password": "set ODOO_API_KEY or ODOO_PASSWORD, or api_key or password in a profile",
    "another server": "set this server and its password in one place, a profile or the environment",
    "readable": "make it readable only by you, with chmod 600",
    "login": "check these settings: {}",
    "in doubt": "the change may have been made: wait a little, then run it again with {}",
    "rest": "for the rest, run it again with {}",
    "refused": "once the cause is gone, run it again with {}",
}
AGAIN = {"add": "--skip-existing", "set": "the same input", "del": "the same input"}

SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
INTERRUPTED = 128 + signal.SIGINT
HEEDED: list[float] = []  # when each signal was handled, by time.monotonic()


class ConfigError(LibraryError):
    """An argument, a setting or a file is wrong. Nothing was sent."""


EXIT_STATUS = {ConfigError: 2, ConnectError: 3, LoginError: 3, UnknownOutcomeError: 4}  # else 1


# --- The command line ----------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises ConfigError instead of exiting."""

    def __init__(self, **kwargs: Any) -> None:
        # With a fixed width, argparse does not import shutil, which would slow each command.
        formatter = partial(argparse.RawDescriptionHelpFormatter, width=80)
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)
        self.color = False  # Python 3.14 and later would colour the help

    def error(self, message: str) -> NoReturn:
        found = re.search("invalid choice: (.*) \\(", message)  # there is no choice but a command
        if found:
            message = f"no command {found[1]}; there are list, add, set, del"
        raise ConfigError(message, hint=HINTS["help"].format(self.prog))


def program() -> str:
    """The program's name: "library" if it is installed, else "library.py"."""
    return "library" if os.path.basename(sys.argv[0]) == "library" else "library.py"


def build_parser() -> argparse.ArgumentParser:
    name = program()
    about = f'Keep books on an Odoo server, for example: {name} add "Moby-Dick"'
    usage = f"{name} [options] COMMAND ..."
    parser = _Parser(prog=name, usage=usage, description=about, epilog=EPILOG)
    add_shared_options(parser)
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    verbs = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog=name
    )
    title = partial(parse, check_line, origin="TITLE")
    id = partial(parse, parse_number, origin="ID")
    limit = partial(parse, parse_number, origin="--limit")
    books = "books as printed by list --json, one per line"

    option = add_command(verbs, "list", list_books, "list books in the server's order", "[TITLE]")
    option("title", metavar="TITLE", nargs="?", type=title, help="list only titles with this text")
    option("-n", "--limit", metavar="N", type=limit, help="list at most N books")

    option = add_command(verbs, "add", add_books, "add books", "TITLE", f"titles, or {books}")
    option("title", metavar="TITLE", nargs="?", type=title, help="title of the book")
    option("--skip-existing", action="store_true", help="skip titles already in the catalogue")

    option = add_command(verbs, "set", set_titles, "change titles of books", "ID TITLE", books)
    option("id", metavar="ID", nargs="?", type=id, help="ID of the book")
    option("title", metavar="TITLE", nargs="?", type=title, help="its new title")

    ids = f"IDs, or {books}"
    option = add_command(verbs, "del", delete_books, "delete books", "ID [ID ...]", ids)
    option("ids", metavar="ID", nargs="*", type=id, help="ID of a book")
    return parser


EPILOG = """\
password: ODOO_API_KEY or ODOO_PASSWORD, or from a profile, or you are asked
exit status: 0 done; 1 refused or only partly done; 2 wrong usage or settings;
3 cannot connect or log in; 4 change sent but no answer; 130 interrupted"""


def add_shared_options(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the options that may come before or after the command."""
    add = partial(parser.add_argument, default=default)
    add("-q", "--quiet", action="store_true", help="print only IDs (list, add) or nothing")
    add("--json", action="store_true", help="print one JSON object per line")
    add("--debug", action="store_true", help="show tracebacks, and where settings come from")
    add("--url", help="server (default: ODOO_URL, else http://localhost:8069)")
    add("-d", "--db", metavar="NAME", help="database (default: ODOO_DB, else odoo-dev)")
    add("-u", "--user", metavar="NAME", help="user (default: ODOO_USER, else admin)")
    add("--timeout", metavar="SECONDS", help="longest wait (default: ODOO_TIMEOUT, else 120)")
    add("--config", metavar="FILE", help="profiles (default: ~/.config/library/library.ini)")
    add("--profile", metavar="NAME", help="section of that file (default: ODOO_PROFILE)")


def add_command(
    verbs: Any, verb: str, function: Callable[..., None], about: str, words: str, file: str = ""
) -> Any:
    """Add a command, and return the method that adds its arguments.

    `words` are its positional arguments, as the usage line shows them. `file` says what --file can
    hold instead; if it is empty, there is no --file.
    """
    usage = f"{program()} {verb} [options] " + (f"({words} | -f FILE)" if file else words)
    end = EPILOG.partition("\n")[0] + (f"\n{HINTS['dash']}" if "TITLE" in words else "")
    parser = verbs.add_parser(verb, usage=usage, help=about, description=about, epilog=end)
    # SUPPRESS: otherwise the default would overwrite an option given before the command.
    add_shared_options(parser, default=argparse.SUPPRESS)
    parser.set_defaults(function=function, words=words)
    if file:
        options = {"type": partial(read_lines, verb), "help": f'{file}; "-" is standard input'}
        parser.add_argument("-f", "--file", metavar="FILE", action="append", **options)
    return parser.add_argument


def parse_arguments(argv: Sequence[str]) -> Namespace:
    """The arguments, and the lines of the file. Raises ConfigError if something is wrong."""
    args, rest = build_parser().parse_known_args(argv)
    hint = HINTS["help"].format(f"{program()} {args.command}")
    words = [vars(args)[name] for name in ("id", "title", "ids") if name in args]
    files = vars(args).get("file") or []
    is_complete = not any(words) if files else all(words)
    wrong = ""
    if rest:
        wrong = f"unrecognized argument: {rest[0].partition('=')[0]}"  # its value may be secret
        has_title = bool(vars(args).get("title"))
        if has_title and not rest[0].startswith("-"):
            hint = HINTS["quotes"]
        elif not has_title and args.command != "del" and re.match("-[^-]", rest[0]):
            hint = HINTS["dash"]
    elif args.quiet and args.json:
        wrong = "--quiet and --json exclude each other"
    elif len(files) > 1:
        wrong = "--file can be given only once"
    elif args.command != "list" and not is_complete:
        wrong = f"give either {args.words} or --file FILE"
    if wrong:
        raise ConfigError(wrong, hint=hint)
    args.file = files[0] if files else None
    return args


def parse(check: Callable[[str, str], T], text: str, origin: str) -> T:
    """check(text, origin), with its ValueError raised as a ConfigError."""
    try:
        return check(text, origin)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def parse_number(text: str, origin: str) -> int:
    number: Any = int(text) if re.fullmatch("[0-9]{1,1000}", text) else text
    return check_number(number, origin)  # which refuses a text, and shows it


def check_line(text: str, origin: str) -> str:
    """`text`, if it is one line and not blank. Raises ValueError otherwise."""
    check_text(text, origin, "[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
    if not text.strip():
        raise ValueError(f"{origin} must not be blank")
    return text


# --- Files: a book a line ------------------------------------------------------------------------


def read_lines(verb: str, path: str) -> list[Line]:
    """The lines of a file that are not blank. The path "-" means standard input.

    Raises ConfigError, which names the first ten bad lines.
    """
    name = "standard input" if path == "-" else path
    text = read_text(0 if path == "-" else path, name)
    lines: list[Line] = []
    seen: set[int] = set()
    errors = []
    # Not splitlines(): it also splits at characters that a title in JSON may have.
    for number, line in enumerate(text.split("\n"), start=1):
        origin = f"{name}, line {number}"
        try:
            if line.strip():
                id, title = parse_line(verb, line.strip(), origin)
                if verb == "set" and id in seen:
                    raise ValueError(f"{origin}: ID {id} appears twice")
                seen.add(id)
                lines.append((number, id, title))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError(*errors[:10])
    return lines


def read_text(file: str | int, name: str) -> str:
    """The text of a file, given by its path or descriptor."""
    try:
        with open(file, "rb", closefd=file != 0) as stream:
            if os.name == "posix":
                os.set_blocking(stream.fileno(), True)  # or a pause would look like the end
            content = stream.read()
        # Invalid bytes become surrogates, which every check of a line refuses.
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # from a spreadsheet
            return content.decode("utf-16", "surrogatepass")
        return content.decode("utf-8-sig", "surrogateescape")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {name}: {getattr(error, 'strerror', error)}") from error


NEEDED = {"add": {"name"}, "set": {"id", "name"}, "del": {"id"}}  # keys that each command needs


def parse_line(verb: str, line: str, origin: str) -> tuple[Any, Any]:
    """The ID and the title in a line. The one that is missing is None."""
    if verb == "set" or line.startswith(("{", "[{")):  # a JSON array is refused, never a title
        return parse_book(NEEDED[verb], line, origin)
    if verb == "add":
        return None, check_line(line, origin)
    return parse_number(line, f"{origin}: ID"), None


def parse_book(needed: set[str], line: str, origin: str) -> tuple[Any, Any]:
    """The ID and the title in a JSON object. A missing one that is not `needed` is None."""
    import json

    book: Any = {}
    with contextlib.suppress(ValueError, RecursionError):
        book = json.loads(line)
    is_book = isinstance(book, dict) and needed <= book.keys() <= {"id", "name"}
    if not is_book or not isinstance(book.get("name", ""), str):
        raise ValueError(f'{origin} must be like {{"id": 60, "name": "Moby-Dick"}}')
    if "id" in book:
        check_number(book["id"], f"{origin}: ID")
    if "name" in needed:  # `del` does not send it
        check_text(book["name"], f"{origin}: name")
    return book.get("id"), book.get("name")


# --- Settings ------------------------------------------------------------------------------------


def find_settings(args: Namespace) -> Settings:
    """The settings in use. Each is taken from the first of these that has it:

    1. an option
    2. the profile that --profile or ODOO_PROFILE names
    3. the environment
    4. [DEFAULT] in the file of profiles
    5. the defaults

    A password is only sent to the server that is set in the same place: in the profile or else
    [DEFAULT], or in the environment. If no server is set there, the password is for the server in
    use. Raises ConfigError if the password is for another server.
    """
    given = vars(args)
    options = {name: (given[name], f"--{name}") for name in DEFAULTS if given[name] is not None}
    profile, common = read_profiles(args)
    environment = pick(VARIABLES, os.environ)
    defaults = {name: (text, "the default") for name, text in DEFAULTS.items()}
    sources = [options, profile, environment, common, defaults]
    found = {name: value for source in reversed(sources) for name, value in source.items()}
    url = found["url"]
    place = next((source for source in sources if "password" in source), {})
    if place is profile:
        place = {**common, **profile}
    password_url = place.get("url", url)
    if parse(parse_url, *password_url) != parse(parse_url, *url):
        what = f"the password ({found['password'][1]}) is for {password_url[0]} ({password_url[1]})"
        raise ConfigError(f"{what}, not for {url[0]} ({url[1]})", hint=HINTS["another server"])
    # The password of a new Odoo, which goes to no other server.
    is_default = parse_url(DEFAULTS["url"], "") == parse(parse_url, *url)
    if is_default and all(found[name][0] == DEFAULTS[name] for name in ("db", "user")):
        found.setdefault("password", ("admin", "the default"))
    return found


def pick(names: Mapping[str, str], values: Mapping[str, str], where: str = "") -> Settings:
    """The settings in `values`, whose keys `names` translates. An empty value counts as unset."""
    settings: Settings = {}
    for name, setting in names.items():
        if values.get(name):
            settings.setdefault(setting, (values[name], f"{name}{where}"))
    return settings


def read_profiles(args: Namespace) -> list[Settings]:
    """The settings of the profile in use, and those of [DEFAULT]."""
    path = args.config or xdg_path("XDG_CONFIG_HOME", "~/.config", "library.ini")
    name = args.profile or os.environ.get("ODOO_PROFILE", "")
    sections = read_ini(path, must_exist=args.config is not None)
    names = ", ".join(section for section in sections if section != "DEFAULT")
    wanted = name or "DEFAULT"
    if (name or args.config) and wanted not in sections:
        raise ConfigError(f"no profile {wanted!r} in {path}; there are: {names or 'none'}")
    found = []
    for section in (name, "DEFAULT"):
        keys, where = sections.get(section, {}), f" in [{section}] of {path}"
        for key in sorted(keys.keys() - KEYS):
            raise ConfigError(f"unknown key {key!r}{where}; there are: {', '.join(KEYS)}")
        found.append(pick(KEYS, keys, where))
    if names and not name:
        found[1]["profiles"] = names, path
    return found


def read_ini(path: str, must_exist: bool) -> dict[str, dict[str, str]]:
    """The sections of an ini file, with [DEFAULT]. Errors show no line: it may hold a password."""
    try:
        text = read_text(path, path)
    except ConfigError as error:
        is_missing = isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError))
        if is_missing and not must_exist and not os.path.islink(path):
            return {}
        raise
    import configparser

    # With no default section, [DEFAULT] is read like any other.
    ini = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        ini.read_string(text)
    except configparser.Error:
        what = "KEY = VALUE in a [SECTION], and each only once"
        raise ConfigError(f"{path} must have {what}") from None
    sections = {section: dict(ini[section]) for section in ini.sections()}
    others_can = os.name == "posix" and os.stat(path).st_mode & 0o077
    if others_can and any({"password", "api_key"} & keys.keys() for keys in sections.values()):
        what = f"{path} holds a password, and others can read it"
        raise ConfigError(what, hint=HINTS["readable"])
    return sections


def xdg_path(variable: str, default: str, name: str) -> str:
    """The path of a file in the user's folder for settings or caches."""
    folder = os.environ.get(variable, "")
    folder = folder if os.path.isabs(folder) else os.path.expanduser(default)
    # Without a home folder, a path that can't exist: nothing is read or saved.
    return os.path.join(folder if os.path.isabs(folder) else os.devnull, "library", name)


def connect(settings: Settings, backend: Backend) -> LibraryAPI:
    """The API with these settings. Asks the user for the password if they have none."""
    scheme, host, port = parse(parse_url, *settings["url"])
    db, user = (parse(check_line, *settings[name]) for name in ("db", "user"))
    timeout = parse(parse_seconds, *settings["timeout"])
    if "password" not in settings:
        url = settings["url"][0].strip()
        settings["password"] = ask_password(f"{user} on {url}, database {db}")
    pwd = parse(check_line, *settings["password"])
    file_name = urllib.parse.quote(f"{user}@{scheme}://{host}:{port}/{db}", safe="")
    cache = xdg_path("XDG_CACHE_HOME", "~/.cache", file_name)
    return backend(host, port, db, user, pwd, scheme=scheme, timeout=timeout, uid_cache=cache)


def parse_url(text: str, origin: str) -> tuple[str, str, int]:
    """Scheme, host and port. The error does not show `text`, which may hold a password."""
    found = re.fullmatch(
        r"(?ai)(https?)://(?:\[([0-9a-f:.]{2,45})\]|([\w.-]{1,253}))(?::([0-9]{1,5}))?"
        r"(?:[/?#].*)?",  # a path, as copied from a browser, is ignored
        text.strip(),
    )
    if not found or not 1 <= int(found[4] or 80) <= 65535:
        raise ValueError(f"{origin} must be like http://localhost:8069")
    scheme, host = found[1].lower(), (found[2] or found[3]).lower()
    return scheme, host, int(found[4] or (443 if scheme == "https" else 80))


def parse_seconds(text: str, origin: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not 0 < float(text) <= 1e6:
        raise ValueError(f"{origin} must be seconds, more than 0 and up to 1000000, not {text!r}")
    return float(text)


def ask_password(whose: str) -> tuple[str, str]:
    """Ask for a password on the terminal, even if standard input is a file or a pipe."""
    import warnings
    from getpass import GetPassWarning, getpass

    pwd = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error", GetPassWarning)  # getpass warns if there is no terminal
        with contextlib.suppress(GetPassWarning, EOFError, UnicodeError, OSError):
            if os.name == "nt":
                open("CONIN$").close()  # OSError without a console: getpass would wait forever
            try:
                pwd = getpass(printable(f"Password of {whose}: "))
            except (EOFError, UnicodeError, KeyboardInterrupt):
                sys.stderr.write("\n")  # getpass leaves the cursor behind the prompt
                raise
    if not pwd:
        raise ConfigError(f"no password for {whose}", hint=HINTS["no password"])
    return pwd, "the prompt"


# --- The commands: each calls the API and prints -------------------------------------------------


def list_books(args: Namespace, api: LibraryAPI, console: Console) -> None:
    for count, book in enumerate(api.iter_books(args.title, args.limit), start=1):
        # print would take four times as long
        sys.stdout.write(console.line("{} {}", book["id"], book["name"], if_quiet="{}"))
        if not count % FIRST_PAGE:  # show a page before the next one arrives
            sys.stdout.flush()
            console.part = "the listing is not complete"


def add_books(args: Namespace, api: LibraryAPI, console: Console) -> None:
    if args.file is not None:
        add_lines(args, api, console)
    elif args.skip_existing and api.existing_titles([args.title]):
        console.sum_up("added {:,} of {:,} titles", 1, ": it is already in the catalogue", {})
    else:
        console.is_under_way = True
        books = {api.create(args.title): args.title}
        console.report("Book added with ID {} for title {}.", books, if_quiet="{}")


def add_lines(args: Namespace, api: LibraryAPI, console: Console) -> None:
    """Add the titles in a file. With --skip-existing, skip copies already in the catalogue."""
    seen: Counter[str] = Counter()
    for batch in batches(args.file, console):
        titles = [title for _, _, title in batch]
        if args.skip_existing:
            # By now the catalogue should have as many copies as the file up to this batch.
            seen.update(titles)
            wanted = Counter({title: seen[title] for title in titles})
            lacking = wanted - api.existing_titles(wanted)
            titles = list((Counter(titles) & lacking).elements())
        if titles:
            books = dict(zip(api.create_many(titles), titles))
            console.report("Book added with ID {} for title {}.", books, if_quiet="{}")
    same = ": the catalogue had the others"
    console.sum_up("added {:,} of {:,} titles", len(args.file), same, {})


def set_titles(args: Namespace, api: LibraryAPI, console: Console) -> None:
    """Change titles. Of those in a file only the ones that differ are sent and printed."""
    sentence = "Title of Book ID {} set to {}."
    if args.file is None:
        console.is_under_way = True
        api.write(args.id, args.title)
        console.report(sentence, {args.id: args.title})
        return
    missing: list[int] = []
    for batch in batches(args.file, console):
        titles = {id: title for _, id, title in batch}
        changed, absent = api.write_many(titles)
        console.report(sentence, {id: titles[id] for id in changed})
        missing += absent
    what = "changed {:,} of {:,} titles"
    console.sum_up(what, len(args.file), ": {:,} right already", {"there is no book with": missing})


def delete_books(args: Namespace, api: LibraryAPI, console: Console) -> None:
    """Delete books. A book whose title differs from the one in the file is left alone."""
    lines: dict[int, Line] = {}  # by ID: of several the first counts
    for line in [(0, id, None) for id in args.ids] if args.file is None else args.file:
        lines.setdefault(line[1], line)
    missing: list[int] = []
    renamed: list[int] = []
    for batch in batches([*lines.values()], console, BATCH_IDS, float("inf")):
        titles = {id: title for _, id, title in batch}
        deleted, others, absent = api.unlink_many(titles.keys(), titles)
        console.report("Book with ID {} was deleted.", deleted)
        renamed += others
        missing += absent
    what = "" if args.file is None else "deleted {:,} of {:,} books"
    differs = "not deleted, because the title differs from the file's:"
    console.sum_up(what, len(lines), "", {"there is no book with": missing, differs: renamed})


def batches(
    lines: Sequence[Line], console: Console, most: int = BATCH, characters: float = BATCH_CHARACTERS
) -> Iterator[Sequence[Line]]:
    """The lines in batches of at most `most` lines, whose titles have at most `characters`.

    A line with a longer title is a batch of its own. `console` is told which batch is under way.
    """
    ends = list(accumulate(len(title or "") for _, _, title in lines))
    at = 0
    while at < len(lines):
        room = characters + (ends[at - 1] if at else 0)
        batch = lines[at : min(at + most, bisect(ends, room, at + 1))]
        first, last = batch[0][0], batch[-1][0]
        if first:  # arguments have the number 0
            console.part = f"line {first}" if first == last else f"lines {first} to {last}"
            console.show_progress(f"{at} of {len(lines)}")
        at += len(batch)
        console.is_under_way, console.left = True, len(lines) - at
        yield batch
    console.show_progress("")
    console.is_under_way, console.part = False, ""


# --- What the user sees --------------------------------------------------------------------------


class Console:
    """The output of a command: results on standard output, all else on standard error."""

    def __init__(self) -> None:
        self.args = argparse.Namespace(command="", quiet=False, debug=False)
        self.api: LibraryAPI | None = None
        self.encoders: Any = ()  # for --json: one for any title, one for a printable title
        self.mask: Callable[[str], str] = str  # hides the password
        # Progress, for the messages if the command is stopped:
        self.part = ""  # what stands before an error: "lines 1 to 1000", for example
        self.is_under_way = False  # whether a change has begun that has not been reported
        self.unprinted: list[int] = []  # IDs of changed books that are being printed
        self.done = 0  # books changed and reported
        self.left = 0  # lines after the current batch

    def line(self, sentence: str, id: int, name: str, if_quiet: str = "") -> str:
        """The line to print for a book, with its newline, or "" if nothing is to be printed."""
        if self.encoders:
            encode = self.encoders[name == printable(name)]
            return f'{{"id": {id}, "name": {encode(name)}}}\n'
        text = (if_quiet if self.args.quiet else sentence).format(id, name)
        return f"{printable(text)}\n" if text else ""

    def report(self, sentence: str, books: Mapping[int, str], if_quiet: str = "") -> None:
        """Print at once what the server has just done, so that the output is never behind it."""
        done = self.done + len(books)
        self.unprinted, self.done, self.is_under_way = list(books), done, False
        lines = [self.line(sentence, id, name, if_quiet) for id, name in books.items()]
        self.show_progress("")
        with contextlib.suppress(BrokenPipeError):  # nobody reads any more; the work goes on
            sys.stdout.writelines(lines)
            sys.stdout.flush()
        self.unprinted = []

    def unprinted_ids(self) -> str:
        """The end of a message: the books that were changed but not printed, if any."""
        ids = self.unprinted
        if len(ids) > 2 and ids == list(range(ids[0], ids[-1] + 1)):
            return f"; done, but perhaps not printed: ID {ids[0]} to {ids[-1]}"
        return f"; done, but perhaps not printed: ID {' '.join(map(str, ids))}" if ids else ""

    def how_to_go_on(self, in_doubt: bool, if_partly_done: str) -> str:
        """The hint for a change in doubt, or HINTS[if_partly_done] if only a part was done."""
        partly_done = self.done and (self.is_under_way or self.left)
        hint = HINTS["in doubt"] if in_doubt else HINTS[if_partly_done] if partly_done else ""
        return hint.format(AGAIN.get(self.args.command))

    def sum_up(self, what: str, total: int, same: str, failed: Mapping[str, list[int]]) -> None:
        """Print how much of a file was done, and how much needed no change.

        `failed` has the IDs of the books that could not be changed, by reason. Raises LibraryError
        if there are any.
        """
        others = total - self.done - sum(map(len, failed.values()))
        if what and not self.args.quiet:
            self.complain(what.format(self.done, total) + (same.format(others) if others else ""))
        reasons = [f"{why} ID {first_ten(ids)}" for why, ids in failed.items() if ids]
        if reasons:
            raise LibraryError(*reasons)

    def show_progress(self, text: str) -> None:
        """Show `text` on the terminal, in place of the progress shown before."""
        if self.part and not self.args.quiet and sys.stderr.isatty():
            with contextlib.suppress(OSError):  # the terminal may be gone
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()

    def complain(self, *messages: str) -> None:
        """Print messages on standard error, one per line."""
        self.show_progress("")
        with contextlib.suppress(OSError):  # nobody can read them; the exit status has to do
            for message in filter(None, messages):
                sys.stderr.write(f"{program()}: {printable(message)}\n")

    def fail(self, error: LibraryError) -> int:
        """Print what went wrong and what to do, and return the exit status."""
        if self.args.debug:
            import traceback

            text = self.mask(traceback.format_exc() + getattr(error, "text", ""))
            self.complain(*(f"debug: {line}" for line in text.splitlines()))
        part = f"{self.part}: " if self.part else ""
        hint = self.how_to_go_on(isinstance(error, UnknownOutcomeError), "refused")
        self.complain(*(f"error: {part}{what}" for what in error.args), hint or error.hint)
        status = next((EXIT_STATUS[kind] for kind in EXIT_STATUS if isinstance(error, kind)), 1)
        # Status 3 promises that nothing was changed, so it becomes 1 if a part was done.
        return 1 if status == 3 and self.done else status


def first_ten(ids: Sequence[int]) -> str:
    """The first ten IDs as text, and how many more there are."""
    more = f" and {len(ids) - 10:,} more" if len(ids) > 10 else ""
    return ", ".join(map(str, ids[:10])) + more


# Characters that a terminal must not get: control characters, line separators, and those that
# reverse the text after them. (isprintable() would also refuse a soft hyphen.)
UNPRINTABLE = "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"


def printable(text: str) -> str:
    """`text` on one line, with escapes in place of characters that would control a terminal."""
    if text.isprintable():
        return text
    return re.sub(UNPRINTABLE, lambda found: found[0].encode("unicode_escape").decode(), text)


# --- The program: from arguments to an exit status -----------------------------------------------


def command(backend: Backend = LibraryAPI) -> NoReturn:
    """Run main and exit. After a signal, die of that signal, so that a shell's loop stops too."""
    try:
        for signum in SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, interrupt)
        open_streams()
        status = main(backend=backend)
    except KeyboardInterrupt as stop:  # before or after the try in main
        status = exit_status(stop)
    if status > 128 and os.name == "posix":
        signal.signal(status - 128, signal.SIG_DFL)
        os.kill(os.getpid(), status - 128)
    os._exit(status)  # skip Python's shutdown, which takes a while


def interrupt(signum: int, frame: object) -> None:
    """Raise KeyboardInterrupt, with the exit status that a shell gives for the signal.

    A second signal within a second is ignored: it would cut off the message about the first.
    """
    now = time.monotonic()
    if not HEEDED or now > HEEDED[-1] + 1:
        HEEDED.append(now)
        raise KeyboardInterrupt(128 + signum)


def exit_status(stop: KeyboardInterrupt) -> int:
    """The exit status after an interrupt. Python's own handler gives it no arguments."""
    return int(stop.args[0]) if stop.args else INTERRUPTED


def open_streams() -> None:
    """Give standard output a buffer, and replace streams that the caller has closed.

    Without a buffer (PYTHONUNBUFFERED), output that a full disk or pipe refuses is lost silently.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (nobody reads messages)
    if sys.stdout is None:
        sys.stdout = open(os.devnull)  # noqa: SIM115  (read-only: printing a result must fail)
    else:  # an ASCII locale gets escapes instead of an error
        encoding, errors, fd = sys.stdout.encoding, "backslashreplace", sys.stdout.fileno()
        sys.stdout = open(fd, "w", -1, encoding, errors, closefd=False)  # noqa: SIM115


def main(argv: Sequence[str] | None = None, backend: Backend = LibraryAPI) -> int:
    """Run the program with `argv`, which excludes its name, and return the exit status."""
    console, status = Console(), 0
    try:
        try:
            run(sys.argv[1:] if argv is None else argv, backend, console)
            sys.stdout.flush()
        except LibraryError as error:
            status = console.fail(error)
        except OSError as error:  # from standard output: the API raises LibraryError
            if not isinstance(error, BrokenPipeError):  # a reader that stops early is no error
                what = f"cannot write the output: {error.strerror or error}"
                status = console.fail(LibraryError(what + console.unprinted_ids()))
        return status
    except KeyboardInterrupt as stop:
        change_sent = getattr(console.api, "change_sent", True)
        hint = console.how_to_go_on(console.is_under_way and change_sent, "rest")
        console.complain(f"interrupted{console.unprinted_ids()}", hint)
        return exit_status(stop)


def run(argv: Sequence[str], backend: Backend, console: Console) -> None:
    """Run one command. Adds to an error what only the settings can tell."""
    try:
        args = parse_arguments(argv)
    except SystemExit:  # argparse exits after --help and --version
        return
    console.args = args
    if args.json:
        from json.encoder import encode_basestring, encode_basestring_ascii

        # Unescaped titles can be searched and edited; escaped ones are exact in every locale.
        is_utf8 = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
        if_printable = encode_basestring if is_utf8 else encode_basestring_ascii
        console.encoders = encode_basestring_ascii, if_printable
    settings = find_settings(args)
    console.api = api = connect(settings, backend)
    console.mask = partial(mask, user=settings["user"][0], pwd=settings["password"][0])
    if args.debug:
        console.complain(f"debug: {api!r}: {origins(settings, 'url', 'db', 'user', 'password')}")
    try:
        args.function(args, api, console)
    except LoginError as error:
        where = origins(settings, "password", "user", "db")
        error.hint = error.hint or HINTS["login"].format(where)
        raise
    except ConnectError as error:
        if settings["url"][1] == "the default" and isinstance(error.__cause__, NotSentError):
            names = settings.get("profiles", ("", ""))[0]
            error.hint = HINTS["profile"].format(names) if names else HINTS["server"]
        raise


def origins(settings: Settings, *names: str) -> str:
    """Where these settings come from."""
    return ", ".join(f"{name} from {settings[name][1]}" for name in names)


if __name__ == "__main__":
    command()
