import { sameTarget, type TargetRef } from "../api/meta.ts";
import type { Evidence } from "../api/remediation.ts";
import type { Change } from "../observe/changes.ts";
import type { Workload } from "../ports/platform.ts";
import type { CallGraph } from "./call-graph.ts";
import { seconds } from "./trend.ts";

/** A change this long before the symptom has nothing to do with it (ms). */
const LOOKBACK_MS = 3_600_000;
/** A symptom is seen to begin up to this much earlier than it did (ms): what came later is no cause of it. */
const SLACK_MS = 30_000;
/** With each of these between a change and the symptom it counts half (ms). */
const HALF_MS = 600_000;
/** A rollout this long before a symptom at most is one that may be taken back for it (ms). */
const ROLLED_OUT_MS = 1_800_000;
/** How far downstream is looked, and how many changes are told of. */
const MAX_DEPTH = 5;
const MAX_TOLD = 5;

/**
 * The changes that may have to do with a symptom on a workload that began at `onset` (ms), the likeliest first: those of the workload
 * itself and of what it calls, each step downstream counting for less, and those of the nodes that its replicas are on; what was
 * changed shortly before counts for more. Changes elsewhere are not told of.
 */
export function changeEvidence(changes: readonly Change[], workload: Workload, graph: CallGraph, onset: number): Evidence[] {
  const found = changesAround(changes, workload, graph).flatMap(({ change, depth }) => {
    const before = onset - change.at;
    if (before > LOOKBACK_MS || before < -SLACK_MS) return [];
    return [{ change, depth, before: Math.max(0, before), score: 2 ** (-Math.max(0, before) / HALF_MS) / (1 + depth) }];
  });
  found.sort((a, b) => b.score - a.score || b.change.at - a.change.at || (a.change.message < b.change.message ? -1 : 1));
  return found.slice(0, MAX_TOLD).map(({ change, depth, before, score }, index) => ({
    kind: "Change",
    message: `${change.message}, ${seconds(before / 1_000)} before the symptom began${change.ours ? ", by Nightshift" : ""}`,
    values: {
      rank: index + 1,
      kind: change.kind,
      score: Math.round(score * 1_000) / 1_000,
      depth,
      beforeSeconds: Math.round(before / 1_000),
      ours: change.ours,
    },
  }));
}

/** The changes of a workload (depth 0), of what it calls, so many steps downstream, and of the nodes that its replicas are on (1). */
export function changesAround(
  changes: readonly Change[],
  workload: Workload,
  graph: CallGraph,
): { readonly change: Change; readonly depth: number }[] {
  const depths = depthsFrom(workload.ref, graph);
  const nodes = new Set(workload.replicas.map(({ node }) => node));
  return changes.flatMap((change) => {
    const { kind, namespace, name } = change.target;
    const depth = kind === "Node" ? (nodes.has(name) ? 1 : undefined) : depths.get(`${namespace}/${name}`);
    return depth === undefined ? [] : [{ change, depth }];
  });
}

/** Whether a workload was rolled out, not by Nightshift, within the half hour before its symptom began at `onset` (ms). */
export function wasRolledOut(changes: readonly Change[], workload: TargetRef, onset: number): boolean {
  return changes.some(
    ({ at, kind, target, ours }) =>
      kind === "Rollout" && !ours && sameTarget(target, workload) && at >= onset - ROLLED_OUT_MS && at <= onset + SLACK_MS,
  );
}

function depthsFrom(ref: TargetRef, graph: CallGraph): ReadonlyMap<string, number> {
  const depths = new Map([[`${ref.namespace}/${ref.name}`, 0]]);
  const root = graph.of(ref);
  let level = root === undefined ? [] : [root];
  for (let depth = 1; depth <= MAX_DEPTH && level.length > 0; depth++) {
    const next: typeof level = [];
    for (const node of level)
      for (const { to } of graph.callees(node)) {
        if (depths.has(to.key)) continue;
        depths.set(to.key, depth);
        next.push(to);
      }
    level = next;
  }
  return depths;
}
