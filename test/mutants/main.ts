import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { RULES } from "../../src/platform/sim/rules/index.ts";
import { check, type Mutant } from "./mutant.ts";
import { MUTANTS } from "./mutants.ts";
import { type Found, readFound, readSeeds, tablePath, tableText, withFound, withSeeds, writeFound, writeSeeds } from "./table.ts";

/** Seeds that a mutant is searched with, after the scenarios made by hand. */
const SEEDS = 60;
/** How many seeds after the one on record a mutant may be found with: a change of the loop may draw other random numbers. */
const MARGIN = 5;
/** What takes longer than this plays for ever (ms): a mutant may keep a run from ending. */
const LONGEST_MS = 30 * 60_000;
const SEARCH_AGAIN = "Search them again: npm run mutants -- --write NAME...";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    jobs: { type: "string", default: String(availableParallelism()) },
    /** Only asks whether each mutant is found where the table says. */
    recorded: { type: "boolean", default: false },
    seeds: { type: "string", default: String(SEEDS) },
    /** Plays seeds alone, from 1 up: whether drawn faults find it, too. */
    "by-seeds": { type: "boolean", default: false },
    /** Last, also plays the base scenarios with each of their writes perturbed. */
    writes: { type: "boolean", default: false },
    /** Puts what was found into the table. */
    write: { type: "boolean", default: false },
  },
});
const numberOf = (option: "jobs" | "seeds", least: number): number => {
  const number = Number(values[option]);
  if (!Number.isSafeInteger(number) || number < least) throw new Error(`--${option} ${values[option]} is no number from ${least} up`);
  return number;
};
const seeds = numberOf("seeds", 0);
const jobs = numberOf("jobs", 1);
const bySeeds = values["by-seeds"];
if (bySeeds && (values.recorded || values.writes)) throw new Error("--by-seeds goes with neither --recorded nor --writes");
for (const name of positionals) if (!MUTANTS.some((each) => each.name === name)) throw new Error(`there is no mutant ${name}`);
const chosen = positionals.length === 0 ? MUTANTS : MUTANTS.filter(({ name }) => positionals.includes(name));
// All of them first: a mutant that is out of date is told of before any has run.
for (const mutant of chosen) check(mutant);

/** What came of one mutant; without a rule it has survived. */
interface Finding extends Partial<Found> {
  readonly mutant: string;
  readonly message?: string;
  readonly tried: number;
  readonly seconds: number;
}

/** Plays one mutant, or with an empty name the code as it is, in a process of its own. See `child.ts`. */
async function play(name: string, limit: number, runs: readonly string[], how: "" | "seeds" | "writes" = ""): Promise<Finding> {
  const began = performance.now();
  const child = spawn(process.execPath, [fileURLToPath(new URL("child.ts", import.meta.url)), name, String(limit), how, ...runs], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: LONGEST_MS,
  });
  let [out, error] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => void (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => void (error += text));
  const status = await new Promise<unknown>((resolve, reject) => {
    child.on("error", reject).on("close", (code, signal) => resolve(code ?? signal));
  });
  if (status !== 0) throw new Error(`mutant ${name}: its process ended with ${String(status)}: ${error}`);
  return { mutant: name, ...(JSON.parse(out) as Omit<Finding, "mutant" | "seconds">), seconds: (performance.now() - began) / 1000 };
}

/** All of them, `jobs` at a time, in the order in which they were given. */
async function inParallel<T, R>(all: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < all.length; i = next++) results[i] = await work(all[i] as T);
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return results;
}

const known = readFound();

/** The run on record, and where that is a seed a few more. */
function recordedRuns({ name }: Mutant): string[] {
  const run = known[name]?.run;
  if (run === undefined) return [];
  const seed = Number(/^seed\/(\d+)$/.exec(run)?.[1] ?? NaN);
  return Number.isNaN(seed) ? [run] : Array.from({ length: MARGIN + 1 }, (_, i) => `seed/${seed + i}`);
}

const findings = await inParallel(chosen, async (mutant) => {
  const runs = values.recorded ? recordedRuns(mutant) : [];
  const found: Finding =
    values.recorded && runs.length === 0
      ? { mutant: mutant.name, tried: 0, seconds: 0 }
      : await play(
          mutant.name,
          values.recorded ? 0 : seeds,
          runs,
          values.recorded ? "" : bySeeds ? "seeds" : values.writes ? "writes" : "",
        );
  // At once: a search of hours keeps what it has found.
  if (bySeeds && values.write) writeSeeds(withSeeds(readSeeds(), found, seeds));
  process.stderr.write(
    `${mutant.name}: ${found.rule === undefined ? "SURVIVED" : `${found.rule} in ${found.run ?? ""}`}, ${found.tried} runs, ${found.seconds.toFixed(1)} s\n`,
  );
  return found;
});
const survived = findings.filter(({ rule }) => rule === undefined).map(({ mutant }) => mutant);
// What finds a mutant must be what the code as it is does not do.
const runs = [...new Set(findings.flatMap(({ run }) => run ?? []))];
const halves = Array.from({ length: jobs }, (_, i) => runs.filter((_run, at) => at % jobs === i)).filter((half) => half.length > 0);
const unmutated = (await inParallel(halves, (half) => play("", 0, half))).find(({ rule }) => rule !== undefined);
if (unmutated !== undefined)
  throw new Error(`without a mutant ${unmutated.run ?? ""} breaks ${unmutated.rule ?? ""}: ${unmutated.message ?? ""}`);

if (values.write && !bySeeds) writeFound(findings.reduce(withFound, known));
const broken = new Set(Object.values(values.recorded ? known : { ...known, ...findings.reduce(withFound, {}) }).map(({ rule }) => rule));
const unproven = RULES.map(({ name }) => name).filter((name) => !broken.has(name));
if (values.json) process.stdout.write(`${JSON.stringify({ seeds, findings, survived, unproven })}\n`);
else {
  const total = `${findings.length} mutants, ${findings.length - survived.length} found; rules that no mutant breaks: ${unproven.join(", ") || "none"}`;
  process.stdout.write(`${total}\n`);
}
// That seeds alone do not find all is no failure: the scenarios made by hand are there for the rest.
if (survived.length > 0) {
  if (!bySeeds) process.exitCode = 1;
  process.stderr.write(`${survived.length} mutants survived: ${survived.join(", ")}.${values.recorded ? ` ${SEARCH_AGAIN}` : ""}\n`);
}
if (readFileSync(tablePath, "utf8") !== tableText(readFound(), readSeeds())) {
  if (values.write) writeFileSync(tablePath, tableText(readFound(), readSeeds()));
  else if (values.recorded) {
    process.exitCode = 1;
    process.stderr.write(`${tablePath} is out of date. ${SEARCH_AGAIN}\n`);
  }
}
