import { BinaryWriter } from "@bufbuild/protobuf/wire";
import type { IngestResult, OtlpEncoding } from "./receiver.ts";

/** Codes of google.rpc that OTLP answers carry. */
export const RPC_CODE = {
  Ok: 0,
  InvalidArgument: 3,
  ResourceExhausted: 8,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  Unauthenticated: 16,
} as const;
export type RpcCode = (typeof RPC_CODE)[keyof typeof RPC_CODE];

/** The media type of each encoding. */
export const OTLP_MEDIA_TYPE: Readonly<Record<OtlpEncoding, string>> = { protobuf: "application/x-protobuf", json: "application/json" };

/** The encoding that a Content-Type names; undefined when it is none of OTLP's. Parameters do not matter. */
export function otlpEncoding(contentType: string | undefined): OtlpEncoding | undefined {
  const type = contentType?.split(";", 1)[0]?.trim().toLowerCase();
  return type === "application/x-protobuf" ? "protobuf" : type === "application/json" ? "json" : undefined;
}

/** What an export request carries, by the name that its answer has for what was rejected of it. */
export type OtlpItems = "DataPoints" | "Spans" | "LogRecords";

/**
 * The answer to an export request: empty, or with `partial_success` where something was rejected, or where there is something
 * to say: by OTLP's rules a message without rejections is a warning.
 */
export function encodeResponse(result: IngestResult, encoding: OtlpEncoding, items: OtlpItems): Uint8Array {
  const empty = result.rejected === 0 && result.message === "";
  if (encoding === "json")
    return utf8(empty ? {} : { partialSuccess: { [`rejected${items}`]: String(result.rejected), errorMessage: result.message } });
  const writer = new BinaryWriter();
  if (!empty) {
    writer.uint32((1 << 3) | 2).fork();
    if (result.rejected > 0) writer.uint32(1 << 3).int64(result.rejected);
    writer.uint32((2 << 3) | 2).string(result.message);
    writer.join();
  }
  return writer.finish();
}

/** A google.rpc.Status. */
export function encodeStatus(code: RpcCode, message: string, encoding: OtlpEncoding): Uint8Array {
  if (encoding === "json") return utf8({ code, message });
  return new BinaryWriter()
    .uint32(1 << 3)
    .int32(code)
    .uint32((2 << 3) | 2)
    .string(message)
    .finish();
}

function utf8(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}
