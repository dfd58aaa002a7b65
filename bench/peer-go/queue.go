package main

import (
	"context"
	"flag"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// runQueue adds keys to a controller's queue and says how long it took until each was reconciled once; the reconciler
// only counts. One round warms up.
func runQueue(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("queue", flag.ContinueOnError)
	keys := flags.Int("keys", 100_000, "keys a round")
	rounds := flags.Int("rounds", 5, "rounds that are told of")
	workers := flags.Int("workers", 1, "MaxConcurrentReconciles")
	if err := flags.Parse(args); err != nil {
		return err
	}
	requests := make([]reconcile.Request, *keys)
	for i := range requests {
		requests[i] = reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "default", Name: "workload-" + strconv.Itoa(i)}}
	}
	var done atomic.Int64
	whole := make(chan struct{}, 1)
	queues := make(chan workqueue.TypedRateLimitingInterface[reconcile.Request], 1)
	reconciler := reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
		if done.Add(1) == int64(*keys) {
			whole <- struct{}{}
		}
		return reconcile.Result{}, nil
	})
	bench, err := controller.NewTypedUnmanaged("bench", controller.Options{Reconciler: reconciler, MaxConcurrentReconciles: *workers})
	if err != nil {
		return err
	}
	if err := bench.Watch(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queues <- queue
		return nil
	})); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- bench.Start(ctx) }()
	queue := <-queues
	for round := range *rounds + 1 {
		done.Store(0)
		begin := time.Now()
		for _, request := range requests {
			queue.Add(request)
		}
		select {
		case <-whole:
		case err := <-ended:
			return err
		}
		if round > 0 {
			say(map[string]any{"event": "round", "seconds": time.Since(begin).Seconds()})
		}
	}
	stop()
	return <-ended
}
