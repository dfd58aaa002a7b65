package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

const restartedAt = "kubectl.kubernetes.io/restartedAt"

var policyKind = schema.GroupVersionKind{Group: "nightshift.dev", Version: "v1alpha1", Kind: "RemediationPolicy"}

// restarter restarts a Deployment that an alert names, when a policy covers it and Prometheus agrees that it is ill.
type restarter struct {
	client.Client
	prometheus promv1.API
}

func (r *restarter) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var deployment appsv1.Deployment
	if err := r.Get(ctx, request.NamespacedName, &deployment); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	policy, err := r.policyFor(ctx, &deployment)
	if err != nil || policy == nil {
		return ctrl.Result{}, err
	}
	ill, err := r.isIll(ctx, &deployment)
	if err != nil || !ill {
		return ctrl.Result{}, err
	}
	before := client.MergeFrom(deployment.DeepCopy())
	if deployment.Spec.Template.Annotations == nil {
		deployment.Spec.Template.Annotations = map[string]string{}
	}
	deployment.Spec.Template.Annotations[restartedAt] = time.Now().Format(time.RFC3339Nano)
	if err := r.Patch(ctx, &deployment, before); err != nil {
		return ctrl.Result{}, err
	}
	log.FromContext(ctx).Info("restarted", "policy", policy.GetName())
	return ctrl.Result{}, nil
}

// policyFor returns the policy of the namespace whose targets select the Deployment, or nil.
func (r *restarter) policyFor(ctx context.Context, deployment *appsv1.Deployment) (*unstructured.Unstructured, error) {
	policies := &unstructured.UnstructuredList{}
	policies.SetGroupVersionKind(policyKind)
	if err := r.List(ctx, policies, client.InNamespace(deployment.Namespace)); err != nil {
		return nil, err
	}
	for i := range policies.Items {
		policy := &policies.Items[i]
		targets, _, err := unstructured.NestedSlice(policy.Object, "spec", "targets")
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", policy.GetName(), err)
		}
		for _, target := range targets {
			fields, ok := target.(map[string]any)["selector"].(map[string]any)
			if !ok {
				continue
			}
			var selector metav1.LabelSelector
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &selector); err != nil {
				return nil, fmt.Errorf("policy %s: %w", policy.GetName(), err)
			}
			matcher, err := metav1.LabelSelectorAsSelector(&selector)
			if err != nil {
				return nil, fmt.Errorf("policy %s: %w", policy.GetName(), err)
			}
			if matcher.Matches(labels.Set(deployment.Labels)) {
				return policy, nil
			}
		}
	}
	return nil, nil
}

// isIll asks Prometheus whether more than one in a hundred requests fail.
func (r *restarter) isIll(ctx context.Context, deployment *appsv1.Deployment) (bool, error) {
	of := fmt.Sprintf("namespace=%q,deployment=%q", deployment.Namespace, deployment.Name)
	query := fmt.Sprintf("sum(rate(http_requests_total{%s,code=~\"5..\"}[1m])) / sum(rate(http_requests_total{%s}[1m]))", of, of)
	value, _, err := r.prometheus.Query(ctx, query, time.Now())
	if err != nil {
		return false, err
	}
	vector, ok := value.(model.Vector)
	if !ok {
		return false, fmt.Errorf("prometheus answered with a %s", value.Type())
	}
	return len(vector) > 0 && vector[0].Value > 0.01, nil
}

// alerts is the part of Alertmanager's webhook payload that matters here.
type alerts struct {
	Alerts []struct {
		Status string            `json:"status"`
		Labels map[string]string `json:"labels"`
	} `json:"alerts"`
}

// receive serves Alertmanager's webhook until ctx ends, and makes an event of each firing alert.
func receive(ctx context.Context, token string, events chan<- event.GenericEvent) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhooks/alertmanager", func(w http.ResponseWriter, request *http.Request) {
		if subtle.ConstantTimeCompare([]byte(request.Header.Get("Authorization")), []byte("Bearer "+token)) != 1 {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		var payload alerts
		if err := json.NewDecoder(http.MaxBytesReader(w, request.Body, 1<<20)).Decode(&payload); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, alert := range payload.Alerts {
			if alert.Status == "firing" {
				events <- event.GenericEvent{Object: &appsv1.Deployment{
					ObjectMeta: metav1.ObjectMeta{Namespace: alert.Labels["namespace"], Name: alert.Labels["deployment"]},
				}}
			}
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	say(map[string]any{"event": "listening", "url": "http://" + listener.Addr().String()})
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = web.Close()
	}()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// runReconcile is the usual operator: leader election, a cache, a reconciler, a webhook that feeds it.
func runReconcile(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("reconcile", flag.ContinueOnError)
	prometheus := flags.String("prometheus", "", "URL of Prometheus")
	token := flags.String("token", "", "bearer token that the webhook asks for")
	namespace := flags.String("namespace", "default", "namespace of the leader's Lease")
	workers := flags.Int("workers", 1, "MaxConcurrentReconciles")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctrl.SetLogger(zap.New())
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.UserAgent = "peer-go"
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Metrics:                       server.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              "peer-go",
		LeaderElectionNamespace:       *namespace,
		LeaderElectionReleaseOnCancel: true,
		// Policies have no Go type here; they are read from the cache as typed objects would be.
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},
	})
	if err != nil {
		return err
	}
	prom, err := api.NewClient(api.Config{Address: *prometheus})
	if err != nil {
		return err
	}
	policy := &unstructured.Unstructured{}
	policy.SetGroupVersionKind(policyKind)
	// Warm before the first alert, as a watch of them would make it.
	for _, object := range []client.Object{policy, &appsv1.Deployment{}} {
		if _, err := mgr.GetCache().GetInformer(ctx, object); err != nil {
			return err
		}
	}
	events := make(chan event.GenericEvent)
	if err := ctrl.NewControllerManagedBy(mgr).
		Named("restarter").
		WatchesRawSource(source.Channel(events, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: *workers}).
		Complete(&restarter{Client: mgr.GetClient(), prometheus: promv1.NewAPI(prom)}); err != nil {
		return err
	}
	// Runs on the leader only, once the caches are in step.
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { return receive(ctx, *token, events) })); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
