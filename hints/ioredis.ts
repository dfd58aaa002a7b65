import type { ActionHandler } from "./book.ts";
import { drained, plural, quiet } from "./drain.ts";
import { messageOf } from "./errors.ts";
import type { ResetOptions } from "./pg.ts";

/** What is needed of a client of `ioredis` (5 or newer). */
export interface IoRedis {
  readonly status: string;
  duplicate(override: { lazyConnect: boolean; connectTimeout: number; maxRetriesPerRequest: number; retryStrategy: () => null }): IoRedis;
  connect(): Promise<void>;
  disconnect(reconnect?: boolean): void;
  ping(): Promise<string>;
  on(event: "error", listener: (error: Error) => void): unknown;
}

/**
 * Resets `ioredis` clients: each connects anew. Commands that were given meanwhile wait for the new connection, and those
 * without an answer are sent again on it, as `autoResendUnfulfilledCommands` says (the default of ioredis).
 *
 * A connection is made on the side first; where that fails, nothing is touched. The old connection gets `drainMs` to answer
 * what it was asked before, so that a connection that works loses nothing, and is then destroyed.
 */
export function resetIoRedis(
  clients: IoRedis | readonly IoRedis[],
  { drainMs = 250, connectMs = 2_000 }: ResetOptions = {},
): ActionHandler {
  const all = Array.isArray(clients) ? (clients as readonly IoRedis[]) : [clients as IoRedis];
  return async ({ signal }) => {
    const outcomes = await Promise.all(all.map((client) => reset(client, drainMs, connectMs, signal)));
    const hung = outcomes.filter((outcome) => outcome === "hung").length;
    return `${plural(all.length, "client")} connected anew: ${all.length - hung} after all was answered, ${hung} cut after ${drainMs} ms`;
  };
}

async function reset(client: IoRedis, drainMs: number, connectMs: number, signal: AbortSignal): Promise<"answered" | "hung"> {
  await testConnection(client, connectMs);
  let answered = client.status !== "ready";
  if (!answered) {
    // Answers come in order: after this one's, everything before it has been answered.
    quiet(client.ping().then(() => (answered = true)));
    await drained(() => answered || client.status !== "ready", drainMs, signal);
  }
  const { stream } = client as { readonly stream?: { destroy(): void } };
  if (client.status === "end" || client.status === "wait") quiet(client.connect());
  else {
    client.disconnect(true);
    // Else the other side's end would be waited for, and nothing comes from there.
    stream?.destroy();
  }
  // The change of status comes with an event of the socket.
  await new Promise((resolve) => setImmediate(resolve));
  await drained(() => client.status === "ready", connectMs, signal);
  if (client.status !== "ready") throw new Error(`the client did not connect anew within ${connectMs} ms: it is in state ${client.status}`);
  return answered ? "answered" : "hung";
}

async function testConnection(client: IoRedis, ms: number): Promise<void> {
  const probe = client.duplicate({ lazyConnect: true, connectTimeout: ms, maxRetriesPerRequest: 0, retryStrategy: () => null });
  probe.on("error", () => undefined);
  let late: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      probe.connect().then(() => probe.ping()),
      new Promise<never>((_resolve, reject) => (late = setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms))),
    ]);
  } catch (error) {
    throw new Error(`no new connection could be made, so none was touched: ${messageOf(error)}`, { cause: error });
  } finally {
    clearTimeout(late);
    probe.disconnect();
    (probe as { readonly stream?: { destroy(): void } }).stream?.destroy();
  }
}
