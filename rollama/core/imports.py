"""Import a library without the optional companions that it would load and we never use.

MONAI and DeepSpeed load whatever else is installed (MLflow, scikit-learn, all of Transformers' BERT) in case somebody
uses them together. Each process that trains or segments pays for that at its start with many seconds of a core, and a
training on Ray starts several; both libraries do without what cannot be imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def not_installed(*names: str) -> Iterator[None]:
    """Within the block, modules that are not loaded yet cannot be imported; behind it they can.

    For the first import of a library as a process starts: other threads see the same modules.
    """
    modules: dict[str, Any] = sys.modules  # None is how Python itself marks a module that must not be imported
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            if modules.get(name) is None:
                modules.pop(name, None)
