{{/* What every container may do, and what it may not: Pod Security `restricted` and a read-only root. */}}
{{- define "rollama.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The same for a pod: also for containers that others put into it. */}}
{{- define "rollama.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rollama.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . }}}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Variables for the object store: names and values, never keys. */}}
{{- define "rollama.storageEnv" -}}
{{- range $key, $value := .Values.storage.env }}
- {name: {{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* Keys of the object store, by the name of their Secret. */}}
{{- define "rollama.storageKeys" -}}
{{- with .Values.storage.existingSecret }}
envFrom: [{secretRef: {name: {{ . }}}}]
{{- end }}
{{- end -}}

{{/* Where a pod with GPUs may go. Call with (dict "root" . "class" NAME). */}}
{{- define "rollama.placement" -}}
{{- $class := index .root.Values.gpuClasses .class | default dict }}
{{- with $class.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $class.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $class.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Resources with the GPUs of a class. Call with a dict of root, class, gpus, resources. */}}
{{- define "rollama.resources" -}}
{{- $found := deepCopy .resources }}
{{- if .class }}
{{- $name := (index .root.Values.gpuClasses .class | default dict).resource | default "nvidia.com/gpu" }}
{{- range $part := list "requests" "limits" }}
{{- $_ := set $found $part (set (index $found $part | default dict) $name (toString $.gpus)) }}
{{- end }}
{{- end }}
{{- toYaml $found }}
{{- end -}}

{{/* Request and limit of a pod that is given as {cpu, memory}. */}}
{{- define "rollama.size" -}}
requests: {cpu: {{ .cpu | default "1" | quote }}, memory: {{ .memory }}}
limits: {memory: {{ .memory }}}
{{- end -}}

{{/* The autoscaler beside a head. It alone gets the pod's account: the processes of Ray in the head do not. */}}
{{- define "rollama.autoscaler" -}}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: {{ .idle }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  resources: {requests: {cpu: 250m, memory: 512Mi}, limits: {memory: 512Mi}}
  securityContext: {{- include "rollama.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: account, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{/* What Kubernetes would mount into every container of the pod, as a volume that only the autoscaler mounts. */}}
{{- define "rollama.accountVolume" -}}
- name: account
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end -}}

{{/* A small pod of the image that runs one program: container's name, command, mounts and volumes come from the caller.
     Call with a dict of root, name, command (a list), env (YAML), keys (yes: the object store's), mounts, volumes (YAML). */}}
{{- define "rollama.program" -}}
restartPolicy: Never
enableServiceLinks: false
{{- include "rollama.pullSecrets" .root }}
securityContext: {{- include "rollama.podSecurity" .root | nindent 2 }}
containers:
  - name: {{ .name }}
    image: {{ include "rollama.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    command: {{- toYaml .command | nindent 6 }}
    {{- with .env }}
    env: {{- . | nindent 6 }}
    {{- end }}
    {{- if .keys }}{{- include "rollama.storageKeys" .root | nindent 4 }}{{- end }}
    resources: {requests: {cpu: 100m, memory: 1Gi}, limits: {memory: 1Gi}}
    securityContext: {{- include "rollama.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- with .mounts }}{{ . | nindent 6 }}{{ end }}
volumes:
  - {name: tmp, emptyDir: {}}
  {{- with .volumes }}{{ . | nindent 2 }}{{ end }}
{{- end -}}
