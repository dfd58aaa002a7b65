import type { Edit, Family, Mutant } from "./mutant.ts";

const of =
  (family: Family) =>
  (name: string, breaks: string, file: string, find: string, replace: string, ...more: readonly Edit[]): Mutant => ({
    name,
    family,
    breaks,
    edits: [{ file, find, replace }, ...more],
  });
const gate = of("Gates");
const evidence = of("Evidence");
const machine = of("Step machine");
const store = of("Store");
const leader = of("Leader election and fencing");
const paging = of("Paging");
const memory = of("Memory of the past");

const GATES = "src/decide/gates.ts";
const MACHINE = "src/act/machine.ts";
const EPISODES = "src/loop/episodes.ts";
const PAGER = "src/loop/pager.ts";
const ELECTION = "src/platform/kubernetes/election.ts";
const skips = (name: string, variable: string, breaks: string): Mutant => gate(name, breaks, GATES, `  ${variable},\n`, "");

const ANOTHER_TRY =
  '{ this.#remediation = await this.#deps.save(this.#withStep({ ...this.#step, effectId: this.#step.effectId + "+" })); return { next: "Again", remediation: this.#remediation }; }';

/** Every deliberate fault that the simulator has to find. */
export const MUTANTS: readonly Mutant[] = [
  skips("skips-paused", "paused", "The gate Paused is left out."),
  skips("skips-unmanaged", "unmanaged", "The gate Unmanaged is left out."),
  skips("skips-stale-signal", "staleSignal", "The gate StaleSignal is left out."),
  skips("skips-dependency", "dependencyUnhealthy", "The gate DependencyUnhealthy is left out."),
  skips("skips-storm-brake", "stormBrake", "The gate StormBrake is left out."),
  skips("skips-in-progress", "inProgress", "The gate InProgress is left out."),
  skips("skips-cooldown", "recentlyRemediated", "The gate RecentlyRemediated is left out."),
  skips("skips-circuit", "circuitOpen", "The gate CircuitOpen is left out."),
  skips("skips-budgets", "budgetExhausted", "The gate BudgetExhausted is left out."),
  skips("skips-windows", "outsideWindow", "The gate OutsideWindow is left out."),
  skips("skips-approval", "awaitingApproval", "The gate AwaitingApproval is left out."),
  gate(
    "says-no-and-applies",
    "A decision says that the budget forbids it, and falls through to acting.",
    "src/decide/decide.ts",
    'action: awaits ? "AwaitApproval" : "Block",',
    'action: awaits ? "AwaitApproval" : gate.name === "BudgetExhausted" ? "Act" : "Block",',
  ),
  gate(
    "observe-acts",
    "The mode Observe acts.",
    "src/decide/decide.ts",
    'return mode === "Observe"',
    'return mode !== "Observe" && mode !== "Enforce" && mode !== "Approve"',
  ),
  gate(
    "asks-only-at-the-start",
    "No gate is asked before a step, only when an episode begins.",
    "src/decide/decide.ts",
    "GATES.filter((gate) => gate.onEveryStep)",
    "GATES.filter(() => false)",
  ),
  gate(
    "ignores-marks",
    "do-not-remediate is not looked for.",
    "src/decide/unmanaged.ts",
    "      if (mark !== undefined) return block(mark);\n",
    "",
  ),
  gate(
    "ignores-marks-around",
    "do-not-remediate is not looked for on nodes and namespaces.",
    "src/decide/unmanaged.ts",
    "[workload, ...workload.enclosing]",
    "[workload]",
    { file: "src/decide/unmanaged.ts", find: "touched.push(each, ...(each.around ?? []))", replace: "touched.push(each)" },
  ),
  gate(
    "counts-only-its-own-unavailability",
    "Of a workload only the target counts as unavailable, not what is down for other reasons.",
    "src/decide/budget-exhausted.ts",
    "return Math.max(0, workload.desired - workload.replicas.filter(stays).length);",
    "return Math.min(1, workload.replicas.filter((replica) => !stays(replica)).length);",
  ),
  gate(
    "rounds-budgets-up",
    "A share of a workload is rounded up.",
    "src/decide/budget-exhausted.ts",
    "Math.floor(share * desired + 1e-9)",
    "Math.ceil(share * desired)",
  ),
  gate(
    "knows-no-platform-budget",
    "The platform team's budgets do not count.",
    "src/decide/budget-exhausted.ts",
    "for (const budget of covering.spec.budgets) add(",
    "for (const budget of covering.spec.budgets.slice(0, 0)) add(",
  ),
  gate(
    "knows-no-disruption-budget",
    "PodDisruptionBudgets do not count.",
    "src/decide/budget-exhausted.ts",
    "if (workload.minAvailable !== undefined)",
    "if (workload.minAvailable === null)",
  ),
  gate(
    "one-strike-too-many",
    "The circuit opens one strike late.",
    "src/decide/circuit-open.ts",
    "within(time) >= attempts.max",
    "within(time) > attempts.max",
  ),
  gate(
    "takes-a-no-for-a-yes",
    "Any answer is a yes.",
    "src/decide/awaiting-approval.ts",
    'if (newest?.spec.decision === "Denied") {',
    'if (newest?.spec.decision === "CircuitClosed") {',
    { file: EPISODES, find: 'answers.filter((a) => a.spec.decision === "Denied")', replace: "answers.slice(0, 0)" },
  ),
  gate(
    "pause-ends-at-once",
    "A pause that has an end is over before it.",
    "src/decide/paused.ts",
    "if (ends <= now) continue;",
    "if (ends <= now || pause.until !== undefined) continue;",
  ),

  evidence(
    "acts-on-an-old-signal",
    "`maxSignalAge` is not looked at.",
    "src/decide/stale-signal.ts",
    "if (!(age <= max))",
    "if (!(age <= Infinity))",
  ),
  evidence(
    "acts-on-an-empty-result",
    "That nothing was heard of requests is taken for requests that fail.",
    "src/orient/detect.ts",
    "    missing.push(`nothing was heard of requests to ${workload.ref.name} in the last ${seconds(span / 1000)}`);\n    return [];",
    '    return [signalOf(context, "errorRate", workload.ref, { source: "OpenTelemetry", startsAt: since, seenAt: now, confidence: 1, evidence: [] })];',
  ),
  evidence(
    "acts-on-a-stale-view",
    "What is known of the cluster is never out of date.",
    "src/decide/no-data.ts",
    "if (staleness !== undefined) return block(staleness);",
    "",
    { file: MACHINE, find: "this.#definition.effect === undefined ? undefined : this.#deps.platform.staleness?.()", replace: "undefined" },
    { file: "src/platform/sim/platform.ts", find: 'throw new NightshiftError("STALE_VIEW", staleness);', replace: "void NightshiftError;" },
  ),
  evidence(
    "sees-nothing",
    "A readiness probe that fails is not a signal.",
    "src/orient/detect.ts",
    'replica.phase === "Running" && replica.everReady;',
    'replica.phase === "Running" && replica.startedAt === Infinity;',
  ),

  machine(
    "intent-after-the-effect",
    "An effect is carried out before its intent is stored.",
    MACHINE,
    "await this.#intend();\n",
    "void this.#intend;\n",
  ),
  machine(
    "retries-an-ambiguous-effect",
    "What cannot be known to have happened is tried again, under another id.",
    MACHINE,
    'if (found.state === "Unknown") return this.#unknown(effect, `${messageOf(error)}; ${found.why}`);',
    `if (found.state === "Unknown") ${ANOTHER_TRY}`,
    {
      file: MACHINE,
      find: 'if (found.state === "Unknown") return this.#unknown(effect, found.why);',
      replace: `if (found.state === "Unknown") ${ANOTHER_TRY}`,
    },
  ),
  machine(
    "finds-no-effect-again",
    "A job that was started before a crash is not found again by its id.",
    "src/platform/sim/effects.ts",
    "        if (known === undefined)\n",
    '        if (known?.state !== "Complete")\n',
    { file: "src/platform/sim/effects.ts", find: "if (deps.jobs.has(id)) throw", replace: 'if (deps.jobs.has("")) throw' },
  ),
  machine(
    "asks-no-gate-before-a-step",
    "A step goes on whatever the gates say.",
    MACHINE,
    'if (decision.action === "Act") {',
    "if (decision.action !== undefined) {",
    { file: MACHINE, find: "return isHandsOff(decision) ? reasonOf(decision) : undefined;", replace: "return undefined;" },
  ),
  machine(
    "goes-on-after-a-failed-capture",
    "A capture that failed stops nothing, though it is required.",
    "src/act/steps/capture.ts",
    'optional: (step) => !(step.params as StepParams<"capture">).required,',
    "optional: () => true,",
  ),
  machine(
    "never-undoes",
    "An attempt that is given up leaves what it did as it is.",
    MACHINE,
    'if (step.state !== "Done" && step.state !== "Failed") return;',
    "if (step.state !== undefined) return;",
  ),
  machine(
    "forgets-to-put-a-replica-back",
    "A replica that was taken out of traffic has no way back.",
    "src/act/steps/remove-from-traffic.ts",
    'undo: ({ replica }) => (replica === undefined ? undefined : "restoreTraffic"),',
    "",
  ),
  machine(
    "stops-without-a-replacement",
    "The old replica goes though its replacement is not ready.",
    "src/act/steps/stop.ts",
    "if (replacement?.now?.ready !== true) return",
    "if (replacement?.now?.ready === null) return",
    { file: "src/act/steps/await-ready.ts", find: "return replacement.now.ready\n", replace: "return replacement.now !== undefined\n" },
    {
      file: "src/act/steps/remove-from-traffic.ts",
      find: "replacement?.now?.ready === false ?",
      replace: "replacement?.now?.ready === null ?",
    },
  ),
  machine(
    "steps-never-time-out",
    "A step waits for ever.",
    MACHINE,
    "return this.#elapsed() >= this.#step.timeoutMs || this.#rungTimeUp();",
    "return false;",
  ),
  machine(
    "well-at-first-sight",
    "Nothing is verified: an episode counts as remediated once its steps are done.",
    EPISODES,
    'const stableSince = seen.state === "Well" ?',
    'const stableSince = seen.state !== "Missing" as string ?',
  ),
  machine(
    "well-without-its-replicas",
    "A workload counts as well though replicas are missing.",
    "src/act/verify.ts",
    "if (serving < workload.desired) return",
    "if (serving < 0) return",
  ),
  machine(
    "well-for-lack-of-data",
    "A workload counts as well where nothing is measured.",
    "src/act/verify.ts",
    '  if (missing.length > 0) return { state: "NoData", message: missing.join("; ") };\n  if (requests',
    "  if (requests",
  ),
  machine(
    "replays-its-backlog",
    "What was held back begins once it may, whether its signal still fires or not.",
    EPISODES,
    "const signal = detection === undefined ? undefined : this.#world.currentSignal(remediation, detection);",
    'const isHeld = remediation.status.reason === "CircuitOpen" || remediation.status.reason === "OutsideWindow";\n    const signal = detection === undefined ? undefined : (this.#world.currentSignal(remediation, detection) ?? (isHeld ? { ...recordedSignal(remediation), seenAt: this.#clock.now() } : undefined));',
  ),

  store(
    "acts-before-it-is-stored",
    "A step goes on from its intent without waiting for the store.",
    MACHINE,
    "const [saved] = await Promise.all([this.#deps.save(next), ",
    "const saved = next;\n    void this.#deps.save(next).catch(() => undefined);\n    await Promise.all([",
  ),
  store(
    "writes-over-others",
    "After a conflict an episode is written all the same, over what somebody else has put there.",
    EPISODES,
    "if (newest !== undefined) this.#world.remediations.put(newest);",
    "if (newest !== undefined) return this.#world.remediations.put(await this.#store.update({ ...revised, metadata: newest.metadata })), revised;",
  ),
  store(
    "overlooks-deletions",
    "What was deleted is still there.",
    "src/loop/cache.ts",
    '          if (event.type === "Deleted") {\n            this.#remove(key, onChange);\n',
    '          if (event.type === "Deleted") {\n',
    { file: "src/loop/cache.ts", find: "for (const key of before) this.#remove(key, onChange);", replace: "" },
  ),
  store(
    "names-episodes-anew",
    "An episode has another name at each try to create it, so creating it is no lock.",
    EPISODES,
    'signal.name, startedAt].join("|")',
    'signal.name, startedAt, this.#clock.monotonic()].join("|")',
  ),
  store(
    "begins-a-second-episode",
    "Whether an episode is live for the same is not looked at.",
    EPISODES,
    "          !isTerminal(r) &&\n          policyKey(r) === key &&",
    "          isTerminal(r) && r.status.endedAt === undefined &&\n          policyKey(r) === key &&",
    { file: EPISODES, find: "const busy = this.#isAnothersTurn(decision, diagnosis);", replace: "const busy = false;" },
  ),
  store(
    "forgets-what-goes-on-record",
    "An intent is not put on the audit trail.",
    MACHINE,
    'this.#deps.audit("Intent", next, intended, `step ${intended.name} begins`)',
    "Promise.resolve()",
  ),

  leader(
    "takes-a-lease-that-is-held",
    "A Lease is taken while its holder still renews it.",
    ELECTION,
    "+ leaseMs(lease)) return false;",
    "- leaseMs(lease)) return false;",
  ),
  leader(
    "has-no-fence",
    "A leader that lost its Lease acts on, and nothing refuses what it writes.",
    ELECTION,
    "this.#o.clock.monotonic() - this.#renewedAt < RENEW_DEADLINE_MS;",
    "this.#o.clock.monotonic() - this.#renewedAt < Infinity;",
    { file: ELECTION, find: "if (clock.monotonic() - this.#renewedAt >= RENEW_DEADLINE_MS) return false;", replace: "" },
    { file: ELECTION, find: "if (!(await this.#renewOnce(begun))) return false;", replace: "await this.#renewOnce(begun);" },
    {
      file: "src/platform/sim/lease-client.ts",
      find: "if (this.#lease === undefined || this.epoch === epoch) return;",
      replace: "if (this.#lease === undefined || this.epoch !== -epoch) return;",
    },
    {
      file: "src/platform/sim/api-server.ts",
      find: "if (old.epoch !== undefined && (now.epoch ?? -1) < old.epoch)",
      replace: "if (old.epoch !== undefined && (now.epoch ?? -1) < 0)",
    },
  ),
  leader(
    "uses-an-epoch-again",
    "A new leader leads under the epoch of the last.",
    ELECTION,
    "this.#o.usedEpoch?.() ?? 0) + 1;",
    "this.#o.usedEpoch?.() ?? 0);",
  ),
  leader(
    "begins-to-count-epochs-anew",
    "Where the Lease was deleted, epochs begin at 1 again.",
    ELECTION,
    "return Math.max(this.#highest, this.#o.usedEpoch?.() ?? 0) + 1;",
    "return this.#highest + 1;",
  ),
  leader(
    "never-leads-again",
    "A process that has lost its Lease neither ends nor leads again.",
    ELECTION,
    "if (clock.monotonic() - this.#renewedAt >= RENEW_DEADLINE_MS) return false;",
    "",
    { file: ELECTION, find: "if (!(await this.#renewOnce(begun))) return false;", replace: "await this.#renewOnce(begun);" },
  ),

  paging(
    "loses-a-page-that-failed",
    "A page that no receiver confirmed counts as sent.",
    PAGER,
    "    if (failed === undefined)\n      return over",
    "    if (failed !== null)\n      return over",
  ),
  paging(
    "pages-a-receiver-twice",
    "A receiver that has confirmed is told again because another has not.",
    PAGER,
    "all.filter((receiver) => !confirmedBy.includes(receiver.name))",
    "all.filter(() => true)",
  ),
  paging(
    "pages-each-episode",
    "Each episode of an incident pages for itself.",
    PAGER,
    "      !isOver(other.status.page) &&\n",
    "      other.status.page === null &&\n",
  ),
  paging(
    "pages-under-a-key-of-its-own",
    "Each page of an incident has another key, so that receivers cannot tell them apart.",
    PAGER,
    "dedupKey: dedupKey(remediation), summary, tries: 0 }",
    "dedupKey: dedupKey(remediation) + remediation.metadata.name, summary, tries: 0 }",
  ),
  paging(
    "pages-again-until-it-is-over",
    "A page that was sent is sent again.",
    EPISODES,
    'if (page?.state === "Pending" || page?.state === "Resolving") return this.#deliver(remediation, page, (next) => ({ page: next }));',
    'if (page?.state === "Pending" || page?.state === "Sent" || page?.state === "Resolving") return this.#deliver(remediation, page, (next) => ({ page: next }));',
  ),
  paging(
    "escalates-in-silence",
    "An episode is handed to a person, and nobody is told.",
    EPISODES,
    "...(paged || status.page !== undefined\n",
    "...(paged || status.page !== null\n",
  ),
  paging(
    "gives-up-paging",
    "A page is tried once.",
    EPISODES,
    "if (wait > 0) return { after: wait };",
    "if (page.nextTryAt !== undefined) return {};",
  ),

  memory(
    "forgets-what-is-unfinished",
    "Episodes that a crash cut off are not taken up.",
    "src/loop/loop.ts",
    "    for (const remediation of [...unfinished, ...incidents]) {",
    "    for (const remediation of [...unfinished, ...incidents].slice(0, 0)) {",
  ),
  memory(
    "forgets-the-past-at-a-restart",
    "What ended before a start is not remembered: neither cooldowns nor strikes nor who was paged.",
    "src/loop/cache.ts",
    "if (listing) before.delete(key);",
    'if (listing && event.object.kind === "Remediation" && event.object.status.endedAt !== undefined) continue;\n          if (listing) before.delete(key);',
  ),
  memory(
    "forgets-the-cooldown",
    "An episode that ended is not rested after.",
    "src/decide/recently-remediated.ts",
    "const until = Math.min(ended, now) + cooldown;",
    "const until = Math.min(ended, now) + cooldown * 0;",
  ),
  memory(
    "forgives-strikes-with-time",
    "The circuit closes as soon as it has opened.",
    "src/decide/circuit-open.ts",
    "const stillOpen = (time: number): boolean => time + reset > now;",
    "const stillOpen = (time: number): boolean => time + 0 * reset > now;",
  ),
  memory(
    "forgets-the-attempts-of-others",
    "Only attempts of the episode itself are strikes.",
    "src/decide/circuit-open.ts",
    "of episodesOf(context).history) {",
    "of episodesOf(context).history.filter(({ metadata }) => metadata.name === context.self?.name)) {",
  ),
  memory(
    "takes-an-old-intent-for-its-own",
    "An intent that a crash cut off is carried out without a look at what became of it, and without a gate.",
    MACHINE,
    "this.#step.effectId !== fresh",
    "this.#step.effectId === undefined",
  ),
];
