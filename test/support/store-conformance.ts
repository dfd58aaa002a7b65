import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { NightshiftError } from "../../src/api/errors.ts";
import type { Kind } from "../../src/api/meta.ts";
import type { Store, WatchEvent } from "../../src/ports/store.ts";
import { dependencyObject, budgetObject, remediationObject } from "./objects.ts";

/** Makes an empty store for one test, and clears it away with `t.after`. */
export type MakeStore = (t: TestContext) => Store | Promise<Store>;

/** For `assert.rejects`: a NightshiftError with this code and a message that matches. */
export function withCode(code: string, message: RegExp = /./): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof NightshiftError, `not a NightshiftError: ${String(error)}`);
    assert.equal(error.code, code, error.toString());
    assert.match(error.message, message);
    return true;
  };
}

/** Opens a watch and reads from it; ends with the test. */
export function watcher<K extends Kind>(t: TestContext, store: Store, kind: K) {
  const abort = new AbortController();
  t.after(() => abort.abort());
  const events = store.watch(kind, abort.signal)[Symbol.asyncIterator]();
  const next = async (): Promise<WatchEvent<K> | undefined> => {
    const result = await events.next();
    return result.done ? undefined : result.value;
  };
  /** `Type name` of the next `count` events. */
  const read = async (count: number): Promise<string[]> => {
    const seen: string[] = [];
    for (let i = 0; i < count; i += 1) {
      const event = await next();
      if (event === undefined) break;
      seen.push(event.type === "Synced" ? "Synced" : `${event.type} ${event.object.metadata.name}`);
    }
    return seen;
  };
  return { abort, next, read };
}

/** The tests that every Store must pass, whatever it stores into. */
export function storeConformance(subject: string, makeStore: MakeStore): void {
  describe(`${subject} keeps the contract of Store`, () => {
    it("gives a new object uid, resourceVersion, generation and creationTimestamp", async (t) => {
      const store = await makeStore(t);
      const created = await store.create(dependencyObject("a"));
      assert.match(created.metadata.uid ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-4/);
      assert.ok(created.metadata.resourceVersion);
      assert.equal(created.metadata.generation, 1);
      assert.ok(!Number.isNaN(Date.parse(created.metadata.creationTimestamp ?? "")));
      assert.deepEqual(await store.get("ServiceDependency", "default", "a"), created);
    });

    it("fills in what the schema has a default for", async (t) => {
      const store = await makeStore(t);
      const budget = budgetObject("b");
      const created = await store.create({ ...budget, spec: { maxConcurrent: 2 } } as typeof budget);
      assert.deepEqual(created.spec, { maxConcurrent: 2, budgets: [] });
    });

    it("has nothing under a name that was not created", async (t) => {
      const store = await makeStore(t);
      assert.equal(await store.get("Runbook", "default", "a"), undefined);
      assert.deepEqual(await store.list("Runbook"), []);
    });

    it("refuses a second object of the same kind, namespace and name, and takes any other", async (t) => {
      const store = await makeStore(t);
      await store.create(dependencyObject("a"));
      await assert.rejects(store.create(dependencyObject("a")), withCode("ALREADY_EXISTS", /ServiceDependency default\/a/));
      await store.create(dependencyObject("a", "other"));
      await store.create(remediationObject("a"));
      assert.equal((await store.list("ServiceDependency")).length, 2);
    });

    it("lets exactly one of many concurrent creates win", async (t) => {
      const store = await makeStore(t);
      const results = await Promise.allSettled(Array.from({ length: 20 }, () => store.create(dependencyObject("a"))));
      assert.equal(results.filter((r) => r.status === "fulfilled").length, 1);
      for (const result of results) if (result.status === "rejected") withCode("ALREADY_EXISTS")(result.reason);
    });

    it("lets exactly one of many concurrent updates of one version win", async (t) => {
      const store = await makeStore(t);
      const created = await store.create(dependencyObject("a"));
      const results = await Promise.allSettled(
        Array.from({ length: 20 }, (_, i) => store.update({ ...created, spec: { ...created.spec, window: `${i + 100}s` } })),
      );
      assert.equal(results.filter((r) => r.status === "fulfilled").length, 1);
      for (const result of results) if (result.status === "rejected") withCode("CONFLICT")(result.reason);
    });

    it("refuses what the schema refuses, naming the path, and stores nothing of it", async (t) => {
      const store = await makeStore(t);
      const good = dependencyObject("a");
      await assert.rejects(store.create({ ...good, spec: { ...good.spec, window: "" } }), withCode("INVALID", /spec\.window/));
      await assert.rejects(store.create(dependencyObject("Not A Name")), withCode("INVALID", /metadata\.name/));
      await assert.rejects(store.create({ ...good, surprise: 1 } as typeof good), withCode("INVALID", /surprise/));
      await assert.rejects(store.create({ kind: "ServiceDependency" } as typeof good), withCode("INVALID", /metadata/));
      await assert.rejects(store.create({ ...good, kind: "Pod" } as unknown as typeof good), withCode("INVALID", /Pod/));
      assert.deepEqual(await store.list("ServiceDependency"), []);
      const created = await store.create(good);
      await assert.rejects(store.update({ ...created, spec: { ...created.spec, window: "" } }), withCode("INVALID", /spec\.window/));
      assert.deepEqual(await store.get("ServiceDependency", "default", "a"), created);
    });

    it("refuses to create what carries a resourceVersion", async (t) => {
      const store = await makeStore(t);
      const created = await store.create(dependencyObject("a"));
      const copy = { ...created, metadata: { ...created.metadata, name: "b" } };
      await assert.rejects(store.create(copy), withCode("INVALID", /resourceVersion/));
    });

    it("counts changes of spec in generation, and of nothing else", async (t) => {
      const store = await makeStore(t);
      const one = await store.create(remediationObject("a"));
      const two = await store.update({ ...one, status: { ...one.status, phase: "Executing" } });
      assert.equal(two.metadata.generation, 1);
      const dependency = await store.create(dependencyObject("a"));
      const labelled = await store.update({ ...dependency, metadata: { ...dependency.metadata, labels: { a: "b" } } });
      assert.equal(labelled.metadata.generation, 1);
      const changed = await store.update({ ...labelled, spec: { ...labelled.spec, window: "1m" } });
      assert.equal(changed.metadata.generation, 2);
      assert.deepEqual(
        [changed.metadata.uid, changed.metadata.creationTimestamp],
        [dependency.metadata.uid, dependency.metadata.creationTimestamp],
      );
    });

    it("gives each write a new resourceVersion, and a write of nothing new none", async (t) => {
      const store = await makeStore(t);
      const one = await store.create(dependencyObject("a"));
      const two = await store.update({ ...one, spec: { ...one.spec, window: "1m" } });
      assert.notEqual(two.metadata.resourceVersion, one.metadata.resourceVersion);
      assert.deepEqual(await store.update(structuredClone(two)), two);
    });

    it("refuses an update that read an older version, none, or another object of that name", async (t) => {
      const store = await makeStore(t);
      const one = await store.create(dependencyObject("a"));
      const two = await store.update({ ...one, spec: { ...one.spec, window: "1m" } });
      await assert.rejects(store.update({ ...one, spec: { ...one.spec, window: "2m" } }), withCode("CONFLICT"));
      const { resourceVersion: _, ...unversioned } = two.metadata;
      await assert.rejects(store.update({ ...two, metadata: unversioned }), withCode("CONFLICT"));
      await assert.rejects(store.update({ ...two, metadata: { ...two.metadata, uid: "another" } }), withCode("CONFLICT"));
      assert.deepEqual(await store.get("ServiceDependency", "default", "a"), two);
      await assert.rejects(store.update({ ...two, metadata: { ...two.metadata, name: "b" } }), withCode("NOT_FOUND"));
    });

    it("keeps a Remediation's spec as it was", async (t) => {
      const store = await makeStore(t);
      const one = await store.create(remediationObject("a"));
      await assert.rejects(store.update({ ...one, spec: { ...one.spec, mode: "Observe" } }), withCode("IMMUTABLE"));
      const two = await store.update({ ...one, status: { ...one.status, phase: "Blocked", reason: "Paused" } });
      assert.equal(two.status.phase, "Blocked");
    });

    it("deletes, with a version only the newest, and the name is free again", async (t) => {
      const store = await makeStore(t);
      const one = await store.create(dependencyObject("a"));
      const two = await store.update({ ...one, spec: { ...one.spec, window: "1m" } });
      await assert.rejects(store.delete("ServiceDependency", "default", "a", one.metadata.resourceVersion), withCode("CONFLICT"));
      await store.delete("ServiceDependency", "default", "a", two.metadata.resourceVersion);
      assert.equal(await store.get("ServiceDependency", "default", "a"), undefined);
      await assert.rejects(store.delete("ServiceDependency", "default", "a"), withCode("NOT_FOUND"));
      await assert.rejects(store.update(two), withCode("NOT_FOUND"));
      const again = await store.create(dependencyObject("a"));
      assert.notEqual(again.metadata.uid, one.metadata.uid);
      assert.notEqual(again.metadata.resourceVersion, one.metadata.resourceVersion);
      await assert.rejects(store.update(two), withCode("CONFLICT"));
      await store.delete("ServiceDependency", "default", "a");
    });

    it("lists by namespace and name, of one namespace or all", async (t) => {
      const store = await makeStore(t);
      for (const [namespace, name] of [
        ["b", "x"],
        ["a-b", "x"],
        ["a", "z"],
        ["a", "y-1"],
        ["a", "y"],
        ["a", "y.1"],
      ] as const)
        await store.create(dependencyObject(name, namespace));
      const names = async (namespace?: string): Promise<string[]> =>
        (await store.list("ServiceDependency", namespace)).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
      assert.deepEqual(await names(), ["a/y", "a/y-1", "a/y.1", "a/z", "a-b/x", "b/x"]);
      assert.deepEqual(await names("a"), ["a/y", "a/y-1", "a/y.1", "a/z"]);
      assert.deepEqual(await names("c"), []);
      await store.delete("ServiceDependency", "a", "y-1");
      assert.deepEqual(await names("a"), ["a/y", "a/y.1", "a/z"]);
    });

    it("keeps cluster-scoped kinds under their name alone", async (t) => {
      const store = await makeStore(t);
      await store.create(budgetObject("b"));
      const elsewhere = budgetObject("b");
      elsewhere.metadata.namespace = "other";
      await assert.rejects(store.create(elsewhere), withCode("ALREADY_EXISTS", /RemediationBudget b /));
      assert.equal((await store.get("RemediationBudget", "anything", "b"))?.metadata.name, "b");
      assert.equal((await store.list("RemediationBudget", "anything")).length, 1);
      await store.delete("RemediationBudget", "anything", "b");
    });

    it("is not changed by what callers do to their objects, before, during or after", async (t) => {
      const store = await makeStore(t);
      const mine = remediationObject("a");
      mine.status.attempts = [];
      const pending = store.create(mine);
      mine.status.phase = "Failed";
      const created = await pending;
      assert.equal(created.status.phase, "Pending");
      mine.spec.diagnosis.evidence.push({ kind: "Probe", message: "late", values: {} });
      for (const object of [created, await store.get("Remediation", "default", "a"), (await store.list("Remediation"))[0]]) {
        assert.ok(object);
        try {
          object.status.phase = "Failed";
          object.spec.diagnosis.evidence.push({ kind: "Probe", message: "late", values: {} });
        } catch (error) {
          assert.ok(error instanceof TypeError, "frozen");
        }
      }
      const stored = await store.get("Remediation", "default", "a");
      assert.equal(stored?.status.phase, "Pending");
      assert.deepEqual(stored?.spec.diagnosis.evidence, []);
    });

    it("watch delivers what exists, then Synced, then every change of its kind in order", async (t) => {
      const store = await makeStore(t);
      await store.create(dependencyObject("b"));
      await store.create(dependencyObject("a"));
      await store.create(budgetObject("unrelated"));
      const { read, next } = watcher(t, store, "ServiceDependency");
      assert.deepEqual(await read(3), ["Added a", "Added b", "Synced"]);
      const c = await store.create(dependencyObject("c"));
      assert.deepEqual(await read(1), ["Added c"]);
      const changed = await store.update({ ...c, spec: { ...c.spec, window: "1m" } });
      assert.deepEqual(await next(), { type: "Modified", object: changed });
      await store.delete("ServiceDependency", "default", "a");
      const gone = await next();
      assert.ok(gone?.type === "Deleted");
      assert.equal(gone.object.metadata.name, "a");
      await store.create(dependencyObject("a"));
      assert.deepEqual(await read(1), ["Added a"]);
    });

    it("watch delivers the newest state to a reader that was slow, in order of version", async (t) => {
      const store = await makeStore(t);
      let a = await store.create(dependencyObject("a"));
      const { read, next } = watcher(t, store, "ServiceDependency");
      assert.deepEqual(await read(2), ["Added a", "Synced"]);
      for (let i = 0; i < 30; i += 1) a = await store.update({ ...a, spec: { ...a.spec, window: `${i + 100}s` } });
      await store.create(dependencyObject("b"));
      const last = await store.update({ ...a, spec: { ...a.spec, window: "1h" } });
      let newest: string | undefined;
      let events = 0;
      let sawB = false;
      while (newest !== "1h" || !sawB) {
        const event = await next();
        assert.ok(event && event.type !== "Synced");
        if (event.object.metadata.name === "a") newest = event.object.spec.window;
        else sawB = true;
        events += 1;
        assert.ok(events <= 32, "no more events than writes");
      }
      assert.equal(last.spec.window, newest);
    });

    it("watch tells a slow reader that an object of a name was replaced by another", async (t) => {
      const store = await makeStore(t);
      const old = await store.create(dependencyObject("a"));
      const { read, next } = watcher(t, store, "ServiceDependency");
      await read(2);
      await store.delete("ServiceDependency", "default", "a");
      const fresh = await store.create(dependencyObject("a"));
      const gone = await next();
      assert.ok(gone?.type === "Deleted");
      assert.equal(gone.object.metadata.uid, old.metadata.uid);
      assert.deepEqual(await next(), { type: "Added", object: fresh });
    });

    it("watch ends when it is aborted, also while it waits, and other watches go on", async (t) => {
      const store = await makeStore(t);
      const one = watcher(t, store, "ServiceDependency");
      const two = watcher(t, store, "ServiceDependency");
      await one.read(1);
      await two.read(1);
      const waiting = one.next();
      one.abort.abort();
      assert.equal(await waiting, undefined);
      assert.equal(await one.next(), undefined);
      await store.create(dependencyObject("a"));
      assert.deepEqual(await two.read(1), ["Added a"]);
      const never = new AbortController();
      never.abort();
      for await (const event of store.watch("ServiceDependency", never.signal)) assert.fail(`an event after the end: ${event.type}`);
    });

    it("a reader of a watch always ends up with exactly what the store has", async (t) => {
      const store = await makeStore(t);
      const abort = new AbortController();
      t.after(() => abort.abort());
      const model = new Map<string, string | undefined>();
      const reading = (async () => {
        for await (const event of store.watch("ServiceDependency", abort.signal)) {
          if (event.type === "Synced") continue;
          const { name, resourceVersion } = event.object.metadata;
          if (event.type === "Deleted") {
            assert.ok(model.delete(name), `${name} was deleted without having been added`);
          } else {
            assert.equal(event.type === "Modified", model.has(name), `${event.type} ${name}`);
            model.set(name, resourceVersion);
          }
          if (name === "last") return;
          // Slow now and then, so that changes pile up.
          if (Number(resourceVersion) % 7 === 0) await new Promise<void>((resolve) => void setTimeout(resolve, 2));
        }
      })();
      // The same pseudo-random sequence each time (a linear congruential generator).
      let state = 7;
      for (let i = 0; i < 150; i += 1) {
        state = (state * 1103515245 + 12345) % 2 ** 31;
        const name = `n${(state >> 8) % 5}`;
        const current = await store.get("ServiceDependency", "default", name);
        if (current === undefined) await store.create(dependencyObject(name));
        else if ((state >> 16) % 3 === 0) await store.delete("ServiceDependency", "default", name);
        else await store.update({ ...current, spec: { ...current.spec, window: `${i + 100}s` } });
      }
      await store.create(dependencyObject("last"));
      await reading;
      const have = (await store.list("ServiceDependency")).map(({ metadata }) => [metadata.name, metadata.resourceVersion] as const);
      assert.deepEqual(model, new Map(have));
    });
  });
}
