import assert from "node:assert/strict";
import { it } from "node:test";
import { CLUSTER } from "../../../test/support/fake-api/resources.ts";
import { FakeApi } from "../../../test/support/fake-api/server.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import { until } from "../../../test/support/until.ts";
import { systemClock } from "../host/clock.ts";
import { Caches } from "./caches.ts";
import { HttpKubeClient } from "./http-client.ts";
import { RECORD_KINDS } from "./records.ts";

it("keeps a cache of every kind that the loop reads, fresh only when all are", async (t) => {
  const api = await FakeApi.start({ types: CLUSTER, bookmarkMs: 50 });
  const client = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test" });
  const errors: string[] = [];
  const unreadable: string[] = [];
  const caches = new Caches({
    client,
    clock: systemClock,
    random: seededRandom(),
    onError: (kind) => errors.push(kind),
    onUnreadable: (kind, name) => unreadable.push(`${kind} ${name}`),
    backoff: { baseMs: 5, maxMs: 20 },
  });
  const stop = new AbortController();
  const running = caches.run(stop.signal);
  t.after(async () => {
    stop.abort();
    await running;
    await client.close();
    await api.down();
  });
  api.storage.create(api.type("pods"), "shop", {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "a", labels: { app: "x" } },
    spec: { nodeName: "n1", containers: [{ name: "main" }] },
  });
  // A pod without containers is none: it must not stop the others from being read.
  api.storage.create(api.type("pods"), "shop", { apiVersion: "v1", kind: "Pod", metadata: { name: "bad" } });
  api.storage.create(api.type("nodes"), undefined, { apiVersion: "v1", kind: "Node", metadata: { name: "n1" } });
  assert.equal(caches.isFresh(60_000), false);
  await caches.synced;
  assert.equal(caches.tables.Pod.get("shop", "a")?.node, "n1");
  assert.equal(caches.tables.Pod.get("shop", "bad"), undefined);
  assert.equal(caches.tables.Node.get("", "n1")?.name, "n1");
  assert.deepEqual(unreadable, ["Pod bad"]);
  assert.equal(caches.isFresh(60_000), true);
  assert.deepEqual(new Set(api.requests.filter(({ verb }) => verb === "list").map(({ plural }) => plural)).size, RECORD_KINDS.length);
  // One kind that says nothing is enough.
  await until(() => assert.equal(api.watches.size, RECORD_KINDS.length));
  for (const watch of api.watches) if (watch.request.plural === "pods") watch.freeze();
  await until(() => assert.equal(caches.isFresh(500), false));
  assert.deepEqual(errors, []);
});
