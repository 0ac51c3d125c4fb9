variable "summaries_name" {
  description = "The table of the daily numbers."
  type        = string
  default     = "daily_summaries"
}

variable "contributions_name" {
  description = "The table of what each file added."
  type        = string
  default     = "summary_contributions"
}

variable "billing_mode" {
  description = "PAY_PER_REQUEST or PROVISIONED."
  type        = string
  default     = "PAY_PER_REQUEST"
}

variable "read_capacity" {
  description = "Read units of each table, where PROVISIONED."
  type        = number
  default     = 5
}

variable "write_capacity" {
  description = "Write units of each table, where PROVISIONED."
  type        = number
  default     = 5
}

variable "point_in_time_recovery" {
  description = "Continuous backups."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Whether AWS refuses to delete the tables."
  type        = bool
  default     = true
}
