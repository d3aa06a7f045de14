"""`rollama --help` and `rollama info` must not wait for torch."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "monai", "transformers", "SimpleITK", "kubernetes", "sklearn", "matplotlib")


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--json"], ["predict", "--help"], ["train", "--help"]])
def test_light_verbs_load_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from rollama.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        f"finally:\n    print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("LOADED []")
