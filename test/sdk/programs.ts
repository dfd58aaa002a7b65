import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheDir } from "../cluster/toolchain.ts";

/** A language whose official OpenTelemetry SDK is tried. */
export type Language = "go" | "python" | "java" | "node";

interface Preparation {
  /** Programs that it takes to prepare it, all on PATH. */
  readonly needs: readonly string[];
  /** Brings the SDK, in the versions that the sources pin, and the program into `dir`; once. */
  readonly prepare: (source: string, dir: string) => void;
  /** The command that runs it. */
  readonly command: (dir: string) => readonly string[];
}

const PREPARATIONS: Readonly<Record<Language, Preparation>> = {
  go: {
    needs: ["go"],
    prepare: (source, dir) => run(["go", "build", "-o", join(dir, "hint"), "."], source, { CGO_ENABLED: "0" }),
    command: (dir) => [join(dir, "hint")],
  },
  python: {
    needs: ["python3"],
    prepare: (source, dir) => {
      run(["python3", "-m", "venv", join(dir, "venv")], source);
      run([join(dir, "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"], source);
    },
    command: (dir) => [join(dir, "venv/bin/python"), join(import.meta.dirname, "python/hint.py")],
  },
  java: {
    needs: ["mvn", "javac"],
    prepare: (source, dir) => {
      const libs = join(dir, "libs");
      run(["mvn", "-B", "-q", "dependency:copy-dependencies", `-DoutputDirectory=${libs}`, "-DincludeScope=runtime"], source);
      run(["javac", "-cp", join(libs, "*"), "-d", dir, "Hint.java"], source);
    },
    command: (dir) => ["java", "-cp", `${join(dir, "libs", "*")}:${dir}`, "Hint"],
  },
  node: {
    needs: ["npm"],
    prepare: (source, dir) => {
      for (const file of ["package.json", "package-lock.json", "hint.mjs"]) copyFileSync(join(source, file), join(dir, file));
      run(["npm", "ci", "--ignore-scripts", "--loglevel=error", "--no-audit", "--no-fund"], dir);
    },
    command: (dir) => [process.execPath, join(dir, "hint.mjs")],
  },
};

/** What this machine lacks to try a language's SDK, or false; with `CI=true` always false, so that the lane fails there. */
export function lackingFor(language: Language): string | false {
  if (process.env["CI"] === "true" || existsSync(markOf(language))) return false;
  const lacks = PREPARATIONS[language].needs.filter((program) => spawnSync("which", [program]).status !== 0);
  return lacks.length > 0 && `left out, because this machine lacks ${lacks.join(" and ")}`;
}

/** The command that sends hints by a language's SDK; the first time it is built, into the cache. */
export function programOf(language: Language): readonly string[] {
  const { prepare, command } = PREPARATIONS[language];
  const dir = dirOf(language);
  if (!existsSync(markOf(language))) {
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
    prepare(sourceOf(language), dir);
    writeFileSync(markOf(language), "");
  }
  return command(dir);
}

const sourceOf = (language: Language): string => join(import.meta.dirname, language);

/** Named for the digest of what it is made of. */
function dirOf(language: Language): string {
  const hash = createHash("sha256");
  for (const file of readdirSync(sourceOf(language)).toSorted())
    hash.update(`${file}\0`).update(readFileSync(join(sourceOf(language), file)));
  return join(cacheDir(), "sdk", `${language}-${hash.digest("hex").slice(0, 16)}`);
}

const markOf = (language: Language): string => join(dirOf(language), "prepared");

function run([program = "", ...argv]: readonly string[], cwd: string, env: Readonly<Record<string, string>> = {}): void {
  const { status, stderr, stdout, error } = spawnSync(program, argv, { cwd, env: { ...process.env, ...env }, encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${argv.join(" ")}: ${error?.message ?? `${stdout}${stderr}`}`);
}
