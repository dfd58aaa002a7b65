/** What an application has set up wrongly, with a stable code. */
export class HintsError extends Error {
  override readonly name = "HintsError";
  /** `NO_METER`, `NO_KEY`, `INVALID_KEY`, `NO_TARGET`, `NO_PORT`, `INVALID_ACTION`, `ACTION_TAKEN`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
