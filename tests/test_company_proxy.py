"""https through a company's proxy, which the environment names; and http, which goes direct."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import time
from unittest import mock

import library_xmlrpc
from library_xmlrpc import ConnectError, LibraryAPI
from tests.proxy import Answer, CompanyProxy, Exchange, Proxy
from tests.replies import raw, sends, trickles
from tests.support import CommandLineTestCase, StandInTestCase, enter, full_port, unused_port

CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificates")
TIMEOUT = 0.1  # seconds
SLACK = 2.0  # seconds that a busy machine may add

CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
FORM = "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
HINT = f"https_proxy sets the proxy: {FORM}; no_proxy=HOST connects directly"


class CompanyProxyTestCase(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch("library_xmlrpc._recall_uid", lambda cache: 2))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(CERTIFICATES, "good.pem"))
        self.server = enter(self, Proxy(self.standin.url, context))
        self.port = self.server.address[1]
        self.company = CompanyProxy()
        enter(self, self.company)
        self.url = f"https://localhost:{self.port}"
        self.environ.update(
            ODOO_URL=self.url,
            SSL_CERT_FILE=os.path.join(CERTIFICATES, "authority.pem"),
            https_proxy=self.company.url,
        )

    def check_connected(self, through: bool = True) -> None:
        """A list works, through the proxy or not."""
        self.company.requests.clear()
        self.check("list", "no such book")
        self.assertEqual(len(self.company.requests), through)


class WayTests(CompanyProxyTestCase):
    def test_one_tunnel_for_one_call_after_another(self) -> None:
        with mock.patch.dict(os.environ, self.environ, clear=True):
            login = ("localhost", self.port, "odoo-dev", "admin", "admin")
            api = LibraryAPI(*login, scheme="https")
            id = api.create("Emma")
            api.write(id, "Emilia")
            api.unlink(id)
        (request,) = self.company.requests
        server = b"localhost:%d" % self.port
        self.assertTrue(request.startswith(b"CONNECT %b HTTP/1.1\r\n" % server), request)
        self.assertIn(b"\r\nHost: %b\r\n" % server, request)
        self.assertNotIn(b"Authorization", request)
        self.assertEqual(set(self.server.connections), {1})

    def test_the_variables(self) -> None:
        del self.environ["https_proxy"]
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            port = self.company.address[1]
            for form in ("http://localhost:{}", "HTTP://localhost:{}/", "localhost:{}"):
                with (
                    self.subTest(name, form=form),
                    mock.patch.dict(self.environ, {name: form.format(port)}),
                ):
                    self.check_connected()
        self.check_connected(through=False)

    def test_which_variable_wins(self) -> None:
        nobody = f"http://127.0.0.1:{unused_port()}"
        self.environ.update(HTTPS_PROXY=nobody, all_proxy=nobody)
        self.check_connected()
        self.environ.update(https_proxy="", all_proxy="", HTTP_PROXY=nobody, ftp_proxy=nobody)
        self.check_connected(through=False)

    def test_no_proxy(self) -> None:
        for name in ("no_proxy", "NO_PROXY"):
            for hosts, through in (
                ("*", False),
                ("odoo.example, localhost", False),
                (f"localhost:{self.port}", False),
                ("localhost:1,127.0.0.1", True),
                ("", True),
            ):
                with self.subTest(name, hosts=hosts), mock.patch.dict(self.environ, {name: hosts}):
                    self.check_connected(through)

    def test_http_goes_direct(self) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            self.environ[name] = self.company.url
        self.environ["ODOO_URL"] = self.proxy.url
        self.check_connected(through=False)

    def test_a_login_to_the_proxy(self) -> None:
        address = f"127.0.0.1:{self.company.address[1]}"
        for text, login in (
            ("eva:hunter2", b"eva:hunter2"),
            ("eva%40x:p%3A%2F%20w%C3%A9%FF%0A", b"eva@x:p:/ w\xc3\xa9\xff\n"),
            ("eva:p@ss/w#r?d:x://é", "eva:p@ss/w#r?d:x://é".encode()),
            ("eva:\udce9", b"eva:\xe9"),  # what os.environ has of octets that are not UTF-8
            ("eva", b"eva:"),
            ("eva:", b"eva:"),
            ("x" * 300, b"x" * 300 + b":"),
        ):
            for scheme in ("http://", ""):
                self.company.login = login
                self.environ["https_proxy"] = f"{scheme}{text}@{address}"
                with self.subTest(text, scheme=scheme):
                    self.check_connected()

    def test_the_proxy_looks_the_server_up_and_the_client_checks_its_certificate(self) -> None:
        self.environ["ODOO_URL"] = f"https://other.example:{self.port}"
        error = (
            f"cannot connect through the proxy {self.company.url} to https://other.example:"
            f"{self.port}: untrusted certificate: Hostname mismatch, .*\n.*SSL_CERT_FILE .*\n"
        )
        self.check("list", status=3, err=re.compile(rf"\Alibrary\.py: error: {error}\Z"))
        self.assertEqual(self.server.calls, [])

    def test_addresses_of_ipv6(self) -> None:
        self.environ["ODOO_URL"] = f"https://[::1]:{self.port}"
        self.check("list", status=3, err=re.compile("certificate"))  # it is for 127.0.0.1
        self.assertIn(b"CONNECT [::1]:%d HTTP" % self.port, self.company.requests[0])
        self.assertIn(b"\r\nHost: [::1]:%d\r\n" % self.port, self.company.requests[0])
        self.environ["https_proxy"] = "http://[::1]:1"
        through = r"cannot connect through the proxy http://\[::1\]:1 to .*: (?!the host's name)"
        self.check("list", status=3, err=re.compile(through))

    def test_without_a_variable_nothing_is_imported_for_it(self) -> None:
        address = ("127.0.0.1", unused_port(), "db", "user", "pwd")
        program = f"""
import sys
from library_xmlrpc import *
try:
    LibraryAPI(*{address}, scheme="https").version()
except ConnectError:
    print("urllib.request" in sys.modules)
"""
        folder = os.path.dirname(library_xmlrpc.__file__)
        argv = (sys.executable, "-S", "-c", program)
        for variables, imported in (({}, "False"), ({"no_proxy": "*", "https_proxy": "x"}, "True")):
            environ = {"PYTHONPATH": folder, **variables}
            done = subprocess.run(argv, env=environ, capture_output=True, text=True)
            self.assertEqual((done.stdout.strip(), done.stderr), (imported, ""))


class FailureTests(CompanyProxyTestCase):
    def check_failure(self, proxy: str, reason: str, hint: str = HINT) -> None:
        """A question and a change fail in time, and nothing tells the login to the proxy."""
        self.environ["https_proxy"] = proxy.replace("http://", "http://eva:hunter2@")
        error = f"cannot connect through the proxy {re.escape(proxy)} to {self.url}: {reason}"
        lines = [f"error: {error}", *([re.escape(hint)] if hint else [])]
        err = "".join(rf"library\.py: {line}\n" for line in lines)
        for argv in (("list",), ("add", "Emma")):
            start = time.monotonic()
            with self.subTest(reason, argv=argv):
                self.check(*argv, status=3, err=re.compile(rf"\A{err}\Z"))
                self.assertLess(time.monotonic() - start, TIMEOUT + SLACK)
        _, _, debug = self.run_cli("list", "--debug")
        self.assertIn("Traceback", debug)
        for secret in ("hunter2", "eva", "ZXZhOmh1bnRlcjI="):
            self.assertNotIn(secret, debug)
        self.assertEqual(self.server.calls, [])

    def test_no_proxy_there(self) -> None:
        refused = f"http://127.0.0.1:{unused_port()}"
        self.check_failure(refused, "connection refused")
        self.check_failure("http://no-such-host.invalid:80", "the host's name can't be looked up")
        with full_port() as port, mock.patch("library_xmlrpc.CONNECT_SECONDS", TIMEOUT):
            self.check_failure(f"http://127.0.0.1:{port}", "timed out")

    def test_the_default_port(self) -> None:
        for proxy in ("http://127.0.0.2", "127.0.0.2", "http://127.0.0.2/"):
            self.environ["https_proxy"] = proxy
            through = re.compile(r" the proxy http://127\.0\.0\.2:80 to ")
            self.check("list", status=3, err=through)

    def test_a_proxy_that_refuses(self) -> None:
        for status, phrase in (
            (407, "Proxy Authentication Required"),
            (403, "Forbidden"),
            (302, "Found"),
            (503, "Service Unavailable"),
            (999, ""),
            (199, ""),
        ):
            reply = raw(f"HTTP/1.1 {status} \x1b[31mNo\nContent-Length: 999", b"<html>")
            self.company.faults[""] = sends(reply)
            self.check_failure(
                self.company.url, f"the proxy answers HTTP {status} {phrase}".strip()
            )

    def test_a_login_that_the_proxy_does_not_take(self) -> None:
        self.company.login = b"eva:hunter3"
        self.check_failure(
            self.company.url, "the proxy answers HTTP 407 Proxy Authentication Required"
        )

    def test_a_proxy_that_misbehaves(self) -> None:
        closed, no_http = "connection closed", "the proxy does not answer in HTTP"
        for answer, reason in (
            (sends(), no_http),
            (Exchange.reset, closed),
            (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), no_http),
            (lambda exchange: exchange.send(exchange.request.split()[-1] + b"\r\n"), no_http),
            (lambda exchange: exchange.send(b"HTTP/1.1 hunter2\r\n"), no_http),
            (sends(CONNECTED[:9]), no_http),
            (sends(b"\x15\x03\x03\x00\x02\x02\x28"), no_http),
            (sends(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 99_999), no_http),
            (sends(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n" * 999), no_http),
        ):
            self.company.faults[""] = answer
            self.check_failure(self.company.url, reason)

    def test_a_proxy_that_takes_too_long(self) -> None:
        answers: tuple[Answer, ...] = (
            Exchange.hold,
            trickles(CONNECTED + bytes(99), after=2),
            sends(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 100, pause=0.02),
        )
        for answer in answers:
            self.company.faults[""] = answer
            with mock.patch("library_xmlrpc.CONNECT_SECONDS", TIMEOUT):
                self.check_failure(self.company.url, "timed out")
            self.environ["ODOO_TIMEOUT"] = str(TIMEOUT)
            self.check_failure(self.company.url, "timed out")
            del self.environ["ODOO_TIMEOUT"]

    def test_failures_of_tls_behind_the_proxy(self) -> None:
        """The proxy has said that it is connected, so its settings are right."""

        def hold(exchange: Exchange) -> None:
            exchange.send(CONNECTED)
            exchange.hold()

        use_http = "if the server speaks plain HTTP, use http://"
        self.company.faults[""] = lambda exchange: exchange.send(CONNECTED, pause=0.05)
        self.check_failure(self.company.url, "connection closed", "")
        # Whatever comes with the proxy's reply may be lost, and the server waits for us.
        self.company.faults[""] = lambda exchange: exchange.send(
            CONNECTED, b"HTTP/1.1 400 Bad Request\r\n\r\n", pause=0.05
        )
        self.check_failure(self.company.url, r"TLS failed \(WRONG_VERSION_NUMBER\)", use_http)
        self.company.faults[""] = hold
        with mock.patch("library_xmlrpc.CONNECT_SECONDS", TIMEOUT):
            hint = "see whether it is up; a longer timeout may help"
            self.check_failure(self.company.url, "timed out", hint)

    def test_variables_that_name_no_proxy(self) -> None:
        for value in (
            "http://",
            "http://eva:hunter2@",
            "http://eva:hunter2",
            "http://eva:12/hunter2",
            "http://eva:hunter2@proxy.example:port",
            "http://eva:hunter2@proxy.example:0",
            "http://eva:hunter2@proxy.example:65536",
            "http://eva:hunter2@proxy.example:3128/path",
            "http://eva:hunter2@proxy.example:3128?x",
            "http://eva:hunter2@[::1",
            "http://eva:hunter2@pr\xf6xy.example:3128",
            "http://eva:hunter2@\x1b[2J:3128",
            "http://eva:hunter2@proxy.example:3128\n",
            "http:/eva:hunter2@/",
            "https://eva:hunter2@127.0.0.1:3128",
            "socks5h://eva:hunter2@127.0.0.1:3128",
            "SOCKS4://eva:hunter2@127.0.0.1",
        ):
            for name in ("https_proxy", "ALL_PROXY"):
                error = (
                    f"library.py: error: cannot connect to {self.url}: "
                    f"{name.lower()} has to be {FORM} (no https, no socks)\n"
                )
                del self.environ["https_proxy"]
                with (
                    self.subTest(value, name=name),
                    mock.patch.dict(self.environ, {name: value}),
                ):
                    self.check("list", status=3, err=error)
                    self.check("add", "Emma", status=3, err=error)
                    self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])
                self.environ["https_proxy"] = ""

    def test_no_socket_is_left_open(self) -> None:
        """Neither a warning, nor a connection that the proxy still has."""
        self.company.faults[""] = sends(b"HTTP/1.1 407 No\r\n\r\n")
        with mock.patch.dict(os.environ, self.environ, clear=True):
            login = ("localhost", self.port, "odoo-dev", "admin", "admin")
            self.assertRaises(ConnectError, LibraryAPI(*login, scheme="https").version)
        deadline = time.monotonic() + SLACK
        while self.company.open and time.monotonic() < deadline:
            time.sleep(0.005)
        self.assertEqual(self.company.open, set())
