import { dirname, join, resolve } from "node:path";
import type { Command } from "commander";

/** `nightshift up`. */
export function register(program: Command): void {
  program
    .command("up")
    .description("run the workloads of a stack file, and heal them")
    .requiredOption("-f, --file <stack.yaml>", "stack file: workloads, and where the policies are")
    .option("--state <dir>", "state directory (default: .nightshift beside the stack file)")
    .option("--leave", "leave the workloads and the router running at the end; the next `up` adopts them")
    .option("--json", "log as JSON lines")
    .addHelpText(
      "after",
      `
Ctrl-C (SIGINT) or SIGTERM ends it in order, the workloads too. SIGHUP reads the policies again.

Examples:
  $ nightshift up -f stack.yaml
  $ nightshift up -f stack.yaml --state /var/lib/nightshift --json 2>&1 | jq .msg`,
    )
    .action(async (options: { file: string; state?: string; leave?: boolean; json?: boolean }) => {
      const { readStack, startNightshift } = await import("../nightshift.ts");
      const { createLog, listeningText } = await import("../log.ts");
      const { stack, stackDir } = await readStack(options.file);
      const log = createLog({ json: options.json === true });
      const stateDir = resolve(options.state ?? join(dirname(resolve(options.file)), ".nightshift"));
      const stop = new Promise<NodeJS.Signals>((done) => {
        process.once("SIGINT", done);
        process.once("SIGTERM", done);
      });
      log.info(`starting ${stack.workloads.length} workloads`);
      const running = await startNightshift({
        stack,
        stackDir,
        stateDir,
        log,
        onRecord: (record) =>
          log.info(record.remediation === undefined ? {} : { remediation: record.remediation }, `${record.type}: ${record.message}`),
      });
      process.on("SIGHUP", () => {
        running.reload().then(
          (changes) => log.info(changes.length === 0 ? "reloaded: nothing changed" : `reloaded: ${changes.join(", ")}`),
          (error: unknown) => log.error(String(error)),
        );
      });
      log.info(`${listeningText(running)}, state in ${stateDir}`);
      const signal = await stop;
      log.info(`${signal}: stopping`);
      await running.stop(options.leave === true ? "Leave" : "Stop");
      log.info("stopped");
    });
}
