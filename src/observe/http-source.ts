import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Agent, fetch, type RequestInit } from "undici";
import { messageOf, NightshiftError } from "../api/errors.ts";

/** Time limit of one question (ms). */
const TIME_LIMIT_MS = 10_000;
/** How much of an answer that refuses is read (bytes). */
const REFUSAL_BYTES = 4_096;

/** Where something is that is asked over HTTP. */
export interface HttpSourceOptions {
  /** With its path prefix, where it has one. User and password in it become basic authentication. */
  readonly url: string;
  /** File with a bearer token. Read for every question, so it may be replaced at any time. */
  readonly tokenFile?: string | undefined;
  /** User of basic authentication, and the file with the password. */
  readonly username?: string | undefined;
  readonly passwordFile?: string | undefined;
  /** File with the certificates that its own is checked against. Read for every question. */
  readonly caFile?: string | undefined;
  /** Further headers. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** What something answered that is no success. */
export class HttpRefusal extends NightshiftError {
  readonly status: number;
  /** The beginning of its body. */
  readonly body: string;

  constructor(status: number, body: string) {
    super("SOURCE_REFUSED", `it answered ${status}`, {
      fix: status === 401 || status === 403 ? "Check its token or password." : "Check its url: its own address, with its path prefix.",
    });
    this.status = status;
    this.body = body;
  }
}

/** Something that is asked over HTTP. Redirects are not followed; what it answers is bounded. */
export class HttpSource {
  readonly #options: HttpSourceOptions;
  #agent: { readonly ca: string | undefined; readonly dispatcher: Agent } | undefined;

  constructor(options: HttpSourceOptions) {
    this.#options = options;
  }

  /** Its address without what may be secret in it. */
  get name(): string {
    const { origin, pathname } = new URL(this.#options.url);
    return pathname === "/" ? origin : `${origin}${pathname}`;
  }

  /**
   * Asks `path` below the address, by GET, or by POST where there is a form. Resolves with the body of a 200.
   *
   * @throws HttpRefusal for any other status; NightshiftError `SOURCE_UNREACHABLE`, `SOURCE_SLOW`, `ANSWER_TOO_LARGE`,
   * `FILE_UNREADABLE`, `TOKEN_MALFORMED` or `CA_MALFORMED`.
   */
  async ask(
    path: string,
    options: {
      readonly maxBytes: number;
      readonly query?: Readonly<Record<string, string>>;
      readonly form?: Readonly<Record<string, string>>;
      readonly timeoutMs?: number;
      readonly signal: AbortSignal;
    },
  ): Promise<Uint8Array> {
    const { maxBytes, query = {}, form, timeoutMs = TIME_LIMIT_MS, signal } = options;
    const url = new URL(this.#options.url);
    url.pathname = `${url.pathname.replace(/\/$/, "")}${path}`;
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
    const limit = AbortSignal.timeout(timeoutMs);
    try {
      const init: RequestInit = {
        redirect: "manual",
        dispatcher: await this.#dispatcher(),
        signal: AbortSignal.any([signal, limit]),
        headers: { accept: "application/json", "user-agent": "nightshift", ...this.#options.headers, ...(await this.#authorization(url)) },
        ...(form === undefined ? {} : { method: "POST", body: new URLSearchParams(form) }),
      };
      const { status, body } = await fetch(url, init);
      if (status !== 200) throw new HttpRefusal(status, new TextDecoder().decode(await read(body, REFUSAL_BYTES, true)));
      return await read(body, maxBytes, false);
    } catch (error) {
      if (error instanceof NightshiftError) throw error;
      if (limit.aborted) throw new NightshiftError("SOURCE_SLOW", `no answer in ${timeoutMs / 1000} s`, { cause: error });
      const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
      throw new NightshiftError("SOURCE_UNREACHABLE", `no answer: ${messageOf(cause)}`, {
        fix: "Check its url, and that it can be reached from here.",
        cause: error,
      });
    }
  }

  /** Ends its connections. */
  async close(): Promise<void> {
    await this.#agent?.dispatcher.destroy();
  }

  async #authorization(url: URL): Promise<Record<string, string>> {
    const { tokenFile, username = decodeURIComponent(url.username), passwordFile } = this.#options;
    const inUrl = decodeURIComponent(url.password);
    url.username = "";
    url.password = "";
    if (tokenFile !== undefined) return { authorization: `Bearer ${await secret(tokenFile)}` };
    if (username === "") return {};
    const password = passwordFile === undefined ? inUrl : await secret(passwordFile);
    return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}` };
  }

  async #dispatcher(): Promise<Agent> {
    const { caFile } = this.#options;
    const ca = caFile === undefined ? undefined : await text(caFile, "the certificates that its own is checked against cannot be read");
    if (this.#agent === undefined || this.#agent.ca !== ca) {
      if (caFile !== undefined && ca !== undefined) checkCertificate(caFile, ca);
      void this.#agent?.dispatcher.close();
      this.#agent = { ca, dispatcher: new Agent(ca === undefined ? {} : { connect: { ca } }) };
    }
    return this.#agent.dispatcher;
  }
}

/** A file of this machine: that it cannot be read says nothing of what is asked. */
async function text(file: string, what: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new NightshiftError("FILE_UNREADABLE", `${what}: ${messageOf(cause)}`, {
      where: file,
      fix: "Name a file that is there, and let nightshift read it.",
      cause,
    });
  }
}

/** Node takes what is no certificate for none, and says of the server's that it is not to be trusted. */
function checkCertificate(file: string, pem: string): void {
  try {
    new X509Certificate(pem);
  } catch (cause) {
    throw new NightshiftError("CA_MALFORMED", `it has no certificate in PEM: ${messageOf(cause)}`, {
      where: file,
      fix: "Let caFile be a file with one or more certificates in PEM.",
      cause,
    });
  }
}

async function secret(file: string): Promise<string> {
  const value = (await text(file, "its token or password cannot be read")).trim();
  // Refused here: the error of whoever sends it would show it.
  if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value))
    throw new NightshiftError("TOKEN_MALFORMED", "its token or password has characters that no HTTP header may have", {
      where: file,
      fix: "Let the file have the token or the password alone, on one line.",
    });
  return value;
}

/** A body, or its beginning. */
async function read(body: AsyncIterable<Uint8Array> | null, maxBytes: number, beginning: boolean): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of body ?? []) {
    parts.push(part);
    size += part.length;
    if (size <= maxBytes) continue;
    if (beginning) break;
    throw new NightshiftError("ANSWER_TOO_LARGE", `its answer is larger than ${Math.round(maxBytes / 2 ** 20)} MiB`);
  }
  return Buffer.concat(parts).subarray(0, maxBytes);
}
