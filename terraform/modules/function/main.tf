# The function log-processor: started by each new object, right whatever is repeated, reordered or lost on the way.

data "aws_caller_identity" "current" {}

locals {
  bucket_arn = "arn:aws:s3:::${var.bucket_name}"
}

resource "aws_cloudwatch_log_group" "function" {
  #checkov:skip=CKV_AWS_158:a KMS key costs 1 USD a month, the whole budget; log lines hold names of files and counts
  #checkov:skip=CKV_AWS_338:two weeks of log lines are enough to see why a file failed, and a year of them is paid for

  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

# What failed after all retries, with the event and the error.
resource "aws_sqs_queue" "failures" {
  name                      = "${var.name}-failures"
  message_retention_seconds = 1209600 # 14 days, the longest that there is
  sqs_managed_sse_enabled   = true
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "function" {
  statement {
    sid     = "ReadFiles"
    actions = ["s3:GetObject"]
    resources = [
      "${local.bucket_arn}/${var.prefix}logs/*",
      "${local.bucket_arn}/${var.prefix}anomalies/*",
    ]
  }

  # Without it S3 answers 403 for a file that is not there any more, not 404. A request for a file names no prefix: hence IfExists.
  statement {
    sid       = "TellMissingFiles"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["${var.prefix}logs/*", "${var.prefix}anomalies/*"]
    }
  }

  statement {
    sid = "KeepSummaries"
    actions = [
      "dynamodb:BatchGetItem",
      "dynamodb:DeleteItem",
      "dynamodb:PutItem",
    ]
    resources = [var.summaries_table_arn]
  }

  statement {
    sid = "KeepContributions"
    actions = [
      "dynamodb:DeleteItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:UpdateItem",
    ]
    resources = [var.contributions_table_arn]
  }

  statement {
    sid       = "WriteLogLines"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function.arn}:*"]
  }

  statement {
    sid       = "HandOverFailures"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failures.arn]
  }
}

resource "aws_iam_role" "function" {
  name               = var.name
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "function" {
  name   = "least"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.function.json
}

resource "aws_lambda_function" "log_processor" {
  #checkov:skip=CKV_AWS_50:traces show nothing that the function's own metrics do not
  #checkov:skip=CKV_AWS_115:a new account has 10 calls at once in all and refuses to reserve any; a variable
  #checkov:skip=CKV_AWS_116:what failed goes to the queue by the function's on-failure destination, which also tells the error
  #checkov:skip=CKV_AWS_117:it talks to S3 and DynamoDB alone; within a VPC it would need endpoints, which are paid for
  #checkov:skip=CKV_AWS_173:the variables are names of tables
  #checkov:skip=CKV_AWS_272:signing needs a profile of its own; the package's hash is in the state

  depends_on = [aws_cloudwatch_log_group.function, aws_iam_role_policy.function]

  function_name                  = var.name
  description                    = "Daily summaries of the exported log files"
  role                           = aws_iam_role.function.arn
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = ["arm64"]
  filename                       = var.zip
  source_code_hash               = filebase64sha256(var.zip)
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_s
  reserved_concurrent_executions = var.reserved_concurrency

  environment {
    variables = {
      SMARTLOG_SUMMARIES_TABLE     = var.summaries_table_name
      SMARTLOG_CONTRIBUTIONS_TABLE = var.contributions_name
      SMARTLOG_EXPORT_PREFIX       = var.prefix
    }
  }
}

# S3 calls it asynchronously: AWS retries twice, then the event goes to the queue.
resource "aws_lambda_function_event_invoke_config" "log_processor" {
  function_name                = aws_lambda_function.log_processor.function_name
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failures.arn
    }
  }
}

# Only this bucket, and only while it belongs to this account: bucket names can be taken over by others.
resource "aws_lambda_permission" "bucket" {
  statement_id   = "AllowBucket"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.log_processor.function_name
  principal      = "s3.amazonaws.com"
  source_arn     = local.bucket_arn
  source_account = data.aws_caller_identity.current.account_id
}

resource "aws_sns_topic" "alerts" {
  #checkov:skip=CKV_AWS_26:an alarm cannot publish to a topic encrypted by AWS's own key, and a key of ours costs 1 USD a month

  name = "${var.name}-alerts"
}

resource "aws_sns_topic_subscription" "alerts" {
  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = var.alert_email
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.name}-errors"
  alarm_description   = "The function failed: its log group says why"
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.log_processor.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

resource "aws_cloudwatch_metric_alarm" "failures" {
  alarm_name          = "${var.name}-failures"
  alarm_description   = "Events wait in the queue of failures: the daily summaries lack their files"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.failures.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
}
