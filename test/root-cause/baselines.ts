/**
 * What the search is compared with: two simple methods of the literature.
 */
import type { RootCauseInput, RootCauseResult } from "../../src/orient/root-cause.ts";
import { changeOf, firstAt } from "../../src/orient/root-cause-change.ts";
import { prepare, type MetricSeries } from "../../src/orient/root-cause-series.ts";
import { quantileOfSorted } from "../../src/orient/statistics.ts";

/** Ranks services; empty where it finds nothing wrong. */
export type Method = (input: RootCauseInput) => readonly string[];

const ranked = (scores: ReadonlyMap<string, number>): string[] =>
  [...scores].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)).map(([name]) => name);

/**
 * The largest deviation anywhere: of each series the reading of the incident that lies furthest from the baseline's median, in
 * interquartile ranges (the RobustScorer of BARO, which knows no graph). It never finds nothing by itself; below `least` it does here.
 */
export function largestDeviation(least: number): Method {
  return ({ series, incident }) => {
    const scores = new Map<string, number>();
    for (const one of series) {
      const z = robustScore(one, incident.start, incident.end);
      if (z > (scores.get(one.service) ?? 0)) scores.set(one.service, z);
    }
    const all = ranked(scores);
    return (scores.get(all[0] ?? "") ?? 0) >= least ? all : [];
  };
}

function robustScore({ times, values }: MetricSeries, from: number, to: number): number {
  const start = firstAt(times, from);
  const end = firstAt(times, to + 1);
  const before = values
    .slice(0, start)
    .filter((v) => !Number.isNaN(v))
    .sort();
  if (before.length < 5) return 0;
  const middle = quantileOfSorted(before, 0.5);
  const iqr = quantileOfSorted(before, 0.75) - quantileOfSorted(before, 0.25);
  let most = 0;
  for (let i = start; i < end; i++) if (!Number.isNaN(values[i])) most = Math.max(most, Math.abs((values[i] as number) - middle));
  return most / (iqr > 0 ? iqr : Math.max(0.05 * Math.abs(middle), 1e-3));
}

/**
 * The deepest abnormal services: those downstream with any abnormal metric but traffic and no abnormal callee, by how abnormal they are
 * (the traversal baseline of PetShop, with the same test of a series as the search has, at `least`).
 */
export function deepestAbnormal(least: number): Method {
  return (input: RootCauseInput) => {
    const abnormal = new Map<string, number>();
    const bySvc = new Map<string, MetricSeries[]>();
    for (const one of input.series) bySvc.set(one.service, [...(bySvc.get(one.service) ?? []), one]);
    for (const [name, all] of bySvc)
      for (const one of prepare(all, input.incident)) {
        if (one.meaning.role === "traffic") continue;
        const change = changeOf(one.readings, input.incident, one.meaning.bad, one.floor, one.average);
        if (!("silent" in change) && change.z >= least) abnormal.set(name, Math.max(abnormal.get(name) ?? 0, change.z));
      }
    const reach = new Set([input.target]);
    for (const name of reach) for (const { from, to } of input.edges) if (from === name) reach.add(to);
    const roots = new Map<string, number>();
    for (const [name, z] of abnormal)
      if (reach.has(name) && !input.edges.some(({ from, to }) => from === name && to !== name && abnormal.has(to))) roots.set(name, z);
    return ranked(roots);
  };
}

/** The services that the search ranks. */
export const ranking = (result: RootCauseResult): readonly string[] => result.causes.map(({ service }) => service);
