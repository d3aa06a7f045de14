"""Values that must be refused, and the words that say why."""

from __future__ import annotations

from tests.chart.rendering import S3, SERVING

R = f"s3://bucket/store@sha256:{'a' * 64}"
GPU = ('--set-json=gpuClasses={"any":{}}', "--set=serve.gpuClass=any", "--set=serve.textGpus=1")
RETRAIN = (
    S3, "--set=retrain.schedule=0 20 * * *", "--set=storage.workspace=s3://bucket/work", f"--set=storage.dataset={R}",
    "--set=jobs.presets.p.task=p", "--set=jobs.presets.p.preset=tiny", "--set=retrain.jobs={p}",
    "--set=networkPolicy.apiServer.cidrs={192.0.2.1/32}",
)  # fmt: skip
GATE_ALONE = (
    *(item for item in RETRAIN if "retrain.schedule" not in item), "--set=retrain.release.schedule=30 * * * *",
    "--set=mlflow.uri=http://mlflow", "--set=retrain.release.history=s3://releases/history",
    "--set=retrain.release.keySecret=release-key", "--set=retrain.release.protocol=format: 1",
    "--set=retrain.release.signature=x", "--set=retrain.release.keys.protocol.a=-----BEGIN PUBLIC KEY-----",
    "--set=retrain.release.keys.release.b=-----BEGIN PUBLIC KEY-----",
)  # fmt: skip
INGRESS = ("--set=ingress.enabled=true", "--set=ingress.host=a.example", "--set=ingress.tls.secretName=tls")
ROUTE = (
    "--set=httpRoute.enabled=true", "--set=httpRoute.host=a.example", "--set=httpRoute.gateway.name=g",
    "--set=httpRoute.gateway.sectionName=https",
)  # fmt: skip
NORTH = "ecdsa-sha2-nistp384 AAAA"
C, T = "--set=federation.coordinator", "--set=federation.site"
COORDINATOR = (
    S3, f"{C}.enabled=true", f"{C}.settings.name=trial", f"{C}.settings.rounds=2", f"{C}.settings.min_sites=1",
    f"{C}.start={R}", f"{C}.sites.north={NORTH}", f"{C}.tls.existingSecret=tls",
    "--set=networkPolicy.federation.sites.cidrs={203.0.113.1/32}",
)  # fmt: skip
SITE = (
    S3, f"{T}.enabled=true", f"{T}.name=north", f"{T}.coordinator=192.0.2.1:9443", f"{T}.existingSecret=north",
    f"{T}.start={R}", f"{T}.policy.max_norm=5", f"{T}.training.dataset={R}",
)  # fmt: skip
BY_JOB = (
    *SITE, f"{T}.training.where=job", "--set=storage.workspace=s3://bucket/work",
    "--set=networkPolicy.apiServer.cidrs={192.0.2.1/32}",
)  # fmt: skip
GATE = "--set=networkPolicy.endpoint.namespaces={gates}"

BY_SCHEMA: list[tuple[tuple[str, ...], str]] = [
    (("--set=imag.tag=1",), "'imag'"),
    (("--set=serve.model.s=x",), "'model'"),
    (("--set=networkPolicy.enable=false",), "'enable'"),
    (("--set=image.digest=sha256:12",), "/image/digest"),
    (("--set=serve.models.s=s3://bucket/store",), "/serve/models/s"),
    (("--set=serve.settings.text_scalin.max_replicas=2",), "'text_scalin'"),
    (("--set=serve.settings.text_scaling.max_replica=2",), "'max_replica'"),
    (("--set=serve.settings.api_key_file=/x",), "'api_key_file'"),
    (("--set=serve.upgrade=InPlace",), "/serve/upgrade"),
    (("--set=serve.textGpus=-1",), "/serve/textGpus"),
    (("--set=jobs.presets.p.tsk=p",), "'tsk'"),
    (("--set=jobs.presets.p.preset=tiny",), "'task'"),
    (("--set=networkPolicy.storage.cidrs={10.0.0.1}",), "/networkPolicy/storage/cidrs"),
    (("--set=mlflow.uri=https://user:pw@mlflow",), "/mlflow/uri"),
    (("--set=gpuClasses.a.nodeSelectr.b=c",), "'nodeSelectr'"),
    (("--set=retrain.schedule=nightly",), "/retrain/schedule"),
    (("--set=storage.env.MY_TOKEN=x",), "MY_TOKEN"),
    ((*COORDINATOR, f"{C}.settings.round=3"), "'round'"),
    ((*COORDINATOR, f"{C}.settings.start=/x"), "'start'"),
    ((*COORDINATOR, f"{C}.settings.secure_aggregation=true"), "'secure_aggregation'"),
    ((*COORDINATOR, f"{C}.sites.north=ssh-rsa AAAA"), "/federation/coordinator/sites/north"),
    ((*COORDINATOR, f"{C}.service.type=ExternalName"), "/federation/coordinator/service/type"),
    ((*SITE, f"{T}.policy.max_nrm=5"), "'max_nrm'"),
    ((*SITE, f"{T}.coordinator=https://a.example"), "/federation/site/coordinator"),
    ((*SITE, f"{T}.start=/models/start"), "/federation/site/start"),
    ((*SITE, f"{T}.training.environment.API_TOKEN=x"), "API_TOKEN"),
    (("--set=retrain.release.history=/data",), "/retrain/release/history"),
    (("--set=retrain.release.keys.release.a=-----BEGIN PRIVATE KEY-----",), "/retrain/release/keys/release/a"),
    (("--set=retrain.release.protocl=x",), "'protocl'"),
]
BY_TEMPLATE: list[tuple[tuple[str, ...], str]] = [
    ((f"--set=serve.models.s={R}",), "serve.models: name all three"),
    (("--set=jobs.gpuClass=a100",), 'jobs.gpuClass: gpuClasses has no "a100" (it has: none)'),
    ((*SERVING, S3, "--set=serve.textGpus=1"), "no pod has one; set serve.gpuClass"),
    ((*SERVING, S3, "--set-json=gpuClasses={\"any\":{}}", "--set=serve.gpuClass=any"), "GPUs that no model uses"),
    (("--set=jobs.presets.p.task=p", "--set=jobs.presets.p.preset=cluster-7b"), "preset cluster-7b wants GPUs; set"),
    (
        ("--set=jobs.presets.p.task=p", "--set=jobs.presets.p.preset=cluster-7b", "--set=jobs.maxGpus=0",
         "--set-json=gpuClasses={\"any\":{}}", "--set=jobs.gpuClass=any"),
        "wants GPUs and jobs.maxGpus is 0",
    ),
    (("--set=jobs.presets.p.task=p",), "jobs.presets.p: a training needs preset"),
    (("--set=serve.autoscaling.minWorkers=3",), "minWorkers 3 is over maxWorkers 2"),
    (("--set=cluster.minWorkers=3",), "cluster: minWorkers 3 is over maxWorkers 2"),
    (("--set=serve.autoscaling.enabled=true", "--set=serve.workers=1"), "set serve.workers to 0"),
    (("--set=serve.settings.text_scaling.min_replicas=2",), "text_scaling: min_replicas 2 is over max_replicas 1"),
    (("--set=serve.settings.segmentation_scaling.upscale_delay_s=5",), "segmentation_scaling: delays below"),
    (("--set=serve.settings.keep_s=600",), "would be deleted while it runs"),
    (("--set=serve.store.uri=s3://b/j", "--set=serve.store.size=1Gi", S3), "set one of uri, existingClaim and size"),
    (("--set=serve.apiKey.enabled=false",), "without the one key the endpoint needs"),
    (("--set=serve.jwks.existingSecret=x",), "goes with serve.settings.oidc"),
    (("--set=serve.settings.oidc.issuer=x", "--set=serve.settings.oidc.audience=x"), "name the provider's keys"),
    (("--set=serve.audit.headsUri=s3://a/b", S3), "headsUri and signingKeySecret belong together"),
    (("--set=jobs.site.queue=q", "--set=jobs.autoscaling=true"), "Kueue does not admit"),
    (("--set=priority.create=true", "--set=priority.serving=x"), "create makes both classes"),
    (("--set=mlflow.uri=http://m", "--set=mlflow.server.enabled=true"), "mlflow: set uri or server.enabled"),
    ((*INGRESS, *ROUTE, GATE), "set one of them"),
    (("--set=ingress.enabled=true", "--set=ingress.host=a.example", GATE), "not sent without TLS"),
    (("--set=ingress.enabled=true", "--set=ingress.tls.secretName=tls", GATE), "not sent without TLS"),
    (("--set=httpRoute.enabled=true", "--set=httpRoute.host=a.example", GATE), "httpRoute: set host, gateway.name"),
    (INGRESS, "nobody could reach the endpoint"),
    (("--set=storage.workspace=s3://bucket/work",), "the object store's place has to be said"),
    (
        ("--set=storage.env.AWS_ENDPOINT_URL=https://s3.example",),
        "the object store's place has to be said",
    ),
    (("--set=jobs.autoscaling=true",), "kubectl get endpoints kubernetes"),
    ((*RETRAIN, "--set=ci.enabled=false"), "retrain.schedule: needs ci.enabled"),
    ((*RETRAIN, "--set=storage.dataset="), "retrain.schedule: needs ci.enabled"),
    ((*RETRAIN, "--set=retrain.jobs={q}"), 'jobs.presets has no "q"'),
    (
        (*RETRAIN, "--set=jobs.presets.proof.task=evaluate", "--set=retrain.jobs={p,proof}"),
        "where so far there would be: p; name jobs that train all three",
    ),
    (
        tuple(option for option in COORDINATOR if "settings.name" not in option),
        "federation.coordinator.settings: set name and rounds",
    ),
    ((*COORDINATOR, f"{C}.start="), "a federation begins with a model that all sites know"),
    ((*COORDINATOR, f"{C}.start=/federation/start"), "a new claim is empty"),
    ((*COORDINATOR, f"{C}.tls.existingSecret="), "weights are not sent without TLS"),
    ((*COORDINATOR, f"{C}.sites=null"), "only sites whose public key is known are let in"),
    ((*COORDINATOR, f"{C}.existingSites=keys"), "only sites whose public key is known are let in"),
    ((*COORDINATOR, f"{C}.settings.min_sites=2"), "a round needs 2 sites and sites names 1"),
    ((*COORDINATOR, f"{C}.settings.strategy=fedprox"), "prox_mu above 0 and strategy fedprox belong together"),
    (
        (*COORDINATOR, "--set-json=federation.coordinator.settings.prox_mu=0.1"),
        "prox_mu above 0 and strategy fedprox belong together",
    ),
    ((*COORDINATOR, f"{C}.settings.privacy.kind=central"), "it needs weight_by_cases false"),
    (
        (*COORDINATOR, f"{C}.settings.privacy.kind=central", f"{C}.settings.weight_by_cases=false",
         f"{C}.settings.strategy=fedadam"),
        "it needs weight_by_cases false and strategy fedavg or fedprox",
    ),
    ((*COORDINATOR, "--set=networkPolicy.federation.sites.cidrs=null"), "no site could reach the coordinator"),
    ((*SITE, f"{T}.coordinator="), "say where the coordinator is, host:port"),
    ((*SITE, f"{T}.existingSecret="), "the coordinator knows a site by its key"),
    ((*SITE, f"{T}.start="), "a site trains the model that it agreed to"),
    ((*SITE, f"{T}.existingConfigMap=own"), "its site.yaml says all of it"),
    ((*SITE, f"{T}.name="), "the name that the coordinator's list has for this site"),
    (tuple(option for option in SITE if "max_norm" not in option), "nothing leaves a site without a policy"),
    ((*SITE, f"{T}.training.dataset="), "federation.site.training: set dataset"),
    ((*SITE, f"{T}.training.command={{train}}"), "federation.site.training: set dataset"),
    ((*SITE, f"{T}.start=/data/start"), "federation.site.start: a folder is one of"),
    ((*SITE, f"{T}.training.dataset=/data/north"), "federation.site.training.dataset: a folder is one of"),
    ((*BY_JOB, f"{T}.training.command={{train}}", f"{T}.training.dataset="), "with job the chart makes the command"),
    ((*BY_JOB, "--set=ci.enabled=false"), "a RayJob needs ci.enabled, storage.workspace"),
    ((*BY_JOB, "--set-json=gpuClasses={\"any\":{}}", f"{T}.gpuClass=any"), "this pod trains nothing"),
    ((*BY_JOB, "--set=networkPolicy.apiServer.cidrs=null"), "kubectl get endpoints kubernetes"),
    ((*SITE, f"{T}.coordinator=a.example:9443"), "the coordinator's addresses have to be said"),
    ((*SITE, f"{T}.gpuClass=a100"), 'federation.site.gpuClass: gpuClasses has no "a100"'),
    ((*GATE_ALONE, "--set=storage.dataset="), "retrain.release.schedule: needs storage.workspace"),
    *(
        ((*GATE_ALONE, f"--set=retrain.release.{key}="), "nothing is promoted without a signed protocol; set history")
        for key in ("history", "keySecret", "protocol", "signature")
    ),
    *(
        (tuple(item for item in GATE_ALONE if f"keys.{role}" not in item), "nothing is promoted without a signed")
        for role in ("protocol", "release")
    ),
    ((*GATE_ALONE, "--set=mlflow.uri="), "the registry tells others what is released"),
    ((*GATE_ALONE, "--set=storage.existingSecret=release-key"), "give the key a Secret of its own"),
    ((*GATE_ALONE, "--set=retrain.release.storageSecret=release-key"), "give the key a Secret of its own"),
    ((*GATE_ALONE, "--set=retrain.release.protocol=approval: {needed: 2}"), "wants people's approval and nobody's key"),
    ((*GATE_ALONE, "--set=retrain.jobs={q}"), 'jobs.presets has no "q"'),
    (
        (*GATE_ALONE, "--set=jobs.presets.q.task=p", "--set=jobs.presets.q.preset=tiny", "--set=retrain.jobs={p,q}"),
        "another of retrain.jobs before it does as well; which one is the candidate",
    ),
    (
        (*GATE_ALONE, "--set=jobs.presets.proof.task=evaluate", "--set=retrain.jobs={proof}"),
        "none of retrain.jobs trains a model",
    ),
    ((*GATE_ALONE, "--set=retrain.release.gpuClass=a100"), 'retrain.release.gpuClass: gpuClasses has no "a100"'),
]  # fmt: skip

HERE = {"metadata": {"name": "x"}}
CONNECTED = {"ConfigMap/kube-root-ca.crt": HERE}
KUBERAY = {
    "CustomResourceDefinition/rayservices.ray.io": {"metadata": {"name": "rayservices.ray.io"}, "x": "authOptions"}
}
OLD = {"CustomResourceDefinition/rayservices.ray.io": {"metadata": {"name": "rayservices.ray.io"}}}


def secret(**data: str) -> dict[str, object]:
    """A Secret as the API server shows it."""
    from base64 import b64encode

    return {**HERE, "data": {key.replace("_", "-"): b64encode(text.encode()).decode() for key, text in data.items()}}


BAD_KEYS = (
    "keys: []", "- name: a", "keys: [a]", "keys: [{name: a, sha256: '1'}]", f"keys: [{{sha256: {64 * 'a'}}}]",
)  # fmt: skip
BY_CLUSTER: list[tuple[tuple[str, ...], dict[str, object], str]] = [
    ((*SERVING, S3), CONNECTED, "this cluster has no KubeRay"),
    ((*SERVING, S3), {**CONNECTED, **OLD}, "cannot require a token"),
    (
        ("--set=cluster.enabled=true", "--set=networkPolicy.apiServer.cidrs={192.0.2.1/32}"),
        CONNECTED,
        "this cluster has no KubeRay",
    ),
    (("--set=token.existingSecret=mine",), CONNECTED, "namespace team has no Secret mine"),
    (
        ("--set=token.existingSecret=mine",),
        {**CONNECTED, "Secret/mine": secret(token="x")},
        "Secret mine has no key auth_token",
    ),
    (("--set=storage.existingSecret=keys",), CONNECTED, "--from-file AWS_ACCESS_KEY_ID=..."),
    (COORDINATOR, CONNECTED, "federation.coordinator.tls.existingSecret: namespace team has no Secret tls"),
    (SITE, {**CONNECTED, "Secret/north": secret(**{"site.key": "x"})}, "Secret north has no key ca.pem"),
    (GATE_ALONE, {**CONNECTED, "Secret/release-key": secret(other="x")}, "Secret release-key has no key release.key"),
    (
        (*GATE_ALONE, "--set=retrain.release.storageSecret=mine"),
        {**CONNECTED, "Secret/release-key": secret(**{"release.key": "x"})},
        "retrain.release.storageSecret: namespace team has no Secret mine",
    ),
    (
        (*SERVING, S3, "--set=serve.apiKey.existingSecret=key"),
        {**CONNECTED, **KUBERAY, "Secret/key": secret(api_key="short")},
        "shorter than 16 characters",
    ),
    (
        (*SERVING, S3, "--set=serve.keys.existingSecret=list"),
        {**CONNECTED, **KUBERAY, "Secret/list": secret(other="x")},
        "Secret list has no key keys.yaml",
    ),
    *(
        (
            (*SERVING, S3, "--set=serve.keys.existingSecret=list"),
            {**CONNECTED, **KUBERAY, "Secret/list": secret(**{"keys.yaml": text})},
            "keys.yaml in Secret list is no list `keys`",
        )
        for text in BAD_KEYS
    ),
]  # fmt: skip
