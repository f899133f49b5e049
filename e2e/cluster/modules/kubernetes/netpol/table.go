package netpol

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// state is all that the table follows from.
type state struct {
	pods       []*corev1.Pod // those with an address of their own, by address
	namespaces map[string]labels.Set
	policies   []*netv1.NetworkPolicy
}

func newState(pods []*corev1.Pod, namespaces []*corev1.Namespace, policies []*netv1.NetworkPolicy) state {
	s := state{namespaces: map[string]labels.Set{}, policies: slices.Clone(policies)}
	for _, pod := range pods {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if pod.Status.PodIP != "" && !pod.Spec.HostNetwork && !ended {
			s.pods = append(s.pods, pod)
		}
	}
	slices.SortFunc(s.pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Status.PodIP, b.Status.PodIP) })
	slices.SortFunc(s.policies, func(a, b *netv1.NetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, namespace := range namespaces {
		s.namespaces[namespace.Name] = namespace.Labels
	}
	return s
}

// table is the nftables script. A chain for each pod and direction that a policy isolates lists what may pass; two maps
// lead to them by address.
//
// Its priority puts it before kube-proxy's filter and after the translation of Service addresses, so it sees the pod's
// address and the real sender. Probes come from the node itself and pass no forward hook. The API server is an address of
// this very node: what pods send there passes the input hook.
func (s state) table() string {
	var chains, ingress, egress strings.Builder
	for _, pod := range s.pods {
		in, out := s.rules(pod)
		in.write(&chains, &ingress, "ingress", pod)
		out.write(&chains, &egress, "egress", pod)
	}
	var hooks strings.Builder
	for _, hook := range []string{"forward", "input"} {
		fmt.Fprintf(&hooks, "  chain %s {\n    type filter hook %s priority filter - 5; policy accept;\n", hook, hook)
		hooks.WriteString("    ct state established,related accept\n")
		if egress.Len() > 0 {
			fmt.Fprintf(&hooks, "    ip saddr vmap { %s }\n", egress.String())
		}
		if ingress.Len() > 0 && hook == "forward" {
			fmt.Fprintf(&hooks, "    ip daddr vmap { %s }\n", ingress.String())
		}
		hooks.WriteString("  }\n")
	}
	// The empty table first: there may be none to delete.
	return "table ip netpol\ndelete table ip netpol\ntable ip netpol {\n" + chains.String() + hooks.String() + "}\n"
}

// direction is what policies say of one pod's traffic in one direction.
type direction struct {
	isolated bool
	allowed  []string
}

func (d direction) write(chains, byAddress *strings.Builder, name string, pod *corev1.Pod) {
	if !d.isolated {
		return
	}
	chain := name + "_" + strings.ReplaceAll(pod.Status.PodIP, ".", "_")
	fmt.Fprintf(byAddress, "%s : jump %s, ", pod.Status.PodIP, chain)
	fmt.Fprintf(chains, "  chain %s { # %s/%s\n", chain, pod.Namespace, pod.Name)
	for _, match := range d.allowed {
		fmt.Fprintf(chains, "    %sreturn\n", match)
	}
	chains.WriteString("    counter drop\n  }\n")
}

// rules gathers what all policies together allow the pod.
func (s state) rules(pod *corev1.Pod) (in, out direction) {
	for _, policy := range s.policies {
		if policy.Namespace != pod.Namespace || !selects(&policy.Spec.PodSelector, pod.Labels) {
			continue
		}
		in.isolated = in.isolated || slices.Contains(policy.Spec.PolicyTypes, netv1.PolicyTypeIngress)
		out.isolated = out.isolated || slices.Contains(policy.Spec.PolicyTypes, netv1.PolicyTypeEgress)
		for _, rule := range policy.Spec.Ingress {
			ports := portMatches(rule.Ports, []*corev1.Pod{pod})
			in.allowed = append(in.allowed, combine(s.peerMatches("saddr", policy.Namespace, rule.From), ports)...)
		}
		for _, rule := range policy.Spec.Egress {
			ports := portMatches(rule.Ports, s.pods)
			out.allowed = append(out.allowed, combine(s.peerMatches("daddr", policy.Namespace, rule.To), ports)...)
		}
	}
	return in, out
}

func combine(peers, ports []string) (matches []string) {
	for _, peer := range peers {
		for _, port := range ports {
			matches = append(matches, peer+port)
		}
	}
	return matches
}

// peerMatches is the address part of a rule: no peers stand for anybody, peers that select nothing for nobody.
func (s state) peerMatches(field, namespace string, peers []netv1.NetworkPolicyPeer) (matches []string) {
	if len(peers) == 0 {
		return []string{""}
	}
	for _, peer := range peers {
		if block := peer.IPBlock; block != nil {
			match := fmt.Sprintf("ip %s %s ", field, block.CIDR)
			if len(block.Except) > 0 {
				match += fmt.Sprintf("ip %s != { %s } ", field, strings.Join(block.Except, ", "))
			}
			matches = append(matches, match)
			continue
		}
		var addresses []string
		for _, pod := range s.pods {
			if s.isPeer(peer, namespace, pod) {
				addresses = append(addresses, pod.Status.PodIP)
			}
		}
		if len(addresses) > 0 {
			matches = append(matches, fmt.Sprintf("ip %s { %s } ", field, strings.Join(addresses, ", ")))
		}
	}
	return matches
}

// isPeer follows the API: without a namespace selector the policy's own namespace is meant.
func (s state) isPeer(peer netv1.NetworkPolicyPeer, namespace string, pod *corev1.Pod) bool {
	if peer.NamespaceSelector == nil && pod.Namespace != namespace {
		return false
	}
	return selectsOrNil(peer.NamespaceSelector, s.namespaces[pod.Namespace]) && selectsOrNil(peer.PodSelector, pod.Labels)
}

// portMatches is the port part of a rule. A name is the receiver's: each of them may give it another number.
func portMatches(ports []netv1.NetworkPolicyPort, receivers []*corev1.Pod) (matches []string) {
	if len(ports) == 0 {
		return []string{""}
	}
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		transport := strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			matches = append(matches, "meta l4proto "+transport+" ")
		case port.Port.StrVal != "":
			for _, pod := range receivers {
				for _, number := range portsNamed(port.Port.StrVal, protocol, pod) {
					matches = append(matches, fmt.Sprintf("ip daddr %s %s dport %d ", pod.Status.PodIP, transport, number))
				}
			}
		case port.EndPort != nil:
			matches = append(matches, fmt.Sprintf("%s dport %d-%d ", transport, port.Port.IntVal, *port.EndPort))
		default:
			matches = append(matches, fmt.Sprintf("%s dport %d ", transport, port.Port.IntVal))
		}
	}
	return matches
}

// portsNamed looks at the init containers as well: a sidecar is one.
func portsNamed(name string, protocol corev1.Protocol, pod *corev1.Pod) (numbers []int32) {
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			if port.Name == name && cmp.Or(port.Protocol, corev1.ProtocolTCP) == protocol {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}

func selectsOrNil(selector *metav1.LabelSelector, set labels.Set) bool {
	return selector == nil || selects(selector, set)
}

func selects(selector *metav1.LabelSelector, set labels.Set) bool {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && parsed.Matches(set)
}
