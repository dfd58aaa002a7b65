import type { Remediation } from "../../../api/remediation.ts";
import type { Delivered } from "../surroundings.ts";
import type { FaultKind } from "../scenario.ts";
import { keyOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** By what a leader may act on what it knew before another stored more, or not come to store anything. */
const MAY_REPEAT: ReadonlySet<FaultKind> = new Set([
  "ApiErrors",
  "ApiOutage",
  "ApiSlow",
  "StaleReads",
  "WatchLag",
  "WatchDrops",
  "WatchReorders",
  "Stop",
  "ClockJump",
  "LeaseCut",
  "LeaseDeleted",
]);

/** Asked once, and taken back. */
export const s24NotLeftOpen: Rule = {
  name: "S24",
  doc: "What people were asked or told is not left open, and nothing is asked twice: a question that is on record as asked is not asked again, also by who leads after a restart, and when everything is over, each question, notice and page that has arrived was said to be over afterwards. Excused is what an alert began, where another leads since: its end may have been told to the one before, and what Alertmanager does not have any more nobody hears here.",
  watch: (truth) => {
    const isJudged = !truth.scenario.faults.some(({ kind }) => MAY_REPEAT.has(kind));
    /** When a question was first on record as asked or closed (ms since the epoch), by its episode. */
    const settledAt = new Map<string, number>();
    return {
      stored({ object }) {
        const question = object.kind === "Remediation" ? object.status.question : undefined;
        const key = keyOf(object);
        if (question === undefined || question.state === "Pending") settledAt.delete(key);
        else if (!settledAt.has(key)) settledAt.set(key, truth.now);
        return undefined;
      },
      paged({ page, sentAt }) {
        if (!isJudged || page.question === undefined) return undefined;
        const { namespace, name } = page.question;
        const since = settledAt.get(`${namespace}/${name}`);
        // One that was on its way as its episode ended is asked no second time.
        if (since === undefined || since > sentAt) return undefined;
        const state = truth.api.get("Remediation", namespace, name)?.status.question?.state ?? "gone";
        return `${namespace}/${name} asks again for an answer: its question is ${state}`;
      },
      ended() {
        const newest = (all: readonly Delivered[], key: string): number | undefined =>
          all.findLast(({ page }) => page.dedupKey === key)?.at;
        const broken = new Set<string>();
        const isUnheard = ({ spec }: Remediation): boolean => spec.signal.condition === "alert" && truth.leaderEpoch !== 1;
        const unheard = new Set<string | undefined>();
        for (const remediation of truth.api.list("Remediation")) {
          const { page, notice } = remediation.status;
          for (const record of [page, notice]) if (record?.state === "Sent" && isUnheard(remediation)) unheard.add(record.dedupKey);
        }
        for (const { page } of truth.pages) {
          if (unheard.has(page.dedupKey)) continue;
          const closedAt = newest(truth.resolved, page.dedupKey) ?? -Infinity;
          if (closedAt < (newest(truth.pages, page.dedupKey) ?? 0)) broken.add(`${page.dedupKey} is open, and nobody is at it`);
        }
        for (const remediation of truth.api.list("Remediation")) {
          const { question, notice } = remediation.status;
          for (const [what, record] of Object.entries({ question, notice }))
            if (record !== undefined && record.state !== "Resolved" && record.state !== "NoReceiver" && !unheard.has(record.dedupKey))
              broken.add(`the ${what} of ${keyOf(remediation)} is ${record.state} in the end`);
        }
        return [...broken];
      },
    };
  },
};
