mock_provider "aws" {
  override_data {
    target = data.aws_iam_policy_document.exporter
    values = { json = "{}" }
  }

  override_data {
    target = data.aws_iam_policy_document.assume
    values = { json = "{}" }
  }

  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "123456789012" }
  }

  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/smartlog-exporter" }
  }
}

variables {
  bucket_arn              = "arn:aws:s3:::smart-log-analyzer-logs-somebody"
  prefix                  = "lake/"
  summaries_table_arn     = "arn:aws:dynamodb:eu-west-1:123456789012:table/daily_summaries"
  contributions_table_arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/summary_contributions"
  function_arn            = "arn:aws:lambda:eu-west-1:123456789012:function:log-processor"
}

run "tables" {
  command = plan

  module {
    source = "./modules/summaries"
  }

  assert {
    condition = (
      aws_dynamodb_table.summaries.name == "daily_summaries" &&
      aws_dynamodb_table.summaries.hash_key == "date" && aws_dynamodb_table.summaries.range_key == "service" &&
      aws_dynamodb_table.summaries.billing_mode == "PAY_PER_REQUEST" &&
      toset([for a in aws_dynamodb_table.summaries.attribute : "${a.name}:${a.type}"]) == toset(["date:S", "service:S"])
    )
    error_message = "daily_summaries must have the key (date, service) and be paid per request."
  }

  assert {
    condition     = aws_dynamodb_table.contributions.hash_key == "object" && aws_dynamodb_table.contributions.range_key == "part"
    error_message = "summary_contributions must have the key (object, part)."
  }

  assert {
    condition     = aws_dynamodb_table.summaries.deletion_protection_enabled && aws_dynamodb_table.contributions.deletion_protection_enabled
    error_message = "Tables must be protected unless asked otherwise."
  }
}

run "tables_for_nothing" {
  command = plan

  module {
    source = "./modules/summaries"
  }

  variables {
    billing_mode        = "PROVISIONED"
    deletion_protection = false
  }

  assert {
    condition     = aws_dynamodb_table.summaries.write_capacity + aws_dynamodb_table.contributions.write_capacity <= 25
    error_message = "Both tables together must stay within the free 25 units."
  }

  assert {
    condition     = !aws_dynamodb_table.summaries.deletion_protection_enabled
    error_message = "Told so, the tables must be deletable."
  }
}

run "what_the_exporter_may_do" {
  module {
    source = "./modules/exporter"
  }

  assert {
    condition = toset(one([for s in data.aws_iam_policy_document.exporter.statement : s.actions if s.sid == "WriteFiles"])) == toset([
      "s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject",
    ])
    error_message = "The exporter may write, read, delete and abort."
  }

  assert {
    condition     = one([for s in data.aws_iam_policy_document.exporter.statement : toset(s.resources) if s.sid == "WriteFiles"]) == toset(["${var.bucket_arn}/lake/logs/*", "${var.bucket_arn}/lake/anomalies/*"])
    error_message = "It may do so below the prefix alone."
  }

  assert {
    condition     = one([for s in data.aws_iam_policy_document.exporter.statement : one(s.resources) if contains(s.actions, "dynamodb:Query")]) == var.contributions_table_arn
    error_message = "Of the tables it may read what the function used, nothing else."
  }

  assert {
    condition = !anytrue([for a in flatten([for s in data.aws_iam_policy_document.exporter.statement : s.actions]) :
      strcontains(a, "*") || startswith(a, "iam:") || can(regex("^dynamodb:(Put|Update|Delete|Batch)", a))
    ])
    error_message = "It may change no table, no right, and nothing by a wildcard."
  }

  assert {
    condition     = aws_iam_role_policy_attachment.exporter.policy_arn == aws_iam_policy.exporter.arn && length(aws_iam_user.exporter) == 0
    error_message = "The role must have the policy; a user is made only when asked for."
  }
}

run "an_exporter_outside_of_aws" {
  module {
    source = "./modules/exporter"
  }

  variables {
    create_user = true
  }

  assert {
    condition     = aws_iam_user_policy_attachment.exporter[0].user == aws_iam_user.exporter[0].name && aws_iam_user_policy_attachment.exporter[0].policy_arn == aws_iam_policy.exporter.arn
    error_message = "The user must have the same policy."
  }
}
