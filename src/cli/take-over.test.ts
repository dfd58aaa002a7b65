import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ManualClock } from "../../test/support/manual-clock.ts";
import { seededRandom } from "../../test/support/seeded-random.ts";
import { NightshiftError } from "../api/errors.ts";
import { takeOver } from "./take-over.ts";

function taking(answers: readonly (Error | undefined)[]) {
  const clock = new ManualClock(0);
  const state = { tries: 0, leads: true, told: [] as string[], stop: new AbortController() };
  const done = takeOver({
    takeover: async () => {
      const answer = answers[Math.min(state.tries++, answers.length - 1)];
      if (answer !== undefined) throw answer;
    },
    leads: () => state.leads,
    clock,
    random: seededRandom(),
    signal: state.stop.signal,
    onError: (message) => state.told.push(message),
  });
  done.catch(() => undefined);
  return { state, clock, done };
}

const busy = (): NightshiftError => new NightshiftError("STORE_UNAVAILABLE", "too many requests");

describe("takeOver", () => {
  it("goes on through what passes by itself, and says what it waits for", async () => {
    const { state, clock, done } = taking([busy(), busy(), undefined]);
    for (let i = 0; i < 20; i++) await clock.advance(500);
    await done;
    assert.equal(state.tries, 3);
    assert.deepEqual(state.told, Array(2).fill("cannot take over yet: too many requests [STORE_UNAVAILABLE]"));
  });

  it("waits longer each time, up to ten seconds with jitter", async () => {
    const { state, clock } = taking([busy()]);
    for (let i = 0; i < 60; i++) await clock.advance(1_000);
    assert.ok(state.tries >= 60 / 10 && state.tries <= 16, String(state.tries));
    state.stop.abort();
  });

  it("ends with what will not pass by itself", async () => {
    const { state, done } = taking([new NightshiftError("STORE_REFUSED", "forbidden")]);
    await assert.rejects(done, /forbidden/);
    assert.equal(state.tries, 1);
  });

  it("ends when another leads, and when it is to stop", async () => {
    const deposed = taking([busy()]);
    await deposed.clock.advance(0);
    deposed.state.leads = false;
    const ended = assert.rejects(deposed.done, /too many requests/);
    for (let i = 0; i < 10; i++) await deposed.clock.advance(1_000);
    await ended;
    const stopped = taking([busy()]);
    await stopped.clock.advance(0);
    stopped.state.stop.abort();
    const over = assert.rejects(stopped.done, /too many requests/);
    await stopped.clock.advance(10_000);
    await over;
  });
});
