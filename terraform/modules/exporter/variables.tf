variable "name" {
  description = "Name of policy, role and user."
  type        = string
  default     = "smartlog-exporter"
}

variable "bucket_arn" {
  description = "The bucket that it writes to."
  type        = string
}

variable "prefix" {
  description = "Put before every key; ends with '/' or is empty."
  type        = string
  default     = ""
}

variable "summaries_table_arn" {
  description = "The table of the daily numbers, to read."
  type        = string
}

variable "contributions_table_arn" {
  description = "The table of what each file added and what the function used, to read."
  type        = string
}

variable "function_arn" {
  description = "The function, to look at its configuration."
  type        = string
}

variable "create_user" {
  description = "Whether to make a user beside the role."
  type        = bool
  default     = false
}

variable "principals" {
  description = "ARNs that may take the role; empty: whoever this account's own policies allow to."
  type        = list(string)
  default     = []
}
