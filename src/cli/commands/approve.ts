import { hostname, userInfo } from "node:os";
import { type Command, Option } from "commander";
import { API_VERSION, targetKey } from "../../api/meta.ts";
import type { RemediationApproval } from "../../api/approval.ts";
import { NightshiftError } from "../../api/errors.ts";
import { isTerminal } from "../../api/remediation.ts";
import type { Store } from "../../ports/store.ts";
import { PLACE_HELP, type PlaceOptions, placeOptions, withPlace } from "../place.ts";
import { splitName } from "../state.ts";

/** What a person answers. */
export interface Answer {
  readonly namespace: string;
  readonly name: string;
  readonly decision: RemediationApproval["spec"]["decision"];
  readonly by: string;
  readonly reason?: string | undefined;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/**
 * Stores a person's answer to an episode: a yes where it waits for one, a no until it is over (a no is always in time). It is
 * for the target that the episode names now: another one voids it. That a circuit is closed can be said of an episode that
 * waits for it, and of one that failed; it is about the whole workload.
 * Throws `NOT_FOUND` (naming those that wait), `NOT_AWAITING_APPROVAL` or `NO_OPEN_CIRCUIT`.
 */
export async function answerEpisode(store: Pick<Store, "get" | "list" | "create">, answer: Answer): Promise<RemediationApproval> {
  const { namespace, name, decision, by, reason, now } = answer;
  const remediation = await store.get("Remediation", namespace, name);
  if (remediation === undefined) {
    const waiting = (await store.list("Remediation", namespace)).filter((other) => other.status.phase === "AwaitingApproval");
    const names = waiting.map((other) => other.metadata.name);
    throw new NightshiftError("NOT_FOUND", `there is no remediation ${name} in namespace ${namespace}`, {
      fix: names.length === 0 ? "None waits for approval; nightshift status lists all." : `These wait for approval: ${names.join(", ")}.`,
    });
  }
  const { phase, message, reason: because, attempts } = remediation.status;
  const failed = (phase === "Failed" || phase === "Escalated") && attempts.length > 0;
  if (decision === "CircuitClosed" && because !== "CircuitOpen" && !failed)
    throw new NightshiftError("NO_OPEN_CIRCUIT", `its failures opened no circuit: it is ${phase}${message ? ` (${message})` : ""}`, {
      where: nameOf(remediation),
      fix: "Name an episode that failed, or one that is blocked with CircuitOpen: nightshift status lists them.",
    });
  if (decision !== "CircuitClosed" && (decision === "Denied" ? isTerminal(remediation) : phase !== "AwaitingApproval"))
    throw new NightshiftError("NOT_AWAITING_APPROVAL", `it waits for no answer: it is ${phase}${message ? ` (${message})` : ""}`, {
      where: nameOf(remediation),
      fix: `nightshift audit show ${name} tells its story.`,
    });
  const uid = remediation.spec.remediationTarget.uid;
  return store.create<"RemediationApproval">({
    apiVersion: API_VERSION,
    kind: "RemediationApproval",
    metadata: { name: `${name.slice(0, 230)}-${now.toString(36)}`, namespace },
    spec: {
      remediation: name,
      ...(uid === undefined || decision === "CircuitClosed" ? {} : { targetUid: uid }),
      decision,
      by,
      at: new Date(now).toISOString(),
      ...(reason === undefined ? {} : { reason }),
    },
  });
}

function nameOf(object: { readonly metadata: { readonly namespace: string; readonly name: string } }): string {
  return `${object.metadata.namespace}/${object.metadata.name}`;
}

/** Who sits at the terminal, `user@host`. */
function whoAmI(): string {
  let user = process.env["SUDO_USER"] ?? process.env["USER"];
  if (user === undefined || user === "") {
    try {
      user = userInfo().username;
    } catch {
      // A container may run under a uid that has no name.
      user = `uid ${process.getuid?.() ?? "unknown"}`;
    }
  }
  return `${user}@${hostname()}`;
}

/** Adds `approve` to the program. */
export function register(program: Command): void {
  const approve = program
    .command("approve")
    .description("answer an episode that waits for a person (mode Approve)")
    .argument("<name>", "name of the remediation, or namespace/name")
    .option("--deny", "say no: the episode ends; one that is under way stops before its next step")
    .addOption(
      new Option(
        "--close-circuit",
        "close the circuit of its workload: what failed before counts no more, and what is still ill is tried again",
      ).conflicts("deny"),
    )
    .option("--reason <text>", "why; it goes on record")
    .option("--by <who>", "who answers (default: on a cluster the user of the kubeconfig, else you, user@host)")
    .option("--json", "print the RemediationApproval as JSON");
  placeOptions(approve)
    .addHelpText(
      "after",
      `
The answer is stored as a RemediationApproval; a running Nightshift goes on with it within a second. On a cluster it takes
the verb approve on it (ClusterRole nightshift-approver), and --by is your own name there: the chart refuses another's.
${PLACE_HELP}

Examples:
  $ nightshift status                                   which wait (phase AwaitingApproval)
  $ nightshift audit show payments-leak-4c1f            what it wants to do, and why
  $ nightshift approve payments-leak-4c1f
  $ nightshift approve payments-leak-4c1f --context production -n shop
  $ nightshift approve payments-leak-4c1f --deny --reason "release in ten minutes"
  $ nightshift approve payments-leak-4c1f --close-circuit --reason "the leak is fixed in 2.3.1"

Exit status:
  0  stored
  2  no such remediation, it waits for no answer, or you may not answer it`,
    )
    .action(
      async (
        given: string,
        options: PlaceOptions & { deny?: boolean; closeCircuit?: boolean; reason?: string; by?: string; json?: boolean },
      ) => {
        const decision = options.closeCircuit === true ? "CircuitClosed" : options.deny === true ? "Denied" : "Approved";
        await withPlace(options, async (place) => {
          const { store } = place;
          const { namespace, name } = splitName(given, place.namespace);
          const by = options.by ?? (await place.whoAmI?.()) ?? whoAmI();
          const stored = await answerEpisode(store, { namespace, name, decision, by, reason: options.reason, now: Date.now() });
          const remediation = await store.get("Remediation", namespace, name);
          const { remediationTarget, workload } = remediation?.spec ?? {};
          const about = decision === "CircuitClosed" ? workload : remediationTarget;
          const target = about === undefined ? "" : ` on ${targetKey(about)}`;
          const said = { Approved: "approved", Denied: "denied", CircuitClosed: "circuit closed" }[decision];
          process.stdout.write(
            options.json === true ? `${JSON.stringify(stored, null, 2)}\n` : `${said}: ${namespace}/${name}${target}, by ${by}\n`,
          );
        });
      },
    );
}
