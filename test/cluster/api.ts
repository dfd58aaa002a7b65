import { request } from "node:https";

/** How to reach an API server, and as whom. */
export interface ApiAccess {
  /** `https://127.0.0.1:PORT` */
  readonly server: string;
  /** The authority's certificate, PEM. */
  readonly ca: string;
  readonly token: string;
  /** Headers more, such as `Impersonate-User`. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer of the API server other than 2xx. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly body: string;

  constructor(method: string, path: string, status: number, body: string) {
    super(`${method} ${path}: ${status} ${body.slice(0, 500)}`);
    this.status = status;
    this.body = body;
  }
}

/**
 * One request to the API server, its answer as JSON (as text where it is none).
 * A string as the body is sent as it is, anything else as JSON.
 * @throws ApiError for any status but 2xx; what the connection throws otherwise.
 */
export function call<T = unknown>(access: ApiAccess, method: string, path: string, body?: unknown, contentType?: string): Promise<T> {
  return new Promise((done, fail) => {
    const payload = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
    const outgoing = request(
      `${access.server}${path}`,
      {
        method,
        ca: access.ca,
        timeout: 30_000,
        headers: {
          authorization: `Bearer ${access.token}`,
          accept: "application/json",
          ...access.headers,
          ...(payload === undefined
            ? {}
            : { "content-type": contentType ?? "application/json", "content-length": Buffer.byteLength(payload) }),
        },
      },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8");
        answer.on("data", (chunk: string) => (text += chunk));
        answer.once("error", fail);
        answer.once("end", () => {
          const status = answer.statusCode ?? 0;
          if (status < 200 || status > 299) return fail(new ApiError(method, path, status, text));
          const json = (answer.headers["content-type"] ?? "").includes("json");
          done((json ? JSON.parse(text) : text) as T);
        });
      },
    );
    outgoing.once("timeout", () => outgoing.destroy(new Error(`${method} ${path}: no answer in 30 s`)));
    outgoing.once("error", fail);
    outgoing.end(payload);
  });
}
