//go:build tools

// Package tools pins the commands that the test cluster is built from.
package tools

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
