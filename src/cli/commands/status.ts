import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import type { RemediationApproval } from "../../api/approval.ts";
import type { RemediationBudget } from "../../api/budget.ts";
import { messageOf, NightshiftError } from "../../api/errors.ts";
import { targetKey } from "../../api/meta.ts";
import type { Pause, RemediationPolicy } from "../../api/policy.ts";
import { isTerminal, type Remediation } from "../../api/remediation.ts";
import type { GateContext } from "../../decide/gate.ts";
import type { Workload } from "../../ports/platform.ts";
import type { Store } from "../../ports/store.ts";
import { type Place, PLACE_HELP, type PlaceOptions, placeOptions, withPlace } from "../place.ts";
import { ageText, formatTable } from "../table.ts";

/** How long a Nightshift that runs may take to answer (ms). */
const ANSWER_MS = 2_000;

/** A circuit that is open: no further attempt of this policy on this workload. */
export interface OpenCircuit {
  readonly policy: string;
  readonly workload: string;
  readonly strikes: number;
  readonly max: number;
  /** RFC 3339. */
  readonly closesAt: string;
}

/** A pause that holds now. */
export interface ActivePause {
  /** `Kind/namespace/name` of what is paused. */
  readonly by: string;
  readonly reason: string;
  readonly until: string | null;
}

/** What `status --json` prints. */
export interface StatusReport {
  /** Of this machine; null where a cluster is looked at. */
  readonly stateDir: string | null;
  /** Address of the API server; null where this machine is looked at. */
  readonly cluster: string | null;
  /** Of the Nightshift that runs; null where none answers. */
  readonly workloads: readonly Workload[] | null;
  /** Why there are no workloads, where there are none. */
  readonly note: string | null;
  readonly remediations: readonly Remediation[];
  readonly policies: readonly RemediationPolicy[];
  readonly openCircuits: readonly OpenCircuit[];
  readonly pauses: readonly ActivePause[];
}

/**
 * Everything that the store says of a namespace, or of all, newest episodes last. `now` in milliseconds since the epoch.
 * Limits of the whole cluster that the user may not read are left out: members of a team often may not.
 */
export async function readStatus(
  store: Pick<Store, "list">,
  now: number,
  namespace?: string,
): Promise<Pick<StatusReport, "remediations" | "policies" | "openCircuits" | "pauses">> {
  const unlessForbidden = (error: unknown): [] => {
    if (error instanceof NightshiftError && error.code === "FORBIDDEN") return [];
    throw error;
  };
  const [remediations, policies, approvals, budgets] = await Promise.all([
    store.list("Remediation", namespace),
    store.list("RemediationPolicy", namespace),
    store.list("RemediationApproval", namespace).catch(unlessForbidden),
    store.list("RemediationBudget").catch(unlessForbidden),
  ]);
  const byAge = remediations.toSorted((a, b) => Date.parse(a.spec.startedAt) - Date.parse(b.spec.startedAt));
  return {
    remediations: byAge,
    policies,
    openCircuits: await circuits(byAge, policies, approvals, now),
    pauses: pauses(policies, budgets, now),
  };
}

async function circuits(
  remediations: readonly Remediation[],
  policies: readonly RemediationPolicy[],
  approvals: readonly RemediationApproval[],
  now: number,
): Promise<readonly OpenCircuit[]> {
  const { strikes } = await import("../../decide/circuit-open.ts");
  const seen = new Set<string>();
  const open: OpenCircuit[] = [];
  for (const { metadata, spec } of remediations) {
    const policy = policies.find((p) => p.metadata.namespace === metadata.namespace && p.metadata.name === spec.policy.name);
    const key = `${metadata.namespace}/${spec.policy.name} ${targetKey(spec.workload)}`;
    if (policy === undefined || seen.has(key)) continue;
    seen.add(key);
    // Strikes are counted over episodes, a policy and a workload; the rest of what a gate may see is about one decision.
    const context = {
      now,
      policy,
      diagnosis: { workload: spec.workload },
      remediations,
      approvals,
      self: undefined,
    } as unknown as GateContext;
    const { open: isOpen, count, max, closesAt } = strikes(context);
    if (isOpen && closesAt !== undefined)
      open.push({
        policy: `${metadata.namespace}/${spec.policy.name}`,
        workload: targetKey(spec.workload),
        strikes: count,
        max,
        closesAt: new Date(closesAt).toISOString(),
      });
  }
  return open;
}

function pauses(policies: readonly RemediationPolicy[], budgets: readonly RemediationBudget[], now: number): readonly ActivePause[] {
  const active: ActivePause[] = [];
  for (const { kind, metadata, spec } of [...policies, ...budgets]) {
    const pause: Pause | undefined = spec.paused;
    if (pause === undefined || (pause.until !== undefined && Date.parse(pause.until) <= now)) continue;
    active.push({ by: `${kind}/${metadata.namespace}/${metadata.name}`, reason: pause.reason, until: pause.until ?? null });
  }
  return active;
}

/**
 * Asks a running Nightshift for its workloads: the one that has noted its address in the state directory, unless `server`
 * names another. The token goes nowhere else.
 */
export async function askServer(
  server: string | undefined,
  stateDir: string,
): Promise<{ workloads: readonly Workload[] | null; note: string | null }> {
  let address: string;
  try {
    address = server ?? (await readFile(join(stateDir, "url"), "utf8")).trim();
  } catch {
    return { workloads: null, note: "no Nightshift runs with this state directory (--server names one that does)" };
  }
  let token: string;
  try {
    token = (await readFile(join(stateDir, "token"), "utf8")).trim();
  } catch (error) {
    return { workloads: null, note: `the token cannot be read: ${messageOf(error)}` };
  }
  try {
    const response = await fetch(new URL("/api/v1/status", address), {
      headers: { authorization: `Bearer ${token}` },
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (!response.ok) {
      await response.body?.cancel();
      return { workloads: null, note: `${address} answered ${response.status}: it is not the Nightshift of this state directory` };
    }
    const { workloads } = (await response.json()) as { workloads?: unknown };
    return { workloads: Array.isArray(workloads) ? (workloads as Workload[]) : [], note: null };
  } catch {
    return { workloads: null, note: `no Nightshift answers at ${address} (--server names another address)` };
  }
}

const ago = (at: string | undefined, now: number): string => (at === undefined ? "" : ageText(now - Date.parse(at)));

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)}Mi`;
}

/** What `status` prints for people. */
export function statusText(report: StatusReport, now: number, all: boolean): string {
  const sections: string[] = [];
  const section = (title: string, headings: readonly string[], rows: readonly (readonly string[])[], empty: string): void =>
    void sections.push(`${title}\n${rows.length === 0 ? `${empty}\n` : formatTable(headings, rows)}`);
  if (report.workloads === null) sections.push(`Workloads\n${report.note ?? "unknown"}\n`);
  else
    section(
      "Workloads",
      ["WORKLOAD", "REPLICA", "PHASE", "READY", "TRAFFIC", "MEMORY", "RESTARTS", "AGE"],
      report.workloads.flatMap((workload) =>
        workload.replicas.map((replica) => [
          workload.ref.name,
          replica.ref.name,
          replica.phase,
          replica.ready ? "yes" : "no",
          replica.inTraffic ? "yes" : "no",
          replica.memory?.bytes === undefined
            ? ""
            : `${megabytes(replica.memory.bytes)}${replica.memory.limitBytes === undefined ? "" : `/${megabytes(replica.memory.limitBytes)}`}`,
          String(replica.restarts),
          ageText(now - replica.startedAt),
        ]),
      ),
      "none",
    );
  const newest = all ? report.remediations : report.remediations.filter((r, i, list) => !isTerminal(r) || i >= list.length - 20);
  const hidden = report.remediations.length - newest.length;
  section(
    `Remediations${hidden > 0 ? ` (${hidden} older ones are left out; --all shows them)` : ""}`,
    ["NAME", "POLICY", "TARGET", "CAUSE", "PHASE", "REASON", "OUTCOME", "AGE"],
    newest.map(({ metadata, spec, status }) => [
      metadata.namespace === "default" ? metadata.name : `${metadata.namespace}/${metadata.name}`,
      spec.policy.name,
      `${spec.remediationTarget.kind}/${spec.remediationTarget.name}`,
      spec.diagnosis.cause,
      status.phase,
      status.reason ?? "",
      status.outcome ?? "",
      ago(spec.startedAt, now),
    ]),
    "none",
  );
  section(
    "Policies",
    ["NAMESPACE", "NAME", "MODE", "PAUSED", "AGE"],
    report.policies.map(({ metadata, spec }) => [
      metadata.namespace,
      metadata.name,
      spec.mode,
      report.pauses.some((pause) => pause.by === `RemediationPolicy/${metadata.namespace}/${metadata.name}`) ? "yes" : "no",
      ago(metadata.creationTimestamp, now),
    ]),
    "none",
  );
  if (report.openCircuits.length > 0)
    section(
      "Open circuits",
      ["POLICY", "WORKLOAD", "STRIKES", "CLOSES-IN"],
      report.openCircuits.map((c) => [c.policy, c.workload, `${c.strikes}/${c.max}`, ageText(Date.parse(c.closesAt) - now)]),
      "none",
    );
  if (report.pauses.length > 0)
    section(
      "Pauses",
      ["BY", "UNTIL", "REASON"],
      report.pauses.map((pause) => [pause.by, pause.until ?? "taken away", pause.reason]),
      "none",
    );
  return sections.join("\n");
}

async function reportOf(
  { store, namespace, stateDir, cluster }: Place,
  options: PlaceOptions & { readonly allNamespaces?: boolean; readonly server?: string },
  now: number,
): Promise<StatusReport> {
  const isAll = options.allNamespaces === true || (stateDir !== undefined && options.namespace === undefined);
  const stored = await readStatus(store, now, isAll ? undefined : namespace);
  const running =
    stateDir === undefined
      ? {
          workloads: null,
          note: `${cluster ?? "a cluster"}, ${isAll ? "all namespaces" : `namespace ${namespace}`}: kubectl get pods shows them`,
        }
      : await askServer(options.server, stateDir);
  return { stateDir: stateDir ?? null, cluster: cluster ?? null, ...running, ...stored };
}

/** Adds `status` to the program. */
export function register(program: Command): void {
  const status = program
    .command("status")
    .description("show what is going on: workloads, remediations, policies, open circuits, pauses")
    .option("--all", "all remediations, not only live ones and the newest 20")
    .option("--server <url>", "address of the Nightshift that runs, for the workloads (default: as it noted in the state directory)")
    .option("-A, --all-namespaces", "of all namespaces (on this machine always, but with --namespace)")
    .option("--json", "print one JSON document");
  placeOptions(status)
    .addHelpText(
      "after",
      `
Workloads come from the Nightshift that runs on this machine; everything else from its state directory, also when none
runs, or from the cluster's API server, as what the kubeconfig's user may read.
${PLACE_HELP}

Examples:
  $ nightshift status
  $ nightshift status --json | jq '.remediations[] | select(.status.phase == "AwaitingApproval") | .metadata.name'
  $ nightshift status --context production -n shop
  $ watch nightshift status --state /var/lib/nightshift`,
    )
    .action(async (options: PlaceOptions & { all?: boolean; allNamespaces?: boolean; server?: string; json?: boolean }) => {
      const now = Date.now();
      const report = await withPlace(options, (place) => reportOf(place, options, now));
      process.stdout.write(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : statusText(report, now, options.all === true));
    });
}
