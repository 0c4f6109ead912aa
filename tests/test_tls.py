"""https: whom the client trusts, and that its promises hold there too.

Real TLS on real sockets, with the certificates in the folder beside this file. What servers do when
they get the wrong scheme is what nginx, HAProxy, stunnel, Node, Java and Odoo were seen to do.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import threading
import time
import unittest
from collections.abc import Iterator
from unittest import mock

from library_xmlrpc import ConnectError, LibraryAPI
from tests.proxy import Answer, Exchange, Proxy, stop_listening
from tests.replies import BOOK_1, TRUE, http, sends, trickles
from tests.support import CHANGES, COMMANDS, CommandLineTestCase, StandInTestCase, enter

TIMEOUT = 0.2  # seconds
SLACK = 2.0  # seconds that a busy machine may add

CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificates")

# What a second line on standard error says to do.
LOOK = "wait a little, then check with list .+"
USE_HTTP = "if the server speaks plain HTTP, use http://"
NAME_AUTHORITY = (
    "for a private authority, SSL_CERT_FILE has to name a file that holds its certificate"
)

BAD_REQUEST = http(b"<html></html>", "400 Bad Request")
HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"  # an alert
CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"
HANDSHAKE = b"\x16\x03\x03\x40\x00"  # the header of a record, for 16 KiB
DATA = b"\x17\x03\x03\x40\x00"


def tls(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(CERTIFICATES, f"{certificate}.pem"))
    return context


def beneath(answer: Answer) -> Answer:
    """The same on the TCP connection that one with TLS has beneath."""

    def answer_beneath(exchange: Exchange) -> None:
        with socket.socket(fileno=os.dup(exchange.client.fileno())) as client:
            answer(Exchange(client, ("", 0)))

    return answer_beneath


class TLSTestCase(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.uid_cache = os.path.join(self.home, "uid")
        self.backend = lambda *login, **settings: LibraryAPI(
            *login, **{**settings, "uid_cache": self.uid_cache}
        )
        self.environ["SSL_CERT_FILE"] = os.path.join(CERTIFICATES, "authority.pem")

    def commands(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each command and the call it is for. Only for "authenticate" is the uid to be asked."""
        for method, argv in COMMANDS.items():
            with open(self.uid_cache, "w") as file:
                file.write("" if method == "authenticate" else "2")
            yield method, argv

    def start_proxy(self, context: ssl.SSLContext | None) -> Proxy:
        """A proxy as the server of this test. Book 1 exists, whatever became of it before."""
        proxy = enter(self, Proxy(self.standin.url, context))
        proxy.faults["search"] = sends(BOOK_1)
        self.environ["ODOO_URL"] = proxy.url
        return proxy

    def serve(self, answer: Answer) -> None:
        """Be a server that answers one connection after the other, without TLS of its own."""
        listener = socket.create_server(("127.0.0.1", 0))

        def accept() -> None:
            with contextlib.suppress(OSError):  # of the listener, when it is closed
                while True:
                    client, _ = listener.accept()
                    with client:
                        answer(Exchange(client, ("", 0)))

        threading.Thread(target=accept, daemon=True).start()
        self.addCleanup(stop_listening, listener)
        self.environ["ODOO_URL"] = f"https://127.0.0.1:{listener.getsockname()[1]}"

    def check_error(self, argv: tuple[str, ...], status: int, reason: str, hint: str = "") -> None:
        """The command fails in time, for this reason, and says so and this hint, or none."""
        url = re.escape(self.environ["ODOO_URL"])
        if status == 3 and reason.endswith("timed out"):
            hint = r"is it up\? a longer timeout may help"
        elif status == 3 and reason.endswith("not XML-RPC"):
            hint = r"is that an Odoo server\? from Odoo 22 on there is no XML-RPC"
        lines = [rf"library\.py: error: {reason.format(url=url)}"]
        if hint:
            lines.append(rf"library\.py: {hint}")
        start = time.monotonic()
        with self.subTest(argv=argv):
            self.check(*argv, status=status, err=re.compile(r"\A" + "\n".join(lines) + r"\n\Z"))
            self.assertLess(time.monotonic() - start, 2 * TIMEOUT + SLACK)

    def check_faults(
        self,
        answers: dict[str, tuple[Answer, str]],
        methods: tuple[str, ...] = tuple(COMMANDS),
        certificate: str = "good",
    ) -> None:
        """The commands for these methods fail when they get these answers, for these reasons."""
        proxy = self.start_proxy(tls(certificate) if certificate else None)
        for name, (answer, reason) in answers.items():
            for method, argv in self.commands():
                if method not in methods:
                    continue
                status, hint = (4, LOOK) if method in CHANGES else (3, "")
                with self.subTest(name), proxy.answering(method, answer):
                    self.check_error(argv, status, f"no valid answer from {{url}}: {reason}", hint)
                    self.assertEqual(proxy.calls.count(method), 1, proxy.calls)


class TrustTests(TLSTestCase):
    def check_untrusted(
        self, certificate: str, reason: str, hint: str = "", host: str = "127.0.0.1"
    ) -> None:
        """Refused in the handshake: no request, hence no password, is sent."""
        proxy = self.start_proxy(tls(certificate))
        self.environ["ODOO_URL"] = proxy.url.replace("127.0.0.1", host)
        untrusted = "cannot connect to {url}: untrusted certificate: "
        for _, argv in self.commands():
            self.check_error(argv, 3, untrusted + reason, hint)
        self.assertEqual(proxy.calls, [])

    def test_a_private_authority(self) -> None:
        proxy = self.start_proxy(tls("good"))
        proxy.faults.clear()
        for host in ("127.0.0.1", "localhost"):
            with self.subTest(host):
                self.environ["ODOO_URL"] = proxy.url.replace("127.0.0.1", host)
                id = self.run_cli("add", "Emma", "-q")[1].strip()
                self.check("list", "emma", out=f"{id} Emma\n")
                self.check("set", id, "Evelina", out=f"Title of Book ID {id} set to Evelina.\n")
                self.check("list", out=f"{id} Evelina\n")
                self.check("del", id, out=f"Book with ID {id} was deleted.\n")
                self.check("list")

    def test_an_unknown_authority(self) -> None:
        del self.environ["SSL_CERT_FILE"]
        self.check_untrusted("good", "unable to get local issuer certificate", NAME_AUTHORITY)

    def test_an_untrusted_certificate(self) -> None:
        self.check_untrusted("self-signed", "self.signed certificate", NAME_AUTHORITY)
        self.check_untrusted("expired", "certificate has expired", NAME_AUTHORITY)
        mismatch = "IP address mismatch, .*'127.0.0.1'.*"
        self.check_untrusted("other-host", mismatch, NAME_AUTHORITY)
        mismatch = "Hostname mismatch, .*'localhost'.*"
        self.check_untrusted("other-host", mismatch, NAME_AUTHORITY, host="localhost")


class WrongSchemeTests(TLSTestCase):
    def test_http_to_tls(self) -> None:
        proxy = self.start_proxy(tls("good"))
        self.environ["ODOO_URL"] = proxy.url.replace("https", "http")
        for argv in COMMANDS.values():  # each begins with a question: no uid is remembered
            reason = "(no valid answer from|cannot send to) {url}: (connection closed|not XML-RPC)"
            self.check_error(argv, 3, reason)
        self.assertEqual(proxy.calls, [])

    def test_what_servers_with_tls_do_when_they_get_http(self) -> None:
        answers: dict[str, tuple[Answer, str]] = {
            "close": (lambda exchange: None, "connection closed"),
            "reset": (Exchange.reset, "connection closed"),
            "send an alert": (sends(HANDSHAKE_FAILURE), "not XML-RPC"),
        }
        self.check_faults(answers, certificate="")

    def test_https_to_http(self) -> None:
        self.standin.requests.clear()
        self.environ["ODOO_URL"] = self.standin.url.replace("http", "https")
        for _, argv in self.commands():
            reason = r"cannot connect to {url}: TLS failed \(WRONG_VERSION_NUMBER\)"
            self.check_error(argv, 3, reason, USE_HTTP)
        self.assertEqual(self.standin.requests, [])


class HandshakeTests(TLSTestCase):
    """Servers with which it does not come to a request, so nothing was changed."""

    def check_no_handshake(self, answer: Answer, reason: str, hint: str = "") -> None:
        begun = []

        def answer_hello(exchange: Exchange) -> None:
            begun.append(exchange.client.recv(65536)[:1])
            answer(exchange)

        self.serve(answer_hello)
        for _, argv in self.commands():
            self.check_error(argv, 3, f"cannot connect to {{url}}: {reason}", hint)
        self.assertEqual(begun, [HANDSHAKE[:1]] * len(COMMANDS))

    def test_silent_or_trickling(self) -> None:
        self.environ["ODOO_TIMEOUT"] = str(TIMEOUT)
        self.check_no_handshake(Exchange.hold, "timed out")
        answer = trickles(HANDSHAKE + bytes(200), after=len(HANDSHAKE))
        self.check_no_handshake(answer, "timed out")

    def test_closed(self) -> None:
        """As Odoo 19 does without TLS."""
        for answer in (lambda exchange: None, sends(CLOSE_NOTIFY), Exchange.reset):
            self.check_no_handshake(answer, "connection closed")

    def test_another_protocol(self) -> None:
        """With a server that speaks an old version of TLS alone, http:// is no help."""
        self.check_no_handshake(sends(HANDSHAKE_FAILURE), r"TLS failed \(.*HANDSHAKE_FAILURE\)")
        for greeting in (BAD_REQUEST, b"<!DOCTYPE HTML>\n<html>", b"SSH-2.0-OpenSSH_9.2\r\n"):
            reason = r"TLS failed \(WRONG_VERSION_NUMBER\)"
            self.check_no_handshake(sends(greeting), reason, USE_HTTP)

    def test_the_bound_on_connecting(self) -> None:
        self.serve(Exchange.hold)
        with mock.patch("library_xmlrpc.CONNECT_SECONDS", TIMEOUT):
            self.check_error(("list",), 3, "cannot connect to {url}: timed out")

    def test_reset_before_it_begins(self) -> None:
        """Python may give a dead socket without TLS here, or forget one (CVE-2023-40217)."""
        self.serve(Exchange.reset)
        for _, argv in self.commands():
            error = re.compile(r"\Alibrary\.py: error: cannot (connect|send) to .*\n")
            self.check(*argv, status=3, err=error)


class FaultTests(TLSTestCase):
    """Servers that misbehave after the handshake."""

    def test_closed(self) -> None:
        """Without the close_notify that says it was no one in between."""

        def by_a_reset(exchange: Exchange) -> None:
            exchange.send(http(TRUE)[:-20])
            exchange.reset()

        no_length = re.sub(rb"Content-Length: .*\r\n", b"", http(TRUE))
        self.check_faults(
            {
                "before the reply": (lambda exchange: None, "connection closed"),
                "in the first line": (sends(http(TRUE)[:7]), "not XML-RPC"),
                "in the headers": (sends(http(TRUE)[:30]), "not XML-RPC"),
                "in the body": (sends(http(TRUE)[:-20]), "connection closed"),
                "in a body without a length": (sends(no_length[:-10]), "not XML-RPC"),
                "by a reset": (by_a_reset, "connection closed"),
            }
        )

    def test_forged(self) -> None:
        """What someone in between can add, who has no key."""

        def adds(octets: bytes) -> tuple[Answer, str]:
            def answer(exchange: Exchange) -> None:
                exchange.send(http(TRUE)[:-20])
                beneath(sends(octets))(exchange)

            return answer, r"TLS failed \(.+\)"

        data = DATA[:3] + b"\x00\x40" + bytes(64)
        self.check_faults({"data": adds(data), "an alert": adds(HANDSHAKE_FAILURE)})
        # In a handshake this hints at http://, and here at what is more urgent.
        self.check_faults({"HTTP": adds(http(TRUE))}, methods=CHANGES)

    def test_trickling(self) -> None:
        self.environ["ODOO_TIMEOUT"] = str(TIMEOUT)
        record = beneath(trickles(DATA + bytes(200), after=len(DATA)))
        self.check_faults(
            {
                "headers": (trickles(http(TRUE), after=5), "timed out"),
                "body": (trickles(http(TRUE), after=len(http(TRUE)) - 90), "timed out"),
                "record": (record, "timed out"),
            },
            methods=("search_read", "create"),
        )

    def test_a_server_that_does_not_read(self) -> None:
        """A request that never got out whole can't have been carried out."""

        def answer(exchange: Exchange) -> None:
            with tls("good").wrap_socket(exchange.client, server_side=True):
                time.sleep(2 * TIMEOUT)

        self.serve(answer)
        port = int(self.environ["ODOO_URL"].rpartition(":")[2])
        api = LibraryAPI("127.0.0.1", port, "db", "user", "pwd", scheme="https", timeout=TIMEOUT)
        api._uid = 2
        with (
            mock.patch.dict(os.environ, self.environ, clear=True),
            self.assertRaisesRegex(ConnectError, "cannot send to .*timed out"),
        ):
            api.create_many(["x" * 3000] * 7000)


if __name__ == "__main__":
    unittest.main()
