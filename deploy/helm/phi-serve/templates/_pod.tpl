{{/* What the pods of both components have in common. All take (dict "root" $ "component" "router"). */}}

{{- define "phi.podMetadata" -}}
{{- $v := index .root.Values .component -}}
labels:
  {{- include "phi.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/part-of: phi-serve
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $v.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $checked := and .root.Values.weights.sha256 (ne .root.Values.model.source "embedded") }}
{{- if or $v.podAnnotations $checked }}
annotations:
  {{- if $checked }}
  # Other checksums roll the pods, which check at their start.
  checksum/weights: {{ .root.Values.weights.sha256 | sha256sum }}
  {{- end }}
  {{- with $v.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "phi.podSpec" -}}
{{- $v := index .root.Values .component -}}
serviceAccountName: {{ include "phi.serviceAccountName" . | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
# preStop, then the drain, then five seconds to end.
terminationGracePeriodSeconds: {{ add $v.preStopSeconds $v.drainTimeoutSeconds 5 }}
securityContext:
  {{- toYaml $v.podSecurityContext | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
{{- if $v.affinity }}
  {{- toYaml $v.affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 50
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "phi.selectorLabels" . | nindent 14 }}
{{- end }}
topologySpreadConstraints:
{{- if $v.topologySpreadConstraints }}
  {{- toYaml $v.topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "phi.selectorLabels" . | nindent 8 }}
{{- end }}
{{- if ne .root.Values.model.source "embedded" }}
{{- include "phi.initContainers" . }}
{{- end }}
{{- end -}}

{{/* Copies and checks the weights, as values.weights says. */}}
{{- define "phi.initContainers" -}}
{{- $v := index .root.Values .component -}}
{{- $w := .root.Values.weights -}}
{{- if or (eq .root.Values.model.source "initContainer") $w.sha256 }}
initContainers:
{{- if eq .root.Values.model.source "initContainer" }}
  - name: copy-model
    image: {{ $w.initContainer.image | quote }}
    imagePullPolicy: {{ $w.initContainer.pullPolicy }}
    {{- with $w.initContainer.command }}
    command:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $w.initContainer.args }}
    args:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $w.initContainer.env }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $w.initContainer.envFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      {{- include "phi.containerSecurityContext" $ | nindent 6 }}
    {{- with $v.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - {name: models, mountPath: /models}
    terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
{{- if $w.sha256 }}
  - name: check-model
    image: {{ include "phi.image" . | quote }}
    imagePullPolicy: {{ $v.image.pullPolicy }}
    workingDir: /models
    command: [sha256sum, --check, --strict, --quiet, /checksums/SHA256SUMS]
    securityContext:
      {{- include "phi.containerSecurityContext" $ | nindent 6 }}
    {{- with $v.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - {name: models, mountPath: /models, readOnly: true}
      - {name: checksums, mountPath: /checksums, readOnly: true}
    terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
{{- end }}
{{- end -}}

{{/* The NVIDIA runtime's hook writes into a container's root when it mounts the driver. */}}
{{- define "phi.containerSecurityContext" -}}
{{- $given := deepCopy (index .root.Values .component).containerSecurityContext -}}
{{- if not (hasKey $given "readOnlyRootFilesystem") -}}
{{- $_ := set $given "readOnlyRootFilesystem" (or (eq .component "router") (eq .root.Values.worker.device "cpu")) -}}
{{- end -}}
{{- toYaml $given -}}
{{- end -}}

{{- define "phi.tlsArgs" -}}
{{- if .root.Values.tls.enabled }}
- --tls_cert=/etc/phi/tls/tls.crt
- --tls_key=/etc/phi/tls/tls.key
{{- if .root.Values.tls.mutual }}
- --tls_client_ca=/etc/phi/tls/ca.crt
{{- end }}
{{- end }}
{{- end -}}

{{- define "phi.volumeMounts" -}}
{{- if ne .root.Values.model.source "embedded" }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- if .root.Values.tls.enabled }}
- {name: tls, mountPath: /etc/phi/tls, readOnly: true}
{{- end }}
{{- with (index .root.Values .component).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "phi.volumes" -}}
{{- $w := .root.Values.weights -}}
{{- if eq .root.Values.model.source "existingClaim" }}
- name: models
  persistentVolumeClaim: {claimName: {{ $w.existingClaim | quote }}, readOnly: true}
{{- else if eq .root.Values.model.source "hostPath" }}
- name: models
  hostPath: {path: {{ $w.hostPath | quote }}, type: Directory}
{{- else if eq .root.Values.model.source "initContainer" }}
- name: models
  emptyDir: {sizeLimit: {{ $w.initContainer.sizeLimit | quote }}}
{{- end }}
{{- if and $w.sha256 (ne .root.Values.model.source "embedded") }}
- name: checksums
  configMap: {name: {{ include "phi.fullname" .root }}-checksums}
{{- end }}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "phi.tlsSecret" . | quote }}}
{{- end }}
{{- with (index .root.Values .component).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
