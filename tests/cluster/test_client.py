"""The real Kubernetes client against a small HTTP server that answers as scripted and records what was asked."""

import contextlib
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest

from infra.cluster.credentials import write_credentials
from rollama.cluster import client
from rollama.cluster.client import Cluster, Conflict, Denied, explain
from rollama.cluster.exits import Exit, Refused, Unreachable
from rollama.core.errors import ConfigError

JOBS = "/apis/ray.io/v1/namespaces/team/rayjobs"


def refusal(code, message, reason=""):
    return code, {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Scripted answers by (method, path); `asked` lists method, path and query of every request."""
    answers, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self):
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, parts.path, dict(parse_qsl(parts.query)), body))
            code, answer = answers.get((self.command, parts.path), refusal(404, "", "NotFound"))
            if isinstance(answer, list):
                return self.stream(answer)
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return self.wfile.write(content)

        def stream(self, chunks):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                self.wfile.flush()
            if chunks[-1].endswith(b"\n"):
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        do_GET = do_POST = do_DELETE = reply  # noqa: N815

        def log_message(self, *arguments):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{listening.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
    }  # fmt: skip
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("ROLLAMA_KUBECONFIG", str(path))
    listening.answers, listening.asked = answers, asked
    yield listening
    listening.shutdown()
    listening.server_close()
    thread.join(5)


def test_the_namespace_is_the_contexts_unless_another_is_chosen(server):
    assert (Cluster().namespace, Cluster("other").namespace) == ("team", "other")


def test_creation_is_strict_and_a_dry_run_is_one(server):
    server.answers["POST", JOBS] = 201, {"metadata": {"name": "x"}}
    api = Cluster()
    api.create_job({"metadata": {"name": "x"}}, dry_run=True)
    api.create_job({"metadata": {"name": "x"}})
    dry, real = (query for _, _, query, _ in server.asked)
    assert dry == {"fieldValidation": "Strict", "fieldManager": "rollama", "dryRun": "All"}
    assert real == {"fieldValidation": "Strict", "fieldManager": "rollama"}


def test_an_old_kuberay_is_refused_with_the_fix(server):
    said = ('RayJob in version "v1" cannot be handled as a RayJob: strict decoding error: '
            'unknown field "spec.rayClusterSpec.authOptions"')  # fmt: skip
    server.answers["POST", JOBS] = refusal(400, said, "BadRequest")
    with pytest.raises(
        Refused, match=r"authOptions; this KubeRay is too old.*KubeRay >= 1\.6.*--server-side"
    ) as refused:
        Cluster().create_job({}, dry_run=True)
    assert refused.value.exit_code == Exit.REFUSED


def test_a_missing_job_is_none_and_a_missing_kuberay_is_told(server):
    server.answers["GET", f"{JOBS}/x"] = refusal(404, 'rayjobs.ray.io "x" not found', "NotFound")
    assert Cluster().get_job("x") is None
    server.answers["GET", f"{JOBS}/x"] = 404, "404 page not found\n"
    with pytest.raises(Refused, match="KubeRay is not installed"):
        Cluster().get_job("x")


def test_what_may_not_be_read_is_none(server):
    forbidden = refusal(403, 'nodes is forbidden: User "ci" cannot list resource "nodes" in API group ""', "Forbidden")
    for path in ("/api/v1/nodes", "/api/v1/namespaces/team/resourcequotas", "/api/v1/namespaces/team/secrets/x"):
        server.answers["GET", path] = forbidden
    api = Cluster()
    assert (api.nodes(), api.quotas(), api.has_secret("x")) == (None, None, None)
    server.answers["GET", "/api/v1/namespaces/team/secrets/x"] = refusal(404, 'secrets "x" not found')
    assert api.has_secret("x") is False


def test_pods_and_events_are_asked_for_by_selector(server):
    server.answers["GET", "/api/v1/namespaces/team/pods"] = 200, {"items": [{"metadata": {"name": "p"}}]}
    server.answers["GET", "/api/v1/namespaces/team/events"] = 200, {"items": []}
    api = Cluster()
    assert api.pods("j")[0]["metadata"]["name"] == "p" and api.events() == []
    queries = [query for _, _, query, _ in server.asked]
    assert queries[0] == {"labelSelector": "rollama.io/job=j"}
    assert [query["fieldSelector"] for query in queries[1:]] == ["type=Warning", "reason=Preempted"]


def test_the_site_is_read_from_its_config_map(server):
    assert_missing = refusal(404, 'configmaps "rollama-site" not found')
    path = "/api/v1/namespaces/team/configmaps/rollama-site"
    server.answers["GET", path] = assert_missing
    assert Cluster().site_text() is None
    server.answers["GET", path] = 200, {"data": {"site.yaml": "image: x"}}
    assert Cluster().site_text() == "image: x"


def test_deleting_tells_whether_there_was_something(server):
    server.answers["DELETE", f"{JOBS}/x"] = 200, {"status": "Success"}
    assert Cluster().delete_job("x") is True
    server.answers["DELETE", f"{JOBS}/x"] = refusal(404, 'rayjobs.ray.io "x" not found')
    assert Cluster().delete_job("x") is False


def test_log_lines_come_whole_whatever_the_chunks(server):
    path = "/api/v1/namespaces/team/pods/p/log"
    server.answers["GET", path] = 200, [b"t1 one\nt2 t", b"wo\nt3 \xc3", b"\xbc\n"]
    assert list(Cluster().log("p", "c", follow=True, since_s=5)) == ["t1 one", "t2 two", "t3 ü"]
    assert server.asked[-1][2] == {"container": "c", "follow": "true", "timestamps": "true", "sinceSeconds": "5"}


def test_a_cut_log_gives_its_lines_and_then_says_so(server):
    server.answers["GET", "/api/v1/namespaces/team/pods/p/log"] = 200, [b"t1 one\nt2 tw"]
    lines = Cluster().log("p", "c", follow=True)
    assert next(lines) == "t1 one"
    with pytest.raises(Unreachable, match="was cut"):
        list(lines)


def test_a_server_that_is_gone_is_unreachable(server):
    api = Cluster()
    server.shutdown()
    server.server_close()
    with pytest.raises(Unreachable, match="does not answer") as gone:
        api.get_job("x")
    assert gone.value.exit_code == Exit.UNREACHABLE


@pytest.fixture
def secured(server, tmp_path):
    """A listening socket that the kubeconfig takes for a secured API server; the test says what it answers."""
    config = json.loads((tmp_path / "kubeconfig").read_text())
    with socket.create_server(("127.0.0.1", 0)) as door:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{door.getsockname()[1]}"
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        yield door


def answer_once(door, answer):
    def serve():
        with contextlib.suppress(OSError):
            near, _ = door.accept()
            with near:
                answer(near)

    threading.Thread(target=serve, daemon=True).start()


def test_a_connection_that_is_cut_while_it_is_secured_is_unreachable(secured):
    answer_once(secured, lambda near: near.recv(65536))  # all of the greeting, so that closing is an orderly end
    with pytest.raises(Unreachable, match="was cut before it was secure"):
        Cluster().get_job("x")


def test_a_certificate_of_a_stranger_is_refused_by_name(secured, tmp_path):
    write_credentials(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "apiserver.crt", tmp_path / "apiserver.key")

    def shake(near):
        context.wrap_socket(near, server_side=True).recv(1)

    answer_once(secured, shake)
    with pytest.raises(Refused, match="is not signed by the authority that the kubeconfig names"):
        Cluster().get_job("x")


@pytest.mark.parametrize("text", ["", "not: [yaml", "a: 1", "[]"])
def test_a_wrong_kubeconfig_is_one_message(monkeypatch, write, text):
    monkeypatch.setenv("ROLLAMA_KUBECONFIG", str(write("kubeconfig", text)))
    with pytest.raises(ConfigError, match=r"kubeconfig .* cannot be used"):
        Cluster()


def test_a_missing_kubeconfig_is_one_message(monkeypatch, tmp_path):
    monkeypatch.setenv("ROLLAMA_KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="set ROLLAMA_KUBECONFIG or KUBECONFIG"):
        Cluster()


@pytest.mark.parametrize(
    ("status", "message", "kind", "says"),
    [
        (401, "Unauthorized", Denied, "does not know this account"),
        (403, 'cannot create resource "rayjobs" in API group "ray.io"', Denied, "its Role needs 'create' on 'rayjobs'"),
        (403, 'pods "x" is forbidden: exceeded quota: team', Refused, "exceeded quota: team"),
        (404, 'namespaces "team" not found', Refused, "namespace does not exist"),
        (404, "the server could not find the requested resource", Refused, "not installed"),
        (409, 'rayjobs.ray.io "x" already exists', Conflict, "already exists"),
        (422, 'RayJob "x" is invalid: spec.y: Required', Refused, "spec.y: Required"),
        (400, 'strict decoding error: unknown field "spec.foo"', Refused, "does not know spec.foo"),
        (429, "slow down", Unreachable, "429"),
        (503, "", Unreachable, "503"),
    ],
)
def test_answers_become_errors_one_can_act_on(status, message, kind, says):
    error = explain(status, json.dumps({"message": message}), "create", "rayjobs", "team")
    assert type(error) is kind and says in str(error)
    assert "create rayjobs in namespace team" in str(error)


def test_the_package_is_not_imported_before_a_connection_is_made():
    import subprocess
    import sys

    code = "import sys, rollama.cli.main, rollama.cluster.submit; print('kubernetes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert client.JOBS == "rayjobs"
