import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { constants } from "node:fs";
import { link, mkdir, open, readFile, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { NightshiftError } from "../api/errors.ts";
import type { Clock } from "../ports/clock.ts";

/** Fewer characters than this can be guessed. A token that is made here has 43. */
export const MIN_TOKEN_LENGTH = 16;

/**
 * The bearer token in a file; where there is no file, a new random one. See `readOrCreateSecret`.
 *
 * @throws NightshiftError `TOKEN_EXPOSED`, `TOKEN_UNREADABLE`, or `TOKEN_WEAK` when it is too short.
 */
export async function readOrCreateToken(path: string): Promise<string> {
  const token = await readOrCreateSecret(path, () => randomBytes(32).toString("base64url"));
  if (token.length >= MIN_TOKEN_LENGTH && !/\s/.test(token)) return token;
  throw new NightshiftError("TOKEN_WEAK", `the token has fewer than ${MIN_TOKEN_LENGTH} characters, or blanks in it`, {
    where: path,
    fix: "Delete the file, so that a new token is made.",
  });
}

/**
 * The secret in a file; where there is no file, what `make` makes, written so that only its owner may read it. Several
 * processes may call it at once: all get the same one, and none ever reads half of one.
 *
 * @throws NightshiftError `TOKEN_EXPOSED` when others may read the file, `TOKEN_UNREADABLE` when it cannot be read or made.
 */
export async function readOrCreateSecret(path: string, make: () => string): Promise<string> {
  try {
    return await readSecret(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw unreadable(path, error);
  }
  const temporary = `${path}.${randomBytes(8).toString("hex")}`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    try {
      await file.writeFile(`${make().trim()}\n`);
      await file.sync();
      await file.close();
      // A link fails where there is a file already, and shows it with its whole content: O_EXCL alone would not.
      await link(temporary, path).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      });
    } finally {
      await file.close().catch(() => {});
      await unlink(temporary);
    }
    return await readSecret(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

async function readSecret(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw new NightshiftError("TOKEN_UNREADABLE", "the token is no regular file", { where: path });
    if ((stat.mode & 0o077) !== 0)
      throw new NightshiftError("TOKEN_EXPOSED", "others than its owner may read or change the token", {
        where: path,
        fix: "Delete the file, so that a new token is made; or, if nobody has read it, chmod it to 600.",
      });
    return (await file.readFile("utf8")).trim();
  } finally {
    await file.close();
  }
}

function unreadable(path: string, cause: unknown): NightshiftError {
  if (cause instanceof NightshiftError) return cause;
  return new NightshiftError("TOKEN_UNREADABLE", `the token cannot be read or made: ${String(cause)}`, { where: path, cause });
}

/** A request's way in: its Authorization header, and what it asks for. */
export interface Credentials {
  readonly authorization: string | undefined;
  readonly method: string;
  readonly path: string;
}

/** Whether who sent a request may. Rejects with a `NightshiftError` where that cannot be known now: the sender tries again. */
export type Authenticator = (credentials: Credentials) => boolean | Promise<boolean>;

/** Lets in what any of several lets in; one that cannot tell keeps none of the others from answering. */
export function anyOf(...authenticators: readonly Authenticator[]): Authenticator {
  return async (credentials) => {
    let unknown: unknown;
    for (const authenticate of authenticators) {
      try {
        if (await authenticate(credentials)) return true;
      } catch (error) {
        unknown ??= error;
      }
    }
    if (unknown !== undefined) throw unknown;
    return false;
  };
}

/** How often a mounted token is looked at again (ms). The kubelet itself takes about a minute to bring a change. */
const MOUNTED_TOKEN_MS = 5_000;

/**
 * The bearer token in a file that somebody else mounts and rotates, such as a Kubernetes Secret: a link is followed, the
 * file's mode is the mount's affair, and it is read again every few seconds. While it is missing or weak nobody gets in.
 */
export function mountedTokenCheck(path: string, clock: Clock): Authenticator {
  let readAt = -Infinity;
  let check: ((authorization: string | undefined) => boolean) | undefined;
  return async ({ authorization }) => {
    if (clock.monotonic() - readAt >= MOUNTED_TOKEN_MS) {
      readAt = clock.monotonic();
      try {
        check = bearerCheck((await readFile(path, "utf8")).trim());
      } catch (error) {
        check = undefined;
        // The sender is told no path of ours; the log has the cause.
        throw new NightshiftError("AUTH_UNAVAILABLE", "who may send cannot be told at the moment", { cause: unreadable(path, error) });
      }
    }
    return check?.(authorization) ?? false;
  };
}

/**
 * Whether an Authorization header carries the token. Digests are compared, so that neither the length nor any character
 * shows in the time it takes.
 */
export function bearerCheck(token: string): (authorization: string | undefined) => boolean {
  if (token.length < MIN_TOKEN_LENGTH)
    throw new NightshiftError("TOKEN_WEAK", `the token has fewer than ${MIN_TOKEN_LENGTH} characters`, { fix: "Use a longer one." });
  const expected = digest(token);
  return (authorization) => {
    const given = /^bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    return timingSafeEqual(digest(given ?? ""), expected) && given !== undefined;
  };
}

/**
 * A token that is made of another, the same each time, and from which that cannot be found: what gets it can be kept to less.
 */
export function derivedToken(token: string, purpose: string): string {
  return createHmac("sha256", token).update(purpose).digest("base64url");
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
