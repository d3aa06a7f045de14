import pytest

from rollama.cluster import quantity
from rollama.cluster.config import SiteConfig, parse_site, read_site
from rollama.core.errors import ConfigError

GOOD = "image: registry.example/rollama:1\ntoken_secret: ray-token\n"


def test_numbers_are_quantities_too():
    assert parse_site(GOOD + "worker: {cpu: 2, memory: 4294967296}", "x").worker.cpu == "2"


def test_a_site_is_read_from_a_file_and_from_text(write):
    assert read_site(write("site.yaml", GOOD)) == parse_site(GOOD, "ConfigMap")


def test_the_defaults_shut_down_and_bound_every_job():
    site = parse_site(GOOD, "x")
    assert site.deadline_s == 86_400 and site.pre_running_deadline_s == 3_600
    assert site.retries == 0 and site.ray_version == "2.60.0" and not site.autoscaling


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("token_secrt: x", "did you mean 'token_secret'"),
        ("worker: {memory: 4}", "less than one MiB"),
        ("worker: {memory: 4GiB}", "accepted are Kubernetes quantities"),
        ("worker: {cpu: '0'}", "more than 0"),
        ("worker: {cores: 2}", "unknown key 'worker.cores'"),
        ("image: 'user:pass@registry/x'", "without credentials"),
        ("image_pull_policy: Sometimes", "image_pull_policy"),
        ("storage_secret: Not_A_Name", "name of a Kubernetes object"),
        ("namespace: Team", "lower-case"),
        ("storage_env: {AWS_SECRET_ACCESS_KEY: abc}", "looks like a secret"),
        ("storage_env: {AWS_ENDPOINT_URL: 'http://u:p@s3'}", "looks like a secret"),
        ("storage_env: {'A B': x}", "no variable name"),
        ("retries: -1", "retries"),
        ("deadline_s: 10", "deadline_s"),
    ],
)
def test_what_is_wrong_is_named(line, says):
    key = line.partition(":")[0]
    text = "".join(f"{row}\n" for row in GOOD.splitlines() if not row.startswith(f"{key}:")) + line
    with pytest.raises(ConfigError, match=says):
        parse_site(text, "site")


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_text_that_is_no_mapping_is_refused(text):
    with pytest.raises(ConfigError, match="site"):
        parse_site(text, "site")


def test_a_secret_value_is_not_repeated_in_the_message():
    with pytest.raises(ConfigError) as refused:
        parse_site(GOOD + "storage_env: {AWS_SECRET_ACCESS_KEY: hunter2}", "site")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", 0.5), ("4", 4), ("1.5", 1.5), ("512Mi", 2**29), ("12Gi", 12 * 2**30), ("1G", 1e9), ("2e3", 2000)],
)
def test_quantities(text, value):
    assert quantity.parse(text, "key") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "4GiB", "-1", "1 Gi", "four", "1e"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ConfigError, match="key: found"):
        quantity.parse(text, "key")


@pytest.mark.parametrize("value", [2**30, 3 * 2**29, 12 * 2**30, 2**20])
def test_bytes_become_quantities_and_back(value):
    assert quantity.parse(quantity.gib(value), "key") == value


def test_the_site_knows_no_secret_value_field():
    assert not any("password" in name or name.endswith("_key") for name in SiteConfig.model_fields)
