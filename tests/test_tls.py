"""https: whom the client trusts, and that its promises hold there too; and the Host of requests.

Real TLS on real sockets, with the certificates in the folder beside this file.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import library
from library_xmlrpc import ConnectError, LibraryAPI, LibraryError, UnknownOutcomeError
from tests.nginx import CERTIFICATES
from tests.proxy import Answer, Exchange, Proxy
from tests.replies import TRUE, http, sends, trickles
from tests.support import COMMANDS, CommandLineTestCase, StandInTestCase, enter

HOST = "127.0.0.1"
SOON = 20.0  # seconds: what takes longer waits for something
TIMEOUT = 1.0  # seconds, where the client waits in vain

# What a second line on standard error says to do.
IN_DOUBT = "the change may have been made: wait a little, then run it again with --skip-existing"
AUTHORITY = "if the certificate authority is private, set SSL_CERT_FILE to its certificate"

BAD_REQUEST = http(b"<html></html>", "400 Bad Request")
HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"  # an alert
HANDSHAKE = b"\x16\x03\x03\x40\x00"  # the header of a record, for 16 KiB
DATA = b"\x17\x03\x03\x40\x00"
CLOSES = sends()  # without TLS's close_notify


def beneath(answer: Answer, sent: bytes = b"") -> Answer:
    """An attacker without the key: after `sent` goes out with TLS, `answer` is added without it."""

    def answer_beneath(exchange: Exchange) -> None:
        exchange.send(sent)
        with socket.socket(fileno=socket.dup(exchange.client.fileno())) as client:
            answer(Exchange(client, ("", 0)))

    return answer_beneath


def server_context(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / certificate)
    return context


class TLSTestCase(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch("library_xmlrpc._recall_uid", lambda cache: 2))
        self.environ["SSL_CERT_FILE"] = str(CERTIFICATES / "authority.pem")
        self.environ["ODOO_TIMEOUT"] = str(SOON * 2)

    def start_proxy(self, certificate: str = "", host: str = HOST) -> Proxy:
        """A proxy as the server of this test; one without a certificate speaks no TLS."""
        context = server_context(certificate) if certificate else None
        proxy = enter(self, Proxy(self.standin.url, context))
        self.environ["ODOO_URL"] = f"https://{host}:{proxy.address[1]}"
        return proxy

    def check_failure(self, reason: str, hint: str = "", sent: bool = False) -> None:
        """A question and a change fail in time, for this reason, with this hint or none.

        After a change that was sent the hint is another one.
        """
        reason = reason.format(url=re.escape(self.environ["ODOO_URL"]))
        for method in ("search_read", "create"):
            unknown = sent and method == "create"
            lines = [f"error: {reason}", IN_DOUBT if unknown else hint]
            err = "".join(rf"library\.py: {line}\n" for line in lines if line)
            start = time.monotonic()
            with self.subTest(reason, method=method):
                status = 4 if unknown else 3
                self.check(*COMMANDS[method], status=status, err=re.compile(rf"\A{err}\Z"))
                self.assertLess(time.monotonic() - start, SOON)


class CertificateTests(TLSTestCase):
    def test_a_private_authority(self) -> None:
        for host in (HOST, "localhost"):
            self.start_proxy("good.pem", host=host)
            id = self.run_cli("add", host, "-q")[1].strip()
            self.check("list", host, out=f"{id} {host}\n")

    def test_an_untrusted_certificate(self) -> None:
        """Refused in the handshake: no request, hence no password, is sent."""
        known, unknown = self.environ["SSL_CERT_FILE"], os.path.join(self.home, "none")
        pems = [(CERTIFICATES / f"{name}.pem").read_bytes() for name in ("good", "authority")]
        chain = self.write_file(b"".join(pems))
        for certificate, authorities, reason, hint in (
            ("other-host.pem", known, "Hostname mismatch, .*'localhost'.*", ""),
            ("expired.pem", known, "certificate has expired", ""),
            ("good.pem", unknown, "unable to get local issuer certificate", AUTHORITY),
            (chain, unknown, "self.signed certificate in .*chain", AUTHORITY),
        ):
            proxy = self.start_proxy(certificate, host="localhost")
            self.environ["SSL_CERT_FILE"] = authorities
            self.check_failure(f"cannot connect to {{url}}: certificate .*: {reason}", hint)
            self.assertEqual(proxy.calls, [])


class FaultTests(TLSTestCase):
    def test_no_handshake(self) -> None:
        """No request is sent, so nothing was changed. (Odoo 19 closes the connection.)"""
        proxy = self.start_proxy()
        hellos: list[bytes] = []
        for answer, reason in (
            (CLOSES, "connection closed"),
            (Exchange.reset, "connection closed"),
            (sends(HANDSHAKE_FAILURE), ".*handshake failure"),
            (sends(BAD_REQUEST), "it does not speak TLS"),
            (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "it does not speak TLS"),
        ):

            def answer_hello(exchange: Exchange, answer: Answer = answer) -> None:
                hellos.append(exchange.client.recv(65536)[:1])
                answer(exchange)

            hellos.clear()
            proxy.faults[""] = answer_hello
            self.check_failure(f"cannot connect to {{url}}: {reason}")
            self.assertEqual(hellos, [HANDSHAKE[:1]] * 2)

    def test_after_the_handshake(self) -> None:
        reply, forged = http(TRUE), DATA[:3] + b"\x00\x40" + bytes(64)
        proxy = self.start_proxy("good.pem")
        for answer, reason in (
            (CLOSES, "connection closed"),
            (sends(reply[:-20]), "connection closed"),
            (beneath(Exchange.reset, reply[:-20]), "connection closed"),
            (beneath(sends(forged), reply[:-20]), ".+"),
        ):
            proxy.calls.clear()
            proxy.faults.update(dict.fromkeys(("search_read", "create"), answer))
            self.check_failure(f"no valid answer from {{url}}: {reason}", sent=True)
            self.assertEqual(proxy.calls, ["search_read", "create"])

    def test_waiting(self) -> None:
        """Each takes all of its time, however bytes trickle. So all wait at once, from Python."""
        record = trickles(HANDSHAKE + bytes(200), after=len(HANDSHAKE))
        data = trickles(DATA + bytes(200), after=len(DATA))
        cases: list[tuple[str, str, Answer, type[LibraryError]]] = [
            ("", "", Exchange.hold, ConnectError),
            ("", "", record, ConnectError),
            ("good.pem", "create", Exchange.hold, UnknownOutcomeError),
            ("good.pem", "create", trickles(http(TRUE), 20), UnknownOutcomeError),
            ("good.pem", "create", beneath(data), UnknownOutcomeError),
        ]

        def wait(number: int) -> tuple[LibraryError, float]:
            certificate, method, answer, _ = cases[number]
            context = server_context(certificate) if certificate else None
            with Proxy(self.standin.url, context) as proxy:
                proxy.faults[method] = answer
                login = ("odoo-dev", "admin", "admin")
                api = LibraryAPI(*proxy.address, *login, scheme="https", timeout=TIMEOUT)
                api._uid, start = 2, time.monotonic()
                with contextlib.closing(api), self.assertRaises(LibraryError) as caught:
                    api.create("Emma")
                return caught.exception, time.monotonic() - start

        environ = mock.patch.dict(os.environ, self.environ, clear=True)
        with environ, ThreadPoolExecutor(len(cases)) as pool:
            results = list(pool.map(wait, range(len(cases))))
        for (*case, kind), (error, seconds) in zip(cases, results):
            with self.subTest(case):
                self.assertIs(type(error), kind)
                self.assertRegex(str(error), r" https://\S+: .*timed out\Z")
                self.assertEqual(error.hint, "")
                self.assertTrue(TIMEOUT * 0.9 < seconds < TIMEOUT + SOON, seconds)

    def test_the_bound_on_connecting(self) -> None:
        self.start_proxy().faults[""] = Exchange.hold
        with mock.patch("library_xmlrpc.CONNECT_SECONDS", 0.2):
            self.check_failure("cannot connect to {url}: timed out")


class HostTests(TLSTestCase):
    """The header by which a web server finds out which of its servers is meant."""

    def test_the_host(self) -> None:
        """The port is left out if it is the default. All hosts lead to the proxies here."""
        hosts: list[bytes] = []

        def answer(exchange: Exchange) -> None:
            hosts.extend(re.findall(rb"(?i)\r\nHost: *(.*)\r\n", exchange.request))
            exchange.pass_on()

        proxies = {"http": self.proxy, "https": self.start_proxy("good.pem")}
        look_up = socket.getaddrinfo
        for url, expected in (
            ("http://odoo.example", "odoo.example"),
            ("http://odoo.example:443", "odoo.example:443"),
            ("http://odoo.example:8069", "odoo.example:8069"),
            ("http://127.0.0.1:80/web", "127.0.0.1"),
            ("http://[::1]:8069", "[::1]:8069"),
            ("https://LOCALHOST", "localhost"),
            ("https://localhost:80", "localhost:80"),
            ("https://localhost:8443", "localhost:8443"),
            ("https://127.0.0.1", "127.0.0.1"),
        ):
            scheme, host, port = library.parse_url(url, "")
            proxy = proxies[scheme]

            def find(host: Any, port: Any, *rest: Any, proxy: Proxy = proxy) -> Any:
                is_client = isinstance(host, bytes)
                return look_up(*(proxy.address if is_client else (host, port)), *rest)

            hosts.clear()
            with (
                self.subTest(url),
                mock.patch.dict(os.environ, self.environ, clear=True),
                mock.patch("socket.getaddrinfo", find),
                proxy.answering("version", answer),
            ):
                api = LibraryAPI(host, port, "odoo-dev", "admin", "admin", scheme=scheme)
                api.version()
                api.close()
                self.assertEqual(hosts, [expected.encode()])

    def test_addresses_of_ipv6(self) -> None:
        try:
            proxy = enter(self, Proxy(self.standin.url, address=("::1", 0)))
        except OSError as error:
            self.skipTest(str(error))
        self.environ["ODOO_URL"] = f"http://[::1]:{proxy.address[1]}"
        self.check("list", "no such book")
