// Command peer is what Nightshift's speed is measured beside: the same work done by client-go and controller-runtime, the
// way their guides show it and with their defaults.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `peer reconcile|informer|queue [flags]

  reconcile  a controller-runtime reconciler that restarts Deployments on alerts
  informer   client-go's informers for pods and nodes
  queue      reconciles a second through controller-runtime's controller
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	modes := map[string]func(context.Context, []string) error{"reconcile": runReconcile, "informer": runInformer, "queue": runQueue}
	mode, ok := modes[os.Args[1]]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := mode(ctx, os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "peer %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// say tells the bench what happened, as one line of JSON.
func say(fields map[string]any) {
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}
