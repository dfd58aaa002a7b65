import type { StepRecord } from "../../api/remediation.ts";
import type { StepDefinition } from "../step.ts";
import { awaitAvailable } from "./await-available.ts";
import { awaitInFlight } from "./await-in-flight.ts";
import { awaitReady } from "./await-ready.ts";
import { capture } from "./capture.ts";
import { evict } from "./evict.ts";
import { awaitHealed, cordon, drain, uncordon } from "./node.ts";
import { invoke } from "./invoke.ts";
import { notify } from "./notify.ts";
import { removeFromTraffic } from "./remove-from-traffic.ts";
import { resize, resizeBack } from "./resize.ts";
import { rollback, rolloutRestart } from "./rollout.ts";
import { runJob } from "./run-job.ts";
import { scale, scaleBack } from "./scale.ts";
import { startReplacement } from "./start-replacement.ts";
import { stop } from "./stop.ts";
import { removeReplacement, restoreTraffic } from "./undo.ts";
import { wait } from "./wait.ts";

/** Every kind of step, by its type. */
export const STEPS: Readonly<Record<StepRecord["type"], StepDefinition>> = {
  startReplacement,
  awaitReady,
  removeFromTraffic,
  awaitInFlight,
  capture,
  stop,
  evict,
  awaitAvailable,
  scale,
  scaleBack,
  rolloutRestart,
  rollback,
  resize,
  cordon,
  drain,
  awaitHealed,
  uncordon,
  invoke,
  runJob,
  notify,
  wait,
  restoreTraffic,
  removeReplacement,
  resizeBack,
};
