{{- define "rollama.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
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

{{/* A Secret's value that is made once: what is there stays. Call with (dict "root" . "secret" NAME "key" KEY). */}}
{{- define "rollama.once" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if and $found (index ($found.data | default dict) .key) -}}
{{ index $found.data .key }}
{{- else -}}
{{ randAlphaNum 48 | b64enc }}
{{- end -}}
{{- end -}}

{{/* What every container may do, and what it may not: Pod Security `restricted` and a read-only root. */}}
{{- define "rollama.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1000
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rollama.storageEnv" -}}
{{- range $key, $value := .Values.storage.env }}
- {name: {{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* A pod of the endpoint, head or worker alike. */}}
{{- define "rollama.servePod" -}}
automountServiceAccountToken: false
serviceAccountName: {{ include "rollama.name" . }}-serve
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . }}}
  {{- end }}
{{- end }}
securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
initContainers:
  - name: models
    image: {{ include "rollama.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [bash, -ceu]
    args:
      - |
        {{- range $name := list "s" "p" "seg" }}
        rollama pull "$MODEL_{{ upper $name }}" /models/{{ $name }}
        {{- end }}
    env:
      {{- range $name, $reference := .Values.serve.models }}
      - {name: MODEL_{{ upper $name }}, value: {{ $reference | quote }}}
      {{- end }}
      {{- include "rollama.storageEnv" . | nindent 6 }}
    {{- with .Values.storage.existingSecret }}
    envFrom: [{secretRef: {name: {{ . }}}}]
    {{- end }}
    resources: {requests: {cpu: 100m, memory: 1Gi}, limits: {memory: 1Gi}}
    securityContext: {{- include "rollama.containerSecurity" . | nindent 6 }}
    volumeMounts: [{name: models, mountPath: /models}, {name: tmp, mountPath: /tmp}]
containers:
  - name: ray
    image: {{ include "rollama.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    {{- if .Values.serve.store.uri }}
    env: {{- include "rollama.storageEnv" . | nindent 6 }}
    {{- with .Values.storage.existingSecret }}
    envFrom: [{secretRef: {name: {{ . }}}}]
    {{- end }}
    {{- end }}
    resources: {{- toYaml .Values.serve.resources | nindent 6 }}
    securityContext: {{- include "rollama.containerSecurity" . | nindent 6 }}
    volumeMounts:
      - {name: models, mountPath: /models, readOnly: true}
      - {name: data, mountPath: /data, readOnly: true}
      - {name: store, mountPath: /store}
      - {name: api-key, mountPath: /secrets/api-key, readOnly: true}
      - {name: tmp, mountPath: /tmp}
      - {name: shm, mountPath: /dev/shm}
volumes:
  - {name: models, emptyDir: {}}
  - name: data
    {{- if .Values.serve.data.existingClaim }}
    persistentVolumeClaim: {claimName: {{ .Values.serve.data.existingClaim }}}
    {{- else }}
    emptyDir: {}
    {{- end }}
  - name: store
    {{- if .Values.serve.store.existingClaim }}
    persistentVolumeClaim: {claimName: {{ .Values.serve.store.existingClaim }}}
    {{- else }}
    emptyDir: {}
    {{- end }}
  - {name: api-key, secret: {secretName: {{ include "rollama.apiKeySecret" . }}}}
  - {name: tmp, emptyDir: {}}
  - {name: shm, emptyDir: {medium: Memory, sizeLimit: 1Gi}}
{{- end -}}
