import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
import { gunzipSync, gzipSync } from "node:zlib";
import { Pool } from "undici";

export type Protocol = "gRPC" | "HTTP";

/** Requests that are on their way at once. */
const IN_FLIGHT = 8;
/** What a client may have under way: by itself Node takes 10 MiB for enough, and eight batches are more. */
const MAX_SESSION_MIB = 256;
/** Bytes before a message of gRPC. */
const PREFIX = 5;
const METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/** One body as it goes over the wire. */
export function packed(body: Uint8Array, protocol: Protocol, gzip: boolean): Buffer {
  const message = gzip ? gzipSync(body) : Buffer.from(body);
  if (protocol === "HTTP") return message;
  const prefix = Buffer.alloc(PREFIX);
  prefix.writeUInt8(gzip ? 1 : 0);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Sends packed bodies over connections that stay open. */
export interface Sender {
  /**
   * Sends them all, eight at a time.
   * @throws where one was not taken in whole.
   */
  send(bodies: readonly Buffer[]): Promise<void>;
  close(): Promise<void>;
}

export async function sender(protocol: Protocol, gzip: boolean, urls: { http: string; grpc: string }, token: string): Promise<Sender> {
  const post = protocol === "HTTP" ? overHttp(urls.http, gzip, token) : await overGrpc(urls.grpc, gzip, token);
  return {
    send: async (bodies) => {
      let next = 0;
      const work = async (): Promise<void> => {
        for (let body = bodies[next++]; body !== undefined; body = bodies[next++]) await post.one(body);
      };
      await Promise.all(Array.from({ length: IN_FLIGHT }, work));
    },
    close: post.close,
  };
}

/** Whether an answer says that all was taken: it is empty, or has a `partial_success` (field 1) that is. */
const isWhole = (answer: Uint8Array): boolean => answer.length === 0 || (answer.length === 2 && answer[0] === 0x0a && answer[1] === 0);

interface Post {
  readonly one: (body: Buffer) => Promise<void>;
  readonly close: () => Promise<void>;
}

function overHttp(url: string, gzip: boolean, token: string): Post {
  const pool = new Pool(url, { connections: IN_FLIGHT });
  const headers = {
    "content-type": "application/x-protobuf",
    authorization: `Bearer ${token}`,
    ...(gzip ? { "content-encoding": "gzip" } : {}),
  };
  return {
    one: async (body) => {
      const { statusCode, body: answer } = await pool.request({ method: "POST", path: "/v1/metrics", headers, body });
      const bytes = await answer.bytes();
      if (statusCode !== 200 || !isWhole(bytes)) throw new Error(`${url} answered ${statusCode}: ${Buffer.from(bytes).toString("latin1")}`);
    },
    close: () => pool.close(),
  };
}

async function overGrpc(url: string, gzip: boolean, token: string): Promise<Post> {
  const session: ClientHttp2Session = connect(url, { maxSessionMemory: MAX_SESSION_MIB });
  await once(session, "connect");
  const headers = {
    ":method": "POST",
    ":path": METHOD,
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${token}`,
    ...(gzip ? { "grpc-encoding": "gzip" } : {}),
  };
  return {
    one: (body) =>
      new Promise((resolve, reject) => {
        const stream = session.request(headers);
        let status: unknown;
        let message: unknown;
        const answer: Buffer[] = [];
        const note = (each: Readonly<Record<string, unknown>>): void => {
          status = each["grpc-status"] ?? status;
          message = each["grpc-message"] ?? message;
        };
        stream.on("response", note).on("trailers", note).on("error", reject);
        stream.on("data", (chunk: Buffer) => answer.push(chunk));
        stream.on("close", () => {
          const reply = Buffer.concat(answer);
          // An answer may be compressed as its request was.
          const text = reply[0] === 1 ? gunzipSync(reply.subarray(PREFIX)) : reply.subarray(PREFIX);
          if (Number(status) === 0 && isWhole(text)) resolve();
          else reject(new Error(`${url} answered ${String(status)}: ${String(message)} ${text.toString("latin1")}`));
        });
        stream.end(body);
      }),
    close: async () => {
      session.close();
      await once(session, "close");
    },
  };
}
