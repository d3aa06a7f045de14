"""The few calls to the API server that a job needs, and its refusals in words one can act on.

Everything passes as plain dictionaries in the API's own spelling, so rules, causes and tests work on what a server
really sends. The rights of a namespaced Role suffice (rayjobs create/get/list/delete, pods and their logs, events,
one ConfigMap, resource quotas); whatever needs more answers `None` where the account may not look.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from rollama.cluster.config import CONFIG_KEY, CONFIG_MAP
from rollama.cluster.exits import Refused, Unreachable
from rollama.cluster.names import LABEL_JOB
from rollama.core.errors import ClusterError, ConfigError, RollamaError

GROUP, VERSION, JOBS = "ray.io", "v1", "rayjobs"
FIELD_MANAGER = "rollama"
CONNECT_S, READ_S, LOG_READ_S = 10, 30, 120
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_AUTH = re.compile(r"authOptions|secretName|preRunningDeadlineSeconds")
UPGRADE = (
    "install KubeRay >= 1.6 and upgrade its CRDs with 'kubectl apply --server-side -f' on those of the new version; "
    "'helm upgrade' leaves CRDs as they are"
)


class Denied(Refused):
    """The account is not known or lacks a right."""


class Conflict(ClusterError):
    """An object of that name is there already."""


class Api(Protocol):
    """What this room asks of a cluster; `Cluster` is the real one."""

    namespace: str

    def get_job(self, name: str) -> dict[str, Any] | None: ...
    def list_jobs(self, selector: str) -> list[dict[str, Any]]: ...
    def create_job(self, body: dict[str, Any], dry_run: bool = False) -> dict[str, Any]: ...
    def delete_job(self, name: str) -> bool: ...
    def pods(self, job: str) -> list[dict[str, Any]]: ...
    def events(self) -> list[dict[str, Any]]: ...
    def log(self, pod: str, container: str, follow: bool, since_s: int | None = None) -> Iterator[str]: ...
    def nodes(self) -> list[dict[str, Any]] | None: ...
    def quotas(self) -> list[dict[str, Any]] | None: ...
    def has_secret(self, name: str) -> bool | None: ...
    def site_text(self, key: str = CONFIG_KEY) -> str | None: ...
    def reconnect(self) -> None: ...


class Cluster:
    """One namespace of one cluster, as the kubeconfig (or the pod's own account) reaches it."""

    def __init__(self, namespace: str | None = None) -> None:
        """Read the configuration; nothing is sent yet.

        Args:
            namespace: instead of the context's.

        Raises:
            ConfigError: no usable kubeconfig, or the extra `cluster` is not installed.
        """
        self._chosen = namespace
        self.namespace = namespace or "default"
        self.reconnect()

    def reconnect(self) -> None:
        """Read the kubeconfig anew: tokens in it may have been renewed."""
        try:
            from kubernetes import client
        except ImportError as error:
            raise ConfigError("the Kubernetes client is not installed; install rollama[cluster]") from error
        configuration = client.Configuration()
        configuration.retries = False  # `watch` backs off by itself and says so
        context_namespace = _load(configuration)
        self.namespace = self._chosen or context_namespace or "default"
        self.server: str = configuration.host
        connection = client.ApiClient(configuration)
        self._custom, self._core = client.CustomObjectsApi(connection), client.CoreV1Api(connection)

    def get_job(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self._json("get", JOBS, self._custom.get_namespaced_custom_object, *self._jobs(), name))
        except _Missing:
            return None

    def list_jobs(self, selector: str) -> list[dict[str, Any]]:
        answer = self._json(
            "list", JOBS, self._custom.list_namespaced_custom_object, *self._jobs(), label_selector=selector
        )
        return list(answer["items"])

    def create_job(self, body: dict[str, Any], dry_run: bool = False) -> dict[str, Any]:
        options: dict[str, Any] = {"field_validation": "Strict", "field_manager": FIELD_MANAGER}
        if dry_run:
            options["dry_run"] = "All"
        create = self._custom.create_namespaced_custom_object
        return dict(self._json("create", JOBS, create, *self._jobs(), body, **options))

    def delete_job(self, name: str) -> bool:
        try:
            self._json(
                "delete", JOBS, self._custom.delete_namespaced_custom_object, *self._jobs(), name,
                propagation_policy="Foreground",
            )  # fmt: skip
        except _Missing:
            return False
        return True

    def pods(self, job: str) -> list[dict[str, Any]]:
        selector = f"{LABEL_JOB}={job}"
        listed = self._json("list", "pods", self._core.list_namespaced_pod, self.namespace, label_selector=selector)
        return list(listed["items"])

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for selector in ("type=Warning", "reason=Preempted"):
            listed = self._json(
                "list", "events", self._core.list_namespaced_event, self.namespace, field_selector=selector
            )
            found += listed["items"]
        return found

    def log(self, pod: str, container: str, follow: bool, since_s: int | None = None) -> Iterator[str]:
        """Lines of a container's log, each with its time stamp in front; ends with the container or the connection."""
        options: dict[str, Any] = {"container": container, "follow": follow, "timestamps": True}
        if since_s is not None:
            options["since_seconds"] = since_s
        response = self._send(
            "get", "pods/log", self._core.read_namespaced_pod_log, pod, self.namespace, read_s=LOG_READ_S, **options
        )
        try:
            yield from _lines(self._chunks(response))
        finally:
            response.close()

    def nodes(self) -> list[dict[str, Any]] | None:
        try:
            return list(self._json("list", "nodes", self._core.list_node)["items"])
        except Denied:
            return None

    def quotas(self) -> list[dict[str, Any]] | None:
        try:
            listed = self._json("list", "resourcequotas", self._core.list_namespaced_resource_quota, self.namespace)
        except Denied:
            return None
        return list(listed["items"])

    def has_secret(self, name: str) -> bool | None:
        try:
            self._json("get", "secrets", self._core.read_namespaced_secret, name, self.namespace)
        except Denied:
            return None
        except _Missing:
            return False
        return True

    def site_text(self, key: str = CONFIG_KEY) -> str | None:
        """A text of the site's ConfigMap; None where it is not there."""
        try:
            found = self._json("get", "configmaps", self._core.read_namespaced_config_map, CONFIG_MAP, self.namespace)
        except _Missing:
            return None
        text = (found.get("data") or {}).get(key)
        return str(text) if text is not None else None

    def _jobs(self) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, JOBS

    def _json(self, verb: str, resource: str, call: Any, *arguments: Any, **options: Any) -> Any:
        response = self._send(verb, resource, call, *arguments, **options)
        return json.loads(b"".join(self._chunks(response)))

    def _send(self, verb: str, resource: str, call: Any, *arguments: Any, read_s: int = READ_S, **options: Any) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call(*arguments, _preload_content=False, _request_timeout=(CONNECT_S, read_s), **options)
        except ApiException as error:
            if not error.status:  # the client's way to pass on a failure of TLS, of which no HTTP ever came
                raise self._without_tls(str(error.reason)) from error
            raise explain(error.status, error.body or "", verb, resource, self.namespace) from error
        except (HTTPError, OSError) as error:
            raise Unreachable(f"{self.server} does not answer ({type(error).__name__})") from error

    def _without_tls(self, reason: str) -> RollamaError:
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return Refused(
                f"{self.server}: its certificate is not signed by the authority that the kubeconfig names, or is for "
                "another host; correct certificate-authority-data or tls-server-name in the kubeconfig"
            )
        return Unreachable(f"the connection to {self.server} was cut before it was secure")

    def _chunks(self, response: Any) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        try:
            yield from response.stream(amt=None, decode_content=False)
        except (HTTPError, OSError) as error:
            raise Unreachable(f"the connection to {self.server} was cut ({type(error).__name__})") from error


class _Missing(ClusterError):
    """The object is not there, but its kind is known."""


def _load(configuration: Any) -> str | None:
    """Fill `configuration` from ROLLAMA_KUBECONFIG, KUBECONFIG, the pod's account or ~/.kube/config; its namespace."""
    import kubernetes.config
    import yaml

    config: Any = kubernetes.config
    chosen = os.environ.get("ROLLAMA_KUBECONFIG") or os.environ.get("KUBECONFIG")
    inside = not chosen and os.environ.get("KUBERNETES_SERVICE_HOST")
    source = "the pod's service account" if inside else chosen or "~/.kube/config"
    try:
        if inside:
            config.load_incluster_config(client_configuration=configuration)
            return (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        config.load_kube_config(config_file=chosen, client_configuration=configuration, persist_config=False)
        _, active = config.list_kube_config_contexts(config_file=chosen)
    except (config.ConfigException, OSError, yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"kubeconfig {source}: cannot be used ({_first_line(error)}); set ROLLAMA_KUBECONFIG or KUBECONFIG to a "
            "readable kubeconfig, or run inside a cluster"
        ) from error
    namespace = active.get("context", {}).get("namespace")
    return str(namespace) if namespace else None


def explain(status: int, body: str, verb: str, resource: str, namespace: str) -> RollamaError:
    """The error for an answer of the API server.

    Args:
        status: HTTP status.
        body: the answer's body, a `Status` object as JSON or plain text.
        verb: what was asked: get, list, create, delete.
        resource: of what.
        namespace: where.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    said = str(answer.get("message") or "") if isinstance(answer, dict) else ""
    what = f"{verb} {resource} in namespace {namespace}"
    if status == 401:
        return Denied(f"{what}: the API server does not know this account (401); the kubeconfig's token has expired or "
                      "belongs to another cluster")  # fmt: skip
    if status == 403 and (not said or re.search(r"cannot \w+ resource", said)):
        return Denied(f"{what}: the account lacks this right (403); its Role needs '{verb}' on '{resource}'")
    if status == 404:
        return _not_found(said, what, resource)
    if status == 409:
        return Conflict(f"{what}: {said or 'is there already'}")
    if unknown := re.findall(r'unknown field "([^"]+)"', said):
        fix = f"this KubeRay is too old for a secured job; {UPGRADE}" if _AUTH.search(" ".join(unknown)) else UPGRADE
        return Refused(f"{what}: the cluster's CRD does not know {', '.join(unknown)}; {fix}")
    if status == 429 or status >= 500:
        return Unreachable(f"{what}: the API server answers {status}{': ' + said if said else ''}")
    return Refused(f"{what}: refused ({status}): {said or 'without a reason'}")


def _not_found(said: str, what: str, resource: str) -> RollamaError:
    if said.startswith("namespaces "):
        return Refused(f"{what}: the namespace does not exist; give another with --namespace, or have it made")
    if resource == JOBS and f"{JOBS}.{GROUP}" not in said:
        return Refused(f"{what}: KubeRay is not installed in this cluster (no RayJob resource); {UPGRADE}")
    return _Missing(f"{what}: {said or 'not found'}")


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", errors="replace")
    if rest:
        yield rest.decode("utf-8", errors="replace")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
