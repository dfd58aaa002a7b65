import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { survivesAnyBytes } from "../../../test/support/any-bytes.ts";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { NightshiftError } from "../../api/errors.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Span } from "../spans.ts";
import type { IngestResult, OtlpEncoding } from "./receiver.ts";
import { TraceReceiver } from "./traces.ts";

const START = 1_800_000_000_000;
const clock: Clock = { now: () => START, monotonic: () => 0, after: () => () => {} };
const TRACE = "0af7651916cd43dd8448eb211c80319c";

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: string };
}
interface SpanJson {
  readonly traceId?: string;
  readonly spanId?: string;
  readonly parentSpanId?: string;
  readonly kind?: number | string;
  readonly startTimeUnixNano?: string;
  readonly endTimeUnixNano?: string;
  readonly attributes?: readonly Attribute[];
  readonly status?: { readonly code?: number | string } | null;
}
interface RequestJson {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly SpanJson[] }[];
  }[];
}

const text = (key: string, stringValue: string): Attribute => ({ key, value: { stringValue } });
const OF_PAYMENTS = [text("service.name", "payments"), text("service.namespace", "shop"), text("service.instance.id", "uid-1")];
const requestOf = (spans: readonly SpanJson[], attributes: readonly Attribute[] = OF_PAYMENTS): RequestJson => ({
  resourceSpans: [{ resource: { attributes }, scopeSpans: [{ spans }] }],
});
const spanJson = (fields: Partial<SpanJson> = {}): SpanJson => ({
  traceId: TRACE,
  spanId: "00f067aa0ba902b7",
  kind: 3,
  startTimeUnixNano: `${START - 1_000}000000`,
  endTimeUnixNano: `${START - 1_000 + 12}500000`,
  ...fields,
});

/** The same message in protobuf, written from the field numbers of opentelemetry-proto; attributes before the kind, ids last. */
function toProtobuf(request: RequestJson): Uint8Array {
  const w = new BinaryWriter();
  const message = (field: number, write: () => void): void => {
    w.uint32((field << 3) | 2).fork();
    write();
    w.join();
  };
  const attributes = (field: number, list: readonly Attribute[] = []): void => {
    for (const { key, value } of list)
      message(field, () => {
        w.uint32(10).string(key);
        message(2, () => {
          if (value.stringValue !== undefined) w.uint32(10).string(value.stringValue);
          if (value.intValue !== undefined) w.uint32(24).int64(value.intValue);
        });
      });
  };
  for (const { resource, scopeSpans } of request.resourceSpans)
    message(1, () => {
      message(1, () => attributes(1, resource.attributes));
      for (const { spans } of scopeSpans)
        message(2, () => {
          for (const span of spans)
            message(2, () => {
              w.uint32(42).string("GET /");
              attributes(9, span.attributes);
              if (typeof span.kind === "number") w.uint32(6 << 3).int32(span.kind);
              if (span.startTimeUnixNano !== undefined) w.uint32((7 << 3) | 1).fixed64(span.startTimeUnixNano);
              if (span.endTimeUnixNano !== undefined) w.uint32((8 << 3) | 1).fixed64(span.endTimeUnixNano);
              message(11, () => w.uint32(18).string("an event"));
              if (typeof span.status?.code === "number") {
                const { code } = span.status;
                message(15, () => w.uint32(18).string("why").uint32(24).int32(code));
              }
              for (const [field, id] of [
                [1, span.traceId],
                [2, span.spanId],
                [4, span.parentSpanId],
              ] as const)
                if (id !== undefined) w.uint32((field << 3) | 2).bytes(Buffer.from(id, "hex"));
            });
        });
    });
  return w.finish();
}

function receive(request: RequestJson, encoding: OtlpEncoding): IngestResult & { readonly spans: readonly Span[] } {
  const spans: Span[] = [];
  const receiver = new TraceReceiver({ sink: { recordSpans: (batch) => void spans.push(...batch) }, clock });
  const body = encoding === "protobuf" ? toProtobuf(request) : Buffer.from(JSON.stringify(request));
  return { ...receiver.receive(body, encoding), spans };
}

for (const encoding of ["protobuf", "json"] as const)
  describe(`traces in ${encoding}`, () => {
    it("spans of calls are handed on with what a graph needs", () => {
      const peer = [
        text("peer.service", "old"),
        text("service.peer.name", "ledger"),
        text("net.peer.name", "10.0.0.1"),
        text("server.address", "ledger.shop"),
        text("db.system", "postgresql"),
        text("db.namespace", "books"),
        text("messaging.system", "kafka"),
        text("messaging.destination.name", "orders"),
        text("http.route", "/"),
      ];
      const { accepted, rejected, message, spans } = receive(
        requestOf([
          spanJson({ attributes: peer, parentSpanId: "b7ad6b7169203331" }),
          spanJson({ kind: 2, status: { code: 2 } }),
          spanJson({ kind: 4, status: { code: 1 } }),
          spanJson({ kind: 5, status: {} }),
        ]),
        encoding,
      );
      assert.deepEqual([accepted, rejected, message], [4, 0, ""]);
      assert.deepEqual(spans[0], {
        traceId: TRACE,
        spanId: "00f067aa0ba902b7",
        parentSpanId: "b7ad6b7169203331",
        kind: "Client",
        service: "payments",
        namespace: "shop",
        instanceId: "uid-1",
        start: START - 1_000,
        durationMs: 12.5,
        failed: false,
        peer: {
          service: "ledger",
          address: "ledger.shop",
          dbSystem: "postgresql",
          dbName: "books",
          messagingSystem: "kafka",
          destination: "orders",
        },
      });
      assert.deepEqual(
        spans.map(({ kind, failed, parentSpanId }) => [kind, failed, parentSpanId]),
        [
          ["Client", false, "b7ad6b7169203331"],
          ["Server", true, undefined],
          ["Producer", false, undefined],
          ["Consumer", false, undefined],
        ],
      );
    });

    it("spans within a process are accepted, and no edges", () => {
      const result = receive(requestOf([spanJson({ kind: 1 }), spanJson({ kind: 0 }), spanJson({ kind: 99 }), spanJson()]), encoding);
      assert.deepEqual([result.accepted, result.rejected, result.spans.length], [4, 0, 1]);
    });

    it("Kubernetes' names win over the sender's own, and no namespace is the default one", () => {
      const own = [text("service.name", "payments"), text("service.instance.id", "x")];
      const pod = [text("k8s.deployment.name", "pay"), text("k8s.namespace.name", "prod"), text("k8s.pod.uid", "uid-9")];
      const { spans } = receive(requestOf([spanJson()], [...own, ...pod]), encoding);
      assert.deepEqual([spans[0]?.service, spans[0]?.namespace, spans[0]?.instanceId], ["pay", "prod", "uid-9"]);
      const nameless = receive(requestOf([spanJson()], [text("service.name", "a")]), encoding).spans[0];
      assert.deepEqual([nameless?.namespace, nameless?.instanceId], ["default", undefined]);
    });

    it("what cannot be believed is refused one by one, and said", () => {
      const { accepted, rejected, message, spans } = receive(
        requestOf([
          spanJson({ traceId: "0".repeat(32) }),
          spanJson({ traceId: "0af7" }),
          spanJson({ spanId: "0".repeat(16) }),
          spanJson({ parentSpanId: "00f0" }),
          spanJson({ endTimeUnixNano: `${START - 2_000}000000` }),
          spanJson({ startTimeUnixNano: `${START + 120_000}000000`, endTimeUnixNano: `${START + 120_001}000000` }),
          spanJson({ startTimeUnixNano: "0", endTimeUnixNano: "1" }),
          spanJson(),
        ]),
        encoding,
      );
      assert.deepEqual([accepted, rejected, spans.length], [1, 7, 1]);
      assert.equal(message, "spans refused: 5 invalid, 1 future, 1 too-old");
    });

    it("spans of nobody are refused", () => {
      for (const attributes of [[], [text("service.name", "")], [text("service.name", "x".repeat(2_000))]])
        assert.match(receive(requestOf([spanJson()], attributes), encoding).message, /1 no-service-name/);
    });

    it("overlong and empty peers name nobody", () => {
      const attributes = [text("peer.service", "x".repeat(2_000)), text("server.address", ""), text("db.system", "redis")];
      assert.deepEqual(receive(requestOf([spanJson({ attributes })]), encoding).spans[0]?.peer, { dbSystem: "redis" });
    });

    it("of more spans than allowed the rest is refused", () => {
      const got: Span[] = [];
      const receiver = new TraceReceiver({ sink: { recordSpans: (batch) => void got.push(...batch) }, clock, limits: { maxPoints: 2 } });
      const request = requestOf([spanJson(), spanJson(), spanJson(), spanJson()]);
      const body = encoding === "protobuf" ? toProtobuf(request) : Buffer.from(JSON.stringify(request));
      assert.deepEqual(receiver.receive(body, encoding), { accepted: 2, rejected: 2, message: "spans refused: 2 span-limit" });
      assert.deepEqual([got.length, receiver.accepted, receiver.refused()], [2, 2, { "span-limit": 2 }]);
    });

    it("an empty request is accepted, and nobody is called", () => {
      const receiver = new TraceReceiver({ sink: { recordSpans: () => assert.fail("called") }, clock });
      const body = encoding === "protobuf" ? new Uint8Array() : Buffer.from("{}");
      assert.deepEqual(receiver.receive(body, encoding), { accepted: 0, rejected: 0, message: "" });
    });

    it("any bytes give spans or a NightshiftError, and mutants of a valid body too", () => {
      const valid = toProtobuf(
        requestOf([spanJson({ attributes: [text("peer.service", "a")], status: { code: 2 } }), spanJson({ kind: 1 })]),
      );
      const bytes = encoding === "protobuf" ? valid : Buffer.from(JSON.stringify(requestOf([spanJson({ status: { code: 2 } })])));
      const receiver = new TraceReceiver({ sink: { recordSpans: () => {} }, clock });
      survivesAnyBytes(bytes, (body) => receiver.receive(body, encoding));
    });
  });

describe("traces in JSON alone", () => {
  it("enumerations come as names, ids in capitals, status as null", () => {
    const request = requestOf([
      spanJson({ kind: "SPAN_KIND_SERVER", status: { code: "STATUS_CODE_ERROR" }, traceId: TRACE.toUpperCase() }),
      spanJson({ kind: "SPAN_KIND_INTERNAL", status: null }),
      spanJson({ kind: "constructor" }),
    ]);
    const { accepted, spans } = receive(request, "json");
    assert.deepEqual([accepted, spans.length, spans[0]?.kind, spans[0]?.failed, spans[0]?.traceId], [3, 1, "Server", true, TRACE]);
  });

  it("fields of the wrong kind are MALFORMED_OTLP", () => {
    for (const span of [{ kind: {} }, { traceId: 7 }, { attributes: {} }, { status: 2 }, { startTimeUnixNano: "soon" }])
      assert.throws(
        () => receive(requestOf([spanJson(span as object)]), "json"),
        (error: NightshiftError) => error.code === "MALFORMED_OTLP",
      );
  });
});
