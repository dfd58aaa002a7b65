import type { FuzzTarget } from "../target.ts";
import { alertmanagerApi, alertmanagerWebhook } from "./alertmanager.ts";
import { cel } from "./cel.ts";
import { kubernetesWatch, remediation } from "./kubernetes.ts";
import { hints } from "./hints.ts";
import { hintsRequest } from "./hints-request.ts";
import { otlpLogsJson, otlpLogsProtobuf } from "./otlp-logs.ts";
import { serviceGraphMetrics, serviceGraphPromql, serviceGraphSpans } from "./service-graph.ts";
import { otlpLogsAlike, otlpMetricsAlike, otlpTracesAlike } from "./otlp-alike.ts";
import { otlpMetricsJson, otlpMetricsProtobuf } from "./otlp-metrics.ts";
import { otlpTracesJson, otlpTracesProtobuf } from "./otlp-traces.ts";
import { promql } from "./promql.ts";
import { rootCauseGraph, rootCauseMetrics } from "./root-cause.ts";
import { slack } from "./slack.ts";
import { cluster, operatorConfig, resources, scenario, stack } from "./yaml.ts";

/** Every decoder of what others write. */
export const TARGETS: readonly FuzzTarget[] = [
  otlpMetricsProtobuf,
  otlpMetricsJson,
  otlpMetricsAlike,
  otlpTracesProtobuf,
  otlpTracesJson,
  otlpTracesAlike,
  otlpLogsProtobuf,
  otlpLogsJson,
  otlpLogsAlike,
  serviceGraphMetrics,
  serviceGraphSpans,
  serviceGraphPromql,
  hints,
  hintsRequest,
  promql,
  alertmanagerWebhook,
  alertmanagerApi,
  slack,
  cel,
  resources,
  stack,
  operatorConfig,
  scenario,
  cluster,
  rootCauseGraph,
  rootCauseMetrics,
  kubernetesWatch,
  remediation,
];
