"""An argument list as a RayJob entrypoint that arrives unchanged.

The submitter pod runs `bash -ce "... ray job submit -- ENTRYPOINT ; ..."`; `ray job submit` quotes what bash made of it
anew, and Ray runs that with `sh -c`. So one quoting is right, here for bash. Before bash, Kubernetes itself reads the
container's arguments and replaces `$(NAME)` by a variable; such arguments are refused, as are control characters.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from rollama.core.errors import ConfigError

_REFUSED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|\$\(")


def entrypoint(arguments: Sequence[str]) -> str:
    """The arguments as one entrypoint.

    Raises:
        ConfigError: an argument holds `$(`, a line break or another control character.
    """
    for argument in arguments:
        if _REFUSED.search(argument):
            raise ConfigError(
                f"argument {argument!r}: a command on the cluster carries no '$(', line break or control character"
            )
    return shlex.join(arguments)
