# What reaches whom: run by `terraform test`, without an account.

mock_provider "aws" {
  override_data {
    target = data.aws_iam_policy_document.tls_only
    values = { json = "{}" }
  }
}

variables {
  name   = "smart-log-analyzer-logs-somebody"
  prefix = "lake/"

  notification = {
    function_arn  = "arn:aws:lambda:eu-west-1:123456789012:function:log-processor"
    permission_id = "AllowBucket"
  }
}

run "private_encrypted_and_tls_only" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.logs.block_public_acls,
      aws_s3_bucket_public_access_block.logs.block_public_policy,
      aws_s3_bucket_public_access_block.logs.ignore_public_acls,
      aws_s3_bucket_public_access_block.logs.restrict_public_buckets,
    ])
    error_message = "All four kinds of public access must be blocked."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.logs.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "Files must be encrypted."
  }

  assert {
    condition = (
      data.aws_iam_policy_document.tls_only.statement[0].effect == "Deny" &&
      one(data.aws_iam_policy_document.tls_only.statement[0].condition).variable == "aws:SecureTransport" &&
      one(data.aws_iam_policy_document.tls_only.statement[0].condition).values[0] == "false"
    )
    error_message = "Requests without TLS must be denied."
  }

  assert {
    condition     = aws_s3_bucket.logs.force_destroy == false
    error_message = "A bucket with files must not be destroyed unless asked for."
  }
}

run "lifecycle" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  assert {
    condition     = one([for r in aws_s3_bucket_lifecycle_configuration.logs.rule : one(r.abort_incomplete_multipart_upload).days_after_initiation if r.id == "unfinished-uploads"]) == 1
    error_message = "Uploads that nobody finished must go after a day."
  }

  assert {
    condition = alltrue([for r in aws_s3_bucket_lifecycle_configuration.logs.rule : (
      one(r.filter).prefix == "lake/logs/" &&
      one(r.transition).days == 90 && one(r.transition).storage_class == "STANDARD_IA" &&
      one(r.expiration).days == 365
    ) if r.id == "age-of-logs"])
    error_message = "Log files must move after 90 days and go after 365."
  }

  assert {
    condition     = one([for r in aws_s3_bucket_lifecycle_configuration.logs.rule : one(r.noncurrent_version_expiration).noncurrent_days if r.id == "replaced-or-deleted"]) == 7
    error_message = "Old versions must go after a week."
  }
}

run "logs_that_stay_for_ever" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    transition_days = null
    expire_days     = null
  }

  assert {
    condition     = length([for r in aws_s3_bucket_lifecycle_configuration.logs.rule : r if r.id == "age-of-logs"]) == 0
    error_message = "Without days there must be no rule about age."
  }
}

run "the_function_is_called_for_files_manifests_and_episodes_alone" {
  module {
    source = "./modules/bucket"
  }

  assert {
    condition = toset([for f in aws_s3_bucket_notification.function[0].lambda_function : "${f.filter_prefix}*${f.filter_suffix}"]) == toset([
      "lake/logs/*.parquet", "lake/logs/*.json", "lake/anomalies/*.parquet",
    ])
    error_message = "The notification must name the three kinds of objects, below the prefix."
  }

  assert {
    condition = alltrue([for f in aws_s3_bucket_notification.function[0].lambda_function :
      f.lambda_function_arn == var.notification.function_arn && tolist(f.events) == tolist(["s3:ObjectCreated:*"])
    ])
    error_message = "Each must call the function when an object was created."
  }

  assert {
    condition     = aws_s3_bucket_notification.function[0].bucket == aws_s3_bucket.logs.id
    error_message = "The notification must be the bucket's."
  }
}

run "no_function_no_notification" {
  command = plan

  module {
    source = "./modules/bucket"
  }

  variables {
    notification = null
  }

  assert {
    condition     = length(aws_s3_bucket_notification.function) == 0
    error_message = "Without a function there must be no notification."
  }
}
