import assert from "node:assert/strict";
import { test } from "node:test";
import { readable } from "./log.ts";

test("what a sender has put into an entry does nothing to a terminal, and looks like no entry", () => {
  const msg = "api asks for its \u001b[31mpool\r\n20:00:00.000 all is well\u0007";
  assert.equal(
    readable(JSON.stringify({ time: Date.parse("2026-01-01T12:00:00Z"), level: 40, msg, pod: "a\u001b[2J" })),
    "12:00:00.000 WARN  api asks for its  [31mpool \n    20:00:00.000 all is well  pod=a [2J\n",
  );
});
