"""The errors a user can meet: one root, few leaves.

Every message names the file or key, what was found and what is accepted, so that the reader can act on it.
Messages never carry clinical text: name the case id or the line number instead. The command line prints
them without a traceback (`--debug` shows one); anything that is not a `RollamaError` is a bug.
"""


class RollamaError(Exception):
    """Root of all errors raised on purpose by rollama."""


class ConfigError(RollamaError):
    """A preset, a configuration key or a command-line value is wrong."""


class DataError(RollamaError):
    """A note, plan, volume or dataset on disk cannot be used as it is."""


class CheckpointError(RollamaError):
    """A model artefact or training checkpoint is missing, damaged or does not fit."""


class ClusterError(RollamaError):
    """Ray or Kubernetes refused or lost the work."""


class ServeError(RollamaError):
    """The inference endpoint cannot answer."""


class ReleaseError(RollamaError):
    """A model may not be released as requested."""
