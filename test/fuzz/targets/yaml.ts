import assert from "node:assert/strict";
import * as fc from "fast-check";
import { parseAllDocuments, stringify } from "yaml";
import type { z } from "zod";
import { checkResources } from "../../../src/api/check.ts";
import { clusterSchema } from "../../../src/api/cluster.ts";
import { parseDocument, parseResources, type Problem, PROBLEM_CODES } from "../../../src/api/parse.ts";
import { operatorConfigSchema } from "../../../src/cli/operator-config.ts";
import { stackSchema } from "../../../src/platform/host/stack.ts";
import { scenarioFileSchema } from "../../../src/platform/sim/rehearsal/scenario-file.ts";
import { changedBytes } from "../bytes.ts";
import { fuzzedJson } from "../json.ts";
import { writtenResource } from "../../../src/platform/kubernetes/store-objects.ts";
import { ACCEPTED, decoded, type FuzzTarget, seedsOf } from "../target.ts";

const NOW = Date.parse("2026-11-30T00:00:00Z");

/** What YAML has and JSON has not, and values of the schemas' own grammars. */
const WORDS = [
  "&a ",
  "*a",
  "<<: *a",
  "!!binary ",
  "!!js/function ",
  "!foo ",
  "---\n",
  "...\n",
  "%YAML 1.1\n",
  "\t",
  "? ",
  "- ",
  ": ",
  "| ",
  ">-\n",
  "{",
  "[",
  "# ",
  "'",
  '"',
  "\n",
  "  ",
  "yes",
  "~",
  "0o17",
  ".inf",
  "2026-11-30",
  "1h",
  "0s",
  "99999999999d",
  "101%",
  "1Ei",
  "*/0 * * * *",
  "60 24 32 13 8",
  "@reboot",
  "Europe/Nowhere",
  "Observe",
  "RestartPod",
];

/** Reading YAML takes a millisecond a kilobyte: what takes another reading is tried with an eighth of all inputs. */
const isEighth = (input: Uint8Array): boolean => input.reduce((sum, byte) => sum + byte, 0) % 8 === 0;

/** Text of YAML, changed as text; or its values, changed and written as JSON, which is YAML too. */
function fuzzedYaml(seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const values = seeds.flatMap((seed) =>
    parseAllDocuments(Buffer.from(seed).toString()).map((document) => Buffer.from(JSON.stringify(document.toJS()))),
  );
  return fc.oneof(changedBytes(seeds, WORDS), fuzzedJson(values, WORDS));
}

function sound(problems: readonly Problem[], text: string): void {
  const lines = text.split("\n").length;
  for (const { code, message, line, column } of problems) {
    assert.ok(Object.hasOwn(PROBLEM_CODES, code), code);
    assert.ok(message !== "" && message.length < 2_000, `${code} says ${message.length} characters`);
    assert.ok(line >= 1 && line <= lines + 1 && column >= 1, `${code} at ${line}:${column} of ${lines} lines`);
  }
}

const resourceSeeds = [
  ...seedsOf("/examples/policies", ".yaml"),
  ...seedsOf("/examples/shop/policies", ".yaml"),
  ...seedsOf("/examples/rehearsal", ".yaml"),
  ...seedsOf("resources", ".yaml"),
];

/** Policies, runbooks, budgets and dependencies. */
export const resources: FuzzTarget = {
  name: "resources",
  seeds: resourceSeeds,
  inputs: fuzzedYaml(resourceSeeds),
  cost: 5,
  check(input) {
    const text = Buffer.from(input).toString();
    let outcome = ACCEPTED;
    decoded(
      new Set(),
      () => {
        const parsed = parseResources(text, "policies.yaml");
        // Without what is a function in them.
        return {
          all: parsed.resources.map((each) => each.resource),
          errors: parsed.errors,
          checked: checkResources(parsed.resources, NOW),
        };
      },
      ({ all, errors, checked }) => {
        sound([...errors, ...checked], text);
        const first = [...errors, ...checked].find(({ severity }) => severity === "error");
        if (first !== undefined) outcome = first.code;
        // What was understood is understood again, as it is stored.
        for (const resource of isEighth(input) ? all : []) {
          const again = parseResources(stringify(writtenResource(resource, undefined)), "again.yaml");
          assert.deepEqual([again.errors, again.resources.map((each) => each.resource)], [[], [resource]]);
        }
      },
      isEighth(input),
    );
    return outcome;
  },
};

function documentOf(name: string, schema: z.ZodType, seeds: readonly Uint8Array[]): FuzzTarget {
  return {
    name,
    seeds,
    inputs: fuzzedYaml(seeds),
    cost: 4,
    check(input) {
      const text = Buffer.from(input).toString();
      let outcome = ACCEPTED;
      decoded(
        new Set(),
        () => parseDocument(text, `${name}.yaml`, schema),
        ({ value, errors }) => {
          sound(errors, text);
          assert.equal(value === undefined, errors.length > 0);
          if (errors[0] !== undefined) outcome = errors[0].code;
        },
        isEighth(input),
      );
      return outcome;
    },
  };
}

export const stack = documentOf("stack", stackSchema, [...seedsOf("/examples/shop", "stack.yaml"), ...seedsOf("stack", ".yaml")]);
export const operatorConfig = documentOf("operator-config", operatorConfigSchema, seedsOf("operator-config", ".yaml"));
export const scenario = documentOf("scenario", scenarioFileSchema, seedsOf("/examples/scenarios", ".yaml"));
export const cluster = documentOf("cluster", clusterSchema, seedsOf("cluster", ".yaml"));
