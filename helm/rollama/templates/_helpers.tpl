{{- define "rollama.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What a release's pods of one kind have in common. Call with (dict "root" . "component" NAME). */}}
{{- define "rollama.selector" -}}
app.kubernetes.io/part-of: rollama
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "rollama.labels" -}}
app.kubernetes.io/name: rollama
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: rollama
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "rollama.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "rollama.tokenSecret" -}}
{{- .Values.token.existingSecret | default (printf "%s-ray-token" (include "rollama.name" .)) -}}
{{- end -}}

{{- define "rollama.apiKeySecret" -}}
{{- .Values.serve.apiKey.existingSecret | default (printf "%s-api-key" (include "rollama.name" .)) -}}
{{- end -}}

{{- define "rollama.serves" -}}
{{- with .Values.serve.models -}}
{{- if and .s .p .seg -}}yes{{- else if or .s .p .seg -}}
{{- fail "serve.models: name all three (s, p, seg) or none" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of a PriorityClass. Call with (dict "root" . "of" "serving"). */}}
{{- define "rollama.priority" -}}
{{- if .root.Values.priority.create -}}
{{ .root.Release.Namespace }}-{{ include "rollama.name" .root }}-{{ .of }}
{{- else -}}
{{ index .root.Values.priority .of }}
{{- end -}}
{{- end -}}

{{- define "rollama.mlflowUri" -}}
{{- if .Values.mlflow.server.enabled -}}
http://{{ include "rollama.name" . }}-mlflow:5000
{{- else -}}
{{ .Values.mlflow.uri }}
{{- end -}}
{{- end -}}

{{/* An object of the cluster as JSON; "{}" where there is none, and in `helm template`. Call with a dict of root, api, kind, namespace, name. */}}
{{- define "rollama.look" -}}
{{- lookup .api .kind .namespace .name | toJson -}}
{{- end -}}

{{/* A Secret's value that is made once: what is there stays. Call with (dict "root" . "secret" NAME "key" KEY). */}}
{{- define "rollama.once" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if and $found (index ($found.data | default dict) .key) -}}
{{ index $found.data .key }}
{{- else -}}
{{ randAlphaNum 48 | b64enc }}
{{- end -}}
{{- end -}}
