import assert from "node:assert/strict";
import { it } from "node:test";
import * as fc from "fast-check";
import { Cache } from "./cache.ts";
import type { BaseRecord } from "./records.ts";
import type { Listed } from "./reflector.ts";

interface Thing extends Listed {
  readonly node?: string;
  readonly apps?: readonly string[];
}
type ThingRecord = BaseRecord & { readonly node?: string; readonly apps: readonly string[]; readonly seen: number };

let version = 0;
const thing = (name: string, more: Partial<Thing> & { uid?: string; namespace?: string } = {}): Thing => {
  const { uid = `uid-${name}`, namespace = "default", ...rest } = more;
  return { metadata: { name, namespace, uid, resourceVersion: String((version += 1)) }, ...rest };
};

function make() {
  const errors: unknown[] = [];
  const cache = new Cache({
    project: ({ metadata, node, apps = [] }: Thing, before: ThingRecord | undefined): ThingRecord => {
      if (node === "bad") throw new Error("cannot be read");
      return { namespace: "", ...metadata, ...(node === undefined ? {} : { node }), apps, seen: (before?.seen ?? 0) + 1 };
    },
    indexes: { node: (r) => [r.node], app: (r) => r.apps },
    onError: (_, error) => errors.push(error),
  });
  const events: string[] = [];
  cache.onChange((before, after) => {
    const type = before === undefined ? "Added" : after === undefined ? "Deleted" : "Modified";
    events.push(`${type} ${String((after ?? before)?.name)} ${String((after ?? before)?.uid)}`);
  });
  return { cache, events, errors };
}

const names = (records: Iterable<BaseRecord>): string[] => [...records].map(({ name }) => name).sort();

it("finds records by namespace, name and each index, as they change and go", () => {
  const { cache } = make();
  cache.put(thing("a", { node: "n1", apps: ["x", "y"] }));
  cache.put(thing("b", { node: "n1", apps: ["x"] }));
  cache.put(thing("c", { namespace: "other" }));
  assert.equal(cache.size, 3);
  assert.deepEqual(names(cache.values()), ["a", "b", "c"]);
  assert.deepEqual(names(cache.values("other")), ["c"]);
  assert.deepEqual(names(cache.values("none")), []);
  assert.deepEqual(names(cache.find("node", "n1")), ["a", "b"]);
  assert.deepEqual(names(cache.find("app", "y")), ["a"]);
  const moved = thing("a", { node: "n2", apps: ["y"] });
  cache.put(moved);
  assert.deepEqual([names(cache.find("node", "n1")), names(cache.find("node", "n2"))], [["b"], ["a"]]);
  assert.deepEqual([names(cache.find("app", "x")), names(cache.find("app", "y"))], [["b"], ["a"]]);
  cache.delete(moved);
  assert.deepEqual([names(cache.find("node", "n2")), cache.get("default", "a"), cache.size], [[], undefined, 2]);
});

it("gives a projection the record that it takes the place of, and ignores what it knows already", () => {
  const { cache, events } = make();
  const one = thing("a");
  cache.put(one);
  cache.put(one);
  assert.equal(cache.get("default", "a")?.seen, 1);
  cache.put(thing("a"));
  assert.equal(cache.get("default", "a")?.seen, 2);
  assert.deepEqual(events, ["Added a uid-a", "Modified a uid-a"]);
});

it("tells of the one that went before the one that took its name, and ignores late word of the former", () => {
  const { cache, events } = make();
  const old = thing("a", { uid: "old", node: "n" });
  cache.put(old);
  cache.put(thing("a", { uid: "new" }));
  cache.delete(old);
  assert.deepEqual(events, ["Added a old", "Deleted a old", "Added a new"]);
  assert.deepEqual([cache.size, cache.find("node", "n")], [1, []]);
});

it("removes at the end of a listing what it did not bring, also when an earlier one broke off", () => {
  const { cache, events } = make();
  for (const name of ["a", "b", "c"]) cache.put(thing(name));
  cache.startListing();
  cache.put(thing("a"));
  cache.startListing();
  cache.put(thing("b"));
  cache.put(thing("d"));
  assert.equal(cache.size, 4);
  events.length = 0;
  cache.endListing();
  assert.deepEqual(events, ["Deleted a uid-a", "Deleted c uid-c"]);
  assert.deepEqual(names(cache.values()), ["b", "d"]);
});

it("leaves an object that cannot be projected as it was, and says so", () => {
  const { cache, errors } = make();
  cache.put(thing("a"));
  cache.startListing();
  cache.put(thing("a", { node: "bad" }));
  cache.put(thing("b", { node: "bad" }));
  cache.endListing();
  assert.deepEqual([names(cache.values()), errors.length], [["a"], 2]);
});

it("its indexes always say what going through all records would", () => {
  const name = fc.constantFrom("a", "b", "c", "d", "e");
  const node = fc.constantFrom("n1", "n2", undefined);
  const apps = fc.subarray(["x", "y", "z"]);
  const step = fc.oneof(
    fc.record({ type: fc.constant("put" as const), name, node, apps, uid: fc.constantFrom("1", "2") }),
    fc.record({ type: fc.constant("delete" as const), name, node, apps, uid: fc.constantFrom("1", "2") }),
    fc.record({ type: fc.constantFrom("startListing" as const, "endListing" as const), name, node, apps, uid: fc.constant("1") }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { cache } = make();
      for (const s of steps) {
        if (s.type === "put" || s.type === "delete")
          cache[s.type](thing(s.name, { ...(s.node === undefined ? {} : { node: s.node }), apps: s.apps, uid: s.uid }));
        else cache[s.type]();
        const all = [...cache.values()];
        assert.equal(all.length, cache.size);
        for (const n of ["n1", "n2"]) assert.deepEqual(names(cache.find("node", n)), names(all.filter((r) => r.node === n)));
        for (const app of ["x", "y", "z"]) assert.deepEqual(names(cache.find("app", app)), names(all.filter((r) => r.apps.includes(app))));
      }
    }),
  );
});
