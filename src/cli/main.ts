import { Command, CommanderError } from "commander";
import { messageOf } from "../api/errors.ts";
import { closest } from "../api/suggest.ts";
import { register as agent } from "./commands/agent.ts";
import { register as approve } from "./commands/approve.ts";
import { register as audit } from "./commands/audit.ts";
import { register as completion } from "./commands/completion.ts";
import { register as crds } from "./commands/crds.ts";
import { register as demo } from "./commands/demo.ts";
import { register as operator } from "./commands/operator.ts";
import { register as policy } from "./commands/policy.ts";
import { register as rehearse } from "./commands/rehearse.ts";
import { register as rootCause } from "./commands/root-cause.ts";
import { register as simulate } from "./commands/simulate.ts";
import { register as snapshot } from "./commands/snapshot.ts";
import { register as status } from "./commands/status.ts";
import { register as trend } from "./commands/trend.ts";
import { register as up } from "./commands/up.ts";
import { errorText, EXIT, EXIT_CODES, exitCodeOf } from "./exit.ts";
import { version } from "./version.ts";

/** The program with all its commands, in the order in which a newcomer meets them. */
export function createProgram(): Command {
  const program = new Command("nightshift")
    .description("A self-healing loop for Kubernetes and for plain processes: deterministic, gated, verified, on record.")
    .version(version(), "-V, --version", "print the version")
    .configureHelp({ showGlobalOptions: false })
    .showHelpAfterError("(add --help for the options and examples)")
    .addHelpText(
      "after",
      `
Examples:
  $ nightshift demo leak
  $ nightshift policy check policies/
  $ nightshift rehearse -f policies/
  $ nightshift up -f stack.yaml
  $ nightshift status

Exit codes: 0 yes, 1 no, 2 wrong use, 69 unavailable, 70 internal, 130 interrupted; more with \`nightshift help exit-codes\`.`,
    );
  for (const register of [
    demo,
    up,
    operator,
    status,
    approve,
    audit,
    policy,
    rehearse,
    snapshot,
    crds,
    agent,
    trend,
    rootCause,
    simulate,
    completion,
  ])
    register(program);
  return program;
}

/** Commander answers a request for help before it looks at names: `rum --help` would print everything there is, and pass for right. */
function refuseHelpOfUnknown(program: Command): void {
  program.addHelpText("beforeAll", () => {
    let command = program;
    for (const name of program.args) {
      if (name.startsWith("-") || command.commands.length === 0) break;
      if (name === "help") continue;
      const child = command.commands.find((each) => each.name() === name || each.aliases().includes(name));
      if (child === undefined) {
        const meant = closest(
          name,
          command.commands.map((each) => each.name()),
        );
        const hint = meant === undefined ? "" : `\n(Did you mean ${meant}?)`;
        return command.error(`error: unknown command '${name}'${hint}`, { code: "commander.unknownCommand" });
      }
      command = child;
    }
    return "";
  });
}

/** Commander's settings are not inherited by commands that exist already, so each gets them. */
function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) throwInsteadOfExit(child);
}

async function main(args: readonly string[]): Promise<void> {
  if (args[0] === "help" && args[1] === "exit-codes") {
    process.stdout.write(EXIT_CODES);
    return;
  }
  const program = createProgram();
  refuseHelpOfUnknown(program);
  throwInsteadOfExit(program);
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has printed already. Everything that is not a request for help or the version was wrong use.
      process.exitCode = error.exitCode === 0 ? EXIT.OK : EXIT.USAGE;
      return;
    }
    process.stderr.write(errorText(error, args.includes("--json")));
    process.exitCode = exitCodeOf(error);
  }
}

if (import.meta.main) {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // A reader that has seen enough (`| head`) is no error.
    if (error.code === "EPIPE") process.exit(process.exitCode ?? EXIT.OK);
    process.stderr.write(`nightshift: the output cannot be written: ${error.message} [OUTPUT_FAILED]\n`);
    process.exit(EXIT.UNAVAILABLE);
  });
  // Messages that nobody can read are lost: a full disk, or a reader that went away, must not end what they are about.
  process.stderr.on("error", () => undefined);
  // What reaches this is a bug, and not the answer no, which Node's own exit status would say.
  process.on("uncaughtException", (error) => {
    const bug = new Error(messageOf(error));
    bug.stack = error.stack ?? bug.stack ?? "";
    process.stderr.write(errorText(bug, process.argv.includes("--json")));
    process.exit(EXIT.INTERNAL);
  });
  await main(process.argv.slice(2));
}
