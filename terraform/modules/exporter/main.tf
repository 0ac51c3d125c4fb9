# What the exporter may do, as a policy for a role and, where asked for, a user.

data "aws_caller_identity" "current" {}

data "aws_iam_policy_document" "exporter" {
  statement {
    sid = "WriteFiles"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:PutObject",
    ]
    resources = [
      "${var.bucket_arn}/${var.prefix}logs/*",
      "${var.bucket_arn}/${var.prefix}anomalies/*",
    ]
  }

  statement {
    sid       = "ListFiles" # also what makes a missing file a 404; such a request names no prefix, hence IfExists
    actions   = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [var.bucket_arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["${var.prefix}logs/*", "${var.prefix}anomalies/*"]
    }
  }

  # What the function used, for the cost estimate.
  statement {
    sid       = "ReadUsage"
    actions   = ["dynamodb:Query"]
    resources = [var.contributions_table_arn]
  }

  # From here on for `smartlog doctor --aws`: it looks, and changes nothing.
  statement {
    sid       = "LookAtTheTables"
    actions   = ["dynamodb:DescribeTable"]
    resources = [var.summaries_table_arn, var.contributions_table_arn]
  }

  statement {
    sid       = "LookAtTheBucket"
    actions   = ["s3:GetBucketNotification"]
    resources = [var.bucket_arn]
  }

  statement {
    sid       = "LookAtTheFunction"
    actions   = ["lambda:GetFunctionConfiguration"]
    resources = [var.function_arn]
  }

  statement {
    sid       = "LookAtTheBudget"
    actions   = ["budgets:ViewBudget"]
    resources = ["arn:aws:budgets::${data.aws_caller_identity.current.account_id}:budget/*"]
  }
}

resource "aws_iam_policy" "exporter" {
  name        = var.name
  description = "Write exported files, read what became of them"
  policy      = data.aws_iam_policy_document.exporter.json
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = length(var.principals) > 0 ? var.principals : ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }
}

resource "aws_iam_role" "exporter" {
  name               = var.name
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy_attachment" "exporter" {
  role       = aws_iam_role.exporter.name
  policy_arn = aws_iam_policy.exporter.arn
}

resource "aws_iam_user" "exporter" {
  #checkov:skip=CKV_AWS_273:an exporter on a machine outside of AWS has no role to take; off unless asked for

  count = var.create_user ? 1 : 0

  name          = var.name
  force_destroy = true # its access keys are made by hand
}

resource "aws_iam_user_policy_attachment" "exporter" {
  #checkov:skip=CKV_AWS_40:a group of one user says nothing more

  count = var.create_user ? 1 : 0

  user       = aws_iam_user.exporter[0].name
  policy_arn = aws_iam_policy.exporter.arn
}
