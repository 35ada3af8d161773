{{- define "wheelport.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "wheelport.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 59 | trimSuffix "-" -}}
{{- else if contains (include "wheelport.name" .) .Release.Name -}}
{{- .Release.Name | trunc 59 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "wheelport.name" .) | trunc 59 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "wheelport.selector" -}}
app.kubernetes.io/name: {{ include "wheelport.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wheelport.labels" -}}
{{ include "wheelport.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "wheelport.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "wheelport.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Helm makes floating-point numbers of all numbers; TOML tells them from integers, and so does Wheelport. */ -}}
{{- define "wheelport.toml" -}}
{{- regexReplaceAll "(?m)^(\\s*[a-z_]+ = -?[0-9]+)\\.0$" (toToml .Values.config) "${1}" | trim -}}
{{- end -}}

{{- /* Whether replicas share what is published: then more than one is safe. */ -}}
{{- define "wheelport.shares" -}}
{{- $fleet := default dict .Values.config.fleet -}}
{{- if or $fleet.store $fleet.redis }}true{{ end -}}
{{- end -}}

{{- define "wheelport.replicas" -}}
{{- if kindIs "invalid" .Values.replicas -}}
{{- if include "wheelport.shares" . }}2{{ else }}1{{ end -}}
{{- else -}}
{{- .Values.replicas -}}
{{- end -}}
{{- end -}}
