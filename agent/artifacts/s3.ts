import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, join } from "node:path";
import { S3mini, S3ServiceError } from "s3mini";
import { NightshiftError, messageOf } from "../../src/api/errors.ts";
import { sleep, type Clock } from "../../src/ports/clock.ts";
import type { ArtifactStore, CapturedFile, Kept } from "./store.ts";

/** Smallest part of an upload (bytes): S3 takes 5 MiB to 5 GiB, and at most 10,000 parts; one part is in memory at a time. */
const PART_BYTES = 16 * 2 ** 20;
const MAX_PARTS = 10_000;
/** Longest time for one request: a part, or the whole when it is read back (ms). */
const REQUEST_MS = 600_000;
/** Waits between tries, doubled from the first to the last (ms). */
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;

/** Who asks. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** Options of `S3Store`. */
export interface S3StoreOptions {
  /** Such as `https://s3.eu-central-1.amazonaws.com` or `http://minio:9000`; the bucket goes into the path. */
  readonly endpoint: string;
  readonly bucket: string;
  /** Default `us-east-1`. */
  readonly region?: string;
  /** Begins every key. Default `nightshift`. */
  readonly prefix?: string;
  /** Asked before every use: mounted credentials are replaced while the agent runs. */
  readonly credentials: () => S3Credentials;
  /** Where files wait until they are uploaded. */
  readonly spoolDir: string;
  readonly node: string;
  readonly clock: Clock;
  /** Default 16 MiB. */
  readonly partBytes?: number;
}

/** Credentials of files named as a Secret's keys, `access-key-id` and `secret-access-key`. Throws `S3_CREDENTIALS`. */
export function mountedCredentials(dir: string): S3Credentials {
  const read = (name: string): string => {
    try {
      return readFileSync(join(dir, name), "utf8").trim();
    } catch (cause) {
      throw new NightshiftError("S3_CREDENTIALS", `the file ${name} cannot be read`, { where: dir, cause });
    }
  };
  return { accessKeyId: read("access-key-id"), secretAccessKey: read("secret-access-key") };
}

/** Credentials of the environment, as every S3 client names them. Throws `S3_CREDENTIALS`. */
export function environmentCredentials(env: NodeJS.ProcessEnv = process.env): S3Credentials {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = env;
  if (!accessKeyId || !secretAccessKey)
    throw new NightshiftError("S3_CREDENTIALS", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set", {
      fix: "Set both, or mount them and name the directory with --s3-credentials.",
    });
  return { accessKeyId, secretAccessKey };
}

/**
 * Keeps artifacts in a bucket of an S3-compatible store. A file is uploaded in parts and then read back: only what the
 * store gives back, byte by byte, with the digest of what was captured, counts as kept.
 */
export class S3Store implements ArtifactStore {
  readonly name: string;
  readonly dir: string;
  readonly #o: S3StoreOptions;
  /** Keys of this node begin with it. */
  readonly #prefix: string;

  constructor(options: S3StoreOptions) {
    this.#o = options;
    this.#prefix = [options.prefix ?? "nightshift", options.node].filter((part) => part !== "").join("/");
    this.name = `s3://${options.bucket}/${this.#prefix}`;
    this.dir = options.spoolDir;
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
  }

  /** Goes on trying until `signal` aborts. */
  async keep(file: CapturedFile, signal: AbortSignal): Promise<string> {
    const key = `${this.#prefix}/${basename(file.path)}`;
    await this.#untilDone(signal, async () => {
      if (await this.#verified(key, file, signal)) return;
      await this.#upload(key, file, signal);
      if (!(await this.#verified(key, file, signal)))
        throw new NightshiftError("ARTIFACT_STORE_FAILED", "what was read back is not what was uploaded", { where: this.#url(key) });
    });
    rmSync(file.path, { force: true });
    return this.#url(key);
  }

  async list(signal: AbortSignal): Promise<Kept[]> {
    const objects = await this.#attempt(() => this.#client(signal).listObjects("/", `${this.#prefix}/`));
    return (objects ?? []).map(({ Key, Size, LastModified }) => ({
      path: this.#url(Key),
      bytes: Size,
      at: new Date(LastModified).getTime(),
    }));
  }

  async delete(path: string, signal: AbortSignal): Promise<void> {
    const key = path.slice(`s3://${this.#o.bucket}/`.length);
    await this.#attempt(() => this.#client(signal).deleteObject(key));
  }

  #url(key: string): string {
    return `s3://${this.#o.bucket}/${key}`;
  }

  #client(signal: AbortSignal): S3mini {
    const { endpoint, bucket, region = "us-east-1", credentials } = this.#o;
    return new S3mini({
      ...credentials(),
      endpoint: `${endpoint.replace(/\/+$/, "")}/${bucket}`,
      region,
      fetch: (input, init) => fetch(input, { ...init, signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS)]) }),
    });
  }

  async #upload(key: string, { path, bytes, sha256 }: CapturedFile, signal: AbortSignal): Promise<void> {
    const client = this.#client(signal);
    const partBytes = Math.max(this.#o.partBytes ?? PART_BYTES, Math.ceil(bytes / MAX_PARTS));
    const metadata = { "x-amz-meta-sha256": sha256 };
    const file = await open(path, "r");
    try {
      const part = async (index: number): Promise<Buffer<ArrayBuffer>> => {
        const size = Math.min(partBytes, bytes - index * partBytes);
        const data = Buffer.alloc(size);
        const { bytesRead } = await file.read(data, 0, size, index * partBytes);
        if (bytesRead !== size)
          throw new NightshiftError("ARTIFACT_STORE_FAILED", "the file is shorter than what was captured", { where: path });
        return data;
      };
      if (bytes <= partBytes) {
        await client.putObject(key, await part(0), undefined, undefined, metadata);
        return;
      }
      const uploadId = await client.getMultipartUploadId(key, undefined, undefined, metadata);
      try {
        const parts = [];
        for (let index = 0; index * partBytes < bytes; index += 1)
          parts.push(await this.#retried(signal, async () => client.uploadPart(key, uploadId, await part(index), index + 1)));
        await client.completeMultipartUpload(key, uploadId, parts);
      } catch (error) {
        // Parts of an upload that is never completed are stored, and paid for, for ever.
        await this.#client(AbortSignal.timeout(10_000))
          .abortMultipartUpload(key, uploadId)
          .catch(() => undefined);
        throw error;
      }
    } finally {
      await file.close();
    }
  }

  /** Whether the store gives back what was captured. */
  async #verified(key: string, { bytes, sha256 }: CapturedFile, signal: AbortSignal): Promise<boolean> {
    const response = await this.#client(signal).getObjectResponse(key);
    if (response === null) return false;
    const hash = createHash("sha256");
    let read = 0;
    for await (const chunk of response.body ?? []) {
      hash.update(chunk);
      read += chunk.length;
      if (read > bytes) return false;
    }
    return read === bytes && hash.digest("hex") === sha256;
  }

  /** Tries again, with growing waits, until it is done or the time is up. */
  async #untilDone(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    // What failed before says more than that the time is up.
    let last: unknown;
    for (let wait = FIRST_RETRY_MS; ; wait = Math.min(wait * 2, LAST_RETRY_MS)) {
      try {
        return await work();
      } catch (error) {
        if (!isTransient(error)) throw storeError(error, this.name);
        if (!signal.aborted || last === undefined) last = error;
        await sleep(this.#o.clock, wait, signal);
        if (signal.aborted) throw storeError(last, this.name);
      }
    }
  }

  /** A part is tried three times before the whole upload begins anew. */
  async #retried<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries += 1)
      try {
        return await work();
      } catch (error) {
        if (tries === 3 || signal.aborted || !isTransient(error)) throw error;
        await sleep(this.#o.clock, FIRST_RETRY_MS * tries, signal);
      }
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw storeError(error, this.name);
    }
  }
}

/** Whether the same may go well later: not a refusal such as a wrong key or a bucket that is not there. */
function isTransient(error: unknown): boolean {
  if (error instanceof NightshiftError) return error.code === "ARTIFACT_STORE_FAILED";
  if ((error as NodeJS.ErrnoException | null)?.code === "ENOENT") return false;
  return !(error instanceof S3ServiceError) || error.status >= 500 || error.status === 408 || error.status === 429;
}

function storeError(cause: unknown, where: string): NightshiftError {
  if (cause instanceof NightshiftError) return cause;
  const inner = cause instanceof Error && cause.cause !== undefined ? `: ${messageOf(cause.cause)}` : "";
  return new NightshiftError("ARTIFACT_STORE_FAILED", `${messageOf(cause)}${inner}`, { where, cause });
}
