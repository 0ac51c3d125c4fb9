# Two tables: the daily numbers, and what each file added to them (by which a file is never counted twice).

locals {
  provisioned = var.billing_mode == "PROVISIONED"
}

resource "aws_dynamodb_table" "summaries" {
  #checkov:skip=CKV_AWS_119:a KMS key costs 1 USD a month, the whole budget; the tables are encrypted with DynamoDB's own keys
  #checkov:skip=CKV_AWS_28:a variable; the numbers can be made anew from the files
  #checkov:skip=CKV2_AWS_16:the free 25 units do not scale, and a burst is retried

  name                        = var.summaries_name
  billing_mode                = var.billing_mode
  read_capacity               = local.provisioned ? var.read_capacity : null
  write_capacity              = local.provisioned ? var.write_capacity : null
  hash_key                    = "date"
  range_key                   = "service"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "date"
    type = "S"
  }

  attribute {
    name = "service"
    type = "S"
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }

  server_side_encryption {
    enabled = false
  }
}

resource "aws_dynamodb_table" "contributions" {
  #checkov:skip=CKV_AWS_119:as above
  #checkov:skip=CKV_AWS_28:as above
  #checkov:skip=CKV2_AWS_16:as above

  name                        = var.contributions_name
  billing_mode                = var.billing_mode
  read_capacity               = local.provisioned ? var.read_capacity : null
  write_capacity              = local.provisioned ? var.write_capacity : null
  hash_key                    = "object"
  range_key                   = "part"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "object"
    type = "S"
  }

  attribute {
    name = "part"
    type = "S"
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }

  server_side_encryption {
    enabled = false
  }
}
