"""Time from `rollama submit` to the first training step in the job's log, on the cluster of the current kubeconfig.

    python benchmarks/submit_to_first_step.py --dataset s3://bucket/store@sha256:... [--repeat 3]

Each repetition is a job of its own with a new name; the step is taken when its line reaches the client, so the client's
own delay (it looks every three seconds) is counted. Prints each time, then median and range.
"""

from __future__ import annotations

import argparse
import re
import secrets
import statistics
import subprocess
import sys
import time

STEP = re.compile(r"training .*: \d+/\d+")


def measure(arguments: list[str]) -> float:
    """Seconds until the first step; the job is followed to its end."""
    begin, first = time.monotonic(), None
    with subprocess.Popen(
        ["rollama", "submit", "train", "p", *arguments, "--wait"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        lines = []
        for line in client.stdout:
            lines.append(line)
            if first is None and STEP.search(line):
                first = time.monotonic() - begin
    if client.returncode or first is None:
        sys.exit("".join(lines[-20:]) + f"exit code {client.returncode}, no first step seen")
    return first


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="reference as `rollama push dataset` prints it")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    times = []
    for index in range(given.repeat):
        name = f"first-step-{secrets.token_hex(3)}"
        times.append(measure(["--preset", given.preset, "--dataset", given.dataset, "--name", name]))
        print(f"{index + 1}/{given.repeat}: {times[-1]:.1f} s", flush=True)
    print(f"median {statistics.median(times):.1f} s, {min(times):.1f} to {max(times):.1f}")


if __name__ == "__main__":
    main()
