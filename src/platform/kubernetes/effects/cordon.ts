import { NightshiftError } from "../../../api/errors.ts";
import { MARKS } from "../marks.ts";
import type { Node } from "../objects.ts";
import { annotation, apply, gone, type Handler, read, refuseMarked, retryOnConflict, seen } from "./shared.ts";

/** Nodes, as targets, stand in Nightshift's namespace; the API server has them in none. */
const node = <T extends { readonly namespace: string }>(ref: T): T => ({ ...ref, namespace: "" });

/** Lets nothing new be scheduled on a node. One that somebody else has cordoned is theirs. */
export const cordon: Handler<"Cordon"> = {
  type: "Cordon",

  async apply({ id, replica }, deps, signal) {
    const changed = await retryOnConflict(deps, signal, async () => {
      const found = await read<Node>(deps, "Node", node(replica), signal);
      if (found === undefined) throw gone("Node", node(replica));
      refuseMarked("Node", found);
      const isOpened = annotation(found, MARKS.cordonedBy) === id && found.spec?.unschedulable !== true;
      if (isOpened || annotation(found, MARKS.uncordoned) === id)
        throw new NightshiftError("EFFECT_FAILED", `${replica.name} was uncordoned since: the cordon was taken back`);
      if (found.spec?.unschedulable === true) {
        const by = annotation(found, MARKS.cordonedBy);
        if (by === id) return found;
        throw new NightshiftError("NODE_CORDONED", `${replica.name} was cordoned by ${by ?? "somebody else"} (spec.unschedulable: true)`);
      }
      return apply(deps, "Node", found, id, { annotations: { [MARKS.cordonedBy]: id }, spec: { unschedulable: true } }, signal);
    });
    await seen(deps, "Node", changed, signal);
    return { message: `nothing new is scheduled on ${replica.name}` };
  },

  async observe({ id, replica }, deps) {
    const found = await read<Node>(deps, "Node", node(replica));
    return found?.spec?.unschedulable === true && annotation(found, MARKS.cordonedBy) === id
      ? { state: "Applied", result: { message: `nothing new is scheduled on ${replica.name}` } }
      : { state: "NotApplied" };
  },
};

/** Takes back the cordon of the effect `of`. A node that somebody else has cordoned since stays so. */
export const uncordon: Handler<"Uncordon"> = {
  type: "Uncordon",

  async apply({ id, replica, of }, deps, signal) {
    const changed = await retryOnConflict(deps, signal, async () => {
      const found = await read<Node>(deps, "Node", node(replica), signal);
      if (found === undefined) throw gone("Node", node(replica));
      if (annotation(found, MARKS.cordonedBy) !== of) return undefined;
      // No longer stated by us, it is gone where nobody else has cordoned the node since.
      return apply<Node>(
        deps,
        "Node",
        found,
        id,
        { annotations: { [MARKS.cordonedBy]: null, [MARKS.uncordoned]: of }, spec: { unschedulable: null } },
        signal,
      );
    });
    if (changed === undefined) return { message: `${replica.name} is not cordoned by Nightshift any more` };
    await seen(deps, "Node", changed, signal);
    return {
      message:
        changed.spec?.unschedulable === true
          ? `${replica.name} was cordoned by somebody else since, and is left so`
          : `${replica.name} is used again`,
    };
  },

  async observe({ replica, of }, deps) {
    const found = await read<Node>(deps, "Node", node(replica));
    return found !== undefined && annotation(found, MARKS.cordonedBy) === of
      ? { state: "NotApplied" }
      : { state: "Applied", result: { message: `${replica.name} is used again` } };
  },
};
