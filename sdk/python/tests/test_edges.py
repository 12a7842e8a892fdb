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
        command = lambda name: {"command": [sys.executable, str(STAGES), name], "timeout": "60s"}
        pipeline = {"version": 1, "name": "test", "stages": {s: command(s) for s in stages}, "edges": edges}
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

    def test_views_outlive_everything(self):
        self.run_pipeline(["fill", "lasting"], {"edge": edge("fill", "lasting")})

    def test_other_threads(self):
        self.run_pipeline(["fill", "other_threads"], {"edge": edge("fill", "other_threads")})

    def test_waits(self):
        edges = {"never": edge("idle", "waits"), "full": edge("waits", "idle"), "done": edge("waits", "idle")}
        self.run_pipeline(["waits", "idle"], edges)

    def test_closed(self):
        self.run_pipeline(["until_closed", "leaves"], {"edge": edge("until_closed", "leaves")})


def edge(source: str, target: str, **keys) -> dict:
    return {"from": source, "to": target, "capacity": "16KiB", "max_message": "6KiB"} | keys


class NoStage(unittest.TestCase):
    def test_a_program_by_itself_is_told_how_to_start(self):
        import nexusflow

        with self.assertRaisesRegex(nexusflow.NotAStage, "dag apply"):
            nexusflow.Stage()


if __name__ == "__main__":
    unittest.main()
