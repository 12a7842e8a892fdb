"""Python stages in real pipelines: `NEXUSFLOW_BIN=… python -m unittest discover sdk/python/tests`."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

STAGES = pathlib.Path(__file__).with_name("stages.py")


class Pipelines(unittest.TestCase):
    def run_pipeline(self, stages: list[str], edges: dict) -> None:
        """Runs these stages of stages.py, and shows what they said when one fails."""

        def stage(name: str) -> dict:
            replicas = {"replicas": 3} if name == "has_keys" else {}
            return {"command": [sys.executable, str(STAGES), name], "timeout": "60s"} | replicas

        pipeline = {"version": 1, "name": "test", "stages": {s: stage(s) for s in stages}, "edges": edges}
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "pipeline.yaml")
            file.write_text(json.dumps(pipeline))  # JSON is YAML too
            nexusflow = os.environ.get("NEXUSFLOW_BIN", "nexusflow")
            done = subprocess.run(
                [nexusflow, "dag", "apply", str(file), "--log-dir", f"{folder}/logs"],
                env=os.environ | {"NEXUSFLOW_STATE_DIR": f"{folder}/state"},
                capture_output=True,
                text=True,
                timeout=120,
            )
            logs = "".join(f"\n{log.name}:\n{log.read_text()}" for log in pathlib.Path(folder, "logs").glob("*"))
            self.assertEqual(done.returncode, 0, done.stderr + logs)

    def test_all_that_is_sent_arrives(self):
        self.run_pipeline(["send", "receive"], {"edge": edge("send", "receive")})

    def test_all_that_is_sent_arrives_from_large_rings_too(self):
        self.run_pipeline(["send", "receive"], {"edge": edge("send", "receive", capacity="4MiB")})

    def test_rooms(self):
        self.run_pipeline(["rooms", "rooms_seen"], {"edge": edge("rooms", "rooms_seen")})

    def test_views(self):
        for wait in ("adaptive", "block"):
            self.run_pipeline(["fill", "views"], {"edge": edge("fill", "views", wait=wait)})

    def test_views_of_edges_that_drop_the_oldest(self):
        self.run_pipeline(["some", "some_views"], {"edge": edge("some", "some_views", on_full="drop_oldest")})

    def test_views_outlive_everything(self):
        self.run_pipeline(["fill", "lasting"], {"edge": edge("fill", "lasting")})

    def test_other_threads(self):
        self.run_pipeline(["fill", "other_threads"], {"edge": edge("fill", "other_threads")})

    def test_waits(self):
        edges = {"never": edge("idle", "waits"), "full": edge("waits", "idle"), "done": edge("waits", "idle")}
        self.run_pipeline(["waits", "idle"], edges)

    def test_closed(self):
        self.run_pipeline(["until_closed", "leaves"], {"edge": edge("until_closed", "leaves")})

    def test_batches(self):
        self.run_pipeline(["batches", "takes_batches"], {"edge": edge("batches", "takes_batches")})

    def test_keys(self):
        keys = {"delivery": "distribute", "by": "key"}
        self.run_pipeline(["by_key", "has_keys"], {"edge": edge("by_key", "has_keys", **keys)})

    def test_asyncio(self):
        self.run_pipeline(["sends_async", "receives_async"], {"edge": edge("sends_async", "receives_async")})

    def test_objects(self):
        for more in ({}, {"sealed": True}):
            edges = {"edge": {"from": "creates", "to": "uses", "kind": "object", "capacity": "4MiB"} | more}
            self.run_pipeline(["creates", "uses"], edges)

    def test_transfers(self):
        edges = {"edge": edge("send", "transfers", capacity="64KiB"), "result": edge("transfers", "results")}
        self.run_pipeline(["send", "transfers", "results"], edges | {"result": edges["result"] | {"capacity": "64KiB"}})


def edge(source: str, target: str, **keys) -> dict:
    return {"from": source, "to": target, "capacity": "16KiB", "max_message": "6KiB"} | keys


class NoStage(unittest.TestCase):
    def test_a_program_by_itself_is_told_how_to_start(self):
        import nexusflow

        with self.assertRaisesRegex(nexusflow.NotAStage, "dag apply"):
            nexusflow.Stage()


if __name__ == "__main__":
    unittest.main()
