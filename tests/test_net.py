"""Rings and caches on other machines: two processes on one, and two network namespaces with a link between.

Programs of a test are puppets: they say what each line that they are told is worth. Nothing waits for a time; what is
waited for is that a condition holds. Every frame is one number in all its bytes, so a torn one shows.
"""

from __future__ import annotations

import ast
import gc
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

import ndshare as nds
from helpers import HANG, HERE, environment, free_port, run, script, wait_until

pytest.importorskip("ndshare.net", reason="no engine of ndshare.net is installed", exc_type=ImportError)

from ndshare import _native, net
from ndshare.net import _command, _hearing, _link, _pump, _wire
from ndshare.net._engine import zenoh

# ---- puppets --------------------------------------------------------------------------------------------------------

PUPPET = """
import sys, threading, time
import numpy as np
import ndshare as nds
from ndshare import net

def put(count, pause=0.0):
    for _ in range(count):
        with ring.write() as frame:
            frame[...] = ring.stats()["written"] % 251
        time.sleep(pause)
    return ring.stats()["written"]

def writing(count, pause):
    thread = threading.Thread(target=put, args=(count, pause))
    thread.start()
    return thread

seen, torn, ends = [], [], []

def collect(frames):
    while True:
        try:
            frame = frames.get()
        except nds.WriterDied:
            ends.append("died")
        except nds.Closed:
            ends.append("closed")
            return
        else:
            seq = frame.origin.seq
            if not (frame == seq % 251).all():
                torn.append(seq)
            seen.append(seq)

def collecting(frames):
    threading.Thread(target=collect, args=(frames,), daemon=True).start()

def counts():
    stats = near.stats()
    return {"seen": len(seen), "torn": torn, "ends": ends, "lost": stats["lost"], "missed": stats["missed"],
            "sorted": all(a < b for a, b in zip(seen, seen[1:]))}

for line in sys.stdin:
    try:
        try:
            value = eval(line)
        except SyntaxError:
            value = exec(line)
    except Exception as error:
        value = f"{type(error).__name__}: {error}"
    print(repr(value), flush=True)
"""


class Puppet:
    """A program in a session of its own, perhaps on another machine."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        command = [*prefix, sys.executable, str(script(PUPPET))]
        env = environment()
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def do(self, line: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        assert said, f"the puppet ended at {line!r}"
        try:
            return ast.literal_eval(said)
        except ValueError:
            return said.strip()

    def until(self, line: str) -> None:
        assert wait_until(lambda: self.do(line) is True, HANG), f"{line}: {self.do('far.stats()')}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def serve(self, endpoint: str, nbytes: int = 1000, slots: int = 8, config: str = "None", more: str = "") -> None:
        self.do(f"ring = nds.Ring({nbytes}, 'u1', slots={slots}, when_full='drop_oldest', meta=[('gain', 'f4')])")
        said = self.do(f"server = net.serve({endpoint!r}, rings={{'cam 0': ring}}, config={config}{more})")
        assert said is None, said

    def join(self, endpoint: str, slots: int = 64, config: str = "None") -> None:
        said = self.do(f"far = net.connect({endpoint!r}, timeout=60, config={config})")
        assert said is None, said
        said = self.do(f"near = far.ring('cam 0', slots={slots}, timeout=60)")
        assert said is None, said
        self.do("collecting(near.reader())")


@contextmanager
def puppets(*prefixes: Sequence[str]) -> Iterator[list[Puppet]]:
    """Run puppets; all are gone after the block."""
    all_of_them = [Puppet(prefix) for prefix in prefixes]
    try:
        yield all_of_them
    finally:
        for puppet in all_of_them:
            puppet.kill()


def endpoint() -> str:
    """Return an endpoint of this machine that is free."""
    return f"tcp/127.0.0.1:{free_port()}"


def ring_of(nbytes: int = 100, **more: Any) -> nds.Ring:
    return nds.Ring(nbytes, "u1", **{"slots": 16, "when_full": "drop_oldest", **more})


@contextmanager
def bridged(ring: nds.Ring | None = None, cache: nds.Cache | None = None, **more: Any) -> Iterator[Any]:
    """Offer a ring and a cache of this process, and connect to them from this process."""
    place = endpoint()
    # A cache without a value is false, as an empty dict is.
    rings, caches = {"cam": ring} if ring else {}, {} if cache is None else {"tiles": cache}
    with net.serve(place, rings=rings, caches=caches, **more) as server, net.connect(place, timeout=HANG) as far:
        yield server, far


# ---- without the extra ----------------------------------------------------------------------------------------------


def test_the_package_imports_no_zenoh_and_says_what_to_install() -> None:
    source = """
    import sys
    import ndshare
    assert "zenoh" not in sys.modules and "ndshare.net" not in sys.modules
    sys.modules["zenoh"] = sys.modules["ndshare_zenoh"] = None
    try:
        import ndshare.net
    except ImportError as error:
        print(error)
    """
    assert 'pip install "ndshare[net]"' in run(source).clean()


# ---- rings ----------------------------------------------------------------------------------------------------------


def test_frames_come_whole_in_order_and_say_where_they_were_made() -> None:
    ring = nds.Ring((4, 5), "u2", slots=16, when_full="drop_oldest", meta=[("gain", "f4"), ("name", "S5")])
    before = time.time_ns()
    with bridged(ring) as (server, far):
        near = far.ring("cam")
        frames = near.reader()
        for number in range(10):
            ring.put(np.full((4, 5), number, "u2"), gain=number / 2, name=b"ab")
        for number in range(10):
            frame = frames.get(timeout=HANG)
            assert (frame == number).all()
            assert frame.shape == (4, 5)
            assert frame.dtype == "u2"
            assert (frame.meta["gain"], frame.meta["name"]) == (number / 2, b"ab")
            assert (frame.origin.host, frame.origin.run, frame.origin.seq) == (socket.gethostname(), server.run, number)
            assert before <= frame.origin.time_ns <= time.time_ns()
            assert frame.origin.time.year >= 2024
        assert near.stats()["lost"] == 0
        assert far.ring("cam") is near
        assert "cam" in repr(server)
        assert "connected" in repr(far)
        assert ring.reader(start="oldest").get(timeout=0).origin is None


def test_frames_of_several_arrays_come_with_their_fields_and_notes() -> None:
    fields = {"rgb": ((4, 6, 3), "u1"), "pair": (((3,), "f4"), ((), "i8"))}
    ring = nds.Ring(fields=fields, slots=16, when_full="drop_oldest")
    anything = nds.Ring(slots=16, when_full="drop_oldest")
    put = {"rgb": np.arange(72, dtype="u1").reshape(4, 6, 3), "pair": (np.ones(3, "f4"), np.int64(5))}
    for one in (ring, anything):
        with bridged(one) as (_, far):
            near = far.ring("cam")
            frames = near.reader()
            assert (near.dtype == ring.dtype) == (one is ring)
            for seq, note in enumerate(["text", "", {"é": [1, None]}, b"\0\xff", "long " * 100_000, None]):
                one.put(put, note=note)
                frame = frames.get(timeout=HANG)
                assert frame["rgb"].tolist() == put["rgb"].tolist()
                assert [part.tolist() for part in frame.tree()["pair"]] == [[1, 1, 1], 5]
                assert (frame.note, type(frame.note), frame.origin.seq) == (note, type(note), seq)
            assert near.stats()["lost"] == 0


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.array(7, "<i2"),
        np.zeros((3, 0, 2), "f4"),
        np.array([(1, 2.5, b"x")], [("a", "i4"), ("b", ">f8"), ("c", "S3")]),
        np.array(["2024-01-01", "NaT"], "M8[D]"),
        np.asfortranarray(np.arange(12, dtype="c16").reshape(3, 4)),
        np.array(["text", "ä"], "U7"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
@pytest.mark.parametrize("compress", [None, "lz4"])
def test_arrays_of_each_kind_arrive_as_they_are(array: Any, compress: Any) -> None:
    if compress:
        pytest.importorskip("lz4.block")
    ring = nds.Ring(slots=4, when_full="drop_oldest")
    with bridged(ring, compress=compress) as (_, far):
        frames = far.ring("cam").reader()
        ring.put(array)
        frame = frames.get(timeout=HANG)
        assert (frame.shape, frame.dtype) == (array.shape, array.dtype)
        assert frame.tobytes() == array.tobytes()


def test_all_that_a_ring_can_hold_back_is_delivered() -> None:
    ring = nds.Ring(50_000, "u1", slots=4)

    def write() -> None:
        with ring:
            for number in range(300):
                ring.put(np.full(50_000, number % 251, "u1"), timeout=HANG)

    with bridged(ring, hold_back=True) as (_, far):
        near = far.ring("cam", slots=8, when_full="wait")
        frames = near.reader()
        writer = threading.Thread(target=write)
        writer.start()
        assert [frame.origin.seq for frame in frames if (frame == frame.origin.seq % 251).all()] == list(range(300))
        writer.join(HANG)
        assert near.stats()["lost"] == 0


def test_what_the_network_was_too_slow_for_is_counted() -> None:
    ring = nds.Ring(200_000, "u1", slots=4, when_full="drop_oldest")
    with bridged(ring) as (server, far):
        near = far.ring("cam", slots=512)
        frames = near.reader()
        with ring:
            for number in range(300):
                with ring.write() as frame:
                    frame[:] = number % 251
        came = [frame.origin.seq for frame in frames if (frame == frame.origin.seq % 251).all()]
        assert len(came) + near.stats()["lost"] == 300
        assert came == sorted(set(came))
        assert server.stats()["rings"]["cam"]["dropped"] == near.stats()["lost"]


def test_a_ring_that_waits_for_its_readers_does_not_wait_for_the_network() -> None:
    ring = nds.Ring(100_000, "u1", slots=2)
    with bridged(ring) as (_, far):
        near = far.ring("cam", slots=1, when_full="wait")
        frames = near.reader()  # nobody takes anything for now
        with ring:
            for _ in range(50):
                ring.put(np.zeros(100_000, "u1"), timeout=0.2)
        came = sum(1 for _ in frames)
        assert came + near.stats()["lost"] == 50


def test_a_reader_that_stops_holds_up_no_other_ring_receiver_or_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame waited for it, and with the frame all that came over the link, and the server."""
    monkeypatch.setattr(_pump, "_FULL_WAIT", 2 * HANG)
    ring, other, cache = ring_of(100_000), ring_of(), nds.Cache("8 MiB", load=lambda key: np.full(3, key))
    place = endpoint()
    with (
        net.serve(place, rings={"cam": ring, "other": other}, caches={"tiles": cache}),
        net.connect(place) as far,
        net.connect(place) as elsewhere,
    ):
        stuck = far.ring("cam", slots=1, when_full="wait")
        waiting = stuck.reader()
        frames, others = elsewhere.ring("cam").reader(), far.ring("other").reader()
        for number in range(20):
            ring.put(np.zeros(100_000, "u1"))
            assert frames.get(timeout=HANG).origin.seq == number
        other.put(np.zeros(100, "u1"))
        assert others.get(timeout=HANG).origin.seq == 0
        assert far.loader("tiles")(7).tolist() == [7, 7, 7]
        # One is in the ring, one waits for room, and two behind it; what found none is counted when they have it.
        first = [waiting.get(timeout=HANG).origin.seq for _ in range(4)]
        assert first == [0, 1, 2, 3]
        assert wait_until(lambda: stuck.stats()["lost"] == 16, HANG)


def test_frames_wait_for_a_reader_that_stopped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pump, "_FULL_WAIT", 0.5)
    ring = nds.Ring(100, "u1", slots=4)
    with bridged(ring, hold_back=True) as (_, far):
        near = far.ring("cam", slots=1, when_full="wait")
        frames, begun = near.reader(), time.monotonic()
        for _ in range(40):
            ring.put(np.zeros(100, "u1"), timeout=HANG)
        assert wait_until(lambda: near.stats()["lost"] == 39, HANG)
        assert time.monotonic() - begun < 20
        # It reads again, and is waited for again.
        assert frames.get(timeout=HANG).origin.seq == 0
        for _ in range(8):
            ring.put(np.zeros(100, "u1"), timeout=HANG)
        assert [frames.get(timeout=HANG).origin.seq for _ in range(8)] == list(range(40, 48))


def test_a_far_ring_that_is_full_does_not_hold_up_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pump, "_FULL_WAIT", 2 * HANG)
    ring = ring_of()
    with bridged(ring) as (server, far):
        near = far.ring("cam", slots=1, when_full="wait")
        frames = near.reader()
        for number in range(8):
            ring.put(np.zeros(100, "u1"))
            assert wait_until(lambda number=number: server.stats()["rings"]["cam"]["sent"] > number, HANG)
        far.close()
        assert not far._pumps["cam"].thread.is_alive()
        assert frames.get(timeout=HANG).origin.seq == 0
        with pytest.raises(nds.Closed):
            frames.get(timeout=HANG)


def test_who_closes_in_the_midst_of_frames_holds_nobody_up() -> None:
    """Zenoh went on waiting for the link that was gone: others connected after 10 seconds. Here it waits for longer."""
    queue = {"congestion_control": {"block": {"wait_before_close": 10 * HANG * 1_000_000}}}
    config = {"transport": {"link": {"tx": {"lease": 10 * HANG * 1000, "queue": queue}}}}
    ring = nds.Ring(1_000_000, "u1", slots=2)
    with bridged(ring, hold_back=True, config=config) as (server, far):
        frames = far.ring("cam", slots=1, when_full="wait").reader()
        with suppress(nds.Full):
            for _ in range(100):
                ring.put(np.zeros(1_000_000, "u1"), timeout=0.2)
        assert ring.stats()["written"] < 100
        far.close()
        assert frames.get(timeout=HANG).origin.seq == 0
        with net.connect(server.link.endpoint, timeout=HANG) as other:
            others = other.ring("cam", timeout=HANG).reader()
            ring.put(np.ones(1_000_000, "u1"), timeout=HANG)
            assert others.get(timeout=HANG).origin.run == server.run


def test_who_hears_nothing_listens_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a link was cut and mended the other side may not know any more who listens; nothing came for ever."""
    monkeypatch.setattr(_pump, "_SILENT", 0.8)
    ring = ring_of()
    with bridged(ring) as (_, far):
        near = far.ring("cam")
        frames, pump = near.reader(), far._pumps["cam"]
        kept = len(far.link._kept)
        pump._subscriber.undeclare()
        pump._watcher.undeclare()
        pump._inbox.see(SimpleNamespace(key_expr=_wire.live_key("ring", "cam", pump._run or 0), kind=None))
        assert wait_until(lambda: pump.stats["state"] == "waiting", HANG)
        ring.put(np.zeros(100, "u1"))
        assert wait_until(lambda: pump.stats["state"] == "open" and near.stats()["lost"] == 1, HANG)
        ring.put(np.ones(100, "u1"))
        assert frames.get(timeout=HANG).origin.seq == 1
        assert len(far.link._kept) == kept


def test_a_wait_in_vain_says_where_to_look() -> None:
    ring = ring_of()
    with bridged(ring) as (_, far):
        for get in (far.ring("cam").reader().get, far.ring("cam").reader().newest):
            with pytest.raises(nds.Empty) as caught:
                get(timeout=0.001)
            assert "far.stats()" in str(caught.value.__notes__)
    with pytest.raises(nds.Empty) as caught:
        ring.reader().get(timeout=0)
    assert not hasattr(caught.value, "__notes__")


def test_what_was_before_does_not_count_and_the_end_travels() -> None:
    ring = ring_of()
    with bridged(ring) as (server, far):
        with ring:
            for _ in range(5):
                ring.put(np.zeros(100, "u1"))
            assert wait_until(lambda: server.stats()["rings"]["cam"]["unheard"] == 5, HANG)
            near = far.ring("cam")
            frames = near.reader()
            ring.put(np.ones(100, "u1"))
        assert [frame.origin.seq for frame in frames] == [5]
        with pytest.raises(nds.Closed):
            frames.get(timeout=HANG)
        assert near.stats()["lost"] == 0
        assert near.closed
        assert wait_until(lambda: far.stats()["rings"]["cam"]["state"] == "ended", HANG)
        # Who comes after the end finds it.
        with net.connect(server.link.endpoint, timeout=HANG) as late, pytest.raises(nds.Closed):
            late.ring("cam").reader().get(timeout=HANG)


def test_a_server_that_closes_at_once_sends_to_the_end() -> None:
    ring, place = nds.Ring(1_000_000, "u1", slots=8), endpoint()
    with net.serve(place, rings={"cam": ring}, hold_back=True) as server, puppets(()) as (receiver,):
        receiver.do(f"far = net.connect({place!r}, timeout=60)")
        receiver.do("near = far.ring('cam', slots=64, timeout=60)")
        receiver.do("collecting(near.reader())")
        with ring:
            for number in range(40):
                ring.put(np.full(1_000_000, number, "u1"), timeout=HANG)
        server.close(timeout=HANG)
        receiver.until("ends == ['closed']")
        assert receiver.do("counts()")["seen"] == 40


def test_two_threads_close_a_server_at_once_and_all_rings_have_one_timeout() -> None:
    rings = {str(number): ring_of() for number in range(8)}
    server = net.serve("tcp/127.0.0.1:0", rings=rings)
    # Somebody who listens, and does not go away at the end.
    listener = server.link.session.declare_subscriber("ndshare/**", net._link.in_place(lambda _: None))
    for ring in rings.values():
        ring.close()
    assert wait_until(lambda: all(ring["state"] == "ended" for ring in server.stats()["rings"].values()), HANG)
    begun = time.monotonic()
    errors: list[BaseException] = []

    def close() -> None:
        try:
            server.close(timeout=0.3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert errors == []
    assert not server.is_open
    assert 0.3 <= time.monotonic() - begun < 1.8
    del listener


def test_a_ring_that_is_closed_here_receives_no_more() -> None:
    ring = ring_of()
    with bridged(ring) as (server, far):
        far.ring("cam").close()
        ring.put(np.zeros(100, "u1"))
        assert wait_until(lambda: far.stats()["rings"]["cam"]["state"] == "closed", HANG)

        # The server hears a moment later that nobody listens any more.
        def is_unheard() -> bool:
            ring.put(np.zeros(100, "u1"))
            return server.stats()["rings"]["cam"]["unheard"] > 0

        assert wait_until(is_unheard, HANG)


def test_meta_of_another_size_is_rejected() -> None:
    ring = ring_of(meta=[("name", "U2")])
    with bridged(ring) as (server, far):
        frames = far.ring("cam").reader()
        key, bad = _wire.frames_key("cam", server.run), header(run=server.run, meta=b"x" * 7)
        server.link.session.put(key, b"x" * 100, attachment=_wire.pack(bad))
        assert wait_until(lambda: far.stats()["rings"]["cam"]["rejected"] == 1, HANG), far.stats()
        ring.put(np.zeros(100, "u1"), name="ok")
        assert frames.get(timeout=HANG).meta["name"] == "ok"


def test_a_frame_that_is_passed_on_twice_says_where_it_was_made_first() -> None:
    ring, place, second = ring_of(meta=[("gain", "f4")]), endpoint(), endpoint()
    with (
        net.serve(place, rings={"cam": ring}) as server,
        net.connect(place) as far,
        net.serve(second, rings={"cam": far.ring("cam")}),
        net.connect(second) as farther,
    ):
        frames = farther.ring("cam").reader()
        ring.put(np.zeros(100, "u1"), gain=0.5)
        frame = frames.get(timeout=HANG)
        assert (frame.origin.run, frame.origin.seq, frame.meta["gain"]) == (server.run, 0, 0.5)


def test_what_zenoh_keeps_of_a_closed_bridge_keeps_no_ring() -> None:
    arena, place = nds.Arena("8 MiB"), endpoint()
    ring = ring_of(arena=arena)
    server, far = net.serve(place, rings={"cam": ring}), net.connect(place)
    far.ring("cam", arena=arena)
    kept = server._senders["cam"]._about, far._pumps["cam"]._inbox.take
    far.close()
    server.close()
    del ring, far
    assert wait_until(lambda: gc.collect() >= 0 and nds.stats(arena)["blocks"] == 0, HANG), kept


def test_other_processes_see_what_was_lost() -> None:
    ring = ring_of()
    source = "import sys, ndshare as nds; print(nds.ref(sys.argv[1]).open().stats()['lost'])"
    ring._count_lost(3)
    ring._count_lost(4)
    assert run(source, str(nds.ref(ring))).clean().strip() == "7"


# ---- caches ---------------------------------------------------------------------------------------------------------


def test_a_miss_here_is_a_hit_or_a_load_there() -> None:
    def load(key: Any) -> Any:
        if key == "missing":
            raise KeyError(key)
        if key == "bad":
            raise OSError("no disk")
        return np.full((2, key), key, "u2")

    cache = nds.Cache("8 MiB", load)
    with bridged(cache=cache) as (server, far):
        near = nds.Cache("8 MiB", load=far.loader("tiles"))
        assert (near[3] == np.full((2, 3), 3)).all()
        assert near[3].dtype == "u2"
        assert nds.is_shared(near[3])
        assert (cache.info()["loads"], near.info()["loads"]) == (1, 1)
        cache[4] = np.arange(4)
        assert near[4].tolist() == [0, 1, 2, 3]
        assert cache.info()["loads"] == 1
        with pytest.raises(KeyError, match="missing"):
            near["missing"]
        with pytest.raises(net.FarLoadError, match="no disk") as caught:
            near["bad"]
        assert isinstance(caught.value, nds.LoadError)
        assert not isinstance(caught.value, KeyError)
        assert (caught.value.type_name, caught.value.host) == ("OSError", socket.gethostname())
        with pytest.raises(net.Unreachable, match="nothing"):
            nds.Cache("8 MiB", load=far.loader("nothing"))[1]
        assert server.stats()["caches"]["tiles"] == {"values": 2, "bytes": 44, "failures": 2}


def test_who_has_a_value_finds_it_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was counted after it was sent, so it could be here before."""
    with bridged(cache=nds.Cache("8 MiB", load=lambda _: np.zeros(3))) as (server, far):
        counted, answers, may_send = list[int](), server._answers, True
        reply_of = answers._reply

        def watched(name: str, cache: Any, query: Any) -> None:
            def reply(*args: Any, **more: Any) -> None:
                counted.append(answers.stats[name]["values"])
                if not may_send:
                    raise zenoh.ZError("no link")
                query.reply(*args, **more)

            watching = MagicMock(payload=query.payload, key_expr=query.key_expr, reply=reply)
            watching.__exit__.return_value = None
            reply_of(name, cache, watching)
            query.drop()

        monkeypatch.setattr(answers, "_reply", watched)
        load = far.loader("tiles")
        assert load(1).tolist() == [0, 0, 0]
        may_send = False
        with pytest.raises(net.FarLoadError, match="no link"):
            load(2)
        assert counted == [1, 2]
        assert server.stats()["caches"]["tiles"] == {"values": 1, "bytes": 24, "failures": 1}


def test_keys_of_each_kind_are_the_same_there() -> None:
    cache = nds.Cache("8 MiB", load=lambda key: np.frombuffer(repr(key).encode(), "u1"))
    keys: list[Any] = ["a", b"a", 7, -(2**80), 1.5, None, ("tile", 3, (4, "ä")), slice(1, None), ..., True]
    with bridged(cache=cache) as (_, far):
        near = nds.Cache("8 MiB", load=far.loader("tiles"))
        for key in keys:
            # Equal keys are one: True is 1.
            assert near[key].tobytes().decode() == repr(int(key) if key is True else key)


def test_one_loads_and_the_others_wait_on_both_sides() -> None:
    begun, go_on, loads = threading.Event(), threading.Event(), []

    def load(key: Any) -> Any:
        loads.append(key)
        begun.set()
        assert go_on.wait(HANG)
        return np.full(5, key)

    cache = nds.Cache("8 MiB", load)
    with bridged(cache=cache) as (server, far):
        nears = [nds.Cache("8 MiB", load=far.loader("tiles")) for _ in range(2)]
        values: list[Any] = []
        threads = [threading.Thread(target=lambda near=near: values.append(near[7])) for near in nears * 3]
        for thread in threads:
            thread.start()
        assert begun.wait(HANG)
        go_on.set()
        for thread in threads:
            thread.join(HANG)
        assert loads == [7]
        assert len(values) == 6
        assert all((value == 7).all() for value in values)
        assert wait_until(lambda: server.stats()["caches"]["tiles"]["values"] == 2, HANG)


def test_a_loader_that_takes_too_long_is_a_timeout() -> None:
    go_on = threading.Event()
    cache = nds.Cache("8 MiB", load=lambda _: np.zeros(3) if go_on.wait(HANG) else None)
    with bridged(cache=cache) as (server, far):
        with pytest.raises(nds.Timeout, match=r"value of 1 in the cache 'tiles'.*still be loading"):
            nds.Cache("8 MiB", load=far.loader("tiles", timeout=0.3))[1]
        go_on.set()
        # The thread that answers has the cache as long as it is at it.
        assert wait_until(lambda: sum(server.stats()["caches"]["tiles"].values()) > 0, HANG)


def test_a_server_that_closes_does_not_say_that_a_key_has_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that came as it closed was answered by a KeyError."""
    with bridged(cache=nds.Cache("8 MiB", load=lambda _: np.zeros(3))) as (server, far):
        answers, answer = server._answers, server._answers._answer

        def late(name: str, query: Any) -> None:
            answers.stop()
            answer(name, query)

        monkeypatch.setattr(answers, "_answer", late)
        with pytest.raises(net.Unreachable):
            far.loader("tiles", timeout=HANG)(1)


# ---- who is there ---------------------------------------------------------------------------------------------------


def test_two_servers_of_one_name_are_refused() -> None:
    ring, first, second = ring_of(), endpoint(), endpoint()
    with net.serve(first, rings={"cam": ring}):
        joined = {"connect": {"endpoints": [first]}}
        with pytest.raises(net.NameTaken, match="ring 'cam'"):
            net.serve(second, rings={"cam": ring}, config=joined)
        with net.serve(second, rings={"other": ring}, config=joined) as server:
            assert server.stats()["rivals"] == []
    # The name is free again.
    net.serve(first, rings={"cam": ring}).close()


def test_a_cache_elsewhere_is_no_rival_of_a_ring_of_its_name() -> None:
    with net.serve(endpoint(), rings={"cam": ring_of()}) as server:
        for kind in ("cache", "ring"):
            token: Any = SimpleNamespace(key_expr=_wire.live_key(kind, "cam", 5), kind=zenoh.SampleKind.PUT)
            server._see(token)
            assert server.stats()["rivals"] == ([] if kind == "cache" else [f"ring 'cam' of run {5:016x}"])


def test_who_waits_behind_another_one_waits_no_longer_than_it_said() -> None:
    with bridged(ring_of()) as (_, far):

        def wait() -> None:
            with pytest.raises((nds.Timeout, ValueError)):
                far.ring("other", timeout=2 * HANG)

        thread = threading.Thread(target=wait)
        thread.start()
        assert wait_until(lambda: "other" in far._begins, HANG)
        with pytest.raises(nds.Timeout, match="'other'"):
            far.ring("other", timeout=0.2)
        assert thread.is_alive()
        # Who asks for another ring does not wait at all.
        assert far.ring("cam", timeout=HANG).slots == 32
    thread.join(HANG)
    assert not thread.is_alive()


def test_who_waits_is_told_for_whom() -> None:
    place = endpoint()
    with pytest.raises(net.Unreachable, match=place.removeprefix("tcp/")):
        net.connect(place, timeout=0.3)
    with (
        net.serve(place, rings={"cam": ring_of()}),
        net.connect(place) as far,
        pytest.raises(nds.Timeout, match="'other', got cam"),
    ):
        far.ring("other", timeout=0.3)
    with pytest.raises(OSError, match="listen"):
        net.serve("tcp/192.0.2.1:1", rings={"cam": ring_of()})
    with pytest.raises(ValueError, match="timeout"):
        net.connect(place, timeout=-1)


def test_arguments_of_other_kinds_are_refused(tmp_path: Any) -> None:
    place, ring, cache = endpoint(), ring_of(), nds.Cache("1 MiB")
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"rings": [ring]}, TypeError, "rings= as a dict.*got list"),
        ({"rings": ring}, TypeError, "rings= as a dict.*got Ring"),
        ({"rings": {"a": cache}}, TypeError, "rings.'a'. to be a Ring, got Cache"),
        ({"caches": {"a": ring}}, TypeError, "caches.'a'. to be a Cache, got Ring"),
        ({"rings": {7: ring}}, TypeError, "got 7"),
        ({}, ValueError, "to offer, got none"),
        ({"rings": {"a": ring}, "timeout": "10"}, TypeError, "seconds.*got '10'"),
        ({"rings": {"a": ring}, "config": {"transport": {"nope": 1}}}, ValueError, "'transport/nope'.*unknown key"),
        ({"rings": {"a": ring}, "config": tmp_path / "none"}, FileNotFoundError, "none"),
        ({"rings": {"a": ring}, "config": 5}, TypeError, "got 5"),
        ({"caches": {"a": cache}, "workers": 0}, ValueError, "workers= of 1 or more.*got 0"),
        ({"caches": {"a": cache}, "workers": -1}, ValueError, "workers= of 1 or more.*got -1"),
        ({"caches": {"a": cache}, "workers": 1.5}, TypeError, "workers= as a number.*got 1.5"),
        ({"caches": {"a": cache}, "workers": "x"}, TypeError, "workers= as a number.*got 'x'"),
    ]
    for more, kind, match in wrong:
        with pytest.raises(kind, match=match):
            net.serve(place, **more)
    (tmp_path / "bad.json5").write_text("{nope: [")
    with pytest.raises(ValueError, match=r"in .*bad\.json5"):
        net.connect(place, config=tmp_path / "bad.json5")


@pytest.mark.parametrize("wrong", ["", "host:7447", "tcp/host", "tcp/", "tcp/host:x", "tcp/host:99999", "tcp/:1"])
def test_an_endpoint_that_is_none_is_refused_at_once(wrong: str) -> None:
    with pytest.raises(ValueError, match='such as "tcp/host:7447", got'):
        net.connect(wrong, timeout=None)
    with pytest.raises(TypeError, match="got 7447"):
        net.connect([7447])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


def test_why_nobody_was_reached_is_told() -> None:
    with pytest.raises(net.Unreachable, match="refused") as caught:
        net.connect(endpoint(), timeout=0.2)
    assert ".cargo" not in str(caught.value)
    assert net._link.why_not("tcp/nowhere.invalid:7447").startswith("tcp/nowhere.invalid:7447: ")
    with pytest.raises(OSError, match="assign") as listening:
        net.serve("tcp/192.0.2.1:1", rings={"cam": ring_of()})
    assert ".cargo" not in str(listening.value)


def test_a_ring_asked_for_again_in_another_way_is_refused() -> None:
    with bridged(ring_of()) as (_, far):
        far.ring("cam", slots=8)
        with pytest.raises(ValueError, match=r"slots=8.*slots=9"):
            far.ring("cam", slots=9)


def test_what_is_closed_says_so_in_each_call() -> None:
    with bridged(ring_of(), nds.Cache("1 MiB")) as (_, far):
        load, wait = far.loader("tiles"), {"slots": 2, "when_full": "wait"}
        far.ring("cam", **wait)

        def call_under_way() -> None:
            with far.link.used():
                far.close()
                raise zenoh.ZError("Session closed")

        with pytest.raises(ValueError, match="was closed"):
            call_under_way()
        closed: list[Any] = [
            partial(far.ring, "cam", **wait), partial(far.ring, "other"), partial(load, 1), far.link.tokens,
        ]  # fmt: skip
        for call in closed:
            with pytest.raises(ValueError, match=r"the link to tcp/\S+ was closed"):
                call()
        assert not far.is_connected


def test_a_ring_that_begins_while_its_link_closes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with bridged(ring_of()) as (_, far):
        start, begun = _pump.Pump.start, list[_pump.Pump]()

        def late(pump: _pump.Pump) -> None:
            begun.append(pump)
            far.close()
            start(pump)

        monkeypatch.setattr(_pump.Pump, "start", late)
        with pytest.raises(ValueError, match="was closed"):
            far.ring("cam", when_full="wait")
        assert begun[0].ring.closed
        assert not begun[0].link.is_mine
        assert wait_until(lambda: not begun[0].thread.is_alive(), HANG)


def test_a_cache_that_is_not_offered_is_told_with_those_that_are() -> None:
    with bridged(cache=nds.Cache("1 MiB")) as (_, far), pytest.raises(net.Unreachable, match="offered: tiles"):
        far.loader("tile")(1)


@contextmanager
def impostor(hello: bytes) -> Iterator[str]:
    """Offer what no server of ours would."""
    place = endpoint()
    session = zenoh.open(net._link.configured("listen", place, None))
    try:
        answer = zenoh.handlers.Callback(lambda query: query.reply(query.key_expr, hello), indirect=False)
        queryable = session.declare_queryable(_wire.HELLO, answer)
        yield place
        queryable.undeclare()
    finally:
        session.close()


def test_another_protocol_is_refused_with_both_versions() -> None:
    hello = _wire.told({"protocol": 99, "ndshare": "7.0", "host": "elsewhere"})
    with (
        impostor(hello) as place,
        pytest.raises(net.Incompatible, match=r"protocol 2.*99 of ndshare 7\.0 on elsewhere"),
    ):
        net.connect(place, timeout=HANG)


@pytest.mark.parametrize("hello", [b"", b"[]", b"{", b"\xff" * 10, b'{"protocol": "1"}', b"[" * 60_000], ids=repr)
def test_a_server_that_is_none_is_an_error(hello: bytes) -> None:
    with impostor(hello) as place, pytest.raises((net.Incompatible, ValueError)):
        net.connect(place, timeout=HANG)


def test_an_answer_that_is_none_is_an_error_of_the_public_names() -> None:
    with impostor(b"nonsense") as place, pytest.raises(net.Incompatible, match="expected a server of ndshare at tcp"):
        net.connect(place, timeout=HANG)


def test_user_and_password_of_a_configuration(tmp_path: Any) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("camera:secret\n")
    place, ring = endpoint(), ring_of()

    def auth(**given: str) -> dict[str, Any]:
        return {"transport": {"auth": {"usrpwd": given}}}

    config = auth(user="server", password="other", dictionary_file=str(passwords))
    with net.serve(place, rings={"cam": ring}, config=config):
        with pytest.raises(net.Unreachable):
            net.connect(place, timeout=0.5)
        with net.connect(place, config=auth(user="camera", password="secret"), timeout=HANG) as far:
            assert far.rings == ("cam",)
        with_file = tmp_path / "zenoh.json5"
        with_file.write_text('{transport: {auth: {usrpwd: {user: "camera", password: "secret"}}}}')
        with net.connect(place, config=with_file, timeout=HANG) as far:
            assert far.rings == ("cam",)


@pytest.mark.parametrize(
    ("name", "text", "is_ours"),
    [
        ("a.json5", "{mode: 'peer' /* access_control: {} */}", True),
        ("b.json5", "{metadata: {name: 'access_control: none'} // access_control: {}\n}", True),
        ("c.yaml", "mode: peer # access_control: mine\n", True),
        ("d.json5", "{'access_control': {enabled: false}}", False),
        ("e.json5", '{"access\\u005fcontrol": {"enabled": false, "default_permission": "allow"}}', False),
        ("f.yaml", "access_control:\n  enabled: false\n", False),
    ],
)
def test_a_file_sets_what_it_has_as_a_name(name: str, text: str, is_ours: bool, tmp_path: Any) -> None:
    """A word in a comment switched off what keeps strangers out."""
    (tmp_path / name).write_text(text)
    made = net._link.configured("listen", "tcp/127.0.0.1:0", tmp_path / name, guarded=["a"])
    assert ('"enabled":true' in made.get_json("access_control")) == is_ours


def test_tls_by_a_configuration(tmp_path: Any) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=CA:FALSE",
    ]
    subprocess.run([*made, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    place, ring = endpoint().replace("tcp/127.0.0.1", "tls/localhost"), ring_of()
    listening = {"listen_private_key": str(key), "listen_certificate": str(certificate)}
    with net.serve(place, rings={"cam": ring}, config={"transport": {"link": {"tls": listening}}}):
        trust = {"transport": {"link": {"tls": {"root_ca_certificate": str(certificate)}}}}
        with net.connect(place, config=trust, timeout=HANG) as far:
            frames = far.ring("cam").reader()
            ring.put(np.ones(100, "u1"))
            assert frames.get(timeout=HANG).origin.seq == 0
        with pytest.raises(net.Unreachable):
            net.connect(place, timeout=0.5)


def test_what_is_larger_than_allowed_is_refused() -> None:
    ring, place = nds.Ring(dtype="u1", slots=8, when_full="drop_oldest"), endpoint()
    cache = nds.Cache("8 MiB", load=lambda key: np.zeros(key, "u1"))
    with (
        net.serve(place, rings={"cam": ring}, caches={"tiles": cache}),
        net.connect(place, timeout=HANG, max_bytes=100_000) as far,
    ):
        near = far.ring("cam")
        frames = near.reader()
        ring.put(np.zeros(300_000, "u1"))
        ring.put(np.zeros(50_000, "u1"))
        assert frames.get(timeout=HANG).origin.seq == 1
        assert near.stats()["lost"] == 1
        load = far.loader("tiles", timeout=2.0)
        assert load(100_000).size == 100_000
        with pytest.raises((net.FarLoadError, nds.Timeout)):
            load(110_000)


# ---- hostile messages -----------------------------------------------------------------------------------------------


def header(**changes: Any) -> _wire.Header:
    good = _wire.Header(_wire.FRAME, 0, 1, 0, 0, 100, (100,), "|u1", b"")
    return good._replace(**changes)


BAD_HEADERS = {
    "empty": b"",
    "short": b"NDSN\2\1",
    "long": b"NDSN" + bytes(1 << 20),
    "magic": b"PK\3\4" + _wire.pack(header())[4:],
    "protocol": _wire.pack(header())[:4] + b"\7" + _wire.pack(header())[5:],
    "kind": _wire.pack(header(kind=77)),
    "flags": _wire.pack(header(flags=0x80)),
    "axes": _wire.pack(header(shape=(1,) * 65)),
    "cut": _wire.pack(header())[:-1],
    "more": _wire.pack(header()) + b"x",
    "meta": _wire.pack(header(meta=b"x" * 5000)),
    "a note of no kind": _wire.pack(header(note_kind=4, note=b"x")),
    "a note that is none": _wire.pack(header(note=b"x")),
    "a note beside no frame": _wire.pack(header(kind=_wire.NEXT, note_kind=1, note=b"x")),
    "a text that is none": _wire.pack(header(note_kind=1, note=b"\xff")),
    "a note that is cut": _wire.pack(header(note_kind=1, note=b"xyz"))[:-1],
}
BAD_ARRAYS = {
    "another size": header(nbytes=99),
    "huge": header(nbytes=1 << 62, shape=(1 << 62,)),
    "product beyond 64 bits": header(shape=(1 << 60, 1 << 60, 0, 100)),
    "product that wraps": header(shape=(1 << 63, 2, 50), nbytes=100),
    "objects": header(dtype="|O", shape=(12,), nbytes=96),
    "pickle": header(dtype="cos\nsystem\n(S'id'\ntR."),
    "no dtype": header(dtype=""),
    "deep dtype": header(dtype="[" * 4000),
    "code": header(dtype="__import__('os')"),
    "a bomb": header(flags=_wire.LZ4, nbytes=1 << 29, shape=(1 << 29,)),
}


@pytest.mark.parametrize("data", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_header_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(_wire.Malformed):
        _wire.unpack(data)


@pytest.mark.parametrize("bad", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_an_array_that_cannot_be_is_refused_before_it_is_made(bad: _wire.Header) -> None:
    told = _wire.unpack(_wire.pack(bad))
    with pytest.raises(_wire.Malformed):
        _wire.checked_array(told, 100, 1 << 30)


def test_a_note_counts_as_the_items_do() -> None:
    told = _wire.unpack(_wire.pack(header(note_kind=3, note=b"x" * 50)))
    assert _wire.checked_array(told, 100, 150) == np.uint8
    with pytest.raises(_wire.Malformed, match="at most 149 bytes, got 100 and a note of 50: see max_bytes"):
        _wire.checked_array(told, 100, 149)


@pytest.mark.parametrize("compress", [None, "lz4"])
def test_a_message_whose_end_is_anothers_is_refused(compress: Any) -> None:
    """A link that was cut while a frame was on its way brought frames that went on as the next one."""
    if compress:
        pytest.importorskip("lz4.block")
    first, second = (_wire.packed(np.full(1000, number, "u1"), compress, _wire.seal(1, number)) for number in (5, 6))
    first, second = ((bytes(payload), flags) for payload, flags in (first, second))
    told = header(number=5, nbytes=1000, shape=(1000,), flags=first[1])
    assert (_wire.unpacked(told, first[0]) == 5).all()
    for payload in (second[0], (first[0][:-40] + second[0])[: len(first[0])], first[0][:-1]):
        with pytest.raises(_wire.Malformed, match="expected the whole of number 5"):
            _wire.unpacked(told, payload)


@pytest.mark.parametrize(
    ("dtype", "shape"), [("|V0", (3,)), ("|S0", (1 << 20,)), ("<f8", (0, 4096, 4096)), ("|u1", (3, 0, 2))]
)
def test_an_array_of_no_bytes_is_made(dtype: str, shape: tuple[int, ...]) -> None:
    assert _wire.checked_array(header(dtype=dtype, shape=shape, nbytes=0), 0, 0) == np.dtype(dtype)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("|V0", (1 << 21,)),
        ("<U0", (1 << 27,)),
        ("|u1", (1 << 40, 1 << 40, 0)),
        ("|u1", (1 << 63, 0)),
        ("|V0", (1 << 63,)),
    ],
)
def test_an_array_of_no_bytes_is_refused_if_there_is_too_much_of_it(dtype: str, shape: tuple[int, ...]) -> None:
    """NumPy made 512 MiB of no bytes, or raised an error of its own."""
    with pytest.raises(_wire.Malformed):
        _wire.checked_array(header(dtype=dtype, shape=shape, nbytes=0), 0, 0)


def test_a_header_survives_the_way() -> None:
    for one in [
        header(),
        header(shape=(), dtype="<f8", nbytes=8, meta=b"abc"),
        header(kind=_wire.END, number=2**64 - 1),
    ]:
        assert _wire.unpack(_wire.pack(one)) == one


def test_bytes_at_random_are_refused_or_bounded() -> None:
    dice, good = np.random.default_rng(7), _wire.pack(header(meta=b"abcd", shape=(10, 10)))
    for _ in range(3000):
        data = bytearray(good)
        for at in dice.integers(0, len(data), dice.integers(1, 6)):
            data[at] = dice.integers(0, 256)
        try:
            told = _wire.unpack(bytes(data))
            dtype = _wire.checked_array(told, 100, 1 << 20)
        except _wire.Malformed:
            continue
        assert int(np.prod(told.shape, dtype=object)) * dtype.itemsize == told.nbytes <= 1 << 20


def test_a_ring_goes_on_after_hostile_messages() -> None:
    ring = ring_of()
    with bridged(ring) as (server, far):
        near = far.ring("cam")
        frames = near.reader()
        session, key = server.link.session, _wire.frames_key("cam", server.run)
        bad = [header(run=server.run)._replace(number=0, **change) for change in ({"nbytes": 99}, {"dtype": "|O"})]
        for data in [*BAD_HEADERS.values(), *map(_wire.pack, bad), _wire.pack(header(run=5))]:
            session.put(key, b"x" * 100, attachment=data)
        session.put(key, b"x" * 100)
        rejected = len(BAD_HEADERS) + 4
        assert wait_until(lambda: far.stats()["rings"]["cam"]["rejected"] == rejected, HANG), far.stats()
        ring.put(np.full(100, 9, "u1"))
        assert (frames.get(timeout=HANG) == 9).all()
        assert near.stats()["lost"] == 0


def test_nobody_else_sends_or_answers_under_the_keys_of_a_server() -> None:
    asked = threading.Event()

    def load(_: Any) -> Any:
        assert asked.wait(HANG)
        time.sleep(0.2)  # in which another one's answer would have come
        return np.zeros(3)

    ring, cache = ring_of(), nds.Cache("8 MiB", load)
    with bridged(ring, cache) as (server, far):
        near = far.ring("cam")
        frames = near.reader()
        stranger = zenoh.open(net._link.configured("connect", server.link.endpoint, None))
        key = _wire.frames_key("cam", server.run)

        def answer(query: Any) -> None:
            query.reply_err(b'{"type": "KeyError"}')
            asked.set()

        token = stranger.liveliness().declare_token(_wire.live_key("ring", "cam", server.run))
        stranger.declare_queryable("**", net._link.in_place(answer))
        bad = _wire.pack(header(run=server.run, number=7))
        stranger.put(key, b"x" * 100, attachment=bad)
        stranger.put(key, b"", attachment=_wire.pack(header(kind=_wire.END, run=server.run, nbytes=0, shape=(0,))))
        token.undeclare()
        # What has wildcards in its key comes through, and is refused here; so what was sent before has been refused.
        stranger.put("ndshare/**", b"x" * 100, attachment=bad)
        assert wait_until(lambda: far.stats()["rings"]["cam"]["rejected"] == 1, HANG), far.stats()
        stats = far.stats()["rings"]["cam"]
        assert (stats["received"], stats["state"], near.stats()["lost"]) == (0, "open", 0)
        ring.put(np.full(100, 9, "u1"))
        assert (frames.get(timeout=HANG) == 9).all()
        # The answer that counts is the server's, though others are asked.
        assert far.loader("tiles")(1).tolist() == [0, 0, 0]
        stranger.close()


def test_a_strangers_answers_are_taken_for_nobodys() -> None:
    """One under a key with wildcards was a value, and one of another protocol let nobody connect."""
    ring, cache = ring_of(), nds.Cache("8 MiB", load=lambda _: (time.sleep(0.2), np.full(8, 5, "u1"))[1])
    with bridged(ring, cache) as (server, _):
        stranger = zenoh.open(net._link.configured("connect", server.link.endpoint, None))
        seal, value = _wire.seal(1, 1), header(kind=_wire.VALUE, flags=_wire.SEALED, number=1, nbytes=8, shape=(8,))
        about = {
            "protocol": _wire.PROTOCOL,
            "run": server.run,
            "shape": [9],
            "dtype": "<f8",
            "meta": None,
            "next": 0,
            "begin": 0,
        }
        answers: list[tuple[str, str, bytes, bytes]] = [
            ("ndshare/cache/**", "ndshare/cache/tiles/**", b"evilevil" + seal, _wire.pack(value)),
            ("ndshare/ring/**", "ndshare/ring/cam/**", _wire.told(about), b""),
            ("ndshare/ring/cam/about/*", _wire.about_key("cam", 1), _wire.told(about), b""),
            (_wire.HELLO, _wire.HELLO, _wire.told({"protocol": 99}), b""),
            (_wire.HELLO, _wire.HELLO, b"nonsense", b""),
        ]
        for asked, *said in answers:

            def answer(query: Any, said: list[Any] = said) -> None:
                # Zenoh itself refuses some, by one engine with an error. As often as answers are looked at.
                with query, suppress(zenoh.ZError):
                    for _ in range(64):
                        query.reply(said[0], said[1], attachment=said[2])

            stranger.declare_queryable(asked, net._link.in_place(answer))
        with net.connect(server.link.endpoint, timeout=HANG) as far:
            assert far.rings == ("cam",)
            assert far.ring("cam", timeout=HANG).shape == (100,)
            assert [far.loader("tiles")(key)[0] for key in range(3)] == [5, 5, 5]
        stranger.close()


def test_who_answers_without_an_end_is_cut_off() -> None:
    def answer(query: Any) -> None:
        with query:
            for number in range(500):
                query.reply(query.key_expr, b"x" * (10 if number % 2 else 100_000))

    place, hello = endpoint(), _wire.told({"protocol": _wire.PROTOCOL})
    session = zenoh.open(net._link.configured("listen", place, None))
    queryables = [
        session.declare_queryable(key, net._link.in_place(call))
        for key, call in [(_wire.HELLO, lambda query: query.reply(query.key_expr, hello)), ("long", answer)]
    ]
    with net.connect(place, timeout=HANG) as far:
        sizes = [len(reply.ok.payload) for reply in far.link.ask("long", time.monotonic() + HANG, 250_000)]
    assert sizes.count(100_000) == 2
    assert len(sizes) <= 64
    for queryable in queryables:
        queryable.undeclare()
    session.close()


def test_nothing_is_kept_of_what_comes_after_the_answer() -> None:
    """A server that went on answering filled the memory of who had asked once."""
    more, has_answered = threading.Event(), threading.Event()

    def answer(query: Any) -> None:
        def go_on() -> None:
            with query:
                query.reply(query.key_expr, b"x" * 1000)
                assert more.wait(HANG)
                for _ in range(20):
                    query.reply(query.key_expr, b"x" * 1000)
            has_answered.set()

        threading.Thread(target=go_on).start()

    with bridged(ring_of()) as (server, far):
        queryable = server.link.session.declare_queryable("long", net._link.in_place(answer))
        replies = net._link._Replies(64, 1 << 20)
        far.link.session.get("long", replies.handler, consolidation=zenoh.ConsolidationMode.NONE)
        assert replies.get(timeout=HANG) is not None
        replies.close()
        more.set()
        assert has_answered.wait(HANG)
        # The end of the answers is all that comes.
        assert replies.get(timeout=HANG) is None
        queryable.undeclare()


def test_a_question_that_is_too_long_does_not_wait_for_a_loader() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load(_: Any) -> Any:
        begun.set()
        assert go_on.wait(HANG)
        return np.zeros(3)

    with bridged(cache=nds.Cache("8 MiB", load), workers=1) as (_, far):
        thread = threading.Thread(target=far.loader("tiles"), args=(1,))
        thread.start()
        assert begun.wait(HANG)
        for more in ({"payload": b"t" * 70_000}, {"payload": b"t", "attachment": b"x" * 500_000}):
            reply = next(far.link.ask(_wire.values_key("tiles"), time.monotonic() + HANG, **more))
            assert b"expected a key of at most" in reply.err.payload.to_bytes()
        go_on.set()
        thread.join(HANG)


def test_each_gap_is_counted_once() -> None:
    ring = ring_of()
    with bridged(ring) as (server, far):
        near = far.ring("cam")
        session, key = server.link.session, _wire.frames_key("cam", server.run)
        for kind, number in [(_wire.FRAME, 2), (_wire.DIED, 5), (_wire.FRAME, 7), (_wire.FRAME, 7), (_wire.END, 10)]:
            nbytes = 100 if kind == _wire.FRAME else 0
            told = header(kind=kind, number=number, run=server.run, nbytes=nbytes, shape=(nbytes,))
            session.put(key, b"x" * nbytes, attachment=_wire.pack(told))
        assert wait_until(lambda: far.stats()["rings"]["cam"]["state"] == "ended", HANG)
        stats = far.stats()["rings"]["cam"]
        # 0 and 1, 3 and 4, 5 and 6, 8 and 9; the second 7 is none.
        assert (stats["received"], stats["rejected"], stats["lost"], near.stats()["lost"]) == (2, 1, 8, 8)


def test_a_question_that_is_none_is_answered_by_an_error() -> None:
    cache = nds.Cache("8 MiB", load=lambda _: np.zeros(3))
    with bridged(cache=cache) as (_, far):
        for payload in [b"", b"\xff" * 50, b"t" * 70_000, b"t\xff\xff\xff\xff\x0f", b"e" * 30]:
            reply = next(far.link.ask(_wire.values_key("tiles"), time.monotonic() + HANG, payload=payload))
            assert reply.err is not None
            assert b"text" in reply.err.payload.to_bytes()
        assert nds.Cache("8 MiB", load=far.loader("tiles"))[1].tolist() == [0, 0, 0]
        assert cache.info()["loads"] == 1


def test_a_key_that_names_a_class_imports_nothing() -> None:
    source = """
    import enum, sys
    from ndshare import _native
    from ndshare._cache import key_of
    import colorsys_for_nobody as gone
    key = _native.key_bytes(gone.Side.LEFT)
    del sys.modules["colorsys_for_nobody"], gone
    try:
        _native.key_of_bytes(key_of, key)
    except ValueError as error:
        print(error, "colorsys_for_nobody" in sys.modules)
    """
    import helpers

    module = helpers.scripts() / "colorsys_for_nobody.py"
    module.write_text("import enum\nclass Side(enum.Enum):\n    LEFT = 1\n")
    assert run(source).clean().strip().endswith("False")


def test_dtypes_as_text() -> None:
    for dtype in ["u1", ">f8", "S3", "U4", "M8[ns]", "c16", [("a", "i4"), ("b", "f8", (2, 3))], "V5", "?"]:
        text = _native.dtype_text(np.dtype(dtype))
        assert text is not None
        assert _native.dtype_of_text(text) == np.dtype(dtype)
    assert _native.dtype_text(np.dtype("u1", metadata={"a": 1})) is None
    with pytest.raises(TypeError):
        _native.dtype_text(np.dtype(object))


# ---- ends and deaths, in processes ----------------------------------------------------------------------------------


def test_a_far_writers_death_is_told_and_another_goes_on() -> None:
    ring, place = ring_of(), endpoint()
    source = """
    import os, sys
    import numpy as np
    import ndshare as nds
    ring = nds.ref(sys.argv[1]).open()
    for _ in range(3):
        ring.put(np.zeros(100, "u1"))
    os._exit(0)
    """
    with net.serve(place, rings={"cam": ring}), net.connect(place) as far:
        near = far.ring("cam")
        frames = near.reader()
        run(source, str(nds.ref(ring)))
        for number in range(3):
            assert frames.get(timeout=HANG).origin.seq == number
        with pytest.raises(nds.WriterDied) as caught:
            frames.get(timeout=HANG)
        assert caught.value.pid is None
        ring.put(np.ones(100, "u1"))
        assert frames.get(timeout=HANG).origin.seq == 3
        assert near.stats()["lost"] == 0
        assert not near.closed


def test_a_server_that_is_killed_is_followed_by_the_next() -> None:
    place = endpoint()
    with puppets((), (), ()) as (first, second, receiver):
        first.serve(place)
        receiver.join(place)
        first.do("put(5)")
        receiver.until("len(seen) == 5")
        first.kill()
        receiver.until("far.stats()['rings']['cam 0']['state'] == 'waiting'")
        second.serve(place)
        receiver.until("far.stats()['rings']['cam 0']['state'] == 'open'")
        second.do("put(7)")
        receiver.until("len(seen) == 12")
        stats = receiver.do("far.stats()['rings']['cam 0']")
        assert (stats["restarts"], stats["lost"], stats["received"]) == (1, 0, 12)
        assert receiver.do("seen") == [*range(5), *range(7)]
        second.do("ring.close()")
        receiver.until("ends == ['closed']")


def test_what_was_made_while_no_server_was_there_is_counted() -> None:
    """A server is started again over the same ring: the numbers go on, and the gap is known."""
    place = endpoint()
    ring = nds.Ring(3, "u1", slots=8, when_full="drop_oldest")
    server = net.serve(place, rings={"cam": ring})
    with net.connect(place, timeout=HANG) as far:
        near = far.ring("cam")
        frames = near.reader()
        ring.put([1, 1, 1])
        assert frames.get(timeout=HANG).origin.seq == 0
        server.close()
        wait_until(lambda: far.stats()["rings"]["cam"]["state"] == "waiting")
        ring.put([2, 2, 2])
        ring.put([3, 3, 3])
        with net.serve(place, rings={"cam": ring}):
            wait_until(lambda: far.stats()["rings"]["cam"]["state"] == "open")
            ring.put([4, 4, 4])
            assert frames.get(timeout=HANG).origin.seq == 3
            assert near.stats()["lost"] == 2


def test_a_ring_is_the_same_whichever_process_serves_it() -> None:
    """The server that followed one that was killed seemed to serve another ring, and the gap was not counted."""
    place, ring = endpoint(), ring_of()
    with puppets(()) as [program], net.serve(place, rings={"cam": ring}) as server:
        identity = server._senders["cam"].identity
        server.close()
        said = program.do(f"ring = nds.ref({str(nds.ref(ring))!r}).open()")
        assert said is None, said
        said = program.do(f"server = net.serve({place!r}, rings={{'cam': ring}})")
        assert said is None, said
        assert program.do("server._senders['cam'].identity") == identity


def test_a_frame_that_cannot_be_sent_is_counted_and_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure ended the thread of the ring, and nobody was told."""
    place, packed, failures = endpoint(), _wire.packed, iter([MemoryError("none")])

    def fails_once(*args: Any) -> Any:
        for error in failures:
            raise error
        return packed(*args)

    ring = nds.Ring(3, "u1", slots=8, when_full="drop_oldest")
    with net.serve(place, rings={"cam": ring}) as server, net.connect(place, timeout=HANG) as far:
        near = far.ring("cam")
        frames = near.reader()
        monkeypatch.setattr(_wire, "packed", fails_once)
        ring.put([1, 1, 1])
        ring.put([2, 2, 2])
        assert frames.get(timeout=HANG).origin.seq == 1
        assert near.stats()["lost"] == 1
        assert server.stats()["rings"]["cam"]["dropped"] == 1


def test_what_is_lost_at_the_end_is_counted_though_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise MemoryError("none")

    ring = ring_of()
    with bridged(ring) as (server, far):
        near = far.ring("cam")
        monkeypatch.setattr(_wire, "packed", fails)
        ring.put(np.zeros(100, "u1"))
        assert wait_until(lambda: near.stats()["lost"] == 1, HANG)
        # So is the end told again, until all who listen have it.
        lost, sender = threading.Event(), server._senders["cam"]
        publisher = sender._publisher
        deaf = SimpleNamespace(put=lambda *_, **__: lost.set(), matching_status=publisher.matching_status)
        monkeypatch.setattr(sender, "_publisher", deaf)
        ring.close()
        assert wait_until(lambda: sender.stats["state"] == "ended", HANG)
        assert lost.is_set()
        monkeypatch.setattr(sender, "_publisher", publisher)
        assert wait_until(lambda: far.stats()["rings"]["cam"]["state"] == "ended", HANG)


def test_a_ring_whose_frames_are_all_too_large_is_refused() -> None:
    """Zenoh throws them away without a word, so none of them came, and nothing said why."""
    place = endpoint()
    with (
        net.serve(place, rings={"cam": nds.Ring(1000, "u1", slots=8)}),
        net.connect(place, timeout=HANG, max_bytes=999) as far,
        pytest.raises(ValueError, match=r"frames of ring 'cam' of at most max_bytes=999, got 1000 bytes each"),
    ):
        far.ring("cam")


def test_a_receiver_that_is_killed_hinders_nobody_and_is_replaced() -> None:
    place, ring = endpoint(), ring_of(slots=8)
    went = threading.Event()

    def write() -> None:
        for number in itertools.count():
            ring.put(np.full(100, number % 251, "u1"))
            # Until all are there, and for a while.
            if went.wait(0.01) and ring.stats()["written"] % 20 == 0:
                return

    with net.serve(place, rings={"cam 0": ring}), puppets((), (), ()) as (doomed, other, late):
        doomed.join(place)
        other.join(place)
        writer = threading.Thread(target=write)
        writer.start()
        doomed.until("len(seen) > 5")
        doomed.kill()
        late.join(place)
        late.until("len(seen) > 5")
        went.set()
        writer.join(HANG)
        written = ring.stats()["written"]
        ring.close()
        for receiver in (other, late):
            receiver.until("ends == ['closed']")
            counts = receiver.do("counts()")
            first = receiver.do("seen[0]")
            assert counts["torn"] == []
            assert counts["sorted"]
            assert counts["seen"] + counts["lost"] <= written
            assert counts["seen"] + counts["lost"] >= written - first
        assert other.do("counts()")["seen"] + other.do("counts()")["lost"] == written


def test_a_server_that_closes_and_comes_back_begins_anew() -> None:
    place, ring = endpoint(), ring_of()
    server = net.serve(place, rings={"cam": ring})
    with net.connect(place) as far:
        near = far.ring("cam")
        frames = near.reader()
        ring.put(np.zeros(100, "u1"))
        assert frames.get(timeout=HANG).origin.run == server.run
        server.close()
        server.close()
        with net.serve(place, rings={"cam": ring}) as again:
            assert wait_until(lambda: far.stats()["rings"]["cam"]["restarts"] == 1, HANG)
            assert wait_until(lambda: far.stats()["rings"]["cam"]["state"] == "open", HANG)
            ring.put(np.ones(100, "u1"))
            frame = frames.get(timeout=HANG)
            assert (frame.origin.run, frame.origin.seq) == (again.run, 1)
            assert near.stats()["lost"] == 0


def test_a_ring_of_other_frames_in_the_place_of_the_first_ends_it() -> None:
    place = endpoint()
    with net.serve(place, rings={"cam": ring_of()}) as server, net.connect(place) as far:
        frames = far.ring("cam").reader()
        server.close()
        with net.serve(place, rings={"cam": ring_of(77)}):
            with pytest.raises(nds.Closed):
                frames.get(timeout=HANG)
            stats = far.stats()["rings"]["cam"]
            assert stats["state"] == "failed"
            assert "77" in str(stats["error"])


def test_a_forked_child_has_no_bridge_and_ends_in_order() -> None:
    source = """
    import os, sys
    import numpy as np
    import ndshare as nds
    from ndshare import net
    ring = nds.Ring(10, "u1", slots=4, when_full="drop_oldest")
    with net.serve(sys.argv[1], rings={"cam": ring}) as server, net.connect(sys.argv[1]) as far:
        frames = far.ring("cam").reader()
        child = os.fork()
        if child == 0:
            try:
                far.link.session
            except RuntimeError as error:
                print("belongs to process" in str(error), flush=True)
            server.close()
            far.close()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        ring.put(np.ones(10, "u1"))
        print(frames.get(timeout=60).origin.seq)
    """
    # Since 3.12 a fork beside other threads, and Zenoh has some, is warned of.
    flags = ["-W", "ignore::DeprecationWarning"]
    assert run(source, endpoint(), flags=flags).clean().split() == ["True", "0"]


def test_an_interpreter_exits_with_open_bridges() -> None:
    source = """
    import sys
    import numpy as np
    import ndshare as nds
    from ndshare import net
    ring = nds.Ring(10, "u1", slots=4, when_full="drop_oldest")
    cache = nds.Cache("1 MiB", load=lambda key: np.zeros(3))
    server = net.serve(sys.argv[1], rings={"cam": ring}, caches={"tiles": cache})
    far = net.connect(sys.argv[1])
    near = far.ring("cam")
    ring.put(np.ones(10, "u1"))
    print(nds.Cache("1 MiB", load=far.loader("tiles"))[1].size)
    """
    assert run(source, endpoint()).clean().strip() == "3"


# ---- the command ----------------------------------------------------------------------------------------------------


def command(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ndshare", "bridge", *args], env=dict(os.environ), stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def runtime(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give a test a registry of names of its own."""
    place = tmp_path / "runtime"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    yield
    for name in nds.names():
        nds.unpublish(name)


@pytest.mark.usefixtures("runtime")
def test_the_command_brings_a_ring_to_programs_that_know_only_its_name(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, ring, cache = endpoint(), ring_of(), nds.Cache("8 MiB")
    cache["a"] = np.arange(3)
    nds.publish("cam0", ring)
    nds.publish("tiles", cache)
    with command("--listen", place, "--ring", "cam0", "--cache", "tiles") as serving:
        far_side = tmp_path / "far"
        far_side.mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(far_side))
        with command("--connect", place, "--ring", "cam0", "--timeout", "60") as receiving:
            try:
                frames = nds.attach("cam0", timeout=HANG).reader()
                ring.put(np.full(100, 5, "u1"))
                frame = frames.get(timeout=HANG)
                assert (frame == 5).all()
                assert frame.origin.seq == 0
                with net.connect(place) as far:
                    assert nds.Cache("8 MiB", load=far.loader("tiles"))["a"].tolist() == [0, 1, 2]
                with ring:
                    pass
                with pytest.raises(nds.Closed):
                    frames.get(timeout=HANG)
                assert receiving.wait(HANG) == 0, receiving.stderr and receiving.stderr.read()
                serving.send_signal(signal.SIGINT)
                assert serving.wait(HANG) == 0
            finally:
                receiving.kill()
                serving.kill()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ((), "--listen"),
        (("--listen", "tcp/127.0.0.1:1", "--connect", "tcp/127.0.0.1:1"), "not allowed"),
        (("--listen", "tcp/127.0.0.1:1"), "--ring"),
        (("--connect", "tcp/127.0.0.1:1", "--cache", "a"), "--cache"),
    ],
)
def test_a_wrong_command_line_says_so(args: tuple[str, ...], match: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _command.main(list(args))
    assert ended.value.code == 2
    assert match in capsys.readouterr().err


def test_the_bare_program_says_what_to_install() -> None:
    arguments = ["ndshare", "bridge", "--listen", "tcp/127.0.0.1:0", "--ring", "cam0"]
    done = run(f"from ndshare import _native; raise SystemExit(_native.run_command({arguments}))")
    assert done.code == 1
    assert 'pip install "ndshare[net]"' in done.err


@pytest.mark.usefixtures("runtime")
def test_a_name_that_nobody_published_is_an_error() -> None:
    with command("--listen", endpoint(), "--ring", "nobody", "--timeout", "0.1") as process:
        _, said = process.communicate(timeout=HANG)
    assert process.returncode == 1
    assert "nobody" in said
    assert "Traceback" not in said


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit status of a command, and what it said."""
    try:
        said = process.communicate(timeout=HANG)[1]
    finally:
        process.kill()
    return process.returncode, said


def said_line(process: subprocess.Popen[str], match: str) -> str:
    """Return the next line of a command that has something in it."""
    assert process.stderr is not None
    lines: list[str] = []
    while line := process.stderr.readline():
        lines.append(line)
        if match in line:
            return line
    raise AssertionError(f"expected a line with {match!r}, got {lines}")


@pytest.mark.usefixtures("runtime")
def test_a_bridge_leaves_a_name_alone_that_is_somebody_elses() -> None:
    place, ring = endpoint(), ring_of()
    nds.publish("cam0", ring)
    with net.serve(place, rings={"cam0": ring}):
        status, said = ended(command("--connect", place, "--ring", "cam0", "--timeout", "60"))
    assert status == 1
    assert said.count("\n") == 1, said
    assert 'expected "cam0" to be free' in said
    assert nds.ref(nds.attach("cam0", timeout=0)) == nds.ref(ring)


@pytest.mark.usefixtures("runtime")
def test_a_bridge_that_waits_ends_in_order_and_has_said_for_whom() -> None:
    place = endpoint()
    by = {signal.SIGINT: "cam0", signal.SIGTERM: "cam1"}
    processes = {number: command("--connect", place, "--ring", name) for number, name in by.items()}
    for number, process in processes.items():
        said = said_line(process, "waits for")
        process.send_signal(number)
        assert place in said
        assert "refused" in said
        assert ended(process) == (0, "")


def reader_of_a_killed_bridge(place: str, ring: nds.Ring) -> nds.Reader:
    """Have a bridge bring one frame of a ring, and kill it; the reader has had that frame."""
    bridge = command("--connect", place, "--ring", "cam0")
    try:
        said_line(bridge, "receives")
        frames = nds.attach("cam0", timeout=HANG).reader()
        ring.put(np.full(100, 1, "u1"))
        assert frames.get(timeout=HANG).origin.seq == 0
    finally:
        bridge.kill()
        bridge.communicate()
    return frames


@pytest.mark.usefixtures("runtime")
def test_a_bridge_takes_over_the_ring_of_one_that_was_killed_or_ends_it_if_it_has_other_frames() -> None:
    place, ring = endpoint(), ring_of()
    with net.serve(place, rings={"cam0": ring}):
        frames = reader_of_a_killed_bridge(place, ring)
        second = command("--connect", place, "--ring", "cam0")
        try:
            assert "into the ring of a bridge that died" in said_line(second, "receives")
            ring.put(np.full(100, 2, "u1"))
            assert frames.get(timeout=HANG).origin.seq == 1
        finally:
            second.kill()
            second.communicate()
        third = command("--connect", place, "--ring", "cam0", "--slots", "7")
        try:
            said_line(third, "receives")
            with pytest.raises((nds.WriterDied, nds.Closed)):
                frames.get(timeout=HANG)
            with pytest.raises(nds.Closed):
                frames.get(timeout=HANG)
            assert nds.attach("cam0", timeout=0).slots == 7
            # It takes the name away again, which is its own now.
            third.send_signal(signal.SIGTERM)
            assert ended(third) == (0, "")
            assert nds.names() == {}
        finally:
            third.kill()


@pytest.mark.usefixtures("runtime")
def test_a_bridge_whose_camera_died_is_not_taken_for_one_that_was_killed() -> None:
    """No writer is in its ring, as in one that was left behind; another bridge wrote into it, too."""
    place, ring = endpoint(), ring_of()
    with net.serve(place, rings={"cam0": ring}):
        first = command("--connect", place, "--ring", "cam0")
        try:
            said_line(first, "receives")
            frames = nds.attach("cam0", timeout=HANG).reader()
            writer = ring.writer()
            writer.put(np.full(100, 1, "u1"))
            assert frames.get(timeout=HANG).origin.seq == 0
            writer._die()
            with pytest.raises(nds.WriterDied):
                frames.get(timeout=HANG)
            near = nds.attach("cam0", timeout=0)
            assert near.stats()["writers"] == []
            state = net.bridge_of(near, timeout=HANG)
            assert state is not None
            assert (state["pid"], state["state"], state["received"]) == (first.pid, "open", 1)
            status, said = ended(command("--connect", place, "--ring", "cam0"))
            assert status == 1
            assert f"the only bridge that receives ring 'cam0' on this machine, got process {first.pid}" in said
            ring.put(np.full(100, 2, "u1"))
            assert frames.get(timeout=HANG).origin.seq == 1
        finally:
            first.kill()
            first.communicate()
        assert net.bridge_of(near, timeout=HANG) is None


@pytest.mark.usefixtures("runtime")
def test_a_bridge_leaves_a_ring_alone_that_a_program_fills_whose_camera_died() -> None:
    """It had no writer, so a bridge took it for one that was left behind, and wrote into it, too."""
    ring = ring_of()
    with bridged(ring) as (server, far):
        near = far.ring("cam")
        nds.publish("cam", near)
        far._pumps["cam"]._die()
        assert near.stats()["writers"] == []
        status, said = ended(command("--connect", server.link.endpoint, "--ring", "cam", "--timeout", "60"))
        assert (status, 'expected "cam" to be free' in said) == (1, True), said
        state = net.bridge_of(near, timeout=HANG)
        assert state is not None
        assert state["pid"] == os.getpid()


def test_a_forked_child_does_not_seem_to_fill_a_ring() -> None:
    source = """
    import os, signal
    from ndshare.net import _claim
    read, write = os.pipe()
    program = os.fork()
    if program == 0:
        claim = _claim.Claim(b"it")
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
        signal.pause()
    child = int(os.read(read, 100))
    print(_claim.holder(b"it") == program)
    os.kill(program, signal.SIGKILL)
    os.waitpid(program, 0)
    print(_claim.holder(b"it"))
    os.kill(child, signal.SIGKILL)
    """
    assert run(source).clean().split() == ["True", "None"]


def test_who_is_asked_for_a_ring_and_cannot_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with bridged(ring_of()) as (_, far):
        near = far.ring("cam")
        monkeypatch.setattr(far._pumps["cam"]._claim, "answer", lambda _: None)
        with pytest.raises(nds.Timeout, match=f"process {os.getpid()} did not say"):
            net.bridge_of(near, timeout=0.1)
        with pytest.raises(TypeError, match="expected a ring, got Far"):
            net.bridge_of(far)


@pytest.mark.usefixtures("runtime")
def test_a_bridge_serves_the_ring_that_comes_back_under_the_name() -> None:
    place, ring, again = endpoint(), ring_of(), ring_of()
    nds.publish("cam0", ring)
    serving = command("--listen", place, "--ring", "cam0")
    try:
        said_line(serving, "serves")
        with net.connect(place, timeout=HANG) as far:
            frames = far.ring("cam0").reader()
            ring.put(np.full(100, 1, "u1"))
            first = frames.get(timeout=HANG).origin
            nds.publish("cam0", again, replace=True)
            assert repr(nds.ref(again)) in said_line(serving, "serves")
            assert wait_until(lambda: far.stats()["rings"]["cam0"]["restarts"] == 1, HANG)
            again.put(np.full(100, 2, "u1"))
            frame = frames.get(timeout=HANG)
            assert (frame == 2).all()
            assert frame.origin.run != first.run
    finally:
        serving.kill()
        serving.communicate()


@pytest.mark.parametrize(
    "args",
    [
        ("--connect", "localhost:7447", "--ring", "a"),
        ("--connect", "tcp/localhost", "--ring", "a", "--timeout", "1"),
        ("--connect", "tcp/127.0.0.1:1", "--ring", "a", "--timeout", "0.1"),
        ("--connect", "tcp/127.0.0.1:1", "--ring", "a", "--config", "nowhere.json5"),
        ("--connect", "tcp/127.0.0.1:1", "--ring", "a", "--config", "BAD"),
        ("--listen", "tcp/192.0.2.1:1", "--ring", "a"),
        ("--listen", "tcp/127.0.0.1:0", "--cache", "a"),
    ],
)
@pytest.mark.usefixtures("runtime")
def test_what_the_command_cannot_do_is_one_line(
    args: tuple[str, ...], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "bad.json5").write_text("{nope: [")
    args = tuple(str(tmp_path / "bad.json5") if arg == "BAD" else arg for arg in args)
    ring = ring_of()
    nds.publish("a", ring)
    assert _command.main(list(args)) == 1
    said = capsys.readouterr().err
    assert said.startswith("ndshare: expected ") or "nowhere.json5" in said
    assert said.count("\n") == 1
    assert ".cargo" not in said


# ---- the end of the interpreter -------------------------------------------------------------------------------------


def test_an_interpreter_exits_in_order_after_a_connect_that_failed() -> None:
    source = """
    import sys
    from ndshare import net
    try:
        net.connect(sys.argv[1], timeout=float(sys.argv[2]))
    except net.Unreachable as error:
        print("refused" in str(error))
    """
    place = endpoint()
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda timeout: run(source, place, timeout), ["0.3", "1.2"]):
            assert done.clean().strip() == "True"


def test_an_interpreter_exits_in_order_after_ctrl_c_in_a_connect() -> None:
    source = """
    import _thread, sys, threading
    from ndshare import net
    threading.Timer(0.4, _thread.interrupt_main).start()
    try:
        net.connect(sys.argv[1], timeout=1000)
    except KeyboardInterrupt:
        print("ctrl-c")
    """
    assert run(source, endpoint()).clean().strip() == "ctrl-c"


def test_the_exit_waits_for_calls_of_zenoh_whatever_ctrl_c_says() -> None:
    source = """
    import _thread, atexit, os, threading, time
    import ndshare as nds
    from ndshare.net import _link
    def call():
        for _ in range(3):
            time.sleep(0.15)
            if main.is_set():
                _thread.interrupt_main()
        os.write(1, b"back")
    main = threading.Event()
    try:
        _link.patiently(call, time.monotonic(), "it")
    except nds.Timeout:
        os.write(1, b"timeout ")
    atexit.register(main.set)
    """
    assert run(source).clean().split() == ["timeout", "back"]


# ---- a link that is up and deaf -------------------------------------------------------------------------------------

KEEP_ALIVE = b"\x01\x00\x04"  # as Zenoh sends it over a stream: its length, and what it is


class DeafWire:
    """Hands on what a client and its server say, until it is told to make the connections that there are deaf.

    Over these it then sends nothing but that both sides are alive, as Zenoh does when it has mixed up two connections.
    """

    def __init__(self, server: str) -> None:
        self._server = ("127.0.0.1", int(server.rsplit(":", 1)[1]))
        self._door = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp/127.0.0.1:{self._door.getsockname()[1]}"
        self._deaf: dict[socket.socket, bool] = {}
        self.is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while self.is_open:
                near, far = self._door.accept()[0], socket.create_connection(self._server)
                for source, target in ((near, far), (far, near)):
                    self._deaf[source] = False
                    threading.Thread(target=self._hand_on, args=(source, target), daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        """Hand on whole messages, or say in their place that somebody lives."""
        source.settimeout(0.2)
        with suppress(OSError), source, target:
            rest = b""
            while self.is_open:
                try:
                    rest += (read := source.recv(1 << 16))
                    if not read:
                        return
                except TimeoutError:
                    if self._deaf[source]:
                        target.sendall(KEEP_ALIVE)
                    continue
                while len(rest) >= 2 and len(rest) >= (end := 2 + int.from_bytes(rest[:2], "little")):
                    target.sendall(KEEP_ALIVE if self._deaf[source] else rest[:end])
                    rest = rest[end:]

    def go_deaf(self) -> None:
        for source in self._deaf:
            self._deaf[source] = True

    def close(self) -> None:
        self.is_open = False
        self._door.close()


@pytest.fixture
def deaf_wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeafWire]:
    monkeypatch.setattr(_hearing, "SILENT", 0.3)
    monkeypatch.setattr(_hearing, "ANSWER", 1.0)
    made = DeafWire(endpoint())
    yield made
    made.close()


def test_a_link_that_is_up_and_deaf_is_opened_anew_and_goes_on(deaf_wire: DeafWire) -> None:
    """After some cuts nothing came any more for as long as both sides ran, though both were connected."""
    ring, other = ring_of(), ring_of()
    place = f"tcp/127.0.0.1:{deaf_wire._server[1]}"
    with net.serve(place, rings={"cam": ring, "other": other}), net.connect(deaf_wire.endpoint, timeout=HANG) as far:
        near, beside = far.ring("cam"), far.ring("other")
        frames, others = near.reader(), beside.reader()
        ring.put(np.zeros(100, "u1"))
        assert frames.get(timeout=HANG).origin.seq == 0
        deaf_wire.go_deaf()
        ring.put(np.zeros(100, "u1"))
        assert far.is_connected
        assert wait_until(lambda: far.link.renewals > 0, HANG)
        assert wait_until(lambda: near.stats()["lost"] == 1, HANG), far.stats()
        assert wait_until(lambda: [one["state"] for one in far.stats()["rings"].values()] == ["open"] * 2, HANG)
        for one in (ring, other):
            one.put(np.ones(100, "u1"))
        assert (frames.get(timeout=HANG).origin.seq, others.get(timeout=HANG).origin.seq) == (2, 0)
        assert (beside.stats()["lost"], far.stats()["rings"]["cam"]["restarts"]) == (0, 0)


def test_a_question_that_a_deaf_link_lost_is_asked_once_more(deaf_wire: DeafWire) -> None:
    cache = nds.Cache("8 MiB", load=lambda key: np.full(3, key))
    place = f"tcp/127.0.0.1:{deaf_wire._server[1]}"
    with net.serve(place, caches={"tiles": cache}), net.connect(deaf_wire.endpoint, timeout=HANG) as far:
        load = far.loader("tiles", timeout=HANG)
        assert load(7).tolist() == [7, 7, 7]
        deaf_wire.go_deaf()
        assert load(8).tolist() == [8, 8, 8]
        assert far.link.renewals > 0


def test_a_link_is_not_opened_anew_while_a_loader_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    asked: list[float] = []
    ask = _link.Link._ask_hello
    monkeypatch.setattr(_link.Link, "_ask_hello", lambda *args: (asked.append(time.monotonic()), ask(*args)))

    def load(key: int) -> Any:
        assert release.wait(HANG)
        return np.full(3, key)

    cache = nds.Cache("8 MiB", load=load)
    with bridged(cache=cache) as (_, far), ThreadPoolExecutor(1) as pool:
        value = pool.submit(far.loader("tiles", timeout=HANG), 7)
        assert wait_until(lambda: len(asked) == 2, HANG)
        release.set()
        assert value.result(HANG).tolist() == [7, 7, 7]
        assert far.link.renewals == 0


def test_who_hears_nothing_asks_once_and_then_opens_anew_less_and_less_often() -> None:
    clock = SimpleNamespace(now=0.0)
    hearing = _hearing.Hearing(lambda: clock.now)
    seen: list[tuple[float, str]] = []
    for tenth in range(3000):
        clock.now = tenth / 10
        if (step := hearing.step()) != "nothing":
            seen.append((clock.now, step))
    assert seen[:4] == [(2.0, "ask"), (5.0, "renew"), (11.0, "ask"), (17.0, "renew")]
    renewals = [at for at, step in seen if step == "renew"]
    assert all(b - a <= 2 * _hearing.LONGEST for a, b in itertools.pairwise(renewals))
    hearing.begin()
    clock.now += 1.9
    assert hearing.step() == "nothing"
    clock.now += 0.1
    assert hearing.step() == "ask"


# ---- two machines ---------------------------------------------------------------------------------------------------

_numbers = itertools.count(os.getpid())


def ip(*args: str, program: str = "ip") -> None:
    subprocess.run([program, *args], check=True, capture_output=True)


class Link:
    """Two network namespaces and a link between them: a pair of veth, or a wire that loses and delays packets."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.names = [f"ndshare-tests-{os.getpid()}-{number}-{side}" for side in "ab"]
        self.device = f"nds{number % 1_000_000}"
        self.address = f"10.{77 + number // 250 % 100}.{number % 250}."
        self.endpoint = f"tcp/{self.address}1:7447"
        self._wire: subprocess.Popen[str] | None = None
        for name in self.names:
            ip("netns", "add", name)

    def lay(self) -> None:
        ends = [("netns", name) for name in self.names]
        ip("link", "add", self.device, *ends[0], "type", "veth", "peer", "name", self.device, *ends[1])
        self._up()

    def lay_bad(self, loss: float, delay: float) -> None:
        command = [sys.executable, str(HERE / "net_wire.py"), *self.names, self.device, str(loss), str(delay)]
        self._wire = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._wire.stdout is not None
        assert self._wire.stdout.readline() == "ready\n"
        self._up()

    def _up(self) -> None:
        for side, name in enumerate(self.names, 1):
            ip("-n", name, "addr", "add", f"{self.address}{side}/24", "dev", self.device)
            ip("-n", name, "link", "set", self.device, "up")
            ip("-n", name, "link", "set", "lo", "up")

    def limit(self, rate: str) -> None:
        """Let no more than that go, either way."""
        for name in self.names:
            shape = ["rate", rate, "burst", "256kb", "latency", "50ms"]
            ip("-n", name, "qdisc", "add", "dev", self.device, "root", "tbf", *shape, program="tc")

    def cut(self) -> None:
        ip("-n", self.names[0], "link", "set", self.device, "down")

    def mend(self) -> None:
        ip("-n", self.names[0], "link", "set", self.device, "up")

    def inside(self, side: int) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.names[side])

    def remove(self) -> None:
        if self._wire is not None:
            self._wire.kill()
            self._wire.communicate()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@cache
def why_no_machines() -> str:
    """Return why there can be no network namespaces here; nothing if there can."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if not (shutil.which("ip") and shutil.which("tc")):
        return "ip and tc of iproute2 are not installed"
    link = None
    try:
        link = Link()
        link.lay()
        link.limit("1gbit")
    except subprocess.CalledProcessError as error:
        return f"no network namespaces with a link that can be limited: {error.stderr.decode().strip()}"
    finally:
        if link:
            link.remove()
    return "" if os.path.exists("/dev/net/tun") else "no /dev/net/tun"


@pytest.fixture
def link() -> Iterator[Link]:
    if why_no_machines():
        pytest.skip(why_no_machines())
    made = Link()
    try:
        yield made
    finally:
        made.remove()


# Links that are cut are noticed after a second, by who sends and by who receives.
SOON = repr(
    {
        "transport/link/tx/lease": 1000,
        "transport/link/tx/queue/congestion_control/block/wait_before_close": 1_000_000,
    }
)


def all_counted(receiver: Puppet, written: int) -> dict[str, Any]:
    receiver.until("ends == ['closed']")
    counts: dict[str, Any] = receiver.do("counts()")
    assert counts["torn"] == []
    assert counts["sorted"]
    assert counts["seen"] + counts["lost"] + counts["missed"] == written, counts
    return counts


def test_500_frames_of_4_mib_at_1_gbit_are_delivered_or_counted(link: Link) -> None:
    link.lay()
    link.limit("1gbit")
    with puppets(link.inside(0), link.inside(1)) as (server, receiver):
        server.serve(link.endpoint, nbytes=4 << 20)
        receiver.join(link.endpoint, slots=16)
        server.do("put(500, 0.002)")
        server.do("ring.close()")
        counts = all_counted(receiver, 500)
        assert counts["seen"] > 20, counts


# Cut for longer than a lease, a link may come back deaf.
@pytest.mark.parametrize("seconds", [0.3, 1.3])
def test_a_link_that_is_cut_and_mended_goes_on_and_counts_the_gap(link: Link, seconds: float) -> None:
    link.lay()
    with puppets(link.inside(0), link.inside(1)) as (server, receiver):
        server.serve(link.endpoint, nbytes=100_000, config=SOON)
        receiver.join(link.endpoint, config=SOON)
        server.do(f"thread = writing({int(50 * (seconds + 0.5))}, 0.02)")
        receiver.until("len(seen) > 10")
        link.cut()
        time.sleep(seconds)  # how long it is cut is what is tested
        link.mend()
        before = receiver.do("len(seen)")
        server.do("thread.join()")
        receiver.until("far.stats()['connected'] and far.stats()['rings']['cam 0']['state'] == 'open'")
        server.do("put(20, 0.02)")
        receiver.until(f"len(seen) > {before}")
        written = server.do("ring.stats()['written']")
        server.do("ring.close()")
        assert all_counted(receiver, written)["seen"] >= 10


def test_a_receiver_on_another_machine_is_killed_and_replaced(link: Link) -> None:
    link.lay()
    with puppets(link.inside(0), link.inside(1), link.inside(1)) as (server, doomed, other):
        server.serve(link.endpoint, nbytes=100_000)
        doomed.join(link.endpoint)
        server.do("thread = writing(100, 0.01)")
        doomed.until("len(seen) > 5")
        doomed.kill()
        other.join(link.endpoint)
        other.until("len(seen) > 5")
        server.do("thread.join()")
        server.do("ring.close()")
        other.until("ends == ['closed']")
        counts = other.do("counts()")
        assert counts["torn"] == []
        assert counts["sorted"]
        assert counts["seen"] + counts["lost"] >= 100 - other.do("seen[0]")


def test_a_sender_on_another_machine_is_killed_and_replaced(link: Link) -> None:
    link.lay()
    with puppets(link.inside(0), link.inside(0), link.inside(1)) as (doomed, other, receiver):
        doomed.serve(link.endpoint, nbytes=100_000)
        receiver.join(link.endpoint)
        doomed.do("thread = writing(1000, 0.005)")
        receiver.until("len(seen) > 5")
        doomed.kill()
        other.serve(link.endpoint, nbytes=100_000, slots=16)  # none of the ten is dropped, however slow the machine is
        receiver.until("far.stats()['rings']['cam 0']['restarts'] == 1")
        receiver.until("far.stats()['rings']['cam 0']['state'] == 'open'")
        before = receiver.do("len(seen)")
        other.do("put(10)")
        other.do("ring.close()")
        receiver.until("ends == ['closed']")
        lost = receiver.do("near.stats()['lost']")
        assert receiver.do("torn") == []
        assert receiver.do(f"seen[{before}:]") == list(range(10)), lost


def test_a_link_that_loses_a_tenth_of_its_packets_loses_no_frame_uncounted(link: Link) -> None:
    link.lay_bad(loss=0.1, delay=0.005)
    with puppets(link.inside(0), link.inside(1)) as (server, receiver):
        server.serve(link.endpoint, nbytes=20_000, slots=4)
        receiver.join(link.endpoint)
        server.do("put(40, 0.02)")
        server.do("ring.close()")
        assert all_counted(receiver, 40)["seen"] > 0
