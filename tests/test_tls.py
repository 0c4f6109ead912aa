"""https: whom the client trusts, and that its promises hold there too.

Real TLS on real sockets, with the certificates in the folder beside this file. What servers do when
they get the wrong scheme is what nginx, HAProxy, stunnel, Node, Java and Odoo were seen to do.
"""

from __future__ import annotations

import gc
import os
import re
import socket
import ssl
import time
import warnings
from typing import Any
from unittest import mock

from library_xmlrpc import ConnectError, LibraryAPI, LibraryError, UnknownOutcomeError
from tests.proxy import Answer, Exchange, Proxy
from tests.replies import BOOK_1, TRUE, http, keeps, sends, trickles
from tests.support import COMMANDS, CommandLineTestCase, StandInTestCase, enter

HOST = "127.0.0.1"
TIMEOUT = 0.25  # seconds
SLACK = 2.0  # seconds that a busy machine may add

CERTIFICATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificates")

# What a second line on standard error says to do.
LOOK = "the book may have been added: wait a little, then look for a new ID: .+"
WAIT_LONGER = r"see whether it is up; a longer timeout may help"
NO_ODOO = r"that may be no Odoo server; from Odoo 22 on there is no XML-RPC"
USE_HTTP = "if the server speaks plain HTTP, use http://"
USE_HTTPS = "if the server speaks TLS, use https://"
AUTHORITY = "for a private authority, SSL_CERT_FILE has to name a file that holds its certificate"

BAD_REQUEST = http(b"<html></html>", "400 Bad Request")
HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"  # an alert
CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"
HANDSHAKE = b"\x16\x03\x03\x40\x00"  # the header of a record, for 16 KiB
DATA = b"\x17\x03\x03\x40\x00"
CLOSES = sends()  # without the close_notify that says it was no one in between


def beneath(answer: Answer, sent: bytes = b"") -> Answer:
    """What someone in between can add, who has no key, after `sent` was sent with TLS."""

    def answer_beneath(exchange: Exchange) -> None:
        exchange.send(sent)
        with socket.socket(fileno=os.dup(exchange.client.fileno())) as client:
            answer(Exchange(client, ("", 0)))

    return answer_beneath


class TLSTests(StandInTestCase, CommandLineTestCase):
    def setUp(self) -> None:
        super().setUp()
        enter(self, mock.patch("library_xmlrpc._recall_uid", lambda cache: 2))
        self.environ["SSL_CERT_FILE"] = os.path.join(CERTIFICATES, "authority.pem")

    def start_proxy(self, certificate: str, scheme: str = "https", host: str = HOST) -> Proxy:
        """A proxy as the server of this test; one without a certificate speaks no TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if context:
            context.load_cert_chain(os.path.join(CERTIFICATES, f"{certificate}.pem"))
        proxy = enter(self, Proxy(self.standin.url, context))
        self.environ["ODOO_URL"] = f"{scheme}://{host}:{proxy.address[1]}"
        return proxy

    def check_failure(self, reason: str, hint: str = "", sent: bool = False) -> None:
        """A question and a change fail in time, for this reason, with this hint or none.

        After a change that was sent the hint is another one.
        """
        reason = reason.format(url=re.escape(self.environ["ODOO_URL"]))
        for method in ("search_read", "create"):
            unknown = sent and method == "create"
            lines = [f"error: {reason}", f"(.+; )?{LOOK}" if unknown else hint]
            err = "".join(rf"library\.py: {line}\n" for line in lines if line)
            start = time.monotonic()
            status = 4 if unknown else 3
            with self.subTest(reason, method=method):
                self.check(*COMMANDS[method], status=status, err=re.compile(rf"\A{err}\Z"))
                self.assertLess(time.monotonic() - start, 2 * TIMEOUT + SLACK)

    def test_a_private_authority(self) -> None:
        for host in (HOST, "localhost"):
            self.start_proxy("good", host=host)
            id = self.run_cli("add", host, "-q")[1].strip()
            self.check("list", host, out=f"{id} {host}\n")

    def test_an_untrusted_certificate(self) -> None:
        """Refused in the handshake: no request, hence no password, is sent."""
        untrusted = "cannot connect to {url}: untrusted certificate: "
        other_host = self.start_proxy("other-host", host="localhost")
        self.check_failure(untrusted + "Hostname mismatch, .*'localhost'.*", AUTHORITY)
        del self.environ["SSL_CERT_FILE"]
        unknown_authority = self.start_proxy("good")
        self.check_failure(untrusted + "unable to get local issuer certificate", AUTHORITY)
        self.assertEqual(other_host.calls + unknown_authority.calls, [])

    def test_no_handshake(self) -> None:
        """It does not come to a request, so nothing was changed. (Odoo 19 closes.)"""
        proxy = self.start_proxy("")
        hellos: list[bytes] = []
        trickle = trickles(HANDSHAKE + bytes(200), after=len(HANDSHAKE))
        wrong_version = r"TLS failed \(WRONG_VERSION_NUMBER\)"
        for answer, reason, hint in (
            (Exchange.hold, "timed out", WAIT_LONGER),
            (trickle, "timed out", WAIT_LONGER),
            (CLOSES, "connection closed", ""),
            (sends(CLOSE_NOTIFY), "connection closed", ""),
            (Exchange.reset, "connection closed", ""),
            (sends(HANDSHAKE_FAILURE), r"TLS failed \(.*HANDSHAKE_FAILURE\)", ""),
            (sends(BAD_REQUEST), wrong_version, USE_HTTP),
            (sends(b"<!DOCTYPE HTML>\n<html>"), wrong_version, USE_HTTP),
            (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), wrong_version, USE_HTTP),
        ):

            def answer_hello(exchange: Exchange, answer: Answer = answer) -> None:
                hellos.append(exchange.client.recv(65536)[:1])
                answer(exchange)

            hellos.clear()
            self.environ["ODOO_TIMEOUT"] = str(TIMEOUT if reason == "timed out" else 60)
            proxy.faults[""] = answer_hello
            self.check_failure(f"cannot connect to {{url}}: {reason}", hint)
            self.assertEqual(hellos, [HANDSHAKE[:1]] * 2)

    def test_the_bound_on_connecting(self) -> None:
        self.start_proxy("").faults[""] = Exchange.hold
        with mock.patch("library_xmlrpc.CONNECT_SECONDS", TIMEOUT):
            self.check_failure("cannot connect to {url}: timed out", WAIT_LONGER)

    def test_reset_before_it_begins(self) -> None:
        """Python may give a dead socket without TLS here, or forget one (CVE-2023-40217)."""
        self.start_proxy("").faults[""] = Exchange.reset
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self.check_failure(r"cannot (connect|send) to .*(\n.*)*")
            gc.collect()  # what Python has forgotten, before another test sees the warning

    def test_faults_after_the_handshake(self) -> None:
        reply, failed = http(TRUE), r"TLS failed \(.+\)"
        no_length = re.sub(rb"Content-Length: .*\r\n", b"", reply)
        forged = DATA[:3] + b"\x00\x40" + bytes(64)
        trickle = trickles(DATA + bytes(200), after=len(DATA))
        proxy = self.start_proxy("good")
        for name, answer, reason, hint in (
            ("closed before the reply", CLOSES, "connection closed", ""),
            ("closed in the first line", sends(reply[:7]), "not XML-RPC", NO_ODOO),
            ("closed in the headers", sends(reply[:30]), "not XML-RPC", NO_ODOO),
            ("closed in the body", sends(reply[:-20]), "connection closed", ""),
            ("closed in a body without a length", sends(no_length[:-10]), "not XML-RPC", NO_ODOO),
            ("reset", beneath(Exchange.reset, reply[:-20]), "connection closed", ""),
            ("forged data", beneath(sends(forged), reply[:-20]), failed, ""),
            ("forged alert", beneath(sends(HANDSHAKE_FAILURE), reply[:-20]), failed, ""),
            # The reason depends on OpenSSL's version, and so does the hint after a question.
            ("forged HTTP", beneath(sends(reply), reply[:-20]), failed + r"(\n.*http://)?", ""),
            ("trickling headers", trickles(reply, 5), "timed out", WAIT_LONGER),
            ("trickling body", trickles(reply, len(reply) - 90), "timed out", WAIT_LONGER),
            ("trickling record", beneath(trickle), "timed out", WAIT_LONGER),
        ):
            proxy.calls.clear()
            self.environ["ODOO_TIMEOUT"] = str(TIMEOUT if reason == "timed out" else 60)
            proxy.faults.update(dict.fromkeys(("search_read", "create"), answer))
            with self.subTest(name):
                self.check_failure(f"no valid answer from {{url}}: {reason}", hint, sent=True)
                self.assertEqual(proxy.calls, ["search_read", "create"])

    def test_a_server_that_does_not_read(self) -> None:
        """A request that never got out whole can't have been carried out."""
        proxy = self.start_proxy("good")
        proxy.faults[""] = lambda exchange: time.sleep(2 * TIMEOUT)
        tls: Any = {"scheme": "https", "timeout": TIMEOUT, "uid_cache": "a uid"}
        api = LibraryAPI(*proxy.address, "db", "user", "pwd", **tls)
        with (
            mock.patch.dict(os.environ, self.environ, clear=True),
            self.assertRaisesRegex(ConnectError, "cannot send to .*timed out"),
        ):
            api.create_many(["x" * 3000] * 7000)


class PlainHTTPTests(StandInTestCase):
    """http:// where the server speaks TLS, and what looks like it and is not."""

    scheme = "http"

    def setUp(self) -> None:
        super().setUp()
        self.proxy = enter(self, Proxy(self.standin.url))

    def check_failure(
        self, answer: Answer, error: type[LibraryError], reason: str, hint: str = ""
    ) -> None:
        """With this answer a change fails in this way, and a question with a ConnectError."""
        for method, kind in (("create", error), ("search_read", ConnectError)):
            api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", timeout=5)
            vars(api).update(scheme=self.scheme, _uid=2)
            with (
                self.subTest(reason, method=method),
                self.proxy.answering(method, answer),
                self.assertRaises(LibraryError) as caught,
            ):
                getattr(api, method)("Emma")
            self.assertIs(type(caught.exception), kind)
            self.assertRegex(str(caught.exception), rf"\A{reason.format(url=api.url)}\Z")
            self.assertEqual(caught.exception.hint, hint)

    def test_a_tls_alert(self) -> None:
        """Whoever sends one has not read the request. GnuTLS does so, for one."""

        def send_and_reset(exchange: Exchange) -> None:
            exchange.send(HANDSHAKE_FAILURE)
            exchange.reset()

        def send_and_wait(exchange: Exchange) -> None:
            exchange.send(HANDSHAKE_FAILURE)
            exchange.hold()

        alert = "no valid answer from {url}: a TLS alert"
        for answer in (sends(HANDSHAKE_FAILURE), send_and_reset, send_and_wait):
            self.check_failure(answer, ConnectError, alert, USE_HTTPS)

    def test_a_bad_request(self) -> None:
        status = "{url} answers HTTP 400 Bad Request"
        self.check_failure(sends(BAD_REQUEST), ConnectError, status, USE_HTTPS)

    def test_closed_without_an_octet(self) -> None:
        """A change may have been made all the same."""
        closed = "no valid answer from {url}: connection closed"
        for answer in (CLOSES, Exchange.reset):
            self.check_failure(answer, UnknownOutcomeError, closed, USE_HTTPS)

    def test_closed_before_the_request_is_out(self) -> None:
        def refuse(exchange: Exchange) -> None:
            exchange.client.recv(1)
            exchange.reset()

        self.proxy.faults[""] = refuse
        api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", uid_cache="a uid")
        vars(api).update(_uid=2)
        with self.assertRaisesRegex(ConnectError, "cannot send to .*: connection closed") as caught:
            api.create_many(["x" * 3000] * 7000)
        self.assertEqual(caught.exception.hint, USE_HTTPS)

    def test_a_real_tls_server(self) -> None:
        """It closes, before the request is out or after."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(CERTIFICATES, "good.pem"))
        self.proxy = enter(self, Proxy(self.standin.url, context))
        api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", timeout=5)
        with self.assertRaisesRegex(ConnectError, ": connection closed") as caught:
            api.create("Emma")  # which begins with a login
        self.assertEqual(caught.exception.hint, USE_HTTPS)

    def test_no_hint_where_the_server_has_answered_before(self) -> None:
        """On this connection or on another one; then its reply may be lost in other ways."""
        for keep in (keeps, sends):
            for answer in (CLOSES, Exchange.reset, sends(HANDSHAKE_FAILURE)):
                api = LibraryAPI(*self.proxy.address, "odoo-dev", "admin", "admin", timeout=5)
                vars(api).update(_uid=2)
                with (
                    self.subTest(keep=keep, answer=answer),
                    self.proxy.answering("search", keep(BOOK_1)),
                    self.proxy.answering("write", answer),
                    self.assertRaises(UnknownOutcomeError) as caught,
                ):
                    api.write(1, "Emma")
                self.assertNotEqual(caught.exception.hint, USE_HTTPS)

    def test_no_hint_after_an_octet(self) -> None:
        def send_and_reset(exchange: Exchange) -> None:
            exchange.send(b"H", pause=0.05)
            exchange.reset()

        closed = "no valid answer from {url}: connection closed"
        self.check_failure(send_and_reset, UnknownOutcomeError, closed)

    def test_no_hint_with_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(CERTIFICATES, "good.pem"))
        self.proxy, self.scheme = enter(self, Proxy(self.standin.url, context)), "https"
        authority = os.path.join(CERTIFICATES, "authority.pem")
        enter(self, mock.patch.dict(os.environ, SSL_CERT_FILE=authority, no_proxy="*"))
        closed = "no valid answer from {url}: connection closed"
        self.check_failure(CLOSES, UnknownOutcomeError, closed)
        status = "{url} answers HTTP 400 Bad Request"
        self.check_failure(sends(BAD_REQUEST), ConnectError, status)
        no_odoo = NO_ODOO.replace("\\", "")
        self.check_failure(sends(HANDSHAKE_FAILURE), UnknownOutcomeError, ".*: not .*", no_odoo)
