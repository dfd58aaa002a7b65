import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { attemptOf, episodeOf, HOUR, MINUTE, NOW, policyOf } from "../../../test/support/gate-context.ts";
import { MemoryStore } from "../../../test/support/memory-store.ts";
import { askServer, readStatus, statusText, type StatusReport } from "./status.ts";

const TOKEN = "a-token-of-the-state-directory";

async function serve(t: TestContext, status: number): Promise<{ url: string; tokens: (string | undefined)[] }> {
  const tokens: (string | undefined)[] = [];
  const server = createServer((req, res) => {
    tokens.push(req.headers.authorization);
    res.writeHead(status, status === 302 ? { location: "http://127.0.0.1:1/" } : {}).end('{"workloads":[],"queueDepth":0}');
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, tokens };
}

function stateDir(t: TestContext, files: Readonly<Record<string, string>>): string {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-status-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  return dir;
}

describe("the workloads", () => {
  it("come from the Nightshift that noted its address in the state directory", async (t) => {
    const { url, tokens } = await serve(t, 200);
    const dir = stateDir(t, { token: `${TOKEN}\n`, url: `${url}\n` });
    assert.deepEqual(await askServer(undefined, dir), { workloads: [], note: null });
    assert.deepEqual(tokens, [`Bearer ${TOKEN}`]);
    const other = await serve(t, 200);
    assert.deepEqual((await askServer(other.url, dir)).workloads, []);
    assert.equal(tokens.length, 1, "--server wins");
  });
  it("where none runs, the token is sent to nobody", async (t) => {
    assert.match((await askServer(undefined, stateDir(t, { token: TOKEN }))).note ?? "", /no Nightshift runs with this state directory/);
    assert.match((await askServer(undefined, stateDir(t, { url: "http://127.0.0.1:1" }))).note ?? "", /token cannot be read/);
  });
  it("a server that refuses, redirects or is gone is told, and is no failure", async (t) => {
    for (const [status, note] of [
      [401, /answered 401/],
      [302, /no Nightshift answers/],
    ] as const) {
      const { url } = await serve(t, status);
      assert.match((await askServer(undefined, stateDir(t, { token: TOKEN, url }))).note ?? "", note);
    }
    assert.match((await askServer("not a url", stateDir(t, { token: TOKEN }))).note ?? "", /no Nightshift answers/);
  });
});

describe("what the store says", () => {
  it("episodes by age, circuits that are open, pauses that hold", async () => {
    const store = new MemoryStore();
    const policy = policyOf({ attempts: { max: 2, window: "1h" }, paused: { reason: "release", until: "2026-06-03T13:00:00Z" } });
    await store.create<"RemediationPolicy">(policy);
    const failed = (name: string, ago: number): Promise<unknown> =>
      store.create<"Remediation">(
        episodeOf({
          name,
          created: NOW - ago,
          status: { phase: "Failed", outcome: "Ineffective", attempts: [attemptOf("Ineffective", NOW - ago)] },
        }),
      );
    await failed("later", MINUTE);
    await failed("earlier", 10 * MINUTE);
    const status = await readStatus(store, NOW);
    assert.deepEqual(
      status.remediations.map((r) => r.metadata.name),
      ["earlier", "later"],
    );
    assert.deepEqual(
      status.openCircuits.map(({ strikes, max }) => [strikes, max]),
      [[2, 2]],
    );
    assert.equal(status.openCircuits[0]?.closesAt, new Date(NOW - MINUTE + HOUR).toISOString());
    assert.equal(status.pauses.length, 1);
    assert.deepEqual((await readStatus(store, NOW + 2 * HOUR)).pauses, []);

    const report: StatusReport = { stateDir: "x", cluster: null, workloads: null, note: "none runs", ...status };
    const text = statusText(report, NOW, false);
    assert.match(text, /^Workloads\nnone runs\n/);
    assert.match(text, /\nNAME +POLICY +TARGET +CAUSE +PHASE +REASON +OUTCOME +AGE\nearlier +payments /);
    assert.match(text, /\nOpen circuits\n.*\ndefault\/payments +\S+ +2\/2 +59m\n/);
    assert.match(text, /\nPauses\n[^]*release/);
    // oxlint-disable-next-line no-control-regex -- what a terminal would act on must not get there
    assert.doesNotMatch(statusText({ ...report, note: "x" }, NOW, true), /\u001b/);
  });
});
