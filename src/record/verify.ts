import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { NightshiftError } from "../api/errors.ts";
import { type ChainLink, GENESIS, parseLine, type ParsedLine, readHead } from "./audit.ts";

/** What was done to a line. */
export type AuditFaultKind =
  /** Its bytes are not those that were written. */
  | "Edited"
  /** Lines that were there are missing. */
  | "Removed"
  /** It stands at another place than it was written. */
  | "Reordered"
  /** It was never written by Nightshift. */
  | "Inserted"
  /** A copy of a line that stands elsewhere too. */
  | "Duplicated"
  /** Lines at the end are missing. */
  | "Cut"
  /** The last line is unfinished: a crash. The next start moves it to `audit.torn`. */
  | "Torn"
  /** There is no head, or it cannot be read: a cut at the end would not be found. */
  | "HeadMissing";

/** One thing that is wrong with a trail. */
export interface AuditFault {
  /** Line in the file, from 1, that it is about, or before which something is missing; absent when it is about the head. */
  readonly line?: number;
  /** Number of the record, where it is known. */
  readonly seq?: number;
  readonly kind: AuditFaultKind;
  readonly message: string;
}

/** What a check of the whole trail found. */
export interface AuditReport {
  readonly ok: boolean;
  readonly path: string;
  readonly headPath: string;
  /** Whole lines in the file. */
  readonly records: number;
  /** The result in a sentence. */
  readonly message: string;
  /** Number and hash of the newest record. */
  readonly last: ChainLink | null;
  readonly head: ChainLink | null;
  /** In the order of their lines. */
  readonly faults: readonly AuditFault[];
  /** Faults beyond those that are listed. */
  readonly more: number;
}

/** Longest line that is looked at (bytes); a longer one is no line of an audit trail. */
const MAX_LINE = 16 * 1024 * 1024;
/** Most faults that are listed. */
const MAX_FAULTS = 1_000;
const NEWLINE = 0x0a;

/** A line of a file. `ended`: a newline follows it. */
interface RawLine {
  readonly number: number;
  /** Empty when the line is longer than what is looked at. */
  readonly bytes: Buffer;
  readonly ended: boolean;
}

/** The lines of a file, in bounded memory. */
export async function* readLines(path: string): AsyncGenerator<RawLine> {
  let parts: Buffer[] = [];
  let length = 0;
  let number = 0;
  const take = (ended: boolean): RawLine => {
    number += 1;
    const bytes = length > MAX_LINE ? Buffer.alloc(0) : parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts);
    parts = [];
    length = 0;
    return { number, bytes, ended };
  };
  for await (const chunk of createReadStream(path, { highWaterMark: 1_048_576 }) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      parts.push(chunk.subarray(start, end));
      length += end - start;
      yield take(true);
      start = end + 1;
    }
    length += chunk.length - start;
    if (length <= MAX_LINE && start < chunk.length) parts.push(chunk.subarray(start));
    else if (length > MAX_LINE) parts = [];
  }
  if (length > 0) yield take(false);
}

/** A line that took part in the chain, or wants to. */
interface Candidate {
  readonly line: number;
  readonly seq: number;
  readonly prev: string;
  readonly hash: string;
}

/** Seqs `from` to `to` that were skipped before `line`. */
interface Gap {
  from: number;
  to: number;
  line: number;
}

/**
 * Follows the chain through the lines and says for each that does not fit what was done to it.
 *
 * A line that jumps ahead is held back until the next one shows whether the chain goes on from it (then what it jumped over
 * is missing, or comes later) or from before it (then it stands at the wrong place, or was never written).
 */
class ChainCheck {
  readonly faults: AuditFault[] = [];
  more = 0;
  /** The newest link of the chain. */
  last: Candidate = { line: 0, seq: 0, prev: "", hash: GENESIS };
  /** Whether the hash of `last` is beyond doubt: if not, the next line's `prev` says nothing about it. */
  #lastKnown = true;
  #held: Candidate | undefined;
  /** Lines with the same seq as `last`: one of them is false, and the next line says which. */
  #rivals: Candidate[] = [];
  /** Lines that jumped ahead of the chain and were passed by it. */
  #strays: Candidate[] = [];
  #gaps: Gap[] = [];
  /** Lines that cannot be read, since the last that could. */
  #unreadable: number[] = [];
  /** Lines whose seq was there before. */
  readonly repeats: Candidate[] = [];
  readonly #headSeq: number | undefined;
  readonly #headHash: string | undefined;
  /** Number of the newest record of which there is a line, be it edited or at another place: what is beyond it was cut. */
  newest = 0;
  headSeen: Candidate | undefined;

  constructor(head: ChainLink | undefined) {
    this.#headSeq = head?.seq;
    this.#headHash = head?.hash;
  }

  fault(kind: AuditFaultKind, message: string, line?: number, seq?: number): void {
    if (this.faults.length >= MAX_FAULTS) this.more += 1;
    else this.faults.push({ ...(line === undefined ? {} : { line }), ...(seq === undefined ? {} : { seq }), kind, message });
  }

  add(number: number, parsed: ParsedLine | undefined): void {
    if (parsed === undefined || (!parsed.intact && parsed.seq !== this.#top().seq + 1)) {
      // Its own number cannot be trusted: the lines around it tell what it was.
      this.#unreadable.push(number);
      return;
    }
    const line: Candidate = { line: number, seq: parsed.seq, prev: parsed.prev, hash: parsed.hash };
    if (!parsed.intact) {
      this.#settle(line);
      this.fault("Edited", "its bytes are not those that its hash was made of", number, line.seq);
      this.#accept(line, false);
      return;
    }
    this.#settle(line);
    if (line.seq === this.last.seq + 1) {
      if (line.prev !== this.last.hash) this.#resolveRivals(line);
      if (this.#lastKnown && line.prev !== this.last.hash) this.#brokenBefore(line);
      this.#accept(line, true);
    } else if (line.seq > this.last.seq + 1) this.#held = line;
    else if (this.#fillGap(line.seq)) this.fault("Reordered", "it stands after lines that were written later", number, line.seq);
    else if (line.seq === this.last.seq && line.hash !== this.last.hash) this.#rivals.push(line);
    else this.repeats.push(line);
  }

  /** Nothing follows. */
  end(): void {
    if (this.#held !== undefined) this.#jumpTo(this.#held);
    this.#held = undefined;
    this.newest = this.last.seq;
    const headSeq = this.#headSeq ?? 0;
    // Lines at the end that cannot be read, where the head knows of more than the chain has: they are what has become of those.
    while (this.newest < headSeq) {
      const number = this.#unreadable.shift();
      if (number === undefined) break;
      this.newest += 1;
      this.fault("Edited", "it cannot be read as what was written", number, this.newest);
    }
    this.#placeUnreadable(undefined);
    const moved = this.#strays.find((stray) => stray.seq === headSeq && stray.hash === this.#headHash && headSeq === this.newest + 1);
    if (moved !== undefined) {
      this.#strays = this.#strays.filter((stray) => stray !== moved);
      this.newest = headSeq;
      this.fault("Reordered", "it stands before lines that were written earlier", moved.line, moved.seq);
    }
    // Of two lines with the last number, the head says which is the true one.
    const truth = this.#rivals.find((rival) => rival.seq === this.#headSeq && rival.hash === this.#headHash);
    if (truth !== undefined) this.#swapLast(truth);
    for (const rival of this.#rivals)
      this.fault("Inserted", "another line has this number, and the chain goes on from that", rival.line, rival.seq);
    for (const stray of this.#strays) this.fault("Inserted", "the chain does not lead to it", stray.line, stray.seq);
    for (const gap of this.#gaps)
      this.fault(
        "Removed",
        gap.from === gap.to
          ? `the line with seq ${gap.from} is missing before this one`
          : `the lines with seq ${gap.from} to ${gap.to} are missing before this one`,
        gap.line,
        gap.from,
      );
  }

  #top(): Candidate {
    return this.#held ?? this.last;
  }

  /** Decides about what was held back, now that the next line is here. */
  #settle(next: Candidate): void {
    const held = this.#held;
    if (held === undefined) {
      this.#placeUnreadable(next);
      return;
    }
    this.#held = undefined;
    if (next.seq === this.last.seq + 1 && next.prev === this.last.hash) {
      this.#placeUnreadable(next);
      this.#strays.push(held);
    } else {
      this.#jumpTo(held);
      this.#placeUnreadable(next);
    }
  }

  /** Goes on from a line that left others out. */
  #jumpTo(line: Candidate): void {
    let from = this.last.seq + 1;
    // Unreadable lines stand where these were: they are what has become of them.
    const edited = this.#unreadable.filter((number) => number < line.line);
    for (const number of edited) {
      if (from >= line.seq) break;
      this.fault("Edited", "it cannot be read as what was written", number, from);
      from += 1;
      this.#unreadable = this.#unreadable.filter((other) => other !== number);
    }
    if (from < line.seq) {
      this.#gaps.push({ from, to: line.seq - 1, line: line.line });
      const passed = this.#strays.filter((stray) => stray.seq >= from && stray.seq < line.seq);
      this.#strays = this.#strays.filter((stray) => !passed.includes(stray));
      for (const stray of passed) {
        if (this.#fillGap(stray.seq)) this.fault("Reordered", "it stands before lines that were written earlier", stray.line, stray.seq);
        if (stray.seq === line.seq - 1 && stray.hash !== line.prev)
          this.fault(
            "Edited",
            "the line after it is chained to another hash: it was changed, and its hash computed anew",
            stray.line,
            stray.seq,
          );
      }
    }
    this.#accept(line, true);
  }

  /** Says what unreadable lines before `next` were. */
  #placeUnreadable(next: Candidate | undefined): void {
    if (this.#unreadable.length === 0) return;
    if (next !== undefined && next.seq > this.last.seq + 1) return;
    for (const number of this.#unreadable) this.fault("Inserted", "it is no line of an audit trail", number);
    this.#unreadable = [];
  }

  #resolveRivals(next: Candidate): void {
    const truth = this.#rivals.find((rival) => rival.hash === next.prev);
    if (truth !== undefined) this.#swapLast(truth);
  }

  #swapLast(truth: Candidate): void {
    this.#rivals = [...this.#rivals.filter((rival) => rival !== truth), this.last];
    this.last = truth;
    this.#seeHead(truth);
  }

  /** `line` has the right number, but is chained to another hash than that of the line before it. */
  #brokenBefore(line: Candidate): void {
    if (this.last.seq === 0) {
      this.fault("Edited", "it is the first, and chained to another line", line.line, line.seq);
      return;
    }
    this.fault(
      "Edited",
      "the line after it is chained to another hash: it was changed, and its hash computed anew",
      this.last.line,
      this.last.seq,
    );
  }

  #accept(line: Candidate, known: boolean): void {
    for (const rival of this.#rivals)
      this.fault("Inserted", "another line has this number, and the chain goes on from that", rival.line, rival.seq);
    this.#rivals = [];
    this.last = line;
    this.#lastKnown = known;
    this.#seeHead(line);
  }

  #seeHead(line: Candidate): void {
    if (line.seq === this.#headSeq) this.headSeen = line;
  }

  /** Takes `seq` out of the gaps; false when it is in none. */
  #fillGap(seq: number): boolean {
    const gap = this.#gaps.find((candidate) => seq >= candidate.from && seq <= candidate.to);
    if (gap === undefined) return false;
    const rest: Gap[] = [];
    if (gap.from < seq) rest.push({ ...gap, to: seq - 1 });
    if (seq < gap.to) rest.push({ ...gap, from: seq + 1 });
    this.#gaps.splice(this.#gaps.indexOf(gap), 1, ...rest);
    return true;
  }
}

/**
 * Checks a trail from its first line to its head, in bounded memory, and names each edited, removed, reordered, inserted,
 * duplicated or cut line. Lines newer than the head are well if they are chained: a crash, or a writer at work.
 * Rejects with `NO_AUDIT_TRAIL` when there is neither a trail nor a head.
 *
 * What it cannot find: lines newer than the head that are cut, and whatever was done by someone who could write both files.
 */
export async function verifyAudit(options: { readonly path: string; readonly headPath: string }): Promise<AuditReport> {
  const { path, headPath } = options;
  const before = await sizeOf(path);
  // The head first: what is written meanwhile is newer than it.
  const headFile = await readHead(headPath);
  if (before === undefined && headFile === undefined)
    throw new NightshiftError("NO_AUDIT_TRAIL", "there is no audit trail", { where: path, fix: "Name the state directory with --state." });
  const head = typeof headFile === "object" ? headFile : undefined;
  const check = new ChainCheck(head);
  let lines = 0;
  let tornAt: number | undefined;
  if (before !== undefined)
    for await (const raw of readLines(path)) {
      if (!raw.ended) {
        tornAt = raw.number;
        break;
      }
      lines += 1;
      check.add(raw.number, parseLine(raw.bytes));
    }
  check.end();
  if (check.repeats.length > 0) await nameRepeats(path, check);
  if (tornAt !== undefined) {
    // A writer may be in the midst of it.
    await delay(200);
    if ((await sizeOf(path)) === before)
      check.fault("Torn", "it is unfinished, as after a crash; the next start moves it to audit.torn", tornAt);
  }
  const last = check.last.seq === 0 ? null : { seq: check.last.seq, hash: check.last.hash };
  if (headFile === undefined && lines > 0)
    check.fault("HeadMissing", `there is no head (${headPath}): whether lines were cut off the end cannot be known`);
  if (headFile === "unreadable")
    check.fault("HeadMissing", `the head (${headPath}) cannot be read: whether lines were cut off the end cannot be known`);
  if (head !== undefined) {
    const { newest } = check;
    if (head.seq > newest)
      check.fault(
        "Cut",
        head.seq === newest + 1
          ? `the line with seq ${head.seq} is missing at the end`
          : `the lines with seq ${newest + 1} to ${head.seq} are missing at the end`,
        lines + 1,
        newest + 1,
      );
    else if (check.headSeen !== undefined && check.headSeen.hash !== head.hash)
      check.fault(
        "Edited",
        "its hash is not the one that the head remembers: it was changed, and its hash computed anew",
        check.headSeen.line,
        head.seq,
      );
  }
  const faults = check.faults.toSorted((a, b) => (a.line ?? Infinity) - (b.line ?? Infinity));
  const ok = faults.length === 0;
  const message = ok
    ? `${lines} records, each chained to the one before it, up to the head`
    : `${faults.length + check.more} faults in ${lines} records`;
  return { ok, path, headPath, records: lines, message, last, head: head ?? null, faults, more: check.more };
}

/** Looks through the file once more for the lines whose number appeared twice: is it a copy, or forged? */
async function nameRepeats(path: string, check: ChainCheck): Promise<void> {
  const bySeq = new Map<number, Candidate[]>();
  for (const repeat of check.repeats) bySeq.set(repeat.seq, [...(bySeq.get(repeat.seq) ?? []), repeat]);
  const original = new Map<string, number>();
  for await (const raw of readLines(path)) {
    const line = parseLine(raw.bytes);
    if (line === undefined) continue;
    if (bySeq.has(line.seq) && !original.has(line.hash)) original.set(line.hash, raw.number);
  }
  for (const repeat of check.repeats) {
    const first = original.get(repeat.hash);
    if (first !== undefined && first < repeat.line) check.fault("Duplicated", `it is a copy of line ${first}`, repeat.line, repeat.seq);
    else check.fault("Inserted", "another line has this number, and is part of the chain", repeat.line, repeat.seq);
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** A record as it stands in the trail. */
export interface AuditLine {
  readonly seq: number;
  /** RFC 3339. */
  readonly at: string;
  readonly type: string;
  readonly remediation?: string;
  readonly policy?: string;
  readonly target?: string;
  readonly message: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

/** The records of a trail, oldest first. What cannot be read is left out: `verifyAudit` names it. */
export async function* readAudit(path: string): AsyncGenerator<AuditLine> {
  try {
    for await (const raw of readLines(path)) {
      const fields = raw.ended ? parseLine(raw.bytes)?.fields : undefined;
      if (fields !== undefined) {
        const { prev: _prev, hash: _hash, ...record } = fields;
        yield record as unknown as AuditLine;
      }
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
    throw new NightshiftError("NO_AUDIT_TRAIL", "there is no audit trail", {
      where: path,
      fix: "Name the state directory with --state.",
      cause,
    });
  }
}
