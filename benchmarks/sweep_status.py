"""Seconds that `segdistill sweep status` takes: python benchmarks/sweep_status.py [500].

It makes a sweep folder with that many jobs (80 % done, 8 running, 20 failed, the rest waiting), whose files are as
large as those of a run with 19 classes, in a temporary folder. Measured are the command as a process of its own, which
must stay under 2 s for 500 jobs, and what `watch` does every two seconds, once as it begins and then again.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from segdistill.engine.run_folder import write_json
from segdistill.sweep.folder import Job, Plan, SweepFolder
from segdistill.sweep.snapshot import snapshot


def fake_sweep(folder: SweepFolder, count: int) -> None:
    """Plan, status files, metrics and logs of ``count`` jobs."""
    jobs = [job(f"student_{n % 10}", "none" if n // 10 % 2 else "hybrid", str(n // 20)) for n in range(count)]
    axes = {axis: list(dict.fromkeys(one.choices[axis] for one in jobs)) for axis in ("student", "kd", "seed")}
    folder.write(Plan(("a=b",), "/", "local", time.time() - 9e4, count, axes, tuple(jobs)))
    for number, one in enumerate(jobs):
        run = folder.run(one)
        if number < 0.8 * count:
            write_json(run.path / "status.json", status("done", 1000))
            write_json(run.metrics, {"val": scores(number), "test": scores(number)})
        elif number < 0.8 * count + 8:
            write_json(run.path / "status.json", status("running", number))
        elif number < 0.8 * count + 28:
            write_json(
                run.path / "status.json", status("failed", number) | {"message": "Traceback\n" * 30 + "it broke"}
            )
            (run.path / "train.log").write_text("epoch 1/10 loss 1.0\n" * 2000)


def job(student: str, recipe: str, seed: str) -> Job:
    """A point of the grid."""
    choices = {"student": student, "kd": recipe, "seed": seed}
    told = [f"{axis}={value}" for axis, value in choices.items()]
    return Job(",".join(told), tuple(told), choices)


def status(state: str, step: int) -> dict[str, Any]:
    """What a run has told."""
    now = time.time()
    who = {"state": state, "code": None, "message": "", "pid": os.getpid(), "host": socket.gethostname()}
    times = {"heartbeat": now, "since": now - 3000, "began": now - 3600}
    return who | times | {"phase": "training", "step": step, "from_step": 0, "steps": 1000, "epoch": 3, "val_miou": 0.4}


def scores(number: int) -> dict[str, Any]:
    """As large as those of a run."""
    classes = {f"class_{n}": {"iou": 0.5, "accuracy": 0.6, "pixels": 10**6} for n in range(19)}
    groups = {f"group_{n}": {"miou": 0.5, "images": 100} for n in range(20)}
    return {"miou": 0.3 + number / 2000, "classes": classes, "groups": groups}


def seconds(action: Any, times: int = 5) -> str:
    """Median and range of a few calls."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        took.append(time.perf_counter() - began)
    return f"{statistics.median(took):.2f} s ({min(took):.2f} to {max(took):.2f})"


def main(count: int) -> None:
    """Make the folder and measure."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = SweepFolder(Path(temporary) / "sweep")
        fake_sweep(folder, count)
        command = [sys.executable, "-c", "from segdistill.cli import main; main()", "sweep", "status", str(folder.path)]
        told = subprocess.run([*command, "output=json"], check=True, capture_output=True, text=True).stdout
        print(count, "jobs:", {state: n for state, n in json.loads(told)["counts"].items() if n})
        print("status, the whole command:", seconds(lambda: subprocess.run(command, check=True, capture_output=True)))
        print("status output=json:       ", seconds(lambda: subprocess.run([*command, "output=json"], stdout=-3)))
        print("watch, the first look:    ", seconds(lambda: snapshot(folder)))
        first = snapshot(folder)
        print("watch, every other look:  ", seconds(lambda: snapshot(folder, first)))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(int(sys.argv[1]) if len(sys.argv) == 2 else 500)
