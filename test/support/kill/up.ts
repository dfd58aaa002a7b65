// Nightshift that kills itself with SIGKILL before or after the Nth write to an episode or effect on the world.
import { dirname } from "node:path";
import { startNightshift, readStack } from "../../../src/cli/nightshift.ts";
import { createLog } from "../../../src/cli/log.ts";
import type { Platform } from "../../../src/ports/platform.ts";
import type { Store } from "../../../src/ports/store.ts";
import { platformWith } from "../platform-with.ts";

const at = Number(process.env["CRASH_AT"] ?? "-1");
let calls = 0;

function die(): void {
  process.kill(process.pid, "SIGKILL");
}

async function around<T>(what: string, call: () => Promise<T>): Promise<T> {
  const n = calls++;
  process.stdout.write(`${2 * n} ${what}\n`);
  if (at === 2 * n) die();
  const result = await call();
  if (at === 2 * n + 1) die();
  return result;
}

const wrap = {
  store: (store: Store): Store => ({
    get: (kind, namespace, name) => store.get(kind, namespace, name),
    list: (kind, namespace) => store.list(kind, namespace),
    watch: (kind, signal) => store.watch(kind, signal),
    create: (object) => (object.kind === "Remediation" ? around("create", () => store.create(object)) : store.create(object)),
    update: (object) => (object.kind === "Remediation" ? around("update", () => store.update(object)) : store.update(object)),
    delete: (kind, namespace, name, version) => store.delete(kind, namespace, name, version),
  }),
  platform: (platform: Platform): Platform =>
    platformWith(platform, {
      apply: (effect, signal) => around(`apply ${effect.type}`, () => platform.apply(effect, signal)),
    }),
};

const file = process.argv[2] ?? "";
const { stack, stackDir } = await readStack(file);
const running = await startNightshift({ stack, stackDir, stateDir: `${dirname(file)}/state`, log: createLog({ json: true }), wrap });
process.stdout.write(`ready ${running.url}\n`);
process.once("SIGTERM", () => {
  void running.stop().then(() => process.exit(0));
});
