"""Other pages, other users of the machine and other names for it ask the viewer for pictures.

The viewer listens on 127.0.0.1, which every user of the machine and every page in a browser reaches. Who lacks the
token of the address, comes by another name (DNS rebinding) or from another page gets nothing, nor does a path that
climbs; and what is no request ends a connection, not the viewer.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from urllib.parse import urlsplit

import ndshare as nds
from common import SECONDS

SOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}

array = nds.full((10, 10), 77.0)
with nds.view(array, open_browser=False) as viewer:
    address = urlsplit(viewer.url)
    token = address.path.strip("/")
    home = f"127.0.0.1:{address.port}"

    def asked(path: str, method: str = "GET", **headers: str) -> int:
        line = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=SECONDS)
        line.request(method, path, headers={"Host": home, **{key.replace("_", "-"): v for key, v in headers.items()}})
        status = line.getresponse().status
        line.close()
        return status

    assert asked(f"/{token}/") == 200, "the page is there"
    assert asked(f"/{token}/socket", Origin=f"http://{home}", **SOCKET) == 101
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    for guess in ("", wrong, token[:-1], token + "0", token.upper() + "x", "%00", "..", f"../{token}"):
        for path in (f"/{guess}/", f"/{guess}/main.js", f"/{guess}/socket"):
            assert asked(path) in (400, 403, 404), path
    for path in (f"/{token}/../../etc/passwd", f"/{token}/%2e%2e/%2e%2e/etc/passwd", f"/{token}//etc/passwd"):
        assert asked(path) in (400, 403, 404), path
    for host in ("evil.example", f"evil.example:{address.port}", "127.0.0.1.evil.example"):
        assert asked(f"/{token}/", Host=host) in (400, 403), host
    for origin in ("http://evil.example", "null", f"https://{home}", f"http://{home}.evil.example"):
        assert asked(f"/{token}/socket", Origin=origin, **SOCKET) == 403, origin
    assert asked(f"/{token}/socket", **SOCKET) == 403, "no page asks"
    assert asked(f"/{token}/", "POST") == 405
    for nonsense in (
        b"\0" * 100,
        b"GET " + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", address.port or 0), 20) as line, contextlib.suppress(OSError):
            line.sendall(nonsense)
            line.shutdown(socket.SHUT_WR)
            assert b"200 OK" not in line.recv(1000)
    silent = [socket.create_connection(("127.0.0.1", address.port or 0), 20) for _ in range(50)]
    assert asked(f"/{token}/") == 200, "those who say nothing hinder nobody"
    for line in silent:
        line.close()
print("only its own page was answered")
