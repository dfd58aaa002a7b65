import { NightshiftError } from "../../../api/errors.ts";
import type { EffectResult } from "../../../ports/platform.ts";
import { DEPLOYMENT_REVISION, MARKS, POD_TEMPLATE_HASH } from "../marks.ts";
import type { ControllerRevision, Owner, Pod } from "../objects.ts";
import { objectPath, templateHash } from "../records.ts";
import { selectorText } from "../selector.ts";
import { readOwner, refuseOwned, refuseUnrollable, type TemplatedKind, templatedKind } from "./owner.ts";
import { removePod } from "./removal.ts";
import {
  annotation,
  type Deps,
  type EffectOf,
  gone,
  type Handler,
  isReady,
  list,
  nameOf,
  read,
  retryOnConflict,
  seen,
  signed,
} from "./shared.ts";

/** Label of a StatefulSet's pod: the revision that it is of. */
const CONTROLLER_REVISION_HASH = "controller-revision-hash";
/** How many revisions that were rolled back from are remembered. */
const REMEMBERED = 10;

/** Gives a workload the pod template of an earlier revision, as `kubectl rollout undo` does. */
export const rollback: Handler<"Rollback"> = {
  type: "Rollback",

  async apply(effect, deps, signal) {
    const kind = templatedKind(effect.workload, "a rollback");
    const owner = await retryOnConflict(deps, signal, () => undo(kind, effect, deps, signal));
    if (kind === "StatefulSet") await clearStuck(owner, effect, deps, signal);
    await seen(deps, kind, owner, signal);
    return rolledBack(kind, owner, effect.revision);
  },

  async observe(effect, deps) {
    const kind = templatedKind(effect.workload, "a rollback");
    const owner = await read<Owner>(deps, kind, effect.workload);
    return owner !== undefined && annotation(owner, MARKS.rolledBackBy) === effect.id
      ? { state: "Applied", result: rolledBack(kind, owner, effect.revision) }
      : { state: "NotApplied" };
  },
};

function rolledBack(kind: string, owner: Owner, revision: string): EffectResult {
  return { message: `${nameOf(kind, owner)} is rolled back to ${revision}`, revision: templateHash(owner.spec.template) };
}

async function undo(kind: TemplatedKind, effect: EffectOf<"Rollback">, deps: Deps, signal: AbortSignal): Promise<Owner> {
  const { id, workload, revision } = effect;
  const owner = await readOwner(deps, kind, workload, signal);
  if (annotation(owner, MARKS.rolledBackBy) === id) return owner;
  refuseUnrollable(kind, owner);
  refuseOwned(kind, owner, ["template", "resources"]);
  const annotations = (current: string): Record<string, string> => ({
    ...signed(deps, id),
    [MARKS.rolledBackBy]: id,
    // What was left is not gone back to, however well it seemed.
    [MARKS.rolledBackFrom]: [...(annotation(owner, MARKS.rolledBackFrom) ?? "").split(",").filter((name) => name !== ""), current]
      .slice(-REMEMBERED)
      .join(","),
  });
  return kind === "Deployment"
    ? undoDeployment(owner, revision, annotations, deps, signal)
    : undoByRevision(kind, owner, revision, annotations, deps, signal);
}

async function undoDeployment(
  owner: Owner,
  revision: string,
  annotations: (current: string) => Record<string, string>,
  deps: Deps,
  signal: AbortSignal,
): Promise<Owner> {
  const { namespace = "", name, uid, resourceVersion } = owner.metadata;
  const query = { labelSelector: selectorText(owner.spec.selector ?? {}) };
  const sets = (await list<Owner>(deps, "ReplicaSet", namespace, query, signal)).filter(
    ({ metadata }) => metadata.ownerReferences?.some((reference) => reference.uid === uid) ?? false,
  );
  const target = sets.find((set) => set.metadata.name === revision);
  if (target === undefined) throw gone("ReplicaSet", { kind: "ReplicaSet", namespace, name: revision });
  const number = (set: Owner): number => Number(annotation(set, DEPLOYMENT_REVISION) ?? 0);
  const current = sets.toSorted((a, b) => number(b) - number(a))[0];
  if (current === target) throw new NightshiftError("EFFECT_FAILED", `${nameOf("Deployment", owner)} is at ${revision} already`);
  const { [POD_TEMPLATE_HASH]: _hash, ...labels } = target.spec.template?.metadata?.labels ?? {};
  const template = { ...target.spec.template, metadata: { ...target.spec.template?.metadata, labels } };
  // A JSON patch, as a merge would leave what the earlier template does not have. The resourceVersion in it makes it conditional.
  return deps.client.request<Owner>({
    method: "PATCH",
    path: objectPath("Deployment", namespace, name),
    contentType: "application/json-patch+json",
    body: [
      { op: "replace", path: "/metadata/resourceVersion", value: resourceVersion },
      { op: "replace", path: "/spec/template", value: template },
      {
        op: "add",
        path: "/metadata/annotations",
        value: { ...owner.metadata.annotations, ...annotations(current?.metadata.name ?? "") },
      },
    ],
    signal,
  });
}

/** StatefulSets and DaemonSets keep their revisions as patches. */
async function undoByRevision(
  kind: "StatefulSet" | "DaemonSet",
  owner: Owner,
  revision: string,
  annotations: (current: string) => Record<string, string>,
  deps: Deps,
  signal: AbortSignal,
): Promise<Owner> {
  const { namespace = "", name, uid, resourceVersion } = owner.metadata;
  const all = (await list<ControllerRevision>(deps, "ControllerRevision", namespace, {}, signal)).filter(
    ({ metadata }) => metadata.ownerReferences?.some((reference) => reference.uid === uid) ?? false,
  );
  const target = all.find((candidate) => candidate.metadata.name === revision);
  if (target === undefined) throw gone("ControllerRevision", { kind: "ControllerRevision", namespace, name: revision });
  const current = all.toSorted((a, b) => b.revision - a.revision)[0];
  if (current === target) throw new NightshiftError("EFFECT_FAILED", `${nameOf(kind, owner)} is at ${revision} already`);
  return deps.client.request<Owner>({
    method: "PATCH",
    path: objectPath(kind, namespace, name),
    contentType: "application/strategic-merge-patch+json",
    body: { ...(target.data as object), metadata: { resourceVersion, annotations: annotations(current?.metadata.name ?? "") } },
    signal,
  });
}

/**
 * A StatefulSet waits for a pod that never becomes ready before it replaces it (Kubernetes' documentation calls the way out
 * a forced rollback): pods of other revisions that are not ready are taken away.
 */
async function clearStuck(owner: Owner, { id, revision }: EffectOf<"Rollback">, deps: Deps, signal: AbortSignal): Promise<void> {
  const { namespace = "", uid } = owner.metadata;
  const query = { labelSelector: selectorText(owner.spec.selector ?? {}) };
  for (const pod of await list<Pod>(deps, "Pod", namespace, query, signal)) {
    const { metadata } = pod;
    const isOwned = metadata.ownerReferences?.some((reference) => reference.uid === uid) ?? false;
    if (!isOwned || isReady(pod) || metadata.labels?.[CONTROLLER_REVISION_HASH] === revision) continue;
    const ref = { kind: "Pod", namespace, name: metadata.name, uid: metadata.uid };
    await removePod(id, ref, { by: "Stop", gracePeriodMs: 0 }, deps, signal);
  }
}
