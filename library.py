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
import errno
import functools
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Iterable, Sequence

from library_xmlrpc import (
    MAX_ID,
    BookNotFoundError,
    ChangeInterrupted,
    ConnectError,
    LibraryAPI,
    LibraryError,
    LoginError,
    ServerError,
    UnknownOutcomeError,
    check_id,
    check_line,
    check_title,
    mask,
)

TYPE_CHECKING = False  # importing it from typing would cost each command 5 ms
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

__version__ = "1.0.0"

BATCH = 1000  # titles in one transaction of `add --file`
DEFAULTS = {
    "url": "http://localhost:8069",
    "db": "odoo-dev",
    "user": "admin",
    "timeout": "120",
}
DEFAULT_PASSWORD = "admin"  # of the default user in the default database on the default server

PROFILE_KEYS = {  # of the settings; the second ones are ERPpeek's and Odooly's
    "db": ("db", "database"),
    "user": ("user", "username"),
    "password": ("api_key", "password"),
    "timeout": ("timeout",),
}

# What a line of text can't show as it is: control characters, line separators, and what changes
# the direction in which the rest is shown.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class ConfigError(LibraryError):
    """A setting is missing or malformed; the message names it and where it came from."""


class OutputError(LibraryError):
    """Standard output takes no more."""


EXIT_STATUS = {ConfigError: 2, ConnectError: 3, LoginError: 3, UnknownOutcomeError: 4}  # else 1


# --- The commands: each calls the API, prints, and gives the exit status -------------------------


def list_books(args: argparse.Namespace, api: LibraryAPI) -> int:
    none = True
    for book in api.iter_books(args.title, args.limit):
        write(report(args, f"{book['id']} {book['name']}", book["id"], book["name"]))
        none = False
    if none and not args.quiet and is_terminal(sys.stderr):
        complain("no book matches" if args.title else "there are no books")
    return 0


def add_books(args: argparse.Namespace, api: LibraryAPI) -> int:
    if args.lines is not None:
        return add_lines(args, api)
    confirm_added(args, [api.create(args.title)], [args.title])
    return 0


def add_lines(args: argparse.Namespace, api: LibraryAPI) -> int:
    """Add the titles of a file in batches. What is printed is stored."""
    total, done, started = len(args.lines), 0, time.monotonic()
    try:
        while done < total:
            rate = f", {done / (time.monotonic() - started):.0f} a second" if done else ""
            show_progress(args, f"{done} of {total} added{rate}")
            titles = [title for _, title in args.lines[done : done + BATCH]]
            ids = api.create_many(titles)
            done += len(ids)
            show_progress(args, "")
            if not confirm_added(args, ids, titles) and done < total:
                raise OutputError("standard output was closed")
    except (LibraryError, KeyboardInterrupt) as error:
        show_progress(args, "")
        if done == total:
            raise
        numbers = [number for number, _ in args.lines[done : done + BATCH]]
        if isinstance(error, (UnknownOutcomeError, ChangeInterrupted)):
            advice = (
                f"check with list whether lines {numbers[0]} to {numbers[-1]} were added, "
                f"all or none; start again at line {numbers[0]} or {numbers[-1] + 1}"
            )
        else:
            advice = f"nothing from line {numbers[0]} on was added: start again there"
        if isinstance(error, KeyboardInterrupt):
            raise type(error)(advice) from None
        error.hint = f"{error.hint}; {advice}" if error.hint else advice
        raise error
    return 0


def set_title(args: argparse.Namespace, api: LibraryAPI) -> int:
    api.write(args.id, args.title)
    if not args.quiet:
        sentence = f"Title of Book ID {args.id} set to {args.title}."
        confirm([report(args, sentence, args.id, args.title)], "the title was set")
    return 0


def delete_books(args: argparse.Namespace, api: LibraryAPI) -> int:
    deleted = api.unlink_many(args.ids)
    if not args.quiet:
        lines = [report(args, f"Book with ID {id} was deleted.", id) for id in deleted]
        confirm(lines, f"deleted: {' '.join(map(str, deleted))}")
    missing = set(args.ids).difference(deleted)
    if missing:
        raise BookNotFoundError([id for id in dict.fromkeys(args.ids) if id in missing])
    return 0


# --- What is printed -----------------------------------------------------------------------------


def report(args: argparse.Namespace, sentence: str, id: int, name: str | None = None) -> str:
    """The line that says what happened to a book, as the options want it."""
    if args.json:
        import json

        book = {"id": id} if name is None else {"id": id, "name": name}
        return json.dumps(book)  # ASCII, so that it is exact in each locale
    return str(id) if args.quiet else printable(sentence)


def printable(text: str) -> str:
    """`text` on one line, with escapes for what would steer a terminal."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def write(line: str) -> None:
    if sys.stdout is None:  # it was closed when we were started
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    sys.stdout.write(line + "\n")


def confirm(lines: Iterable[str], done: str) -> bool:
    """Print what was done, at once; where that fails, the error says what was `done`.

    Gives False where the reader has seen enough, which is no error.
    """
    try:
        for line in lines:
            write(line)
        sys.stdout.flush()
    except OSError as error:
        abandon(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"cannot write the output: {error.strerror}", done) from error
        return False
    return True


def confirm_added(args: argparse.Namespace, ids: Sequence[int], titles: Sequence[str]) -> bool:
    lines = [
        report(args, f"Book added with ID {id} for title {title}.", id, title)
        for id, title in zip(ids, titles)
    ]
    return confirm(lines, f"added with IDs: {' '.join(map(str, ids))}")


def abandon(stream: Any) -> None:
    """Let Python's flush at exit, too, find a stream that takes what is left."""
    if stream is not None:
        with open(os.devnull, "w") as devnull:
            os.dup2(devnull.fileno(), stream.fileno())


def is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def show_progress(args: argparse.Namespace, text: str) -> None:
    """Show `text` on a terminal until the next call, in place of what was shown before."""
    if is_terminal(sys.stderr) and not args.quiet:
        sys.stderr.write(f"\r{text:<60}\r")
        sys.stderr.flush()


def complain(*messages: str) -> None:
    """Print messages, a line each, on standard error if there is one."""
    if sys.stderr is None:
        return
    try:
        for message in filter(None, messages):
            sys.stderr.write(f"{program()}: {printable(message)}\n")
    except OSError:  # nobody reads them; the exit status remains
        abandon(sys.stderr)


def fail(error: LibraryError | KeyboardInterrupt) -> int:
    """Say what went wrong and give the exit status that says so too."""
    if isinstance(error, KeyboardInterrupt):
        under_way = " while a change was under way" if isinstance(error, ChangeInterrupted) else ""
        hint = str(error) or (under_way and "check with list whether it was made")
        complain(f"interrupted{under_way}", hint and f"hint: {hint}")
        return 130
    hint = error.hint
    if isinstance(error, UnknownOutcomeError):
        hint = hint or "check with list before you try again"
    complain(f"error: {error}", hint and f"hint: {hint}")
    return next((status for kind, status in EXIT_STATUS.items() if isinstance(error, kind)), 1)


def show_traceback(error: LibraryError, pwd: str, user: str) -> None:
    """For --debug: Python's, and the server's where there is one."""
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if isinstance(error, ServerError):
        text += f"The server's fault {error.code}:\n{error.text}"
    for line in mask(text, pwd, user).splitlines():
        complain(f"debug: {line}")


# --- Settings: option, else environment, else profile, else default ------------------------------


def read_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments for LibraryAPI."""
    profile = read_profile(args)

    def find(name: str) -> tuple[str, str]:
        """A setting's value and where it came from."""
        variable = f"ODOO_{name.upper()}"
        if getattr(args, name) is not None:
            return getattr(args, name), f"--{name}"
        if os.environ.get(variable):
            return os.environ[variable], variable
        return profile.get(name) or (DEFAULTS[name], "default")

    scheme, host, port = server = parsed(parse_url, *find("url"))
    db = parsed(parse_text, *find("db"))
    user = parsed(parse_text, *find("user"))
    seconds = parsed(parse_seconds, *find("timeout"))
    url = f"{scheme}://{host}:{port}"
    pwd, origin = find_password(profile)
    if pwd and "password" in profile and origin == profile["password"][1]:
        home = profile.get("url", (DEFAULTS["url"], ""))
        if parsed(parse_url, *home) != server:
            raise ConfigError(f"{find('url')[1]}: the {origin} is for {home[0]} alone")
    if not pwd:
        if (url, db, user) == (DEFAULTS["url"], DEFAULTS["db"], DEFAULTS["user"]):
            pwd = DEFAULT_PASSWORD
        elif is_terminal(sys.stdin):
            pwd, origin = ask_password(f"Password of {user} on {url}, database {db}: "), "password"
        else:
            raise ConfigError(
                f"no password for {user} on {url}", "set ODOO_API_KEY or ODOO_PASSWORD"
            )
    cache = os.path.join(xdg_folder("XDG_CACHE_HOME", "~/.cache"), "library")
    return {
        "host": host,
        "port": port,
        "db": db,
        "user": user,
        "pwd": parsed(parse_text, pwd, origin),
        "scheme": scheme,
        "timeout": seconds,
        "uid_cache": os.path.join(cache, urllib.parse.quote(f"{user}@{url}/{db}", safe="")),
    }


def parsed(parse: Callable[[str], Any], text: str, origin: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{origin}: {error}") from None


def parse_url(text: str) -> tuple[str, str, int]:
    """Scheme, host and port. The error does not show `text`, which may hold a password."""
    found = re.fullmatch(
        r"(https?)://(?:\[([0-9a-f:.]+)\]|([^\s/?#@:\[\]]+))(?::([0-9]{1,5}))?/?", text, re.I
    )
    if not found:
        raise ValueError("not a URL like http://localhost:8069 (without a path or a user)")
    scheme, host = found[1].lower(), (found[2] or found[3]).lower()
    port = int(found[4] or (443 if scheme == "https" else 80))
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is not one from 1 to 65535")
    if not host.isascii():
        host.encode("idna")  # a ValueError where it is no international name
    return scheme, parse_text(host), port


def parse_text(text: str) -> str:
    try:
        if text:
            return check_line(text)
    except ValueError:
        pass
    raise ValueError("empty, or holds a control character or another that can't be sent")


def parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
        if 0 < seconds <= 1e6:
            return seconds
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a number of seconds above 0")


def find_password(profile: dict[str, tuple[str, str]]) -> tuple[str, str]:
    for variable in ("ODOO_API_KEY", "ODOO_PASSWORD"):
        if os.environ.get(variable):
            return os.environ[variable], variable
    return profile.get("password", ("", ""))


def ask_password(prompt: str) -> str:
    from getpass import getpass

    try:
        pwd = getpass(printable(prompt))
    except EOFError:
        pwd = ""
    if not pwd:
        raise ConfigError("no password given")
    return pwd


def xdg_folder(variable: str, default: str) -> str:
    folder = os.environ.get(variable, "")
    return folder if os.path.isabs(folder) else os.path.expanduser(default)


def read_profile(args: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """The settings of the profile asked for: each one's value and where it stands."""
    default = os.path.join(xdg_folder("XDG_CONFIG_HOME", "~/.config"), "library", "library.ini")
    path = args.config or default
    name = args.profile or os.environ.get("ODOO_PROFILE") or ""
    if not os.path.exists(path) and not args.config and not name:
        return {}
    sections = read_ini(path)
    if name and name not in sections:
        origin = "--profile" if args.profile else "ODOO_PROFILE"
        raise ConfigError(f"{origin}: no profile {name!r} in {path}")
    profile: dict[str, tuple[str, str]] = {}
    for section in ("DEFAULT", name):
        keys = sections.get(section, {})
        where = f"in [{section}] of {path}"
        for setting, aliases in PROFILE_KEYS.items():
            for alias in aliases:
                if keys.get(alias):
                    profile[setting] = keys[alias], f"{alias} {where}"
                    break
        url = profile_url(keys, sections.get("DEFAULT", {}))
        if url:
            profile["url"] = url, f"url {where}"
    return profile


def profile_url(keys: dict[str, str], default: dict[str, str]) -> str:
    """The server that a section names, in whole or as parts of which [DEFAULT] may have some."""
    url = keys.get("url") or keys.get("server")
    if url or not {"scheme", "host", "port"}.intersection(keys):
        return url or ""
    keys = {"scheme": "http", "host": "localhost", "port": "8069", **default, **keys}
    host = f"[{keys['host']}]" if ":" in keys["host"] else keys["host"]
    return f"{keys['scheme']}://{host}:{keys['port']}"


def read_ini(path: str) -> dict[str, dict[str, str]]:
    """The sections of an ini file, [DEFAULT] as one of them."""
    import configparser

    ini = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        with open(path, encoding="utf-8-sig") as file:
            ini.read_file(file)
            others_can = os.stat(file.fileno()).st_mode & 0o077
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):  # which quote lines that may hold a password
        raise ConfigError(f"{path} is not an ini file") from None
    sections = {section: dict(ini[section]) for section in ini.sections()}
    if others_can and any({"password", "api_key"}.intersection(keys) for keys in sections.values()):
        import shlex

        raise ConfigError(
            f"{path} holds a password, and others can read it", f"chmod 600 {shlex.quote(path)}"
        )
    return sections


# --- The command line ----------------------------------------------------------------------------


def argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A type for argparse whose errors are the messages of `parse`'s ValueError."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def parse_number(text: str) -> int:
    """An ID or a limit: ASCII digits alone."""
    try:
        if re.fullmatch("[0-9]+", text):
            return check_id(int(text))
    except ValueError:
        pass
    raise ValueError(f"{text[:40]!r} is not a number from 1 to {MAX_ID}")


def read_titles(path: str) -> list[tuple[int, str]]:
    """The titles of a file with their lines' numbers; "-" is standard input."""
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            octets = file.read()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    titles = []
    # Not by splitlines(), which takes more than line ends for ends of lines.
    for number, line in enumerate(octets.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        try:
            text = line.removesuffix(b"\r").decode()
            if text.strip():
                titles.append((number, check_title(text)))
        except UnicodeDecodeError:
            raise ValueError(f"{path}, line {number}: not UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return titles


# Shared options stand before the command or after it: a default of the one would undo the other.
NOT_GIVEN = {
    **dict.fromkeys(("quiet", "json", "debug"), False),
    **dict.fromkeys(("url", "db", "user", "timeout", "config", "profile")),
}


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line, under the program's name in each command."""

    def __init__(self, **kwargs: Any) -> None:
        # A width of one's own spares argparse the import of shutil with each command.
        formatter = functools.partial(argparse.RawDescriptionHelpFormatter, width=80)
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)
        self.color = False  # which argparse has since Python 3.14

    def error(self, message: str) -> NoReturn:
        complain(f"error: {message}", f"see {self.prog} --help")
        raise SystemExit(2)


class _OneTitle(argparse.Action):
    """A title that the shell made several words of is a mistake to explain."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if len(values) > 1:
            parser.error(f'more than one title; quote one that has spaces: "{" ".join(values)}"')
        setattr(namespace, self.dest, values[0] if values else None)


def program() -> str:
    """The name under which we were called: "library" where installed."""
    return "library" if os.path.basename(sys.argv[0]) == "library" else "library.py"


def build_parser() -> argparse.ArgumentParser:
    name = program()
    options = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    for flags, help in (
        (("-q", "--quiet"), "print IDs alone (list, add) or nothing (set, del)"),
        (("--json",), "print a JSON object a line"),
        (("--debug",), "show tracebacks with errors"),
    ):
        options.add_argument(*flags, action="store_true", help=help)
    for flag, metavar, help in (
        ("--url", "URL", "the server: ODOO_URL, or http://localhost:8069"),
        ("--db", "NAME", "the database: ODOO_DB, or odoo-dev"),
        ("--user", "NAME", "ODOO_USER, or admin; its password: ODOO_API_KEY, ODOO_PASSWORD"),
        ("--timeout", "SECONDS", "how long to wait for an answer: ODOO_TIMEOUT, or 120"),
        ("--config", "FILE", "the profiles: ~/.config/library/library.ini"),
        ("--profile", "NAME", "a section of that file: ODOO_PROFILE, or DEFAULT"),
    ):
        options.add_argument(flag, metavar=metavar, help=help)

    parser = _Parser(
        prog=name,
        usage=f"{name} [options] COMMAND ...",
        parents=[options],
        description=f'Keep books on an Odoo server, for example: {name} add "Moby-Dick"',
    )
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog=name
    )

    def add_command(
        verb: str, run: Callable[..., int], arguments: str, help: str, example: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            verb,
            parents=[options],
            usage=f"{name} {verb} [options] {arguments}",
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=f"example: {name} {verb} {example}",
        )
        command.set_defaults(run=run)
        return command

    def add_title(command: Any, nargs: str, check: Callable[[str], str], help: str) -> None:
        kind = argument(check)
        command.add_argument(
            "title",
            metavar="TITLE",
            nargs=nargs,
            type=kind,
            action=_OneTitle,
            help=help,
            default=[],
        )

    command = add_command("list", list_books, "[TITLE]", "list books in the server's order", "moby")
    add_title(command, "*", check_line, "a part of their titles, in any case")
    kind = argument(parse_number)
    command.add_argument("--limit", metavar="N", type=kind, help="show at most N books")

    command = add_command("add", add_books, "(TITLE | --file FILE)", "add books", '"Moby-Dick"')
    either = command.add_mutually_exclusive_group(required=True)
    add_title(either, "*", check_title, "the title of one book")
    help = 'add the title on each line, in UTF-8; "-": standard input'
    kind = argument(read_titles)
    either.add_argument("--file", metavar="FILE", dest="lines", type=kind, help=help)

    command = add_command("set", set_title, "ID TITLE", "change a book's title", '60 "Moby Dick"')
    command.add_argument("id", metavar="ID", type=argument(parse_number), help="the book's")
    add_title(command, "+", check_title, "its new title")

    command = add_command("del", delete_books, "ID [ID ...]", "delete books", "60 61")
    kind = argument(parse_number)
    command.add_argument("ids", metavar="ID", nargs="+", type=kind, help="the books'")
    return parser


def run(argv: Sequence[str] | None, backend: Callable[..., LibraryAPI]) -> int:
    """Run one command and give its exit status."""
    args = argparse.Namespace(**NOT_GIVEN)
    settings: dict[str, Any] = {}
    try:
        build_parser().parse_args(argv, args)
        if args.quiet and args.json:
            raise ConfigError("--quiet and --json exclude each other")
        settings = read_settings(args)
        status: int = args.run(args, backend(**settings))
        return status
    except SystemExit as stop:  # argparse's, after --help, --version or a usage error
        return int(stop.code or 0)
    except LibraryError as error:
        if args.debug:
            show_traceback(error, settings.get("pwd", ""), settings.get("user", ""))
        return fail(error)


def main(argv: Sequence[str] | None = None, backend: Callable[..., LibraryAPI] = LibraryAPI) -> int:
    """Run the program with `argv` (without its name) and give its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # an ASCII locale gets escapes instead of an error
            stream.reconfigure(errors="backslashreplace")
    try:
        status = run(argv, backend)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        return fail(interrupt)
    except BrokenPipeError:  # the reader has seen enough
        abandon(sys.stdout)
        return 0
    except OSError as error:
        abandon(sys.stdout)
        return fail(OutputError(f"cannot write the output: {error.strerror}"))


if __name__ == "__main__":
    raise SystemExit(main())
