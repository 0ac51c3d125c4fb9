output "summaries_name" {
  description = "The table of the daily numbers."
  value       = aws_dynamodb_table.summaries.name
}

output "summaries_arn" {
  description = "Its ARN."
  value       = aws_dynamodb_table.summaries.arn
}

output "contributions_name" {
  description = "The table of what each file added."
  value       = aws_dynamodb_table.contributions.name
}

output "contributions_arn" {
  description = "Its ARN."
  value       = aws_dynamodb_table.contributions.arn
}
