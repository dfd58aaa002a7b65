import { Dispatcher } from "undici";
import type { ActionHandler } from "./book.ts";
import { plural } from "./drain.ts";
import { messageOf } from "./errors.ts";
import type { ResetOptions } from "./pg.ts";

/** Methods whose requests may be sent twice, as they ask for nothing to be changed (RFC 9110, 9.2.1). */
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** A dispatcher whose pools can be replaced while it is used. */
export interface Resettable extends Dispatcher {
  /** Requests go to a new pool from now on. Resolves when the old one is gone, with how many were sent again and how many cut. */
  reset(drainMs: number, signal: AbortSignal): Promise<{ readonly again: number; readonly cut: number }>;
}

/** The pools of a time. */
interface Generation {
  readonly dispatcher: Dispatcher;
  isCut: boolean;
  again: number;
  cut: number;
}

/**
 * A dispatcher of `undici` (7 or newer) that can be reset: `create` makes a `Pool` or an `Agent`, now and at each reset. Use
 * it as any other: `upstream.request(...)`, `fetch(url, { dispatcher: upstream })`, `setGlobalDispatcher(upstream)`.
 *
 * @example
 * const upstream = resettable(() => new Pool("http://prices:8080", { connections: 20 }));
 * actions.onPoolReset(resetUndici(upstream));
 */
export function resettable(create: () => Dispatcher): Resettable {
  return new ResettableDispatcher(create);
}

/**
 * Resets dispatchers: new requests go to new pools at once, and those under way get `drainMs` to end. What hangs then is cut;
 * of it, what was never sent, and what only asks and has no answer yet, is sent again by the new pool, and the rest fails.
 */
export function resetUndici(dispatchers: Resettable | readonly Resettable[], { drainMs = 500 }: ResetOptions = {}): ActionHandler {
  const all = Array.isArray(dispatchers) ? (dispatchers as readonly Resettable[]) : [dispatchers as Resettable];
  return async ({ signal }) => {
    const done = await Promise.all(all.map((dispatcher) => dispatcher.reset(drainMs, signal)));
    const sum = (what: "again" | "cut"): number => done.reduce((total, each) => total + each[what], 0);
    return `replaced ${plural(all.length, "pool")}: ${plural(sum("again"), "request")} sent again, ${sum("cut")} cut after ${drainMs} ms`;
  };
}

class ResettableDispatcher extends Dispatcher implements Resettable {
  readonly #create: () => Dispatcher;
  #current: Generation;

  constructor(create: () => Dispatcher) {
    super();
    this.#create = create;
    this.#current = { dispatcher: create(), isCut: false, again: 0, cut: 0 };
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const generation = this.#current;
    return generation.dispatcher.dispatch(options, this.#followed(generation, options, handler));
  }

  async reset(drainMs: number, signal: AbortSignal): Promise<{ readonly again: number; readonly cut: number }> {
    const old = this.#current;
    this.#current = { dispatcher: this.#create(), isCut: false, again: 0, cut: 0 };
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), drainMs);
      signal.addEventListener("abort", () => resolve("late"), { once: true });
    });
    const ended = await Promise.race([old.dispatcher.close().then(() => "ended" as const), late]);
    clearTimeout(timer);
    if (ended === "late") {
      old.isCut = true;
      await old.dispatcher.destroy(new Error("the pool was reset"));
    }
    return { again: old.again, cut: old.cut };
  }

  override close(): Promise<void>;
  override close(callback: () => void): void;
  override close(callback?: () => void): Promise<void> | void {
    return callback === undefined ? this.#current.dispatcher.close() : this.#current.dispatcher.close(callback);
  }

  override destroy(): Promise<void>;
  override destroy(error: Error | null): Promise<void>;
  override destroy(callback: () => void): void;
  override destroy(error: Error | null, callback: () => void): void;
  override destroy(error?: Error | null | (() => void), callback?: () => void): Promise<void> | void {
    const { dispatcher } = this.#current;
    const done = typeof error === "function" ? error : callback;
    const cause = typeof error === "function" ? null : (error ?? null);
    return done === undefined ? dispatcher.destroy(cause) : dispatcher.destroy(cause, done);
  }

  /** The handler, with what it takes to know how far its request has come. */
  #followed(generation: Generation, options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): Dispatcher.DispatchHandler {
    let isSent = false;
    let isAnswered = false;
    const mayAgain = (): boolean => !isAnswered && (!isSent || (SAFE.has(options.method) && !hasBody(options)));
    return {
      onRequestStart: (controller, context) => {
        isSent = true;
        handler.onRequestStart?.(controller, context);
      },
      onRequestUpgrade: (controller, status, headers, socket) => {
        isAnswered = true;
        handler.onRequestUpgrade?.(controller, status, headers, socket);
      },
      onResponseStart: (controller, status, headers, message) => {
        isAnswered = true;
        handler.onResponseStart?.(controller, status, headers, message);
      },
      onResponseData: (controller, chunk) => handler.onResponseData?.(controller, chunk),
      onResponseEnd: (controller, trailers) => handler.onResponseEnd?.(controller, trailers),
      onResponseError: (controller, error) => {
        // Whom its caller has aborted is not sent again. A request that no connection had taken yet has no controller.
        const isAborted = (controller as Dispatcher.DispatchController | null)?.aborted === true;
        const isOurs = generation.isCut && !isAborted;
        if (isOurs && mayAgain()) {
          generation.again += 1;
          try {
            this.dispatch(options, handler);
            return;
          } catch (cause) {
            return handler.onResponseError?.(controller, new Error(`it could not be sent again: ${messageOf(cause)}`, { cause }));
          }
        }
        if (isOurs) generation.cut += 1;
        handler.onResponseError?.(controller, error);
      },
      // Only a handler that has it is asked by undici: what `fetch` counts by.
      ...(handler.onBodySent === undefined ? {} : { onBodySent: handler.onBodySent.bind(handler) }),
      ...(handler.onRequestSent === undefined ? {} : { onRequestSent: handler.onRequestSent.bind(handler) }),
    };
  }
}

function hasBody({ body }: Dispatcher.DispatchOptions): boolean {
  return body !== undefined && body !== null;
}
