import type { GitOpsField } from "../../ports/platform.ts";
import type { KubeObject, ManagedFields } from "./objects.ts";

/** A field that a GitOps tool keeps as Git has it. */
export interface OwnedField {
  readonly field: GitOpsField;
  /** Such as `spec.replicas`. */
  readonly path: string;
  /** Such as `Argo CD application shop`. */
  readonly owner: string;
}

/** A tool that keeps objects as Git has them. */
interface Tool {
  /** Its field managers, as they stand in `metadata.managedFields`. */
  readonly managers: ReadonlySet<string>;
  /** Who it says it is, by what it puts on an object; `managed` where its field manager has written the object. */
  owner(labels: Labels, annotations: Labels, managed: boolean): string | undefined;
}
type Labels = Readonly<Record<string, string>>;

const TOOLS: readonly Tool[] = [
  {
    managers: new Set(["argocd-controller", "argocd-application-controller"]),
    owner: (labels, annotations, managed) => {
      const tracked = annotations["argocd.argoproj.io/tracking-id"]?.split(":")[0] ?? labels["argocd.argoproj.io/instance"];
      if (tracked !== undefined) return `Argo CD application ${tracked}`;
      // Helm charts set this label too: it says something only beside Argo CD's field manager.
      return managed ? `Argo CD application ${labels["app.kubernetes.io/instance"] ?? "(unnamed)"}` : undefined;
    },
  },
  {
    managers: new Set(["kustomize-controller"]),
    owner: (labels, _annotations, managed) => fluxOwner("Kustomization", "kustomize.toolkit.fluxcd.io", labels, managed),
  },
  {
    managers: new Set(["helm-controller"]),
    owner: (labels, _annotations, managed) => fluxOwner("HelmRelease", "helm.toolkit.fluxcd.io", labels, managed),
  },
];

function fluxOwner(kind: string, prefix: string, labels: Labels, managed: boolean): string | undefined {
  const name = labels[`${prefix}/name`];
  if (name !== undefined) return `Flux ${kind} ${labels[`${prefix}/namespace`] ?? ""}/${name}`;
  return managed ? `Flux ${kind} (unnamed)` : undefined;
}

/** Where each field stands in the spec of a workload, or of a HorizontalPodAutoscaler. */
const FIELDS: readonly { readonly field: GitOpsField; readonly path: string; readonly at: readonly string[] }[] = [
  { field: "replicas", path: "spec.replicas", at: ["f:spec", "f:replicas"] },
  { field: "replicas", path: "spec.minReplicas", at: ["f:spec", "f:minReplicas"] },
  { field: "template", path: "spec.template", at: ["f:spec", "f:template", "f:spec"] },
];

/**
 * The fields of an object that Argo CD or Flux owns: those that `metadata.managedFields` says its field manager has set.
 * Where the object carries a tool's mark and no entry of its manager, all of them count as owned.
 */
export function ownedFields(object: KubeObject): OwnedField[] {
  const { labels = {}, annotations = {}, managedFields = [] } = object.metadata;
  return TOOLS.flatMap((tool) => {
    const entries = managedFields.filter((entry) => tool.managers.has(entry.manager ?? "") && entry.subresource === undefined);
    const owner = tool.owner(labels, annotations, entries.length > 0);
    return owner === undefined ? [] : fieldsOf(object, entries).map((field) => ({ ...field, owner }));
  });
}

function fieldsOf(object: KubeObject, entries: readonly ManagedFields[]): Omit<OwnedField, "owner">[] {
  const has = (at: readonly string[]): boolean =>
    entries.length === 0
      ? valueAt(
          object,
          at.map((part) => part.slice("f:".length)),
        ) !== undefined
      : entries.some((entry) => valueAt(entry.fieldsV1, at) !== undefined);
  const found = FIELDS.filter(({ at }) => has(at)).map(({ field, path }) => ({ field, path }));
  return [...found, ...resourcesOf(object, entries).map((path) => ({ field: "resources" as const, path }))];
}

/** Paths of the containers' resources that are owned. */
function resourcesOf(object: KubeObject, entries: readonly ManagedFields[]): string[] {
  const name = (key: string): string => /"name":"([^"]*)"/.exec(key)?.[1] ?? key;
  const path = (container: string): string => `spec.template.spec.containers[${container}].resources`;
  if (entries.length === 0) {
    const containers = valueAt(object, ["spec", "template", "spec", "containers"]);
    return Array.isArray(containers) ? containers.map((c: { name: string }) => path(c.name)) : [];
  }
  return entries.flatMap((entry) => {
    const containers = valueAt(entry.fieldsV1, ["f:spec", "f:template", "f:spec", "f:containers"]);
    if (typeof containers !== "object" || containers === null) return [];
    return Object.entries(containers)
      .filter(([, fields]) => valueAt(fields, ["f:resources"]) !== undefined)
      .map(([key]) => path(name(key)));
  });
}

function valueAt(object: unknown, path: readonly string[]): unknown {
  let at = object;
  for (const key of path) {
    if (typeof at !== "object" || at === null) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}
