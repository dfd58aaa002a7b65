import { targetKey } from "../../../api/meta.ts";
import type { RemediationPolicy } from "../../../api/policy.ts";
import type { Remediation } from "../../../api/remediation.ts";
import { durationMs } from "../../../api/units.ts";
import { knownBefore, policyKeyOf } from "./facts.ts";
import type { Rule } from "./rule.ts";
import { Versions } from "./versions.ts";

const subjectOf = (remediation: Remediation): string => `${policyKeyOf(remediation)} ${targetKey(remediation.spec.workload)}`;

/** It gives up in time, and says so once. */
export const s06Strikes: Rule = {
  name: "S6",
  doc: "After `attempts.max` without success inside the window no further attempt begins until `attempts.reset` has passed, and one incident is paged once, until it is over.",
  watch: (truth) => {
    const versions = new Versions(truth);
    const strikes = new Map<string, number[]>();
    /** Episode that was paged, by incident, since its workload was last healed. */
    const paged = new Map<string, string>();
    // Stored times are by the operators' clocks: where those jump, hours are no measure.
    const clocksJump = truth.scenario.faults.some(({ kind }) => kind === "ClockJump");
    return {
      stored(change) {
        versions.changed(change);
        const { object, before } = change;
        if (object.kind !== "Remediation") return undefined;
        // What its receivers are told is over may be paged for again.
        for (const page of [object.status.page, object.status.storm?.page])
          if (page?.state === "Resolving" || page?.state === "Resolved") paged.delete(page.dedupKey);
        if (object.spec.mode === "Observe") return undefined;
        const was = before?.kind === "Remediation" ? before.status : undefined;
        const subject = subjectOf(object);
        const policy = truth.api.get("RemediationPolicy", object.metadata.namespace, object.spec.policy.name);
        const known = strikes.get(subject) ?? [];
        strikes.set(subject, known);
        let broken: string | undefined;
        if (policy !== undefined && !clocksJump && object.status.attempts.length > (was?.attempts.length ?? 0)) {
          const isOpen = ({ max, window, reset }: RemediationPolicy["spec"]["attempts"]): boolean => {
            // It opens with the last of as many strikes as fit into the window, and closes that long after it.
            const opened = known.findLast((at, i) => i + 1 >= max && at - (known[i + 1 - max] ?? 0) < durationMs(window));
            // A second for the network, and for the rounding of stored times.
            return opened !== undefined && truth.now < opened + durationMs(reset ?? window) - 2_000;
          };
          const since = knownBefore(truth, { viewAgeMs: 0, wallMs: truth.now }, {}, { kind: "RemediationPolicy" });
          const said = versions.policiesSince(object.metadata.namespace, object.spec.policy.name, since);
          if (said.every((each) => isOpen(each.spec.attempts)))
            broken = `${object.metadata.name} begins another attempt after ${known.length} without success`;
        }
        object.status.attempts.forEach((attempt, i) => {
          if (attempt.outcome === undefined || was?.attempts[i]?.outcome === attempt.outcome) return;
          if (attempt.outcome === "Effective") known.length = 0;
          else if (attempt.outcome !== "Cancelled" && attempt.endedAt !== undefined) known.push(truth.now);
        });
        if (object.status.outcome === "Remediated" && was?.outcome !== "Remediated")
          for (const key of paged.keys())
            if (key.startsWith(`${policyKeyOf(object)}/${targetKey(object.spec.workload)}/`)) paged.delete(key);
        return broken;
      },
      paged({ page }) {
        if (page.severity !== "Page") return undefined;
        const first = paged.get(page.dedupKey);
        paged.set(page.dedupKey, page.remediation);
        return first === undefined || first === page.remediation
          ? undefined
          : `the incident ${page.dedupKey} was paged for ${first} and again for ${page.remediation}`;
      },
    };
  },
};
