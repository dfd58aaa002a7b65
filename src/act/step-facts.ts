import type { StepRecord } from "../api/remediation.ts";
import type { EffectType } from "../ports/platform.ts";

/** The effects that a step of each type may have, what takes it back in any case included. */
export const EFFECTS_OF: Readonly<Record<StepRecord["type"], readonly EffectType[]>> = {
  startReplacement: ["StartReplacement", "RemoveReplacement"],
  awaitReady: [],
  removeFromTraffic: ["RemoveFromTraffic", "RestoreTraffic"],
  awaitInFlight: [],
  capture: ["Capture"],
  stop: ["Stop"],
  evict: ["Evict"],
  awaitAvailable: [],
  // Where it cannot be taken back, the replicas more stay.
  scale: ["Scale"],
  scaleBack: ["ScaleBack"],
  rolloutRestart: ["RolloutRestart"],
  rollback: ["Rollback"],
  resize: ["Resize", "ResizeBack"],
  cordon: ["Cordon", "Uncordon"],
  drain: ["Drain"],
  awaitHealed: [],
  uncordon: ["Uncordon"],
  invoke: ["InvokeAction"],
  runJob: ["RunJob"],
  notify: [],
  wait: [],
  restoreTraffic: ["RestoreTraffic"],
  removeReplacement: ["RemoveReplacement"],
  resizeBack: ["ResizeBack"],
};

/** Steps that act on one replica, so that a target that is a workload does not suffice. */
export const PER_REPLICA: ReadonlySet<StepRecord["type"]> = new Set([
  "startReplacement",
  "awaitReady",
  "removeFromTraffic",
  "awaitInFlight",
  "capture",
  "stop",
  "evict",
  "resize",
  "cordon",
  "drain",
  "awaitHealed",
  "uncordon",
  "invoke",
]);
