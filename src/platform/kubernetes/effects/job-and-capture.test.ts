import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { failure } from "../../../../test/support/fake-kube.ts";
import { at, KubeWorld } from "../../../../test/support/kube-world.ts";
import { NightshiftError } from "../../../api/errors.ts";
import { artifactSchema } from "../../../api/remediation.ts";
import type { Effect } from "../../../ports/platform.ts";
import { MARKS } from "../marks.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;

describe("RunJob", () => {
  function setUp() {
    const world = new KubeWorld();
    world.deployment();
    const run: Effect = { id: "shop/r/0/0", type: "RunJob", workload: world.workload("payments").ref, command: ["/bin/flush", "--all"] };
    const job = () => world.kube.all("Job")[0];
    const end = (type: "Complete" | "Failed", message = ""): void =>
      world.kube.change("Job", "shop", job()!.metadata.name, { status: { conditions: [{ type, status: "True", message }] } });
    return { world, run, job, end };
  }

  it("runs the command in the workload's image, restricted, and waits for its end", async () => {
    const { world, run, job, end } = setUp();
    world.clock.after(3_000, () => end("Complete"));
    await world.apply(run);
    const { spec, metadata } = job() as unknown as {
      spec: { template: { metadata: object; spec: Record<string, unknown> } };
      metadata: { name: string; annotations: object; labels: object };
    };
    assert.match(metadata.name, /^nightshift-payments-[0-9a-f]{16}$/);
    assert.partialDeepStrictEqual(metadata.annotations, { [MARKS.effect]: run.id, [MARKS.epoch]: "7" });
    assert.partialDeepStrictEqual(spec, { backoffLimit: 0, ttlSecondsAfterFinished: 86_400 });
    assert.partialDeepStrictEqual(spec.template.spec, {
      restartPolicy: "Never",
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
      containers: [
        {
          image: "payments:1",
          command: ["/bin/flush", "--all"],
          resources: { limits: { memory: "256Mi" } },
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
        },
      ],
    });
    assert.deepEqual(metadata.labels, { "app.kubernetes.io/managed-by": "nightshift" });
    assert.equal((await world.restarted().observe(run)).state, "Applied");
  });

  it("never runs twice: the API server keeps its name", async () => {
    const { world, run, end } = setUp();
    await assert.rejects(world.apply(run, 2_000), code("EFFECT_TIMEOUT"));
    assert.deepEqual(await world.restarted().observe(run), { state: "NotApplied" });
    end("Complete");
    await world.apply(run, 60_000, world.restarted());
    assert.equal(world.kube.writes.filter(({ method }) => method === "POST").length, 1);
  });

  it("is not run twice when the answer to its creation is lost", async () => {
    const { world, run, end } = setUp();
    let lost = true;
    world.kube.after = ({ method }) => {
      if (method !== "POST" || !lost) return;
      lost = false;
      end("Complete");
      throw failure("KUBE_CONNECTION_LOST", "the connection broke");
    };
    await world.apply(run);
    assert.equal(world.kube.all("Job").length, 1);
  });

  it("says what it died of, and cannot know what it did before", async () => {
    const { world, run, end } = setUp();
    world.clock.after(1_000, () => end("Failed", "Job has reached the specified backoff limit"));
    await assert.rejects(world.apply(run), (error) => code("JOB_FAILED")(error) && /backoff limit/.test(String(error)));
    assert.deepEqual(await world.restarted().observe(run), {
      state: "Unknown",
      why: "the job was run: Job has reached the specified backoff limit",
    });
  });

  it("is cut off when its time is up, and says what kept it", async () => {
    const { world, run, job } = setUp();
    world.clock.after(500, () => {
      const labels = { "batch.kubernetes.io/job-name": job()!.metadata.name };
      const waiting = { reason: "CreateContainerConfigError", message: "container has runAsNonRoot and image will run as root" };
      world.pod("job-pod", { labels }, {}, { phase: "Pending", containerStatuses: [{ name: "job", state: { waiting } }] });
    });
    await assert.rejects(world.apply(run, 5_000), /CreateContainerConfigError: container has runAsNonRoot/);
    assert.equal((job() as unknown as { spec: { activeDeadlineSeconds: number } }).spec.activeDeadlineSeconds, 1);
  });

  it("cannot tell how a job ended that somebody has deleted", async () => {
    const { world, run, job } = setUp();
    world.clock.after(2_000, () => world.kube.remove("Job", "shop", job()!.metadata.name));
    await assert.rejects(world.apply(run), code("EFFECT_UNKNOWN"));
  });
});

describe("Capture", () => {
  function setUp() {
    const world = new KubeWorld();
    world.deployment();
    const replica = world.target();
    const effect: Effect = {
      id: "shop/payments-leak-0123456789/0/4",
      type: "Capture",
      replica,
      capture: { type: "HeapSnapshot", required: true, raiseLimit: true },
    };
    world.kube.put("Remediation", { metadata: { name: "payments-leak-0123456789", namespace: "shop" }, status: {} });
    const artifact = artifactSchema.parse({
      type: "HeapSnapshot",
      path: "x.heapsnapshot",
      bytes: 5,
      sha256: "0".repeat(64),
      replica,
      capturedAt: at(0),
    });
    const answer = (record: object): void =>
      world.kube.change("Remediation", "shop", "payments-leak-0123456789", {
        status: { captures: [{ effectId: effect.id, node: "n1", startedAt: at(0), ...record }] },
      });
    return { world, effect, artifact, answer };
  }

  it("waits for the agent's answer in the Remediation, and writes nothing itself", async () => {
    const { world, effect, artifact, answer } = setUp();
    world.clock.after(1_000, () => answer({ state: "Running", progress: "40%" }));
    world.clock.after(8_000, () => answer({ state: "Done", artifact }));
    assert.deepEqual(await world.effects.observe(effect), { state: "NotApplied" });
    assert.deepEqual((await world.apply(effect)).artifact, artifact);
    assert.deepEqual(world.kube.writes, []);
    const found = await world.restarted().observe(effect);
    assert.deepEqual(found.state === "Applied" ? found.result.artifact : undefined, artifact);
  });

  it("fails with the agent's words", async () => {
    const { world, effect, answer } = setUp();
    answer({ state: "Failed", message: "no space left on device" });
    await assert.rejects(
      world.apply(effect),
      (error) => code("CAPTURE_FAILED")(error) && /n1: no space left on device/.test(String(error)),
    );
    assert.deepEqual(await world.restarted().observe(effect), { state: "NotApplied" });
  });

  it("says how far it was when its time is up, and what is missing where no agent answers", async () => {
    const { world, effect, answer } = setUp();
    await assert.rejects(world.apply(effect, 3_000), /no agent has taken it up/);
    answer({ state: "Running", progress: "40%" });
    await assert.rejects(world.apply(effect, 3_000), /the agent on n1 is at it: 40%/);
  });

  it("does not take another step's answer for its own", async () => {
    const { world, effect, artifact, answer } = setUp();
    answer({ effectId: "shop/payments-leak-0123456789/1/4", state: "Done", artifact });
    await assert.rejects(world.apply(effect, 3_000), code("EFFECT_TIMEOUT"));
  });

  it("fails where the Remediation is gone", async () => {
    const { world, effect } = setUp();
    world.kube.remove("Remediation", "shop", "payments-leak-0123456789");
    await assert.rejects(world.apply(effect), code("NOT_FOUND"));
  });
});
