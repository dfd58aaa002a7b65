import { sameTarget } from "../api/meta.ts";
import type { RemediationPolicy } from "../api/policy.ts";
import type { Remediation } from "../api/remediation.ts";
import type { Signal } from "../api/signal.ts";
import { timeMs } from "../api/time.ts";
import { percentShare } from "../api/units.ts";
import type { RequestStats } from "../observe/telemetry.ts";
import { undecidedText } from "../orient/detect.ts";
import type { Workload } from "../ports/platform.ts";

/** What is known when an episode is verified. */
export interface VerifyContext {
  readonly remediation: Remediation;
  readonly verify: RemediationPolicy["spec"]["verify"];
  readonly workload: Workload | undefined;
  /** Signals of the policy that fire on the workload now. */
  readonly firing: readonly Signal[];
  /** Alerts of the policy that are neither acted on nor over: see `Detection`. */
  readonly undecided: readonly Signal[];
  /** Evidence that the policy's signals need and that is not there. */
  readonly missing: readonly string[];
  /** Requests to the workload since the verification began; undefined when nothing was heard. */
  readonly requests: RequestStats | undefined;
}

/** Whether the target is well. `NoData` is no success: nothing is well for lack of data (design rule S4). */
export interface Health {
  readonly state: "Well" | "Ill" | "NoData";
  readonly message: string;
}

/**
 * Whether a signal that fires says that this episode's cure has failed. Of the replicas of a workload that are ill, one is
 * healed at a time: what another one suffers from is its own episode's, if it was there before this one's cure.
 */
function concerns({ spec, status }: Remediation, workload: Workload, { target }: Signal): boolean {
  if (sameTarget(spec.remediationTarget, spec.workload) || sameTarget(target, spec.remediationTarget)) return true;
  const replica = workload.replicas.find((candidate) => sameTarget(candidate.ref, target));
  if (replica === undefined) return true;
  const began = timeMs(status.attempts[0]?.startedAt ?? spec.startedAt);
  return replica.startedAt >= began || status.attempts.some((attempt) => attempt.steps.some((step) => step.effectId === replica.startedBy));
}

/** Looks at the world once. The loop asks again until the answer was `Well` for `verify.stableFor`, or its time is up. */
export function health({ remediation, verify, workload, firing, undecided, missing, requests }: VerifyContext): Health {
  if (workload === undefined) return { state: "NoData", message: `${remediation.spec.workload.name} is not there` };
  if (workload.ref.kind === "NodePool") return nodeHealth(remediation, workload, firing, undecided, missing);
  const serving = workload.replicas.filter((replica) => replica.ready && replica.inTraffic).length;
  if (serving < workload.desired) return { state: "Ill", message: `${serving} of ${workload.desired} replicas are ready` };
  const isSame = (signal: Signal): boolean => signal.name === remediation.spec.signal.name && concerns(remediation, workload, signal);
  const same = firing.find(isSame);
  if (same !== undefined) return { state: "Ill", message: `${same.name} still fires on ${same.target.name}` };
  const left = undecided.find(isSame);
  if (left !== undefined) return { state: "NoData", message: undecidedText(left) };
  if (missing.length > 0) return { state: "NoData", message: missing.join("; ") };
  if (requests !== undefined && requests.total > 0) {
    const rate = requests.failed / requests.total;
    const failing = `${(rate * 100).toFixed(1)}% of ${requests.total} requests fail`;
    if (rate > percentShare(verify.maxErrorRate)) return { state: "Ill", message: `${failing}, ${verify.maxErrorRate} is allowed` };
    return { state: "Well", message: `${serving} of ${workload.desired} ready, ${failing}` };
  }
  return { state: "Well", message: `${serving} of ${workload.desired} ready, no request seen` };
}

/** A node does not stand in for another: only the one that was acted on is looked at. One that was taken away is no trouble any more. */
function nodeHealth(
  remediation: Remediation,
  pool: Workload,
  firing: readonly Signal[],
  undecided: readonly Signal[],
  missing: readonly string[],
): Health {
  const target = remediation.spec.remediationTarget;
  const node = pool.replicas.find((replica) => replica.ref.uid === target.uid);
  if (node === undefined) return { state: "Well", message: `node ${target.name} is gone` };
  if (!node.ready || !node.inTraffic) return { state: "Ill", message: `node ${target.name} is ${node.ready ? "cordoned" : "not ready"}` };
  const isSame = (signal: Signal): boolean => signal.name === remediation.spec.signal.name && signal.target.uid === target.uid;
  const same = firing.find(isSame);
  if (same !== undefined) return { state: "Ill", message: `${same.name} still fires on ${target.name}` };
  const left = undecided.find(isSame);
  if (left !== undefined) return { state: "NoData", message: undecidedText(left) };
  if (missing.length > 0) return { state: "NoData", message: missing.join("; ") };
  return { state: "Well", message: `node ${target.name} is ready` };
}
