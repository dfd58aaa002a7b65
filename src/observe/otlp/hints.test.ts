import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Clock } from "../../ports/clock.ts";
import { TelemetryStore } from "../store.ts";
import { OtlpReceiver, type IngestResult, type OtlpReceiverOptions } from "./receiver.ts";

const START = 1_800_000_000_000;
const TRACE = "0af7651916cd43dd8448eb211c80319c";
type Attributes = Readonly<Record<string, string>>;
const nano = (ms: number): string => `${Math.round(ms)}000000`;
const listed = (attributes: Attributes): object[] =>
  Object.entries(attributes).map(([key, stringValue]) => ({ key, value: { stringValue } }));

interface Sent {
  /** Seconds after START. */
  readonly at: number;
  readonly value: number;
  /** Seconds after START. */
  readonly start?: number;
  readonly attributes?: Attributes;
  readonly temporality?: "Delta" | "Cumulative" | "Unspecified";
  readonly monotonic?: boolean;
  readonly resource?: Attributes;
  readonly exemplars?: readonly { readonly value: number; readonly at: number; readonly traceId?: string }[];
}

function setup(options: Partial<OtlpReceiverOptions> = {}) {
  const time = { now: START };
  const clock: Clock = { now: () => time.now, monotonic: () => time.now, after: () => () => {} };
  const store = new TelemetryStore(clock);
  const receiver = new OtlpReceiver({ sink: store, clock, ...options });
  const metrics = (resource: Attributes, list: readonly object[]): IngestResult =>
    receiver.receive(
      Buffer.from(
        JSON.stringify({
          resourceMetrics: [{ resource: { attributes: listed(resource) }, scopeMetrics: [{ scope: { name: "app" }, metrics: list }] }],
        }),
      ),
      "json",
    );
  const send = (sent: Sent): IngestResult => {
    time.now = Math.max(time.now, START + sent.at * 1_000);
    const point = {
      attributes: listed(sent.attributes ?? { "remediation.action": "pool-reset" }),
      startTimeUnixNano: nano(START + (sent.start ?? 0) * 1_000),
      timeUnixNano: nano(START + sent.at * 1_000),
      asInt: String(sent.value),
      exemplars: (sent.exemplars ?? []).map(({ value, at, traceId }) => ({
        timeUnixNano: nano(START + at * 1_000),
        asInt: String(value),
        ...(traceId === undefined ? {} : { traceId }),
      })),
    };
    const aggregationTemporality = { Unspecified: 0, Delta: 1, Cumulative: 2 }[sent.temporality ?? "Cumulative"];
    const sum = { aggregationTemporality, isMonotonic: sent.monotonic ?? true, dataPoints: [point] };
    return metrics(sent.resource ?? { "service.name": "payments", "service.instance.id": "uid-1" }, [
      { name: "service.remediation.hint", sum },
    ]);
  };
  /** Any other metric of the process: it is heard of. */
  const gauge = (at: number, resource: Attributes = { "service.name": "payments", "service.instance.id": "uid-1" }): void => {
    time.now = Math.max(time.now, START + at * 1_000);
    metrics(resource, [{ name: "m", gauge: { dataPoints: [{ timeUnixNano: nano(START + at * 1_000), asInt: "1" }] } }]);
  };
  const seen = (uid = "uid-1") =>
    store.hints(uid).map(({ action, added, delta, since, t }) => [action, added, delta, (since - START) / 1e3, (t - START) / 1e3]);
  return { time, store, receiver, send, gauge, seen };
}

describe("hints over OTLP", () => {
  it("processes that cannot be told apart do not ask again and again for what one of them once counted", () => {
    const { send, gauge, store } = setup();
    gauge(1);
    const two = [
      { start: 5, value: 3 },
      { start: 9, value: 1 },
    ];
    let added = 0;
    let newest = 0;
    store.onHint(() => {
      const [hint] = store.hints("uid-1");
      added += hint?.added ?? 0;
      newest = Math.max(newest, hint?.t ?? 0);
    });
    for (let at = 10; at <= 60; at += 10) for (const [i, { start, value }] of two.entries()) send({ at: at + i, start, value });
    assert.deepEqual([added, newest], [4, START + 11_000]);
    send({ at: 71, start: 9, value: 2 });
    assert.deepEqual([added, newest], [5, START + 71_000], "the youngest is followed");
  });

  it("workers of one container are told apart by their process ids", () => {
    const { send, gauge, seen } = setup();
    const worker = (pid: string) => ({ "k8s.pod.uid": "uid-1", "service.name": "payments", "process.pid": pid });
    for (const pid of ["7", "8"]) gauge(1, worker(pid));
    send({ at: 10, start: 5, value: 3, resource: worker("7") });
    send({ at: 11, start: 9, value: 1, resource: worker("8") });
    send({ at: 20, start: 5, value: 4, resource: worker("7") });
    assert.deepEqual(seen(), [["pool-reset", 1, false, 10, 20]]);
  });

  it("what was added while there was no place for its counter is no hint when there is", () => {
    const { receiver, send, gauge, seen, time } = setup({ maxStreams: 1, streamTtlMs: 60_000 });
    const other = { "service.name": "other", "service.instance.id": "uid-2" };
    gauge(1);
    assert.deepEqual(send({ at: 2, value: 1, resource: other }).accepted, 1);
    // The process is younger than the receiver, and its counter has been refused since it was added to.
    for (let at = 5; at < 60; at += 5) send({ at, start: 1, value: 1 });
    assert.ok((receiver.refused()["stream-limit"] ?? 0) > 0);
    time.now = START + 70_000;
    for (let at = 70; at < 90; at += 5) send({ at, start: 1, value: 1 });
    assert.deepEqual(seen(), []);
    send({ at: 95, start: 1, value: 2 });
    assert.deepEqual(seen(), [["pool-reset", 1, false, 85, 95]]);
  });

  it("what was beyond a request's limit of points is no hint when it comes later", () => {
    const { receiver, send, seen, time } = setup({ limits: { maxPoints: 1 } });
    const resource = { attributes: listed({ "service.name": "payments", "service.instance.id": "uid-1" }) };
    const both = (at: number): IngestResult => {
      time.now = START + at * 1_000;
      const timeUnixNano = nano(time.now);
      const point = {
        attributes: listed({ "remediation.action": "pool-reset" }),
        startTimeUnixNano: nano(START),
        timeUnixNano,
        asInt: "1",
      };
      const sum = { aggregationTemporality: 2, isMonotonic: true, dataPoints: [point] };
      const metrics = [
        { name: "m", gauge: { dataPoints: [{ timeUnixNano, asInt: "1" }] } },
        { name: "service.remediation.hint", sum },
      ];
      return receiver.receive(Buffer.from(JSON.stringify({ resourceMetrics: [{ resource, scopeMetrics: [{ metrics }] }] })), "json");
    };
    for (const at of [10, 600, 1_200]) assert.equal(both(at).rejected, 1);
    send({ at: 1_210, value: 1 });
    assert.deepEqual(seen(), []);
  });

  it("a clock that was set back makes no hint of what was counted before", () => {
    const { send, gauge, seen, time } = setup();
    gauge(10);
    for (const at of [20, 1_500, 3_000]) send({ at, start: 1, value: 1 });
    const before = seen();
    assert.deepEqual(before, [["pool-reset", 1, false, 10, 20]]);
    time.now = START + 2_000_000;
    send({ at: 2_000, start: 1, value: 1 });
    assert.deepEqual(seen(), before);
  });

  it("differences are hints as they come, with when they were added", () => {
    const { send, store } = setup();
    const attributes = { "remediation.action": "cache-flush", "saturation.type": "memory", target: "other", "k8s.pod.uid": "uid-2" };
    assert.deepEqual(send({ at: 10, start: 5, value: 1, temporality: "Delta", attributes }), { accepted: 1, rejected: 0, message: "" });
    assert.deepEqual(store.hints("uid-1"), [
      {
        action: "cache-flush",
        saturationType: "memory",
        added: 1,
        delta: true,
        single: false,
        since: START + 5_000,
        t: START + 10_000,
        receivedAt: START + 10_000,
        traceIds: [],
      },
    ]);
    assert.deepEqual(store.hints("uid-2"), [], "attributes of the point name nobody");
    assert.equal(store.seriesCount, 0, "a hint is no reading");
  });

  it("a sender that exports in the millisecond in which it started says when", () => {
    const { send, seen } = setup();
    send({ at: 10, start: 10, value: 1, temporality: "Delta" });
    assert.deepEqual(seen(), [["pool-reset", 1, true, 10, 10]]);
  });

  it("of differences without a start nobody knows since when, but by the collection before", () => {
    const { send, seen, gauge } = setup();
    send({ at: 10, start: -START / 1_000, value: 1, temporality: "Delta" });
    assert.deepEqual(seen(), [["pool-reset", 1, true, -START / 1_000, 10]]);
    gauge(20);
    send({ at: 30, start: -START / 1_000, value: 1, temporality: "Delta" });
    assert.deepEqual(seen(), [["pool-reset", 1, true, 20, 30]]);
  });

  it("the same point twice is one hint", () => {
    const { send, store } = setup();
    let heard = 0;
    store.onHint(() => heard++);
    for (let i = 0; i < 3; i++) send({ at: 10, start: 5, value: 1, temporality: "Delta" });
    for (let i = 0; i < 3; i++) send({ at: 11, start: 1, value: 1, attributes: { "remediation.action": "restart" } });
    assert.equal(heard, 2);
  });

  it("of a cumulative counter only what it grows by; what it repeats is no hint", () => {
    const { send, seen, store } = setup();
    let heard = 0;
    store.onHint(() => heard++);
    send({ at: 10, start: 1, value: 1 });
    assert.deepEqual(seen(), [["pool-reset", 1, false, 1, 10]]);
    send({ at: 20, start: 1, value: 1 });
    send({ at: 30, start: 1, value: 1 });
    assert.equal(heard, 1);
    send({ at: 40, start: 1, value: 3 });
    assert.deepEqual([heard, seen()], [2, [["pool-reset", 2, false, 30, 40]]]);
  });

  it("a counter's history from before we listened is no hint; what is added then is one", () => {
    const { send, seen } = setup();
    send({ at: 10, start: -3_600, value: 42 });
    assert.deepEqual(seen(), []);
    send({ at: 20, start: -3_600, value: 42 });
    assert.deepEqual(seen(), []);
    send({ at: 30, start: -3_600, value: 43 });
    assert.deepEqual(seen(), [["pool-reset", 1, false, 20, 30]]);
  });

  it("a first hint of a process that was heard of before is new, though its SDK started long ago", () => {
    const { send, gauge, seen } = setup();
    gauge(10);
    gauge(20);
    send({ at: 30, start: -3_600, value: 1 });
    assert.deepEqual(seen(), [["pool-reset", 1, false, 20, 30]]);
  });

  it("but not of another container of the same pod: its history is its own", () => {
    const { send, gauge, seen } = setup();
    const pod = { "service.name": "payments", "k8s.pod.uid": "pod-1" };
    gauge(10, { ...pod, "k8s.container.name": "sidecar", "service.instance.id": "a" });
    gauge(20, { ...pod, "k8s.container.name": "sidecar", "service.instance.id": "a" });
    send({ at: 30, start: -3_600, value: 42, resource: { ...pod, "k8s.container.name": "app", "service.instance.id": "b" } });
    assert.deepEqual(seen("pod-1"), []);
    send({ at: 40, start: -3_600, value: 43, resource: { ...pod, "k8s.container.name": "app", "service.instance.id": "b" } });
    assert.deepEqual(seen("pod-1"), [["pool-reset", 1, false, 30, 40]]);
  });

  it("a restart of the sender is a new life: all of it is new", () => {
    const { send, seen } = setup();
    send({ at: 10, start: -3_600, value: 42 });
    send({ at: 20, start: 15, value: 2 });
    assert.deepEqual(seen(), [["pool-reset", 2, false, 15, 20]]);
  });

  it("what comes after a gap may be as old as the gap", () => {
    const { send, seen } = setup();
    send({ at: 10, start: 1, value: 1 });
    send({ at: 1_000, start: 1, value: 2 });
    assert.deepEqual(seen(), [["pool-reset", 1, false, 10, 1_000]]);
  });

  it("points that are too old are refused", () => {
    const { send, seen, time } = setup();
    time.now += 7_200_000;
    assert.match(send({ at: 10, start: 5, value: 1, temporality: "Delta" }).message, /1 too-old/);
    assert.equal(send({ at: 7_200, start: 7_195, value: 1, temporality: "Delta" }).message, "");
    assert.equal(seen().length, 1);
  });

  it("what is no counter is no hint, and is refused", () => {
    const { send, seen } = setup();
    assert.match(send({ at: 10, value: 1, monotonic: false }).message, /1 unsupported/);
    assert.match(send({ at: 11, value: 1, temporality: "Unspecified" }).message, /1 unsupported/);
    assert.match(send({ at: 12, value: -1 }).message, /1 invalid/);
    assert.match(
      send({ at: 13, start: 12, value: 1, temporality: "Delta", resource: { "service.name": "payments" } }).message,
      /no-instance-id/,
    );
    assert.equal(send({ at: 14, start: 13, value: 0, temporality: "Delta" }).rejected, 0, "nothing added is no hint");
    assert.deepEqual(seen(), []);
  });

  it("a flood is refused, and said so", () => {
    const { send } = setup();
    const results = Array.from({ length: 100 }, (_, i) => send({ at: 10 + i / 200, start: 5, value: 1, temporality: "Delta" }));
    assert.equal(results.filter(({ rejected }) => rejected === 0).length, 60);
    assert.match(results.at(-1)?.message ?? "", /1 hint-limit/);
  });

  it("exemplars name traces, newest first, and show a single addition", () => {
    const { send, store } = setup();
    const other = "1".repeat(32);
    const exemplars = [
      { value: 1, at: 6, traceId: other },
      { value: 1, at: 7, traceId: TRACE.toUpperCase() },
      { value: 1, at: 8, traceId: TRACE },
      { value: 1, at: 9, traceId: "short" },
    ];
    send({ at: 10, start: 5, value: 2, temporality: "Delta", attributes: {}, exemplars });
    assert.deepEqual([store.hints("uid-1")[0]?.traceIds, store.hints("uid-1")[0]?.single], [[TRACE, other], false]);
    send({ at: 20, start: 10, value: 2, temporality: "Delta", attributes: {}, exemplars: [{ value: 2, at: 15 }] });
    assert.deepEqual([store.hints("uid-1")[0]?.single, store.hints("uid-1")[0]?.traceIds], [true, []]);
    send({ at: 30, start: 20, value: 2, temporality: "Delta", attributes: {}, exemplars: [{ value: 2, at: 15 }] });
    assert.equal(store.hints("uid-1")[0]?.single, false, "an exemplar of another export shows nothing");
  });
});
