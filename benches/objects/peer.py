"""Objects in Plasma or vineyard: create, write every byte, hand over, read every byte, in two processes.

usage: peer.py plasma|vineyard CPU,CPU ROUNDS BYTES...

Prints one line a size: bytes, then the median of nanoseconds from before the creation until the other process has read
all. The id goes over a pipe. What a store needs beside it (its server) is started here and ended with us.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy


class Plasma:
    def __init__(self, folder):
        self.socket = os.path.join(folder, "plasma")

    def serve(self):
        return subprocess.Popen(
            [os.path.join(os.path.dirname(sys.executable), "plasma_store"), "-m", str(1 << 30), "-s", self.socket],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def connect(self):
        import warnings

        warnings.simplefilter("ignore")
        from pyarrow import plasma

        self.plasma = plasma
        self.client = plasma.connect(self.socket, num_retries=100)

    def put(self, size, number):
        name = os.urandom(20)
        room = self.client.create(self.plasma.ObjectID(name), size)
        numpy.frombuffer(room, dtype=numpy.uint8).fill(number)
        self.client.seal(self.plasma.ObjectID(name))
        return name

    def get(self, name):
        [buffer] = self.client.get_buffers([self.plasma.ObjectID(name)])
        return numpy.frombuffer(buffer, dtype=numpy.uint8)

    def delete(self, name):
        self.client.delete([self.plasma.ObjectID(name)])


class Vineyard:
    def __init__(self, folder):
        self.socket = os.path.join(folder, "vineyard")

    def serve(self):
        import vineyard

        binary = os.path.join(os.path.dirname(vineyard.__file__), "bdist", "vineyardd")
        return subprocess.Popen(
            [binary, "--socket", self.socket, "--size", "1Gi", "--meta", "local", "--norpc"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def connect(self):
        import vineyard

        for _ in range(200):
            try:
                self.client = vineyard.connect(self.socket)
                return
            except Exception:
                time.sleep(0.05)
        raise SystemExit("vineyardd does not answer")

    def put(self, size, number):
        blob = self.client.create_blob(size)
        numpy.frombuffer(memoryview(blob), dtype=numpy.uint8).fill(number)
        return repr(blob.seal(self.client).id).strip("'").encode()

    def get(self, name):
        import vineyard

        blob = self.client.get_blob(vineyard.ObjectID(name.decode()))
        return numpy.frombuffer(memoryview(blob), dtype=numpy.uint8)

    def delete(self, name):
        import vineyard

        self.client.delete([vineyard.ObjectID(name.decode())])


def reader(store, cpu, pipe):
    os.sched_setaffinity(0, {cpu})
    store.connect()
    pipe.send_bytes(b"ready")
    while name := pipe.recv_bytes():
        array = store.get(name)
        # Every byte, eight at a time.
        words = array[: len(array) // 8 * 8].view(numpy.uint64)
        total = int(words.sum())
        done = time.monotonic_ns()
        assert total == int(words[0]) * len(words) % 2**64, "a torn object"
        del array, words
        pipe.send_bytes(done.to_bytes(8, "little"))


def main():
    which, cpus, rounds, *sizes = sys.argv[1:]
    mine, theirs = map(int, cpus.split(","))
    with tempfile.TemporaryDirectory() as folder:
        store = {"plasma": Plasma, "vineyard": Vineyard}[which](folder)
        server = store.serve()
        try:
            ours, other = multiprocessing.Pipe()
            process = multiprocessing.get_context("spawn").Process(
                target=reader, args=(store, theirs, other), daemon=True
            )
            process.start()
            os.sched_setaffinity(0, {mine})
            store.connect()
            ours.recv_bytes()
            for size in map(int, sizes):
                took = []
                for number in range(int(rounds) + 2):
                    begun = time.monotonic_ns()
                    name = store.put(size, number % 251)
                    ours.send_bytes(name)
                    took.append(int.from_bytes(ours.recv_bytes(), "little") - begun)
                    store.delete(name)
                print(size, int(statistics.median(took[2:])))
            ours.send_bytes(b"")
            process.join(10)
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
