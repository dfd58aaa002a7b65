import { z } from "zod";
import { objectName } from "./meta.ts";
import { duration, positiveDuration, quantity } from "./units.ts";

/** `name`, or `namespace/name`. */
const workloadName = z
  .string()
  .max(507)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(\/[a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$/, {
    error: "expected the name of a workload, such as payments or shop/payments",
  });

const textMap = z.record(z.string(), z.string());

/** A workload of a described cluster. */
const describedWorkloadSchema = z.strictObject({
  kind: z.enum(["Deployment", "StatefulSet"]).default("Deployment").meta({ description: "Its kind. Default `Deployment`." }),
  namespace: objectName.default("default").meta({ description: "Its namespace. Default `default`." }),
  name: objectName.meta({ description: "Its name." }),
  labels: textMap.default({}).meta({ description: "Its labels, for policies that select by them." }),
  podLabels: textMap.default({}).meta({ description: "Labels of its pods, for policies that select pods." }),
  replicas: z.int().min(1).max(1_000).default(3).meta({ description: "How many it should have. Default 3." }),
  nodes: z
    .array(objectName)
    .max(1_000)
    .default([])
    .meta({ description: "Nodes that its replicas are on, one each. Default: spread over all of them." }),
  startup: positiveDuration.default("10s").meta({ description: "From a pod's creation to its readiness. Default `10s`." }),
  grace: duration.default("5s").meta({ description: "From a pod's deletion to its end. Default `5s`." }),
  memoryLimit: quantity.optional().meta({ description: "Memory limit of each pod. Default `512Mi`." }),
  minAvailable: z
    .int()
    .min(0)
    .optional()
    .meta({ description: "What its PodDisruptionBudget keeps available, in replicas. Default: it has none." }),
  autoscaler: z
    .strictObject({
      min: z.int().min(1).meta({ description: "`minReplicas`." }),
      max: z.int().min(1).meta({ description: "`maxReplicas`." }),
    })
    .refine(({ min, max }) => min <= max, { error: "min is more than max" })
    .optional()
    .meta({ description: "Its HorizontalPodAutoscaler. Default: it has none." }),
  requestsPerSecond: z
    .number()
    .min(0)
    .max(1_000_000)
    .default(20)
    .meta({ description: "Requests to it. Default 20; 0 for what serves nobody." }),
  calls: z
    .array(workloadName)
    .max(100)
    .default([])
    .meta({ description: "Workloads that it calls: `name` of its own namespace, or `namespace/name`. What fails there fails here." }),
  servesActions: z
    .boolean()
    .default(false)
    .meta({ description: "Its pods serve actions (`ResetConnectionPool`, `invoke`). Default false." }),
  doNotRemediate: z.boolean().default(false).meta({ description: "It carries `nightshift.dev/do-not-remediate`." }),
  gitOps: z.string().min(1).optional().meta({ description: "The GitOps tool that owns its replicas and its template, such as `argocd`." }),
});
export type DescribedWorkload = z.output<typeof describedWorkloadSchema>;

/** Most workloads of a described cluster, and longest text of its file. */
export const MAX_WORKLOADS = 2_000;
export const MAX_CLUSTER_CHARS = 4_194_304;

/** A cluster as a file describes it: what rehearsals are played on. */
export const clusterSchema = z.strictObject({
  capturedAt: z.iso.datetime().optional().meta({ description: "When `nightshift snapshot` took it." }),
  nodes: z
    .array(
      z.strictObject({
        name: objectName.meta({ description: "Its name." }),
        zone: z.string().min(1).optional().meta({ description: "Its failure zone." }),
        labels: textMap.optional().meta({ description: "Its labels, for policies that select nodes by them." }),
      }),
    )
    .min(1)
    .max(5_000)
    .meta({ description: "Its nodes." }),
  workloads: z.array(describedWorkloadSchema).min(1).max(MAX_WORKLOADS).meta({ description: "What runs on it." }),
});
export type Cluster = z.output<typeof clusterSchema>;
export { workloadName };
