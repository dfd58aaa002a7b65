import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { CUSTOM } from "../../../test/support/fake-api/resources.ts";
import { FakeApi } from "../../../test/support/fake-api/server.ts";
import type { KubeObject } from "../../../test/support/fake-api/types.ts";
import { approvalObject, remediationObject } from "../../../test/support/objects.ts";
import { systemClock } from "../host/clock.ts";
import { DirectStore } from "./direct-store.ts";
import { HttpKubeClient } from "./http-client.ts";

async function setUp(t: TestContext) {
  const api = await FakeApi.start({ types: CUSTOM, user: "ada@example.com" });
  const client = new HttpKubeClient({ access: api.access, clock: systemClock, version: "test" });
  t.after(async () => {
    await client.close();
    await api.down();
  });
  const unreadable: string[] = [];
  const put = (object: object): void => {
    const raw = structuredClone(object) as KubeObject;
    const created = api.storage.create(api.type("remediations"), raw.metadata.namespace, raw);
    api.storage.update(
      api.type("remediations"),
      raw.metadata.namespace,
      raw.metadata.name,
      { ...created, status: raw["status"] },
      { subresource: "status" },
    );
  };
  return { api, store: new DirectStore(client, (message) => unreadable.push(message)), unreadable, put };
}

describe("the store of commands", () => {
  it("reads one, a namespace's and all, also over many pages, and leaves out what it cannot read", async (t) => {
    const { store, put, api, unreadable } = await setUp(t);
    for (let i = 0; i < 501; i++) put(remediationObject(`r${i}`));
    put(remediationObject("other", "shop"));
    put({ ...remediationObject("new"), status: { phase: "Dreaming" } });
    assert.equal((await store.get("Remediation", "default", "r7"))?.metadata.name, "r7");
    assert.equal(await store.get("Remediation", "default", "none"), undefined);
    assert.equal((await store.list("Remediation", "default")).length, 501);
    assert.equal((await store.list("Remediation")).length, 502);
    assert.match(unreadable[0] ?? "", /^Remediation default\/new is left out: /);
    assert.deepEqual(await store.list("RemediationBudget"), []);
    assert.equal(api.requests.filter(({ verb }) => verb === "watch").length, 0);
  });

  it("makes an approval, and knows who asks", async (t) => {
    const { store } = await setUp(t);
    assert.equal(await store.whoAmI(), "ada@example.com");
    const stored = await store.create<"RemediationApproval">(approvalObject("yes"));
    assert.equal(stored.metadata.name, "yes");
    assert.notEqual(stored.metadata.uid, undefined);
    await assert.rejects(store.create<"RemediationApproval">(approvalObject("yes")), { code: "ALREADY_EXISTS" });
  });

  it("says what is refused, and what cannot be reached", async (t) => {
    const { store, api } = await setUp(t);
    api.fault = () => ({ refuse: 403, reason: "Forbidden" });
    await assert.rejects(store.list("Remediation", "shop"), {
      code: "FORBIDDEN",
      message: /^Remediation shop\/\* is refused: injected: 403/,
    });
    await assert.rejects(store.whoAmI(), { code: "FORBIDDEN" });
    await api.down();
    await assert.rejects(store.get("Remediation", "shop", "x"), { code: "STORE_UNAVAILABLE" });
  });
});
