mock_provider "aws" {
  override_data {
    target = data.aws_iam_policy_document.assume
    values = { json = "{}" }
  }

  override_data {
    target = data.aws_iam_policy_document.function
    values = { json = "{}" }
  }

  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "123456789012" }
  }

  # What the real provider checks the form of.
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/log-processor" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-west-1:123456789012:log-processor-failures" }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-west-1:123456789012:log-processor-alerts" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/log-processor" }
  }
}

variables {
  zip                     = "tests/nothing.zip"
  bucket_name             = "smart-log-analyzer-logs-somebody"
  prefix                  = "lake/"
  summaries_table_name    = "daily_summaries"
  summaries_table_arn     = "arn:aws:dynamodb:eu-west-1:123456789012:table/daily_summaries"
  contributions_name      = "summary_contributions"
  contributions_table_arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/summary_contributions"
  alert_email             = "somebody@example.com"
}

run "the_function" {
  module {
    source = "./modules/function"
  }

  assert {
    condition = (
      aws_lambda_function.log_processor.function_name == "log-processor" &&
      aws_lambda_function.log_processor.runtime == "provided.al2023" &&
      aws_lambda_function.log_processor.handler == "bootstrap" &&
      one(aws_lambda_function.log_processor.architectures) == "arm64" &&
      aws_lambda_function.log_processor.memory_size == 256
    )
    error_message = "log-processor must be an arm64 bootstrap on provided.al2023 with 256 MB."
  }

  assert {
    condition = one(aws_lambda_function.log_processor.environment).variables == tomap({
      SMARTLOG_SUMMARIES_TABLE     = "daily_summaries"
      SMARTLOG_CONTRIBUTIONS_TABLE = "summary_contributions"
      SMARTLOG_EXPORT_PREFIX       = "lake/"
    })
    error_message = "The function must know its tables."
  }

  assert {
    condition     = aws_lambda_function.log_processor.role == aws_iam_role.function.arn && aws_iam_role_policy.function.role == aws_iam_role.function.id
    error_message = "The function must run as its own role."
  }

  assert {
    condition     = aws_cloudwatch_log_group.function.name == "/aws/lambda/log-processor" && aws_cloudwatch_log_group.function.retention_in_days == 14
    error_message = "Log lines must go after two weeks."
  }
}

run "who_may_call_it" {
  module {
    source = "./modules/function"
  }

  assert {
    condition = (
      aws_lambda_permission.bucket.principal == "s3.amazonaws.com" &&
      aws_lambda_permission.bucket.source_arn == "arn:aws:s3:::smart-log-analyzer-logs-somebody" &&
      aws_lambda_permission.bucket.source_account == "123456789012" &&
      aws_lambda_permission.bucket.function_name == aws_lambda_function.log_processor.function_name
    )
    error_message = "Only this bucket of this account may call the function."
  }
}

run "what_it_may_do" {
  module {
    source = "./modules/function"
  }

  assert {
    condition = toset(flatten([for s in data.aws_iam_policy_document.function.statement : s.actions])) == toset([
      "s3:GetObject", "s3:ListBucket",
      "dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem",
      "logs:CreateLogStream", "logs:PutLogEvents",
      "sqs:SendMessage",
    ])
    error_message = "The function may do what it needs and nothing else."
  }

  assert {
    condition     = !anytrue([for r in flatten([for s in data.aws_iam_policy_document.function.statement : s.resources]) : r == "*"])
    error_message = "No statement may reach everything."
  }

  assert {
    condition = one([for s in data.aws_iam_policy_document.function.statement : toset(s.resources) if s.sid == "ReadFiles"]) == toset([
      "arn:aws:s3:::smart-log-analyzer-logs-somebody/lake/logs/*", "arn:aws:s3:::smart-log-analyzer-logs-somebody/lake/anomalies/*",
    ])
    error_message = "It reads exported files, nothing else in the bucket."
  }

  assert {
    condition = { for s in data.aws_iam_policy_document.function.statement : one(s.resources) => toset(s.actions) if startswith(s.sid, "Keep") } == {
      (var.summaries_table_arn)     = toset(["dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:PutItem"])
      (var.contributions_table_arn) = toset(["dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"])
    }
    error_message = "It reads and writes its two tables, each as it needs."
  }

  assert {
    condition     = one([for s in data.aws_iam_policy_document.function.statement : toset(s.resources) if s.sid == "WriteLogLines"]) == toset(["${aws_cloudwatch_log_group.function.arn}:*"])
    error_message = "It writes into its own log group."
  }
}

run "where_failures_go" {
  module {
    source = "./modules/function"
  }

  assert {
    condition = (
      one(one(aws_lambda_function_event_invoke_config.log_processor.destination_config).on_failure).destination == aws_sqs_queue.failures.arn &&
      aws_lambda_function_event_invoke_config.log_processor.maximum_retry_attempts == 2
    )
    error_message = "After two retries an event must go to the queue."
  }

  assert {
    condition = (
      one(aws_cloudwatch_metric_alarm.failures.alarm_actions) == aws_sns_topic.alerts.arn &&
      aws_cloudwatch_metric_alarm.failures.dimensions["QueueName"] == aws_sqs_queue.failures.name &&
      aws_cloudwatch_metric_alarm.errors.dimensions["FunctionName"] == "log-processor" &&
      one(aws_cloudwatch_metric_alarm.errors.alarm_actions) == aws_sns_topic.alerts.arn &&
      aws_sns_topic_subscription.alerts.endpoint == "somebody@example.com"
    )
    error_message = "Somebody must hear of errors and of waiting failures."
  }
}

run "more_memory_than_there_is" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    memory_mb = 64
  }

  expect_failures = [var.memory_mb]
}
