import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CaptureRecord, Remediation } from "../../src/api/remediation.ts";
import { systemClock } from "../../src/platform/host/clock.ts";
import { HttpKubeClient } from "../../src/platform/kubernetes/http-client.ts";
import { CUSTOM } from "../../test/support/fake-api/resources.ts";
import { FakeApi } from "../../test/support/fake-api/server.ts";
import type { KubeObject } from "../../test/support/fake-api/types.ts";
import { remediationObject } from "../../test/support/objects.ts";
import { Answers } from "./answers.ts";

const never = new AbortController().signal;
const EPISODE = { namespace: "default", name: "e" };

const entry = (effectId: string, node: string, state: CaptureRecord["state"] = "Running"): CaptureRecord => ({
  effectId,
  state,
  node,
  startedAt: "2026-01-01T00:00:00Z",
});

async function rig(): Promise<{
  api: FakeApi;
  answers: Answers;
  stored: () => Remediation["status"];
  [Symbol.asyncDispose](): Promise<void>;
}> {
  const api = await FakeApi.start({ types: [...CUSTOM] });
  const client = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test" });
  const type = api.type("remediations");
  const { spec, status } = remediationObject("e");
  api.storage.create(type, "default", { metadata: { name: "e" }, spec } as unknown as KubeObject);
  api.storage.patch(type, "default", "e", "application/merge-patch+json", { status: { ...status, epoch: 3 } }, { subresource: "status" });
  return {
    api,
    answers: new Answers(client, systemClock),
    stored: () => (api.storage.get(type, "default", "e") as unknown as Remediation).status,
    async [Symbol.asyncDispose]() {
      await client.close();
      await api.down();
    },
  };
}

describe("answers", () => {
  it("of many agents at once are all stored, and one effect is taken up by one alone", async () => {
    await using r = await rig();
    const nodes = ["n1", "n2", "n3", "n4"];
    const claim = (effectId: string, node: string): Promise<unknown> =>
      r.answers.write(EPISODE, effectId, (current) => (current === undefined ? entry(effectId, node) : undefined), never);
    await Promise.all(nodes.flatMap((node) => [claim("shared", node), claim(`own-${node}`, node)]));
    const { captures, epoch } = r.stored();
    assert.deepEqual(captures.map(({ effectId }) => effectId).sort(), ["own-n1", "own-n2", "own-n3", "own-n4", "shared"]);
    assert.equal(epoch, 3, "the rest of the status is not an agent's");
  });

  it("are written again when somebody else wrote meanwhile, from what is there then", async () => {
    await using r = await rig();
    let tries = 0;
    await r.answers.write(
      EPISODE,
      "a",
      () => {
        tries += 1;
        if (tries === 1)
          r.api.storage.patch(
            r.api.type("remediations"),
            "default",
            "e",
            "application/merge-patch+json",
            { status: { message: "theirs" } },
            { subresource: "status" },
          );
        return entry("a", "n1");
      },
      never,
    );
    assert.equal(tries, 2);
    assert.equal(r.stored().message, "theirs");
    assert.equal(r.stored().captures.length, 1);
  });

  it("that were stored although their own answer was lost are found, not stored twice", async () => {
    await using r = await rig();
    let lost = 0;
    r.api.fault = (request) => (request.verb === "patch" && (lost += 1) === 1 ? "reset-after" : undefined);
    const stored = await r.answers.write(EPISODE, "a", (current) => (current === undefined ? entry("a", "n1") : undefined), never);
    assert.equal(stored?.status?.captures?.length, 1);
    assert.equal(lost, 1);
  });

  it("wait for an API server that is away, end with the signal, and are nobody's once the episode is gone", async () => {
    await using r = await rig();
    await r.api.down();
    const late = r.answers.write(EPISODE, "a", () => entry("a", "n1"), never);
    assert.equal(await r.answers.write(EPISODE, "b", () => entry("b", "n1"), AbortSignal.timeout(300)), undefined);
    await r.api.up();
    assert.equal((await late)?.status?.captures?.length, 1);
    assert.equal(await r.answers.write({ ...EPISODE, name: "gone" }, "a", () => entry("a", "n1"), never), undefined);
  });

  it("that the API server refuses are an error", async () => {
    await using r = await rig();
    r.api.fault = (request) => (request.verb === "patch" ? { refuse: 403, reason: "Forbidden" } : undefined);
    await assert.rejects(
      r.answers.write(EPISODE, "a", () => entry("a", "n1"), never),
      { code: "KUBE_FORBIDDEN" },
    );
  });
});
