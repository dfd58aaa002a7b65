import { NightshiftError } from "../../api/errors.ts";
import { isFenced, KubeApiError } from "./errors.ts";

/** What the API server refused or could not do, in the codes of the `Store` port; anything else as it is. */
export function storeError(error: unknown, what: string): unknown {
  if (!(error instanceof KubeApiError)) return error;
  const made = (code: string, text: string, fix?: string): NightshiftError =>
    new NightshiftError(code, `${what} ${text}`, { cause: error, ...(fix === undefined ? {} : { fix }) });
  const fenced: boolean = isFenced(error);
  if (fenced) return made("NOT_LEADER", `is not written: this process was deposed (${error.message})`);
  switch (error.code) {
    case "KUBE_NOT_FOUND":
      return made("NOT_FOUND", `does not exist (${error.message})`, "It was deleted, or never created: read again what exists.");
    case "KUBE_ALREADY_EXISTS":
      return made("ALREADY_EXISTS", "exists already", "Update it, or take another name.");
    case "KUBE_CONFLICT":
      return made(
        "CONFLICT",
        `has changed since it was read (${error.message})`,
        "Read it again, apply the change to what was read, and retry.",
      );
    case "KUBE_INVALID":
      return refused(error, made);
    case "KUBE_BAD_REQUEST":
    case "KUBE_TOO_LARGE":
      return made("INVALID", `is invalid: ${error.message}`);
    default:
      return made("STORE_UNAVAILABLE", `cannot be read or written now: ${error.message} [${error.code}]`, error.fix);
  }
}

/** Rules of the CRDs that say more than that the object is wrong (see src/api/remediation.ts). */
function refused(error: KubeApiError, made: (code: string, text: string, fix?: string) => NightshiftError): NightshiftError {
  if (error.message.includes("the writer was deposed")) return made("NOT_LEADER", "was written by a later leader: this one was deposed");
  if (error.message.includes("its revision never goes back"))
    return made("CONFLICT", "was written again since it was read", "Read it again, apply the change to what was read, and retry.");
  if (error.message.includes("spec is immutable")) return made("IMMUTABLE", ": spec cannot be changed", "Change the status only.");
  return made("INVALID", `is invalid: ${error.message}`);
}
