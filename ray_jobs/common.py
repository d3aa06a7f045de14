"""From our configuration to Ray Train's: workers, storage, restarts, and a progress feed for whoever waits.

Ray Train (V2) restarts the worker group after a failure and hands the last reported checkpoint to it; a later call
under the same run name does the same. Workers write `metrics.jsonl` in the run's folder; the driver follows that file,
so progress works in the same way on one machine and over shared storage.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rollama.core.errors import ClusterError, RollamaError
from rollama.core.registry import DESCRIPTIONS  # noqa: F401  (light import keeps workers' start quick)
from rollama.training.metrics_log import read_metrics
