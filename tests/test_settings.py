"""Where the settings come from, and to which server a password goes."""

from __future__ import annotations

import os
import pty
import re
import sys
import time
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

    def check_config_error(self, *options: str, err: str) -> None:
        """Exit status 2, and a message that begins with where the mistake is."""
        pattern = rf"(?m)\Alibrary\.py: error: {err}.*\n(library\.py: .*\n)?\Z"
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
        profile = "url = http://a:1\ndb = a\nuser = a\npassword = p%20\ntimeout = 5"
        self.write_profiles(f"[DEFAULT]\n{profile}")
        self.check_settings(host="a", port=1, db="a", user="a", pwd="p%20", timeout=5.0)
        self.environ.update(ODOO_DB="b", ODOO_USER="b", ODOO_TIMEOUT="2.5", ODOO_PASSWORD="b")
        self.check_settings(host="a", port=1, db="b", user="b", pwd="b", timeout=2.5)
        options = ("--url", "http://[::1]:8070/", "--db", "c", "--user", "c", "--timeout", "3")
        self.check_settings(*options, host="::1", port=8070, db="c", user="c", pwd="b", timeout=3.0)
        self.environ["ODOO_URL"] = "https://odoo.example.com"
        https = {"host": "odoo.example.com", "port": 443, "scheme": "https"}
        self.check_settings(*options[2:], **https, db="c", user="c", pwd="b", timeout=3.0)

    def test_empty_variables_count_as_unset(self) -> None:
        for name in ("URL", "DB", "USER", "PASSWORD", "API_KEY", "TIMEOUT", "PROFILE"):
            self.environ[f"ODOO_{name}"] = ""
        self.check_settings()

    def test_options_stand_before_the_command_or_after_it(self) -> None:
        self.environ["ODOO_PASSWORD"] = "secret"
        self.check("--db", "x", "--user", "u", "list", "--db", "d")
        self.assertEqual((Recorder.settings["db"], Recorder.settings["user"]), ("d", "u"))

    def test_a_profile_that_is_named_outranks_the_environment(self) -> None:
        """What stands on the command line wins."""
        profile = "[staging]\nurl = http://s:1\nuser = u\npassword = p\n"
        self.write_profiles(f"[DEFAULT]\ndb = d\n{profile}[bare]\nuser = v\n")
        staging = {"host": "s", "port": 1, "db": "d", "user": "u", "pwd": "p"}
        self.environ["ODOO_PROFILE"] = "staging"
        self.check_settings(**staging)
        self.environ.update(ODOO_URL="http://a:1", ODOO_DB="x", ODOO_USER="x", ODOO_PASSWORD="x")
        self.check_settings(host="a", port=1, db="x", user="x", pwd="x")
        self.check_settings("--profile", "staging", "--user", "w", **{**staging, "user": "w"})
        bare = {"host": "a", "port": 1, "db": "d", "user": "v", "pwd": "x"}
        self.check_settings("--profile", "bare", **bare)

    def test_a_password_of_the_environment_is_for_its_server_alone(self) -> None:
        self.environ.update(ODOO_URL="http://a:1", ODOO_PASSWORD="hunter2")
        for_a = "ODOO_PASSWORD is for http://a:1, not for http://b:1"
        self.check_config_error("--url", "http://b:1", err=rf"{for_a} \(--url\)$")
        self.write_profiles("[b]\nurl = http://b:1\n[c]\nurl = http://c:1\npassword = c")
        self.check_config_error("--profile", "b", err=rf"{for_a} \(the key url in .b. of ")
        self.check_settings("--profile", "c", host="c", port=1, pwd="c")
        del self.environ["ODOO_URL"]
        self.check_settings("--profile", "b", host="b", port=1, pwd="hunter2")

    def test_what_to_do_about_a_password_for_another_server(self) -> None:
        """It works, from each of the ways in which this comes about."""
        self.write_profiles("[a]\nurl = http://a:1\npassword = a\n")
        profile, url = ("--profile", "a"), ("--url", "http://b:1")
        hint = (
            "\nlibrary.py: set ODOO_URL to http://b:1 and ODOO_PASSWORD, and leave out --url and "
            "--profile; or write a profile with this url and its password\n"
        )
        self.check("list", *profile, *url, status=2, err=re.compile(hint))
        self.environ.update(ODOO_PROFILE="a", ODOO_URL="http://b:1")
        self.check("list", status=2, err=re.compile(hint))
        self.environ["ODOO_PASSWORD"] = "b"
        self.check_settings(host="b", port=1, pwd="b")

    def test_a_section_with_a_server_of_its_own_inherits_no_password(self) -> None:
        self.write_profiles(
            "[DEFAULT]\nurl = https://work\npassword = hunter2\n"
            "[demo]\nurl = http://demo\n[test]\nhost = test\n[same]\ndb = d\n"
        )
        for name in ("demo", "test"):
            self.check_config_error("--profile", name, err="no password for admin on http://")
        same = {"scheme": "https", "host": "work", "port": 443, "db": "d", "pwd": "hunter2"}
        self.check_settings("--profile", "same", **same)

    def test_unknown_keys(self) -> None:
        path = self.write_profiles(
            "[DEFAULT]\npasword = hunter2\n[a]\nprotocol = web\noptions = -c x\n[b]\nlogin = u"
        )
        warning = "library.py: warning: unknown key {} in [{}] of {}\n".format
        self.check("list", "--profile", "a", err=warning("pasword", "DEFAULT", path))
        both = warning("pasword", "DEFAULT", path) + warning("login", "b", path)
        self.check("list", "--profile", "b", err=both)

    def test_an_api_key_outranks_a_password(self) -> None:
        self.environ.update(ODOO_API_KEY="key", ODOO_PASSWORD="secret")
        self.check_settings(pwd="key")
        self.write_profiles("[DEFAULT]\napi_key = profile-key\npassword = profile-secret")
        del self.environ["ODOO_API_KEY"], self.environ["ODOO_PASSWORD"]
        self.check_settings(pwd="profile-key")

    # Profiles

    def test_folders_without_xdg_variables(self) -> None:
        del self.environ["XDG_CONFIG_HOME"], self.environ["XDG_CACHE_HOME"]
        self.write_profiles(
            "[DEFAULT]\npassword = p", path=f"{self.home}/.config/library/library.ini"
        )
        self.check_settings(pwd="p")
        folder = os.path.dirname(Recorder.settings["uid_cache"])
        self.assertEqual(folder, os.path.join(self.home, ".cache", "library"))

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

    def test_the_keys_of_odooly(self) -> None:
        self.write_profiles("[DEFAULT]\ndb = no")  # which --config replaces
        path = self.write_profiles(
            "[DEFAULT]\nscheme = https\nhost = a.example.com\nport = 443\n"
            "database = d\nusername = u\n"
            "[demo]\npassword = p\nprotocol = xmlrpc\n"
            "[other]\nhost = b.example.com\npassword = p\n"
            "[erppeek]\nserver = http://localhost:8070\nusername = v\npassword = p\n",
            path=os.path.join(self.home, "odooly.ini"),
        )
        options = ("--config", path, "--profile")
        common = {"scheme": "https", "port": 443, "db": "d", "user": "u", "pwd": "p"}
        self.check_settings(*options, "demo", **common, host="a.example.com")
        self.check_settings(*options, "other", **common, host="b.example.com")
        self.check_settings(*options, "erppeek", port=8070, db="d", user="v", pwd="p")

    def test_the_way_in_of_another_client(self) -> None:
        """The key `server` has it; another path is a mistake, as it is in a `url`."""
        for path in ("", "/", "/web", "/jsonrpc", "/xmlrpc", "/xmlrpc/", "/xmlrpc/2", "/json/2/"):
            self.write_profiles(f"[DEFAULT]\nserver = http://a:1{path}\npassword = p")
            self.check_settings(host="a", port=1, pwd="p")
        for key, path in (("server", "/odoo"), ("server", "/web/login"), ("url", "/jsonrpc")):
            self.write_profiles(f"[DEFAULT]\n{key} = http://a:1{path}")
            self.check_config_error(err=f"the key {key} in .* must be like")

    def test_a_url_in_parts(self) -> None:
        """A mistake in it is one of the keys that the file has."""
        for keys, name in (
            ("port = 99999", "port"),
            ("host = a b", "host"),
            ("scheme = ftp\nport = 1", "scheme or port"),
        ):
            path = self.write_profiles(f"[a]\n{keys}")
            error = re.escape(f"the key {name} in [a] of {path}")
            self.check_config_error("--profile", "a", err=error)
        path = self.write_profiles("[DEFAULT]\nport = 1\n[a]\nport = 2\nserver = http://a:3")
        self.check("list", "--profile", "a", status=2, err=re.compile("no password"))
        warning = f"warning: the key server in [a] of {path} counts, not port\n"
        self.environ["ODOO_PASSWORD"] = "p"
        self.check("list", "--profile", "a", err=f"library.py: {warning}")
        self.assertEqual(Recorder.settings["port"], 3)

    def test_a_section_outranks_default_under_another_name(self) -> None:
        self.write_profiles(
            "[DEFAULT]\nurl = http://a:1\ndb = a\nuser = a\napi_key = a\n"
            "[b]\nhost = b\nport = 2\ndatabase = b\nusername = b\npassword = b\n"
        )
        self.check_settings("--profile", "b", host="b", port=2, db="b", user="b", pwd="b")

    def test_a_file_with_a_secret_that_others_can_read(self) -> None:
        for key, mode in (("password", 0o640), ("api_key", 0o604)):
            path = self.write_profiles(f"[DEFAULT]\n[b]\n{key} = p", mode=mode)
            error = f"library.py: error: {path} holds a password, and others can read it\n"
            self.check("list", status=2, err=f'{error}library.py: chmod 600 "{path}"\n')
        with mock.patch("os.name", "nt"):  # where the mode does not say so
            self.check_settings("--profile", "b", pwd="p")

    def test_a_file_without_a_secret_that_others_can_read(self) -> None:
        self.write_profiles("\ufeff[DEFAULT]\ntimeout = 5", mode=0o644)  # with a BOM
        self.check_settings(timeout=5.0)

    def test_a_profiles_password_is_for_its_server_alone(self) -> None:
        path = self.write_profiles("[DEFAULT]\nurl = http://a:1\npassword = hunter2")
        for_a = re.escape(f"the key password in [DEFAULT] of {path} is for http://a:1, not for ")
        self.check_config_error("--url", "http://b:1", err=rf"{for_a}http://b:1 \(--url\)$")
        self.check_config_error("--url", "https://a:1", err=for_a)
        self.environ["ODOO_URL"] = "http://a:2"
        self.check_config_error(err=rf"{for_a}http://a:2 \(ODOO_URL\)$")
        self.environ["ODOO_URL"] = "HTTP://A:1/"
        self.check_settings(host="a", port=1, pwd="hunter2")
        self.environ.update(ODOO_URL="http://b:1", ODOO_PASSWORD="p")
        self.check_settings(host="b", port=1, pwd="p")

    def test_a_profiles_password_without_a_url_is_for_the_default_server(self) -> None:
        self.write_profiles("[DEFAULT]\npassword = hunter2")
        self.check_settings(pwd="hunter2")
        self.check_config_error(
            "--url", "http://b:1", err=r".* is for http://localhost:8069, not for .* \(--url\)$"
        )
        self.write_profiles("[p]\npassword = hunter2")
        self.check_settings("--profile", "p", pwd="hunter2")
        self.environ["ODOO_URL"] = "http://b:1"
        err = r".* is for http://localhost:8069, not for .* \(ODOO_URL\)$"
        self.check_config_error("--profile", "p", err=err)

    # Passwords

    def test_the_default_password_is_for_the_defaults_alone(self) -> None:
        for options in (
            ("--url", "http://localhost:8070"),
            ("--url", "https://localhost:8069"),
            ("--db", "other"),
            ("--user", "other"),
        ):
            with self.subTest(options):
                self.check_config_error(*options, err="no password for")
        self.check_settings("--url", "http://localhost:8069/", "--user", "admin")

    def test_a_prompt_on_a_terminal(self) -> None:
        none = "\nlibrary.py: error: no password given"
        for typed, expected in (
            (b"typed-secret\n", "\n0 terces-depyt"),
            (b"\x04", none),
            (b"\n", none),
            (b"\xe9\xff\n", none),
            (b"\x03", "\nlibrary.py: interrupted"),
        ):
            with self.subTest(typed):
                screen = self.on_a_terminal(typed)
                self.assertIn(
                    "Password of eva on http://localhost:8069, database odoo-dev: ", screen
                )
                self.assertIn(expected, screen)
                self.assertNotIn("typed-secret", screen)

    def on_a_terminal(self, typed: bytes) -> str:
        """What a command shows on a terminal of its own, where this is typed."""
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
        screen = b""
        try:
            while b": " not in screen:
                screen += os.read(terminal, 1024)
            time.sleep(0.1)  # for getpass to have switched the echo off
            os.write(terminal, typed)
            while True:
                screen += os.read(terminal, 1024)
        except OSError:  # Linux's way of saying that the program has ended
            pass
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)
        return screen.decode().replace("\r\n", "\n")

    def test_no_prompt_without_a_terminal(self) -> None:
        self.check_config_error(
            *("--user", "eva"),
            err="no password for eva on http://localhost:8069, database odoo-dev\n"
            "library.py: set ODOO_API_KEY or ODOO_PASSWORD, or api_key or password in a profile$",
        )

    # Malformed values, named with where they come from

    def test_malformed_values(self) -> None:
        urls = ["localhost:8069", "ftp://localhost", "http://", "http://ü.b", "http://a\n"]
        urls += ["http://localhost:99999", "http://localhost:0", "http://localhost/odoo"]
        urls += ["http://[::1", "http://eva:hunter2@localhost"]
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
                    self.check_config_error(f"--{name}={value}", err=f"--{name}[ :]")
                    self.environ[f"ODOO_{name.upper()}"] = value
                    self.check_config_error(err=f"ODOO_{name.upper()}[ :]")
                    self.assertNotIn("hunter2", self.run_cli("list")[2])

    def test_what_nobody_sees_in_a_url_is_named(self) -> None:
        for character, name in (
            ("\r", "a carriage return"),
            (" ", "a space"),
            ("\xa0", r"the character U\+00A0"),
            ("\u200b", r"the character U\+200B"),
            ("\ufeff", "a byte-order mark"),
        ):
            for url in (f"{character}http://a:1", f"http://a:1{character}"):
                self.environ["ODOO_URL"] = url
                self.check_config_error(err=f"ODOO_URL can't hold {name}$")

    def test_a_mistake_is_found_before_the_password_is_asked_for(self) -> None:
        for option in ("--timeout=5s", "--url=x", "--db= "):
            self.check_config_error("--user", "eva", option, err=option.partition("=")[0])

    def test_malformed_passwords_are_not_shown(self) -> None:
        self.environ["ODOO_API_KEY"] = "hunter2\x01"
        self.check_config_error(err="ODOO_API_KEY ")
        self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])
        del self.environ["ODOO_API_KEY"]
        path = self.write_profiles("[DEFAULT]\npassword = hunter2\x01")
        self.check_config_error(err=re.escape(f"the key password in [DEFAULT] of {path} "))

    def test_unknown_profiles(self) -> None:
        self.check_config_error("--profile", "b", err="--profile: no profile 'b' in .*: none$")
        path = self.write_profiles("[a]\ndb = x")
        self.check_config_error("--profile", "b", err=f"--profile: no profile 'b' in {path}")
        self.check_config_error(
            "--profile", "", err=f"--profile: no profile '' in {path}, which has: a$"
        )
        self.check_config_error("--config", "", err="cannot read : No such file")
        self.environ["ODOO_PROFILE"] = "b"
        self.check_config_error(err=f"ODOO_PROFILE: no profile 'b' in {path}")

    def test_files_that_are_no_ini_files(self) -> None:
        """The line and what is wrong with it, and nothing of what is there."""
        for text, line in (
            ("password hunter2", 1),
            ("[DEFAULT]\npassword hunter2", 2),
            ("[DEFAULT]\npassword = hunter2\npassword = hunter2", 3),
            ("[a]\n[a]\npassword = hunter2", 2),
        ):
            with self.subTest(text):
                path = self.write_profiles(text)
                self.check_config_error(
                    err=rf"{path}, line {line}: must be KEY = VALUE in a \[SECTION"
                )
                self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])
        path = self.write_file(b"[DEFAULT]\npassword = \xff")
        self.check_config_error("--config", path, err=f"cannot read {path}: not UTF-8")
        self.check_config_error("--config", self.home, err=f"cannot read {self.home}: Is a dir")

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
