{{/* Beginning of a policy. Call with (dict "root" . "name" NAME). */}}
{{- define "rollama.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "rollama.name" .root }}-{{ .name }}
  labels: {{- include "rollama.labels" .root | nindent 4 }}
{{- end -}}

{{/* Pods of a kind, as a selector. `jobs` are what `rollama submit` makes; the others are the release's. */}}
{{- define "rollama.pods" -}}
{{- if eq .of "jobs" -}}
matchExpressions: [{key: rollama.io/job, operator: Exists}]
{{- else -}}
matchLabels: {{- include "rollama.selector" (dict "root" .root "component" .of) | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Peers: namespaces (with labels of pods) and addresses. Call with a dict of namespaces, podLabels, cidrs. */}}
{{- define "rollama.peers" -}}
{{- range .namespaces }}
- namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ . }}}}
  {{- with $.podLabels }}
  podSelector: {matchLabels: {{ toJson . }}}
  {{- end }}
{{- end }}
{{- range .cidrs }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end -}}

{{- define "rollama.ports" -}}
{{- range . }}
- {port: {{ . }}, protocol: TCP}
{{- end }}
{{- end -}}

{{/* Whether anything of the release uses the object store. */}}
{{- define "rollama.stores" -}}
{{- if or .Values.storage.workspace .Values.storage.dataset .Values.serve.store.uri .Values.serve.audit.uri .Values.serve.audit.headsUri (include "rollama.serves" .) (include "rollama.federationStores" . | fromYamlArray) .Values.storage.env.AWS_ENDPOINT_URL -}}yes{{- end -}}
{{- end -}}

{{/* Where the object store is, as {namespaces, cidrs, ports}: as said, or from its address. A policy knows no host names. */}}
{{- define "rollama.storage" -}}
{{- $said := .Values.networkPolicy.storage -}}
{{- $url := urlParse (.Values.storage.env.AWS_ENDPOINT_URL | default "https://") -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "80" "443" (eq $url.scheme "http")) | int -}}
{{- if or $said.cidrs $said.namespaces -}}
{{- dict "namespaces" $said.namespaces "cidrs" $said.cidrs "ports" ($said.ports | default (list $port)) | toYaml -}}
{{- else if regexMatch "^[^.]+\\.[^.]+\\.svc($|\\.)" $url.hostname -}}
{{- dict "namespaces" (list (index (splitList "." $url.hostname) 1)) "cidrs" list "ports" $said.ports | toYaml -}}
{{- else if regexMatch "^[0-9]+(\\.[0-9]+){3}$" $url.hostname -}}
{{- dict "namespaces" list "cidrs" (list (printf "%s/32" $url.hostname)) "ports" (list $port) | toYaml -}}
{{- end -}}
{{- end -}}

{{/* Pods that talk to the API server, a line each. */}}
{{- define "rollama.callers" -}}
{{- if .Values.serve.autoscaling.enabled }}{{ if include "rollama.serves" . }}
- endpoint
{{- end }}{{ end }}
{{- if .Values.cluster.enabled }}
- cluster
{{- end }}
{{- if or .Values.jobs.autoscaling .Values.jobs.site.autoscaling }}
- jobs
{{- end }}
{{- if .Values.retrain.schedule }}
- retrain
{{- end }}
{{- if and .Values.federation.site.enabled (eq .Values.federation.site.training.where "job") }}
- site
{{- end }}
{{- end -}}

{{/* The way to the cluster's DNS, which every pod needs. */}}
{{- define "rollama.dnsRule" -}}
{{- $dns := .Values.networkPolicy.dns -}}
- to: {{- include "rollama.peers" (dict "namespaces" (list $dns.namespace) "podLabels" $dns.podLabels "cidrs" $dns.cidrs) | nindent 4 }}
  ports:
    {{- range $dns.ports }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end -}}

{{/* The way to the object store. */}}
{{- define "rollama.storageRule" -}}
{{- $place := include "rollama.storage" . | fromYaml -}}
- to: {{- include "rollama.peers" $place | nindent 4 }}
  {{- with $place.ports }}
  ports: {{- include "rollama.ports" . | nindent 4 }}
  {{- end }}
{{- end -}}
