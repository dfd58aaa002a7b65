import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Loop } from "../../loop/loop.ts";
import type { Store, WatchEvent } from "../../ports/store.ts";
import type { Kind } from "../../api/meta.ts";
import { BASE_SCENARIOS } from "./base-scenarios.ts";
import { baseScenario, exhaust, perform, perturbationsOf, reference, runPerturbed, shareOf } from "./exhaustive.ts";
import { Network, type Request } from "./network.ts";
import { parsePerturbation, type Perturbation, perturbationText, type Point, Points } from "./points.ts";
import { streamOf } from "./random.ts";
import { Simulation } from "./simulation.ts";

const simulated = (): Simulation => new Simulation(streamOf(1, "ties"));
const evict = baseScenario("evict")!;
const perturbation = (text: string): Perturbation => parsePerturbation(text)!;

describe("what befalls news", () => {
  function delivered(how: string): {
    readonly sim: Simulation;
    readonly relisted: number[];
    readonly delays: number[][];
    readonly mayReorder: () => boolean;
  } {
    const sim = simulated();
    const relisted: number[] = [];
    const points = new Points({ simulation: sim, perturbation: perturbation(`event:2:${how}`), relist: () => relisted.push(sim.elapsed) });
    const delivery = points.delivery(0, { delays: () => [5], mayReorder: () => false });
    const delays = [1, 2, 3].map(() => [...delivery.delays("Workload")]);
    return { sim, relisted, delays, mayReorder: () => delivery.mayReorder() };
  }

  it("is that they are dropped, until everything is listed anew", async () => {
    const { sim, relisted, delays } = delivered("Drop");
    assert.deepEqual(delays, [[5], [], [5]]);
    await sim.runUntil(60_000, () => undefined);
    assert.deepEqual(relisted, [20_000]);
  });

  it("is that they come twice, or late", () => {
    assert.deepEqual(delivered("Duplicate").delays, [[5], [5, 2_005], [5]]);
    assert.deepEqual(delivered("Delay").delays, [[5], [20_005], [5]]);
  });

  it("is that those of other objects overtake them, for a while", async () => {
    const { sim, delays, mayReorder } = delivered("Reorder");
    assert.deepEqual(delays, [[5], [3_005], [5]]);
    assert.equal(mayReorder(), true);
    await sim.runUntil(3_001, () => undefined);
    assert.equal(mayReorder(), false);
  });
});

describe("what befalls requests", () => {
  function network(): { readonly sim: Simulation; readonly net: Network; readonly send: (serve: () => unknown) => Promise<unknown> } {
    const sim = simulated();
    const net = new Network(sim, streamOf(1, "network"));
    const process = sim.process("operator");
    const request: Request = { process, operator: 0, write: false, what: "get x" };
    return { sim, net, send: (serve) => net.request(request, serve) };
  }

  it("is that one never arrives, and its sender learns nothing but that no answer came", async () => {
    const { sim, net, send } = network();
    net.interfere = () => ({ lost: true });
    const answer = assert.rejects(
      send(() => assert.fail("it arrived")),
      { code: "KUBE_TIMEOUT" },
    );
    await sim.runUntil(10_000, () => undefined);
    await answer;
  });

  it("is that one arrives late, and its sender has given it up", async () => {
    const { sim, net, send } = network();
    net.interfere = () => ({ lateMs: 20_000 });
    const arrived: number[] = [];
    let gaveUpAt = 0;
    const answer = send(() => arrived.push(sim.elapsed)).catch((error: unknown) => {
      assert.equal((error as { code?: string }).code, "KUBE_TIMEOUT");
      gaveUpAt = sim.elapsed;
    });
    await sim.runUntil(30_000, () => undefined);
    await answer;
    assert.deepEqual(arrived, [20_000]);
    assert.ok(gaveUpAt < 5_000);
  });

  it("is that a read is answered as the last one was", async () => {
    const { sim, net, send } = network();
    let value = 1;
    const first = send(() => value);
    await sim.runUntil(1_000, () => undefined);
    value = 2;
    net.interfere = () => ({ stale: true });
    const second = send(() => value);
    await sim.runUntil(2_000, () => undefined);
    assert.deepEqual([await first, await second], [1, 1]);
  });
});

describe("the points of a base scenario", () => {
  it("are numbered, and every way to perturb each is played, in shares that are the whole together", async () => {
    const { points, violations } = await reference(evict);
    assert.deepEqual(violations, []);
    const of = (kind: Point["kind"]): Point[] => points.filter((point) => point.kind === kind);
    for (const kind of ["write", "event", "read"] as const)
      assert.deepEqual(
        of(kind).map(({ number }) => number),
        of(kind).map((_, i) => i + 1),
      );
    const all = perturbationsOf(points);
    const older = of("read").filter(({ isFirst }) => !isFirst).length;
    assert.equal(all.length, 5 * of("write").length + 4 * of("event").length + older);
    assert.ok(of("write").length > 5 && of("event").length > 5 && older > 2, `${points.length} points`);
    const shares = [1, 2, 3, 4].map((part) => shareOf(all, { part, of: 4 }).map(perturbationText));
    assert.deepEqual(shares.flat().toSorted(), all.map(perturbationText).toSorted());
    for (const share of shares)
      assert.deepEqual(
        new Set(share.map((text) => text.split(":")[2])),
        new Set(all.map(({ how }) => how)),
        "each share has some of every way",
      );
  });

  it("are the same up to the one that is perturbed, and a run is the same twice", async () => {
    const traceOf = async (text: string | undefined): Promise<string[]> => {
      const lines: string[] = [];
      const trace = (line: string): void => void lines.push(line);
      if (text === undefined) await reference(evict, { trace });
      else await runPerturbed(evict, await reference(evict), perturbation(text), { trace });
      return lines;
    };
    const plain = await traceOf(undefined);
    const crashed = await traceOf("write:6:CrashAfter");
    assert.deepEqual(crashed, await traceOf("write:6:CrashAfter"));
    const differs = crashed.findIndex((line, i) => line !== plain[i]);
    const at = plain.findIndex((line) => line.includes("point write:6 "));
    assert.ok(at > 0 && differs > at, `${differs} after ${at}`);
  });

  it("break no rule in a share of some scenarios, in two threads, and each ends as its reference", async () => {
    const bases = BASE_SCENARIOS.filter(({ name }) => name === "evict" || name === "dependency");
    const { scenarios, broken } = await exhaust(bases, { jobs: 2, share: { part: 3, of: 6 } }, () => undefined);
    assert.deepEqual(broken, []);
    assert.deepEqual(
      scenarios.map(({ scenario }) => scenario),
      bases.map(({ name }) => name),
    );
    for (const { scenario, runs, whole } of scenarios) assert.ok(runs > 0 && runs < whole / 3, `${scenario}: ${runs} of ${whole}`);
  });

  it("show a loop that forgets at its start what it had begun: nothing is wrong with it until it crashes", async () => {
    const createLoop = (options: ConstructorParameters<typeof Loop>[0]): Loop => new Loop({ ...options, store: forgetful(options.store) });
    const { points, end, violations } = await reference(evict, { createLoop });
    assert.deepEqual(violations, []);
    const crashes = perturbationsOf(points).filter(({ how }) => how === "CrashAfter");
    const { broken } = await perform({ scenario: "evict", end, perturbations: crashes }, { createLoop });
    assert.ok(broken.length > 0);
  });

  it("that do not come are a bug", async () => {
    const { end } = await reference(evict);
    await assert.rejects(perform({ scenario: "evict", end, perturbations: [perturbation("write:99:Lost")] }), /did not come/);
  });
});

/** What is there already of episodes is not told. */
function forgetful(store: Store): Store {
  return {
    get: (kind, namespace, name) => store.get(kind, namespace, name),
    list: (kind, namespace) => store.list(kind, namespace),
    create: (object) => store.create(object),
    update: (object) => store.update(object),
    delete: (kind, namespace, name, version) => store.delete(kind, namespace, name, version),
    watch: <K extends Kind>(kind: K, signal: AbortSignal): AsyncIterable<WatchEvent<K>> =>
      kind === "Remediation" ? sinceSynced(store.watch(kind, signal)) : store.watch(kind, signal),
  };
}

async function* sinceSynced<K extends Kind>(events: AsyncIterable<WatchEvent<K>>): AsyncGenerator<WatchEvent<K>> {
  let isSynced = false;
  for await (const event of events) {
    isSynced ||= event.type === "Synced";
    if (isSynced) yield event;
  }
}

describe("a perturbation", () => {
  it("is read as it is written, and what is none is not read", () => {
    for (const text of ["write:12:CrashAfter", "event:1:Drop", "read:3:Stale"]) assert.equal(perturbationText(perturbation(text)), text);
    for (const text of ["", "write:12", "write:0:Lost", "write:12:Drop", "event:x:Drop", "toString:1:Drop", "write:1:Lost:2"])
      assert.equal(parsePerturbation(text), undefined, text);
  });
});
