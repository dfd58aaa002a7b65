import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { quantityNumber, quantityText } from "./quantity.ts";
import { selects, selectorText, serviceSelects } from "./selector.ts";

describe("selectors", () => {
  const expression = (operator: string, values?: string[]) => ({
    matchExpressions: [{ key: "app", operator, ...(values === undefined ? {} : { values }) }],
  });

  it("select as Kubernetes does", () => {
    for (const [selector, labels, expected] of [
      [undefined, { app: "a" }, false],
      [{}, { app: "a" }, true],
      [{}, {}, true],
      [{ matchLabels: { app: "a" } }, { app: "a", x: "y" }, true],
      [{ matchLabels: { app: "a" } }, { app: "b" }, false],
      [{ matchLabels: { app: "a" }, ...expression("Exists") }, { app: "a" }, true],
      [expression("In", ["a", "b"]), { app: "b" }, true],
      [expression("In", ["a", "b"]), {}, false],
      [expression("NotIn", ["a"]), {}, true],
      [expression("NotIn", ["a"]), { app: "a" }, false],
      [expression("Exists"), { app: "" }, true],
      [expression("DoesNotExist"), { app: "a" }, false],
      [expression("DoesNotExist"), {}, true],
      [expression("Resembles", ["a"]), { app: "a" }, false],
      // What every object has of its kind is no label.
      [{ matchLabels: { constructor: "x" } }, {}, false],
    ] as const)
      assert.equal(selects(selector, labels), expected, JSON.stringify([selector, labels]));
  });

  it("of a Service that are empty select nothing", () => {
    assert.equal(serviceSelects({}, { app: "a" }), false);
    assert.equal(serviceSelects(undefined, { app: "a" }), false);
    assert.equal(serviceSelects({ app: "a" }, { app: "a", x: "y" }), true);
  });

  it("are written as a query has them", () => {
    const matchExpressions = [
      { key: "a", operator: "In", values: ["1", "2"] },
      { key: "b", operator: "NotIn", values: ["3"] },
      { key: "c", operator: "Exists" },
      { key: "d", operator: "DoesNotExist" },
    ];
    assert.equal(selectorText({ matchLabels: { app: "x" }, matchExpressions }), "app=x,a in (1,2),b notin (3),c,!d");
  });
});

describe("quantities", () => {
  it("are read as Kubernetes writes them", () => {
    const cases: [string | number | undefined, number | undefined][] = [
      ["256Mi", 2 ** 28],
      ["1.5Gi", 1.5 * 2 ** 30],
      ["1e9", 1e9],
      ["12E6", 12e6],
      ["1E", 1e18],
      ["500m", 0.5],
      ["128974848", 128_974_848],
      [".5k", 500],
      [7, 7],
      ["", undefined],
      ["much", undefined],
      [undefined, undefined],
    ];
    for (const [text, expected] of cases) assert.equal(quantityNumber(text), expected, String(text));
  });

  it("that are written are read as the same", () => {
    fc.assert(fc.property(fc.nat(2 ** 31 - 1), (bytes) => assert.equal(quantityNumber(quantityText(bytes)), bytes)));
    assert.equal(quantityText(384 * 2 ** 20), "384Mi");
    assert.equal(quantityText(1000), "1000");
  });
});
