# The bucket of the exported files: private, encrypted, TLS only, with the life of a file in its rules.

resource "aws_s3_bucket" "logs" {
  #checkov:skip=CKV_AWS_144:a copy in another region doubles the price, and the files can be written anew from the store
  #checkov:skip=CKV_AWS_145:a KMS key costs 1 USD a month, the whole budget; files are encrypted with S3's own keys
  #checkov:skip=CKV_AWS_18:a log of every access needs a second bucket and is paid for; CloudTrail's management events are free
  #checkov:skip=CKV2_AWS_62:notifications are set when a function is given

  bucket        = var.name
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "logs" {
  bucket = aws_s3_bucket.logs.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

# Replaced episodes and voided files can be brought back for a few days.
resource "aws_s3_bucket_versioning" "logs" {
  bucket = aws_s3_bucket.logs.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "logs" {
  #checkov:skip=CKV_AWS_300:the rule unfinished-uploads does it; Checkov does not see a rule beside a dynamic one

  # A rule about old versions needs versions.
  depends_on = [aws_s3_bucket_versioning.logs]

  bucket = aws_s3_bucket.logs.id

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = var.abort_multipart_days
    }
  }

  rule {
    id     = "replaced-or-deleted"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_expire_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  dynamic "rule" {
    for_each = var.transition_days == null && var.expire_days == null ? [] : ["logs"]

    content {
      id     = "age-of-logs"
      status = "Enabled"

      filter {
        prefix = "${var.prefix}logs/"
      }

      dynamic "transition" {
        for_each = var.transition_days == null ? [] : [var.transition_days]

        content {
          days          = transition.value
          storage_class = "STANDARD_IA"
        }
      }

      dynamic "expiration" {
        for_each = var.expire_days == null ? [] : [var.expire_days]

        content {
          days = expiration.value
        }
      }
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    sid       = "RefuseWithoutTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.logs.arn, "${aws_s3_bucket.logs.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "tls_only" {
  # Two changes of a bucket's access at once are refused by S3.
  depends_on = [aws_s3_bucket_public_access_block.logs]

  bucket = aws_s3_bucket.logs.id
  policy = data.aws_iam_policy_document.tls_only.json
}

# S3 tries the call while this is set, so the permission must be there.
resource "terraform_data" "allowed" {
  count = var.notification == null ? 0 : 1

  input = var.notification.permission_id
}

resource "aws_s3_bucket_notification" "function" {
  count = var.notification == null ? 0 : 1

  depends_on = [terraform_data.allowed]

  bucket = aws_s3_bucket.logs.id

  dynamic "lambda_function" {
    for_each = {
      log-files = { prefix = "logs/", suffix = ".parquet" }
      manifests = { prefix = "logs/", suffix = ".json" }
      episodes  = { prefix = "anomalies/", suffix = ".parquet" }
    }

    content {
      id                  = lambda_function.key
      lambda_function_arn = var.notification.function_arn
      events              = ["s3:ObjectCreated:*"]
      filter_prefix       = "${var.prefix}${lambda_function.value.prefix}"
      filter_suffix       = lambda_function.value.suffix
    }
  }
}

