import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";

const root = resolve(import.meta.dirname, "..");

function run(command: string, args: readonly string[], options: { cwd?: string; input?: string; env?: NodeJS.ProcessEnv } = {}): string {
  const result = spawnSync(command, args, {
    encoding: "utf8",
    cwd: options.cwd ?? root,
    input: options.input ?? "",
    env: options.env ?? process.env,
  });
  assert.equal(result.status, 0, `${command} ${args.join(" ")}: ${result.stderr}${result.stdout}`);
  return result.stdout;
}

/** A PATH without this checkout's Node, so that the launcher has to find its own. */
const bare: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: (process.env["PATH"] ?? "")
    .split(":")
    .filter((dir) => !dir.includes("node_modules"))
    .join(":"),
};

describe("the checkout's launcher", () => {
  it("runs from another directory, through a symlink, and from a path with a space", () => {
    const dir = mkdtempSync(join(tmpdir(), "night shift "));
    try {
      symlinkSync(join(root, "bin/nightshift"), join(dir, "ns"));
      assert.match(run(join(dir, "ns"), ["--version"], { cwd: dir, env: bare }), /^\d+\.\d+\.\d+/);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});

describe("the npm package", () => {
  let dir = "";
  let bin = "";

  before(() => {
    dir = mkdtempSync(join(tmpdir(), "nightshift-package-"));
    run("npm", ["run", "build"]);
    const [packed] = JSON.parse(run("npm", ["pack", "--json", "--pack-destination", dir])) as {
      filename: string;
      files: { path: string }[];
    }[];
    assert.ok(packed !== undefined);
    const paths = packed.files.map((file) => file.path);
    assert.ok(paths.includes("dist/src/cli/main.js"));
    assert.ok(!paths.some((path) => path.includes(".test.")), "the package carries tests");
    run("npm", ["install", "--global", "--prefix", join(dir, "prefix"), "--prefer-offline", join(dir, packed.filename)], { env: bare });
    bin = join(dir, "prefix/bin/nightshift");
  });

  after(() => rmSync(dir, { recursive: true, force: true }));

  it("installs a command that finds a Node.js that is new enough", () => {
    assert.ok(existsSync(bin));
    assert.match(run(bin, ["--version"], { cwd: dir, env: bare }), /^\d+\.\d+\.\d+/);
  });

  it("judges a trend", () => {
    const lines = Array.from({ length: 300 }, (_, t) => JSON.stringify({ t: t * 15, v: 100e6 + t * 1e6 })).join("\n");
    const verdict = JSON.parse(run(bin, ["trend", "--limit", "1Gi", "--json"], { cwd: dir, env: bare, input: lines })) as {
      leaking: boolean;
    };
    assert.equal(verdict.leaking, true);
  });

  it("rehearses a policy with a scenario that comes with it", () => {
    const policies = join(root, "examples/rehearsal/policies.yaml");
    const report = JSON.parse(run(bin, ["rehearse", "-f", policies, "--scenario", "leak", "--json"], { cwd: dir, env: bare })) as {
      runs: { faults: { result: string }[] }[];
    };
    assert.equal(report.runs[0]?.faults[0]?.result, "Healed");
  });

  it("checks a policy", () => {
    run(bin, ["policy", "check", join(root, "examples/policies")], { cwd: dir, env: bare });
  });
});
