import type { Command } from "commander";
import { findRootCause, type RootCauseResult } from "../../orient/root-cause.ts";
import { parseGraph, parseMetrics, readBounded } from "../root-cause-input.ts";
import { formatTable, printable } from "../table.ts";

/** What `root-cause --json` prints. */
export type RootCauseReport = RootCauseResult;

/** Milliseconds after which progress is shown, and between two times that it is. */
const PROGRESS_MS = 1000;

/** Most rows of a table for people. */
const MAX_ROWS = 40;

/** A table of the first rows, and how many more there are; nothing of none. */
function shortened(headings: readonly string[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const more = rows.length - MAX_ROWS;
  return [`${formatTable(headings, rows.slice(0, MAX_ROWS))}${more > 0 ? `and ${more} more, which --json lists\n` : ""}`];
}

/** What is printed for people. */
function textOf(result: RootCauseResult): string {
  const head = { cause: "CAUSE", none: "no cause found", inconclusive: "inconclusive" }[result.verdict];
  const lines = [`${head}: ${printable(result.reason)}`, ""];
  if (result.causes.length > 0) {
    const rows = result.causes.flatMap(({ service, metric, score, evidence }, i) =>
      evidence.map((line, j) => (j === 0 ? [`${i + 1}`, service, metric, score.toFixed(3), line] : ["", "", "", "", line])),
    );
    // What goes on below a cause stands below its evidence alone.
    lines.push(
      formatTable(["RANK", "SERVICE", "METRIC", "SCORE", "EVIDENCE"], rows).replace(/^(?:- +){4}/gm, (empty) => " ".repeat(empty.length)),
    );
  }
  // What is ill is read first.
  const order = ["ill", "changed", "unclear", "well"];
  const looked = result.lookedAt.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
  lines.push(
    ...shortened(
      ["LOOKED AT", "STATE", "WHAT WAS SEEN"],
      looked.map(({ service, state, message }) => [service, state, message]),
    ),
    ...shortened(
      ["NOT LOOKED AT", "WHY"],
      result.notLookedAt.map(({ service, why }) => [service, why]),
    ),
  );
  return lines.join("\n");
}

const HELP = `
Walks down the known call graph from the service that is felt to be ill, and ranks the causes of its incident.

  graph.json    {"edges": [{"from": "a", "to": "b"}]}              a calls b
  metrics.json  {"series": [{"service": "a", "metric": "latency_p99", "unit": "ms", "points": [[t, v], ...]}],
                 "incident": {"start": t, "end": t}}               all before start is baseline

Times are seconds or milliseconds since the epoch, or ISO 8601 texts. Points may be missing, null, irregular and in any order.
Without "end" an incident goes on until the newest point. How metrics are understood: docs/root-cause.md.

--json prints {"causes": [{"service", "metric", "score", "evidence": [...]}], "verdict": "cause" | "none" | "inconclusive",
"reason", "lookedAt": [...], "notLookedAt": [...]}. What is not looked at is unknown, not healthy.

Examples:
  $ nightshift root-cause --graph graph.json --metrics metrics.json --target frontend
  $ nightshift root-cause --graph graph.json --metrics metrics.json --target frontend --json | jq -r '.causes[0].service'

Exit status:
  0  the search was made, whatever it found
  2  a file cannot be used, the target is not known, or the command was called wrongly`;

/** Adds `root-cause` to the program. */
export function register(program: Command): void {
  program
    .command("root-cause")
    .description("rank the causes of an incident along a call graph, from files")
    .requiredOption("--graph <file>", "the call graph, as JSON")
    .requiredOption("--metrics <file>", "the metrics and the incident, as JSON")
    .requiredOption("--target <service>", "the service whose symptom is to be explained")
    .option("--json", "print one JSON document")
    .addHelpText("after", HELP)
    .action(async (options: { graph: string; metrics: string; target: string; json?: boolean }) => {
      let shown = performance.now();
      const progress = (text: string): void => {
        if (!process.stderr.isTTY || performance.now() - shown < PROGRESS_MS) return;
        shown = performance.now();
        process.stderr.write(`nightshift: ${text}\n`);
      };
      const edges = parseGraph(await readBounded(options.graph), options.graph);
      const bytes = await readBounded(options.metrics);
      progress(`read ${Math.round(bytes.length / 1e6)} MB`);
      const { series, incident } = parseMetrics(bytes, options.metrics);
      progress(`parsed ${series.length} series`);
      const result = findRootCause({ edges, series, incident, target: options.target }, (done, of) =>
        progress(`looked at ${done} of ${of} series`),
      );
      const report: RootCauseReport = result;
      process.stdout.write(options.json === true ? `${JSON.stringify(report)}\n` : textOf(result));
    });
}
