import { createHmac, timingSafeEqual } from "node:crypto";
import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { RemediationApproval } from "../api/approval.ts";
import { messageOf, NightshiftError } from "../api/errors.ts";
import { type SlackApprover, slackName } from "../api/slack.ts";
import { type Clock, sleep } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";
import { answered, answerEpisode } from "../record/answer.ts";
import { escapeSlack, MAX_REASON, readQuestion, SLACK_IDS, type SlackQuestion } from "../record/slack.ts";
import { MIN_TOKEN_LENGTH } from "./token.ts";

/** Where Slack sends what people click: the app's "Interactivity" request URL. */
export const SLACK_PATH = "/v1/slack/actions";
/** Largest body (bytes). Slack sends the whole message back, form-encoded: ours come to some 20 kB. */
export const MAX_SLACK_BODY = 256 * 1024;
/** A request that was signed longer ago is refused (ms): https://docs.slack.dev/authentication/verifying-requests-from-slack. */
const WINDOW_MS = 300_000;
/** Slack shows an error where it has no answer within 3 s. What takes longer goes on behind an answer that is given by then (ms). */
const ANSWER_MS = 2_000;
/** How often the file with the secret is looked at again (ms). */
const SECRET_MS = 5_000;
/** Time limit of one word to Slack (ms), and how often it is tried. */
const SAY_MS = 3_000;
const SAY_TRIES = 3;
/** Where Slack's `response_url` may lead. */
const SLACK_HOSTS: ReadonlySet<string> = new Set(["hooks.slack.com", "hooks.slack-gov.com"]);
/** Most blocks of the message that come back into it. */
const MAX_BLOCKS = 10;

/** What somebody clicked. */
export interface SlackClick {
  readonly user: string;
  /** The workspace that the user belongs to. */
  readonly team: string;
  readonly decision: "Approved" | "Denied";
  readonly question: SlackQuestion;
  readonly reason: string | undefined;
  readonly responseUrl: string;
  /** What the message had, but for what can be clicked and filled in. */
  readonly blocks: readonly object[];
}

/** Headers by which a request is known. */
export interface SlackHeaders {
  readonly timestamp: string | undefined;
  readonly signature: string | undefined;
}

/** What the answers by buttons need. */
export interface SlackOptions {
  /** File with the app's signing secret. */
  readonly secretFile: string;
  /** Workspaces whose users are meant. */
  readonly teams: readonly string[];
  readonly approvers: readonly SlackApprover[];
  /** Where answers are stored, and what they are about is read. */
  readonly store: () => Pick<Store, "get" | "list" | "create">;
  readonly clock: Clock;
  readonly log: { warn(data: object, message: string): void; error(data: object, message: string): void };
  /** Lets `response_url` lead to 127.0.0.1, too, without TLS: a Slack that a test plays. Default: only to Slack. */
  readonly loopback?: boolean | undefined;
}

const clickSchema = z.object({
  type: z.literal("block_actions"),
  user: z.object({ id: z.string().regex(/^[UW][A-Z0-9]{2,30}$/), team_id: z.string().regex(/^[TE][A-Z0-9]{2,30}$/) }),
  response_url: z.string(),
  message: z.object({ blocks: z.array(z.looseObject({ type: z.string() })).optional() }).optional(),
  state: z.object({ values: z.record(z.string(), z.record(z.string(), z.object({ value: z.string().nullish() }))) }).optional(),
  actions: z.array(z.object({ action_id: z.string(), value: z.string().optional() })).min(1),
});

/**
 * Answers to questions for approval, by buttons in Slack. A request is let in by its signature alone (v0: HMAC-SHA256 over
 * `v0:timestamp:body`), within five minutes, once. Who clicked is who Slack says; whether they may, the configuration.
 */
export class SlackActions {
  readonly #options: SlackOptions;
  readonly #approvers: ReadonlyMap<string, SlackApprover>;
  readonly #closing = new AbortController();
  /** Signatures that were let in, with when they may be forgotten (monotonic ms). */
  readonly #seen = new Map<string, number>();
  #secret: { readonly value: string; readonly at: number } | undefined;

  constructor(options: SlackOptions) {
    this.#options = options;
    this.#approvers = new Map(options.approvers.map((approver) => [approver.id, approver]));
  }

  /** The signing secret, as its file has it now. Rejects with `AUTH_UNAVAILABLE`. */
  async secret(): Promise<string> {
    const { clock, secretFile } = this.#options;
    const now = clock.monotonic();
    if (this.#secret !== undefined && now - this.#secret.at < SECRET_MS) return this.#secret.value;
    this.#secret = undefined;
    let value: string;
    try {
      value = (await readFile(secretFile, "utf8")).trim();
    } catch (cause) {
      throw new NightshiftError("AUTH_UNAVAILABLE", "who may send cannot be told at the moment", { cause });
    }
    if (value.length < MIN_TOKEN_LENGTH)
      throw new NightshiftError("AUTH_UNAVAILABLE", "who may send cannot be told at the moment", {
        cause: new NightshiftError("TOKEN_WEAK", `the signing secret has fewer than ${MIN_TOKEN_LENGTH} characters`, { where: secretFile }),
      });
    this.#secret = { value, at: now };
    return value;
  }

  /** Refuses what need not be read: no signature, or one of another time. Throws `SLACK_UNSIGNED` or `SLACK_STALE`. */
  admit({ timestamp, signature }: SlackHeaders): void {
    if (timestamp === undefined || signature === undefined || !/^\d{1,12}$/.test(timestamp) || !/^v0=[0-9a-f]{64}$/.test(signature))
      throw unsigned();
    if (!(Math.abs(this.#options.clock.now() - Number(timestamp) * 1_000) <= WINDOW_MS))
      throw new NightshiftError("SLACK_STALE", "the request was signed more than five minutes ago, or later than now", {
        fix: "Check the clocks, if it came from Slack just now.",
      });
  }

  /**
   * What was clicked, of a request that Slack has signed.
   *
   * @throws NightshiftError `SLACK_UNSIGNED`, `SLACK_STALE`, `SLACK_REPLAYED` or `SLACK_MALFORMED`.
   */
  open(secret: string, headers: SlackHeaders, body: Uint8Array): SlackClick {
    this.admit(headers);
    const { timestamp = "", signature = "" } = headers;
    const expected = createHmac("sha256", secret).update(`v0:${timestamp}:`).update(body).digest();
    if (!timingSafeEqual(expected, Buffer.from(signature.slice("v0=".length), "hex"))) throw unsigned();
    const now = this.#options.clock.monotonic();
    for (const [known, until] of this.#seen) {
      if (until > now) break;
      this.#seen.delete(known);
    }
    if (this.#seen.has(signature)) throw new NightshiftError("SLACK_REPLAYED", "the request has been here before");
    // Signed up to five minutes ahead of us, it would be taken for ten.
    this.#seen.set(signature, now + 2 * WINDOW_MS);
    return this.#read(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8"));
  }

  #read(body: string): SlackClick {
    const malformed = (what: string, cause?: unknown): NightshiftError =>
      new NightshiftError("SLACK_MALFORMED", what, {
        fix: `${SLACK_PATH} takes clicks on the buttons of Nightshift's own messages.`,
        cause,
      });
    let payload: z.output<typeof clickSchema>;
    try {
      payload = clickSchema.parse(JSON.parse(new URLSearchParams(body).get("payload") ?? ""));
    } catch (cause) {
      throw malformed("the request is none of a click in a message", cause);
    }
    const action = payload.actions.find(({ action_id }) => action_id === SLACK_IDS.approve || action_id === SLACK_IDS.deny);
    const question = readQuestion(action?.value ?? "");
    if (action === undefined || question === undefined) throw malformed("the button is none of Nightshift's");
    if (!isResponseUrl(payload.response_url, this.#options.loopback === true)) throw malformed("the response_url does not lead to Slack");
    const reason = payload.state?.values[SLACK_IDS.reason]?.[SLACK_IDS.reason]?.value ?? "";
    const clean = oneLine(reason).slice(0, MAX_REASON);
    const kept = (payload.message?.blocks ?? []).filter(({ type }) => ["header", "section", "context"].includes(type));
    return {
      user: payload.user.id,
      team: payload.user.team_id,
      decision: action.action_id === SLACK_IDS.approve ? "Approved" : "Denied",
      question,
      reason: clean === "" ? undefined : clean,
      responseUrl: payload.response_url,
      blocks: kept.slice(0, MAX_BLOCKS),
    };
  }

  /**
   * Stores what was clicked, and has the message say what came of it. Resolves once it is stored or refused, within two
   * seconds in any case; never rejects. Returns why it was refused, in one word.
   */
  async answer(click: SlackClick): Promise<string | undefined> {
    let cancel = (): void => {};
    const late = new Promise<undefined>((resolve) => {
      cancel = this.#options.clock.after(ANSWER_MS, () => resolve(undefined));
    });
    const given = this.#answer(click).then(({ refused, say }) => {
      void this.#say(click.responseUrl, say);
      return refused;
    });
    try {
      return await Promise.race([given, late]);
    } finally {
      cancel();
    }
  }

  /** Says nothing more. */
  close(): void {
    this.#closing.abort();
  }

  async #answer(click: SlackClick): Promise<{ readonly refused?: string; readonly say: object }> {
    const { clock, log } = this.#options;
    const { user, team, decision, question, reason } = click;
    const { namespace, name, uid, targetUid } = question;
    // Of another workspace, one of the same id is somebody else.
    const approver = this.#options.teams.includes(team) ? this.#approvers.get(user) : undefined;
    const where = `${namespace}/${name}`;
    if (approver === undefined || approver.namespaces?.includes(namespace) === false) {
      log.warn({ user, team, remediation: where, decision }, "somebody who may not has answered in Slack");
      const why = approver === undefined ? "Nightshift does not know you" : `you may not answer for namespace ${namespace}`;
      return { refused: "SLACK_NOT_APPROVER", say: aside(`No: ${why} (${user} of ${team}, see slack.approvers). Nothing was answered.`) };
    }
    const store = this.#options.store;
    try {
      const by = slackName(approver);
      const asked = { uid, targetUid };
      const stored = await answerEpisode(store(), {
        namespace,
        name,
        decision,
        by,
        reason,
        via: "Slack",
        question: asked,
        now: clock.now(),
      });
      return { say: instead(click, sentence(stored)) };
    } catch (error) {
      const code = error instanceof NightshiftError ? error.code : "INTERNAL";
      const final: Readonly<Record<string, string>> = {
        NOT_FOUND: "There is no such remediation any more: nothing was answered.",
        TARGET_CHANGED: "The target has changed since this was asked: nothing was answered.",
        APPROVAL_EXPIRED: `Too late: ${escapeSlack((error as Error).message)}. Nothing was answered.`,
        NOT_AWAITING_APPROVAL: `Too late: ${escapeSlack((error as Error).message)}. Nothing was answered.`,
      };
      if (code === "ALREADY_EXISTS") {
        const before = await answered(store(), { metadata: { namespace, name } }, decision, question).catch(() => undefined);
        return { refused: code, say: instead(click, before === undefined ? "This was answered before." : sentence(before)) };
      }
      const said = final[code];
      if (said !== undefined) return { refused: code, say: instead(click, said) };
      log.error({ error: messageOf(error), remediation: where, user, decision }, "an answer from Slack could not be stored");
      return { refused: code, say: aside(`Your answer to ${where} could not be stored. Please try again in a moment.`) };
    }
  }

  async #say(url: string, body: object): Promise<void> {
    const { clock, log } = this.#options;
    let why = "";
    for (let tries = 1; tries <= SAY_TRIES && !this.#closing.signal.aborted; tries++) {
      try {
        const response = await fetch(url, {
          method: "POST",
          redirect: "manual",
          headers: { "content-type": "application/json; charset=utf-8", "user-agent": "nightshift" },
          body: JSON.stringify(body),
          signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(SAY_MS)]),
        });
        await response.body?.cancel().catch(() => undefined);
        if (response.ok) return;
        why = `answered ${response.status}`;
        if (response.status < 500 && response.status !== 429) break;
      } catch (error) {
        // Its message may hold the address, which is a secret for as long as it may be used.
        why = (error as { cause?: NodeJS.ErrnoException }).cause?.code ?? (error as Error).name;
      }
      await sleep(clock, 1_000 * tries, this.#closing.signal);
    }
    if (!this.#closing.signal.aborted) log.warn({ why }, "a message in Slack could not be brought up to date");
  }
}

/** As one line without control characters: it is shown on terminals. */
function oneLine(text: string): string {
  // oxlint-disable-next-line no-control-regex -- they are what is taken out
  return text.replace(/[\u0000-\u001f\u007f-\u009f\s]+/g, " ").trim();
}

function unsigned(): NightshiftError {
  return new NightshiftError("SLACK_UNSIGNED", "the request is not signed by Slack", {
    fix: "Check that the file has the Signing Secret of the app whose buttons these are.",
  });
}

/** Whether an address is one of Slack's, and nothing else: what is sent there must not be sent elsewhere. */
export function isResponseUrl(text: string, loopback: boolean): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, port, username, password } = new URL(text);
  if (username !== "" || password !== "") return false;
  if (loopback && protocol === "http:" && hostname === "127.0.0.1") return true;
  return protocol === "https:" && port === "" && SLACK_HOSTS.has(hostname);
}

/** What the message says in the place of its buttons. */
function instead({ blocks }: SlackClick, text: string): object {
  return { replace_original: true, text, blocks: [...blocks, { type: "section", text: { type: "mrkdwn", text } }] };
}

/** What only the one who clicked sees. */
const aside = (text: string): object => ({ response_type: "ephemeral", replace_original: false, text: escapeSlack(text) });

function sentence({ spec: { decision, by, at, reason } }: RemediationApproval): string {
  const what = decision === "Approved" ? "Approved" : "Denied";
  return `*${what}* by ${escapeSlack(by)} at ${at}${reason === undefined ? "" : `: ${escapeSlack(reason)}`}`;
}
