import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import * as fc from "fast-check";
import type { Page, Receiver } from "./paging.ts";
import {
  AlertmanagerReceiver,
  DeliveryError,
  nextTry,
  OpsgenieReceiver,
  PagerDutyReceiver,
  type ReceiverOptions,
  retryAfter,
  SlackReceiver,
  WebhookReceiver,
} from "./receivers.ts";

const PAGE: Page = {
  dedupKey: "shop/payments-leak/Workload/shop/payments/MemoryLeak",
  severity: "Page",
  summary: "payments-2 leaks; three attempts did not help",
  remediation: "shop/payments-leak-4c1f",
  policy: "shop/payments-leak",
  target: "Process/shop/payments-2",
  details: ["the floor grows by 3.0 MB/s", "attempt 1, RestartPod: Ineffective"],
  at: Date.parse("2026-06-01T03:14:00Z"),
};
const never = new AbortController().signal;

interface Got {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A receiver's server on loopback. */
async function serve(t: TestContext, answer: (res: ServerResponse) => void): Promise<{ url: string; got: Got[] }> {
  const got: Got[] = [];
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("end", () => {
      got.push({ method: req.method ?? "", path: req.url ?? "", headers: req.headers, body: Buffer.concat(chunks).toString() });
      answer(res);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, got };
}

const answering =
  (status: number, headers: Record<string, string> = {}, body = "") =>
  (res: ServerResponse): void =>
    void res.writeHead(status, headers).end(body);

describe("a webhook", () => {
  it("gets the page as JSON, with the key of its incident, and confirms by any 2xx", async (t) => {
    const { url, got } = await serve(t, answering(202));
    await new WebhookReceiver({ name: "on-call", url }).send(PAGE, never);
    assert.equal(got.length, 1);
    assert.equal(got[0]?.method, "POST");
    assert.match(String(got[0]?.headers["content-type"]), /^application\/json/);
    assert.deepEqual(JSON.parse(got[0]?.body ?? ""), { version: "1", event: "Trigger", ...PAGE, at: "2026-06-01T03:14:00.000Z" });
  });

  it("everything but a 2xx is no confirmation, and redirects are not followed", async (t) => {
    const other = await serve(t, answering(200));
    for (const [status, headers] of [
      [302, { location: other.url }],
      [307, { location: other.url }],
      [400, {}],
      [404, {}],
      [429, { "retry-after": "7" }],
      [500, {}],
      [503, { "retry-after": "120" }],
    ] as const) {
      const { url } = await serve(t, answering(status, headers, "no\u001b[31m\n thanks"));
      await assert.rejects(new WebhookReceiver({ name: "on-call", url }).send(PAGE, never), (error: unknown) => {
        assert.ok(error instanceof DeliveryError);
        assert.equal(error.code, "PAGE_NOT_DELIVERED");
        assert.match(error.message, new RegExp(`answered ${status}`));
        assert.ok(!error.message.includes("\u001b"), "an answer writes no escapes to a terminal");
        assert.equal(error.retryAfterMs, status === 429 ? 7_000 : status === 503 ? 120_000 : undefined);
        return true;
      });
    }
    assert.equal(other.got.length, 0);
  });

  it("one that never answers, cuts off or is not there has not confirmed", async (t) => {
    const hangs = await serve(t, () => {});
    await assert.rejects(new WebhookReceiver({ name: "a", url: hangs.url, timeoutMs: 200 }).send(PAGE, never), /no answer in 200 ms/);
    const cuts = await serve(t, (res) => res.destroy());
    await assert.rejects(new WebhookReceiver({ name: "a", url: cuts.url }).send(PAGE, never), /no answer/);
    const gone = createServer().listen(0, "127.0.0.1");
    await once(gone, "listening");
    const { port } = gone.address() as AddressInfo;
    gone.close();
    await once(gone, "close");
    await assert.rejects(new WebhookReceiver({ name: "a", url: `http://127.0.0.1:${port}/` }).send(PAGE, never), /ECONNREFUSED/);
    await assert.rejects(new WebhookReceiver({ name: "a", url: hangs.url }).send(PAGE, AbortSignal.timeout(100)), /as Nightshift stops/);
    const trickles = await serve(t, (res) => void res.writeHead(500).write("x".repeat(100_000)));
    await assert.rejects(new WebhookReceiver({ name: "a", url: trickles.url, timeoutMs: 2_000 }).send(PAGE, never), /answered 500/);
  });

  it("secrets come from files, are read for every page, and never stand in an error", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "nightshift-receiver-"));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    const [urlFile, tokenFile] = [join(dir, "url"), join(dir, "token")];
    const receiver = new WebhookReceiver({ name: "on-call", urlFile, tokenFile });
    await assert.rejects(receiver.send(PAGE, never), /URL cannot be read from .*ENOENT/);
    const { url, got } = await serve(t, answering(403, {}, "no such token: s3cr3t-token for /hooks/s3cr3t-path"));
    writeFileSync(urlFile, `${url}/hooks/s3cr3t-path\n`);
    writeFileSync(tokenFile, "\n");
    await assert.rejects(receiver.send(PAGE, never), /file of its token is empty/);
    writeFileSync(tokenFile, "two\r\nlines");
    await assert.rejects(receiver.send(PAGE, never), /characters that no HTTP header may have/);
    writeFileSync(tokenFile, "s3cr3t-token\n");
    await assert.rejects(receiver.send(PAGE, never), (error: unknown) => {
      assert.ok(error instanceof DeliveryError);
      assert.doesNotMatch(`${error.toString()} ${JSON.stringify(error)} ${error.stack ?? ""}`, /s3cr3t/);
      return true;
    });
    assert.equal(got.at(-1)?.headers.authorization, "Bearer s3cr3t-token");
    writeFileSync(urlFile, "ftp://example.com/");
    await assert.rejects(receiver.send(PAGE, never), /no http or https URL/);
  });

  it("user and password in the URL are basic authentication, and are not sent in the URL", async (t) => {
    const { url, got } = await serve(t, answering(500, {}, "user:p%40ss p@ss"));
    const receiver = new WebhookReceiver({ name: "a", url: url.replace("http://", "http://user:p%40ss@") });
    await assert.rejects(
      receiver.send(PAGE, never),
      (error: Error) => !error.message.includes("p@ss") && !error.message.includes("p%40ss"),
    );
    assert.equal(got[0]?.headers.authorization, `Basic ${Buffer.from("user:p@ss").toString("base64")}`);
  });

  it("long stories are cut", async (t) => {
    const { url, got } = await serve(t, answering(200));
    await new WebhookReceiver({ name: "a", url }).send({ ...PAGE, details: Array.from({ length: 500 }, () => "x".repeat(5_000)) }, never);
    const { details } = JSON.parse(got[0]?.body ?? "") as { details: string[] };
    assert.deepEqual([details.length, Math.max(...details.map((line) => line.length))], [100, 1_000]);
  });
});

describe("Slack", () => {
  const question = { namespace: "shop", name: "payments-leak-4c1f", uid: "u-1", targetUid: "u-2" };
  const typesOf = (got: Got | undefined): string[] =>
    (JSON.parse(got?.body ?? "") as { blocks: { type: string }[] }).blocks.map(({ type }) => type);

  it("has buttons for a question where they are configured, and once it is answered none", async (t) => {
    const { url, got } = await serve(t, answering(200));
    const asks: Page = { ...PAGE, severity: "Info", question };
    const receiver = new SlackReceiver({ name: "slack", url, buttons: true });
    await receiver.send(asks, never);
    await receiver.resolve(asks, never);
    await receiver.send(PAGE, never);
    await new SlackReceiver({ name: "slack", url }).send(asks, never);
    assert.deepEqual(typesOf(got[0]), ["header", "section", "section", "section", "input", "actions", "context"]);
    for (const other of got.slice(1)) assert.ok(!typesOf(other).includes("actions") && !typesOf(other).includes("input"));
    assert.match(got[1]?.body ?? "", /Answered/);
    const { blocks } = JSON.parse(got[0]?.body ?? "") as {
      blocks: { elements?: { action_id: string; value: string; text: { text: string } }[] }[];
    };
    const buttons = blocks[5]?.elements ?? [];
    assert.deepEqual(
      buttons.map(({ action_id, text }) => [action_id, text.text]),
      [
        ["nightshift.approve", "Approve"],
        ["nightshift.deny", "Deny"],
      ],
    );
    for (const { value } of buttons) assert.deepEqual(JSON.parse(value), question);
  });

  it("a question about the longest names keeps within Slack's bound of a button's value", async (t) => {
    const { url, got } = await serve(t, answering(200));
    const longest = { namespace: "n".repeat(63), name: "x".repeat(253), uid: "u".repeat(36), targetUid: "v".repeat(300) };
    await new SlackReceiver({ name: "slack", url, buttons: true }).send({ ...PAGE, question: longest }, never);
    const { blocks } = JSON.parse(got[0]?.body ?? "") as { blocks: { elements?: { value: string }[] }[] };
    assert.ok((blocks[5]?.elements?.[0]?.value.length ?? Infinity) <= 2_000);
  });

  it("gets text and blocks within its limits, whatever is in a page, and no mention gets through", async (t) => {
    const { url, got } = await serve(t, answering(200, {}, "ok"));
    const receiver = new SlackReceiver({ name: "slack", url });
    await receiver.send({ ...PAGE, summary: "<!channel> a & b", details: ["<https://evil.example|click>"] }, never);
    const { text, blocks } = JSON.parse(got[0]?.body ?? "") as { text: string; blocks: unknown[] };
    assert.equal(text, "Nightshift needs a person: &lt;!channel&gt; a &amp; b");
    assert.ok(!JSON.stringify(blocks).includes("<"));
    assert.ok(JSON.stringify(blocks).includes(PAGE.dedupKey));
    const line = fc.string({ maxLength: 4_000, unit: fc.constantFrom("&", "<", ">", "x", "\n") });
    await fc.assert(
      fc.asyncProperty(line, fc.array(line, { maxLength: 30 }), line, async (summary, details, target) => {
        await receiver.send({ ...PAGE, summary, details, target }, never);
        const sent = JSON.parse(got.at(-1)?.body ?? "") as {
          blocks: { type: string; text?: { text: string }; fields?: { text: string }[]; elements?: { text: string }[] }[];
        };
        for (const block of sent.blocks) {
          assert.ok((block.text?.text.length ?? 1) <= (block.type === "header" ? 150 : 3_000), `${block.type}: ${block.text?.text.length}`);
          for (const field of block.fields ?? []) assert.ok(field.text.length <= 2_000);
          for (const element of block.elements ?? []) assert.ok(element.text.length <= 3_000);
        }
      }),
      { numRuns: 30 },
    );
  });
});

describe("trying again", () => {
  it("waits longer each time, from one second to five minutes, and as long as the receiver asks within that", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10_000 }), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (tries, share) => {
        const random = { next: () => share, uuid: () => "" };
        const wait = nextTry(tries, undefined, random);
        assert.ok(wait >= 1_000 && wait <= 300_000);
        assert.ok(nextTry(tries + 1, undefined, random) >= wait);
        for (const asked of [0, 45_000, 10 ** 9, NaN, Infinity]) {
          const obeyed = nextTry(tries, asked, random);
          assert.ok(obeyed >= wait && obeyed <= 300_000 && (Number.isNaN(asked) || obeyed >= Math.min(asked, 300_000)));
        }
      }),
    );
  });
  it("Retry-After is seconds or a date, or nothing", () => {
    const now = Date.parse("2026-06-01T00:00:00Z");
    assert.equal(retryAfter(null, now), undefined);
    assert.equal(retryAfter(" 120 ", now), 120_000);
    assert.equal(retryAfter("Mon, 01 Jun 2026 00:00:30 GMT", now), 30_000);
    assert.equal(retryAfter("Mon, 01 Jun 2020 00:00:30 GMT", now), 0);
    for (const odd of ["", "-5", "soon"]) assert.ok((retryAfter(odd, now) ?? 0) >= 0, odd);
  });
});

const KINDS: readonly [string, new (options: ReceiverOptions) => Required<Receiver>][] = [
  ["a webhook", WebhookReceiver],
  ["Slack", SlackReceiver],
  ["PagerDuty", PagerDutyReceiver],
  ["Opsgenie", OpsgenieReceiver],
  ["Alertmanager", AlertmanagerReceiver],
];

function fileWith(t: TestContext, token: string): string {
  const dir = mkdtempSync(join(tmpdir(), "nightshift-receiver-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, "token"), `${token}\n`);
  return join(dir, "token");
}

for (const [what, Receiver] of KINDS)
  describe(`${what}, for a page and for its end`, () => {
    for (const how of ["send", "resolve"] as const) {
      it(`${how}: confirms by a 2xx; fails, hangs, and answers 429 with Retry-After`, async (t) => {
        const token = fileWith(t, "s3cr3t-token");
        const well = await serve(t, answering(202, {}, "{}"));
        await new Receiver({ name: "on-call", url: well.url, tokenFile: token })[how](PAGE, never);
        assert.equal(well.got.length, 1);
        const fails = await serve(t, answering(500, {}, "s3cr3t-token"));
        await assert.rejects(new Receiver({ name: "on-call", url: fails.url, tokenFile: token })[how](PAGE, never), (error: unknown) => {
          assert.ok(error instanceof DeliveryError);
          assert.match(error.message, /answered 500/);
          assert.doesNotMatch(`${error.toString()} ${JSON.stringify(error)}`, /s3cr3t/);
          return true;
        });
        const hangs = await serve(t, () => {});
        await assert.rejects(
          new Receiver({ name: "on-call", url: hangs.url, tokenFile: token, timeoutMs: 100 })[how](PAGE, never),
          /no answer in 100 ms/,
        );
        const busy = await serve(t, answering(429, { "retry-after": "30" }));
        await assert.rejects(
          new Receiver({ name: "on-call", url: busy.url, tokenFile: token })[how](PAGE, never),
          (error: unknown) => error instanceof DeliveryError && error.retryAfterMs === 30_000,
        );
      });
    }
  });

describe("PagerDuty", () => {
  it("gets a trigger and a resolve of one dedup_key, with the routing key in the body and nowhere else", async (t) => {
    const { url, got } = await serve(t, answering(202));
    const receiver = new PagerDutyReceiver({ name: "pd", url: `${url}/v2/enqueue`, tokenFile: fileWith(t, "R0UT1NG") });
    await receiver.send(PAGE, never);
    await receiver.send({ ...PAGE, severity: "Info", summary: "x".repeat(2_000) }, never);
    await receiver.resolve(PAGE, never);
    const [trigger, info, resolve] = got.map(({ body }) => JSON.parse(body) as Record<string, Record<string, unknown>>);
    assert.ok(got.every(({ headers, path }) => headers.authorization === undefined && path === "/v2/enqueue"));
    assert.partialDeepStrictEqual(trigger, {
      routing_key: "R0UT1NG",
      event_action: "trigger",
      dedup_key: PAGE.dedupKey,
      payload: { summary: PAGE.summary, source: PAGE.target, severity: "critical", timestamp: "2026-06-01T03:14:00.000Z" },
    });
    assert.equal(info?.["payload"]?.["severity"], "info");
    assert.equal(String(info?.["payload"]?.["summary"]).length, 1_024);
    assert.deepEqual(resolve, { routing_key: "R0UT1NG", event_action: "resolve", dedup_key: PAGE.dedupKey });
  });

  it("keys too long for it stay apart, and the same", async (t) => {
    const { url, got } = await serve(t, answering(202));
    const receiver = new PagerDutyReceiver({ name: "pd", url, tokenFile: fileWith(t, "k") });
    for (const last of ["a", "b", "a"]) await receiver.send({ ...PAGE, dedupKey: `${"k".repeat(400)}${last}` }, never);
    const [a, b, again] = got.map(({ body }) => (JSON.parse(body) as { dedup_key: string }).dedup_key);
    assert.ok(a !== undefined && a.length <= 255);
    assert.notEqual(a, b);
    assert.equal(a, again);
  });
});

describe("Opsgenie", () => {
  it("gets an alert by its alias, and the alias closed", async (t) => {
    const { url, got } = await serve(t, answering(202));
    const receiver = new OpsgenieReceiver({ name: "og", url, tokenFile: fileWith(t, "K3Y") });
    await receiver.send({ ...PAGE, summary: "s".repeat(200) }, never);
    await receiver.resolve(PAGE, never);
    const bodies = got.map(({ body }) => JSON.parse(body) as Record<string, unknown>);
    assert.deepEqual(
      got.map(({ headers, path }) => [headers.authorization, path]),
      [
        ["GenieKey K3Y", "/v2/alerts"],
        ["GenieKey K3Y", `/v2/alerts/${encodeURIComponent(PAGE.dedupKey)}/close?identifierType=alias`],
      ],
    );
    assert.partialDeepStrictEqual(bodies[0], { alias: PAGE.dedupKey, priority: "P1", source: "Nightshift" });
    assert.equal(String(bodies[0]?.["message"]).length, 130);
  });
});

describe("Alertmanager", () => {
  it("gets an alert with the same labels to the end, and its end", async (t) => {
    const { url, got } = await serve(t, answering(200));
    const receiver = new AlertmanagerReceiver({ name: "am", url: `${url}/am/` });
    await receiver.send(PAGE, never);
    await receiver.resolve({ ...PAGE, summary: "over: it", target: "Process/shop/payments-3", at: PAGE.at + 60_000 }, never);
    const [fires, ends] = got.map(({ body }) => (JSON.parse(body) as { labels: object; startsAt?: string; endsAt: string }[])[0]);
    assert.ok(got.every(({ path }) => path === "/am/api/v2/alerts"));
    assert.deepEqual(fires?.labels, { alertname: "NightshiftEscalation", severity: "page", policy: PAGE.policy, incident: PAGE.dedupKey });
    assert.deepEqual(ends?.labels, fires?.labels);
    assert.deepEqual(
      [fires?.startsAt, fires?.endsAt, ends?.endsAt],
      ["2026-06-01T03:14:00.000Z", "2026-06-08T03:14:00.000Z", "2026-06-01T03:15:00.000Z"],
    );
  });
});
