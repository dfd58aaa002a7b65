import type { StepParams } from "../../api/runbook.ts";
import type { StepDefinition } from "../step.ts";

/** Tells the receivers something. Delivered at least once: a crash in between sends it again, under the same key. */
export const notify: StepDefinition = {
  type: "notify",
  destructive: false,
  notification: ({ step }) => (step.params as StepParams<"notify">).message,
};
