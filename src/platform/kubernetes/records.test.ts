import assert from "node:assert/strict";
import { it } from "node:test";
import { projectSlice } from "./records.ts";

it("an EndpointSlice of a Service without pods has no endpoints, which the API server calls null", () => {
  const metadata = { name: "bank-x", namespace: "shop", uid: "u", resourceVersion: "1", labels: { "kubernetes.io/service-name": "bank" } };
  assert.partialDeepStrictEqual(projectSlice({ metadata, endpoints: null }), { service: "bank", endpoints: [] });
  assert.partialDeepStrictEqual(projectSlice({ metadata, endpoints: [{ targetRef: { kind: "Pod", name: "bank-1", uid: "p" } }] }), {
    endpoints: [{ pod: "bank-1", uid: "p", ready: true }],
  });
});
