import { timestamp } from "../../../api/time.ts";
import type { EffectResult } from "../../../ports/platform.ts";
import { MARKS, RESTARTED_AT } from "../marks.ts";
import type { Owner } from "../objects.ts";
import { templateHash } from "../records.ts";
import { readOwner, refuseUnrollable, templatedKind } from "./owner.ts";
import { annotation, apply, type Handler, nameOf, read, retryOnConflict, seen } from "./shared.ts";

/** Restarts a workload by a rollout, as `kubectl rollout restart` does. */
export const rolloutRestart: Handler<"RolloutRestart"> = {
  type: "RolloutRestart",

  async apply({ id, workload }, deps, signal) {
    const kind = templatedKind(workload, "a rollout");
    const owner = await retryOnConflict(deps, signal, async () => {
      const found = await readOwner(deps, kind, workload, signal);
      if (annotation(found, MARKS.restartedBy) === id) return found;
      refuseUnrollable(kind, found);
      const restartedAt = { [RESTARTED_AT]: timestamp(deps.clock.now()) };
      const spec = { template: { metadata: { annotations: restartedAt } } };
      return apply(deps, kind, found, id, { annotations: { [MARKS.restartedBy]: id }, spec }, signal);
    });
    await seen(deps, kind, owner, signal);
    return restarted(kind, owner);
  },

  async observe({ id, workload }, deps) {
    const kind = templatedKind(workload, "a rollout");
    const owner = await read<Owner>(deps, kind, workload);
    return owner !== undefined && annotation(owner, MARKS.restartedBy) === id
      ? { state: "Applied", result: restarted(kind, owner) }
      : { state: "NotApplied" };
  },
};

function restarted(kind: string, owner: Owner): EffectResult {
  return { message: `${nameOf(kind, owner)} rolls out anew`, revision: templateHash(owner.spec.template) };
}
