import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Pool } from "undici";
import { hintOf } from "./hint-payload.ts";
import { startHost } from "./host.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult, BenchRow } from "./result.ts";

/** Connections of the senders together: fewer than a listener takes. */
const CONNECTIONS = 128;
/** Time in which every target must be acted on (ms). */
const LIMIT_MS = 900_000;

/** Sends each body in a request of its own, all at once; resolves when all are answered. */
async function sendAll(url: string, token: string, bodies: readonly string[]): Promise<void> {
  const pool = new Pool(url, { connections: CONNECTIONS });
  const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
  await Promise.all(
    bodies.map(async (body) => {
      const answer = await pool.request({ method: "POST", path: "/v1/metrics", headers, body });
      if (answer.statusCode !== 200) throw new Error(`a hint was answered with ${answer.statusCode}`);
      await answer.body.dump();
    }),
  );
  await pool.close();
}

async function bareServer(): Promise<{ readonly server: Server; readonly url: string }> {
  const server = createServer((request, response) => void request.resume().on("end", () => response.end("{}")));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

interface Seen {
  /** How long the requests alone take (ms). */
  readonly bound: number;
  /** From the first sending to what was waited for, of each target (ms). */
  readonly times: readonly number[];
}

/** Hints of so many targets at once, to the first effect on each; in `Observe` to the record of what would be done. */
async function measure(targets: number, mode: "Observe" | "Enforce"): Promise<Seen> {
  const host = await startHost(0, targets, { signal: { hint: { action: "restart" } }, mode });
  const { server, url } = await bareServer();
  try {
    const bodies = host.running.platform.workloads().map(({ ref, replicas }) => hintOf(replicas[0]?.ref.uid ?? "", ref.name));
    let begin = performance.now();
    await sendAll(url, host.running.token, bodies);
    const bound = performance.now() - begin;
    const sentAt = Date.now();
    begin = performance.now();
    await sendAll(host.running.url, host.running.token, bodies);
    /** The first record of each episode (ms since the first sending). */
    const begun = (): Map<string, number> => {
      const times = new Map<string, number>();
      for (const { remediation, at } of host.records)
        if (remediation !== undefined && !times.has(remediation)) times.set(remediation, at - sentAt);
      return times;
    };
    const done = (): number => (mode === "Enforce" ? host.firstEffect.size : begun().size);
    while (done() < targets) {
      if (performance.now() - begin > LIMIT_MS) throw new Error(`${done()} of ${targets} targets were acted on, or decided about`);
      await delay(10);
    }
    const episodes = begun();
    if (episodes.size !== targets) throw new Error(`${targets} targets have ${episodes.size} episodes`);
    return { bound, times: mode === "Enforce" ? [...host.firstEffect.values()].map((at) => at - begin) : [...episodes.values()] };
  } finally {
    server.close();
    server.closeAllConnections();
    await host.stop();
  }
}

/** Hints of 1,000 targets at once: to what is decided about each, and to the first effect on it. */
export async function run(short: boolean): Promise<BenchResult> {
  const targets = short ? 200 : 1_000;
  const restarted = short ? 30 : 100;
  const rounds = short ? 1 : 3;
  const decided: Seen[] = [];
  const acted: Seen[] = [];
  for (let i = 0; i < rounds; i += 1) {
    decided.push(await measure(targets, "Observe"));
    acted.push(await measure(restarted, "Enforce"));
  }
  const median = (seen: readonly Seen[], of: (each: Seen) => number): number => quantile(seen.map(of), 0.5);
  const row = (label: string, seen: readonly Seen[], q: number): BenchRow => ({
    label,
    value: median(seen, ({ times }) => quantile(times, q)),
    unit: "ms",
    ratio: median(seen, ({ times, bound }) => quantile(times, q) / bound),
  });
  return {
    name: "hints at once",
    method:
      `Targets, each a process of its own, send a hint at once, each in a request of its own over OTLP/HTTP with JSON. Decided: from the first sending to the episode of each of ${targets} on record, in a Nightshift that only observes. Acted: to the first effect on each of ${restarted}, in one that restarts them. ` +
      `Medians of ${rounds} rounds, each with Nightshifts of its own. Client, server and what restarts the processes are one process, and each restart is a dozen durable writes and a new process: that is what the later ones wait for. Fails where a target has other than one episode. Bound: the same requests to a bare server, in turn with it.`,
    rows: [
      { label: `bound: ${targets} requests alone`, value: median(decided, ({ bound }) => bound), unit: "ms" },
      row("decided, p50", decided, 0.5),
      row("decided, the last", decided, 1),
      { label: `bound: ${restarted} requests alone`, value: median(acted, ({ bound }) => bound), unit: "ms" },
      row("acted, the first", acted, 1 / restarted),
      row("acted, p50", acted, 0.5),
      row("acted, the last", acted, 1),
    ],
  };
}
