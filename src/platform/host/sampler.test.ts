import assert from "node:assert/strict";
import { it } from "node:test";
import { pino } from "pino";
import { ManualClock } from "../../../test/support/manual-clock.ts";
import type { RequestReading, TelemetrySink } from "../../observe/store.ts";
import type { RouterSecond, RouterStats } from "./router/protocol.ts";
import { Sampler } from "./sampler.ts";
import type { Supervisor } from "./supervisor.ts";

const START = Date.UTC(2026, 0, 1);
const HOUR = 3_600_000;

/** A sampler over a router that counts as it is told to, and what came of it. */
function rig(): { clock: ManualClock; count: (total: number) => void; sample: () => Promise<void>; read: RequestReading[] } {
  const clock = new ManualClock(START);
  let seconds: RouterSecond[] = [];
  const read: RequestReading[] = [];
  const telemetry: TelemetrySink = {
    recordReplica: () => undefined,
    recordRequests: (_workload, _source, reading) => void read.push(reading),
    recordHint: () => undefined,
    recordTraces: () => undefined,
    forgetReplica: () => undefined,
  };
  const stats = async (): Promise<RouterStats> => ({
    now: clock.now(),
    services: [{ namespace: "default", name: "web", listen: { host: "127.0.0.1", port: 1 }, seconds, backends: [] }],
  });
  const supervisor = { instances: () => [] } as unknown as Supervisor;
  const sampler = new Sampler({
    supervisor,
    router: { stats },
    cgroups: undefined,
    telemetry,
    clock,
    log: pino({ level: "silent" }),
    onRouterLost: () => undefined,
  });
  return {
    clock,
    count: (total) => {
      const at = Math.floor(clock.now() / 1000) * 1000;
      seconds = [...seconds.filter((second) => Math.abs(at - second.at) <= 120_000), { at, total, failed: 1, latency: [] }];
    },
    sample: () => sampler.refreshInFlight(),
    read,
  };
}

it("copies each second of the router's counts once, when it is over; one without requests is evidence, too", async () => {
  const { clock, count, sample, read } = rig();
  await sample();
  count(7);
  await sample();
  assert.deepEqual(read, [], "the second is not over");
  await clock.advance(3_000);
  await sample();
  await sample();
  assert.deepEqual(
    read.map(({ t, total }) => [t - START, total]),
    [
      [999, 7],
      [1_999, 0],
      [2_999, 0],
    ],
  );
});

it("goes on after the clock was set back, and after it was set ahead", async () => {
  for (const jump of [-2 * HOUR, 2 * HOUR]) {
    const { clock, count, sample, read } = rig();
    await sample();
    await clock.advance(2_000);
    await sample();
    clock.jump(clock.now() + jump);
    count(3);
    await sample();
    await clock.advance(1_000);
    await sample();
    assert.ok(
      read.some(({ t, total }) => total === 3 && Math.abs(t - clock.now()) <= 2_000),
      `the second after a jump of ${jump} ms was read`,
    );
    assert.ok(read.length <= 130, "no more than the router itself remembers");
  }
});
