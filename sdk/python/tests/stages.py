"""The stages of the tests: `python stages.py NAME`. Each checks what it sees, and fails loudly."""

import gc
import os
import signal
import sys
import threading
import time

import nexusflow

COUNT = 2000


def text(n: int) -> bytes:
    """Message number n: of any length from nothing to some thousand bytes."""
    return f"{n} ".encode() * (n * 7919 % 700)


def raises(kind, call, *args):
    try:
        call(*args)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind}")


# Every way to send and to receive, in order.


def send():
    stage = nexusflow.Stage()
    assert (stage.name, stage.replica, stage.replicas, stage.attempt) == ("send", 0, 1, 1)
    assert (stage.inputs, stage.outputs, stage.pipeline) == ([], ["edge"], "test")
    raises(nexusflow.NotAStage, nexusflow.Stage)
    out = stage.output("edge")
    assert "opened before" in raises(nexusflow.AlreadyOpen, stage.output, "edge")
    assert "`edge`" in raises(LookupError, stage.output, "egde")
    raises(nexusflow.TooLong, out.send, bytes(out.max_message + 1))
    raises(TypeError, out.send, "text")
    raises(ValueError, out.send, b"", -1)
    n = 0
    while n < COUNT:
        match n % 5:
            case 0:
                out.send(text(n))
            case 1:
                out.send(memoryview(bytearray(b"<" + text(n) + b">"))[1:-1], timeout=60)
            case 2:
                with out.reserve(len(text(n))) as room:
                    room[:] = text(n)
            case 3:
                with out.reserve(len(text(n)) + 9) as room:
                    room[: len(text(n))] = text(n)
                    room.commit_len(len(text(n)))
            case 4:
                batch = [text(i) for i in range(n, min(n + 21, COUNT))]
                out.send_batch(batch)
                n += len(batch) - 1
        n += 1
    out.finish()
    raises(nexusflow.Finished, out.send, b"")


def receive():
    inp = nexusflow.Stage().input("edge")
    assert [bytes(message) for message in inp] == [text(n) for n in range(COUNT)]
    assert inp.recv() is None and inp.try_recv() is None and inp.recv(timeout=0) is None


# Rooms: nothing is sent that was not meant to be, and nothing can write where messages lie.


def rooms():
    out = nexusflow.Stage().output("edge")
    try:
        with out.reserve(8) as room:
            room[:] = b"not sent"
            raise KeyError
    except KeyError:
        pass
    room = out.reserve(5)
    assert "is open" in raises(RuntimeError, out.send, b"x")
    raises(ValueError, room.commit_len, 6)
    raises(ValueError, room.__setitem__, slice(0, 3), b"four")
    raises(IndexError, room.__setitem__, 5, 0)
    room[::2] = b"135"
    room[1], room[3] = ord("2"), ord("4")
    room.commit()
    raises(ValueError, room.commit)
    raises(ValueError, room.__setitem__, slice(0, 1), b"x")
    raises((BufferError, ValueError), memoryview, room)
    # A view that outlives its room: not sent, and nothing else is before the view is gone.
    view = None

    def leak():
        nonlocal view
        with out.reserve(4) as room:
            view = memoryview(room)
            view[:] = b"torn"

    assert "still alive" in raises(BufferError, leak)
    raises(BufferError, out.send, b"x")
    raises(BufferError, out.finish)
    view[:] = b"!!!!"
    view.release()
    out.reserve(10)  # forgotten at once
    with out.reserve(6) as room:
        with memoryview(room) as view:
            view[:] = b"view 1"
    with open("/proc/self/comm", "rb") as file, out.reserve(64) as room:
        room.commit_len(file.readinto(room))
    out.send(b"last")


def rooms_seen():
    inp = nexusflow.Stage().input("edge")
    assert [bytes(m) for m in inp][:2] == [b"12345", b"view 1"]


# Views: in place, read-only, and alive as long as they are looked at.


def some():
    """What fits: nothing is dropped."""
    out = nexusflow.Stage().output("edge")
    for n in range(5):
        out.send(bytes([n]) * 1000)


def some_views():
    """Where the oldest may be dropped each message is a copy of its own, and a view keeps it."""
    inp, got = nexusflow.Stage().input("edge"), []
    while messages := inp.recv_views(9):
        views = [memoryview(message) for message in messages]
        assert all(view == bytes(view[:1]) * 1000 for view in views)
        got += [view[0] for view in views]
    assert got == list(range(5)), got


def fill():
    """More than the edge can hold, each message of one byte value."""
    out = nexusflow.Stage().output("edge")
    for n in range(400):
        out.send(bytes([n % 251]) * 1000)


def views():
    inp = nexusflow.Stage().input("edge")
    message = inp.recv()
    assert len(message) == 1000 and message == bytes(1000) and message != b"" and message != 5
    view = memoryview(message)
    assert view.readonly and raises(TypeError, view.__setitem__, 0, 1)
    # It is the edge's own memory: a shared mapping of a memory file, and the same bytes at the same place.
    address = address_of(view)
    assert mapped_from(address).startswith("/memfd:"), mapped_from(address)
    # The producer goes on and would write over it, if it had been released: it fills what room there is, then waits.
    following = inp.recv()
    assert bytes(following) == b"\1" * 1000
    kept = [memoryview(inp.recv()) for _ in range(8)]
    time.sleep(0.05)  # only gives a broken release the chance to show
    assert view == bytes(1000) and [v[999] for v in kept] == list(range(2, 10))
    assert "views of" in raises(BufferError, inp.detach)
    raises(BufferError, memoryview, following)
    raises(BufferError, bytes, following)
    assert bytes(message) == bytes(1000), "a message with a view can be viewed and copied again"
    # All go, in another order than they came; then everything comes through.
    del kept[1::2], view, message
    gc.collect()
    kept.clear()
    assert [m[0] for m in map(memoryview, inp)] == [n % 251 for n in range(10, 400)]


def lasting():
    """A view outlives the end of the stream, the input and the stage."""

    def last():
        for message in nexusflow.Stage().input("edge"):
            view = memoryview(message)[500:]
        return view

    view = last()
    gc.collect()
    assert bytes(view) == bytes([399 % 251]) * 500


def other_threads():
    """A view that another thread lets go lets a waiting one go on, and an edge is one thread's at a time."""
    inp = nexusflow.Stage().input("edge")
    views = [memoryview(inp.recv())]
    waiting = threading.Event()

    def let_go():
        waiting.wait()
        for _ in range(1000):  # until the other thread waits: it must be told that it is not alone
            try:
                inp.try_recv()
            except (RuntimeError, nexusflow.TimedOut) as error:
                if "another thread" in str(error):
                    break
            time.sleep(0.001)
        views.clear()

    thread = threading.Thread(target=let_go)
    thread.start()
    got = 1
    # Everything but the first message fits only when the view has gone.
    while True:
        waiting.set()
        try:
            if inp.recv() is None:
                break
            got += 1
        except RuntimeError:
            pass
    thread.join()
    assert not views


# Waiting: timed, not at all, and ended by signals.


def waits():
    stage = nexusflow.Stage()
    inp, out = stage.input("never"), stage.output("full")
    raises(nexusflow.TimedOut, inp.try_recv)
    raises(TimeoutError, inp.recv, 0)
    start = time.monotonic()
    raises(TimeoutError, inp.recv, 0.15)
    assert time.monotonic() - start > 0.14
    while True:
        try:
            out.try_send(bytes(1000))
        except nexusflow.TimedOut:
            break
    raises(nexusflow.TimedOut, out.try_reserve, 1000)
    raises(nexusflow.TimedOut, out.reserve, 1000, 0.01)
    raises(nexusflow.TimedOut, out.send, bytes(1000), 0.01)
    # Another thread runs on while this one waits.
    ran = []
    thread = threading.Thread(target=lambda: ran.append(sum(range(1000))))
    thread.start()
    raises(TimeoutError, inp.recv, 0.3)
    assert ran
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for call in (inp.recv, lambda: out.send(bytes(1000)), lambda: out.send_batch([bytes(1000)] * 3)):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        raises(KeyboardInterrupt, call)


def idle():
    """Holds both edges of `waits`, and does nothing until its partner has ended."""
    stage = nexusflow.Stage()
    never, full = stage.output("never"), stage.input("full")
    ready = stage.input("done")
    assert ready.recv() is None
    assert full.recv() is not None
    never.finish()


def until_closed():
    out = nexusflow.Stage().output("edge")
    try:
        while True:
            out.send(bytes(1000))
    except nexusflow.Closed as error:
        assert "nobody reads" in str(error)


def leaves():
    inp = nexusflow.Stage().input("edge")
    assert inp.recv() == bytes(1000)
    inp.detach()
    raises(nexusflow.Finished, inp.recv)


# Batches.


def batches():
    out = nexusflow.Stage().output("edge")
    out.send_batch([])
    out.send_batch(text(n) for n in range(COUNT))  # many times what the edge can hold
    raises(nexusflow.TooLong, out.send_batch, [b"sent all the same", bytes(out.max_message + 1), b"never sent"])
    assert out.committed == COUNT + 1


def takes_batches():
    inp = nexusflow.Stage().input("edge")
    raises(TypeError, inp.recv_batch)
    got = []
    while len(got) < COUNT // 2:
        batch = inp.recv_batch(7)
        assert 1 <= len(batch) <= 7 and type(batch) is list and type(batch[0]) is bytes
        got += batch
    view = None
    while batch := inp.recv_views(3):
        if view is None:
            view = memoryview(batch[-1])
            seen = bytes(view)
        got += [bytes(message) for message in batch]
        old = batch[0]
        if len(got) > COUNT // 2 + 8 and view:
            assert view == seen
            view.release()
            view = ()
    assert got == [text(n) for n in range(COUNT)] + [b"sent all the same"]
    raises(BufferError, memoryview, old)
    assert inp.recv_batch(5) == [] and inp.try_recv_batch(5) == [] and inp.wait() is False


def by_key():
    out = nexusflow.Stage().output("edge")
    raises(nexusflow.NoKey, out.send, b"x")
    for n in range(300):
        for key in (n % 30, f"key {n % 30}", b"%d" % (n % 30)):
            out.send(repr(key).encode(), key=key)
    with out.reserve(9, key="reserved") as room:
        room[:] = b"reserved!"
    raises(OverflowError, lambda: out.send(b"", key=-1))
    raises(TypeError, lambda: out.send(b"", key=1.5))


def has_keys():
    from collections import Counter

    seen = Counter(bytes(message) for message in nexusflow.Stage().input("edge"))
    assert seen and all(count == 10 for key, count in seen.items() if key != b"reserved!"), seen


# asyncio.


def sends_async():
    import asyncio

    out = nexusflow.Stage().output("edge")

    async def main():
        ticks = asyncio.create_task(ticking())
        for n in range(COUNT):
            await out.send_async(text(n))
        assert not ticks.done()
        ticks.cancel()

    asyncio.run(main())


async def ticking():
    import asyncio

    while True:
        await asyncio.sleep(0.001)


def receives_async():
    import asyncio

    inp = nexusflow.Stage().input("edge")

    async def main():
        got = [bytes(await inp.recv_async())]
        # A wait that is cancelled takes no message with it.
        for _ in range(3):
            try:
                got.append(bytes(await asyncio.wait_for(inp.recv_async(), 1e-6)))
            except TimeoutError:
                pass
        got += await inp.recv_batch_async(10)
        async for message in inp:
            got.append(bytes(message))
        assert got == [text(n) for n in range(COUNT)]

    asyncio.run(main())


# Objects.


def creates():
    import numpy

    out = nexusflow.Stage().object_output("edge")
    for n in range(20):
        with out.create(100_000 * 8) as draft:
            numpy.frombuffer(draft, dtype=numpy.int64)[:] = n
    assert out.send(b"small") == 20
    try:
        with out.create(5) as draft:
            draft[:] = b"never"
            raise KeyError
    except KeyError:
        pass
    draft = out.create(4)
    view = memoryview(draft)
    raises(BufferError, draft.seal)
    view[:] = b"late"
    view.release()
    draft[0] = ord("L")
    draft.seal()
    raises(ValueError, draft.seal)
    raises(BufferError, memoryview, draft)
    out.finish()


def uses():
    import numpy

    inp = nexusflow.Stage().object_input("edge")
    kept = []
    for number, thing in enumerate(inp):
        assert thing.number == number or number > 20
        if number < 20:
            array = numpy.frombuffer(thing, dtype=numpy.int64)
            assert mapped_from(address_of(array)).startswith("/memfd:")
            assert len(array) == 100_000 and (array == number).all()
            raises(BufferError, thing.release)
            kept.append(array)
            del kept[:-2]  # two at a time, released in the order that Python lets them go
        else:
            with thing:
                kept.append(bytes(thing))
            raises(BufferError, bytes, thing)
    assert [bytes(k[:1]) if type(k) is bytes else int(k[0]) for k in kept] == [18, 19, b"s", b"L"]


# Transfers.


def transfers():
    stage = nexusflow.Stage()
    transfer = stage.transfer(["edge"], ["result"])
    (inp,), (out,) = transfer.inputs, transfer.outputs
    assert (transfer.tag, transfer.commits) == (b"", 0)
    raises(nexusflow.AlreadyOpen, stage.transfer, [], [])
    view, done = None, False
    while not done:
        for _ in range(7):
            message = inp.recv()
            if message is None:
                done = True
                break
            if view is None and len(message) > 0:
                view = memoryview(message)
            out.send(bytes(message))
        raises((RuntimeError, BufferError), inp.detach)
        if not done:
            raises(nexusflow.TooLong, transfer.commit, bytes(1000))
        transfer.commit(b"tag %d" % transfer.commits)
        if view:
            assert view == text(1)
            if transfer.commits == 5:
                assert "alive" in raises(BufferError, transfer.finish)
                view.release()
                view = ()
    assert transfer.tag == b"tag %d" % (transfer.commits - 1)
    transfer.finish()
    raises(nexusflow.Finished, inp.recv)
    raises(nexusflow.Finished, transfer.commit)


def results():
    inp = nexusflow.Stage().input("result")
    assert [bytes(message) for message in inp] == [text(n) for n in range(COUNT)]


def address_of(view) -> int:
    import numpy

    return numpy.frombuffer(view, dtype=numpy.uint8).__array_interface__["data"][0]


def mapped_from(address: int) -> str:
    """What lies at this address, as the kernel says."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            first, last = (int(n, 16) for n in line.split()[0].split("-"))
            if first <= address < last:
                return line.split(maxsplit=5)[5].strip()
    return ""


if __name__ == "__main__":
    globals()[sys.argv[1]]()
