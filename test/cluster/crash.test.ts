import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { cgroupDirectories } from "./cgroups.ts";
import { BUSYBOX_IMAGE } from "./cluster.ts";
import { type ClusterState, Layout } from "./layout.ts";
import { lacking } from "./requirements.ts";
import { clusterPids, isAlive, readState, sweep } from "./state.ts";

/** An owner that starts a cluster with a running pod and a process by `spawn`, says so, and then only waits. */
const OWNER = `
  const { BUSYBOX_IMAGE, Cluster } = await import(${JSON.stringify(new URL("cluster.ts", import.meta.url).href)});
  const cluster = await Cluster.start({ nodes: 2 });
  await cluster.kubectl(["run", "p", "--image=${BUSYBOX_IMAGE}", "--", "sleep", "100000"]);
  await cluster.kubectl(["wait", "--for=condition=Ready", "pod/p", "--timeout=120s"]);
  cluster.spawn(["sleep", "100000"], { stdio: "ignore" });
  console.log("up " + cluster.name);
  setInterval(() => undefined, 1000);
`;

interface Owned {
  readonly layout: Layout;
  readonly state: ClusterState;
  /** Its namespaces, held so that no others can get their numbers while the test looks for processes in them. */
  readonly namespaces: readonly number[];
  readonly kill: () => void;
}

async function start(): Promise<Owned> {
  const owner = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", OWNER], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const name = await new Promise<string>((done, fail) => {
    owner.once("exit", (code) => fail(new Error(`the owner ended with ${code}`)));
    createInterface({ input: owner.stdout }).on("line", (line) => {
      if (line.startsWith("up ")) done(line.slice(3));
    });
  });
  const layout = new Layout(name);
  const state = readState(layout);
  return {
    layout,
    state,
    namespaces: ["net", "pid"].map((kind) => openSync(`/proc/${state.init?.pid}/ns/${kind}`, "r")),
    kill: () => owner.kill("SIGKILL"),
  };
}

async function until(what: string, done: () => boolean): Promise<void> {
  for (let i = 0; i < 1200; i++) {
    if (done()) return;
    await delay(50);
  }
  assert.fail(`not within a minute: ${what}`);
}

function assertGone({ layout, state, namespaces }: Owned): void {
  // By its namespaces, which is everything: the control plane, containerd's shims, pods, and what was started by spawn.
  assert.deepEqual(clusterPids(layout, state, true), []);
  assert.deepEqual(cgroupDirectories(layout.cgroup), []);
  assert.equal(existsSync(layout.dir), false);
  assert.ok(!readFileSync("/proc/self/mounts", "utf8").includes(layout.dir), "a mount is left");
  for (const namespace of namespaces) closeSync(namespace);
}

describe("a cluster whose owner dies", { skip: lacking({ nodes: true }) }, () => {
  it("by SIGKILL leaves no process, mount, cgroup or file", async () => {
    const owned = await start();
    assert.ok(clusterPids(owned.layout, owned.state, true).length > 8, "the control plane, a node, a pod and a spawned process run");
    assert.ok(cgroupDirectories(owned.layout.cgroup).length > 0);
    owned.kill();
    await until("the watchdog has ended", () => !isAlive(owned.state.watchdog));
    assertGone(owned);
  });

  it("together with its watchdog leaves no process at once, and the rest to the next one that starts", async () => {
    const owned = await start();
    const inside = clusterPids(owned.layout, owned.state, true).length;
    process.kill(owned.state.watchdog?.pid ?? 0, "SIGKILL");
    owned.kill();
    // Only what was started from outside is left: the kernel has ended everything else.
    await until("the pid namespace is gone", () => clusterPids(owned.layout, owned.state, true).length <= 1);
    assert.ok(inside > 1);
    await sweep();
    assertGone(owned);
  });
});
