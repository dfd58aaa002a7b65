import { z } from "zod";
import { objectName } from "./meta.ts";

/** Who may answer in Slack. */
const approverSchema = z.strictObject({
  id: z
    .string()
    .regex(/^[UW][A-Z0-9]{2,30}$/, { error: "expected a Slack user id, such as U024BE7LH (in Slack: profile, copy member ID)" })
    .meta({ description: "Slack's id of the user, such as `U024BE7LH`. Names can be changed by whoever bears them, ids cannot." }),
  name: z
    .string()
    .regex(/^[A-Za-z0-9]([A-Za-z0-9._@ -]{0,62}[A-Za-z0-9])?$/, { error: "expected letters, digits, blanks and . _ @ -, 64 at most" })
    .meta({ description: "Who that is. It goes on record with the id: `slack:U024BE7LH (jane)`." }),
  namespaces: z
    .array(objectName)
    .min(1)
    .optional()
    .meta({ description: "Namespaces for whose episodes this person may answer. Default: all." }),
});
export type SlackApprover = z.output<typeof approverSchema>;

/** Answers by buttons in Slack. */
export const slackSchema = z
  .strictObject({
    signingSecretFile: z.string().min(1).meta({
      description: "File with the signing secret of the Slack app, by which its requests are known. Read again when it is replaced.",
    }),
    teams: z
      .array(z.string().regex(/^[TE][A-Z0-9]{2,30}$/, { error: "expected a Slack team id, such as T0AB12CD3" }))
      .min(1)
      .meta({
        description:
          "Ids of the workspaces that the approvers belong to, such as `T0AB12CD3`. Slack's user ids are unique within a workspace only, and in a channel that is shared with another company its people can click, too.",
      }),
    approvers: z.array(approverSchema).min(1).meta({ description: "Who may answer. Everybody else is told that they may not." }),
  })
  .superRefine(({ approvers }, ctx) => {
    const seen = new Set<string>();
    approvers.forEach(({ id }, index) => {
      if (seen.has(id)) ctx.addIssue({ code: "custom", path: ["approvers", index, "id"], message: `${id} is named twice` });
      seen.add(id);
    });
  })
  .meta({ description: "Buttons in messages to `Slack` receivers, by which questions for approval are answered. Default: none." });
export type SlackConfig = z.output<typeof slackSchema>;

/** Who answered, as `spec.by` has it. The chart's admission policy is rendered with the same. */
export function slackName({ id, name }: Pick<SlackApprover, "id" | "name">): string {
  return `slack:${id} (${name})`;
}
