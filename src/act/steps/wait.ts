import { durationMs } from "../../api/units.ts";
import type { StepParams } from "../../api/runbook.ts";
import type { StepDefinition } from "../step.ts";

/** Does nothing for a while. */
export const wait: StepDefinition = {
  type: "wait",
  destructive: false,
  poll: ({ step, elapsed }) => {
    const left = durationMs((step.params as StepParams<"wait">).for) - elapsed;
    return left > 0 ? { state: "Waiting", message: `${Math.ceil(left / 1000)} s to go` } : { state: "Done", message: "waited" };
  },
};
