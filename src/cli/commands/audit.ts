import { join, resolve } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { NightshiftError } from "../../api/errors.ts";
import { targetKey } from "../../api/meta.ts";
import type { Remediation } from "../../api/remediation.ts";
import type { AuditLine, AuditReport } from "../../record/verify.ts";
import { EXIT } from "../exit.ts";
import { type Place, PLACE_HELP, type PlaceOptions, placeOptions, withPlace } from "../place.ts";
import { splitName, stateOption } from "../state.ts";
import { ageText, formatTable, printable } from "../table.ts";

interface Common {
  readonly state: string;
  readonly json?: boolean;
}

const trailOf = (state: string): string => join(resolve(state), "audit.jsonl");

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError("Expected a whole number above zero.");
  return value;
}

/** Whether a record belongs to the remediation that a person named: `name` in any namespace, or `namespace/name`. */
function belongsTo(line: AuditLine, name: string): boolean {
  return line.remediation === name || (!name.includes("/") && line.remediation?.split("/")[1] === name);
}

/** The newest `limit` records that fit, oldest first. */
async function selected(state: string, limit: number, remediation: string | undefined): Promise<AuditLine[]> {
  const { readAudit } = await import("../../record/verify.ts");
  const lines: AuditLine[] = [];
  for await (const line of readAudit(trailOf(state))) {
    if (remediation !== undefined && !belongsTo(line, remediation)) continue;
    lines.push(line);
    // In blocks, so that a long trail costs neither memory nor a shift a line.
    if (lines.length >= 2 * limit + 1_000) lines.splice(0, lines.length - limit);
  }
  return lines.slice(-limit);
}

async function list(options: Common & { limit: number; remediation?: string }): Promise<void> {
  const lines = await selected(options.state, options.limit, options.remediation);
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify(lines, null, 2)}\n`);
    return;
  }
  const rows = lines.map((line) => [String(line.seq), line.at, line.type, line.remediation ?? line.policy ?? "", line.message]);
  process.stdout.write(rows.length === 0 ? "no records\n" : formatTable(["SEQ", "AT", "TYPE", "ABOUT", "MESSAGE"], rows));
}

/** What of a record its story tells. */
export type StoryLine = Pick<AuditLine, "at" | "type" | "message" | "data">;

/**
 * What an episode's own object tells of its story, in order: where the trail is out of reach, as on a cluster, where it is a
 * file of the pod that led.
 */
export function recordedStory({ spec, status }: Remediation): StoryLine[] {
  const lines: StoryLine[] = [];
  const say = (at: string | undefined, type: StoryLine["type"], message: string, data?: StoryLine["data"]): void => {
    if (at !== undefined) lines.push({ at, type, message, ...(data === undefined ? {} : { data }) });
  };
  say(spec.startedAt, "Signal", `${spec.signal.name} fires on ${spec.signalTarget.name}`);
  for (const attempt of status.attempts) {
    say(attempt.startedAt, "Phase", `rung ${attempt.rung + 1} begins: ${attempt.what}`);
    for (const step of [...attempt.steps, ...attempt.undo]) {
      say(step.intendedAt, "Intent", step.name);
      say(step.endedAt, "Result", `${step.name} ${step.state}${step.message === undefined ? "" : `: ${step.message}`}`);
    }
    say(
      attempt.endedAt,
      "Phase",
      `rung ${attempt.rung + 1} ends: ${attempt.outcome ?? ""}${attempt.message ? `, ${attempt.message}` : ""}`,
    );
  }
  say(status.decidedAt, "Decision", "the gates, as they were asked last", { gates: status.gates });
  say(status.page?.sentAt, "Page", status.page?.summary ?? "");
  say(status.endedAt, "Phase", `${status.phase}${status.outcome === undefined ? "" : `, ${status.outcome}`}: ${status.message ?? ""}`);
  return lines.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at));
}

/** The gates' verdicts that a record carries, where it is a decision. */
function verdictsOf(line: StoryLine): readonly { gate: string; verdict: string; message: string }[] {
  const { data } = line;
  for (const value of [data?.["gates"], data?.["verdicts"]])
    if (Array.isArray(value)) return value as { gate: string; verdict: string; message: string }[];
  return [];
}

/** What is printed by `audit show`: the story of one remediation. */
export function story(name: string, lines: readonly StoryLine[], remediation: Remediation | undefined): string {
  const out: string[] = [];
  const say = (text: string): void => void out.push(printable(text).trimEnd());
  say(`Remediation  ${name}`);
  if (remediation !== undefined) {
    const { spec, status } = remediation;
    say(`Policy       ${remediation.metadata.namespace}/${spec.policy.name}, mode ${spec.mode}`);
    say(`Signal       ${spec.signal.name} (${spec.signal.condition}, ${spec.signal.source}) on ${targetKey(spec.signalTarget)}`);
    say(`Target       ${targetKey(spec.remediationTarget)}`);
    say(`Diagnosis    ${spec.diagnosis.cause}, confidence ${spec.diagnosis.confidence.toFixed(2)}: ${spec.diagnosis.summary}`);
    for (const evidence of spec.diagnosis.evidence) say(`             - ${evidence.message}`);
    const all = spec.diagnosis.allEvidence;
    if (all !== undefined)
      say(`             all ${all.pieces} pieces: ${all.path ?? all.problem ?? ""}, ${all.bytes} bytes, sha256 ${all.sha256}`);
    const ended = status.endedAt === undefined ? "" : `, after ${ageText(Date.parse(status.endedAt) - Date.parse(spec.startedAt))}`;
    say(`Phase        ${status.phase}${status.outcome === undefined ? "" : `, ${status.outcome}`}${ended}`);
    if (status.message !== undefined) say(`             ${status.message}`);
    for (const artifact of status.artifacts)
      say(`Artifact     ${artifact.type} ${artifact.path}, ${artifact.bytes} bytes, sha256 ${artifact.sha256}`);
    if (status.page !== undefined)
      say(`Page         ${status.page.state}${status.page.lastError === undefined ? "" : `: ${status.page.lastError}`}`);
  }
  const begin = Date.parse(lines[0]?.at ?? "");
  if (lines.length > 0) out.push("", `Time line, from ${lines[0]?.at ?? ""}`);
  else out.push("", "The audit trail has nothing about it.");
  for (const line of lines) {
    const offset = `+${((Date.parse(line.at) - begin) / 1000).toFixed(3)}s`;
    say(`${offset.padStart(11)}  ${line.type.padEnd(8)}  ${line.message}`);
    for (const { gate, verdict, message } of verdictsOf(line)) say(`${" ".repeat(23)}${verdict.padEnd(5)}  ${gate}: ${message}`);
  }
  return `${out.join("\n")}\n`;
}

interface Told {
  /** `namespace/name`. */
  readonly key: string;
  readonly lines: readonly StoryLine[];
  readonly remediation: Remediation | undefined;
}

/** The story of an episode that stands in a store; of one on this machine the trail tells it. */
async function toldBy({ store, namespace: near, stateDir }: Place, given: string): Promise<Told> {
  const trail = stateDir === undefined ? [] : await selected(stateDir, 100_000, given);
  // A name in any namespace is that of the trail's newest episode with it.
  const { namespace, name } = splitName(trail.at(-1)?.remediation ?? given, near);
  const remediation = await store.get("Remediation", namespace, name);
  const key = `${namespace}/${name}`;
  const lines = trail.filter((line) => line.remediation === key);
  return { key, lines: stateDir === undefined && remediation !== undefined ? recordedStory(remediation) : lines, remediation };
}

/** The trail tells the story without the store too. */
async function toldByTrail(stateDir: string | undefined, given: string, error: unknown): Promise<Told> {
  const trail = stateDir === undefined ? [] : await selected(stateDir, 100_000, given);
  const key = trail.at(-1)?.remediation;
  if (key === undefined) throw error;
  return { key, lines: trail.filter((line) => line.remediation === key), remediation: undefined };
}

async function show(given: string, options: PlaceOptions & { readonly json?: boolean }): Promise<void> {
  const told = await withPlace(options, (place) => toldBy(place, given)).catch((error: unknown) =>
    toldByTrail(options.state, given, error),
  );
  const { key, lines: own, remediation } = told;
  if (own.length === 0 && remediation === undefined)
    throw new NightshiftError("NOT_FOUND", `neither the audit trail nor the store knows a remediation ${given}`, {
      fix: "nightshift status lists them.",
    });
  process.stdout.write(
    options.json === true
      ? `${JSON.stringify({ remediation: remediation ?? null, records: own }, null, 2)}\n`
      : story(key, own, remediation),
  );
}

type Diagnoses = readonly Pick<Remediation["spec"]["diagnosis"], "evidence" | "allEvidence">[];

/** What is known of the evidence that a person means: of the digest itself, or of an episode, with that of a diagnosis since its beginning. */
async function diagnosesOf(
  given: string,
  options: PlaceOptions,
): Promise<{ readonly diagnoses: Diagnoses; readonly stateDir: string | undefined }> {
  if (/^[0-9a-f]{64}$/.test(given))
    return { diagnoses: [{ evidence: [], allEvidence: { pieces: 0, bytes: 0, sha256: given } }], stateDir: options.state };
  return withPlace(options, async ({ store, namespace: near, stateDir }) => {
    const { namespace, name } = splitName(given, near);
    const remediation = await store.get("Remediation", namespace, name);
    if (remediation === undefined)
      throw new NightshiftError("NOT_FOUND", `there is no remediation ${namespace}/${name}`, { fix: "nightshift status lists them." });
    return { diagnoses: [remediation.spec.diagnosis, remediation.status.diagnosis].filter((each) => each !== undefined), stateDir };
  });
}

async function showEvidence(given: string, options: PlaceOptions & { readonly json?: boolean }): Promise<void> {
  const { EvidenceFiles, evidenceDir } = await import("../../record/evidence.ts");
  const { diagnoses, stateDir } = await diagnosesOf(given, options);
  const pieces = diagnoses.flatMap(({ evidence: few, allEvidence: all }) => {
    if (all === undefined) return few;
    if (stateDir === undefined)
      throw new NightshiftError("NO_STATE", `all ${all.pieces} pieces are in a file of the pod that led then`, {
        ...(all.path === undefined ? {} : { where: all.path }),
        fix: `Ask there, as for the trail (nightshift audit --help): audit evidence ${all.sha256} --state /var/lib/nightshift`,
      });
    return new EvidenceFiles(evidenceDir(resolve(stateDir))).read(all.sha256);
  });
  process.stdout.write(
    options.json === true
      ? `${JSON.stringify(pieces, null, 2)}\n`
      : pieces.map(({ kind, message }) => `${printable(`${kind.padEnd(12)}  ${message}`)}\n`).join(""),
  );
}

/** What is printed by `audit verify`, one fault a line, as compilers do. */
export function reportText(report: AuditReport): string {
  const lines = report.faults.map(({ line, seq, kind, message }) =>
    printable(
      `${line === undefined ? report.headPath : `${report.path}:${line}`}: ${kind}${seq === undefined ? "" : ` (seq ${seq})`}: ${message}`,
    ),
  );
  if (report.more > 0) lines.push(`... and ${report.more} more`);
  return `${[...lines, `${report.ok ? "intact" : "NOT INTACT"}: ${report.message}`].join("\n")}\n`;
}

async function verify(options: Common & { head?: string }): Promise<void> {
  const { verifyAudit } = await import("../../record/verify.ts");
  const headPath = resolve(options.head ?? join(options.state, "audit.head"));
  const report = await verifyAudit({ path: trailOf(options.state), headPath });
  process.stdout.write(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : reportText(report));
  process.exitCode = report.ok ? EXIT.OK : EXIT.NO;
}

/** Adds `audit` and its sub-commands to the program. */
export function register(program: Command): void {
  const audit = program
    .command("audit")
    .description("read and verify the audit trail: every decision, also those not to act")
    .addHelpText(
      "after",
      `
On a cluster the trail is a file of the pod that leads, which list and verify read there:
  $ kubectl exec -n nightshift-system $(kubectl get pod -n nightshift-system -l nightshift.dev/leader=true -o name) -- \\
      node /app/dist/src/cli/main.js audit verify --state /var/lib/nightshift`,
    );
  const json = (): Option => new Option("--json", "print one JSON document");
  audit
    .command("list")
    .description("list the newest records")
    .addOption(new Option("--limit <n>", "how many").default(50).argParser(positiveInteger))
    .option("--remediation <name>", "only those of one remediation")
    .addOption(stateOption())
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  $ nightshift audit list
  $ nightshift audit list --remediation payments-leak-4c1f --json | jq '.[].message'`,
    )
    .action(list);
  const shown = audit
    .command("show")
    .description("tell the story of one remediation: signal, diagnosis, gates, steps, outcome")
    .argument("<name>", "name of the remediation, or namespace/name")
    .addOption(json());
  placeOptions(shown)
    .addHelpText(
      "after",
      `
On a cluster the Remediation itself tells it.
${PLACE_HELP}

Examples:
  $ nightshift audit show payments-leak-4c1f
  $ nightshift audit show shop/payments-leak-4c1f --json | jq .remediation.status`,
    )
    .action(show);
  const whole = audit
    .command("evidence")
    .description("print all evidence of one remediation, also what is too much for the Remediation itself")
    .argument("<name>", "name of the remediation, namespace/name, or the digest in its diagnosis.allEvidence")
    .addOption(json());
  placeOptions(whole)
    .addHelpText(
      "after",
      `
A Remediation keeps 40 pieces of evidence in 16 KiB. What is more is a file of whoever led then, as the trail is; the newest 500 are kept.
${PLACE_HELP}

Examples:
  $ nightshift audit evidence payments-leak-4c1f
  $ nightshift audit evidence 0f5d...e2 --state /var/lib/nightshift --json`,
    )
    .action(showEvidence);
  audit
    .command("verify")
    .description("check the trail's hash chain up to its head, and name what was changed")
    .option("--head <file>", "the head, where the stack file puts it elsewhere (default: audit.head in the state directory)")
    .addOption(stateOption())
    .addOption(json())
    .addHelpText(
      "after",
      `
Each line carries the hash of the one before it, so an edited, removed, reordered, inserted or copied line is found by those
after it; a cut at the end by the head, which is best kept on another disk.

Examples:
  $ nightshift audit verify
  $ nightshift audit verify --state /var/lib/nightshift --json | jq .faults

Exit status:
  0  the trail is intact
  1  at least one fault; each is named
  2  there is no trail`,
    )
    .action(verify);
}
