"""The faster engine of `ndshare.net`: it copies once on each side, and talks to the other engine."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, environment, free_port, run, script, wait_until

engine: Any = pytest.importorskip("ndshare_zenoh", reason="the faster engine is not installed: make net-engine")

from ndshare import net  # noqa: E402
from ndshare.net import _engine, _wire  # noqa: E402


def test_the_faster_engine_is_taken_where_it_is_installed() -> None:
    source = "from ndshare.net import _engine; print(_engine.NAME)"
    assert run(source).clean().strip() == "ndshare_zenoh"
    assert run(source, env=environment(NDSHARE_NET_ENGINE="ndshare_zenoh")).clean().strip() == "ndshare_zenoh"


def test_the_environment_chooses_the_engine() -> None:
    pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")
    source = "from ndshare.net import _engine; print(_engine.NAME)"
    assert run(source, env=environment(NDSHARE_NET_ENGINE="zenoh")).clean().strip() == "zenoh"


def test_an_engine_that_is_none_is_refused() -> None:
    done = run("import ndshare.net", env=environment(NDSHARE_NET_ENGINE="steam"))
    assert "expected NDSHARE_NET_ENGINE to be one of ndshare_zenoh, zenoh, got 'steam'" in done.err


# ---- both engines ---------------------------------------------------------------------------------------------------

SERVER = """
import sys
import numpy as np
import ndshare as nds
from ndshare import net

def load(key):
    if key == "bad":
        raise ValueError("no such tile")
    if key == "none":
        raise KeyError(key)
    return np.full((512, 512), key, "u2")

ring = nds.Ring((700, 800), "u2", slots=8, when_full="drop_oldest", meta=[("gain", "f4")])
offered = {"rings": {"cam": ring}, "caches": {"tiles": nds.Cache("64 MiB", load)}}
with net.serve(sys.argv[1], compress=sys.argv[2] or None, **offered) as server:
    print(server.stats()["engine"])
    for line in sys.stdin:
        ring.put(np.full((700, 800), int(line), "u2"), gain=0.5)
    ring.close()
"""

CLIENT = """
import sys
import ndshare as nds
from ndshare import net

with net.connect(sys.argv[1], timeout=60) as far:
    frames = far.ring("cam").reader()
    print(far.stats()["engine"])
    for line in sys.stdin:
        frame = frames.get(timeout=60)
        print((frame == int(line)).all(), frame.origin.seq, frame.meta["gain"])
    cache = nds.Cache("64 MiB", load=far.loader("tiles"))
    print((cache[7] == 7).all(), cache[7].shape)
    for key in ("bad", "none"):
        try:
            cache[key]
        except (nds.LoadError, KeyError) as error:
            print(type(error).__name__)
    try:
        frames.get(timeout=60)
    except nds.Closed:
        print("closed")
"""


@contextmanager
def program(source: str, name: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program with an engine."""
    command, env = [sys.executable, "-u", str(script(source)), *args], environment(NDSHARE_NET_ENGINE=name)
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("compress", ["", "lz4"])
@pytest.mark.parametrize("names", [("zenoh", "ndshare_zenoh"), ("ndshare_zenoh", "zenoh")], ids="-".join)
def test_the_engines_talk_to_each_other(names: tuple[str, str], compress: str) -> None:
    pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")
    if compress:
        pytest.importorskip("lz4.block")
    place = f"tcp/127.0.0.1:{free_port()}"
    with program(SERVER, names[0], place, compress) as server, program(CLIENT, names[1], place) as client:

        def tell(process: subprocess.Popen[str], line: str) -> None:
            assert process.stdin is not None
            process.stdin.write(line)
            process.stdin.flush()

        def said(process: subprocess.Popen[str]) -> str:
            assert process.stdout is not None
            return process.stdout.readline().strip()

        assert (said(server), said(client)) == names
        for number in range(5):
            tell(server, f"{number}\n")
            tell(client, f"{number}\n")
            assert said(client) == f"True {number} 0.5"
        assert client.stdin is not None
        client.stdin.close()
        assert [said(client) for _ in range(3)] == ["True (512, 512)", "FarLoadError", "KeyError"]
        assert server.stdin is not None
        server.stdin.close()
        assert said(client) == "closed"


# ---- payloads -------------------------------------------------------------------------------------------------------


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


def test_what_nobody_may_write_to_is_sent_as_it_is_and_given_back() -> None:
    array = read_only(np.full(100_000, 7, "u1"))
    kept = weakref.ref(array)
    payload = engine.ZBytes([array, b"seal"])
    assert (len(payload), bytes(payload)) == (100_004, b"\x07" * 100_000 + b"seal")
    del array
    assert kept() is not None
    del payload
    assert kept() is None


def test_what_may_be_written_to_is_copied() -> None:
    array = np.full(100_000, 7, "u1")
    payload = engine.ZBytes(array)
    array[:] = 8
    assert payload.to_bytes() == b"\x07" * 100_000


def test_a_payload_is_compared_and_copied_across_its_parts() -> None:
    payload = engine.ZBytes([b"ab", [b"cd", bytearray(b"ef")], "gh", b"", engine.ZBytes(b"i")])
    assert [payload.endswith(end) for end in (b"", b"i", b"hi", b"efghi", b"abcdefghi")] == [True] * 5
    assert [payload.endswith(end) for end in (b"h", b"xhi", b"axcdefghi", b"0abcdefghi")] == [False] * 4
    for size in range(10):
        target = bytearray(size)
        payload.copy_into(target)
        assert target == b"abcdefghi"[:size]
    two = np.zeros((2, 4), "u1")
    payload.copy_into(two)
    assert two.tobytes() == b"abcdefgh"
    assert payload
    assert not engine.ZBytes([])


def test_a_target_that_does_not_fit_is_refused() -> None:
    payload = engine.ZBytes(b"abcd")
    with pytest.raises(ValueError, match="at least 5 bytes, got 4"):
        payload.copy_into(bytearray(5))
    for target in (b"abc", np.zeros(6, "u1")[::2]):
        with pytest.raises(BufferError, match="can be written, without gaps"):
            payload.copy_into(target)
    with pytest.raises(BufferError, match="without gaps"):
        engine.ZBytes(np.zeros((4, 4))[:, 1])
    with pytest.raises(TypeError):
        engine.ZBytes(7)


# ---- sessions -------------------------------------------------------------------------------------------------------


@contextmanager
def served(ring: nds.Ring) -> Iterator[Any]:
    if _engine.NAME != "ndshare_zenoh":
        pytest.skip("another engine was asked for")
    place = f"tcp/127.0.0.1:{free_port()}"
    with net.serve(place, rings={"cam": ring}) as server, net.connect(place, timeout=HANG) as far:
        yield server, far


def test_frames_give_back_their_blocks_when_they_are_sent() -> None:
    arena = nds.Arena("64 MiB")
    ring = nds.Ring(1_000_000, "u1", slots=2, when_full="drop_oldest", arena=arena)
    with served(ring) as (_, far):
        frames = far.ring("cam").reader()
        for number in range(20):
            ring.put(np.full(1_000_000, number, "u1"))
            frame = frames.get(timeout=HANG)
            assert (frame == number).all()
            before = nds.stats(arena)["blocks"]
            del frame
        assert before <= 5
    assert wait_until(lambda: gc.collect() >= 0 and nds.stats(arena)["blocks"] <= 3, HANG), nds.stats(arena)


def test_a_frame_with_the_seal_of_another_is_not_written() -> None:
    ring = nds.Ring(100_000, "u1", slots=4, when_full="drop_oldest")
    with served(ring) as (server, far):
        near = far.ring("cam")
        header = _wire.Header(_wire.FRAME, _wire.SEALED, server.run, 0, 0, 100_000, (100_000,), "|u1", b"")
        session, key = server.link.session, _wire.frames_key("cam", server.run)
        torn = [b"x" * 100_000, _wire.seal(server.run, 1)]
        session.put(key, torn, attachment=_wire.pack(header))
        assert wait_until(lambda: far.stats()["rings"]["cam"]["rejected"] == 1, HANG)
        assert near.stats()["written"] == 0
        session.put(key, [torn[0], _wire.seal(server.run, 0)], attachment=_wire.pack(header))
        assert wait_until(lambda: near.stats()["written"] == 1, HANG)


@contextmanager
def session() -> Iterator[Any]:
    config = engine.Config()
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("listen/endpoints", "[]")
    opened = engine.open(config)
    try:
        yield opened
    finally:
        opened.close()


def test_what_a_callback_raises_is_told_and_the_next_one_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    told, came = [], threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))

    def take(sample: Any) -> None:
        if sample.payload.to_bytes() == b"bad":
            raise LookupError("bad")
        came.set()

    with session() as opened:
        subscriber = opened.declare_subscriber("key", take)
        opened.put("key", b"bad")
        opened.put("key", b"good", attachment=b"more")
        assert came.wait(HANG)
        subscriber.undeclare()
        subscriber.undeclare()
    assert told == [LookupError]


def test_errors_of_zenoh_are_raised() -> None:
    config = engine.Config()
    for key, value in (("no/such/setting", "1"), ("mode", "{")):
        with pytest.raises(engine.ZError):
            config.insert_json5(key, value)
    with session() as opened:
        with pytest.raises(engine.ZError):
            opened.declare_subscriber("no//key", print)
        with pytest.raises(ValueError, match="a timeout in seconds, got -1"):
            opened.get("key", print, timeout=-1)
    with pytest.raises(engine.ZError):
        opened.put("key", b"x")


def test_a_question_that_is_dropped_takes_no_answer() -> None:
    questions, ends, replies = [], threading.Event(), []
    with session() as opened:
        opened.declare_queryable("key", questions.append)
        gc.collect()  # it stays, though nobody keeps the object
        opened.get("key", engine.handlers.Callback(replies.append, ends.set), payload=b"what")
        assert wait_until(lambda: len(questions) == 1, HANG)
        (question,) = questions
        with question:
            assert (question.payload.to_bytes(), question.attachment) == (b"what", None)
            question.reply("key", b"this")
        with pytest.raises(engine.ZError, match="dropped"):
            question.reply("key", b"that")
        assert ends.wait(HANG)
    assert [reply.ok.payload.to_bytes() for reply in replies] == [b"this"]
