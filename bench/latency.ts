import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { webhookAlert, webhookBody } from "../test/support/webhook.ts";
import { post, startHost } from "./host.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult } from "./result.ts";

const IDLE = 200;

/** From the sending of a webhook to the first effect, beside a bare HTTP request plus one fsync in the same run. */
export async function run(short: boolean): Promise<BenchResult> {
  const rounds = short ? 20 : 100;
  const host = await startHost(IDLE, rounds);
  const bare = createServer((request, response) => {
    request.resume().on("end", () => {
      const fd = openSync(join(host.dir, "bound"), "a");
      writeSync(fd, "x".repeat(1024));
      fdatasyncSync(fd);
      closeSync(fd);
      response.end("ok");
    });
  });
  await new Promise<void>((done) => bare.listen(0, "127.0.0.1", done));
  const address = bare.address();
  const boundUrl = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}/`;
  const bound: number[] = [];
  const ours: number[] = [];
  try {
    for (let i = 0; i < rounds; i++) {
      const name = `target-${i}`;
      const body = webhookBody([
        webhookAlert({
          labels: {
            workload: name,
            replica: host.running.platform.workloads().find((w) => w.ref.name === name)?.replicas[0]?.ref.name ?? "",
          },
          fingerprint: name,
        }),
      ]);
      let begin = performance.now();
      await (await fetch(boundUrl, { method: "POST", body })).arrayBuffer();
      bound.push(performance.now() - begin);
      begin = performance.now();
      const status = await post(host.running, body);
      if (status !== 200) throw new Error(`the webhook answered ${status}`);
      for (let waited = 0; !host.firstEffect.has(name); waited++) {
        if (waited > 10_000) throw new Error(`no effect on ${name}`);
        await new Promise((done) => setTimeout(done, 1));
      }
      ours.push((host.firstEffect.get(name) ?? Number.NaN) - begin);
    }
  } finally {
    bare.close();
    bare.closeAllConnections();
    await host.stop();
  }
  const row = (q: number): BenchResult["rows"] => [
    { label: `bound p${q * 100}`, value: quantile(bound, q), unit: "ms" },
    { label: `webhook to first effect p${q * 100}`, value: quantile(ours, q), unit: "ms", ratio: quantile(ours, q) / quantile(bound, q) },
  ];
  return {
    name: "webhook to first effect",
    method: `${rounds} alerts, one after the other, each on another workload, ${IDLE} idle workloads beside them; client and server in one process; whole decision, durable record and durable intent included. A budget keeps the storm brake from holding so many that are ill. Bound: a bare HTTP POST of the same body whose handler does one fdatasync of 1 KiB, in turn with it.`,
    rows: [...row(0.5), ...row(0.99)],
  };
}
