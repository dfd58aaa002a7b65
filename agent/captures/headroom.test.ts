import assert from "node:assert/strict";
import { basename } from "node:path";
import { it } from "node:test";
import { MemoryCgroup } from "../../src/platform/linux/cgroup.ts";
import { FakeCgroups, type FakeCgroup } from "../fixtures/cgroups.ts";
import { raisesFor, type HeadroomRequest } from "./headroom.ts";

const Mi = 2 ** 20;

function request(
  container: FakeCgroup,
  pod: FakeCgroup,
  { shared = { current: 1_000 * Mi }, ...rest }: Partial<Omit<HeadroomRequest, "levels">> & { readonly shared?: FakeCgroup } = {},
): HeadroomRequest {
  const fake = new FakeCgroups();
  const cgroup = (path: string, of: FakeCgroup): MemoryCgroup => new MemoryCgroup(2, fake.make(path, of));
  const sharedLevel = cgroup("kubepods", shared);
  const podLevel = cgroup("kubepods/pod", pod);
  const levels = { pod: [cgroup("kubepods/pod/container", container), podLevel], shared: [sharedLevel] };
  return { need: 500 * Mi, levels, available: 4_000 * Mi, raiseLimit: true, ...rest };
}

const seen = (of: HeadroomRequest): string[] => raisesFor(of).map(({ cgroup, to }) => `${basename(cgroup.dir)} ${to / Mi}`);

it("raises nothing where there is room, or no limit", () => {
  assert.deepEqual(seen(request({ max: 600 * Mi, current: 100 * Mi }, { max: 700 * Mi, current: 100 * Mi })), []);
  assert.deepEqual(seen(request({ current: 100 * Mi }, { current: 100 * Mi })), []);
});

it("raises every level of the pod that lacks room, to what is used and needed there", () => {
  assert.deepEqual(seen(request({ max: 200 * Mi, current: 100 * Mi }, { max: 300 * Mi, current: 150 * Mi })), ["container 600", "pod 650"]);
  assert.deepEqual(seen(request({ current: 100 * Mi }, { max: 300 * Mi, current: 150 * Mi })), ["pod 650"]);
  assert.deepEqual(seen(request({ max: 900 * Mi, high: 200 * Mi, current: 100 * Mi }, { current: 150 * Mi })), ["container 600"]);
});

it("refuses where the node, a shared level or the policy gives no room, and what cannot be read is none", () => {
  const [tight, free] = [{ max: 200 * Mi, current: 100 * Mi }, { current: 150 * Mi }];
  const refused = (of: HeadroomRequest, message: RegExp): void =>
    assert.throws(() => raisesFor(of), { code: "CAPTURE_NO_HEADROOM", message });
  refused(request(free, free, { available: 499 * Mi }), /the node has 499 MiB/);
  refused(request(free, free, { available: undefined }), /cannot be read/);
  refused(request(free, free, { shared: { max: 1_400 * Mi, current: 1_000 * Mi } }), /which many pods share, has a limit of 1400 MiB/);
  refused(request(tight, free, { raiseLimit: false }), /the limit is 200 MiB, of which 100 MiB are used/);
  refused({ ...request(free, free), levels: undefined }, /cannot be read/);
});
