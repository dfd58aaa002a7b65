/**
 * What Nightshift and an application say to each other about actions. Nightshift signs each request with its Ed25519 key
 * (RFC 8032); the application has the public key only.
 */

/** Where actions are served: this, and the action's name. `POST` does it, `GET` tells what became of it. */
export const ACTIONS_PATH = "/nightshift/v1/actions/";

/** Names of the headers, in lower case as Node.js has them. */
export const HEADERS = {
  /** Uid of the replica that the request is for. */
  target: "nightshift-target",
  /** Identity of what is done: one id is done at most once. */
  effect: "nightshift-effect",
  /** When it was decided (milliseconds since the epoch, by Nightshift's clock). */
  intended: "nightshift-intended",
  /** When the request was signed (milliseconds since the epoch). */
  time: "nightshift-time",
  /** Ed25519 signature of `signedText`, in base64. */
  signature: "nightshift-signature",
} as const;

/** An action's name: as a DNS label, so that it stands in a path as it is. */
export const ACTION_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/**
 * How long ago by the clock of the application a request may have been signed, and how far ahead it may be (ms). However the clocks differ, none
 * is taken later than both together after it was signed: less than it takes until another leads in the place of its sender.
 */
export const LATE_MS = 3_000;
export const AHEAD_MS = 2_000;

/** What is signed of a request. */
export interface SignedRequest {
  readonly method: "GET" | "POST";
  readonly action: string;
  readonly target: string;
  readonly effect: string;
  readonly intended: number;
  readonly time: number;
}

/** The text that is signed: a version and every part on a line of its own, none of which may have a line break. */
export function signedText({ method, action, target, effect, intended, time }: SignedRequest): string {
  return ["nightshift-action-v1", method, `${ACTIONS_PATH}${action}`, target, action, effect, String(intended), String(time)].join("\n");
}

/** What became of an action. */
export type ActionState =
  /** It was done. */
  | "Applied"
  /** It was tried and did not succeed. It is not tried again under its id. */
  | "Failed"
  /** It is under way. */
  | "Running"
  /** It was not begun. */
  | "NotApplied"
  /** The process does not go back to when it was decided: an earlier one may have done it. */
  | "Unknown";

/** The answer to a request, as JSON. */
export interface ActionAnswer {
  readonly state: ActionState;
  /** For people. */
  readonly message: string;
  /** How long it took (ms), where it has ended. */
  readonly tookMs?: number;
}
