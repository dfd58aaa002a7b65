import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { pino } from "pino";
import { MemoryCgroup } from "../../src/platform/linux/cgroup.ts";
import { FakeCgroups } from "../fixtures/cgroups.ts";
import { RaisedLimits } from "./limits.ts";
import { temporary } from "../fixtures/temporary.ts";

const log = pino({ level: "silent" });

function rig() {
  const fake = new FakeCgroups();
  const pod = new MemoryCgroup(2, fake.make("pod", { max: 300, current: 100 }));
  const container = new MemoryCgroup(2, fake.make("pod/container", { max: 200, high: 180, current: 100 }));
  const stateDir = temporary();
  return {
    fake,
    stateDir,
    limits: new RaisedLimits(stateDir, log),
    raises: [
      { cgroup: container, to: 900 },
      { cgroup: pod, to: 950 },
    ],
    now: () => [fake.read("pod/container", "memory.max"), fake.read("pod/container", "memory.high"), fake.read("pod", "memory.max")],
  };
}

it("raises, holds while the capture runs, and brings back exactly what was there", () => {
  const { limits, raises, now } = rig();
  limits.raise(raises);
  assert.deepEqual(now(), ["900", "max", "950"]);
  limits.restore();
  assert.deepEqual(now(), ["900", "max", "950"]);
  limits.release(raises.map(({ cgroup }) => cgroup));
  assert.deepEqual(now(), ["200", "180", "300"]);
  assert.equal(limits.count, 0);
});

it("waits with each limit until what is used fits into it again: the kernel would kill for the rest", () => {
  const { fake, limits, raises, now } = rig();
  limits.raise(raises);
  fake.make("pod/container", { max: 900, current: 170 });
  limits.release(raises.map(({ cgroup }) => cgroup));
  assert.deepEqual(now(), ["900", "max", "300"]);
  assert.equal(limits.count, 1);
  fake.make("pod/container", { max: 900, current: 150 });
  limits.restore();
  assert.deepEqual(now(), ["200", "180", "300"]);
});

it("brings back after a crash, the first values where a limit was raised twice, and forgets what is gone", () => {
  const { fake, limits, raises, now, stateDir } = rig();
  limits.raise(raises);
  limits.raise([{ cgroup: raises[0]!.cgroup, to: 2_000 }]);
  assert.deepEqual(now(), ["2000", "max", "950"]);
  const next = new RaisedLimits(stateDir, log);
  assert.equal(next.count, 2);
  next.restore();
  assert.deepEqual(now(), ["200", "180", "300"]);
  limits.raise(raises);
  rmSync(join(fake.root, "pod"), { recursive: true });
  const last = new RaisedLimits(stateDir, log);
  last.restore();
  assert.equal(last.count, 0);
});

it("leaves all as it was where one cannot be raised", () => {
  const { limits, raises, now } = rig();
  const [container, pod] = raises;
  assert.ok(container && pod);
  assert.throws(() => limits.raise([{ ...container, cgroup: new ReadOnly(2, container.cgroup.dir) }, pod]), /EROFS/);
  assert.deepEqual(now(), ["200", "180", "300"]);
  assert.equal(limits.count, 0);
});

/** As in a cgroup file system that is mounted read-only. */
class ReadOnly extends MemoryCgroup {
  override setLimit(): void {
    throw new Error("EROFS: read-only file system");
  }
}
