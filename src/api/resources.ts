import { remediationApprovalSchema, type RemediationApproval } from "./approval.ts";
import { remediationBudgetSchema, type RemediationBudget } from "./budget.ts";
import { serviceDependencySchema, type ServiceDependency } from "./dependency.ts";
import type { Kind } from "./meta.ts";
import { remediationPolicySchema, type RemediationPolicy } from "./policy.ts";
import { remediationSchema, type Remediation } from "./remediation.ts";
import { runbookSchema, type Runbook } from "./runbook.ts";

/** The resource of each kind. */
export interface ResourceOf {
  RemediationPolicy: RemediationPolicy;
  Runbook: Runbook;
  Remediation: Remediation;
  RemediationBudget: RemediationBudget;
  RemediationApproval: RemediationApproval;
  ServiceDependency: ServiceDependency;
}
export type Resource = ResourceOf[Kind];

/** The schema of each kind: the one source of types, validation and reference. */
export const SCHEMAS = {
  RemediationPolicy: remediationPolicySchema,
  Runbook: runbookSchema,
  Remediation: remediationSchema,
  RemediationBudget: remediationBudgetSchema,
  RemediationApproval: remediationApprovalSchema,
  ServiceDependency: serviceDependencySchema,
} as const;
