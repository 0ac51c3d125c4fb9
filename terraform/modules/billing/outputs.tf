output "budget_name" {
  description = "The budget's name."
  value       = aws_budgets_budget.monthly.name
}

output "topic_arn" {
  description = "The topic of the billing alarm, in us-east-1."
  value       = aws_sns_topic.billing.arn
}

output "alerts" {
  description = "What is watched and who hears of it, as it was set."
  value = {
    budget = "${aws_budgets_budget.monthly.limit_amount} ${aws_budgets_budget.monthly.limit_unit} ${aws_budgets_budget.monthly.time_unit}"
    notices = [for n in aws_budgets_budget.monthly.notification :
      "${n.notification_type} above ${n.threshold} ${n.threshold_type} to ${join(", ", n.subscriber_email_addresses)}"
    ]
    charges_alarm  = "${aws_cloudwatch_metric_alarm.charges.metric_name} above ${aws_cloudwatch_metric_alarm.charges.threshold}"
    charges_topics = aws_cloudwatch_metric_alarm.charges.alarm_actions
  }
}
