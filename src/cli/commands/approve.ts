import { hostname, userInfo } from "node:os";
import { type Command, Option } from "commander";
import { targetKey } from "../../api/meta.ts";
import { answerEpisode } from "../../record/answer.ts";
import { PLACE_HELP, type PlaceOptions, placeOptions, withPlace } from "../place.ts";
import { splitName } from "../state.ts";

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
