"""How many structures a second a service answers, how late, and what it holds: load from another process on loopback.

    python benchmarks/service.py MODEL --structures ../shared/data/crystals/perov_5_test.csv.gz

starts ``kimgnn serve`` with and without batches, and asks it by 32 clients that each wait for their answer before they
ask again; then, at half of the best rate, by clients who ask when it is time, late answers or not (latency counts from
the time that a request was due); then 20,000 requests with the memory of the service's processes before and after;
then kills it in the middle of a job and counts what comes of it.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

CLIENTS = 32
ROUNDS = 5
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def requests_of(path: Path, format_name: str, count: int) -> list[bytes]:
    """Return requests of one structure each, as they go over the wire."""
    import ase.io

    from kimgnn.data.parsing import parse_structure

    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8")
    with opened as file:
        texts = [row["cif"] for row, _ in zip(csv.DictReader(file), range(count), strict=False)]
    bodies = []
    for text in texts:
        data: object = text
        if format_name != "cif":
            atoms = parse_structure(text)
            stream = io.StringIO()
            if format_name == "ase":
                data = {name: getattr(atoms, name).tolist() for name in ("numbers", "positions", "pbc")}
                data["cell"] = atoms.cell.array.tolist()
            else:
                ase.io.write(stream, atoms, format={"poscar": "vasp"}.get(format_name, format_name))
                data = stream.getvalue()
        bodies.append(json.dumps({"structures": [{"format": format_name, "data": data}]}).encode())
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return [head % len(body) + body for body in bodies]


class Service:
    """``kimgnn serve`` in processes of its own."""

    def __init__(self, model: str, *options: str, jobs: Path) -> None:
        kimgnn = str(Path(sys.executable).with_name("kimgnn"))
        command = [kimgnn, "serve", f"model={model}", "--port", "0", "--jobs", str(jobs), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.findall(r":(\d+)$", line.strip())[0])

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return json.load(answer)

    def processes(self) -> list[int]:
        """Return the process that answers, and those that compute."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def processor_seconds(self) -> list[float]:
        """Return what each of its processes has computed."""
        ticks = os.sysconf("SC_CLK_TCK")
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.processes()]
        return [(int(stat[11]) + int(stat[12])) / ticks for stat in stats]

    def memory(self) -> float:
        """Return what its processes hold of memory that is theirs, MiB."""
        total = 0
        for pid in self.processes():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
            total += sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))
        return total / 1024


class Connection:
    """A client's connection, which sends a request and notices when all of its answer is there.

    It shares the machine with the service, so it does no more than that: no streams, no coroutines.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = 0.0
        self._answer = b""
        self._length = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, request: bytes, since: float) -> None:
        """Send a request, whose latency counts from a time."""
        self.since = since
        self.socket.sendall(request)

    def answered(self) -> bool:
        """Take what came, and return whether it ends the answer; anything but 200 is an error."""
        came = self.socket.recv(65536)
        if not came:
            raise RuntimeError("the service closed a connection on which it was asked")
        self._answer += came
        if not self._length:
            head = self._answer.find(b"\r\n\r\n")
            if head < 0:
                return False
            if not self._answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(self._answer.decode())
            self._length = head + 4 + int(LENGTH.search(self._answer, 0, head)[1])
        if len(self._answer) < self._length:
            return False
        self._answer, self._length = b"", 0
        return True


def closed(port: int, requests: Sequence[bytes], seconds: float, clients: int) -> tuple[float, list[float]]:
    """Return answers a second and latencies of clients who wait for an answer before they ask again."""
    latencies: list[float] = []
    turn = cycle(requests)
    poll = selectors.DefaultSelector()
    began = time.perf_counter()
    for _ in range(clients):
        connection = Connection(port)
        poll.register(connection, selectors.EVENT_READ)
        connection.send(next(turn), time.perf_counter())
    waiting = clients
    while waiting:
        for key, _ in poll.select():
            connection = key.fileobj
            if connection.answered():
                now = time.perf_counter()
                latencies.append(now - connection.since)
                if now - began < seconds:
                    connection.send(next(turn), now)
                else:
                    waiting -= 1
    return len(latencies) / (time.perf_counter() - began), latencies


def opened(port: int, requests: Sequence[bytes], seconds: float, rate: float) -> list[float]:
    """Return latencies of requests that come at random times, so many a second, answered or not."""
    rng = np.random.default_rng(0)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds))).tolist()
    turn = cycle(requests)
    poll = selectors.DefaultSelector()
    idle: list[Connection] = []
    latencies: list[float] = []
    began = time.perf_counter()
    sent = 0
    while len(latencies) < len(due):
        while sent < len(due) and due[sent] <= time.perf_counter() - began:
            if not idle:
                idle.append(Connection(port))
                poll.register(idle[-1], selectors.EVENT_READ)
            idle.pop().send(next(turn), began + due[sent])
            sent += 1
        patience = max(0.0, due[sent] - (time.perf_counter() - began)) if sent < len(due) else None
        for key, _ in poll.select(patience):
            connection = key.fileobj
            if connection in idle:  # the service closes what is idle for long
                poll.unregister(connection)
                idle.remove(connection)
            elif connection.answered():
                latencies.append(time.perf_counter() - connection.since)
                idle.append(connection)
    return latencies


def in_process(function, *arguments):
    """Return what a function returns in another process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def throughput(model: str, requests: Sequence[bytes], seconds: float, folder: Path) -> dict:
    """Return rates with and without batches, in turn on services that both run all the time."""
    with (
        Service(model, jobs=folder / "batched.sqlite") as batched,
        Service(model, "--batch", "1", jobs=folder / "single.sqlite") as single,
    ):
        rates: dict[str, list[float]] = {"batched": [], "single": []}
        costs: dict[str, list] = {"batched": [], "single": []}
        for _ in range(ROUNDS):
            for name, service in (("batched", batched), ("single", single)):
                before = np.array(service.processor_seconds())
                rate, latencies = in_process(closed, service.port, requests, seconds, CLIENTS)
                rates[name].append(rate)
                costs[name].append(1e3 * (np.array(service.processor_seconds()) - before) / len(latencies))
                http, compute = costs[name][-1]
                told = f"processor ms an answer: HTTP {http:.2f}, compute {compute:.2f}"
                print(f"{name}: {rate:.0f} /s; {told}", flush=True)
        ratios = np.array(rates["batched"]) / np.array(rates["single"])
        peak = float(np.median(rates["batched"]))
        latencies = in_process(opened, batched.port, requests, 4 * seconds, peak / 2)
        p50, p99 = np.quantile(latencies, [0.5, 0.99])
        print(f"at {peak / 2:.0f} /s: p50 {1e3 * p50:.1f} ms, p99 {1e3 * p99:.1f} ms")
        return {
            "batched per second": peak,
            "single per second": float(np.median(rates["single"])),
            "ratio": float(np.median(ratios)),
            "ratios": ratios.tolist(),
            "processor ms an answer": {name: np.median(cost, axis=0).tolist() for name, cost in costs.items()},
            "p50 ms at half": 1e3 * p50,
            "p99 ms at half": 1e3 * p99,
        }


def memory(model: str, requests: Sequence[bytes], count: int, folder: Path) -> dict:
    """Return the memory of a service after each quarter of ``count`` requests."""
    with Service(model, jobs=folder / "memory.sqlite") as service:
        found = []
        for _ in range(4):
            done = 0
            while done < count / 4:
                done += len(in_process(closed, service.port, requests, 5.0, CLIENTS)[1])
            found.append(service.memory())
            print(f"memory after {done} more requests: {found[-1]:.1f} MiB", flush=True)
    return {"MiB after each quarter": found}


def killed(model: str, requests: Sequence[bytes], folder: Path) -> dict:
    """Return what becomes of jobs whose service is killed, thrice, while it computes them."""
    structures = [json.loads(request.partition(b"\r\n\r\n")[2])["structures"][0] for request in requests]
    path = folder / "killed.sqlite"
    jobs: list[str] = []
    for _ in range(3):
        with Service(model, jobs=path) as service:
            body = json.dumps({"structures": structures}).encode()
            for _ in range(3):
                address = f"http://127.0.0.1:{service.port}/jobs"
                asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(asked) as answer:
                    jobs.append(json.load(answer)["id"])
            time.sleep(0.5)
            os.kill(service.process.pid, signal.SIGKILL)
            service.process.wait()
    with Service(model, jobs=path) as service:
        while any(service.get(f"/jobs/{job}?limit=0")["status"] in ("queued", "running") for job in jobs):
            time.sleep(0.5)
        found = [service.get(f"/jobs/{job}")["results"] for job in jobs]
        lost = sum(len(structures) - len(results) for results in found)
        columns = [[result["columns"] for result in results] for results in found]
        differing = sum(one != columns[0] for one in columns)
    print(f"{len(jobs)} jobs accepted, {len(structures)} structures each; lost: {lost}; differing: {differing}")
    return {"jobs": len(jobs), "structures lost": lost, "differing jobs": differing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--structures", type=Path, required=True, help="A table with a column cif.")
    parser.add_argument("--format", default="ase", choices=["cif", "poscar", "extxyz", "ase"])
    parser.add_argument("--count", type=int, default=1000, help="Different structures.")
    parser.add_argument("--seconds", type=float, default=5.0, help="Of a round.")
    parser.add_argument("--only", choices=["throughput", "memory", "killed"])
    arguments = parser.parse_args()
    requests = requests_of(arguments.structures, arguments.format, arguments.count)
    with TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.only in (None, "throughput"):
            print(throughput(arguments.model, requests, arguments.seconds, folder))
        if arguments.only in (None, "memory"):
            print(memory(arguments.model, requests, 20_000, folder))
        if arguments.only in (None, "killed"):
            print(killed(arguments.model, requests, folder))


if __name__ == "__main__":
    main()
