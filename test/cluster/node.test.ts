import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { BUSYBOX_IMAGE, Cluster } from "./cluster.ts";
import { lacking } from "./requirements.ts";

interface Pod {
  readonly metadata: { readonly name: string; readonly uid: string; readonly labels: Readonly<Record<string, string>> };
  readonly spec: { readonly nodeName: string };
  readonly status: {
    readonly podIP?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly {
      readonly restartCount: number;
      readonly lastState?: { readonly terminated?: { readonly reason: string } };
    }[];
  };
}

const isReady = (pod: Pod): boolean => pod.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;

/** A web server that answers with its pod's name. */
const WEB = {
  name: "web",
  image: BUSYBOX_IMAGE,
  command: ["sh", "-c", "mkdir /tmp/w && hostname > /tmp/w/index.html && exec busybox httpd -f -p 8080 -h /tmp/w"],
  readinessProbe: { httpGet: { path: "/index.html", port: 8080 }, periodSeconds: 1 },
  resources: { requests: { cpu: "10m", memory: "32Mi" }, limits: { memory: "64Mi" } },
};

function deployment(name: string, replicas: number, spec: object = {}): object {
  const labels = { app: name };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [WEB], terminationGracePeriodSeconds: 1, ...spec } },
    },
  };
}

describe("real nodes", { skip: lacking({ nodes: true }) }, () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({ nodes: 2 });
  });
  after(() => cluster?.stop());

  const pods = async (app: string): Promise<Pod[]> => (await cluster.get<{ items: Pod[] }>("pods", "-l", `app=${app}`)).items;
  const readyPods = (app: string, count: number): Promise<Pod[]> =>
    cluster.until(`${count} ready pods of ${app}`, async () => {
      const ready = (await pods(app)).filter(isReady);
      return ready.length >= count && ready;
    });

  it("are both Ready, and run real pods", async () => {
    await cluster.apply([
      deployment("spread", 2, {
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: "kubernetes.io/hostname",
            whenUnsatisfiable: "DoNotSchedule",
            labelSelector: { matchLabels: { app: "spread" } },
          },
        ],
      }),
    ]);
    const ready = await readyPods("spread", 2);
    assert.deepEqual(ready.map((pod) => pod.spec.nodeName).sort(), ["node-0", "node-1"]);
    for (const pod of ready) {
      const { stdout } = await cluster.exec(["curl", "-sS", "-m", "10", `http://${pod.status.podIP}:8080/`]);
      assert.equal(stdout.trim(), pod.metadata.name);
    }
    // Through the API server to the kubelet and into the pod, which reaches the pod on the other node.
    const [one, two] = ready;
    assert.ok(one !== undefined && two !== undefined);
    const answer = await cluster.kubectl([
      "exec",
      one.metadata.name,
      "--",
      "sh",
      "-c",
      `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc ${two.status.podIP} 8080`,
    ]);
    assert.match(answer, new RegExp(two.metadata.name));
  });

  it("answer on a Service's address from each of 3 pods, from outside of them and from inside", async () => {
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web" },
      spec: { selector: { app: "web" }, clusterIP: "10.96.0.50", ports: [{ port: 80, targetPort: 8080 }] },
    };
    await cluster.apply([deployment("web", 3), service]);
    const names = (await readyPods("web", 3)).map((pod) => pod.metadata.name).sort();
    const answered = new Set<string>();
    await cluster.until("an answer of each", async () => {
      const { stdout } = await cluster.exec(["curl", "-sS", "-m", "5", "http://10.96.0.50/"]);
      answered.add(stdout.trim());
      return answered.size >= 3;
    });
    assert.deepEqual([...answered].sort(), names);
    // Each asks until it has heard all, itself among them: the way back to oneself is a rule of its own.
    for (const name of names) {
      const inside = new Set<string>();
      await cluster.until(`an answer of each, asked by ${name}`, async () => {
        const loop = "for i in 1 2 3 4 5 6; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 10.96.0.50 80 | tail -n 1; done";
        for (const line of (await cluster.kubectl(["exec", name, "--", "sh", "-c", loop])).trim().split("\n")) inside.add(line.trim());
        return inside.size >= 3;
      });
      assert.deepEqual([...inside].sort(), names);
    }
  });

  it("start a replacement when pod-template-hash is taken off, while the old one serves", async () => {
    const before_ = await readyPods("web", 3);
    const [old] = before_;
    assert.ok(old !== undefined);
    await cluster.kubectl(["label", "pod", old.metadata.name, "pod-template-hash-"]);
    const now = await readyPods("web", 4);
    assert.ok(
      now.some((pod) => pod.metadata.uid === old.metadata.uid),
      "the old one is still there and ready",
    );
    const slices = async (): Promise<string> =>
      cluster.kubectl(["get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", "json"]);
    assert.match(await slices(), new RegExp(old.metadata.name));
    await cluster.kubectl(["label", "pod", old.metadata.name, "app-"]);
    await cluster.until("out of the Service", async () => !(await slices()).includes(old.metadata.name));
    await cluster.kubectl(["delete", "pod", old.metadata.name, "--wait=false"]);
  });

  it("resize a pod in place, down to its cgroup", async () => {
    const [pod] = await readyPods("web", 3);
    assert.ok(pod !== undefined);
    const limits = { containers: [{ name: "web", resources: { requests: { memory: "96Mi" }, limits: { memory: "96Mi" } } }] };
    await cluster.kubectl(["patch", "pod", pod.metadata.name, "--subresource=resize", "-p", JSON.stringify({ spec: limits })]);
    // v1 and v2 have other names for it, and the container's cgroup is below that of its pod.
    const files = (): string[] => [
      ...globSync(`/sys/fs/cgroup/memory/nightshift-cluster-${cluster.name}/**/pod${pod.metadata.uid}/*/memory.limit_in_bytes`),
      ...globSync(`/sys/fs/cgroup/nightshift-cluster-${cluster.name}/**/pod${pod.metadata.uid}/*/memory.max`),
    ];
    await cluster.until("96 MiB in the cgroup", async () =>
      files().some((file) => readFileSync(file, "utf8").trim() === String(96 * 1024 ** 2)),
    );
    const now = (await pods("web")).find(({ metadata }) => metadata.uid === pod.metadata.uid);
    assert.equal(now?.status.containerStatuses?.[0]?.restartCount, 0);
  });

  it("kill what exceeds its memory limit, and start it again", async () => {
    // tail keeps all of a line without an end.
    const hog = {
      name: "hog",
      image: BUSYBOX_IMAGE,
      command: ["sh", "-c", "exec tail /dev/zero"],
      resources: { limits: { memory: "32Mi" } },
    };
    await cluster.apply([
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "hog", labels: { app: "hog" } },
        spec: { containers: [hog], terminationGracePeriodSeconds: 0 },
      },
    ]);
    await cluster.until("OOMKilled", async () => {
      const status = (await pods("hog"))[0]?.status.containerStatuses?.[0];
      return status?.lastState?.terminated?.reason === "OOMKilled" && status.restartCount > 0;
    });
    await cluster.kubectl(["delete", "pod", "hog", "--wait=false"]);
  });

  it("let a pod reach the API server by its service account", async () => {
    const show =
      "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo open";
    assert.match(await cluster.kubectl(["exec", "deploy/web", "--", "sh", "-c", show]), /default.*open/s);
  });

  it("are alone: another cluster has the same addresses and names, and its own pods behind them", async () => {
    await using other = await Cluster.start({ node: true });
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web" },
      spec: { selector: { app: "web" }, clusterIP: "10.96.0.50", ports: [{ port: 80, targetPort: 8080 }] },
    };
    await other.apply([deployment("web", 1), service]);
    const ask = async (where: Cluster): Promise<string> =>
      (await where.exec(["curl", "-sS", "-m", "5", "http://10.96.0.50/"])).stdout.trim();
    const answer = await other.until("an answer", () => ask(other));
    assert.equal((await other.get<{ items: Pod[] }>("pods", "-l", "app=web")).items[0]?.metadata.name, answer);
    assert.ok((await pods("web")).some((pod) => pod.metadata.name !== answer));
    await other.stop();
    assert.ok(!(await pods("web")).some(({ metadata }) => metadata.name === answer));
    assert.match(await ask(cluster), /^web-/);
  });

  it("resolve the names of Services in pods", async () => {
    const ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 web.default.svc.cluster.local 80 | tail -n 1";
    const answer = await cluster.until("an answer", async () =>
      (await cluster.kubectl(["exec", "deploy/web", "--", "sh", "-c", ask])).trim(),
    );
    assert.match(answer, /^web-/);
  });

  it("show logs", async () => {
    await cluster.apply([
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "hello" },
        spec: { restartPolicy: "Never", containers: [{ name: "c", image: BUSYBOX_IMAGE, command: ["echo", "hello from a pod"] }] },
      },
    ]);
    await cluster.until("its log", async () => (await cluster.kubectl(["logs", "hello"])).includes("hello from a pod"));
  });
});
