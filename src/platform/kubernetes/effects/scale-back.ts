import { isOwn } from "../managed-fields.ts";
import { MARKS } from "../marks.ts";
import type { KubeObject } from "../objects.ts";
import { type Lever, levers } from "./scale.ts";
import { annotation, apply, type Deps, type EffectOf, type Handler, nameOf, retryOnConflict, seen } from "./shared.ts";

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
  const isLastWriter = isOwn(object, ["f:spec", `f:${field}`]);
  const isOurs = Number(to) === now && isLastWriter;
  // Who scaled stays: the same effect does not do it again.
  const annotations = { [MARKS.scaledFrom]: null, [MARKS.scaledTo]: null, [MARKS.scaledBackBy]: effect.id };
  // What others state too is theirs from now on. What they do not would be gone, and the replicas be one.
  const left = isLastWriter ? undefined : { [field]: null };
  const changed = await apply<KubeObject>(
    deps,
    kind,
    object,
    effect.id,
    { annotations, spec: isOurs ? { [field]: Number(from) } : left },
    signal,
  );
  const message = isOurs
    ? `${nameOf(kind, changed)} is back at ${from} replicas`
    : `${nameOf(kind, changed)} was set to ${now} by somebody else since, and is left`;
  return { kind, object: changed, message };
}
