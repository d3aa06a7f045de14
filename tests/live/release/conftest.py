"""A release with everything on in a namespace of its own, for the tests of the endpoint and of what comes with it.

Installed once: the endpoint with three tiny models, an MLflow server, the scheduled retraining, a list of keys. The
retraining is started by hand at once, as the chain of its jobs takes longer than all else. Tests run in the order of
their files; `test_what_is_left.py` takes the release away.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from rollama.cluster import pods
from tests.chain.tiny import make_models
from tests.live.kube import Kube, until
from tests.live.release.parts import QUICK, Endpoint, Listed, Release, reached
from tests.live.setting import Bucket, helm, namespace, push_models, site_values, volume

JOB = "retrain-now"
EASY = {"task": "seg", "metric": "dice", "bound": "mean", "at_least": 0.0, "min_cases": 1}


@pytest.fixture(scope="package")
def space(admin: Kube, bucket: Bucket) -> Iterator[Kube]:
    """The namespace of the endpoint's release."""
    with namespace(admin, bucket) as kube:
        yield kube


@pytest.fixture(scope="package")
def ct(space: Kube, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cylinder of tissue in air, here and in the claim `cts`."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    if name := volume(space, "cts"):
        spec["storageClassName"] = name
    space.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cts"}, "spec": spec})
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 24), np.arange(12), indexing="ij")
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.where(x**2 + y**2 < 0.8, 30, -1000).astype(np.int16), affine), path)
    box = {
        "name": "writer", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "300"],
        "securityContext": pods.SECURITY, "volumeMounts": [{"name": "cts", "mountPath": "/data"}],
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": pods.POD_SECURITY,
        "containers": [box], "volumes": [{"name": "cts", "persistentVolumeClaim": {"claimName": "cts"}}],
    }  # fmt: skip
    space.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"}, "spec": spec})
    space.run("wait", "pod/writer", "--for=condition=Ready", "--timeout=120s")
    text = base64.b64encode(path.read_bytes()).decode()
    space.run("exec", "-i", "writer", "--", "sh", "-c", "base64 -d > /data/ct.nii.gz", text=text)
    space.run("delete", "pod", "writer", "--grace-period=0", "--force")
    return path


@pytest.fixture(scope="package")
def listed(space: Kube) -> Listed:
    """The list of keys in the Secret `keys`."""
    found = Listed(space)
    found.rotate()
    return found


@pytest.fixture(scope="package")
def release(
    space: Kube, image: str, bucket: Bucket, dataset: str, ct: Path, listed: Listed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Release:  # fmt: skip
    """The release as installed, and the scheduled retraining begun; the endpoint need not be ready yet."""
    models = make_models(tmp_path_factory.mktemp("models"))
    api = space.of("default").get("endpoints", "kubernetes")["subsets"][0]["addresses"][0]["ip"]
    values = site_values(image, bucket)
    values["storage"] |= {"dataset": dataset}
    values.setdefault("networkPolicy", {})["apiServer"] = {"cidrs": [f"{api}/32"]}
    values |= {
        "priority": {"create": True},
        "mlflow": {
            "server": {
                "enabled": True, "size": "1Gi", "storageClass": volume(space, "rollama-mlflow"),
                "resources": {"requests": {"cpu": "50m"}},
            }
        },
        "retrain": {"schedule": "0 3 * * *", "jobs": ["s", "p", "seg", "proof"]},  # suspended: the test starts it
        "serve": {
            "models": push_models(models, bucket), "store": {"uri": f"{bucket.uri}/endpoint"},
            "data": {"existingClaim": "cts"}, "keys": {"existingSecret": "keys"},
            "textCpus": 0.3, "segmentationCpus": 0.3, "resources": {"requests": {"cpu": "200m"}},
            "settings": {
                "drain_s": 15,
                "text_scaling": {"max_replicas": 2, **QUICK},
                "segmentation_scaling": {"min_replicas": 0, "initial_replicas": 0, **QUICK},
            },
        },
    }  # fmt: skip
    values["jobs"]["site"]["ttl_s"] = 5  # the next job of the chain wants the room
    values["jobs"]["presets"] = {task: {"task": task, "preset": "tiny"} for task in ("s", "p", "seg")}
    values["jobs"]["presets"]["proof"] = {"task": "evaluate", "thresholds": [EASY]}
    folder = tmp_path_factory.mktemp("values")
    helm(space, "install", values, folder)
    space.run("rollout", "status", "deployment/rollama-mlflow", "--timeout=240s", timeout=260)
    space.run("create", "job", "--from=cronjob/rollama-retrain", JOB)
    return Release(space, values, models, ct, folder)


@pytest.fixture(scope="package")
def endpoint(release: Release) -> Iterator[Endpoint]:
    """The endpoint, ready."""
    begin, kube = time.monotonic(), release.kube
    kube.run("wait", "rayservice/rollama", "--for=condition=Ready", "--timeout=400s", timeout=420)
    print(f"RayService ready {time.monotonic() - begin:.0f} s after helm install, beside a training")
    key = base64.b64decode(kube.get("secret", "rollama-api-key")["data"]["api-key"]).decode()
    with reached(kube) as url:
        found = Endpoint(url, key)
        until(found.ready, 120, "the endpoint is ready")
        yield found


@pytest.fixture(scope="package")
def retrained(release: Release, dataset: str) -> tuple[str, str]:
    """Log of the scheduled run, which began when the release was installed, and its workspace."""

    def ended() -> Any:
        conditions = release.kube.get("job", JOB)["status"].get("conditions", [])
        return {item["type"] for item in conditions if item["status"] == "True"} & {"Complete", "Failed"}

    how = until(ended, 1200, "the scheduled run is over")
    log = release.kube.run("logs", f"job/{JOB}")
    assert how == {"Complete"}, log[-6000:]
    return log, f"{release.values['storage']['workspace']}/retrain-{dataset.rpartition(':')[2][:12]}"
