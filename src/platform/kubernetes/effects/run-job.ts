import { createHash } from "node:crypto";
import { NightshiftError } from "../../../api/errors.ts";
import type { TargetRef } from "../../../api/meta.ts";
import { isAlreadyExists, isNotFound } from "../errors.ts";
import { MARKS } from "../marks.ts";
import type { Job, KubeList, Owner, Pod } from "../objects.ts";
import { mainContainer } from "../records.ts";
import { readOwner, templatedKind } from "./owner.ts";
import { annotation, type Deps, type EffectOf, gone, type Handler, signed, until } from "./shared.ts";

/** How long an ended Job is kept (s): longer than any rung, so that it is found by whoever looks for it after a crash. */
const KEPT_S = 86_400;
/** How long a Job may run at most (s), whatever becomes of Nightshift. */
const DEADLINE_S = 3_600;
/** Longest name that a Job's pods can be labelled with. */
const NAME_LENGTH = 63;

/**
 * Runs a command to its end, as a Job in the workload's image and environment. Its name comes from the effect's id, so that
 * the API server itself keeps it from running twice. It runs restricted, without a ServiceAccount's token, and carries no
 * label that a Service could select it by.
 */
export const runJob: Handler<"RunJob"> = {
  type: "RunJob",

  async apply(effect, deps, signal) {
    const ref = { kind: "Job", namespace: effect.workload.namespace, name: jobName(effect) };
    if ((await readJob(ref, deps, signal)) === undefined) await create(effect, ref, deps, signal);
    let last = "it has not begun";
    try {
      const end = await until(
        deps,
        signal,
        () => `Job ${ref.name}: ${last}`,
        async () => {
          const job = await readJob(ref, deps, signal);
          if (job === undefined)
            throw new NightshiftError("EFFECT_UNKNOWN", `Job ${ref.name} was deleted by somebody else before it had ended`);
          refuseAnother(effect, job);
          last = (await obstacle(ref, deps, signal)) ?? `${job.status?.active ?? 0} of its pods are active`;
          return endOf(job);
        },
      );
      if (!end.ok) throw new NightshiftError("JOB_FAILED", `the job failed: ${end.message}`, { where: `Job ${ref.namespace}/${ref.name}` });
      return { message: `Job ${ref.name} completed` };
    } catch (error) {
      if (signal.aborted) await cutOff(effect.id, ref, deps);
      throw error;
    }
  },

  async observe(effect, deps) {
    const job = await readJob({ kind: "Job", namespace: effect.workload.namespace, name: jobName(effect) }, deps);
    const end = job === undefined ? undefined : endOf(job);
    if (end === undefined) return { state: "NotApplied" };
    if (end.ok) return { state: "Applied", result: { message: `Job ${jobName(effect)} completed` } };
    return { state: "Unknown", why: `the job was run: ${end.message}` };
  },
};

function jobName({ id, workload }: Pick<EffectOf<"RunJob">, "id" | "workload">): string {
  const suffix = createHash("sha256").update(id).digest("hex").slice(0, 16);
  return `${`nightshift-${workload.name}`.slice(0, NAME_LENGTH - suffix.length - 1).replace(/[-.]+$/, "")}-${suffix}`;
}

function path(namespace: string, name?: string): string {
  return `/apis/batch/v1/namespaces/${namespace}/jobs${name === undefined ? "" : `/${name}`}`;
}

async function readJob(ref: TargetRef, deps: Deps, signal?: AbortSignal): Promise<Job | undefined> {
  try {
    return await deps.client.request<Job>({
      method: "GET",
      path: path(ref.namespace, ref.name),
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

function refuseAnother({ id }: EffectOf<"RunJob">, job: Job): void {
  const by = annotation(job, MARKS.effect);
  if (by !== id) throw new NightshiftError("CONFLICTING_EFFECT", `Job ${job.metadata.name} was made by ${by ?? "somebody else"}`);
}

async function create(effect: EffectOf<"RunJob">, ref: TargetRef, deps: Deps, signal: AbortSignal): Promise<void> {
  const kind = templatedKind(effect.workload, "a job");
  const owner = await readOwner(deps, kind, effect.workload, signal);
  try {
    await deps.client.request({ method: "POST", path: path(ref.namespace), body: jobOf(effect, ref, owner, deps), signal });
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
  }
}

function jobOf({ id, workload, command }: EffectOf<"RunJob">, ref: TargetRef, owner: Owner, deps: Deps): unknown {
  const spec = owner.spec.template?.spec;
  const name = spec === undefined ? "" : mainContainer({ spec, metadata: owner.spec.template?.metadata ?? {} });
  const container = spec?.containers.find((candidate) => candidate.name === name);
  if (spec === undefined || container?.image === undefined) throw gone("a container of", workload);
  const labels = { "app.kubernetes.io/managed-by": "nightshift" };
  const { runAsUser, runAsGroup, fsGroup, supplementalGroups } = { ...spec.securityContext, ...container.securityContext } as Record<
    string,
    unknown
  >;
  const identity = Object.fromEntries(Object.entries({ runAsUser, runAsGroup }).filter(([, value]) => value !== undefined));
  const groups = Object.fromEntries(Object.entries({ fsGroup, supplementalGroups }).filter(([, value]) => value !== undefined));
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: ref.name, namespace: ref.namespace, labels, annotations: signed(deps, id) },
    spec: {
      backoffLimit: 0,
      ttlSecondsAfterFinished: KEPT_S,
      activeDeadlineSeconds: DEADLINE_S,
      template: {
        metadata: { labels, annotations: { [MARKS.effect]: id } },
        spec: {
          restartPolicy: "Never",
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          ...(spec.imagePullSecrets === undefined ? {} : { imagePullSecrets: spec.imagePullSecrets }),
          securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" }, ...identity, ...groups },
          containers: [
            {
              name: "job",
              image: container.image,
              ...(container["imagePullPolicy"] === undefined ? {} : { imagePullPolicy: container["imagePullPolicy"] }),
              command,
              ...(container.env === undefined ? {} : { env: container.env }),
              ...(container.envFrom === undefined ? {} : { envFrom: container.envFrom }),
              ...(container.resources === undefined ? {} : { resources: container.resources }),
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
            },
          ],
        },
      },
    },
  };
}

/** How a Job ended; undefined while it has not. */
function endOf(job: Job): { readonly ok: boolean; readonly message: string } | undefined {
  for (const { type, status, reason, message } of job.status?.conditions ?? []) {
    if (status !== "True") continue;
    if (type === "Complete") return { ok: true, message: "completed" };
    if (type === "Failed") return { ok: false, message: message ?? reason ?? "it gave no reason" };
  }
  return undefined;
}

/** What keeps the Job's pod from beginning, such as an image that would run as root. */
async function obstacle(ref: TargetRef, deps: Deps, signal: AbortSignal): Promise<string | undefined> {
  const { items } = await deps.client.request<KubeList<Pod>>({
    method: "GET",
    path: `/api/v1/namespaces/${ref.namespace}/pods`,
    query: { labelSelector: `batch.kubernetes.io/job-name=${ref.name}` },
    signal,
  });
  const waiting = items?.[0]?.status?.containerStatuses?.[0]?.state?.waiting;
  return waiting === undefined || waiting.reason === "ContainerCreating" ? undefined : `${waiting.reason ?? ""}: ${waiting.message ?? ""}`;
}

/** Ends a Job whose time is up; what it did so far stays on record by its pod's end. */
async function cutOff(id: string, ref: TargetRef, deps: Deps): Promise<void> {
  const job = await readJob(ref, deps);
  if (job === undefined || endOf(job) !== undefined) return;
  await deps.client.request({
    method: "PATCH",
    path: path(ref.namespace, ref.name),
    contentType: "application/merge-patch+json",
    // Ended by its own deadline it stays, and says so to whoever looks for it.
    body: {
      metadata: { resourceVersion: job.metadata.resourceVersion, annotations: signed(deps, id) },
      spec: { activeDeadlineSeconds: 1 },
    },
  });
}
