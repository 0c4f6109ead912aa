"""https: whom the client trusts, and that its promises hold there too."""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
import unittest

from tests.proxy import Exchange, Proxy
from tests.standin import StandIn
from tests.support import CommandLineTestCase, enter_for_class

CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificates")
COMMANDS = (("list",), ("add", "Emma"), ("set", "1", "Emma"), ("del", "1"))


def tls(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(CERTIFICATES, f"{name}.pem"))
    return context


class TLSTests(CommandLineTestCase):
    standin: StandIn

    @classmethod
    def setUpClass(cls) -> None:
        cls.standin = enter_for_class(cls, StandIn())

    def setUp(self) -> None:
        super().setUp()
        self.environ["ODOO_PASSWORD"] = "admin"
        self.environ["SSL_CERT_FILE"] = os.path.join(CERTIFICATES, "authority.pem")

    def serve(self, certificate: str) -> Proxy:
        """A proxy with TLS in front of the stand-in, as the server of this test."""
        proxy = Proxy(self.standin.url, tls(certificate))
        proxy.__enter__()
        self.addCleanup(proxy.__exit__, None, None, None)
        self.environ["ODOO_URL"] = proxy.url
        return proxy

    def check_refused(self, certificate: str, reason: str) -> None:
        proxy = self.serve(certificate)
        pattern = (
            rf"\Alibrary\.py: error: cannot connect to {proxy.url}: "
            rf"its certificate is not trusted: .*{reason}.*\nlibrary\.py: hint: .*SSL_CERT_FILE\n\Z"
        )
        for argv in COMMANDS:
            with self.subTest(argv):
                self.check(*argv, status=3, err=re.compile(pattern))
        self.assertEqual(proxy.calls, [])  # no request, hence no password

    def test_a_private_authority(self) -> None:
        self.serve("good")
        self.check("add", "Emma", "-q", out=re.compile("^[0-9]+\n$"))
        self.check("list", "emma", "--limit", "1", out=re.compile("^[0-9]+ Emma\n$"))

    def test_an_unknown_authority(self) -> None:
        del self.environ["SSL_CERT_FILE"]
        self.check_refused("good", "unable to get local issuer")

    def test_a_self_signed_certificate(self) -> None:
        self.check_refused("self-signed", "self.signed")

    def test_an_expired_certificate(self) -> None:
        self.check_refused("expired", "expired")

    def test_a_certificate_of_another_host(self) -> None:
        self.check_refused("other-host", "'?127.0.0.1'?")

    def test_http_to_a_tls_port(self) -> None:
        proxy = self.serve("good")
        self.environ["ODOO_URL"] = proxy.url.replace("https", "http")
        self.check("list", status=3, err=re.compile("hint: .*https://"))

    def test_https_to_a_plain_port(self) -> None:
        self.environ["ODOO_URL"] = self.standin.url.replace("http", "https")
        self.environ["ODOO_TIMEOUT"] = "1"
        for argv in COMMANDS:
            self.check(*argv, status=3, err=re.compile("hint: .*http://"))

    def test_a_server_that_never_shakes_hands(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.environ["ODOO_URL"] = f"https://127.0.0.1:{listener.getsockname()[1]}"
            start = time.monotonic()
            self.check("list", "--timeout", "0.3", status=3, err=re.compile("timed out"))
            self.assertLess(time.monotonic() - start, 3)

    def test_a_trickling_server(self) -> None:
        proxy = self.serve("good")
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 900
        pieces = [reply[i : i + 1] for i in range(len(reply))]
        for method, argv, status in (("search_read", ("list",), 3), ("create", ("add", "Emma"), 4)):
            with proxy.answering(method, lambda exchange: exchange.send(*pieces, pause=0.02)):
                start = time.monotonic()
                self.check(*argv, "--timeout", "0.5", status=status, err=re.compile("timed out"))
                self.assertLess(time.monotonic() - start, 3)
            self.assertEqual(proxy.calls.count(method), 1)

    def test_a_connection_that_breaks_in_a_reply(self) -> None:
        def cut_off(exchange: Exchange) -> None:
            exchange.send(exchange.forward()[:-20])

        proxy = self.serve("good")
        for method, argv, status in (("search_read", ("list",), 3), ("create", ("add", "Emma"), 4)):
            with proxy.answering(method, cut_off):
                self.check(*argv, status=status, err=re.compile("no valid answer"))
            self.assertEqual(proxy.calls.count(method), 1)


if __name__ == "__main__":
    unittest.main()
