{{/* Values that contradict each other: a sentence each, with what to do. */}}
{{- define "rollama.checks" -}}
{{- $v := .Values -}}
{{- $s := $v.serve -}}
{{- $serves := include "rollama.serves" . -}}
{{- $known := keys $v.gpuClasses | sortAlpha | join ", " | default "none" -}}
{{- range $key, $name := dict "jobs.gpuClass" $v.jobs.gpuClass "serve.gpuClass" $s.gpuClass "cluster.gpuClass" $v.cluster.gpuClass "federation.site.gpuClass" $v.federation.site.gpuClass "retrain.release.gpuClass" $v.retrain.release.gpuClass -}}
{{- if and $name (not (hasKey $v.gpuClasses $name)) }}{{ fail (printf "%s: gpuClasses has no %q (it has: %s); add the class, or {} where GPU nodes have neither taint nor label" $key $name $known) }}{{ end -}}
{{- end -}}
{{- $gpus := or (gt (float64 $s.textGpus) 0.0) (gt (float64 $s.segmentationGpus) 0.0) -}}
{{- if and $serves $gpus (not $s.gpuClass) }}{{ fail "serve.textGpus, serve.segmentationGpus: the models want GPUs and no pod has one; set serve.gpuClass to a class in gpuClasses" }}{{ end -}}
{{- if and $s.gpuClass (not $gpus) }}{{ fail "serve.gpuClass: pods would hold GPUs that no model uses; set serve.textGpus or serve.segmentationGpus, or leave the class out" }}{{ end -}}
{{- range $name, $job := $v.jobs.presets -}}
{{- if and (hasPrefix "cluster-" ($job.preset | default "")) (not $v.jobs.gpuClass) }}{{ fail (printf "jobs.presets.%s: preset %s wants GPUs; set jobs.gpuClass to a class in gpuClasses" $name $job.preset) }}{{ end -}}
{{- if and (eq (toString $v.jobs.maxGpus) "0") (hasPrefix "cluster-" ($job.preset | default "")) }}{{ fail (printf "jobs.presets.%s: preset %s wants GPUs and jobs.maxGpus is 0; raise it or choose another preset" $name $job.preset) }}{{ end -}}
{{- if and (ne $job.task "evaluate") (not $job.preset) }}{{ fail (printf "jobs.presets.%s: a training needs preset" $name) }}{{ end -}}
{{- end -}}
{{- if gt (int $s.autoscaling.minWorkers) (int $s.autoscaling.maxWorkers) }}{{ fail (printf "serve.autoscaling: minWorkers %d is over maxWorkers %d" (int $s.autoscaling.minWorkers) (int $s.autoscaling.maxWorkers)) }}{{ end -}}
{{- if gt (int $v.cluster.minWorkers) (int $v.cluster.maxWorkers) }}{{ fail (printf "cluster: minWorkers %d is over maxWorkers %d" (int $v.cluster.minWorkers) (int $v.cluster.maxWorkers)) }}{{ end -}}
{{- if and $s.autoscaling.enabled (gt (int $s.workers) 0) }}{{ fail "serve.workers with serve.autoscaling.enabled: set serve.workers to 0; minWorkers says how many are always there" }}{{ end -}}
{{- range $key := list "text_scaling" "segmentation_scaling" -}}
{{- with index $s.settings $key -}}
{{- $all := mergeOverwrite (include "rollama.scaling" . | fromYaml) (deepCopy .) -}}
{{- if gt (int $all.min_replicas) (int $all.max_replicas) }}{{ fail (printf "serve.settings.%s: min_replicas %d is over max_replicas %d" $key (int $all.min_replicas) (int $all.max_replicas)) }}{{ end -}}
{{- if lt (min (float64 $all.upscale_delay_s | int) (float64 $all.downscale_delay_s | int)) (float64 $all.look_back_period_s | int) }}{{ fail (printf "serve.settings.%s: delays below look_back_period_s make the replicas oscillate; raise upscale_delay_s and downscale_delay_s" $key) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if le (float64 ($s.settings.keep_s | default 86400)) (float64 $s.deadlineSeconds) }}{{ fail "serve.settings.keep_s: a job would be deleted while it runs; make it longer than serve.deadlineSeconds" }}{{ end -}}
{{- if gt (len (compact (list $s.store.uri $s.store.existingClaim $s.store.size))) 1 }}{{ fail "serve.store: set one of uri, existingClaim and size" }}{{ end -}}
{{- if and (not $s.apiKey.enabled) (not $s.keys.existingSecret) (not $s.settings.oidc) }}{{ fail "serve.apiKey.enabled: without the one key the endpoint needs serve.keys.existingSecret or serve.settings.oidc" }}{{ end -}}
{{- if and $s.jwks.existingSecret (or (not $s.settings.oidc) ($s.settings.oidc | default dict).jwks_url) }}{{ fail "serve.jwks.existingSecret: goes with serve.settings.oidc (issuer, audience) and without its jwks_url" }}{{ end -}}
{{- if and $s.settings.oidc (not $s.settings.oidc.jwks_url) (not $s.jwks.existingSecret) }}{{ fail "serve.settings.oidc: name the provider's keys, jwks_url or serve.jwks.existingSecret" }}{{ end -}}
{{- if ne (empty $s.audit.headsUri) (empty $s.audit.signingKeySecret) }}{{ fail "serve.audit: headsUri and signingKeySecret belong together; set both or none" }}{{ end -}}
{{- if and $v.jobs.site.queue (or $v.jobs.autoscaling $v.jobs.site.autoscaling) }}{{ fail "jobs.site.queue with autoscaling: Kueue does not admit autoscaled RayJobs; choose one of the two" }}{{ end -}}
{{- if and $v.priority.create (or $v.priority.serving $v.priority.training) }}{{ fail "priority: create makes both classes; leave serving and training empty, or set create: false" }}{{ end -}}
{{- if and $v.mlflow.uri $v.mlflow.server.enabled }}{{ fail "mlflow: set uri or server.enabled" }}{{ end -}}
{{- if or $v.ingress.enabled $v.httpRoute.enabled -}}
{{- if and $v.ingress.enabled $v.httpRoute.enabled }}{{ fail "ingress.enabled and httpRoute.enabled: set one of them" }}{{ end -}}
{{- if and $v.ingress.enabled (or (not $v.ingress.host) (not $v.ingress.tls.secretName)) }}{{ fail "ingress: requests hold patients' texts and CTs and are not sent without TLS; set ingress.host and ingress.tls.secretName" }}{{ end -}}
{{- if and $v.httpRoute.enabled (or (not $v.httpRoute.host) (not $v.httpRoute.gateway.name) (not $v.httpRoute.gateway.sectionName)) }}{{ fail "httpRoute: set host, gateway.name and gateway.sectionName (the listener that ends TLS)" }}{{ end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.endpoint.namespaces) (not $v.networkPolicy.endpoint.from) }}{{ fail "networkPolicy.endpoint: nobody could reach the endpoint; set namespaces to that of the Ingress controller or Gateway" }}{{ end -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (include "rollama.stores" .) (not (include "rollama.storage" .)) }}{{ fail "networkPolicy.storage: a policy knows no host names, so the object store's place has to be said: cidrs, or namespaces in the cluster; [\"0.0.0.0/0\"] lets pods reach any address on its port" }}{{ end -}}
{{- if and $v.networkPolicy.enabled (include "rollama.callers" .) (not $v.networkPolicy.apiServer.cidrs) }}{{ fail "networkPolicy.apiServer.cidrs: autoscaling and scheduled jobs talk to the API server, which a policy knows by its address only; `kubectl get endpoints kubernetes` names it" }}{{ end -}}
{{- if $v.retrain.schedule -}}
{{- if not (and $v.ci.enabled $v.storage.workspace $v.storage.dataset $v.retrain.jobs) }}{{ fail "retrain.schedule: needs ci.enabled, storage.workspace, storage.dataset and retrain.jobs" }}{{ end -}}
{{- $made := list -}}
{{- range $v.retrain.jobs -}}
{{- if not (hasKey $v.jobs.presets .) }}{{ fail (printf "retrain.jobs: jobs.presets has no %q" .) }}{{ end -}}
{{- $task := (index $v.jobs.presets .).task -}}
{{- if and (eq $task "evaluate") (not (and (has "s" $made) (has "p" $made) (has "seg" $made))) }}{{ fail (printf "retrain.jobs: %q evaluates S, P and SEG of the data set's own workspace, where so far there would be: %s; name jobs that train all three before it" . (join ", " $made | default "none")) }}{{ end -}}
{{- $made = append $made $task -}}
{{- end -}}
{{- end -}}
{{- include "rollama.checkFederation" . -}}
{{- include "rollama.checkGate" . -}}
{{- include "rollama.checkCluster" . -}}
{{- include "rollama.checkSecrets" . -}}
{{- end -}}

{{/* The gate after scheduled jobs. */}}
{{- define "rollama.checkGate" -}}
{{- $v := .Values -}}
{{- $r := $v.retrain.release -}}
{{- if $r.schedule -}}
{{- if not (and $v.storage.workspace $v.storage.dataset $v.retrain.jobs) }}{{ fail "retrain.release.schedule: needs storage.workspace, storage.dataset and retrain.jobs, whose models it judges" }}{{ end -}}
{{- if not (and $r.history $r.keySecret $r.protocol $r.signature $r.keys.protocol $r.keys.release) }}{{ fail "retrain.release: nothing is promoted without a signed protocol; set history, keySecret, protocol, signature, keys.protocol and keys.release (rollama release init, keygen, sign-protocol)" }}{{ end -}}
{{- if not (include "rollama.mlflowUri" .) }}{{ fail "retrain.release: the registry tells others what is released and notices a history that was cut; set mlflow.uri or mlflow.server.enabled" }}{{ end -}}
{{- if or (eq $r.keySecret $v.storage.existingSecret) (eq $r.keySecret $r.storageSecret) }}{{ fail (printf "retrain.release.keySecret: Secret %s also holds the object store's keys, and pods have all of that one among their variables; give the key a Secret of its own" $r.keySecret) }}{{ end -}}
{{- if and (gt (int (($r.protocol | fromYaml).approval | default dict).needed) 0) (not $r.keys.approval) }}{{ fail "retrain.release.keys.approval: the protocol wants people's approval and nobody's key is here, so nothing could be promoted; add their public keys" }}{{ end -}}
{{- $trains := list -}}
{{- range $v.retrain.jobs -}}
{{- if not (hasKey $v.jobs.presets .) }}{{ fail (printf "retrain.jobs: jobs.presets has no %q" .) }}{{ end -}}
{{- $task := (index $v.jobs.presets .).task -}}
{{- if has $task $trains }}{{ fail (printf "retrain.release: %q trains %s, and another of retrain.jobs before it does as well; which one is the candidate? name one" . $task) }}{{ end -}}
{{- if ne $task "evaluate" }}{{ $trains = append $trains $task }}{{ end -}}
{{- end -}}
{{- if not $trains }}{{ fail "retrain.release: none of retrain.jobs trains a model, so there is nothing to judge" }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Says "yes" when helm is connected: every namespace has this ConfigMap. */}}
{{- define "rollama.connected" -}}
{{- if (include "rollama.look" (dict "root" . "api" "v1" "kind" "ConfigMap" "namespace" .Release.Namespace "name" "kube-root-ca.crt") | fromJson).metadata -}}yes{{- end -}}
{{- end -}}

{{/* KubeRay that is there and can require a token. Older CRDs drop authOptions without a word. */}}
{{- define "rollama.checkCluster" -}}
{{- if and .Values.serve.checkKubeRay (or (include "rollama.serves" .) .Values.cluster.enabled) (include "rollama.connected" .) -}}
{{- $crd := include "rollama.look" (dict "root" . "api" "apiextensions.k8s.io/v1" "kind" "CustomResourceDefinition" "namespace" "" "name" "rayservices.ray.io") -}}
{{- if not (contains "rayservices.ray.io" $crd) }}{{ fail "this cluster has no KubeRay (no CRD rayservices.ray.io): install KubeRay 1.6 or newer first" }}{{ end -}}
{{- if not (contains "authOptions" $crd) }}{{ fail "this cluster's KubeRay cannot require a token (its CRDs have no authOptions): install KubeRay 1.6 or newer; helm does not upgrade CRDs, apply them with kubectl apply --server-side" }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Named Secrets that are not there or lack a key. */}}
{{- define "rollama.checkSecrets" -}}
{{- if and .Values.preflight.secrets (include "rollama.connected" .) -}}
{{- $root := . -}}
{{- $serves := include "rollama.serves" . -}}
{{- $wanted := list (list "token.existingSecret" .Values.token.existingSecret (list "auth_token")) -}}
{{- $wanted = append $wanted (list "storage.existingSecret" .Values.storage.existingSecret (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) -}}
{{- if $serves -}}
{{- $wanted = append $wanted (list "serve.apiKey.existingSecret" .Values.serve.apiKey.existingSecret (list "api-key")) -}}
{{- $wanted = append $wanted (list "serve.keys.existingSecret" .Values.serve.keys.existingSecret (list "keys.yaml")) -}}
{{- $wanted = append $wanted (list "serve.jwks.existingSecret" .Values.serve.jwks.existingSecret (list "jwks.json")) -}}
{{- $wanted = append $wanted (list "serve.audit.signingKeySecret" .Values.serve.audit.signingKeySecret (list "audit.pem")) -}}
{{- end -}}
{{- with .Values.federation -}}
{{- if .coordinator.enabled }}{{ $wanted = append $wanted (list "federation.coordinator.tls.existingSecret" .coordinator.tls.existingSecret (list "tls.crt" "tls.key")) }}{{ end -}}
{{- if .site.enabled }}{{ $wanted = append $wanted (list "federation.site.existingSecret" .site.existingSecret (list "site.key" "ca.pem")) }}{{ end -}}
{{- end -}}
{{- if .Values.retrain.release.schedule -}}
{{- $wanted = append $wanted (list "retrain.release.keySecret" .Values.retrain.release.keySecret (list "release.key")) -}}
{{- $wanted = append $wanted (list "retrain.release.storageSecret" .Values.retrain.release.storageSecret (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) -}}
{{- end -}}
{{- range $item := $wanted -}}
{{- $name := index $item 1 -}}
{{- if $name -}}
{{- $found := include "rollama.look" (dict "root" $root "api" "v1" "kind" "Secret" "namespace" $root.Release.Namespace "name" $name) | fromJson -}}
{{- if not $found.metadata }}{{ fail (printf "%s: namespace %s has no Secret %s; make it with kubectl create secret generic %s --from-literal or --from-file %s=..." (index $item 0) $root.Release.Namespace $name $name (first (index $item 2))) }}{{ end -}}
{{- range $key := index $item 2 -}}
{{- if not (index ($found.data | default dict) $key) }}{{ fail (printf "%s: Secret %s has no key %s" (index $item 0) $name $key) }}{{ end -}}
{{- end -}}
{{- if eq (index $item 0) "serve.keys.existingSecret" -}}
{{- $keys := (index $found.data "keys.yaml" | b64dec | fromYaml).keys -}}
{{- $good := and (kindIs "slice" $keys) (not (empty $keys)) -}}
{{- if $good -}}
{{- range $keys -}}
{{- if not (kindIs "map" .) }}{{ $good = false }}{{ else if not (and .name (regexMatch "^[0-9a-f]{64}$" (toString .sha256))) }}{{ $good = false }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if not $good }}{{ fail (printf "serve.keys.existingSecret: keys.yaml in Secret %s is no list `keys` of entries with name and sha256 (64 hexadecimal digits); the endpoint would not start with it; make entries with rollama serve-key" $name) }}{{ end -}}
{{- end -}}
{{- if and (eq (index $item 0) "serve.apiKey.existingSecret") (lt (len (index $found.data "api-key" | b64dec | trim)) 16) }}{{ fail (printf "serve.apiKey.existingSecret: the key in Secret %s is shorter than 16 characters; the endpoint would not start with it" $name) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
