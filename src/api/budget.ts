import { z } from "zod";
import { resourceSchema } from "./meta.ts";
import { budgetSchema, pauseSchema } from "./policy.ts";
import { percentOrInteger } from "./units.ts";

const ill = (what: string, byDefault: string) =>
  percentOrInteger.optional().meta({
    description: `Of ${what}. Default \`${byDefault}\`. A percentage is rounded down, but never below one ill replica of a workload, and two of anything wider.`,
  });

/** What a budget of the platform team says. */
export const remediationBudgetSpecSchema = z.strictObject({
  paused: pauseSchema.optional().meta({ description: "Stops every policy that the budget covers: the platform team's emergency brake." }),
  namespaces: z.array(z.string()).min(1).max(1_000).optional().meta({ description: "Namespaces that it covers. Default: all." }),
  budgets: z.array(budgetSchema).max(50).default([]).meta({ description: "Limits a workload; the strictest that applies wins." }),
  stormBrake: z
    .strictObject({
      workload: ill("a workload's replicas", "67%"),
      node: ill("the replicas on a node", "50%"),
      zone: ill("the replicas in a zone (of nodes: its nodes)", "50%"),
      namespace: ill("a namespace's workloads", "50%"),
      cluster: ill("all workloads (of nodes: all nodes)", "25%"),
    })
    .optional()
    .meta({
      description:
        "How much may be ill at once before nothing of it is touched, as the cause is then not the targets' own; the strictest that applies wins. `100%` never holds.",
    }),
  maxConcurrent: z.int().min(0).optional().meta({ description: "Most live remediations at once in what it covers. Default: no limit." }),
});

/** Cluster-scoped limits owned by the platform team; the most restrictive of all that apply wins. */
export const remediationBudgetSchema = resourceSchema("RemediationBudget", remediationBudgetSpecSchema);
export type RemediationBudget = z.output<typeof remediationBudgetSchema>;
