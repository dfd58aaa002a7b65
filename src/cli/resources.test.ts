import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { MemoryStore } from "../../test/support/memory-store.ts";
import type { EffectType } from "../ports/platform.ts";
import { resourceFiles } from "./files.ts";
import { applyResources, readResources, refuseUnsupported } from "./resources.ts";

const policyText = (name: string, strategy = "RestartPod"): string =>
  `apiVersion: nightshift.dev/v1alpha1
kind: RemediationPolicy
metadata: { name: ${name} }
spec: { targets: [{ name: web }], signals: [{ name: s, probe: {} }], ladder: [{ strategy: ${strategy} }] }
`;

function directory(t: TestContext, files: Readonly<Record<string, string>>): string {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-resources-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(dir, name, ".."), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  return dir;
}

describe("files of resources", () => {
  it("below a directory: what mentions Nightshift, each once, nothing hidden; as policy check reads them", async (t) => {
    const dir = directory(t, {
      "a.yaml": policyText("a"),
      "deep/b.yml": policyText("b"),
      "docker-compose.yaml": "services: {}\n",
      "notes.txt": policyText("c"),
      ".hidden.yaml": policyText("d"),
      "node_modules/x/e.yaml": policyText("e"),
    });
    symlinkSync(dir, join(dir, "deep", "loop"));
    symlinkSync(join(dir, "a.yaml"), join(dir, "z.yaml"));
    const { files, skipped } = await resourceFiles([dir]);
    assert.deepEqual(
      files.map(({ path }) => path),
      [join(dir, "a.yaml"), join(dir, "deep/b.yml")],
    );
    assert.deepEqual(skipped, [join(dir, "docker-compose.yaml")]);
    // A stack may name a directory in which other manifests lie, too.
    const { resources, errors } = await readResources([dir]);
    assert.deepEqual([resources.length, errors], [2, []]);
  });
  it("one that is named is read whatever it holds, and one that is not there is told", async (t) => {
    const dir = directory(t, { "compose.yaml": "services: {}\n" });
    assert.equal((await readResources([join(dir, "compose.yaml")])).errors.length, 2);
    await assert.rejects(readResources([join(dir, "nowhere")]), { code: "NO_SUCH_FILE", where: join(dir, "nowhere") });
  });
});

describe("applying resources", () => {
  it("creates, changes, deletes what the files no longer have, and leaves alone what came from elsewhere", async (t) => {
    const store = new MemoryStore();
    const dir = directory(t, { "a.yaml": policyText("a"), "b.yaml": policyText("b") });
    const apply = async (): Promise<string[]> => applyResources(store, (await readResources([dir])).resources);
    assert.deepEqual(await apply(), ["RemediationPolicy default/a created", "RemediationPolicy default/b created"]);
    assert.deepEqual(await apply(), []);
    const [known] = await store.list("RemediationPolicy");
    assert.ok(known);
    const foreign = { ...known, metadata: { name: "theirs", namespace: "default" } };
    await store.create<"RemediationPolicy">(foreign);
    writeFileSync(join(dir, "a.yaml"), policyText("a", "EvictPod"));
    rmSync(join(dir, "b.yaml"));
    assert.deepEqual(await apply(), ["RemediationPolicy default/a configured", "RemediationPolicy default/b deleted"]);
    const now = await store.list("RemediationPolicy");
    assert.deepEqual(
      now.map(({ metadata }) => [metadata.name, metadata.generation]),
      [
        ["a", 2],
        ["theirs", 1],
      ],
    );
    assert.equal(now[0]?.metadata.uid, known.metadata.uid, "an edited policy is the same policy");
  });
  it("a policy that the platform cannot carry out is refused before it is needed, with what can be done", async (t) => {
    const dir = directory(t, { "a.yaml": policyText("a", "RollbackRollout"), "b.yaml": policyText("b", "RollbackRollout") });
    const { resources } = await readResources([dir]);
    const effects = new Set<EffectType>(["StartReplacement", "RemoveReplacement", "RemoveFromTraffic", "RestoreTraffic", "Stop"]);
    assert.throws(() => refuseUnsupported(resources, { name: "host", effects }), {
      code: "STRATEGY_NOT_SUPPORTED",
      message: /2 rungs cannot be carried out:[^]*RollbackRollout[^]*Use one of RestartPod[^]*default\/b/,
    });
  });
});
