"""A run that is known to be in vain is not started again; what Ray Train's own policy decides then."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray import cloudpickle
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.api.exceptions import WorkerGroupError

from ray_jobs.failures import OwnFailures
from ray_jobs.remote import failures_recorded
from rollama.core.errors import ClusterError, DataError, RollamaError
from rollama.core.storage import open_storage


def decided(run: Path, error: Exception) -> FailureDecision:
    """What the policy in Ray's controller, another process, makes of a worker's `error`."""
    config = cloudpickle.loads(cloudpickle.dumps(OwnFailures(2, open_storage(run).uri)))
    return DefaultFailurePolicy(config).make_decision(WorkerGroupError("a worker failed", {0: error}))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (DataError("max_tokens"), FailureDecision.RAISE),
        (ClusterError("the bucket does not answer"), FailureDecision.RETRY),
        (None, FailureDecision.RETRY),
    ],
)
def test_only_what_may_pass_is_tried_again(tmp_path: Path, said: RollamaError | None, wanted: FailureDecision) -> None:
    if said is not None:
        with pytest.raises(type(said)), failures_recorded(open_storage(tmp_path)):
            raise said
    assert decided(tmp_path, RuntimeError("seen by Ray")) is wanted


def test_the_limit_is_the_configured_one(tmp_path: Path) -> None:
    assert OwnFailures(2, str(tmp_path)).max_failures == 2
    config = OwnFailures(1, open_storage(tmp_path).uri)
    policy = DefaultFailurePolicy(config)
    error = WorkerGroupError("a worker failed", {0: RuntimeError()})
    assert [policy.make_decision(error) for _ in range(2)] == [FailureDecision.RETRY, FailureDecision.RAISE]
