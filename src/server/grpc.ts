import {
  constants,
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { gunzipSync, inflateSync } from "node:zlib";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { messageOf, NightshiftError } from "../api/errors.ts";
import { encodeStatus, RPC_CODE, type RpcCode } from "../observe/otlp/response.ts";
import type { Clock } from "../ports/clock.ts";
import { type BodyBudget, withBody } from "./body.ts";
import { listen } from "./listen.ts";
import type { Authenticator } from "./token.ts";

/** A method that is called with one message and answers with one. */
export interface GrpcMethod {
  /** What the authenticator is told is asked for. */
  readonly path: string;
  readonly call: (message: Uint8Array) => Uint8Array;
}

/** What the listener needs. */
export interface GrpcOptions {
  /** Where to listen. Port 0 takes any that is free. */
  readonly listen: { readonly host: string; readonly port: number };
  readonly authenticate: Authenticator;
  /** Certificate and key (PEM). Default: none, and so HTTP/2 from the first byte on. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  /** By path, such as `/package.Service/Method`. */
  readonly methods: Readonly<Record<string, GrpcMethod>>;
  /** Shared with whatever else reads bodies. */
  readonly budget: BodyBudget;
  readonly limits: {
    /** Largest message, as sent and as inflated, in bytes. */
    readonly maxBodyBytes: number;
    readonly maxConnections: number;
    /** Time for a TLS handshake (ms). */
    readonly headersTimeoutMs: number;
    /** Time for a whole call (ms). */
    readonly requestTimeoutMs: number;
    /** How long a connection without a call is kept (ms). */
    readonly keepAliveTimeoutMs: number;
    /** At a stop, how long calls in flight may go on (ms). */
    readonly stopGraceMs: number;
  };
  /** Something was refused, for this reason. */
  readonly refused: (listener: "grpc" | "connection", code: string) => void;
  readonly log: { error(data: object, message: string): void };
  readonly clock: Clock;
}

/** A listener that runs. */
export interface GrpcListener {
  /** `http://host:port` or `https://host:port`. */
  readonly url: string;
  /** Takes another certificate and key, for new connections. */
  renew(tls: { readonly cert: Buffer; readonly key: Buffer }): void;
  /** Takes no new calls, lets what is in flight finish within the bound, and resolves when all connections are closed. */
  close(): Promise<void>;
}

/** Status of each code that a call can be refused with; INVALID_ARGUMENT for any other. */
const STATUS: Readonly<Record<string, RpcCode>> = {
  UNAUTHENTICATED: RPC_CODE.Unauthenticated,
  NOT_FOUND: RPC_CODE.Unimplemented,
  UNSUPPORTED_ENCODING: RPC_CODE.Unimplemented,
  BODY_TOO_LARGE: RPC_CODE.ResourceExhausted,
  TOO_MANY_ITEMS: RPC_CODE.ResourceExhausted,
  OVERLOADED: RPC_CODE.ResourceExhausted,
  AUTH_UNAVAILABLE: RPC_CODE.Unavailable,
  INTERNAL: RPC_CODE.Internal,
};
/** Codes with which a sender is told to come back. By OTLP's rules, RESOURCE_EXHAUSTED alone tells it not to. */
const RETRIED = new Set(["OVERLOADED", "AUTH_UNAVAILABLE"]);
/** After how many seconds a sender that was told to come back should. */
const RETRY_AFTER_SECONDS = 1;

/** Length of what stands before a message: whether it is compressed, and its length. */
const PREFIX = 5;
/** Calls at once on one connection; further ones wait at the sender. */
const MAX_CALLS = 128;

/**
 * Starts a listener for unary gRPC calls, by hand on `node:http2`: a call is a POST with one length-prefixed message, its
 * answer one more and a status as trailers (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md). grpc-js would bring 33 packages, one
 * of them with an install script, and cannot count messages against a budget that another listener shares.
 *
 * @throws NightshiftError `LISTEN_FAILED` when the address is taken or not this machine's.
 */
export async function startGrpc(options: GrpcOptions): Promise<GrpcListener> {
  const { limits, clock } = options;
  const settings = { settings: { maxConcurrentStreams: MAX_CALLS, maxHeaderListSize: 16_384 }, maxHeaderListPairs: 64 };
  const server: Http2Server | Http2SecureServer =
    options.tls === undefined
      ? createServer(settings)
      : createSecureServer({ ...settings, ...options.tls, handshakeTimeout: limits.headersTimeoutMs });
  const sessions = new Set<ServerHttp2Session>();
  server.maxConnections = limits.maxConnections;
  server.on("drop", () => options.refused("connection", "TOO_MANY_CONNECTIONS"));
  server.on("sessionError", () => options.refused("connection", "MALFORMED_HTTP"));
  server.on("session", (session: ServerHttp2Session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    // Counted from call to call, not from byte to byte: one that dribbles headers is let go as well.
    let calls = 0;
    let cancelIdle = clock.after(limits.keepAliveTimeoutMs, () => session.close());
    session.once("close", () => cancelIdle());
    session.on("stream", (stream: ServerHttp2Stream) => {
      calls++;
      cancelIdle();
      stream.once("close", () => {
        if (--calls > 0 || session.destroyed) return;
        cancelIdle = clock.after(limits.keepAliveTimeoutMs, () => session.close());
      });
    });
  });
  server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const cancel = clock.after(limits.requestTimeoutMs, () => {
      options.refused("grpc", "TIMEOUT");
      stream.close(constants.NGHTTP2_CANCEL);
    });
    stream.once("close", cancel);
    // Why it ended early is the sender's affair; without a listener it would end this process.
    stream.on("error", () => {});
    void answer(stream, headers, options);
  });
  const address = await listen(server, options.listen);
  let closed: Promise<void> | undefined;
  return {
    url: `${options.tls === undefined ? "http" : "https"}://${address}`,
    renew: (tls) => (server as Partial<Http2SecureServer>).setSecureContext?.(tls),
    close: () => {
      closed ??= new Promise((resolve) => {
        const cancelGrace = clock.after(limits.stopGraceMs, () => {
          for (const session of sessions) session.destroy();
        });
        server.close(() => {
          cancelGrace();
          resolve();
        });
        for (const session of sessions) session.close();
      });
      return closed;
    },
  };
}

async function answer(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, options: GrpcOptions): Promise<void> {
  const { limits } = options;
  try {
    const path = headers[":path"] ?? "";
    // Not gRPC at all: by its specification the answer is HTTP's.
    if (headers[":method"] !== "POST") return end(stream, { ":status": 405 });
    if (!/^application\/grpc(\+proto)?(;|$)/.test(headers["content-type"] ?? "")) {
      options.refused("grpc", "UNSUPPORTED_MEDIA_TYPE");
      return end(stream, { ":status": 415 });
    }
    const method = Object.hasOwn(options.methods, path) ? options.methods[path] : undefined;
    if (!(await options.authenticate({ authorization: headers.authorization, method: "POST", path: method?.path ?? path })))
      throw new NightshiftError("UNAUTHENTICATED", "the bearer token is missing or wrong", {
        fix: "Send the metadata 'authorization: Bearer TOKEN': on one machine the token is in the file 'token' of the state directory.",
      });
    if (method === undefined) throw new NightshiftError("NOT_FOUND", "there is no such method here");
    const body = {
      stream,
      length: headers["content-length"],
      encoding: undefined,
      complete: () => stream.readableEnded && !stream.aborted,
    };
    const reply = await withBody(body, limits.maxBodyBytes + PREFIX, options.budget, (sent) =>
      method.call(messageIn(sent, headers["grpc-encoding"], limits.maxBodyBytes)),
    );
    if (stream.destroyed) return;
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
    stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": RPC_CODE.Ok }));
    const prefix = Buffer.alloc(PREFIX);
    prefix.writeUInt32BE(reply.length, 1);
    stream.end(Buffer.concat([prefix, reply]));
  } catch (error) {
    refuse(stream, error, options);
  }
}

function refuse(stream: ServerHttp2Stream, error: unknown, options: GrpcOptions): void {
  const known = error instanceof NightshiftError;
  if (!known) options.log.error({ error: messageOf(error) }, "a call failed");
  const shown = known ? error : new NightshiftError("INTERNAL", "the call failed; the log says why");
  if (shown.code === "AUTH_UNAVAILABLE") options.log.error({ error: messageOf(shown.cause ?? shown) }, shown.message);
  options.refused("grpc", shown.code);
  const status = STATUS[shown.code] ?? RPC_CODE.InvalidArgument;
  const message = `${shown.message}${shown.fix === undefined ? "" : `. ${shown.fix}`}`;
  end(stream, {
    ":status": 200,
    "content-type": "application/grpc+proto",
    "grpc-status": status,
    "grpc-message": percentEncoded(message),
    ...(shown.code === "UNSUPPORTED_ENCODING" ? { "grpc-accept-encoding": "identity,gzip,deflate" } : {}),
    ...(RETRIED.has(shown.code)
      ? { "grpc-status-details-bin": Buffer.concat([encodeStatus(status, message, "protobuf"), retryInfo()]).toString("base64") }
      : {}),
  });
}

/** Answers with headers alone, and takes no more of what is still being sent. */
function end(stream: ServerHttp2Stream, headers: Readonly<Record<string, string | number>>): void {
  if (stream.destroyed || stream.headersSent) return stream.close(constants.NGHTTP2_CANCEL);
  stream.respond(headers, { endStream: true });
  if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
}

/** The one message of a unary call, inflated within `maxBytes`. */
function messageIn(sent: Uint8Array, encoding: string | string[] | undefined, maxBytes: number): Uint8Array {
  const view = Buffer.from(sent.buffer, sent.byteOffset, sent.byteLength);
  if (view.length < PREFIX || view.readUInt32BE(1) !== view.length - PREFIX)
    throw new NightshiftError("MALFORMED_GRPC", "the call has not exactly one whole message", { fix: "Call it as a unary method." });
  const message = view.subarray(PREFIX);
  if (view[0] === 0) return message;
  if (view[0] !== 1) throw new NightshiftError("MALFORMED_GRPC", "a message is neither compressed nor not");
  const inflate = encoding === "gzip" ? gunzipSync : encoding === "deflate" ? inflateSync : undefined;
  if (inflate === undefined)
    throw new NightshiftError("UNSUPPORTED_ENCODING", "the message's grpc-encoding is not known", {
      fix: "Send gzip, deflate or identity.",
    });
  try {
    // At once, not piece by piece: what it takes is bounded as its decoding is, and nothing of it outlives this call.
    return inflate(message, { maxOutputLength: maxBytes });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE")
      throw new NightshiftError("BODY_TOO_LARGE", `the message is larger than ${maxBytes} bytes`, { fix: "Send smaller batches.", cause });
    throw new NightshiftError("MALFORMED_ENCODING", `the message is not what its grpc-encoding says: ${messageOf(cause)}`, { cause });
  }
}

/** The detail of a google.rpc.Status (its field 3) that says when to try again. */
function retryInfo(): Uint8Array {
  const writer = new BinaryWriter();
  writer.uint32((3 << 3) | 2).fork();
  writer.uint32((1 << 3) | 2).string("type.googleapis.com/google.rpc.RetryInfo");
  writer.uint32((2 << 3) | 2).fork();
  writer.uint32((1 << 3) | 2).fork();
  writer.uint32(1 << 3).int64(RETRY_AFTER_SECONDS);
  return writer.join().join().join().finish();
}

/** As gRPC wants a message in a header: everything but printable ASCII, and the percent sign, by the bytes of UTF-8. */
function percentEncoded(text: string): string {
  let out = "";
  for (const byte of Buffer.from(text))
    out +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return out;
}
