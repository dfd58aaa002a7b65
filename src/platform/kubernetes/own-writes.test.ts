import assert from "node:assert/strict";
import { it } from "node:test";
import * as fc from "fast-check";
import { OwnWrites, type Seen } from "./own-writes.ts";

const KEY = "k";

/** A state of the one object, as the server has it. `order` is known to the test only. */
interface State extends Seen {
  readonly order: number;
}

/** A server with one object, a watch of it that lags, and a client that keeps what it is told by `OwnWrites`. */
class World {
  readonly own = new OwnWrites();
  server: State | undefined;
  client: State | undefined;
  /** Events that the watch has yet to deliver. */
  readonly queue: State[] = [];
  /** Requests of the client: begun, then done by the server, then answered. */
  readonly begun: { kind: "put" | "delete" | "get"; known: State | undefined }[] = [];
  readonly answers: (State | "gone" | "nothing" | undefined)[] = [];
  readonly goneUids: (string | undefined)[] = [];
  /** What the client was told at least, by an answer of its own. */
  atLeast = 0;
  #isListing = false;
  #order = 0;

  put(): State {
    const order = (this.#order += 1);
    const uid = this.server === undefined ? `u${order}` : this.server.uid;
    this.server = { uid, resourceVersion: `v${order}`, isDeleted: false, order };
    this.queue.push(this.server);
    return this.server;
  }

  delete(): State | undefined {
    if (this.server === undefined) return undefined;
    const order = (this.#order += 1);
    const gone = { uid: this.server.uid, resourceVersion: `v${order}`, isDeleted: true, order };
    this.server = undefined;
    this.queue.push(gone);
    return gone;
  }

  begin(kind: "put" | "delete" | "get"): void {
    this.own.begin(KEY, this.client?.resourceVersion);
    this.begun.push({ kind, known: this.client });
  }

  /** The server does the oldest request. */
  work(): void {
    const request = this.begun.shift();
    if (request === undefined) return;
    this.goneUids.push(request.known?.uid);
    if (request.kind === "get") this.answers.push(this.server ?? "gone");
    else if (request.kind === "put") this.answers.push(this.put());
    else this.answers.push(this.delete() ?? "nothing");
  }

  /** The oldest answer arrives. */
  answer(): void {
    const answer = this.answers.shift();
    if (answer === undefined) return;
    const uid = this.goneUids.shift();
    if (answer === "nothing" || (answer === "gone" && uid === undefined)) return this.own.failed(KEY);
    const state: Seen = answer === "gone" ? { uid: uid ?? "", resourceVersion: "", isDeleted: true } : answer;
    const isNews = this.own.answered(KEY, state) === "News";
    if (!state.isDeleted && isNews && !this.#isListing) this.atLeast = Math.max(this.atLeast, (answer as State).order);
    if (!isNews) return;
    if (!state.isDeleted) this.client = answer as State;
    else if (this.client?.uid === state.uid) this.client = undefined;
  }

  deliver(): void {
    const event = this.queue.shift();
    if (event === undefined || !this.own.admits(KEY, event)) return;
    if (!event.isDeleted) this.client = event;
    else if (this.client?.uid === event.uid) this.client = undefined;
  }

  /** The watch broke, and everything is listed; `during` happens after the server has looked. */
  relist(during: () => void): void {
    this.queue.length = 0;
    // A listing may be older than what is answered meanwhile; the watch after it catches up.
    this.atLeast = 0;
    this.#isListing = true;
    this.own.startListing();
    const listed = this.server;
    during();
    if (listed !== undefined && this.own.admits(KEY, listed)) this.client = listed;
    if (listed === undefined) this.client = undefined;
    this.own.endListing();
    this.#isListing = false;
  }

  check(): void {
    if (this.client !== undefined) assert.ok(this.client.order >= this.atLeast, `shows ${this.client.order}, was told ${this.atLeast}`);
  }
}

const small = fc.constantFrom("put", "delete", "begin put", "begin delete", "begin get", "work", "answer", "deliver", "deliver");
const step = fc.oneof({ weight: 12, arbitrary: small }, { weight: 1, arbitrary: fc.array(small, { maxLength: 4 }) });

function perform(world: World, what: string): void {
  if (what === "put") world.put();
  else if (what === "delete") world.delete();
  else if (what === "work") world.work();
  else if (what === "answer") world.answer();
  else if (what === "deliver") world.deliver();
  else if (what === "begin put") world.begin("put");
  else if (what === "begin delete") world.begin("delete");
  else world.begin("get");
  world.check();
}

it("never shows an older state than it was answered with, and ends up with what the server has", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const world = new World();
      for (const what of steps) {
        if (typeof what === "string") perform(world, what);
        // While a listing is under way nothing is delivered by a watch.
        else world.relist(() => what.filter((w) => w !== "deliver").forEach((w) => perform(world, w)));
        world.check();
      }
      while (world.begun.length > 0) world.work();
      while (world.answers.length > 0) world.answer();
      while (world.queue.length > 0) world.deliver();
      assert.deepEqual(world.client, world.server);
      // And it has forgotten everything: a change is taken over at once.
      world.put();
      world.deliver();
      assert.deepEqual(world.client, world.server);
    }),
    { numRuns: 3_000 },
  );
});
