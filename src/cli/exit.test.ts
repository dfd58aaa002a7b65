import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { NightshiftError } from "../api/errors.ts";
import { errorText, EXIT, EXIT_CODES, exitCodeOf } from "./exit.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));

describe("exit statuses", () => {
  it("by what went wrong", () => {
    for (const code of [
      "STORE_UNAVAILABLE",
      "STORE_CORRUPT",
      "STATE_IN_USE",
      "STATE_UNUSABLE",
      "AUDIT_IN_USE",
      "LISTEN_FAILED",
      "OVERLOADED",
    ])
      assert.equal(exitCodeOf(new NightshiftError(code, "x")), EXIT.UNAVAILABLE, code);
    for (const code of ["NOT_FOUND", "INVALID_RESOURCES", "NO_STATE", "NOT_AWAITING_APPROVAL"])
      assert.equal(exitCodeOf(new NightshiftError(code, "x")), EXIT.USAGE, code);
    assert.equal(exitCodeOf(new NightshiftError("DEMO_INTERRUPTED", "x")), EXIT.INTERRUPTED);
    for (const bug of [new NightshiftError("INTERNAL", "x"), new TypeError("x"), "x", undefined])
      assert.equal(exitCodeOf(bug), EXIT.INTERNAL);
  });
  it("all of them are documented", () => {
    for (const status of Object.values(EXIT)) assert.match(EXIT_CODES, new RegExp(`^ {2}${status} `, "m"));
  });
  it("an error is one line, or one JSON document; a bug has its stack", () => {
    const error = new NightshiftError("NOT_FOUND", "no such thing", { where: "here", fix: "Look there." });
    assert.equal(errorText(error, false), "nightshift: here: no such thing [NOT_FOUND] Look there.\n");
    assert.deepEqual(JSON.parse(errorText(error, true)), {
      error: { code: "NOT_FOUND", message: "no such thing", where: "here", fix: "Look there." },
    });
    assert.match(errorText(new TypeError("oh"), false), /this is a bug: oh \[INTERNAL\]\nTypeError: oh\n +at /);
    assert.equal((JSON.parse(errorText(new TypeError("oh"), true)) as { error: { code: string } }).error.code, "INTERNAL");
  });
});

describe("the command itself", () => {
  let dir = "";
  before(() => {
    dir = mkdtempSync(join(tmpdir(), "nightshift-cli-"));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, ...args], {
      cwd: dir,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { code: code as number | null, stdout, stderr };
  }

  it("called wrongly: 2, and nothing on stdout", async () => {
    for (const args of [
      ["bogus"],
      ["--bogus"],
      ["up"],
      ["audit", "list", "--limit", "0"],
      ["approve"],
      ["completion", "fish"],
      ["trend"],
    ]) {
      const { code, stdout, stderr } = await run(...args);
      assert.deepEqual([code, stdout], [EXIT.USAGE, ""], args.join(" "));
      assert.notEqual(stderr, "");
    }
  });

  it("help of a command that there is not: as the command itself, with what may be meant", async () => {
    for (const [args, meant] of [
      [["polcy", "--help"], "policy"],
      [["polcy", "check", "-h"], "policy"],
      [["policy", "chek", "--help"], "check"],
      [["help", "polcy"], "policy"],
      [["help", "policy", "chek"], "check"],
      [["policy", "help", "chek"], "check"],
      [["run", "--help"], undefined],
    ] as const) {
      const { code, stdout, stderr } = await run(...args);
      assert.deepEqual([code, stdout], [EXIT.USAGE, ""], args.join(" "));
      assert.match(stderr, /^error: unknown command '(polcy|chek|run)'\n/, args.join(" "));
      if (meant !== undefined) assert.ok(stderr.includes(`(Did you mean ${meant}?)\n`), stderr);
      assert.ok(stderr.split("\n").length < 6, stderr);
    }
  });

  it("help and version: 0, on stdout; every command's help has an example", async () => {
    const { code, stdout } = await run("--help");
    assert.equal(code, 0);
    assert.match(stdout, /Exit codes: 0 yes, 1 no, 2 wrong use/);
    assert.match((await run("--version")).stdout, /^\d+\.\d+\.\d+\n$/);
    assert.equal((await run("help", "exit-codes")).stdout, EXIT_CODES);
    for (const command of [
      "demo",
      "up",
      "status",
      "approve",
      "audit list",
      "audit show",
      "audit verify",
      "policy check",
      "trend",
      "completion",
    ])
      assert.match((await run(...command.split(" "), "--help")).stdout, /Examples:\n {2}\$ /, command);
  });

  it("input that cannot be used: 2; with --json the error is one JSON document on stderr, stdout stays clean", async () => {
    for (const args of [
      ["up", "-f", "nowhere.yaml"],
      ["status", "--state", "nowhere"],
      ["approve", "x", "--state", "nowhere"],
      ["audit", "verify", "--state", "nowhere"],
      ["audit", "list", "--state", "nowhere"],
      ["audit", "show", "x", "--state", "nowhere"],
    ]) {
      const plain = await run(...args);
      assert.deepEqual([plain.code, plain.stdout], [EXIT.USAGE, ""], args.join(" "));
      assert.match(plain.stderr, /\[[A-Z_]+\]/);
      const json = await run(...args, "--json");
      assert.deepEqual([json.code, json.stdout], [EXIT.USAGE, ""], args.join(" "));
      assert.match((JSON.parse(json.stderr.trim().split("\n").at(-1) ?? "") as { error: { code: string } }).error.code, /^[A-Z_]+$/);
    }
  });

  it("what is needed and cannot be had: 69", async () => {
    const squatter = createServer().listen(0, "127.0.0.1");
    await once(squatter, "listening");
    const { port } = squatter.address() as AddressInfo;
    writeFileSync(
      join(dir, "stack.yaml"),
      `listen: 127.0.0.1:${port}\ngrpcListen: 127.0.0.1:0\nworkloads: [{ name: web, command: [sleep, "1000"] }]\n`,
    );
    const { code, stderr } = await run("up", "-f", "stack.yaml");
    squatter.close();
    assert.equal(code, EXIT.UNAVAILABLE, stderr);
    assert.match(stderr, /\[LISTEN_FAILED\]/);
    mkdirSync(join(dir, "state", "nightshift.db"), { recursive: true });
    assert.equal((await run("up", "-f", "stack.yaml", "--state", "state")).code, EXIT.UNAVAILABLE);
  });

  it("a reader that has seen enough is no error; one of messages that is gone does not end what they are about", async () => {
    const reading = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, "crds"], { stdio: ["ignore", "pipe", "pipe"] });
    reading.stdout.once("data", () => reading.stdout.destroy());
    const [stderr, [code]] = await Promise.all([text(reading.stderr), once(reading, "exit")]);
    assert.deepEqual([code, stderr], [0, ""]);

    const free = createServer().listen(0, "127.0.0.1");
    await once(free, "listening");
    const { port } = free.address() as AddressInfo;
    free.close();
    writeFileSync(
      join(dir, "mute.yaml"),
      `listen: 127.0.0.1:${port}\ngrpcListen: 127.0.0.1:0\nworkloads: [{ name: web, command: [sleep, "1000"] }]\n`,
    );
    const up = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, "up", "-f", "mute.yaml", "--state", "mute"], {
      cwd: dir,
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = once(up, "exit");
    let said = "";
    await new Promise<void>((resolve) => {
      up.stderr.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes("state in")) resolve();
      });
    });
    assert.match(said, new RegExp(`listening on http://127\\.0\\.0\\.1:${port}, and for OTLP over gRPC on http://127\\.0\\.0\\.1:[1-9]`));
    up.stderr.destroy();
    up.kill("SIGHUP");
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(up.exitCode, null, "it goes on without a reader");
    up.kill("SIGTERM");
    assert.deepEqual(await ended, [0, null]);
  });
});
