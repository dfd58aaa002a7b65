import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { describe, it } from "node:test";
import { Loop } from "../../loop/loop.ts";
import { BASE_SCENARIOS } from "./base-scenarios.ts";
import { generateScenario } from "./generate.ts";
import { runScenario } from "./run.ts";
import { shrink, withFaults } from "./shrink.ts";
import { sweep } from "./sweep.ts";
import { sweepInThreads } from "./threads.ts";
import type { Rule } from "./rules/rule.ts";

async function traceOf(seed: number): Promise<string> {
  const lines: string[] = [];
  await runScenario(generateScenario(seed), { trace: (line) => void lines.push(line) });
  return lines.join("\n");
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex");

describe("a run", () => {
  it("is the same twice, byte for byte, and in another process", async () => {
    const [first, second] = [await traceOf(11), await traceOf(11)];
    assert.ok(first.length > 10_000);
    assert.equal(digest(first), digest(second));
    assert.notEqual(digest(first), digest(await traceOf(12)));
    const cli = resolve(import.meta.dirname, "../../cli/main.ts");
    const other = spawnSync(process.execPath, [cli, "simulate", "--seed", "11", "--trace"], { encoding: "utf8", maxBuffer: 2 ** 30 });
    const lines = other.stdout.split("\n").filter((line) => /^ *\d+\.\d{3} /.test(line));
    assert.equal(digest(lines.join("\n")), digest(first), other.stderr);
  });

  it("has the loop of the operator, unchanged", async () => {
    let made = 0;
    await runScenario(generateScenario(1), {
      createLoop: (options) => {
        made += 1;
        return new Loop(options);
      },
    });
    assert.ok(made > 0);
    assert.equal(digest(await traceOf(1)), digest(await traceOf(1)));
  });

  it("reaches no real timer, clock or randomness", async () => {
    const reached: string[] = [];
    const real = { Date, setTimeout, setInterval, setImmediate, queueMicrotask };
    const methods: readonly (readonly [object, string])[] = [
      [Math, "random"],
      [performance, "now"],
      [crypto, "randomUUID"],
      [process, "nextTick"],
    ];
    const owned = methods.map(([object, name]) => [object, name, Reflect.get(object, name) as (...args: unknown[]) => unknown] as const);
    const note = (what: string): void => {
      // What Node itself does when a module is read is not the loop's.
      const stack = (new Error("reached").stack ?? "").split("\n").slice(3);
      // croner reads the clock in every call, and looks at it only where no time is given: `api/schedule.ts` gives one.
      if (what === "new Date()" && stack[0]?.includes("nextRun") === true) return;
      if (stack.some((line) => line.includes("/src/"))) reached.push(`${what}: ${stack.slice(0, 3).join(" < ")}`);
    };
    class VirtualDate extends real.Date {
      constructor(...args: [] | [number | string]) {
        if (args.length === 0) note("new Date()");
        super(...(args as [number]));
      }
      static override now(): number {
        note("Date.now()");
        return real.Date.now();
      }
    }
    const wrap =
      <A extends unknown[], R>(what: string, fn: (...args: A) => R) =>
      (...args: A): R => {
        note(what);
        return fn(...args);
      };
    globalThis.Date = VirtualDate as DateConstructor;
    globalThis.setTimeout = wrap("setTimeout", real.setTimeout) as typeof setTimeout;
    globalThis.setInterval = wrap("setInterval", real.setInterval) as typeof setInterval;
    globalThis.setImmediate = wrap("setImmediate", real.setImmediate) as typeof setImmediate;
    globalThis.queueMicrotask = wrap("queueMicrotask", real.queueMicrotask);
    for (const [object, name, method] of owned) Reflect.set(object, name, wrap(name, method.bind(object)));
    try {
      for (const seed of [1, 2, 11]) await runScenario(generateScenario(seed));
      // That it would be noticed.
      const before = reached.length;
      runInLoopCode();
      assert.equal(reached.length, before + 1);
      reached.pop();
    } finally {
      globalThis.Date = real.Date;
      globalThis.setTimeout = real.setTimeout;
      globalThis.setInterval = real.setInterval;
      globalThis.setImmediate = real.setImmediate;
      globalThis.queueMicrotask = real.queueMicrotask;
      for (const [object, name, method] of owned) Reflect.set(object, name, method);
    }
    assert.deepEqual(reached, []);
  });

  it("of others faults is not shifted by one that is left out", async () => {
    const whole = generateScenario(2);
    const ids = whole.faults.map(({ id }) => id);
    const less = withFaults(whole, ids.slice(1));
    assert.deepEqual(less.faults, whole.faults.slice(1));
  });
});

/** A clock that is read where it must not be. */
function runInLoopCode(): number {
  return Date.now();
}

describe("a leader whose Lease is deleted and made anew by another, before it notices", () => {
  it("begins no episode any more: the API server refuses it", async () => {
    const base = BASE_SCENARIOS.find(({ name }) => name === "leaders")?.scenario;
    assert.ok(base !== undefined);
    const [hang] = base.faults;
    assert.ok(hang !== undefined);
    const refused: string[] = [];
    // Whether the other is earlier is the election's chance: some runs in a hundred have it.
    for (let run = 0; run < 300 && refused.length === 0; run++) {
      const faults = [
        { ...hang, at: 55_000 + (run % 10) * 60 },
        { id: hang.id + 1, kind: "LeaseDeleted" as const, at: 60_000, for: 0 },
      ];
      const trace = (line: string): void => {
        if (line.includes("create Remediation") && line.endsWith(": another leads now")) refused.push(line);
      };
      const { violations } = await runScenario({ ...base, seed: base.seed + Math.floor(run / 10), faults }, { trace });
      assert.deepEqual(violations, []);
    }
    assert.equal(refused.length, 1);
  });
});

describe("many runs", () => {
  it("come to the same in one thread and in three", async () => {
    const alone = await sweep([1, 2, 3]);
    const together = await sweepInThreads({ from: 1, to: 3, jobs: 3 }, () => undefined);
    assert.deepEqual(
      { ...together, cpuSeconds: 0, coverage: sorted(together.coverage) },
      { ...alone, cpuSeconds: 0, coverage: sorted(alone.coverage) },
    );
  });
});

function sorted(value: object): unknown {
  return JSON.parse(
    JSON.stringify(value, (_key, inner: unknown) =>
      typeof inner === "object" && inner !== null && !Array.isArray(inner)
        ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
        : inner,
    ),
  );
}

describe("a broken rule", () => {
  const scenario = { ...generateScenario(1), faultsUntil: 60_000 };
  const [first, second] = [scenario.faults[0], scenario.faults[2]];
  /** Broken by two faults together, and by nothing else. */
  const made: Rule = {
    name: "S0",
    doc: "made up",
    watch: (truth) => ({
      checked: () =>
        truth.scenario.faults.includes(first!) && truth.scenario.faults.includes(second!) ? "both faults are there" : undefined,
    }),
  };

  it("ends the run, and says when", async () => {
    const { violations, simulatedMs } = await runScenario(scenario, { rules: [made] });
    assert.equal(violations.length, 1);
    assert.equal(violations[0]?.rule, "S0");
    assert.ok(simulatedMs < 60_000);
  });

  it("is shrunk to the faults that it takes", async () => {
    const { scenario: least, result } = await shrink(scenario, "S0", { rules: [made] });
    assert.deepEqual(least.faults, [first, second]);
    assert.equal(result.violations[0]?.rule, "S0");
  });
});
