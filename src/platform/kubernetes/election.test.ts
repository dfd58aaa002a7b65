import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { flush, ManualClock } from "../../../test/support/manual-clock.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import type { KubeClient, KubeRequest, RawWatchEvent } from "./client.ts";
import { LeaderElection } from "./election.ts";
import { KubeApiError, type KubeErrorCode } from "./errors.ts";

interface LeaseObject {
  metadata: { name: string; namespace: string; resourceVersion: string; labels?: Record<string, string> };
  spec: { holderIdentity?: string; leaseDurationSeconds?: number; leaseTransitions?: number; renewTime?: string };
}

/** The part of an API server that an election needs; each process reaches it by a way that can be cut. */
class Api {
  lease: LeaseObject | undefined;
  readonly pods = new Map<string, { labels: Record<string, string>; annotations: Record<string, string> }>();
  #version = 0;
  #watchers = new Set<() => void>();

  put(lease: LeaseObject): LeaseObject {
    this.lease = structuredClone({ ...lease, metadata: { ...lease.metadata, resourceVersion: String(++this.#version) } });
    for (const wake of this.#watchers) wake();
    return structuredClone(this.lease);
  }

  client(way: { cut?: boolean; frozen?: Promise<void>; noWatch?: boolean } = {}): KubeClient {
    const watchers = this.#watchers;
    const current = (): LeaseObject | undefined => this.lease;
    const handle = ({ method, path, body }: KubeRequest): unknown => {
      const pod = /pods\/([^/]+)$/.exec(path)?.[1];
      if (path.endsWith("/pods")) {
        const items = [...this.pods].filter(([, { labels }]) => labels["nightshift.dev/leader"] === "true");
        return { items: items.map(([name]) => ({ metadata: { name } })) };
      }
      if (pod !== undefined) {
        const { metadata } = body as { metadata: { labels: Record<string, string | null>; annotations: Record<string, string> } };
        const known = this.pods.get(pod);
        if (known === undefined) throw failure("KUBE_NOT_FOUND", 404);
        for (const [key, value] of Object.entries(metadata.labels)) {
          if (value === null) delete known.labels[key];
          else known.labels[key] = value;
        }
        Object.assign(known.annotations, metadata.annotations);
        return known;
      }
      if (method === "GET") {
        if (this.lease === undefined) throw failure("KUBE_NOT_FOUND", 404);
        return structuredClone(this.lease);
      }
      const lease = body as LeaseObject;
      if (method === "POST") {
        if (this.lease !== undefined) throw failure("KUBE_ALREADY_EXISTS", 409);
        return this.put(lease);
      }
      if (this.lease === undefined) throw failure("KUBE_NOT_FOUND", 404);
      if (lease.metadata.resourceVersion !== this.lease.metadata.resourceVersion) throw failure("KUBE_CONFLICT", 409);
      return this.put(lease);
    };
    return {
      async request<T>(request: KubeRequest): Promise<T> {
        await way.frozen;
        if (way.cut === true) throw failure("KUBE_UNREACHABLE", 0);
        return handle(request) as T;
      },
      async *watch<T>(_path: string, _query: KubeRequest["query"], signal: AbortSignal): AsyncGenerator<RawWatchEvent<T>> {
        while (!signal.aborted) {
          await new Promise<void>((resolve) => {
            const wake = (): void => {
              watchers.delete(wake);
              resolve();
            };
            watchers.add(wake);
            signal.addEventListener("abort", wake, { once: true });
          });
          const lease = current();
          if (!signal.aborted && way.cut !== true && way.noWatch !== true && lease !== undefined)
            yield { type: "MODIFIED", object: structuredClone(lease) as T };
        }
      },
    };
  }
}

function failure(code: string, status: number): KubeApiError {
  return new KubeApiError(code as KubeErrorCode, code, { statusCode: status });
}

interface Member {
  readonly election: LeaderElection;
  readonly way: { cut?: boolean; frozen?: Promise<void>; noWatch?: boolean };
  readonly stop: () => void;
  readonly errors: string[];
  ended: string | undefined;
  epoch: number | undefined;
}

/** A process that takes part; `clock` is its own, which may be wrong about the time of day. */
function join(api: Api, clock: ManualClock, name: string, usedEpoch?: () => number): Member {
  const way = {};
  const stop = new AbortController();
  const errors: string[] = [];
  api.pods.set(name, { labels: {}, annotations: {} });
  const election = new LeaderElection({
    client: api.client(way),
    clock,
    random: seededRandom(),
    namespace: "nightshift-system",
    lease: "nightshift",
    identity: name,
    podName: name,
    ...(usedEpoch === undefined ? {} : { usedEpoch }),
    onError: (message) => errors.push(message),
  });
  const member: Member = { election, way, stop: () => stop.abort(), errors, ended: undefined, epoch: undefined };
  void election.leading.then((epoch) => (member.epoch = epoch));
  void election.run(stop.signal).then((ended) => (member.ended = ended));
  return member;
}

async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let done = 0; done < ms; done += 100) await clock.advance(100);
  await flush();
}

const leads = ({ election }: Member): boolean => {
  try {
    election.epoch();
    return true;
  } catch (error) {
    assert.equal((error as { code?: string }).code, "NOT_LEADER");
    return false;
  }
};

describe("the election", () => {
  it("makes one leader of three, who carries the label, and keeps it for as long as it renews", async () => {
    const api = new Api();
    const clock = new ManualClock();
    const members = ["a", "b", "c"].map((name) => join(api, clock, name));
    await pass(clock, 300_000);
    assert.equal(members.filter(leads).length, 1);
    assert.equal(api.lease?.spec.leaseTransitions, 1);
    const labelled = [...api.pods].filter(([, { labels }]) => labels["nightshift.dev/leader"] === "true").map(([name]) => name);
    assert.deepEqual(labelled, [api.lease?.spec.holderIdentity]);
    for (const member of members) member.stop();
    await pass(clock, 5_000);
  });

  it("hands over at once when the leader stops, under the next epoch", async () => {
    const api = new Api();
    const clock = new ManualClock();
    const a = join(api, clock, "a");
    await pass(clock, 1_000);
    const b = join(api, clock, "b");
    await pass(clock, 30_000);
    assert.deepEqual([leads(a), leads(b)], [true, false]);
    a.stop();
    await pass(clock, 500);
    assert.equal(a.ended, "Stopped");
    assert.deepEqual([leads(a), leads(b)], [false, true]);
    assert.equal(b.election.epoch(), 2);
    assert.equal(api.pods.get("a")?.labels["nightshift.dev/leader"], undefined);
    assert.equal(api.pods.get("b")?.labels["nightshift.dev/leader"], "true");
    assert.equal(api.pods.get("b")?.annotations["nightshift.dev/epoch"], "2");
    b.stop();
    await pass(clock, 1_000);
  });

  it("replaces a leader that is cut off within the lease's time, and that one acts no more before", async () => {
    const api = new Api();
    const [clock, other] = [new ManualClock(), new ManualClock(Date.UTC(2026, 0, 1) - 300_000)];
    const both = async (ms: number): Promise<void> => {
      for (let done = 0; done < ms; done += 100) await Promise.all([clock.advance(100), other.advance(100)]);
    };
    const a = join(api, clock, "a");
    await both(1_000);
    // The clock of the other is five minutes slow.
    const b = join(api, other, "b");
    await both(20_000);
    a.way.cut = true;
    let overlap = false;
    for (let ms = 0; ms < 16_000 && !leads(b); ms += 100) {
      await both(100);
      overlap ||= leads(a) && leads(b);
    }
    assert.equal(leads(b), true, "taken over within 16 s");
    assert.equal(overlap, false);
    assert.equal(a.ended, "LeaseLost");
    a.way.cut = false;
    await both(60_000);
    assert.equal(leads(a), false);
    assert.equal(api.lease?.spec.holderIdentity, "b");
    b.stop();
    await both(1_000);
  });

  it("a leader that was frozen notices before it does anything, and again when it asks", async () => {
    const api = new Api();
    const [clock, other] = [new ManualClock(), new ManualClock()];
    const a = join(api, clock, "a");
    await clock.advance(1_000);
    const b = join(api, other, "b");
    await pass(clock, 4_000);
    assert.equal(leads(a), true);
    // Frozen: time passes for the others only; then for it all at once.
    await pass(other, 20_000);
    assert.equal(leads(b), true);
    let release = (): void => {};
    a.way.frozen = new Promise((resolve) => (release = resolve));
    await clock.advance(20_000);
    assert.equal(leads(a), false, "without having heard of the other");
    release();
    await pass(clock, 2_500);
    assert.equal(a.ended, "LeaseLost");
    b.stop();
    await pass(other, 1_000);
  });

  it("does not begin by a lease that it got too late: its request took longer than the time in which a leader must renew", async () => {
    const api = new Api();
    const clock = new ManualClock();
    const a = join(api, clock, "a");
    let release = (): void => {};
    a.way.frozen = new Promise((resolve) => (release = resolve));
    await clock.advance(20_000);
    const holder = (): string | undefined => api.lease?.spec.holderIdentity;
    assert.equal(holder(), undefined);
    release();
    await pass(clock, 100);
    assert.deepEqual([holder(), leads(a), a.epoch, a.ended], ["a", false, undefined, "LeaseLost"]);
  });

  it("survives a change of its lease by a person, and gives up when the lease is deleted", async () => {
    const api = new Api();
    const clock = new ManualClock();
    const a = join(api, clock, "a");
    await pass(clock, 5_000);
    const { lease } = api;
    assert.ok(lease);
    api.put({ ...lease, metadata: { ...lease.metadata, labels: { seen: "yes" } } });
    await pass(clock, 30_000);
    assert.equal(leads(a), true);
    assert.equal(api.lease?.metadata.labels?.["seen"], "yes");
    api.lease = undefined;
    await pass(clock, 3_000);
    assert.equal(a.ended, "LeaseLost");
    assert.equal(leads(a), false);
  });

  it("never begins below an epoch that was used, also when the lease is new", async () => {
    const api = new Api();
    const clock = new ManualClock();
    const a = join(api, clock, "a", () => 41);
    await pass(clock, 1_000);
    assert.equal(a.election.epoch(), 42);
    a.stop();
    await pass(clock, 1_000);
    const b = join(api, clock, "b", () => 7);
    await pass(clock, 1_000);
    assert.equal(b.election.epoch(), 43);
    b.stop();
    await pass(clock, 1_000);
  });

  it("never goes back to an epoch that it saw, whatever becomes of the lease", async () => {
    for (const spec of [undefined, {}, { leaseTransitions: 1 }]) {
      const api = new Api();
      const clock = new ManualClock();
      const a = join(api, clock, "a", () => 40);
      await pass(clock, 1_000);
      const b = join(api, clock, "b", () => 0);
      await pass(clock, 3_000);
      assert.equal(a.election.epoch(), 41);
      const name = { name: "nightshift", namespace: "nightshift-system", resourceVersion: "" };
      if (spec === undefined) api.lease = undefined;
      else api.put({ metadata: name, spec });
      await pass(clock, 5_000);
      assert.equal(a.ended, "LeaseLost");
      assert.equal(b.election.epoch(), 42);
      b.stop();
      await pass(clock, 1_000);
    }
  });

  it("waits, saying why, while the API server is away, without a watch too", async () => {
    const api = new Api();
    const clock = new ManualClock();
    const a = join(api, clock, "a");
    a.way.noWatch = true;
    await pass(clock, 1_000);
    const b = join(api, clock, "b");
    b.way.cut = true;
    b.way.noWatch = true;
    await pass(clock, 5_000);
    assert.ok(b.errors.length > 0);
    b.way.cut = false;
    a.stop();
    await pass(clock, 3_000);
    assert.equal(leads(b), true);
    b.stop();
    await pass(clock, 1_000);
  });

  it("does not storm an API server that it cannot reach once the lease of another has expired", async () => {
    const api = new Api();
    const clock = new ManualClock();
    const leader = join(api, clock, "a");
    await pass(clock, 1_000);
    const waits = join(api, clock, "b");
    await pass(clock, 5_000);
    leader.way.cut = waits.way.cut = true;
    const before = waits.errors.length;
    await pass(clock, 120_000);
    const tries = waits.errors.length - before;
    assert.ok(tries >= 50 && tries <= 70, `${tries} tries in two minutes, which is one in two seconds`);
    waits.way.cut = false;
    await pass(clock, 3_000);
    assert.ok(leads(waits), "and it is soon there when the API server is back");
    waits.stop();
    await pass(clock, 1_000);
  });
});
