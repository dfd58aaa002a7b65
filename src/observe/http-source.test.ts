import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttp, type RequestListener } from "node:http";
import { createServer as createHttps } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { describe, it, type TestContext } from "node:test";
import { selfSigned } from "../../test/support/certificate.ts";
import { NightshiftError } from "../api/errors.ts";
import { HttpRefusal, HttpSource, type HttpSourceOptions } from "./http-source.ts";

const code = (expected: string) => (error: unknown) => error instanceof NightshiftError && error.code === expected;

async function serving(t: TestContext, listener: RequestListener, tls?: { cert: string; key: string }) {
  const server = tls === undefined ? createHttp(listener) : createHttps(tls, listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `${tls === undefined ? "http" : "https"}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return (extra: Partial<HttpSourceOptions> = {}) => {
    const source = new HttpSource({ url, ...extra });
    t.after(() => source.close());
    return (options: Partial<Parameters<HttpSource["ask"]>[1]> = {}) =>
      source.ask("/x", { maxBytes: 1_000, signal: new AbortController().signal, ...options });
  };
}

describe("HttpSource", () => {
  it("checks a certificate against its own file, and takes no other", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "nightshift-http-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const pair = selfSigned();
    const caFile = join(dir, "ca.pem");
    const source = await serving(t, (_request, response) => void response.end("hello"), pair);
    await assert.rejects(source()(), code("SOURCE_UNREACHABLE"));
    writeFileSync(caFile, selfSigned().cert);
    const ask = source({ caFile });
    await assert.rejects(ask(), code("SOURCE_UNREACHABLE"));
    // Replaced, as a rotation does it.
    writeFileSync(caFile, pair.cert);
    assert.equal(new TextDecoder().decode(await ask()), "hello");
  });

  it("reads no more than it may", async (t) => {
    const source = await serving(t, (request, response) => {
      response.writeHead(request.headers.authorization === undefined ? 200 : 500).end("x".repeat(100_000));
    });
    await assert.rejects(source()(), code("ANSWER_TOO_LARGE"));
    assert.equal((await source()({ maxBytes: 100_000 })).length, 100_000);
    const url = new URL("http://jane:secret@127.0.0.1");
    assert.equal(new HttpSource({ url: url.href }).name, "http://127.0.0.1");
  });

  it("says what was answered, and not what is secret", async (t) => {
    const source = await serving(t, (_request, response) => void response.writeHead(401).end("who are you?"));
    await assert.rejects(
      source()(),
      (error) => error instanceof HttpRefusal && error.status === 401 && error.body === "who are you?" && /token/.test(error.fix ?? ""),
    );
  });

  it("waits for no longer than it may, and ends with its signal", async (t) => {
    const source = await serving(t, () => undefined);
    await assert.rejects(source()({ timeoutMs: 50 }), code("SOURCE_SLOW"));
    const stop = new AbortController();
    const asked = assert.rejects(source()({ signal: stop.signal }));
    stop.abort();
    await asked;
  });

  it("shows nothing of a secret that no header may have", async (t) => {
    const source = await serving(t, (_request, response) => void response.end("hello"));
    const dir = mkdtempSync(join(tmpdir(), "nightshift-http-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const file = join(dir, "secret");
    writeFileSync(file, "s3cret\ntwo lines\n");
    for (const extra of [{ tokenFile: file }, { username: "jane", passwordFile: file }])
      await assert.rejects(source(extra)(), (error) => code("TOKEN_MALFORMED")(error) && !inspect(error).includes("s3cret"));
    writeFileSync(file, "s3cret\n");
    assert.equal(new TextDecoder().decode(await source({ tokenFile: file })()), "hello");
  });

  it("a file that cannot be read is an error of this machine, which names it", async (t) => {
    const source = await serving(t, (_request, response) => void response.end());
    const missing = "/nonexistent/file";
    for (const extra of [{ tokenFile: missing }, { username: "jane", passwordFile: missing }, { caFile: missing }, { caFile: "/" }])
      await assert.rejects(source(extra)(), (error) => {
        assert.ok(error instanceof NightshiftError);
        assert.deepEqual([error.code, error.where], ["FILE_UNREADABLE", "caFile" in extra ? extra.caFile : missing]);
        return true;
      });
    // Once it is there, all is well again.
    const dir = mkdtempSync(join(tmpdir(), "nightshift-http-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const ask = source({ tokenFile: join(dir, "token") });
    await assert.rejects(ask(), code("FILE_UNREADABLE"));
    writeFileSync(join(dir, "token"), "s3cret\n");
    assert.deepEqual(await ask(), Buffer.alloc(0));
  });

  it("certificates that are none are an error that names their file", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "nightshift-http-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const file = join(dir, "ca.pem");
    const source = await serving(t, (_request, response) => void response.end(), selfSigned());
    for (const text of ["", "hello", "-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n"]) {
      writeFileSync(file, text);
      await assert.rejects(
        source({ caFile: file })(),
        (error) => code("CA_MALFORMED")(error) && (error as NightshiftError).where === file,
        text,
      );
    }
  });
});
