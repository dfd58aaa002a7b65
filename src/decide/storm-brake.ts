import type { DomainKind, Remediation } from "../api/remediation.ts";
import { targetKey } from "../api/meta.ts";
import { timeMs, timeText } from "../api/time.ts";
import { percentShare } from "../api/units.ts";
import type { FailureDomain } from "../orient/failure-domains.ts";
import { block, coveringBudgets, episodesOf, isWorkloadLevel, modeOf, nameOf, NO_POLICY, pass } from "./episode.ts";
import type { Gate, GateContext } from "./gate.ts";

/** A failure domain in which too much is ill at once. */
export interface Storm {
  readonly domain: FailureDomain;
  /** Most that may be ill there. */
  readonly allowed: number;
  /** How much is, and what it shares, for people. */
  readonly message: string;
}

/**
 * How much of each domain may be ill. More than half of what shares a node, zone or namespace is not ill by chance, and
 * neither is a quarter of a whole cluster (kube-controller-manager stops evicting at 55% of a zone, Karpenter stops
 * repairing at 20% of a pool). Replicas of one workload are of one age and make: two of three are healed one after the
 * other, all of two or three are not.
 */
const DEFAULT_LIMITS: Readonly<Record<DomainKind, string>> = {
  Workload: "67%",
  Node: "50%",
  Zone: "50%",
  Namespace: "50%",
  Cluster: "25%",
};
const FIELDS = { Workload: "workload", Node: "node", Zone: "zone", Namespace: "namespace", Cluster: "cluster" } as const;
/** This many ill ones are no pattern: one replica of one or of two says nothing, and of different workloads two do not. */
const LEAST: Readonly<Record<DomainKind, number>> = { Workload: 1, Node: 2, Zone: 2, Namespace: 2, Cluster: 2 };

/** After a storm a twentieth of its domain, at least one, is begun in each span of this length (ms) ... */
const PACE_MS = 30_000;
const PACE_SHARE = 20;
/** ... until the whole of it could have been. */
export const RELEASE_MS = PACE_MS * PACE_SHARE;

/** Most that may be ill in a domain. */
function allowedIn(domain: FailureDomain, context: GateContext): number {
  const own = coveringBudgets(context).flatMap((budget) => budget.spec.stormBrake?.[FIELDS[domain.kind]] ?? []);
  const allowed = (own.length === 0 ? [DEFAULT_LIMITS[domain.kind]] : own).map((limit) =>
    typeof limit === "number" ? Math.max(1, limit) : Math.max(LEAST[domain.kind], Math.floor(percentShare(limit) * domain.size + 1e-9)),
  );
  return Math.min(...allowed);
}

/** The widest failure domain of the target in which too much is ill at once, if there is one. */
export function stormOf(context: GateContext): Storm | undefined {
  for (const domain of context.domains.toReversed()) {
    // What is done to a workload as a whole is done to all of its replicas anyway: a rollback cures all that are ill.
    if (domain.kind === "Workload" && isWorkloadLevel(context)) continue;
    const allowed = allowedIn(domain, context);
    if (domain.ill.length <= allowed) continue;
    const shared = domain.shared.length === 0 ? "nothing that is known of" : domain.shared.join("; ");
    return {
      domain,
      allowed,
      message: `${domain.ill.length} of ${domain.size} ${domain.unit} in ${domain.key} are ill at once, more than ${allowed}; what they share: ${shared}`,
    };
  }
  return undefined;
}

/** Whether an episode stands for a storm that is still on, as its own last decision said. */
export function standsForStorm({ status }: Remediation): boolean {
  return (
    status.phase === "Blocked" && status.reason === "StormBrake" && status.storm !== undefined && status.storm.releasedAt === undefined
  );
}

/** When the storm of an episode was over (ms), as far as its record tells. */
function releaseOf(remediation: Remediation): number {
  const { storm, endedAt, decidedAt } = remediation.status;
  return timeMs(storm?.releasedAt ?? endedAt ?? decidedAt ?? remediation.spec.startedAt);
}

/** The storms on record that matter to this decision: those of a dry run never matter to real ones. */
function storms(context: GateContext): Remediation[] {
  const dryRun = modeOf(context) === "Observe";
  return episodesOf(context).storms.filter((other) => dryRun || other.spec.mode !== "Observe");
}

/**
 * Whether a storm is the same as one on record: in the same domain, and that one is on, or was over only just now.
 * Returns its record; its page, or that of an earlier episode of it, is the page for this one too.
 */
export function sameStorm(domain: string, remediations: readonly Remediation[], now: number): Remediation | undefined {
  return remediations.find(
    (other) => other.status.storm?.domain === domain && (standsForStorm(other) || releaseOf(other) > now - RELEASE_MS),
  );
}

/** After a storm: when the next of its domain may be begun (ms), where that is not now. */
function pacedUntil(context: GateContext): { readonly until: number; readonly domain: string } | undefined {
  const { now } = context;
  const { self } = episodesOf(context);
  let latest: { readonly until: number; readonly domain: string } | undefined;
  for (const storm of storms(context)) {
    const key = storm.status.storm?.domain;
    const domain = context.domains.find((each) => each.key === key);
    if (domain === undefined || !(releaseOf(storm) > now - RELEASE_MS)) continue;
    const begun = context.remediations
      .filter((other) => other !== self && other.spec.mode !== "Observe" && domain.workloads.has(targetKey(other.spec.workload)))
      .flatMap((other) => other.status.attempts.map((attempt) => Math.min(now, timeMs(attempt.startedAt))))
      .filter((at) => at > now - PACE_MS)
      .sort((a, b) => b - a);
    // The one before which as many as may be were begun: when it is that long ago, there is room for another.
    const last = begun[Math.max(1, Math.floor(domain.size / PACE_SHARE)) - 1];
    if (last !== undefined && (latest === undefined || last + PACE_MS > latest.until))
      latest = { until: last + PACE_MS, domain: domain.key };
  }
  return latest;
}

/** Blocks while so much is ill at once that the cause cannot be the target's own, and lets go a little at a time. */
export const stormBrake: Gate = {
  name: "StormBrake",
  doc: "When too much of a workload, node, zone, namespace or cluster is ill at once, the cause is something that they share: none of it is touched, one person is paged for all of it, and afterwards what is still ill is acted on a little at a time.",
  // A storm that rises during an episode holds its next step.
  onEveryStep: true,
  check(context) {
    if (context.policy === undefined) return NO_POLICY;
    const { self } = episodesOf(context);
    const standsForOne = self?.status.storm !== undefined && self.status.storm.releasedAt === undefined;
    const holder = standsForOne
      ? undefined
      : storms(context).find(
          (other) => other !== self && standsForStorm(other) && context.domains.some(({ key }) => key === other.status.storm?.domain),
        );
    if (holder !== undefined)
      return block(`a storm in ${holder.status.storm?.domain ?? ""} is on: remediation ${nameOf(holder)} stands for it`);
    const storm = stormOf(context);
    if (storm !== undefined) return block(storm.message);
    // A rung or step of what has begun is no new burden.
    const begun = (self?.status.attempts.length ?? 0) > 0;
    const paced = begun ? undefined : pacedUntil(context);
    if (paced !== undefined)
      return block(
        `after the storm in ${paced.domain} what is still ill is begun a little at a time; the next at ${timeText(paced.until) ?? "a time that is none"}`,
        paced.until,
      );
    return pass("no failure domain of it has too much that is ill at once");
  },
};
