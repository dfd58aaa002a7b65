// A whole Nightshift in a process of its own, to be sent OTLP: says where it listens in a line of JSON.
import { rmSync } from "node:fs";
import { pino } from "pino";
import { startNightshift } from "../../src/cli/nightshift.ts";
import { stackSchema } from "../../src/platform/host/stack.ts";
import { unusedPort } from "../../test/support/ports.ts";

const [dir = ""] = process.argv.slice(2);
const running = await startNightshift({
  stack: stackSchema.parse({
    listen: `127.0.0.1:${unusedPort()}`,
    grpcListen: `127.0.0.1:${unusedPort()}`,
    workloads: [{ name: "idle", command: ["sleep", "infinity"] }],
  }),
  stackDir: dir,
  stateDir: `${dir}/state`,
  log: pino({ level: "silent" }),
});
process.once("SIGTERM", () => {
  void running.stop().then(() => {
    rmSync(dir, { recursive: true, force: true });
    process.exit(0);
  });
});
process.stdout.write(`${JSON.stringify({ event: "listening", url: running.url, grpcUrl: running.grpcUrl, token: running.token })}\n`);
