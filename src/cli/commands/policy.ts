import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { checkResources } from "../../api/check.ts";
import { messageOf, NightshiftError } from "../../api/errors.ts";
import { inOrder, parseResources, problemText, type ParsedResource, type Problem } from "../../api/parse.ts";

/** What `policy check --json` prints. */
export interface CheckReport {
  /** No errors; with `--strict` no warnings either. */
  readonly ok: boolean;
  /** Files that were read. */
  readonly files: readonly string[];
  /** Files below a directory that hold nothing of Nightshift's. */
  readonly skipped: readonly string[];
  /** Resources that are well-formed. */
  readonly resources: readonly {
    readonly kind: string;
    readonly namespace: string;
    readonly name: string;
    readonly file: string;
    readonly line: number;
  }[];
  readonly errors: number;
  readonly warnings: number;
  readonly problems: readonly Problem[];
}

const EXTENSIONS = /\.(ya?ml|json)$/i;

/** YAML and JSON files below a directory, in order; nothing hidden, no `node_modules`, each directory once however it is linked. */
async function filesBelow(directory: string, seen: Set<string>): Promise<string[]> {
  const real = await realpath(directory);
  if (seen.has(real)) return [];
  seen.add(real);
  const files: string[] = [];
  const names = (await readdir(directory)).sort();
  for (const name of names) {
    if (name.startsWith(".") || name === "node_modules") continue;
    const path = join(directory, name);
    const kind = await stat(path).catch(() => undefined);
    if (kind?.isDirectory()) files.push(...(await filesBelow(path, seen)));
    else if (kind?.isFile() && EXTENSIONS.test(name)) files.push(path);
  }
  return files;
}

/**
 * Checks files, and what lies below directories, all together. A file that is named is always checked; one that is found
 * below a directory only if it mentions Nightshift's API group, as manifests of all sorts live side by side.
 * Rejects with `NO_SUCH_FILE` or `FILE_UNREADABLE`, also when there is nothing to check at all.
 */
export async function checkFiles(paths: readonly string[], options: { strict?: boolean; now: number }): Promise<CheckReport> {
  const files: string[] = [];
  const skipped: string[] = [];
  const resources: ParsedResource[] = [];
  const problems: Problem[] = [];
  const done = new Set<string>();
  const check = async (path: string, named: boolean): Promise<void> => {
    const real = await realpath(path);
    if (done.has(real)) return;
    const text = await readFile(path, "utf8");
    if (!named && !text.includes("nightshift.dev/")) return void skipped.push(path);
    done.add(real);
    files.push(path);
    const parsed = parseResources(text, path);
    resources.push(...parsed.resources);
    problems.push(...parsed.errors);
  };
  const directories = new Set<string>();
  for (const path of paths) {
    try {
      if ((await stat(path)).isDirectory()) for (const file of await filesBelow(path, directories)) await check(file, false);
      else await check(path, true);
    } catch (error) {
      const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
      throw new NightshiftError(missing ? "NO_SUCH_FILE" : "FILE_UNREADABLE", missing ? "no such file or directory" : messageOf(error), {
        where: path,
        fix: missing ? "Check the path." : "Check its permissions.",
        cause: error,
      });
    }
  }
  if (files.length === 0)
    throw new NightshiftError("NO_SUCH_FILE", "no file with a Nightshift resource", {
      where: paths.join(", "),
      fix: "Name the files, or a directory with .yaml, .yml or .json files in it.",
    });
  problems.push(...checkResources(resources, options.now));
  const errors = problems.filter((problem) => problem.severity === "error").length;
  const warnings = problems.length - errors;
  return {
    ok: errors === 0 && (options.strict !== true || warnings === 0),
    files,
    skipped,
    resources: resources.map(({ resource, at }) => ({
      kind: resource.kind,
      namespace: resource.metadata.namespace,
      name: resource.metadata.name,
      file: at.file,
      line: at.line,
    })),
    errors,
    warnings,
    problems: inOrder(problems),
  };
}

const count = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;

/** The report as compilers write it. */
export function reportText(report: CheckReport): string {
  const skipped = report.skipped.length === 0 ? "" : `; ${count(report.skipped.length, "other file")} skipped`;
  return [
    ...report.problems.map(problemText),
    `${count(report.resources.length, "resource")} in ${count(report.files.length, "file")}: ${count(report.errors, "error")}, ${count(report.warnings, "warning")}${skipped}`,
    "",
  ].join("\n");
}

const HELP = `
Examples:
  $ nightshift policy check policies/payments.yaml
  $ nightshift policy check policies/ runbooks/        all together: references between them are checked
  $ nightshift policy check --strict --json policies/  for CI

Exit status:
  0  nothing wrong, or warnings only (with --strict: no warnings either)
  1  at least one error
  2  a file does not exist or cannot be read, or the command was called wrongly`;

/** Adds `policy check` to the program. */
export function register(program: Command): void {
  const policy = program.command("policy").description("work with policy files");
  policy
    .command("check")
    .description("check policies, runbooks, budgets and dependencies before they are applied")
    .argument("<path...>", "files, or directories with .yaml, .yml or .json files")
    .option("--json", "print one JSON document")
    .option("--strict", "fail on warnings too")
    .addHelpText("after", HELP)
    .action(async (paths: string[], options: { json?: boolean; strict?: boolean }) => {
      try {
        const report = await checkFiles(paths, { now: Date.now(), ...(options.strict === undefined ? {} : { strict: options.strict }) });
        process.stdout.write(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
        process.exitCode = report.ok ? 0 : 1;
      } catch (error) {
        if (!(error instanceof NightshiftError)) throw error;
        if (options.json === true) process.stdout.write(`${JSON.stringify({ ok: false, error }, null, 2)}\n`);
        process.stderr.write(`nightshift: ${error.toString()}\n`);
        process.exitCode = 2;
      }
    });
}
