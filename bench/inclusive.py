#!/usr/bin/env python3
"""Two videos on a pool of two workers against one process on one core, all included.

Prompts, passes, decoding, H.264 and the coordinator count; what does not grow with the
length of a video does not: every arm makes a short video and a long one, and the chunks
that the long one has more are what is timed. The workers have one thread and a core
each, and do whatever the plan says; the coordinator, which encodes, has none of its own
on a machine of two cores, which no plan knows. Beside the figure stands the planner's
own bound: how many times as fast as one of these workers it says that the pool is. Needs
two cores, taskset and `cargo build --release`.

    python3 bench/inclusive.py
    python3 bench/inclusive.py --rounds 3 --seconds 20
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

FILMLOOM = Path(__file__).resolve().parent.parent / "target" / "release" / "filmloom"
PROMPT = "a large red ball bounces over green hills"
SHORT_S = 4.0
PATIENCE_S = 600
JOBS = 2


def pinned(core, *arguments):
    return ["taskset", "-c", str(core), str(FILMLOOM), *arguments]


def alone(core, seconds, folder):
    """Seconds that one process takes for a video."""
    begun = time.monotonic()
    subprocess.run(pinned(core, "generate", PROMPT, "-s", str(seconds), "--threads", "1", "-q",
                          "-o", str(folder / "alone.mp4")), check=True)
    (folder / "alone.mp4").unlink()
    return time.monotonic() - begun


class Pool:
    """A coordinator and a worker on either core."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        data = folder / "data"
        log = open(folder / "serve.log", "w")
        self.processes.append(subprocess.Popen(
            [str(FILMLOOM), "serve", "--no-worker", "--no-discovery", "--jobs", str(JOBS),
             "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data", str(data)], stderr=log))
        said = self.wait("the coordinator", lambda: next(
            (line for line in (folder / "serve.log").read_text().splitlines()
             if line.startswith("HTTP at http://")), None))
        self.http, grpc = said.removeprefix("HTTP at http://").split(", workers at ")
        token = (data / "join.token").read_text().strip()
        # One after the other: each is timed with nobody beside it.
        for core in range(2):
            name = f"w{core}"
            self.processes.append(subprocess.Popen(
                pinned(core, "worker", "--join", grpc.strip(), "--token", token, "--threads", "1",
                       "--listen", "127.0.0.1:0", "--name", name, "--data", str(folder / name)),
                stderr=open(folder / f"{name}.log", "w")))
            self.wait("workers are timed", lambda: self.ready() == core + 1)
        self.wait("a pipeline", lambda: self.ask("/readyz") and self.plan(SHORT_S)["stands"])
        time.sleep(3)
        self.wait("a pipeline that stays", lambda: self.ask("/readyz"))

    def ready(self):
        workers = self.ask("/v1/cluster")["workers"]
        return sum(worker["state"] == "ready" for worker in workers)

    def ask(self, path, body=None):
        """A JSON answer; None if it refuses."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.http}{path}", data,
                                         {"content-type": "application/json"})
        try:
            text = urllib.request.urlopen(request).read()
        except urllib.error.HTTPError:
            return None
        try:
            return json.loads(text)
        except ValueError:
            return text.decode()

    def plan(self, seconds):
        return self.ask(f"/v1/plan?seconds={seconds}&jobs={JOBS}")

    def wait(self, what, poll):
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE_S:
            found = poll()
            if found:
                return found
            time.sleep(0.05)
        sys.exit(f"not in time: {what}")

    def make(self, seconds):
        """Seconds that all videos take, from asking for them."""
        begun = time.monotonic()
        wish = {"prompt": PROMPT, "seconds": str(seconds)}
        ids = [self.ask("/v1/videos", {**wish, "seed": seed})["id"] for seed in range(JOBS)]
        self.wait("the videos", lambda: all(
            self.ask(f"/v1/videos/{video}")["status"] == "completed" for video in ids))
        return time.monotonic() - begun

    def end(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=16.0, help="of a long video")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        pool = Pool(folder)
        try:
            chunks = pool.plan(arguments.seconds)["chunks"] - pool.plan(SHORT_S)["chunks"]
            print("round | one process | pool, of either video | times as fast", flush=True)
            ones, pools = [], []
            for number in range(arguments.rounds):
                core = number % 2
                one = alone(core, arguments.seconds, folder) - alone(core, SHORT_S, folder)
                both = pool.make(arguments.seconds) - pool.make(SHORT_S)
                ones.append(one / chunks)
                pools.append(both / chunks / JOBS)
                print(f"{number + 1:>5} | {ones[-1]:9.3f} s | {pools[-1]:19.3f} s "
                      f"| {ones[-1] / pools[-1]:.3f}", flush=True)
            plan = pool.plan(arguments.seconds)
            one, both = statistics.median(ones), statistics.median(pools)
            stages = "; ".join(f"{worker['name']}: {', '.join(worker['stages'])}"
                               for worker in plan["workers"])
            print(f"found {one:.3f} s, {both:.3f} s: {one / both:.3f} times as fast")
            print(f"the plan says {plan['one_node']['seconds_per_chunk']:.3f} s, "
                  f"{plan['seconds_per_chunk']:.3f} s: at most {plan['gain']:.3f} times "
                  f"({stages}; {plan['verdict']})")
        finally:
            pool.end()


if __name__ == "__main__":
    main()
