import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import * as fc from "fast-check";
import { NODES, PODS } from "../../../test/support/fake-api/resources.ts";
import { FakeApi, type Fault } from "../../../test/support/fake-api/server.ts";
import type { KubeObject } from "../../../test/support/fake-api/types.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import { until } from "../../../test/support/until.ts";
import { systemClock } from "../host/clock.ts";
import { Cache } from "./cache.ts";
import type { KubeApiError } from "./errors.ts";
import { Gate } from "./gate.ts";
import { HttpKubeClient } from "./http-client.ts";
import type { BaseRecord } from "./records.ts";
import { Reflector, type Listed, type ReflectorOptions } from "./reflector.ts";

type Record_ = BaseRecord & { readonly note: string };

const pod = (name: string, note = "", namespace = "default"): KubeObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace, labels: { note } },
});

const project = (object: Listed): Record_ => ({
  namespace: object.metadata.namespace ?? "",
  name: object.metadata.name,
  uid: object.metadata.uid,
  resourceVersion: object.metadata.resourceVersion,
  note: (object as unknown as KubeObject).metadata.labels?.["note"] ?? "",
});

/** A reflector of the pods of a fake API server, with short waits. */
async function setUp(t: TestContext, options: Partial<ReflectorOptions<Listed>> = {}) {
  const api = await FakeApi.start({ types: [PODS], bookmarkMs: 50 });
  const client = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test", watchSilenceMs: 400 });
  const cache = new Cache({ project });
  const events: string[] = [];
  cache.onChange((before, after) =>
    events.push(`${before === undefined ? "Added" : after === undefined ? "Deleted" : "Modified"} ${String((after ?? before)?.name)}`),
  );
  const errors: KubeApiError[] = [];
  const reflector = new Reflector<Listed>({
    client,
    clock: systemClock,
    random: seededRandom(),
    path: "/api/v1/pods",
    sink: cache,
    backoff: { baseMs: 5, maxMs: 40 },
    onError: (error) => errors.push(error),
    ...options,
  });
  const stop = new AbortController();
  let running: Promise<void> = Promise.resolve();
  const start = async (): Promise<void> => {
    running = reflector.run(stop.signal);
    await reflector.synced;
  };
  t.after(async () => {
    stop.abort();
    await running;
    await client.close();
    await api.down();
  });
  /** The cache has what the server has. */
  const settled = (): Promise<void> => until(() => assert.deepEqual(contents(cache), truth(api)));
  return { api, cache, events, errors, reflector, start, stop, settled, client };
}

const contents = (cache: Cache<Listed, Record_>): string[] =>
  [...cache.values()].map((r) => `${r.namespace}/${r.name} ${r.uid} ${r.resourceVersion} ${r.note}`).sort();
const truth = (api: FakeApi): string[] =>
  api.storage
    .list(PODS)
    .map(({ metadata: m }) => `${m.namespace} ${m.name} ${m.uid} ${m.resourceVersion} ${m.labels?.["note"]}`.replace(" ", "/"))
    .sort();
const verbs = (api: FakeApi): string[] => api.requests.map(({ verb }) => verb);
const put = (api: FakeApi, name: string, note: string): void => {
  const old = api.storage.list(PODS).find(({ metadata }) => metadata.name === name);
  if (old === undefined) api.storage.create(PODS, "default", pod(name, note));
  else api.storage.update(PODS, "default", name, { ...old, metadata: { ...old.metadata, labels: { note } } });
};

describe("a reflector", () => {
  it("lists in pages, then watches from there with bookmarks", async (t) => {
    const { api, cache, events, start, settled } = await setUp(t, { pageSize: 2 });
    for (const name of ["a", "b", "c", "d", "e"]) put(api, name, "");
    await start();
    assert.deepEqual(events, ["Added a", "Added b", "Added c", "Added d", "Added e"]);
    const version = api.storage.version;
    put(api, "a", "changed");
    put(api, "f", "");
    api.storage.delete(PODS, "default", "b");
    await settled();
    assert.deepEqual(events.slice(5), ["Modified a", "Added f", "Deleted b"]);
    assert.equal(cache.get("default", "a")?.note, "changed");
    const [first, second, third, watch] = api.requests;
    assert.deepEqual(
      [first, second, third].map((r) => [r?.verb, r?.query["limit"], r?.query["resourceVersion"]]),
      Array.from({ length: 3 }, () => ["list", "2", undefined]),
    );
    assert.equal(watch?.query["resourceVersion"], version);
    assert.equal(watch?.query["allowWatchBookmarks"], "true");
    assert.ok(Number(watch?.query["timeoutSeconds"]) >= 300 && Number(watch?.query["timeoutSeconds"]) <= 600);
  });

  it("says up to where everything is known: by a listing once it is whole, by each event, by bookmarks", async (t) => {
    const { api, cache, start } = await setUp(t, { pageSize: 1 });
    for (const name of ["a", "b"]) put(api, name, "");
    const told: (string | undefined)[] = [];
    cache.onChange(() => told.push(cache.resourceVersion));
    assert.equal(cache.resourceVersion, undefined);
    await start();
    const listed = api.storage.version;
    assert.deepEqual([...told, cache.resourceVersion], [undefined, undefined, listed]);
    let moved = 0;
    const unsubscribe = cache.onProgress(() => (moved += 1));
    put(api, "c", "");
    await until(() => assert.equal(cache.resourceVersion, api.storage.version));
    assert.ok(moved >= 1);
    assert.ok(cache.get("default", "c") !== undefined);
    // Something of another kind: only a bookmark tells that nothing of this one has changed.
    api.storage.create(NODES, "", { apiVersion: "v1", kind: "Node", metadata: { name: "n" } });
    assert.notEqual(cache.resourceVersion, api.storage.version);
    await until(() => assert.equal(cache.resourceVersion, api.storage.version));
    unsubscribe();
  });

  it("watches what its selector selects", async (t) => {
    const { api, events, start } = await setUp(t, { query: { labelSelector: "note=x" } });
    put(api, "a", "x");
    put(api, "b", "y");
    await start();
    put(api, "b", "x");
    put(api, "a", "y");
    await until(() => assert.deepEqual(events, ["Added a", "Added b", "Deleted a"]));
  });

  it("goes on from its last event when a watch ends, is reset, or breaks in the middle of a line, without listing again", async (t) => {
    const { api, start, settled } = await setUp(t);
    put(api, "a", "");
    await start();
    for (const [i, how] of (["end", "reset", "resetMidLine"] as const).entries()) {
      await until(() => assert.equal(api.watches.size, 1));
      for (const watch of api.watches) watch[how]();
      put(api, "a", how);
      put(api, `while-${i}`, "");
      await settled();
    }
    assert.equal(verbs(api).filter((verb) => verb === "list").length, 1);
  });

  it("notices a half-open connection, and goes on", async (t) => {
    const { api, errors, start, settled } = await setUp(t);
    await start();
    await until(() => assert.equal(api.watches.size, 1));
    for (const watch of api.watches) watch.freeze();
    put(api, "a", "");
    await settled();
    assert.deepEqual([errors[0]?.code, verbs(api).filter((verb) => verb === "list").length], ["KUBE_TIMEOUT", 1]);
  });

  it("goes on from a bookmark, so that a compaction does not cost it a listing", async (t) => {
    const { api, errors, start, settled } = await setUp(t);
    put(api, "a", "");
    await start();
    await until(() => assert.equal(api.watches.size, 1));
    for (let i = 0; i < 5; i += 1) api.storage.touch();
    const version = api.storage.version;
    await new Promise((resolve) => void setTimeout(resolve, 200));
    api.compact();
    for (const watch of api.watches) watch.end();
    await until(() => assert.equal(api.requests.at(-1)?.query["resourceVersion"], version));
    put(api, "a", "later");
    await settled();
    assert.deepEqual([errors.length, verbs(api).filter((verb) => verb === "list").length], [0, 1]);
  });

  it("lists again when its place is gone, and finds what was changed, deleted and replaced meanwhile", async (t) => {
    const { api, events, errors, reflector, start, settled } = await setUp(t);
    for (const name of ["same", "changed", "deleted", "replaced"]) put(api, name, "");
    await start();
    await api.down();
    put(api, "changed", "x");
    api.storage.delete(PODS, "default", "deleted");
    api.storage.delete(PODS, "default", "replaced");
    put(api, "replaced", "");
    api.compact();
    events.length = 0;
    await api.up();
    await settled();
    assert.deepEqual(events, ["Modified changed", "Deleted replaced", "Added replaced", "Deleted deleted"]);
    assert.equal(reflector.counts.listings, 2);
    assert.ok(errors.some((error) => error.code === "KUBE_GONE"));
  });

  it("lists again when a watch is refused with 410, and when it says so in its stream", async (t) => {
    const { api, start, settled } = await setUp(t);
    await start();
    await until(() => assert.equal(api.watches.size, 1));
    for (const watch of api.watches) watch.fail(410, "Expired");
    await until(() => assert.equal(verbs(api).filter((verb) => verb === "list").length, 2));
    await until(() => assert.equal(api.watches.size, 1));
    let refused = false;
    api.fault = ({ verb }) => {
      if (verb !== "watch" || refused) return undefined;
      refused = true;
      return { refuse: 410, reason: "Gone" };
    };
    for (const watch of api.watches) watch.end();
    await until(() => assert.equal(verbs(api).filter((verb) => verb === "list").length, 3));
    put(api, "a", "");
    await settled();
  });

  it("begins a listing anew whose pages have expired, and asks for all at once when that goes on", async (t) => {
    const { api, cache, start, settled } = await setUp(t, { pageSize: 2 });
    for (const name of ["a", "b", "c", "d", "e"]) put(api, name, "");
    api.fault = ({ query }) => {
      if (query["continue"] !== undefined) api.compact();
      return undefined;
    };
    await start();
    assert.equal(cache.size, 5);
    assert.deepEqual(
      api.requests.slice(0, 5).map(({ query }) => [query["limit"], query["continue"] !== undefined]),
      [
        ["2", false],
        ["2", true],
        ["2", false],
        ["2", true],
        [undefined, false],
      ],
    );
    await settled();
  });

  it("asks for smaller pages when one is larger than the client takes", async (t) => {
    const { api, cache, start } = await setUp(t);
    for (const name of ["a", "b", "c", "d", "e", "f"]) put(api, name, "x".repeat(300));
    const small = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test", maxResponseBytes: 2_000 });
    t.after(() => small.close());
    const reflector = new Reflector<Listed>({
      client: small,
      clock: systemClock,
      random: seededRandom(),
      path: "/api/v1/pods",
      sink: cache,
      pageSize: 8,
    });
    const stop = new AbortController();
    const running = reflector.run(stop.signal);
    await reflector.synced;
    assert.equal(cache.size, 6);
    stop.abort();
    await running;
    await start();
  });

  it("deletes nothing on account of a listing that did not come to its end", async (t) => {
    const { api, cache, events, start, settled } = await setUp(t, { pageSize: 1 });
    for (const name of ["a", "b", "c"]) put(api, name, "");
    await start();
    api.fault = ({ query }) => (query["continue"] === undefined ? undefined : "reset");
    await until(() => assert.equal(api.watches.size, 1));
    for (const watch of api.watches) watch.fail(410, "Expired");
    const listings = (): number => api.requests.filter((r) => r.verb === "list" && r.query["continue"] === undefined).length;
    await until(() => assert.ok(listings() > 3));
    assert.equal(cache.size, 3);
    assert.ok(!events.some((event) => event.startsWith("Deleted")));
    api.storage.delete(PODS, "default", "b");
    api.fault = undefined;
    await settled();
  });

  it("waits as long as a 429 asks for", async (t) => {
    const { api, start, settled } = await setUp(t);
    await start();
    await until(() => assert.equal(api.watches.size, 1));
    const refusedAt: number[] = [];
    api.fault = ({ verb, at }): Fault | undefined => {
      if (verb !== "watch" || refusedAt.length > 0) return undefined;
      refusedAt.push(at);
      return { refuse: 429, reason: "TooManyRequests", retryAfter: 1 };
    };
    for (const watch of api.watches) watch.end();
    put(api, "a", "");
    await settled();
    const again = api.requests.findLast(({ verb }) => verb === "watch");
    assert.ok((again?.at ?? 0) - (refusedAt[0] ?? 0) >= 1_000);
  });

  it("backs off while the API server is away, and reports why", async (t) => {
    const waits: number[] = [];
    const { api, errors, start } = await setUp(t, {
      backoff: { baseMs: 10, maxMs: 80 },
      onError: (error, wait) => {
        errors.push(error);
        waits.push(wait);
      },
    });
    await start();
    await api.down();
    await until(() => assert.ok(waits.length >= 6));
    assert.ok(errors.every((error) => error.isTransient));
    for (const [i, wait] of waits.entries()) {
      const base = Math.min(10 * 2 ** i, 80);
      assert.ok(wait >= base && wait <= base * 2, `wait ${i}: ${wait}`);
    }
  });

  it("gives its place up when the API server refuses it again and again, or has never been there", async (t) => {
    const { api, start, settled } = await setUp(t);
    await start();
    for (const fault of [
      { refuse: 403, reason: "Forbidden" },
      { refuse: 504, reason: "Timeout", details: { causes: [{ reason: "ResourceVersionTooLarge" }] } },
    ]) {
      await until(() => assert.equal(api.watches.size, 1));
      const before = verbs(api).filter((verb) => verb === "list").length;
      api.fault = ({ verb }) => (verb === "watch" && verbs(api).filter((v) => v === "list").length === before ? fault : undefined);
      for (const watch of api.watches) watch.end();
      await until(() => assert.equal(verbs(api).filter((verb) => verb === "list").length, before + 1));
    }
    put(api, "a", "");
    await settled();
  });

  it("knows how fresh it is: by listings, events and bookmarks, and by nothing else", async (t) => {
    let skew = 0;
    const clock = { ...systemClock, monotonic: () => performance.now() + skew };
    const { api, reflector, start, errors } = await setUp(t, { clock });
    assert.equal(reflector.isFresh(1e9), false);
    assert.equal(reflector.lastSyncedAt, undefined);
    await start();
    assert.equal(reflector.isFresh(10_000), true);
    skew += 20_000;
    await until(() => assert.equal(reflector.isFresh(10_000), true));
    await api.down();
    skew += 20_000;
    await until(() => assert.ok(errors.length > 2));
    assert.equal(reflector.isFresh(10_000), false);
    assert.equal(reflector.isFresh(60_000), true);
    await api.up();
    await until(() => assert.equal(reflector.isFresh(10_000), true));
  });

  it("lists no more at once than the gate lets through, and not all at the same moment, when the API server comes back", async (t) => {
    const api = await FakeApi.start({ types: [PODS], bookmarkMs: 50 });
    const client = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test" });
    const gate = new Gate(2);
    const stop = new AbortController();
    let running = 0;
    let most = 0;
    const counting = {
      watch: client.watch.bind(client),
      request: async <T>(request: Parameters<typeof client.request>[0]): Promise<T> => {
        running += 1;
        most = Math.max(most, running);
        try {
          return await client.request<T>(request);
        } finally {
          running -= 1;
        }
      },
    };
    const reflectors = Array.from(
      { length: 12 },
      (_, i) =>
        new Reflector<Listed>({
          client: counting,
          clock: systemClock,
          random: seededRandom(i + 1),
          path: "/api/v1/pods",
          sink: new Cache({ project }),
          gate,
          backoff: { baseMs: 50, maxMs: 400 },
        }),
    );
    const runs = reflectors.map((reflector) => reflector.run(stop.signal));
    t.after(async () => {
      stop.abort();
      await Promise.all(runs);
      await client.close();
      await api.down();
    });
    await Promise.all(reflectors.map((reflector) => reflector.synced));
    await until(() => assert.equal(api.watches.size, 12));
    await api.down();
    await until(() => assert.equal(api.watches.size, 0));
    api.storage.touch();
    api.compact();
    api.requests.length = 0;
    api.fault = ({ verb }) => (verb === "list" ? { delayMs: 5 } : undefined);
    await api.up();
    await until(() => assert.equal(api.watches.size, 12));
    assert.equal(most, 2);
    const moments = new Set(api.requests.filter(({ verb }) => verb === "list").map(({ at }) => Math.round(at)));
    assert.ok(moments.size >= 6, `${moments.size} moments`);
  });

  it("stops at once when it is told to, in a listing, a watch or a rest", async (t) => {
    const { api, start, stop, reflector, client } = await setUp(t);
    await start();
    await until(() => assert.equal(api.watches.size, 1));
    stop.abort();
    await until(() => assert.equal(api.watches.size, 0));
    api.fault = () => "hang";
    for (const [ms, backoff] of [
      [30, {}],
      [100, { baseMs: 60_000, maxMs: 60_000 }],
    ] as const) {
      if (ms === 100) api.fault = () => "reset";
      const other = new AbortController();
      const run = new Reflector<Listed>({
        client,
        clock: systemClock,
        random: seededRandom(),
        path: "/api/v1/pods",
        sink: new Cache({ project }),
        backoff,
      }).run(other.signal);
      setTimeout(() => other.abort(), ms);
      await run;
    }
    assert.equal(reflector.hasSynced, true);
  });
});

/** What can happen, to the objects or to the way to them. */
type Action =
  | { readonly type: "put"; readonly name: string; readonly note: string }
  | { readonly type: "delete" | "replace"; readonly name: string }
  | {
      readonly type:
        | "touch"
        | "compact"
        | "bounce"
        | "end"
        | "reset"
        | "resetMidLine"
        | "freeze"
        | "gone"
        | "duplicate"
        | "delay"
        | "pause";
    }
  | { readonly type: "fault"; readonly fault: Fault; readonly requests: number };

const name = fc.constantFrom("a", "b", "c", "d", "e", "f", "g");
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ type: fc.constant("put" as const), name, note: fc.stringMatching(/^[a-z]{1,3}$/) }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constantFrom("delete" as const, "replace" as const), name }) },
  {
    weight: 10,
    arbitrary: fc.record({
      type: fc.constantFrom(
        ...(["touch", "compact", "bounce", "end", "reset", "resetMidLine", "freeze", "gone", "duplicate", "delay", "pause"] as const),
      ),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant("fault" as const),
      fault: fc.constantFrom<Fault>(
        "reset",
        "cut",
        { refuse: 410, reason: "Expired" },
        { refuse: 429, reason: "TooManyRequests" },
        { refuse: 500, reason: "InternalError" },
        { refuse: 503, reason: "ServiceUnavailable" },
        { delayMs: 10 },
      ),
      requests: fc.integer({ min: 1, max: 3 }),
    }),
  },
);

it("whatever happens, a reflector's cache ends equal to what the API server has, and its events tell the way there", async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 60 }), fc.integer({ min: 1, max: 4 }), async (actions, pageSize) => {
      const { api, cache, start, settled, stop } = await setUp(t, { pageSize });
      const model = new Map<string, string>();
      cache.onChange((before, after) => {
        // Each change fits what was told before: nothing is added twice, or deleted or modified that is not there.
        const key = (after ?? before)?.name ?? "";
        assert.equal(model.get(key), before?.uid);
        if (after === undefined) model.delete(key);
        else model.set(key, after.uid);
      });
      put(api, "a", "first");
      await start();
      for (const step of actions) {
        await perform(api, step);
        if (step.type !== "put") await new Promise((resolve) => void setTimeout(resolve, 3));
      }
      api.fault = undefined;
      api.delivery = {};
      await settled();
      assert.deepEqual(model, new Map([...cache.values()].map((r) => [r.name, r.uid])));
      stop.abort();
      await api.down();
    }),
    { endOnFailure: true, numRuns: Number(process.env["NIGHTSHIFT_PROPERTY_RUNS"] ?? 40) },
  );
});

async function perform(api: FakeApi, step: Action): Promise<void> {
  const exists = (key: string): boolean => api.storage.list(PODS).some(({ metadata }) => metadata.name === key);
  switch (step.type) {
    case "put":
      return put(api, step.name, step.note);
    case "delete":
      if (exists(step.name)) api.storage.delete(PODS, "default", step.name);
      return;
    case "replace":
      if (exists(step.name)) api.storage.delete(PODS, "default", step.name);
      return put(api, step.name, "replaced");
    case "touch":
      return api.storage.touch();
    case "compact":
      return api.compact();
    case "bounce":
      await api.down();
      await api.up();
      return;
    case "gone":
      for (const watch of api.watches) watch.fail(410, "Expired");
      return;
    case "duplicate":
      api.delivery = { ...api.delivery, duplicate: () => true };
      return;
    case "delay":
      api.delivery = { ...api.delivery, delayMs: () => 3 };
      return;
    case "pause":
      await new Promise((resolve) => void setTimeout(resolve, 30));
      return;
    case "fault": {
      let left = step.requests;
      api.fault = () => {
        left -= 1;
        return left >= 0 ? step.fault : undefined;
      };
      return;
    }
    default:
      for (const watch of api.watches) watch[step.type]();
  }
}
