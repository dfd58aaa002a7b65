import type { ServerResponse } from "node:http";
import type { FakeRequest } from "./server.ts";
import { Refusal, type WatchEvent } from "./types.ts";

/** How events are delivered. */
export interface Delivery {
  /** How long the next event is held back (ms); those after it wait too. */
  readonly delayMs?: () => number;
  /** Whether the next event is sent twice. */
  readonly duplicate?: () => boolean;
}

/** One open watch, which a test can break. */
export class FakeWatch {
  readonly request: FakeRequest;
  readonly #response: ServerResponse;
  readonly #delivery: Delivery;
  #last: Promise<void> = Promise.resolve();
  #pending = 0;
  #frozen = false;

  constructor(response: ServerResponse, request: FakeRequest, delivery: Delivery) {
    this.request = request;
    this.#response = response;
    this.#delivery = delivery;
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
  }

  send(event: WatchEvent): void {
    const delay = this.#delivery.delayMs?.() ?? 0;
    if (delay === 0 && this.#pending === 0) return this.#write(event);
    this.#pending += 1;
    const before = this.#last;
    this.#last = (async () => {
      await before;
      await new Promise<void>((resolve) => void setTimeout(resolve, delay));
      this.#pending -= 1;
      this.#write(event);
    })();
  }

  /** Ends as the server ends a watch whose time is over. */
  end(): void {
    this.#response.end();
  }

  /** Breaks the connection. What was held back is never sent. */
  reset(): void {
    this.#frozen = true;
    this.#response.socket?.resetAndDestroy();
  }

  /** Breaks the connection in the middle of an event. */
  resetMidLine(): void {
    if (!this.#frozen) this.#response.write('{"type":"MODIFIED","object":{"metadata":{"na');
    this.#frozen = true;
    // Once it is out: a reset discards what is still in the buffers.
    setTimeout(() => this.#response.socket?.resetAndDestroy(), 5);
  }

  /** Says nothing any more, and leaves the connection open: the other end is gone without a word. */
  freeze(): void {
    this.#frozen = true;
  }

  /** Ends with an error event. */
  fail(code: number, reason: string): void {
    this.#write({ type: "ERROR", object: new Refusal(code, reason, `injected: ${code}`).status });
    this.end();
  }

  #write(event: WatchEvent): void {
    if (this.#frozen || this.#response.writableEnded) return;
    const line = `${JSON.stringify(event)}\n`;
    this.#response.write(line);
    if (this.#delivery.duplicate?.()) this.#response.write(line);
  }
}
