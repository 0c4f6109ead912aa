"""A real nginx in front of a server, as most Odoo servers have one in production."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")  # or None
CERTIFICATES = Path(__file__).resolve().parent / "certificates"
START_SECONDS = 10  # on a busy machine
TLS = f"""
    ssl_certificate "{CERTIFICATES}/good.pem";
    ssl_certificate_key "{CERTIFICATES}/good.pem";
    ssl_protocols TLSv1.3;
"""
# nginx's defaults, apart from paths and what Odoo's manual sets. The second server answers `_ask`.
CONFIGURATION = """
daemon off;
master_process off;
pid pid;
error_log stderr;
events {{}}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    log_format connections "$connection $request_uri";
    gzip {gzip};
    gzip_types text/xml;
    server {{
        listen 127.0.0.1:{port}{listen};{tls}
        access_log access.log connections;
        location / {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_read_timeout 720s;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Real-IP $remote_addr;
        }}
    }}
    server {{
        listen unix:status;
        access_log off;
        return 204;
    }}
}}
"""


class Nginx:
    """nginx in front of `upstream_url`, with or without TLS. It keeps its clients' connections.

    With `gzip` it compresses replies, and sends them in chunks.
    """

    def __init__(self, upstream_url: str, tls: bool = False, gzip: bool = False) -> None:
        self._upstream, self._tls, self._gzip = upstream_url, tls, gzip

    def __enter__(self) -> Nginx:
        assert NGINX, "nginx is not installed"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address: tuple[str, int] = free.getsockname()
        self.url = f"http{'s' * self._tls}://127.0.0.1:{self.address[1]}"
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            configuration = CONFIGURATION.format(
                port=self.address[1],
                listen=" ssl" * self._tls,
                tls=TLS * self._tls,
                upstream=self._upstream,
                gzip="on" if self._gzip else "off",
            )
            (self._folder / "nginx.conf").write_text(configuration)
            with (self._folder / "error.log").open("wb") as log:
                command = (NGINX, "-p", self._folder, "-c", "nginx.conf")
                self._process = subprocess.Popen(command, stderr=log, cwd=self._folder)
            stack.callback(self._process.wait)
            stack.callback(self._process.kill)
            self._wait_until_it_listens()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def connections(self) -> dict[int, list[str]]:
        """The paths of the requests answered on each connection, by its number."""
        self._ask()  # it does one thing after another: earlier requests are in the log now
        connections: dict[int, list[str]] = {}
        for line in (self._folder / "access.log").read_text().splitlines():
            number, _, path = line.partition(" ")
            connections.setdefault(int(number), []).append(path)
        return connections

    def _ask(self) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(START_SECONDS)
            server.connect(str(self._folder / "status"))
            server.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while server.recv(65536):
                pass

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return self._ask()
            time.sleep(0.01)
        raise RuntimeError(f"nginx does not start:\n{(self._folder / 'error.log').read_text()}")
