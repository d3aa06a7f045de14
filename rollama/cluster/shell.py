"""An argument list as a RayJob entrypoint that arrives unchanged.

An entrypoint is read by a shell twice. The submitter pod runs `bash -ce "... ray job submit -- ENTRYPOINT ; ..."`; `ray
job submit` joins what bash made of it with `subprocess.list2cmdline`, which knows Windows' rules and no others; and Ray
runs the result with `sh -c`. Quoting once therefore loses a space or lets `$(...)` run. Here each argument is prepared
for the last reader first, then for list2cmdline, then for bash. What cannot pass is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from rollama.core.errors import ConfigError

_REFUSED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\\]")
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_SPECIAL = re.compile(r"([^\w@%+=:,./\"-])", re.ASCII)


def entrypoint(arguments: Sequence[str]) -> str:
    """The arguments as one entrypoint.

    Raises:
        ConfigError: an argument is empty or holds a backslash, a line break or another control character.
    """
    return " ".join(shlex.quote(_for_sh(argument)) for argument in arguments)


def _for_sh(argument: str) -> str:
    """Quote for `sh` in a form that list2cmdline completes: it puts \" \" around blanks and a \\ before each \"."""
    if not argument or _REFUSED.search(argument):
        raise ConfigError(
            f"argument {argument!r}: a command on the cluster carries no empty argument, backslash or control character"
        )
    if _PLAIN.fullmatch(argument):
        return argument
    if " " in argument or "\t" in argument:
        return re.sub(r"([$`])", r"\\\1", argument)
    return _SPECIAL.sub(r"\\\1", argument)
