import { hash as digest } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { type FileHandle, open, readFile, rename, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { messageOf, NightshiftError } from "../api/errors.ts";
import { timestamp } from "../api/time.ts";

/** What an audit record is about. `Trail` is about the audit trail itself: a repair, or that somebody changed it. */
export type AuditType = "Started" | "Policy" | "Signal" | "Decision" | "Intent" | "Result" | "Phase" | "Page" | "Stopped" | "Trail";

/** One thing that happened, or was decided, or was decided against. */
export interface AuditRecord {
  readonly type: AuditType;
  /** When, milliseconds since the epoch. */
  readonly at: number;
  /** `namespace/name` of the Remediation that it belongs to. */
  readonly remediation?: string;
  /** `namespace/name` of the policy. */
  readonly policy?: string;
  /** Key of the target, see `targetKey`. */
  readonly target?: string;
  /** For people. */
  readonly message: string;
  /** For programs. */
  readonly data?: Readonly<Record<string, unknown>>;
}

/** Where the audit trail goes. */
export interface AuditSink {
  /** Resolves once the records are durable. Calls are kept in order; calls made while one is under way share a flush. */
  append(records: readonly AuditRecord[]): Promise<void>;
}

/** `prev` of the first line. */
export const GENESIS = "0".repeat(64);
/** How a line ends; what stands before it, closed with `}`, is what the hash is over. */
const HASH_FIELD = /,"hash":"([0-9a-f]{64})"\}$/;
/** Length of that end: `,"hash":"` + 64 + `"}`. */
const HASH_FIELD_LENGTH = 75;
const NEWLINE = 0x0a;

/** A place in the chain: the line with this number has this hash. */
export interface ChainLink {
  readonly seq: number;
  readonly hash: string;
}

/** A line of the trail, as far as it can be read. */
export interface ParsedLine extends ChainLink {
  readonly prev: string;
  /** The hash is that of the line's own bytes. */
  readonly intact: boolean;
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * Reads one line, without its newline; undefined when it is no line of an audit trail.
 *
 * The hash of a line is the SHA-256 of its exact bytes without `,"hash":"..."`; `prev` is the hash of the line before it,
 * and is among these bytes, so a line vouches for all before it.
 */
export function parseLine(bytes: Buffer): ParsedLine | undefined {
  if (bytes.length < HASH_FIELD_LENGTH) return undefined;
  const cut = bytes.length - HASH_FIELD_LENGTH;
  const hash = HASH_FIELD.exec(bytes.toString("latin1", cut))?.[1];
  if (hash === undefined) return undefined;
  let fields: unknown;
  try {
    fields = JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
  if (typeof fields !== "object" || fields === null) return undefined;
  const { seq, prev } = fields as { seq?: unknown; prev?: unknown };
  if (typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 1 || typeof prev !== "string") return undefined;
  const body = Buffer.concat([bytes.subarray(0, cut), Buffer.from("}")]);
  return { seq, prev, hash, intact: digest("sha256", body) === hash, fields: fields as Record<string, unknown> };
}

/** The next line of a chain. `inner` is the JSON text of an object with at least one field. */
function formatLine(last: ChainLink, inner: string): { readonly line: string; readonly link: ChainLink } {
  const seq = last.seq + 1;
  const body = `{"seq":${seq},"prev":"${last.hash}",${inner.slice(1)}`;
  const hash = digest("sha256", body);
  return { line: `${body.slice(0, -1)},"hash":"${hash}"}\n`, link: { seq, hash } };
}

/** The fields of a record in the order in which they stand in its line. */
function encode(record: AuditRecord): string {
  try {
    const { type, at, remediation, policy, target, message, data } = record;
    return JSON.stringify({ at: timestamp(at), type, remediation, policy, target, message, data });
  } catch (cause) {
    throw new NightshiftError("AUDIT_INVALID", `an audit record of type ${record.type} cannot be written: ${messageOf(cause)}`, { cause });
  }
}

/** What the head file says; undefined when there is none, `"unreadable"` when it says nothing that makes sense. */
export async function readHead(headPath: string): Promise<ChainLink | "unreadable" | undefined> {
  let text: string;
  try {
    text = await readFile(headPath, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    const { seq, hash } = JSON.parse(text) as { seq?: unknown; hash?: unknown };
    if (Number.isSafeInteger(seq) && typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash)) return { seq: seq as number, hash };
  } catch {
    // Falls through.
  }
  return "unreadable";
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : undefined;
}

interface Waiting {
  readonly lines: readonly string[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** How an audit trail is opened. */
export interface AuditOptions {
  /** The trail: JSON lines. Created where there is none. */
  readonly path: string;
  /**
   * The head: number and hash of the newest line, kept apart so that a cut at the end is found. Default: `audit.head`
   * beside the trail. It protects best on another disk, or where whoever can write the trail cannot.
   */
  readonly headPath?: string;
  /** For the times of the trail's own records. Default: the machine's. */
  readonly clock?: { now(): number };
}

/**
 * The audit trail: hash-chained lines in one file, which only grows.
 *
 * Each line is `{"seq":1,"prev":"<hash of the line before>","at":"<RFC 3339>","type":...,...,"hash":"<its own>"}`.
 * What an `append` confirmed is durable (fdatasync). A rejected one (`AUDIT_UNAVAILABLE`, such as on a full disk) is taken
 * back as a whole, and the next one may succeed.
 *
 * The chain never heals what was done to it: where lines are missing at the end when it is opened, it goes on from the head,
 * so that the gap stays to be seen by `verifyAudit`.
 */
export class AuditTrail implements AuditSink {
  readonly path: string;
  readonly headPath: string;
  readonly #now: () => number;
  readonly #lock: DatabaseSync;
  #file: FileHandle;
  /** Which file it is; another one at `path` means that somebody replaced it. */
  #identity: string;
  /** Bytes that are known to be whole lines. */
  #size: number;
  /** Something beyond `#size` may be in the file, and must go before the next write. */
  #dirty = false;
  #last: ChainLink;
  #waiting: Waiting[] = [];
  #flushing: Promise<void> | undefined;
  #headWriting: Promise<void> | undefined;
  #headWritten: ChainLink | undefined;
  #headFailed = false;
  /** Records about the trail itself, written before the next ones. */
  #notes: string[] = [];
  #closed = false;

  private constructor(init: {
    path: string;
    headPath: string;
    now: () => number;
    lock: DatabaseSync;
    file: FileHandle;
    identity: string;
    size: number;
    last: ChainLink;
  }) {
    this.path = init.path;
    this.headPath = init.headPath;
    this.#now = init.now;
    this.#lock = init.lock;
    this.#file = init.file;
    this.#identity = init.identity;
    this.#size = init.size;
    this.#last = init.last;
  }

  /**
   * Opens the trail, or begins one. A last line that a crash left half-written is moved to `audit.torn` beside it, and that
   * is put on record. Rejects with `AUDIT_IN_USE` when another writer has it, and `AUDIT_UNAVAILABLE` when it cannot be
   * read or written.
   */
  static async open(options: AuditOptions): Promise<AuditTrail> {
    const { path } = options;
    const headPath = options.headPath ?? join(dirname(path), "audit.head");
    const lock = lockTrail(path);
    let file: FileHandle | undefined;
    try {
      file = await open(path, "a+", 0o600);
      const notes: string[] = [];
      const { torn, size, links } = await readEnd(file);
      if (torn.length > 0) {
        const sidePath = join(dirname(path), "audit.torn");
        await saveTorn(sidePath, torn);
        await file.truncate(size);
        await file.datasync();
        notes.push(`the trail ended in ${torn.length} bytes of a line that was never finished: moved to ${sidePath}`);
      }
      const head = await readHead(headPath);
      const { last, note } = whereToGoOn(links, head);
      if (note !== undefined) notes.push(note);
      await syncDirectory(dirname(path));
      const trail = new AuditTrail({
        path,
        headPath,
        now: options.clock === undefined ? Date.now : () => options.clock?.now() ?? Date.now(),
        lock,
        file,
        identity: await identityOf(file),
        size,
        last,
      });
      trail.#headWritten = typeof head === "object" ? head : undefined;
      for (const text of notes) trail.#note(text);
      if (notes.length > 0) await trail.append([]);
      return trail;
    } catch (error) {
      await file?.close();
      lock.close();
      throw unavailable(path, error);
    }
  }

  append(records: readonly AuditRecord[]): Promise<void> {
    if (this.#closed) return Promise.reject(new NightshiftError("AUDIT_UNAVAILABLE", "the audit trail is closed", { where: this.path }));
    return new Promise((resolve, reject) => {
      // Encoded at once: what the caller changes later is not what happened.
      this.#waiting.push({ lines: records.map(encode), resolve, reject });
      this.#flushing ??= this.#flushAll();
    });
  }

  /** Resolves once what was appended is durable, the head too, and the trail is free for another writer. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#flushing;
      await this.#headWriting;
      // The head is not forced to the disk with each line; at the end it is. Where that fails it lags behind, as after a crash.
      if (this.#last.seq > 0) await this.#writeHead(this.#last, true).catch(() => undefined);
    } finally {
      await this.#file.close();
      this.#lock.close();
    }
  }

  #note(message: string): void {
    this.#notes.push(encode({ type: "Trail", at: this.#now(), message }));
  }

  async #flushAll(): Promise<void> {
    // Calls made in the same turn share the first flush too.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        await this.#flush(batch.flatMap((call) => call.lines));
        for (const call of batch) call.resolve();
        this.#headWriting ??= this.#updateHead();
      } catch (error) {
        const rejection = unavailable(this.path, error);
        for (const call of batch) call.reject(rejection);
      }
    }
    this.#flushing = undefined;
  }

  async #flush(lines: readonly string[]): Promise<void> {
    await this.#takeBack();
    await this.#checkFile();
    // A copy: what is noted while these are being written belongs to the next flush.
    const notes = [...this.#notes];
    let last = this.#last;
    const text: string[] = [];
    for (const inner of [...notes, ...lines]) {
      const { line, link } = formatLine(last, inner);
      text.push(line);
      last = link;
    }
    if (text.length === 0) return;
    const bytes = Buffer.from(text.join(""));
    this.#dirty = true;
    try {
      for (let done = 0; done < bytes.length;) done += (await this.#file.write(bytes, done)).bytesWritten;
      await this.#file.datasync();
    } catch (error) {
      // At once, so that no half line is found by a reader; if that fails too, the next append tries again.
      await this.#takeBack().catch(() => undefined);
      throw error;
    }
    this.#dirty = false;
    this.#size += bytes.length;
    this.#last = last;
    this.#notes = this.#notes.slice(notes.length);
  }

  async #takeBack(): Promise<void> {
    if (!this.#dirty) return;
    await this.#file.truncate(this.#size);
    this.#dirty = false;
  }

  /** Looks whether the file is still the one that was written last; puts on record when it is not. */
  async #checkFile(): Promise<void> {
    const now = await stat(this.path).catch((error: unknown) => {
      if (codeOf(error) === "ENOENT") return undefined;
      throw error;
    });
    if (now !== undefined && `${now.dev}:${now.ino}` === this.#identity) {
      if (now.size === this.#size) return;
      this.#note(`something else changed the trail while Nightshift ran: it has ${now.size} bytes where ${this.#size} were written`);
      this.#size = now.size;
      if (now.size > 0 && !(await endsWithNewline(this.#file, now.size))) {
        // Without it the next line would be glued to the rest of another.
        await this.#file.write("\n");
        this.#size += 1;
      }
      return;
    }
    const file = await open(this.path, "a+", 0o600);
    await this.#file.close();
    this.#file = file;
    this.#identity = await identityOf(file);
    this.#size = (await file.stat()).size;
    this.#note("the trail's file was removed or replaced while Nightshift ran: the chain goes on in this one");
    await syncDirectory(dirname(this.path));
  }

  /** Brings the head up to the newest line. It may lag behind a crash, never be ahead of what is durable. */
  async #updateHead(): Promise<void> {
    while (this.#headWritten?.seq !== this.#last.seq) {
      const wanted = this.#last;
      try {
        await this.#writeHead(wanted, false);
        if (this.#headFailed) this.#note("the head is written again");
        this.#headFailed = false;
      } catch (error) {
        // Said once; tried again with the next append. Lines are durable all the same, only a cut at their end would not be found.
        if (!this.#headFailed) this.#note(`the head cannot be written: ${messageOf(error)}`);
        this.#headFailed = true;
        break;
      }
    }
    this.#headWriting = undefined;
  }

  async #writeHead(link: ChainLink, sync: boolean): Promise<void> {
    const next = `${this.headPath}.next`;
    const file = await open(next, "w", 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ seq: link.seq, hash: link.hash })}\n`);
      if (sync) await file.datasync();
    } finally {
      await file.close();
    }
    await rename(next, this.headPath);
    if (sync) await syncDirectory(dirname(this.headPath));
    this.#headWritten = link;
  }
}

function unavailable(path: string, error: unknown): NightshiftError {
  if (error instanceof NightshiftError) return error;
  return new NightshiftError("AUDIT_UNAVAILABLE", `the audit trail cannot be written: ${messageOf(error)}`, {
    where: path,
    fix: codeOf(error) === "ENOSPC" ? "Free space there." : "Look at the file system and at the permissions there.",
    cause: error,
  });
}

/** Takes the trail for this process: SQLite's own lock on a file beside it, which the kernel drops with its holder. */
function lockTrail(path: string): DatabaseSync {
  let lock: DatabaseSync | undefined;
  try {
    const lockPath = `${path}.lock`;
    // For its owner only: whoever could read it could hold it, too.
    closeSync(openSync(lockPath, "a", 0o600));
    lock = new DatabaseSync(lockPath, { timeout: 0 });
    lock.exec("BEGIN EXCLUSIVE");
    return lock;
  } catch (cause) {
    lock?.close();
    // SQLITE_BUSY is 5.
    if (((cause as { errcode?: number }).errcode ?? 0) % 256 !== 5) throw unavailable(path, cause);
    throw new NightshiftError("AUDIT_IN_USE", "another process writes this audit trail", {
      where: path,
      fix: "Stop it, or give this one another state directory.",
      cause,
    });
  }
}

async function identityOf(file: FileHandle): Promise<string> {
  const { dev, ino } = await file.stat();
  return `${dev}:${ino}`;
}

async function endsWithNewline(file: FileHandle, size: number): Promise<boolean> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return bytesRead === 1 && buffer[0] === NEWLINE;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function saveTorn(path: string, torn: Buffer): Promise<void> {
  const side = await open(path, "a", 0o600);
  try {
    await side.appendFile(torn);
    await side.appendFile("\n");
    await side.datasync();
  } finally {
    await side.close();
  }
}

/** How much of the end of a trail is looked at when it is opened, beyond what is torn. */
const END_BYTES = 1_048_576;

/**
 * The last whole lines of a trail, newest last, and what follows them that is no line: unfinished, or not JSON.
 * `size` is where that begins.
 */
async function readEnd(file: FileHandle): Promise<{ torn: Buffer; size: number; links: ParsedLine[] }> {
  const total = (await file.stat()).size;
  for (let span = END_BYTES; ; span *= 4) {
    const start = Math.max(0, total - span);
    const bytes = Buffer.alloc(total - start);
    for (let read = 0; read < bytes.length;) {
      const { bytesRead } = await file.read(bytes, read, bytes.length - read, start + read);
      if (bytesRead === 0) break;
      read += bytesRead;
    }
    const links: ParsedLine[] = [];
    let end = bytes.lastIndexOf(NEWLINE) + 1;
    let size = end;
    while (end > 0) {
      const begin = end < 2 ? 0 : bytes.lastIndexOf(NEWLINE, end - 2) + 1;
      // The first line of the span may have begun before it.
      if (begin === 0 && start > 0) break;
      const line = parseLine(bytes.subarray(begin, end - 1));
      if (line !== undefined) links.unshift(line);
      else if (links.length === 0) size = begin;
      end = begin;
    }
    if (links.length > 0 || start === 0) return { torn: bytes.subarray(size), size: start + size, links };
  }
}

/** The link that the next line is chained to, and what is to be said about it. */
function whereToGoOn(links: readonly ParsedLine[], head: ChainLink | "unreadable" | undefined): { last: ChainLink; note?: string } {
  const tail = links.at(-1);
  if (head === undefined || head === "unreadable") {
    if (tail === undefined) return { last: { seq: 0, hash: GENESIS } };
    const what = head === undefined ? "missing" : "unreadable";
    return { last: tail, note: `the head was ${what} when the trail was opened: whether lines were cut off its end cannot be known` };
  }
  if (tail === undefined || tail.seq < head.seq) {
    const from = (tail?.seq ?? 0) + 1;
    return { last: head, note: `lines with seq ${from} to ${head.seq} were missing at the end when the trail was opened` };
  }
  const at = links.find((line) => line.seq === head.seq);
  if (at !== undefined && at.hash !== head.hash)
    return { last: { seq: tail.seq, hash: head.hash }, note: `the line with seq ${head.seq} was not the one that the head remembers` };
  return { last: tail };
}
