// npm run fuzz: feeds every decoder with real inputs that were changed, and tells which property broke on which.
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { runTarget, type TargetResult } from "./run.ts";
import { ACCEPTED } from "./target.ts";
import { TARGETS } from "./targets/index.ts";

const { values } = parseArgs({
  options: {
    target: { type: "string", multiple: true },
    runs: { type: "string" },
    seed: { type: "string", default: "1" },
    threads: { type: "string", default: String(Math.min(4, availableParallelism())) },
    replay: { type: "string", multiple: true },
    list: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

const number = (name: "runs" | "seed" | "threads"): number => {
  const value = Number(values[name]);
  if (!Number.isSafeInteger(value) || value < (name === "seed" ? 0 : 1))
    throw new Error(`--${name} takes a whole number, not ${String(values[name])}`);
  return value;
};

/** Inputs of a target where --runs says nothing: all targets together take two minutes of a fast core, four of a slow one. */
const SHORT_RUN = 10_000;
const runsOf = (name: string): number =>
  values.runs === undefined ? SHORT_RUN / (TARGETS.find((target) => target.name === name)?.cost ?? 1) : number("runs");

const names = TARGETS.map(({ name }) => name);
const chosen = values.target ?? names;
const unknown = chosen.filter((name) => !names.includes(name));
if (unknown.length > 0) throw new Error(`there is no target ${unknown.join(", ")}; there are ${names.join(", ")}`);
if (values.list) {
  process.stdout.write(`${names.join("\n")}\n`);
  process.exit();
}
const inputs = values.replay?.map((file) => new Uint8Array(readFileSync(file)));
if (inputs !== undefined && chosen.length !== 1) throw new Error("--replay takes one --target");

const queue = [...chosen];
const results: TargetResult[] = [];
await Promise.all(
  Array.from({ length: number("threads") }, async () => {
    for (let target = queue.shift(); target !== undefined; target = queue.shift()) {
      const result = await runTarget({ target, seed: number("seed"), runs: runsOf(target), ...(inputs === undefined ? {} : { inputs }) });
      results.push(result);
      if (!values.json) process.stdout.write(lineOf(result));
    }
  }),
);

const failed = results.filter(({ failure }) => failure !== undefined);
const total = results.reduce((sum, { runs }) => sum + runs, 0);
if (values.json) process.stdout.write(`${JSON.stringify({ results })}\n`);
else process.stdout.write(`${total} inputs of ${results.length} targets, ${failed.length} failed\n`);
process.exitCode = failed.length > 0 ? 1 : 0;

function lineOf({ target, runs, seconds, outcomes, failure }: TargetResult): string {
  const accepted = outcomes[ACCEPTED] ?? 0;
  const refused = Object.entries(outcomes)
    .filter(([outcome]) => outcome !== ACCEPTED)
    .toSorted(([, a], [, b]) => b - a)
    .map(([outcome, count]) => `${outcome} ${count}`);
  const line = `${target}: ${runs} inputs in ${seconds.toFixed(1)} s, ${accepted} accepted${refused.length === 0 ? "" : `, ${refused.join(", ")}`}\n`;
  if (failure === undefined) return line;
  return `${line}${target}: FAILED\n${failure.message.replace(/^/gm, "  ")}\n  the input is in ${failure.file}\n  again: ${failure.replay}\n`;
}
