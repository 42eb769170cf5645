#!/usr/bin/env python3
"""What a pool's plan predicts, and what its chunks take, over links of several speeds.

Makes three network namespaces on a bridge: one for the coordinator and a worker that
encodes text and decodes, two for workers that hold layers. Every worker has one thread
and, with four cores or more, every process a core of its own; with two, the coordinator
and the decoder share one with a worker that holds layers, which no plan knows. The
links of the latter are shaped (tc tbf, both directions). At every speed a pool is
started, two videos are made at once, and the pace of their chunks is read from
/v1/cluster beside the prediction. Needs root, iproute2, taskset, two cores, curl and
`cargo build --release`; everything it makes is removed again.

    sudo python3 bench/network.py            # as fast as it is, then 1000, 100, 10 Mbit/s
    sudo python3 bench/network.py 250 --jobs 1
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILMLOOM = ROOT / "target" / "release" / "filmloom"
NAMES = ["flbench-c", "flbench-a", "flbench-b"]
BRIDGE = "flbench-hub"
PROMPT = "a large red ball bounces over green hills"
PATIENCE_S = 300
# Of the coordinator, the decoder, and the workers that hold layers.
CORES = [2, 3, 0, 1] if 4 <= (os.cpu_count() or 1) else [0, 0, 0, 1]


def sh(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def make_network():
    """A bridge in a namespace of its own, and a cable to each of the others."""
    sh("ip", "netns", "add", BRIDGE)
    sh("ip", "-n", BRIDGE, "link", "add", "hub", "type", "bridge")
    sh("ip", "-n", BRIDGE, "link", "set", "hub", "up")
    for number, name in enumerate(NAMES, 1):
        sh("ip", "netns", "add", name)
        port = f"port{number}"
        sh("ip", "link", "add", "cable", "netns", name, "type", "veth",
           "peer", "name", port, "netns", BRIDGE)
        sh("ip", "-n", BRIDGE, "link", "set", port, "master", "hub", "up")
        sh("ip", "-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
        sh("ip", "-n", name, "link", "set", "cable", "up")
        sh("ip", "-n", name, "link", "set", "lo", "up")


def shape(mbit):
    """Both directions of both layer workers' cables; 0 leaves them as fast as they are."""
    for number, name in list(enumerate(NAMES, 1))[1:]:
        for namespace, device in [(name, "cable"), (BRIDGE, f"port{number}")]:
            if mbit == 0:
                subprocess.run(["tc", "-n", namespace, "qdisc", "del", "dev", device, "root"],
                               check=False, stderr=subprocess.DEVNULL)
                continue
            sh("tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", "tbf",
               "rate", f"{mbit}mbit", "burst", str(max(16384, mbit * 63)), "latency", "100ms")


def remove_network():
    for name in [*NAMES, BRIDGE]:
        subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def start(namespace, core, log, *arguments):
    command = ["ip", "netns", "exec", namespace, "taskset", "-c", str(core), str(FILMLOOM)]
    with open(log, "w") as file:
        return subprocess.Popen([*command, *arguments], stderr=file, stdout=file)


def ask(namespace, path, body=None):
    """A JSON answer of the coordinator; None if it does not answer well."""
    command = ["ip", "netns", "exec", namespace, "curl", "-sf", f"http://127.0.0.1:7842{path}"]
    if body is not None:
        command += ["-H", "content-type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        return None
    try:
        return json.loads(done.stdout)
    except ValueError:
        return done.stdout.decode()


def wait(what, poll):
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE_S:
        found = poll()
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"not in time: {what}")


def settled(coordinator):
    """Waits until the pipeline has been the same, and ready, for five seconds."""
    since, before = time.monotonic(), None

    def is_settled():
        nonlocal since, before
        now = ask(coordinator, "/readyz") and ask(coordinator, "/v1/cluster").get("assignment")
        if now is None or now != before:
            since, before = time.monotonic(), now
        return 5 < time.monotonic() - since

    wait("a pipeline", is_settled)


def measure(mbit, jobs, seconds):
    shape(mbit)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        coordinator, *layers = NAMES
        processes = [start(coordinator, CORES[0], folder / "serve.log", "serve", "--no-worker",
                           "--data", str(folder / "data"), "--jobs", str(jobs))]
        token = folder / "data" / "join.token"
        wait("the token", token.exists)
        join = ["worker", "--join", "10.77.0.1:7843", "--token", token.read_text().strip(),
                "--threads", "1"]
        try:
            processes.append(start(coordinator, CORES[1], folder / "c.log", *join, "--name", "c",
                                   "--data", str(folder / "c"), "--roles", "text,decode"))
            # One after the other: each is timed on a core of its own, with nobody beside it.
            for core, name in zip(CORES[2:], layers):
                wait("workers are timed", lambda: all(
                    worker["state"] == "ready" for worker in ask(coordinator, "/v1/cluster")["workers"]))
                processes.append(start(name, core, folder / f"{name}.log", *join, "--name", name,
                                       "--data", str(folder / name), "--roles", "layers"))
                time.sleep(2)
            # A plan that is made before all links are measured assumes 1 Gbit/s.
            wait("all links are measured",
                 lambda: len(ask(coordinator, "/v1/cluster")["links"]) == 6)
            settled(coordinator)
            for seed in range(jobs):
                ask(coordinator, "/v1/videos",
                    {"prompt": PROMPT, "seconds": str(seconds), "seed": seed})
            paces = []

            def finished():
                cluster = ask(coordinator, "/v1/cluster")
                if cluster and "seconds_per_chunk_measured" in cluster and cluster["running"] == jobs:
                    paces.append(cluster)
                return cluster and cluster["running"] == 0 and cluster["queued"] == 0

            time.sleep(1)
            wait("the videos", finished)
            cluster = paces[-1]
            stages = [stage for worker in cluster["workers"] for stage in worker["stages"]
                      if stage.startswith("layers")]
            predicted = cluster["chunk_seconds"] if jobs == 1 else cluster["seconds_per_chunk"]
            measured = cluster["seconds_per_chunk_measured"]
            verdict = "use one node" if cluster.get("use_one_node") else "pool"
            print(f"{mbit:>6} | {', '.join(sorted(stages)):<24} | {verdict:<12} | {predicted:9.3f} "
                  f"| {measured:8.3f} | {100 * (predicted / measured - 1):+6.1f} %", flush=True)
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait(timeout=20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mbit", nargs="*", type=int, default=[0, 1000, 100, 10])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("network namespaces need root")
    remove_network()
    try:
        make_network()
        print("Mbit/s | layers                   | verdict      | predicted | measured | error")
        for mbit in arguments.mbit:
            measure(mbit, arguments.jobs, arguments.seconds)
    finally:
        remove_network()


if __name__ == "__main__":
    main()
