import type { Budget } from "../../../api/policy.ts";
import { openUntil } from "../../../api/schedule.ts";
import { timeMs } from "../../../api/time.ts";
import type { SimWorkload } from "../world.ts";
import { NEWS_MS, sinceIntent, stepOf, takesDown } from "./facts.ts";
import type { Rule, Truth } from "./rule.ts";

/** What a budget allows, in whole replicas. */
function allowed({ maxUnavailable, whenRoundsToZero }: Budget, desired: number): number {
  if (typeof maxUnavailable === "number") return maxUnavailable;
  const share = Number(maxUnavailable.replace("%", "")) / 100;
  const whole = Math.floor(share * desired + 1e-9);
  return whole === 0 && share > 0 && whenRoundsToZero === "AllowOne" ? Math.min(1, desired) : whole;
}

/** The strictest limit that held at `wallMs`, and before `knownSince` already; undefined where there is none. */
function strictest(
  truth: Truth,
  { spec, ref, desired }: SimWorkload,
  policyName: string,
  cause: string,
  wallMs: number,
  knownSince: number,
): { readonly allowed: number; readonly source: string } | undefined {
  const limits: { allowed: number; source: string }[] = [];
  const add = (budget: Budget, source: string): void => {
    if (budget.reasons !== undefined && !budget.reasons.includes(cause)) return;
    if (budget.schedule !== undefined && budget.duration !== undefined) {
      const window = { schedule: budget.schedule, timeZone: budget.timeZone, duration: budget.duration };
      if (openUntil(window, wallMs) === undefined || openUntil(window, wallMs - (truth.now - knownSince)) === undefined) return;
    }
    limits.push({ allowed: allowed(budget, desired), source });
  };
  const policy = truth.api
    .list("RemediationPolicy")
    .find(({ metadata }) => metadata.name === policyName && metadata.namespace === ref.namespace);
  for (const budget of policy?.spec.budgets ?? []) add(budget, `policy ${policyName}`);
  for (const { metadata, spec: own } of truth.api.list("RemediationBudget"))
    if (timeMs(metadata.creationTimestamp ?? "") <= knownSince && own.namespaces?.includes(ref.namespace) !== false)
      for (const budget of own.budgets) add(budget, `RemediationBudget ${metadata.name}`);
  if (spec.minAvailable !== undefined)
    limits.push({ allowed: desired - Math.min(spec.minAvailable, desired), source: `PodDisruptionBudget ${spec.name}` });
  return limits.toSorted((a, b) => a.allowed - b.allowed)[0];
}

/** How many replicas a workload lacked, and from when on. */
interface Lack {
  readonly at: number;
  /** Negative where there are more than it should have. */
  readonly missing: number;
}

/** How far back is looked (ms): longer than any step waits for what it was allowed to do. */
const KEEP_MS = 30 * 60_000;

/** Never too many down at once. */
export const s03Budgets: Rule = {
  name: "S3",
  doc: "Never more than min(policy budget, RemediationBudget, PodDisruptionBudget) of a workload unavailable through us: at every write that takes a pod down, both what we have taken down, and what was down long enough to be known together with it, are within the strictest.",
  watch: (truth) => {
    const lacks = new Map<string, Lack[]>();
    /** Pods that served until we took them down, by workload. */
    const ours = new Map<string, Set<string>>();
    const missingOf = ({ desired, pods }: SimWorkload): number => desired - pods.filter((pod) => pod.serving).length;
    return {
      checked() {
        for (const workload of truth.world.workloads) {
          const missing = missingOf(workload);
          const history = lacks.get(workload.uid) ?? [];
          lacks.set(workload.uid, history);
          if (history.at(-1)?.missing === missing) continue;
          history.push({ at: truth.now, missing });
          while ((history[1]?.at ?? Infinity) < truth.now - KEEP_MS) history.shift();
          const down = ours.get(workload.uid);
          if (missing <= 0) down?.clear();
          for (const pod of workload.pods) if (pod.serving) down?.delete(pod.uid);
        }
        return undefined;
      },
      mutated(mutation) {
        const { workload, pod } = mutation;
        if (!takesDown(mutation) || pod === undefined) return undefined;
        const found = stepOf(truth, mutation.effect.id);
        if (found === undefined) return undefined;
        const wasServing = !pod.serving && pod.servingChangedAt === truth.now;
        const down = ours.get(workload.uid) ?? new Set();
        ours.set(workload.uid, down);
        if (wasServing) down.add(pod.uid);
        const knownSince = truth.now - NEWS_MS - mutation.viewAgeMs - sinceIntent(found.step, mutation.wallMs);
        const { diagnosis, policy } = found.remediation.spec;
        const limit = strictest(truth, workload, policy.name, diagnosis.cause, mutation.wallMs, knownSince);
        if (limit === undefined) return undefined;
        const history = lacks.get(workload.uid) ?? [];
        const from = Math.max(
          0,
          history.findLastIndex(({ at }) => at <= knownSince),
        );
        const lasting = history.slice(from).reduce((least, { missing }) => Math.min(least, missing), Infinity);
        const throughUs = Math.min(Math.max(0, missingOf(workload)), down.size);
        const most = Math.max(throughUs, Number.isFinite(lasting) ? lasting + (wasServing ? 1 : 0) : 0);
        if (most <= limit.allowed) return undefined;
        return `${mutation.effect.type} of ${pod.name}: ${most} of ${workload.desired} replicas of ${workload.spec.name} unavailable (${throughUs} through us), ${limit.source} allows ${limit.allowed}`;
      },
    };
  },
};
