{{/* Values of a federation that contradict each other or lack something: a sentence each, with what to do. */}}
{{- define "rollama.checkFederation" -}}
{{- $v := .Values -}}
{{- $c := $v.federation.coordinator -}}
{{- if $c.enabled -}}
{{- $f := $c.settings -}}
{{- if not (and $f.name $f.rounds) }}{{ fail "federation.coordinator.settings: set name and rounds; the other keys of federation.yaml have defaults (docs/centres.md)" }}{{ end -}}
{{- if not $c.start }}{{ fail "federation.coordinator.start: a federation begins with a model that all sites know; name one by reference (`rollama push model`), or a folder of existingClaim" }}{{ end -}}
{{- if and (hasPrefix "/" $c.start) (not $c.existingClaim) }}{{ fail "federation.coordinator.start: a folder is one of federation.coordinator.existingClaim, which is not set; a new claim is empty" }}{{ end -}}
{{- if not $c.tls.existingSecret }}{{ fail "federation.coordinator.tls.existingSecret: weights are not sent without TLS, and the door ends it itself; name a Secret with tls.crt and tls.key (kubectl create secret tls, or cert-manager)" }}{{ end -}}
{{- if eq (empty $c.sites) (empty $c.existingSites) }}{{ fail "federation.coordinator.sites: only sites whose public key is known are let in; set sites or existingSites, one of them" }}{{ end -}}
{{- if and $c.sites (gt (int ($f.min_sites | default 2)) (len $c.sites)) }}{{ fail (printf "federation.coordinator.settings.min_sites: a round needs %d sites and sites names %d; no round would change the model" (int ($f.min_sites | default 2)) (len $c.sites)) }}{{ end -}}
{{- if ne (eq ($f.strategy | default "fedavg") "fedprox") (gt (float64 ($f.prox_mu | default 0)) 0.0) }}{{ fail "federation.coordinator.settings: prox_mu above 0 and strategy fedprox belong together; set both or none" }}{{ end -}}
{{- $private := eq (($f.privacy | default dict).kind | default "none") "central" -}}
{{- $weighs := ternary $f.weight_by_cases true (hasKey $f "weight_by_cases") -}}
{{- if and $private (or $weighs (has ($f.strategy | default "fedavg") (list "fedadam" "fedyogi"))) }}{{ fail "federation.coordinator.settings.privacy: central noise is made for the plain mean of equals; it needs weight_by_cases false and strategy fedavg or fedprox" }}{{ end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.federation.sites.cidrs) (not $v.networkPolicy.federation.sites.namespaces) }}{{ fail "networkPolicy.federation.sites: no site could reach the coordinator; name their addresses in cidrs ([\"0.0.0.0/0\"] leaves it to TLS and keys), or namespaces" }}{{ end -}}
{{- end -}}
{{- $s := $v.federation.site -}}
{{- if $s.enabled -}}
{{- $t := $s.training -}}
{{- $job := eq $t.where "job" -}}
{{- if not $s.coordinator }}{{ fail "federation.site.coordinator: say where the coordinator is, host:port" }}{{ end -}}
{{- if not $s.existingSecret }}{{ fail "federation.site.existingSecret: the coordinator knows a site by its key; name a Secret with site.key (`rollama federation key`) and ca.pem" }}{{ end -}}
{{- if not $s.start }}{{ fail "federation.site.start: a site trains the model that it agreed to; name it by reference or as a folder of data.existingClaim, after comparing its hash with the coordinator's" }}{{ end -}}
{{- if and $s.existingConfigMap (or $s.name $s.policy $t.command $t.dataset) }}{{ fail "federation.site.existingConfigMap: its site.yaml says all of it; leave name, policy, training.command and training.dataset empty, or the ConfigMap out" }}{{ end -}}
{{- if not $s.existingConfigMap -}}
{{- if not $s.name }}{{ fail "federation.site.name: the name that the coordinator's list has for this site" }}{{ end -}}
{{- if not $s.policy.max_norm }}{{ fail "federation.site.policy: nothing leaves a site without a policy; set at least max_norm, the longest update that may leave (docs/centres.md)" }}{{ end -}}
{{- if eq (empty $t.dataset) (empty $t.command) }}{{ fail "federation.site.training: set dataset, for the command that the chart makes, or command" }}{{ end -}}
{{- end -}}
{{- range $key, $place := dict "start" $s.start "training.dataset" $t.dataset -}}
{{- if and (hasPrefix "/data/" $place) (not $s.data.existingClaim) }}{{ fail (printf "federation.site.%s: a folder is one of federation.site.data.existingClaim, which is not set" $key) }}{{ end -}}
{{- end -}}
{{- if $job -}}
{{- if or $t.command $s.existingConfigMap }}{{ fail "federation.site.training.where: with job the chart makes the command; leave command and existingConfigMap out, or set where: pod" }}{{ end -}}
{{- if not (and $v.ci.enabled $v.storage.workspace (include "rollama.isReference" $t.dataset)) }}{{ fail "federation.site.training.where: a RayJob needs ci.enabled, storage.workspace and training.dataset by reference; or set where: pod" }}{{ end -}}
{{- if $s.gpuClass }}{{ fail "federation.site.gpuClass: with training.where job this pod trains nothing; set jobs.gpuClass, and leave this one empty" }}{{ end -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not (include "rollama.coordinatorPlace" .)) }}{{ fail "networkPolicy.federation.coordinator: a policy knows no host names, so the coordinator's addresses have to be said: cidrs" }}{{ end -}}
{{- end -}}
{{- end -}}
