import { z } from "zod";
import { objectName } from "../api/meta.ts";
import type { Page } from "./paging.ts";

/** What Slack wants escaped (https://docs.slack.dev/messaging/formatting-message-text). */
export const escapeSlack = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** The ids by which what comes back is known. */
export const SLACK_IDS = { approve: "nightshift.approve", deny: "nightshift.deny", reason: "nightshift.reason" } as const;

/** Most characters of a reason. */
export const MAX_REASON = 300;

const questionSchema = z.strictObject({
  namespace: objectName,
  name: objectName,
  uid: z.string().min(1).max(100),
  targetUid: z.string().min(1).max(300).optional(),
});
export type SlackQuestion = z.output<typeof questionSchema>;

/** What a button says that it is about; undefined where that is nothing of ours. */
export function readQuestion(value: string): SlackQuestion | undefined {
  try {
    return questionSchema.parse(JSON.parse(value));
  } catch {
    return undefined;
  }
}

/** Blocks by which a question is answered: why, and two buttons (https://docs.slack.dev/reference/block-kit). */
export function answerBlocks(question: NonNullable<Page["question"]>): object[] {
  // Slack's bound of a value is 2000 characters: two names, two uids.
  const value = JSON.stringify(question);
  const text = (of: string) => ({ type: "plain_text", text: of });
  return [
    {
      type: "input",
      block_id: SLACK_IDS.reason,
      optional: true,
      label: text("Why (goes on record)"),
      element: { type: "plain_text_input", action_id: SLACK_IDS.reason, max_length: MAX_REASON },
    },
    {
      type: "actions",
      elements: [
        { type: "button", action_id: SLACK_IDS.approve, style: "primary", text: text("Approve"), value },
        { type: "button", action_id: SLACK_IDS.deny, style: "danger", text: text("Deny"), value },
      ],
    },
  ];
}
