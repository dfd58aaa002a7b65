/**
 * The one error type that Nightshift shows to people: a stable code, what was wrong, where, and what to do.
 * The code never changes once published; the texts may.
 */
export class NightshiftError extends Error {
  override readonly name = "NightshiftError";
  /** Stable, upper snake case, e.g. `UNKNOWN_FIELD`. Programs match on it. */
  readonly code: string;
  /** File, line, path, address or object that the error is about. */
  readonly where: string | undefined;
  /** What the reader can do about it. */
  readonly fix: string | undefined;

  constructor(code: string, message: string, options: { where?: string; fix?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.where = options.where;
    this.fix = options.fix;
  }

  /** One line for people: `where: message [CODE] fix`. */
  override toString(): string {
    return `${this.where ? `${this.where}: ` : ""}${this.message} [${this.code}]${this.fix ? ` ${this.fix}` : ""}`;
  }

  toJSON(): { code: string; message: string; where?: string; fix?: string } {
    return {
      code: this.code,
      message: this.message,
      ...(this.where === undefined ? {} : { where: this.where }),
      ...(this.fix === undefined ? {} : { fix: this.fix }),
    };
  }
}

/** The message of anything thrown, for a log line or a status field. */
export function messageOf(error: unknown): string {
  if (error instanceof NightshiftError) return error.toString();
  return error instanceof Error ? error.message : String(error);
}
