import { z } from "zod";
import { resourceSchema } from "./meta.ts";
import { budgetSchema, pauseSchema } from "./policy.ts";

/** What a budget of the platform team says. */
export const remediationBudgetSpecSchema = z.strictObject({
  paused: pauseSchema.optional().meta({ description: "Stops every policy that the budget covers: the platform team's emergency brake." }),
  namespaces: z.array(z.string()).min(1).max(1_000).optional().meta({ description: "Namespaces that it covers. Default: all." }),
  budgets: z.array(budgetSchema).max(50).default([]).meta({ description: "Limits a workload; the strictest that applies wins." }),
  maxConcurrent: z.int().min(0).optional().meta({ description: "Most live remediations at once in what it covers. Default: no limit." }),
});

/** Cluster-scoped limits owned by the platform team; the most restrictive of all that apply wins. */
export const remediationBudgetSchema = resourceSchema("RemediationBudget", remediationBudgetSpecSchema);
export type RemediationBudget = z.output<typeof remediationBudgetSchema>;
