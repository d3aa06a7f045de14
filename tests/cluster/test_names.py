import pytest

from rollama.cluster import names
from rollama.cluster.rayjob import build_rayjob
from rollama.core.errors import ConfigError


@pytest.mark.parametrize("run", ["p", "a" * 47, "Seg.Plus_2", "9lives", "x-" * 20 + "y"])
def test_job_names_fit_kuberay_in_every_attempt(run):
    base = names.base_name("seg", run, {"config": "x"})
    for attempt in (1, 2, 99):
        names.check_resource_name(names.attempt_name(base, attempt), "name")


def test_the_name_depends_on_all_that_decides_the_result(job, site):
    base = job.base_name(site)
    changed = [
        job.updated(run="q"), job.updated(task="s"), job.updated(config_digest="d" * 64),
        job.updated(dataset=f"s3://bucket/store@sha256:{'b' * 64}"), job.updated(workspace="s3://bucket/other"),
    ]  # fmt: skip
    found = {item.base_name(site) for item in changed} | {job.base_name(site.updated(image="other:2"))}
    assert len(found) == 6 and base not in found


def test_the_name_does_not_depend_on_the_rest(job, site):
    same = job.updated(workspace="s3://bucket/work/", deadline_s=60, dataset=f"s3://mirror/x@sha256:{'a' * 64}")
    assert same.base_name(site.updated(ttl_s=5)) == job.base_name(site)


def test_the_spec_hash_tells_resources_apart_but_not_attempts(job, site):
    def hashed(the_site, attempt):
        return build_rayjob(job, the_site, "team", attempt)["metadata"]["labels"][names.LABEL_HASH]

    assert hashed(site, 1) == hashed(site, 2)
    assert hashed(site, 1) != hashed(site.updated(deadline_s=100), 1)
    assert hashed(site, 1) != hashed(site.updated(worker={"memory": "8Gi"}), 1)


def test_attempts_have_names_of_their_own_and_an_end():
    assert [names.attempt_name("x", number) for number in (1, 2, 12)] == ["x", "x-r2", "x-r12"]
    with pytest.raises(ConfigError, match="attempts are kept"):
        names.attempt_name("x", 100)


@pytest.mark.parametrize(
    ("run", "says"), [("a" * 48, "found 48 characters"), ("a b", "accepted are letters"), ("-a", "'-a'"), ("", "''")]
)
def test_run_names_are_checked(run, says):
    with pytest.raises(ConfigError, match=says):
        names.check_run_name(run)


@pytest.mark.parametrize("name", ["a" * 48, "9a", "A", "a-", "a.b", ""])
def test_resource_names_are_checked(name):
    with pytest.raises(ConfigError, match=r"metadata\.name"):
        names.check_resource_name(name, "metadata.name")
