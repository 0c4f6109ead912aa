"""https through a company's proxy, which the environment names; and http, which goes direct."""

from __future__ import annotations

import gc
import os
import re
import ssl
import subprocess
import sys
import time
import warnings
from unittest import mock

import library_xmlrpc
from library_xmlrpc import ConnectError, LibraryAPI
from tests.proxy import CompanyProxy, Exchange, Proxy
from tests.replies import raw, sends
from tests.support import CommandLineTestCase, StandInTestCase, enter, full_port, unused_port

CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificates")
TIMEOUT = 0.2  # seconds, where the client waits in vain to be connected
SOON = 20.0  # seconds: what takes longer waits for something

# What a second line on standard error says to do.
START = "check that it runs at this port"
WAIT = "see whether it is up, or too busy"


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
            api.close()
        (request,) = self.company.requests
        self.assertRegex(request, rb"\ACONNECT localhost:%d HTTP/1\.[01]\r\n" % self.port)
        self.assertNotIn(b"Authorization", request)
        self.assertEqual(set(self.server.connections), {1})

    def test_the_variables(self) -> None:
        del self.environ["https_proxy"]
        for name in ("https_proxy", "HTTPS_PROXY"):
            port = self.company.address[1]
            for form in ("http://localhost:{}", "http://localhost:{}/", "localhost:{}"):
                with (
                    self.subTest(name, form=form),
                    mock.patch.dict(self.environ, {name: form.format(port)}),
                ):
                    self.check_connected()
        self.check_connected(through=False)

    def test_which_variable_wins(self) -> None:
        nobody = f"http://127.0.0.1:{unused_port()}"
        self.environ.update(HTTPS_PROXY=nobody)
        self.check_connected()
        self.environ.update(https_proxy="", HTTP_PROXY=nobody, ftp_proxy=nobody)
        self.check_connected(through=False)

    def test_no_proxy(self) -> None:
        for name in ("no_proxy", "NO_PROXY"):
            for hosts, through in (
                ("*", False),
                ("odoo.example, localhost", False),
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
            ("eva%40x:p%3A%2F%20w%C3%A9", b"eva@x:p:/ w\xc3\xa9"),
            ("eva:p@ss#r?d:x:é", "eva:p@ss#r?d:x:é".encode()),
            ("eva:", b"eva:"),
        ):
            for scheme in ("http://", ""):
                self.company.login = login
                self.environ["https_proxy"] = f"{scheme}{text}@{address}"
                with self.subTest(text, scheme=scheme):
                    self.check_connected()

    def test_the_proxy_looks_the_server_up_and_the_client_checks_its_certificate(self) -> None:
        self.environ["ODOO_URL"] = f"https://other.example:{self.port}"
        error = (
            f"cannot connect through https_proxy, 127.0.0.1:{self.company.address[1]}, to "
            f"https://other.example:{self.port}: untrusted certificate: Hostname mismatch, .*\n"
        )
        self.check("list", status=3, err=re.compile(rf"\Alibrary\.py: error: {error}\Z"))
        self.assertEqual(self.server.calls, [])

    def test_the_host_header(self) -> None:
        """The server gets it as without a proxy, which is told the port."""
        hosts: list[bytes] = []

        def connect(exchange: Exchange) -> None:
            """Connect with the server of this test, whatever the port."""
            exchange.request = re.sub(rb":[0-9]+ ", b":%d " % self.port, exchange.request, count=1)
            self.company.connect(exchange)

        def answer(exchange: Exchange) -> None:
            hosts.extend(re.findall(rb"(?i)\r\nHost: *(.*)\r\n", exchange.request))
            exchange.pass_on()

        self.company.faults[""] = connect
        for url, target, expected in (
            ("https://localhost", b"localhost:443", b"localhost"),
            ("https://localhost:443/", b"localhost:443", b"localhost"),
            ("https://localhost:80", b"localhost:80", b"localhost:80"),
            ("https://localhost:8443", b"localhost:8443", b"localhost:8443"),
            ("https://localhost.", b"localhost:443", b"localhost"),
            ("https://127.0.0.1:8443", b"127.0.0.1:8443", b"127.0.0.1:8443"),
        ):
            hosts.clear()
            self.company.requests.clear()
            self.environ["ODOO_URL"] = url
            with self.subTest(url), self.server.answering("search_read", answer):
                self.check("list", "no such book")
                self.assertTrue(self.company.requests[0].startswith(b"CONNECT %b " % target))
                self.assertEqual(hosts, [expected])

    def test_without_a_variable_nothing_is_imported_for_it(self) -> None:
        address = ("127.0.0.1", unused_port(), "db", "user", "pwd")
        program = f"""
import sys
from library_xmlrpc import ConnectError, LibraryAPI
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
    def check_failure(self, proxy: str, reason: str, hint: str = "") -> None:
        """A question and a change fail in time, and nothing tells the login to the proxy."""
        self.environ["https_proxy"] = f"http://eva:hunter2@{proxy}"
        error = f"cannot connect through https_proxy, {re.escape(proxy)}, to {self.url}: {reason}"
        lines = [f"error: {error}", *([hint] if hint else [])]
        err = "".join(rf"library\.py: {line}\n" for line in lines)
        for argv in (("list",), ("add", "Emma")):
            start = time.monotonic()
            with self.subTest(reason, argv=argv):
                self.check(*argv, status=3, err=re.compile(rf"\A{err}\Z"))
                self.assertLess(time.monotonic() - start, SOON)
        _, _, debug = self.run_cli("list", "--debug")
        self.assertIn("Traceback", debug)
        for secret in ("hunter2", "eva", "ZXZhOmh1bnRlcjI="):
            self.assertNotIn(secret, debug)
        self.assertEqual(self.server.calls, [])

    def test_no_proxy_there(self) -> None:
        self.check_failure(f"127.0.0.1:{unused_port()}", "connection refused", START)
        unknown, network = "the host's name can't be looked up", "check the name and the network"
        self.check_failure("no-such-host.invalid:80", unknown, network)
        with full_port() as port, mock.patch("library_xmlrpc.CONNECT_SECONDS", TIMEOUT):
            self.check_failure(f"127.0.0.1:{port}", "timed out", WAIT)

    def test_the_default_port(self) -> None:
        for proxy in ("http://127.0.0.2", "127.0.0.2", "http://127.0.0.2/"):
            self.environ["https_proxy"] = proxy
            self.check("list", status=3, err=re.compile(r" https_proxy, 127\.0\.0\.2:80, to "))

    def test_a_proxy_that_refuses(self) -> None:
        address = f"127.0.0.1:{self.company.address[1]}"
        for status in (407, 403, 302, 503, 999):
            reply = raw(f"HTTP/1.1 {status} \x1b[31mNo\nContent-Length: 999", b"<html>")
            self.company.faults[""] = sends(reply)
            reason = rf"Tunnel connection failed: {status} \\x1b\[31mNo"
            self.check_failure(address, reason)

    def test_a_proxy_that_misbehaves(self) -> None:
        address = f"127.0.0.1:{self.company.address[1]}"
        for answer, reason, hint in (
            (sends(), "connection closed", ""),
            (Exchange.reset, "connection closed", ""),
            (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP", ""),
        ):
            self.company.faults[""] = answer
            self.check_failure(address, reason, hint)

    def test_a_proxy_that_takes_too_long(self) -> None:
        self.company.faults[""] = Exchange.hold
        with mock.patch("library_xmlrpc.CONNECT_SECONDS", TIMEOUT):
            self.check_failure(f"127.0.0.1:{self.company.address[1]}", "timed out", WAIT)

    def test_variables_that_name_no_proxy(self) -> None:
        for value in (
            "http://",
            "http://eva:hunter2@",
            "http://eva:hunter2",
            "http://eva:hunter2@proxy.example:port",
            "http://eva:hunter2@proxy.example:3128/path",
            "https://eva:hunter2@127.0.0.1:3128",
            "socks5h://eva:hunter2@127.0.0.1:3128",
        ):
            error = (
                f"library.py: error: cannot connect to {self.url}: "
                "https_proxy must be like http://proxy.example:3128\n"
            )
            self.environ["https_proxy"] = value
            with self.subTest(value):
                self.check("list", status=3, err=error)
                self.check("add", "Emma", status=3, err=error)
                self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])

    def test_no_socket_is_left_open(self) -> None:
        """Neither a warning, nor a connection that the proxy still has."""
        api = LibraryAPI("localhost", self.port, "odoo-dev", "admin", "admin", scheme="https")
        for answer in (
            sends(),
            sends(b"HTTP/1.1 407 No\r\n\r\n"),
            sends(b"SSH-2.0-OpenSSH_9.2\r\n"),
            sends(b"HTTP/1.1 200 OK\r\n\r\nno TLS"),
        ):
            self.company.faults[""] = answer
            with (
                mock.patch.dict(os.environ, self.environ, clear=True),
                warnings.catch_warnings(record=True) as caught,
            ):
                warnings.simplefilter("always")
                self.assertRaises(ConnectError, api.version)
                gc.collect()
            self.assertEqual([str(warning.message) for warning in caught], [])
            deadline = time.monotonic() + SOON
            while self.company.open and time.monotonic() < deadline:
                time.sleep(0.005)
            self.assertEqual(self.company.open, set())
