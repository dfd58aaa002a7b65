import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { survivesAnyBytes } from "../../../test/support/any-bytes.ts";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import type { LogRecord, LogRefusal } from "../logs.ts";
import { LogReceiver } from "./logs.ts";
import type { OtlpEncoding } from "./receiver.ts";

const START = 1_800_000_000_000;
const TRACE = "0af7651916cd43dd8448eb211c80319c";
const clock = { now: () => START, monotonic: () => 0, after: () => () => {} };

interface Value {
  readonly stringValue?: string;
  readonly intValue?: string;
  readonly kvlistValue?: { readonly values: readonly { readonly key: string; readonly value: Value }[] };
}
interface RecordJson {
  readonly timeUnixNano?: string;
  readonly observedTimeUnixNano?: string;
  readonly severityNumber?: number | string;
  readonly severityText?: string;
  readonly body?: Value;
  readonly attributes?: readonly { readonly key: string; readonly value: Value }[];
  readonly traceId?: string;
}

const OF_PAYMENTS = [{ key: "service.instance.id", value: { stringValue: "uid-1" } }];
const requestOf = (
  records: readonly RecordJson[],
  attributes: readonly { readonly key: string; readonly value: Value }[] = OF_PAYMENTS,
) => ({
  resourceLogs: [{ resource: { attributes }, scopeLogs: [{ scope: { name: "app" }, logRecords: records }] }],
});
type RequestJson = ReturnType<typeof requestOf>;
const at = (ms: number): string => `${ms}000000`;

/** The same message in protobuf, written from the field numbers of opentelemetry-proto. */
function toProtobuf(request: RequestJson): Uint8Array {
  const w = new BinaryWriter();
  const message = (field: number, write: () => void): void => {
    w.uint32((field << 3) | 2).fork();
    write();
    w.join();
  };
  const value = (field: number, { stringValue, intValue, kvlistValue }: Value): void =>
    message(field, () => {
      if (stringValue !== undefined) w.uint32(10).string(stringValue);
      if (intValue !== undefined) w.uint32(24).int64(intValue);
      if (kvlistValue !== undefined) message(6, () => attributes(1, kvlistValue.values));
    });
  const attributes = (field: number, list: readonly { readonly key: string; readonly value: Value }[] = []): void => {
    for (const entry of list)
      message(field, () => {
        w.uint32(10).string(entry.key);
        value(2, entry.value);
      });
  };
  for (const { resource, scopeLogs } of request.resourceLogs)
    message(1, () => {
      message(1, () => attributes(1, resource.attributes));
      for (const { scope, logRecords } of scopeLogs)
        message(2, () => {
          message(1, () => w.uint32(10).string(scope.name));
          for (const record of logRecords)
            message(2, () => {
              if (record.timeUnixNano !== undefined) w.uint32(9).fixed64(record.timeUnixNano);
              if (typeof record.severityNumber === "number") w.uint32(16).int32(record.severityNumber);
              if (record.severityText !== undefined) w.uint32(26).string(record.severityText);
              if (record.body !== undefined) value(5, record.body);
              attributes(6, record.attributes);
              w.uint32((8 << 3) | 5).fixed32(1);
              if (record.traceId !== undefined) w.uint32(74).bytes(Buffer.from(record.traceId, "hex"));
              if (record.observedTimeUnixNano !== undefined) w.uint32((11 << 3) | 1).fixed64(record.observedTimeUnixNano);
            });
        });
    });
  return w.finish();
}

function receive(request: RequestJson, encoding: OtlpEncoding, answer?: LogRefusal, limits = {}) {
  const records: LogRecord[] = [];
  const sink = {
    logsActive: true,
    logAttributeKeys: () => new Set(["exception.type", "n"]),
    recordLog: (uid: string, record: LogRecord) => {
      assert.equal(uid, "uid-1");
      records.push(record);
      return answer;
    },
  };
  const receiver = new LogReceiver({ sink, clock, limits });
  const body = encoding === "protobuf" ? toProtobuf(request) : Buffer.from(JSON.stringify(request));
  return { ...receiver.receive(body, encoding), records, receiver };
}

for (const encoding of ["protobuf", "json"] as const)
  describe(`logs in ${encoding}`, () => {
    it("a record is what is asked of it: time, severity, body, the attributes that are named, trace", () => {
      const { accepted, rejected, message, records } = receive(
        requestOf([
          {
            timeUnixNano: at(START - 1_000),
            severityNumber: 18,
            severityText: "ERROR2",
            body: { stringValue: "it failed" },
            attributes: [
              { key: "exception.type", value: { stringValue: "E" } },
              { key: "n", value: { intValue: "7" } },
              { key: "user.email", value: { stringValue: "of nobody's business" } },
            ],
            traceId: TRACE,
          },
        ]),
        encoding,
      );
      assert.deepEqual([accepted, rejected, message], [1, 0, ""]);
      assert.deepEqual(records, [
        {
          t: START - 1_000,
          severity: 18,
          body: "it failed",
          attributes: new Map([
            ["exception.type", "E"],
            ["n", "7"],
          ]),
          traceId: TRACE,
        },
      ]);
    });

    it("without a time of its own it has the one at which it was observed; without a severity's number that of its text", () => {
      const texts = ["error", "WARNING", "Info3", "LOUD", ""];
      const { records } = receive(requestOf(texts.map((severityText) => ({ observedTimeUnixNano: at(START), severityText }))), encoding);
      assert.deepEqual(
        records.map(({ t, severity }) => [t, severity]),
        [
          [START, 17],
          [START, 13],
          [START, 9],
          [START, 0],
          [START, 0],
        ],
      );
    });

    it("a body that is no text is matched as JSON, and only its beginning is kept", () => {
      const values = [{ key: "code", value: { intValue: "504" } }];
      const { records } = receive(
        requestOf([
          { timeUnixNano: at(START), body: { kvlistValue: { values } } },
          { timeUnixNano: at(START), body: { stringValue: "x".repeat(5_000) } },
          { timeUnixNano: at(START) },
        ]),
        encoding,
      );
      assert.deepEqual(
        records.map(({ body }) => (body.length > 100 ? body.length : body)),
        ['{"code":504}', 1_024, ""],
      );
    });

    it("what cannot be counted is refused one by one, and said", () => {
      const times = [START + 120_000, START - 7_200_000, 0, START];
      const result = receive(requestOf(times.map((t) => ({ timeUnixNano: at(t) }))), encoding);
      assert.deepEqual([result.accepted, result.rejected, result.message], [1, 3, "log records refused: 1 future, 2 too-old"]);
      assert.match(receive(requestOf([{}], []), encoding).message, /1 no-instance-id/);
      assert.match(receive(requestOf([{ timeUnixNano: at(START) }]), encoding, "match-limit").message, /1 match-limit/);
      const many = receive(requestOf(Array.from({ length: 5 }, () => ({ timeUnixNano: at(START) }))), encoding, undefined, {
        maxPoints: 2,
      });
      assert.deepEqual(
        [many.accepted, many.message, many.receiver.refused()],
        [2, "log records refused: 3 record-limit", { "record-limit": 3 }],
      );
    });

    it("while no policy asks nothing is decoded, and the sender is told", () => {
      const sink = { logsActive: false, logAttributeKeys: () => assert.fail("asked"), recordLog: () => assert.fail("kept") };
      const receiver = new LogReceiver({ sink, clock });
      assert.deepEqual(receiver.receive(Buffer.from("anything"), encoding), {
        accepted: 0,
        rejected: 0,
        message: "no policy asks for logs: they were not looked at",
      });
    });

    it("any bytes give records or a NightshiftError, and mutants of a valid body too", () => {
      const record = { timeUnixNano: at(START), severityNumber: 17, body: { stringValue: "it failed" }, traceId: TRACE };
      const valid = encoding === "protobuf" ? toProtobuf(requestOf([record])) : Buffer.from(JSON.stringify(requestOf([record])));
      const sink = { logsActive: true, logAttributeKeys: () => new Set<string>(), recordLog: () => undefined };
      const receiver = new LogReceiver({ sink, clock });
      survivesAnyBytes(valid, (body) => receiver.receive(body, encoding));
    });
  });

it("in JSON a severity comes by its name, too", () => {
  const { records } = receive(requestOf([{ timeUnixNano: at(START), severityNumber: "SEVERITY_NUMBER_ERROR2" }]), "json");
  assert.equal(records[0]?.severity, 17);
});
