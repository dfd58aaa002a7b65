import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { declared, isOwn } from "./managed-fields.ts";
import type { KubeObject, ManagedFields } from "./objects.ts";

// As an API server of Kubernetes 1.37 has them, after `kubectl apply`, an apply of ours and `kubectl scale`.
const OURS: ManagedFields = {
  manager: "nightshift",
  operation: "Apply",
  fieldsV1: {
    "f:metadata": { "f:annotations": { "f:nightshift.dev/epoch": {}, "f:nightshift.dev/gone": {} } },
    "f:spec": {
      "f:replicas": {},
      "f:template": {
        "f:spec": {
          "f:containers": { 'k:{"name":"main"}': { ".": {}, "f:name": {}, "f:resources": { "f:limits": { "f:memory": {} } } } },
          "f:volumes": {},
        },
      },
    },
  },
};

function object(managedFields: readonly ManagedFields[] | undefined): KubeObject {
  return {
    metadata: {
      name: "payments",
      uid: "u",
      resourceVersion: "1",
      annotations: { "nightshift.dev/epoch": "7", note: "theirs" },
      ...(managedFields === undefined ? {} : { managedFields }),
    },
    spec: {
      replicas: 5,
      paused: false,
      template: {
        spec: {
          containers: [
            { name: "side", image: "s" },
            { name: "main", image: "m", resources: { limits: { memory: "1Gi", cpu: 1 } } },
          ],
          volumes: [],
        },
      },
    },
  } as KubeObject;
}

describe("what Nightshift states of an object", () => {
  it("is what its apply named, with the values of now, and nothing beside", () => {
    assert.deepEqual(declared(object([{ manager: "kubectl", operation: "Apply", fieldsV1: { "f:spec": { "f:paused": {} } } }, OURS])), {
      metadata: { annotations: { "nightshift.dev/epoch": "7" } },
      spec: { replicas: 5, template: { spec: { containers: [{ name: "main", resources: { limits: { memory: "1Gi" } } }] } } },
    });
  });

  it("is nothing where it wrote in another way, or nobody says who wrote", () => {
    assert.deepEqual(declared(object([{ ...OURS, operation: "Update" }])), {});
    assert.deepEqual(declared(object([{ ...OURS, subresource: "scale" }])), {});
    assert.deepEqual(declared(object(undefined)), {});
  });
});

describe("whether a field is Nightshift's alone", () => {
  const path = ["f:spec", "f:replicas"];
  const scaled: ManagedFields = {
    manager: "kubectl",
    operation: "Update",
    subresource: "scale",
    fieldsV1: { "f:spec": { "f:replicas": {} } },
  };
  for (const [what, entries, expected] of [
    ["it applied it", [OURS], true],
    ["it wrote it", [{ ...OURS, operation: "Update" }], true],
    ["others have other fields", [OURS, { ...scaled, fieldsV1: { "f:spec": { "f:paused": {} } } }], true],
    ["somebody else has it too", [OURS, scaled], false],
    ["somebody else has it", [scaled], false],
    ["nobody has it", [], false],
    ["the object does not say", undefined, true],
  ] as const)
    it(`${what}: ${expected}`, () => assert.equal(isOwn(object(entries), path), expected));
});
