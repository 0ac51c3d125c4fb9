variable "name" {
  description = "The function's name."
  type        = string
  default     = "log-processor"
}

variable "zip" {
  description = "The package: a file `bootstrap` in a zip."
  type        = string
}

variable "memory_mb" {
  description = "Memory, and with it the share of a processor."
  type        = number
  default     = 256

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "memory_mb must lie within 128 and 10240."
  }
}

variable "timeout_s" {
  description = "How long one call may take."
  type        = number
  default     = 300

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 900
    error_message = "timeout_s must lie within 1 and 900."
  }
}

variable "reserved_concurrency" {
  description = "At most so many calls at once; -1: no limit of its own."
  type        = number
  default     = -1
}

variable "log_retention_days" {
  description = "How long log lines are kept."
  type        = number
  default     = 14
}

variable "bucket_name" {
  description = "The bucket that it reads and that may call it."
  type        = string
}

variable "prefix" {
  description = "Put before every key; ends with '/' or is empty."
  type        = string
  default     = ""
}

variable "summaries_table_name" {
  description = "The table of the daily numbers."
  type        = string
}

variable "summaries_table_arn" {
  description = "Its ARN."
  type        = string
}

variable "contributions_name" {
  description = "The table of what each file added."
  type        = string
}

variable "contributions_table_arn" {
  description = "Its ARN."
  type        = string
}

variable "alert_email" {
  description = "Who hears of failures."
  type        = string
}
