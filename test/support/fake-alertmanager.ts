import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** An alert `Ill` that has fired for a minute, as Alertmanager's API shows it. */
export function activeAlert(fingerprint: string, labels: Record<string, string>, now: number, state = "active"): object {
  return {
    labels: { alertname: "Ill", ...labels },
    annotations: { summary: "ill" },
    startsAt: new Date(now - 60_000).toISOString(),
    endsAt: new Date(now + 240_000).toISOString(),
    updatedAt: new Date(now).toISOString(),
    fingerprint,
    generatorURL: "",
    receivers: [{ name: "nightshift" }],
    status: { state, silencedBy: [], inhibitedBy: [] },
  };
}

/** Alertmanager's API, of which the test says what it answers. */
export class FakeAlertmanager {
  alerts: unknown = [];
  /** When it was started (ms). */
  upSince: number;
  answer: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
  readonly asked: string[] = [];
  readonly authorizations: (string | undefined)[] = [];
  readonly #server = createServer((request, response) => {
    this.asked.push(request.url ?? "");
    this.authorizations.push(request.headers.authorization);
    if (this.answer !== undefined) return this.answer(request, response);
    const body = request.url?.includes("/api/v2/status") === true ? { uptime: new Date(this.upSince).toISOString() } : this.alerts;
    response.setHeader("content-type", "application/json").end(JSON.stringify(body));
  });

  constructor(upSince: number) {
    this.upSince = upSince;
  }

  /** Listens on the loopback; resolves with its address. */
  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
