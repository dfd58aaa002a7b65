import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { checkResources } from "../../api/check.ts";
import { type Cluster, clusterSchema, MAX_CLUSTER_CHARS } from "../../api/cluster.ts";
import { messageOf, NightshiftError } from "../../api/errors.ts";
import { parseDocument, type ParsedResource } from "../../api/parse.ts";
import { MODES, type Mode } from "../../api/policy.ts";
import { closest } from "../../api/suggest.ts";
import type { Resources } from "../../platform/sim/rehearsal/cast.ts";
import type { FaultReport, RehearsalReport } from "../../platform/sim/rehearsal/rehearse.ts";
import type { ScenarioFile } from "../../platform/sim/rehearsal/scenario-file.ts";
import type { Naming } from "../../platform/sim/rehearsal/symptoms.ts";
import { SYMPTOMS } from "../../platform/sim/scenario.ts";
import { EXIT } from "../exit.ts";
import { problemsError, readResources } from "../resources.ts";
import { ageText, formatTable, printable } from "../table.ts";

interface Options {
  readonly filename?: readonly string[];
  readonly cluster?: string;
  readonly scenario?: readonly string[];
  readonly target?: readonly string[];
  readonly map?: readonly Naming[];
  readonly mode?: Mode;
  readonly seed: number;
  readonly trace?: boolean;
  readonly json?: boolean;
}

/** What `--json` prints. */
export interface RehearseReport {
  /** Something was played, everything came as the scenarios expect, and no rule was broken. */
  readonly ok: boolean;
  readonly runs: readonly RehearsalReport[];
  /** Scenarios that the cluster has not what they speak of for. */
  readonly notPlayed: readonly { readonly scenario: string; readonly target: string; readonly why: string }[];
  /** What holds for all scenarios: policies that take no part, or that listen to what nothing is known of. */
  readonly remarks: readonly string[];
}

/** Where the scenarios are that come with Nightshift. */
const SHIPPED = resolve(import.meta.dirname, "../../../examples/scenarios");
/** How long nothing is said of the progress (ms), and how often then. */
const QUIET_MS = 1_000;
const EXTENSION = /\.ya?ml$/;

const more = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

function naming(text: string, before: readonly Naming[] = []): readonly Naming[] {
  const at = text.indexOf("=");
  const [symptom, name] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 1 || name === "") throw new InvalidArgumentError("Expected SYMPTOM=NAME, such as DiskFull=PaymentsVolumeFull.");
  const known = SYMPTOMS.find((each) => each === symptom);
  if (known === undefined) throw new InvalidArgumentError(`${symptom} is no symptom: one of ${SYMPTOMS.join(", ")}.`);
  return [...before, { symptom: known, name }];
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("Expected a whole number.");
  return value;
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new NightshiftError(missing ? "NO_SUCH_FILE" : "FILE_UNREADABLE", missing ? "no such file" : messageOf(error), {
      where: path,
      fix: missing ? "Check the path." : "Check its permissions.",
      cause: error,
    });
  }
}

/** Names of the scenarios that come with Nightshift. */
async function shipped(): Promise<string[]> {
  return (await readdir(SHIPPED))
    .filter((file) => EXTENSION.test(file))
    .map((file) => file.replace(EXTENSION, ""))
    .sort();
}

/** The files of the scenarios that are asked for: by name, by path, or all. */
async function scenarioPaths(wanted: readonly string[]): Promise<string[]> {
  const names = await shipped();
  const paths: string[] = [];
  for (const each of wanted) {
    if (each === "all") paths.push(...names.map((name) => join(SHIPPED, `${name}.yaml`)));
    else if (names.includes(each)) paths.push(join(SHIPPED, `${each}.yaml`));
    else if (EXTENSION.test(each) || each.includes("/")) {
      const directory = await stat(each).catch(() => undefined);
      if (directory?.isDirectory() === true) {
        const files = (await readdir(each)).filter((file) => EXTENSION.test(file)).sort();
        if (files.length === 0)
          throw new NightshiftError("UNKNOWN_SCENARIO", "there is no scenario in the directory", {
            where: each,
            fix: "Name a directory with files that end in .yaml.",
          });
        paths.push(...files.map((file) => join(each, file)));
      } else paths.push(each);
    } else {
      const meant = closest(each, names);
      throw new NightshiftError("UNKNOWN_SCENARIO", `there is no scenario ${each}`, {
        where: "--scenario",
        fix: `${meant === undefined ? "" : `Did you mean ${meant}? `}There are ${names.join(", ")}; the path of a file of your own ends in .yaml.`,
      });
    }
  }
  return [...new Set(paths)];
}

async function scenarioOf(path: string): Promise<ScenarioFile> {
  const { scenarioFileSchema } = await import("../../platform/sim/rehearsal/scenario-file.ts");
  const { value, errors } = parseDocument(await read(path), path, scenarioFileSchema);
  if (value === undefined) throw problemsError(errors, "the scenario", "Mend the lines above; docs/reference.md has every field.");
  return value;
}

/** The cluster that is described, and what else stands beside it. */
async function clusterOf(path: string): Promise<{ readonly cluster: Cluster; readonly beside: readonly string[] }> {
  const directory = (await stat(path).catch(() => undefined))?.isDirectory() === true;
  const file = directory ? join(path, "cluster.yaml") : path;
  const { value, errors } = parseDocument(await read(file), file, clusterSchema, MAX_CLUSTER_CHARS);
  if (value === undefined) throw problemsError(errors, "the cluster", "Mend the lines above; docs/reference.md has every field.");
  const resources = join(path, "resources");
  const known = directory && (await stat(resources).catch(() => undefined))?.isDirectory() === true;
  return { cluster: value, beside: known ? [resources] : [] };
}

/** The resources of files, those of `first` in the place of others of the same name. */
async function resourcesOf(first: readonly string[], beside: readonly string[]): Promise<Resources> {
  const own = await readResources(first);
  const other = await readResources(beside);
  const key = ({ resource: { kind, metadata } }: ParsedResource): string => `${kind}/${metadata.namespace}/${metadata.name}`;
  const taken = new Set(own.resources.map(key));
  const all = [...own.resources, ...other.resources.filter((each) => !taken.has(key(each)))];
  const problems = [...own.errors, ...other.errors, ...checkResources(all, Date.now())].filter(({ severity }) => severity === "error");
  if (problems.length > 0) throw problemsError(problems, "the policies");
  const resources = all.map(({ resource }) => resource);
  const policies = resources.filter((each) => each.kind === "RemediationPolicy");
  if (policies.length === 0)
    throw new NightshiftError("NOTHING_TO_REHEARSE", "there is no policy to rehearse", {
      where: [...first, ...beside].join(", ") || "-f",
      fix: "Name the files of your policies with -f, or a snapshot of a cluster that has some with --cluster.",
    });
  return {
    policies,
    budgets: resources.filter((each) => each.kind === "RemediationBudget"),
    runbooks: resources.filter((each) => each.kind === "Runbook"),
    dependencies: resources.filter((each) => each.kind === "ServiceDependency"),
  };
}

const seconds = (s: number): string => ageText(s * 1000);

/** Most rows of one fault and result that are shown each for itself. */
const MAX_ROWS = 4;

/** Rows of a table, those that fare alike together where there are many. */
function faultRows(faults: readonly FaultReport[]): string[][] {
  const groups = Map.groupBy(faults, ({ kind, result, through }) => `${kind} ${result} ${through === true}`);
  return [...groups.values()].flatMap((all) => {
    const row = ({ kind, workload, through, result, afterSeconds, by }: FaultReport, whose = workload): string[] => [
      kind,
      `${whose}${through === true ? " (by what it calls)" : ""}`,
      result,
      afterSeconds === undefined ? "" : seconds(afterSeconds),
      by.join("; "),
    ];
    const [first] = all;
    if (first === undefined) return [];
    return all.length <= MAX_ROWS ? all.map((each) => row(each)) : [row(first, `${first.workload} and ${all.length - 1} more`)];
  });
}

/** One run for people. */
function runText(run: RehearsalReport): string {
  const lines = [`${run.scenario} on ${run.target}: ${printable(run.description)}`];
  if (run.faults.length > 0)
    lines.push(
      ...formatTable(["FAULT", "WORKLOAD", "RESULT", "AFTER", "BY"], faultRows(run.faults))
        .trimEnd()
        .split("\n")
        .map((line) => `  ${line}`),
    );
  const whys = new Set(run.faults.map(({ kind, result, why }) => `  ${kind} ${result}: ${printable(why)}`));
  lines.push(...[...whys].slice(0, MAX_ROWS));
  if (run.uncovered.length > 0)
    lines.push(
      `  befallen too, and covered by no policy: ${run.uncovered.slice(0, 8).join(", ")}${run.uncovered.length > 8 ? ` and ${run.uncovered.length - 8} more` : ""}`,
    );
  for (const { workload, desired, most, throughNightshift, at, budget } of run.unavailable)
    lines.push(
      `  unavailable: at most ${most} of ${desired} of ${workload}${most > 0 ? ` at ${seconds(at)}` : ""}, ${throughNightshift} of them through Nightshift${budget === undefined ? "" : `; ${budget.source} allows ${budget.allowed}`}`,
    );
  for (const { gate, policy, workload, at, times, message } of run.heldBack.slice(0, 12))
    lines.push(
      `  held back: ${gate} at ${seconds(at)}${times > 1 ? `, ${times} times` : ""}: ${policy} on ${workload}: ${printable(message)}`,
    );
  if (run.heldBack.length > 12) lines.push(`  held back: ${run.heldBack.length - 12} more; --json has them all`);
  for (const { workload, policies, message } of run.conflicts)
    lines.push(`  conflict: ${policies.join(" and ")} on ${workload}: ${printable(message)}`);
  for (const { at, summary } of run.pages) lines.push(`  page at ${seconds(at)}: ${printable(summary)}`);
  for (const each of run.unmet) lines.push(`  NOT AS EXPECTED: ${each}`);
  for (const { rule, message, at } of run.violations)
    lines.push(`  RULE ${rule} BROKEN at ${seconds(at)}, which is a bug in Nightshift: ${printable(message)}`);
  return `${lines.join("\n")}\n`;
}

/** All runs in one table: what came of the faults on the target, or on others where none befell it. */
function overviewText(runs: readonly RehearsalReport[]): string {
  if (runs.length < 2) return "";
  const rows = runs.map(({ scenario, target, faults, pages, unmet, violations }) => {
    const own = faults.filter(({ workload }) => workload === target);
    const results = new Set((own.length > 0 ? own : faults).map(({ result }) => result));
    const verdict = violations.length > 0 ? "RULE BROKEN" : unmet.length > 0 ? "no" : "yes";
    return [scenario, target, [...results].join(", "), String(pages.length), verdict];
  });
  return `${formatTable(["SCENARIO", "TARGET", "RESULT", "PAGES", "AS EXPECTED"], rows)}\n`;
}

function summaryText({ runs, notPlayed, remarks }: RehearseReport): string {
  const results = Map.groupBy(
    runs.flatMap(({ faults }) => faults),
    ({ result }) => result,
  );
  const counts = [...results].map(([result, all]) => `${all.length} ${result}`).join(", ");
  const bad = runs.filter(({ unmet }) => unmet.length > 0).length;
  const broken = runs.filter(({ violations }) => violations.length > 0).length;
  return [
    ...notPlayed.map(({ scenario, target, why }) => `not played: ${scenario} on ${target}: ${why}`),
    ...remarks.map((remark) => `note: ${printable(remark)}`),
    `${runs.length} ${runs.length === 1 ? "run" : "runs"}: ${counts === "" ? "no fault befell a workload" : counts}; ${runs.length === 0 ? "nothing was played" : bad === 0 ? "all as expected" : `${bad} not as expected`}${broken === 0 ? "" : `; a rule was broken in ${broken}`}`,
    "",
  ].join("\n");
}

/** That policies only observe, as all do at first: what they would do is seen by `--mode`. */
function observing({ policies }: Resources): string[] {
  const names = policies.filter(({ spec }) => spec.mode === "Observe").map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
  if (names.length === 0) return [];
  return [`in mode Observe, and so without effect: ${names.join(", ")}; --mode Enforce rehearses what they would bring about`];
}

/** The workloads that are rehearsed. */
async function targetsFor(options: Options, cluster: Cluster, { policies }: Resources): Promise<string[]> {
  const { keyOf, targetsOf } = await import("../../platform/sim/rehearsal/cast.ts");
  const keys = cluster.workloads.map(keyOf);
  if (options.target === undefined) {
    const targets = targetsOf(cluster, policies);
    if (targets.length > 0) return targets;
    throw new NightshiftError("NO_TARGET", "no policy covers a workload of the cluster", {
      where: options.cluster ?? "-f",
      fix: `Check the targets and namespaces of the policies, or name a workload with --target. The cluster has ${keys.slice(0, 10).join(", ")}.`,
    });
  }
  return options.target.map((wanted) => {
    const found = keys.find((key) => key === wanted) ?? keys.find((key) => key.endsWith(`/${wanted}`));
    if (found !== undefined) return found;
    const meant = closest(wanted, keys);
    throw new NightshiftError("UNKNOWN_WORKLOAD", `the cluster has no workload ${wanted}`, {
      where: "--target",
      fix: meant === undefined ? `It has ${keys.slice(0, 10).join(", ")}.` : `Did you mean ${meant}?`,
    });
  });
}

async function play(options: Options): Promise<RehearseReport> {
  const { clusterFor } = await import("../../platform/sim/rehearsal/cast.ts");
  const { rehearse, remarks } = await import("../../platform/sim/rehearsal/rehearse.ts");
  const { namingsOf } = await import("../../platform/sim/rehearsal/symptoms.ts");
  const described = options.cluster === undefined ? undefined : await clusterOf(options.cluster);
  const resources = await resourcesOf(options.filename ?? [], described?.beside ?? []);
  const cluster = described?.cluster ?? clusterFor(resources);
  const paths = await scenarioPaths(options.scenario ?? ["all"]);
  const scenarios = await Promise.all(
    paths.map(async (path) => ({ name: basename(path).replace(EXTENSION, ""), file: await scenarioOf(path) })),
  );
  const targets = await targetsFor(options, cluster, resources);
  const namings = [...scenarios.flatMap(({ file }) => namingsOf(file, [])), ...(options.map ?? [])];
  const runs: RehearsalReport[] = [];
  const notPlayed: RehearseReport["notPlayed"][number][] = [];
  let now = "";
  let done = 0;
  const total = scenarios.length * targets.length;
  const progress = setInterval(() => process.stderr.write(`${done} of ${total} runs; now ${now}\n`), QUIET_MS);
  // An error ends the process without it.
  progress.unref();
  for (const { name, file } of scenarios)
    for (const target of targets) {
      now = `${name} on ${target}`;
      try {
        const report = await rehearse({
          name,
          file,
          cluster,
          resources,
          target,
          seed: options.seed,
          namings: options.map ?? [],
          ...(options.mode === undefined ? {} : { mode: options.mode }),
          ...(options.trace === true ? { trace: (line: string) => void process.stderr.write(`${line}\n`) } : {}),
        });
        runs.push(report);
        if (options.json !== true) process.stdout.write(`${runText(report)}\n`);
      } catch (error) {
        if (!(error instanceof NightshiftError) || error.code !== "NOT_PLAYABLE") throw error;
        notPlayed.push({ scenario: name, target, why: error.message });
      }
      done += 1;
    }
  clearInterval(progress);
  return {
    ok: runs.length > 0 && runs.every(({ unmet, violations }) => unmet.length === 0 && violations.length === 0),
    runs,
    notPlayed,
    remarks: [...remarks({ cluster, resources, namings }), ...(options.mode === undefined ? observing(resources) : [])],
  };
}

const HELP = `
Plays scenarios in virtual time on a simulated cluster, with your own policies, budgets, runbooks and dependencies, and
with the loop and the gates of the operator. It tells which faults are healed, which a person is paged for, how many
replicas were unavailable, what each gate held back, and where two policies fight.

Without --cluster, one is made up of what the policies name, with three replicas each. nightshift snapshot captures one.
Each scenario is played for one workload of each group that the same policies cover, or for each --target.

Your alerts and metrics stand for a symptom: those of kube-prometheus and OpenTelemetry are known, others are said by
--map. A fault whose symptom no policy listens to has the result Unheard. docs/rehearsing.md has the details.

Examples:
  $ nightshift rehearse -f policies/
  $ nightshift rehearse -f policies/ --scenario leak --scenario bad-rollout --mode Enforce
  $ nightshift rehearse -f policies/ --scenario disk-full --map DiskFull=PaymentsVolumeFull
  $ nightshift snapshot -o prod && nightshift rehearse --cluster prod --scenario my-scenario.yaml --json

Exit status:
  0  everything came as the scenarios expect
  1  something did not, nothing could be played, or a rule of the design was broken
  2  a file cannot be used, or the command was called wrongly`;

/** Adds `rehearse` to the program. */
export function register(program: Command): void {
  program
    .command("rehearse")
    .description("rehearse your policies in a simulated cluster: what they heal, and what they do not")
    .option("-f, --filename <path>", "policies, budgets, runbooks and dependencies: a file or a directory; may be repeated", more)
    .option("--cluster <path>", "the file that describes the cluster, or what nightshift snapshot wrote")
    .option(
      "--scenario <name>",
      "a scenario that comes with Nightshift, all (default), or the path of one of your own; may be repeated",
      more,
    )
    .option("--target <workload>", "rehearse this workload, such as shop/payments; may be repeated", more)
    .option("--map <symptom=name>", `what an alert or metric of yours stands for: ${SYMPTOMS.join(", ")}; may be repeated`, naming)
    .addOption(new Option("--mode <mode>", "rehearse as if every policy had this mode").choices(MODES))
    .option("--seed <n>", "another course of chance", wholeNumber, 1)
    .option("--trace", "print everything that happens to standard error")
    .option("--json", "print one JSON document")
    .addHelpText("after", HELP)
    .action(async (options: Options) => {
      const report = await play(options);
      process.stdout.write(options.json === true ? `${JSON.stringify(report)}\n` : `${overviewText(report.runs)}${summaryText(report)}`);
      if (!report.ok) process.exitCode = EXIT.NO;
    });
}
