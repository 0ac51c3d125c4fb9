// manifests prints, as one JSON document, what Compose files and kustomizations mean.
//
//	manifests compose DIR [NAME=VALUE]...   the project of the Compose file in DIR, as `docker compose` would load it: includes,
//	                                        profiles (COMPOSE_PROFILES) and variables resolved. With the variables
//	                                        given, nothing of the environment or of a .env is heard.
//	manifests kustomize DIR                 the objects that `kubectl apply -k DIR` would send
//	manifests yaml FILE                     any other YAML file
//
// The loaders are those of docker compose and kubectl themselves. An error is one line on stderr and code 1.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 2 {
		return fmt.Errorf("expected compose DIR, kustomize DIR or yaml FILE, found %q", arguments)
	}
	document, err := load(arguments[0], arguments[1], arguments[2:])
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	return encoder.Encode(document)
}

func load(verb, path string, variables []string) (any, error) {
	switch verb {
	case "compose":
		return compose(path, variables)
	case "kustomize":
		return kustomize(path)
	case "yaml":
		return anyYaml(path)
	default:
		return nil, fmt.Errorf("expected compose, kustomize or yaml, found %q", verb)
	}
}

// compose keeps the services that profiles leave out under "disabled".
func compose(folder string, variables []string) (any, error) {
	options, err := cli.NewProjectOptions(nil,
		cli.WithWorkingDirectory(folder),
		cli.WithEnv(variables),
		cli.WithDefaultConfigPath,
		cli.WithDefaultProfiles(),
	)
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(project)
	if err != nil {
		return nil, err
	}
	model := map[string]any{}
	if err := json.Unmarshal(encoded, &model); err != nil {
		return nil, err
	}
	model["disabled"] = names(project.DisabledServices)
	return model, nil
}

func names(services types.Services) []string {
	found := []string{}
	for name := range services {
		found = append(found, name)
	}
	return found
}

func kustomize(folder string) (any, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return nil, err
	}
	objects := []any{}
	for _, resource := range resources.Resources() {
		object, err := resource.Map()
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func anyYaml(path string) (any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var document any
	return document, yaml.UnmarshalStrict(text, &document)
}
