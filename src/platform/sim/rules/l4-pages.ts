import { keyOf } from "./facts.ts";
import type { Rule } from "./rule.ts";

/** Somebody is told. */
export const l4Pages: Rule = {
  name: "L4",
  doc: "A page is delivered at least once: when everything is over, no page waits, each that counts as sent has arrived, and of each escalation somebody was told.",
  watch: (truth) => ({
    ended: () =>
      truth.api.list("Remediation").flatMap((remediation) => {
        const { page, phase } = remediation.status;
        const arrived = (dedupKey: string): boolean =>
          truth.pages.some((each) => each.page.severity === "Page" && each.page.dedupKey === dedupKey);
        if (remediation.status.storm?.page?.state === "Pending") return [`the page of a storm of ${keyOf(remediation)} still waits`];
        if (page === undefined) {
          const told = truth.pages.some(
            ({ page: other }) =>
              other.severity === "Page" && other.policy === `${remediation.metadata.namespace}/${remediation.spec.policy.name}`,
          );
          return phase === "Escalated" && !told ? [`${keyOf(remediation)} was escalated, and nobody was told`] : [];
        }
        if (page.state === "Pending") return [`the page of ${keyOf(remediation)} still waits: ${page.lastError ?? ""}`];
        return arrived(page.dedupKey) ? [] : [`the page of ${keyOf(remediation)} counts as sent, and never arrived`];
      }),
  }),
};
