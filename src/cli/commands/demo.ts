import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { NightshiftError } from "../../api/errors.ts";
import { SCENARIOS } from "../demo/scenarios/index.ts";

/** `nightshift demo`. */
export function register(program: Command): void {
  program
    .command("demo")
    .description("run a small shop with a real fault, and show what Nightshift does about it")
    .addArgument(new Argument("[scenario]", "what goes wrong").choices(SCENARIOS.map((scenario) => scenario.name)).default("leak"))
    .option("--no-healing", "only with `leak`: let it happen, to the process's death by out-of-memory")
    .option("--json", "print one JSON document at the end, and nothing else")
    .option("--headless", "plain lines instead of the live view (default where the output is no terminal)")
    .option("--output <dir>", "where the heap snapshot and the audit record are put", "nightshift-demo")
    .option("--keep", "keep the demo's own directory: stack file, policies, logs, state")
    .addOption(new Option("--speed <factor>", "how fast the shop leaks").env("NIGHTSHIFT_DEMO_SPEED").default(1).argParser(parseSpeed))
    .addHelpText(
      "after",
      `
Scenarios:
${SCENARIOS.map((scenario) => `  ${scenario.name.padEnd(12)}${scenario.shows}`).join("\n")}

Exit status: 0 the scenario did what it promises, 1 it did not, 130 interrupted.

Examples:
  $ nightshift demo leak
  $ nightshift demo leak --no-healing
  $ nightshift demo dependency --json | jq .promised`,
    )
    .action(
      async (
        scenario: string,
        options: { healing: boolean; json?: boolean; headless?: boolean; output: string; keep?: boolean; speed: number },
      ) => {
        const chosen = SCENARIOS.find(({ name }) => name === scenario);
        if (chosen === undefined) return;
        if (!options.healing && !chosen.withoutHealing)
          throw new NightshiftError("USAGE", `--no-healing goes with the scenario leak, not with ${scenario}`, {
            fix: `Leave it out, or run: nightshift demo leak --no-healing`,
          });
        const { runDemo } = await import("../demo/run.ts");
        process.exitCode = await runDemo(chosen, options);
      },
    );
}

function parseSpeed(text: string): number {
  const speed = Number(text);
  if (!Number.isFinite(speed) || speed < 0.1 || speed > 4) throw new InvalidArgumentError("Expected a number from 0.1 to 4.");
  return speed;
}
