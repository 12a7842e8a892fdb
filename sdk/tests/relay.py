"""Passes messages on with "+python" behind them, in every way there is to receive and to send."""

import itertools

import nexusflow

SUFFIX = b"+python"


def main():
    stage = nexusflow.Stage()
    inp, out = stage.input("made"), stage.output("by_python")
    for way in itertools.cycle([copied, in_place, batch, at_once]):
        if not way(inp, out):
            break
    out.finish()


def copied(inp, out) -> bool:
    message = inp.recv()
    if message is None:
        return False
    out.send(bytes(message) + SUFFIX)
    return True


def in_place(inp, out) -> bool:
    for message in itertools.islice(inp, 5):
        with out.reserve(len(message) + len(SUFFIX)) as room:
            room[: len(message)] = message
            room[len(message) :] = SUFFIX
    return True


def batch(inp, out) -> bool:
    """Held all together: the views keep the messages that came before the last."""
    messages = [memoryview(message) for message in itertools.islice(inp, 3)]
    out.send_batch([b"".join((message, SUFFIX)) for message in messages])
    return True


def at_once(inp, out) -> bool:
    try:
        message = inp.try_recv()
    except nexusflow.TimedOut:
        return True
    if message is None:
        return False
    room = out.reserve(200_010, timeout=60)
    with memoryview(room) as view:
        view[: len(message)] = memoryview(message)
        view[len(message) : len(message) + len(SUFFIX)] = SUFFIX
    room.commit_len(len(message) + len(SUFFIX))
    return True


main()
