output "policy_arn" {
  description = "What the exporter may do."
  value       = aws_iam_policy.exporter.arn
}

output "role_arn" {
  description = "The role that an exporter within AWS takes."
  value       = aws_iam_role.exporter.arn
}

output "user_name" {
  description = "The user, null where none was asked for."
  value       = one(aws_iam_user.exporter[*].name)
}
