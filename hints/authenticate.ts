import { verify, type KeyObject } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { ACTION_NAME, ACTIONS_PATH, AHEAD_MS, HEADERS, LATE_MS, signedText, type SignedRequest } from "./protocol.ts";

/** Longest effect id and uid that are looked at. */
const MAX_LENGTH = 512;
const MILLISECONDS = /^\d{1,15}$/;

/** Whether a request is Nightshift's, and for this process. */
export type Verdict =
  | { readonly ok: true; readonly request: SignedRequest }
  /** Nobody that is known: told nothing. */
  | { readonly ok: false; readonly status: 401 }
  /** Nightshift, but not for this process or not now. */
  | { readonly ok: false; readonly status: 403; readonly message: string };

/** Checks who sent a request. `now`: milliseconds since the epoch. */
export function authenticate({ method, url, headers }: IncomingMessage, keys: readonly KeyObject[], uid: string, now: number): Verdict {
  const refused = { ok: false, status: 401 } as const;
  if ((method !== "GET" && method !== "POST") || url?.startsWith(ACTIONS_PATH) !== true) return refused;
  const action = url.slice(ACTIONS_PATH.length);
  const { target, effect, intended, time, signature } = Object.fromEntries(
    Object.entries(HEADERS).map(([name, header]) => [name, headers[header]]),
  );
  if (typeof target !== "string" || typeof effect !== "string" || target === "" || effect === "") return refused;
  if (typeof intended !== "string" || typeof time !== "string" || typeof signature !== "string") return refused;
  if (!ACTION_NAME.test(action) || !MILLISECONDS.test(intended) || !MILLISECONDS.test(time)) return refused;
  if (target.length > MAX_LENGTH || effect.length > MAX_LENGTH) return refused;
  const request: SignedRequest = { method, action, target, effect, intended: Number(intended), time: Number(time) };
  const bytes = Buffer.from(signature, "base64");
  const text = Buffer.from(signedText(request));
  if (bytes.length !== 64 || !keys.some((key) => verify(null, text, key, bytes))) return refused;
  if (target !== uid) return { ok: false, status: 403, message: "this request is for another replica" };
  const late = now - request.time;
  if (late > LATE_MS || -late > AHEAD_MS)
    return { ok: false, status: 403, message: `it was signed ${late} ms ago by this clock, and -${AHEAD_MS} to ${LATE_MS} are allowed` };
  return { ok: true, request };
}
