import { join } from "node:path";

/**
 * Where the clusters' state is: on a disk, because overlayfs takes no tmpfs-backed upper directory everywhere, and by a
 * short path, because containerd's sockets must fit the 107 bytes of a Unix socket's name.
 */
export const CLUSTERS_DIR = process.env["NIGHTSHIFT_CLUSTERS_DIR"] ?? "/var/tmp/nightshift-clusters";

/** The network of every cluster, inside its own namespace, so that all have the same and none collide (RFC 5737, TEST-NET-1). */
export const CONTROL_PLANE_ADDRESS = "192.0.2.1";
export const API_PORT = 6443;
/** What Services and pods are named below. */
export const CLUSTER_DOMAIN = "cluster.local";
export const ETCD_CLIENT_PORT = 2379;
export const ETCD_PEER_PORT = 2380;
export const SERVICE_CIDR = "10.96.0.0/16";
/** The address of the Service `kubernetes`: the first of the range. */
export const API_SERVICE_ADDRESS = "10.96.0.1";
export const POD_CIDR = "10.244.0.0/16";

/** A real kubelet with a containerd of its own. */
export interface NodePlan {
  readonly name: string;
  readonly address: string;
  readonly podCidr: string;
  /** Its containerd, kubelet and CNI state. */
  readonly dir: string;
  /** Path below the root of each cgroup hierarchy. */
  readonly cgroup: string;
  /**
   * Its network namespace by name (`ip netns`); the first node has none of its own and lives in that of the control plane.
   * Each needs one, since kube-proxy's rules depend on which pods are its node's (hairpin connections).
   */
  readonly namespace?: string;
}

/** Files of one cluster. */
export class Layout {
  readonly dir: string;
  readonly name: string;

  constructor(name: string) {
    this.name = name;
    this.dir = join(CLUSTERS_DIR, name);
  }

  /** What the cluster was asked to be: `ClusterPlan` as JSON. */
  get plan(): string {
    return join(this.dir, "plan.json");
  }
  /** Who runs it: `ClusterState` as JSON. */
  get state(): string {
    return join(this.dir, "state.json");
  }
  /** The supervisor's Unix socket. */
  get control(): string {
    return join(this.dir, "control.sock");
  }
  /** For clients inside the network namespace. */
  get innerKubeconfig(): string {
    return join(this.dir, "kubeconfig.inner");
  }
  /** For clients on the machine, through the forwarder on the loopback address. */
  get kubeconfig(): string {
    return join(this.dir, "kubeconfig");
  }
  get auditLog(): string {
    return join(this.dir, "logs", "audit.jsonl");
  }
  get ca(): string {
    return join(this.dir, "pki", "ca.crt");
  }

  /** Images to import, as `layOut` of scripts/oci.ts leaves them; absent without nodes. */
  get images(): string {
    return join(this.dir, "images");
  }

  /** The log of a component. */
  log(component: string): string {
    return join(this.dir, "logs", `${component}.log`);
  }

  /** Path of the cluster's cgroup below the root of each hierarchy. */
  get cgroup(): string {
    return `/nightshift-cluster-${this.name}`;
  }

  /** The nth node, from 0. */
  node(index: number): NodePlan {
    const name = `node-${index}`;
    return {
      name,
      address: `192.0.2.${11 + index}`,
      podCidr: `10.244.${index}.0/24`,
      dir: join(this.dir, name),
      cgroup: `${this.cgroup}/${name}`,
      ...(index === 0 ? {} : { namespace: name }),
    };
  }
}

/** What a cluster is asked to be; written by its owner, read by its supervisor. */
export interface ClusterPlan {
  readonly name: string;
  readonly nodes: number;
  readonly fakeNodes: number;
  readonly kubeProxy: boolean;
  readonly audit: boolean;
  /** Archives to import, beside the images that are laid out in `Layout.images`. */
  readonly archives: readonly string[];
  /** More flags by component, e.g. `{"kube-apiserver": ["--event-ttl=5m"]}`; the last of a name wins. */
  readonly flags: Readonly<Record<string, readonly string[]>>;
  /** Directory with etcd, kube-apiserver and so on. */
  readonly bin: string;
  /** The CoreDNS binary, when pods are to resolve Services. */
  readonly coredns?: string;
  /** kwok and its stages, when there are fake nodes. */
  readonly kwok?: { readonly command: string; readonly stages: string };
  /** Bearer tokens by user. */
  readonly tokens: { readonly admin: string; readonly node: readonly string[] };
  /** Whether the cluster lives on when its owner ends. */
  readonly detached: boolean;
}

/** Who runs a cluster; lets anybody find, enter and clear away it. */
export interface ClusterState {
  /** The process that asked for the cluster, and the watchdog; each with its identity over pid reuse. */
  readonly owner: ProcessRef;
  readonly watchdog?: ProcessRef;
  /** The first process of the cluster's pid namespace, as the machine sees it. */
  readonly init?: ProcessRef;
  /** `net:[inode]` of the control plane and the first node, and `pid:[inode]` of all. */
  readonly network?: string;
  readonly pids?: string;
  /** Port of the forwarder on 127.0.0.1. */
  readonly port?: number;
}

export interface ProcessRef {
  readonly pid: number;
  readonly identity: string;
}
