"""Edges in asyncio: a helper thread waits, the loop goes on."""

import asyncio

from ._native import TimedOut

# A wait that nobody needs any more is over after this.
SLICE_SECONDS = 0.1


async def recv(inp):
    """The next message; None at the end."""
    while True:
        try:
            return inp.try_recv()
        except TimedOut:
            await _ready(inp)


async def recv_batch(inp, max):
    """The next messages, copied; an empty list at the end."""
    while True:
        try:
            return inp.try_recv_batch(max)
        except TimedOut:
            await _ready(inp)


async def iterate(inp):
    """What `async for` does."""
    while (message := await recv(inp)) is not None:
        yield message


async def _ready(inp):
    loop = asyncio.get_running_loop()
    while True:
        # Shielded: who is cancelled still waits until the thread has let go of the edge.
        waiting = loop.run_in_executor(None, _wait, inp)
        try:
            if await asyncio.shield(waiting):
                return
        except asyncio.CancelledError:
            await asyncio.wait([waiting])
            raise


def _wait(inp) -> bool:
    try:
        inp.wait(SLICE_SECONDS)
        return True  # a message, or the end
    except TimedOut:
        return False


async def send(out, data, **keys):
    """Sends when there is room."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return out.try_send(data, **keys)
        except TimedOut:
            room = loop.run_in_executor(None, _wait_room, out, data, keys)
            try:
                if await asyncio.shield(room):
                    return
            except asyncio.CancelledError:
                await asyncio.wait([room])
                raise


def _wait_room(out, data, keys) -> bool:
    try:
        out.send(data, SLICE_SECONDS, **keys)
        return True
    except TimedOut:
        return False
