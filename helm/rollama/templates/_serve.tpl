{{/* Arguments of serve.app:build_app. What the chart decides goes before serve.settings, which has no such keys. */}}
{{- define "rollama.serveArgs" -}}
{{- $s := .Values.serve -}}
{{- $args := deepCopy $s.settings -}}
{{- if $s.jwks.existingSecret -}}
{{- $_ := set $args "oidc" (set ($args.oidc | default dict) "jwks_file" "/secrets/jwks/jwks.json") -}}
{{- end -}}
{{- range $key := list "text_scaling" "segmentation_scaling" -}}
{{- with index $args $key -}}
{{- $_ := set $args $key (mergeOverwrite (include "rollama.scaling" . | fromYaml) .) -}}
{{- end -}}
{{- end -}}
{{- $own := dict
  "data_folder" "/data"
  "store" ($s.store.uri | default "/store")
  "deadline_s" $s.deadlineSeconds
  "max_ongoing_requests" $s.maxOngoingRequests
  "max_queued_requests" $s.maxQueuedRequests
  "text_cpus" $s.textCpus
  "segmentation_cpus" $s.segmentationCpus
  "text_gpus" $s.textGpus
  "segmentation_gpus" $s.segmentationGpus
  "close_connections" true
-}}
{{- if $s.apiKey.enabled }}{{ $_ := set $own "api_key_file" "/secrets/api-key/api-key" }}{{ end -}}
{{- if $s.keys.existingSecret }}{{ $_ := set $own "keys_file" "/secrets/keys/keys.yaml" }}{{ end -}}
{{- with $s.audit.uri }}{{ $_ := set $own "audit" . }}{{ end -}}
{{- with $s.audit.headsUri }}{{ $_ := set $own "audit_heads" . }}{{ end -}}
{{- if $s.audit.signingKeySecret }}{{ $_ := set $own "audit_key_file" "/secrets/audit/audit.pem" }}{{ end -}}
{{- merge $own $args | toYaml -}}
{{- end -}}

{{/* What Ray would fill in by itself, said: a scaling with one key must not take Ray's defaults for the others. */}}
{{- define "rollama.scaling" -}}
min_replicas: 1
max_replicas: 1
target_ongoing_requests: 2
look_back_period_s: 30
upscale_delay_s: 30
downscale_delay_s: 600
{{- end -}}

{{- define "rollama.serveConfig" -}}
proxy_location: EveryNode
http_options: {host: 0.0.0.0, port: 8000, request_timeout_s: {{ add .Values.serve.deadlineSeconds 30 }}}
applications:
  - name: rollama
    route_prefix: /
    import_path: serve.app:build_app
    args: {{- include "rollama.serveArgs" . | nindent 6 }}
    # The models are no argument: with others the same replicas go on, and only what they load changes.
    deployments:
      {{- range $name := list "pipeline" "text" "segmentation" }}
      - name: {{ $name }}
        user_config: {{- toYaml $.Values.serve.models | nindent 10 }}
      {{- end }}
{{- end -}}

{{/* Files that the endpoint reads from Secrets, a line each: name of the volume, Secret. */}}
{{- define "rollama.serveSecrets" -}}
{{- if .Values.serve.apiKey.enabled }}
api-key: {{ include "rollama.apiKeySecret" . }}
{{- end }}
{{- with .Values.serve.keys.existingSecret }}
keys: {{ . }}
{{- end }}
{{- with .Values.serve.jwks.existingSecret }}
jwks: {{ . }}
{{- end }}
{{- with .Values.serve.audit.signingKeySecret }}
audit: {{ . }}
{{- end }}
{{- end -}}

{{/* Hashes of the Secrets that are not the chart's own: pods read them once, so a changed one has to make new pods. */}}
{{- define "rollama.checksums" -}}
{{- $root := . -}}
{{- range $name, $secret := dict "api-key" .Values.serve.apiKey.existingSecret "keys" .Values.serve.keys.existingSecret "jwks" .Values.serve.jwks.existingSecret "audit" .Values.serve.audit.signingKeySecret "storage" .Values.storage.existingSecret "token" .Values.token.existingSecret -}}
{{- if $secret }}
{{- $found := include "rollama.look" (dict "root" $root "api" "v1" "kind" "Secret" "namespace" $root.Release.Namespace "name" $secret) | fromJson }}
checksum/{{ $name }}: {{ $found.data | default dict | toJson | sha256sum }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A pod of the endpoint. Call with (dict "root" . "role" "head"|"worker"). */}}
{{- define "rollama.servePod" -}}
{{- $s := .root.Values.serve -}}
{{- $scaled := $s.autoscaling.enabled -}}
{{- $workers := or $scaled (gt (int $s.workers) 0) -}}
{{- $class := ternary $s.gpuClass "" (or (eq .role "worker") (not $workers)) -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if not (and $scaled (eq .role "head")) }}
serviceAccountName: {{ include "rollama.name" .root }}-serve
{{- end }}
{{- include "rollama.pullSecrets" .root }}
{{- with include "rollama.priority" (dict "root" .root "of" "serving") }}
priorityClassName: {{ . }}
{{- end }}
{{- include "rollama.placement" (dict "root" .root "class" $class) }}
# Jobs in work may end: serve.settings.drain_s, and what Ray needs beside it.
terminationGracePeriodSeconds: {{ add ($s.settings.drain_s | default 60 | int) 30 }}
securityContext: {{- include "rollama.podSecurity" .root | nindent 2 }}
containers:
  - name: ray
    image: {{ include "rollama.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    {{- with include "rollama.storageEnv" .root | trim }}
    env: {{- . | nindent 6 }}
    {{- end }}
    {{- include "rollama.storageKeys" .root | nindent 4 }}
    resources: {{- include "rollama.resources" (dict "root" .root "class" $class "gpus" $s.gpusPerPod "resources" $s.resources) | nindent 6 }}
    securityContext: {{- include "rollama.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      - {name: data, mountPath: /data, readOnly: true}
      - {name: store, mountPath: /store}
      {{- range $name, $secret := include "rollama.serveSecrets" .root | fromYaml }}
      - {name: {{ $name }}, mountPath: /secrets/{{ $name }}, readOnly: true}
      {{- end }}
      - {name: tmp, mountPath: /tmp}
      - {name: shm, mountPath: /dev/shm}
volumes:
  - name: data
    {{- if $s.data.existingClaim }}
    persistentVolumeClaim: {claimName: {{ $s.data.existingClaim }}}
    {{- else }}
    emptyDir: {}
    {{- end }}
  - name: store
    {{- if or $s.store.existingClaim $s.store.size }}
    persistentVolumeClaim: {claimName: {{ $s.store.existingClaim | default (printf "%s-store" (include "rollama.name" .root)) }}}
    {{- else }}
    emptyDir: {}
    {{- end }}
  {{- range $name, $secret := include "rollama.serveSecrets" .root | fromYaml }}
  - {name: {{ $name }}, secret: {secretName: {{ $secret }}, defaultMode: 0440}}
  {{- end }}
  - {name: tmp, emptyDir: {}}
  - {name: shm, emptyDir: {medium: Memory, sizeLimit: 1Gi}}
  {{- if and $scaled (eq .role "head") }}
  {{- include "rollama.accountVolume" .root | nindent 2 }}
  {{- end }}
{{- end -}}
