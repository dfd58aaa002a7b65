import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { KubeWorld } from "../../../test/support/kube-world.ts";
import { ManualClock } from "../../../test/support/manual-clock.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";
import { ChangeLog } from "../../observe/changes.ts";
import type { KubeClient, KubeRequest, RawWatchEvent } from "./client.ts";
import { type ConfigMaps, ConfigMapVersions } from "./config-maps.ts";
import { configMapsOf } from "./template-refs.ts";
import { ClusterView } from "./view.ts";

describe("the ConfigMaps of a template", () => {
  it("are those of volumes, projected ones too, and of the environment, of every container, each once", () => {
    const spec = {
      volumes: [
        { name: "a", configMap: { name: "files" } },
        { name: "b", projected: { sources: [{ configMap: { name: "projected" } }, { secret: { name: "not-this" } }] } },
        { name: "c", secret: { secretName: "not-this" } },
        { name: "d", emptyDir: {} },
      ],
      initContainers: [{ name: "init", envFrom: [{ configMapRef: { name: "all-of-it" } }, { secretRef: { name: "not-this" } }] }],
      containers: [
        {
          name: "one",
          env: [
            { name: "X", valueFrom: { configMapKeyRef: { name: "one-key", key: "x" } } },
            { name: "Y", value: "y" },
          ],
        },
        {
          name: "two",
          envFrom: [{ configMapRef: { name: "files" } }],
          env: [{ name: "Z", valueFrom: { secretKeyRef: { name: "not-this" } } }],
        },
      ],
    };
    assert.deepEqual(configMapsOf(spec as never), ["all-of-it", "files", "one-key", "projected"]);
    assert.deepEqual(configMapsOf({ containers: [{ name: "one" }] }), []);
    assert.deepEqual(configMapsOf(undefined), []);
  });
});

describe("a new version of a ConfigMap", () => {
  /** A view of a Deployment that is given the ConfigMap `app`, and what changes. */
  function world() {
    const kube = new KubeWorld();
    kube.deployment();
    kube.deployment("other");
    const template = { spec: { volumes: [{ name: "config", configMap: { name: "app" } }] } };
    kube.kube.change("Deployment", "shop", "payments", { spec: { template } });
    const versions = new Map<string, string>([["shop/app", "uid/1"]]);
    let tell: Parameters<ConfigMaps["onChange"]>[0] = () => undefined;
    const maps = {
      known: false,
      version: (namespace: string, name: string) => versions.get(`${namespace}/${name}`),
      onChange: (on: typeof tell) => void (tell = on),
    };
    const clock = new ManualClock();
    const view = new ClusterView({ tables: kube.kube.tables, clock, nodeNamespace: "nightshift-system", configMaps: maps });
    const log = new ChangeLog(clock);
    const changes = (): string[] => {
      log.look(view.workloads(), () => true);
      return log.list().map(({ kind, message, ours }) => `${kind}: ${message}${ours ? ", by us" : ""}`);
    };
    const set = (version: string | undefined, name = "app"): void => {
      if (version === undefined) versions.delete(`shop/${name}`);
      else versions.set(`shop/${name}`, version);
      tell("shop", name);
    };
    return { kube, maps, changes, set, knows: () => ((maps.known = true), tell()) };
  }

  it("is a change of the workloads that are given it, and never one of ours", () => {
    const { changes, set, knows } = world();
    assert.deepEqual(changes(), []);
    knows();
    assert.deepEqual(changes(), [], "that they are known is no change");
    set("uid/2");
    set("uid/1", "another");
    assert.deepEqual(changes(), ["Configuration: ConfigMap app, which Deployment/shop/payments is given, has a new version"]);
    set(undefined);
    changes();
    set("uid-2/9");
    assert.deepEqual(changes().slice(1), [
      "Configuration: ConfigMap app, which Deployment/shop/payments is given, was deleted",
      "Configuration: ConfigMap app, which Deployment/shop/payments is given, was created",
    ]);
  });

  it("that comes with another template is the rollout's", () => {
    const { kube, changes, set, knows } = world();
    knows();
    changes();
    kube.kube.change("Deployment", "shop", "payments", { spec: { template: { metadata: { annotations: { checksum: "2" } } } } });
    set("uid/2");
    const [only, ...others] = changes();
    assert.match(only ?? "", /^Rollout: /);
    assert.deepEqual(others, []);
  });
});

describe("following ConfigMaps", () => {
  it("takes metadata and nothing else, tells of what has changed between two listings, and of nothing before the first is whole", async () => {
    const clock = new ManualClock();
    const accepted: (string | undefined)[] = [];
    const items = (...versions: readonly (readonly [string, string])[]): object => ({
      metadata: { resourceVersion: "9" },
      items: versions.map(([name, resourceVersion]) => ({ metadata: { namespace: "shop", name, uid: name, resourceVersion } })),
    });
    const lists = [items(["a", "1"], ["b", "1"]), items(["a", "2"], ["c", "1"])];
    const stop = new AbortController();
    const client: KubeClient = {
      async request<T>({ accept }: KubeRequest): Promise<T> {
        accepted.push(accept);
        return (lists.shift() ?? assert.fail("listed a third time")) as T;
      },
      // oxlint-disable-next-line require-yield -- it ends at once, as one that is too old
      async *watch<T>(
        _path: string,
        _query: KubeRequest["query"],
        _signal: AbortSignal,
        accept?: string,
      ): AsyncGenerator<RawWatchEvent<T>> {
        accepted.push(accept);
        if (lists.length === 0) stop.abort();
        throw Object.assign(new (await import("./errors.ts")).KubeApiError("KUBE_GONE", "too old"));
      },
    };
    const versions = new ConfigMapVersions({ client, clock, random: seededRandom(), onError: () => undefined });
    const told: string[] = [];
    versions.onChange((_namespace, name) => told.push(name ?? "whole"));
    const running = versions.run(stop.signal);
    for (let i = 0; i < 60 && !stop.signal.aborted; i++) await clock.advance(1_000);
    await running;
    assert.deepEqual(told, ["whole", "a", "c", "b"]);
    assert.deepEqual([versions.version("shop", "a"), versions.version("shop", "b")], ["a/2", undefined]);
    assert.ok(
      accepted.length >= 3 &&
        accepted.every((accept) => /^application\/json;as=PartialObjectMetadata(List)?;g=meta.k8s.io;v=v1$/.test(accept ?? "")),
    );
  });
});
