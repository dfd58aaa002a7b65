import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { FakeApi } from "../../../test/support/fake-api/server.ts";
import type { KubeObject, ResourceType } from "../../../test/support/fake-api/types.ts";
import { ManualClock } from "../../../test/support/manual-clock.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import { until } from "../../../test/support/until.ts";
import { systemClock } from "../host/clock.ts";
import { HttpKubeClient } from "./http-client.ts";
import { ResourceWatches } from "./resource-watch.ts";

const CERTIFICATES: ResourceType = {
  group: "cert-manager.io",
  version: "v1",
  plural: "certificates",
  kind: "Certificate",
  namespaced: true,
  custom: true,
};
const ISSUERS: ResourceType = {
  group: "cert-manager.io",
  version: "v1",
  plural: "clusterissuers",
  kind: "ClusterIssuer",
  namespaced: false,
  custom: true,
};
const EVENTS: ResourceType = { group: "", version: "v1", plural: "events", kind: "Event", namespaced: true };
const CERTIFICATE = { apiVersion: "cert-manager.io/v1", kind: "Certificate" };
const EVENT = { apiVersion: "v1", kind: "Event" };

async function setUp(t: TestContext) {
  const api = await FakeApi.start({ types: [CERTIFICATES, ISSUERS, EVENTS], bookmarkMs: 50 });
  const client = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test", watchSilenceMs: 400 });
  const watches = new ResourceWatches({
    client,
    clock: systemClock,
    random: seededRandom(),
    nodeNamespace: "nightshift-system",
    backoff: { baseMs: 5, maxMs: 40 },
  });
  t.after(async () => {
    await watches.stop();
    await client.close();
    await api.down();
  });
  const certificate = (name: string, ready: string, metadata: object = {}): KubeObject => ({
    ...CERTIFICATE,
    metadata: { name, namespace: "shop", ...metadata },
    status: { conditions: [{ type: "Ready", status: ready }] },
  });
  const ask = (of = CERTIFICATE, namespace = "shop") => watches.ask(of, namespace);
  const objects = (of = CERTIFICATE, namespace = "shop") => {
    const found = ask(of, namespace);
    assert.ok(!("problem" in found), JSON.stringify(found));
    return found;
  };
  return { api, watches, certificate, ask, objects };
}

describe("objects of a kind that a policy names", () => {
  it("are followed from when they are first asked for, with their versions, without what is only the API server's", async (t) => {
    const { api, certificate, ask, objects } = await setUp(t);
    const noted = { annotations: { "kubectl.kubernetes.io/last-applied-configuration": "{}", a: "b" }, labels: { app: "payments" } };
    const made = api.storage.create(CERTIFICATES, "shop", certificate("payments", "True", noted));
    api.storage.create(CERTIFICATES, "bank", certificate("bank", "True", { namespace: "bank" }));
    assert.deepEqual(ask(), { problem: "they were not read yet" });
    await until(() => void objects());
    const [first, ...more] = objects();
    assert.deepEqual([first?.name, first?.labels, more.length, first?.versions.length], ["payments", { app: "payments" }, 0, 1]);
    assert.deepEqual((first?.versions[0]?.object as KubeObject | undefined)?.metadata.annotations, { a: "b" });
    api.storage.update(CERTIFICATES, "shop", "payments", { ...made, status: { conditions: [] } });
    await until(() => assert.equal(objects()[0]?.versions.length, 2));
    api.storage.delete(CERTIFICATES, "shop", "payments");
    await until(() => assert.deepEqual(objects(), []));
    assert.equal(objects(CERTIFICATE, "bank").length, 1);
  });

  it("without a namespace are for policies of Nightshift's own alone", async (t) => {
    const { api, objects } = await setUp(t);
    const issuer = { apiVersion: "cert-manager.io/v1", kind: "ClusterIssuer" };
    api.storage.create(ISSUERS, "", { ...issuer, metadata: { name: "letsencrypt" } });
    await until(() => assert.equal(objects(issuer, "nightshift-system").length, 1));
    assert.equal(objects(issuer, "shop").length, 0);
  });

  it("are not known where they may not be read, where there is no such kind, and where it is a Secret", async (t) => {
    const { api, ask } = await setUp(t);
    api.fault = ({ plural }) => (plural === "certificates" ? { refuse: 403, reason: "Forbidden" } : undefined);
    await until(() =>
      assert.match(JSON.stringify(ask()), /may not read Certificate of cert-manager.io\/v1: name it in the chart's value watchResources/),
    );
    const nothing = { apiVersion: "cert-manager.io/v1", kind: "Nothing" };
    await until(() => assert.match(JSON.stringify(ask(nothing)), /knows no kind Nothing/));
    const elsewhere = { apiVersion: "example.org/v1", kind: "Certificate" };
    await until(() => assert.match(JSON.stringify(ask(elsewhere)), /knows no kind Certificate in example.org\/v1/));
    const before = api.requests.length;
    assert.deepEqual(ask({ apiVersion: "v1", kind: "Secret" }), { problem: "Secrets are never read" });
    assert.deepEqual(
      api.requests.slice(before).filter(({ plural }) => plural === "secrets"),
      [],
    );
  });

  it("that are too large are not kept", async (t) => {
    const { api, certificate, objects } = await setUp(t);
    api.storage.create(CERTIFICATES, "shop", { ...certificate("payments", "True"), spec: { text: "x".repeat(70_000) } });
    await until(() => assert.equal(objects().length, 1));
    assert.equal(objects()[0]?.versions[0]?.object, undefined);
  });
});

describe("events", () => {
  it("are those that warn, counted in the older and in the newer way, about pods and about nodes", async (t) => {
    const { api, objects } = await setUp(t);
    const event = (name: string, more: object): KubeObject => ({
      ...EVENT,
      metadata: { name, namespace: "shop" },
      type: "Warning",
      reason: "R",
      ...more,
    });
    const about = { involvedObject: { kind: "Pod", name: "p", uid: "pod-uid" } };
    const times = { firstTimestamp: "2026-01-01T00:00:00Z", lastTimestamp: "2026-01-01T00:05:00Z" };
    api.storage.create(EVENTS, "shop", event("old", { ...about, ...times, count: 7 }));
    api.storage.create(
      EVENTS,
      "shop",
      event("new", {
        ...about,
        eventTime: "2026-01-01T00:00:01.000000Z",
        series: { count: 3, lastObservedTime: "2026-01-01T00:02:00.000000Z" },
      }),
    );
    api.storage.create(EVENTS, "default", {
      ...event("node", { involvedObject: { kind: "Node", name: "n1", uid: "n1" }, ...times }),
      metadata: { name: "node", namespace: "default" },
    });
    await until(() => assert.equal(objects(EVENT).length, 2));
    const [old, recent] = objects(EVENT).toSorted((a, b) => (a.name > b.name ? -1 : 1));
    const t0 = Date.parse("2026-01-01T00:00:00Z");
    assert.deepEqual(old?.owners, ["pod-uid"]);
    assert.partialDeepStrictEqual(old?.versions[0]?.object, { reason: "R", count: 7, first: t0, last: t0 + 300_000 });
    assert.partialDeepStrictEqual(recent?.versions[0]?.object, { count: 3, first: t0 + 1_000, last: t0 + 120_000 });
    assert.deepEqual(objects(EVENT, "nightshift-system")[0]?.owners, ["n1", "n1"]);
    assert.ok(api.requests.filter(({ plural }) => plural === "events").every(({ query }) => query["fieldSelector"] === "type=Warning"));
  });
});

describe("a kind that nobody asks for any more", () => {
  it("is not followed after five minutes, and followed anew when it is asked for again", async (t) => {
    const api = await FakeApi.start({ types: [CERTIFICATES], bookmarkMs: 50 });
    const client = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test" });
    const clock = new ManualClock();
    const watches = new ResourceWatches({ client, clock, random: seededRandom(), nodeNamespace: "n" });
    t.after(async () => {
      await watches.stop();
      await client.close();
      await api.down();
    });
    watches.ask(CERTIFICATE, "shop");
    await until(() => assert.ok(!("problem" in watches.ask(CERTIFICATE, "shop"))));
    await clock.advance(299_000);
    assert.deepEqual(watches.kinds, ["cert-manager.io/v1/Certificate"]);
    await clock.advance(60_000);
    assert.deepEqual(watches.kinds, []);
    await until(() => assert.equal(api.watches.size, 0));
    assert.deepEqual(watches.ask(CERTIFICATE, "shop"), { problem: "they were not read yet" });
  });
});
