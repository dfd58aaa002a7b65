import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readQuestion } from "../../../src/record/slack.ts";
import { SlackActions, SLACK_PATH } from "../../../src/server/slack.ts";
import { withChanges } from "../bytes.ts";
import { changedJson } from "../json.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const NOW = 1_800_000_000_000;
const SECRET = "a signing secret of thirty-two characters";
const TIMESTAMP = String(NOW / 1_000);

const actions = (): SlackActions =>
  new SlackActions({
    secretFile: "/nonexistent",
    teams: ["T0HOME"],
    approvers: [],
    store: () => assert.fail(`${SLACK_PATH} asked for the store`),
    clock: { now: () => NOW, monotonic: () => 0, after: () => () => {} },
    log: { warn() {}, error() {} },
  });

const form = (payload: unknown): string => new URLSearchParams({ payload: JSON.stringify(payload) }).toString();
/** The payloads; what is sent has them in a form. */
const payloads = seedsOf("slack");
const sent = withChanges(changedJson(payloads, form), [
  "&payload=",
  "payload=",
  "%00",
  "%F0%9F",
  "+",
  "https://hooks.slack.com/",
  "http://127.0.0.1/",
]);

/** Requests that Slack has signed: the body is what varies. */
export const slack: FuzzTarget = {
  name: "slack",
  seeds: payloads.map((payload) => Buffer.from(form(JSON.parse(Buffer.from(payload).toString())))),
  inputs: sent,
  check(input) {
    const signature = `v0=${createHmac("sha256", SECRET).update(`v0:${TIMESTAMP}:`).update(input).digest("hex")}`;
    return decoded(
      new Set(["SLACK_MALFORMED"]),
      () => actions().open(SECRET, { timestamp: TIMESTAMP, signature }, input),
      (click) => {
        assert.match(click.user, /^[UW][A-Z0-9]+$/);
        assert.match(click.team, /^[TE][A-Z0-9]+$/);
        assert.ok(["Approved", "Denied"].includes(click.decision));
        assert.deepEqual(readQuestion(JSON.stringify(click.question)), click.question);
        assert.ok(["hooks.slack.com", "hooks.slack-gov.com"].includes(new URL(click.responseUrl).hostname));
        // oxlint-disable-next-line no-control-regex -- they are what must not be there
        assert.ok(click.reason === undefined || (click.reason.length <= 300 && !/[\u0000-\u001f\u007f-\u009f]/.test(click.reason)));
        assert.ok(click.blocks.length <= 10);
      },
    );
  },
};
