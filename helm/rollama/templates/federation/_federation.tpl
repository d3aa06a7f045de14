{{/* Of a federation's two sides: what both pods have in common, and the files that they read. */}}
{{- define "rollama.coordinatorName" -}}
{{ include "rollama.name" . }}-coordinator
{{- end -}}

{{- define "rollama.federatedSiteName" -}}
{{ include "rollama.name" . }}-federated-site
{{- end -}}

{{/* Says "yes" for a reference into a store. Call with the text. */}}
{{- define "rollama.isReference" -}}
{{- if contains "@sha256:" . -}}yes{{- end -}}
{{- end -}}

{{/* Name of the folder of a start model: by content, so another model never lands in the folder of the first. */}}
{{- define "rollama.startFolder" -}}
{{- if include "rollama.isReference" . -}}
start-{{ (splitList "@sha256:" . | last) | trunc 12 }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* Which of the two sides use the object store, a line each. */}}
{{- define "rollama.federationStores" -}}
{{- $c := .Values.federation.coordinator -}}
{{- $s := .Values.federation.site -}}
{{- if and $c.enabled (include "rollama.isReference" $c.start) }}
- coordinator
{{- end }}
{{- if and $s.enabled (or (include "rollama.isReference" $s.start) (include "rollama.siteStores" .)) }}
- site
{{- end }}
{{- end -}}

{{/* Says "yes" where the site's own container uses it, and not only the one before it. */}}
{{- define "rollama.siteStores" -}}
{{- $t := .Values.federation.site.training -}}
{{- if or (eq $t.where "job") (include "rollama.isReference" $t.dataset) -}}yes{{- end -}}
{{- end -}}

{{/* federation.yaml of the coordinator. */}}
{{- define "rollama.federationFile" -}}
{{- $c := .Values.federation.coordinator -}}
{{- merge (dict "start" (include "rollama.startFolder" $c.start)) $c.settings | toYaml -}}
{{- end -}}

{{/* The command of a round, as a list. Braces in settings of one's own are not placeholders. */}}
{{- define "rollama.roundCommand" -}}
{{- $s := .Values.federation.site -}}
{{- $t := $s.training -}}
{{- if $t.command -}}
{{- toYaml $t.command -}}
{{- else -}}
{{- $of := ternary "segmentation" $t.task (eq $t.task "seg") -}}
{{- $own := list (printf "%s.prox_mu={prox_mu}" $of) (printf "%s.seed={seed}" $of) (printf "%s.part=[{seed},{rounds}]" $of) -}}
{{- if eq $t.task "seg" }}{{ $own = append $own "segmentation.measure=false" }}{{ end -}}
{{- $command := list "rollama" "train" "{task}" "--workspace" "{work}" "--name" "{name}" "--init" "{init}" -}}
{{- if eq $t.where "job" -}}
{{- $command = list "bash" "/site/federated_round.sh" "{task}" "{init}" "{out}" (printf "federated-%s" (lower $s.name | replace "_" "-")) -}}
{{- end -}}
{{- $command = concat $command (list "--preset" $t.preset "--dataset" $t.dataset) -}}
{{- range $t.set }}{{ $command = concat $command (list "--set" (. | replace "{" "{{" | replace "}" "}}")) }}{{ end -}}
{{- range $own }}{{ $command = concat $command (list "--set" .) }}{{ end -}}
{{- toYaml $command -}}
{{- end -}}
{{- end -}}

{{/* site.yaml. Its other paths are the defaults, which is where the files are mounted. */}}
{{- define "rollama.siteFile" -}}
{{- $s := .Values.federation.site -}}
{{- $start := include "rollama.startFolder" $s.start -}}
name: {{ $s.name }}
coordinator: {{ $s.coordinator | quote }}
start: {{ ternary (printf "state/%s" $start) $start (not (empty (include "rollama.isReference" $s.start))) }}
training:
  command: {{- include "rollama.roundCommand" . | nindent 4 }}
  timeout_s: {{ $s.training.timeoutSeconds }}
  {{- with $s.training.environment }}
  environment: {{- toYaml . | nindent 4 }}
  {{- end }}
policy: {{- toYaml $s.policy | nindent 2 }}
{{- end -}}

{{/* The container before the other: the start model from the store, once. Call with a dict of root, start, folder, mounts (YAML). */}}
{{- define "rollama.fetchStart" -}}
{{- $target := printf "%s/%s" .folder (include "rollama.startFolder" .start) -}}
- name: start
  image: {{ include "rollama.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  # Its name is there only when it is whole, so a restart needs no store.
  command: [bash, -euc, {{ printf "test -e %s || rollama pull %s %s" $target .start $target | quote }}]
  {{- with include "rollama.storageEnv" .root | trim }}
  env: {{- . | nindent 4 }}
  {{- end }}
  {{- include "rollama.storageKeys" .root | nindent 2 }}
  resources: {requests: {cpu: 100m, memory: 1Gi}, limits: {memory: 1Gi}}
  securityContext: {{- include "rollama.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- .mounts | nindent 4 }}
{{- end -}}

{{/* Hash of a Secret's content: pods read it once, so a changed one has to make a new pod. Call with a dict of root, secret. */}}
{{- define "rollama.secretHash" -}}
{{- $found := include "rollama.look" (dict "root" .root "api" "v1" "kind" "Secret" "namespace" .root.Release.Namespace "name" .secret) | fromJson -}}
{{- $found.data | default dict | toJson | sha256sum -}}
{{- end -}}

{{/* Where a site finds its coordinator, as {namespaces, podLabels, cidrs, ports}; nothing where that has to be said. */}}
{{- define "rollama.coordinatorPlace" -}}
{{- $said := .Values.networkPolicy.federation.coordinator -}}
{{- $address := .Values.federation.site.coordinator -}}
{{- $host := regexReplaceAll ":[0-9]+$" $address "" -}}
{{- $port := regexFind "[0-9]+$" $address | int -}}
{{- if $said.cidrs -}}
{{- dict "cidrs" $said.cidrs "ports" ($said.ports | default (list $port)) | toYaml -}}
{{- else if regexMatch "^[^.]+\\.[^.]+\\.svc($|\\.)" $host -}}
{{- $labels := dict "app.kubernetes.io/part-of" "rollama" "app.kubernetes.io/component" "coordinator" -}}
{{- dict "namespaces" (list (index (splitList "." $host) 1)) "podLabels" $labels "ports" (list 9443) | toYaml -}}
{{- else if regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host -}}
{{- dict "cidrs" (list (printf "%s/32" $host)) "ports" ($said.ports | default (list $port)) | toYaml -}}
{{- end -}}
{{- end -}}
