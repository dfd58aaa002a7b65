import { copyFile, mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import type { AuditRecord } from "../../record/audit.ts";
import type { Demo } from "./demo.ts";
import { type ActionDone, actionsOf, attemptsOf, firstSignal, secondsToLimit } from "./evidence.ts";
import { clockText, fit, latency, mebibytes, type Paint, span, widthOf, wrap } from "./format.ts";
import type { LoadStats } from "./load.ts";
import type { Promised } from "./scenario.ts";

type Triple<T> = { readonly before: T; readonly during: T; readonly after: T };

/** What `nightshift demo --json` prints. Times are RFC 3339, and null where something did not happen. */
export interface DemoDocument {
  readonly scenario: string;
  /** Whether it did everything that it promises; the exit status says the same. */
  readonly passed: boolean;
  readonly promised: readonly Promised[];
  /** An episode ended `Remediated`. */
  readonly healed: boolean;
  readonly detectedAt: string | null;
  /** As the trend forecast it when the leak was found; null for other faults. */
  readonly secondsToLimitAtDetection: number | null;
  readonly actions: readonly ActionDone[];
  /** 99th percentiles in milliseconds: before the finding; until the last action, the death, or else the end; from then on. */
  readonly p99Ms: Triple<number | null>;
  readonly errors: Triple<number>;
  readonly requests: number;
  readonly requestsBy: Triple<number>;
  /** `namespace/name` of the first episode. */
  readonly remediation: string | null;
  readonly remediations: readonly {
    readonly name: string;
    readonly phase: string;
    readonly reason: string | null;
    readonly outcome: string | null;
    readonly attempts: number;
    readonly message: string | null;
  }[];
  readonly heapSnapshot: { readonly path: string; readonly bytes: number; readonly sha256: string } | null;
  readonly audit: { readonly path: string; readonly records: number; readonly intact: boolean; readonly message: string };
  readonly pages: number;
  /** When the process died that was not healed. */
  readonly diedAt: string | null;
  readonly startedAt: string;
  readonly endedAt: string;
}

/** What the verification of the audit trail said. */
export interface AuditVerdict {
  readonly records: number;
  readonly intact: boolean;
  readonly message: string;
}

/** Spans of time that the traffic is counted over. */
function spansOf(demo: Demo): { readonly from: number; readonly detected: number; readonly acted: number; readonly to: number } {
  const from = demo.steadyAt ?? demo.startedAt;
  const to = demo.endedAt ?? Date.now();
  const detected = firstSignal(demo.records)?.at ?? to;
  const ends = attemptsOf(demo.remediations).flatMap(({ attempt }) =>
    [...attempt.steps, ...attempt.undo].map((step) => Date.parse(step.endedAt ?? "")).filter((t) => !Number.isNaN(t)),
  );
  // Where nothing was done, nothing was ever over.
  const acted = demo.diedAt ?? (ends.length === 0 ? to : Math.max(detected, ...ends));
  return { from, detected, acted, to };
}

/** Copies what is to outlive the demo out of its directory, and describes the run. */
export async function documentOf(demo: Demo, promised: readonly Promised[], audit: AuditVerdict, outputDir: string): Promise<DemoDocument> {
  const { from, detected, acted, to } = spansOf(demo);
  const stats: Triple<LoadStats | undefined> = {
    before: demo.load?.stats(from, detected),
    during: demo.load?.stats(detected, acted),
    after: demo.load?.stats(acted, to),
  };
  const each = <T>(pick: (stats: LoadStats | undefined) => T): Triple<T> => ({
    before: pick(stats.before),
    during: pick(stats.during),
    after: pick(stats.after),
  });
  const [first] = demo.remediations;
  const artifact = demo.remediations.flatMap((r) => r.status.artifacts).find((a) => a.type === "HeapSnapshot");
  await mkdir(outputDir, { recursive: true });
  const keep = async (path: string): Promise<string> => {
    const copy = join(outputDir, basename(path));
    await copyFile(path, copy);
    return copy;
  };
  // The head goes with the trail, so that `nightshift audit verify` still finds an end that was cut off.
  await keep(demo.auditHeadPath);
  const left = demo.remediations.map(secondsToLimit).find((value) => value !== undefined);
  return {
    scenario: demo.options.scenario.name,
    passed: promised.length > 0 && promised.every((promise) => promise.held),
    promised,
    healed: demo.remediations.some((r) => r.status.outcome === "Remediated"),
    detectedAt: firstSignal(demo.records) === undefined ? null : iso(detected),
    secondsToLimitAtDetection: left === undefined ? null : Math.round(left * 10) / 10,
    actions: actionsOf(demo.remediations),
    p99Ms: each((s) => (s?.p99Ms === undefined ? null : Math.round(s.p99Ms * 10) / 10)),
    errors: each((s) => s?.errors ?? 0),
    requests: demo.load?.stats(from, to).requests ?? 0,
    requestsBy: each((s) => s?.requests ?? 0),
    remediation: first === undefined ? null : `${first.metadata.namespace}/${first.metadata.name}`,
    remediations: demo.remediations.map((r) => ({
      name: `${r.metadata.namespace}/${r.metadata.name}`,
      phase: r.status.phase,
      reason: r.status.reason ?? null,
      outcome: r.status.outcome ?? null,
      attempts: r.status.attempts.length,
      message: r.status.message ?? null,
    })),
    heapSnapshot: artifact === undefined ? null : { path: await keep(artifact.path), bytes: artifact.bytes, sha256: artifact.sha256 },
    audit: { path: await keep(demo.auditPath), ...audit },
    pages: demo.pages.length,
    diedAt: demo.diedAt === undefined ? null : iso(demo.diedAt),
    startedAt: iso(demo.startedAt),
    endedAt: iso(to),
  };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

/** What the closing report is made of. */
export interface ReportInput {
  readonly document: DemoDocument;
  readonly title: string;
  readonly healing: boolean;
  readonly records: readonly AuditRecord[];
  readonly columns: number;
}

/** Records of the loop's own life say nothing about the scenario. */
const NOT_TOLD: ReadonlySet<AuditRecord["type"]> = new Set(["Started", "Stopped"]);
/** Rows of the time line; a run with more shows its beginning and its end. */
const TIME_LINE_ROWS = 40;

/** The closing report. Pure. */
export function report({ document, title, healing, records, columns }: ReportInput, paint: Paint): string {
  const width = Math.max(60, Math.min(columns, 120));
  const began = Date.parse(document.startedAt);
  const lines: string[] = [];
  const heading = (text: string): void => void lines.push("", paint("bold", text));
  lines.push(
    "",
    paint("dim", "─".repeat(width)),
    `${paint("bold", `nightshift demo ${document.scenario}${healing ? "" : " --no-healing"}`)}  ${paint("dim", title)}`,
  );

  heading("Time line");
  const told = records.filter((record) => !NOT_TOLD.has(record.type));
  const row = (record: AuditRecord): string => {
    const time = clockText(record.at - began).padStart(6);
    return `${paint("dim", time)}  ${paint(record.type === "Page" ? "red" : record.type === "Signal" ? "yellow" : record.type === "Decision" ? "magenta" : "cyan", fit(record.type, 9))} ${fit(record.message, width - 19).trimEnd()}`;
  };
  const cut = told.length > TIME_LINE_ROWS;
  lines.push(...told.slice(0, cut ? TIME_LINE_ROWS / 2 : undefined).map(row));
  if (cut)
    lines.push(
      paint("dim", `        … ${told.length - TIME_LINE_ROWS} more, see the audit record`),
      ...told.slice(-TIME_LINE_ROWS / 2).map(row),
    );
  if (document.diedAt !== null)
    lines.push(
      `${paint("dim", clockText(Date.parse(document.diedAt) - began).padStart(6))}  ${paint("red", fit("Death", 9))} the kernel killed the process at its memory limit`,
    );

  heading("What customers saw");
  const cells = (name: string, values: Triple<string>): string =>
    `  ${fit(name, 10)}${[values.before, values.during, values.after].map((value) => value.padStart(10)).join("")}`;
  const map = <T>(triple: Triple<T>, text: (value: T) => string): Triple<string> => ({
    before: text(triple.before),
    during: text(triple.during),
    after: text(triple.after),
  });
  lines.push(
    paint("dim", cells("", { before: "before", during: "during", after: "after" })),
    cells("requests", map(document.requestsBy, String)),
    cells("errors", map(document.errors, String)),
    cells(
      "p99",
      map(document.p99Ms, (ms) => latency(ms ?? undefined)),
    ),
  );

  if (document.heapSnapshot !== null) {
    const { path, bytes, sha256 } = document.heapSnapshot;
    heading("Heap snapshot");
    lines.push(
      `  ${path}`,
      `  ${mebibytes(bytes)}, sha256 ${sha256}`,
      paint("dim", "  Open it in Chrome DevTools > Memory > Load: the Map of receipts is what grows."),
    );
  }

  heading("Audit record");
  lines.push(`  ${document.audit.path}`, `  ${paint(document.audit.intact ? "green" : "red", document.audit.message)}`);

  const forecast = forecastText(document, healing, began);
  if (forecast !== undefined) {
    heading("Without healing");
    lines.push(...wrap(forecast, width - 2).map((line) => `  ${line}`));
  }

  heading("What was promised");
  for (const promise of document.promised) {
    const text = `${promise.what}${promise.detail === undefined || promise.detail === "" ? "" : ` (${promise.detail})`}`;
    const [first = "", ...rest] = wrap(text, width - 4);
    lines.push(`  ${promise.held ? paint("green", "✓") : paint("red", "✗")} ${first}`, ...rest.map((line) => `    ${line}`));
  }
  lines.push(
    "",
    document.passed
      ? paint("green", `${document.scenario}: everything held`)
      : paint(
          "red",
          `${document.scenario}: ${document.promised.filter((p) => !p.held).length} of ${document.promised.length} did not hold`,
        ),
  );
  return `${lines.filter((line) => widthOf(line) >= 0).join("\n")}\n`;
}

function forecastText(document: DemoDocument, healing: boolean, began: number): string | undefined {
  const { secondsToLimitAtDetection: left, detectedAt, diedAt } = document;
  if (left === null || detectedAt === null) return undefined;
  const due = Date.parse(detectedAt) + left * 1_000;
  const forecast = `When it was found, at ${clockText(Date.parse(detectedAt) - began)}, the trend said that memory would be full in ${span(left * 1_000)}, at ${clockText(due - began)}.`;
  if (healing)
    return `${forecast} The kernel would then have killed the process, with the requests that it was working on. See it happen: nightshift demo leak --no-healing`;
  if (diedAt === null) return `${forecast} It did not die while the demo ran.`;
  return `${forecast} It died at ${clockText(Date.parse(diedAt) - began)}. With healing it is replaced before that: nightshift demo leak`;
}
