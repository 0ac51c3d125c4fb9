package main

import (
	"encoding/json"

	"github.com/hashicorp/terraform-plugin-go/tfprotov5"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// The one data source that computes something: a policy as JSON, from its statements. A plan holds it once all it needs is known.
func policyDocument(schema *tfprotov5.Schema, config *tfprotov5.DynamicValue) (*tfprotov5.ReadDataSourceResponse, error) {
	whole := schema.ValueType()
	value, err := config.Unmarshal(whole)
	if err != nil {
		return nil, err
	}
	fields := object(value)
	statements := []map[string]any{}
	for _, each := range list(fields["statement"]) {
		statements = append(statements, statement(object(each)))
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"json", "minified_json"} {
		fields[name] = tftypes.NewValue(tftypes.String, string(text))
	}
	fields["id"] = tftypes.NewValue(tftypes.String, "policy")
	state, err := tfprotov5.NewDynamicValue(whole, tftypes.NewValue(whole, fields))
	return &tfprotov5.ReadDataSourceResponse{State: &state}, err
}

func statement(fields map[string]tftypes.Value) map[string]any {
	to := map[string]any{"Effect": "Allow"}
	for name, key := range map[string]string{"sid": "Sid", "effect": "Effect"} {
		if word := text(fields[name]); word != "" {
			to[key] = word
		}
	}
	for name, key := range map[string]string{"actions": "Action", "not_actions": "NotAction", "resources": "Resource", "not_resources": "NotResource"} {
		if words := texts(fields[name]); len(words) > 0 {
			to[key] = words
		}
	}
	if principals := map[string]any{}; len(list(fields["principals"])) > 0 {
		for _, each := range list(fields["principals"]) {
			principals[text(object(each)["type"])] = texts(object(each)["identifiers"])
		}
		to["Principal"] = principals
		if words, is := principals["*"].([]string); is && len(words) == 1 && words[0] == "*" {
			to["Principal"] = "*"
		}
	}
	conditions := map[string]map[string][]string{}
	for _, each := range list(fields["condition"]) {
		one := object(each)
		if conditions[text(one["test"])] == nil {
			conditions[text(one["test"])] = map[string][]string{}
		}
		conditions[text(one["test"])][text(one["variable"])] = texts(one["values"])
	}
	if len(conditions) > 0 {
		to["Condition"] = conditions
	}
	return to
}

// A value that is null or of another type is as good as an empty one.
func object(value tftypes.Value) map[string]tftypes.Value {
	fields := map[string]tftypes.Value{}
	_ = value.As(&fields)
	return fields
}

func list(value tftypes.Value) []tftypes.Value {
	var items []tftypes.Value
	_ = value.As(&items)
	return items
}

func text(value tftypes.Value) string {
	var word string
	_ = value.As(&word)
	return word
}

func texts(value tftypes.Value) []string {
	words := []string{}
	for _, each := range list(value) {
		words = append(words, text(each))
	}
	return words
}
