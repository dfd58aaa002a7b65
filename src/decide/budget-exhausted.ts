import type { Budget } from "../api/policy.ts";
import { openUntil } from "../api/schedule.ts";
import { percentShare } from "../api/units.ts";
import { sameTarget } from "../api/meta.ts";
import type { EffectType, Replica, Workload } from "../ports/platform.ts";
import { block, coveringBudgets, episodesOf, isOlder, isWorkloadLevel, NO_POLICY, pass } from "./episode.ts";
import type { Gate, GateContext } from "./gate.ts";

/** How many of a workload's replicas may be unavailable by one budget. */
export interface Limit {
  /** Most replicas that may be unavailable, this action's target included. */
  readonly allowed: number;
  /** Written as zero, not rounded to it: forbids every action, also those that make nothing unavailable. */
  readonly freeze: boolean;
  /** Whose limit it is, for people. */
  readonly source: string;
  /** When it ceases to apply (ms), where it is scheduled. */
  readonly until?: number;
}

/**
 * What a budget allows in a workload of `desired` replicas. A percentage is rounded down, as a share that does not make a
 * whole replica allows none; `whenRoundsToZero: AllowOne` makes that one.
 */
export function allowedBy(budget: Pick<Budget, "maxUnavailable" | "whenRoundsToZero">, desired: number): number {
  if (typeof budget.maxUnavailable === "number") return budget.maxUnavailable;
  const share = percentShare(budget.maxUnavailable);
  // 29% of 100 is 28.999999999999996 in binary; the tolerance is far below any percentage that can be written.
  const allowed = Math.floor(share * desired + 1e-9);
  return allowed === 0 && share > 0 && budget.whenRoundsToZero === "AllowOne" ? Math.min(1, desired) : allowed;
}

function limitOf(budget: Budget, owner: string, context: GateContext, desired: number): Limit | undefined {
  if (budget.reasons !== undefined && !budget.reasons.includes(context.diagnosis.cause)) return undefined;
  let until: number | undefined;
  if (budget.schedule !== undefined && budget.duration !== undefined) {
    until = openUntil({ schedule: budget.schedule, timeZone: budget.timeZone, duration: budget.duration }, context.now);
    if (until === undefined) return undefined;
  }
  const written = typeof budget.maxUnavailable === "number" ? String(budget.maxUnavailable) : `${budget.maxUnavailable} of ${desired}`;
  return {
    allowed: allowedBy(budget, desired),
    freeze: typeof budget.maxUnavailable === "number" ? budget.maxUnavailable === 0 : percentShare(budget.maxUnavailable) === 0,
    source: `${owner} (maxUnavailable ${written}${until === undefined ? "" : `, scheduled`})`,
    ...(until === undefined ? {} : { until }),
  };
}

/** Every limit that applies now: the policy's, the platform team's, and the platform's own. */
export function limitsOf(context: GateContext, workload: Workload): Limit[] {
  const { policy } = context;
  const limits: Limit[] = [];
  const add = (budget: Budget, owner: string): void => {
    const limit = limitOf(budget, owner, context, workload.desired);
    if (limit !== undefined) limits.push(limit);
  };
  for (const budget of policy?.spec.budgets ?? []) add(budget, `policy ${policy?.metadata.name ?? ""}`);
  for (const covering of coveringBudgets(context))
    for (const budget of covering.spec.budgets) add(budget, `RemediationBudget ${covering.metadata.name}`);
  if (workload.minAvailable !== undefined)
    limits.push({
      allowed: workload.desired - workload.minAvailable.count,
      freeze: false,
      source: `${workload.minAvailable.source} (minAvailable ${workload.minAvailable.count})`,
    });
  return limits;
}

/**
 * How many of the replicas that a workload should have would be unavailable after the action: those that are missing, not
 * ready or out of traffic for any reason, those that other episodes are working on, and the target itself. A replacement
 * that is ready and in traffic makes up for the replica whose place it takes.
 */
export function unavailableAfter(context: GateContext, workload: Workload): number {
  const takenDown = episodesOf(context)
    .live.filter((other) => other.status.phase === "Executing")
    .map((other) => other.spec.remediationTarget);
  const stays = (replica: Replica): boolean =>
    replica.phase === "Running" &&
    replica.ready &&
    replica.inTraffic &&
    replica.ref.uid !== (context.stepReplica ?? context.replica)?.ref.uid &&
    !takenDown.some((target) => sameTarget(target, replica.ref));
  return Math.max(0, workload.desired - workload.replicas.filter(stays).length);
}

/** Effects that leave their replica in service. */
const KEEP_SERVING: ReadonlySet<EffectType> = new Set(["InvokeAction"]);

/** Whether what would be begun makes no replica unavailable by itself. */
function takesNoneDown(context: GateContext): boolean {
  // A workload that is restarted replica by replica has each of them down in turn.
  if (isWorkloadLevel(context) && context.stepReplica === undefined) return true;
  const { effects } = context;
  return effects !== undefined && effects.size > 0 && [...effects].every((effect) => KEEP_SERVING.has(effect));
}

/** Blocks where more episodes than a RemediationBudget's `maxConcurrent` would be at work. */
function tooMany(context: GateContext): string | undefined {
  const { self, live } = episodesOf(context);
  const working = self !== undefined && (self.status.phase === "Executing" || self.status.phase === "Verifying");
  for (const budget of coveringBudgets(context)) {
    const { maxConcurrent, namespaces } = budget.spec;
    if (maxConcurrent === undefined) continue;
    const ahead = live.filter((other) => {
      if (other.spec.mode === "Observe") return false;
      if (namespaces !== undefined && !namespaces.includes(other.spec.workload.namespace)) return false;
      const { phase } = other.status;
      // Among those at work, and among those that are just being decided, the older goes first, so that never all wait.
      if (phase === "Executing" || phase === "Verifying") return !working || isOlder(other, self);
      return phase === "Pending" && !working && isOlder(other, self);
    }).length;
    if (!(ahead + 1 <= maxConcurrent))
      return `${ahead} remediations are under way; RemediationBudget ${budget.metadata.name} allows ${maxConcurrent} at once`;
  }
  return undefined;
}

/** Blocks replicas more where something else allows the workload no more. */
function atMost({ effects }: GateContext, { ref, desired, maxReplicas }: Workload): string | undefined {
  if (maxReplicas === undefined || effects?.has("Scale") !== true || desired < maxReplicas.count) return undefined;
  return `${ref.name} has ${desired} replicas, and ${maxReplicas.source} allows no more`;
}

/** Blocks where more of the workload would be unavailable than every budget that applies allows. */
export const budgetExhausted: Gate = {
  name: "BudgetExhausted",
  doc: "Never more of a workload unavailable, for any reason, than the strictest of the policy's budgets, the platform team's and the platform's own allows; never more remediations at once than `maxConcurrent`; no more replicas than its autoscaler allows.",
  onEveryStep: true,
  check(context) {
    const { policy, workload } = context;
    if (policy === undefined) return NO_POLICY;
    if (workload === undefined) return block("the workload does not exist, so what is available cannot be counted");
    const crowded = tooMany(context);
    if (crowded !== undefined) return block(crowded);
    const full = atMost(context, workload);
    if (full !== undefined) return block(full);
    const limits = limitsOf(context, workload);
    const noneDown = takesNoneDown(context);
    const unavailable = noneDown ? 0 : unavailableAfter(context, workload);
    // Zero holds also once a replacement has made the count whole: a freeze that begins during an episode stops it.
    const broken = limits.filter((limit) =>
      noneDown ? limit.freeze : limit.freeze || limit.allowed === 0 || !(unavailable <= limit.allowed),
    );
    const strictest = [...broken].sort((a, b) => a.allowed - b.allowed)[0];
    if (strictest === undefined) {
      const least = limits.length === 0 ? undefined : Math.min(...limits.map((limit) => limit.allowed));
      if (noneDown) return pass("the action makes no replica unavailable, and nothing is frozen");
      return pass(
        `${unavailable} of ${workload.desired} unavailable after this; ${least === undefined ? "no budget applies" : `${least} allowed`}`,
      );
    }
    const ends = broken.map((limit) => limit.until ?? Infinity);
    const until = Math.max(...ends);
    const message = strictest.freeze
      ? `frozen by ${strictest.source}`
      : `${unavailable} of ${workload.desired} replicas would be unavailable; ${strictest.source} allows ${strictest.allowed}`;
    return block(message, Number.isFinite(until) ? until : undefined);
  },
};
