import type { EventEmitter } from "node:events";
import type { ActionHandler } from "./book.ts";
import { drained, plural, quiet } from "./drain.ts";
import { messageOf } from "./errors.ts";

/** What is needed of a client of `pg`. */
export interface PgClient {
  end(): Promise<void>;
}

/** What is needed of a pool of `pg` (8.11 or newer). */
export interface PgPool extends EventEmitter {
  readonly totalCount: number;
  readonly idleCount: number;
  readonly waitingCount: number;
  readonly options: { max: number };
  connect(): Promise<PgClient & { release(destroy?: boolean): void }>;
}

/** `pg` makes the pool's clients with this; a test connection is made the same way. */
interface Internals {
  readonly Client: new (options: unknown) => PgClient & { connect(): Promise<void> };
}

/** Bounds of a reset. */
export interface ResetOptions {
  /** How long what is in use may go on (ms). Default 500. What is not done then hangs, and is cut. */
  readonly drainMs?: number;
  /** How long a new connection may take (ms). Default 2,000. */
  readonly connectMs?: number;
}

/**
 * Resets a `pg` pool: every connection that there is now is replaced, and who waits is served.
 *
 * A new connection is made first; where that fails, nothing is touched. Then idle ones are closed, those in use make room
 * for new ones and are closed when they are given back, and those that have not been after `drainMs` are cut: their queries
 * fail, as nobody knows what the server did of them. Call it when the pool is made, as it has to know the pool's clients.
 */
export function resetPgPool(pool: PgPool, { drainMs = 500, connectMs = 2_000 }: ResetOptions = {}): ActionHandler {
  const known = new Set<PgClient>();
  const inUse = new Set<PgClient>();
  /** Clients that are to go when they are given back. */
  const old = new WeakSet<PgClient>();
  /** Clients for which the pool may have one more until they are gone. */
  const madeRoom = new Set<PgClient>();
  pool.on("acquire", (client: PgClient) => {
    known.add(client);
    inUse.add(client);
  });
  pool.on("release", (_error: unknown, client: PgClient) => {
    inUse.delete(client);
    // The pool closes what is ending when it is given back.
    if (old.has(client)) quiet(client.end());
  });
  pool.on("remove", (client: PgClient) => {
    known.delete(client);
    inUse.delete(client);
    if (madeRoom.delete(client)) pool.options.max -= 1;
  });

  return async ({ signal }) => {
    const connected = await testConnection(pool, connectMs, signal);
    const before = new Set(known);
    const busy = [...before].filter((client) => inUse.has(client));
    for (const client of before) old.add(client);
    // What is idle is taken out before anybody else gets it: those who wait have been given it already.
    for (let idle = pool.idleCount; idle > 0; idle--) quiet(pool.connect().then((client) => client.release(before.has(client))));
    for (const client of busy) {
      if (madeRoom.has(client)) continue;
      madeRoom.add(client);
      pool.options.max += 1;
    }
    // The pool looks at who waits only when a connection comes back.
    for (let waiting = Math.min(pool.waitingCount, busy.length); waiting > 0; waiting--)
      quiet(pool.connect().then((client) => client.release(before.has(client))));
    await drained(() => busy.every((client) => !inUse.has(client)), drainMs, signal);
    const hanging = busy.filter((client) => inUse.has(client));
    for (const client of before) if (known.has(client)) cut(client);
    return (
      `replaced ${plural(before.size, "connection")} after a new one had been made in ${connected} ms: ` +
      `${before.size - busy.length} idle, ${busy.length - hanging.length} given back in time, ${hanging.length} cut after ${drainMs} ms`
    );
  };
}

async function testConnection(pool: PgPool, ms: number, signal: AbortSignal): Promise<number> {
  const { Client } = pool as unknown as Internals;
  const client = new Client(pool.options);
  // Its failure is told by `connect`; a later one is of no interest.
  (client as unknown as EventEmitter).on("error", () => undefined);
  const began = performance.now();
  const connect = client.connect();
  quiet(connect);
  const late = new Promise<never>((_resolve, reject) => {
    AbortSignal.any([AbortSignal.timeout(ms), signal]).addEventListener("abort", () => reject(new Error(`not within ${ms} ms`)), {
      once: true,
    });
  });
  quiet(late);
  try {
    await Promise.race([connect, late]);
    quiet(client.end());
    return Math.round(performance.now() - began);
  } catch (error) {
    cut(client);
    throw new Error(`no new connection could be made, so none was touched: ${messageOf(error)}`, { cause: error });
  }
}

/** Ends a client at once, whatever it waits for: its connection may be one that nothing comes back from. */
function cut(client: PgClient): void {
  quiet(client.end());
  (client as { connection?: { stream?: { destroy(): void } } }).connection?.stream?.destroy();
}
