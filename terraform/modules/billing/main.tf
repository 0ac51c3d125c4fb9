# Tells before money is spent. A budget sees charges some hours late and stops nothing.

resource "aws_budgets_budget" "monthly" {
  name         = var.name
  budget_type  = "COST"
  limit_amount = tostring(var.limit_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  dynamic "notification" {
    for_each = [
      { type = "ACTUAL", percent = 50 },
      { type = "ACTUAL", percent = 80 },
      { type = "ACTUAL", percent = 100 },
      { type = "FORECASTED", percent = 100 },
    ]

    content {
      notification_type          = notification.value.type
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value.percent
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = [var.email]
    }
  }
}

resource "aws_sns_topic" "billing" {
  #checkov:skip=CKV_AWS_26:an alarm cannot publish to a topic encrypted by AWS's own key, and a key of ours costs 1 USD a month

  provider = aws.us_east_1

  name = "${var.name}-billing"
}

resource "aws_sns_topic_subscription" "billing" {
  provider = aws.us_east_1

  topic_arn = aws_sns_topic.billing.arn
  protocol  = "email"
  endpoint  = var.email
}

# A second pair of eyes beside the budget: what the account is charged so far this month.
resource "aws_cloudwatch_metric_alarm" "charges" {
  provider = aws.us_east_1

  alarm_name          = "${var.name}-charges"
  alarm_description   = "This month's charges passed the budget"
  namespace           = "AWS/Billing"
  metric_name         = "EstimatedCharges"
  dimensions          = { Currency = "USD" }
  statistic           = "Maximum"
  period              = 21600
  evaluation_periods  = 1
  threshold           = var.limit_usd
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.billing.arn]
}
