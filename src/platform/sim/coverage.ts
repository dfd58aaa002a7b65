import type { LoopMetrics } from "../../record/metrics.ts";
import type { Change } from "./api-server.ts";
import type { Mutation } from "./effect.ts";

/** How often a run, or many, reached what rules are about. A rule that nothing reached proves nothing. */
export interface Coverage {
  readonly decision: Record<string, number>;
  readonly blockReason: Record<string, number>;
  readonly phase: Record<string, number>;
  readonly outcome: Record<string, number>;
  readonly endReason: Record<string, number>;
  readonly strategy: Record<string, number>;
  readonly attempt: Record<string, number>;
  /** Steps by type and state. */
  readonly step: Record<string, number>;
  readonly effect: Record<string, number>;
  /** Writes to the cluster. */
  readonly mutation: Record<string, number>;
  readonly signal: Record<string, number>;
  readonly fault: Record<string, number>;
  readonly page: Record<string, number>;
  /** Lives and leaderships of operators. */
  readonly operator: Record<string, number>;
}

export function emptyCoverage(): Coverage {
  return {
    decision: {},
    blockReason: {},
    phase: {},
    outcome: {},
    endReason: {},
    strategy: {},
    attempt: {},
    step: {},
    effect: {},
    mutation: {},
    signal: {},
    fault: {},
    page: {},
    operator: {},
  };
}

export function count(counts: Record<string, number>, key: string, by = 1): void {
  counts[key] = (counts[key] ?? 0) + by;
}

/** Adds what `more` has to `sum`. */
export function addCoverage(sum: Coverage, more: Coverage): void {
  for (const [name, counts] of Object.entries(more) as [keyof Coverage, Record<string, number>][])
    for (const [key, n] of Object.entries(counts)) count(sum[name], key, n);
}

/** Counts what the loop says about itself. */
export function countingMetrics(coverage: Coverage): LoopMetrics {
  return {
    room() {},
    signal: (source, condition, state) => count(coverage.signal, `${source}/${condition}/${state}`),
    decision: (action, reason) => {
      count(coverage.decision, action);
      if (reason !== undefined) count(coverage.blockReason, reason);
    },
    detected() {},
    signalToEffect() {},
    queueDepth() {},
    phases() {},
    effect: (type, result) => count(coverage.effect, `${type}/${result}`),
    page: (result) => count(coverage.page, result),
    outcome() {},
  };
}

/** Counts what an episode comes to, as it is stored. */
export function countChange(coverage: Coverage, { object, before, type }: Change): void {
  if (object.kind !== "Remediation" || type === "Deleted") return;
  const old = before?.kind === "Remediation" ? before.status : undefined;
  const { status } = object;
  if (old?.phase !== status.phase) {
    count(coverage.phase, status.phase);
    if (status.outcome !== undefined) count(coverage.outcome, status.outcome);
    if (status.endedAt !== undefined) count(coverage.endReason, status.reason ?? "");
  }
  status.attempts.forEach((attempt, i) => {
    const was = old?.attempts[i];
    if (was === undefined) count(coverage.strategy, attempt.what);
    if (attempt.outcome !== undefined && was?.outcome !== attempt.outcome) count(coverage.attempt, attempt.outcome);
    for (const list of ["steps", "undo"] as const)
      attempt[list].forEach((step, j) => {
        if (step.state !== "Pending" && was?.[list][j]?.state !== step.state) count(coverage.step, `${step.type}/${step.state}`);
      });
  });
}

export function countMutation(coverage: Coverage, { effect, verb }: Mutation): void {
  count(coverage.mutation, `${effect.type}/${verb}`);
}
