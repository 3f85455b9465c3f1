{{/* One installation a cluster: the names do not depend on the release's. */}}
{{- define "strake.labels" -}}
app.kubernetes.io/name: strake
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The image of our own with this name: (list . "data"). */}}
{{- define "strake.image" -}}
{{- $values := (index . 0).Values -}}
{{- printf "%s/strake-%s:%s" (trimSuffix "/" $values.image.registry) (index . 1) ($values.image.tag | default (index . 0).Chart.AppVersion) -}}
{{- end }}

{{/* A sidecar's image: (list . "csi-provisioner:v6.3.0"). */}}
{{- define "strake.sidecar" -}}
{{- $values := (index . 0).Values -}}
{{- printf "%s/%s" (trimSuffix "/" ($values.sidecars.registry | default $values.image.registry)) (index . 1) -}}
{{- end }}

{{- define "strake.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The node's address with a port: (list . 9500). */}}
{{- define "strake.nodeAddress" -}}
{{- if eq (index . 0).Values.ipFamily "IPv6" -}}
[${NODE_IP}]:{{ index . 1 }}
{{- else -}}
${NODE_IP}:{{ index . 1 }}
{{- end -}}
{{- end }}

{{/* Where data are served: the node's address, or its one in storageNetwork: (list . 4430). */}}
{{- define "strake.storageAddress" -}}
{{- $network := (index . 0).Values.storageNetwork -}}
{{- if not $network -}}
{{ include "strake.nodeAddress" . }}
{{- else if contains ":" $network -}}
[{{ $network }}]:{{ index . 1 }}
{{- else -}}
{{ $network }}:{{ index . 1 }}
{{- end -}}
{{- end }}

{{- define "strake.nodeEnvironment" -}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: NODE_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
{{- end }}

{{- define "strake.csiNodeUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:strake-csi-node
{{- end }}
