"""A real single-node Kubernetes for the tests, on a Linux machine without a container engine.

The tests of `rollama.cluster`, the image and the chart are worth something only against a real API server, a real
kubelet and a real KubeRay. Where no cluster is at hand, this package makes one: `python -m infra.cluster up` builds the
programs from their Go modules (once, into a cache outside the checkout), starts etcd, the control plane, containerd and
kubelet as ordinary processes, and runs CoreDNS, the KubeRay operator and an S3 server as pods. `down` removes every
process, mount, interface and firewall rule that `up` made.

With a cluster of your own, set ROLLAMA_KUBECONFIG and none of this is used.
"""
