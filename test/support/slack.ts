import { createHmac, randomUUID } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { SLACK_PATH } from "../../src/server/slack.ts";

interface Element {
  readonly action_id: string;
  readonly value?: string;
}
/** A block as Nightshift sends it. */
interface Block {
  readonly type: string;
  readonly elements?: readonly Element[];
  readonly text?: { readonly text: string };
}

/** What arrived at Slack: a message of the webhook, or what it became. */
export interface SlackMessage {
  readonly text: string;
  readonly blocks?: readonly Block[];
  readonly response_type?: string;
  readonly replace_original?: boolean;
}

/** How a click differs from what Slack would send. */
export interface Click {
  readonly user?: string;
  /** The user's workspace. Default: the one that there is. */
  readonly team?: string;
  readonly reason?: string;
  /** When it was signed (ms). Default: now. */
  readonly at?: number;
  /** Default: the app's. */
  readonly secret?: string;
  /** What the payload has in the place of what it would have. */
  readonly payload?: object;
  /** Changes the request after it was signed. */
  readonly alter?: (request: { headers: Record<string, string>; body: string }) => void;
}

/** Slack, as far as Nightshift has to do with it: an incoming webhook, buttons, and the address to answer to. */
export class FakeSlack {
  readonly secret = randomUUID();
  readonly messages: SlackMessage[] = [];
  /** What came to response_url. */
  readonly updates: SlackMessage[] = [];
  /** How response_url answers, one status after the other, then 200. */
  readonly statuses: number[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<FakeSlack> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const isUpdate = request.url !== "/services/T0/B0/x";
        (isUpdate ? slack.updates : slack.messages).push(JSON.parse(Buffer.concat(chunks).toString()) as SlackMessage);
        const status = isUpdate ? (slack.statuses.shift() ?? 200) : 200;
        response.writeHead(status, status === 302 ? { location: `${slack.url}/elsewhere` } : {}).end("ok");
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const slack = new FakeSlack(server);
    return slack;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Of the incoming webhook. */
  get webhookUrl(): string {
    return `${this.url}/services/T0/B0/x`;
  }

  /** The message that has buttons, once there is one. */
  question(): SlackMessage | undefined {
    return this.messages.find(({ blocks }) => blocks?.some(({ type }) => type === "actions"));
  }

  /** What Slack would send when a button of a message is clicked. */
  request(
    message: SlackMessage | undefined,
    which: "approve" | "deny",
    click: Click = {},
  ): { headers: Record<string, string>; body: string } {
    const button = message?.blocks?.flatMap(({ elements = [] }) => elements).find(({ action_id }) => action_id === `nightshift.${which}`);
    const payload = {
      type: "block_actions",
      user: { id: click.user ?? "U0JANE", username: "whatever", team_id: click.team ?? "T0HOME" },
      team: { id: "T0HOME", domain: "home" },
      api_app_id: "A0",
      container: { type: "message", message_ts: "1.2", channel_id: "C0" },
      channel: { id: "C0", name: "ops" },
      message: { type: "message", ts: "1.2", text: message?.text, blocks: message?.blocks },
      state: {
        values: { "nightshift.reason": { "nightshift.reason": { type: "plain_text_input", value: click.reason ?? null } } },
      },
      response_url: `${this.url}/actions/T0/1/${randomUUID()}`,
      actions: [{ type: "button", action_id: button?.action_id, value: button?.value, action_ts: "1.3" }],
      ...click.payload,
    };
    const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString();
    const timestamp = String(Math.floor((click.at ?? Date.now()) / 1_000));
    const digest = createHmac("sha256", click.secret ?? this.secret)
      .update(`v0:${timestamp}:${body}`)
      .digest("hex");
    const request = {
      headers: {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": `v0=${digest}`,
      } as Record<string, string>,
      body,
    };
    click.alter?.(request);
    return request;
  }

  /** Clicks a button of a message; Nightshift listens at `url`. */
  async press(url: string, message: SlackMessage | undefined, which: "approve" | "deny", click: Click = {}): Promise<number> {
    return send(url, this.request(message, which, click));
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Sends a request of Slack's; resolves to the status of the answer. */
export async function send(url: string, request: { headers: Record<string, string>; body: string }): Promise<number> {
  const response = await fetch(`${url}${SLACK_PATH}`, { method: "POST", ...request });
  await response.body?.cancel();
  return response.status;
}
