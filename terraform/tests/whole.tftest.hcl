mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:log-processor" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/log-processor" }
  }

  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/smartlog-exporter" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-west-1:123456789012:log-processor-failures" }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-west-1:123456789012:log-processor-alerts" }
  }
}

mock_provider "aws" {
  alias = "us_east_1"

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:smartlog-monthly-billing" }
  }
}

variables {
  owner        = "somebody"
  alert_email  = "somebody@example.com"
  function_zip = "tests/nothing.zip"
}

run "names" {
  assert {
    condition     = output.bucket != "" && output.export_target == "s3://${output.bucket}/" && output.region == "eu-west-1"
    error_message = "The outputs must say where to export to."
  }

  assert {
    condition     = output.table_billing == "on_demand"
    error_message = "The estimate of costs must be told how the tables are billed."
  }

  assert {
    condition     = output.function == "log-processor" && output.summaries_table == "daily_summaries" && output.budget == "smartlog-monthly"
    error_message = "Names that others rely on must not change."
  }

  assert {
    condition     = strcontains(terraform_data.what_a_destroy_loses.input, "s3://smart-log-analyzer-logs-somebody/") && strcontains(terraform_data.what_a_destroy_loses.input, "It is refused")
    error_message = "The plan of a destroy must say what it loses."
  }
}

run "budget_and_billing_alarm" {
  assert {
    condition = output.alerts.budget == "1 USD MONTHLY" && toset(output.alerts.notices) == toset([
      "ACTUAL above 50 PERCENTAGE to somebody@example.com", "ACTUAL above 80 PERCENTAGE to somebody@example.com",
      "ACTUAL above 100 PERCENTAGE to somebody@example.com", "FORECASTED above 100 PERCENTAGE to somebody@example.com",
    ])
    error_message = "Notices about 1 USD must go out at 50, 80 and 100 %, and when the month is forecast to exceed it."
  }

  assert {
    condition = (
      output.alerts.charges_alarm == "EstimatedCharges above 1" &&
      tolist(output.alerts.charges_topics) == tolist(["arn:aws:sns:us-east-1:123456789012:smartlog-monthly-billing"])
    )
    error_message = "The billing alarm must watch the charges and publish to the topic in us-east-1."
  }
}

run "nobody_reads_the_alert" {
  command = plan

  variables {
    alert_email = "nobody"
  }

  expect_failures = [var.alert_email]
}

run "provisioned_tables" {
  command = plan

  variables {
    table_billing_mode = "PROVISIONED"
  }

  assert {
    condition     = output.table_billing == "provisioned"
    error_message = "The estimate of costs must be told how the tables are billed."
  }
}

run "function_not_built" {
  command = plan

  variables {
    function_zip = "tests/no-such.zip"
  }

  expect_failures = [var.function_zip]
}

run "prefix_without_slash" {
  command = plan

  variables {
    prefix = "lake"
  }

  expect_failures = [var.prefix]
}

run "earlier_than_s3_allows" {
  command = plan

  variables {
    transition_days = 7
  }

  expect_failures = [var.transition_days]
}
