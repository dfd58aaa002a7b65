import { isTerminal } from "../../../api/remediation.ts";
import type { Rule } from "./rule.ts";

/** How long nothing may be written at the end (ms): less than the run is quiet for. */
const QUIET_MS = 100_000;

/** It comes to an end. */
export const l1Ends: Rule = {
  name: "L1",
  doc: "Once faults stop, every Remediation ends within a bounded time (what the policies say themselves, and ten minutes), and then nothing is written. What a policy's status says of itself (that it has data again, after minutes) is no part of that.",
  watch: (truth) => ({
    ended() {
      const live = truth.api.list("Remediation").filter((each) => !isTerminal(each));
      if (live.length > 0)
        return live.map(
          ({ metadata, status }) => `${metadata.name} is still ${status.phase} (${status.reason ?? ""}: ${status.message ?? ""})`,
        );
      const late = truth.writes.filter(({ at, what }) => at > truth.now - QUIET_MS && !what.includes("RemediationPolicy"));
      return late.length === 0 ? [] : [`${late.length} writes when everything was over, such as ${late[0]?.what ?? ""}`];
    },
  }),
};
