// Inside a cluster's network: sends requests, one line of JSON on stdin each, and says when it began to send them; answers
// as Prometheus does, that every query's value is 0.5.
import { createServer } from "node:http";
import { createInterface } from "node:readline";

/** A request to send. */
export interface SendOrder {
  readonly id: number;
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** In place of one body: a request for each, all of them at once. */
  readonly bodies?: readonly string[];
}

/** What is told of an answer (characters). */
const LONGEST = 1_000;

function say(fields: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(fields)}\n`);
}

/**
 * How far the wall clock is from `performance.now` (ms), to a fraction of a millisecond: `performance.timeOrigin` would do,
 * if nobody ever set or slewed the clock.
 */
function clockOffset(): number {
  const tick = Date.now();
  let now = tick;
  while (now === tick) now = Date.now();
  return now - performance.now();
}

async function send({ id, method, url, headers, body, bodies }: SendOrder): Promise<void> {
  const offset = clockOffset();
  const at = performance.now() + offset;
  if (bodies !== undefined) {
    const statuses = await Promise.all(
      bodies.map(async (each) => {
        const answer = await fetch(url, { method, headers, body: each });
        await answer.arrayBuffer();
        return answer.status;
      }),
    );
    const took = performance.now() + offset - at;
    return say({ event: "sent", id, at, took, status: Math.max(...statuses), text: "" });
  }
  const response = await fetch(url, { method, headers, ...(body === undefined ? {} : { body }) });
  const text = await response.text();
  say({ event: "sent", id, at, status: response.status, text: text.slice(0, LONGEST) });
}

const prometheus = createServer((request, response) => {
  request.resume().on("end", () => {
    const value = [Date.now() / 1000, "0.5"];
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ status: "success", data: { resultType: "vector", result: [{ metric: {}, value }] } }));
  });
});
prometheus.listen(0, "127.0.0.1", () => {
  const address = prometheus.address();
  say({ event: "listening", url: `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}` });
});
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const order = JSON.parse(line) as SendOrder;
    send(order).catch((error: unknown) => say({ event: "sent", id: order.id, failed: String(error) }));
  })
  .on("close", () => process.exit(0));
