import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { it } from "node:test";
import * as fc from "fast-check";
import { isNode, isOfContainer, isOfPod, ownPid, processesOfPod } from "./pod.ts";

const UID = "3b1b7a3e-6d0c-4f5e-9a37-0d6a5a9fd7c1";
const SLICE = UID.replaceAll("-", "_");
const ID = "5f0d1a9c".repeat(8);

it("knows a pod's cgroups, as cgroupfs and systemd name them, on v1 and v2, and from inside another cgroup namespace", () => {
  for (const path of [
    `9:memory:/kubepods/burstable/pod${UID}/${ID}`,
    `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${SLICE}.slice/cri-containerd-${ID}.scope`,
    `0::/kubepods.slice/kubepods-pod${SLICE}.slice/crio-${ID}.scope/child`,
    `0::/../../pod${UID}/${ID}`,
  ]) {
    assert.ok(isOfPod(path, UID), path);
    assert.ok(isOfContainer(path, `containerd://${ID}`), path);
  }
  for (const path of ["0::/", "0::/system.slice/containerd.service", `0::/kubepods/pod${UID.replace("3", "4")}/${ID}`])
    assert.ok(!isOfPod(path, UID), path);
});

it("takes no other pod for it, and nothing for a uid or an id that is missing", () => {
  fc.assert(
    fc.property(fc.uuid(), fc.uuid(), (one, other) => {
      fc.pre(one !== other);
      assert.ok(!isOfPod(`0::/kubepods/besteffort/pod${one}/x`, other));
    }),
  );
  assert.ok(!isOfPod(`0::/kubepods/pod${UID}`, ""));
  assert.ok(!isOfContainer(`0::/kubepods/pod${UID}/${ID}`, ""));
  assert.ok(!isOfContainer(`0::/kubepods/pod${UID}/${ID}`, "containerd://"));
  assert.deepEqual(processesOfPod(UID), []);
});

it("tells Node.js by its binary, and what a process calls itself", async () => {
  assert.ok(isNode(process.pid));
  assert.equal(ownPid(process.pid), process.pid);
  const child = spawn("sleep", ["100"]);
  try {
    assert.ok(child.pid !== undefined && !isNode(child.pid));
  } finally {
    child.kill("SIGKILL");
  }
  assert.ok(!isNode(2 ** 30));
  assert.equal(ownPid(2 ** 30), undefined);
});
