"""MONAI comes without its companions, which can be imported behind it."""

from __future__ import annotations

import json
import subprocess
import sys

from rollama.data.monai_parts import COMPANIONS

LOOK = """
import json, sys
import rollama.data.monai_parts
from rollama.data.monai_parts import COMPANIONS
early = [name for name in COMPANIONS if name in sys.modules]
import matplotlib, transformers
from monai.losses import DiceLoss
print(json.dumps(early))
"""


def test_companions_are_not_loaded_and_can_be() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert len(COMPANIONS) > 4
