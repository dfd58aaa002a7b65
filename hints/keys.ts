import { createPublicKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { HintsError, messageOf } from "./errors.ts";

const PEM = /-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----/g;

/**
 * The public keys that requests may be signed with: `key`, else `NIGHTSHIFT_ACTIONS_KEY`, else the file that
 * `NIGHTSHIFT_ACTIONS_KEY_FILE` names. PEM; several one after the other while a key is changed. Throws `NO_KEY`, `INVALID_KEY`.
 */
export function publicKeys(key: string | undefined, env: NodeJS.ProcessEnv): readonly KeyObject[] {
  const pem = key ?? env["NIGHTSHIFT_ACTIONS_KEY"] ?? fromFile(env["NIGHTSHIFT_ACTIONS_KEY_FILE"]);
  if (pem === undefined)
    throw new HintsError("NO_KEY", "there is no public key of Nightshift: set NIGHTSHIFT_ACTIONS_KEY or NIGHTSHIFT_ACTIONS_KEY_FILE");
  const blocks = pem.match(PEM) ?? [];
  if (blocks.length === 0) throw new HintsError("INVALID_KEY", "Nightshift's public key is not in PEM");
  return blocks.map((block) => {
    // Node.js would make a public key of it, and the application would hold what signs for all.
    if (block.includes("PRIVATE"))
      throw new HintsError("INVALID_KEY", "this is a private key: it must stay with Nightshift; give the public one");
    let parsed: KeyObject;
    try {
      parsed = createPublicKey(block);
    } catch (cause) {
      throw new HintsError("INVALID_KEY", `Nightshift's public key cannot be read: ${messageOf(cause)}`, { cause });
    }
    if (parsed.asymmetricKeyType !== "ed25519")
      throw new HintsError("INVALID_KEY", `Nightshift's public key is not Ed25519 but ${parsed.asymmetricKeyType ?? "of no known type"}`);
    return parsed;
  });
}

function fromFile(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new HintsError("NO_KEY", `NIGHTSHIFT_ACTIONS_KEY_FILE cannot be read: ${messageOf(cause)}`, { cause });
  }
}
