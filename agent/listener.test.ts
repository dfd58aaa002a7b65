import assert from "node:assert/strict";
import { it } from "node:test";
import { listen } from "./listener.ts";
import { AgentMetrics } from "./metrics.ts";

it("tells health and metrics by GET, whether the agent works, and nothing else", async () => {
  const metrics = new AgentMetrics("1.2.3");
  metrics.read(() => ({ running: 1, raisedLimits: 2, keptBytes: 3, kept: 4, isSynced: false }));
  let ok = false;
  const listener = await listen({
    host: "127.0.0.1",
    port: 0,
    registry: metrics.registry,
    ready: () => ({ ok, message: ok ? "ok" : "not yet" }),
  });
  try {
    const get = async (path: string, method = "GET"): Promise<string> => {
      const response = await fetch(listener.url + path, { method });
      return `${response.status} ${(await response.text()).trim()}`;
    };
    assert.equal(await get("/healthz"), "200 ok");
    assert.equal(await get("/readyz"), "503 not yet");
    ok = true;
    assert.equal(await get("/readyz?verbose"), "200 ok");
    assert.match(await get("/metrics"), /nightshift_agent_captures 1\n[\s\S]*nightshift_agent_raised_limits 2/);
    assert.match(await get("/metrics"), /nightshift_build_info\{version="1.2.3",node="v\d+/);
    assert.equal(await get("/healthz", "POST"), "405 method not allowed");
    assert.equal(await get("/"), "404 not found");
    const { port } = new URL(listener.url);
    await assert.rejects(
      listen({ host: "127.0.0.1", port: Number(port), registry: metrics.registry, ready: () => ({ ok, message: "" }) }),
      {
        code: "LISTEN_FAILED",
      },
    );
  } finally {
    await listener.close();
  }
});
