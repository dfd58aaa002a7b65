// Before the tests on a real cluster: brings what can be brought (Debian's packages, the builds), and says what cannot.
// Exits with 1 where the lane must run (CI=true) and cannot, and else with 0: the tests then say that they were left out.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { messageOf } from "../../src/api/errors.ts";
import { missing, PACKAGES } from "./requirements.ts";
import { ensureTool, type Tool } from "./toolchain.ts";

const TOOLS: readonly Tool[] = ["kube", "coredns", "kwok", "helm", "versitygw"];

function packages(): void {
  const lacks = missing({ nodes: true, tools: TOOLS });
  if (process.getuid?.() !== 0 || !lacks.some((line) => line.startsWith("Debian"))) return;
  spawnSync(join(import.meta.dirname, "../../scripts/apt-install.sh"), PACKAGES, { stdio: "inherit" });
}

async function main(): Promise<number> {
  packages();
  const lacks = missing({ nodes: true, tools: TOOLS });
  if (lacks.length === 0) {
    for (const tool of TOOLS) await ensureTool(tool, (line) => console.log(line));
    return 0;
  }
  const must = process.env["CI"] === "true";
  console.log(`${must ? "cannot run" : "left out:"} the tests on a real cluster; this machine lacks:`);
  for (const line of lacks) console.log(`  - ${line}`);
  return must ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 1;
}
