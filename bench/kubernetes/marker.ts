/** Annotation of a pod by which a bench sees how far a client has come; Nightshift keeps those of its own prefix. */
export const MARKER = "nightshift.dev/marker";
