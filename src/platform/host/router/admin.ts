import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { NightshiftError, messageOf } from "../../../api/errors.ts";
import { routerConfigSchema, type RouterHealth } from "./protocol.ts";
import type { Router } from "./router.ts";

/** Bytes of a configuration. */
const MAX_BODY_BYTES = 16 * 2 ** 20;

async function readJson(req: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new NightshiftError("INVALID", `the configuration is larger than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch (error) {
    throw new NightshiftError("INVALID", `the configuration is no JSON: ${messageOf(error)}`, { cause: error });
  }
}

/** The router's own interface, JSON over HTTP: `GET /health`, `GET /config`, `PUT /config`, `GET /stats`, `POST /shutdown`. */
export function createAdmin(router: Router, health: RouterHealth, shutdown: () => void): Server {
  const routes: Readonly<Record<string, (req: IncomingMessage) => unknown>> = {
    "GET /health": () => health,
    "GET /config": () => router.config,
    "PUT /config": async (req) => {
      const parsed = routerConfigSchema.safeParse(await readJson(req));
      if (!parsed.success) {
        const issue = parsed.error.issues[0];
        throw new NightshiftError("INVALID", `${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`, { cause: parsed.error });
      }
      await router.configure(parsed.data);
      return {};
    },
    "GET /stats": () => router.stats(),
    "POST /shutdown": () => {
      setImmediate(shutdown);
      return {};
    },
  };
  const answer = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const send = (status: number, body: unknown): void => {
      res.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const route = routes[`${req.method ?? ""} ${req.url ?? ""}`];
    try {
      if (route === undefined) return send(404, new NightshiftError("NOT_FOUND", "no such route"));
      send(200, await route(req));
    } catch (error) {
      if (error instanceof NightshiftError) send(409, error);
      else send(500, new NightshiftError("ROUTER_FAILED", messageOf(error)));
    }
  };
  return createServer((req, res) => void answer(req, res));
}
