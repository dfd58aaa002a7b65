import { API_VERSION } from "../../api/meta.ts";
import type { CaptureRecord, Remediation } from "../../api/remediation.ts";
import { timestamp } from "../../api/time.ts";
import { durationMs } from "../../api/units.ts";
import { NightshiftError } from "../../api/errors.ts";
import type { Page, Receiver } from "../../record/paging.ts";
import type { ApiServer } from "./api-server.ts";
import type { Job } from "./effect.ts";
import type { Faults } from "./faults.ts";
import type { SimProcess } from "./process.ts";
import { type SimRandom, streamOf } from "./random.ts";
import type { Scenario } from "./scenario.ts";
import type { Simulation } from "./simulation.ts";
import type { SimWorkload, SimWorld } from "./world.ts";

/** The receiver that wakes a person. */
export const ON_CALL = "oncall";

/** A page as it arrived with who is on call. */
export interface Delivered {
  readonly page: Page;
  /** When it was sent, by the true clock (ms since the epoch). */
  readonly sentAt: number;
  /** When it arrived, by the true clock (ms since the epoch). */
  readonly at: number;
}

/** Everybody whom the operators have to do with and who is no part of the cluster: node agents, jobs, people on call. */
export class Surroundings {
  readonly pages: Delivered[] = [];
  /** What was said to be over, or to need no answer any more. */
  readonly resolved: Delivered[] = [];
  readonly jobs = new Map<string, Job>();
  readonly #scenario: Scenario;
  readonly #simulation: Simulation;
  readonly #world: SimWorld;
  readonly #api: ApiServer;
  readonly #random: SimRandom;
  readonly #room: SimRandom;
  readonly #people: SimRandom;
  readonly #faults: () => Faults;
  /** Captures that an agent has taken up, by effect id. */
  readonly #captures = new Set<string>();
  readonly #asked = new Set<string>();

  constructor(options: {
    readonly scenario: Scenario;
    readonly simulation: Simulation;
    readonly world: SimWorld;
    readonly api: ApiServer;
    readonly random: SimRandom;
    readonly faults: () => Faults;
  }) {
    this.#scenario = options.scenario;
    this.#simulation = options.simulation;
    this.#world = options.world;
    this.#api = options.api;
    this.#random = options.random;
    this.#room = streamOf(options.scenario.seed, "surroundings/room");
    this.#people = streamOf(options.scenario.seed, "surroundings/people");
    this.#faults = options.faults;
    options.api.onChange(({ object }) => {
      if (object.kind !== "Remediation") return;
      this.#capture(object);
      this.#approve(object);
    });
  }

  /** Receivers, as a process reaches them. */
  receivers(process: SimProcess): readonly Receiver[] {
    return [
      {
        name: ON_CALL,
        send: (page) => this.#tell(process, this.#random, (sentAt) => void this.pages.push({ page, sentAt, at: this.#simulation.now })),
        resolve: (page) =>
          this.#tell(process, this.#random, (sentAt) => void this.resolved.push({ page, sentAt, at: this.#simulation.now })),
      },
      // The room where all can read along. It wakes nobody, but fails as the other does, and apart from it.
      {
        name: "room",
        send: () => this.#tell(process, this.#room),
        resolve: () => this.#tell(process, this.#room),
      },
    ];
  }

  #tell(process: SimProcess, random: SimRandom, arrives: (sentAt: number) => void = () => undefined): Promise<void> {
    const sentAt = this.#simulation.now;
    return new Promise((resolve, reject) => {
      this.#simulation.schedule(20 + random.next() * 200, () => {
        // It may have told the person, and failed to say so.
        const fails = this.#faults().strikes("ReceiverDown");
        if (!fails || random.chance(0.3)) arrives(sentAt);
        process.after(5, () => (fails ? reject(new NightshiftError("PAGE_NOT_DELIVERED", "HTTP 503")) : resolve()));
      });
    });
  }

  /** Runs a job to its end. */
  startJob(id: string, workload: SimWorkload): void {
    const job: Job = { state: "Running" };
    this.jobs.set(id, job);
    this.#simulation.schedule(2_000 + this.#random.next() * 20_000, () => {
      job.state = this.#random.chance(this.#scenario.jobFailures ?? 0.15) ? "Failed" : "Complete";
      if (job.state === "Complete") this.#world.jobCompleted(workload);
    });
  }

  /** The agent on a node sees that a capture is wanted, takes it and answers. */
  #capture({ metadata, status }: Remediation): void {
    const step = status.attempts.at(-1)?.steps.find(({ type, state }) => type === "capture" && state === "Intended");
    if (step === undefined || this.#captures.has(step.effectId)) return;
    this.#captures.add(step.effectId);
    this.#simulation.schedule(500 + this.#random.next() * 15_000, () => {
      const current = this.#api.get("Remediation", metadata.namespace, metadata.name);
      if (current === undefined) return;
      const target = step.target ?? current.spec.remediationTarget;
      const alive = this.#world.pod(target.uid)?.phase === "Running";
      const now = timestamp(this.#simulation.now);
      const failed = !alive || this.#faults().strikes("CaptureFails");
      const record: CaptureRecord = {
        effectId: step.effectId,
        state: failed ? "Failed" : "Done",
        node: this.#world.pod(target.uid)?.node.name ?? "node-0",
        startedAt: now,
        endedAt: now,
        ...(failed
          ? { message: "the process is gone" }
          : {
              artifact: {
                type: "HeapSnapshot",
                path: `s3://captures/${step.effectId}`,
                bytes: 1_000,
                sha256: "0".repeat(64),
                replica: { ...target, namespace: target.namespace },
                capturedAt: now,
              },
            }),
      };
      this.#api.update<"Remediation">({ ...current, status: { ...current.status, captures: [...current.status.captures, record] } });
    });
  }

  /** A person answers what is asked. */
  #approve(remediation: Remediation): void {
    const { metadata, spec, status } = remediation;
    if (status.phase !== "AwaitingApproval" || this.#asked.has(metadata.name)) return;
    this.#asked.add(metadata.name);
    const { afterMs, approves, denies, habits } = this.#scenario.approver;
    const fate = this.#random.next();
    if (fate >= approves + denies) return;
    const decision = fate < approves ? "Approved" : "Denied";
    const after = afterMs * (0.5 + this.#random.next());
    const habit = habits === undefined ? "Once" : this.#people.pick(habits);
    const { uid } = spec.remediationTarget;
    switch (habit) {
      case "Once":
        return this.#answer(remediation, after, "answer", decision, uid);
      case "Twice":
      case "Contradicts": {
        this.#answer(remediation, after, "answer", decision, uid);
        const opposite = decision === "Approved" ? "Denied" : "Approved";
        return this.#answer(
          remediation,
          after + this.#people.int(500, 60_000),
          "second-answer",
          habit === "Twice" ? decision : opposite,
          uid,
        );
      }
      case "TooLate": {
        const policy = this.#api.get("RemediationPolicy", metadata.namespace, spec.policy.name);
        const timeout = policy === undefined ? 0 : durationMs(policy.spec.approval.timeout);
        return this.#answer(remediation, timeout + this.#people.int(500, 120_000), "answer", decision, uid);
      }
      case "Elsewhere":
        return this.#answer(remediation, after, "answer", decision, this.#people.uuid());
      case "Replaced": {
        this.#simulation.schedule(Math.max(0, after - this.#people.int(0, 5_000)), () => {
          const pod = this.#world.pod(uid);
          if (pod !== undefined) this.#world.deletePod(pod);
        });
        return this.#answer(remediation, after, "answer", decision, uid);
      }
    }
  }

  #answer({ metadata }: Remediation, after: number, suffix: string, decision: "Approved" | "Denied", targetUid: string | undefined): void {
    this.#simulation.schedule(after, () => {
      this.#api.create<"RemediationApproval">({
        apiVersion: API_VERSION,
        kind: "RemediationApproval",
        metadata: { name: `${metadata.name.slice(0, 235)}-${suffix}`, namespace: metadata.namespace },
        spec: {
          remediation: metadata.name,
          ...(targetUid === undefined ? {} : { targetUid }),
          decision,
          by: "somebody@example.com",
          at: timestamp(this.#simulation.now),
        },
      });
    });
  }
}
