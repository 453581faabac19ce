"""Workers of web servers share what has a name: gunicorn and uvicorn, as they are on PyPI, started from a shell.

Neither imports the application in its master, so the workers have no parent with a session.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import HANG, children, environment, wait_until

APPLICATION = """
import os
import numpy as np
import ndshare as nds

cache = nds.Cache(os.environ.get("SIZE", "16 MiB"), name="tiles", load=lambda key: np.full(1000, key))

def answer(key):
    return f"{os.getpid()} {cache[key][0]} {cache.info()['loads']} {nds.stats()['id']}".encode()

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer(int(environ["PATH_INFO"][1:]))]

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer(int(scope["path"][1:]))})
"""

KEEPER = """
import ndshare as nds

nds.session("site")
tiles = nds.Cache("16 MiB", name="tiles")
"""

SERVERS = {
    "gunicorn": ("gunicorn", "--workers=2", "--bind=unix:socket", "application:wsgi"),
    "uvicorn": ("uvicorn", "--workers=2", "--uds=socket", "--lifespan=off", "application:asgi"),
}


# A program that starts uvicorn itself; its workers are its children, so they are in its session.
PROGRAM = """
import uvicorn
import ndshare as nds

if __name__ == "__main__":
    tiles = nds.Cache("16 MiB", name="tiles")
    uvicorn.run("application:asgi", workers=2, uds="socket", lifespan="off")
"""


class Server:
    """A server in a folder of its own, and what its workers answer."""

    def __init__(self, command: Sequence[str], folder: Path, session: str | None) -> None:
        (folder / "application.py").write_text(APPLICATION)
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700, exist_ok=True)
        self.socket = folder / "socket"
        env = environment(XDG_RUNTIME_DIR=str(runtime), NDSHARE_SESSION=session, PYTHONPATH=str(folder))
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )

    def get(self, key: int) -> tuple[int, int, int, str] | None:
        """Return pid, value, loads and session from whichever worker answers; None when none does."""
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(HANG)
                client.connect(os.path.relpath(self.socket))
                client.sendall(f"GET /{key} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
                answer = b"".join(iter(lambda: client.recv(65536), b""))
        except OSError:
            return None
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            return None
        pid, value, loads, session = body.decode().split()
        return int(pid), int(value), int(loads), session

    def workers(self, count: int = 2, but: int = 0) -> dict[int, str]:
        """Wait until so many workers have answered, but for one; return their sessions by pid."""
        found: dict[int, str] = {}

        def ask() -> bool:
            answer = self.get(1)
            if answer and answer[0] != but:
                found[answer[0]] = answer[3]
            return len(found) >= count

        assert wait_until(ask, HANG), self.said()
        return found

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()


@contextmanager
def serving(
    name: str, folder: Path, session: str | None = "@site", command: Sequence[str] | None = None
) -> Iterator[Server]:
    pytest.importorskip(name)
    server = Server(command or ("-m", *SERVERS[name]), folder, session)
    try:
        yield server
    finally:
        family = children(server.process.pid) if server.process.poll() is None else []
        server.process.terminate()
        try:
            server.process.wait(HANG)
        finally:
            server.process.kill()
            for pid in family:
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGKILL)
            server.log.close()


@pytest.mark.parametrize("name", SERVERS)
def test_the_workers_of_a_server_have_one_cache(name: str, tmp_path: Path) -> None:
    with serving(name, tmp_path) as server:
        workers = server.workers()
        assert len(set(workers.values())) == 1
        answers = [server.get(key) for key in range(20) for _ in range(4)]
        assert [answer[1] for answer in answers if answer] == [key for key in range(20) for _ in range(4)]
        last = server.get(1)
        assert last
        assert last[2] == 20, "each key was loaded once, whichever worker was asked"


@pytest.mark.parametrize("name", SERVERS)
def test_a_worker_that_is_restarted_finds_the_cache_warm(name: str, tmp_path: Path) -> None:
    with serving(name, tmp_path) as server:
        workers = server.workers()
        for key in range(10):
            server.get(key)
        victim = next(iter(workers))
        os.kill(victim, signal.SIGKILL)
        again = server.workers(2, but=victim)
        assert set(again.values()) == set(workers.values())
        answers = [server.get(key) for key in range(10) for _ in range(4)]
        assert {answer[2] for answer in answers if answer} == {10}


def roll(server: Server, before: dict[int, str]) -> dict[int, str]:
    """Make gunicorn start new workers and end the old ones; return the sessions of the new ones by pid."""
    server.process.send_signal(signal.SIGHUP)
    after: dict[int, str] = {}

    def has_rolled() -> bool:
        answer = server.get(1)
        if answer and answer[0] not in before:
            after[answer[0]] = answer[3]
        return len(after) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in before)

    assert wait_until(has_rolled, HANG), server.said()
    return after


def test_a_rolling_restart_keeps_the_cache_that_the_master_has_and_a_cold_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(KEEPER)
    with serving("gunicorn", tmp_path) as server:
        before = server.workers()
        for key in range(10):
            server.get(key)
        assert set(roll(server, before).values()) == set(before.values())
        last = server.get(3)
        assert last
        assert last[2] == 10
    with serving("gunicorn", tmp_path) as server:
        assert not set(server.workers().values()) & set(before.values())


def test_a_cache_is_resized_and_new_workers_find_it_by_its_new_size(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(KEEPER)
    with serving("gunicorn", tmp_path) as server:
        before = server.workers()
        for key in range(10):
            server.get(key)
        for file in (tmp_path / "application.py", tmp_path / "gunicorn.conf.py"):
            file.write_text(file.read_text().replace("16 MiB", "128 MiB"))
        env = environment(XDG_RUNTIME_DIR=str(tmp_path / "runtime"), NDSHARE_SESSION="@site")
        resize = 'import ndshare as nds; nds.Cache("16 MiB", name="tiles").resize("128 MiB")'
        subprocess.run([sys.executable, "-c", resize], env=env, check=True)
        assert set(roll(server, before).values()) == set(before.values())
        last = server.get(3)
        assert last
        assert last[2] == 10, "what was loaded stays"


def test_without_a_name_each_worker_has_a_cache_of_its_own(tmp_path: Path) -> None:
    """What the page warns of."""
    with serving("gunicorn", tmp_path, session=None) as server:
        assert len(set(server.workers().values())) == 2


def loads(server: Server) -> int:
    """Ask both workers for some keys; return how many were loaded."""
    assert len(set(server.workers().values())) == 1
    answers = [server.get(key) for key in range(10) for _ in range(4)]
    assert [answer[1] for answer in answers if answer] == [key for key in range(10) for _ in range(4)]
    last = server.get(1)
    assert last
    return last[2]


def test_workers_that_gunicorn_forks_from_a_loaded_application_need_no_name(tmp_path: Path) -> None:
    command = ("-m", "gunicorn", "--preload", *SERVERS["gunicorn"][1:])
    with serving("gunicorn", tmp_path, session=None, command=command) as server:
        assert loads(server) == 10


def test_workers_of_a_program_that_has_the_cache_find_it_by_name(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(PROGRAM)
    with serving("uvicorn", tmp_path, session=None, command=("serve.py",)) as server:
        assert loads(server) == 10
