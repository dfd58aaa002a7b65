import type { StepParams } from "../../api/runbook.ts";
import { timeMs, timestamp } from "../../api/time.ts";
import { ACTIVE_REQUESTS } from "../../observe/otlp/receiver.ts";
import type { Telemetry } from "../../observe/telemetry.ts";
import { earlierStep, type StepContext, type StepDefinition } from "../step.ts";

/**
 * How long a caller may still be sent to a replica that is out of traffic (ms). kube-proxy follows the EndpointSlices once a
 * second at most, and slower with many Services; what comes in this time is no sign of what comes after.
 */
const FOLLOWING_MS = 5_000;
/** Readings of one collection may differ by this much in time (ms). */
const SAME_COLLECTION_MS = 500;

/**
 * Waits until the target has answered what it was asked: by the platform's own count where it has one, else by what the
 * target itself says over OTLP.
 */
export const awaitInFlight: StepDefinition = {
  type: "awaitInFlight",
  destructive: false,
  poll: (context, telemetry) => {
    const { replica } = context;
    if (replica === undefined) return { state: "Done", message: "the replica is gone" };
    if (replica.inFlight === undefined) {
      const quiet = quietBy(context, replica.ref.uid ?? "", telemetry);
      return quiet === undefined
        ? { state: "Waiting", message: "the number of requests in flight is not known" }
        : { state: "Done", message: quiet };
    }
    return replica.inFlight === 0
      ? { state: "Done", message: "no request is in flight" }
      : { state: "Waiting", message: `${replica.inFlight} in flight` };
  },
  onTimeout: ({ step, replica }) => {
    const left = replica?.inFlight === undefined ? "an unknown number of requests" : `${replica.inFlight} requests`;
    return (step.params as StepParams<"awaitInFlight">).onTimeout === "Fail"
      ? { outcome: "Fail", message: `${left} still in flight after ${step.timeoutMs / 1000} s` }
      : { outcome: "Continue", message: `${left} still in flight after ${step.timeoutMs / 1000} s: the stop will cut them` };
  },
};

/**
 * By what the target itself shows that it is asked nothing any more; undefined where it does not. Readings are of a moment,
 * and a busy target is idle at many: so it takes two collections in a row, both since it has been out of traffic for a
 * while, with no request under way at either and none answered between them. What it does not say is no evidence.
 */
function quietBy(context: StepContext, uid: string, telemetry: Telemetry): string | undefined {
  const leftAt = earlierStep(context, "removeFromTraffic")?.endedAt;
  if (leftAt === undefined) return undefined;
  const readings = telemetry.replicaSeries(uid, ACTIVE_REQUESTS, timeMs(leftAt) + FOLLOWING_MS);
  const last = readings.at(-1);
  const idle = readings.slice(readings.findLastIndex(({ v }) => v !== 0) + 1);
  const first = idle.findLast(({ t }) => last !== undefined && t <= last.t - SAME_COLLECTION_MS);
  const answers = telemetry.answers?.(uid);
  if (last === undefined || first === undefined || answers === undefined) return undefined;
  const isHeard = answers.heardAt >= last.t - SAME_COLLECTION_MS;
  const isQuiet = answers.answeredAt === undefined || answers.answeredAt <= first.t + SAME_COLLECTION_MS;
  return isHeard && isQuiet
    ? `no request is in flight: ${ACTIVE_REQUESTS} was 0 at ${timestamp(first.t)} and ${timestamp(last.t)}, and none was answered between`
    : undefined;
}
