"""How long a process takes until it can segment: MONAI with all of its companions, and as `monai_parts` imports it.

    python -m benchmarks.imports [--runs 5]

New processes in turn; the median and the range of each. Import torch alone is the rest of both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

WAYS = {
    "torch alone": "import torch",
    "MONAI as it is": "import torch; import monai.transforms.compose",
    "monai_parts": "import torch; import rollama.data.monai_parts",
    "all of SEG's training, MONAI as it is": "import monai.transforms.compose; import rollama.segmentation.trainer; "
    "from transformers import LlamaForCausalLM",
    "all of SEG's training": "import rollama.segmentation.trainer; from transformers import LlamaForCausalLM",
}


def seconds(code: str) -> float:
    """Wall time of a new process that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="processes of each kind (5)")
    runs = parser.parse_args().runs
    for code in WAYS.values():
        seconds(code)  # bytecode and the disk's cache
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(runs):
        for name, code in WAYS.items():
            found[name].append(seconds(code))
    print("| process imports | median s | range s |\n|---|---|---|")
    for name, times in found.items():
        print(f"| {name} | {median(times):.1f} | {min(times):.1f} to {max(times):.1f} |")


if __name__ == "__main__":
    main()
