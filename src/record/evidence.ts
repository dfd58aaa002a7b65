import { createHash } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { messageOf, NightshiftError } from "../api/errors.ts";
import type { Evidence, EvidenceArtifact } from "../api/remediation.ts";

/** Most files, and most bytes of them; the oldest go first, and the newest stays in any case. */
const MAX_FILES = 500;
const MAX_BYTES = 64 * 1024 * 1024;
const PARTIAL = ".partial";
const DIGEST = /^[0-9a-f]{64}$/;

/** Keeps the evidence of episodes that is larger than what their Remediations keep. */
export interface EvidenceShelf {
  /** Keeps all of it, and says where; where it cannot, why not. Never throws. It does not wait: what refers to it is stored right afterwards. */
  keep(evidence: readonly Evidence[]): EvidenceArtifact;
}

/** Size and digest of evidence, and the text that they are of. */
function written(evidence: readonly Evidence[]): { readonly text: string; readonly of: Omit<EvidenceArtifact, "path" | "problem"> } {
  const text = `${JSON.stringify(evidence)}\n`;
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { text, of: { pieces: evidence.length, bytes: Buffer.byteLength(text), sha256 } };
}

/** Where nothing is kept: it is said how much there was. */
export const NO_SHELF: EvidenceShelf = {
  keep: (evidence) => ({ ...written(evidence).of, problem: "nothing keeps it here; the audit trail has it, with the decision" }),
};

/** Evidence as files of a directory, each named by its digest: the same evidence is there once. */
export class EvidenceFiles implements EvidenceShelf {
  readonly dir: string;

  /** `dir` is made when it is first needed. */
  constructor(dir: string) {
    this.dir = dir;
  }

  keep(evidence: readonly Evidence[]): EvidenceArtifact {
    const { text, of } = written(evidence);
    try {
      const path = this.#pathOf(of.sha256);
      if (statSync(path, { throwIfNoEntry: false })?.size !== of.bytes) this.#write(path, text);
      else touch(path);
      return { ...of, path };
    } catch (error) {
      return { ...of, problem: messageOf(error).slice(0, 500) };
    }
  }

  /**
   * Reads what has this digest, and checks that it does.
   *
   * @throws NightshiftError `NOT_FOUND`, or `ARTIFACT_DAMAGED` where the file is not what was kept.
   */
  read(sha256: string): readonly Evidence[] {
    if (!DIGEST.test(sha256)) throw new NightshiftError("INVALID", `${sha256.slice(0, 100)} is no digest: 64 hexadecimal digits are`);
    const path = this.#pathOf(sha256);
    let text: Buffer;
    try {
      text = readFileSync(path);
    } catch (cause) {
      throw new NightshiftError("NOT_FOUND", "this evidence is not there; the oldest makes place for new one", {
        where: path,
        fix: "The decision of the audit trail has it as well: nightshift audit list --remediation NAME --json",
        cause,
      });
    }
    if (createHash("sha256").update(text).digest("hex") !== sha256)
      throw new NightshiftError("ARTIFACT_DAMAGED", "the file is not what was kept: its digest is another", { where: path });
    return JSON.parse(text.toString()) as Evidence[];
  }

  #pathOf(sha256: string): string {
    return join(this.dir, `${sha256}.json`);
  }

  #write(path: string, text: string): void {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    const partial = `${path}${PARTIAL}`;
    try {
      const fd = openSync(partial, "w", 0o600);
      try {
        const data = Buffer.from(text);
        for (let at = 0; at < data.length;) at += writeSync(fd, data, at);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(partial, path);
    } catch (error) {
      // On a disk that is full what is left would take what room there is, and nothing counts it.
      rmSync(partial, { force: true });
      throw error;
    }
    this.#prune();
  }

  #prune(): void {
    const names = readdirSync(this.dir);
    // One process writes here, one at a time: what is not whole now was cut off by a crash.
    for (const name of names.filter((each) => each.endsWith(PARTIAL))) rmSync(join(this.dir, name), { force: true });
    const files = names
      .filter((name) => name.endsWith(".json"))
      .flatMap((name) => {
        const path = join(this.dir, name);
        const stat = statSync(path, { throwIfNoEntry: false });
        return stat === undefined ? [] : [{ path, bytes: stat.size, at: stat.mtimeMs }];
      })
      .toSorted((a, b) => b.at - a.at);
    let bytes = 0;
    files.forEach(({ path, bytes: size }, i) => {
      bytes += size;
      if (i > 0 && (i >= MAX_FILES || bytes > MAX_BYTES)) rmSync(path, { force: true });
    });
  }
}

/** Makes a file as new as one that was written now. */
function touch(path: string): void {
  const now = new Date();
  utimesSync(path, now, now);
}

/** Where a state directory has the evidence of its episodes. */
export function evidenceDir(stateDir: string): string {
  return join(stateDir, "artifacts", "evidence");
}
