import { messageOf, NightshiftError } from "../api/errors.ts";

/** What the exit status of `nightshift` means. */
export const EXIT = {
  /** Done; where a question was asked, the answer is yes. */
  OK: 0,
  /** The answer is no: a check failed, faults were found, a scenario did not do what it promises. */
  NO: 1,
  /** Wrong use, or input that cannot be used. */
  USAGE: 2,
  /** Something that is needed cannot be had: the store, the state directory, a port, Node.js. */
  UNAVAILABLE: 69,
  /** A bug in Nightshift. */
  INTERNAL: 70,
  /** Ended by Ctrl-C. */
  INTERRUPTED: 130,
} as const;

/** The table of `nightshift help exit-codes`. */
export const EXIT_CODES = `Exit codes:
  0    done; where a question was asked, the answer is yes
  1    the answer is no: a check failed, verify found faults, a scenario did not do what it promises
  2    wrong use, or input that cannot be used
  69   unavailable: the store, the state directory, a port, Node.js
  70   internal: a bug in Nightshift
  130  ended by Ctrl-C

An error is one line on standard error, with a stable code: nightshift: where: message [CODE] what to do.
With --json it is {"error": {"code", "message", "where", "fix"}} there.
`;

/** Error codes that mean: not now, not here. */
const UNAVAILABLE =
  /^(STORE_(UNAVAILABLE|CORRUPT|VERSION)|STATE_(IN_USE|UNUSABLE)|AUDIT_(UNAVAILABLE|IN_USE)|LISTEN_FAILED|NO_FREE_PORT|DEMO_(SHOP_NOT_READY|NO_TRAFFIC)|STOPPING|OVERLOADED)$/;
/** Error codes that mean: somebody pressed Ctrl-C. */
const INTERRUPTED = /(^|_)INTERRUPTED$/;

/** The exit status for an error. */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof NightshiftError) || error.code === "INTERNAL") return EXIT.INTERNAL;
  if (UNAVAILABLE.test(error.code)) return EXIT.UNAVAILABLE;
  return INTERRUPTED.test(error.code) ? EXIT.INTERRUPTED : EXIT.USAGE;
}

/** What is printed for an error. What is no `NightshiftError` is a bug, and comes with its stack. */
export function errorText(error: unknown, json: boolean): string {
  const known = error instanceof NightshiftError;
  if (json) {
    const value = known ? error.toJSON() : { code: "INTERNAL", message: messageOf(error) };
    return `${JSON.stringify({ error: value })}\n`;
  }
  if (known) return `nightshift: ${error.toString()}\n`;
  const stack = error instanceof Error && error.stack !== undefined ? `\n${error.stack}` : "";
  return `nightshift: this is a bug: ${messageOf(error)} [INTERNAL]${stack}\n`;
}
