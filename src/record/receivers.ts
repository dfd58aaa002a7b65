import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { NightshiftError } from "../api/errors.ts";
import { timestamp } from "../api/time.ts";
import type { Random } from "../ports/random.ts";
import type { Page, Receiver } from "./paging.ts";
import { answerBlocks, escapeSlack } from "./slack.ts";

/** A receiver that has not confirmed in this time has not (ms). */
const TIME_LIMIT_MS = 5_000;
/** How much of an answer's body is read, for the error message (bytes). */
const ANSWER_BYTES = 512;
const MIN_DELAY_MS = 1_000;
/** Longest time between two tries of a page (ms). */
export const MAX_DELAY_MS = 300_000;

/**
 * Milliseconds until a page is tried again after `tries` failures: 2 s doubled with every try, the upper half of it random
 * ("equal jitter", as in AWS' "Exponential Backoff And Jitter"), from 1 s to 5 min. A receiver's own wish (`Retry-After`)
 * is obeyed up to 5 min: a page may be late, not lost.
 */
export function nextTry(tries: number, retryAfterMs: number | undefined, random: Random): number {
  const span = Math.min(MAX_DELAY_MS, 2 * MIN_DELAY_MS * 2 ** Math.min(30, Math.max(0, tries - 1)));
  const backoff = span / 2 + random.next() * (span / 2);
  const wanted = retryAfterMs === undefined || Number.isNaN(retryAfterMs) ? 0 : retryAfterMs;
  return Math.round(Math.min(MAX_DELAY_MS, Math.max(MIN_DELAY_MS, backoff, wanted)));
}

/** A page that was not confirmed. It never names the receiver's URL or token: both are secrets. */
export class DeliveryError extends NightshiftError {
  /** How long the receiver wants to be left alone (ms), where it said so. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, options: { readonly where: string; readonly fix?: string; readonly retryAfterMs?: number | undefined }) {
    super("PAGE_NOT_DELIVERED", message, options);
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Where a receiver is, and what it wants to see. */
export interface ReceiverOptions {
  /** Name that policies use. */
  readonly name: string;
  /** `http` or `https`. User and password in it become basic authentication. */
  readonly url?: string | undefined;
  /** File that holds the URL, where it is a secret. Read for every page, so it may be replaced at any time. */
  readonly urlFile?: string | undefined;
  /** File that holds a bearer token. Read for every page. */
  readonly tokenFile?: string | undefined;
  /** Time limit of one delivery (ms). Default 5000. */
  readonly timeoutMs?: number | undefined;
  /** Whether questions for approval get buttons, where the receiver can have them (Slack). Default: no. */
  readonly buttons?: boolean | undefined;
}

/** `Trigger`: somebody is needed. `Resolve`: not any more. */
type PageEvent = "Trigger" | "Resolve";

/** POSTs JSON; any 2xx is a confirmation, everything else is none. Redirects are not followed. */
abstract class HttpReceiver implements Receiver {
  readonly name: string;
  readonly #options: ReceiverOptions;

  constructor(options: ReceiverOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** What the receiver gets. */
  protected abstract payload(page: Page, event: PageEvent, token: string | undefined): unknown;

  /** Where it goes, of the configured URL. */
  protected path(base: URL, _page: Page, _event: PageEvent): URL {
    return base;
  }

  /** How the token is shown; undefined where it is part of the payload. */
  protected authorization(token: string): string | undefined {
    return `Bearer ${token}`;
  }

  send(page: Page, signal: AbortSignal): Promise<void> {
    return this.#post(page, "Trigger", signal);
  }

  resolve(page: Page, signal: AbortSignal): Promise<void> {
    return this.#post(page, "Resolve", signal);
  }

  async #post(page: Page, event: PageEvent, signal: AbortSignal): Promise<void> {
    const { url, headers, secrets, token } = await this.#address();
    const limitMs = this.#options.timeoutMs ?? TIME_LIMIT_MS;
    const limit = AbortSignal.timeout(limitMs);
    let response: Response;
    try {
      response = await fetch(this.path(url, page, event), {
        method: "POST",
        redirect: "manual",
        headers: { ...headers, "content-type": "application/json; charset=utf-8", "user-agent": "nightshift" },
        body: JSON.stringify(this.payload(page, event, token)),
        signal: AbortSignal.any([signal, limit]),
      });
    } catch (error) {
      if (signal.aborted) throw this.#failed("given up, as Nightshift stops");
      if (limit.aborted) throw this.#failed(`no answer in ${limitMs} ms`);
      throw this.#failed(`no answer: ${networkReason(error)}`, "Check its URL, and that it can be reached from here.");
    }
    if (response.ok) {
      await response.body?.cancel().catch(() => undefined);
      return;
    }
    const said = redact(await beginningOf(response), secrets);
    const status = `answered ${response.status}${said === "" ? "" : `: ${said}`}`;
    if (response.status >= 300 && response.status < 400)
      throw this.#failed(`answered ${response.status}: redirects are not followed`, "Configure the address that it leads to.");
    throw this.#failed(
      status,
      [401, 403, 404, 410].includes(response.status) ? "Check its URL and token." : undefined,
      retryAfter(response.headers.get("retry-after"), Date.now()),
    );
  }

  async #address(): Promise<{ url: URL; headers: Record<string, string>; secrets: string[]; token: string | undefined }> {
    const { urlFile, tokenFile } = this.#options;
    const text = urlFile === undefined ? (this.#options.url ?? "") : await this.#secret(urlFile, "URL");
    if (!URL.canParse(text) || !/^https?:/i.test(text))
      throw this.#failed("its URL is no http or https URL", `Correct ${urlFile === undefined ? "url" : urlFile}.`);
    const url = new URL(text);
    const headers: Record<string, string> = {};
    const secrets = [text, url.href, `${url.pathname}${url.search}`];
    if (url.username !== "" || url.password !== "") {
      const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
      headers["authorization"] = `Basic ${Buffer.from(credentials).toString("base64")}`;
      secrets.push(credentials, decodeURIComponent(url.password), url.password);
      url.username = "";
      url.password = "";
    }
    let token: string | undefined;
    if (tokenFile !== undefined) {
      token = await this.#secret(tokenFile, "token");
      if (!/^[\x21-\x7e]+$/.test(token))
        throw this.#failed("its token has characters that no HTTP header may have", `Correct ${tokenFile}.`);
      const authorization = this.authorization(token);
      if (authorization !== undefined) headers["authorization"] = authorization;
      secrets.push(token);
    }
    return { url, headers, secrets, token };
  }

  async #secret(path: string, what: string): Promise<string> {
    let text: string;
    try {
      text = (await readFile(path, "utf8")).trim();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
      throw this.#failed(`its ${what} cannot be read from ${path} (${code})`, "Check the file and its permissions.");
    }
    if (text === "") throw this.#failed(`the file of its ${what} is empty: ${path}`, "Write it there.");
    return text;
  }

  #failed(message: string, fix?: string, retryAfterMs?: number): DeliveryError {
    return new DeliveryError(message, { where: `receiver ${this.name}`, retryAfterMs, ...(fix === undefined ? {} : { fix }) });
  }
}

/** The code of what went wrong below HTTP. Messages of the network layer may hold the address, so they are not repeated. */
function networkReason(error: unknown): string {
  const codes: string[] = [];
  for (let at = error; at instanceof Error && codes.length === 0; at = at.cause) {
    const code = (at as NodeJS.ErrnoException).code;
    if (typeof code === "string") codes.push(code);
  }
  return codes[0] ?? "the connection failed";
}

/** The first bytes of an answer, as one line. What fails or takes too long here is left out. */
async function beginningOf(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return "";
  const chunks: Uint8Array[] = [];
  try {
    for (let length = 0; length < ANSWER_BYTES;) {
      const { value, done } = await reader.read();
      if (done) break;
      chunks.push(value);
      length += value.length;
    }
    await reader.cancel();
  } catch {
    // The status has been received; its text is an extra.
  }
  const text = new TextDecoder().decode(Buffer.concat(chunks).subarray(0, ANSWER_BYTES));
  // oxlint-disable-next-line no-control-regex -- an answer must not be able to write escape sequences to a terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f\s]+/g, " ").trim();
}

function redact(text: string, secrets: readonly string[]): string {
  let clean = text;
  // Longest first, so that no rest of a longer one stays. A single "/" is no secret.
  for (const secret of secrets.filter((s) => s.length > 1).sort((a, b) => b.length - a.length))
    clean = clean.replaceAll(secret, "[redacted]");
  return clean;
}

/** Milliseconds of a `Retry-After` header (RFC 9110, 10.2.3: seconds, or a date); undefined where there is none. */
export function retryAfter(header: string | null, now: number): number | undefined {
  if (header === null) return undefined;
  const text = header.trim();
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}

const cut = (text: string, length: number): string => (text.length <= length ? text : `${text.slice(0, length - 3)}...`);

/** Most details that are sent, and their length: a page is read on a phone. The whole story is in the audit trail. */
const MAX_DETAILS = 100;
const MAX_DETAIL = 1_000;

/**
 * A generic webhook. It gets a POST with
 * `{"version": "1", "event": "Trigger"|"Resolve", "dedupKey", "severity": "Page"|"Info", "summary", "remediation", "policy", "target", "details": [...], "at"}`;
 * `dedupKey` is the same for every delivery of one incident, `at` is RFC 3339. What asks for a yes or no has also
 * `"question": {"namespace", "name", "uid", "targetUid"}`.
 */
export class WebhookReceiver extends HttpReceiver {
  protected override payload(page: Page, event: PageEvent): unknown {
    return {
      version: "1",
      event,
      ...page,
      details: page.details.slice(0, MAX_DETAILS).map((line) => cut(line, MAX_DETAIL)),
      at: timestamp(page.at),
    };
  }
}

/**
 * A Slack incoming webhook, or anything that takes its format: `text` for notifications, `blocks` for the message. With
 * `buttons` a question for approval can be answered in it, once: what comes back is the listener's.
 */
export class SlackReceiver extends HttpReceiver {
  readonly #buttons: boolean;

  constructor(options: ReceiverOptions) {
    super(options);
    this.#buttons = options.buttons ?? false;
  }

  protected override payload(page: Page, event: PageEvent): unknown {
    const { question } = page;
    const over = question === undefined ? "Resolved" : "Answered";
    const title = event === "Resolve" ? over : page.severity === "Page" ? "Nightshift needs a person" : "Nightshift";
    // Limits of Slack's blocks: 150 characters in a header, 3000 in a section, 2000 in a field. Escaping may take five for one.
    const field = (name: string, value: string) => ({ type: "mrkdwn", text: `*${name}*\n${escapeSlack(cut(value, 380))}` });
    let details = "";
    for (const line of page.details) {
      const next = `${details}• ${escapeSlack(cut(line, 500))}\n`;
      if (next.length > 2_900) {
        details += "• ...";
        break;
      }
      details = next;
    }
    const mrkdwn = (text: string) => ({ type: "section", text: { type: "mrkdwn", text } });
    return {
      text: `${title}: ${escapeSlack(cut(page.summary, 500))}`,
      blocks: [
        { type: "header", text: { type: "plain_text", text: title } },
        mrkdwn(escapeSlack(cut(page.summary, 500))),
        {
          type: "section",
          fields: [field("Target", page.target), field("Policy", page.policy), field("Remediation", page.remediation)],
        },
        ...(details === "" ? [] : [mrkdwn(details)]),
        ...(question !== undefined && this.#buttons && event === "Trigger" ? answerBlocks(question) : []),
        { type: "context", elements: [{ type: "mrkdwn", text: `${timestamp(page.at)} · ${escapeSlack(cut(page.dedupKey, 380))}` }] },
      ],
    };
  }
}

/** PagerDuty's bound of a `dedup_key`, the narrowest of those that keys have to fit into. */
const MAX_KEY = 255;

/** The key of an incident, as short as its receiver wants it: the same for the same incident. */
function shortKey(dedupKey: string): string {
  if (dedupKey.length <= MAX_KEY) return dedupKey;
  const digest = createHash("sha256").update(dedupKey).digest("hex");
  return `${dedupKey.slice(0, MAX_KEY - digest.length - 1)}#${digest}`;
}

const detailsOf = (page: Page): string =>
  page.details
    .slice(0, MAX_DETAILS)
    .map((line) => cut(line, MAX_DETAIL))
    .join("\n");

/**
 * PagerDuty, by its Events API v2 (https://developer.pagerduty.com/docs/events-api-v2): `trigger` and `resolve` under one
 * `dedup_key`. The token is the integration's routing key. What is no page comes with severity `info`.
 */
export class PagerDutyReceiver extends HttpReceiver {
  constructor(options: ReceiverOptions) {
    super(options.urlFile === undefined ? { ...options, url: options.url ?? "https://events.pagerduty.com/v2/enqueue" } : options);
  }

  protected override authorization(): undefined {
    return undefined;
  }

  protected override payload(page: Page, event: PageEvent, token: string | undefined): unknown {
    const head = { routing_key: token, event_action: event === "Trigger" ? "trigger" : "resolve", dedup_key: shortKey(page.dedupKey) };
    if (event === "Resolve") return head;
    return {
      ...head,
      client: "Nightshift",
      payload: {
        // Its bound is 1024 characters.
        summary: cut(page.summary, 1_024),
        source: cut(page.target, 1_024),
        severity: page.severity === "Page" ? "critical" : "info",
        timestamp: timestamp(page.at),
        group: page.policy,
        custom_details: { policy: page.policy, remediation: page.remediation, target: page.target, details: detailsOf(page) },
      },
    };
  }
}

/**
 * Opsgenie, by its Alert API v2 (https://docs.opsgenie.com/docs/alert-api): an alert is created, and closed, under one
 * `alias`. The token is the integration's API key. What is no page comes with priority P5.
 */
export class OpsgenieReceiver extends HttpReceiver {
  constructor(options: ReceiverOptions) {
    super(options.urlFile === undefined ? { ...options, url: options.url ?? "https://api.opsgenie.com" } : options);
  }

  protected override authorization(token: string): string {
    return `GenieKey ${token}`;
  }

  protected override path(base: URL, page: Page, event: PageEvent): URL {
    const alerts = `${base.href.replace(/\/+$/, "")}/v2/alerts`;
    return new URL(event === "Trigger" ? alerts : `${alerts}/${encodeURIComponent(shortKey(page.dedupKey))}/close?identifierType=alias`);
  }

  protected override payload(page: Page, event: PageEvent): unknown {
    if (event === "Resolve") return { source: "Nightshift", note: cut(page.summary, 1_000) };
    return {
      // Bounds of its fields: 130, 512 and 15000 characters.
      message: cut(page.summary, 130),
      alias: shortKey(page.dedupKey),
      description: cut(`${page.summary}\n\n${detailsOf(page)}`, 15_000),
      source: "Nightshift",
      priority: page.severity === "Page" ? "P1" : "P5",
      tags: ["nightshift"],
      details: { policy: page.policy, remediation: page.remediation, target: page.target },
    };
  }
}

/** How long an alert stays in Alertmanager where nobody says that it is over (ms): it is sent once, and not again every minute. */
const ALERT_LASTS_MS = 7 * 86_400_000;

/**
 * Alertmanager, by its API v2 (`POST /api/v2/alerts`): an alert `NightshiftEscalation` that its routes send on, with the
 * labels `severity` (`page` or `info`), `policy` and `incident` (the key of the incident). The URL is
 * Alertmanager's own. The alert ends when the incident does, or after seven days.
 */
export class AlertmanagerReceiver extends HttpReceiver {
  protected override path(base: URL): URL {
    return new URL(`${base.href.replace(/\/+$/, "")}/api/v2/alerts`);
  }

  protected override payload(page: Page, event: PageEvent): unknown {
    return [
      {
        // What makes an alert the same: nothing here may change during an incident.
        labels: {
          alertname: "NightshiftEscalation",
          severity: page.severity === "Page" ? "page" : "info",
          policy: page.policy,
          incident: page.dedupKey,
        },
        annotations: {
          summary: cut(page.summary, MAX_DETAIL),
          description: detailsOf(page),
          target: page.target,
          remediation: page.remediation,
        },
        ...(event === "Trigger" ? { startsAt: timestamp(page.at) } : {}),
        endsAt: timestamp(event === "Trigger" ? page.at + ALERT_LASTS_MS : page.at),
      },
    ];
  }
}
