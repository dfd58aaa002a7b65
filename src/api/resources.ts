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

/** What each kind is, in a sentence or two; the reference is generated from it. */
export const KIND_DOCS: Readonly<Record<Kind, string>> = {
  RemediationPolicy: "For which targets, on which signals, what to do, within which limits. Owned by the team whose workloads it covers.",
  Runbook: "Named, reusable, typed steps: the wiki page as code. A policy's ladder refers to it by name, in the same namespace.",
  Remediation:
    "One episode: why, diagnosis, gate results, steps, outcome, evidence. Lock, history and audit record in one. Nightshift writes it; people read it.",
  RemediationBudget: "Limits owned by the platform team, for all namespaces or some; the most restrictive of all that apply wins.",
  RemediationApproval:
    "A person's yes or no to one episode, a kind of its own so that RBAC can grant it apart. `nightshift approve` writes it.",
  ServiceDependency:
    "A declared edge of the service graph: while what a service depends on is the cause, the service itself is not touched.",
};
