import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Cluster } from "./cluster.ts";
import { lacking } from "./requirements.ts";

describe("Helm", { skip: lacking({ nodes: false, tools: ["kube", "helm"] }) }, () => {
  it("installs a chart, and takes it away", async () => {
    await using cluster = await Cluster.start({ tools: ["helm"] });
    const dir = mkdtempSync(join(tmpdir(), "nightshift-helm-"));
    try {
      assert.match((await cluster.exec(["helm", "version", "--short"])).stdout, /^v4\./);
      await cluster.exec(["helm", "create", "web"], { cwd: dir });
      await cluster.exec(["helm", "install", "web", "./web"], { cwd: dir });
      assert.match(await cluster.kubectl(["get", "deployment,service"]), /deployment.apps\/web[^]*service\/web/);
      assert.match((await cluster.exec(["helm", "list"])).stdout, /web\s+default\s+1\s.*deployed/);
      await cluster.exec(["helm", "uninstall", "web"]);
      assert.doesNotMatch(await cluster.kubectl(["get", "deployment,service"]), /\bweb\b/);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
