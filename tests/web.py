"""A few lines of HTTP and of the WebSocket protocol, for tests: they also say what no browser would."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np

from helpers import HANG


def request(url: str, path: str = "", method: str = "GET", **headers: str | None) -> tuple[int, dict[str, str], bytes]:
    """Send a request with these headers (None leaves one out); return status, headers and body."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), HANG) as sock:
        sock.sendall(head(place, path, method, **headers))
        answer = b""
        while piece := sock.recv(1 << 16):
            answer += piece
    before, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = before.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


def head(place: Any, path: str, method: str, **headers: str | None) -> bytes:
    wanted = {"Host": place.netloc, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{name}: {value}" for name, value in wanted.items() if value is not None]
    return "\r\n".join([f"{method} {place.path}{path} HTTP/1.1", *lines, "", ""]).encode()


class Socket:
    """A WebSocket, from the side of a browser."""

    def __init__(self, url: str, path: str = "", **headers: str | None) -> None:
        place = urlsplit(url)
        self.sock = socket.create_connection((place.hostname, place.port), HANG)
        key = base64.b64encode(os.urandom(16)).decode()
        wanted: dict[str, str | None] = {
            "Origin": f"http://{place.netloc}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": key,
            **headers,
        }
        self.sock.sendall(head(place, path, "GET", **wanted))
        self.buffer = bytearray()
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        before, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.status = int(before.split()[1])

    def _more(self) -> None:
        piece = self.sock.recv(1 << 20)
        if not piece:
            raise EOFError("the connection was closed")
        self.buffer += piece

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more()
        taken = bytes(memoryview(self.buffer)[:count])
        del self.buffer[:count]
        return taken

    def send(self, payload: bytes, code: int = 1) -> None:
        """Send one frame, masked as browsers do."""
        mask = os.urandom(4)
        size = len(payload)
        length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 65536 else b""
        length = length or b"\xff" + size.to_bytes(8)
        padded = np.frombuffer(payload + bytes(-size % 4), np.uint32) ^ np.frombuffer(mask, np.uint32)
        self.sock.sendall(bytes([128 | code]) + length + mask + padded.tobytes()[:size])

    def hear(self) -> tuple[int, bytes]:
        """Return code and payload of the next message; pings are answered meanwhile."""
        whole, code = b"", 0
        while True:
            first, second = self._take(2)
            size = second & 127
            if size > 125:
                size = int.from_bytes(self._take(2 if size == 126 else 8))
            payload = self._take(size)
            if first & 15 == 9:
                self.send(payload, 10)
                continue
            code = code or first & 15
            whole += payload
            if first & 128:
                return code, whole

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Picture:
    """A binary message of the server."""

    kind: int
    source: int
    region: tuple[int, ...]
    seq: int
    flags: int
    codes: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]
    told: dict[str, Any]
    payload: bytes


def picture(message: bytes) -> Picture:
    """Read a message as docs/view.md says it."""
    magic, version, kind, size, channels = struct.unpack_from("<4sBBBB", message)
    assert (magic, version) == (b"NDSV", 1)
    source, flags, width, height, *region = struct.unpack_from("<8I", message, 8)
    seq, offset, scale, told, zero = struct.unpack_from("<QddII", message, 40)
    assert zero == 0
    at = 72 + told
    assert at % 8 == 0
    payload = message[at:]
    codes = np.empty(0, np.uint16)
    if kind != 3:
        shape = (height, width) if channels == 1 else (height, width, channels)
        codes = np.frombuffer(payload, "u1" if size == 1 else "<u2").reshape(shape)
    values = codes * scale + offset
    return Picture(kind, source, tuple(region), seq, flags, codes, values, json.loads(message[72:at]), payload)


class Page(Socket):
    """What a page does, without a browser."""

    def __init__(self, url: str, **headers: str | None) -> None:
        super().__init__(url, "socket", **headers)
        assert self.status == 101, self.status
        self.states: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def say(self, kind: str, source: int = 0, **more: Any) -> None:
        self.send(json.dumps({"type": kind, "source": source, **more}).encode())

    def wish(self, source: int = 0, window: tuple[int, int] = (4000, 4000), **more: Any) -> None:
        self.say("wish", source, window=window, **more)

    def see(self, is_wanted: Callable[[Picture], bool] = lambda _: True, timeout: float = HANG) -> Picture:
        """Take pictures, and ask for the next, until there is a wanted one."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            code, message = self.hear()
            if code == 1:
                self._note(json.loads(message))
                continue
            found = picture(message)
            if found.kind in (1, 2):
                self.say("next", found.source)
            if is_wanted(found):
                return found
        raise AssertionError(f"no such picture came; the last states: {self.states[-3:]}, notes: {self.notes[-3:]}")

    def state(self, wanted: str, source: int = 0) -> dict[str, Any]:
        """Wait until a source is in a state."""
        end = time.monotonic() + HANG
        while time.monotonic() < end:
            if found := [one for one in self.states if one["state"] == wanted and one["source"] == source]:
                return found[-1]
            code, message = self.hear()
            if code == 1:
                self._note(json.loads(message))
            else:
                self.say("next", picture(message).source)
        raise AssertionError(f"expected the state {wanted}, got {self.states[-5:]}")

    def note(self) -> str:
        """Wait for a note."""
        end = time.monotonic() + HANG
        while not self.notes and time.monotonic() < end:
            code, message = self.hear()
            if code == 1:
                self._note(json.loads(message))
        return self.notes.pop(0)

    def _note(self, message: dict[str, Any]) -> None:
        if message["type"] == "status":
            self.states.append(message)
        elif message["type"] == "note":
            self.notes.append(message["text"])
