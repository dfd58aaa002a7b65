import { join } from "node:path";
import { WorkQueue } from "../src/loop/queue.ts";
import { systemClock } from "../src/platform/host/clock.ts";
import { systemRandom } from "../src/platform/host/random.ts";
import { Measured } from "./kubernetes/child.ts";
import { quantile } from "./quantile.ts";
import type { BenchResult, BenchRow } from "./result.ts";

/** Keys a second through Nightshift's work queue. */
async function ours(keys: readonly string[], workers: number): Promise<number> {
  const whole = Promise.withResolvers<void>();
  let done = 0;
  const queue = new WorkQueue({
    work: () => {
      done += 1;
      if (done === keys.length) whole.resolve();
      return Promise.resolve({});
    },
    clock: systemClock,
    random: systemRandom,
    onError: (_, error) => whole.reject(error),
    concurrency: workers,
  });
  const begin = performance.now();
  for (const key of keys) queue.add(key);
  await whole.promise;
  const seconds = (performance.now() - begin) / 1000;
  await queue.stop();
  return keys.length / seconds;
}

/** Keys a second through controller-runtime's controller, in a process of its own that has warmed up. */
async function theirs(bin: string, keys: number, workers: number): Promise<number> {
  const peer = Measured.start(join(bin, "peer"), ["queue", "-keys", String(keys), "-rounds", "1", "-workers", String(workers)]);
  try {
    const { seconds } = await peer.hear("round");
    return keys / Number(seconds);
  } finally {
    await peer.stop();
  }
}

/**
 * Reconciles a second: each of many keys is added once and reconciled once, by a reconciler that does nothing.
 * @param bin - where the peer is.
 */
export async function run(short: boolean, bin: string): Promise<BenchResult> {
  const count = short ? 20_000 : 150_000;
  const rounds = short ? 3 : 7;
  const keys = Array.from({ length: count }, (_, i) => `default/workload-${i}`);
  const rows: BenchRow[] = [];
  for (const workers of [1, 64]) {
    await ours(keys, workers);
    const mine: number[] = [];
    const peers: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      peers.push(await theirs(bin, count, workers));
      mine.push(await ours(keys, workers));
    }
    const value = quantile(mine, 0.5);
    const peer = quantile(peers, 0.5);
    const plural = workers === 1 ? "worker" : "workers";
    rows.push({ label: `Go peer, ${workers} ${plural}`, value: peer, unit: "reconciles/s" });
    rows.push({ label: `Nightshift, ${workers} ${plural}`, value, unit: "reconciles/s", ratio: value / peer, beside: "the peer's" });
  }
  return {
    name: "reconciles a second",
    method: `${count} keys are added to the work queue and each is reconciled once, without I/O; medians of ${rounds} rounds in turn, after one that warms up. Peer: controller-runtime's controller with its default queue. Nightshift runs on one thread, the peer on as many as there are processors.`,
    rows,
  };
}
