// npm run build: JavaScript with source maps under dist/, for the npm package and the image. A checkout runs without it.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, globSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

const root = resolve(dirname(import.meta.filename), "..");
rmSync(join(root, "dist"), { recursive: true, force: true });
const tsc = spawnSync(join(root, "node_modules/.bin/tsc"), ["-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);
// The library of applications is a package of its own.
rmSync(join(root, "hints/dist"), { recursive: true, force: true });
const hints = spawnSync(join(root, "node_modules/.bin/tsc"), ["-p", "hints/tsconfig.json"], { cwd: root, stdio: "inherit" });
if (hints.status !== 0) process.exit(hints.status ?? 1);
// What the examples need beside code: policies and stack files.
for (const file of globSync("examples/**/*.{yaml,yml,json,md}", { cwd: root }))
  cpSync(join(root, file), join(root, "dist", file), { recursive: true });
if (!existsSync(join(root, "dist/src/cli/main.js"))) throw new Error("the build has no dist/src/cli/main.js");
