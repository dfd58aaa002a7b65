import { createHash } from "node:crypto";
import type { KubeObject } from "../../test/support/fake-api/types.ts";

/** How large a cluster is. */
export interface Size {
  readonly nodes: number;
  readonly pods: number;
}

/** The objects of one kind: made when asked for, the same each time, so that nobody has to hold them. */
export interface Collection {
  readonly kind: string;
  readonly apiVersion: string;
  readonly count: number;
  /**
   * One object as JSON, without `kind` and `apiVersion`.
   * @param revision - how many times its status has changed.
   * @param extra - annotations to add.
   */
  readonly json: (index: number, resourceVersion: number, revision: number, extra?: Readonly<Record<string, string>>) => string;
}

/** Pods of a workload; the last one has what is left. */
const PODS_PER_WORKLOAD = 25;
const WORKLOADS_PER_NAMESPACE = 20;

/** Hexadecimal digits that look random and are the same for the same text. */
function hex(text: string, digits: number): string {
  return createHash("sha1").update(text).digest("hex").padEnd(digits, "0").slice(0, digits);
}

/** A uid by kind and number; cheaper than a hash, as there is one in every object. */
function uid(kind: number, index: number): string {
  const mixed = (Math.imul(index + 1, 0x9e3779b1) ^ Math.imul(kind + 7, 0x85ebca6b)) >>> 0;
  const other = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d) >>> 0;
  return `${mixed.toString(16).padStart(8, "0")}-${kind.toString(16).padStart(4, "0")}-4${(other & 0xfff).toString(16).padStart(3, "0")}-8${((other >>> 12) & 0xfff).toString(16).padStart(3, "0")}-${index.toString(16).padStart(12, "0")}`;
}

const BEGIN = Date.parse("2026-11-01T00:00:00Z");
const time = (seconds: number): string => `${new Date(BEGIN + seconds * 1000).toISOString().slice(0, 19)}Z`;
const annotationsOf = (own: Readonly<Record<string, string>>, extra: Readonly<Record<string, string>> | undefined): string =>
  JSON.stringify(extra === undefined ? own : { ...own, ...extra });

/** What the pods of one workload have in common. */
interface Workload {
  readonly index: number;
  readonly name: string;
  readonly namespace: string;
  readonly hash: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly pods: number;
  /** Parts of its pods' JSON. */
  readonly podLabels: string;
  readonly owner: string;
  readonly spec: readonly [string, string];
  readonly managedFields: string;
  readonly image: string;
  readonly imageId: string;
}

const SERVICES = ["payments", "checkout", "catalog", "search", "accounts", "ledger", "notifications", "sessions", "pricing", "shipping"];

function workload(index: number, pods: number): Workload {
  const name = `${SERVICES[index % SERVICES.length]}-${index}`;
  const namespace = `team-${Math.floor(index / WORKLOADS_PER_NAMESPACE)}`;
  const hash = hex(name, 10);
  const image = `registry.example.com/shop/${SERVICES[index % SERVICES.length]}:${(index % 40) + 1}.4.2`;
  const imageId = `registry.example.com/shop/${SERVICES[index % SERVICES.length]}@sha256:${hex(image, 40)}${hex(name, 24)}`;
  const labels = {
    app: name,
    "app.kubernetes.io/name": name,
    "app.kubernetes.io/part-of": "shop",
    "app.kubernetes.io/managed-by": "Helm",
    tier: "backend",
    version: `${(index % 40) + 1}.4.2`,
  };
  const containers = [
    {
      name: "app",
      image,
      ports: [
        { name: "http", containerPort: 8080, protocol: "TCP" },
        { name: "metrics", containerPort: 9090, protocol: "TCP" },
      ],
      env: [
        { name: "SERVICE_NAME", value: name },
        { name: "LOG_LEVEL", value: "info" },
        { name: "DATABASE_URL", valueFrom: { secretKeyRef: { name: `${name}-database`, key: "url" } } },
        { name: "POD_NAME", valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: "metadata.name" } } },
      ],
      resources: { limits: { memory: "512Mi" }, requests: { cpu: "100m", memory: "256Mi" } },
      readinessProbe: {
        httpGet: { path: "/readyz", port: "http", scheme: "HTTP" },
        timeoutSeconds: 1,
        periodSeconds: 5,
        successThreshold: 1,
        failureThreshold: 3,
      },
      volumeMounts: [{ name: "kube-api-access", readOnly: true, mountPath: "/var/run/secrets/kubernetes.io/serviceaccount" }],
      terminationMessagePath: "/dev/termination-log",
      terminationMessagePolicy: "File",
      imagePullPolicy: "IfNotPresent",
      securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
    },
  ];
  const spec = JSON.stringify({
    volumes: [
      {
        name: "kube-api-access",
        projected: {
          sources: [
            { serviceAccountToken: { expirationSeconds: 3607, path: "token" } },
            { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
            { downwardAPI: { items: [{ path: "namespace", fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" } }] } },
          ],
          defaultMode: 420,
        },
      },
    ],
    containers,
    restartPolicy: "Always",
    terminationGracePeriodSeconds: 30,
    dnsPolicy: "ClusterFirst",
    serviceAccountName: name,
    serviceAccount: name,
    nodeName: "%NODE%",
    securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
    schedulerName: "default-scheduler",
    tolerations: [
      { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 },
      { key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 },
    ],
    priority: 0,
    enableServiceLinks: true,
    preemptionPolicy: "PreemptLowerPriority",
  }).split("%NODE%");
  return {
    index,
    name,
    namespace,
    hash,
    labels,
    pods,
    podLabels: JSON.stringify({ ...labels, "pod-template-hash": hash }),
    owner: JSON.stringify([
      {
        apiVersion: "apps/v1",
        kind: "ReplicaSet",
        name: `${name}-${hash}`,
        uid: uid(2, index * 2),
        controller: true,
        blockOwnerDeletion: true,
      },
    ]),
    spec: [spec[0] ?? "", spec[1] ?? ""],
    managedFields: JSON.stringify([
      {
        manager: "kube-controller-manager",
        operation: "Update",
        apiVersion: "v1",
        time: time(0),
        fieldsType: "FieldsV1",
        fieldsV1: OWN_FIELDS,
      },
      {
        manager: "kubelet",
        operation: "Update",
        apiVersion: "v1",
        time: time(60),
        fieldsType: "FieldsV1",
        fieldsV1: STATUS_FIELDS,
        subresource: "status",
      },
    ]),
    image,
    imageId,
  };
}

/** Fields of a pod that its controller owns. */
const OWN_FIELDS = {
  "f:metadata": {
    "f:annotations": { ".": {}, "f:checksum/config": {}, "f:prometheus.io/scrape": {} },
    "f:generateName": {},
    "f:labels": { ".": {}, "f:app": {}, "f:pod-template-hash": {}, "f:tier": {}, "f:version": {} },
    "f:ownerReferences": { ".": {}, 'k:{"uid":"5e5e5e5e-0000-4000-8000-000000000000"}': {} },
  },
  "f:spec": {
    "f:containers": {
      'k:{"name":"app"}': {
        ".": {},
        "f:env": { ".": {}, 'k:{"name":"SERVICE_NAME"}': { ".": {}, "f:name": {}, "f:value": {} } },
        "f:image": {},
        "f:imagePullPolicy": {},
        "f:name": {},
        "f:resources": { ".": {}, "f:limits": { ".": {}, "f:memory": {} }, "f:requests": { ".": {}, "f:cpu": {}, "f:memory": {} } },
      },
    },
    "f:dnsPolicy": {},
    "f:enableServiceLinks": {},
    "f:restartPolicy": {},
    "f:schedulerName": {},
    "f:securityContext": {},
    "f:terminationGracePeriodSeconds": {},
  },
};
/** Fields of a pod that its kubelet owns. */
const STATUS_FIELDS = {
  "f:status": {
    "f:conditions": {
      'k:{"type":"ContainersReady"}': { ".": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {} },
      'k:{"type":"Initialized"}': { ".": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {} },
      'k:{"type":"Ready"}': { ".": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {} },
    },
    "f:containerStatuses": {},
    "f:hostIP": {},
    "f:phase": {},
    "f:podIP": {},
    "f:podIPs": { ".": {}, 'k:{"ip":"10.0.0.1"}': { ".": {}, "f:ip": {} } },
    "f:startTime": {},
  },
};

const POD_ANNOTATIONS = {
  "checksum/config": hex("configuration", 40),
  "prometheus.io/scrape": "true",
  "prometheus.io/port": "9090",
};

/** The collections of a cluster by their path, as a service shop of that size has them: Deployments, their Services and pods. */
export function dataset(size: Size): ReadonlyMap<string, Collection> {
  const count = Math.ceil(size.pods / PODS_PER_WORKLOAD);
  const workloads = Array.from({ length: count }, (_, i) => workload(i, Math.min(PODS_PER_WORKLOAD, size.pods - i * PODS_PER_WORKLOAD)));
  const at = (index: number): Workload => workloads[index]!;
  const namespaces = Math.ceil(count / WORKLOADS_PER_NAMESPACE);
  const podName = (of: Workload, index: number): string => `${of.name}-${of.hash}-${(index * 7919 + 60_466_176).toString(36).slice(-5)}`;
  const podIp = (index: number): string => `10.${(index >>> 16) & 255}.${(index >>> 8) & 255}.${index & 255}`;
  const nodeName = (index: number): string => `ip-10-200-${index >>> 8}-${index & 255}.eu-central-1.compute.internal`;

  const pod: Collection["json"] = (index, resourceVersion, revision, extra) => {
    const of = at(Math.floor(index / PODS_PER_WORKLOAD));
    // Each kind of condition at its own second, as a kubelet has them.
    const begun = (index % 86_400) * 10;
    const changed = time(begun + 20 + revision * 60);
    const condition = (type: string, when: string): string =>
      `{"type":"${type}","observedGeneration":1,"status":"True","lastProbeTime":null,"lastTransitionTime":"${when}"}`;
    const node = index % Math.max(size.nodes, 1);
    const hostIp = `10.200.${node >>> 8}.${node & 255}`;
    return (
      `{"metadata":{"name":"${podName(of, index)}","generateName":"${of.name}-${of.hash}-","namespace":"${of.namespace}","uid":"${uid(1, index)}",` +
      `"resourceVersion":"${resourceVersion}","generation":1,"creationTimestamp":"${time(begun)}","labels":${of.podLabels},` +
      `"annotations":${annotationsOf(POD_ANNOTATIONS, extra)},"ownerReferences":${of.owner},"managedFields":${of.managedFields}},` +
      `"spec":${of.spec[0]}${nodeName(node)}${of.spec[1]},"status":{"observedGeneration":1,"phase":"Running","conditions":[` +
      `${condition("PodReadyToStartContainers", time(begun + 3))},${condition("Initialized", time(begun + 1))},${condition("Ready", changed)},` +
      `${condition("ContainersReady", changed)},${condition("PodScheduled", time(begun))}],"hostIP":"${hostIp}","hostIPs":[{"ip":"${hostIp}"}],` +
      `"podIP":"${podIp(index)}","podIPs":[{"ip":"${podIp(index)}"}],"startTime":"${time(begun + 1)}","containerStatuses":[{"name":"app",` +
      `"state":{"running":{"startedAt":"${time(begun + 5 + revision * 60)}"}},"lastState":{},"ready":true,"restartCount":${revision},` +
      `"image":"${of.image}","imageID":"${of.imageId}","containerID":"containerd://${uid(3, index).replaceAll("-", "")}${uid(4, index + revision).replaceAll("-", "")}",` +
      `"started":true,"allocatedResources":{"cpu":"100m","memory":"256Mi"},"resources":{"limits":{"memory":"512Mi"},"requests":{"cpu":"100m","memory":"256Mi"}}}],` +
      `"qosClass":"Burstable"}}`
    );
  };

  const images = Array.from({ length: 30 }, (_, i) => ({
    names: [`registry.example.com/shop/image-${i}@sha256:${hex(`image-${i}`, 40)}`, `registry.example.com/shop/image-${i}:1.4.2`],
    sizeBytes: 40_000_000 + i,
  }));
  const meta = (
    kind: number,
    index: number,
    resourceVersion: number,
    rest: { name: string; namespace?: string; labels?: object; annotations?: object; ownerReferences?: object[] },
  ): object => ({ ...rest, uid: uid(kind, index), resourceVersion: String(resourceVersion), generation: 1, creationTimestamp: time(0) });
  const node: Collection["json"] = (index, resourceVersion, revision, extra) =>
    JSON.stringify({
      metadata: meta(10, index, resourceVersion, {
        name: nodeName(index),
        labels: {
          "kubernetes.io/arch": "amd64",
          "kubernetes.io/os": "linux",
          "kubernetes.io/hostname": nodeName(index),
          "node.kubernetes.io/instance-type": "m6i.4xlarge",
          "topology.kubernetes.io/region": "eu-central-1",
          "topology.kubernetes.io/zone": `eu-central-1${"abc"[index % 3]}`,
          "karpenter.sh/nodepool": `pool-${index % 8}`,
        },
        annotations: { "node.alpha.kubernetes.io/ttl": "300", "volumes.kubernetes.io/controller-managed-attach-detach": "true", ...extra },
      }),
      spec: { podCIDR: `100.64.${index & 255}.0/24`, providerID: `aws:///eu-central-1a/i-${hex(`node-${index}`, 17)}` },
      status: {
        capacity: { cpu: "16", memory: "64Gi", pods: "110" },
        allocatable: { cpu: "15890m", memory: "60Gi", pods: "110" },
        conditions: ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].map((type) => ({
          type,
          status: type === "Ready" ? "True" : "False",
          lastHeartbeatTime: time(600 + revision * 300),
          lastTransitionTime: time(60),
          reason: `Kubelet${type}`,
          message: "kubelet reports as it should",
        })),
        addresses: [
          { type: "InternalIP", address: `10.200.${index >>> 8}.${index & 255}` },
          { type: "Hostname", address: nodeName(index) },
        ],
        nodeInfo: {
          kubeletVersion: "v1.37.2",
          containerRuntimeVersion: "containerd://2.1.0",
          osImage: "Bottlerocket",
          architecture: "amd64",
        },
        images,
      },
    });

  const template = (of: Workload): object => ({
    metadata: { labels: { ...of.labels }, annotations: POD_ANNOTATIONS },
    spec: JSON.parse(`${of.spec[0]}${of.spec[1]}`) as object,
  });
  const metaOf = (kind: number, index: number, resourceVersion: number, of: Workload, extra: object | undefined, name = of.name): object =>
    meta(kind, index, resourceVersion, {
      name,
      namespace: of.namespace,
      labels: of.labels,
      annotations: { "deployment.kubernetes.io/revision": "2", ...extra },
    });
  const statusOf = (replicas: number): object => ({
    observedGeneration: 1,
    ...(replicas === 0 ? {} : { replicas, readyReplicas: replicas, availableReplicas: replicas, updatedReplicas: replicas }),
  });
  const deployment: Collection["json"] = (index, resourceVersion, _revision, extra) => {
    const of = at(index);
    return JSON.stringify({
      metadata: metaOf(20, index, resourceVersion, of, extra),
      spec: { replicas: of.pods, selector: { matchLabels: { app: of.name } }, template: template(of) },
      status: { ...statusOf(of.pods), conditions: [{ type: "Available", status: "True", lastTransitionTime: time(30) }] },
    });
  };
  /** Each Deployment has the ReplicaSet of its pods and one of the release before. */
  const replicaSet: Collection["json"] = (index, resourceVersion, _revision, extra) => {
    const of = at(index >>> 1);
    const isOld = index % 2 === 1;
    const hash = isOld ? hex(`${of.name} before`, 10) : of.hash;
    const replicas = isOld ? 0 : of.pods;
    return JSON.stringify({
      metadata: {
        ...metaOf(2, index, resourceVersion, of, extra, `${of.name}-${hash}`),
        ownerReferences: [{ apiVersion: "apps/v1", kind: "Deployment", name: of.name, uid: uid(20, of.index), controller: true }],
      },
      spec: { replicas, selector: { matchLabels: { app: of.name, "pod-template-hash": hash } }, template: template(of) },
      status: statusOf(replicas),
    });
  };
  const service: Collection["json"] = (index, resourceVersion, _revision, extra) => {
    const of = at(index);
    return JSON.stringify({
      metadata: metaOf(30, index, resourceVersion, of, extra),
      spec: { selector: { app: of.name }, type: "ClusterIP", clusterIP: `172.20.${index >>> 8}.${index & 255}`, ports: [{ port: 80 }] },
    });
  };
  const slice: Collection["json"] = (index, resourceVersion, _revision, extra) => {
    const of = at(index);
    return JSON.stringify({
      metadata: {
        ...metaOf(31, index, resourceVersion, of, extra, `${of.name}-x7k2p`),
        labels: { ...of.labels, "kubernetes.io/service-name": of.name },
      },
      addressType: "IPv4",
      ports: [{ name: "http", port: 8080, protocol: "TCP" }],
      endpoints: Array.from({ length: of.pods }, (_, i) => {
        const number = index * PODS_PER_WORKLOAD + i;
        return {
          addresses: [podIp(number)],
          conditions: { ready: true, serving: true, terminating: false },
          nodeName: nodeName(number % Math.max(size.nodes, 1)),
          targetRef: { kind: "Pod", namespace: of.namespace, name: podName(of, number), uid: uid(1, number) },
        };
      }),
    });
  };
  /** One workload in three has a budget. */
  const pdb: Collection["json"] = (index, resourceVersion, _revision, extra) => {
    const of = at(index * 3);
    return JSON.stringify({
      metadata: metaOf(40, index, resourceVersion, of, extra),
      spec: { maxUnavailable: "20%", selector: { matchLabels: { app: of.name } } },
      status: { disruptionsAllowed: 1, currentHealthy: of.pods, desiredHealthy: of.pods - 1, expectedPods: of.pods },
    });
  };
  /** One in four an autoscaler. */
  const hpa: Collection["json"] = (index, resourceVersion, _revision, extra) => {
    const of = at(index * 4);
    return JSON.stringify({
      metadata: metaOf(41, index, resourceVersion, of, extra),
      spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: of.name }, minReplicas: 2, maxReplicas: 50 },
      status: { currentReplicas: of.pods, desiredReplicas: of.pods },
    });
  };
  const namespace: Collection["json"] = (index, resourceVersion, _revision, extra) =>
    JSON.stringify({
      metadata: meta(50, index, resourceVersion, {
        name: `team-${index}`,
        labels: { "kubernetes.io/metadata.name": `team-${index}` },
        ...(extra === undefined ? {} : { annotations: extra }),
      }),
    });

  const all: readonly [string, string, string, number, Collection["json"]][] = [
    ["/api/v1/pods", "Pod", "v1", size.pods, pod],
    ["/api/v1/nodes", "Node", "v1", size.nodes, node],
    ["/api/v1/namespaces", "Namespace", "v1", namespaces, namespace],
    ["/api/v1/services", "Service", "v1", count, service],
    ["/apis/apps/v1/deployments", "Deployment", "apps/v1", count, deployment],
    ["/apis/apps/v1/replicasets", "ReplicaSet", "apps/v1", count * 2, replicaSet],
    ["/apis/discovery.k8s.io/v1/endpointslices", "EndpointSlice", "discovery.k8s.io/v1", count, slice],
    ["/apis/policy/v1/poddisruptionbudgets", "PodDisruptionBudget", "policy/v1", Math.ceil(count / 3), pdb],
    ["/apis/autoscaling/v2/horizontalpodautoscalers", "HorizontalPodAutoscaler", "autoscaling/v2", Math.ceil(count / 4), hpa],
    ["/apis/apps/v1/statefulsets", "StatefulSet", "apps/v1", 0, pod],
    ["/apis/apps/v1/daemonsets", "DaemonSet", "apps/v1", 0, pod],
    ["/apis/apps/v1/controllerrevisions", "ControllerRevision", "apps/v1", 0, pod],
  ];
  return new Map(all.map(([path, kind, apiVersion, objects, json]) => [path, { kind, apiVersion, count: objects, json }]));
}

/** A policy for each namespace of a dataset, as a platform team hands them out: they observe every backend. */
export function policiesOf(collections: ReadonlyMap<string, Collection>): KubeObject[] {
  const namespaces = collections.get("/api/v1/namespaces")?.count ?? 0;
  return Array.from({ length: namespaces }, (_, i) => ({
    apiVersion: "nightshift.dev/v1alpha1",
    kind: "RemediationPolicy",
    metadata: { name: "backends", namespace: `team-${i}` },
    spec: {
      mode: "Observe",
      targets: [{ selector: { matchLabels: { tier: "backend" } } }],
      signals: [
        { name: "alert", alert: { alertname: "Ill" } },
        { name: "errors", errorRate: { above: "5%" } },
      ],
      ladder: [{ strategy: "RestartPod" }],
    },
  }));
}
