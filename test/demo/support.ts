import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DemoDocument } from "../../src/cli/demo/report.ts";

const NIGHTSHIFT = fileURLToPath(new URL("../../bin/nightshift", import.meta.url));

/** What a run of `nightshift demo` left. */
export interface DemoRun {
  readonly document: DemoDocument;
  readonly status: number | null;
  readonly stderr: string;
  /** The demo's own directory was removed, and no process of the shop is left. */
  readonly leftovers: readonly string[];
}

/** Runs a scenario by the real command, with --json, in a temporary directory that `use` may look into. */
export async function withDemo(args: readonly string[], use: (run: DemoRun) => Promise<void> | void): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "nightshift-demo-test-"));
  try {
    // The demo makes its temporary directory here, so that what it leaves can be told from what others leave.
    const own = join(dir, "tmp");
    const { status, stdout, stderr } = await run(["demo", ...args, "--json", "--output", join(dir, "output")], own);
    assert.notEqual(stdout, "", `no document; status ${status}\n${stderr}`);
    const document = JSON.parse(stdout) as DemoDocument;
    await use({ document, status, stderr, leftovers: [...(await readdir(own)), ...(await processesUsing(own))] });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function run(args: readonly string[], tmp: string): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await mkdir(tmp);
  const child = spawn(NIGHTSHIFT, args, { env: { ...process.env, TMPDIR: tmp }, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { status, stdout, stderr };
}

/** Processes with an open working directory or an environment below `dir`. */
export async function processesUsing(dir: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    try {
      const environment = await readFile(`/proc/${pid}/environ`, "utf8");
      if (environment.includes(dir))
        found.push(`process ${pid}: ${(await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ")}`);
    } catch {
      // It is gone, or not ours.
    }
  }
  return found;
}

/** The scenario did everything that it promises, said so, and cleaned up. */
export function assertPassed({ document, status, stderr, leftovers }: DemoRun): void {
  const broken = document.promised.filter((promise) => !promise.held);
  assert.deepEqual(broken, [], `${JSON.stringify(document, null, 1)}\n${stderr}`);
  assert.equal(document.passed, true);
  assert.equal(status, 0, stderr);
  assert.equal(document.audit.intact, true);
  assert.deepEqual(leftovers, []);
}
