{{- define "fanline.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "fanline.selector" -}}
app.kubernetes.io/name: fanline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fanline.labels" -}}
{{ include "fanline.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
