import { isTerminal } from "../src/api/remediation.ts";
import { webhookAlert, webhookBody } from "../test/support/webhook.ts";
import { post, startHost } from "./host.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult } from "./result.ts";

const ALERTS = 10_000;
const BATCH = 100;
const TARGETS = 50;

/** 10,000 alerts in 10 s: none lost, one episode a target. */
export async function run(short: boolean): Promise<BenchResult> {
  const seconds = short ? 2 : 10;
  const host = await startHost(0, TARGETS);
  const answers: number[] = [];
  try {
    const names = host.running.platform.workloads().map((w) => ({ workload: w.ref.name, replica: w.replicas[0]?.ref.name ?? "" }));
    globalThis.gc?.();
    const before = process.memoryUsage().rss;
    let refused = 0;
    const cpuBefore = process.cpuUsage();
    const begin = performance.now();
    for (let sent = 0; sent < ALERTS; sent += BATCH) {
      const due = begin + (sent / ALERTS) * seconds * 1000;
      if (performance.now() < due) await new Promise((done) => setTimeout(done, due - performance.now()));
      const alerts = Array.from({ length: BATCH }, (_, i) => {
        const target = names[(sent + i) % names.length]!;
        return webhookAlert({ labels: { ...target, shard: String(sent + i) }, fingerprint: `${sent + i}` });
      });
      const asked = performance.now();
      if ((await post(host.running, webhookBody(alerts))) !== 200) refused += BATCH;
      answers.push(performance.now() - asked);
    }
    const took = (performance.now() - begin) / 1000;
    const cpu = process.cpuUsage(cpuBefore);
    const known = host.running.loop.world.remediations;
    for (let waited = 0; host.firstEffect.size < TARGETS && waited < 600; waited++) await new Promise((done) => setTimeout(done, 50));
    const episodes = known.list();
    const perTarget = new Map<string, number>();
    for (const episode of episodes) perTarget.set(episode.spec.workload.name, (perTarget.get(episode.spec.workload.name) ?? 0) + 1);
    const most = Math.max(...perTarget.values());
    if (refused > 0) throw new Error(`${refused} alerts were refused`);
    if (perTarget.size !== TARGETS || most !== 1)
      throw new Error(`${perTarget.size} of ${TARGETS} targets have an episode, at most ${most} each`);
    return {
      name: "alert storm",
      method: `${ALERTS} different alerts about ${TARGETS} workloads in payloads of ${BATCH}, spread over ${seconds} s. A budget keeps the storm brake from holding them. Fails when one is refused or a target has other than one episode.`,
      rows: [
        { label: "alerts taken in", value: ALERTS, unit: "alerts" },
        { label: "time", value: took, unit: "s", ratio: took / seconds, beside: "what they are spread over" },
        { label: "CPU time of sender and Nightshift", value: (cpu.user + cpu.system) / 1e6, unit: "s" },
        { label: "episodes, live or over", value: episodes.length, unit: `of ${TARGETS} targets` },
        { label: "episodes that are over", value: episodes.filter(isTerminal).length, unit: "episodes" },
        { label: "answer p50", value: quantile(answers, 0.5), unit: "ms" },
        { label: "answer p99", value: quantile(answers, 0.99), unit: "ms" },
        { label: "growth of RSS", value: (process.memoryUsage().rss - before) / 2 ** 20, unit: "MiB" },
      ],
    };
  } finally {
    await host.stop();
  }
}
