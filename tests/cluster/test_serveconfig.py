import pytest

from rollama.cluster.serveconfig import DEPLOYMENTS, Deployment, Models, Room, check_room, make_serve, parse_serve
from rollama.core.errors import ConfigError

ARGS = {"models": "/models", "deadline_s": 600}


MODELS = "{s: a, p: b, seg: c}"
BOTH = "[" + ", ".join(f"{{name: {name}, user_config: {MODELS}}}" for name in DEPLOYMENTS) + "]"


def test_models_by_reference_are_said_to_each_deployment():
    models = Models(s="a", p="b", seg="c")
    made = make_serve({"deadline_s": 600}, [Deployment(name="text", max_ongoing_requests=4)], models)
    (application,) = made.plain()["applications"]
    assert [item["name"] for item in application["deployments"]] == list(DEPLOYMENTS)
    assert all(item["user_config"] == {"s": "a", "p": "b", "seg": "c"} for item in application["deployments"])
    assert application["deployments"][1]["max_ongoing_requests"] == 4
    assert made.applications[0].models == models


def test_made_and_read_again_are_equal_and_nothing_is_left_open():
    import yaml

    made = make_serve(ARGS, [Deployment(name="text", max_ongoing_requests=4)])
    assert parse_serve(yaml.safe_dump(made.plain()), "x") == made
    assert made.plain()["http_options"] == {"host": "0.0.0.0", "port": 8000, "request_timeout_s": 630.0}
    assert "deployments" not in make_serve(ARGS).plain()["applications"][0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("proxy_locatio: EveryNode\napplications: [{args: {}}]", "did you mean 'proxy_location'"),
        ("applications: [{args: {}, max_ongoing_requests: 4}]", "unknown key 'applications.0.max_ongoing_requests'"),
        ("applications: []", "applications"),
        ("applications: [{args: {}, import_path: other:app}]", "import_path"),
        ("applications: [{args: {models: /models, deadline_s: 900}}]", "accepted is request_timeout_s > deadline_s"),
        ("applications: [{args: {}, deployments: [{name: text}, {name: text}]}]", "each deployment once"),
        ("applications: [{args: {}, deployments: [{name: text, max_queued_requests: -1}]}]", "max_queued_requests"),
        ("applications: [{args: {}, deployments: [{name: text, autoscaling_config: {max_replicas: 2, "
         "initial_replicas: 3}}]}]", "initial_replicas <= max_replicas"),
        ("http_options: {host: 127.0.0.1}\napplications: [{args: {}}]", "host"),
        ("applications: [{args: {}}]", "accepted is args.models"),
        (f"applications: [{{args: {{}}, deployments: [{{name: text, user_config: {MODELS}}}]}}]",
         "same user_config for each of pipeline, text, segmentation"),
        (f"applications: [{{args: {{models: /m}}, deployments: {BOTH}}}]", "one of them"),
        ("applications: [{args: {}, deployments: [{name: text, user_config: {s: a, p: b}}]}]", "seg"),
        ("- a", "expected keys and values"),
        ("{", "not valid YAML"),
    ],
)  # fmt: skip
def test_what_ray_would_pass_over_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_serve(text, "serveConfigV2")


@pytest.mark.parametrize(
    ("args", "rooms", "says"),
    [
        ({"text_gpus": 1}, [Room(4, 0)], "text_gpus: a replica wants 1 GPUs, the largest pod has 0"),
        ({"text_gpus": 1, "segmentation_gpus": 1}, [Room(4, 1)], "want 2 GPUs, all pods together have 1"),
        ({"segmentation_cpus": 8}, [Room(4, 0), Room(4, 0, 3)], "segmentation_cpus: a replica wants 8 CPUs"),
        ({"text_scaling": {"min_replicas": 4}}, [Room(2, 0), Room(2, 0)], "want 5 CPUs"),
    ],
)
def test_replicas_without_a_place_are_refused(args, rooms, says):
    with pytest.raises(ConfigError, match=says):
        check_room(args, rooms)


def test_replicas_that_fit_pass():
    check_room({"text_gpus": 0.6, "segmentation_gpus": 0.4}, [Room(2, 1)])
    check_room({"text_scaling": {"min_replicas": 0}, "text_gpus": 1, "segmentation_gpus": 1}, [Room(2, 0), Room(2, 1)])
