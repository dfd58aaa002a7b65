{{/* The name of all objects. */}}
{{- define "nightshift.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels by which pods are selected. They never change. */}}
{{- define "nightshift.selector" -}}
app.kubernetes.io/name: nightshift
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of everything. */}}
{{- define "nightshift.labels" -}}
{{ include "nightshift.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: nightshift
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "nightshift.serviceAccount" -}}
{{- default (include "nightshift.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "nightshift.agentServiceAccount" -}}
{{- default (printf "%s-agent" (include "nightshift.fullname" .)) .Values.agent.serviceAccount.name -}}
{{- end -}}

{{- define "nightshift.tokenSecret" -}}
{{- default (printf "%s-token" (include "nightshift.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}

{{- define "nightshift.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* The listener's scheme. */}}
{{- define "nightshift.scheme" -}}
{{- if .Values.tls.secretName -}}HTTPS{{- else -}}HTTP{{- end -}}
{{- end -}}

{{/* The operator's configuration file; empty where there is nothing to configure. */}}
{{- define "nightshift.config" -}}
{{- $config := dict }}
{{- with .Values.receivers }}{{ $_ := set $config "receivers" . }}{{ end }}
{{- with .Values.alertmanagers }}{{ $_ := set $config "alertmanagers" . }}{{ end }}
{{- if .Values.slack.signingSecretFile }}{{ $_ := set $config "slack" .Values.slack }}{{ end }}
{{- if .Values.prometheus.url }}
{{- $prometheus := dict }}
{{- range $key, $value := .Values.prometheus }}{{ if $value }}{{ $_ := set $prometheus $key $value }}{{ end }}{{ end }}
{{- $_ := set $config "prometheus" $prometheus }}
{{- end }}
{{- if or (not .Values.serviceGraph.fromPrometheus) (ne .Values.serviceGraph.edgesAgeOutAfter "1h") }}{{ $_ := set $config "serviceGraph" .Values.serviceGraph }}{{ end }}
{{- if .Values.changes.configMaps }}{{ $_ := set $config "changes" .Values.changes }}{{ end }}
{{- if $config }}{{ toYaml $config }}{{ end }}
{{- end }}
