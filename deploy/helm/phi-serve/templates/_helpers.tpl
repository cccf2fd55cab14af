{{- define "phi.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "phi.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "phi.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "phi.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Takes (dict "root" $ "component" "router"); component may be absent. */}}
{{- define "phi.selectorLabels" -}}
app.kubernetes.io/name: {{ include "phi.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "phi.labels" -}}
{{ include "phi.selectorLabels" . }}
app.kubernetes.io/part-of: phi-serve
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "phi.image" -}}
{{- $image := (index .root.Values .component).image -}}
{{- $repository := $image.repository | default (print "phi-serve/worker-" .root.Values.worker.device) -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "phi.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{ $account.name | default (printf "%s-%s" (include "phi.fullname" .root) .component) }}
{{- else -}}
{{ $account.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* Where the programs find the model. The image has its own models in /opt/phi/models. */}}
{{- define "phi.modelDir" -}}
{{- if eq .Values.model.source "embedded" -}}
/opt/phi/models/{{ .Values.model.path }}
{{- else -}}
/models/{{ .Values.model.path }}
{{- end -}}
{{- end -}}

{{- define "phi.tlsSecret" -}}
{{- $given := index .root.Values.tls (printf "%sSecret" .component) -}}
{{- if .root.Values.tls.certManager.enabled -}}
{{ $given | default (printf "%s-%s-tls" (include "phi.fullname" .root) .component) }}
{{- else -}}
{{ required (printf "tls.%sSecret is needed with tls.enabled, unless tls.certManager.enabled" .component) $given }}
{{- end -}}
{{- end -}}

{{/* What values.schema.json cannot say, because it looks at two keys. */}}
{{- define "phi.validate" -}}
{{- $v := .Values -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "phi.fullname" .)) -}}
{{- fail (printf "fullnameOverride is needed: from the release's name objects would be called %s, which no Service can be" (include "phi.fullname" .)) -}}
{{- end -}}
{{- if and (eq $v.worker.device "cuda") (hasSuffix "/worker-cpu" $v.worker.image.repository) -}}
{{- fail "worker.image.repository: worker-cpu has no program for worker.device=cuda" -}}
{{- end -}}
{{- if and (eq $v.model.source "existingClaim") (not $v.weights.existingClaim) -}}
{{- fail "weights.existingClaim is needed with model.source=existingClaim" -}}
{{- end -}}
{{- if and (eq $v.model.source "hostPath") (not $v.weights.hostPath) -}}
{{- fail "weights.hostPath is needed with model.source=hostPath" -}}
{{- end -}}
{{- if and (eq $v.model.source "initContainer") (not $v.weights.initContainer.image) -}}
{{- fail "weights.initContainer.image is needed with model.source=initContainer" -}}
{{- end -}}
{{- if and (eq $v.model.source "embedded") $v.weights.sha256 -}}
{{- fail "weights.sha256 has nothing to check with model.source=embedded" -}}
{{- end -}}
{{- if and $v.tokens.existingSecret (not $v.tls.enabled) -}}
{{- fail "tokens.existingSecret needs tls.enabled: tokens never travel in the clear" -}}
{{- end -}}
{{- if and $v.tls.mutual (not $v.tls.enabled) -}}
{{- fail "tls.mutual needs tls.enabled" -}}
{{- end -}}
{{- if and $v.tls.certManager.enabled (not $v.tls.certManager.issuerName) -}}
{{- fail "tls.certManager.issuerName is needed with tls.certManager.enabled" -}}
{{- end -}}
{{- if and (eq $v.worker.autoscaling.mode "keda") (not $v.worker.autoscaling.keda.prometheusAddress) -}}
{{- fail "worker.autoscaling.keda.prometheusAddress is needed with worker.autoscaling.mode=keda" -}}
{{- end -}}
{{- if and $v.tls.certManager.enabled (not $v.tls.enabled) -}}
{{- fail "tls.certManager.enabled needs tls.enabled" -}}
{{- end -}}
{{- if and $v.tokens.testSecret (not $v.tls.enabled) -}}
{{- fail "tokens.testSecret needs tls.enabled: tokens never travel in the clear" -}}
{{- end -}}
{{- if and $v.tls.mutual $v.ingress.enabled -}}
{{- $nginx := "nginx.ingress.kubernetes.io" -}}
{{- if not (or (hasKey $v.ingress.annotations (print $nginx "/proxy-ssl-secret")) (hasKey $v.ingress.annotations (print $nginx "/ssl-passthrough"))) -}}
{{- fail (printf "ingress.annotations: with tls.mutual a router wants a certificate: %s/proxy-ssl-secret names the ingress's own, %s/ssl-passthrough leaves TLS to the caller" $nginx $nginx) -}}
{{- end -}}
{{- end -}}
{{- if and $v.tls.mutual $v.grpcRoute.enabled -}}
{{- fail "grpcRoute.enabled: with tls.mutual a router wants a certificate, which no GRPCRoute says; for a gateway that shows one, put the route into extraObjects" -}}
{{- end -}}
{{- range $component := list "router" "worker" -}}
{{- $of := index $v $component -}}
{{- if and (has (toString $of.strategy.maxSurge) (list "0" "0%")) (has (toString $of.strategy.maxUnavailable) (list "0" "0%")) -}}
{{- fail (printf "%s.strategy: maxSurge and maxUnavailable cannot both be 0" $component) -}}
{{- end -}}
{{- if gt (int $of.autoscaling.minReplicas) (int $of.autoscaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas is more than maxReplicas" $component) -}}
{{- end -}}
{{- end -}}
{{- $own := list "name" "instance" "component" "part-of" "version" "managed-by" -}}
{{- range $key, $labels := dict "commonLabels" $v.commonLabels "router.podLabels" $v.router.podLabels "worker.podLabels" $v.worker.podLabels -}}
{{- range $label, $_ := $labels -}}
{{- if or (eq $label "helm.sh/chart") (and (hasPrefix "app.kubernetes.io/" $label) (has (trimPrefix "app.kubernetes.io/" $label) $own)) -}}
{{- fail (printf "%s: %s is the chart's own" $key $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $resources := $v.router.resources -}}
{{- if and $v.router.autoscaling.enabled (not (or (dig "requests" "cpu" "" $resources) (dig "limits" "cpu" "" $resources))) -}}
{{- fail "router.resources.requests.cpu is needed with router.autoscaling.enabled: load is measured against it" -}}
{{- end -}}
{{- $start := add ($v.worker.startupProbe.initialDelaySeconds | default 0) (mul $v.worker.startupProbe.periodSeconds $v.worker.startupProbe.failureThreshold) -}}
{{- if lt (int $v.worker.progressDeadlineSeconds) (int $start) -}}
{{- fail (printf "worker.progressDeadlineSeconds must be at least the %d seconds that worker.startupProbe allows" $start) -}}
{{- end -}}
{{- if le (int $v.worker.progressDeadlineSeconds) (int $v.worker.minReadySeconds) -}}
{{- fail "worker.progressDeadlineSeconds must be more than worker.minReadySeconds" -}}
{{- end -}}
{{- if and (eq $v.worker.dtype "float16") (ne $v.worker.device "cuda") -}}
{{- fail "worker.dtype=float16 needs worker.device=cuda" -}}
{{- end -}}
{{- if gt (int $v.worker.maxSequences) (int $v.worker.maxStepTokens) -}}
{{- fail "worker.maxStepTokens must be at least worker.maxSequences: each running request decodes one token in every step" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- fail "ingress.host is needed with ingress.enabled" -}}
{{- end -}}
{{- if and $v.grpcRoute.enabled (not $v.grpcRoute.parentRefs) -}}
{{- fail "grpcRoute.parentRefs is needed with grpcRoute.enabled" -}}
{{- end -}}
{{- end -}}
