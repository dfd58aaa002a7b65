import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { flush, ManualClock } from "../../../test/support/manual-clock.ts";
import type { KubeClient, KubeRequest } from "./client.ts";
import { KubeApiError } from "./errors.ts";
import { EventRecorder, type KubeEvent } from "./events.ts";

class Server implements KubeClient {
  readonly requests: KubeRequest[] = [];
  fails: Error | undefined;

  async request<T>(request: KubeRequest): Promise<T> {
    this.requests.push(request);
    if (this.fails !== undefined) throw this.fails;
    return {} as T;
  }

  watch(): never {
    throw new Error("not asked for");
  }
}

function rig(): { server: Server; clock: ManualClock; events: EventRecorder; errors: string[] } {
  const server = new Server();
  const clock = new ManualClock();
  const errors: string[] = [];
  const events = new EventRecorder({ client: server, clock, component: "nightshift", onError: (message) => errors.push(message) });
  return { server, clock, events, errors };
}

const event = (note: string, name = "payments-leak-1"): KubeEvent => ({
  regarding: { apiVersion: "nightshift.dev/v1alpha1", kind: "Remediation", namespace: "shop", name, uid: `uid-${name}` },
  type: "Normal",
  reason: "Capture",
  action: "Act",
  note,
});

describe("events", () => {
  it("are written whole, under a name of their own", async () => {
    const { server, events } = rig();
    events.record(event("one"));
    events.record(event("two"));
    await flush();
    assert.equal(server.requests.length, 2);
    const [first, second] = server.requests.map(({ body }) => body as { metadata: { name: string }; note: string });
    assert.equal(server.requests[0]?.path, "/apis/events.k8s.io/v1/namespaces/shop/events");
    assert.partialDeepStrictEqual(server.requests[0]?.body, {
      note: "one",
      reason: "Capture",
      reportingController: "nightshift.dev/nightshift",
      eventTime: "2026-01-01T00:00:00.000000Z",
      regarding: { kind: "Remediation", name: "payments-leak-1", uid: "uid-payments-leak-1" },
    });
    assert.notEqual(first?.metadata.name, second?.metadata.name);
    await events.close();
  });

  it("that happen again become a series, written every half minute at most", async () => {
    const { server, clock, events } = rig();
    for (let i = 0; i < 600; i++) {
      events.record(event("again"));
      await clock.advance(100);
    }
    await flush();
    const patches = server.requests.filter(({ method }) => method === "PATCH");
    assert.equal(server.requests.length - patches.length, 1);
    assert.ok(patches.length >= 1 && patches.length <= 2, `${patches.length} patches`);
    await clock.advance(30_000);
    await flush();
    assert.partialDeepStrictEqual(server.requests.at(-1)?.body, { series: { count: 600 } });
    await clock.advance(400_000);
    events.record(event("again"));
    await flush();
    assert.equal(server.requests.filter(({ method }) => method === "POST").length, 2, "after a long while it is another event");
    await events.close();
  });

  it("about one object do not drown those about others", async () => {
    const { server, clock, events } = rig();
    for (let i = 0; i < 200; i++) events.record(event(`number ${i}`, "noisy"));
    events.record(event("quiet", "other"));
    await flush(250);
    const notes = server.requests.map(({ body }) => (body as { note: string }).note);
    assert.equal(notes.length, 26);
    assert.ok(notes.includes("quiet"));
    assert.equal(events.dropped, 175);
    await clock.advance(300_000);
    events.record(event("later", "noisy"));
    await flush();
    assert.equal(server.requests.length, 27);
    await events.close();
  });

  it("that cannot be written hold nobody up, and are told of once", async () => {
    const { server, events, errors } = rig();
    server.fails = new KubeApiError("KUBE_FORBIDDEN", "forbidden", { statusCode: 403 });
    for (let i = 0; i < 10; i++) events.record(event(`number ${i}`));
    await flush(20);
    assert.equal(events.dropped, 10);
    assert.equal(errors.length, 1);
    assert.match(errors[0] ?? "", /forbidden/);
    await events.close();
  });

  it("of one that was deposed are not written, also those that waited", async () => {
    const server = new Server();
    let leads = true;
    const events = new EventRecorder({
      client: server,
      clock: new ManualClock(),
      component: "nightshift",
      mayWrite: () => leads,
      onError: assert.fail,
    });
    events.record(event("before"));
    await flush();
    events.record(event("waiting"));
    leads = false;
    await flush();
    events.record(event("after"));
    await flush();
    assert.deepEqual(
      server.requests.map(({ body }) => (body as { note: string }).note),
      ["before"],
    );
    await events.close();
  });

  it("have their note cut between characters", async () => {
    const { server, events } = rig();
    events.record(event("ä".repeat(2_000)));
    await flush();
    const { note = "" } = (server.requests[0]?.body ?? {}) as { note?: string };
    assert.ok(Buffer.byteLength(note) <= 1_024);
    assert.match(note, /^ä+…$/);
    await events.close();
    events.record(event("after the end"));
    await flush();
    assert.equal(server.requests.length, 1);
  });
});
