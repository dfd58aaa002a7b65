import type { Socket } from "node:net";
import { Agent, request, WebSocket, type Dispatcher } from "undici";
import { NightshiftError, messageOf } from "../../api/errors.ts";
import { sleep, type Clock } from "../../ports/clock.ts";
import { catchesSignal, sendSignal } from "../linux/proc.ts";

/** Number of SIGUSR1 on Linux on every architecture that Node.js has builds for, see signal(7). */
const SIGUSR1 = 10;
/** How long a process may take to open its inspector, and to answer a question that needs no work. */
const OPEN_TIMEOUT_MS = 10_000;
const OPEN_POLL_MS = 50;
/** How long closing a process' inspector is waited for. */
const CLOSE_TIMEOUT_MS = 2_000;

/** How a call is made. */
export interface CallOptions {
  /** Default 10 s. */
  readonly timeoutMs?: number;
  /** Every event of the protocol that arrives during the call; each one puts the timeout off. */
  readonly onEvent?: (method: string, params: Record<string, unknown>) => void;
}

/** A Node.js process, and the way to its inspector. */
export interface InspectedProcess {
  /** As this machine knows it: the one that gets SIGUSR1. */
  readonly pid: number;
  /** As it knows itself: another number in a PID namespace of its own. Default `pid`. */
  readonly ownPid?: number;
  /** Ports of 127.0.0.1 at which its inspector may listen now. Asked again while it opens. */
  ports(): readonly number[];
  /** A connection to a port of 127.0.0.1 in its network. Default: in this process' own. */
  readonly connect?: (port: number) => Promise<Socket>;
  /** An inspector that is found open was opened by us earlier, so that it is ours to close. Default false. */
  readonly openedByUs?: boolean;
}

interface Pending {
  readonly resolve: (result: Record<string, unknown>) => void;
  readonly reject: (error: unknown) => void;
  readonly onEvent: CallOptions["onEvent"];
  readonly putOff: () => void;
}

function timedOut(what: string): NightshiftError {
  return new NightshiftError("CAPTURE_TIMEOUT", `the process did not answer ${what}`, {
    fix: "Its event loop may be blocked in native code: nothing can be captured from it, a stop still works.",
  });
}

/** A connection to the inspector of one Node.js process, by the Chrome DevTools Protocol. */
export class Inspector {
  readonly #socket: WebSocket;
  readonly #network: Agent;
  readonly #port: number;
  readonly #openedByUs: boolean;
  readonly #pending = new Map<number, Pending>();
  #next = 1;
  #failed: unknown;

  private constructor(socket: WebSocket, network: Agent, port: number, openedByUs: boolean) {
    this.#socket = socket;
    this.#network = network;
    this.#port = port;
    this.#openedByUs = openedByUs;
    const fail = (error: unknown): void => {
      this.#failed ??= error;
      for (const { reject } of this.#pending.values()) reject(error);
      this.#pending.clear();
    };
    socket.addEventListener("message", (event) => {
      try {
        this.#onMessage(String(event.data));
      } catch (error) {
        // A failure of what handles the data, such as a full disk, ends the whole: the rest would be a torn file.
        fail(error);
        socket.close();
      }
    });
    socket.addEventListener("close", () => fail(new NightshiftError("CAPTURE_FAILED", "the process closed its inspector, or ended")));
    socket.addEventListener("error", () => fail(new NightshiftError("CAPTURE_FAILED", "the connection to the process' inspector broke")));
  }

  /**
   * Connects to the inspector of a process, and opens it before, by SIGUSR1, where it is not open.
   * Rejects with `CAPTURE_UNSUPPORTED` where there is none, or it is another process', and `CAPTURE_TIMEOUT`.
   */
  static async open(target: InspectedProcess, clock: Clock, signal: AbortSignal): Promise<Inspector> {
    const network = networkOf(target);
    try {
      let address = await findInspector(target.ports(), network, signal);
      const openedByUs = address === undefined || target.openedByUs === true;
      address ??= await openInspector(target, network, clock, signal);
      const inspector = new Inspector(await connect(address, network, signal), network, Number(new URL(address).port), openedByUs);
      const answer = await inspector.call("Runtime.evaluate", { expression: "process.pid", returnByValue: true }, clock, signal);
      const theirs = (answer["result"] as { value?: unknown } | undefined)?.value;
      const expected = target.ownPid ?? target.pid;
      if (theirs !== expected)
        throw new NightshiftError(
          "CAPTURE_UNSUPPORTED",
          `the inspector at ${address} belongs to process ${String(theirs)}, not ${expected}`,
        );
      return inspector;
    } catch (error) {
      await network.destroy();
      throw error;
    }
  }

  /** Calls a method of the protocol. Rejects with `CAPTURE_TIMEOUT` when nothing has been heard for the timeout. */
  call(
    method: string,
    params: Record<string, unknown>,
    clock: Clock,
    signal: AbortSignal,
    options: CallOptions = {},
  ): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      if (this.#failed !== undefined) return reject(this.#failed);
      if (signal.aborted) return reject(timedOut(`${method} in the time that the step has`));
      const id = this.#next++;
      let cancel: () => void = () => undefined;
      const end = (then: () => void): void => {
        cancel();
        signal.removeEventListener("abort", abort);
        this.#pending.delete(id);
        then();
      };
      const timeoutMs = options.timeoutMs ?? OPEN_TIMEOUT_MS;
      const putOff = (): void => {
        cancel();
        cancel = clock.after(timeoutMs, () => end(() => reject(timedOut(`${method} within ${timeoutMs / 1000} s`))));
      };
      const abort = (): void => end(() => reject(timedOut(`${method} in the time that the step has`)));
      signal.addEventListener("abort", abort, { once: true });
      putOff();
      this.#pending.set(id, {
        resolve: (result) => end(() => resolve(result)),
        reject: (error) => end(() => reject(error)),
        onEvent: options.onEvent,
        putOff,
      });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  /** Disconnects; closes the process' inspector too when `open` had opened it, as far as the process still answers. */
  async close(clock: Clock): Promise<void> {
    if (this.#openedByUs && this.#failed === undefined) {
      const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
      // Deferred, because closing waits until the last session, which is this one, has ended.
      const expression =
        "{ const i = process.getBuiltinModule?.('node:inspector') ?? process.mainModule?.require('node:inspector'); setTimeout(() => i?.close(), 50); 0 }";
      const answered = await this.call("Runtime.evaluate", { expression }, clock, signal).catch(() => undefined);
      this.#socket.close();
      if (answered !== undefined) await this.#closed(clock, signal);
    }
    // Not left to the closing handshake: a process that hangs would leave it open for ever.
    await this.#network.destroy();
  }

  /** Whoever comes next must not find an inspector that is about to close. */
  async #closed(clock: Clock, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && (await findInspector([this.#port], this.#network, signal)) !== undefined)
      await sleep(clock, OPEN_POLL_MS, signal);
  }

  #onMessage(text: string): void {
    const message = JSON.parse(text) as {
      id?: number;
      method?: string;
      params?: Record<string, unknown>;
      result?: Record<string, unknown>;
      error?: { message?: string };
    };
    if (message.id === undefined) {
      for (const { onEvent, putOff } of this.#pending.values()) {
        putOff();
        onEvent?.(message.method ?? "", message.params ?? {});
      }
      return;
    }
    const pending = this.#pending.get(message.id);
    if (message.error === undefined) pending?.resolve(message.result ?? {});
    else pending?.reject(new NightshiftError("CAPTURE_FAILED", `the process refused: ${message.error.message ?? "no reason given"}`));
  }
}

/** Without keep-alive: an inspector that closes waits for its connections. */
function networkOf({ connect: open }: InspectedProcess): Agent {
  if (open === undefined) return new Agent({ pipelining: 0 });
  return new Agent({
    pipelining: 0,
    connect: ({ port }, callback) => {
      void (async () => {
        let socket: Socket;
        try {
          socket = await open(Number(port));
        } catch (error) {
          return callback(error instanceof Error ? error : new Error(String(error)), null);
        }
        callback(null, socket);
      })();
    },
  });
}

/** Address of the first inspector that listens at one of the ports; undefined where none does. */
async function findInspector(ports: readonly number[], network: Dispatcher, signal: AbortSignal): Promise<string | undefined> {
  for (const port of ports) {
    try {
      const { body } = await request(`http://127.0.0.1:${port}/json/list`, {
        dispatcher: network,
        signal: AbortSignal.any([signal, AbortSignal.timeout(2_000)]),
      });
      const [target] = (await body.json()) as { webSocketDebuggerUrl?: string }[];
      if (target?.webSocketDebuggerUrl !== undefined) return target.webSocketDebuggerUrl;
    } catch {
      // Nothing listens there, or something else.
    }
  }
  return undefined;
}

async function openInspector(target: InspectedProcess, network: Dispatcher, clock: Clock, signal: AbortSignal): Promise<string> {
  // Without a handler SIGUSR1 kills: Node.js installs its own early in its start, and a program may take it away.
  if (!catchesSignal(target.pid, SIGUSR1) || !sendSignal(target.pid, "SIGUSR1"))
    throw new NightshiftError("CAPTURE_UNSUPPORTED", "the process does not open an inspector on SIGUSR1", {
      fix: "Captures need Node.js as the workload's command, without --disable-sigusr1.",
    });
  const deadline = clock.monotonic() + OPEN_TIMEOUT_MS;
  for (;;) {
    if (signal.aborted || clock.monotonic() > deadline) throw timedOut("SIGUSR1 by opening its inspector");
    await sleep(clock, OPEN_POLL_MS, signal);
    const address = await findInspector(target.ports(), network, signal);
    if (address !== undefined) return address;
  }
}

function connect(address: string, network: Dispatcher, signal: AbortSignal): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address, { dispatcher: network });
    const limit = AbortSignal.any([signal, AbortSignal.timeout(OPEN_TIMEOUT_MS)]);
    const abort = (): void => {
      socket.close();
      reject(timedOut("the connection to its inspector"));
    };
    if (limit.aborted) return abort();
    limit.addEventListener("abort", abort, { once: true });
    socket.addEventListener("open", () => {
      limit.removeEventListener("abort", abort);
      resolve(socket);
    });
    socket.addEventListener("error", (event) => {
      limit.removeEventListener("abort", abort);
      const why = messageOf((event as { error?: unknown }).error ?? "no reason given");
      reject(new NightshiftError("CAPTURE_UNSUPPORTED", `the process' inspector refused the connection: ${why}`));
    });
  });
}
