"""`convscope serve` under load, stopped, killed and attacked, in processes of its own on this machine.

    bench_serve.py MODEL [PART ...] [--scale 1] [--into RESULTS.md]

MODEL is a run or model file that was trained on `digits`. Parts: speed, soak, overload, tags, stop, kill, images, slow;
all by default. --scale 0.1 does a tenth of everything. Client and server share the machine. Exit code 5: a limit that
the table shows was missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from peers import HERE
from speed_report import put, table, today

sys.path.append(str(HERE.parent / "tests"))

import convscope
from convscope._hardware import hardware_info
from helpers.hostile import TRICKS, SlowClients, bombs, mutated_images, try_tricks
from helpers.http_load import Tally
from helpers.serve_checks import (
    digit_requests,
    resident_mb,
    run_count,
    seconds_until_ready_after_kill,
    stop_under_load,
    tag_check,
    try_images,
)  # fmt: skip
from helpers.serving import serving
from native_load import closed_load, open_load

CLIENTS = 64
MAX_SLOPE = 1.0  # MB per 10,000 requests


class Row(NamedTuple):
    """One line of the table."""

    what: str
    result: str
    limit: str
    kept: bool = True


class Setting(NamedTuple):
    """What the parts need: the model, requests with digits and their images, and how much to do."""

    model: Path
    scale: float

    @property
    def requests(self) -> list[bytes]:
        """One for each test image."""
        return digit_requests(convscope.load_data("digits").test.images)

    def count(self, number: int) -> int:
        """A number, scaled."""
        return max(1, round(number * self.scale))


def statuses(tally: Tally) -> str:
    """For example `200: 1,234, 503: 5`."""
    return ", ".join(f"{status or 'lost'}: {count:,}" for status, count in sorted(tally.statuses.items()))


def speed(setting: Setting) -> list[Row]:
    """Latency and throughput by number of clients."""
    rows = []
    with serving(setting.model) as server:
        closed_load(server.address, setting.requests, 8, 1)
        for clients in (1, 8, CLIENTS):
            seconds = max(2, 10 * setting.scale)
            tally = closed_load(server.address, setting.requests, clients, seconds)
            rate = len(tally.latencies) / seconds
            median, late = tally.milliseconds(0.5), tally.milliseconds(0.99)
            result = f"{rate:,.0f} requests/s, {median:.2f} ms median, {late:.1f} ms at 99 %"
            rows.append(Row(f"{clients} clients", result, "", set(tally.statuses) == {200}))
    return rows


def soak(setting: Setting) -> list[Row]:
    """64 clients at once: no failures, no growing memory."""
    rows = []
    with serving(setting.model) as server:
        closed_load(server.address, setting.requests, CLIENTS, 5)
        memory, answered, total = [resident_mb(server)], [0], Tally()
        for _ in range(10):
            tally = closed_load(server.address, setting.requests, CLIENTS, 60 * setting.scale)
            for status, count in tally.statuses.items():
                total.statuses[status] = total.statuses.get(status, 0) + count
            memory.append(resident_mb(server))
            answered.append(sum(total.statuses.values()))
    half = len(memory) // 2
    slope = 10_000 * (memory[-1] - memory[half]) / (answered[-1] - answered[half])
    kept = set(total.statuses) <= {200, 503}
    rows.append(Row(f"{CLIENTS} clients for {10 * setting.scale:g} minutes", statuses(total), "200, 503", kept))
    result = f"{memory[0]:.0f} to {memory[-1]:.0f} MB; {slope:.2f} MB per 10,000 requests in the second half"
    rows.append(Row("memory meanwhile", result, f"{MAX_SLOPE:g} MB", slope < MAX_SLOPE))
    return rows


def overload(setting: Setting) -> list[Row]:
    """Requests at a fixed rate, at and above what the server can answer."""
    seconds, rows, good = max(3, 20 * setting.scale), [], {}
    with serving(setting.model) as server:
        peak = len(closed_load(server.address, setting.requests, CLIENTS, seconds).latencies) / seconds
        for factor in (0.5, 1, 2):
            tally = open_load(server.address, setting.requests, factor * peak, seconds)
            good[factor] = len(tally.latencies) / seconds
            late = tally.milliseconds(0.99, "refusals")
            result = f"{good[factor]:,.0f} answers/s, {tally.milliseconds(0.5):.0f} ms median"
            if tally.refusals:
                result += f"; refusals {tally.milliseconds(0.5, 'refusals'):.0f} ms median, {late:.0f} ms at 99 %"
            result += f"; {statuses(tally)}"
            kept = factor < 2 or (good[2] >= 0.9 * peak and late < 50)
            limit = f"{0.9 * peak:,.0f} answers/s, refusals in 50 ms" if factor == 2 else ""
            rows.append(Row(f"{factor:g} x {peak:,.0f} requests/s", result, limit, kept))
    return rows


def tags(setting: Setting) -> list[Row]:
    """Each answer is that of its own image, and has its own request id."""
    images = convscope.load_data("digits").test.images
    check, count = tag_check(setting.model, images), setting.count(100_000)
    rows = []
    for workers in ("1", "2"):
        with serving(setting.model, "--workers", workers) as server:
            tally = run_count(server, setting.requests, CLIENTS, count // 2, check)
        result = f"{len(tally.wrong)} crossed; {statuses(tally)}"
        rows.append(Row(f"{count // 2:,} tagged requests, {workers} workers", result, "0", not tally.wrong))
    return rows


def stop(setting: Setting) -> list[Row]:
    """SIGTERM under load."""
    requests = setting.requests
    closing = [request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) for request in requests]
    count = setting.count(100)
    stops = [
        stop_under_load(setting.model, closing if i % 2 else requests, 32, "--workers", "2" if i % 4 > 1 else "1")
        for i in range(count)
    ]
    lost, late = sum(one.lost for one in stops), max(one.not_ready_s for one in stops)
    longest, codes = max(one.exit_s for one in stops), {one.code for one in stops}
    answered = sum(one.answered for one in stops)
    return [
        Row(f"SIGTERM, {count} times", f"{lost} lost of {answered:,} requests", "0 lost", lost == 0),
        Row("not ready after", f"at most {1000 * late:.0f} ms", "100 ms", late < 0.1),
        Row(
            "ended after",
            f"at most {longest:.1f} s with exit codes {sorted(codes)}",
            "30 s, 0",
            codes == {0} and longest < 30,
        ),
    ]


def kill(setting: Setting) -> list[Row]:
    """SIGKILL of the only worker."""
    with serving(setting.model) as server:
        times = [seconds_until_ready_after_kill(server) for _ in range(setting.count(10))]
    result = f"{sorted(times)[len(times) // 2]:.1f} s median, at most {max(times):.1f} s"
    return [Row(f"worker killed, {len(times)} times: ready again after", result, "5 s", max(times) < 5)]


def images(setting: Setting) -> list[Row]:
    """Damaged images, pngsuite, bombs, tricks."""
    folder = os.environ.get("CONVSCOPE_DATA")
    rows = []
    with serving(setting.model) as server:
        trials = {
            "mutated images in 5 formats": list(mutated_images(setting.count(5000), seed=1)),
            "bombs": list(bombs().items()),
        }
        if folder:
            with tarfile.open(Path(folder, "pngsuite", "pngsuite.tar.gz")) as archive:
                found = [member for member in archive if member.name.endswith(".png")]
                trials["images of pngsuite"] = [(one.name, archive.extractfile(one).read()) for one in found]  # type: ignore[union-attr]
        for name, files in trials.items():
            trial = try_images(server, files)
            result = (
                f"{len(trial.faults)} faults, at most {trial.peak_mb:.0f} MB and {trial.slowest_s:.2f} s each; "
                f"{', '.join(f'{status}: {count:,}' for status, count in sorted(trial.statuses.items()))}"
            )
            rows.append(
                Row(f"{len(files):,} {name}", result, "0 faults, 200 MB", not trial.faults and trial.peak_mb < 200)
            )
        faults = try_tricks(server.address)
        rows.append(
            Row(f"{len(TRICKS)} tricks with paths, headers and bodies", f"{len(faults)} faults", "0", not faults)
        )
    return rows


def slow(setting: Setting) -> list[Row]:
    """500 connections that send or read a byte a second."""
    with serving(setting.model) as server:
        clients = SlowClients(server.address, setting.count(500), interval=1)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            server.predict(setting.requests[0].partition(b"\r\n\r\n")[2])
            times.append(time.perf_counter() - start)
            time.sleep(0.2)
        clients.wait(120)
        left, ready = len(clients.open), server.request("GET", "/readyz").status
    result = (
        f"{left} left, the last one closed after {clients.longest:.0f} s; "
        f"others meanwhile {1000 * sorted(times)[10]:.1f} ms median"
    )
    return [Row(f"{setting.count(500)} slow connections", result, "0 left", left == 0 and ready == 200)]


PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "speed": speed, "soak": soak, "overload": overload, "tags": tags, "stop": stop, "kill": kill, "images": images,
    "slow": slow,
}  # fmt: skip


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--note", default="", help="added to the text, such as what else ran on the machine")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    model = options.model / "model.onnx" if options.model.is_dir() else options.model
    setting, kept = Setting(model, options.scale), True
    for part in options.parts or PARTS:
        rows = PARTS[part](setting)
        kept &= all(row.kept for row in rows)
        report(options.into, part, rows, options.note)
    return 0 if kept else 5


def report(into: Path, part: str, rows: list[Row], note: str) -> None:
    """Write the table of a part to stdout and into RESULTS.md."""
    machine = hardware_info(threads=1)
    cells = [(row.what, row.result, row.limit, "yes" if row.kept else "**no**") for row in rows]
    title = (PARTS[part].__doc__ or "").rstrip(".")
    text = (
        f"## Server: {title}\n\n`bench_serve.py {part}`, {today()}, convscope {machine.versions['convscope']}, "
        f"{machine.processor}, {machine.cores} cores that client and server share. {note}\n\n"
        f"{table(('what', 'result', 'limit', 'kept'), cells)}"
    )
    put(into, f"serve-{part}", text)
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
