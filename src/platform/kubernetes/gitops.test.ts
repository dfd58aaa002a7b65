import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ownedFields } from "./gitops.ts";
import type { KubeObject, ManagedFields } from "./objects.ts";

type Labels = Readonly<Record<string, string>>;

function object(metadata: { labels?: Labels; annotations?: Labels; managedFields?: readonly ManagedFields[] }): KubeObject {
  return {
    metadata: { name: "payments", namespace: "shop", uid: "u", resourceVersion: "1", ...metadata },
    spec: { replicas: 3, template: { spec: { containers: [{ name: "main" }] } } },
  } as KubeObject;
}
const applied = (manager: string, fields: object, extra: object = {}): ManagedFields => ({
  manager,
  operation: "Apply",
  fieldsV1: { "f:spec": fields },
  ...extra,
});
const REPLICAS = { "f:replicas": {} };
const IMAGE = { "f:template": { "f:spec": { "f:containers": { 'k:{"name":"main"}': { "f:image": {} } } } } };
const MEMORY = { "f:template": { "f:spec": { "f:containers": { 'k:{"name":"main"}': { "f:resources": { "f:limits": {} } } } } } };
const TRACKED = { "argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/payments" };
const FLUX = { "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system" };
const said = (o: KubeObject): string[] => ownedFields(o).map(({ path, owner }) => `${path} ${owner}`);

describe("what a GitOps tool owns", () => {
  for (const [what, given, expected] of [
    ["nothing of what people applied", object({ managedFields: [applied("kubectl", { ...REPLICAS, ...IMAGE })] }), []],
    [
      "nothing of what Helm alone installed, whatever its labels",
      object({
        labels: { "app.kubernetes.io/instance": "shop", "app.kubernetes.io/managed-by": "Helm" },
        managedFields: [applied("helm", IMAGE)],
      }),
      [],
    ],
    [
      "what Argo CD's field manager has set",
      object({ annotations: TRACKED, managedFields: [applied("argocd-controller", REPLICAS), applied("kubectl", IMAGE)] }),
      ["spec.replicas Argo CD application shop"],
    ],
    [
      "what Argo CD has set, known by the label that it shares with charts",
      object({ labels: { "app.kubernetes.io/instance": "shop" }, managedFields: [applied("argocd-controller", IMAGE)] }),
      ["spec.template Argo CD application shop"],
    ],
    [
      "what Flux's field managers have set",
      object({ labels: FLUX, managedFields: [applied("kustomize-controller", MEMORY)] }),
      [
        "spec.template Flux Kustomization flux-system/apps",
        "spec.template.spec.containers[main].resources Flux Kustomization flux-system/apps",
      ],
    ],
    [
      "what helm-controller has set",
      object({
        labels: { "helm.toolkit.fluxcd.io/name": "pay", "helm.toolkit.fluxcd.io/namespace": "shop" },
        managedFields: [applied("helm-controller", REPLICAS)],
      }),
      ["spec.replicas Flux HelmRelease shop/pay"],
    ],
    [
      "not the replicas that Git leaves out",
      object({ labels: FLUX, managedFields: [applied("kustomize-controller", { "f:paused": {} })] }),
      [],
    ],
    [
      "not what a status says",
      object({
        labels: FLUX,
        managedFields: [applied("kustomize-controller", {}), applied("kustomize-controller", REPLICAS, { subresource: "scale" })],
      }),
      [],
    ],
    [
      "everything, where it says that it owns the object and not what of it",
      object({ labels: FLUX }),
      [
        "spec.replicas Flux Kustomization flux-system/apps",
        "spec.template Flux Kustomization flux-system/apps",
        "spec.template.spec.containers[main].resources Flux Kustomization flux-system/apps",
      ],
    ],
  ] as const)
    it(what, () => assert.deepEqual(said(given), expected));

  it("an autoscaler's floor is a number of replicas", () => {
    const hpa = {
      ...object({ labels: FLUX, managedFields: [applied("kustomize-controller", { "f:minReplicas": {} })] }),
      spec: { minReplicas: 2 },
    };
    assert.deepEqual(ownedFields(hpa), [{ field: "replicas", path: "spec.minReplicas", owner: "Flux Kustomization flux-system/apps" }]);
  });
});
