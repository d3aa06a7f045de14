"""The exit codes a CI can trust, and the errors that carry them.

A pipeline must tell "the training is wrong" from "the cluster lost it" from "nobody answered": the first needs a
person, the second a repetition, the third a look at the network. The command line ends with `error.exit_code`.
"""

from __future__ import annotations

from enum import IntEnum

from rollama.core.errors import ClusterError


class Exit(IntEnum):
    """How `rollama submit --wait` ends."""

    SUCCESS = 0
    REFUSED = 2
    JOB_FAILED = 10
    INFRASTRUCTURE = 11
    DEADLINE = 12
    CANCELLED = 13
    UNREACHABLE = 14


MEANING = {
    Exit.SUCCESS: "the job succeeded and KubeRay completed it",
    Exit.REFUSED: "the configuration was refused, nothing was created",
    Exit.JOB_FAILED: "the job itself failed",
    Exit.INFRASTRUCTURE: "the cluster could not run the job or lost it",
    Exit.DEADLINE: "a deadline passed",
    Exit.CANCELLED: "the job was cancelled or stopped",
    Exit.UNREACHABLE: "the cluster could not be reached",
}


class Refused(ClusterError):
    """The cluster or this account does not accept the request as it is; nothing was created."""

    exit_code = Exit.REFUSED


class Unreachable(ClusterError):
    """The API server does not answer."""

    exit_code = Exit.UNREACHABLE


class Lost(ClusterError):
    """The cluster is reached, but cannot do the work."""

    exit_code = Exit.INFRASTRUCTURE
