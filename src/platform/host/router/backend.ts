import { Agent, type AgentOptions } from "node:http";
import { connect, type Socket } from "node:net";
import type { RouterBackend, RouterBackendStats } from "./protocol.ts";

/** Longest time for a TCP handshake. On one machine it takes microseconds, or the accept queue is full. */
const CONNECT_TIMEOUT_MS = 2_000;
/**
 * Idle connections are closed before the backend closes them, so that no request meets a closing one. Node's servers
 * close after 5 s and say so, which Node's agent heeds; this is for those that do not say.
 */
const IDLE_TIMEOUT_MS = 4_000;
/** How long a backend that did not accept a connection, or broke one, is asked only when no other is left. */
const PENALTY_MS = 1_000;

/**
 * Connections to one backend. A request gets its socket only once that is connected: until then nothing of the request
 * was read or sent, so it can go to another backend, whatever its method and body.
 */
class BackendAgent extends Agent {
  readonly #backend: Backend;

  constructor(backend: Backend, options: AgentOptions) {
    super(options);
    this.#backend = backend;
  }

  override createConnection(_options: unknown, callback?: (error: Error | null, socket: Socket) => void): undefined {
    if (callback) this.#backend.connect(callback as ConnectCallback);
  }
}

/** Called with an error, or with a connected socket. */
export type ConnectCallback = (error: Error | null, socket?: Socket) => void;

/** One backend of a service, and what it is doing. */
export class Backend {
  readonly uid: string;
  readonly host: string;
  readonly port: number;
  /** Connections that are kept for it alone. */
  readonly agent: Agent;
  /** Connect attempts, answered or not. */
  total = 0;
  failed = 0;
  #traffic: boolean;
  #inFlight = 0;
  #penaltyUntil = 0;
  #retired: (() => void) | undefined;

  constructor({ uid, host, port, traffic }: RouterBackend) {
    this.uid = uid;
    this.host = host;
    this.port = port;
    this.#traffic = traffic;
    this.agent = new BackendAgent(this, { keepAlive: true, timeout: IDLE_TIMEOUT_MS, scheduling: "lifo" });
  }

  get traffic(): boolean {
    return this.#traffic;
  }

  set traffic(value: boolean) {
    this.#traffic = value;
    // A process that stops should not wait for connections that nobody will use again.
    if (!value) for (const sockets of Object.values(this.agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether it has lately not accepted a connection, or broken one. */
  get penalized(): boolean {
    return performance.now() < this.#penaltyUntil;
  }

  /** It broke a connection: for a while it is asked only when no other is left. */
  penalize(): void {
    this.#penaltyUntil = performance.now() + PENALTY_MS;
  }

  is(other: RouterBackend): boolean {
    return this.uid === other.uid && this.host === other.host && this.port === other.port;
  }

  /** Counts a request as in flight, until the returned function is called; more calls of it do nothing. */
  acquire(): () => void {
    this.#inFlight += 1;
    this.total += 1;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.#retired?.();
    };
  }

  /** Opens a connection, for the agent or for an upgrade. */
  connect(callback: ConnectCallback): void {
    const socket = connect({ host: this.host, port: this.port, noDelay: true, keepAlive: true });
    const fail = (error: Error): void => {
      this.penalize();
      clearTimeout(timer);
      socket.destroy();
      callback(error);
    };
    const timer = setTimeout(() => fail(new Error(`no connection within ${CONNECT_TIMEOUT_MS} ms`)), CONNECT_TIMEOUT_MS);
    socket.once("error", fail);
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.removeListener("error", fail);
      this.#penaltyUntil = 0;
      callback(null, socket);
    });
  }

  /** Sends it nothing new, and closes its connections and calls back once nothing is in flight. */
  retire(gone: () => void): void {
    this.traffic = false;
    this.#retired = () => {
      this.agent.destroy();
      gone();
    };
    if (this.#inFlight === 0) this.#retired();
  }

  stats(): RouterBackendStats {
    return { uid: this.uid, traffic: this.#traffic, inFlight: this.#inFlight, total: this.total, failed: this.failed };
  }
}
