/**
 * Namespaces in which nothing is touched, unless others are named: the cluster's own. The chart's
 * `admission.protectedNamespaces` has the same default, and names them to the operator and to its admission policy alike.
 */
export const PROTECTED_NAMESPACES: readonly string[] = ["kube-system", "kube-public", "kube-node-lease"];
