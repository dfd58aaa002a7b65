import { z } from "zod";
import { kubernetes } from "./kubernetes.ts";
import { objectName, resourceSchema } from "./meta.ts";

/** What a person answered. */
export const approvalSpecSchema = z
  .strictObject({
    remediation: objectName.meta({ description: "Name of the Remediation in the same namespace." }),
    targetUid: z.string().optional().meta({ description: "Uid of the target that the person saw; another one voids the answer." }),
    decision: z.enum(["Approved", "Denied", "CircuitClosed"]).meta({
      description:
        "Yes or no; or `CircuitClosed`: what failed before `at` on the workload of that Remediation, under its policy, counts no more, so that its open circuit closes.",
    }),
    by: z.string().min(1).meta({ description: "Who." }),
    via: z.enum(["Slack"]).optional().meta({
      description:
        "`Slack`: a button in a message there. Nightshift itself wrote the answer then, for the person whom `slack.approvers` names. Default: whoever is `by` wrote it.",
    }),
    at: z.iso.datetime({ offset: true }).meta({ description: "When (RFC 3339)." }),
    reason: z.string().optional().meta({ description: "Why." }),
  })
  .register(kubernetes, { rules: [{ rule: "self == oldSelf", message: "an answer is not edited: give another one" }] });

/** A person's yes or no, a kind of its own so that RBAC can grant it apart. */
export const remediationApprovalSchema = resourceSchema("RemediationApproval", approvalSpecSchema);
export type RemediationApproval = z.output<typeof remediationApprovalSchema>;
