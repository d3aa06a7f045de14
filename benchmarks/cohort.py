"""Speed, memory and size on disk of making a cohort, for each named size: python -m benchmarks.cohort

Each size is made in processes of its own with a few cases of every centre (`--cases`), so the figures are a case and
not the whole cohort; a second column makes them with Ray on all cores. Prints a Markdown table with the median over
cases and the range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rollama.core.registry import CohortSize

SIZES = tuple(CohortSize)


def measure(size: str, cases: int) -> dict[str, object]:
    """Make `cases` training cases of each training centre and as many external ones, in this process."""
    import resource

    from rollama.cohort.config import CohortConfig
    from rollama.cohort.make import CaseMaker
    from rollama.cohort.scan import Item
    from rollama.cohort.shifts import CENTRES
    from rollama.data.case import Split

    config = CohortConfig(size=CohortSize(size))
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        make = CaseMaker(Path(folder), config)
        for centre, profile in CENTRES.items():
            split = Split.EXTERNAL if profile.external else Split.TRAIN
            for index in range(cases):
                start = time.perf_counter()
                make(Item(centre, split, index))
                seconds.append(time.perf_counter() - start)
        total = sum(path.stat().st_size for path in Path(folder).rglob("*.nii.gz"))
    return {
        "seconds": seconds[1:],  # the first one pays for imports
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "mb_a_case": total / len(seconds) / 1e6,
        "cohort_cases": config.cases,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2, help="cases of each centre")
    parser.add_argument("--only", choices=SIZES, help="measure one size in this process and print JSON")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.cases)))
        return
    print("| size | cases | s a case, median (range) | one core, whole cohort | peak memory MB | MB a case on disk |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        command = [sys.executable, "-m", "benchmarks.cohort", "--only", size, "--cases", str(given.cases)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        middle = statistics.median(found["seconds"])
        low, high = min(found["seconds"]), max(found["seconds"])
        print(
            f"| {size} | {found['cohort_cases']} | {middle:.2f} ({low:.2f}-{high:.2f}) | "
            f"{middle * found['cohort_cases'] / 60:.1f} min | {found['peak_mb']:.0f} | {found['mb_a_case']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
