import assert from "node:assert/strict";
import { answerTo, captureRequests, type RemediationObject } from "../../../agent/captures/request.ts";
import { decodeEvent } from "../../../src/platform/kubernetes/http-client.ts";
import { KUBE_ERROR_CODES } from "../../../src/platform/kubernetes/errors.ts";
import { Lines } from "../../../src/platform/kubernetes/lines.ts";
import { readResource, type RawResource } from "../../../src/platform/kubernetes/store-objects.ts";
import { fuzzedJson } from "../json.ts";
import { withChanges } from "../bytes.ts";
import { changedJson } from "../json.ts";
import { decoded, type FuzzTarget, seedsOf } from "../target.ts";

const CODES: ReadonlySet<string> = new Set(Object.keys(KUBE_ERROR_CODES));
const MAX_LINE = 16 * 1024;

/** The lines of a stream that comes in pieces of `size` bytes. */
function linesOf(input: Uint8Array, size: number): { readonly lines: string[]; readonly isEmpty: boolean } {
  const lines = new Lines(MAX_LINE);
  const all: string[] = [];
  for (let from = 0; from < input.length; from += size) all.push(...lines.push(Buffer.from(input.subarray(from, from + size))));
  return { lines: all, isEmpty: lines.isEmpty };
}

const watchSeeds = seedsOf("kubernetes-watch");

/** A watch's answer: one event a line, in pieces that end anywhere. */
export const kubernetesWatch: FuzzTarget = {
  name: "kubernetes-watch",
  seeds: watchSeeds.map((seed) => Buffer.concat([seed, Buffer.from("\n")])),
  inputs: withChanges(
    changedJson(watchSeeds, (value) => `${JSON.stringify(value)}\n`),
    ["\n", "\n\n", '"ADDED"', '"ERROR"', '"BOOKMARK"', '"kind":"Status",'],
  ),
  check: (input) =>
    decoded(
      CODES,
      () => {
        const { lines, isEmpty } = linesOf(input, input.length + 1);
        // Wherever its pieces end, it is the same stream.
        for (const size of [1 + (input.length % 7), 1 + (input.length % 509)]) assert.deepEqual(linesOf(input, size), { lines, isEmpty });
        return lines.map((line) => decodeEvent<RawResource>(line, "WATCH /x"));
      },
      (events) => {
        for (const { type, object } of events) {
          assert.ok(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"].includes(type));
          assert.equal(typeof object.metadata.resourceVersion, "string");
          if (type !== "BOOKMARK")
            assert.ok([object.metadata.name, object.metadata.uid].every((text) => typeof text === "string" && text !== ""));
        }
      },
    ),
};

const remediationSeeds = seedsOf("remediation");

/** Remediations as the API server has them: what the agent reads of one, and what the store makes of it. */
export const remediation: FuzzTarget = {
  name: "remediation",
  seeds: remediationSeeds,
  inputs: fuzzedJson(remediationSeeds, ["Executing", "Intended", "capture", "HeapSnapshot"]),
  check: (input) =>
    decoded(
      new Set([...CODES, "INVALID"]),
      () => {
        // Through the watch: it lets nothing through that has no metadata.
        const text = Buffer.from(input).toString().replaceAll("\n", " ");
        const { object } = decodeEvent<RemediationObject & RawResource>(`{"type":"ADDED","object":${text}}`, "WATCH /x");
        const requests = captureRequests(object);
        const answers = requests.map(({ effectId }) => answerTo(object, effectId));
        return { requests, answers, resource: readResource("Remediation", object) };
      },
      ({ requests, resource }) => {
        for (const { effectId, replica, timeoutMs } of requests) {
          assert.ok(typeof effectId === "string" && effectId !== "" && replica.uid !== "" && replica.kind === "Pod");
          assert.ok(Number.isFinite(timeoutMs) && timeoutMs >= 0);
        }
        assert.ok(Object.isFrozen(resource.spec));
      },
    ),
};
