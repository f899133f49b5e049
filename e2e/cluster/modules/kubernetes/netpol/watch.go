// Package netpol enforces NetworkPolicy on a cluster's only node, in place of a network plugin that could: it keeps one
// nftables table equal to what all pods, namespaces and policies say. IPv4; pod, namespace and ipBlock peers; numbered,
// ranged and named ports.
package netpol

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// NewCommand is the program kube-netpol.
func NewCommand() *cobra.Command {
	var kubeconfig string
	command := &cobra.Command{
		Use:          "kube-netpol",
		Short:        "Enforces NetworkPolicy on the node it runs on",
		SilenceUsage: true,
		RunE:         func(c *cobra.Command, _ []string) error { return run(c.Context(), kubeconfig) },
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	return command
}

// run enforces until the context ends.
func run(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	read := reader(factory)
	changed, err := changes(
		factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Namespaces().Informer(),
		factory.Networking().V1().NetworkPolicies().Informer(),
	)
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for enforced := ""; ; {
		state, err := read()
		if err != nil {
			return err
		}
		if table := state.table(); table != enforced {
			if err := load(ctx, table); err != nil {
				klog.ErrorS(err, "table not loaded", "table", table)
				time.Sleep(time.Second)
				continue
			}
			enforced = table
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// reader gives the state of the informers' caches. It is called before they start, so that they know of it.
func reader(factory informers.SharedInformerFactory) func() (state, error) {
	pods := factory.Core().V1().Pods().Lister()
	namespaces := factory.Core().V1().Namespaces().Lister()
	policies := factory.Networking().V1().NetworkPolicies().Lister()
	return func() (state, error) {
		p, podsErr := pods.List(labels.Everything())
		n, namespacesErr := namespaces.List(labels.Everything())
		l, policiesErr := policies.List(labels.Everything())
		return newState(p, n, l), errors.Join(podsErr, namespacesErr, policiesErr)
	}
}

// changes receives after any event. One waiting token stands for all that came in the meantime.
func changes(sources ...cache.SharedIndexInformer) (<-chan struct{}, error) {
	changed := make(chan struct{}, 1)
	mark := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, source := range sources {
		_, err := source.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { mark() },
			UpdateFunc: func(any, any) { mark() },
			DeleteFunc: func(any) { mark() },
		})
		if err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// load replaces the table in one transaction: no packet meets half of it.
func load(ctx context.Context, table string) error {
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(table)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	return nil
}
