import type { SimWorkload } from "../world.ts";
import { isAct, isFirstOfAttempt, Moments, NEWS_MS, stepOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** How long a dependency has been ill until that must be known (ms): the window that is looked at, and what news take. */
const KNOWN_MS = 60_000 + NEWS_MS;
/** Share of failed requests that is well above what a ServiceDependency lets pass by default. */
const ILL = 0.2;
/** Fewer requests a second than this are no evidence. */
const LEAST_RPS = 1;

/** The innocent are left alone. */
export const s05Dependency: Rule = {
  name: "S5",
  doc: "While a dependency is the cause, the dependent is not touched: no attempt begins on a workload for its errors while one that it is declared to depend on, or is seen to call, has been failing long enough to be known.",
  watch: (truth) => {
    const ill = new Moments();
    const dependenciesOf = (workload: SimWorkload): SimWorkload[] => [...declared(workload), ...called(workload)];
    // Where requests are traced, and there are some.
    const called = ({ spec }: SimWorkload): SimWorkload[] =>
      truth.scenario.tracing !== true || spec.rps < LEAST_RPS ? [] : spec.calls.flatMap((name) => truth.world.workload(name) ?? []);
    const declared = ({ ref }: SimWorkload): SimWorkload[] =>
      truth.scenario.dependencies
        .filter(({ metadata, spec: edge }) => edge.from.name === ref.name && (edge.from.namespace ?? metadata.namespace) === ref.namespace)
        .flatMap(({ metadata, spec: edge }) => {
          const namespace = edge.to.namespace ?? metadata.namespace;
          return truth.world.workloads.find((each) => each.ref.name === edge.to.name && each.ref.namespace === namespace) ?? [];
        });
    return {
      checked() {
        for (const workload of truth.world.workloads)
          ill.holds(workload.uid, workload.spec.rps >= LEAST_RPS && truth.traffic.errorRate(workload) > ILL, truth.now);
        return undefined;
      },
      mutated(mutation) {
        if (!isAct(mutation) || !isFirstOfAttempt(truth, mutation) || truth.telemetryGapSince !== undefined) return undefined;
        const remediation = stepOf(truth, mutation.effect.id)?.remediation;
        const condition = remediation?.spec.signal.condition;
        // One that was told of it by an alert alone may not have heard of the requests yet: it must have led for a while.
        if (condition !== "errorRate") return undefined;
        const { workload } = mutation;
        if (workload === undefined) return undefined;
        const cause = dependenciesOf(workload).find((each) => (ill.since(each.uid) ?? truth.now) < truth.now - KNOWN_MS);
        if (cause === undefined) return undefined;
        return `${mutation.effect.type} on ${workload.spec.name} for its errors, while ${cause.spec.name}, which it depends on, fails`;
      },
    };
  },
};
