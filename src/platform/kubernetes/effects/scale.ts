import { NightshiftError } from "../../../api/errors.ts";
import type { EffectResult } from "../../../ports/platform.ts";
import { MARKS } from "../marks.ts";
import type { HorizontalPodAutoscaler, KubeObject, Owner } from "../objects.ts";
import { autoscalerOf, readOwner, refuseOwned, type TemplatedKind, templatedKind } from "./owner.ts";
import { annotation, apply, type Deps, type EffectOf, type Handler, nameOf, read, retryOnConflict, seen } from "./shared.ts";

/** What decides how many replicas a workload has: itself, or the floor of its autoscaler. */
export type Lever =
  | { readonly kind: "Deployment" | "StatefulSet"; readonly object: Owner; readonly field: "replicas"; readonly now: number }
  | {
      readonly kind: "HorizontalPodAutoscaler";
      readonly object: HorizontalPodAutoscaler;
      readonly field: "minReplicas";
      readonly now: number;
    };

/**
 * Gives a workload more replicas, never fewer. Where a HorizontalPodAutoscaler has them, its floor is raised, up to its
 * `maxReplicas`: a number written past it would be taken back. What there was before stays on the object, for the way
 * back; number, way back, id and epoch are one write, so that no crash can come between them. They are therefore stated
 * on the object and not on its scale subresource, which has no annotations.
 */
export const scale: Handler<"Scale"> = {
  type: "Scale",

  async apply(effect, deps, signal) {
    const { result, kind, object } = await retryOnConflict(deps, signal, () => raise(effect, deps, signal));
    await seen(deps, kind, object, signal);
    return result;
  },

  async observe({ id, workload }, deps) {
    for (const { kind, object, now } of await levers(workload, deps))
      if (annotation(object, MARKS.scaledBy) === id) return { state: "Applied", result: raised(kind, object, now) };
    return { state: "NotApplied" };
  },
};

function raised(kind: string, object: KubeObject, to: number): EffectResult {
  const from = annotation(object, MARKS.scaledFrom);
  const what = kind === "HorizontalPodAutoscaler" ? "at least " : "";
  return { message: `${nameOf(kind, object)} asks for ${what}${to} replicas${from === undefined ? "" : `, instead of ${from}`}` };
}

async function raise(
  effect: EffectOf<"Scale">,
  deps: Deps,
  signal: AbortSignal,
): Promise<{ result: EffectResult } & Pick<Lever, "kind" | "object">> {
  const { id, workload, replicas } = effect;
  const owner = await readOwner(deps, scalable(workload), workload, signal);
  const [lever] = await levers(workload, deps, owner, signal);
  if (lever === undefined) throw new NightshiftError("NOT_FOUND", `${workload.name} is gone`);
  const { kind, object, field, now } = lever;
  if (annotation(object, MARKS.scaledBy) === id) return { kind, object, result: raised(kind, object, now) };
  const has = owner.spec.replicas ?? 1;
  const most = lever.kind === "HorizontalPodAutoscaler" ? Math.min(replicas, lever.object.spec.maxReplicas) : replicas;
  if (has >= replicas || now >= replicas)
    return { kind, object, result: { message: `${workload.name} has ${Math.max(has, now)} replicas already` } };
  if (most <= has || most <= now)
    throw new NightshiftError(
      "SCALE_LIMIT",
      `${nameOf(kind, object)} allows no more than ${most} replicas (spec.maxReplicas), and there are ${has}`,
    );
  refuseOwned(kind, object, ["replicas"]);
  const annotations = {
    [MARKS.scaledBy]: id,
    [MARKS.scaledFrom]: String(now),
    [MARKS.scaledTo]: String(most),
    [MARKS.scaledBackBy]: null,
  };
  const changed = await apply<KubeObject>(deps, kind, object, id, { annotations, spec: { [field]: most } }, signal);
  return { kind, object: changed as Owner & HorizontalPodAutoscaler, result: raised(kind, changed, most) };
}

function scalable(workload: EffectOf<"Scale">["workload"]): TemplatedKind {
  const kind = templatedKind(workload, "scaling");
  if (kind === "DaemonSet") throw new NightshiftError("EFFECT_NOT_SUPPORTED", `${nameOf(kind, workload)} has one replica a node`);
  return kind;
}

/** The levers of a workload that exist: the one that counts first. */
export async function levers(workload: EffectOf<"Scale">["workload"], deps: Deps, known?: Owner, signal?: AbortSignal): Promise<Lever[]> {
  const kind = scalable(workload) as "Deployment" | "StatefulSet";
  const [owner, autoscaler] = await Promise.all([known ?? read<Owner>(deps, kind, workload, signal), autoscalerOf(workload, deps, signal)]);
  return [
    ...(autoscaler === undefined
      ? []
      : [
          {
            kind: "HorizontalPodAutoscaler" as const,
            object: autoscaler,
            field: "minReplicas" as const,
            now: autoscaler.spec.minReplicas ?? 1,
          },
        ]),
    ...(owner === undefined ? [] : [{ kind, object: owner, field: "replicas" as const, now: owner.spec.replicas ?? 1 }]),
  ];
}
