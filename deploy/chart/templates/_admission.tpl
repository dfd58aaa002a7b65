{{/* Whose requests the operator's policies are about. */}}
{{- define "nightshift.operatorOnly" -}}
matchConditions:
  - name: by-the-operator
    expression: >-
      request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "nightshift.serviceAccount" . }}'
{{- end -}}

{{/* Who is bound: everything in the cluster, as far as the policy's own conditions say. */}}
{{- define "nightshift.binding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "nightshift.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end -}}

{{/*
Variables of every guard. They are evaluated only where they are used: there is no `object` in a deletion, no `oldObject` in
a creation.
*/}}
{{- define "nightshift.guardVariables" -}}
# The API server leaves out what is empty.
- name: subresource
  expression: request.?subResource.orValue('')
- name: ns
  expression: request.?namespace.orValue('')
- name: update
  expression: request.operation == 'UPDATE'
- name: annotations
  expression: object.metadata.?annotations.orValue({})
- name: oldAnnotations
  expression: oldObject.metadata.?annotations.orValue({})
- name: labels
  expression: object.metadata.?labels.orValue({})
- name: oldLabels
  expression: oldObject.metadata.?labels.orValue({})
- name: changedAnnotations
  expression: >-
    variables.annotations.filter(k, !(k in variables.oldAnnotations) || variables.oldAnnotations[k] != variables.annotations[k])
    + variables.oldAnnotations.filter(k, !(k in variables.annotations))
- name: changedLabels
  expression: >-
    variables.labels.filter(k, !(k in variables.oldLabels) || variables.oldLabels[k] != variables.labels[k])
    + variables.oldLabels.filter(k, !(k in variables.labels))
{{- end -}}

{{/* Rules of every guard. */}}
{{- define "nightshift.guardRules" -}}
- expression: >-
    variables.leads || !(variables.ns in {{ include "nightshift.protected" . }})
  messageExpression: "'nightshift touches nothing in the namespace ' + variables.ns"
  reason: Forbidden
# What was done before people said no may still be taken back: a pod is not left out of traffic for good.
- expression: >-
    variables.takesBack || [dyn(object), dyn(oldObject), dyn(namespaceObject)].all(o, o == null ||
      (o.metadata.?labels[?'nightshift.dev/do-not-remediate'].orValue('false') == 'false' &&
       o.metadata.?annotations[?'nightshift.dev/do-not-remediate'].orValue('false') == 'false'))
  messageExpression: "'nightshift.dev/do-not-remediate forbids it: ' + (variables.ns == '' ? '' : variables.ns + '/') + request.name"
  reason: Forbidden
- expression: >-
    !variables.update || (object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences &&
      object.metadata.?finalizers == oldObject.metadata.?finalizers)
  message: nightshift changes neither owners nor finalizers
  reason: Forbidden
{{- end -}}

{{/* Nobody but people says what must not be touched. */}}
{{- define "nightshift.annotationRule" -}}
- expression: >-
    !variables.update || variables.changedAnnotations.all(k,
      (k.startsWith('nightshift.dev/') && k != 'nightshift.dev/do-not-remediate'){{ range . }} || k == '{{ . }}'{{ end }})
  messageExpression: "'nightshift may not change these annotations: ' + variables.changedAnnotations.join(', ')"
  reason: Forbidden
{{- end -}}

{{- define "nightshift.labelRule" -}}
- expression: >-
    !variables.update || variables.changedLabels.all(k, k.startsWith('nightshift.dev/') && k != 'nightshift.dev/do-not-remediate')
  messageExpression: "'nightshift may not change these labels: ' + variables.changedLabels.join(', ')"
  reason: Forbidden
{{- end -}}

{{/* CEL list of the namespaces in which nothing is touched. */}}
{{- define "nightshift.protected" -}}
[{{ range $i, $namespace := .Values.admission.protectedNamespaces }}{{ if $i }}, {{ end }}'{{ $namespace }}'{{ end }}]
{{- end -}}

{{/* Writes that are effects, and the beginning of an episode: its status is held by the CRD, once another leader has taken it over. */}}
{{- define "nightshift.fenced" -}}
resourceRules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods, pods/resize, pods/eviction, nodes]
    operations: [CREATE, UPDATE, DELETE]
  - apiGroups: [apps]
    apiVersions: [v1]
    resources:
      - deployments
      - statefulsets
      - daemonsets
      - replicasets
      - controllerrevisions
    operations: [CREATE, UPDATE, DELETE]
  - apiGroups: [autoscaling]
    apiVersions: [v2]
    resources: [horizontalpodautoscalers]
    operations: [CREATE, UPDATE, DELETE]
  - apiGroups: [batch]
    apiVersions: [v1]
    resources: [jobs]
    operations: [CREATE, UPDATE, DELETE]
  - apiGroups: [nightshift.dev]
    apiVersions: [v1alpha1]
    resources: [remediations]
    operations: [CREATE]
{{- end -}}

{{- define "nightshift.fenceVariables" -}}
- name: epoch
  expression: >-
    (request.operation == 'DELETE' ? oldObject : object).metadata.?annotations[?'nightshift.dev/epoch'].orValue('none')
{{- end -}}
