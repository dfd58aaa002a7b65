import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { CUSTOM } from "../../test/support/fake-api/resources.ts";
import { FakeApi } from "../../test/support/fake-api/server.ts";
import type { KubeObject } from "../../test/support/fake-api/types.ts";
import { remediationObject } from "../../test/support/objects.ts";
import { SqliteStore } from "../platform/host/store.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

describe("commands on a cluster", () => {
  let api: FakeApi;
  let dir = "";
  const kubeconfig = (): string => join(dir, "config");

  before(async () => {
    api = await FakeApi.start({ types: CUSTOM, user: "ada@example.com" });
    dir = mkdtempSync(join(tmpdir(), "nightshift-place-"));
    const context = (name: string, namespace: string): object => ({ name, context: { cluster: "c", user: "u", namespace } });
    writeFileSync(
      kubeconfig(),
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        "current-context": "near",
        clusters: [{ name: "c", cluster: { server: api.url.href, "insecure-skip-tls-verify": true } }],
        users: [{ name: "u", user: {} }],
        contexts: [context("near", "shop"), context("far", "bank")],
      }),
    );
    for (const [namespace, name] of [
      ["shop", "payments-leak-4c1f"],
      ["bank", "ledger-hung-77aa"],
    ] as const) {
      const object = remediationObject(name, namespace);
      const raw = structuredClone(object) as unknown as KubeObject;
      const type = api.type("remediations");
      const created = api.storage.create(type, namespace, raw);
      const status = { ...object.status, phase: "AwaitingApproval", message: "waiting for a person's yes" };
      api.storage.update(type, namespace, name, { ...created, status }, { subresource: "status" });
    }
  });
  after(async () => {
    await api.down();
    rmSync(dir, { recursive: true, force: true });
  });

  async function nightshift(args: readonly string[], env: Readonly<Record<string, string>> = {}, cwd = dir): Promise<Ran> {
    const { PATH = "" } = process.env;
    const child = spawn(process.execPath, [MAIN, ...args], { cwd, env: { PATH, HOME: dir, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { code: child.exitCode, stdout, stderr };
  }

  it("status shows the episodes of the context's namespace, of another, or of all", async () => {
    const near = await nightshift(["status"], { KUBECONFIG: kubeconfig() });
    assert.equal(near.code, 0, near.stderr);
    assert.match(near.stdout, /namespace shop: kubectl get pods shows them/);
    assert.match(near.stdout, /\nshop\/payments-leak-4c1f +leak .* AwaitingApproval /);
    assert.doesNotMatch(near.stdout, /ledger/);
    const far = await nightshift(["status", "--kubeconfig", kubeconfig(), "--context", "far"]);
    assert.match(far.stdout, /\nbank\/ledger-hung-77aa /);
    const named = await nightshift(["status", "--kubeconfig", kubeconfig(), "-n", "bank"]);
    assert.match(named.stdout, /ledger/);
    const all = await nightshift(["status", "--kubeconfig", kubeconfig(), "-A", "--json"]);
    const report = JSON.parse(all.stdout) as { remediations: unknown[]; cluster: string; stateDir: string | null };
    assert.deepEqual([report.remediations.length, report.cluster, report.stateDir], [2, api.url.href, null]);
  });

  it("status leaves out the limits of the whole cluster where the user may not read them", async () => {
    api.fault = ({ plural }) => (plural === "remediationbudgets" ? { refuse: 403, reason: "Forbidden" } : undefined);
    const { code, stdout, stderr } = await nightshift(["status", "--kubeconfig", kubeconfig()]);
    api.fault = undefined;
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /payments-leak-4c1f/);
  });

  it("approve answers in the name that the API server knows the user by", async () => {
    const { code, stdout, stderr } = await nightshift(["approve", "payments-leak-4c1f", "--kubeconfig", kubeconfig()]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^approved: shop\/payments-leak-4c1f on \S+, by ada@example.com\n$/);
    const [approval] = api.storage.list(api.type("remediationapprovals"), "shop");
    assert.partialDeepStrictEqual(approval?.["spec"], { remediation: "payments-leak-4c1f", decision: "Approved", by: "ada@example.com" });
  });

  it("approve says what waits in the namespace, and what the API server refuses", async () => {
    const none = await nightshift(["approve", "ledger-hung-77aa", "--kubeconfig", kubeconfig()]);
    assert.equal(none.code, 2);
    assert.match(none.stderr, /no remediation ledger-hung-77aa in namespace shop.*These wait for approval: payments-leak-4c1f/);
    api.fault = ({ plural, verb }) =>
      plural === "remediationapprovals" && verb === "create" ? { refuse: 403, reason: "Forbidden" } : undefined;
    const refused = await nightshift(["approve", "bank/ledger-hung-77aa", "--deny", "--kubeconfig", kubeconfig()]);
    api.fault = undefined;
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /\[FORBIDDEN\]/);
  });

  it("audit show tells the story that the object itself has", async () => {
    const { code, stdout, stderr } = await nightshift(["audit", "show", "payments-leak-4c1f", "--kubeconfig", kubeconfig()]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^Remediation {2}shop\/payments-leak-4c1f\n/);
    assert.match(stdout, /Time line, from /);
    assert.match(stdout, /Signal +\S+ fires on /);
  });

  it("a state directory is this machine, the kubeconfig's cluster otherwise; without either it says what to name", async () => {
    const here = join(dir, "here");
    mkdirSync(join(here, ".nightshift"), { recursive: true });
    SqliteStore.open(join(here, ".nightshift/nightshift.db")).close();
    const local = await nightshift(["status"], { KUBECONFIG: kubeconfig() }, here);
    assert.doesNotMatch(local.stdout, /payments-leak-4c1f/);
    const cluster = await nightshift(["status", "--context", "near"], { KUBECONFIG: kubeconfig() }, here);
    assert.match(cluster.stdout, /payments-leak-4c1f/);
    const nowhere = await nightshift(["status"]);
    assert.equal(nowhere.code, 2);
    assert.match(nowhere.stderr, /\[NO_STATE\].*--state DIR.*--kubeconfig FILE/);
    const unknown = await nightshift(["status", "--context", "none"], { KUBECONFIG: kubeconfig() });
    assert.match(unknown.stderr, /\[KUBECONFIG_INVALID\]/);
  });

  it("a cluster that does not answer is unavailable", async () => {
    await api.down();
    const { code, stderr } = await nightshift(["status", "--kubeconfig", kubeconfig()]);
    await api.up();
    assert.equal(code, 69);
    assert.match(stderr, /\[STORE_UNAVAILABLE\]/);
  });
});
