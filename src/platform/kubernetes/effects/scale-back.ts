import { MARKS } from "../marks.ts";
import type { KubeObject } from "../objects.ts";
import { type Lever, levers } from "./scale.ts";
import { annotation, type Deps, type EffectOf, type Handler, nameOf, patch, retryOnConflict, seen } from "./shared.ts";

/** Sets the number of replicas, or the autoscaler's floor, back to what it was, unless somebody has set another since. */
export const scaleBack: Handler<"ScaleBack"> = {
  type: "ScaleBack",

  async apply(effect, deps, signal) {
    const done = await retryOnConflict(deps, signal, () => lower(effect, deps, signal));
    if (done === undefined) return { message: `${effect.workload.name}: there is nothing to take back` };
    await seen(deps, done.kind, done.object, signal);
    return { message: done.message };
  },

  async observe(effect, deps) {
    const found = await raisedBy(effect, deps);
    return found === undefined || annotation(found.object, MARKS.scaledTo) === undefined
      ? { state: "Applied", result: { message: `${effect.workload.name}: the replicas more are taken back` } }
      : { state: "NotApplied" };
  },
};

async function raisedBy({ workload, of }: EffectOf<"ScaleBack">, deps: Deps, signal?: AbortSignal): Promise<Lever | undefined> {
  return (await levers(workload, deps, undefined, signal)).find(({ object }) => annotation(object, MARKS.scaledBy) === of);
}

async function lower(
  effect: EffectOf<"ScaleBack">,
  deps: Deps,
  signal: AbortSignal,
): Promise<{ kind: Lever["kind"]; object: KubeObject; message: string } | undefined> {
  const lever = await raisedBy(effect, deps, signal);
  if (lever === undefined) return undefined;
  const { kind, object, field, now } = lever;
  const [from, to] = [annotation(object, MARKS.scaledFrom), annotation(object, MARKS.scaledTo)];
  if (from === undefined || to === undefined) return undefined;
  const isOurs = Number(to) === now;
  const changed = await patch<KubeObject>(deps, kind, object, effect.id, {
    // Who scaled stays: the same effect does not do it again.
    annotations: { [MARKS.scaledFrom]: null, [MARKS.scaledTo]: null, [MARKS.scaledBackBy]: effect.id },
    ...(isOurs ? { spec: { [field]: Number(from) } } : {}),
  });
  const message = isOurs
    ? `${nameOf(kind, changed)} is back at ${from} replicas`
    : `${nameOf(kind, changed)} was set to ${now} by somebody else since, and is left`;
  return { kind, object: changed, message };
}
