"""Builds the Serve application and, for `rollama serve`, runs it on a local Ray.

`build_app` is the import path for a RayService (`serve.app:build_app`, its `args` are the keys of `ServeConfig`), so a
laptop and a cluster serve the same graph. Models are the deployments' `user_config` (see `release`), so that others
take their place without a restart. Locally the endpoint binds to 127.0.0.1 unless told otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from rollama.chain.run import model_folders
from rollama.core.config import build
from rollama.core.errors import ServeError
from rollama.core.registry import Decoding
from rollama.core.storage import open_storage
from serve.audit import open_audit
from serve.auth import load_callers
from serve.config import ServeConfig
from serve.engine import check_engine
from serve.pipeline import PipelineDeployment
from serve.proxy import CALLBACK, CALLBACK_VARIABLE
from serve.release import Release
from serve.segmentation import SegmentationDeployment
from serve.text import MOST_ROWS, TextDeployment

NAME = "rollama"


def build_app(args: ServeConfig | Mapping[str, Any]) -> Application:
    """The application graph.

    Args:
        args: the configuration, or its plain values as a RayService hands them in.

    Raises:
        ConfigError: a key is unknown or a value not accepted; constrained plans without llguidance.
        ServeError: no key, or a folder is missing.
        CheckpointError: a model is missing.
    """
    config = args if isinstance(args, ServeConfig) else build(ServeConfig, args, "serve")
    load_callers(config)
    open_audit(config)
    check_engine(config.text_engine)
    if config.plan_decoding is Decoding.CONSTRAINED:
        from rollama.text.grammar import check_installed

        check_installed()
    release: dict[str, Any] | None = None
    if config.models is not None:
        model_folders(config.models)
        # Workers have a working folder of their own.
        release = Release.of_folder(config.models.resolve()).model_dump()
    if not config.data_folder.is_dir():
        raise ServeError(f"{config.data_folder}: no such data folder")
    places = {
        name: open_storage(place).uri for name in ("store", "audit", "audit_heads") if (place := getattr(config, name))
    }
    files = {
        name: path.resolve()
        for name in ("data_folder", "api_key_file", "keys_file", "audit_key_file")
        if (path := getattr(config, name))
    }
    oidc = config.oidc
    if oidc is not None and oidc.jwks_file is not None:
        oidc = oidc.updated(jwks_file=oidc.jwks_file.resolve())
    config = config.updated(models=None, oidc=oidc, **places, **files)
    # Beside the work there are readiness questions; while somebody waits for a job, a request stays open.
    text = serve.deployment(
        name="text",
        ray_actor_options={"num_cpus": config.text_cpus, "num_gpus": config.text_gpus},
        max_ongoing_requests=2 * MOST_ROWS,
        autoscaling_config=config.text_scaling.model_dump(exclude_none=True),
        graceful_shutdown_timeout_s=config.drain_s + 1,
        user_config=release,
        max_queued_requests=config.max_queued_requests,
    )(TextDeployment)
    segmentation = serve.deployment(
        name="segmentation",
        ray_actor_options={"num_cpus": config.segmentation_cpus, "num_gpus": config.segmentation_gpus},
        max_ongoing_requests=config.max_ongoing_requests + 2,
        autoscaling_config=config.segmentation_scaling.model_dump(exclude_none=True),
        graceful_shutdown_timeout_s=config.drain_s + 1,
        user_config=release,
        max_queued_requests=config.max_queued_requests,
    )(SegmentationDeployment)
    pipeline = serve.deployment(
        name="pipeline",
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=config.max_http_requests,
        graceful_shutdown_timeout_s=config.drain_s + 10,
        user_config=release,
        max_queued_requests=config.max_http_requests,
    )(serve.ingress()(PipelineDeployment))
    text_model = text.bind(config.text_batch_tokens, config.plan_decoding, config.text_engine)
    return pipeline.bind(
        config, text_model, segmentation.bind(config.segmentation_voxels, config.segmentation_batch_voxels)
    )


def start(config: ServeConfig) -> str:
    """Start Ray if there is none, serve the application and wait until the models are loaded; return its address.

    Raises:
        ServeError: the application does not come up (a model cannot be loaded, the port is taken).
        ConfigError, CheckpointError: see `build_app`.
    """
    app = build_app(config)  # before Ray starts: a wrong setting should cost a second, not half a minute
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    if not ray.is_initialized():
        os.environ.setdefault(CALLBACK_VARIABLE, CALLBACK)  # proxies have the variables of the node that starts them
        cpus = max(os.cpu_count() or 1, int(-(-(config.text_cpus + config.segmentation_cpus) // 1)))
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": config.host, "port": config.port, "request_timeout_s": config.deadline_s + 30},
        )
        serve.run(app, name=NAME, route_prefix="/")
    except RuntimeError as error:
        raise ServeError(f"the endpoint did not come up: {_reason()}") from error
    return f"http://{config.host}:{config.port}"


def _reason() -> str:
    """What the first unhealthy deployment says, in one line."""
    try:
        application = serve.status().applications[NAME]
    except Exception:  # Serve itself is gone; whatever it raises, the reason is in its logs
        return "the logs of Ray Serve (folder logs/serve) say why"
    for name, deployment in application.deployments.items():
        if deployment.status.name == "DEPLOY_FAILED" or deployment.status.name == "UNHEALTHY":
            lines = [line.strip() for line in deployment.message.splitlines() if line.strip()]
            ours = [line for line in lines if line.startswith(("rollama.", "ray.")) and "Error" in line]
            return f"{name}: {(ours or lines or ['no message'])[-1]}"
    return application.message or "the logs of Ray Serve (folder logs/serve) say why"


def stop() -> None:
    """Stop serving; Ray itself stays up."""
    serve.shutdown()
