{{- define "fedslice.labels" -}}
app.kubernetes.io/name: fedslice
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "fedslice.selector" -}}
app.kubernetes.io/name: fedslice
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* The pool: each supervisor by the name of its own headless service, which its certificate is for. */ -}}
{{- define "fedslice.supervisors" -}}
{{- $root := . -}}
{{- range $number := until (int .Values.supervisor.replicas) -}}
{{- if $number }},{{ end -}}
{{ $root.Release.Name }}-supervisor-{{ $number }}.{{ $root.Release.Namespace }}.svc:7700
{{- end -}}
{{- end }}

{{- define "fedslice.environment" -}}
- {name: FEDSLICE_URL, value: {{ .Values.url | quote }}}
- {name: FEDSLICE_PROXIES, value: {{ .Values.proxies | quote }}}
- {name: FEDSLICE_RUNTIMES, value: {{ .Values.runtimes | quote }}}
- {name: FEDSLICE_SUPERVISORS, value: {{ include "fedslice.supervisors" . | quote }}}
- {name: FEDSLICE_SUPERVISOR_TLS, value: /tls}
- {name: FEDSLICE_STORAGE_FOR_SITES, value: {{ .Values.storageForSites | quote }}}
- {name: FEDSLICE_STORAGE_REGION, value: {{ .Values.storageRegion | quote }}}
- {name: FEDSLICE_LOG_FORMAT, value: json}
{{- end }}

{{- define "fedslice.container" -}}
image: {{ .Values.image | quote }}
envFrom:
  - secretRef: {name: {{ .Values.secret | quote }}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "fedslice.pod" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Of web, worker and beat: a state folder that may go, but for the log's key. */ -}}
{{- define "fedslice.volumes" -}}
- {name: state, emptyDir: {}}
- {name: tmp, emptyDir: {}}
- {name: log-key, secret: {secretName: {{ .Values.logKeySecret | quote }}, defaultMode: 288}}
- {name: tls, secret: {secretName: {{ .Values.callersTlsSecret | quote }}, defaultMode: 288}}
{{- end }}

{{- define "fedslice.mounts" -}}
- {name: state, mountPath: /state}
- {name: tmp, mountPath: /tmp}
- {name: log-key, mountPath: /state/log-key.json, subPath: log-key.json, readOnly: true}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
