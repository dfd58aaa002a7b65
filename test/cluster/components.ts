import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  API_PORT,
  CLUSTER_DOMAIN,
  type ClusterPlan,
  CONTROL_PLANE_ADDRESS,
  ETCD_CLIENT_PORT,
  ETCD_PEER_PORT,
  type Layout,
  type NodePlan,
  POD_CIDR,
  SERVICE_CIDR,
} from "./layout.ts";

/** A process of the cluster: what is run for it. */
export interface Component {
  /** `etcd`, `kube-apiserver`, `kubelet/node-0` and so on; also the name of its log, with `/` as `-`. */
  readonly name: string;
  readonly command: string;
  readonly argv: readonly string[];
}

/** Image of the process that holds a pod's namespaces; made by images.ts. */
export const PAUSE_IMAGE = "nightshift.dev/pause:1";

function writeJson(path: string, value: unknown): string {
  writeFileSync(path, JSON.stringify(value, undefined, 2));
  return path;
}

/** Data without fsync: a test's cluster does not outlive its machine. */
export function etcd(layout: Layout, plan: ClusterPlan): Component {
  const client = `http://127.0.0.1:${ETCD_CLIENT_PORT}`;
  return {
    name: "etcd",
    command: join(plan.bin, "etcd"),
    argv: [
      `--data-dir=${join(layout.dir, "etcd")}`,
      "--unsafe-no-fsync",
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=http://127.0.0.1:${ETCD_PEER_PORT}`,
      "--log-level=warn",
      ...(plan.flags["etcd"] ?? []),
    ],
  };
}

/** Every request once it is answered, with who, what and the status, without bodies. */
const AUDIT_POLICY = {
  apiVersion: "audit.k8s.io/v1",
  kind: "Policy",
  omitStages: ["RequestReceived"],
  omitManagedFields: true,
  rules: [{ level: "None", nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"] }, { level: "Metadata" }],
};

/** Node and RBAC authorization and the NodeRestriction plugin, as kubeadm sets a cluster up. */
export function apiServer(layout: Layout, plan: ClusterPlan): Component {
  const pki = (file: string): string => join(layout.dir, "pki", file);
  const users = [
    `${plan.tokens.admin},admin,admin,"system:masters"`,
    ...plan.tokens.node.map((token, i) => `${token},system:node:${layout.node(i).name},node-${i},"system:nodes"`),
  ];
  const tokens = join(layout.dir, "tokens.csv");
  writeFileSync(tokens, `${users.join("\n")}\n`, { mode: 0o600 });
  return {
    name: "kube-apiserver",
    command: join(plan.bin, "kube-apiserver"),
    argv: [
      `--etcd-servers=http://127.0.0.1:${ETCD_CLIENT_PORT}`,
      `--secure-port=${API_PORT}`,
      `--advertise-address=${CONTROL_PLANE_ADDRESS}`,
      `--tls-cert-file=${pki("kube-apiserver.crt")}`,
      `--tls-private-key-file=${pki("kube-apiserver.key")}`,
      `--client-ca-file=${pki("ca.crt")}`,
      `--kubelet-client-certificate=${pki("kubelet-client.crt")}`,
      `--kubelet-client-key=${pki("kubelet-client.key")}`,
      "--kubelet-preferred-address-types=InternalIP",
      `--service-account-key-file=${pki("service-accounts.pub")}`,
      `--service-account-signing-key-file=${pki("service-accounts.key")}`,
      "--service-account-issuer=https://kubernetes.default.svc",
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      `--token-auth-file=${tokens}`,
      `--service-cluster-ip-range=${SERVICE_CIDR}`,
      "--allow-privileged=true",
      "--profiling=false",
      ...(plan.audit
        ? [
            `--audit-policy-file=${writeJson(join(layout.dir, "audit-policy.json"), AUDIT_POLICY)}`,
            `--audit-log-path=${layout.auditLog}`,
            "--audit-log-mode=blocking",
          ]
        : []),
      ...(plan.flags["kube-apiserver"] ?? []),
    ],
  };
}

/** One of each, so without leader election; unthrottled, because a test waits for what they do. */
const CONTROLLER_FLAGS = ["--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000", "--profiling=false"];

export function controllerManager(layout: Layout, plan: ClusterPlan): Component {
  return {
    name: "kube-controller-manager",
    command: join(plan.bin, "kube-controller-manager"),
    argv: [
      `--kubeconfig=${layout.innerKubeconfig}`,
      `--root-ca-file=${layout.ca}`,
      `--service-account-private-key-file=${join(layout.dir, "pki", "service-accounts.key")}`,
      "--allocate-node-cidrs=false",
      "--bind-address=127.0.0.1",
      ...CONTROLLER_FLAGS,
      ...(plan.flags["kube-controller-manager"] ?? []),
    ],
  };
}

export function scheduler(layout: Layout, plan: ClusterPlan): Component {
  return {
    name: "kube-scheduler",
    command: join(plan.bin, "kube-scheduler"),
    argv: [
      `--kubeconfig=${layout.innerKubeconfig}`,
      "--bind-address=127.0.0.1",
      ...CONTROLLER_FLAGS,
      ...(plan.flags["kube-scheduler"] ?? []),
    ],
  };
}

/** Rules for Services in a node's network; those of the first node are also what processes beside the control plane see. */
export function kubeProxy(node: NodePlan, plan: ClusterPlan): Component {
  return inNamespace(node, {
    name: `kube-proxy/${node.name}`,
    command: join(plan.bin, "kube-proxy"),
    argv: [
      `--kubeconfig=${adminKubeconfig(node)}`,
      "--proxy-mode=nftables",
      `--cluster-cidr=${POD_CIDR}`,
      `--hostname-override=${node.name}`,
      // The connection tracker's limits belong to the machine.
      "--conntrack-max-per-core=0",
      ...(plan.flags["kube-proxy"] ?? []),
    ],
  });
}

/** The kubeconfig by which a node's processes, but the kubelet, reach the API server. */
export const adminKubeconfig = (node: NodePlan): string => join(node.dir, "kubeconfig-admin");

/** Runs it in the node's network; nsenter becomes the process, so that signals reach it. */
function inNamespace(node: NodePlan, component: Component): Component {
  if (node.namespace === undefined) return component;
  return { ...component, command: "nsenter", argv: [`--net=/run/netns/${node.namespace}`, "--", component.command, ...component.argv] };
}

/** Answers for Services and pods, and for nothing outside, as nothing is reachable there. */
export function coredns(layout: Layout, plan: ClusterPlan): Component {
  const corefile = join(layout.dir, "Corefile");
  writeFileSync(
    corefile,
    `.:53 {
  bind ${CONTROL_PLANE_ADDRESS}
  ready 127.0.0.1:8181
  errors
  kubernetes ${CLUSTER_DOMAIN} in-addr.arpa {
    kubeconfig ${layout.innerKubeconfig}
    pods insecure
    ttl 5
  }
}
`,
  );
  return { name: "coredns", command: plan.coredns ?? "", argv: [`-conf=${corefile}`, ...(plan.flags["coredns"] ?? [])] };
}

/** The socket of a node's containerd. */
export const containerdSocket = (node: NodePlan): string => join(node.dir, "cd", "containerd.sock");

/** A node's containerd, with the network of its pods: routed (ptp), since a bridge would let a Service's answers pass by the connection tracker. */
export function containerd(node: NodePlan, plan: ClusterPlan): Component {
  const dir = join(node.dir, "cd");
  const cni = join(node.dir, "cni");
  mkdirSync(dir, { recursive: true });
  mkdirSync(cni, { recursive: true });
  writeFileSync(
    join(dir, "config.toml"),
    `version = 2
root = "${join(dir, "root")}"
state = "${join(dir, "state")}"
[grpc]
  address = "${containerdSocket(node)}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${join(dir, "opt")}"
[plugins."io.containerd.grpc.v1.cri"]
  # runc without CAP_SYS_RESOURCE cannot lower oom_score_adj.
  restrict_oom_score_adj = true
  sandbox_image = "${PAUSE_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
`,
  );
  const ipam = {
    type: "host-local",
    dataDir: join(node.dir, "ipam"),
    ranges: [[{ subnet: node.podCidr }]],
    routes: [{ dst: "0.0.0.0/0" }],
  };
  writeJson(join(cni, "10-pods.conflist"), {
    cniVersion: "1.0.0",
    name: "pods",
    plugins: [
      { type: "ptp", ipMasq: false, ipam },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  });
  return inNamespace(node, {
    name: `containerd/${node.name}`,
    command: "containerd",
    argv: ["--config", join(dir, "config.toml"), "--log-level", "warn", ...(plan.flags["containerd"] ?? [])],
  });
}

/** A node's kubelet, with all of its state, cgroups and addresses of its own. */
export function kubelet(layout: Layout, node: NodePlan, plan: ClusterPlan): Component {
  const config = {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address: node.address,
    healthzPort: 0,
    authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: layout.ca } },
    authorization: { mode: "Webhook" },
    containerRuntimeEndpoint: `unix://${containerdSocket(node)}`,
    cgroupDriver: "cgroupfs",
    cgroupRoot: node.cgroup,
    failCgroupV1: false,
    failSwapOn: false,
    // The machine is shared: nothing is reserved for the node, and what others fill or use evicts no pod.
    enforceNodeAllocatable: [],
    evictionHard: {},
    localStorageCapacityIsolation: false,
    // The images were imported and cannot be pulled again, however full the disk is.
    imageGCHighThresholdPercent: 100,
    imageMaximumGCAge: "0s",
    // The machine's name servers are out of reach.
    resolvConf: "",
    ...(plan.coredns === undefined ? {} : { clusterDNS: [CONTROL_PLANE_ADDRESS], clusterDomain: CLUSTER_DOMAIN }),
    podLogsDir: join(node.dir, "pods"),
    volumePluginDir: join(node.dir, "plugins"),
    shutdownGracePeriod: "0s",
  };
  mkdirSync(config.podLogsDir, { recursive: true });
  return inNamespace(node, {
    name: `kubelet/${node.name}`,
    command: join(plan.bin, "kubelet"),
    argv: [
      `--config=${writeJson(join(node.dir, "kubelet.json"), config)}`,
      `--kubeconfig=${join(node.dir, "kubeconfig")}`,
      `--hostname-override=${node.name}`,
      `--root-dir=${join(node.dir, "kubelet")}`,
      `--node-ip=${node.address}`,
      ...(plan.flags["kubelet"] ?? []),
    ],
  });
}

/** The annotation of the nodes that kwok plays. */
export const FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node";

/** Plays the kubelets of the fake nodes: keeps them Ready, and moves their pods along at once. */
export function kwok(layout: Layout, plan: ClusterPlan): Component {
  return {
    name: "kwok",
    command: plan.kwok?.command ?? "",
    argv: [
      `--config=${plan.kwok?.stages ?? ""}`,
      `--kubeconfig=${layout.innerKubeconfig}`,
      "--manage-all-nodes=false",
      `--manage-nodes-with-annotation-selector=${FAKE_NODE_ANNOTATION}=fake`,
      "--node-lease-duration-seconds=40",
      "--cidr=10.250.0.0/16",
      "--node-ip=192.0.2.250",
      "--v=WARN",
      ...(plan.flags["kwok"] ?? []),
    ],
  };
}
