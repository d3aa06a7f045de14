import pytest
import yaml

from rollama.cluster.rayservice import ServiceJob, build_rayservice
from rollama.cluster.serveconfig import Deployment
from rollama.core.config import build
from rollama.core.errors import ConfigError
from serve.config import ServeConfig

VALUES = {
    "name": "rollama",
    "args": {"models": "/models", "data_folder": "/data", "store": "/tmp/store"},
    "api_key_secret": "endpoint",
    "claims": [{"name": "models", "mount": "/models"}],
    "deployments": [{"name": "text", "max_ongoing_requests": 4}],
}


def service(**changes):
    return build(ServiceJob, {**VALUES, **changes}, "service")


def test_the_application_is_ours_with_arguments_it_accepts(site):
    body = build_rayservice(service(), site, "team")
    found = yaml.safe_load(body["spec"]["serveConfigV2"])
    application = found["applications"][0]
    assert application["import_path"] == "serve.app:build_app"
    assert build(ServeConfig, application["args"], "args").models.as_posix() == "/models"
    assert application["deployments"] == [{"name": "text", "max_ongoing_requests": 4}]
    assert "target_capacity" not in found


def test_rays_own_schema_accepts_the_application(site):
    schema = pytest.importorskip("ray.serve.schema")
    found = yaml.safe_load(build_rayservice(service(), site, "team")["spec"]["serveConfigV2"])
    known = set(schema.ServeDeploySchema.model_fields) | {"proxy_location"}
    assert set(found) <= known
    assert set(found["applications"][0]) <= set(schema.ServeApplicationSchema.model_fields)
    assert set(Deployment.model_fields) <= set(schema.DeploymentSchema.model_fields)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"deployments": [{"name": "text", "max_ongoing_request": 4}]}, "did you mean 'max_ongoing_requests'"),
        ({"deployments": [{"name": "text", "autoscaling_config": {"max_replicas": 2, "max_ongoing_requests": 4}}]},
         "unknown key 'deployments.0.autoscaling_config.max_ongoing_requests'"),
        ({"deployments": [{"name": "plan"}]}, "deployments.0.name"),
        ({"deployments": [{"name": "text", "autoscaling_config": {}}]}, "max_replicas' is missing"),
        ({"deployments": [{"name": "text", "num_replicas": 1, "autoscaling_config": {"max_replicas": 2}}]},
         "num_replicas or"),
        ({"deployments": [{"name": "text", "autoscaling_config": {"max_replicas": 2, "upscale_delay_s": 1}}]},
         "oscillate"),
        ({"name": "x" * 48}, "48 characters"),
        ({"upgrade": "NewClusterWithIncrementalUpgrade"}, "upgrade"),
    ],
)  # fmt: skip
def test_what_ray_or_kuberay_would_ignore_or_refuse_is_refused(site, changes, says):
    with pytest.raises(ConfigError, match=says):
        build_rayservice(service(**changes), site, "team")


def test_pods_are_restricted_and_the_key_comes_from_its_secret(site):
    for scaled in (False, True):
        body = build_rayservice(service(), site.updated(autoscaling=scaled), "team")
        cluster = body["spec"]["rayClusterConfig"]
        for template in (cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]):
            box = template["spec"]["containers"][0]
            assert box["securityContext"]["readOnlyRootFilesystem"] is True
            key = next(item for item in box["env"] if item["name"] == "ROLLAMA_API_KEY")
            assert key["valueFrom"]["secretKeyRef"] == {"name": "endpoint", "key": "api_key"} and "value" not in key
            assert {"name": "models", "mountPath": "/models", "readOnly": True} in box["volumeMounts"]
            assert [port["name"] for port in box["ports"]].count("serve") == 1
    assert cluster["authOptions"]["mode"] == "token"
    assert "rayClusterSpec" not in body["spec"]
