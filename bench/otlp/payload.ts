import { BinaryWriter } from "@bufbuild/protobuf/wire";

/** Data points of one process in one export. */
export const POINTS_PER_PROCESS = 100;

/** Attribute sets of each metric. With ten routes, gauges and counters of ten metrics each, and histograms of two. */
const ROUTES = 10;
const GAUGES = 4;
const COUNTERS = 4;
const HISTOGRAMS = ["http.server.request.duration", "http.client.request.duration"] as const;
/** Of a duration in seconds, by OpenTelemetry's semantic conventions. */
const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
const CUMULATIVE = 2;

const tag = (field: number, wire: 0 | 1 | 2): number => (field << 3) | wire;
const LEN = 2;
const I64 = 1;

/** Writes a message, or a packed list, as a field. */
function nested(writer: BinaryWriter, field: number, write: () => void): void {
  writer.uint32(tag(field, LEN)).fork();
  write();
  writer.join();
}

function attribute(writer: BinaryWriter, field: number, key: string, value: string | number): void {
  nested(writer, field, () => {
    writer.uint32(tag(1, LEN)).string(key);
    nested(writer, 2, () => {
      if (typeof value === "string") writer.uint32(tag(1, LEN)).string(value);
      else writer.uint32(tag(3, 0)).int64(value);
    });
  });
}

const nanos = (ms: number): string => `${ms}000000`;

function times(writer: BinaryWriter, start: number, t: number): void {
  writer.uint32(tag(2, I64)).fixed64(nanos(start));
  writer.uint32(tag(3, I64)).fixed64(nanos(t));
}

function metric(writer: BinaryWriter, name: string, unit: string, kind: number, points: () => void): void {
  nested(writer, 2, () => {
    writer.uint32(tag(1, LEN)).string(name);
    writer.uint32(tag(3, LEN)).string(unit);
    nested(writer, kind, points);
  });
}

function routeOf(writer: BinaryWriter, field: number, route: number): void {
  attribute(writer, field, "http.request.method", route % 2 === 0 ? "GET" : "POST");
  attribute(writer, field, "http.route", `/api/v1/orders/{id}/part-${route}`);
  attribute(writer, field, "http.response.status_code", route === 9 ? 500 : 200);
}

/** What process `index` exports the `round`th time, at `t`: an ExportMetricsServiceRequest as an SDK sends it. */
function processExport(index: number, round: number, start: number, t: number): Uint8Array {
  const writer = new BinaryWriter();
  nested(writer, 1, () => {
    nested(writer, 1, () => {
      attribute(writer, 1, "service.name", `service-${index % 20}`);
      attribute(writer, 1, "service.namespace", "shop");
      attribute(writer, 1, "service.instance.id", `5f0c7c1e-6d6e-4b0e-9f1e-${String(index).padStart(12, "0")}`);
      attribute(writer, 1, "telemetry.sdk.language", "go");
      attribute(writer, 1, "telemetry.sdk.version", "1.43.0");
    });
    nested(writer, 2, () => {
      nested(writer, 1, () => void writer.uint32(tag(1, LEN)).string("bench"));
      for (let i = 0; i < GAUGES; i++)
        metric(writer, `process.runtime.gauge_${i}`, "By", 5, () => {
          for (let route = 0; route < ROUTES; route++)
            nested(writer, 1, () => {
              times(writer, start, t);
              writer.uint32(tag(4, I64)).double(1e6 * (i + 1) + route + round / 7);
              routeOf(writer, 7, route);
            });
        });
      for (let i = 0; i < COUNTERS; i++)
        metric(writer, `app.counter_${i}`, "1", 7, () => {
          for (let route = 0; route < ROUTES; route++)
            nested(writer, 1, () => {
              times(writer, start, t);
              writer.uint32(tag(6, I64)).sfixed64((round + 1) * 17 + route);
              routeOf(writer, 7, route);
            });
          writer.uint32(tag(2, 0)).int32(CUMULATIVE);
          writer.uint32(tag(3, 0)).bool(true);
        });
      for (const name of HISTOGRAMS)
        metric(writer, name, "s", 9, () => {
          for (let route = 0; route < ROUTES; route++)
            nested(writer, 1, () => {
              times(writer, start, t);
              const counts = [...BOUNDS, Infinity].map((_, i) => (round + 1) * ((i * 7 + route) % 5));
              writer.uint32(tag(4, I64)).fixed64(counts.reduce((sum, n) => sum + n, 0));
              writer.uint32(tag(5, I64)).double((round + 1) * 3.25);
              nested(writer, 6, () => counts.forEach((n) => writer.fixed64(n)));
              nested(writer, 7, () => BOUNDS.forEach((bound) => writer.double(bound)));
              routeOf(writer, 9, route);
            });
          writer.uint32(tag(2, 0)).int32(CUMULATIVE);
        });
    });
  });
  return writer.finish();
}

/** One export request of several processes. Messages of protobuf joined are one message with the fields of all. */
export function exportOf(processes: { readonly from: number; readonly to: number }, round: number, start: number, t: number): Uint8Array {
  return Buffer.concat(Array.from({ length: processes.to - processes.from }, (_, i) => processExport(processes.from + i, round, start, t)));
}
