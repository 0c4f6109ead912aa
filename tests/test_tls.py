"""https: whom the client trusts, and that its promises hold there too; and the Host of requests.

Real TLS on real sockets, with the certificates in the folder beside this file. What servers do when
they get the wrong scheme is what nginx, HAProxy, stunnel, Node, Java and Odoo were seen to do.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import ssl
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable
from unittest import mock

import library
from library_xmlrpc import ConnectError, LibraryAPI, LibraryError, UnknownOutcomeError
from tests.proxy import Answer, Exchange, Proxy
from tests.replies import TRUE, http, sends, trickles
from tests.support import COMMANDS, CommandLineTestCase, StandInTestCase, enter

HOST = "127.0.0.1"
SOON = 20.0  # seconds: what takes longer waits for something
TIMEOUT = 1.5  # seconds, where the client waits in vain

CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificates")

# What a second line on standard error says to do.
SKIP = "the book may have been added: .*run it again with --skip-existing"
WAIT = "see whether it is up, or too busy"
CHECK_URL = "check the URL; .*"
AUTHORITY = "for a private authority, name the file of its certificate in SSL_CERT_FILE"

BAD_REQUEST = http(b"<html></html>", "400 Bad Request")
HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"  # an alert
PROTOCOL_VERSION = b"\x15\x03\x01\x00\x02\x02\x46"  # another one
CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"
HANDSHAKE = b"\x16\x03\x03\x40\x00"  # the header of a record, for 16 KiB
DATA = b"\x17\x03\x03\x40\x00"
# The ServerHello of one that knows no version but 1.0.
OLD_HELLO = b"\x16\x03\x01\0\x31\x02\0\0\x2d\x03\x01" + bytes(32) + b"\0\0\x2f\0"
OLD_HELLO += b"\0\x05\xff\x01\0\x01\0"  # with secure renegotiation, without which 3.0 refuses it
CLOSES = sends()  # without the close_notify that says it was no one in between


def beneath(answer: Answer, sent: bytes = b"") -> Answer:
    """What someone in between can add, who has no key, after `sent` was sent with TLS."""

    def answer_beneath(exchange: Exchange) -> None:
        exchange.send(sent)
        with socket.socket(fileno=os.dup(exchange.client.fileno())) as client:
            answer(Exchange(client, ("", 0)))

    return answer_beneath


def server_context(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(CERTIFICATES, f"{certificate}.pem"))
    return context


class TLSTestCase(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch("library_xmlrpc._recall_uid", lambda cache: 2))
        self.environ["SSL_CERT_FILE"] = os.path.join(CERTIFICATES, "authority.pem")
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
            lines = [f"error: {reason}", SKIP if unknown else hint]
            err = "".join(rf"library\.py: {line}\n" for line in lines if line)
            start = time.monotonic()
            with self.subTest(reason, method=method):
                status = 4 if unknown else 3
                self.check(*COMMANDS[method], status=status, err=re.compile(rf"\A{err}\Z"))
                self.assertLess(time.monotonic() - start, SOON)


class CertificateTests(TLSTestCase):
    def test_a_private_authority(self) -> None:
        for host in (HOST, "localhost"):
            self.start_proxy("good", host=host)
            id = self.run_cli("add", host, "-q")[1].strip()
            self.check("list", host, out=f"{id} {host}\n")

    def test_an_untrusted_certificate(self) -> None:
        """Refused in the handshake: no request, hence no password, is sent."""
        with open(os.path.join(CERTIFICATES, "authority.pem"), "rb") as file:
            authority = file.read()
        with open(os.path.join(CERTIFICATES, "good.pem"), "rb") as file:
            chain = file.read() + authority
        known, unknown = self.environ["SSL_CERT_FILE"], os.path.join(self.home, "none")
        for certificate, authorities, reason, hint in (
            ("other-host.pem", known, "Hostname mismatch, .*'localhost'.*", ""),
            ("expired.pem", known, "certificate has expired", ""),
            ("good.pem", unknown, "unable to get local issuer certificate", AUTHORITY),
            (self.write_file(chain), unknown, "self.signed certificate in .*chain", AUTHORITY),
        ):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(os.path.join(CERTIFICATES, certificate))
            proxy = enter(self, Proxy(self.standin.url, context))
            self.environ["ODOO_URL"] = f"https://localhost:{proxy.address[1]}"
            self.environ["SSL_CERT_FILE"] = authorities
            error = f"cannot connect to {{url}}: untrusted certificate: {reason}"
            self.check_failure(error, hint)
            self.assertEqual(proxy.calls, [])

    def test_a_demand_for_a_clients_certificate(self) -> None:
        """The server says so when the handshake is over for the client, and reads no request."""
        context = server_context("good")
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3

        def demand(exchange: Exchange) -> None:
            with socket.socket(fileno=os.dup(exchange.client.fileno())) as client:
                with contextlib.suppress(ssl.SSLError):
                    context.wrap_socket(exchange.client, server_side=True)
                Exchange(client, ("", 0)).hold()

        self.start_proxy().faults[""] = demand
        reason = "it asks for a client's certificate, and gets none"
        self.check_failure(f"no valid answer from {{url}}: {reason}", sent=True)

    def test_a_file_for_keys_that_cannot_be_written(self) -> None:
        path = os.path.join(self.home, "no folder", "keys")
        self.start_proxy("good")
        self.environ["SSLKEYLOGFILE"] = path
        self.check_failure(f"cannot connect to {{url}}: .*{path}.*")


class FaultTests(TLSTestCase):
    def test_no_handshake(self) -> None:
        """It does not come to a request, so nothing was changed. (Odoo 19 closes.)"""
        proxy = self.start_proxy()
        hellos: list[bytes] = []
        no_tls, old_tls = "what came is no TLS", "it speaks no TLS of version 1.2 or later"
        for answer, reason, hint in (
            (CLOSES, "connection closed", ""),
            (sends(CLOSE_NOTIFY), "connection closed", ""),
            (Exchange.reset, "connection closed", ""),
            (sends(HANDSHAKE_FAILURE), r"TLS failed \(.*HANDSHAKE_FAILURE\)", ""),
            (sends(PROTOCOL_VERSION), old_tls, ""),
            (sends(OLD_HELLO), f"({old_tls}|connection closed)", ""),  # Python 3.9 accepts it
            (sends(BAD_REQUEST), no_tls, ""),
            (sends(b"<!DOCTYPE HTML>\n<html>"), no_tls, ""),
            (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), no_tls, ""),
        ):

            def answer_hello(exchange: Exchange, answer: Answer = answer) -> None:
                hellos.append(exchange.client.recv(65536)[:1])
                answer(exchange)

            hellos.clear()
            proxy.faults[""] = answer_hello
            self.check_failure(f"cannot connect to {{url}}: {reason}", hint)
            self.assertEqual(hellos, [HANDSHAKE[:1]] * 2)

    def test_reset_before_it_begins(self) -> None:
        """Python may give a dead socket without TLS here, or forget one (CVE-2023-40217)."""
        self.start_proxy().faults[""] = Exchange.reset
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self.check_failure(r"cannot (connect|send) to .*(\n.*)*")
            gc.collect()  # what Python has forgotten, before another test sees the warning

    def test_after_the_handshake(self) -> None:
        reply, failed = http(TRUE), r"TLS failed \(.+\)"
        no_tls = "what came is no TLS"
        no_length = re.sub(rb"Content-Length: .*\r\n", b"", reply)
        forged = DATA[:3] + b"\x00\x40" + bytes(64)
        proxy = self.start_proxy("good")
        for name, answer, reason, hint in (
            ("closed before the reply", CLOSES, "connection closed", ""),
            ("closed in the first line", sends(reply[:7]), "not HTTP", ""),
            ("closed in the headers", sends(reply[:30]), "not XML-RPC", CHECK_URL),
            ("closed in the body", sends(reply[:-20]), "connection closed", ""),
            ("closed in a body without a length", sends(no_length[:-10]), "not XML-RPC", CHECK_URL),
            ("reset", beneath(Exchange.reset, reply[:-20]), "connection closed", ""),
            ("forged data", beneath(sends(forged), reply[:-20]), failed, ""),
            ("forged alert", beneath(sends(HANDSHAKE_FAILURE), reply[:-20]), failed, ""),
            # The reason depends on OpenSSL's version, and so does the hint after a question.
            ("forged HTTP", beneath(sends(reply), reply[:-20]), rf"({failed}|{no_tls})", ""),
        ):
            proxy.calls.clear()
            proxy.faults.update(dict.fromkeys(("search_read", "create"), answer))
            with self.subTest(name):
                self.check_failure(f"no valid answer from {{url}}: {reason}", hint, sent=True)
                self.assertEqual(proxy.calls, ["search_read", "create"])

    def test_a_redirection(self) -> None:
        """Where it is https already, a redirection to https is no reason for a hint."""
        location = f"https://{HOST}/web"
        reply = sends(http(b"", "302 Found", (f"Location: {location}",)))
        self.start_proxy("good").faults.update(search_read=reply, create=reply)
        self.check_failure(f"{{url}} answers HTTP 302 Found: {location}")

    def test_waiting(self) -> None:
        """In each other's company, hence from Python: each takes all of its time."""
        reply, unread = http(TRUE), ["x" * 3000] * 7000
        Call = Callable[[LibraryAPI], Any]
        ask: Call = lambda api: api.search_read()  # noqa: E731
        add: Call = lambda api: api.create("Emma")  # noqa: E731
        add_many: Call = lambda api: api.create_many(unread)  # noqa: E731
        cannot_connect, cannot_send = "cannot connect to", "cannot send to"
        lost = "no valid answer from"
        record = trickles(HANDSHAKE + bytes(200), after=len(HANDSHAKE))
        data = trickles(DATA + bytes(200), after=len(DATA))
        cases: list[tuple[str, str, Answer, str, Call, type[LibraryError]]] = [
            ("", "", Exchange.hold, cannot_connect, ask, ConnectError),
            ("", "", Exchange.hold, cannot_connect, add, ConnectError),
            ("", "", record, cannot_connect, add, ConnectError),
            ("good", "", lambda _: time.sleep(2 * TIMEOUT), cannot_send, add_many, ConnectError),
        ]
        for answer in (Exchange.hold, trickles(reply, 5), trickles(reply, 20), beneath(data)):
            cases.append(("good", "search_read", answer, lost, ask, ConnectError))
            cases.append(("good", "create", answer, lost, add, UnknownOutcomeError))

        def wait(number: int) -> tuple[LibraryError, float]:
            certificate, method, answer, _, call, _ = cases[number]
            context = server_context(certificate) if certificate else None
            with Proxy(self.standin.url, context) as proxy:
                proxy.faults[method] = answer
                api = LibraryAPI(*proxy.address, *["odoo-dev", "admin", "admin"], scheme="https")
                api._uid, api._transport.timeout = 2, TIMEOUT
                start = time.monotonic()
                try:
                    call(api)
                    raise AssertionError(cases[number])
                except LibraryError as error:
                    return error, time.monotonic() - start
                finally:
                    api.close()

        with (
            mock.patch.dict(os.environ, self.environ, clear=True),
            ThreadPoolExecutor(len(cases)) as pool,
        ):
            results = list(pool.map(wait, range(len(cases))))
        for case, (error, seconds) in zip(cases, results):
            with self.subTest(case):
                self.assertIs(type(error), case[5])
                self.assertRegex(str(error), rf"\A{case[3]} https://\S+: timed out\Z")
                self.assertEqual(error.hint, WAIT)
                self.assertTrue(TIMEOUT * 0.9 < seconds < TIMEOUT + SOON, seconds)

    def test_the_bound_on_connecting(self) -> None:
        self.start_proxy().faults[""] = Exchange.hold
        with mock.patch("library_xmlrpc.CONNECT_SECONDS", 0.2):
            self.check_failure("cannot connect to {url}: timed out", WAIT)


class PlainHTTPTests(StandInTestCase):
    """http:// where the server speaks TLS, and what looks like it and is not."""

    def new_api(self, proxy: Proxy) -> LibraryAPI:
        api = LibraryAPI(*proxy.address, "odoo-dev", "admin", "admin", timeout=SOON)
        self.addCleanup(api.close)
        return api

    def test_answers_of_a_tls_server(self) -> None:
        """Only a refusal says that a change was not made."""
        lost = "no valid answer from {url}: "
        closed = f"{lost}connection closed"
        for answer, error, reason, hint in (
            (sends(HANDSHAKE_FAILURE), UnknownOutcomeError, f"{lost}not HTTP", ""),
            (sends(BAD_REQUEST), ConnectError, "{url} answers HTTP 400 Bad Request", CHECK_URL),
            (CLOSES, UnknownOutcomeError, closed, ""),
            (Exchange.reset, UnknownOutcomeError, closed, ""),
        ):
            for method, kind in (("create", error), ("search_read", ConnectError)):
                api = self.new_api(self.proxy)
                api._uid = 2
                with (
                    self.subTest(reason, method=method),
                    self.proxy.answering(method, answer),
                    self.assertRaises(LibraryError) as caught,
                ):
                    getattr(api, method)("Emma")
                self.assertIs(type(caught.exception), kind)
                self.assertEqual(str(caught.exception), reason.format(url=api.url))
                self.assertRegex(caught.exception.hint, rf"\A{hint}\Z")

    def test_closed_before_the_request_is_out(self) -> None:
        def refuse(exchange: Exchange) -> None:
            exchange.client.recv(1)
            exchange.reset()

        proxy = enter(self, Proxy(self.standin.url))
        proxy.faults[""] = refuse
        api = self.new_api(proxy)
        api._uid = 2
        with self.assertRaisesRegex(ConnectError, "cannot send to .*: connection closed"):
            api.create_many(["x" * 3000] * 7000)

    def test_a_real_tls_server(self) -> None:
        """It closes, before the request is out or after."""
        proxy = enter(self, Proxy(self.standin.url, server_context("good")))
        with self.assertRaisesRegex(ConnectError, ": connection closed"):
            self.new_api(proxy).create("Emma")  # which begins with a login


class HostTests(TLSTestCase):
    """The header by which a web server finds out which of its servers is meant."""

    def check_host(self, url: str, expected: str, proxy: Proxy) -> None:
        """A request has this Host, and the certificate of this host is asked for."""
        hosts: list[bytes] = []

        def answer(exchange: Exchange) -> None:
            hosts.extend(re.findall(rb"(?i)\r\nHost: *(.*)\r\n", exchange.request))
            exchange.pass_on()

        scheme, host, port = library.parse_url(url, "")
        with mock.patch.dict(os.environ, self.environ, clear=True):
            api = LibraryAPI(host, port, "odoo-dev", "admin", "admin", scheme=scheme)
            if ":" in host:  # no certificate is for that
                api._transport._tls.check_hostname = False
            with self.subTest(url), proxy.answering("version", answer):
                api.version()
                self.assertEqual(hosts, [expected.encode()])
            api.close()

    def test_the_host(self) -> None:
        """Where it leads is left out here, so that no port and no name is needed."""
        names: list[str | None] = []
        context = server_context("good")
        context.sni_callback = lambda sock, name, context: names.append(name)
        proxies = {
            "http": enter(self, Proxy(self.standin.url)),
            "https": enter(self, Proxy(self.standin.url, context)),
        }
        look_up, looked_up = socket.getaddrinfo, []
        for url, expected in (
            ("http://odoo.example", "odoo.example"),
            ("http://odoo.example:80", "odoo.example"),
            ("http://odoo.example:443", "odoo.example:443"),
            ("http://odoo.example:8069", "odoo.example:8069"),
            ("http://odoo.example.", "odoo.example"),
            ("http://127.0.0.1:80/web", "127.0.0.1"),
            ("http://[::1]", "[::1]"),
            ("http://[::1]:8069", "[::1]:8069"),
            ("http://[fe80::1%eth0]:8069", "[fe80::1]:8069"),
            ("https://LOCALHOST", "localhost"),
            ("https://localhost:443", "localhost"),
            ("https://localhost:80", "localhost:80"),
            ("https://localhost:8443", "localhost:8443"),
            ("https://localhost.", "localhost"),
            ("https://localhost.:8443", "localhost:8443"),
            ("https://127.0.0.1", "127.0.0.1"),
            ("https://[::1]", "[::1]"),
            ("https://[fe80::1%2]:8443", "[fe80::1]:8443"),
        ):
            proxy = proxies[url.partition(":")[0]]

            def answer(host: Any, port: Any, *rest: Any, proxy: Proxy = proxy, **more: Any) -> Any:
                if isinstance(host, bytes):  # it is the client that asks
                    looked_up.append((host.decode(), port))
                    host, port = proxy.address
                return look_up(host, port, *rest, **more)

            looked_up.clear()
            names.clear()
            with mock.patch("socket.getaddrinfo", answer):
                self.check_host(url, expected, proxy)
            # With the final dot and the zone, and once.
            self.assertEqual(looked_up, [library.parse_url(url, "")[1:]])
            # An address is asked for without its name.
            name = "localhost" if "localhost" in expected else None
            self.assertEqual(names, [name] if url.startswith("https:") else [])

    def test_the_default_ports(self) -> None:
        for scheme, port, context in (("http", 80, None), ("https", 443, server_context("good"))):
            with self.subTest(scheme):
                try:
                    proxy = enter(self, Proxy(self.standin.url, context, (HOST, port)))
                except OSError as error:  # that takes root, and no other server there
                    self.skipTest(str(error))
                self.check_host(f"{scheme}://{HOST}", HOST, proxy)

    def test_addresses_of_ipv6(self) -> None:
        try:
            proxy = enter(self, Proxy(self.standin.url, address=("::1", 0)))
        except OSError as error:
            self.skipTest(str(error))
        port = proxy.address[1]
        for host in ("::1", "::1%1"):
            self.check_host(f"http://[{host}]:{port}", f"[::1]:{port}", proxy)
