import { targetKey } from "../../../api/meta.ts";
import { isTerminal, TERMINAL_PHASES, type Remediation } from "../../../api/remediation.ts";
import { durationMs } from "../../../api/units.ts";
import { Evidence } from "./evidence.ts";
import { knownBefore, NEWS_MS, policyKeyOf } from "./facts.ts";
import type { Rule } from "./rule.ts";
import { Versions } from "./versions.ts";

const subjectOf = (remediation: Remediation): string => `${policyKeyOf(remediation)} ${targetKey(remediation.spec.workload)}`;

/** What was held back is not made up for. */
export const s11NoBacklog: Rule = {
  name: "S11",
  doc: "Breakers never block healing events, and a closed breaker does not replay its backlog: an episode that was held back begins only while its condition truly holds, and after one that acted, a workload rests for the policy's `cooldown`.",
  watch: (truth) => {
    const versions = new Versions(truth);
    const evidence = new Evidence(truth);
    /** When an episode that acted ended, by policy and workload (ms since the epoch). */
    const ended = new Map<string, number>();
    // Stored times are by the operators' clocks: where those jump, a rest is no measure.
    const clocksJump = truth.scenario.faults.some(({ kind }) => kind === "ClockJump");
    /** What is begun within the rest after the last episode. */
    const restless = (episode: Remediation, cooldown: string): string | undefined => {
      const since = truth.now - (ended.get(subjectOf(episode)) ?? -Infinity);
      if (clocksJump || since >= durationMs(cooldown) - 2_000) return undefined;
      return `${episode.metadata.name} begins ${Math.round(since / 1000)} s after the last episode of its workload, and the cooldown is ${cooldown}`;
    };
    return {
      checked() {
        evidence.look();
        return undefined;
      },
      stored(change) {
        versions.changed(change);
        const { object, before } = change;
        if (object.kind !== "Remediation" || object.spec.mode === "Observe") return undefined;
        const was = before?.kind === "Remediation" ? before.status : undefined;
        const policy = truth.api.get("RemediationPolicy", object.metadata.namespace, object.spec.policy.name);
        const begins = object.status.attempts.length > 0 && (was?.attempts.length ?? 0) === 0;
        const known = knownBefore(truth, { viewAgeMs: 0, wallMs: truth.now }, {}, { kind: "RemediationPolicy" });
        const rests = versions.policiesSince(object.metadata.namespace, object.spec.policy.name, known).map((each) => each.spec.cooldown);
        const [shortest = "0s"] = rests.toSorted((a, b) => durationMs(a) - durationMs(b));
        const tired = begins && policy !== undefined ? restless(object, shortest) : undefined;
        const acted = truth.mutations.some(({ effect }) => effect.id.startsWith(`${object.metadata.namespace}/${object.metadata.name}/`));
        if (acted && isTerminal(object) && was !== undefined && !TERMINAL_PHASES.has(was.phase)) ended.set(subjectOf(object), truth.now);
        if (tired !== undefined || was?.phase !== "Blocked" || !begins) return tired;
        evidence.look();
        const last = policy === undefined ? undefined : evidence.lastHeld(object, policy);
        if (policy === undefined || last === undefined) return undefined;
        const { groupIntervalMs } = truth.scenario.monitoring;
        const news =
          object.spec.signal.condition === "probe" ? 2 * NEWS_MS : durationMs(policy.spec.maxSignalAge) + groupIntervalMs + 4 * NEWS_MS;
        if (truth.now - last <= news) return undefined;
        return `${object.metadata.name} was held back (${was.reason ?? ""}) and begins, ${Math.round((truth.now - last) / 1000)} s after ${object.spec.signal.name} ceased`;
      },
    };
  },
};
