// Kubecheck reads Kubernetes manifests as the API server would, by the types of
// its own modules: a key that a kind does not have, a value of another type or a
// kind that nobody knows is an error. It is a module of its own, so that the
// program's dependencies do not grow by Kubernetes'.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

func main() {
	decoder, err := strict(apps.AddToScheme, core.AddToScheme, monitoring.AddToScheme)
	if err != nil {
		fail(err)
	}
	for _, file := range os.Args[1:] {
		if err := check(decoder, file); err != nil {
			fail(fmt.Errorf("%s: %w", file, err))
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// strict returns a decoder that knows what add adds, and refuses all else.
func strict(add ...func(*runtime.Scheme) error) (runtime.Decoder, error) {
	scheme := runtime.NewScheme()
	for _, a := range add {
		if err := a(scheme); err != nil {
			return nil, err
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(), nil
}

// check decodes every document of a file, and prints what it is.
func check(decoder runtime.Decoder, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	documents := yaml.NewYAMLReader(bufio.NewReader(f))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", file, kind)
	}
}
