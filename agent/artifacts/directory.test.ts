import assert from "node:assert/strict";
import { existsSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { DirectoryStore } from "./directory.ts";
import { prune, type ArtifactLimits } from "./prune.ts";
import { artifactName } from "./store.ts";
import { temporary } from "../fixtures/temporary.ts";

const never = new AbortController().signal;
const DAY = 86_400_000;
const LIMITS: ArtifactLimits = { ttlMs: 7 * DAY, maxBytes: 1_000, maxCount: 5 };

function rig(): {
  store: DirectoryStore;
  file: (id: string, ageMs: number, bytes?: number) => string;
  sweep: (limits?: ArtifactLimits) => Promise<string[]>;
} {
  const store = new DirectoryStore(temporary(), "n1");
  return {
    store,
    file(id, ageMs, bytes = 10) {
      const path = join(store.dir, artifactName(id, "web-1", "HeapSnapshot"));
      writeFileSync(path, "x".repeat(bytes));
      utimesSync(path, (Date.now() - ageMs) / 1_000, (Date.now() - ageMs) / 1_000);
      return path;
    },
    async sweep(limits = LIMITS) {
      return (
        await prune(
          store,
          limits,
          Date.now(),
          () => undefined,
          () => undefined,
          never,
        )
      )
        .map(({ path }) => path)
        .sort();
    },
  };
}

it("keeps a file where it was captured, and says so when it is not whole", async () => {
  const { store, file } = rig();
  const path = file("a", 0);
  assert.equal(await store.keep({ path, bytes: 10, sha256: "" }), path);
  await assert.rejects(store.keep({ path, bytes: 11, sha256: "" }), { code: "ARTIFACT_LOST" });
  await assert.rejects(store.keep({ path: `${path}x`, bytes: 10, sha256: "" }), { code: "ARTIFACT_LOST" });
});

it("deletes what has expired, then the oldest beyond the limits, never the newest, nor what is no artifact", async () => {
  const { store, file, sweep } = rig();
  const [expired, old, young] = [file("a", 8 * DAY), file("b", 2 * DAY, 400), file("c", DAY, 400)];
  const others = ["notes.txt", "web-1-0123456789abcdef.heapsnapshot.partial", "web-1-short.heapsnapshot"].map((name) =>
    join(store.dir, name),
  );
  for (const path of others) writeFileSync(path, "x");
  assert.deepEqual(await sweep(), [old, young].sort());
  assert.ok(!existsSync(expired));
  const newest = file("d", 0, 5_000);
  assert.deepEqual(await sweep(), [newest]);
  for (const path of others) assert.ok(existsSync(path), path);
  for (let i = 0; i < 8; i++) file(`many-${i}`, i * 1_000);
  assert.equal((await sweep({ ...LIMITS, maxBytes: 1e6 })).length, 5);
});
