package main

import (
	"context"
	"errors"
	"flag"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// marker is the annotation by which the bench sees how far a client has come.
const marker = "nightshift.dev/marker"

// runInformer keeps all pods and nodes in client-go's informers, and says when they are whole and when it meets a marker.
func runInformer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("informer", flag.ContinueOnError)
	server := flags.String("server", "", "URL of the API server")
	trim := flags.Bool("trim", false, "drop managedFields before objects are stored, as controller-runtime's DefaultTransform can")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: *server, UserAgent: "peer-go"})
	if err != nil {
		return err
	}
	var options []informers.SharedInformerOption
	if *trim {
		options = append(options, informers.WithTransform(dropManagedFields))
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, options...)
	pods := factory.Core().V1().Pods()
	nodes := factory.Core().V1().Nodes()
	meet := func(object any) {
		if pod, ok := object.(*corev1.Pod); ok {
			if value, ok := pod.Annotations[marker]; ok {
				say(map[string]any{"event": "marker", "value": value})
			}
		}
	}
	if _, err := pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    meet,
		UpdateFunc: func(_, object any) { meet(object) },
	}); err != nil {
		return err
	}
	nodes.Informer()
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return errors.New(kind.String() + " did not come to be in step")
		}
	}
	say(map[string]any{
		"event": "synced",
		"pods":  len(pods.Informer().GetStore().ListKeys()),
		"nodes": len(nodes.Informer().GetStore().ListKeys()),
	})
	<-ctx.Done()
	return nil
}

func dropManagedFields(object any) (any, error) {
	switch object := object.(type) {
	case *corev1.Pod:
		object.ManagedFields = nil
	case *corev1.Node:
		object.ManagedFields = nil
	}
	return object, nil
}
