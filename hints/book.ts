import { messageOf } from "./errors.ts";
import type { ActionAnswer } from "./protocol.ts";

/** What a handler gets. */
export interface ActionContext {
  readonly action: string;
  /** Identity of what is done. */
  readonly effect: string;
  /** Aborts when the handler's time is up, or the endpoint is closed. */
  readonly signal: AbortSignal;
}

/** What a handler says it did: a sentence for people. */
export type ActionResult = string | void;

/** Does an action. It should bear being called again, and must not fail requests that could be served. */
export type ActionHandler = (context: ActionContext) => ActionResult | Promise<ActionResult>;

interface Entry {
  readonly at: number;
  answer: ActionAnswer;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
}

/** How many ids are remembered. */
const MAX_ENTRIES = 1_000;
/** Longest message (characters): Nightshift keeps no more of it, and takes an answer that is far longer for none. */
const MAX_MESSAGE = 1_000;

/** Which actions were done: each id at most once, one at a time. Times are milliseconds since the epoch, by this process' clock. */
export class ActionBook {
  readonly #entries = new Map<string, Entry>();
  readonly #timeoutMs: number;
  readonly #close = new AbortController();
  /** What was decided before this is not remembered. */
  #since: number;
  /** The name of the handler that has not returned, also when its time was up. */
  #busy: string | undefined;

  constructor(now: number, timeoutMs: number) {
    this.#since = now;
    this.#timeoutMs = timeoutMs;
  }

  /** What became of an id that was decided `ageMs` ago. */
  look(effect: string, ageMs: number, now: number): ActionAnswer {
    const known = this.#entries.get(effect)?.answer;
    if (known !== undefined) return known;
    if (now - ageMs < this.#since)
      return { state: "Unknown", message: "this process does not go back to when it was decided: an earlier one may have done it" };
    return { state: "NotApplied", message: "it was not begun" };
  }

  /** Does it, unless that id was done or begun, or cannot be known; resolves with what became of it when it has ended. */
  async once(action: string, effect: string, ageMs: number, now: number, handler: ActionHandler): Promise<ActionAnswer> {
    const known = this.#entries.get(effect);
    if (known !== undefined) {
      await known.ended;
      return known.answer;
    }
    const seen = this.look(effect, ageMs, now);
    if (seen.state === "Unknown") return seen;
    if (this.#busy !== undefined) return { state: "NotApplied", message: `${this.#busy} is still under way: one at a time` };
    this.#busy = action;
    let end: () => void = () => undefined;
    const entry: Entry = {
      at: now,
      answer: { state: "Running", message: `${action} is under way` },
      ended: new Promise((resolve) => (end = resolve)),
    };
    this.#entries.set(effect, entry);
    this.#forget();
    entry.answer = await this.#run(action, effect, handler);
    end();
    return entry.answer;
  }

  /** Tells the handler that is under way to end. */
  close(): void {
    this.#close.abort();
  }

  async #run(action: string, effect: string, handler: ActionHandler): Promise<ActionAnswer> {
    const began = performance.now();
    const tookMs = (): number => Math.round(performance.now() - began);
    const timeUp = new AbortController();
    const signal = AbortSignal.any([timeUp.signal, this.#close.signal]);
    const work = Promise.resolve().then(() => handler({ action, effect, signal }));
    // Whatever it does after its time: nothing else is begun meanwhile.
    void work.catch(() => undefined).finally(() => (this.#busy = undefined));
    let cancel: (() => void) | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      const timer = setTimeout(() => {
        timeUp.abort();
        reject(new Error(`it did not end within ${this.#timeoutMs} ms`));
      }, this.#timeoutMs);
      cancel = () => clearTimeout(timer);
    });
    try {
      const said = await Promise.race([work, late]);
      return {
        state: "Applied",
        message: typeof said === "string" && said !== "" ? said.slice(0, MAX_MESSAGE) : `${action} was done`,
        tookMs: tookMs(),
      };
    } catch (error) {
      return { state: "Failed", message: messageOf(error).slice(0, MAX_MESSAGE), tookMs: tookMs() };
    } finally {
      cancel?.();
    }
  }

  #forget(): void {
    for (const [effect, { at }] of this.#entries) {
      if (this.#entries.size <= MAX_ENTRIES) return;
      this.#entries.delete(effect);
      this.#since = Math.max(this.#since, at);
    }
  }
}
