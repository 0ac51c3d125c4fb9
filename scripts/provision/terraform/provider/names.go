package main

import (
	"fmt"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// The account of the stand-ins; local AWS endpoints use the same.
const account = "123456789012"

// ARNs, ids and addresses that follow from names. With them a plan shows every policy in full, so that what it would create can
// be created elsewhere from its JSON. NAME is the attribute that they are made of.
var made = map[string]struct{ name, arn, id string }{
	"aws_cloudwatch_log_group": {"name", "arn:aws:logs:%[1]s:%[2]s:log-group:%[3]s", "%[3]s"},
	"aws_dynamodb_table":       {"name", "arn:aws:dynamodb:%[1]s:%[2]s:table/%[3]s", "%[3]s"},
	"aws_iam_policy":           {"name", "arn:aws:iam::%[2]s:policy/%[3]s", "arn:aws:iam::%[2]s:policy/%[3]s"},
	"aws_iam_role":             {"name", "arn:aws:iam::%[2]s:role/%[3]s", "%[3]s"},
	"aws_iam_user":             {"name", "arn:aws:iam::%[2]s:user/%[3]s", "%[3]s"},
	"aws_lambda_function":      {"function_name", "arn:aws:lambda:%[1]s:%[2]s:function:%[3]s", "%[3]s"},
	"aws_lambda_permission":    {"statement_id", "", "%[3]s"},
	"aws_s3_bucket":            {"bucket", "arn:aws:s3:::%[3]s", "%[3]s"},
	"aws_sns_topic":            {"name", "arn:aws:sns:%[1]s:%[2]s:%[3]s", "arn:aws:sns:%[1]s:%[2]s:%[3]s"},
	"aws_sqs_queue":            {"name", "arn:aws:sqs:%[1]s:%[2]s:%[3]s", "https://sqs.%[1]s.amazonaws.com/%[2]s/%[3]s"},
}

// predict sets the region, and what follows from the name of a resource, where the name itself is known.
func (s *server) predict(resource string, fields map[string]tftypes.Value) {
	if value, has := fields["region"]; has && (value.IsNull() || !value.IsKnown()) {
		fields["region"] = tftypes.NewValue(tftypes.String, s.region)
	}
	rule, is := made[resource]
	name := text(fields[rule.name])
	if !is || name == "" {
		return
	}
	set := func(attribute, pattern string) {
		if value, has := fields[attribute]; has && pattern != "" && (value.IsNull() || !value.IsKnown()) {
			fields[attribute] = tftypes.NewValue(tftypes.String, fmt.Sprintf(pattern+"%.0[1]s%.0[2]s%.0[3]s", s.region, account, name))
		}
	}
	set("arn", rule.arn)
	set("id", rule.id)
	set("url", rule.id)
}
