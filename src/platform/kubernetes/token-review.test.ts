import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ManualClock } from "../../../test/support/manual-clock.ts";
import type { KubeClient, KubeRequest } from "./client.ts";
import { tokenReviewCheck } from "./token-review.ts";

class Server implements KubeClient {
  readonly requests: KubeRequest[] = [];
  failing = false;
  audiences: readonly string[] | undefined = ["nightshift"];
  allowed = true;
  hold: Promise<void> = Promise.resolve();

  async request<T>(request: KubeRequest): Promise<T> {
    this.requests.push(request);
    await this.hold;
    if (this.failing) throw new Error("connection refused");
    const { spec } = request.body as { spec: { token?: string; user?: string; nonResourceAttributes?: { path: string; verb: string } } };
    if (request.path.endsWith("tokenreviews")) {
      const authenticated = spec.token === "good";
      return { status: { authenticated, audiences: this.audiences, user: { username: "alertmanager", groups: ["g"] } } } as T;
    }
    return { status: { allowed: this.allowed && spec.user === "alertmanager" } } as T;
  }

  watch(): never {
    throw new Error("not asked for");
  }
}

function rig(): { server: Server; clock: ManualClock; ask: (token?: string, path?: string) => Promise<boolean> } {
  const server = new Server();
  const clock = new ManualClock();
  const check = tokenReviewCheck({ client: server, clock, audience: "nightshift" });
  const ask = (token?: string, path = "/v1/metrics"): Promise<boolean> =>
    check({ authorization: token === undefined ? undefined : `Bearer ${token}`, method: "POST", path });
  return { server, clock, ask };
}

describe("a token that the API server reviews", () => {
  it("lets in a known owner that RBAC allows, and asks for the very path and verb", async () => {
    const { server, ask } = rig();
    assert.equal(await ask("good"), true);
    assert.partialDeepStrictEqual(server.requests[1]?.body, {
      spec: { user: "alertmanager", groups: ["g"], nonResourceAttributes: { path: "/v1/metrics", verb: "post" } },
    });
  });

  it("keeps out no token, an unknown one, one for another audience, and an owner that RBAC does not allow", async () => {
    const { server, clock, ask } = rig();
    assert.equal(await ask(), false);
    assert.equal(server.requests.length, 0);
    assert.equal(await ask("bad"), false);
    for (const audiences of [undefined, [], ["https://kubernetes.default.svc"]]) {
      server.audiences = audiences;
      assert.equal(await ask("good"), false, String(audiences));
      await clock.advance(10_000);
    }
    server.audiences = ["nightshift"];
    server.allowed = false;
    assert.equal(await ask("good"), false);
  });

  it("asks once for many at once, keeps a yes for a minute and a no for ten seconds, apart by path", async () => {
    const { server, clock, ask } = rig();
    assert.deepEqual(await Promise.all([ask("good"), ask("good"), ask("good")]), [true, true, true]);
    assert.equal(server.requests.length, 2);
    await clock.advance(59_000);
    assert.equal(await ask("good"), true);
    assert.equal(server.requests.length, 2);
    assert.equal(await ask("good", "/metrics"), true);
    assert.equal(server.requests.length, 4);
    await clock.advance(1_001);
    server.allowed = false;
    assert.equal(await ask("good"), false);
    server.allowed = true;
    await clock.advance(10_000);
    assert.equal(await ask("good"), true);
  });

  it("cannot tell while the API server fails, does not keep that, and asks no more than a few at once", async () => {
    const { server, ask } = rig();
    server.failing = true;
    await assert.rejects(ask("good"), { code: "AUTH_UNAVAILABLE" });
    server.failing = false;
    assert.equal(await ask("good"), true);
    let release = (): void => {};
    server.hold = new Promise((resolve) => (release = resolve));
    const flood = Array.from({ length: 40 }, (_, i) => ask(`wrong-${i}`).catch((error: { code: string }) => error.code));
    release();
    const results = await Promise.all(flood);
    assert.equal(results.filter((r) => r === false).length, 16);
    assert.equal(results.filter((r) => r === "AUTH_UNAVAILABLE").length, 24);
  });
});
