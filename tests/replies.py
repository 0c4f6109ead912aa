"""Replies as bytes, and the answers of a proxy that send them."""

from __future__ import annotations

import xmlrpc.client

from tests.proxy import Answer


def raw(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


def http(
    body: bytes, status: str = "200 OK", headers: tuple[str, ...] = ("Connection: close",)
) -> bytes:
    lines = (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}")
    return raw("\n".join(lines), body)


def xml(value: str, kind: str = "params") -> bytes:
    value = f"<param>{value}</param>" if kind == "params" else value
    reply = f"<methodResponse><{kind}>{value}</{kind}></methodResponse>"
    return f"<?xml version='1.0'?>{reply}".encode()


def value(content: str) -> bytes:
    return http(xml(f"<value>{content}</value>"))


def fault(code: int, text: str) -> bytes:
    return http(xmlrpc.client.dumps(xmlrpc.client.Fault(code, text)).encode())


def member(name: str, content: str) -> str:
    return f"<member><name>{name}</name><value>{content}</value></member>"


def sends(*pieces: bytes, pause: float = 0.0) -> Answer:
    return lambda exchange: exchange.send(*pieces, pause=pause)


def keeps(reply: bytes) -> Answer:
    """The reply; then the connection is kept for another request."""
    return lambda exchange: exchange.keep(reply)


def trickles(reply: bytes, after: int) -> Answer:
    """The start of a reply at once, and the rest byte by byte, too slow to wait for."""
    rest = [reply[i : i + 1] for i in range(after, len(reply))]
    return lambda exchange: exchange.send(reply[:after], *rest, pause=0.02)


TRUE = xml("<value><boolean>1</boolean></value>")
