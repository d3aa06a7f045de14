"""Ray Train's restarts, but not after an error that no repetition mends.

Ray Train starts the workers again after any error. Wrong data stays wrong: each new start of all workers, half a minute
and more, would end in the same words. A worker that raises an error on purpose leaves its words in the run's storage
first (`remote.failures_recorded`), so whoever decides about a restart can know.
"""

from __future__ import annotations

from ray.train import FailureConfig

from ray_jobs.remote import lasting_failure
from rollama.core.storage import open_storage


class OwnFailures(FailureConfig):
    """No restart once a worker of `run` said what is wrong and stays wrong.

    Ray Train has no policy to plug in; its controller reads `max_failures` anew at each failure, and this is where.
    """

    def __init__(self, max_failures: int, run: str) -> None:
        self.run = run
        super().__init__(max_failures=max_failures)

    @property
    def max_failures(self) -> int:
        """Failures of workers that the run still survives: none, when it is known to be in vain."""
        return 0 if lasting_failure(open_storage(self.run)) else self._limit

    @max_failures.setter
    def max_failures(self, value: int) -> None:
        self._limit = value
