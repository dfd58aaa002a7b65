import type { Command } from "commander";
import { checkResources } from "../../api/check.ts";
import { NightshiftError } from "../../api/errors.ts";
import { inOrder, parseResources, problemText, type ParsedResource, type Problem } from "../../api/parse.ts";
import { resourceFiles } from "../files.ts";

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

/**
 * Checks files, and what lies below directories, all together. A file that is named is always checked; one that is found
 * below a directory only if it has an `apiVersion` of Nightshift's group, as manifests of all sorts live side by side.
 * Rejects with `NO_SUCH_FILE` or `FILE_UNREADABLE`, also when there is nothing to check at all.
 */
export async function checkFiles(paths: readonly string[], options: { strict?: boolean; now: number }): Promise<CheckReport> {
  const found = await resourceFiles(paths);
  const files = found.files.map(({ path }) => path);
  const resources: ParsedResource[] = [];
  const problems: Problem[] = [];
  for (const { path, text } of found.files) {
    const parsed = parseResources(text, path);
    resources.push(...parsed.resources);
    problems.push(...parsed.errors);
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
    skipped: found.skipped,
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
