/**
 * `npm run root-cause-accuracy`: how often the search for the cause is right on made incidents, beside simple methods.
 *
 * Two parts that share neither seeds nor kinds of call graphs: the constants of the search were set by looking at the first alone.
 */
import { parseArgs } from "node:util";
import { findRootCause } from "../../src/orient/root-cause.ts";
import { deepestAbnormal, largestDeviation, ranking, type Method } from "./baselines.ts";
import { makeIncident, type MadeIncident } from "./incidents.ts";

/** How often a method was right. */
export interface Accuracy {
  /** Incidents with a fault. */
  readonly faults: number;
  /** Of them: the first named was a cause. */
  readonly top1: number;
  /** Of them: every cause was among the first three. */
  readonly top3: number;
  /** Of them: nothing was named. */
  readonly missed: number;
  /** Incidents without a fault, and those of them in which something was named all the same. */
  readonly calm: number;
  readonly falseAlarms: number;
}

/** Judges a method on incidents. */
export function accuracyOf(
  method: Method,
  incidents: Iterable<MadeIncident>,
  onWrong?: (incident: MadeIncident, named: readonly string[]) => void,
): Accuracy {
  const sum = { faults: 0, top1: 0, top3: 0, missed: 0, calm: 0, falseAlarms: 0 };
  for (const incident of incidents) {
    const named = method(incident);
    const causes = incident.causes.map(({ service }) => service);
    let right = true;
    if (causes.length === 0) {
      sum.calm++;
      if (named.length > 0) {
        sum.falseAlarms++;
        right = false;
      }
    } else {
      sum.faults++;
      if (named.length === 0) sum.missed++;
      if (causes.includes(named[0] ?? "")) sum.top1++;
      else right = false;
      if (causes.every((cause) => named.slice(0, 3).includes(cause))) sum.top3++;
    }
    if (!right) onWrong?.(incident, named);
  }
  return sum;
}

/** The methods that are compared, by name. */
export const METHODS: Readonly<Record<string, Method>> = {
  "root-cause": (input) => ranking(findRootCause(input)),
  "largest deviation": largestDeviation(10),
  "deepest abnormal": deepestAbnormal(4),
};

/** Where the seeds of a part begin. */
const FIRST_SEED = { tuning: 0, "held-out": 10_000 } as const;

/** The incidents of a part, by seed. */
export function* incidentsOf(part: "tuning" | "held-out", count: number): Generator<MadeIncident> {
  for (let seed = FIRST_SEED[part]; seed < FIRST_SEED[part] + count; seed++) yield makeIncident(part, seed);
}

const percent = (part: number, of: number): string => (of === 0 ? "-" : `${((100 * part) / of).toFixed(1)}%`);

function main(): void {
  const { values } = parseArgs({
    options: {
      count: { type: "string", default: "400" },
      part: { type: "string" },
      verbose: { type: "boolean", default: false },
      only: { type: "boolean", default: false },
    },
  });
  const count = Number(values.count);
  if (!Number.isInteger(count) || count < 1) throw new Error(`--count: not a number of incidents: ${values.count}`);
  if (values.part !== undefined && values.part !== "tuning" && values.part !== "held-out")
    throw new Error(`--part: neither tuning nor held-out: ${values.part}`);
  for (const part of ["tuning", "held-out"] as const) {
    if (values.part !== undefined && values.part !== part) continue;
    process.stdout.write(`\n${part}: ${count} incidents\n| method | top-1 | top-3 | missed | false alarms |\n|---|---|---|---|---|\n`);
    const incidents = [...incidentsOf(part, count)];
    const row = (name: string, a: Accuracy): void => {
      process.stdout.write(
        `| ${name} | ${percent(a.top1, a.faults)} (${a.top1} of ${a.faults}) | ${percent(a.top3, a.faults)} | ${percent(a.missed, a.faults)} | ${percent(a.falseAlarms, a.calm)} (${a.falseAlarms} of ${a.calm}) |\n`,
      );
    };
    for (const [name, method] of Object.entries(METHODS)) {
      if (values.only && name !== "root-cause") continue;
      row(
        name,
        accuracyOf(method, incidents, (incident, named) => {
          if (values.verbose && name === "root-cause")
            process.stdout.write(
              `  seed ${incident.seed} ${incident.family}, ${incident.kind}: ${incident.causes.map(({ service, fault }) => `${service} (${fault})`).join(", ") || "none"}; named ${named.slice(0, 4).join(", ") || "none"}\n`,
            );
        }),
      );
    }
    process.stdout.write("\nroot-cause, by what happened\n| | top-1 | top-3 | missed | false alarms |\n|---|---|---|---|---|\n");
    for (const kind of [...new Set(incidents.map((incident) => incident.kind))].sort())
      row(
        kind,
        accuracyOf(
          METHODS["root-cause"] as Method,
          incidents.filter((incident) => incident.kind === kind),
        ),
      );
    process.stdout.write("\nroot-cause, by call graph\n| | top-1 | top-3 | missed | false alarms |\n|---|---|---|---|---|\n");
    for (const family of new Set(incidents.map((incident) => incident.family)))
      row(
        family,
        accuracyOf(
          METHODS["root-cause"] as Method,
          incidents.filter((incident) => incident.family === family),
        ),
      );
  }
}

if (import.meta.main) {
  // A reader that has seen enough (`| head`) is no error.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit(0);
  });
  main();
}
