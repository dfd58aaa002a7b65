import assert from "node:assert/strict";
import { it } from "node:test";
import { NightshiftError } from "../api/errors.ts";
import { byLeader, type Page } from "./paging.ts";

it("whoever may not lead any more tells receivers nothing, neither that somebody is needed nor that it is over", async () => {
  const told: string[] = [];
  const keeps = { name: "pager", send: async () => void told.push("send"), resolve: async () => void told.push("resolve") };
  const forgets = { name: "chat", send: async () => void told.push("chat") };
  let leads = true;
  const [pager, chat] = byLeader([keeps, forgets], () => {
    if (!leads) throw new NightshiftError("NOT_LEADER", "the lease may be lost");
    return 1;
  });
  const { signal } = new AbortController();
  const page = {} as Page;
  await pager?.send(page, signal);
  await pager?.resolve?.(page, signal);
  await chat?.send(page, signal);
  assert.ok(chat !== undefined && !("resolve" in chat));
  leads = false;
  for (const tell of [pager?.send(page, signal), pager?.resolve?.(page, signal), chat?.send(page, signal)])
    await assert.rejects(async () => tell, { code: "NOT_LEADER" });
  assert.deepEqual(told, ["send", "resolve", "chat"]);
});
