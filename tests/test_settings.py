"""Where the settings come from, and to which server a password goes."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import subprocess
import sys
import unittest
from typing import Any
from unittest import mock

import library
from library_xmlrpc import LibraryAPI
from tests.support import CommandLineTestCase, unused_port

LOGIN = ("host", "port", "db", "user", "pwd")
DEFAULTS = dict(zip(LOGIN, ("localhost", 8069, "odoo-dev", "admin", "admin")))
DEFAULTS.update(scheme="http", timeout=120.0, uid_cache=mock.ANY)
DEFAULT_URL = "http://localhost:8069"
KEYS = "api_key, password, url, db, user, timeout"
WHOSE = "eva on http://localhost:8069, database odoo-dev"
SET_PASSWORD = "set ODOO_API_KEY or ODOO_PASSWORD, or api_key or password in a profile"

NO_PASSWORD = f"library.py: error: no password for {WHOSE}\nlibrary.py: {SET_PASSWORD}\n"

ASK = """\
import os, signal, sys, library
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
os.open(sys.argv[1], os.O_RDWR)  # the first terminal that a session opens is in control of it
show = lambda *login, **settings: sys.exit(print(login[4]))
sys.exit(library.main(["list", "--user", "eva"], backend=show))
"""


class Recorder(LibraryAPI):
    """A backend without books, which keeps what it was made with."""

    settings: dict[str, Any]

    def __init__(self, *login: Any, **settings: Any) -> None:
        super().__init__(*login, **settings)
        type(self).settings = {**dict(zip(LOGIN, login)), **settings}

    def iter_books(self, title: str | None = None, limit: int | None = None) -> Any:
        return iter(())


class SettingsTests(CommandLineTestCase):
    backend = Recorder

    def setUp(self) -> None:
        super().setUp()
        self.default_path = os.path.join(self.environ["XDG_CONFIG_HOME"], "library", "library.ini")

    def check_settings(self, *options: str, **expected: Any) -> None:
        self.check("list", *options)
        self.assertEqual(Recorder.settings, {**DEFAULTS, **expected})

    def check_error(self, *options: str, err: str, hint: str = "", status: int = 2) -> None:
        lines = f"library.py: error: {err}\n" + f"library.py: {hint}\n" * bool(hint)
        self.check("list", *options, status=status, err=lines)

    def write_profiles(self, text: str, mode: int = 0o600, path: str = "") -> str:
        path = path or self.default_path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    # Precedence

    def test_precedence(self) -> None:
        """Each setting is taken from the first of the sources that has it; for url see below."""
        for name, named_by in itertools.product(("db", "user", "timeout"), ("option", "env", "")):
            for there in itertools.product((False, True), repeat=4):
                option, profile, variable, common = there
                lines = ["[DEFAULT]", "password = p", f"{name} = 4" * common]
                self.write_profiles("\n".join([*lines, "[p]", f"{name} = 2" * profile]))
                environ = {f"ODOO_{name.upper()}": "3" * variable}
                environ["ODOO_PROFILE"] = "p" * (named_by == "env")
                options = [f"--{name}=1"] * option + ["--profile=p"] * (named_by == "option")
                counts = option, profile and named_by, variable, common
                number = next(itertools.compress("1234", counts), "")
                expected = {name: float(number) if name == "timeout" else number} if number else {}
                with (
                    mock.patch.dict(self.environ, environ),
                    self.subTest(name, named_by=named_by, there=there),
                ):
                    self.check_settings(*options, pwd="p", **expected)

    def test_empty_variables_and_keys_count_as_unset(self) -> None:
        for name in ("URL", "DB", "USER", "PASSWORD", "API_KEY", "TIMEOUT", "PROFILE"):
            self.environ[f"ODOO_{name}"] = ""
        self.write_profiles("[DEFAULT]\nurl =\npassword =\n[p]\ndb =\napi_key =\n")
        for profile in ("", "p"):
            self.check_settings("--profile", profile)

    def test_options_stand_before_the_command_or_after_it(self) -> None:
        self.environ["ODOO_PASSWORD"] = "secret"
        self.check("--db", "x", "-u", "u", "list", "-d", "d")
        self.assertEqual((Recorder.settings["db"], Recorder.settings["user"]), ("d", "u"))

    def test_an_api_key_outranks_a_password(self) -> None:
        self.write_profiles("[DEFAULT]\napi_key = profile-key\npassword = profile-secret")
        self.check_settings(pwd="profile-key")
        self.environ.update(ODOO_API_KEY="key", ODOO_PASSWORD="secret")
        self.check_settings(pwd="key")

    # To which server a password goes

    def test_a_password_reaches_the_server_that_is_set_beside_it_alone(self) -> None:
        """Every combination of settings and places, compared with the rule in a few lines."""
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

                # The first of the sources that has it; a profile includes [DEFAULT]:
                url = option or profile[0] or environment[0] or common[0]
                beside = {
                    "p": profile[1] and (profile[0] or common[0]),
                    "environment": environment[1] and environment[0],
                    "DEFAULT": common[1] and common[0],
                }
                pwd = next((name for name in beside if beside[name] is not False), "")
                if not pwd and not url:
                    pwd = "admin"
                is_refused = not pwd or beside.get(pwd, "") not in ("", url)

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
        text = "[DEFAULT]\nurl = http://a\n[eva]\npassword = x\n[b]\nurl = http://b\n"
        of = f"of {self.write_profiles(text)}"
        hint = "set this server and its password in one place, a profile or the environment"
        self.environ.update(ODOO_URL="http://c", ODOO_API_KEY="x")
        err = f"the password (password in [eva] {of}) is for http://a (url in [DEFAULT] {of})"
        self.check_error("--profile=eva", err=f"{err}, not for http://c (ODOO_URL)", hint=hint)
        err = "the password (ODOO_API_KEY) is for http://c (ODOO_URL), not for http://b"
        self.check_error("--profile=b", err=f"{err} (url in [b] {of})", hint=hint)
        self.check_error("--url=http://b", err=f"{err} (--url)", hint=hint)

    def test_the_same_server_in_other_words(self) -> None:
        self.environ.update(ODOO_URL="HTTP://A:80/", ODOO_PASSWORD="p")
        for url in ("http://a", " http://A/web/login", "http://a:80/xmlrpc/2"):
            self.check_settings("--url", url, host="a", port=80, pwd="p")
        for url in ("https://a:80", "http://a:8069", "http://a.b"):
            status, _, err = self.run_cli("list", "--url", url)
            self.assertEqual((status, "password (ODOO_PASSWORD) is for" in err), (2, True), err)

    def test_the_default_password_is_for_the_defaults_alone(self) -> None:
        for option, whose in (
            ("--url=https://localhost:8069", "admin on https://localhost:8069, database odoo-dev"),
            ("--db=other", "admin on http://localhost:8069, database other"),
            ("--user=eva", WHOSE),
        ):
            self.check_error(option, err=f"no password for {whose}", hint=SET_PASSWORD)
        for url in (DEFAULT_URL, f" {DEFAULT_URL}/web ", DEFAULT_URL.upper()):
            self.check_settings("--url", url, "--user", "admin")

    # The file

    def test_values_are_literal(self) -> None:
        for value in ("p%20", "%(db)s", '"p"', "'p' # ; p", "a = b", "$HOME"):
            self.write_profiles(f"\ufeff[DEFAULT]\npassword = {value}\n")  # with a mark
            self.check_settings(pwd=value)

    def test_unknown_keys(self) -> None:
        """Only those of the profile in use: another program may have its own in the others."""
        path = self.write_profiles("[DEFAULT]\ntimeout = 5\n[b]\npasword = hunter2\n")
        self.check_settings(timeout=5.0)
        err = f"unknown key 'pasword' in [b] of {path}; there are: {KEYS}"
        self.check_error("--profile", "b", err=err)
        self.write_profiles("[DEFAULT]\nserver = http://a\n[b]\n")
        err = f"unknown key 'server' in [DEFAULT] of {path}; there are: {KEYS}"
        self.check_error("--profile", "b", err=err)

    def test_folders_without_xdg_variables(self) -> None:
        path = f"{self.home}/.config/library/library.ini"
        self.write_profiles("[DEFAULT]\npassword = p", path=path)
        for value in ("", "relative", None):
            for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
                self.environ.pop(name, None)
                self.environ.update({name: value} if value is not None else {})
            self.check_settings(pwd="p")
            folder = os.path.dirname(Recorder.settings["uid_cache"])
            self.assertEqual(os.path.normpath(folder), os.path.join(self.home, ".cache", "library"))

    def test_no_file_of_the_current_folder_is_read(self) -> None:
        here = os.path.join(self.home, "here")
        for folder in ("", "config/library/", "home/.config/library/"):
            path = os.path.join(here, f"{folder}library.ini")
            self.write_profiles("[DEFAULT]\ndb = unasked", path=path)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(here)
        relative = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache"}
        for variables in ({}, relative, {"HOME": "home", "USERPROFILE": "home"}):
            self.environ.update(variables)
            self.check_settings()
        self.assertTrue(Recorder.settings["uid_cache"].startswith(os.devnull))

    @unittest.skipIf(os.name == "nt", "on Windows a file's mode does not say who can read it")
    def test_a_file_with_a_secret_that_others_can_read(self) -> None:
        for key, mode in (("password", 0o640), ("api_key", 0o604)):
            path = self.write_profiles(f"[DEFAULT]\n[b]\n{key} = p", mode=mode)
            err = f"{path} holds a password, and others can read it"
            self.check_error(err=err, hint="make it readable only by you, with chmod 600")
        self.write_profiles("[DEFAULT]\ntimeout = 5", mode=0o644)
        self.check_settings(timeout=5.0)

    def test_only_a_file_that_is_not_there_is_none(self) -> None:
        self.write_file(b"", "file")
        for path in ("nowhere", "file"):  # whose folder is not there
            with mock.patch.dict(self.environ, XDG_CONFIG_HOME=os.path.join(self.home, path)):
                self.check_settings()
        os.makedirs(self.default_path)
        reason = "Permission denied" if os.name == "nt" else "Is a directory"
        self.check_error(err=f"cannot read {self.default_path}: {reason}")

    @unittest.skipIf(os.name == "nt", "Windows has other limits, and links are for few users")
    def test_a_file_out_of_reach(self) -> None:
        """A path may lead to no file although there should be one."""
        with mock.patch.dict(self.environ, XDG_CONFIG_HOME="/" + "x" * 256):
            path = f"/{'x' * 256}/library/library.ini"
            self.check_error(err=f"cannot read {path}: File name too long")
        os.makedirs(os.path.dirname(self.default_path))
        os.symlink("nowhere", self.default_path)
        self.check_error(err=f"cannot read {self.default_path}: No such file or directory")

    def test_config_needs_a_profile_that_counts(self) -> None:
        path = os.path.join(self.home, "other.ini")
        options = "--config", path
        self.check_error(*options, err=f"cannot read {path}: No such file or directory")
        for text, names in (("", "none"), ("[a]\ntimeout = 5\n[b]\ntimeout = 6\n", "a, b")):
            self.write_profiles(text, path=path)
            self.check_error(*options, err=f"no profile 'DEFAULT' in {path}; there are: {names}")
        with mock.patch.dict(self.environ, ODOO_PROFILE="a"):
            self.check_settings(*options, timeout=5.0)
            self.check_settings(*options, "--profile", "b", timeout=6.0)
        self.write_profiles("[DEFAULT]\ntimeout = 7\n", path=path)
        self.check_settings(*options, timeout=7.0)

    def test_unknown_profiles(self) -> None:
        err = f"no profile 'b' in {self.default_path}; there are: "
        self.check_error("--profile", "b", err=f"{err}none")
        self.write_profiles("[DEFAULT]\ntimeout = 6\n[a]\ntimeout = 5")
        self.environ["ODOO_PROFILE"] = "b"
        self.check_error(err=f"{err}a")
        self.check_settings("--profile", "a", timeout=5.0)

    def test_files_that_are_no_ini_files(self) -> None:
        """What is wrong, and nothing of what is there."""
        key = "password = hunter2\n"
        for text in (key, "[DEFAULT]\npassword hunter2", f"[a]\n{key}{key}", f"[a]\n[a]\n{key}"):
            path = self.write_profiles(text)
            with self.subTest(text):
                err = f"{path} must have KEY = VALUE in a [SECTION], and each only once"
                self.check_error(err=err)
                self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])
        path = self.write_file(b"[DEFAULT]\npassword = \xff")
        os.chmod(path, 0o600)
        err = f"password in [DEFAULT] of {path} can't hold text that is not valid UTF-8"
        self.check_error("--config", path, err=err)

    # The prompt

    @unittest.skipIf(os.name == "nt", "no test can type at a terminal of Windows")
    def test_a_prompt_on_a_terminal(self) -> None:
        """On the controlling terminal, whatever standard input is."""
        cases = dict.fromkeys((b"\x04", b"\xe9\xff\n"), (2, "", f"\n{NO_PASSWORD}"))
        cases[b"\n"] = 2, "", NO_PASSWORD  # after which the terminal has begun a line
        cases[b"typed secret\n"] = 0, "typed secret\n", ""
        cases[b"\x03"] = 130, "", "\nlibrary.py: interrupted\n"
        terminals = [os.openpty() for _ in cases]
        started = [self.start_at(os.ttyname(end)) for _, end in terminals]
        for (terminal, end), process, typed in zip(terminals, started, cases):
            screen = b""
            while b": " not in screen:  # before which getpass switches the echo off
                self.assertTrue(select.select([terminal], [], [], 60)[0], "no prompt")
                screen += os.read(terminal, 1024)
            os.write(terminal, typed)
            out, err = process.communicate("no password\n", timeout=60)
            os.close(end)
            with contextlib.suppress(OSError):  # Linux's way of saying that nothing follows
                while piece := os.read(terminal, 1024):
                    screen += piece
            os.close(terminal)
            with self.subTest(typed):
                self.assertEqual((process.returncode, out, err), cases[typed])
                self.assertEqual(screen.decode().strip(), f"Password of {WHOSE}:")

    def test_no_prompt_without_a_terminal(self) -> None:
        process = self.start_at(os.devnull)
        out, err = process.communicate("no password\n", timeout=60)
        self.assertEqual((process.returncode, out, err), (2, "", NO_PASSWORD))

    def start_at(self, terminal: str) -> subprocess.Popen[str]:
        """Start a program that has no other terminal, asks for a password, and prints it."""
        process = subprocess.Popen(
            [sys.executable, "-c", ASK, terminal],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            creationflags=getattr(subprocess, "DETACHED_PROCESS", 0),  # a new session on Windows
            cwd=os.path.dirname(os.path.abspath(library.__file__)),
            env=self.environ,
        )
        self.addCleanup(process.kill)
        return process

    # Malformed values, named with where they come from

    def test_malformed_values(self) -> None:
        """They are found before anybody is asked for a password."""
        self.environ["ODOO_USER"] = "eva"
        urls = ["localhost:8069", "ftp://localhost", "http://", "http://ü.b", " ", "http://a\nb"]
        urls += ["http://localhost:99999", "http://localhost:0", "http://localhost:", "http://a b"]
        urls += ["http://[::1", "http://eva:hunter2@localhost", "\ufeffhttp://a", '"http://a"']
        urls += [f"http://{'a' * 254}", f"http://[{':' * 46}]"]
        seconds = ["0", "-1", "x", "5s", "nan", "inf", "1e9", "1 2", "1_0", "１", "1000001"]
        for name, values, err in (
            ("url", urls, "must be like http://localhost:8069"),
            ("timeout", seconds, "must be seconds, more than 0 and up to 1000000, not {!r}"),
            ("db", [" "], "must not be blank"),
            ("user", ["a\tb"], "can't hold a tab"),
        ):
            for value in values:
                with self.subTest(name, value=value), mock.patch.dict(self.environ):
                    self.check_error(f"--{name}={value}", err=f"--{name} {err.format(value)}")
                    self.environ[f"ODOO_{name.upper()}"] = value
                    self.check_error(err=f"ODOO_{name.upper()} {err.format(value)}")

    def test_what_may_stand_around_a_url(self) -> None:
        """A path that a browser or another client shows, and spaces, also those of CRLF files."""
        self.environ["ODOO_PASSWORD"] = "p"
        expected = {"scheme": "https", "host": "a.example", "port": 443, "pwd": "p"}
        self.check_settings("--url", "https://A.Example/web", **expected)
        self.check_settings("--url", "http://[FE80::1]:80/", host="fe80::1", port=80, pwd="p")
        paths = ["", "/", "/web/login", "/odoo/x?y#z", "?db=x", "#id=1", "/xmlrpc/2", "/a//b c/ü"]
        for path, space in itertools.product(paths, ("", " ", "\t \r\n")):
            with self.subTest(path, space=space):
                self.environ["ODOO_URL"] = f"{space}http://a:1{path}{space}"
                self.check_settings(host="a", port=1, pwd="p")

    def test_malformed_passwords_are_not_shown(self) -> None:
        path = self.write_profiles("[DEFAULT]\npassword = hunter2\x01")
        err = "can't hold the character U+0001"
        self.check_error(err=f"password in [DEFAULT] of {path} {err}")
        self.environ["ODOO_API_KEY"] = "hunter2\x01"
        self.check_error(err=f"ODOO_API_KEY {err}")
        self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])

    # The server

    def test_a_default_server_that_cannot_be_reached(self) -> None:
        """The hint says how to name another one, unless somebody chose this one."""
        self.backend = LibraryAPI  # type: ignore[assignment]
        url = f"http://127.0.0.1:{unused_port()}"
        name_it = "if your server has another URL, set ODOO_URL to it"
        for options, text, hint in (
            ((), "", name_it),
            ((), "[DEFAULT]\ntimeout = 5\n", name_it),
            (
                (),
                "[DEFAULT]\n[work]\n[home]\n",
                "if your server is in a profile, choose it with --profile: work, home",
            ),
            (("--profile", "work"), "[work]\n[home]\n", name_it),
            (("--url", url), "[work]\n", "check that it runs at this port"),
        ):
            self.write_profiles(text)
            err = f"cannot connect to {url}: connection refused"
            with self.subTest(options, text=text), mock.patch.dict(library.DEFAULTS, url=url):
                self.check_error(*options, err=err, hint=hint, status=3)

    def test_the_uid_cache_is_of_one_server_database_and_user(self) -> None:
        self.environ["ODOO_PASSWORD"] = "secret"
        logins = [[], ["--url=http://localhost:8070"], ["--url=https://localhost:8069"], ["--db=d"]]
        seen = set()
        for options in (*logins, ["--user=u"], ["--user=../../u", "--db=/"]):
            self.check("list", *options)
            folder, name = os.path.split(Recorder.settings["uid_cache"])
            self.assertEqual(folder, os.path.join(self.environ["XDG_CACHE_HOME"], "library"))
            self.assertNotIn("secret", name)
            seen.add(name)
        self.assertEqual(len(seen), 6)
