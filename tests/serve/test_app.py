"""The endpoint on a real local Ray, with tiny artefacts: it says what `rollama predict` says, and only with the key."""

from __future__ import annotations

import json
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import psutil
import pytest

from rollama.chain.inputs import hash_ct, make_request, read_input_ct
from rollama.chain.outputs import write_outputs
from rollama.chain.run import Chain
from rollama.core.errors import CheckpointError, ConfigError, DataError, ServeError
from rollama.core.registry import Task
from rollama.data.features import FEATURES
from rollama.data.profile import Profile
from rollama.monitoring.sources import of_metrics
from rollama.text.generate import TextModel
from serve.config import ServeConfig
from tests.chain.tiny import make_models
from tests.load import steady
from tests.serve.conftest import KEY, PLAN, make_config

NOTE = "Left breast cancer, pT1 N1, breast-conserving surgery."


@pytest.fixture(scope="module")
def app() -> Any:
    """`serve.app`; Ray Serve 2.60 uses a form of pydantic's `Field` that pydantic warns about on import."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import serve.app
    return serve.app


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ServeConfig:
    root = tmp_path_factory.mktemp("endpoint")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = make_config(root).updated(port=port, ready_timeout_s=10.0, lease_s=5.0)
    make_models(made.models)
    rng = np.random.default_rng(0)  # large enough for a job that can be interrupted
    array = np.full((110, 90, 60), -1000, np.int16)
    array[10:-10, 10:-10] = rng.integers(0, 60, (90, 70, 60))
    nibabel.save(nibabel.Nifti1Image(array, np.diag([6.0, 6.0, 6.0, 1.0])), made.data_folder / "large.nii.gz")
    return made


@pytest.fixture(scope="module")
def endpoint(app: Any, tiny: ServeConfig) -> Iterator[str]:
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROLLAMA_API_KEY", KEY)
        yield app.start(tiny)
        app.stop()
        ray.shutdown()


@pytest.fixture
def client(endpoint: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=endpoint, timeout=150, headers={"Authorization": f"Bearer {KEY}"}) as made:
        yield made


def test_refuses_to_build_what_cannot_serve(
    app: Any, config: ServeConfig, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = config.model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"unknown key 'prot'; did you mean 'port'"):
        app.build_app({**values, "prot": 1})
    with pytest.raises(CheckpointError, match="no such model"):
        app.build_app(values)
    for name in ("s", "p", "seg"):
        (config.models / name).mkdir(parents=True)
    with pytest.raises(ServeError, match="no such data folder"):
        app.build_app({**values, "data_folder": str(config.data_folder / "absent")})
    app.build_app({**values, "plan_decoding": "constrained"})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "llguidance", None)
        with pytest.raises(ConfigError, match="need llguidance"):
            app.build_app({**values, "plan_decoding": "constrained"})
        app.build_app(values)
    monkeypatch.delenv("ROLLAMA_API_KEY")
    with pytest.raises(ServeError, match="does not start"):
        app.build_app(values)


def answers_of(folder: Path, notes: list[str]) -> list[tuple[str, str]]:
    """Summary and plan text of each note, one after the other."""
    model = TextModel.load({Task.SUMMARY: folder / "s", Task.PLAN: folder / "p"})
    summaries = [model.generate(Task.SUMMARY, [note])[0].text for note in notes]
    return [(text, model.generate(Task.PLAN, [text])[0].text) for text in summaries]


def until(true: Callable[[], bool], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.3)


NOTES = [f"{NOTE} Patient of {age} years." for age in range(40, 44)]


class Changing:
    """A second application on the same Ray, deployed by a Serve configuration as a RayService does it."""

    def __init__(self, tiny: ServeConfig, client: httpx.Client, root: Path) -> None:
        self.client, self.root = client, root
        self.folders = {name: make_models(root / name, first_seed=10 * n) for n, name in enumerate(("one", "two"))}
        key = root / "key"
        key.write_text(KEY)
        self.args = tiny.updated(
            models=None, store=str(root / "store"), api_key_file=key, text_cpus=0, segmentation_cpus=0,
            text_scaling={"min_replicas": 1, "max_replicas": 2},
            segmentation_scaling={"min_replicas": 0, "max_replicas": 1},
        ).model_dump(mode="json", exclude_none=True)  # fmt: skip

    def deploy(self, name: str, scaling: dict[str, Any] | None = None) -> None:
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        release = {model: str(self.root / name / model) for model in ("s", "p", "seg")}
        steady = {"min_replicas": 1, "max_replicas": 1}
        scaling = {"text": steady, "segmentation": steady, **(scaling or {})}
        application = {
            "name": "changing", "route_prefix": "/changing", "import_path": "serve.app:build_app", "args": self.args,
            "deployments": [
                {"name": "pipeline", "user_config": release},
                *({"name": one, "user_config": release, "autoscaling_config": how} for one, how in scaling.items()),
            ],
        }  # fmt: skip
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))

    def served(self) -> dict[str, Any]:
        found = self.client.get("/changing/v1/models")
        return dict(found.json()) if found.status_code == 200 else {"problem": "", "serving": {}}

    def replicas(self) -> set[int]:
        """Processes of the application."""
        ours = psutil.Process().children(recursive=True)
        return {one.pid for one in ours if "ServeReplica:changing" in "".join(one.cmdline())}

    def count(self, name: str) -> int:
        from ray import serve

        return serve.status().applications["changing"].deployments[name].replica_states.get("RUNNING", 0)

    def load(self, notes: list[str]) -> AbstractContextManager[list[tuple[str, httpx.Response]]]:
        """Clients who ask for plans of these notes; the answers as they come."""
        return steady(lambda note: self.client.post("/changing/v1/plan", json={"note": note}), notes)


@pytest.fixture(scope="module")
def changing(endpoint: str, tiny: ServeConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    with httpx.Client(base_url=endpoint, timeout=150, headers={"Authorization": f"Bearer {KEY}"}) as client:
        made = Changing(tiny, client, tmp_path_factory.mktemp("changing"))
        made.deploy("one")
        until(lambda: client.get("/changing/readyz").status_code == 200)
        yield made


SLOW = [pytest.mark.slow, pytest.mark.timeout(280), pytest.mark.filterwarnings("default")]  # Ray warns about itself
WAIT = {"Prefer": "wait=120"}
ASK = {"note": NOTE, "ct_path": "ct.nii.gz"}


class TestServed:
    """One Ray, one endpoint, one thing after the other."""

    pytestmark = SLOW

    def test_it_says_what_predict_says(self, tiny: ServeConfig, client: httpx.Client, tmp_path: Path) -> None:
        path = tiny.data_folder / "ct.nii.gz"
        volume = read_input_ct(path)
        expected = Chain.load(tiny.models).answer(make_request(note=NOTE), volume)
        manifest = write_outputs(expected, volume, tmp_path / "predict", {"ct": hash_ct(path)})
        for name in ("/healthz", "/readyz"):
            assert client.get(name, headers={"Authorization": ""}).status_code == 200
        assert client.post("/v1/pipeline", json=ASK, headers={"Authorization": ""}).status_code == 401
        answer = client.post("/v1/pipeline", json=ASK, headers=WAIT)
        with path.open("rb") as stream:
            sent = client.post("/v1/pipeline/upload", data={"note": NOTE}, files={"ct": stream}, headers=WAIT)
        too_long = client.post("/v1/pipeline", json={**ASK, "note": "word " * 9000}, headers=WAIT)
        outside = client.post("/v1/pipeline", json={**ASK, "ct_path": "../secret.nii.gz"})
        texts = client.post("/v1/plan", json={"note": NOTE}).json()

        assert (answer.status_code, sent.status_code) == (200, 200), answer.text + sent.text
        for body in (answer.json(), sent.json()):
            assert body["state"] == "done", body
            found = body["findings"]
            assert (found["summary"], found["plan_text"]) == (expected.summary, expected.plan_text)
            assert found["warnings"] == list(expected.warnings)
            files = {name: client.get(place).content for name, place in body["files"].items()}
            assert set(files) == {item.name for item in (tmp_path / "predict").iterdir()}
            for name in set(files) - {"manifest.json"}:  # the manifest holds times
                assert files[name] == (tmp_path / "predict" / name).read_bytes(), name
            assert json.loads(files["manifest.json"])["config_hash"] == manifest["config_hash"]
        assert (texts["summary"], texts["plan_text"]) == (expected.summary, expected.plan_text)
        assert outside.status_code == 422
        failed = too_long.json()
        assert failed["state"] == "failed" and failed["error"]["status"] == 422
        assert "tokens" in failed["error"]["detail"]

    def test_cases_are_counted_where_prometheus_asks(self, client: httpx.Client) -> None:
        import ray

        (node,) = ray.nodes()
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        note = "A note that no other test sends, CANARY."
        assert client.post("/v1/summary", json={"note": note}).status_code == 200
        feature = FEATURES["note_words"]

        def words() -> list[int]:
            try:
                counts = of_metrics([address]).get("s", Profile()).counts("unknown", feature.name)
            except DataError:  # nothing is exported yet
                return []
            return counts if sum(counts) else []

        until(lambda: bool(words()))
        scraped = httpx.get(address).text
        assert words()[0] >= 1 and "CANARY" not in scraped
        series = [line for line in scraped.splitlines() if line.startswith("ray_rollama_profile_total")]
        assert len([line for line in series if 'feature="note_words"' in line]) == len(feature.bins), (
            "zeros are said too"
        )

    def test_many_texts_at_once_are_each_answered_as_alone(self, tiny: ServeConfig, client: httpx.Client) -> None:
        notes = [f"{NOTE} Patient of {age} years." for age in range(40, 52)]
        alone = [client.post("/v1/plan", json={"note": note}).json() for note in notes[:4]]
        with ThreadPoolExecutor(len(notes)) as pool:
            found = list(pool.map(lambda note: client.post("/v1/plan", json={"note": note}).json(), notes))
        for one, together in zip(alone, found, strict=False):
            assert (one["summary"], one["plan_text"]) == (together["summary"], together["plan_text"])
        assert all(item["plan_text"] for item in found)

    def test_a_killed_model_loses_no_job(self, tiny: ServeConfig, client: httpx.Client) -> None:
        job = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "large.nii.gz"}).json()["job_id"]
        self.until_running(client, job)
        ours = psutil.Process().children(recursive=True)
        (replica,) = [one for one in ours if ":segmentation" in "".join(one.cmdline())]
        replica.kill()
        assert self.over(client, job)["state"] == "done"
        assert client.get("/readyz").status_code == 200

    def test_a_client_that_leaves_does_not_disturb_its_job(self, tiny: ServeConfig, client: httpx.Client) -> None:
        body = {"plan": PLAN, "ct_path": "large.nii.gz"}
        keys = [{"Idempotency-Key": f"left {number}"} for number in range(3)]
        for key in keys:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/segment", json=body, headers={**key, **WAIT}, timeout=1.5)
        for key in keys:
            job = client.post("/v1/segment", json=body, headers=key).json()["job_id"]
            found = self.over(client, job)
            assert (found["state"], found["attempt"]) == ("done", 1), found

    def test_a_cancelled_job_frees_the_model(self, tiny: ServeConfig, client: httpx.Client) -> None:
        job = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "large.nii.gz"}).json()["job_id"]
        self.until_running(client, job)
        client.delete(f"/v1/jobs/{job}")
        assert self.over(client, job)["state"] == "cancelled"
        next_one = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "ct.nii.gz"}, headers=WAIT).json()
        assert next_one["state"] == "done"

    def test_models_change_under_load_without_a_failed_request(
        self, changing: Changing, client: httpx.Client, tmp_path: Path
    ) -> None:
        first, processes = changing.served()["serving"], changing.replicas()
        expected = {name: answers_of(folder, NOTES) for name, folder in changing.folders.items()}
        assert expected["one"] != expected["two"]
        with changing.load(NOTES) as answers:
            until(lambda: len(answers) > 8)
            changing.deploy("two")
            until(lambda: changing.served()["serving"] != first)
            changed = len(answers)
            until(lambda: len(answers) > changed + 12)
            changing.deploy("absent")
            until(lambda: bool(changing.served()["problem"]))
            still = len(answers)
            until(lambda: len(answers) > still + 4)
        assert changing.replicas() == processes, "something was restarted"
        assert {answer.status_code for _, answer in answers} == {200}
        for note, answer in answers:
            body = answer.json()
            name = "one" if body["models"]["s"] == first["s"] else "two"
            assert (body["summary"], body["plan_text"]) == expected[name][NOTES.index(note)]
        assert all(answer.json()["models"] != first for _, answer in answers[changed + 8 :])

    @pytest.mark.matrix
    def test_replicas_follow_the_load_and_nobody_notices(self, changing: Changing, client: httpx.Client) -> None:
        fast = {"look_back_period_s": 4, "upscale_delay_s": 4, "downscale_delay_s": 8, "target_ongoing_requests": 1}
        text = {"min_replicas": 1, "max_replicas": 2, **fast}
        changing.deploy("two", {"text": text, "segmentation": {"min_replicas": 0, "max_replicas": 1, **fast}})
        until(lambda: changing.count("segmentation") == 0)
        assert client.get("/changing/readyz").status_code == 200, "asleep, but ready"
        with changing.load(NOTES) as answers:
            until(lambda: changing.count("text") == 2)
            grown = len(answers)
            until(lambda: len(answers) > grown + 8)
            ask = {"plan": PLAN, "ct_path": "ct.nii.gz"}
            job = client.post("/changing/v1/segment", json=ask, headers=WAIT).json()  # wakes it, streams, sleeps again
        until(lambda: (changing.count("text"), changing.count("segmentation")) == (1, 0))
        again = client.post("/changing/v1/segment", json=ask, headers=WAIT).json()
        assert (job["state"], again["state"]) == ("done", "done"), (job, again)
        assert {answer.status_code for _, answer in answers} == {200}

    @staticmethod
    def until_running(client: httpx.Client, job: str) -> None:
        with client.stream("GET", f"/v1/jobs/{job}/events") as events:
            for line in events.iter_lines():
                if line.startswith("data:") and json.loads(line[5:])["done"]:
                    return
        raise AssertionError("the job was over before it could be interrupted")

    @staticmethod
    def over(client: httpx.Client, job: str) -> Any:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            body = client.get(f"/v1/jobs/{job}").json()
            if body["state"] not in ("queued", "running"):
                return body
            time.sleep(0.3)
        raise AssertionError(f"job still {body['state']}, {body['stage']} {body['done']}/{body['total']}")
