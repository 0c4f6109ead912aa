"""Where the settings come from, and to which server a password goes."""

from __future__ import annotations

import itertools
import os
import pty
import re
import sys
from typing import Any
from unittest import mock

import library
from library_xmlrpc import LibraryAPI
from tests.support import CommandLineTestCase, heed_signals

DEFAULTS = {
    "host": "localhost",
    "port": 8069,
    "scheme": "http",
    "db": "odoo-dev",
    "user": "admin",
    "pwd": "admin",
    "timeout": 120.0,
}


DEFAULT_URL = "http://localhost:8069"
KEYS = ("api_key", "password", "url", "db", "user", "timeout")


class Recorder(LibraryAPI):
    """A backend without books, which keeps what it was made with."""

    settings: dict[str, Any]

    def __init__(self, *login: Any, **settings: Any) -> None:
        super().__init__(*login, **settings)
        names = ("host", "port", "db", "user", "pwd")
        type(self).settings = {**dict(zip(names, login)), **settings}

    def iter_books(self, title: str | None = None, limit: int | None = None) -> Any:
        return iter(())


class SettingsTests(CommandLineTestCase):
    backend = Recorder

    def check_settings(self, *options: str, **expected: Any) -> None:
        self.check("list", *options)
        settings = dict(Recorder.settings)
        del settings["uid_cache"]
        self.assertEqual(settings, {**DEFAULTS, **expected})

    def check_config_error(self, *options: str, err: str, hint: str = "") -> None:
        """Exit status 2, an error that the pattern `err` fits, and one line of a hint at most."""
        hint = f"library\\.py: {hint}\n" if hint else r"(library\.py: (?!error).*\n)?"
        pattern = rf"\Alibrary\.py: error: {err}\n{hint}\Z"
        self.check("list", *options, status=2, err=re.compile(pattern))

    def write_profiles(self, text: str, mode: int = 0o600, path: str = "") -> str:
        path = path or os.path.join(self.environ["XDG_CONFIG_HOME"], "library", "library.ini")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    # Precedence

    def test_precedence(self) -> None:
        """Each setting is taken from the first of the sources that has it; for url see below."""
        for name, named_by in itertools.product(("db", "user", "timeout"), ("option", "variable")):
            for there in itertools.product((False, True), repeat=4):
                option, profile, variable, common = there
                lines = ["[DEFAULT]", "password = p", f"{name} = 4" * common]
                self.write_profiles("\n".join([*lines, "[p]", f"{name} = 2" * profile]))
                environ = {f"ODOO_{name.upper()}": "3" * variable}
                options = [f"--{name}=1"] * option
                if named_by == "option":
                    options += ["--profile", "p"]
                else:
                    environ["ODOO_PROFILE"] = "p"
                number = next(itertools.compress("1234", there), "")
                expected = {name: float(number) if name == "timeout" else number} if number else {}
                with mock.patch.dict(self.environ, environ), self.subTest(name, there=there):
                    self.check_settings(*options, pwd="p", **expected)

    def test_empty_variables_and_keys_count_as_unset(self) -> None:
        for name in ("URL", "DB", "USER", "PASSWORD", "API_KEY", "TIMEOUT", "PROFILE"):
            self.environ[f"ODOO_{name}"] = ""
        self.write_profiles("[DEFAULT]\nurl =\npassword =\n[p]\ndb =\napi_key =\n")
        self.check_settings()
        self.check_settings("--profile", "p")

    def test_options_stand_before_the_command_or_after_it(self) -> None:
        self.environ["ODOO_PASSWORD"] = "secret"
        self.check("--db", "x", "--user", "u", "list", "--db", "d")
        self.assertEqual((Recorder.settings["db"], Recorder.settings["user"]), ("d", "u"))

    def test_a_password_reaches_the_server_that_is_set_beside_it_alone(self) -> None:
        """Each combination of what can be set where, beside the rule in a few lines."""
        urls = ("", "http://a:1", "http://b:1")
        sources = list(itertools.product(urls, (False, True)))
        for profile, common in itertools.product(sources, sources):
            lines = []
            for section, (url, has_password) in (("p", profile), ("DEFAULT", common)):
                lines += [f"[{section}]", f"url = {url}", f"password = {section}" * has_password]
            self.write_profiles("\n".join(lines))
            # The other server as an option is the same as these two exchanged.
            for option, environment in itertools.product(urls[:2], sources):
                self.environ["ODOO_URL"], has_password = environment
                self.environ["ODOO_PASSWORD"] = "environment" * has_password

                # The first of the sources that has it:
                url = option or profile[0] or environment[0] or common[0]
                passwords = {"p": profile, "environment": environment, "DEFAULT": common}
                pwd = next((name for name in passwords if passwords[name][1]), "")
                beside = passwords[pwd][0] if pwd else ""
                if not pwd and not url:
                    pwd = "admin"
                is_refused = not pwd or beside not in ("", url)

                Recorder.settings = {}
                options = ["--profile", "p", *([f"--url={option}"] * bool(option))]
                with self.subTest(options=option, p=profile, env=environment, default=common):
                    status, out, err = self.run_cli("list", *options)
                    settings = Recorder.settings
                    self.assertEqual((status, out), (2 * is_refused, ""), err)
                    self.assertEqual(settings == {}, is_refused)  # nothing to send it with
                    if not is_refused:
                        reached = "{scheme}://{host}:{port}".format(**settings)
                        self.assertEqual((reached, settings["pwd"]), (url or DEFAULT_URL, pwd))

    def test_what_is_said_of_a_password_for_another_server(self) -> None:
        path = self.write_profiles("[a]\nurl = http://a:1\npassword = hunter2\n[b]\nurl=http://b\n")
        at = re.escape(path)
        hint = "set this server and its password in one place, a profile or the environment"
        for options, environ, said in (
            (
                ("--profile", "a", "--url", "http://b:1"),
                {},
                rf"\('password' in \[a\] of {at}\) is for http://a:1 \('url' in \[a\] of {at}\), "
                r"not for http://b:1 \(--url\)",
            ),
            (
                ("--profile", "b"),
                {"ODOO_URL": "http://c", "ODOO_API_KEY": "hunter2"},
                r"\(ODOO_API_KEY\) is for http://c \(ODOO_URL\), "
                rf"not for http://b \('url' in \[b\] of {at}\)",
            ),
        ):
            with mock.patch.dict(self.environ, environ):
                self.check_config_error(*options, err=f"the password {said}", hint=hint)

    def test_the_same_server_in_other_words(self) -> None:
        self.environ.update(ODOO_URL="HTTP://A:80/", ODOO_PASSWORD="p")
        for url in ("http://a", " http://A/web/login", "http://a:80/xmlrpc/2"):
            self.check_settings("--url", url, host="a", port=80, pwd="p")
        for url in ("https://a:80", "http://a:8069", "http://a.b"):
            self.check_config_error("--url", url, err=r"the password \(ODOO_PASSWORD\) is for .*")

    def test_values_are_literal(self) -> None:
        for value in ("p%20", "%(db)s", '"p"', "'p' # ; p", "a = b", "$HOME"):
            self.write_profiles(f"[DEFAULT]\npassword = {value}\n")
            self.check_settings(pwd=value)

    def test_other_names_of_keys(self) -> None:
        self.write_profiles("[DEFAULT]\nserver = http://a:1\nDatabase=d\nusername : u\npassword=p")
        self.check_settings(host="a", port=1, db="d", user="u", pwd="p")

    def test_unknown_keys(self) -> None:
        """Of the profile that counts: another program may have its own in the others."""
        path = self.write_profiles(
            "[DEFAULT]\ntimeout = 5\n[b]\npasword = hunter2\n[c]\nhost = h\n"
        )
        self.check_settings(timeout=5.0)
        keys = ", ".join((*KEYS, "server", "database", "username"))
        for profile, key in (("b", "pasword"), ("c", "host")):
            error = f"unknown key '{key}' in [{profile}] of {path}; there are: {keys}"
            self.check_config_error("--profile", profile, err=re.escape(error))
            self.assertNotIn("hunter2", self.run_cli("list", "--profile", profile, "--debug")[2])

    def test_an_api_key_outranks_a_password(self) -> None:
        self.environ.update(ODOO_API_KEY="key", ODOO_PASSWORD="secret")
        self.check_settings(pwd="key")
        self.write_profiles("[DEFAULT]\napi_key = profile-key\npassword = profile-secret")
        del self.environ["ODOO_API_KEY"], self.environ["ODOO_PASSWORD"]
        self.check_settings(pwd="profile-key")

    # Profiles

    def test_folders_without_xdg_variables(self) -> None:
        path = f"{self.home}/.config/library/library.ini"
        self.write_profiles("[DEFAULT]\npassword = p", path=path)
        for value in ("", "relative"):
            self.environ.update(XDG_CONFIG_HOME=value, XDG_CACHE_HOME=value)
            self.check_settings(pwd="p")
            folder = os.path.dirname(Recorder.settings["uid_cache"])
            self.assertEqual(folder, os.path.join(self.home, ".cache", "library"))
        del self.environ["XDG_CONFIG_HOME"], self.environ["XDG_CACHE_HOME"]
        self.check_settings(pwd="p")

    def test_no_file_of_the_current_folder_is_read(self) -> None:
        folder = "config/library/library.ini", "home/.config/library/library.ini"
        for name in ("library.ini", "odooly.ini", "erppeek.ini", *folder):
            path = os.path.join(self.home, "here", name)
            self.write_profiles("[DEFAULT]\ndb = unasked", path=path)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(os.path.join(self.home, "here"))
        relative = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache"}
        for variables in ({}, relative, {"HOME": "home", **dict.fromkeys(relative, "")}):
            self.environ.update(variables)
            self.check_settings()
            self.assertTrue(os.path.isabs(Recorder.settings["uid_cache"]))

    def test_a_file_with_a_secret_that_others_can_read(self) -> None:
        for key, mode in (("password", 0o640), ("api_key", 0o604)):
            path = self.write_profiles(f"[DEFAULT]\n[b]\n{key} = p", mode=mode)
            error = f"library.py: error: {path} holds a password, and others can read it\n"
            self.check("list", status=2, err=f"{error}library.py: chmod 600 {path}\n")
        with mock.patch("os.name", "nt"):  # where the mode does not say so
            self.check_settings("--profile", "b", pwd="p")

    def test_a_file_without_a_secret_that_others_can_read(self) -> None:
        self.write_profiles("\ufeff[DEFAULT]\ntimeout = 5", mode=0o644)  # with a BOM
        self.check_settings(timeout=5.0)

    def test_only_a_file_that_is_not_there_is_none(self) -> None:
        config = self.environ["XDG_CONFIG_HOME"]
        self.write_file(b"", "file")
        for path in ("nowhere", "file"):  # whose folder is not there
            self.environ["XDG_CONFIG_HOME"] = os.path.join(self.home, path)
            self.check_settings()
        self.environ["XDG_CONFIG_HOME"] = config
        folder = os.path.join(config, "library")
        os.makedirs(folder)
        self.check_settings()
        path = os.path.join(folder, "library.ini")
        os.symlink("nowhere", path)
        error = f"cannot read {re.escape(path)}: "
        self.check_config_error(err=f"{error}No such file or directory")
        os.remove(path)
        os.mkdir(path)
        self.check_config_error(err=f"{error}Is a directory")
        os.rmdir(path)
        os.rmdir(folder)
        os.symlink("nowhere", folder)
        self.check_config_error(err=f"{error}No such file or directory")

    def test_a_file_out_of_reach(self) -> None:
        """In a folder of another user, say."""
        path = self.write_profiles("[DEFAULT]\ndb = x")
        folder = os.path.dirname(path)
        os.chmod(folder, 0)
        self.addCleanup(os.chmod, folder, 0o700)
        if os.geteuid() == 0:  # whom no mode stops
            os.chmod(self.home, 0o755)
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)
        self.check_config_error(err=f"cannot read {re.escape(path)}: Permission denied")

    def test_config_needs_a_profile_that_counts(self) -> None:
        path = self.write_profiles(
            "[a]\ntimeout = 5\n[b]\ntimeout = 6\n", path=f"{self.home}/other.ini"
        )
        error = f"--config {re.escape(path)} needs a --profile; there are: "
        self.check_config_error("--config", path, err=f"{error}a, b")
        self.check_settings("--config", path, "--profile", "b", timeout=6.0)
        with mock.patch.dict(self.environ, ODOO_PROFILE="a"):
            self.check_settings("--config", path, timeout=5.0)
        self.write_profiles("", path=path)
        self.check_config_error("--config", path, err=f"{error}none")
        self.write_profiles("[DEFAULT]\ntimeout = 7\n", path=path)
        self.check_settings("--config", path, timeout=7.0)

    def test_unknown_profiles(self) -> None:
        default = os.path.join(self.environ["XDG_CONFIG_HOME"], "library", "library.ini")
        error = f"no profile 'b' in {re.escape(default)}; there are: "
        self.check_config_error("--profile", "b", err=f"{error}none")
        self.write_profiles("[DEFAULT]\ntimeout = 6\n[a]\ntimeout = 5")
        self.check_config_error("--profile", "b", err=f"{error}DEFAULT, a")
        self.check_config_error("--profile", "", err="no profile '' in .*; there are: DEFAULT, a")
        self.check_config_error("--config", "/no/such", err="cannot read /no/such: No such file .*")
        self.environ["ODOO_PROFILE"] = "b"
        self.check_config_error(err=f"{error}DEFAULT, a")
        self.check_settings("--profile", "a", timeout=5.0)

    # Passwords

    def test_the_default_password_is_for_the_defaults_alone(self) -> None:
        for options in (
            ("--url", "http://localhost:8070"),
            ("--url", "https://localhost:8069"),
            ("--db", "other"),
            ("--user", "other"),
        ):
            with self.subTest(options):
                self.check_config_error(*options, err="no password for .*")
        self.check_settings("--url", "http://localhost:8069/", "--user", "admin")

    def test_a_prompt_on_a_terminal(self) -> None:
        none = "\nlibrary.py: error: no password given, or not in UTF-8"
        typed_on: dict[int, tuple[bytes, str]] = {}
        for typed, expected in (
            (b"typed-secret\n", "\n0 terces-depyt"),
            (b"\x04", none),
            (b"\n", none),
            (b"\xe9\xff\n", none),
            (b"\x03", "library.py: interrupted"),
        ):
            typed_on[self.start_on_a_terminal()] = typed, expected
        for terminal, (typed, expected) in typed_on.items():
            with self.subTest(typed):
                screen = self.type_in(terminal, typed)
                self.assertIn(
                    "Password of eva on http://localhost:8069, database odoo-dev: ", screen
                )
                self.assertIn(expected, screen)
                self.assertNotIn("typed-secret", screen)

    def start_on_a_terminal(self) -> int:
        """Start a command on a terminal of its own, and give that."""
        program = (
            "import sys; sys.stdin.close(); import library; "
            "from tests.test_settings import Recorder; "
            "status = library.main(['list', '--user', 'eva'], backend=Recorder); "
            "print(status, Recorder.settings['pwd'][::-1])"
        )
        pid, terminal = pty.fork()
        if pid == 0:
            heed_signals()
            os.chdir(os.path.dirname(os.path.abspath(library.__file__)))
            os.execve(sys.executable, [sys.executable, "-c", program], self.environ)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.close, terminal)
        return terminal

    def type_in(self, terminal: int, typed: bytes) -> str:
        """What the command shows on the terminal, where this is typed."""
        screen = b""
        try:
            while b": " not in screen:  # before which getpass switches the echo off
                screen += os.read(terminal, 1024)
            os.write(terminal, typed)
            while True:
                screen += os.read(terminal, 1024)
        except OSError:  # Linux's way of saying that the program has ended
            return screen.decode().replace("\r\n", "\n")

    def test_no_prompt_without_a_terminal(self) -> None:
        self.check_config_error(
            *("--user", "eva"),
            err="no password for eva on http://localhost:8069, database odoo-dev",
            hint="set ODOO_API_KEY or ODOO_PASSWORD, or api_key or password in a profile",
        )

    # Malformed values, named with where they come from

    def test_malformed_values(self) -> None:
        urls = ["localhost:8069", "ftp://localhost", "http://", "http://ü.b", " ", "http://a\nb"]
        urls += ["http://localhost:99999", "http://localhost:0", "http://localhost:", "http://a b"]
        urls += ["http://a/webs", "http://a/x/web", "http://a?db=x", "http://a//web", "http://a/2"]
        urls += ["http://[::1", "http://eva:hunter2@localhost", "\ufeffhttp://a", "http://a:1/\x1b"]
        urls += [f"http://{'a' * 3001}", f"http://[{':' * 3001}]"]
        for name, values in (
            ("url", urls),
            ("timeout", ["0", "-1", "x", "nan", "inf", "1e9", "1 2", "1_0", "１"]),
            ("db", [" ", "a\nb"]),
            ("timeout", ["5s"]),
            ("user", [" ", "a\nb"]),
        ):
            for value in values:
                with self.subTest(name, value=value), mock.patch.dict(self.environ):
                    self.check_config_error(f"--{name}={value}", err=f"--{name}[ :].*")
                    self.environ[f"ODOO_{name.upper()}"] = value
                    self.check_config_error(err=f"ODOO_{name.upper()}[ :].*")
                    self.assertNotIn("hunter2", self.run_cli("list")[2])

    def test_what_may_stand_around_a_url(self) -> None:
        """A path that a browser or another client shows, and spaces, also those of CRLF files."""
        self.environ["ODOO_PASSWORD"] = "p"
        paths = [
            "",
            "/",
            "/web",
            "/odoo",
            "/odoo/x?y#z",
            "/web/login",
            "/web?db=x#id=1",
            "/web#id=1",
        ]
        paths += ["/jsonrpc", "/xmlrpc/2", "/json/2", "/xmlrpc/2/object", "/odoo/"]
        for path, space in itertools.product(paths, ("", " ", "\r", "\t \r\n")):
            url = f"{space}http://a:1{path}{space}"
            with self.subTest(url):
                self.check_settings("--url", url, host="a", port=1, pwd="p")
                self.environ["ODOO_URL"] = url
                self.check_settings(host="a", port=1, pwd="p")
                del self.environ["ODOO_URL"]
        self.check_settings(
            "--url", "https://A.Example/web", scheme="https", host="a.example", port=443, pwd="p"
        )
        self.check_settings(
            "--url", "http://[FE80::1%eth0]:80/", host="fe80::1%eth0", port=80, pwd="p"
        )

    def test_a_quote_around_a_url_is_named(self) -> None:
        for quote in "\"'":
            self.environ["ODOO_URL"] = f"{quote}http://a:1{quote}"
            error = f"ODOO_URL begins with a quote, {quote}, which is no part of a URL"
            self.check_config_error(err=error)

    def test_a_mistake_is_found_before_the_password_is_asked_for(self) -> None:
        for option in ("--timeout=5s", "--url=x", "--db= "):
            self.check_config_error("--user", "eva", option, err=f"{option.partition('=')[0]} .*")

    def test_malformed_passwords_are_not_shown(self) -> None:
        self.environ["ODOO_API_KEY"] = "hunter2\x01"
        self.check_config_error(err=r"ODOO_API_KEY can't hold the character U\+0001")
        self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])
        del self.environ["ODOO_API_KEY"]
        path = self.write_profiles("[DEFAULT]\npassword = hunter2\x01")
        self.check_config_error(err=re.escape(f"'password' in [DEFAULT] of {path} ") + ".*")

    def test_files_that_are_no_ini_files(self) -> None:
        """What is wrong, and nothing of what is there."""
        for text in (
            "password hunter2",
            "[DEFAULT]\npassword hunter2",
            "[DEFAULT]\npassword = hunter2\npassword = hunter2",
            "[a]\n[a]\npassword = hunter2",
        ):
            with self.subTest(text):
                path = self.write_profiles(text)
                self.check_config_error(err=rf"{path} must be .*KEY = VALUE in a \[SECTION.*")
                self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])
        path = self.write_file(b"[DEFAULT]\npassword = \xff")
        self.check_config_error("--config", path, err=f"{path} must be UTF-8 text, .*")

    # The remembered uid

    def test_the_uid_cache_is_of_one_server_database_and_user(self) -> None:
        seen = set()
        self.environ["ODOO_PASSWORD"] = "secret"
        for options in (
            (),
            ("--url", "http://localhost:8070"),
            ("--url", "https://localhost:8069"),
            ("--db", "d"),
            ("--user", "u"),
            ("--user", "../../u", "--db", "/"),
        ):
            self.check("list", *options)
            folder, name = os.path.split(Recorder.settings["uid_cache"])
            self.assertEqual(folder, os.path.join(self.environ["XDG_CACHE_HOME"], "library"))
            self.assertNotIn("secret", name)
            seen.add(name)
        self.assertEqual(len(seen), 6)
