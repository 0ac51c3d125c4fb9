// A provider that knows only a schema: Terraform's own init, validate, plan, test and a dry apply run against it where the real
// one cannot be fetched. It reads schema.json from the folder of its executable.
//
// What it leaves unchecked: what the real provider checks beyond its schema, and everything that AWS itself says.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"path/filepath"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tfprotov5/tf5server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type attribute struct {
	Type                         any
	Required, Optional, Computed bool
}

type nested struct {
	Nesting  string
	MinItems int64 `json:"min_items"`
	MaxItems int64 `json:"max_items"`
	Block    block
}

type block struct {
	Attributes map[string]attribute
	Blocks     map[string]nested
}

type document struct {
	Source          string // such as hashicorp/aws
	Provider        block
	Resources, Data map[string]block
}

var nestings = map[string]tfprotov5.SchemaNestedBlockNestingMode{
	"list":   tfprotov5.SchemaNestedBlockNestingModeList,
	"set":    tfprotov5.SchemaNestedBlockNestingModeSet,
	"single": tfprotov5.SchemaNestedBlockNestingModeSingle,
}

func terraformType(name any) tftypes.Type {
	if pair, is := name.([]any); is {
		element := terraformType(pair[1])
		switch pair[0] {
		case "list":
			return tftypes.List{ElementType: element}
		case "set":
			return tftypes.Set{ElementType: element}
		case "map":
			return tftypes.Map{ElementType: element}
		}
	}
	switch name {
	case "string":
		return tftypes.String
	case "number":
		return tftypes.Number
	case "bool":
		return tftypes.Bool
	}
	return tftypes.DynamicPseudoType
}

func schemaBlock(from block) *tfprotov5.SchemaBlock {
	to := &tfprotov5.SchemaBlock{}
	for name, a := range from.Attributes {
		to.Attributes = append(to.Attributes, &tfprotov5.SchemaAttribute{
			Name: name, Type: terraformType(a.Type), Required: a.Required, Optional: a.Optional, Computed: a.Computed,
		})
	}
	for name, b := range from.Blocks {
		to.BlockTypes = append(to.BlockTypes, &tfprotov5.SchemaNestedBlock{
			TypeName: name, Nesting: nestings[b.Nesting], MinItems: b.MinItems, MaxItems: b.MaxItems, Block: schemaBlock(b.Block),
		})
	}
	return to
}

func schemas(from map[string]block) map[string]*tfprotov5.Schema {
	to := map[string]*tfprotov5.Schema{}
	for name, b := range from {
		to[name] = &tfprotov5.Schema{Block: schemaBlock(b)}
	}
	return to
}

type server struct {
	tfprotov5.ProviderServer
	document        document
	provider        *tfprotov5.Schema
	resources, data map[string]*tfprotov5.Schema
	region          string
}

func (s *server) GetMetadata(context.Context, *tfprotov5.GetMetadataRequest) (*tfprotov5.GetMetadataResponse, error) {
	answer := &tfprotov5.GetMetadataResponse{ServerCapabilities: &tfprotov5.ServerCapabilities{}}
	for name := range s.resources {
		answer.Resources = append(answer.Resources, tfprotov5.ResourceMetadata{TypeName: name})
	}
	for name := range s.data {
		answer.DataSources = append(answer.DataSources, tfprotov5.DataSourceMetadata{TypeName: name})
	}
	return answer, nil
}

func (s *server) GetProviderSchema(context.Context, *tfprotov5.GetProviderSchemaRequest) (*tfprotov5.GetProviderSchemaResponse, error) {
	return &tfprotov5.GetProviderSchemaResponse{
		Provider: s.provider, ResourceSchemas: s.resources, DataSourceSchemas: s.data,
		ServerCapabilities: &tfprotov5.ServerCapabilities{},
	}, nil
}

func (s *server) GetResourceIdentitySchemas(context.Context, *tfprotov5.GetResourceIdentitySchemasRequest) (*tfprotov5.GetResourceIdentitySchemasResponse, error) {
	return &tfprotov5.GetResourceIdentitySchemasResponse{}, nil
}

func (s *server) GetFunctions(context.Context, *tfprotov5.GetFunctionsRequest) (*tfprotov5.GetFunctionsResponse, error) {
	return &tfprotov5.GetFunctionsResponse{}, nil
}

func (s *server) PrepareProviderConfig(_ context.Context, q *tfprotov5.PrepareProviderConfigRequest) (*tfprotov5.PrepareProviderConfigResponse, error) {
	return &tfprotov5.PrepareProviderConfigResponse{PreparedConfig: q.Config}, nil
}

func (s *server) ConfigureProvider(_ context.Context, q *tfprotov5.ConfigureProviderRequest) (*tfprotov5.ConfigureProviderResponse, error) {
	value, err := q.Config.Unmarshal(s.provider.ValueType())
	if err != nil {
		return nil, err
	}
	s.region = text(object(value)["region"])
	return &tfprotov5.ConfigureProviderResponse{}, nil
}

func (s *server) StopProvider(context.Context, *tfprotov5.StopProviderRequest) (*tfprotov5.StopProviderResponse, error) {
	return &tfprotov5.StopProviderResponse{}, nil
}

func (s *server) ValidateResourceTypeConfig(context.Context, *tfprotov5.ValidateResourceTypeConfigRequest) (*tfprotov5.ValidateResourceTypeConfigResponse, error) {
	return &tfprotov5.ValidateResourceTypeConfigResponse{}, nil
}

func (s *server) ValidateDataSourceConfig(context.Context, *tfprotov5.ValidateDataSourceConfigRequest) (*tfprotov5.ValidateDataSourceConfigResponse, error) {
	return &tfprotov5.ValidateDataSourceConfigResponse{}, nil
}

func (s *server) UpgradeResourceState(_ context.Context, q *tfprotov5.UpgradeResourceStateRequest) (*tfprotov5.UpgradeResourceStateResponse, error) {
	of := s.resources[q.TypeName].ValueType()
	value, err := q.RawState.Unmarshal(of)
	if err != nil {
		return nil, err
	}
	state, err := tfprotov5.NewDynamicValue(of, value)
	return &tfprotov5.UpgradeResourceStateResponse{UpgradedState: &state}, err
}

func (s *server) ReadResource(_ context.Context, q *tfprotov5.ReadResourceRequest) (*tfprotov5.ReadResourceResponse, error) {
	return &tfprotov5.ReadResourceResponse{NewState: q.CurrentState}, nil
}

func (s *server) PlanResourceChange(_ context.Context, q *tfprotov5.PlanResourceChangeRequest) (*tfprotov5.PlanResourceChangeResponse, error) {
	state, err := s.fill(q.TypeName, s.document.Resources[q.TypeName], s.resources[q.TypeName], q.ProposedNewState, unknown)
	return &tfprotov5.PlanResourceChangeResponse{PlannedState: state}, err
}

func (s *server) ApplyResourceChange(_ context.Context, q *tfprotov5.ApplyResourceChangeRequest) (*tfprotov5.ApplyResourceChangeResponse, error) {
	state, err := s.fill(q.TypeName, s.document.Resources[q.TypeName], s.resources[q.TypeName], q.PlannedState, standIn)
	return &tfprotov5.ApplyResourceChangeResponse{NewState: state}, err
}

func (s *server) ReadDataSource(_ context.Context, q *tfprotov5.ReadDataSourceRequest) (*tfprotov5.ReadDataSourceResponse, error) {
	if q.TypeName == "aws_iam_policy_document" {
		return policyDocument(s.data[q.TypeName], q.Config)
	}
	state, err := s.fill(q.TypeName, s.document.Data[q.TypeName], s.data[q.TypeName], q.Config, standIn)
	return &tfprotov5.ReadDataSourceResponse{State: state}, err
}

// What a computed attribute that nobody set becomes.
type filling func(name string, of attribute) tftypes.Value

func unknown(_ string, of attribute) tftypes.Value {
	return tftypes.NewValue(terraformType(of.Type), tftypes.UnknownValue)
}

func standIn(name string, of attribute) tftypes.Value {
	switch {
	case name == "account_id":
		return tftypes.NewValue(tftypes.String, account)
	case of.Type == "string":
		return tftypes.NewValue(tftypes.String, "stand-in-"+name)
	}
	return tftypes.NewValue(terraformType(of.Type), nil)
}

func (s *server) fill(resource string, of block, schema *tfprotov5.Schema, from *tfprotov5.DynamicValue, with filling) (*tfprotov5.DynamicValue, error) {
	whole := schema.ValueType()
	value, err := from.Unmarshal(whole)
	if err != nil || value.IsNull() {
		return from, err
	}
	fields := map[string]tftypes.Value{}
	if err = value.As(&fields); err != nil {
		return nil, err
	}
	s.predict(resource, fields)
	for name, a := range of.Attributes {
		if a.Computed && (fields[name].IsNull() || !fields[name].IsKnown()) {
			fields[name] = with(name, a)
		}
	}
	filled, err := tfprotov5.NewDynamicValue(whole, tftypes.NewValue(whole, fields))
	return &filled, err
}

func main() {
	executable, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(executable), "schema.json"))
	if err != nil {
		log.Fatal(err)
	}
	s := &server{}
	if err = json.Unmarshal(text, &s.document); err != nil {
		log.Fatal(err)
	}
	s.provider = &tfprotov5.Schema{Block: schemaBlock(s.document.Provider)}
	s.resources, s.data = schemas(s.document.Resources), schemas(s.document.Data)
	if err = tf5server.Serve(s.document.Source, func() tfprotov5.ProviderServer { return s }); err != nil {
		log.Fatal(err)
	}
}
