import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { CheckReport } from "./policy.ts";

const module = new URL("policy.ts", import.meta.url).href;
const main = `import { Command } from "commander"; import { register } from ${JSON.stringify(module)};
const program = new Command("nightshift").exitOverride(); register(program);
try { await program.parseAsync(process.argv.slice(1), { from: "user" }); } catch (e) { process.exitCode = e.exitCode === 0 ? 0 : 2; }`;

let dir: string;

/** The command in a process of its own, in the test's directory. */
function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const root = new URL("../../../", import.meta.url).pathname;
  return new Promise((resolve) => {
    const script = main.replaceAll('"commander"', JSON.stringify(import.meta.resolve("commander")));
    execFile(
      process.execPath,
      ["--input-type=module", "-e", script, "--", ...args],
      { cwd: dir, env: { ...process.env, NODE_PATH: join(root, "node_modules") } },
      (error, stdout, stderr) => resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr }),
    );
  });
}

const POLICY = `apiVersion: nightshift.dev/v1alpha1
kind: RemediationPolicy
metadata: { name: payments }
spec:
  targets: [{ name: payments }]
  signals: [{ name: leak, trend: {} }]
  ladder: [{ runbook: restart }]
`;
const RUNBOOK = `apiVersion: nightshift.dev/v1alpha1
kind: Runbook
metadata: { name: restart }
spec:
  steps: [{ wait: { for: 5s } }]
`;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "nightshift-policy-"));
  await mkdir(join(dir, "all", "deep", "node_modules"), { recursive: true });
  await mkdir(join(dir, "empty"));
  await writeFile(join(dir, "all", "policy.yaml"), POLICY);
  await writeFile(join(dir, "all", "deep", "runbook.yml"), RUNBOOK);
  await writeFile(
    join(dir, "all", "deployment.yaml"),
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: { annotations: { nightshift.dev/do-not-remediate: 'true' } }\n",
  );
  await writeFile(join(dir, "all", "notes.txt"), "nightshift.dev/ is not read here");
  await writeFile(join(dir, "all", ".hidden.yaml"), "nightshift.dev/: [");
  await writeFile(join(dir, "all", "deep", "node_modules", "x.yaml"), "nightshift.dev/: [");
  await symlink(join(dir, "all"), join(dir, "all", "deep", "loop"));
  await writeFile(join(dir, "bad.yaml"), POLICY.replace("{ runbook: restart }", "{ strategy: RestartPot }"));
  await writeFile(join(dir, "warned.yaml"), POLICY.replace("{ runbook: restart }", "{ strategy: RestartPod }") + "  cooldown: 1s\n");
});
after(() => rm(dir, { recursive: true, force: true }));

test("a directory is checked as a whole: references across files, nothing hidden, links once, other manifests skipped", async () => {
  const { code, stdout } = await run("policy", "check", "all");
  assert.equal(stdout, "2 resources in 2 files: 0 errors, 0 warnings; 1 other file skipped\n");
  assert.equal(code, 0);
});

test("a file alone misses what it refers to", async () => {
  const { code, stdout } = await run("policy", "check", "all/policy.yaml");
  assert.equal(code, 1);
  assert.match(
    stdout,
    /^all\/policy\.yaml:7:23: error UNKNOWN_RUNBOOK spec\.ladder\[0\]\.runbook: there is no Runbook restart in namespace default$/m,
  );
  assert.match(stdout, /1 error, 0 warnings/);
});

test("the same file named twice is one file", async () => {
  assert.equal((await run("policy", "check", "all", "all/policy.yaml", "./all/deep/runbook.yml")).code, 0);
});

test("a file that is named is checked whatever it holds", async () => {
  const { code, stdout } = await run("policy", "check", "all/deployment.yaml");
  assert.equal(code, 1);
  assert.match(stdout, /UNKNOWN_KIND/);
});

test("--json prints one document", async () => {
  const { code, stdout } = await run("policy", "check", "--json", "bad.yaml");
  assert.equal(code, 1);
  const report = JSON.parse(stdout) as CheckReport;
  assert.equal(report.ok, false);
  assert.equal(report.errors, 1);
  assert.deepEqual(
    report.problems.map(({ code: c, severity, file, line, column, path }) => [c, severity, file, line, column, path]),
    [["UNKNOWN_STRATEGY", "error", "bad.yaml", 7, 24, "spec.ladder[0].strategy"]],
  );
});

test("warnings do not fail, except with --strict", async () => {
  assert.equal((await run("policy", "check", "warned.yaml")).code, 0);
  const { code, stdout } = await run("policy", "check", "--strict", "warned.yaml");
  assert.equal(code, 1);
  assert.match(stdout, /warning NO_REST spec\.cooldown/);
});

test("called wrongly: 2", async () => {
  const missing = await run("policy", "check", "nowhere.yaml");
  assert.equal(missing.code, 2);
  assert.match(missing.stderr, /nowhere\.yaml: no such file or directory \[NO_SUCH_FILE\]/);
  assert.equal((await run("policy", "check", "empty")).code, 2);
  assert.equal((await run("policy", "check")).code, 2);
  assert.equal((await run("policy", "check", "--nonsense", "all")).code, 2);
  const json = await run("policy", "check", "--json", "nowhere.yaml");
  assert.equal((JSON.parse(json.stdout) as { error: { code: string } }).error.code, "NO_SUCH_FILE");
});

test("help shows examples and the exit statuses", async () => {
  const { code, stdout } = await run("policy", "check", "--help");
  assert.equal(code, 0);
  assert.match(stdout, /Examples:\n.*nightshift policy check/);
  assert.match(stdout, /Exit status:/);
});
