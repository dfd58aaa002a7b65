import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { it } from "node:test";

const src = resolve(import.meta.dirname, "../src");
const agent = resolve(import.meta.dirname, "../agent");
const hints = resolve(import.meta.dirname, "../hints");

/** What each room may import, beside itself (docs/architecture.md, "Import order"). */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  api: [],
  ports: ["api"],
  observe: ["api", "ports"],
  orient: ["api", "ports", "observe"],
  decide: ["api", "ports", "observe", "orient"],
  act: ["api", "ports", "observe", "orient", "decide"],
  record: ["api", "ports", "observe", "orient", "decide", "act"],
  loop: ["api", "ports", "observe", "orient", "decide", "act", "record"],
  platform: ["api", "ports", "observe"],
  // The simulator is a platform, and puts the whole together on it to prove the rules. Only commands import it.
  "platform/sim": ["api", "ports", "observe", "orient", "decide", "act", "record", "loop", "platform"],
  server: ["api", "ports", "observe", "orient", "decide", "act", "record"],
  cli: ["api", "ports", "observe", "orient", "decide", "act", "record", "loop", "platform", "platform/sim", "server"],
};

/** Every relative specifier of a module: static, type-only, re-exported and dynamic imports alike. */
function imports(text: string): string[] {
  return [...text.matchAll(/(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)"(\.[^"]+)"/g)].map((match) => match[1] ?? "");
}

const room = (path: string): string => {
  const [first = "", second = ""] = path.slice(src.length + 1).split("/");
  return `${first}/${second}` in ALLOWED ? `${first}/${second}` : first;
};

it("imports run one way", () => {
  const files = globSync("**/*.ts", { cwd: src }).filter((file) => !file.endsWith(".test.ts"));
  assert.ok(files.length > 50, `only ${files.length} files`);
  const wrong: string[] = [];
  let seen = 0;
  for (const file of files) {
    const path = join(src, file);
    for (const specifier of imports(readFileSync(path, "utf8"))) {
      const target = resolve(dirname(path), specifier);
      seen += 1;
      const from = room(path);
      if (!target.startsWith(`${src}/`)) {
        // The demo is the command for the example shop, and the agent has a command.
        // What applications and Nightshift sign is one text; and what a fixture runs is an application.
        if (
          from.startsWith("platform") &&
          (target === join(hints, "protocol.ts") || (file.includes("/fixtures/") && target.startsWith(`${hints}/`)))
        )
          continue;
        if (from === "cli" && (target.includes("/examples/") || target.startsWith(`${agent}/`))) continue;
        wrong.push(`${file} imports ${specifier}, outside src`);
      } else if (room(target) !== from && !(ALLOWED[from] ?? []).includes(room(target))) wrong.push(`${file} imports ${specifier}`);
    }
  }
  assert.ok(seen > 100, `only ${seen} imports were found`);
  assert.deepEqual(wrong, []);
});

it("the node agent stands on the API, the ports and what platforms share", () => {
  const files = globSync("**/*.ts", { cwd: agent }).filter((file) => !file.endsWith(".test.ts") && !file.includes("fixtures/"));
  assert.ok(files.length > 10, `only ${files.length} files`);
  const allowed = ["api", "ports", "platform/kubernetes", "platform/capture", "platform/linux"].map((dir) => join(src, dir));
  const wrong = files.flatMap((file) => {
    const path = join(agent, file);
    return imports(readFileSync(path, "utf8")).flatMap((specifier) => {
      const target = resolve(dirname(path), specifier);
      return target.startsWith(`${agent}/`) || allowed.some((dir) => target.startsWith(`${dir}/`))
        ? []
        : [`agent/${file} imports ${specifier}`];
    });
  });
  assert.deepEqual(wrong, []);
});

it("the library of applications stands on nothing of Nightshift's", () => {
  const files = globSync("*.ts", { cwd: hints }).filter((file) => !file.endsWith(".test.ts"));
  assert.ok(files.length > 5, `only ${files.length} files`);
  const wrong = files.flatMap((file) =>
    imports(readFileSync(join(hints, file), "utf8")).flatMap((specifier) =>
      dirname(resolve(hints, specifier)) === hints ? [] : [`hints/${file} imports ${specifier}`],
    ),
  );
  assert.deepEqual(wrong, []);
});

it("every room is known here", () => {
  const rooms = new Set(globSync("*/", { cwd: src }).map((dir) => dir.replace(/\/$/, "")));
  const known = Object.keys(ALLOWED).filter((name) => !name.includes("/"));
  assert.deepEqual([...rooms].sort(), known.sort());
});
