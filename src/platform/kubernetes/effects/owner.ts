import { NightshiftError } from "../../../api/errors.ts";
import type { TargetRef } from "../../../api/meta.ts";
import type { GitOpsField } from "../../../ports/platform.ts";
import { ownedFields } from "../gitops.ts";
import type { HorizontalPodAutoscaler, KubeObject, Owner } from "../objects.ts";
import { type Deps, gone, list, nameOf, read, refuseMarked } from "./shared.ts";

/** Kinds of workload that have a pod template which people change. */
export const TEMPLATED = ["Deployment", "StatefulSet", "DaemonSet"] as const;
export type TemplatedKind = (typeof TEMPLATED)[number];

/** The kind of a workload that an effect changes. Rejects with `EFFECT_NOT_SUPPORTED` for another. */
export function templatedKind(ref: TargetRef, what: string): TemplatedKind {
  const kind = TEMPLATED.find((candidate) => candidate === ref.kind);
  if (kind === undefined) throw new NightshiftError("EFFECT_NOT_SUPPORTED", `${what} cannot be done to ${nameOf(ref.kind, ref)}`);
  return kind;
}

/** The workload that an effect changes. Rejects with `NOT_FOUND` or `DO_NOT_REMEDIATE`. */
export async function readOwner(deps: Deps, kind: TemplatedKind, ref: TargetRef, signal: AbortSignal): Promise<Owner> {
  const owner = await read<Owner>(deps, kind, ref, signal);
  if (owner === undefined) throw gone(kind, ref);
  refuseMarked(kind, owner);
  return owner;
}

/** Refuses the change of a field that a GitOps tool owns, as the API server has it now. */
export function refuseOwned(kind: string, object: KubeObject, fields: readonly GitOpsField[]): void {
  const owned = ownedFields(object).find(({ field }) => fields.includes(field));
  if (owned === undefined) return;
  throw new NightshiftError(
    "GITOPS_OWNED",
    `${owned.path} of ${nameOf(kind, object)} is owned by ${owned.owner}, which would take a change back`,
    { fix: "Change it in Git, or leave the field out there." },
  );
}

/** Refuses a rollout that the workload's own settings would not carry out. */
export function refuseUnrollable(kind: TemplatedKind, owner: Owner): void {
  const why = owner.spec.paused === true ? "spec.paused is true" : undefined;
  const manual = owner.spec.updateStrategy?.type === "OnDelete" ? "spec.updateStrategy is OnDelete" : undefined;
  const message = why ?? manual;
  if (message !== undefined) throw new NightshiftError("NOT_ROLLABLE", `${nameOf(kind, owner)} would not be rolled out: ${message}`);
}

/** The HorizontalPodAutoscaler that has the workload's replicas, where there is one. */
export async function autoscalerOf(ref: TargetRef, deps: Deps, signal?: AbortSignal): Promise<HorizontalPodAutoscaler | undefined> {
  const all = await list<HorizontalPodAutoscaler>(deps, "HorizontalPodAutoscaler", ref.namespace, {}, signal);
  return all.find(({ spec: { scaleTargetRef } }) => scaleTargetRef.kind === ref.kind && scaleTargetRef.name === ref.name);
}
