"""What an edge gives to Python, beside Rust on the same edge in the same run.

    cargo build --release --workspace --bins --examples
    pip install ./sdk/python
    python sdk/python/bench/bench.py [ROUNDS] [SCALE]

Every byte is written by who sends and read by who receives: copied out of the edge into memory that stays in the cache,
by the same memcpy in both languages. Prints medians of the rounds, and Python's part of what Rust reaches.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
MIB = 1 << 20


def send(count: int, size: int, batch: int) -> None:
    import nexusflow

    out = nexusflow.Stage().output("edge")
    source = bytes([7]) * size
    if batch > 1:
        many = [source] * batch
        for _ in range(count // batch):
            out.send_batch(many)
    else:
        for _ in range(count):
            with out.reserve(size) as room:
                room[:] = source
    out.finish()


def recv(batch: int) -> None:
    import nexusflow

    inp = nexusflow.Stage().input("edge")
    count = total = 0
    inp.wait()
    start = time.perf_counter()
    if batch > 1:
        while messages := inp.recv_batch(batch):
            count += len(messages)
            total += sum(map(len, messages))
    else:
        own = memoryview(bytearray(MIB))
        for message in inp:
            own[: len(message)] = message
            count += 1
            total += len(message)
    print(count, total, time.perf_counter() - start)


def run(sender: list[str], receiver: list[str], folder: str) -> tuple[float, float]:
    """Messages and bytes a second, as the receiver saw them."""
    pipeline = {
        "version": 1,
        "name": "bench-python",
        "stages": {
            "send": {"command": sender, "placement": {"cpus": 1, "exclusive": True}},
            "recv": {"command": receiver, "placement": {"cpus": 1, "exclusive": True}},
        },
        "edges": {"edge": {"from": "send", "to": "recv", "capacity": "16MiB"}},
    }
    file = pathlib.Path(folder, "pipeline.yaml")
    file.write_text(json.dumps(pipeline))
    subprocess.run(
        [TARGET / "nexusflow", "dag", "apply", "--quiet", file, "--log-dir", f"{folder}/logs"],
        env=os.environ | {"NEXUSFLOW_STATE_DIR": f"{folder}/state"},
        check=True,
    )
    count, total, seconds = pathlib.Path(folder, "logs", "recv.log").read_text().split()
    return int(count) / float(seconds), int(total) / float(seconds)


def main(rounds: int, scale: float) -> None:
    rust = str(TARGET / "examples/polyglot")
    python = [sys.executable, str(pathlib.Path(__file__).resolve())]
    cases = [
        ("1 MiB, in place", int(8_000 * scale), MIB, 1, 1, "GB/s", 1e9),
        ("64 B, batches of 256", int(8_000_000 * scale), 64, 256, 0, "M messages/s", 1e6),
        ("64 B, one by one", int(1_500_000 * scale), 64, 1, 0, "M messages/s", 1e6),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, count, size, batch, which, unit, by in cases:
            words = [str(count), str(size), str(batch)]
            sides = {
                "Rust to Rust": ([rust, "send", *words], [rust, "recv", str(batch)]),
                "Rust to Python": ([rust, "send", *words], [*python, "recv", str(batch)]),
                "Python to Rust": ([*python, "send", *words], [rust, "recv", str(batch)]),
                "Python to Python": ([*python, "send", *words], [*python, "recv", str(batch)]),
            }
            rates = {side: [] for side in sides}
            for _ in range(rounds):  # in turn, so that all meet the same machine
                for side, (sender, receiver) in sides.items():
                    rates[side].append(run(sender, receiver, folder)[which] / by)
            best = statistics.median(rates["Rust to Rust"])
            for side, each in rates.items():
                middle = statistics.median(each)
                print(f"{name:22} {side:18} {middle:8.2f} {unit:13} {middle / best:5.2f} of Rust to Rust")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", count, size, batch]:
            send(int(count), int(size), int(batch))
        case ["recv", batch]:
            recv(int(batch))
        case [*numbers]:
            rounds, scale = [*numbers, "5", "1"][:2] if len(numbers) < 2 else numbers
            main(int(rounds), float(scale))
