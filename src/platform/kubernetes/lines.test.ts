import assert from "node:assert/strict";
import { it } from "node:test";
import * as fc from "fast-check";
import { KubeApiError } from "./errors.ts";
import { Lines } from "./lines.ts";

it("cuts a stream into its lines, wherever the chunks begin and end", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: "grapheme", minLength: 1 }).filter((line) => !line.includes("\n"))),
      fc.string({ unit: "grapheme" }).filter((rest) => !rest.includes("\n")),
      fc.array(fc.nat({ max: 50 })),
      (whole, rest, cuts) => {
        const bytes = Buffer.from(whole.map((line) => `${line}\n`).join("") + rest);
        const lines = new Lines(1_000_000);
        const seen: string[] = [];
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          const end = Math.min(bytes.length, at + cut);
          seen.push(...lines.push(bytes.subarray(at, end)));
          at = end;
        }
        assert.deepEqual(seen, whole);
        assert.equal(lines.isEmpty, rest === "");
      },
    ),
  );
});

it("leaves empty lines out and refuses a line that is too long, also one without an end", () => {
  const lines = new Lines(4);
  assert.deepEqual([...lines.push(Buffer.from("\n\nab\n\ncd"))], ["ab"]);
  assert.throws(
    () => [...lines.push(Buffer.from("efg"))],
    (error) => error instanceof KubeApiError && error.code === "KUBE_RESPONSE_TOO_LARGE",
  );
});
