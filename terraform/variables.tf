variable "region" {
  description = "Where bucket, tables and function are."
  type        = string
  default     = "eu-west-1"
}

variable "owner" {
  description = "Ends the bucket's name, smart-log-analyzer-logs-OWNER, which must be free in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,36}[a-z0-9])?$", var.owner))
    error_message = "owner becomes part of a bucket's name: 1 to 38 of a-z, 0-9 and '-', not beginning or ending with '-'."
  }
}

variable "bucket_name" {
  description = "The bucket's whole name, where smart-log-analyzer-logs-OWNER will not do."
  type        = string
  default     = null
}

variable "prefix" {
  description = "Put before every key, as in the exporter's target s3://BUCKET/PREFIX; ends with '/' or is empty."
  type        = string
  default     = ""

  validation {
    condition     = var.prefix == "" || can(regex("^[^/].*/$", var.prefix))
    error_message = "prefix must be empty, or end with '/' and not begin with one: for s3://BUCKET/lake write \"lake/\"."
  }
}

variable "alert_email" {
  description = "Gets the notices of budget, billing alarm and function. AWS asks this address to confirm three subscriptions."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alert_email))
    error_message = "alert_email must be an address such as you@example.com: nobody would read the billing alert otherwise."
  }
}

variable "budget_limit_usd" {
  description = "The monthly budget. Notices go out at 50, 80 and 100 % of it, and when a month is forecast to exceed it."
  type        = number
  default     = 1

  validation {
    condition     = var.budget_limit_usd > 0
    error_message = "budget_limit_usd must be above 0."
  }
}

variable "function_zip" {
  description = "The packaged function: `scripts/lambda package` writes it."
  type        = string
  default     = "../target/lambda/log-processor.zip"

  validation {
    condition     = fileexists(var.function_zip)
    error_message = "There is no file at function_zip. Build it by `scripts/lambda package`, or name the one you have."
  }
}

variable "function_memory_mb" {
  description = "A file of 1 GB needs less than 256 MB, whatever its size; more memory brings more processor."
  type        = number
  default     = 256
}

variable "function_timeout_s" {
  description = "How long one call may take."
  type        = number
  default     = 300
}

variable "function_reserved_concurrency" {
  description = "At most so many calls at once; -1: no limit of its own. A new account has 10 in all and refuses to reserve any."
  type        = number
  default     = -1
}

variable "log_retention_days" {
  description = "How long the function's log lines are kept."
  type        = number
  default     = 14
}

variable "table_billing_mode" {
  description = "PAY_PER_REQUEST, or PROVISIONED: 25 units each of reading and writing are free for ever, on-demand requests are not. The estimate of costs asks which: output table_billing."
  type        = string
  default     = "PAY_PER_REQUEST"

  validation {
    condition     = contains(["PAY_PER_REQUEST", "PROVISIONED"], var.table_billing_mode)
    error_message = "table_billing_mode must be PAY_PER_REQUEST or PROVISIONED."
  }
}

variable "table_read_capacity" {
  description = "Read units per table, where PROVISIONED. Two tables: 12 each stay within the free 25."
  type        = number
  default     = 5
}

variable "table_write_capacity" {
  description = "Write units per table, where PROVISIONED. Two tables: 12 each stay within the free 25."
  type        = number
  default     = 5
}

variable "point_in_time_recovery" {
  description = "Continuous backups of both tables (0.22 USD per GB and month). Without them the tables can be made anew from the files."
  type        = bool
  default     = false
}

variable "abort_multipart_days" {
  description = "An upload that nobody finished is dropped after so many days; until then it is paid for and cannot be seen."
  type        = number
  default     = 1
}

variable "transition_days" {
  description = "Files move to the cheaper class STANDARD_IA after so many days, at least 30; null: never."
  type        = number
  default     = 90
  nullable    = true

  validation {
    condition     = var.transition_days == null ? true : var.transition_days >= 30
    error_message = "transition_days must be at least 30: S3 refuses an earlier move to STANDARD_IA."
  }
}

variable "expire_days" {
  description = "Files are deleted after so many days; null: never. Daily summaries stay."
  type        = number
  default     = 365
  nullable    = true
}

variable "noncurrent_expire_days" {
  description = "What was replaced or deleted can be brought back for so many days, and is paid for as long."
  type        = number
  default     = 7
}

variable "create_exporter_user" {
  description = "Whether to make an IAM user for an exporter that runs outside of AWS. Its access key is made by hand, so that it never lies in a state file."
  type        = bool
  default     = false
}

variable "exporter_principals" {
  description = "ARNs that may take the exporter's role; empty: whoever this account's own policies allow to."
  type        = list(string)
  default     = []
}

variable "destroy_data" {
  description = "Lets `terraform destroy` delete a bucket with files and tables with items. Apply it first, then destroy."
  type        = bool
  default     = false
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
}
