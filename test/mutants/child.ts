import { install } from "./mutant.ts";
import { MUTANTS } from "./mutants.ts";

/**
 * One mutant in a process of its own: `child.ts NAME SEEDS HOW [RUN...]`. Plays the runs that are named, or all scenarios made by hand
 * unless HOW is `seeds`, then the seeds from 1 to SEEDS, then, where HOW is `writes`, the base scenarios with their writes perturbed; until
 * one breaks a rule. Prints a `Finding` as JSON. Without a name the code is as it is, and all runs that are named are played.
 */
const [name = "", seeds = "0", how = "", ...named] = process.argv.slice(2);
const mutant = MUTANTS.find((each) => each.name === name);
if (name !== "" && mutant === undefined) throw new Error(`there is no mutant ${name}`);
if (mutant !== undefined) install(mutant);
// Only now: whatever these load is loaded with the fault in it.
const { play, SCENARIOS, writes } = await import("./runs.ts");

async function* runs(): AsyncGenerator<string> {
  if (how !== "seeds") yield* named.length > 0 ? named : SCENARIOS;
  for (let seed = 1; seed <= Number(seeds); seed++) yield `seed/${seed}`;
  if (how === "writes") yield* writes();
}

let found: { readonly run: string; readonly rule: string; readonly message: string } | undefined;
let tried = 0;
for await (const run of runs()) {
  tried += 1;
  const broken = await play(run);
  if (broken === undefined) continue;
  found = { run, rule: broken.rule, message: broken.message };
  break;
}
process.stdout.write(`${JSON.stringify({ ...found, tried })}\n`);
