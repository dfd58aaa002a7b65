import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { request } from "node:http";
import { ACTIONS_PATH, type ActionAnswer, type ActionState, HEADERS, signedText } from "../../hints/protocol.ts";
import { messageOf, NightshiftError } from "../api/errors.ts";
import { type Clock, sleep } from "../ports/clock.ts";
import type { Effect, EffectResult, EffectState } from "../ports/platform.ts";

export type InvokeAction = Extract<Effect, { type: "InvokeAction" }>;

/** Where a replica serves its actions. Made of what the platform knows of the replica, never of what it was told. */
export interface ActionAddress {
  readonly host: string;
  readonly port: number;
  readonly uid: string;
}

/** Longest answer that is read. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** How long a look may take, and how long one that is under way is waited for in all (ms). */
const LOOK_MS = 5_000;
const RUNNING_MS = 15_000;
const LOOK_AGAIN_MS = 200;
/** How often a replica is asked for an action that does not answer, and what its not answering is. */
const TRIES = 3;
const LOST: ReadonlySet<string> = new Set(["EFFECT_UNKNOWN", "ACTION_UNREACHABLE"]);
/** How many ids are remembered. */
const MAX_REMEMBERED = 1_000;
const STATES: ReadonlySet<string> = new Set<ActionState>(["Applied", "Failed", "Running", "NotApplied", "Unknown"]);

/** A new Ed25519 private key, in PEM (PKCS #8). */
export function newActionKey(): string {
  return generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

/** Asks replicas for actions, and signs what it asks. */
export class ActionCaller {
  /** What applications verify by, in PEM. */
  readonly publicKey: string;
  readonly #key: KeyObject;
  readonly #clock: Clock;
  /** Of each effect that this process wanted done, whether a byte of it may have left and was not refused. */
  readonly #sent = new Map<string, boolean>();

  /** Throws `INVALID_ACTIONS_KEY` where `privateKey` is no Ed25519 key in PEM. `where` names it in the error. */
  constructor(privateKey: string, clock: Clock, where?: string) {
    const invalid = (why: string, cause?: unknown): NightshiftError =>
      new NightshiftError("INVALID_ACTIONS_KEY", `the key that actions are signed with ${why}`, {
        ...(where === undefined ? {} : { where }),
        fix: "Make one with: openssl genpkey -algorithm ed25519",
        cause,
      });
    try {
      this.#key = createPrivateKey(privateKey);
    } catch (cause) {
      throw invalid("cannot be read", cause);
    }
    if (this.#key.asymmetricKeyType !== "ed25519") throw invalid(`is not Ed25519 but ${this.#key.asymmetricKeyType ?? "of no known type"}`);
    this.publicKey = createPublicKey(this.#key).export({ type: "spki", format: "pem" }).toString();
    this.#clock = clock;
  }

  /**
   * Has it done, and resolves when it has been. `mayAct` is called between the signing and the sending, and throws where this
   * process may no longer act: whoever is frozen after it sends what the replica takes for too old. Rejects with `ACTION_FAILED`,
   * `ACTION_REFUSED`, `ACTION_UNREACHABLE` (nothing was sent), or `EFFECT_UNKNOWN`.
   */
  async invoke(
    effect: InvokeAction,
    address: ActionAddress,
    signal: AbortSignal,
    mayAct: () => unknown = () => undefined,
  ): Promise<EffectResult> {
    const what = `${effect.action} of ${effect.replica.name}`;
    const { state, message, tookMs } = await this.#askUntilAnswered(effect, address, signal, mayAct);
    if (state === "Applied") return { message: `${effect.action}: ${message}${tookMs === undefined ? "" : ` (${tookMs} ms)`}` };
    if (state === "Failed") throw new NightshiftError("ACTION_FAILED", `${what} failed: ${message}`);
    if (state === "NotApplied") throw new NightshiftError("ACTION_REFUSED", `${what} was not done: ${message}`);
    throw new NightshiftError("EFFECT_UNKNOWN", `${what}: ${message}`);
  }

  /** Asks what became of it, and waits a while for one that is under way. See `Platform.observe`. */
  async observe(effect: InvokeAction, address: ActionAddress): Promise<EffectState> {
    if (this.#sent.get(effect.id) === false) return { state: "NotApplied" };
    const deadline = this.#clock.monotonic() + RUNNING_MS;
    for (;;) {
      let answer: ActionAnswer;
      try {
        answer = await this.#ask("GET", effect, address, AbortSignal.timeout(LOOK_MS));
      } catch (error) {
        return { state: "Unknown", why: messageOf(error) };
      }
      const { state, message } = answer;
      if (state === "Applied") return { state, result: { message: `${effect.action}: ${message}` } };
      // It is remembered there: the same id is never begun again.
      if (state === "Failed" || state === "NotApplied") return { state: "NotApplied" };
      if (state === "Unknown" || this.#clock.monotonic() > deadline) return { state: "Unknown", why: message };
      await sleep(this.#clock, LOOK_AGAIN_MS);
    }
  }

  /** What was lost on the way is sent again: the replica knows by the id what it has done. */
  async #askUntilAnswered(effect: InvokeAction, address: ActionAddress, signal: AbortSignal, mayAct: () => unknown): Promise<ActionAnswer> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#ask("POST", effect, address, signal, mayAct);
      } catch (error) {
        const isLost = error instanceof NightshiftError && LOST.has(error.code);
        if (!isLost || tries >= TRIES || signal.aborted) throw error;
        await sleep(this.#clock, LOOK_AGAIN_MS, signal);
      }
    }
  }

  async #ask(
    method: "GET" | "POST",
    effect: InvokeAction,
    address: ActionAddress,
    signal: AbortSignal,
    mayAct: () => unknown = () => undefined,
  ): Promise<ActionAnswer> {
    const { action, id, intendedAt } = effect;
    const where = `http://${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}${ACTIONS_PATH}${action}`;
    const time = this.#clock.now();
    const text = signedText({ method, action, target: address.uid, effect: id, intended: intendedAt, time });
    const headers = {
      [HEADERS.target]: address.uid,
      [HEADERS.effect]: id,
      [HEADERS.intended]: String(intendedAt),
      [HEADERS.time]: String(time),
      [HEADERS.signature]: sign(null, Buffer.from(text), this.#key).toString("base64"),
      connection: "close",
    };
    mayAct();
    // What was sent before and not answered may have been done, whatever becomes of this one.
    const maybeDone = this.#sent.get(id) === true;
    if (method === "POST" && !this.#sent.has(id)) this.#remember(id, false);
    return new Promise((resolve, reject) => {
      let isConnected = false;
      const fail = (why: string, cause?: unknown): void => {
        const code = isConnected || maybeDone ? "EFFECT_UNKNOWN" : "ACTION_UNREACHABLE";
        reject(new NightshiftError(code, `${effect.replica.name} does not serve its actions: ${why}`, { where, cause }));
      };
      // No agent: no proxy, no redirect, and no connection that a later request shares.
      const call = request({
        method,
        host: address.host,
        port: address.port,
        path: `${ACTIONS_PATH}${action}`,
        headers,
        agent: false,
        signal,
      });
      call.on("socket", (socket) =>
        socket.once("connect", () => {
          isConnected = true;
          if (method === "POST") this.#remember(id, true);
        }),
      );
      call.on("error", (error) => fail(signal.aborted ? "it did not answer in time" : error.message, error));
      call.on("response", (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on("data", (chunk: Buffer) => {
          size += chunk.length;
          if (size > MAX_ANSWER_BYTES) call.destroy(new Error(`its answer is longer than ${MAX_ANSWER_BYTES} bytes`));
          else chunks.push(chunk);
        });
        response.on("error", (error) => fail(error.message, error));
        response.on("end", () => {
          const body = Buffer.concat(chunks).toString();
          const answer = answerOf(body);
          if (response.statusCode === 200 && answer !== undefined) return resolve(answer);
          // Whoever refuses to listen has done nothing of this one.
          if (response.statusCode === 401 || response.statusCode === 403) {
            const isUndone = method === "POST" && !maybeDone;
            // Whoever looks later would be refused, too.
            if (isUndone) this.#remember(id, false);
            return resolve({ state: isUndone ? "NotApplied" : "Unknown", message: refusal(response.statusCode, body) });
          }
          fail(`it answered with ${response.statusCode} and no state`);
        });
      });
      call.end();
    });
  }

  #remember(id: string, sent: boolean): void {
    this.#sent.set(id, sent);
    for (const oldest of this.#sent.keys()) {
      if (this.#sent.size <= MAX_REMEMBERED) break;
      this.#sent.delete(oldest);
    }
  }
}

function answerOf(body: string): ActionAnswer | undefined {
  try {
    const { state, message, tookMs } = JSON.parse(body) as Partial<Record<keyof ActionAnswer, unknown>>;
    if (typeof state !== "string" || !STATES.has(state)) return undefined;
    return {
      state: state as ActionState,
      message: typeof message === "string" ? message.slice(0, 1_000) : "",
      ...(typeof tookMs === "number" ? { tookMs } : {}),
    };
  } catch {
    return undefined;
  }
}

function refusal(status: number, body: string): string {
  if (status === 401) return "it does not take the signature: does it have the public key of this Nightshift?";
  try {
    const { message } = JSON.parse(body) as { readonly message?: unknown };
    if (typeof message === "string") return message.slice(0, 1_000);
  } catch {
    // Said below.
  }
  return "it refuses the request";
}
