"""https through a company's proxy, which the environment names; and http, which goes direct."""

from __future__ import annotations

import os
import re
import time
from unittest import mock

from library_xmlrpc import LibraryAPI
from tests.nginx import CERTIFICATES
from tests.proxy import CompanyProxy, Exchange, Proxy
from tests.replies import raw, sends
from tests.support import CommandLineTestCase, StandInTestCase, enter, unused_port
from tests.test_tls import server_context

TIMEOUT = 0.2  # seconds, where the client waits in vain to be connected
SOON = 20.0  # seconds: what takes longer waits for something


class CompanyProxyTests(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch("library_xmlrpc._recall_uid", lambda cache: 2))
        self.server = enter(self, Proxy(self.standin.url, server_context("good.pem")))
        self.port = self.server.address[1]
        self.company = CompanyProxy()
        enter(self, self.company)
        self.address = f"127.0.0.1:{self.company.address[1]}"
        self.environ.update(
            ODOO_URL=f"https://localhost:{self.port}",
            SSL_CERT_FILE=str(CERTIFICATES / "authority.pem"),
            https_proxy=f"http://{self.address}",
        )

    def check_connected(self, through: bool = True) -> None:
        """A list works, through the proxy or not."""
        self.company.requests.clear()
        self.check("list", "no such book")
        self.assertEqual(len(self.company.requests), through)

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

    def test_which_way_it_goes(self) -> None:
        proxy, nobody = self.environ.pop("https_proxy"), f"http://127.0.0.1:{unused_port()}"
        variables: tuple[tuple[dict[str, str], bool], ...] = (
            ({}, False),
            ({"https_proxy": proxy}, True),
            ({"HTTPS_PROXY": f"{proxy}/"}, True),
            ({"HTTPS_PROXY": nobody, "https_proxy": self.address}, True),  # one on Windows
            ({"https_proxy": "", "http_proxy": nobody, "all_proxy": nobody}, False),
            ({"https_proxy": proxy, "no_proxy": "*"}, False),
            ({"https_proxy": proxy, "NO_PROXY": "odoo.example, localhost"}, False),
            ({"https_proxy": proxy, "no_proxy": "localhost:1,127.0.0.1"}, True),
            ({"https_proxy": proxy, "http_proxy": proxy, "ODOO_URL": self.proxy.url}, False),
        )
        for environ, through in variables:
            with self.subTest(environ), mock.patch.dict(self.environ, environ):
                self.check_connected(through)

    def test_a_login_to_the_proxy(self) -> None:
        for text, login in (
            ("eva:hunter2", b"eva:hunter2"),
            ("eva%40x:p%3A%2F%20w%C3%A9", b"eva@x:p:/ w\xc3\xa9"),
            ("eva:p@ss#r?d:x:é", "eva:p@ss#r?d:x:é".encode()),
        ):
            self.company.login = login
            self.environ["https_proxy"] = f"http://{text}@{self.address}"
            with self.subTest(text):
                self.check_connected()

    def test_the_client_checks_the_servers_certificate(self) -> None:
        """The proxy looks its name up."""
        self.environ["ODOO_URL"] = f"https://other.example:{self.port}"
        self.check_failure(self.address, "certificate verify failed: Hostname mismatch, .*")

    def test_the_host_header(self) -> None:
        """The server gets it as without a proxy; the proxy gets the port."""
        hosts: list[bytes] = []

        def connect(exchange: Exchange) -> None:
            """Connect with the server of this test, whatever the port."""
            exchange.request = re.sub(rb":[0-9]+ ", b":%d " % self.port, exchange.request, count=1)
            self.company.connect(exchange)

        def answer(exchange: Exchange) -> None:
            hosts.extend(re.findall(rb"(?i)\r\nHost: *(.*)\r\n", exchange.request))
            exchange.pass_on()

        self.company.faults[""] = connect
        self.server.faults["search_read"] = answer
        for port in (443, 80):
            self.environ["ODOO_URL"] = f"https://localhost:{port}"
            self.check_connected()
            self.assertTrue(self.company.requests[0].startswith(b"CONNECT localhost:%d " % port))
        self.assertEqual(hosts, [b"localhost", b"localhost:80"])

    def check_failure(self, proxy: str, reason: str, hint: str = "") -> None:
        """A question and a change fail in time, and nothing tells the login to the proxy."""
        self.environ["https_proxy"] = f"http://eva:hunter2@{proxy}"
        url = self.environ["ODOO_URL"]
        error = f"cannot connect through https_proxy, {re.escape(proxy)}, to {url}: {reason}"
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
        start, check = "check that it runs at this port", "check the name and the network"
        self.check_failure(f"127.0.0.1:{unused_port()}", "connection refused", start)
        unknown = "the host's name can't be looked up"
        self.check_failure("no-such-host.invalid:80", unknown, check)
        self.environ["https_proxy"] = "127.0.0.2"
        self.check("list", status=3, err=re.compile(r" https_proxy, 127\.0\.0\.2:80, to "))

    def test_a_proxy_that_refuses_or_misbehaves(self) -> None:
        refusal = raw("HTTP/1.1 407 \x1b[31mNo\nContent-Length: 999", b"<html>")
        for answer, reason in (
            (sends(refusal), r"Tunnel connection failed: 407 \\x1b\[31mNo"),
            (sends(), "connection closed"),
            (Exchange.reset, "connection closed"),
            (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP"),
        ):
            self.company.faults[""] = answer
            self.check_failure(self.address, reason)
        self.company.faults[""] = Exchange.hold
        with mock.patch("library_xmlrpc.CONNECT_SECONDS", TIMEOUT):
            self.check_failure(self.address, "timed out")

    def test_variables_that_name_no_proxy(self) -> None:
        for value in (
            "http://",
            "http://eva:hunter2",
            "http://eva:hunter2@proxy.example:port",
            "http://eva:hunter2@proxy.example:3128/path",
            "https://eva:hunter2@127.0.0.1:3128",
            "socks5h://eva:hunter2@127.0.0.1:3128",
        ):
            self.environ["https_proxy"] = value
            reason = "https_proxy must be like http://proxy.example:3128"
            error = f"cannot connect to {self.environ['ODOO_URL']}: {reason}"
            with self.subTest(value):
                self.check("add", "Emma", status=3, err=f"library.py: error: {error}\n")
                self.assertNotIn("hunter2", self.run_cli("list", "--debug")[2])
