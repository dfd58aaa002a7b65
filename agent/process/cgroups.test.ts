import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { it } from "node:test";
import { FakeCgroups } from "../fixtures/cgroups.ts";
import { NodeCgroups } from "./cgroups.ts";
import { temporary } from "../fixtures/temporary.ts";

const UID = "3b1b7a3e-6d0c-4f5e-9a37-0d6a5a9fd7c1";
const POD = `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID.replaceAll("-", "_")}.slice`;
const CONTAINER = `${POD}/cri-containerd-5f0d1a9c.scope`;

function tree(): { cgroups: NodeCgroups; root: string } {
  const fake = new FakeCgroups();
  fake.make("system.slice", { current: 1, pids: [7] });
  fake.make("kubepods.slice", { max: 8e9, current: 1e9 });
  fake.make("kubepods.slice/kubepods-burstable.slice", { current: 1e9 });
  fake.make(POD, { max: 3e8, current: 2e8 });
  fake.make(CONTAINER, { max: 2e8, current: 1e8, pids: [41, 42] });
  const cgroups = NodeCgroups.open(fake.root);
  assert.ok(cgroups);
  return { cgroups, root: fake.root };
}

it("finds the levels of a process: its container's and its pod's, and those that many pods share", () => {
  const { cgroups, root } = tree();
  assert.equal(cgroups.version, 2);
  const levels = cgroups.levels({ pid: 42, cgroup: `0::/${CONTAINER}\n` }, UID);
  const dirs = (of: readonly { readonly dir: string }[] = []): string[] => of.map(({ dir }) => relative(root, dir));
  assert.deepEqual(dirs(levels?.pod), [CONTAINER, POD]);
  assert.deepEqual(dirs(levels?.shared), ["kubepods.slice/kubepods-burstable.slice", "kubepods.slice"]);
});

it("finds them also by the pod's name, where the path is relative to another cgroup namespace", () => {
  const { cgroups, root } = tree();
  for (const cgroup of ["0::/../../x/cri-containerd-5f0d1a9c.scope\n", "0::/nowhere\n"])
    assert.equal(relative(root, cgroups.levels({ pid: 42, cgroup }, UID)?.pod[0]?.dir ?? ""), CONTAINER);
  assert.equal(cgroups.levels({ pid: 43, cgroup: "0::/../../x\n" }, UID), undefined, "a process that is in none of the pod's");
});

it("takes v1's memory hierarchy where that is mounted, and nothing where no memory controller is", () => {
  const root = temporary();
  assert.equal(NodeCgroups.open(root), undefined);
  const dir = join(root, "memory/kubepods", `pod${UID}`, "abcdef0123");
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(root, "memory/memory.usage_in_bytes"), "1\n");
  writeFileSync(join(dir, "cgroup.procs"), "42\n");
  const cgroups = NodeCgroups.open(root);
  assert.equal(cgroups?.version, 1);
  const cgroup = `10:cpu,cpuacct:/elsewhere\n9:memory:/kubepods/pod${UID}/abcdef0123\n0::/\n`;
  assert.deepEqual(
    cgroups?.levels({ pid: 42, cgroup }, UID)?.pod.map((level) => relative(root, level.dir)),
    [`memory/kubepods/pod${UID}/abcdef0123`, `memory/kubepods/pod${UID}`],
  );
});
