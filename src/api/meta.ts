import { z } from "zod";

/** The API group and version of every Nightshift resource. */
export const API_VERSION = "nightshift.dev/v1alpha1";

/** On a pod, process, workload, node or namespace, as label or annotation with any value but `false`: never touched. */
export const DO_NOT_REMEDIATE = "nightshift.dev/do-not-remediate";

/** The names of the six kinds. */
export const KINDS = [
  "RemediationPolicy",
  "Runbook",
  "Remediation",
  "RemediationBudget",
  "RemediationApproval",
  "ServiceDependency",
] as const;
export type Kind = (typeof KINDS)[number];

/** Kinds that belong to no namespace. */
export const CLUSTER_SCOPED: ReadonlySet<Kind> = new Set(["RemediationBudget"]);

/** A name as Kubernetes allows it (RFC 1123 subdomain, 253 characters at most). */
export const objectName = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, {
    error: "expected lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
  });

const textMap = z.record(z.string(), z.string());

/** Metadata as Kubernetes has it. Everything but name, namespace, labels and annotations is set by the store. */
export const metadataSchema = z.strictObject({
  name: objectName.meta({ description: "Unique in its namespace and kind." }),
  namespace: objectName.default("default").meta({ description: "The team's namespace. Default `default`." }),
  labels: textMap.optional().meta({ description: "For selection." }),
  annotations: textMap.optional().meta({ description: "For notes; never selected on." }),
  uid: z.string().optional().meta({ description: "Set by the store: unique over all time." }),
  resourceVersion: z
    .string()
    .optional()
    .meta({ description: "Set by the store: opaque, changes with every write. An update must carry the one it read." }),
  generation: z.int().optional().meta({ description: "Set by the store: counts the changes of `spec`." }),
  creationTimestamp: z.iso.datetime().optional().meta({ description: "Set by the store." }),
});
export type Metadata = z.output<typeof metadataSchema>;

/** A reference to something that a signal is about or that a step acts on. */
export const targetRefSchema = z.strictObject({
  kind: z.string().meta({ description: "`Deployment`, `StatefulSet`, `Pod`, `Node` and so on; on one machine `Workload` or `Process`." }),
  namespace: z.string().default("default").meta({ description: "Namespace of the target. Default `default`." }),
  name: z.string().meta({ description: "Name of the target." }),
  uid: z.string().optional().meta({ description: "Identity over time: a pod that was replaced has another." }),
});
export type TargetRef = z.output<typeof targetRefSchema>;

/** `kind/namespace/name` (and `#uid`), for messages and keys. */
export function targetKey(ref: TargetRef): string {
  return `${ref.kind}/${ref.namespace}/${ref.name}`;
}

/** Whether two references mean the same thing: by uid where both have one, else by kind, namespace and name. */
export function sameTarget(a: TargetRef, b: TargetRef): boolean {
  if (a.uid !== undefined && b.uid !== undefined) return a.uid === b.uid;
  return a.kind === b.kind && a.namespace === b.namespace && a.name === b.name;
}

/** One observation of a resource's state, as Kubernetes has it (`metav1.Condition`). */
export const conditionSchema = z.strictObject({
  type: z.string().max(316).meta({ description: "What it is about." }),
  status: z.enum(["True", "False", "Unknown"]).meta({ description: "Whether it holds." }),
  observedGeneration: z.int().min(0).optional().meta({ description: "The `metadata.generation` that it was found for." }),
  reason: z.string().meta({ description: "Why, in one word." }),
  message: z.string().default("").meta({ description: "Why, for people." }),
  lastTransitionTime: z.iso.datetime().meta({ description: "Since when." }),
});
export type Condition = z.output<typeof conditionSchema>;

/** A resource of the given kind. */
export function resourceSchema<K extends Kind, S extends z.ZodType>(kind: K, spec: S) {
  return z.strictObject({
    apiVersion: z.literal(API_VERSION).meta({ description: `Always \`${API_VERSION}\`.` }),
    kind: z.literal(kind).meta({ description: `Always \`${kind}\`.` }),
    metadata: metadataSchema.meta({ description: "Name, namespace, labels and annotations, as Kubernetes has them." }),
    spec: spec.meta({ description: "What is wanted." }),
  });
}
