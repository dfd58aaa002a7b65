import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
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
    timeout: 600_000,
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

  it("keeps what Node has compiled in the user's cache, and runs where there can be none", () => {
    const home = mkdtempSync(join(tmpdir(), "nightshift-home-"));
    const { NODE_COMPILE_CACHE: _own, XDG_CACHE_HOME: _cache, ...env } = bare;
    try {
      // Below /proc no directory can be made.
      for (const HOME of [home, "/proc"])
        assert.match(run(join(root, "bin/nightshift"), ["--version"], { env: { ...env, HOME } }), /^\d+\.\d+\.\d+/);
      assert.ok(readdirSync(join(home, ".cache/nightshift/compiled")).length > 0);
    } finally {
      rmSync(home, { recursive: true, force: true });
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
    assert.ok(!paths.some((path) => /\.test\.(js|d\.ts)/.test(path)), "the package carries tests");
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

  describe("of applications", () => {
    let app = "";

    before(() => {
      const [packed] = JSON.parse(run("npm", ["pack", "./hints", "--json", "--pack-destination", dir])) as {
        filename: string;
        files: { path: string }[];
      }[];
      assert.ok(packed !== undefined);
      const paths = packed.files.map(({ path }) => path);
      assert.ok(
        ["dist/index.js", "dist/index.d.ts", "dist/pg.js", "dist/undici.d.ts"].every((path) => paths.includes(path)),
        String(paths),
      );
      assert.ok(!paths.some((path) => path.includes(".test.")), "the package carries tests");
      app = join(dir, "app");
      mkdirSync(app);
      writeFileSync(join(app, "package.json"), "{}");
      run("npm", ["install", "--prefer-offline", join(dir, packed.filename)], { env: bare, cwd: app });
      assert.deepEqual(
        readdirSync(join(app, "node_modules")).filter((name) => !name.startsWith(".")),
        ["@nightshift"],
        "it has no dependencies",
      );
    });

    // What applications run on, which need not be what Nightshift runs on.
    const node = (type: "module" | "commonjs", text: string): string =>
      run("node", [`--input-type=${type}`], { cwd: app, env: bare, input: text });
    const say = "process.stdout.write(String(actions.port > 0))";
    const key = generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "pem" }).toString();
    const options = JSON.stringify({ key, uid: "u", port: 0 });

    it("is imported", () => {
      const text = `import { serveActions, hints } from "@nightshift/hints";
        import { resetPgPool } from "@nightshift/hints/pg"; import { resetIoRedis } from "@nightshift/hints/ioredis";
        const actions = await serveActions(${options}); actions.onPoolReset(resetIoRedis([])); ${say}; await actions.close();`;
      assert.equal(node("module", text), "true");
    });

    it("is required", () => {
      const text = `const { serveActions } = require("@nightshift/hints");
        serveActions(${options}).then(async (actions) => { ${say}; await actions.close(); });`;
      assert.equal(node("commonjs", text), "true");
    });

    it("says what it lacks", () => {
      const text = `import { hints } from "@nightshift/hints"; try { hints(); } catch (error) { process.stdout.write(error.code); }`;
      assert.equal(node("module", text), "NO_METER");
    });

    it("has types that strict TypeScript takes", () => {
      writeFileSync(
        join(app, "app.mts"),
        `import { type ActionHandler, hints, serveActions } from "@nightshift/hints";
        import { resetPgPool, type PgPool } from "@nightshift/hints/pg";
        declare const pool: PgPool;
        const handler: ActionHandler = resetPgPool(pool, { drainMs: 10 });
        (await serveActions({ port: 1 })).onPoolReset(handler).on("own", async ({ signal }) => String(signal.aborted));
        // @ts-expect-error a handler says what it did in words
        (await serveActions()).onCacheFlush(() => 1);
        hints({ flush: async () => undefined })("pool-reset", "connections");`,
      );
      const types = ["--typeRoots", join(root, "node_modules/@types"), "--types", "node"];
      run(join(root, "node_modules/.bin/tsc"), ["--noEmit", "--strict", "--module", "nodenext", ...types, "app.mts"], { cwd: app });
    });
  });

  it("checks a policy", () => {
    run(bin, ["policy", "check", join(root, "examples/policies")], { cwd: dir, env: bare });
  });
});
