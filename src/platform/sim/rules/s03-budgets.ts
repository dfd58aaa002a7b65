import type { Budget } from "../../../api/policy.ts";
import { openUntil } from "../../../api/schedule.ts";
import { allowedUnavailable } from "../../kubernetes/nodes.ts";
import type { Mutation } from "../effect.ts";
import { isClosed, type SimNode, type SimWorkload } from "../world.ts";
import { knownBefore, Moments, stepOf, type StoredStep, takesDown } from "./facts.ts";
import type { Rule, Truth } from "./rule.ts";
import { Versions } from "./versions.ts";

/** What a budget allows, in whole replicas. */
function allowed({ maxUnavailable, whenRoundsToZero }: Budget, desired: number): number {
  if (typeof maxUnavailable === "number") return maxUnavailable;
  const share = Number(maxUnavailable.replace("%", "")) / 100;
  const whole = Math.floor(share * desired + 1e-9);
  return whole === 0 && share > 0 && whenRoundsToZero === "AllowOne" ? Math.min(1, desired) : whole;
}

/** The strictest limit that held at `wallMs`, and before `knownSince` already; undefined where there is none. Of what was edited since, the loosest version counts. */
function strictest(
  truth: Truth,
  versions: Versions,
  {
    spec,
    ref,
    desired,
  }: {
    readonly spec: { readonly name?: string; readonly minAvailable?: number };
    readonly ref: { readonly namespace: string };
    readonly desired: number;
  },
  policyName: string,
  cause: string,
  wallMs: number,
  knownSince: number,
): { readonly allowed: number; readonly source: string } | undefined {
  const applies = (budget: Budget): boolean => {
    if (budget.reasons !== undefined && !budget.reasons.includes(cause)) return false;
    if (budget.schedule === undefined || budget.duration === undefined) return true;
    const window = { schedule: budget.schedule, timeZone: budget.timeZone, duration: budget.duration };
    return openUntil(window, wallMs) !== undefined && openUntil(window, wallMs - (truth.now - knownSince)) !== undefined;
  };
  const leastOf = (budgets: readonly Budget[]): number =>
    budgets.filter(applies).reduce((least, budget) => Math.min(least, allowed(budget, desired)), Infinity);
  const limits: { allowed: number; source: string }[] = [];
  const add = (each: readonly (readonly Budget[])[], source: string): void => {
    const loosest = each.reduce((most, budgets) => Math.max(most, leastOf(budgets)), 0);
    if (Number.isFinite(loosest)) limits.push({ allowed: loosest, source });
  };
  const policies = versions.policiesSince(ref.namespace, policyName, knownSince).map(({ spec: own }) => own.budgets);
  if (policies.length > 0) add(policies, `policy ${policyName}`);
  for (const budgets of versions.budgetsSince(knownSince))
    add(
      budgets.map((budget) => (budget?.spec.namespaces?.includes(ref.namespace) === false ? [] : (budget?.spec.budgets ?? []))),
      `RemediationBudget ${budgets.find((budget) => budget !== undefined)?.metadata.name ?? ""}`,
    );
  if (spec.minAvailable !== undefined)
    limits.push({ allowed: desired - Math.min(spec.minAvailable, desired), source: `PodDisruptionBudget ${spec.name ?? ""}` });
  return limits.toSorted((a, b) => a.allowed - b.allowed)[0];
}

/** What may be down of a workload while a node is emptied: one, where its PodDisruptionBudget allows that. */
function spared({ spec, desired }: SimWorkload): { readonly allowed: number; readonly source: string } {
  const most = spec.minAvailable === undefined ? 1 : desired - Math.min(spec.minAvailable, desired);
  return most < 1 ? { allowed: most, source: `PodDisruptionBudget ${spec.name}` } : { allowed: 1, source: "the emptying of a node" };
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
  doc: "Never more than min(policy budget, RemediationBudget, PodDisruptionBudget) of a workload unavailable through us: at every write that takes a pod down, both what we have taken down, and what was down long enough to be known together with it, are within the strictest. The same of the nodes of a pool, of which at most a fifth may be; and of what is moved away from a node, of which one at a time may.",
  watch: (truth) => {
    const versions = new Versions(truth);
    const lacks = new Map<string, Lack[]>();
    /** Pods that served until we took them down, by workload. */
    const ours = new Map<string, Set<string>>();
    /** Since when nodes are not there for pods. */
    const closed = new Moments();
    const missingOf = ({ desired, pods }: SimWorkload): number => desired - pods.filter((pod) => pod.serving).length;
    const tooManyNodes = (mutation: Mutation, node: SimNode, { step, remediation }: StoredStep): string | undefined => {
      const { diagnosis, policy, workload: pool } = remediation.spec;
      const nodes = truth.world.nodes.filter((each) => each.pool === node.pool && !each.gone);
      const knownSince = knownBefore(truth, mutation, step);
      const own = strictest(
        truth,
        versions,
        { spec: {}, ref: { namespace: pool.namespace }, desired: nodes.length },
        policy.name,
        diagnosis.cause,
        mutation.wallMs,
        knownSince,
      );
      const most = Math.min(own?.allowed ?? Infinity, allowedUnavailable(nodes.length));
      const lacking = nodes.filter((each) => each === node || (closed.since(each.uid) ?? Infinity) <= knownSince).length;
      return lacking <= most
        ? undefined
        : `${mutation.effect.type} of ${node.name}: ${lacking} of ${nodes.length} nodes unavailable, ${most} allowed`;
    };
    return {
      checked() {
        for (const node of truth.world.nodes) closed.holds(node.uid, !node.gone && (!node.up || node.ill || isClosed(node)), truth.now);
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
      stored(change) {
        versions.changed(change);
        return undefined;
      },
      mutated(mutation) {
        const { workload, pod, node } = mutation;
        const found = stepOf(truth, mutation.effect.id);
        if (found === undefined) return undefined;
        if (node !== undefined && mutation.verb === "cordon") return tooManyNodes(mutation, node, found);
        if (!takesDown(mutation) || pod === undefined || workload === undefined) return undefined;
        const wasServing = !pod.serving && pod.servingChangedAt === truth.now;
        const down = ours.get(workload.uid) ?? new Set();
        ours.set(workload.uid, down);
        if (wasServing) down.add(pod.uid);
        const isDrain = mutation.effect.type === "Drain";
        // What does not serve may always be moved away.
        if (isDrain && !wasServing) return undefined;
        // What empties a node looks before each pod.
        const knownSince = knownBefore(truth, mutation, found.step, isDrain ? { longestMs: 0 } : {});
        const { diagnosis, policy } = found.remediation.spec;
        const limit = isDrain
          ? spared(workload)
          : strictest(truth, versions, workload, policy.name, diagnosis.cause, mutation.wallMs, knownSince);
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
