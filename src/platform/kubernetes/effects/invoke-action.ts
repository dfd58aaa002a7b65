import { NightshiftError } from "../../../api/errors.ts";
import type { ActionAddress, ActionCaller } from "../../actions.ts";
import { actionsPort, MARKS } from "../marks.ts";
import type { Pod } from "../objects.ts";
import { annotation, type Deps, type Handler, nameOf, patchPod, read, readPod, retryOnConflict, seen } from "./shared.ts";

/**
 * Asks the pod for an action that it serves, at its own address as the API server has it and the port of its annotation:
 * nothing else can be named. The effect's id is written on the pod first, by which whoever no longer leads is held back; then
 * the pod itself remembers what it has done.
 */
export const invokeAction: Handler<"InvokeAction"> = {
  type: "InvokeAction",

  async apply(effect, deps, signal) {
    const { id, replica } = effect;
    const caller = callerOf(deps);
    const pod = await retryOnConflict(deps, signal, async () => {
      const found = await readPod(deps, replica, signal);
      addressOf(found);
      if (annotation(found, MARKS.invokedBy) === id) return found;
      return patchPod(deps, found, id, { annotations: { [MARKS.invokedBy]: id } });
    });
    await seen(deps, "Pod", pod, signal);
    return caller.invoke(effect, addressOf(pod), signal, deps.epoch);
  },

  async observe(effect, deps) {
    const pod = await read<Pod>(deps, "Pod", effect.replica);
    // Where it is gone, so is what it was asked for; where its mark is not there, it was not asked.
    if (pod === undefined || annotation(pod, MARKS.invokedBy) !== effect.id) return { state: "NotApplied" };
    return callerOf(deps).observe(effect, addressOf(pod));
  },
};

function callerOf({ actions }: Deps): ActionCaller {
  if (actions !== undefined) return actions;
  throw new NightshiftError("NO_ACTIONS", "this operator has no key to ask for actions with", {
    fix: "Give it one with --actions-key (the chart's actions.existingSecret).",
  });
}

/** Where the pod serves its actions. Throws `NO_ACTIONS`. */
function addressOf(pod: Pod): ActionAddress {
  const port = actionsPort(pod.metadata.annotations ?? {});
  const refused = (why: string): NightshiftError => new NightshiftError("NO_ACTIONS", `${nameOf("Pod", pod)} ${why}`);
  if (port === undefined) throw refused(`serves no actions: it has no annotation ${MARKS.actionsPort} with a port`);
  // That address is the node's, and so is what listens there.
  if (pod.spec["hostNetwork"] === true) throw refused("is in its node's network, and has no address of its own to be asked at");
  const host = pod.status?.podIP;
  if (host === undefined || host === "") throw refused("has no address yet");
  return { host, port, uid: pod.metadata.uid };
}
